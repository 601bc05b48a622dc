"""Runs one training on several ranks by Ray Train, each a process of its own on this machine or a cluster."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch

from nas.errors import ExecutorError
from nas.execution.by_value import send_by_value
from nas.execution.ray_cluster import FETCH_SECONDS, check_room
from nas.execution.ray_session import RaySession, import_ray
from nas.failures import failure_of
from nas.full_training.ranks import Ranks
from nas.full_training.ray_ranks import START_SECONDS, Channel, Failure, Launcher, Plan
from nas.machine import usable_cores
from nas.signals import Interruption
from nas.trial import Say, say_nothing
from nas.values import real, whole
from nas.version import package_fingerprint

Message = TypeVar("Message")

Work = Callable[[Ranks, Callable[[Message], None]], None]
"""What every rank runs: it is given the ranks, and what sends the first rank's messages to the driver."""

NEEDED = ("fsspec", "pandas", "pyarrow", "pydantic", "requests")
"""What Ray Train imports beside Ray."""

READ_SECONDS = 0.2
"""How often the driver asks for messages."""

SCRATCH = ".ray_train"
"""Folder in the training's own for Ray Train's few files; removed at the end."""


def launch(
    work: Work[Message],
    *,
    workers: int,
    folder: Path,
    on_gpus: bool = False,
    cpus_per_worker: float = 1.0,
    address: str | None = None,
    restarts: int = 3,
    stop_seconds: float = 0.0,
    tell: Callable[[Message], None],
    say: Say = say_nothing,
) -> None:
    """Runs `work` on so many ranks, and returns when all of them have ended.

    The ranks talk by NCCL on GPUs and by gloo on CPUs. When a process or its node dies, all ranks are started
    again, and `work` must continue from its own checkpoint, in a folder that every node sees. What `work`
    itself raises in a rank ends all ranks for good. What it returns is ignored.

    `work` and its messages are pickled. Numpy arrays in it are not copied to each rank; there, they are
    read-only.

    Args:
        work: Run by every rank at the same time, in a thread that is not the main one.
        workers: How many ranks.
        folder: Where the training writes; Ray Train has a folder in it for as long as it runs.
        on_gpus: Each rank trains on a GPU of its own; else on CPUs.
        cpus_per_worker: CPU cores that each rank holds; Ray sets its number of threads by it.
        address: A running cluster: `auto`, `host:port` or `ray://host:port`; None starts Ray on this machine.
        restarts: How often ranks are started again after a death before it is an error.
        stop_seconds: How long ranks have to end after Ctrl-C, of which `Ranks.is_stopping` tells the first;
            a second Ctrl-C ends them at once.
        tell: Called here, in order, with each message of the first rank.
        say: Told what goes on beside the training: starts, deaths.

    Raises:
        ExecutorError: Ray Train is not installed, the cluster cannot be reached or has too few CPUs or GPUs,
            a rank raised an error of somebody else's, or died too often.
        NasError: What a rank raised, as in one process; so with `InfeasibleError`.
    """
    whole("workers", workers, least=1, error=ExecutorError)
    whole("restarts", restarts, least=0, error=ExecutorError)
    real("cpus_per_worker", cpus_per_worker, above=0, error=ExecutorError)
    _check_installed()
    need = {"CPU": float(cpus_per_worker), **({"GPU": 1.0} if on_gpus else {})}
    session = RaySession(address, say)
    send_by_value(import_ray().cloudpickle, "the training", work, is_here=address is None)
    with _scratch(folder) as scratch:
        plan = Plan(
            workers=workers,
            need=need,
            scratch=scratch,
            fingerprint=package_fingerprint(),
            stop_seconds=stop_seconds,
        )
        while True:
            try:
                _launch_once(work, session, plan, restarts, tell, say, is_here=address is None)
                return
            except _RayLostError as lost:
                restarts -= lost.starts
                if restarts <= 0 or not session.is_own:
                    raise ExecutorError(
                        f"{lost} died: it was killed, crashed, or the machine ran out of memory: look for "
                        "what ends it; the same call continues from the last checkpoint",
                        field="restarts",
                    ) from None
                restarts -= 1
                say(f"{lost} died: starting or joining Ray again, from the last checkpoint")
            finally:
                session.end()


def _launch_once(
    work: Work[Message],
    session: RaySession,
    plan: Plan,
    restarts: int,
    tell: Callable[[Message], None],
    say: Say,
    *,
    is_here: bool,
) -> None:
    """Starts or joins Ray, and runs the ranks for as long as it lives."""
    cores = math.ceil(plan.workers * plan.need["CPU"])
    if is_here and not import_ray().is_initialized():
        check_room([_this_machine()], plan.workers, plan.need)
    ray = session.begin(cpus=max(1, cores), stored=work)
    check_room([node["Resources"] for node in ray.nodes() if node["Alive"]], plan.workers, plan.need)
    with _no_placement_left(ray):
        _run(ray, [ray.put(work)], plan, restarts, tell, say, session.loss)


class _RayLostError(Exception):
    """Raised when Ray itself has died; names what of it.

    Args:
        what: What has died.
        starts: How often ranks had been started again before.
    """

    def __init__(self, what: str, starts: int) -> None:
        super().__init__(what)
        self.starts = starts


