"""A cluster on a simulated clock: workers of different speed that start, fail and come back, at no cost.

The search is the real one: its loop, controller and journal. Only the workers' time is simulated, while the
driver's own work counts with the CPU time that it takes: a driver that is too slow leaves workers idle.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from nas.execution.worker import Worker
from nas.protocols import Decodes, Evaluator, Probe
from nas.trial import Cause, Job, Result, Status, Tell

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class SimulatedClock:
    """Moves with this process's own work, and jumps where the driver only waits.

    Attributes:
        busy_seconds: The driver's own work so far.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._looked_at = time.process_time()
        self.busy_seconds = 0.0

    def monotonic(self) -> float:
        """Simulated seconds since the beginning."""
        now = time.process_time()
        worked, self._looked_at = now - self._looked_at, now
        self.busy_seconds += worked
        self._seconds += worked
        return self._seconds

    def now(self) -> datetime:
        """The simulated date and time in UTC."""
        return BEGIN + timedelta(seconds=self.monotonic())

    def advance(self, seconds: float) -> None:
        """Lets simulated time pass in which the driver works on something that is only simulated."""
        self.monotonic()
        self.busy_seconds += seconds
        self._seconds += seconds

    def skip(self) -> None:
        """Leaves out the work since the clock was last looked at: it is a worker's and not the driver's."""
        self._looked_at = time.process_time()

    def jump(self, moment: float) -> None:
        """Lets time pass in which the driver waits; never backwards."""
        self._seconds = max(self.monotonic(), moment)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlan:
    """A cluster to simulate.

    Attributes:
        workers: How many.
        trial_seconds: Median length of a trial on a worker of median speed.
        spread: Standard deviation of the logarithm of a trial's length.
        slowest: How much slower the slowest worker is than the fastest; speeds between are log-uniform.
        start_seconds: A worker is ready after up to twice so long, at first and after a failure.
        failures_per_hour: Of each worker, while it runs.
        seed: Of all of this.
    """

    workers: int = 1000
    trial_seconds: float = 60.0
    spread: float = 0.3
    slowest: float = 10.0
    start_seconds: float = 60.0
    failures_per_hour: float = 0.1
    seed: int = 0


class SimulatedCluster:
    """An executor of simulated workers; candidates are evaluated at once by a cheap evaluator.

    Args:
        plan: The cluster.
        clock: The clock of the search.

    Attributes:
        busy_seconds: Time of workers with a job, whatever became of it.
        idle_seconds: Time of ready workers that waited for a job.
        stale: Of each result, how many others came between its job's submission and itself.
    """

    is_in_process = False

    def __init__(self, plan: ClusterPlan, clock: SimulatedClock) -> None:
        self._plan = plan
        self._clock = clock
        self._rng = np.random.default_rng(plan.seed)
        self._worker: Worker | None = None
        self._speeds = plan.slowest ** self._rng.uniform(-0.5, 0.5, plan.workers)
        self._idle: list[tuple[float, int]] = []  # since when, which worker
        self._running: list[tuple[float, int, float, Job, bool]] = []
        self._results = 0
        self._at_submission: dict[int, int] = {}
        self.busy_seconds = self.idle_seconds = 0.0
        self.stale: list[int] = []

    @property
    def slots(self) -> int:
        """The workers."""
        return self._plan.workers

    def check(self, space: Decodes, evaluator: Evaluator | None, probe: Probe | None = None) -> None:
        """Everything can be simulated."""

    def watch(self, tell: Tell) -> None:
        """Nothing is told."""

    def start(self, space: Decodes, evaluator: Evaluator) -> None:
        """Starts the workers, each of which is ready at a time of its own."""
        self._worker = Worker(space, evaluator)
        now = self._clock.monotonic()
        for number in range(self._plan.workers):
            heapq.heappush(self._idle, (now + self._start_up(), number))

    def _start_up(self) -> float:
        return float(self._rng.uniform(0, 2 * self._plan.start_seconds))

    def submit(self, job: Job, weights: bytes | None = None) -> None:  # noqa: ARG002
        """Gives a job to the worker that has been ready for the longest time."""
        plan, now = self._plan, self._clock.monotonic()
        ready, worker = heapq.heappop(self._idle)
        begins = max(ready, now)
        self.idle_seconds += begins - ready
        needed = plan.trial_seconds * math.exp(plan.spread * self._rng.standard_normal())
        needed *= self._speeds[worker]
        lives = self._rng.exponential(3600 / plan.failures_per_hour) if plan.failures_per_hour else math.inf
        self._at_submission[job.trial] = self._results
        row = (begins + min(needed, lives), worker, begins, job, lives < needed)
        heapq.heappush(self._running, row)

    def wait(self, timeout_seconds: float) -> list[Result]:
        """Goes to the next moment at which a job ends, and returns all that have ended by then."""
        if not self._running:
            return []
        moment = self._running[0][0]
        now = self._clock.monotonic()
        if moment > now + timeout_seconds:
            self._clock.jump(now + timeout_seconds)
            return []
        self._clock.jump(moment)
        found = []
        while self._running and self._running[0][0] <= self._clock.monotonic():
            found.append(self._end(*heapq.heappop(self._running)))
        return found

    def _end(self, moment: float, worker: int, begun: float, job: Job, has_died: bool) -> Result:
        self.busy_seconds += moment - begun
        self.stale.append(self._results - self._at_submission.pop(job.trial))
        self._results += 1
        heapq.heappush(self._idle, (moment + (self._start_up() if has_died else 0.0), worker))
        node = f"worker {worker}"
        if has_died:
            message = "the simulated worker died"
            return Result(job=job, status=Status.LOST, cause=Cause.WORKER_DIED, message=message, node=node)
        assert self._worker is not None
        self._clock.monotonic()
        result = self._worker.run(job)
        self._clock.skip()
        return Result(
            job=job, status=result.status, metrics=result.metrics, node=node, seconds=moment - begun
        )

    def weights(self, job: Job) -> bytes | None:  # noqa: ARG002
        """There are none."""
        return None

    def close(self) -> None:
        """Nothing was started."""

    @property
    def utilisation(self) -> float:
        """Share of the time of ready workers in which they had a job, as long as there were jobs to give."""
        return self.busy_seconds / (self.busy_seconds + self.idle_seconds)


class Slow:
    """A controller that takes longer, on the simulated clock.

    Args:
        controller: Who chooses.
        clock: The clock of the search.
        seconds: How much longer a call of `propose` takes, for however many.

    Attributes:
        sizes: For how many candidates each call asked.
    """

    def __init__(self, controller: object, clock: SimulatedClock, seconds: float) -> None:
        self._controller, self._clock, self._seconds = controller, clock, seconds
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._controller, name)

    def propose(self, n: int = 1) -> object:
        """Proposes, later."""
        self.sizes.append(n)
        self._clock.advance(self._seconds)
        propose: Callable[[int], object] = self._controller.propose  # type: ignore[attr-defined]
        return propose(n)
