"""The latency table of a space on a device, and the prediction of whole networks from it."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.errors import LatencyError
from nas.latency.devices import DeviceSettings
from nas.latency.measurement import SessionRecord
from nas.latency.stored import read_file, read_record, write_file
from nas.latency.table.estimator import BlockEstimator
from nas.latency.table.prediction import Check, Correction
from search_spaces import Network, SearchSpace
from search_spaces.blocks import Block, blocks_of
from search_spaces.lowering import Part
from search_spaces.part_sums import PartSums, inference_parts

FORMAT, VERSION = "nas-latency-table", 2

RANGE_SAMPLE = 20_000
"""Random networks that the range of predictions is taken from where it cannot be said exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLatency:
    """Latency of one block alone.

    Attributes:
        key: Identity of the block (`search_spaces.Block.key`).
        stage: Part of a network that it was first found in.
        words: What it is, for users: the op, its channels and stride.
        in_shape: Channels, height and width of its input.
        macs: Multiply-adds.
        latency_ms: Median.
        q1_ms: First quartile; None where one number is all that is known.
        q3_ms: Third quartile likewise.
        n: Samples; 0 where the latency is estimated from those of other blocks.

    Raises:
        LatencyError: A latency is not greater than 0.
    """

    key: str
    stage: str
    words: str
    in_shape: tuple[int, int, int]
    macs: int
    latency_ms: float
    q1_ms: float | None = None
    q3_ms: float | None = None
    n: int = 0

    def __post_init__(self) -> None:
        for name in ("latency_ms", "q1_ms", "q3_ms"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise LatencyError(
                    f"`{name} > 0` must hold for block {self.key}, but got {value!r}", field=name
                )

    @property
    def is_estimated(self) -> bool:
        """Whether it was not measured."""
        return self.n == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceFacts:
    """Which space a table is for.

    Attributes:
        name: Its name.
        fingerprint: Its identity.
        resolution: Side of the image, pixels; None where it is chosen.
        num_classes: Number of classes; None where it is chosen.
        in_channels: Channels of the image; None where they are chosen.
    """

    name: str
    fingerprint: str
    resolution: int | None
    num_classes: int | None
    in_channels: int | None

    @classmethod
    def of(cls, space: SearchSpace) -> SpaceFacts:
        """The facts of a space."""
        template = space.template
        numbers = [
            value if isinstance(value, int) else None
            for value in (template.resolution, template.num_classes, template.in_channels)
        ]
        return cls(
            name=space.name,
            fingerprint=space.fingerprint,
            resolution=numbers[0],
            num_classes=numbers[1],
            in_channels=numbers[2],
        )

    @property
    def text(self) -> str:
        """The facts in words."""
        image = f"{self.in_channels} x {self.resolution} x {self.resolution}"
        return f"{self.name}, {image}, {self.num_classes} classes"


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedRange:
    """The smallest and the largest predicted latency of a space.

    Attributes:
        least_ms: The smallest.
        most_ms: The largest.
        origin: Of which networks, in words.
    """

    least_ms: float
    most_ms: float
    origin: str


@dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """Latencies of a space's blocks on a device, and how sums of them become latencies of networks.

    Attributes:
        device_name: Name of the device.
        settings: What it was measured with; None where the latencies were measured by other means.
        environment: The device and its software in words.
        space: The space it is for.
        blocks: The blocks.
        blocks_origin: How the blocks were found, in words.
        is_complete: Whether they are all that the space has; else one that is missing is estimated.
        correction: From sums over blocks to networks.
        check: How well predictions hold; None where no networks were measured.
        estimator: Of blocks that were not measured; None where all were.
        session: How it was measured; None where the latencies were measured by other means.
        flags: Why the session is unreliable, as text.
        range: The least and most that is predicted; None before it was worked out.

    Raises:
        LatencyError: There is no block, or one occurs twice.
    """

    device_name: str
    settings: DeviceSettings | None
    environment: str
    space: SpaceFacts
    blocks: tuple[BlockLatency, ...]
    blocks_origin: str
    is_complete: bool
    correction: Correction
    check: Check | None = None
    estimator: BlockEstimator | None = None
    session: SessionRecord | None = None
    flags: tuple[str, ...] = ()
    range: PredictedRange | None = None

    def __post_init__(self) -> None:
        distinct = len({block.key for block in self.blocks})
        if not 0 < distinct == len(self.blocks):
            raise LatencyError(
                f"a table must hold each block once and at least one, but has {len(self.blocks)} entries for "
                f"{distinct} blocks",
                field="blocks",
            )

    @classmethod
    def load(cls, path: str | Path) -> LatencyTable:
        """Reads a table.

        Raises:
            LatencyError: The file cannot be read, is none, is damaged, or is of a newer version.
        """
        data, version = read_file(Path(path), kind=FORMAT, version=VERSION)
        try:
            return read_record(cls, data if version > 1 else _from_version_1(data), "table")
        except LatencyError as error:
            message = f"the latency table {path} cannot be used: {error}; restore it, or measure it again"
            raise LatencyError(message, field=error.field) from error

    def save(self, path: str | Path) -> None:
        """Writes the table as JSON; beside its fields, `check` states its errors for other programs.

        Raises:
            LatencyError: The file cannot be written.
        """
        data: dict[str, Any] = {"format": FORMAT, "version": VERSION, **asdict(self)}
        if self.check is not None:
            check = self.check
            data["check"] |= {"mape": check.mape, "tau": check.tau, "repeat_error": check.repeat_error}
        write_file(Path(path), data)

    def __getstate__(self) -> dict[str, Any]:
        # Sent to another process without what was looked up here.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def error_text(self) -> str:
        """The error of predictions, in one line, to be shown with each."""
        if self.check is None:
            return "no networks were measured beside the blocks, so no error can be stated"
        return self.check.text

    @property
    def title(self) -> str:
        """What the table is of."""
        how = "" if self.settings is None else f" ({self.settings.text})"
        return f"{self.space.name} on {self.device_name}{how}"

    @property
    def origin(self) -> str:
        """What predictions are of, and how far they are off."""
        return f"predicted for {self.title}; {self.error_text}"

    @cached_property
    def fingerprint(self) -> str:
        """Equal for tables that predict alike (16 hex digits)."""
        estimator = self.estimator if not self.is_complete else None
        parts = (
            self.space.fingerprint,
            self.correction.coefficients.tolist(),
            None if estimator is None else (estimator.weights, estimator.log_mean),
            sorted((block.key, block.latency_ms) for block in self.blocks),
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def predict(self, network: Network) -> float:
        """Latency of a network in milliseconds.

        Raises:
            LatencyError: A block is not in the table; the message names it and what to do.
            SpaceError: The network cannot be lowered.
        """
        return self.correction.per_network_ms + sum(self.part_ms(part) for part in inference_parts(network))

    def predict_many(self, space: SearchSpace, tokens: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Latencies of many candidates (candidates,) in milliseconds, equal to those of `predict`.

        Args:
            space: The space, the one of the table.
            tokens: Integers (candidates, decisions).

        Raises:
            LatencyError: The space is another one, or a block is not in the table.
            SpaceError: The tokens are not of the space, or a combination is not valid.
        """
        return self.correction.per_network_ms + self._sums_of(space)(tokens)

    def range_of(self, space: SearchSpace, *, seed: int = 0) -> PredictedRange:
        """The smallest and the largest prediction: exact where the parts can be walked, else of a sample.

        Raises:
            LatencyError: The space is another one, or a block is not in the table.
        """
        found = self._sums_of(space).extremes()
        if found is not None:
            least, most = (self.correction.per_network_ms + value for value in found)
            return PredictedRange(least_ms=least, most_ms=most, origin="all networks of the space")
        tokens = space.sample_many(np.random.default_rng(seed), RANGE_SAMPLE)
        kept = tokens[space.are_within(tokens)]
        if not len(kept):
            raise LatencyError(f"none of {RANGE_SAMPLE:,} random networks of {space.name} can be built")
        latencies = self.predict_many(space, kept)
        return PredictedRange(
            least_ms=float(latencies.min()),
            most_ms=float(latencies.max()),
            origin=f"{len(kept):,} random networks",
        )

    def least_ms(self, space: SearchSpace) -> float:
        """The smallest prediction for any network of a space, as `range_of` finds it.

        Raises:
            LatencyError: The space is another one, or a block is not in the table.
        """
        return self.range_of(space).least_ms

    def part_ms(self, part: Part) -> float:
        """What a part adds to the prediction: its blocks, corrected.

        Raises:
            LatencyError: A block is not in the table.
        """
        return sum(
            self.correction.block_ms(self.block_ms(block), block.part.tally) for block in blocks_of(part)
        )

    def block_ms(self, block: Block) -> float:
        """Latency of a block alone.

        Raises:
            LatencyError: It is not in the table.
        """
        known = self._by_key.get(block.key)
        if known is not None:
            return known
        if self.is_complete or self.estimator is None:
            raise LatencyError(self._missing(block))
        estimated = self._by_key[block.key] = self.estimator.estimate(block)
        return estimated

    def require_space(self, space: SearchSpace) -> None:
        """Checks that the table is for a space.

        Raises:
            LatencyError: It is for another one; the message says which.
        """
        asked = SpaceFacts.of(space)
        if asked.fingerprint == self.space.fingerprint:
            return
        differs = (
            ""
            if asked.text != self.space.text
            else " (equal in this description, but with other choices or ops)"
        )
        raise LatencyError(
            f"the latency table is for {self.space.text}, but the space is {asked.text}{differs}: measure a "
            f"table for it with nas latency-table --space {asked.name}, at the resolution, width and number "
            "of classes of the search",
            field="space",
        )

    @cached_property
    def _by_key(self) -> dict[str, float]:
        return {block.key: block.latency_ms for block in self.blocks}

    @cached_property
    def _sums(self) -> dict[int, tuple[SearchSpace, PartSums]]:
        return {}

    def _sums_of(self, space: SearchSpace) -> PartSums:
        """The sums of a space, which remember what its parts are worth; the space is checked once."""
        if id(space) not in self._sums:
            self.require_space(space)
            self._sums[id(space)] = (space, space.part_sums(self.part_ms))
        return self._sums[id(space)][1]

    def _missing(self, block: Block) -> str:
        shape = " x ".join(map(str, block.in_shape))
        return (
            f"the block of {block.stage} ({block.words}, input {shape}) is not in the latency table of "
            f"{self.space.text} with the layers that it has now: measure the table again with nas "
            "latency-table, for the space and the ops as they are"
        )


def _from_version_1(data: dict[str, Any]) -> dict[str, Any]:
    """The values of version 1 as those of version 2: it kept flags as the session's notes."""
    session = data.get("session", data.get("sitting"))
    if not isinstance(session, dict):
        return data
    session = session | {"repeat_error": session.get("block_repeat_error")}
    return {**data, "session": session, "flags": session.get("notes", ())}
