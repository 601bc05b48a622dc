"""Imports Ray quietly, starts it here or joins a cluster, and ends what it began."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from nas.execution.ray_cluster import connect, stored_bytes
from nas.execution.ray_watch import RayWatch, watch
from nas.trial import Say


class RaySession:
    """A connection to Ray for as long as it is needed: the one that this process has, or one of its own.

    Args:
        address: A running cluster: `auto`, `host:port` or `ray://host:port`; None starts Ray on this machine.
        say: Told when it starts and ends.
    """

    def __init__(self, address: str | None, say: Say) -> None:
        self._address = address
        self._say = say
        self._ray: Any = None
        self._watch: RayWatch | None = None

    @property
    def is_own(self) -> bool:
        """Whether `begin` connected, so that it can connect again; else this process was connected before."""
        return self._ray is not None

    def begin(self, *, cpus: int, stored: object, resources: Mapping[str, float] | None = None) -> Any:
        """Connects, unless this process is connected, and returns Ray's module.

        Args:
            cpus: CPU cores that a Ray started here offers.
            stored: What will be put into its object store.
            resources: Custom resources that it offers.

        Raises:
            ExecutorError: The cluster cannot be reached.
        """
        ray = import_ray()
        if ray.is_initialized():
            self._watch = watch(ray, self._address)
            return ray
        self._say("starting Ray" if self._address is None else f"joining {self._address}")
        size = stored_bytes(ray, stored) if self._address is None else 0
        connect(ray, self._address, cpus=cpus, resources=resources or {}, stored=size)
        self._ray = ray
        self._watch = watch(ray, self._address)
        return ray

    def loss(self) -> str:
        """What of Ray itself has died, in words; empty while it is there."""
        return "" if self._watch is None else self._watch.loss()

    def end(self) -> None:
        """Disconnects, where `begin` connected, which ends a Ray started here; safe to call twice."""
        self._watch = None
        if self._ray is not None:
            ray, self._ray = self._ray, None
            self._say("ending Ray's processes")
            ray.shutdown()


def import_ray() -> Any:
    """Imports Ray without its usage reports and without its notice about accelerators."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    return ray
