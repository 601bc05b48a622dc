"""`nas quickstart`: a whole search on real images in a few minutes; asked again, it continues or prints."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

from nas.cli.search import run_request
from nas.config.quickstart import (
    CIFAR,
    DIGITS,
    FASHION,
    RANDOMS,
    Images,
    choose_images,
    own_images,
    quickstart_settings,
)
from nas.config.readers import folder_path
from nas.config.request import Request, given_options
from nas.config.resuming import resumed
from nas.config.settings import Settings
from nas.execution.executors import EXECUTORS
from nas.report.printing import make_console
from nas.study.study import open_study
from nas.study.study_folder import has_study

NEXT = """\
Next, on your own images:
  nas search --data photos/ --space mnasnet --target-macs 30M --out runs/mine
  nas show {folder}"""


def run(arguments: Namespace) -> int:
    """Searches, or continues, or prints what is finished."""
    folder = folder_path(arguments.out)
    console = make_console(to_stderr=arguments.json)
    given = given_options(arguments)
    if "executor" in given and not EXECUTORS[arguments.executor].is_parallel:
        given.setdefault("workers", 1)
    if has_study(folder):
        stored = Settings.from_dict(open_study(folder).settings, folder)
        settings = resumed(_with_comparison(stored), given, folder)
        console.print(f"Quickstart: continues the study in {folder}", soft_wrap=True)
    else:
        images = choose_images() if arguments.data is None else own_images(arguments.data)
        settings = replace(quickstart_settings(images), **{**given, "data": images.data})
        console.print(f"Quickstart on {_words(images)}", soft_wrap=True)
    code = run_request(Request(folder=folder, settings=settings, as_json=arguments.json))
    if code == 0:
        console.print()
        console.print(NEXT.format(folder=folder), soft_wrap=True)
    return code


def _with_comparison(settings: Settings) -> Settings:
    """The settings with their comparison, which an earlier version did not store."""
    if settings.compare_seeds is not None:
        return settings
    seeds = next((one.seeds for one in (FASHION, CIFAR) if one.data == settings.data), DIGITS.seeds)
    return replace(settings, compare_random=RANDOMS, compare_seeds=seeds)


def _words(images: Images) -> str:
    return f"{images.data} ({images.why})"
