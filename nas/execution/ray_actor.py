"""A worker in a process of its own on a Ray cluster, and what the driver knows of it."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas.execution.progress_board import BoardWriter
from nas.execution.ray_session import import_ray
from nas.execution.worker import Worker
from nas.failures import failure_of
from nas.machine import free_memory, held_memory, memory_kills, open_files
from nas.trial import Cause, Job, Result, Status, say_nothing
from nas.version import package_fingerprint

ASK_SECONDS = 15.0
"""A node that does not answer for so long is gone."""

MEASURED = "the probe"
"""What an actor is called that measures and does not train."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What a worker answers when it was prepared.

    Attributes:
        problem: What went wrong; empty where nothing did.
        node: Ray's name of its node.
    """

    problem: str
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The memory of a node, and what a worker there holds, between two jobs.

    Attributes:
        free: Share of the node's memory that is free, in [0, 1].
        kills: Processes that its kernel has ended so far because memory ran out.
        held: Bytes that the worker holds, on GPUs too.
        files: Share of the files that the worker may open which are open.
    """

    free: float
    kills: int
    held: int = 0
    files: float = 0.0


class Actor:
    """The process: everything that can go wrong before its first job is said as text.

    Args:
        what: What it is called in messages.
        shared: Reference to space and evaluator, in a list, so that one that cannot be read can be reported.
        fetch: Reads it: `ray.get`.
        fingerprint: The driver's version.
        gpus: GPUs that it holds, or its share of one.
        folders: Folders of the user's own modules, which import their neighbours from there.
    """

    def __init__(
        self,
        what: str,
        shared: list[Any],
        fetch: Callable[[Any], Any],
        fingerprint: str,
        gpus: float,
        folders: Sequence[str] = (),
    ) -> None:
        self._what = what
        self._shared = shared
        self._fetch = fetch
        self._fingerprint = fingerprint
        self._gpus = gpus
        self._worker: Worker | None = None
        self._problem = "it was not prepared"
        sys.path += [folder for folder in folders if folder not in sys.path]
        if not gpus:
            # Ray no longer hides the GPUs from a worker that asked for none.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""

    def prepare(self) -> Prepared:
        """Prepares the evaluator, where the versions agree."""
        self._problem = version_problem(self._fingerprint, package_fingerprint())
        if not self._problem:
            try:
                limit_gpu_memory(self._gpus)
                space, evaluator = self._fetch(self._shared[0])
                self._worker = Worker(space, evaluator)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                failure = failure_of(error)
                self._problem = f"{self._what} could not be prepared: {failure.message}\n{failure.log}"
        return Prepared(problem=self._problem, node=import_ray().get_runtime_context().get_node_id())

    def begin(self) -> Memory:
        """Answers at once: whoever has the answer knows that this worker is alive."""
        free, total = free_memory()
        return Memory(free=free / total, kills=memory_kills(), held=held_memory(), files=open_files())

    def work(self, job: Job, weights: bytes | None, board: Any) -> tuple[Result, Memory]:
        """Runs a job, as `run` does; tells what a next one would begin with."""
        return self.run(job, weights, board), self.begin()

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


def start_actor(
    ray: Any,
    shared: Any,
    what: str,
    *,
    cpus: float,
    gpus: float,
    resources: Mapping[str, float] | None = None,
    folders: Sequence[str] = (),
) -> tuple[Any, Any]:
    """Starts a process; returns Ray's handle of it, and the reference to what `prepare` answers."""
    kind = ray.remote(Actor).options(
        num_cpus=cpus, num_gpus=gpus, resources=resources or None, max_restarts=0, max_task_retries=0
    )
    actor = kind.remote(what, [shared], ray.get, package_fingerprint(), gpus, folders)
    return actor, actor.prepare.remote()


def kills_on(ray: Any, node: str) -> int | None:
    """Processes that the kernel of a node has ended because memory ran out; None where the node is gone."""
    if node == ray.get_runtime_context().get_node_id():
        return memory_kills()
    place = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
    asked = ray.remote(memory_kills).options(num_cpus=0, max_retries=0, scheduling_strategy=place).remote()
    try:
        found: int = ray.get(asked, timeout=ASK_SECONDS)
    except ray.exceptions.RayError:
        return None
    return found


def version_problem(driver: str, worker: str) -> str:
    """What is wrong when driver and worker have these fingerprints; empty when they agree."""
    if driver == worker:
        return ""
    return (
        f"every worker must run the driver's version of mnas, but the driver's source is {driver} and that "
        f"on {socket.gethostname()} is {worker}: install the same version on every node"
    )


def limit_gpu_memory(share: float) -> None:
    """Holds this process to its share of a GPU's memory, which Ray only counts; does nothing at 0 and 1."""
    if 0 < share < 1:
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_per_process_memory_fraction(share)
