"""The checkpoint of a full training: one safetensors file, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from nas.errors import TrainingError
from nas.io import unfinished, write_whole
from nas.metrics import Goal
from nas.reading import parse_json, read_bytes, require_types

CHECKPOINT = "checkpoint.safetensors"
VERSION = 3
READABLE = (1, 2, VERSION)
"""Version 1 had the accuracy as the only metric; before version 3 nothing but weights was measured."""

WEIGHTS, AVERAGED = KINDS = ("weights", "averaged weights")
"""What can be exported of a training."""

BEST = "best."
"""What the names of the best weights begin with in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One evaluation of a training.

    Attributes:
        epoch: Epochs that were trained; a fraction at the end of a training of such.
        step: Steps that were taken.
        learning_rate: Of the last step.
        loss: Mean training loss since the evaluation before.
        metric: Name of the metric that the best weights are chosen by.
        value: Of the weights on the search split; None where their outputs are not finite.
        averaged_value: Of the averaged weights; None where none are kept.
        images_per_second: Training speed since the evaluation before.
        side: Side of the training images, pixels.
        others: The metric of what else was measured, by name.
    """

    epoch: float
    step: int
    learning_rate: float
    loss: float
    metric: str
    value: float | None
    averaged_value: float | None
    images_per_second: float
    side: int
    others: tuple[tuple[str, float | None], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The weights that are exported: those with the best metric on the search split.

    Attributes:
        step: Steps after which they were measured.
        epoch: The same in epochs.
        kind: `weights` or `averaged weights`.
        metric: Name of the metric.
        value: On the search split.
    """

    step: int
    epoch: float
    kind: str
    metric: str
    value: float

    @property
    def reward(self) -> float:
        """The larger, the better."""
        return Goal.of(self.metric).sign * self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How far a training is, apart from its tensors.

    Attributes:
        identity: What makes it the same training; compared when it is continued.
        step: Steps that were taken.
        seconds: Wall time of the training, all its runs together.
        rows: Its evaluations.
        best: The best of them; None before the first.
        rate_factor: What the learning rate is multiplied by; below 1 after a loss that was not finite.
        notes: What happened and is worth knowing.
    """

    identity: Mapping[str, str]
    step: int = 0
    seconds: float = 0.0
    rows: tuple[Row, ...] = ()
    best: Best | None = None
    rate_factor: float = 1.0
    notes: tuple[str, ...] = ()

    @property
    def measured_step(self) -> int:
        """Steps before the last evaluation."""
        return self.rows[-1].step if self.rows else 0

    def noted(self, note: str) -> State:
        """Returns the state with one more note."""
        return replace(self, notes=(*self.notes, note))


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A training as it can be continued.

    Attributes:
        state: How far it is.
        tensors: Weights, averaged weights and the optimiser's, by name.
        numbers: What the optimiser stores besides tensors.
        best: The best weights so far; empty before the first evaluation.
    """

    state: State
    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, Any] = field(default_factory=dict)
    best: Mapping[str, Tensor] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Writes it into the folder of a training in place of the one before.

        Raises:
            OSError: The disk is full or may not be written to; the one before is still there.
        """
        named = dict(self.tensors) | {f"{BEST}{name}": tensor for name, tensor in self.best.items()}
        facts = {"version": VERSION, "state": asdict(self.state), "numbers": dict(self.numbers)}
        content = save(named, metadata={"training": json.dumps(facts)})
        return write_whole(folder / CHECKPOINT, content)


def read_checkpoint(folder: Path, identity: Mapping[str, str]) -> Checkpoint | None:
    """Reads the checkpoint of a training; None where there is none yet.

    Raises:
        TrainingError: It is of another training, damaged, or of another version.
    """
    path = folder / CHECKPOINT
    try:
        for left in unfinished(folder, CHECKPOINT):
            left.unlink(missing_ok=True)
        if not path.exists():
            return None
        content = read_bytes(path)
        facts = _facts(content)
        if facts["version"] in READABLE:
            found = _parsed(load(content), facts)
            require_types(found.state)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"{path} cannot be read ({error}): it was cut short or is no checkpoint; restore it, or "
            "remove it to begin again",
            field="out",
        ) from error
    if facts["version"] not in READABLE:
        raise TrainingError(
            f"{path} is of version {facts['version']}, but this program reads version {VERSION}: continue "
            "with the program that wrote it, or give another --out",
            field="out",
        )
    check_identity(path, found.state.identity, identity)
    return found


def _facts(content: bytes) -> dict[str, Any]:
    size = int.from_bytes(content[:8], "little")
    facts: dict[str, Any] = parse_json(parse_json(content[8 : 8 + size])["__metadata__"]["training"])
    return facts


def _parsed(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Checkpoint:
    return Checkpoint(
        state=_state(facts["state"]),
        tensors={name: tensor for name, tensor in tensors.items() if not name.startswith(BEST)},
        numbers=dict(facts["numbers"]),
        best={name.removeprefix(BEST): one for name, one in tensors.items() if name.startswith(BEST)},
    )


def check_identity(path: Path, there: Mapping[str, str], here: Mapping[str, str], changes: str = "") -> None:
    """Checks that a file is of the training that is asked for; `changes` says more of what differs.

    Raises:
        TrainingError: It is not; names what differs.
    """
    names = dict.fromkeys([*there, *here])
    differing = [name for name in names if there.get(name) != here.get(name)]
    if differing:
        raise TrainingError(
            f"{path} is of a training with another {', '.join(differing)}"
            f"{f' ({changes})' if changes else ''}: repeat the command that began it, or give another --out",
            field="out",
        )


def _state(values: Mapping[str, Any]) -> State:
    rows = tuple(Row(**_row(row)) for row in values["rows"])
    best = None if values["best"] is None else Best(**_with_metric(values["best"]))
    return State(**{**values, "rows": rows, "best": best, "notes": tuple(values["notes"])})


def _row(values: Mapping[str, Any]) -> dict[str, Any]:
    others = tuple((name, value) for name, value in values.get("others", ()))
    return {**_with_metric(values), "others": others}


def _with_metric(values: Mapping[str, Any]) -> dict[str, Any]:
    """A measurement as it is stored now, of one that may be of version 1."""
    if "metric" in values:
        return dict(values)
    names = {"accuracy": "value", "averaged_accuracy": "averaged_value"}
    return {"metric": "accuracy", **{names.get(name, name): value for name, value in values.items()}}
