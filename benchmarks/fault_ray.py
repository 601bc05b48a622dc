"""The injuries of a search on Ray: of workers, of nodes, of Ray itself, of its memory.

Run as a program it is a cluster of several nodes on this machine that does what it is told on standard input.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from fault_driver import SECONDS, Driver
from fault_kinds import SIGNALS, Injure, Kind, memory_limit
from fault_round import Round

TIMEOUT = 10.0
"""Seconds that a trial may take where candidates hang; the others take up to 0.3."""


def running(one: Round) -> Driver | None:
    """The driver of a search on Ray, after some trials more; None where the search is over.

    An injury never hits a third attempt: that would be reported as lost, which is right.
    """
    if one.driver is None:
        one.driver = one.start()
    wanted = len(_reported(one.driver)) + one.rng.randint(1, 3)
    for _ in one.driver.hear():
        if len(_reported(one.driver)) >= wanted and _attempts_left(one) > 1:
            time.sleep(one.rng.uniform(0, 0.3))
            return one.driver
    one.end(one.driver)
    one.driver = None
    return None


def _reported(driver: Driver) -> set[int]:
    return {said["trial"] for said in driver.said if "trial" in said}


def _attempts_left(one: Round) -> int:
    """Attempts that every trial has left which was not reported."""
    reported = set(one.known) | (_reported(one.driver) if one.driver else set())
    ledger = Path(one.case.ledger).read_text().splitlines()
    begun = Counter(trial for trial, *_ in map(json.loads, ledger) if trial not in reported)
    return 3 - max(begun.values(), default=0)


def _family(pid: int, name: str) -> list[psutil.Process]:
    """Processes below one whose name begins so."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):
            if process.name().startswith(name):
                found.append(process)
    return found


def process_killed(name: str) -> Injure:
    """Kills a process of Ray that this search has started."""

    def injure(one: Round) -> bool:
        driver = running(one)
        found = _family(driver.pid, name) if driver is not None else []
        if not found:
            return False
        one.rng.choice(found).kill()
        return True

    return injure


def without_restart(injure: Injure) -> Injure:
    """Ray dies under a search that is to stop then, and is continued with the same command."""

    def stopping(one: Round) -> bool:
        if one.driver is not None:
            one.driver.send(signal.SIGTERM)
            one.end(one.driver, may_fail=True)
            one.driver = None
        one.case = replace(one.case, on_ray_loss="stop")
        done = injure(one)
        if done and one.driver is not None:
            one.end(one.driver, may_fail=True)
            one.driver = None
        one.case = replace(one.case, on_ray_loss="restart")
        return done

    return stopping


def driver_ended(*numbers: int) -> Injure:
    """Ends the driver by a signal; its Ray has to end too."""

    def injure(one: Round) -> bool:
        driver = running(one)
        if driver is None:
            return False
        driver.send(one.rng.choice(numbers))
        one.end(driver, may_fail=True)
        one.driver = None
        return True

    return injure


def planned(fault: str) -> Injure:
    """A candidate does this in its worker."""

    def injure(one: Round) -> bool:
        left = [number for number in range(one.case.trials) if number not in one.planned]
        number = one.rng.choice(left)
        one.planned[number] = one.kind
        one.forgiven.add(number)
        faults = {**one.case.faults, number: fault}
        timeout = TIMEOUT if any("hang" in each for each in faults.values()) else None
        one.case = replace(one.case, faults=faults, timeout=timeout)
        return True

    return injure


def filled_memory(one: Round) -> bool:
    """A candidate takes memory until Ray or the kernel kills its worker, within a control group of 3 GiB."""
    planned("memory")(one)
    with memory_limit(f"faults-ray-{os.getpid()}", 3 << 30) as group:
        enter = ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
        one.end(Driver(one.case, one.log, command=enter))
    return True


def small_shared_memory(one: Round) -> bool:
    """`/dev/shm` has 1 MiB; the driver is killed in the middle."""
    mounted = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
    one.driver = Driver(one.case, one.log, command=("unshare", "-m", "sh", "-c", mounted, "sh"))
    return driver_ended(signal.SIGKILL)(one)


def node_killed(one: Round) -> bool:
    """One of two nodes of a cluster dies; another takes its place."""
    with cluster() as order:
        one.case = replace(one.case, address=order("up"))
        driver = running(one)
        if driver is not None:
            for each in ("lose", "add"):
                order(each)
                time.sleep(one.rng.uniform(0.5, 3))
            one.end(driver)
            one.driver = None
        order("down")
    one.case = replace(one.case, address=None)
    return driver is not None


