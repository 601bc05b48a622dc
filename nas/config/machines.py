"""Where a search runs by its settings: how many workers, with which share of a GPU, by which executor."""

from __future__ import annotations

import os
from types import ModuleType

from nas.config.settings import PARALLEL_ONLY, Settings, flag_of
from nas.errors import ExecutorError, UsageError
from nas.execution.executors import EXECUTORS, ExecutorOptions
from nas.protocols import Executor

MOST_CPU_WORKERS = 8
"""Workers by default on a machine without GPU: each holds the images and a copy of torch in memory."""


def find_machines(settings: Settings, width: int | None = None) -> tuple[int, float]:
    """Number of workers and their share of a GPU: as given, else every GPU, else this machine's cores."""
    if not EXECUTORS[settings.executor].is_parallel:
        parallel = next(name for name, kind in EXECUTORS.items() if kind.is_parallel)
        for name, unasked in PARALLEL_ONLY.items():
            if getattr(settings, name) not in (None, unasked):
                raise UsageError(
                    f"{flag_of(name)} needs --executor {parallel}: {settings.executor} runs one trial at a "
                    "time, here, to its end",
                    field=name,
                )
        return 1, 0.0
    workers = settings.workers if settings.workers is not None else width
    if settings.address is not None and workers is None:
        raise UsageError("--address joins a cluster of unknown size: give --workers too", field="workers")
    gpus = settings.gpus_per_worker
    devices = 0 if settings.address is not None else _count_gpus()
    if gpus and not devices and settings.address is None:
        raise ExecutorError(
            f"{gpus:g} GPUs for each worker were asked for, but torch sees no GPU on this machine: give "
            "--gpus-per-worker 0 to train on the CPU, or join a cluster with --address",
            field="gpus_per_worker",
        )
    if gpus is None:
        gpus = 0.0 if not devices else 1.0 if workers is None else min(1.0, devices / workers)
    if workers is None:
        workers = int(devices / gpus) if gpus and devices else 0
        workers = workers or min(os.cpu_count() or 1, MOST_CPU_WORKERS)
    return workers, gpus


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def make_executor(
    settings: Settings,
    machines: tuple[int, float],
    *,
    probe_gpus: float = 0.0,
    modules: tuple[ModuleType, ...] = (),
) -> Executor:
    """A new executor as the settings say, for so many workers and such a share of a GPU for each.

    Raises:
        ExecutorError: A number is out of range.
    """
    minutes = settings.trial_timeout_minutes
    workers, gpus_per_worker = machines
    options = ExecutorOptions(
        settings.executor,
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        address=settings.address,
        trial_timeout_seconds=None if minutes is None else 60 * minutes,
        on_ray_loss=settings.on_ray_loss,
        probe_resource=settings.latency_resource,
        probe_gpus=probe_gpus,
        modules=modules,
    )
    return options.make()
