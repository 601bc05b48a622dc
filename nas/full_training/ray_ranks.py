"""The processes of a training on several ranks: what runs Ray Train, what each rank does, what they say."""

from __future__ import annotations

import math
import os
import pickle
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from nas.errors import ExecutorError
from nas.execution.ray_actor import version_problem
from nas.execution.ray_cluster import FETCH_SECONDS
from nas.failures import failure_of
from nas.full_training.ranks import TorchRanks
from nas.version import is_ours, package_fingerprint

START_SECONDS = 180.0
"""Ranks that have no place within so long are an error."""

ASK_SECONDS = 1.0
"""How often the first rank asks whether to stop."""

POLL_SECONDS = 0.5
"""How often Ray Train asks the ranks whether they have ended or failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be started.

    Attributes:
        workers: How many ranks.
        need: What each of them holds, by Ray's names.
        scratch: Ray Train's folder.
        fingerprint: The driver's version.
        stop_seconds: How long they have to end when they are to stop.
    """

    workers: int
    need: Mapping[str, float]
    scratch: Path
    fingerprint: str
    stop_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a rank raised.

    Attributes:
        rank: Which rank.
        message: One line for users.
        log: The traceback.
        error: The pickled exception, where it is of this package.
        is_lost_peer: Whether it only says that another rank can no longer be reached.
    """

    rank: int
    message: str
    log: str
    error: bytes = b""
    is_lost_peer: bool = False

    def exception(self) -> Exception:
        """The exception that the driver raises for it."""
        if self.error:
            found: Exception = pickle.loads(self.error)
            return found
        return ExecutorError(f"rank {self.rank} failed: {self.message}")


class Channel:
    """The actor that messages and failures pass through."""

    def __init__(self) -> None:
        self._messages: list[Any] = []
        self._failures: list[Failure] = []
        self._is_stopping = False

    def put(self, message: Any) -> None:
        """Keeps a message until it is read."""
        self._messages.append(message)

    def fail(self, failure: Failure) -> None:
        """Keeps a failure."""
        self._failures.append(failure)

    def read(self) -> list[Any]:
        """Takes all messages."""
        messages, self._messages = self._messages, []
        return messages

    def stop(self) -> None:
        """Has the ranks stop when they look next."""
        self._is_stopping = True

    def is_stopping(self) -> bool:
        """Whether they are to stop."""
        return self._is_stopping

    def failures(self) -> list[Failure]:
        """All failures, in the order in which they came."""
        return self._failures


class Launcher:
    """The actor that runs Ray Train: killing it ends all ranks, and what it prints stays out of sight."""

    def fit(self, shared: Sequence[Any], channel: Any, plan: Plan) -> tuple[bool, str]:
        """Runs the training; returns whether a new start may help, and what went wrong or nothing."""
        os.environ["RAY_TRAIN_V2_ENABLED"] = "1"
        os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"  # relative paths stay what they are
        os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = str(POLL_SECONDS)
        os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(START_SECONDS)
        import ray.train

        try:
            _trainer(shared, channel, plan).fit()
        except ray.train.WorkerGroupError as error:
            return True, _deaths(error.worker_failures)
        except ray.train.ControllerError as error:
            reason = type(error.controller_failure).__name__
            return "Timeout" not in reason, reason
        finally:
            shutil.rmtree(plan.scratch, ignore_errors=True)
        return False, ""


def _trainer(shared: Sequence[Any], channel: Any, plan: Plan) -> Any:
    """Makes Ray's trainer, which starts no failed training again: the driver knows why ranks ended."""
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    on_gpus = "GPU" in plan.need
    # Ray no longer hides the GPUs from a worker that asked for none.
    hidden = {} if on_gpus else {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}
    return TorchTrainer(
        lambda: _run_rank(shared, channel, plan.fingerprint, on_gpus),
        torch_config=TorchConfig(backend="nccl" if on_gpus else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=plan.workers, use_gpu=on_gpus, resources_per_worker=dict(plan.need)
        ),
        run_config=ray.train.RunConfig(
            name="run",
            storage_path=str(plan.scratch),
            failure_config=ray.train.FailureConfig(max_failures=0, controller_failure_limit=0),
            worker_runtime_env=hidden,
        ),
    )


def _deaths(failures: Mapping[int, BaseException]) -> str:
    """Says which ranks died, and how Ray calls it; others failed because these did."""
    found = {rank: getattr(error, "health_check_failure", None) for rank, error in failures.items()}
    died = {rank: error for rank, error in found.items() if error is not None} or failures
    return ", ".join(f"rank {rank} ({type(error).__name__})" for rank, error in sorted(died.items()))


class Asking:
    """Asks the channel now and then whether to stop, without waiting for its answer.

    Args:
        channel: The actor.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._answers: list[Any] = []
        self._asked_at = -math.inf

    def __call__(self) -> bool:
        """Says whether to stop, by the last answer that has come."""
        import ray

        if self._answers and ray.wait(self._answers, timeout=0)[0]:
            with suppress(ray.exceptions.RayError):  # without the channel the training goes on
                if ray.get(self._answers.pop()):
                    return True
        if not self._answers and time.monotonic() - self._asked_at >= ASK_SECONDS:
            self._asked_at = time.monotonic()
            self._answers = [self._channel.is_stopping.remote()]
        return False


def _run_rank(shared: Sequence[Any], channel: Any, fingerprint: str, on_gpus: bool) -> None:
    """Runs the work in one rank; whatever it raises is put into the channel, and ends all ranks."""
    import ray
    from ray.train.torch import get_device

    device = get_device() if on_gpus else torch.device("cpu")
    ranks = TorchRanks(device=device, asks=Asking(channel) if distributed.get_rank() == 0 else lambda: False)
    sent: list[Any] = []

    def tell(message: Any) -> None:
        if ranks.is_first:
            sent[:] = [channel.put.remote(message)]

    try:
        problem = version_problem(fingerprint, package_fingerprint())
        if problem:
            raise ExecutorError(problem)
        work = ray.get(shared[0])
        work(ranks, tell)
    except BaseException as error:
        ray.get(channel.fail.remote(_failure(ranks.rank, error)))
        raise RuntimeError(f"rank {ranks.rank} failed") from None
    finally:
        with suppress(ray.exceptions.RayError):  # the last message must be there before this process ends
            ray.get(sent, timeout=FETCH_SECONDS)


def _failure(rank: int, error: BaseException) -> Failure:
    """Describes what a rank raised so that it can cross to the driver."""
    text = failure_of(error)
    pickled = b""
    if is_ours(error):
        with suppress(Exception):
            pickled = pickle.dumps(error)
            pickle.loads(pickled)
    is_lost_peer = isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and ("gloo" in str(error) or "by peer" in str(error))
    )
    return Failure(rank=rank, message=text.message, log=text.log, error=pickled, is_lost_peer=is_lost_peer)
