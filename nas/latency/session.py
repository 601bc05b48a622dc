"""Times many passes in turns, so that a clock that drifts can neither reorder nor scale them."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from nas.errors import LatencyError
from nas.latency.passes import Pass
from nas.statistics import kendall_tau

Clock = Callable[[], float]
Visit = tuple[float, float]
"""The moment of a visit, and the median seconds of a call in it."""


STABLE_WITHIN = 0.05
WARMUP_CHUNK = 5
MOST_WARMUP_CHUNKS = 20
MOST_WARMUP_SECONDS = 10.0
LEAST_CALLS, MOST_CALLS = 3, 1000
VISIT_SECONDS = 0.005
REFERENCE_VISIT_SECONDS = 0.010
REFERENCE_EVERY_SECONDS = 0.05
REFERENCE_EVERY_VISITS = 4
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What one pass took in a session.

    A visit's sample is the median of its calls, not their minimum: the reference is read in the same way, so
    that both follow the clock of the moment, where a minimum follows the fastest moment of each.

    Attributes:
        name: Of the pass.
        samples_ms: As the clock had it, one sample a round, in order.
        normalised_ms: The same at the session's median speed of the reference; equal where there is none.
        calls: Calls in each visit.
        is_settled: Whether the warm-up ended with chunks that agreed within 5 %.

    Raises:
        LatencyError: There is no sample, or one is no time.
    """

    name: str
    samples_ms: tuple[float, ...]
    normalised_ms: tuple[float, ...]
    calls: int
    is_settled: bool

    def __post_init__(self) -> None:
        for name, samples in (("samples_ms", self.samples_ms), ("normalised_ms", self.normalised_ms)):
            if not samples or not all(math.isfinite(sample) and sample >= 0 for sample in samples):
                raise LatencyError(
                    f"`{name}` must hold finite times of at least 0, but is {samples}", field=name
                )

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.samples_ms)

    @property
    def median_ms(self) -> float:
        """Median of the normalised samples."""
        return statistics.median(self.normalised_ms)

    @property
    def q1_ms(self) -> float:
        """First quartile of the normalised samples."""
        return float(np.quantile(self.normalised_ms, 0.25))

    @property
    def q3_ms(self) -> float:
        """Third quartile of the normalised samples."""
        return float(np.quantile(self.normalised_ms, 0.75))

    @property
    def halves_ms(self) -> tuple[float, float] | None:
        """Medians of the even and the odd rounds; None where there is one round only."""
        if self.n < 2:
            return None
        return statistics.median(self.normalised_ms[::2]), statistics.median(self.normalised_ms[1::2])

    @property
    def repeat_error(self) -> float | None:
        """How far the two halves disagree, as a share of their mean; None where there is one round only."""
        return None if self.halves_ms is None else half_difference(*self.halves_ms)


