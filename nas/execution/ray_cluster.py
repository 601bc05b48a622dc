"""Joins or starts a Ray cluster, and checks that it answers in time and offers what is needed."""

from __future__ import annotations

import math
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from nas.errors import ExecutorError
from nas.trial import Say

FETCH_SECONDS = 60.0
"""A result, weights or a worker's greeting that do not arrive for so long are lost with their worker."""

JOIN_SECONDS = 60.0
"""A cluster that cannot be joined within so long is an error."""

LOOK_SECONDS = 5.0
"""How often it is looked whether Ray is there, while workers are prepared."""

DEATHS_AT_START = 3
"""A worker that dies so often while it is prepared is an error."""

STORE_BYTES = 160 << 20
"""Object store beside what the evaluator needs; Ray's least is 75 MiB."""

STARTS = 2
"""How often it is tried to start Ray on this machine."""

AGAIN_SECONDS = 5.0
"""Pause between these."""

FOLDER_BYTES = 32 << 20
"""Least room in Ray's folder; its logs take a few megabytes."""

LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's environment variable; 0 keeps it to this machine."""

OWN_RAY = {
    LOOPBACK_SWITCH: "0",
    "RAY_ROTATION_MAX_BYTES": str(16 << 20),
    "RAY_ROTATION_BACKUP_COUNT": "1",
}
"""Ray's environment variables while it is started here. Without them a log grows to 3 GiB, and what a worker
prints without end."""

CONNECT_SECONDS = 5.0
"""A cluster that does not answer for so long is unreachable."""


def connect(ray: Any, address: str | None, *, cpus: int, resources: Mapping[str, float], stored: int) -> None:
    """Joins the cluster at an address, or starts Ray on this machine.

    Args:
        ray: The module.
        address: `auto`, `host:port` or `ray://host:port`; None starts Ray.
        cpus: CPU cores that a Ray started here offers.
        resources: Custom resources that it offers.
        stored: Bytes that will be put into its object store.

    Raises:
        ExecutorError: The cluster cannot be reached, or Ray cannot start.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is not None:
        _check_reachable(address)
        what = f"the Ray cluster at {address}"
        _bounded(lambda: ray.init(address=address, **quiet), seconds=JOIN_SECONDS, what=what)
        return
    start_here(
        ray,
        num_cpus=cpus,
        resources=dict(resources) or None,
        object_store_memory=STORE_BYTES + int(1.2 * stored),
        **quiet,
    )


def start_here(ray: Any, *, sleep: Callable[[float], None] = time.sleep, **options: Any) -> None:
    """Starts Ray on this machine, which may need a second try where the machine is busy.

    Args:
        ray: The module.
        sleep: Waits so many seconds.
        options: Options of `ray.init`.

    Raises:
        ExecutorError: Its folder cannot be used, or it did not start twice.
    """
    folder = ray_folder()
    _check_folder(folder)
    for attempt in range(1, STARTS + 1):
        before = {child.pid for child in psutil.Process().children(recursive=True)}
        try:
            with own_ray(ray):
                ray.init(address="local", include_dashboard=False, **options)
            return
        except OSError as error:
            raise ExecutorError(_no_folder(folder, error), field="executor") from error
        except Exception as error:
            _end_processes(before)
            if attempt == STARTS:
                line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                raise ExecutorError(
                    f"Ray did not start on this machine in {STARTS} tries: {line}. The machine may be "
                    "overloaded, or short of memory or processes: wait until others have ended and start "
                    f"again, look into {folder / 'ray/session_latest/logs'}, or do without Ray: --executor "
                    "inline",
                    field="executor",
                ) from error
            sleep(AGAIN_SECONDS)


@contextmanager
def own_ray(ray: Any) -> Iterator[None]:
    """Has a Ray that is started meanwhile listen on 127.0.0.1 alone, and bound its logs.

    Its ports have no password. On Linux Ray replaces a loopback address that it is given by that of the
    network, unless a switch made for the firewalls of Windows and macOS is off. Its processes read it from
    the environment; in this one Ray has read it already. Whoever sets one of `OWN_RAY` decides.
    """
    constants = ray._private.ray_constants
    added = {name: value for name, value in OWN_RAY.items() if name not in os.environ}
    before = constants.ENABLE_RAY_CLUSTER
    os.environ.update(added)
    if LOOPBACK_SWITCH in added:
        constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before
        for name in added:
            del os.environ[name]


def ray_folder() -> Path:
    """The folder in which Ray, started here, keeps its sockets and logs."""
    names = ("RAY_TMPDIR", "TMPDIR") if sys.platform.startswith("linux") else ("RAY_TMPDIR",)
    return Path(next((os.environ[name] for name in names if name in os.environ), "/tmp"))


def _check_folder(folder: Path) -> None:
    """Checks that Ray's folder can be written and has room; a full one would only be a start that hangs."""
    try:
        (folder / "ray").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder / "ray"):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        raise ExecutorError(_no_folder(folder, error), field="executor") from error
    if free < FOLDER_BYTES:
        raise ExecutorError(
            _no_folder(folder, f"{free / 2**20:.1f} MiB are free, and it needs {FOLDER_BYTES >> 20}"),
            field="executor",
        )