def ray_gone(one: Round) -> bool:
    """The whole cluster goes, and comes back at its address."""
    with cluster() as order:
        address = order("up")
        one.case = replace(one.case, address=address)
        driver = running(one)
        order("down")
    if driver is not None:
        time.sleep(one.rng.uniform(0, 5))
        with cluster(address.rpartition(":")[2]) as order:
            order("up")
            one.end(driver)
            one.driver = None
            order("down")
    one.case = replace(one.case, address=None)
    return driver is not None


@contextmanager
def cluster(port: str = "0") -> Iterator[Callable[[str], str]]:
    """A cluster of two nodes in a process of its own, and the function that orders it."""
    with subprocess.Popen(
        [sys.executable, __file__, port],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    ) as process:

        def order(what: str) -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{what}\n")
            process.stdin.flush()
            for line in process.stdout:
                if line.startswith("done "):
                    return line.split()[1]
            raise RuntimeError(f"the cluster ended when it was told: {what}")

        yield order
        process.stdin.close()  # type: ignore[union-attr]
        process.wait(SECONDS)


def obey() -> None:
    """Starts and ends nodes as standard input says."""
    from ray.cluster_utils import Cluster

    settings = {"initial_delay_ms": 0, "period_ms": 300, "failure_threshold": 3}
    quick = {f"health_check_{name}": value for name, value in settings.items()}
    node: dict[str, Any] = {"object_store_memory": 80 << 20, "include_dashboard": False}
    made = Cluster()
    for order in map(str.strip, sys.stdin):
        if order == "up":
            port = {"gcs_server_port": int(sys.argv[1])} if sys.argv[1] != "0" else {}
            made.add_node(num_cpus=1, **node, **port, _system_config=quick)
        if order in ("up", "add"):
            second = made.add_node(num_cpus=1, **node)
        elif order == "lose":
            made.remove_node(second, allow_graceful=False)
        else:
            made.shutdown()
        print(f"\ndone {made.address}", flush=True)


RAY_KINDS = (
    Kind(name="Ray: worker killed", injure=process_killed("ray::"), weight=32, place="ray"),
    Kind(name="Ray: raylet killed, restart", injure=process_killed("raylet"), weight=7, place="ray"),
    Kind(name="Ray: gcs_server killed, restart", injure=process_killed("gcs_server"), weight=6, place="ray"),
    Kind(
        name="Ray: raylet killed, stop",
        injure=without_restart(process_killed("raylet")),
        weight=4,
        place="ray",
    ),
    Kind(name="Ray: driver killed (SIGKILL)", injure=driver_ended(signal.SIGKILL), weight=6, place="ray"),
    Kind(name="Ray: SIGTERM, SIGINT or SIGHUP", injure=driver_ended(*SIGNALS), weight=6, place="ray"),
    Kind(name="Ray: candidate hangs in Python", injure=planned("hang!"), weight=6, place="ray candidate"),
    Kind(
        name="Ray: candidate hangs in native code",
        injure=planned("native hang!"),
        weight=6,
        place="ray candidate",
    ),
    Kind(name="Ray: segmentation fault", injure=planned("segfault"), weight=8, place="ray candidate"),
    Kind(
        name="Ray: segmentation fault at every attempt",
        injure=planned("segfault!"),
        weight=3,
        place="ray candidate",
    ),
    Kind(name="Ray: _exit", injure=planned("_exit"), weight=8, place="ray candidate"),
    Kind(
        name="Ray: exception that cannot be pickled",
        injure=planned("unpicklable!"),
        weight=6,
        place="ray candidate",
    ),
    Kind(
        name="Ray: exception with surrogates", injure=planned("surrogates!"), weight=6, place="ray candidate"
    ),
    Kind(name="Ray: memory until a worker is killed", injure=filled_memory, weight=2, place="ray alone"),
    Kind(name="Ray: /dev/shm small", injure=small_shared_memory, weight=3, place="ray alone"),
    Kind(name="Ray: node killed", injure=node_killed, weight=5, place="ray alone"),
    Kind(name="Ray: cluster gone and back", injure=ray_gone, weight=3, place="ray alone"),
)


if __name__ == "__main__":
    obey()
