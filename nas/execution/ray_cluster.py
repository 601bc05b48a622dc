"""Owns what has to be known before joining a Ray cluster: that it answers, and in time.

Does not own the workers on it (`nas.execution.ray_executor`), nor imports Ray.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from nas.errors import ExecutorError

CONNECT_SECONDS = 5.0
"""A cluster that does not answer for so long is unreachable."""


def stored_bytes(ray: Any, value: object) -> int:
    """Bytes that a value takes in the object store, found without copying its arrays."""
    buffers: list[Any] = []
    head = ray.cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return len(head) + sum(int(buffer.raw().nbytes) for buffer in buffers)


def check_reachable(address: str) -> None:
    """Checks that something listens at a cluster's address, which Ray takes a minute to find out."""
    if address in ("auto", "local"):
        return
    try:
        parts = urlsplit(address if "//" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None:
        raise ExecutorError(f"an address is auto, host:port or ray://host:port, but got {address!r}")
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise ExecutorError(
            f"nothing answers at {host}:{port} ({error}): start the cluster with `ray start --head`, check "
            "the address and the firewall, or leave the address out to run on this machine"
        ) from error


def bounded(action: Callable[[], object], *, seconds: float, what: str) -> None:
    """Does something that may hang; gives up on it in time."""
    failures: list[BaseException] = []

    def attempt() -> None:
        try:
            action()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise ExecutorError(f"{what} did not answer within {seconds:g} s: check that it is one, and runs")
    if failures:
        raise ExecutorError(f"{what} cannot be joined: {failures[0]}") from failures[0]
