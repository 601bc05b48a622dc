"""Runs jobs on Ray: long-lived workers, their deaths, time limits and replacement."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from nas.argument_checks import real, whole
from nas.errors import ExecutorError
from nas.evaluators import Probed
from nas.execution.by_value import own_parts, send_by_value
from nas.execution.progress_board import BoardWriter, ProgressBoard
from nas.execution.ray_cluster import (
    FETCH_SECONDS,
    await_ready,
    bounded,
    check_gpus,
    check_reachable,
    limit_gpu_memory,
    problem_of,
    stored_bytes,
)
from nas.execution.ray_prober import RayProber
from nas.execution.ray_slot import Slot
from nas.execution.worker import Worker
from nas.protocols import Evaluator, HasDevice, Probe, ResolvesPrecision
from nas.trial import Cause, Job, Progress, Result, Status, Tell, WeightsError, say_nothing
from nas.version import package_fingerprint
from search_spaces import SearchSpace

JOIN_SECONDS = 60.0
"""A cluster that cannot be joined within so long is an error."""

STORE_BYTES = 160 << 20
"""Object store beside what the evaluator needs; Ray's least is 75 MiB."""


class RayExecutor:
    """Keeps one Ray actor for each slot, gives it one job at a time, and replaces it when it dies.

    The evaluator crosses once into Ray's object store, its numpy arrays without a copy in each worker, where
    they are read-only. Ray itself retries nothing: a job that dies with its worker comes back as LOST.

    Args:
        workers: Jobs at the same time.
        cpus_per_worker: CPU cores that each worker holds; Ray sets its number of threads by it.
        gpus_per_worker: GPUs that each worker holds: a whole number, or a share below 1, which is also the
            share of the GPU's memory it may use. Workers without see no GPU.
        address: A running cluster: `auto`, `host:port` or `ray://host:port`; None starts Ray on this machine.
        trial_timeout_seconds: A job that takes longer is infeasible; None is no limit.
        recycle_after: A worker is replaced by a fresh one after so many jobs.
        resources: Custom resources that each worker holds.
        probe_resource: Custom resource of the node on which the probe of a `Probed` evaluator measures, one
            candidate at a time, while its worker trains it; None measures in the worker after the training.
        probe_gpus: GPUs that the probe holds for itself there.
        modules: The user's own modules, which workers cannot import and get by value.
        start_timeout_seconds: Workers that are not up by then are an error.

    Attributes:
        is_in_process: A candidate that ends its process ends a worker, not the search.

    Raises:
        ExecutorError: A number is out of its range.
    """

    is_in_process = False

    def __init__(
        self,
        workers: int = 1,
        *,
        cpus_per_worker: float = 1.0,
        gpus_per_worker: float = 0.0,
        address: str | None = None,
        trial_timeout_seconds: float | None = None,
        recycle_after: int = 200,
        resources: Mapping[str, float] | None = None,
        probe_resource: str | None = None,
        probe_gpus: float = 0.0,
        modules: Sequence[ModuleType] = (),
        start_timeout_seconds: float = 180.0,
    ) -> None:
        self._workers = whole("workers", workers, least=1, error=ExecutorError)
        self._cpus = real("cpus_per_worker", cpus_per_worker, least=0, error=ExecutorError)
        self._gpus = real("gpus_per_worker", gpus_per_worker, least=0, error=ExecutorError)
        is_gpu_share = self._gpus <= 1 or self._gpus.is_integer()
        _require(is_gpu_share, "gpus_per_worker is a share in [0, 1] or a whole number", gpus_per_worker)
        self._address = address
        self._timeout = (
            None
            if trial_timeout_seconds is None
            else real("trial_timeout_seconds", trial_timeout_seconds, above=0, error=ExecutorError)
        )
        self._recycle_after = whole("recycle_after", recycle_after, least=1, error=ExecutorError)
        self._resources = dict(resources or {})
        self._probe_resource = probe_resource
        self._probe_gpus = real("probe_gpus", probe_gpus, least=0, error=ExecutorError)
        self._modules = tuple(modules)
        self._start_timeout = real(
            "start_timeout_seconds", start_timeout_seconds, above=0, error=ExecutorError
        )
        self._slots: list[Slot] = []
        self._ray: Any = None
        self._shared: Any = None
        self._prober: RayProber | None = None
        self._tell: Tell | None = None
        self._board: ProgressBoard | None = None
        self._owns_ray = False

    def watch(self, tell: Tell) -> None:
        """Tells of progress from the next start on, between two waits."""
        self._tell = tell

    @property
    def slots(self) -> int:
        """How many jobs run at the same time."""
        return self._workers

    def check(self, space: SearchSpace, evaluator: Evaluator | None, probe: Probe | None = None) -> None:
        """Checks that what the user made can be sent to workers; raises `ContractError` if not."""
        for what, part in own_parts(space, evaluator, probe).items():
            send_by_value(_import_ray().cloudpickle, what, part, is_here=self._address is None)

    def start(self, space: SearchSpace, evaluator: Evaluator) -> None:
        """Connects to Ray or starts it, and brings all workers up.

        Raises:
            ExecutorError: The cluster cannot be reached, has too few GPUs, lacks the probe's resource, runs
                another version of this package, or a worker cannot be prepared.
        """
        self.check(space, evaluator)
        probe = None
        if self._probe_resource is None:
            _check_alone_on_gpu(evaluator, self._gpus)
        elif isinstance(evaluator, Probed):
            probe, evaluator = evaluator.probe, evaluator.evaluator
        self._ray = _import_ray()
        for module in self._modules:
            self._ray.cloudpickle.register_pickle_by_value(module)
        try:
            self._resolve_precision(evaluator)
            if not self._ray.is_initialized():
                self._say("starting Ray" if self._address is None else f"joining {self._address}")
                self._connect(stored_bytes(self._ray, (space, evaluator)))
            check_gpus(self._ray, self._workers, self._gpus, probe_gpus=self._probe_gpus)
            self._say("giving the images to the workers")
            self._shared = self._ray.put((space, evaluator))
            if probe is not None and self._probe_resource is not None:
                self._prober = RayProber(
                    self._ray, space, probe, resource=self._probe_resource, gpus=self._probe_gpus
                )
            self._slots = [self._spawn() for _ in range(self._workers)]
            self._await_workers()
            if self._tell is not None:
                self._board = ProgressBoard(self._ray, self._tell)
        except BaseException:
            self.close()
            raise

    def submit(self, job: Job, weights: bytes | None = None) -> None:
        """Starts a job on an idle worker, from weights where there are any.

        Raises:
            ExecutorError: There is no idle worker.
        """
        index = next((i for i, slot in enumerate(self._slots) if slot.job is None), None)
        if index is None:
            raise ExecutorError(f"at most {self._workers} jobs run at the same time: wait for one to end")
        if self._slots[index].jobs_done >= self._recycle_after:
            self._replace(self._slots[index])
        slot = self._slots[index]
        slot.job, slot.since = job, time.monotonic()
        slot.answer = slot.actor.run.remote(job, weights, None if self._board is None else self._board.actor)
        slot.measured = None if self._prober is None else self._prober.measure(job)
        self._say("begins", trial=job.trial)

    def wait(self, timeout_seconds: float) -> list[Result]:
        """Returns finished, lost and expired jobs, at the latest after the timeout."""
        busy = [slot for slot in self._slots if slot.job is not None]
        if not busy:
            return []
        until = [self._expires_in(slot) for slot in busy]
        finished = self._finished(busy, max(0.0, min([timeout_seconds, *until])))
        results = []
        for slot in busy:
            if slot in finished:
                results.append(self._collect(slot))
            elif self._expires_in(slot) <= 0:
                results.append(self._expire(slot))
        if self._board is not None and not results:
            self._board.look(slot.job for slot in busy if slot.job is not None)
        return results

    def _finished(self, busy: list[Slot], timeout_seconds: float) -> list[Slot]:
        """Those slots whose answers are all there; where there is none, waits for one more answer."""
        asked = [answer for slot in busy for answer in slot.awaited]
        ready, open_ = self._ray.wait(asked, num_returns=len(asked), timeout=0)
        if open_ and not any(set(slot.awaited) <= set(ready) for slot in busy):
            self._ray.wait(open_, num_returns=1, timeout=timeout_seconds)
            ready, _ = self._ray.wait(asked, num_returns=len(asked), timeout=0)
        return [slot for slot in busy if set(slot.awaited) <= set(ready)]

    def weights(self, job: Job) -> bytes | None:
        """Fetches the weights of a job just returned; None when its worker is gone.

        Raises:
            WeightsError: The evaluator's function failed, or gave something else than bytes.
        """
        slot = next((slot for slot in self._slots if slot.last_job == job), None)
        if slot is None:
            return None
        try:
            fetched: bytes | None = self._ray.get(slot.actor.weights.remote(job), timeout=FETCH_SECONDS)
        except self._ray.exceptions.RayTaskError as error:
            raise WeightsError(str(error.cause)) from None
        except self._ray.exceptions.RayError:
            return None
        return fetched

    def close(self) -> None:
        """Ends the workers, and Ray where it was started here; safe to call twice."""
        slots, self._slots, self._shared = self._slots, [], None
        for slot in slots:
            self._ray.kill(slot.actor)
        if self._prober is not None:
            self._prober.close()
            self._prober = None
        if self._board is not None:
            self._board.close()
            self._board = None
        if self._owns_ray:
            self._owns_ray = False
            self._say("ending Ray's processes")
            self._ray.shutdown()

    def _say(self, text: str, *, trial: int | None = None) -> None:
        if self._tell is not None:
            self._tell(Progress(text=text, trial=trial))

    def _resolve_precision(self, evaluator: Evaluator) -> None:
        """Has an evaluator that can find out once, here, in what precision this machine's workers train.

        Workers with GPUs, which may differ, and those of other machines find out for themselves.
        """
        if isinstance(evaluator, ResolvesPrecision) and not self._gpus:
            self._say("choosing float32 or bfloat16, in about a second at most")
            evaluator.resolve_precision("cpu", threads=max(1, int(self._cpus)))

    def _connect(self, stored_bytes: int) -> None:
        """Joins the cluster at the address, or starts Ray on this machine."""
        quiet = {"log_to_driver": False, "logging_level": "error"}
        if self._address is not None:
            check_reachable(self._address)
            bounded(
                lambda: self._ray.init(address=self._address, **quiet),
                seconds=JOIN_SECONDS,
                what=f"the Ray cluster at {self._address}",
            )
        else:
            offered = {name: self._workers * amount for name, amount in self._resources.items()}
            if self._probe_resource is not None:
                offered[self._probe_resource] = offered.get(self._probe_resource, 0.0) + 1
            self._ray.init(
                address="local",
                num_cpus=max(1, math.ceil(self._workers * self._cpus)) + (self._probe_resource is not None),
                resources=offered or None,
                include_dashboard=False,
                object_store_memory=STORE_BYTES + int(1.2 * stored_bytes),
                **quiet,
            )
        self._owns_ray = True

    def _spawn(self) -> Slot:
        kind = self._ray.remote(_Actor).options(
            num_cpus=self._cpus,
            num_gpus=self._gpus,
            resources=self._resources or None,
            max_restarts=0,
            max_task_retries=0,
        )
        # The reference goes inside a list, so that a worker that cannot read it can still say why.
        actor = kind.remote([self._shared], package_fingerprint(), self._gpus)
        return Slot(actor=actor, greeting=actor.prepare.remote(), since=time.monotonic())

    def _replace(self, slot: Slot) -> None:
        self._ray.kill(slot.actor)
        self._slots[self._slots.index(slot)] = self._spawn()

    def _await_workers(self) -> None:
        """Waits until all workers are prepared."""
        greetings = [slot.greeting for slot in self._slots]
        greetings += [] if self._prober is None else [self._prober.greeting]
        late = await_ready(self._ray, greetings, seconds=self._start_timeout, say=self._say)
        if late:
            free = ", ".join(f"{n:g} {name}" for name, n in sorted(self._ray.available_resources().items()))
            raise ExecutorError(
                f"{late} of {len(greetings)} workers were not up after {self._start_timeout:g} s; each "
                f"needs {self._cpus:g} CPU, {self._gpus:g} GPU; free at present: {free}. Use fewer workers"
            )

    def _expires_in(self, slot: Slot) -> float:
        """Seconds until a job's time is up; the clock starts when its worker is prepared."""
        if not slot.is_ready:
            slot.is_ready = bool(self._ray.wait([slot.greeting], timeout=0)[0])
            if slot.is_ready:
                slot.since = time.monotonic()
        limit = self._timeout if slot.is_ready else self._start_timeout
        return math.inf if limit is None else slot.since + limit - time.monotonic()

    def _collect(self, slot: Slot) -> Result:
        """Fetches an answer; whatever Ray raises means that the worker is gone."""
        try:
            result: Result = self._ray.get(slot.answer, timeout=FETCH_SECONDS)
        except self._ray.exceptions.RayError as error:
            is_memory = isinstance(error, self._ray.exceptions.OutOfMemoryError)
            return self._give_up(
                slot,
                Status.LOST,
                Cause.OUT_OF_MEMORY if is_memory else Cause.WORKER_DIED,
                f"the worker died ({type(error).__name__})",
                str(error),
            )
        if self._prober is not None:
            result = self._prober.add_to(result, slot.measured)
        slot.last_job, slot.job, slot.answer, slot.measured = slot.job, None, None, None
        slot.jobs_done += 1
        return result

    def _expire(self, slot: Slot) -> Result:
        is_trained = bool(self._ray.wait([slot.answer], timeout=0)[0])
        if self._prober is not None and is_trained:
            self._prober.replace()  # what it hangs on would hold up all others
        if slot.is_ready:
            text = f"it took longer than the limit of {self._timeout:g} s"
            return self._give_up(slot, Status.INFEASIBLE, Cause.TIMEOUT, text, "")
        text = f"its worker was not up after {self._start_timeout:g} s"
        return self._give_up(slot, Status.LOST, Cause.WORKER_DIED, text, "")

    def _give_up(self, slot: Slot, status: Status, cause: Cause, message: str, log: str) -> Result:
        """Ends a worker together with its job, and puts a new one in its place."""
        assert slot.job is not None
        self._replace(slot)
        return Result(
            job=slot.job,
            status=status,
            cause=cause,
            message=message,
            log=log,
            seconds=time.monotonic() - slot.since,
        )


