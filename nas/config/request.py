"""One run of a search as it was asked for: the options given, and what a study that is there says."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nas.config.readers import folder_path
from nas.config.resuming import check_still_there, resumed
from nas.config.settings import Settings
from nas.config.shared_weights import asked_of_supernet
from nas.errors import UsageError
from nas.evaluation.comparison import RANDOMS, SEEDS
from nas.options import options_of
from nas.study.study import open_study
from nas.study.study_folder import has_study
from nas.training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One run of a search as it was asked for.

    Attributes:
        folder: The study's folder.
        settings: What the study is, and how it is run this time.
        warm_start: Folder of a study to learn from first; None is none, or that this is done.
        download: Whether a data set by name may be downloaded.
        as_json: Whether the result is printed as JSON, and the progress on standard error.
    """

    folder: Path
    settings: Settings
    warm_start: str | None = None
    download: bool = False
    as_json: bool = False

    @property
    def stored_settings(self) -> Settings:
        """What the study stores: shared weights of its own are in its folder, wherever that is."""
        return replace(self.settings, supernet=None) if self.settings.has_policy else self.settings

    @property
    def randoms(self) -> int:
        """Random candidates in the final comparison."""
        return RANDOMS if self.settings.compare_random is None else self.settings.compare_random

    @property
    def seeds(self) -> int:
        """Trainings of each network there; 0 leaves it out, as a search in a supernet does."""
        if self.settings.supernet is not None:
            return 0
        return SEEDS if self.settings.compare_seeds is None else self.settings.compare_seeds


def request_of(arguments: Namespace) -> Request:
    """What the options mean; a study that is there gives what was not said.

    Raises:
        NasError: Something is missing, or contradicts the study.
    """
    folder = folder_path(arguments.out)
    given = given_options(arguments)
    warm_start = given.get("warm_start")
    if has_study(folder):
        study = open_study(folder)
        stored = Settings.from_dict(study.settings, folder)
        recipe = recipe_of(arguments, Recipe.from_json(stored.recipe)).to_json()
        settings = resumed(stored, {**given, "recipe": recipe}, folder)
        check_still_there(settings, stored, folder)
        if not study.trials:
            warm_start = settings.warm_start
    else:
        settings = new_settings(arguments)
    return Request(
        folder=folder,
        settings=settings,
        warm_start=warm_start,
        download=arguments.download,
        as_json=arguments.json,
    )


def given_options(arguments: Namespace, kind: type = Settings) -> dict[str, Any]:
    """What was given on the command line of the options that a class declares, by the fields' names."""
    values = {name: vars(arguments).get(name) for name in options_of(kind)}
    return {
        name: tuple(value) if isinstance(value, list) else value  # argparse collects repeated options
        for name, value in values.items()
        if value not in (None, [])
    }


def new_settings(arguments: Namespace) -> Settings:
    """The settings of a new search or check, which must say what to search on what.

    Raises:
        UsageError: It does not.
        SupernetError: The supernet that is named cannot be read.
        RecipeError: A value of the recipe is out of range.
    """
    given = given_options(arguments)
    if given.get("supernet") is not None:
        if given.get("has_policy"):
            raise UsageError(
                f"--weight-sharing trains shared weights of its own, but --supernet is {given['supernet']}: "
                "leave one of them out",
                field="supernet",
            )
        given = {**asked_of_supernet(given["supernet"]), **given}
    missing = [f"--{name}" for name in ("data", "space") if name not in given]
    if missing:
        raise UsageError(
            f"{arguments.out} holds no study yet, and a new one needs {' and '.join(missing)}: "
            "for instance --data photos/ --space mnasnet",
            field=missing[0].removeprefix("--"),
        )
    return Settings(**given, recipe=recipe_of(arguments).to_json())


def recipe_of(arguments: Namespace, base: Recipe | None = None) -> Recipe:
    """The recipe with what was given changed.

    A warm-up that was not given is shortened with the epochs, so that `--epochs 1` needs no second option.

    Raises:
        RecipeError: A value is out of range.
    """
    given, changed = vars(arguments), given_options(arguments, Recipe)
    if given.get("rungs") and given.get("fidelity") in (None, "epochs"):
        changed.setdefault("epochs", given["rungs"][-1])
    recipe = base or Recipe()
    if "epochs" in changed and "warmup_epochs" not in changed:
        share = recipe.warmup_epochs / recipe.epochs
        changed["warmup_epochs"] = min(recipe.warmup_epochs, share * changed["epochs"])
    return replace(recipe, **changed)
