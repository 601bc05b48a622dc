"""What has to be known of a Ray cluster: that it answers in time, runs our version, offers a resource."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from nas.errors import ExecutorError
from nas.execution.failures import failure_of
from nas.trial import Say
from nas.version import package_fingerprint

FETCH_SECONDS = 60.0
"""A result, weights or a worker's greeting that do not arrive for so long are lost with their worker."""

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


def version_problem(driver: str, worker: str) -> str:
    """What is wrong when driver and worker have these fingerprints; empty when they agree."""
    if driver == worker:
        return ""
    return (
        f"every worker must run the driver's version of mnas, but the driver's source is {driver} and that "
        f"on {socket.gethostname()} is {worker}: install the same version on every node"
    )


def problem_of(fingerprint: str, what: str, prepare: Callable[[], None]) -> str:
    """Prepares an actor; returns what went wrong as text, or nothing.

    Args:
        fingerprint: The driver's.
        what: The actor in words.
        prepare: Does it, where the versions agree.
    """
    problem = version_problem(fingerprint, package_fingerprint())
    if not problem:
        try:
            prepare()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            failure = failure_of(error)
            problem = f"{what} could not be prepared: {failure.message}\n{failure.log}"
    return problem


def await_ready(ray: Any, greetings: list[Any], *, seconds: float, say: Say) -> int:
    """Waits until all workers are prepared, and returns how many of them are late.

    Args:
        ray: The module, connected.
        greetings: What each of them answers: what went wrong, or nothing.
        seconds: How long to wait.
        say: Told how many are ready.

    Raises:
        ExecutorError: One died, or could not be prepared.
    """
    until = time.monotonic() + seconds
    ready: list[Any] = []
    while len(ready) < len(greetings) and (left := until - time.monotonic()) > 0:
        say(f"workers load PyTorch and the images, {len(ready)} of {len(greetings)} are ready")
        ready, _ = ray.wait(greetings, num_returns=len(ready) + 1, timeout=left)
        for greeting in ready:
            try:
                problem = ray.get(greeting, timeout=FETCH_SECONDS)
            except ray.exceptions.RayError as error:
                raise ExecutorError(f"a worker died while it was prepared: {error}") from error
            if problem:
                raise ExecutorError(problem)
    return len(greetings) - len(ready)


def check_offered(ray: Any, resource: str) -> None:
    """Checks that some node of the cluster offers a custom resource.

    Raises:
        ExecutorError: None does; names those that are offered.
    """
    totals = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(node.get(resource, 0.0) >= 1 for node in totals):
        return
    names = sorted({name for node in totals for name in node if _is_custom(name)})
    raise ExecutorError(
        f"no node of the cluster offers the latency resource {resource!r} (offered: "
        f"{', '.join(names) or 'none'}): start the device's node with "
        f"ray start --address=HEAD:PORT --resources='{{\"{resource}\": 1}}'"
    )


def check_gpus(ray: Any, workers: int, gpus: float, *, probe_gpus: float = 0.0) -> None:
    """Checks that a cluster has room for every worker's GPUs and those of a probe, were it empty.

    Raises:
        ExecutorError: It has not.
    """
    if not (gpus or probe_gpus):
        return
    nodes = [node["Resources"].get("GPU", 0.0) for node in ray.nodes() if node["Alive"]]
    beside = f" beside {probe_gpus:g} for measuring latency" if probe_gpus else ""
    free = sum(nodes) - probe_gpus
    if not gpus:
        room = workers if free >= 0 else 0
    elif gpus < 1:
        room = int(free) * math.floor(1 / gpus + 1e-9)
    else:
        room = min(sum(int(count // gpus) for count in nodes), int(free // gpus))
    if room < workers:
        raise ExecutorError(
            f"{workers} workers with {gpus:g} GPUs each{beside} were asked for, but there are "
            f"{sum(nodes):g} GPUs, room for {max(0, room)}: use fewer workers or a smaller --gpus-per-worker"
        )


def limit_gpu_memory(share: float) -> None:
    """Holds this process to its share of a GPU's memory, which Ray only counts; does nothing at 0 and 1."""
    if 0 < share < 1:
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_per_process_memory_fraction(share)


def _is_custom(name: str) -> bool:
    return name not in ("CPU", "GPU", "memory", "object_store_memory") and not name.startswith(
        ("node:", "accelerator_type:")
    )
