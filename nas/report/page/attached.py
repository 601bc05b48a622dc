"""Finds out what stands in folders beside a study: trainings, scores, scaling, latencies, class maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image, UnidentifiedImageError

from nas.errors import NasError, UsageError
from nas.folders import RUN, holds_supernet
from nas.latency.measurement import FORMAT as MEASUREMENTS
from nas.latency.measurement import LatencyMeasurement, read_measurements
from nas.latency.table.table import FORMAT as TABLE
from nas.latency.table.table import LatencyTable
from nas.reading import parse_json, read_bytes, read_json
from nas.report.class_maps_picture import WORDS
from nas.report.page.parts import Block, Picture
from nas.report.page.training_files import (
    RESULT,
    TrainingRecord,
    Values,
    damaged,
    read_object,
    read_training,
)
from nas.study.study_folder import FILE_NAME

_File = TypeVar("_File", "Scores", "Scaling")

ACCEPTED = (
    "a study's folder, a folder of nas train or nas scale, a file that nas evaluate --json, nas scale "
    "--json, nas latency-table or nas measure wrote, a picture (.png) of nas cam, or a folder with some"
)

SCALING_LOG, LAW, CURVES, TRAINED = "trainings.jsonl", "law.png", "curves.png", "trained"
"""Names in the folder of `nas scale`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """Something that was found.

    Attributes:
        path: Where.
        kind: What it is, in a word or two.
    """

    path: Path
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What `nas evaluate --json` wrote.

    Attributes:
        path: The file.
        values: Its values.
    """

    path: Path
    values: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """What `nas scale` found, or trained.

    Attributes:
        path: The file that it wrote, or its folder where there is none.
        values: What it says with `--json`; empty where that was not kept.
        network: Digest of the network that was scaled; empty where it is not known.
        pictures: What the command drew.
        study: Name of the study that it comes from, beside others; empty where it is not known.
    """

    path: Path
    values: Values
    network: str = ""
    pictures: tuple[Path, ...] = ()
    study: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapPicture:
    """A picture of class maps.

    Attributes:
        path: The file.
        words: What it shows.
    """

    path: Path
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """What stands beside a study.

    Attributes:
        trainings: Full trainings.
        scores: Evaluations.
        scalings: Scaled families, and searches for their direction.
        tables: Latency tables, with their files.
        measurements: Latency measurements, with their files.
        maps: Class maps.
        recognised: What was found where.
    """

    trainings: tuple[TrainingRecord, ...] = ()
    scores: tuple[Scores, ...] = ()
    scalings: tuple[Scaling, ...] = ()
    tables: tuple[tuple[Path, LatencyTable], ...] = ()
    measurements: tuple[tuple[Path, tuple[LatencyMeasurement, ...]], ...] = ()
    maps: tuple[MapPicture, ...] = ()
    recognised: tuple[Recognised, ...] = ()

    def and_also(self, other: Attached) -> Attached:
        """Both together; what both have is there once."""
        joined = {
            name: tuple({_place(one): one for one in (*getattr(self, name), *getattr(other, name))}.values())
            for name in self.__dataclass_fields__
        }
        return Attached(**joined)


def blocks_of(
    files: Sequence[_File], make: Callable[[_File, int], Iterable[Block]], what: str
) -> list[Block]:
    """What a section shows of each file, given the file and its place.

    Raises:
        UsageError: A file is not what its name says, which is `what`.
    """
    blocks: list[Block] = []
    for place, one in enumerate(files):
        try:
            blocks += make(one, place)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise damaged(one.path, what, error) from error
    return blocks


def picture_of(path: Path, *, title: str, alt: str) -> Picture:
    """A picture in a file as a part of the page.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        return Picture(title=title, content=read_bytes(path), kind="png", alt=alt)
    except OSError as error:
        raise damaged(path, "a picture", error) from error


def _place(one: Any) -> Path:
    path: Path = one[0] if isinstance(one, tuple) else getattr(one, "path", None) or one.folder
    return path.resolve()


def recognise(path: Path) -> Attached:
    """What one folder or file holds; nothing where nothing is known.

    Raises:
        UsageError: It is not there, or a file cannot be read.
        NasError: A file of latencies is damaged.
    """
    if path.is_dir():
        return _in_folder(path)
    if path.is_file():
        return _in_file(path, is_given=True)
    raise UsageError(f"{path} does not exist: give {ACCEPTED}", field="folders")


def _in_folder(folder: Path) -> Attached:
    if holds_supernet(folder):
        return Attached(recognised=(_named(folder, "supernet, not one network"),))
    found = Attached()
    for one in _trainings(folder):
        kind = "training" if one.result else "training, not finished or not tested"
        found = found.and_also(Attached(trainings=(one,), recognised=(_named(one.folder, kind),)))
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in (".json", ".png") and path.is_file():
            found = found.and_also(_in_file(path, is_given=False))
    return _with_network(_inside(folder).and_also(found), folder)