class _Actor:
    """A worker in a process of its own; everything that can go wrong before its first job is said as text."""

    def __init__(self, shared: list[Any], fingerprint: str, gpus: float) -> None:
        self._shared = shared
        self._fingerprint = fingerprint
        self._gpus = gpus
        self._worker: Worker | None = None
        self._problem = "it was not prepared"
        if not gpus:
            # Ray no longer hides the GPUs from a worker that asked for none.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""

    def prepare(self) -> str:
        """Prepares the evaluator; returns what went wrong, or nothing."""
        self._problem = problem_of(self._fingerprint, "a worker", self._make_worker)
        return self._problem

    def _make_worker(self) -> None:
        limit_gpu_memory(self._gpus)
        self._worker = Worker(*_fetch(self._shared[0]))

    def run(self, job: Job, weights: bytes | None = None, board: Any = None) -> Result:
        """Runs a job, and writes its progress to the board."""
        if self._worker is None:
            line = self._problem.splitlines()[0]
            return Result(
                job=job, status=Status.LOST, cause=Cause.WORKER_DIED, message=line, log=self._problem
            )
        progress = say_nothing if board is None else BoardWriter(board, job)
        return self._worker.run(job, weights, progress=progress)

    def weights(self, job: Job) -> bytes | None:
        """The weights of the job run last."""
        return None if self._worker is None else self._worker.weights(job)


def _fetch(reference: Any) -> Any:
    import ray

    return ray.get(reference)


def _import_ray() -> Any:
    """Imports Ray without its usage reports and without its notice about accelerators."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    return ray


def _require(holds: bool, law: str, value: object) -> None:
    if not holds:
        raise ExecutorError(f"`{law}` must hold, but got {value!r}")


def _check_alone_on_gpu(evaluator: Evaluator, gpus: float) -> None:
    """Checks that a probe in the worker's process would not share its GPU with other trainings."""
    probe = evaluator.probe if isinstance(evaluator, Probed) else None
    device = str(probe.device) if isinstance(probe, HasDevice) else "cpu"
    if 0 < gpus < 1 and (device == "auto" or "cuda" in device):
        raise ExecutorError(
            f"latency must never be measured on a GPU that is training, but {1 / gpus:.0f} workers share "
            f"each GPU (gpus_per_worker={gpus:g}): give it a node of its own with a latency resource, "
            "measure on the processor, give each worker a whole GPU, or predict latency from a table",
            field="gpus_per_worker",
        )
