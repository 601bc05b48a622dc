"""Measures the latency of candidates during a search, at the speed that one reference workload had."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from typing import ClassVar, Literal, cast

import torch

from nas.errors import LatencyError
from nas.latency.devices import DeviceKind, DeviceSettings, LatencyPrecision
from nas.latency.environment import describe_environment
from nas.latency.measurement import choose_latency_device
from nas.latency.passes import Pass, prepare_pass, prepare_reference
from nas.latency.session import LEAST_CALLS, Timing, measure_together
from nas.objective import Objective
from nas.trial import Cause, InfeasibleError, Metric
from nas.values import make_plain
from search_spaces import Network

ProbeDevice = Literal["auto"] | DeviceKind

DEFAULTS = DeviceSettings()
REFERENCE_ROUNDS = 25
LEAST_PROBE_ROUNDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
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
    batch: int = DEFAULTS.batch
    threads: int = DEFAULTS.threads
    runs: int = 50
    precision: LatencyPrecision = DEFAULTS.precision
    channels_last: bool = DEFAULTS.channels_last
    reference_ms: float | None = None
    measures: ClassVar[tuple[str, ...]] = ("latency_ms",)
    _prepared: list[_Prepared] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        make_plain(self)
        if self.runs < 1:
            raise LatencyError(f"`runs >= 1` must hold, but got runs={self.runs}", field="runs")
        if self.reference_ms is not None and not 0 < self.reference_ms < math.inf:
            raise LatencyError(
                f"`reference_ms > 0` must hold, but got {self.reference_ms}", field="reference_ms"
            )
        self._settings("cpu" if self.device == "auto" else self.device)

    def __reduce__(self) -> tuple[Callable[[], LatencyProbe], tuple[()]]:
        # Sent to a worker without what was prepared here: passes belong to a process.
        given = {one.name: getattr(self, one.name) for one in fields(self) if one.init}
        return partial(LatencyProbe, **given), ()

    @classmethod
    def is_needed_for(cls, objective: Objective) -> bool:
        """Whether an objective looks at what a probe measures."""
        return not set(cls.measures).isdisjoint(objective.metrics)

    @property
    def fingerprint(self) -> str:
        """Changes with every setting that latency depends on."""
        text = self._settings("cpu" if self.device == "auto" else self.device).text
        text = text.replace("cpu", "auto", 1) if self.device == "auto" else text
        return f"latency 1: {text}, runs {self.runs}"

    @property
    def is_cuda(self) -> bool:
        """Whether it measures on a GPU wherever it is put; `auto` depends on the place."""
        return self.device != "auto" and self._settings(self.device).is_cuda

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
        now_ms = cast(float, session.reference_median_ms)
        metrics: tuple[Metric, ...] = (_latency(session.timings["network"], now_ms, prepared),)
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


def _latency(timing: Timing, now_ms: float, prepared: _Prepared) -> Metric:
    """The latency at the speed that the reference is stated at."""
    factor = prepared.reference_ms / now_ms
    environment = (
        f"{prepared.device_name}, {prepared.settings.text}, n {timing.n} of {timing.calls} passes, quartiles "
        f"{timing.q1_ms * factor:.3g} to {timing.q3_ms * factor:.3g} ms, halves differ by "
        f"{100 * (timing.repeat_error or 0):.1f} %, at the speed at which the reference workload takes "
        f"{prepared.reference_ms:.4g} ms (now {now_ms:.4g} ms)"
    )
    return Metric(name="latency_ms", value=timing.median_ms * factor, environment=environment)


def _memory(run: Pass, held_before: int, prepared: _Prepared) -> Metric:
    """Peak of the allocator in one pass: weights, images and activations, above what was held before."""
    torch.cuda.reset_peak_memory_stats()
    run()
    return Metric(
        name="inference_memory_bytes",
        value=float(torch.cuda.max_memory_allocated() - held_before),
        environment=f"{prepared.device_name}, {prepared.settings.text}, peak of the CUDA allocator",
    )
