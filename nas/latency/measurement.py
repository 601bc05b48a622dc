"""The record of a measured latency: how it is made from a session, judged, stored as JSON and read back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from nas.errors import LatencyError
from nas.io import write_whole
from nas.latency.devices import DeviceSettings
from nas.latency.environment import (
    Busyness,
    Environment,
    describe_environment,
    judge_share,
    read_ticks,
    share_of_others,
)
from nas.latency.passes import prepare_pass, prepare_reference
from nas.latency.session import Session, Timing, measure_together
from search_spaces import Network

FORMAT, VERSION = "nas-latency", 1
LARGEST_REPEAT_ERROR = 0.05
LARGEST_QUARTILE_SPREAD = 0.25
LEAST_ROUNDS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """What the measurements of one measurement session share.

    Attributes:
        names: All that was timed in turns.
        rounds: Samples of each.
        reference_ms: Median of the reference workload, whose speed normalised samples are stated at.
        drift: How far the reference wandered, as a share of its median.
        repeat_error: How far even and odd rounds disagree, median over the names.
        repeat_tau: Kendall's tau-b between the orders of even and odd rounds; nan for a single name.
        seconds: What the session took.
    """

    names: tuple[str, ...]
    rounds: int
    reference_ms: float
    drift: float
    repeat_error: float
    repeat_tau: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyMeasurement:
    """The latency of one network on one device, with everything that is needed to judge it.

    Attributes:
        digest: Identity of the network.
        name: What it was called.
        settings: Device, batch, threads, precision, layout.
        environment: What the device is.
        others: Share of the device that others used just before the session; None where it cannot be known.
        others_during: The same within the session; None also on a GPU, which then works for this process.
        samples_ms: One sample a round (the median of a few calls), as the clock had it.
        normalised_ms: The same with the clock's drift divided out.
        calls: Calls behind each sample.
        repeat_error: How far this network's even and odd rounds disagree, as a share of their mean.
        session: What the measurements taken together share.
        taken_at: When, as ISO 8601 in UTC.
        flags: Why it must not be ranked by, in words; empty where nothing speaks against it.
    """

    digest: str
    name: str
    settings: DeviceSettings
    environment: Environment
    others: float | None
    others_during: float | None
    samples_ms: tuple[float, ...]
    normalised_ms: tuple[float, ...]
    calls: int
    repeat_error: float
    session: SessionFacts
    taken_at: str
    flags: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("samples_ms", "normalised_ms"):
            samples = getattr(self, name)
            if not samples or not all(math.isfinite(sample) and sample >= 0 for sample in samples):
                raise LatencyError(f"`{name}` must hold finite times of at least 0, but got {samples}")

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.samples_ms)

    @property
    def median_ms(self) -> float:
        """Median of the normalised samples."""
        return float(np.median(self.normalised_ms))

    @property
    def q1_ms(self) -> float:
        """First quartile of the normalised samples."""
        return float(np.quantile(self.normalised_ms, 0.25))

    @property
    def q3_ms(self) -> float:
        """Third quartile of the normalised samples."""
        return float(np.quantile(self.normalised_ms, 0.75))

    @property
    def is_rankable(self) -> bool:
        """Whether nothing speaks against comparing it with others of its device."""
        return not self.flags

    def to_data(self) -> dict[str, Any]:
        """The measurement as JSON values, its median and quartiles beside the samples."""
        quartiles = {"median_ms": self.median_ms, "q1_ms": self.q1_ms, "q3_ms": self.q3_ms, "n": self.n}
        status = "rankable" if self.is_rankable else "doubtful"
        data: dict[str, Any] = _without_nan({**asdict(self), **quartiles, "status": status})
        return data

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> LatencyMeasurement:
        """Reads what `to_data` wrote.

        Raises:
            LatencyError: A value is missing or does not fit.
        """
        try:
            values: dict[str, Any] = {field.name: data[field.name] for field in fields(cls)}
            shared: dict[str, Any] = {
                name: math.nan if value is None else value for name, value in data["session"].items()
            }
            shared["names"] = tuple(map(str, shared["names"]))
            repeat_error = data["repeat_error"]
            values |= {
                "settings": DeviceSettings(**data["settings"]),
                "environment": Environment(**data["environment"]),
                "session": SessionFacts(**shared),
                "samples_ms": tuple(map(float, data["samples_ms"])),
                "normalised_ms": tuple(map(float, data["normalised_ms"])),
                "repeat_error": math.nan if repeat_error is None else float(repeat_error),
                "flags": tuple(map(str, data["flags"])),
            }
            return cls(**values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"{type(error).__name__} {error}"
            raise LatencyError(f"a measurement must hold every value, but: {reason}") from error


def measure_networks(
    networks: Mapping[str, Network],
    settings: DeviceSettings,
    *,
    busyness: Busyness,
    rounds: int = 30,
    seed: int = 0,
    on_round: Callable[[int, int], None] | None = None,
) -> tuple[Session, tuple[LatencyMeasurement, ...]]:
    """Measures networks in turns in one measurement session beside the reference workload.

    Args:
        networks: By the name to call each.
        settings: Where, and how.
        busyness: How busy the device was found; it is stored, and a busy one flags every result.
        rounds: Samples of each.
        seed: Of the orders.
        on_round: Called with (rounds done, rounds) after each.

    Raises:
        LatencyError: The device is not there, a network cannot run on it, or there is nothing to time.
    """
    passes = {name: prepare_pass(network, settings) for name, network in networks.items()}
    reference = prepare_reference(settings)
    ticks = read_ticks()
    session = measure_together(passes, reference=reference, rounds=rounds, seed=seed, on_round=on_round)
    share = None if settings.is_cuda else share_of_others(ticks, read_ticks())
    states = (busyness, judge_share(share, "CPU"))
    environment = describe_environment(settings)
    taken_at = datetime.now(UTC).isoformat(timespec="seconds")
    facts = SessionFacts(
        names=tuple(networks),
        rounds=rounds,
        reference_ms=session.reference_median_ms,
        drift=session.drift,
        repeat_error=session.repeat_error,
        repeat_tau=session.repeat_tau,
        seconds=session.seconds,
    )
    return session, tuple(
        LatencyMeasurement(
            digest=network.digest,
            name=name,
            settings=settings,
            environment=environment,
            others=busyness.share,
            others_during=share,
            samples_ms=session.timings[name].samples_ms,
            normalised_ms=session.timings[name].normalised_ms,
            calls=session.timings[name].calls,
            repeat_error=session.timings[name].repeat_error,
            session=facts,
            taken_at=taken_at,
            flags=flags_of(session.timings[name], *states),
        )
        for name, network in networks.items()
    )


def flags_of(timing: Timing, before: Busyness, during: Busyness) -> tuple[str, ...]:
    """Says what speaks against ranking by a timing, in words; nothing where it is sound.

    Args:
        timing: The timing.
        before: How busy the device was before the session.
        during: How busy it was within the session.
    """
    spread = (timing.q3_ms - timing.q1_ms) / timing.median_ms if timing.median_ms else 0.0
    found = {
        f"{before.text} before the session": before.is_busy,
        f"{during.text} during the session": during.is_busy,
        "its time was still changing after the warm-up": not timing.is_settled,
        f"at least {LEAST_ROUNDS} rounds are needed, but there were {timing.n}": timing.n < LEAST_ROUNDS,
        f"even and odd rounds differ by {100 * timing.repeat_error:.1f} %, more than "
        f"{100 * LARGEST_REPEAT_ERROR:.0f} %": timing.repeat_error > LARGEST_REPEAT_ERROR,
        f"its quartiles lie {100 * spread:.0f} % of the median apart, more than "
        f"{100 * LARGEST_QUARTILE_SPREAD:.0f} %": spread > LARGEST_QUARTILE_SPREAD,
    }
    return tuple(words for words, is_so in found.items() if is_so)


def read_measurements(path: Path) -> tuple[LatencyMeasurement, ...]:
    """Reads a file of measurements, oldest first.

    Raises:
        LatencyError: The file cannot be read, is no such file, is damaged, or comes from a newer version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise LatencyError(f"{path} cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise LatencyError(
            f"{path} must be JSON, but is damaged at line {error.lineno}: restore it, or choose another --out"
        ) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise LatencyError(f"{path} must hold measured latencies (format {FORMAT!r}), but is another file")
    if not isinstance(data.get("version"), int) or data["version"] > VERSION:
        raise LatencyError(
            f"{path} has version {data.get('version')!r} of its format, but this mnas reads up to {VERSION}: "
            "install a newer mnas"
        )
    if not isinstance(data.get("measurements"), list):
        raise LatencyError(f"{path} must hold a list of measurements, but is damaged: restore it")
    try:
        return tuple(LatencyMeasurement.from_data(entry) for entry in data["measurements"])
    except LatencyError as error:
        raise LatencyError(f"{path} is damaged: {error}; restore it, or choose another --out") from error


def add_measurements(path: Path, measurements: Sequence[LatencyMeasurement]) -> int:
    """Adds measurements to a file, which is made where there is none; those in it stay.

    Returns:
        How many the file holds now.

    Raises:
        LatencyError: What is there cannot be read, or the file cannot be written.
    """
    earlier = read_measurements(path) if path.exists() else ()
    entries = [measurement.to_data() for measurement in (*earlier, *measurements)]
    text = json.dumps({"format": FORMAT, "version": VERSION, "measurements": entries}, indent=1)
    try:
        write_whole(path, text + "\n")
    except OSError as error:
        raise LatencyError(f"{path} cannot be written ({error}): choose another --out") from error
    return len(entries)


def _without_nan(value: Any) -> Any:
    """JSON has no word for nan: null stands for it."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
