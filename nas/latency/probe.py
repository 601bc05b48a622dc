"""Measures latency during a search (`LatencyProbe`), and of any one module (`measure_latency`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal, cast

import torch
from torch import nn

from nas.errors import LatencyError
from nas.latency.devices import DeviceKind, DeviceSettings, LatencyPrecision
from nas.latency.environment import describe_environment
from nas.latency.passes import Pass, prepare_pass, prepare_reference
from nas.latency.session import LEAST_CALLS, Session, measure_together
from nas.trial import Cause, InfeasibleError, Metric
from search_spaces import Network

ProbeDevice = Literal["auto"] | DeviceKind

REFERENCE_ROUNDS = 25
LEAST_PROBE_ROUNDS = 8


def choose_latency_device(name: str = "auto") -> DeviceKind:
    """Resolves `auto` to the GPU where torch sees one, else to the CPU; leaves other names as they are."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return cast(DeviceKind, name)


@dataclass(slots=True)
class _Prepared:
    """What a probe holds once it is prepared: where it measures, and the reference it states times at."""

    settings: DeviceSettings
    device_name: str
    reference: Pass
    reference_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyProbe:
    """Measures the latency of candidates during a search (`nas.trial.Probe`).

    Each candidate is timed in turns with a fixed reference workload, and its latency is stated at the speed
    that the reference had in `prepare`: so latencies of trials that lie hours apart compare although the
    machine's clock has changed between them.

    Attributes:
        device: Where; `auto` is the GPU where there is one.
        batch: Images a forward pass.
        threads: Threads of the CPU.
        runs: Timed forward passes, at least; they are spread over visits between readings of the reference.
        precision: Of weights and images.
        channels_last: Whether images lie in memory with their channels last.
        reference_ms: Time of the reference workload to state latencies at, where another process's must be
            kept; None takes what `prepare` measures. It is no part of the fingerprint.

    Raises:
        LatencyError: A value does not fit.
    """

    device: ProbeDevice = "auto"
    batch: int = 1
    threads: int = 1
    runs: int = 50
    precision: LatencyPrecision = "float32"
    channels_last: bool = False
    reference_ms: float | None = None
    measures: ClassVar[tuple[str, ...]] = ("latency_ms",)
    _prepared: list[_Prepared] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.runs < 1:
            raise LatencyError(f"`runs >= 1` must hold, but got runs={self.runs}")
        if self.reference_ms is not None and not 0 < self.reference_ms < math.inf:
            raise LatencyError(f"`reference_ms > 0` must hold, but got {self.reference_ms}")
        self._settings("cpu" if self.device == "auto" else self.device)

    def __reduce__(self) -> tuple[Callable[..., LatencyProbe], tuple[object, ...]]:
        # Sent to a worker without what was prepared here: passes belong to a process.
        values = (self.device, self.batch, self.threads, self.runs, self.precision, self.channels_last)
        return _make_probe, (*values, self.reference_ms)

    @property
    def fingerprint(self) -> str:
        """Changes with every setting that latency depends on."""
        return f"latency 1: {self._settings_text}, runs {self.runs}"

    def prepare(self) -> None:
        """Times the reference workload on the device.

        Raises:
            LatencyError: The device is not there.
        """
        settings = self._settings(choose_latency_device(self.device))
        reference = prepare_reference(settings)
        timed = measure_together({"reference": reference}, reference=None, rounds=REFERENCE_ROUNDS)
        prepared = _Prepared(
            settings=settings,
            device_name=describe_environment(settings).device_name,
            reference=reference,
            reference_ms=self.reference_ms or timed.timings["reference"].median_ms,
        )
        self._prepared[:] = [prepared]

    def measure(self, network: Network) -> tuple[Metric, ...]:
        """Returns `latency_ms`, and `inference_memory_bytes` where torch runs the network on a GPU.

        Raises:
            InfeasibleError: The network does not fit the device's memory, or cannot run there.
            LatencyError: The device is not there.
        """
        if not self._prepared:
            self.prepare()
        (prepared,) = self._prepared
        held = torch.cuda.memory_allocated() if prepared.settings.device == "cuda" else 0
        try:
            run = prepare_pass(network, prepared.settings)
        except LatencyError as error:
            is_memory = isinstance(error.__cause__, torch.OutOfMemoryError)
            raise InfeasibleError(Cause.OUT_OF_MEMORY if is_memory else Cause.ERROR, str(error)) from error
        rounds = max(LEAST_PROBE_ROUNDS, math.ceil(self.runs / LEAST_CALLS))
        session = measure_together({"network": run}, reference=prepared.reference, rounds=rounds)
        metrics: tuple[Metric, ...] = (_metric(session, prepared),)
        if prepared.settings.device == "cuda":
            metrics += (_memory(run, held, prepared),)
        return metrics

    def _settings(self, device: DeviceKind) -> DeviceSettings:
        return DeviceSettings(
            device=device,
            batch=self.batch,
            threads=self.threads,
            precision=self.precision,
            channels_last=self.channels_last,
        )

    @property
    def _settings_text(self) -> str:
        text = self._settings("cpu" if self.device == "auto" else self.device).text
        return text.replace("cpu", "auto", 1) if self.device == "auto" else text


