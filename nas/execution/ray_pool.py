"""Workers on a Ray cluster that come and go, and the jobs that wait for whichever of them is up."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from nas.errors import ExecutorError
from nas.execution.progress_board import ProgressBoard
from nas.execution.ray_cluster import FETCH_SECONDS
from nas.execution.ray_prober import RayProber
from nas.execution.ray_slot import Limits, Slot
from nas.trial import Cause, Job, Progress, Result, Status, Tell

LONGEST_PAUSE_SECONDS = 300.0
"""A worker that cannot be had is asked for again after 1, 2, 4 seconds and so on, up to this pause."""

ALIVE_SECONDS = 1.0
"""A worker that has just given an answer is not called before its next job: a call takes a millisecond."""

ANSWER_SECONDS = 0.1
"""An idle worker that is alive answers sooner, mostly in a millisecond."""

FREE_ALONE = 0.5
"""A candidate that runs out of memory alone, on a node with this share free when it began, is too large."""

FAILURES = 5
"""When every worker has failed so often in a row before its job began, continuing is pointless."""


class WorkerPool:
    """Gives each job to an idle worker, and replaces workers that die.

    A job waits until a worker is up, and belongs to none before it has begun there: one whose worker turns
    out to be dead goes to another, and no attempt is counted. A worker that cannot be had is asked for again
    with growing pauses, and taken when it comes; until then the others do all the work.

    Where memory runs out, Ray or the kernel ends one of the workers on that node, which says nothing of its
    candidate: that is tried again alone on a node, and infeasible where it runs out of memory there.

    Args:
        ray: The module, connected.
        spawn: Starts a worker; returns its handle and the reference to its greeting.
        size: Workers.
        limits: How long they may take.
        tell: Receives progress and events.
        prober: Measures candidates elsewhere.
        kills_on: Counts the processes that a node's kernel has ended because memory ran out; None where the
            node is gone.
        alone: Trials that are to run alone on a node.
        clock: Seconds.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        ray: Any,
        spawn: Callable[[], tuple[Any, Any]],
        *,
        size: int,
        limits: Limits,
        tell: Tell,
        prober: RayProber | None = None,
        kills_on: Callable[[str], int | None] = lambda _: 0,
        alone: set[int] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ray = ray
        self._spawn = spawn
        self._limits = limits
        self._tell = tell
        self._prober = prober
        self._kills_on = kills_on
        self._alone = set[int]() if alone is None else alone
        self._clock = clock
        self._sleep = sleep
        self._waiting: list[tuple[Job, bytes | None]] = []
        self._told: set[str] = set()
        self._problem = ""
        self._is_short = False
        self._has_recycled = False
        self.board: ProgressBoard | None = None
        self.slots = [Slot() for _ in range(size)]
        for slot in self.slots:
            self.start(slot)

    @property
    def available(self) -> int:
        """Workers that are up or about to be; at least one, so that there is always a job that waits."""
        return max(1, sum(not slot.is_parked for slot in self.slots))

    @property
    def jobs(self) -> list[Job]:
        """Jobs that were submitted and have no result."""
        return [job for job, _ in (*(slot.job for slot in self.slots if slot.job), *self._waiting)]

    def submit(self, job: Job, weights: bytes | None) -> None:
        """Takes a job, and begins it where an idle worker answers at once; else `wait` does."""
        self._waiting.append((job, weights))
        self._tend()
        self._hand_out()
        if called := [slot.called for slot in self.slots if slot.called is not None]:
            self._ray.wait(called, num_returns=len(called), timeout=ANSWER_SECONDS)
            self._tend()

    def wait(self, timeout_seconds: float) -> list[Result]:
        """Returns finished, lost and expired jobs, at the latest after the timeout.

        Raises:
            ExecutorError: No worker can be prepared.
        """
        until = self._clock() + timeout_seconds
        while self.jobs:
            self._tend()
            self._hand_out()
            results = self._ended()
            left = until - self._clock()
            if results or left <= 0:
                if self.board is not None and not results:
                    self.board.look(slot.job[0] for slot in self.slots if slot.job)
                return results
            self._doze(left)
        return []

    def weights(self, job: Job) -> Any:
        """Reference to the weights of a job just returned; None when its worker is gone."""
        slot = next((slot for slot in self.slots if slot.last_job == job), None)
        return None if slot is None or slot.actor is None else slot.actor.weights.remote(job)

    def start(self, slot: Slot) -> None:
        """Puts a new worker into a slot, in place of the one that may be there."""
        self._end(slot)
        slot.actor, slot.greeting = self._spawn()
        slot.since = self._clock()

    def take_back_jobs(self) -> tuple[list[Job], list[tuple[Job, bytes | None]]]:
        """Takes all jobs away without a word to Ray: those that have begun, and those that have not."""
        begun = [slot.job[0] for slot in self.slots if slot.job and slot.answer is not None]
        for slot in self.slots:
            if slot.answer is None:
                self._take_back(slot)
            slot.give_up_job()
        waiting, self._waiting = self._waiting, []
        return begun, waiting

    def close(self) -> None:
        """Ends all workers; their jobs are forgotten."""
        self._waiting.clear()
        for slot in self.slots:
            self._end(slot)

    def _end(self, slot: Slot) -> None:
        actor, slot.actor, slot.greeting = slot.actor, None, None
        slot.is_ready, slot.last_job, slot.jobs_done, slot.resumes_at = False, None, 0, math.inf
        slot.alive_at = -math.inf
        slot.give_up_job()
        if actor is not None:
            self._ray.kill(actor)

    def _tend(self) -> None:
        """Takes in workers that are up, begins jobs, and starts anew what is late or whose pause is over."""
        there = self._there(one for slot in self.slots for one in (slot.greeting, slot.called))
        now = self._clock()
        for slot in self.slots:
            if slot.greeting in there:
                self.greet(slot)
            elif slot.called in there:
                self._answer(slot)
            elif now >= self._due(slot) and slot.answer is None:
                self._start_anew(slot)
        self._say_who_is_missing()
        if self._prober is not None and self._prober.missing_seconds > self._limits.start_seconds:
            self._say_once("probe_missing", self._prober.missing)
        if all(slot.failures >= FAILURES for slot in self.slots):
            raise ExecutorError(
                f"every worker failed {FAILURES} times before its job began, the last with: "
                f"{self._problem}; look at the machines, then start again to continue"
            )

    def _say_who_is_missing(self) -> None:
        """Says once that workers have no place, and once that they are back."""
        late, count = sum(slot.late > 0 for slot in self.slots), len(self.slots)
        if bool(late) is self._is_short:
            return
        self._is_short = bool(late)
        text = (
            f"{late} of {count} workers have no place at present: the search goes on with the others, and "
            "takes nodes as they come"
            if late
            else f"all {count} workers have a place again"
        )
        self._tell(Progress(text=text, event="workers_missing" if late else "workers_back"))

    def _due(self, slot: Slot) -> float:
        """When something else is to be done about a slot, whatever it answers until then."""
        if slot.actor is None:
            return slot.resumes_at
        if slot.is_ready and slot.job is None:
            return math.inf
        if slot.answer is not None:
            limit = self._limits.trial_seconds
            return math.inf if limit is None else slot.since + limit
        return slot.since + self._limits.start_seconds * (1 << min(slot.late, 10))

    def _start_anew(self, slot: Slot) -> None:
        if slot.actor is not None:
            slot.late += 1
        self._take_back(slot)
        self.start(slot)

    def _take_back(self, slot: Slot) -> None:
        """Lets a job that has not begun wait for another worker."""
        if slot.job is not None:
            self._waiting.insert(0, slot.job)
            slot.give_up_job()

    def greet(self, slot: Slot) -> None:
        """Takes in a worker that is prepared, or parks its slot."""
        try:
            prepared = self._ray.get(slot.greeting, timeout=FETCH_SECONDS)
        except self._ray.exceptions.RayError as error:
            self._park(slot, f"a worker died while it was prepared ({type(error).__name__})")
            return
        if prepared.problem:
            self._park(slot, prepared.problem)
            return
        slot.is_ready, slot.greeting, slot.node, slot.late = True, None, prepared.node, 0

    def _park(self, slot: Slot, why: str) -> None:
        self._take_back(slot)
        self._end(slot)
        slot.failures += 1
        slot.resumes_at = self._clock() + min(2.0 ** (slot.failures - 1), LONGEST_PAUSE_SECONDS)
        self._problem = why.splitlines()[0]
        text = f"{self._problem}; it is tried again, and the search goes on with the others"
        self._say_once("worker_failed", text)

    def _say_once(self, kind: str, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._tell(Progress(text=text, event=kind))

    def _say_recycled(self, worn: str) -> None:
        """Says once that workers are replaced."""
        if not self._has_recycled:
            self._has_recycled = True
            text = f"a worker {worn} and is replaced by a fresh one, as others will be: nothing is lost"
            self._tell(Progress(text=text, event="worker_recycled"))

    def _hand_out(self) -> None:
        """Calls idle workers for waiting jobs, in order; those that run alone come first."""
        for waiting in sorted(self._waiting, key=lambda pair: pair[0].trial not in self._alone):
            slot = self._idle_slot(waiting[0])
            if slot is not None:
                self._waiting.remove(waiting)
                slot.job, slot.since, slot.last_job = waiting, self._clock(), None
                if self._clock() - slot.alive_at < ALIVE_SECONDS and waiting[0].trial not in self._alone:
                    self._begin(slot)
                else:
                    slot.called = slot.actor.begin.remote()

    def _idle_slot(self, job: Job) -> Slot | None:
        """An idle worker for a job; those that have run many, or have grown, are replaced."""
        busy = {slot.node for slot in self.slots if slot.job is not None}
        shut = busy if job.trial in self._alone else self._quiet_nodes()
        for slot in self.slots:
            if slot.is_ready and slot.job is None and slot.node not in shut:
                if not (worn := slot.worn(self._limits)):
                    return slot
                self._say_recycled(worn)
                self.start(slot)
        return None

    def _quiet_nodes(self) -> set[str]:
        """The node on which a job runs alone, or will: nothing else begins there."""
        if not self._alone:
            return set()
        quiet = {slot.node for slot in self.slots if slot.job and slot.job[0].trial in self._alone}
        if not quiet and any(job.trial in self._alone for job, _ in self._waiting):
            busy = Counter({slot.node: 0 for slot in self.slots if slot.is_ready})
            busy.update(slot.node for slot in self.slots if slot.job is not None)
            quiet = set(sorted(busy, key=lambda node: (busy[node], node))[:1])
        return quiet

    def _answer(self, slot: Slot) -> None:
        """Takes the answer of a worker that was called, and begins its job."""
        try:
            slot.memory = self._ray.get(slot.called, timeout=FETCH_SECONDS)
        except self._ray.exceptions.RayError as error:
            self._park(slot, f"a worker died while it had nothing to do ({type(error).__name__})")
            return
        self._begin(slot)

    def _begin(self, slot: Slot) -> None:
        assert slot.job is not None
        job, weights = slot.job
        slot.called, slot.since = None, self._clock()
        others = [one for one in self.slots if one is not slot and one.answer and one.node == slot.node]
        for one in others:
            one.is_alone = False
        slot.is_alone = not others
        slot.answer = slot.actor.work.remote(job, weights, None if self.board is None else self.board.actor)
        slot.measured = None if self._prober is None else self._prober.measure(job)
        self._tell(Progress(text="begins", trial=job.trial))

    def _ended(self) -> list[Result]:
        busy = [slot for slot in self.slots if slot.answer is not None]
        there = self._there(answer for slot in busy for answer in slot.awaited)
        results = []
        for slot in busy:
            if there.issuperset(slot.awaited):
                results += self._collect(slot)
            elif self._clock() >= self._due(slot):
                results.append(self._expire(slot))
        return results

    def _there(self, references: Iterable[Any]) -> set[Any]:
        """Those that are answered."""
        asked = [one for one in references if one is not None]
        return set(self._ray.wait(asked, num_returns=len(asked), timeout=0)[0]) if asked else set()

    def _doze(self, seconds: float) -> None:
        """Waits until something is answered or due."""
        now = self._clock()
        seconds = max(0.0, min(seconds, *(self._due(slot) - now for slot in self.slots)))
        asked = [answer for slot in self.slots for answer in slot.awaited]
        there = self._there(asked)
        if any(slot.awaited and there.issuperset(slot.awaited) for slot in self.slots):
            return  # it came just now
        if open_ := [answer for answer in asked if answer not in there]:
            self._ray.wait(open_, num_returns=1, timeout=seconds)
        else:
            self._sleep(seconds)

    def _collect(self, slot: Slot) -> list[Result]:
        """Fetches an answer; whatever Ray raises means that the worker is gone."""
        assert slot.job is not None
        slot.failures = 0
        try:
            result, memory = self._ray.get(slot.answer, timeout=FETCH_SECONDS)
        except self._ray.exceptions.RayError as error:
            return [self._lose(slot, error)]
        if result.status is Status.LOST:  # the worker says that it can run nothing more
            return [self._give_up(slot, Status.LOST, Cause.WORKER_DIED, result.message, result.log)]
        if self._prober is not None:
            again = self._prober.again(slot.job[0], slot.measured)
            if again is not None:
                slot.measured = again
                return []
            result = self._prober.add_to(result, slot.measured)
        self._alone.discard(slot.job[0].trial)
        slot.alive_at = self._clock()
        slot.end_job(memory)
        return [result]

    def _lose(self, slot: Slot, error: Exception) -> Result:
        """Tells a worker that was ended as memory ran out from one that died of something else."""
        assert slot.job is not None
        is_rays = isinstance(error, self._ray.exceptions.OutOfMemoryError)
        if not is_rays and (self._kills_on(slot.node) or 0) <= slot.memory.kills:
            text = f"the worker died ({type(error).__name__})"
            return self._give_up(slot, Status.LOST, Cause.WORKER_DIED, text, str(error))
        who = "Ray" if is_rays else "the kernel"
        if slot.is_alone and slot.memory.free >= FREE_ALONE:
            self._alone.discard(slot.job[0].trial)
            text = (
                f"it needs more memory than there is: {who} ended its worker, alone on the node with "
                f"{slot.memory.free:.0%} of the memory free"
            )
            return self._give_up(slot, Status.INFEASIBLE, Cause.OUT_OF_MEMORY, text, str(error))
        self._alone.add(slot.job[0].trial)
        text = f"memory that others used too ran out, and {who} ended the worker: it is tried again alone"
        return self._give_up(slot, Status.LOST, Cause.OUT_OF_MEMORY, text, str(error))

    def _expire(self, slot: Slot) -> Result:
        if self._prober is not None and slot.answer in self._there([slot.answer]):
            self._prober.replace()  # what it hangs on would hold up all others
        if self._kills_on(slot.node) is None:
            text = "its node was gone when its time was up"
            return self._give_up(slot, Status.LOST, Cause.WORKER_DIED, text, "")
        text = f"it took longer than the limit of {self._limits.trial_seconds:g} s"
        return self._give_up(slot, Status.INFEASIBLE, Cause.TIMEOUT, text, "")

    def _give_up(self, slot: Slot, status: Status, cause: Cause, message: str, log: str) -> Result:
        """Ends a worker together with its job, and puts a new one in its place."""
        assert slot.job is not None
        job, seconds = slot.job[0], self._clock() - slot.since
        if self._prober is not None:
            self._prober.forget(job)
        self.start(slot)
        return Result(job=job, status=status, cause=cause, message=message, log=log, seconds=seconds)
