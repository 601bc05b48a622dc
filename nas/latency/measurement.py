"""Measures networks on a device in one session, and stores each with its samples and its origin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas.errors import LatencyError
from nas.latency.devices import DeviceKind, DeviceSettings
from nas.latency.environment import (
    Busyness,
    Environment,
    describe_environment,
    judge_share,
    read_cpu_times,
    share_of_others,
)
from nas.latency.passes import Pass, Shape, prepare_pass, prepare_reference
from nas.latency.session import Session, Timing, measure_together
from nas.latency.stored import read_file, read_record, write_file
from search_spaces import Network

FORMAT, VERSION = "nas-latency", 2
LARGEST_REPEAT_ERROR = 0.05
LARGEST_QUARTILE_SPREAD = 0.25
LEAST_ROUNDS = 6
UNSETTLED = "its time was still changing after the warm-up"

OnRound = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """What is stored of a measurement session, beside what was measured in it.

    Attributes:
        rounds: Samples of each pass.
        seconds: What the session took.
        reference_ms: Median of the reference workload, whose speed normalised samples are stated at.
        drift: How far the reference wandered, as a share of its median.
        repeat_error: How far even and odd rounds disagree, median over the passes.
        repeat_tau: Kendall's tau-b between the orders of even and odd rounds.
        others: Share of the device that others used just before the session; None where it is not known.
        others_during: The same within the session; None also on a GPU, which then works for this process.
        taken_at: When, as ISO 8601 in UTC.
    """

    rounds: int
    seconds: float
    reference_ms: float | None = None
    drift: float | None = None
    repeat_error: float | None = None
    repeat_tau: float | None = None
    others: float | None = None
    others_during: float | None = None
    taken_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyMeasurement:
    """The latency of one network on one device, with everything that is needed to judge it.

    Attributes:
        digest: Identity of the network; empty for a module that is none.
        settings: Device, batch, threads, precision, layout.
        environment: What the device is.
        timing: Name, and every sample.
        session: What the measurements taken together share.
        flags: Why it must not be ranked by, in words; empty where nothing speaks against it.
    """

    digest: str
    settings: DeviceSettings
    environment: Environment
    timing: Timing
    session: SessionRecord
    flags: tuple[str, ...]

    @property
    def median_ms(self) -> float:
        """The latency: median of the samples, the clock's drift divided out."""
        return self.timing.median_ms

    @property
    def is_rankable(self) -> bool:
        """Whether nothing speaks against comparing it with others of its device."""
        return not self.flags

    @property
    def data(self) -> dict[str, Any]:
        """The measurement as JSON values, its median and quartiles beside the samples."""
        timing = self.timing
        summary = {"median_ms": timing.median_ms, "q1_ms": timing.q1_ms, "q3_ms": timing.q3_ms, "n": timing.n}
        return {**summary, "status": "rankable" if self.is_rankable else "doubtful", **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSession:
    """A session on a device, and what is known of the device at that time.

    Attributes:
        session: The timings.
        record: What is stored of it.
        environment: The device.
        flags: Why the whole session is unreliable.
    """

    session: Session
    record: SessionRecord
    environment: Environment
    flags: tuple[str, ...]


def measure_passes(
    passes: Mapping[str, Pass],
    settings: DeviceSettings,
    *,
    busyness: Busyness | None = None,
    rounds: int,
    seed: int = 0,
    on_round: OnRound | None = None,
) -> DeviceSession:
    """Times passes of a device in turns beside its reference workload.

    Args:
        passes: By name, each prepared with the settings.
        settings: The device.
        busyness: How busy the device was before; None if not checked.
        rounds: Samples of each.
        seed: Of the orders.
        on_round: Called with (rounds done, rounds) after each.

    Raises:
        LatencyError: The device is not there, or there is nothing to time.
    """
    reference = prepare_reference(settings)
    before = read_cpu_times()
    session = measure_together(passes, reference=reference, rounds=rounds, seed=seed, on_round=on_round)
    share = None if settings.is_cuda else share_of_others(before, read_cpu_times())
    during = judge_share(share, "CPU")
    flags = [f"{during.text} during the session"] * during.is_busy
    if busyness is not None and busyness.is_busy:
        flags.insert(0, f"{busyness.text} before the session")
    record = SessionRecord(
        rounds=rounds,
        seconds=session.seconds,
        reference_ms=session.reference_median_ms,
        drift=session.drift,
        repeat_error=session.repeat_error,
        repeat_tau=session.repeat_tau,
        others=None if busyness is None else busyness.share,
        others_during=share,
        taken_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    environment = describe_environment(settings)
    return DeviceSession(session=session, record=record, environment=environment, flags=tuple(flags))


def measure_networks(
    networks: Mapping[str, Network],
    settings: DeviceSettings,
    *,
    busyness: Busyness | None = None,
    rounds: int = 30,
    seed: int = 0,
    on_round: OnRound | None = None,
) -> tuple[LatencyMeasurement, ...]:
    """Measures networks in turns in one measurement session.

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
    measured = measure_passes(
        passes, settings, busyness=busyness, rounds=rounds, seed=seed, on_round=on_round
    )
    return tuple(
        _measurement(network.digest, settings, measured.session.timings[name], measured)
        for name, network in networks.items()
    )


def measure_latency(
    model: nn.Module | Network,
    *,
    input_shape: Shape | None = None,
    device: str | torch.device = "auto",
    batch: int = 1,
    threads: int = 1,
    runs: int = 50,
) -> LatencyMeasurement:
    """Times a copy of the model in turns with a reference workload, once its times have settled.

    To rank several networks, time them in one session (`measure_together`, or `nas measure A B C`): a session
    divides out the drift within itself only.

    Args:
        model: A module, or a network to build.
        input_shape: (channels, height, width) of one image; needed for a module only.
        device: `auto`, or where `DeviceSettings` says.
        batch: Images a pass.
        threads: Threads of the CPU.
        runs: Samples; each is the median of a few passes.

    Raises:
        LatencyError: A count is below 1, the shape of a module's input is missing, the device is not there,
            or the model cannot run on it.
    """
    name = device.type if isinstance(device, torch.device) else device
    settings = DeviceSettings(device=choose_latency_device(name), batch=batch, threads=threads)
    if runs < 1:
        raise LatencyError(f"`runs >= 1` must hold, but got runs={runs}", field="runs")
    run = prepare_pass(model, settings, input_shape=input_shape)
    measured = measure_passes({"model": run}, settings, rounds=runs)
    digest = model.digest if isinstance(model, Network) else ""
    return _measurement(digest, settings, measured.session.timings["model"], measured)


def choose_latency_device(name: str = "auto") -> DeviceKind:
    """Resolves `auto` to the GPU where torch sees one, else to the CPU; leaves other names as they are."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name  # type: ignore[return-value]  # `DeviceSettings` checks it


def flags_of(timing: Timing) -> tuple[str, ...]:
    """Says what speaks against ranking by a timing, in words; nothing where it is sound."""
    spread = (timing.q3_ms - timing.q1_ms) / timing.median_ms if timing.median_ms else 0.0
    error = timing.repeat_error or 0.0
    found = {
        UNSETTLED: not timing.is_settled,
        f"at least {LEAST_ROUNDS} rounds are needed, but there were {timing.n}": timing.n < LEAST_ROUNDS,
        f"even and odd rounds differ by {100 * error:.1f} %, more than {100 * LARGEST_REPEAT_ERROR:.0f} %": (
            error > LARGEST_REPEAT_ERROR
        ),
        f"its quartiles lie {100 * spread:.0f} % of the median apart, more than "
        f"{100 * LARGEST_QUARTILE_SPREAD:.0f} %": spread > LARGEST_QUARTILE_SPREAD,
    }
    return tuple(words for words, is_so in found.items() if is_so)


def read_measurements(path: Path) -> tuple[LatencyMeasurement, ...]:
    """Reads a file of measurements, oldest first.

    Raises:
        LatencyError: The file cannot be read, is no such file, is damaged, or comes from a newer version.
    """
    data, version = read_file(path, kind=FORMAT, version=VERSION)
    entries = data.get("measurements")
    if not isinstance(entries, list):
        raise LatencyError(f"{path} must hold a list of measurements, but is damaged: restore it")
    try:
        if version == 1:
            entries = [_from_version_1(entry) for entry in entries]
        return tuple(
            read_record(LatencyMeasurement, entry, f"measurements[{place}]")
            for place, entry in enumerate(entries)
        )
    except LatencyError as error:
        message = f"{path} is damaged: {error}; restore it, or choose another --out"
        raise LatencyError(message, field=error.field) from error


def add_measurements(path: Path, measurements: Sequence[LatencyMeasurement]) -> int:
    """Adds measurements to a file, which is made where there is none; those in it stay.

    Returns:
        How many the file holds now.

    Raises:
        LatencyError: What is there cannot be read, or the file cannot be written.
    """
    earlier = read_measurements(path) if path.exists() else ()
    entries = [measurement.data for measurement in (*earlier, *measurements)]
    write_file(path, {"format": FORMAT, "version": VERSION, "measurements": entries})
    return len(entries)


def _measurement(
    digest: str, settings: DeviceSettings, timing: Timing, measured: DeviceSession
) -> LatencyMeasurement:
    return LatencyMeasurement(
        digest=digest,
        settings=settings,
        environment=measured.environment,
        timing=timing,
        session=measured.record,
        flags=(*measured.flags, *flags_of(timing)),
    )


def _from_version_1(entry: object) -> object:
    """An entry of version 1 as one of version 2: it had the timing's values beside the network's."""
    if not isinstance(entry, dict):
        return entry
    timing = {**entry, "is_settled": UNSETTLED not in entry.get("flags", ())}
    session = entry.get("session", entry.get("sitting"))
    if isinstance(session, dict):
        session = entry | session
    return {**entry, "timing": timing, "session": session}