def _no_folder(folder: Path, why: object) -> str:
    return (
        f"Ray cannot start on this machine, as its folder {folder} cannot be used: {why}. Make room there, "
        "set RAY_TMPDIR to another folder with a short path, or do without Ray: --executor inline"
    )


def _end_processes(before: Set[int]) -> None:
    """Ends what a failed start has left, which Ray itself does only when this process ends."""
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    for child in left:
        with suppress(psutil.Error):
            child.kill()
    psutil.wait_procs(left, timeout=5.0)


def stored_bytes(ray: Any, value: object) -> int:
    """Bytes that a value takes in the object store, found without copying its arrays."""
    buffers: list[Any] = []
    head = ray.cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return len(head) + sum(int(buffer.raw().nbytes) for buffer in buffers)


def _check_reachable(address: str) -> None:
    """Checks that something listens at a cluster's address, which Ray takes a minute to find out."""
    if address in ("auto", "local"):
        return
    try:
        parts = urlsplit(address if "//" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None:
        raise ExecutorError(
            f"an address is auto, host:port or ray://host:port, but got {address!r}: give one of these",
            field="address",
        )
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise ExecutorError(
            f"nothing answers at {host}:{port} ({error}): start the cluster with `ray start --head`, check "
            "the address and the firewall, or leave the address out to run on this machine",
            field="address",
        ) from error


def _bounded(action: Callable[[], object], *, seconds: float, what: str) -> None:
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
        raise ExecutorError(
            f"{what} did not answer within {seconds:g} s: check that it is one, and runs", field="address"
        )
    if failures:
        raise ExecutorError(f"{what} cannot be joined: {failures[0]}", field="address") from failures[0]


def await_ready(
    ray: Any,
    greetings: Sequence[Any],
    restart: Callable[[int], Any],
    *,
    seconds: float,
    say: Say,
    loss: Callable[[], str] = str,
) -> int:
    """Waits until all workers are prepared, and returns how many of them are late.

    One that dies is started again, as often as a trial that machines lose.

    Args:
        ray: The module, connected.
        greetings: References to what each of them answers.
        restart: Starts the worker of a place anew, and returns the reference to its greeting.
        seconds: How long to wait.
        say: Receives how many are ready.
        loss: Names what of Ray itself has died.

    Raises:
        ExecutorError: Ray itself died, a worker died too often, or could not be prepared.
    """
    until = time.monotonic() + seconds
    deaths = Counter[int]()
    late = dict(enumerate(greetings))
    while late and (left := until - time.monotonic()) > 0:
        count = len(greetings)
        say(f"workers load PyTorch and the images, {count - len(late)} of {count} are ready")
        ready, _ = ray.wait([*late.values()], num_returns=1, timeout=min(left, LOOK_SECONDS))
        if lost := loss():
            raise ExecutorError(
                f"{lost} died while workers were prepared: look for what ends it, and start again"
            )
        for place in [place for place, greeting in late.items() if greeting in ready]:
            try:
                problem = ray.get(late[place], timeout=FETCH_SECONDS).problem
            except ray.exceptions.RayError as error:
                deaths[place] += 1
                if deaths[place] == DEATHS_AT_START:
                    raise ExecutorError(
                        f"a worker died {DEATHS_AT_START} times while it was prepared: look for what ends "
                        f"it, such as too little memory or a crash of native code; {error}"
                    ) from error
                late[place] = restart(place)
                continue
            if problem:
                raise ExecutorError(problem)
            del late[place]
    return len(late)


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
        f"ray start --address=HEAD:PORT --resources='{{\"{resource}\": 1}}'",
        field="probe_resource",
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
            f"{sum(nodes):g} GPUs, room for {max(0, room)}: use fewer workers or a smaller --gpus-per-worker",
            field="workers",
        )


def check_room(nodes: Sequence[Mapping[str, float]], workers: int, need: Mapping[str, float]) -> None:
    """Checks that nodes, were they idle, have room for all workers.

    Args:
        nodes: What each node offers, by Ray's names of resources.
        workers: How many workers.
        need: What each worker holds.

    Raises:
        ExecutorError: They have not.
    """
    room = sum(
        min(math.floor(node.get(name, 0.0) / amount + 1e-9) for name, amount in need.items())
        for node in nodes
    )
    if room >= workers:
        return
    offered = ", ".join(f"{sum(node.get(name, 0.0) for node in nodes):g} {name}s" for name in need)
    asked = " and ".join(f"{amount:g} {name}{'s' * (amount != 1)}" for name, amount in need.items())
    raise ExecutorError(
        f"{workers} workers with {asked} each were asked for, but there are {offered}, room for {room}: "
        "use fewer workers",
        field="workers",
    )


def _is_custom(name: str) -> bool:
    return name not in ("CPU", "GPU", "memory", "object_store_memory") and not name.startswith(
        ("node:", "accelerator_type:")
    )
