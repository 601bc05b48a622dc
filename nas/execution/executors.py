"""Makes executors by name: an entry in `EXECUTORS` is all that the rest of the package knows of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Literal

from nas.errors import ExecutorError
from nas.protocols import Executor
from nas.units import hint
from nas.values import make_plain

OnRayLoss = Literal["stop", "restart"]
"""What to do where Ray itself dies under a search."""


def _ray(options: ExecutorOptions) -> Executor:
    from nas.execution.ray_executor import RayExecutor

    return RayExecutor(
        options.workers,
        gpus_per_worker=options.gpus_per_worker,
        address=options.address,
        trial_timeout_seconds=options.trial_timeout_seconds,
        on_ray_loss=options.on_ray_loss,
        probe_resource=options.probe_resource,
        probe_gpus=options.probe_gpus,
        modules=options.modules,
    )


def _inline(_: ExecutorOptions) -> Executor:
    from nas.execution.inline_executor import InlineExecutor

    return InlineExecutor()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorKind:
    """What is known of an executor by its name.

    Attributes:
        make: Makes one of its options.
        is_parallel: Whether it runs several trials at the same time, with workers, their GPUs and an address;
            another runs one at a time, in this process.
        note: What its users should know, in a few words.
    """

    make: Callable[[ExecutorOptions], Executor]
    is_parallel: bool = True
    note: str = ""


EXECUTORS: Mapping[str, ExecutorKind] = {
    "ray": ExecutorKind(make=_ray),
    "inline": ExecutorKind(make=_inline, is_parallel=False, note="inline needs no Ray"),
}
"""Executors by the name that users give, the default first."""

DEFAULT_EXECUTOR = next(iter(EXECUTORS))
EXECUTOR_NAMES = "; ".join([", ".join(EXECUTORS), *(kind.note for kind in EXECUTORS.values() if kind.note)])
"""All of them, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorOptions:
    """Which executor runs trials, and on which machines. An executor uses what it can.

    Attributes:
        name: One of `EXECUTORS`; may be positional.
        workers: Trials at the same time.
        gpus_per_worker: Share of a GPU, or number of GPUs, that each worker holds.
        address: Address of a running Ray cluster; None starts one on this machine.
        trial_timeout_seconds: A trial that takes longer is given up; None lets it.
        on_ray_loss: `stop` ends the search where Ray itself dies, `restart` starts it again and goes on.
        probe_resource: Custom resource of the Ray node that measures latency; None measures in the workers.
        probe_gpus: GPUs that such a measurement holds.
        modules: The user's own modules, which workers cannot import and get by value.

    Raises:
        ExecutorError: There is no executor of this name.
    """

    name: str = field(default=DEFAULT_EXECUTOR, kw_only=False)
    workers: int = 1
    gpus_per_worker: float = 0.0
    address: str | None = None
    trial_timeout_seconds: float | None = None
    on_ray_loss: OnRayLoss = "stop"
    probe_resource: str | None = None
    probe_gpus: float = 0.0
    modules: tuple[ModuleType, ...] = ()

    def __post_init__(self) -> None:
        make_plain(self)
        if self.name not in EXECUTORS:
            raise ExecutorError(
                f"there is no executor {self.name!r}: {hint(str(self.name), EXECUTORS)}", field="executor"
            )

    def make(self) -> Executor:
        """Makes the executor; nothing is started.

        Raises:
            ExecutorError: A number is out of range.
        """
        return EXECUTORS[self.name].make(self)
