"""Notices that Ray itself has died, in time: Ray ends a driver's process a minute after its head is gone."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

CHECK_SECONDS = 1.0
"""How often Ray's processes are called at most."""

CALL_SECONDS = 2.0
"""One that does not take a call for so long has missed it."""

PATIENCE_SECONDS = 3.0
"""One on this machine that takes no call for so long is dead."""

PATIENCE_ELSEWHERE_SECONDS = 20.0
"""The same of one on another machine, which the network may hide for a while."""

Address = tuple[str, int]


class RayWatch:
    """Calls the ports of Ray's own processes now and then.

    Args:
        ports: Their addresses, by what they are.
        patience_seconds: How long one may take no call.
        clock: Seconds.
    """

    def __init__(
        self,
        ports: Mapping[str, Address],
        *,
        patience_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ports = ports
        self._patience = patience_seconds
        self._clock = clock
        self._checked_at = clock()
        self._failing_since: dict[str, float] = {}

    def loss(self) -> str:
        """What is dead, in words; empty while everything is there."""
        now = self._clock()
        if now - self._checked_at >= CHECK_SECONDS:
            self._checked_at = now
            for what, address in self._ports.items():
                if _takes_calls(address):
                    self._failing_since.pop(what, None)
                else:
                    self._failing_since.setdefault(what, now)
        gone = [what for what, since in self._failing_since.items() if now - since >= self._patience]
        return " and ".join(gone)


def watch(ray: Any, address: str | None) -> RayWatch:
    """Watches the Ray that this process is connected to.

    Args:
        ray: The module, connected.
        address: As it was joined; None where it was started here.
    """
    if address is not None and address.startswith("ray://"):
        host, _, port = address.removeprefix("ray://").rpartition(":")
        ports = {f"the Ray cluster at {address}": (host, int(port))}
        return RayWatch(ports, patience_seconds=PATIENCE_ELSEWHERE_SECONDS)
    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    ports = {"the head of Ray (its process gcs_server)": (host, int(port))}
    is_here = False
    for node in ray.nodes():
        if node["NodeID"] == context.get_node_id():
            own: Address = node["NodeManagerAddress"], node["NodeManagerPort"]
            ports["Ray on this machine (its process raylet)"] = own
            is_here = host == own[0]
    return RayWatch(ports, patience_seconds=PATIENCE_SECONDS if is_here else PATIENCE_ELSEWHERE_SECONDS)


def _takes_calls(address: Address) -> bool:
    try:
        socket.create_connection(address, timeout=CALL_SECONDS).close()
    except OSError:
        return False
    return True