def _make_probe(
    device: ProbeDevice,
    batch: int,
    threads: int,
    runs: int,
    precision: LatencyPrecision,
    channels_last: bool,
    reference_ms: float | None,
) -> LatencyProbe:
    return LatencyProbe(
        device=device,
        batch=batch,
        threads=threads,
        runs=runs,
        precision=precision,
        channels_last=channels_last,
        reference_ms=reference_ms,
    )


def _metric(session: Session, prepared: _Prepared) -> Metric:
    """The latency at the speed that the reference is stated at."""
    timing = session.timings["network"]
    factor = prepared.reference_ms / session.reference_median_ms
    environment = (
        f"{prepared.device_name}, {prepared.settings.text}, n {timing.n} of {timing.calls} passes, quartiles "
        f"{timing.q1_ms * factor:.3g} to {timing.q3_ms * factor:.3g} ms, halves differ by "
        f"{100 * timing.repeat_error:.1f} %, at the speed at which the reference workload takes "
        f"{prepared.reference_ms:.4g} ms (now {session.reference_median_ms:.4g} ms)"
    )
    return Metric(name="latency_ms", value=timing.median_ms * factor, unit="ms", environment=environment)


def _memory(run: Pass, held_before: int, prepared: _Prepared) -> Metric:
    """Peak of the allocator in one pass: weights, images and activations, above what was held before."""
    torch.cuda.reset_peak_memory_stats()
    run()
    return Metric(
        name="inference_memory_bytes",
        value=float(torch.cuda.max_memory_allocated() - held_before),
        unit="bytes",
        environment=f"{prepared.device_name}, {prepared.settings.text}, peak of the CUDA allocator",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyResult:
    """Time of one forward pass in eval mode.

    Attributes:
        median_ms: Median over the samples.
        q1_ms: First quartile.
        q3_ms: Third quartile.
        samples_ms: Every sample in order, the drift of the clock divided out.
        environment: Device, batch, threads and precision in words.
    """

    median_ms: float
    q1_ms: float
    q3_ms: float
    samples_ms: tuple[float, ...]
    environment: str

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.samples_ms)


def measure_latency(
    model: nn.Module | Network,
    *,
    input_shape: tuple[int, int, int] | None = None,
    device: str | torch.device = "auto",
    batch: int = 1,
    threads: int = 1,
    runs: int = 50,
) -> LatencyResult:
    """Times a copy of the model once its times have settled, in turns with a reference workload.

    The number of threads is put back afterwards. To rank several networks, time them in one session
    (`measure_together`, or `nas measure A B C`): a session divides out the drift within itself only.

    Args:
        model: A module, or a network to build.
        input_shape: (channels, height, width) of one image; needed for a module only.
        device: `auto`, or where `DeviceSettings` says.
        batch: Images a pass.
        threads: Threads of the CPU.
        runs: Samples; each is the median of a few passes.

    Raises:
        LatencyError: The device is not there, or the model cannot run on it.
        ValueError: A count is below 1, or the shape of a module's input is missing.
    """
    if min(batch, threads, runs) < 1:
        raise ValueError(f"batch, threads and runs must be at least 1, but got {batch}, {threads} and {runs}")
    if not isinstance(model, Network) and input_shape is None:
        raise ValueError(
            "the latency of a module needs the input_shape=(channels, height, width) of an image"
        )
    name = device.type if isinstance(device, torch.device) else device
    settings = DeviceSettings(device=choose_latency_device(name), batch=batch, threads=threads)
    run = prepare_pass(model, settings, input_shape=input_shape)
    session = measure_together({"model": run}, reference=prepare_reference(settings), rounds=runs)
    timing = session.timings["model"]
    words = settings.text.partition(", ")[2]
    return LatencyResult(
        median_ms=timing.median_ms,
        q1_ms=timing.q1_ms,
        q3_ms=timing.q3_ms,
        samples_ms=timing.normalised_ms,
        environment=f"{settings.device} {describe_environment(settings).device_name}, {words}",
    )
