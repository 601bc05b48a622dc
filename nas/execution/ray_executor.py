"""Runs jobs on Ray: long-lived workers, their deaths, time limits and replacement."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from nas.errors import ExecutorError
from nas.evaluators import Probed
from nas.execution.by_value import own_parts, send_by_value
from nas.execution.executors import OnRayLoss
from nas.execution.progress_board import ProgressBoard
from nas.execution.ray_actor import kills_on, start_actor
from nas.execution.ray_cluster import FETCH_SECONDS, await_ready, check_gpus
from nas.execution.ray_pool import WorkerPool
from nas.execution.ray_prober import RayProber
from nas.execution.ray_session import RaySession, import_ray
from nas.execution.ray_slot import Limits
from nas.execution.ray_watch import CHECK_SECONDS
from nas.failures import failure_of
from nas.protocols import Decodes, Evaluator, HasDevice, Probe, ResolvesPrecision
from nas.trial import Cause, Job, Progress, Result, Status, Tell, WeightsError
from nas.values import real, whole

RESTARTS = 3
"""Ray that dies more often without a result in between is an error."""

REJOIN_SECONDS = 3600.0
"""A cluster that is away longer is an error."""

LONGEST_REJOIN_PAUSE_SECONDS = 30.0
"""It is tried again after 1, 2, 4 seconds and so on, up to this pause."""


@dataclass(eq=False)
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
        recycle_after: A worker is replaced by a fresh one after so many jobs; earlier where its memory has
            doubled and grown by a GiB, or it holds half of the files that it may open.
        resources: Custom resources that each worker holds.
        probe_resource: Custom resource of the node on which the probe of a `Probed` evaluator measures, one
            candidate at a time, while its worker trains it; None measures in the worker after the training.
        probe_gpus: GPUs that the probe holds for itself there.
        modules: The user's own modules, which workers cannot import and get by value.
        on_ray_loss: Where Ray itself dies, `stop` ends the search with an error, `restart` starts or joins it
            again and goes on.
        start_timeout_seconds: Workers that are not up by then are an error at the start; later, the others go
            on without them.

    Raises:
        ExecutorError: A number is out of its range.
    """

    workers: int = 1
    _: KW_ONLY
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    address: str | None = None
    trial_timeout_seconds: float | None = None
    recycle_after: int = 1000
    resources: Mapping[str, float] | None = None
    probe_resource: str | None = None
    probe_gpus: float = 0.0
    modules: Sequence[ModuleType] = ()
    on_ray_loss: OnRayLoss = "stop"
    start_timeout_seconds: float = 180.0

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("recycle_after", 1)):
            setattr(self, name, whole(name, vars(self)[name], least=least, error=ExecutorError))
        for name in ("cpus_per_worker", "gpus_per_worker", "probe_gpus"):
            setattr(self, name, real(name, vars(self)[name], least=0, error=ExecutorError))
        limits = ["start_timeout_seconds"]
        limits += [] if self.trial_timeout_seconds is None else ["trial_timeout_seconds"]
        for name in limits:
            setattr(self, name, real(name, vars(self)[name], above=0, error=ExecutorError))
        if self.gpus_per_worker > 1 and not self.gpus_per_worker.is_integer():
            raise ExecutorError(
                "`gpus_per_worker` must be a share in [0, 1] or a whole number, but got "
                f"gpus_per_worker={self.gpus_per_worker!r}: give one of these",
                field="gpus_per_worker",
            )
        if self.on_ray_loss not in get_args(OnRayLoss):
            raise ExecutorError(
                f"`on_ray_loss` must be {' or '.join(get_args(OnRayLoss))}, but got "
                f"on_ray_loss={self.on_ray_loss!r}: give one of these",
                field="on_ray_loss",
            )
        self._pool: WorkerPool | None = None
        self._restarts = 0
        self._alone: set[int] = set()
        self._ray: Any = None
        self._shared: Any = None
        self._prober: RayProber | None = None
        self._tell: Tell | None = None
        self._board: ProgressBoard | None = None
        self._session = RaySession(self.address, self._say)

    @property
    def is_in_process(self) -> bool:
        """No: a candidate that ends its process ends a worker, not the search."""
        return False

    def watch(self, tell: Tell) -> None:
        """Reports progress to `tell` from the next start on, between two waits."""
        self._tell = tell

    @property
    def slots(self) -> int:
        """How many jobs run at the same time: fewer while nodes are gone, at least one."""
        return self.workers if self._pool is None else self._pool.available

    def check(self, space: Decodes, evaluator: Evaluator | None, probe: Probe | None = None) -> None:
        """Checks that what the user made can be sent to workers; raises `ContractError` if not."""
        for what, part in own_parts(space, evaluator, probe).items():
            send_by_value(import_ray().cloudpickle, what, part, is_here=self.address is None)

    def start(self, space: Decodes, evaluator: Evaluator) -> None:
        """Connects to Ray or starts it, and brings all workers up.

        Raises:
            ExecutorError: The cluster cannot be reached, has too few GPUs, lacks the probe's resource, runs
                another version of this package, or a worker cannot be prepared.
        """
        self.check(space, evaluator)
        probe = None
        if self.probe_resource is None:
            _check_alone_on_gpu(evaluator, self.gpus_per_worker)
        elif isinstance(evaluator, Probed):
            probe, evaluator = evaluator.probe, evaluator.evaluator
        self._ray = import_ray()
        for module in self.modules:
            self._ray.cloudpickle.register_pickle_by_value(module)
        self._parts = (space, evaluator, probe)
        try:
            self._resolve_precision(evaluator)
            self._await_workers(self._bring_up())
        except BaseException:
            self.close()
            raise

    def _bring_up(self) -> WorkerPool:
        """Connects to Ray or starts it, and starts all workers."""
        space, evaluator, probe = self._parts
        self._session.begin(
            cpus=max(1, math.ceil(self.workers * self.cpus_per_worker)) + (self.probe_resource is not None),
            stored=(space, evaluator),
            resources=self._offered(),
        )
        if not self._restarts:  # later, the search goes on with what there is
            check_gpus(self._ray, self.workers, self.gpus_per_worker, probe_gpus=self.probe_gpus)
        self._say("giving the images to the workers")
        self._shared = self._ray.put((space, evaluator))
        if probe is not None and self.probe_resource is not None:
            self._prober = RayProber(space, probe, resource=self.probe_resource, gpus=self.probe_gpus)
        self._pool = WorkerPool(
            self._ray,
            self._spawn,
            size=self.workers,
            limits=Limits(
                trial_seconds=self.trial_timeout_seconds,
                start_seconds=self.start_timeout_seconds,
                recycle_after=self.recycle_after,
            ),
            tell=self._pass_on,
            prober=self._prober,
            kills_on=lambda node: kills_on(self._ray, node),
            alone=self._alone,
        )
        if self._tell is not None:
            self._board = self._pool.board = ProgressBoard(self._ray, self._tell)
        return self._pool

    def submit(self, job: Job, weights: bytes | None = None) -> None:
        """Starts a job as soon as a worker is up, from weights where there are any.

        Raises:
            ExecutorError: It was not started, or every worker has a job.
        """
        if self._pool is None or len(self._pool.jobs) >= self.workers:
            raise ExecutorError(
                f"at most {self.workers} jobs run at the same time: start the executor, or wait"
            )
        self._pool.submit(job, weights)

    def wait(self, timeout_seconds: float) -> list[Result]:
        """Returns finished, lost and expired jobs, at the latest after the timeout.

        Raises:
            ExecutorError: No worker can be prepared any more, or Ray itself has died.
        """
        until = time.monotonic() + timeout_seconds
        while self._pool is not None:
            left = until - time.monotonic()
            try:
                problem = self._session.loss()
                results = [] if problem else self._pool.wait(min(left, CHECK_SECONDS))
            except (ConnectionError, self._ray.exceptions.RayError) as error:
                results, problem = [], f"the connection to Ray ({failure_of(error).message})"
            if problem:
                return self._go_on_without(problem)
            if results:
                self._restarts = 0
            if results or left <= CHECK_SECONDS or not self._pool.jobs:
                return results
        return []

    def _go_on_without(self, problem: str) -> list[Result]:
        """Starts or joins Ray again where that is wanted; returns the jobs that it took along as lost."""
        assert self._pool is not None
        died = f"{problem} died: it was killed, crashed, or the machine ran out of memory"
        again = "Everything finished is on disk: repeat the command to continue"
        if self.on_ray_loss == "stop":
            raise ExecutorError(
                f"{died}. {again}, or let --on-ray-loss restart start Ray again", field="on_ray_loss"
            )
        if not self._session.is_own:
            raise ExecutorError(
                f"{died}, and only whoever connected this process to it can do so again. {again}",
                field="on_ray_loss",
            )
        self._restarts += 1
        if self._restarts > RESTARTS:
            raise ExecutorError(
                f"{died}, {self._restarts} times without a result in between: look for what ends it. {again}",
                field="on_ray_loss",
            )
        self._pass_on(Progress(text=f"{problem} died: Ray is started or joined again", event="ray_restarted"))
        begun, waiting = self._pool.take_back_jobs()
        self._pool = self._prober = self._board = None
        self._session.end()
        pool = self._bring_up_in_time()
        for job, weights in waiting:
            pool.submit(job, weights)
        text = f"{problem} died"
        return [Result(job=job, status=Status.LOST, cause=Cause.WORKER_DIED, message=text) for job in begun]

    def _bring_up_in_time(self) -> WorkerPool:
        """Brings everything up again; waits for a cluster that is away with growing pauses."""
        until = time.monotonic() + (0.0 if self.address is None else REJOIN_SECONDS)
        pause = 1.0
        while True:
            try:
                return self._bring_up()
            except ExecutorError as error:
                self._session.end()
                if time.monotonic() >= until:
                    raise
                self._say(f"{error}; trying again in {pause:g} s")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_REJOIN_PAUSE_SECONDS)

    def weights(self, job: Job) -> bytes | None:
        """Fetches the weights of a job just returned; None when its worker is gone.

        Raises:
            WeightsError: The evaluator's function failed, or gave something else than bytes.
        """
        reference = None if self._pool is None else self._pool.weights(job)
        if reference is None:
            return None
        try:
            fetched: bytes | None = self._ray.get(reference, timeout=FETCH_SECONDS)
        except self._ray.exceptions.RayTaskError as error:
            raise WeightsError(str(error.cause)) from None
        except (ConnectionError, self._ray.exceptions.RayError):
            return None
        return fetched

    def close(self) -> None:
        """Ends the workers, and Ray where it was started here; safe to call twice."""
        parts = (self._pool, self._prober, self._board)
        self._pool = self._prober = self._board = self._shared = None
        if not self._session.loss():  # Ray that is gone has taken them along, and would be waited for
            with suppress(ConnectionError):
                for part in parts:
                    if part is not None:
                        part.close()
        self._session.end()

    def _say(self, text: str) -> None:
        self._pass_on(Progress(text=text))

    def _pass_on(self, progress: Progress) -> None:
        if self._tell is not None:
            self._tell(progress)

    def _resolve_precision(self, evaluator: Evaluator) -> None:
        """Has an evaluator that can find out once, here, in what precision this machine's workers train.

        Workers with GPUs, which may differ, and those of other machines find out for themselves.
        """
        if isinstance(evaluator, ResolvesPrecision) and not self.gpus_per_worker:
            self._say("choosing float32 or bfloat16, in about a second at most")
            evaluator.resolve_precision("cpu", threads=max(1, int(self.cpus_per_worker)))

    def _offered(self) -> dict[str, float]:
        """Custom resources that a Ray started here offers: enough for all workers and the probe."""
        offered = {name: self.workers * amount for name, amount in (self.resources or {}).items()}
        if self.probe_resource is not None:
            offered[self.probe_resource] = offered.get(self.probe_resource, 0.0) + 1
        return offered

    def _spawn(self) -> tuple[Any, Any]:
        return start_actor(
            self._ray,
            self._shared,
            "a worker",
            cpus=self.cpus_per_worker,
            gpus=self.gpus_per_worker,
            resources=self.resources,
            folders=[str(Path(str(module.__file__)).parent) for module in self.modules],
        )

    def _await_workers(self, pool: WorkerPool) -> None:
        """Waits until all workers are prepared."""
        greetings = [slot.greeting for slot in pool.slots]
        greetings += [] if self._prober is None else [self._prober.greeting]
        late = await_ready(
            self._ray,
            greetings,
            self._restart,
            seconds=self.start_timeout_seconds,
            say=self._say,
            loss=self._session.loss,
        )
        if late:
            free = ", ".join(f"{n:g} {name}" for name, n in sorted(self._ray.available_resources().items()))
            raise ExecutorError(
                f"{late} of {len(greetings)} workers were not up after {self.start_timeout_seconds:g} s; "
                f"each needs {self.cpus_per_worker:g} CPU, {self.gpus_per_worker:g} GPU; free at present: "
                f"{free}. Use fewer workers",
                field="workers",
            )

    def _restart(self, place: int) -> Any:
        """Starts the worker of a place anew, or after them the probe; returns its greeting."""
        if self._pool is not None and place < self.workers:
            slot = self._pool.slots[place]
            self._pool.start(slot)
            return slot.greeting
        return None if self._prober is None else self._prober.replace()


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