def _run(
    ray: Any,
    shared: Sequence[Any],
    plan: Plan,
    restarts: int,
    tell: Callable[[Message], None],
    say: Say,
    loss: Callable[[], str],
) -> None:
    """Starts the ranks, and starts them again as often as it is allowed."""
    for start in range(restarts + 1):
        say(f"starting {plan.workers} ranks")
        may_retry, problem, failures = _attempt(ray, shared, plan, tell, say, loss)
        if lost := loss():
            raise _RayLostError(lost, start)
        final = next((failure for failure in failures if not failure.is_lost_peer), None)
        if final is not None:
            raise final.exception() from (None if final.error else RuntimeError(final.log))
        if not problem:
            return
        if not may_retry:
            raise ExecutorError(_not_started(ray, plan, problem), field="workers")
        if start < restarts:
            say(f"a process died: {problem}; continuing from the last checkpoint")
    raise ExecutorError(
        f"`restarts <= {restarts}` must hold, but a process died once more: {problem}: "
        "look for what kills it, such as too little memory; the same call continues from the last checkpoint"
    )


def _attempt(
    ray: Any,
    shared: Sequence[Any],
    plan: Plan,
    tell: Callable[[Message], None],
    say: Say,
    loss: Callable[[], str],
) -> tuple[bool, str, list[Failure]]:
    """Runs all ranks once; returns what the launcher does, and what ranks raised."""
    channel = ray.remote(Channel).options(num_cpus=0, max_restarts=0).remote()
    launcher = ray.remote(Launcher).options(num_cpus=0, max_restarts=0).remote()
    try:
        ended = launcher.fit.remote(list(shared), channel, plan)
        with Interruption() as interruption:  # entered here, as Ray sets handlers of its own when it starts
            try:
                while not loss():
                    with interruption.breakable():
                        done, _ = ray.wait([ended], timeout=READ_SECONDS)
                    for message in _asked(ray, channel.read, loss):
                        tell(message)
                    if done:
                        break
                else:
                    return True, "Ray", []
            except KeyboardInterrupt:
                if plan.stop_seconds and not loss():
                    say("stopping after a checkpoint; a second Ctrl-C stops at once")
                    channel.stop.remote()
                    ray.wait([ended], timeout=plan.stop_seconds)
                raise
        failures: list[Failure] = _asked(ray, channel.failures, loss)
        try:
            may_retry, problem = ray.get(ended, timeout=FETCH_SECONDS)
        except ray.exceptions.RayTaskError as error:
            raise ExecutorError(f"Ray Train failed: {failure_of(error.cause).message}") from error
        except ray.exceptions.RayError as error:
            may_retry, problem = True, f"Ray Train's controller ({type(error).__name__})"
        return may_retry, problem, failures
    finally:
        if not loss():  # Ray that is gone has taken them along, and would be waited for
            ray.kill(launcher)
            ray.kill(channel)


def _asked(ray: Any, method: Any, loss: Callable[[], str]) -> list[Any]:
    """What the channel answers; nothing where its process is gone, without which the training goes on."""
    until = time.monotonic() + FETCH_SECONDS
    with suppress(ray.exceptions.RayError):
        answer = method.remote()
        while time.monotonic() < until and not loss():
            if ray.wait([answer], timeout=1.0)[0]:
                return list(ray.get(answer))
    return []


def _not_started(ray: Any, plan: Plan, problem: str) -> str:
    need = ", ".join(f"{amount:g} {name}" for name, amount in plan.need.items())
    free = ", ".join(
        f"{amount:g} {name}"
        for name, amount in sorted(ray.available_resources().items())
        if name in plan.need
    )
    return (
        f"{plan.workers} ranks had no place within {START_SECONDS:g} s ({problem}); each needs {need}; "
        f"free at present: {free or 'none'}. Use fewer workers, or wait until others have ended"
    )


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Gives a folder for Ray Train's files, empty at first and gone at the end."""
    scratch = folder.expanduser().resolve() / SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _no_placement_left(ray: Any) -> Iterator[None]:
    """Frees what a killed launcher's ranks had reserved, which Ray itself does when this process ends."""
    from ray.util import placement_group_table, remove_placement_group
    from ray.util.placement_group import PlacementGroup

    def found() -> set[str]:
        job = ray.get_runtime_context().get_job_id()
        states = {name: group["state"] for name, group in placement_group_table().items()}
        return {name for name, state in states.items() if name.endswith(job) and state != "REMOVED"}

    before, is_lost = found(), False
    try:
        yield
    except _RayLostError:
        is_lost = True  # there is nobody left to ask
        raise
    finally:
        for name in set() if is_lost else found() - before:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(name))))


def _check_installed() -> None:
    missing = [name for name in NEEDED if not _is_installed(name)]
    if missing:
        raise ExecutorError(
            f"training on several ranks needs Ray Train, but {', '.join(missing)} cannot be imported: "
            "pip install 'mnas[train]', or train in one process"
        )


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _this_machine() -> dict[str, float]:
    return {"CPU": float(usable_cores()), "GPU": float(torch.cuda.device_count())}