def half_difference(first: float, second: float) -> float:
    """How far two medians of the same thing disagree, as a share of their mean."""
    return abs(first - second) / ((first + second) / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Which of two passes of one measurement session is faster, and whether that can be said.

    Attributes:
        first: Name of one.
        second: Name of the other.
        ratio: Median over the rounds of second / first.
        low: Lower end of the 95 % interval of that median; 0 where there are too few rounds for one.
        high: Its upper end; infinite likewise.
        is_safe: Whether their order can be relied on: the interval leaves out 1, and the difference exceeds
            what the session's two halves disagree by.
    """

    first: str
    second: str
    ratio: float
    low: float
    high: float
    is_safe: bool

    @property
    def text(self) -> str:
        """The comparison in words."""
        interval = f"95 % interval {self.low:.3f} to {self.high:.3f}"
        if math.isinf(self.high):
            interval = "too few rounds for an interval"
        spread = f"ratio {self.ratio:.3f}, {interval}"
        if not self.is_safe:
            return f"{self.first} and {self.second} do not differ ({spread})"
        faster, slower = (self.first, self.second) if self.ratio > 1 else (self.second, self.first)
        return f"{faster} is faster than {slower} ({spread})"


def compare_timings(first: Timing, second: Timing, *, repeat_error: float | None) -> Comparison:
    """Compares two passes of one session round by round, which leaves out whatever both of a round share.

    Args:
        first: One.
        second: The other.
        repeat_error: What the session's two halves disagree by; None where it had one round only.
    """
    from scipy.stats import quantile_test

    ratios = [b / a for a, b in zip(first.normalised_ms, second.normalised_ms, strict=True)]
    ratio = statistics.median(ratios)
    # The sign test's interval: it holds whatever the distribution is, and is nan below 6 rounds.
    ends = quantile_test(ratios, q=1, p=0.5).confidence_interval(CONFIDENCE)
    low, high = (0.0, math.inf) if math.isnan(ends.low + ends.high) else (float(ends.low), float(ends.high))
    apart = repeat_error is not None and abs(ratio - 1) > repeat_error
    return Comparison(
        first=first.name,
        second=second.name,
        ratio=ratio,
        low=low,
        high=high,
        is_safe=apart and (low > 1 or high < 1),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Passes timed in turns, beside a fixed reference.

    Attributes:
        timings: By name, in the order given.
        rounds: How often each was visited.
        reference_ms: Every reading of the reference, in order; empty without one.
        seconds: What the session took, warm-up included.
    """

    timings: Mapping[str, Timing]
    rounds: int
    reference_ms: tuple[float, ...] = field(repr=False)
    seconds: float

    @property
    def reference_median_ms(self) -> float | None:
        """Median reading of the reference; None without one."""
        return statistics.median(self.reference_ms) if self.reference_ms else None

    @property
    def drift(self) -> float | None:
        """How far the clock wandered: the reference's middle 90 % over its median; None without one."""
        if not self.reference_ms:
            return None
        low, high = np.quantile(_medians_of_three(self.reference_ms), (0.05, 0.95))
        return float(high - low) / statistics.median(self.reference_ms)

    @property
    def repeat_error(self) -> float | None:
        """How far the even and odd rounds disagree: median over the passes; None with one round only."""
        errors = [timing.repeat_error for timing in self.timings.values() if timing.repeat_error is not None]
        return statistics.median(errors) if errors else None

    @property
    def repeat_tau(self) -> float | None:
        """Kendall's tau-b of the orders in even and odd rounds; None where there is no order."""
        halves = [timing.halves_ms for timing in self.timings.values() if timing.halves_ms is not None]
        return order_agreement(*zip(*halves, strict=True)) if halves else None

    def compare(self, first: str, second: str) -> Comparison:
        """Compares two passes by their names, as `compare_timings` does."""
        one, other = self.timings[first], self.timings[second]
        return compare_timings(one, other, repeat_error=self.repeat_error)


def order_agreement(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's tau-b between two orders of the same things; None where one of them is no order."""
    if len(first) < 2:
        return None
    tau = kendall_tau(first, second)
    return None if math.isnan(tau) else tau


def measure_together(
    passes: Mapping[str, Pass],
    *,
    reference: Pass | None,
    rounds: int = 20,
    seed: int = 0,
    clock: Clock = time.perf_counter,
    on_round: Callable[[int, int], None] | None = None,
) -> Session:
    """Times every pass once a round, each round in a new random order, and divides the clock's drift out.

    Each pass is first warmed up until the medians of two chunks of 5 calls agree within 5 % (at most 100
    calls or 10 s). A visit makes one untimed call, which brings the pass's own data into the caches, then as
    many timed ones as take 5 ms, at least 3. The reference is read (for 10 ms) before the first visit, after
    the last, and before a visit where 4 visits or 50 ms have gone by. A sample is its raw time multiplied by
    the session's median reading over the reading at its moment: interpolated, each reading the median of
    three neighbours, so that one disturbed reading does no harm.

    Args:
        passes: What to time, by name.
        reference: A workload of the same device (`prepare_reference`), or None to leave raw times.
        rounds: Samples of each; two halves need 2, an order that can be relied on 6 and better 20.
        seed: Of the orders.
        clock: Seconds.
        on_round: Called with (rounds done, rounds) after each.

    Raises:
        LatencyError: There is nothing to time, or no round.
    """
    if not passes or rounds < 1:
        raise LatencyError(
            f"a session needs a pass and a round, but got {len(passes)} passes and rounds={rounds}",
            field="rounds" if passes else "passes",
        )
    started = clock()
    with _without_collector():
        visitors = {name: _warm_up(run, clock) for name, run in passes.items()}
        track = _Reference(reference, clock)
        rng = np.random.default_rng(seed)
        names = list(passes)
        visits: dict[str, list[Visit]] = {name: [] for name in names}
        for done in range(1, rounds + 1):
            for index in rng.permutation(len(names)):
                track.read_if_due()
                visits[names[index]].append(visitors[names[index]].visit(clock))
            if on_round is not None:
                on_round(done, rounds)
        track.read()
    return Session(
        timings={name: _timing(name, visits[name], visitors[name], track.readings) for name in names},
        rounds=rounds,
        reference_ms=tuple(1000 * seconds for _, seconds in track.readings),
        seconds=clock() - started,
    )


@dataclass(frozen=True, slots=True)
class _Visitor:
    """A pass that is warm, with the number of calls that a visit makes."""

    run: Pass
    calls: int
    is_settled: bool

    def visit(self, clock: Clock) -> Visit:
        """Makes the calls of a visit."""
        self.run()
        began = clock()
        seconds = statistics.median(_timed(self.run, clock) for _ in range(self.calls))
        return (began + clock()) / 2, seconds


def _timing(name: str, visits: Sequence[Visit], visitor: _Visitor, readings: Sequence[Visit]) -> Timing:
    moments, seconds = np.array(visits).T
    factors = np.ones(len(moments))
    if readings:
        read_at, read = np.array(readings).T
        factors = np.median(read) / np.interp(moments, read_at, _medians_of_three(read))
    return Timing(
        name=name,
        samples_ms=tuple((1000 * seconds).tolist()),
        normalised_ms=tuple((1000 * seconds * factors).tolist()),
        calls=visitor.calls,
        is_settled=visitor.is_settled,
    )


def _timed(run: Pass, clock: Clock) -> float:
    started = clock()
    run()
    return clock() - started


def _warm_up(run: Pass, clock: Clock, visit_seconds: float = VISIT_SECONDS) -> _Visitor:
    """Calls until two chunks agree, and chooses how many calls a visit makes."""
    started, before = clock(), math.nan  # nan agrees with nothing: the first chunk never settles it
    is_settled = False
    for chunk in range(MOST_WARMUP_CHUNKS):
        now = statistics.median(_timed(run, clock) for _ in range(WARMUP_CHUNK))
        is_settled = abs(now - before) <= STABLE_WITHIN * before
        before = now
        if is_settled or (chunk and clock() - started > MOST_WARMUP_SECONDS):
            break
    calls = math.ceil(visit_seconds / before) if before > 0 else MOST_CALLS
    return _Visitor(run, min(MOST_CALLS, max(LEAST_CALLS, calls)), is_settled)


class _Reference:
    """Reads a reference workload now and then; without one there are no readings."""

    def __init__(self, run: Pass | None, clock: Clock) -> None:
        self._visitor = _warm_up(run, clock, REFERENCE_VISIT_SECONDS) if run is not None else None
        self._clock = clock
        self._visits_since = 0
        self.readings: list[Visit] = []

    def read_if_due(self) -> None:
        """Reads before the first visit, and after 4 visits or 50 ms."""
        is_due = (
            not self.readings
            or self._visits_since >= REFERENCE_EVERY_VISITS
            or self._clock() - self.readings[-1][0] >= REFERENCE_EVERY_SECONDS
        )
        if is_due:
            self.read()
        self._visits_since += 1

    def read(self) -> None:
        """Reads the reference once."""
        self._visits_since = 0
        if self._visitor is not None:
            self.readings.append(self._visitor.visit(self._clock))


def _medians_of_three(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Replaces each value by the median of itself and its neighbours; the ends stay."""
    array = np.asarray(values, np.float64)
    inner = np.median([array[:-2], array[1:-1], array[2:]], axis=0) if len(array) > 2 else array[1:-1]
    return np.concatenate([array[:1], inner, array[1:][-1:]])


@contextmanager
def _without_collector() -> Iterator[None]:
    """Keeps Python's cycle collector from running within a timed call."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
