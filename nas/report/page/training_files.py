"""Reads what a full training left in its folder: how it was asked for, its curves, what it reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from nas.errors import UsageError
from nas.export.opened import RUN_BUNDLE
from nas.folders import RUN
from nas.metrics import metric_info
from nas.reading import parse_json, read_json, read_text

RESULT, CHECKPOINT = "result.json", "checkpoint.safetensors"

COST = "| training_cost | "
"""How the card of a bundle says what the training cost, and on what."""

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """A full training as its folder shows it.

    Attributes:
        folder: The folder.
        name: What the trained network is called.
        digest: Identity of the network.
        metric: What the best weights are chosen by.
        seed: Its seed.
        recipe: The recipe by field.
        data: The images, in words.
        images: Fingerprint of the images; empty where it is not known.
        split: Which of them are trained on: equal for trainings that can be compared.
        rows: Its evaluations: epoch, loss, learning rate, and the metric by name.
        best: The weights that were kept: epoch, kind, value on the search split; empty before the first.
        seconds: Wall time so far.
        notes: What happened, and what to look at before trusting it.
        result: What `result.json` says; empty where the training is not finished, or was not tested.
        cost: What the training cost and on what, as the bundle's card says; empty where there is none.
        study: Name of the study that it comes from, beside others; empty where it is not known.
    """

    folder: Path
    name: str
    digest: str
    metric: str
    seed: int
    recipe: Values
    data: str
    split: str
    rows: tuple[Values, ...]
    best: Values
    seconds: float
    notes: tuple[str, ...]
    result: Values
    cost: str = ""
    images: str = ""
    study: str = ""

    @property
    def value(self) -> float | None:
        """The metric on the test split; None where it was not tested."""
        return number(self.result.get(self.metric))

    @property
    def search_value(self) -> float | None:
        """The metric on the search split of the weights that were kept; None before the first evaluation."""
        return number(self.best.get("value", self.best.get("accuracy")))

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its 95 % interval on images like these."""
        ends = self.result.get("interval")
        return (float(ends[0]), float(ends[1])) if isinstance(ends, list) and len(ends) == 2 else None

    @property
    def epochs(self) -> float:
        """Epochs that were asked for."""
        return number(self.recipe.get("epochs")) or 0.0

    def curve(self, name: str) -> list[tuple[float, float]]:
        """A value over the epochs, where it is known."""
        pairs = ((number(row.get("epoch")), number(row.get(name))) for row in self.rows)
        return [(epoch, value) for epoch, value in pairs if epoch is not None and value is not None]


def number(value: object) -> float | None:
    """The value where it is a number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def read_training(folder: Path) -> TrainingRecord:
    """Reads a training that is finished, goes on, or was stopped.

    Raises:
        UsageError: A file of it cannot be read.
    """
    asked = read_object(folder / RUN)
    result = read_object(folder / RESULT) if (folder / RESULT).is_file() else {}
    try:
        metric = str(asked.get("metric", "accuracy"))
        metric_info(metric)
        state = {} if result else _state(folder / CHECKPOINT)
        fitted = _mapping(result.get("fitted")) or state
        return TrainingRecord(
            folder=folder,
            name=str(asked["name"]),
            digest=str(asked["identity"]["network"]),
            metric=metric,
            seed=int(asked.get("seed", 0)),
            recipe=_mapping(asked.get("recipe")),
            data=str(asked.get("data", "")),
            images=str(asked["identity"].get("images", "")),
            split=str(asked["identity"].get("split", "")),
            rows=tuple(_row(row, metric) for row in result.get("evaluations", state.get("rows", ()))),
            best=_mapping(fitted.get("best")),
            seconds=number(fitted.get("seconds")) or 0.0,
            notes=_texts(asked.get("notes"), fitted.get("notes"), result.get("warnings")),
            result=result,
            cost=_cost(folder),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(folder / RUN, "a training", error) from error


def read_object(path: Path) -> Values:
    """Reads a JSON object.

    Raises:
        UsageError: It cannot be read, or is something else.
    """
    try:
        found = read_json(path)
    except (OSError, ValueError) as error:
        raise damaged(path, "JSON", error) from error
    if not isinstance(found, dict):
        raise damaged(path, "a JSON object", TypeError(f"it is a {type(found).__name__}"))
    return found


def damaged(path: Path, what: str, error: Exception) -> UsageError:
    """The mistake of a file that is not what it seems."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else f"{error!r}"
    return UsageError(
        f"{path} cannot be read as {what} ({why}): restore it, or leave its folder out", field="folders"
    )


def _state(path: Path) -> Values:
    """How far a training is that has no result yet; its tensors are not read."""
    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="numpy") as file:
            return _mapping(parse_json(file.metadata()["training"])["state"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, "a checkpoint", error) from error


def _row(row: Values, metric: str) -> Values:
    """An evaluation with its metric by name, as `result.json` has it."""
    if "value" not in row:
        return row
    return {**row, metric: row["value"], f"averaged_{metric}": row.get("averaged_value")}


def _cost(folder: Path) -> str:
    try:
        lines = read_text(folder / RUN_BUNDLE / "card.md").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    for line in lines:
        if line.startswith(COST):
            amount, unit, where = (cell.strip() for cell in line.removeprefix(COST).rstrip("| ").split(" | "))
            return f"{float(amount):.3g} {unit} ({where})"
    return ""


def _mapping(value: object) -> Values:
    return value if isinstance(value, dict) else {}


def _texts(*lists: object) -> tuple[str, ...]:
    found: list[str] = []
    for one in lists:
        found += map(str, one if isinstance(one, Sequence) and not isinstance(one, str) else ())
    return tuple(dict.fromkeys(found))