def _inside(folder: Path) -> Attached:
    """What stands in the folders of trainings in a folder that is itself no study, such as `runs`."""
    found = Attached()
    if not (folder / FILE_NAME).is_file():
        for place in sorted(path.parent for path in folder.glob(f"*/{RUN}")):
            found = found.and_also(_in_folder(place))
    return found


def _named(path: Path, kind: str) -> Recognised:
    return Recognised(path=path, kind=kind)


def _trainings(folder: Path) -> Iterator[TrainingRecord]:
    """The training of a folder, or those in its folders; of several of one study the tested one first."""
    if (folder / FILE_NAME).is_file():
        return
    if (folder / RUN).is_file():
        yield read_training(folder)
        return
    places = sorted(path.parent for path in (*folder.glob(f"*/{RUN}"), *folder.glob(f"{TRAINED}/*/{RUN}")))
    records = [read_training(place) for place in places if not holds_supernet(place)]
    ranked = read_object(folder / RESULT) if (folder / RESULT).is_file() else {}
    chosen = str(_get(ranked, "fitted", "folder") or "")
    for one in records:
        is_chosen = bool(chosen) and Path(chosen).name == one.folder.name
        yield replace(one, result=ranked) if is_chosen and not one.result else one


def _get(values: Any, *names: str) -> Any:
    for name in names:
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _with_network(found: Attached, folder: Path) -> Attached:
    """The scalings of a folder with the network that they are of; its pictures where no file says more."""
    network = _scaled_network(folder / SCALING_LOG)
    if network is None:
        return found
    scalings = tuple(replace(one, network=network) for one in found.scalings)
    if any("lattice" in one.values for one in scalings):
        return replace(found, scalings=scalings)
    pictures = tuple(path for path in (folder / LAW, folder / CURVES) if path.is_file())
    drawn = Scaling(path=folder, values={}, network=network, pictures=pictures)
    named = (*found.recognised, _named(folder, "scaling"))
    return replace(found, scalings=(drawn, *scalings), recognised=named)


def _scaled_network(log: Path) -> str | None:
    """The network whose scaling a log of trainings is of; None where it is another command's."""
    if not log.is_file():
        return None
    try:
        with log.open(encoding="utf-8") as file:
            settings = parse_json(file.readline())["settings"]
        return str(settings["network"]) if "network" in settings else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _in_file(path: Path, *, is_given: bool) -> Attached:
    if path.suffix.lower() == ".png":
        return _picture(path, is_given=is_given)
    if path.suffix.lower() != ".json":
        return Attached()
    try:
        values = read_json(path)
    except (OSError, ValueError) as error:
        if is_given:
            raise damaged(path, "JSON", error) from error
        return Attached(recognised=(_named(path, f"not read, as it is no JSON: {error}"),))
    return _by_content(path, values) if isinstance(values, dict) else Attached()


def _by_content(path: Path, values: Values) -> Attached:
    if values.get("format") == TABLE:
        table = LatencyTable.load(path)
        return Attached(tables=((path, table),), recognised=(_named(path, "latency table"),))
    if values.get("format") == MEASUREMENTS:
        found = read_measurements(path)
        return Attached(measurements=((path, found),), recognised=(_named(path, "latency measurements"),))
    if {"bundle", "task", "split", "images"} <= values.keys():
        return Attached(scores=(Scores(path=path, values=values),), recognised=(_named(path, "evaluation"),))
    if isinstance(values.get("lattice"), dict) or isinstance(values.get("trained"), list):
        return Attached(scalings=(Scaling(path=path, values=values),), recognised=(_named(path, "scaling"),))
    return Attached()


def _picture(path: Path, *, is_given: bool) -> Attached:
    """A picture of class maps, which says that it is one."""
    try:
        with Image.open(path) as image:
            said = str(image.info.get("Description", ""))
    except (OSError, UnidentifiedImageError, NasError, ValueError) as error:
        if is_given:
            raise damaged(path, "a picture", error) from error
        return Attached()
    if said.startswith(WORDS):
        return Attached(maps=(MapPicture(path=path, words=said),), recognised=(_named(path, "class maps"),))
    if is_given:
        raise UsageError(
            f"{path} does not say that nas cam drew it: draw it with this version, or give {ACCEPTED}",
            field="folders",
        )
    return Attached()


def shared_among(found: Attached, digests: Mapping[str, frozenset[str]]) -> Attached:
    """The same, with trainings and scalings of a network of a study called its own.

    Args:
        found: What was found.
        digests: Networks of the trials of each study, by the study's name.
    """

    def study_of(digest: str) -> str:
        return ", ".join(name for name, networks in digests.items() if digest in networks)

    return replace(
        found,
        trainings=tuple(replace(one, study=study_of(one.digest)) for one in found.trainings),
        scalings=tuple(replace(one, study=study_of(one.network)) for one in found.scalings),
    )
