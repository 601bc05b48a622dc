"""The injuries of a search in one process: of its driver, its disk, its files, its clock, its candidates."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fault_driver import Driver
from fault_round import Round
from fault_search import CANDIDATE_FAULTS

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Injure = Callable[[Round], bool]
"""Injures a search once; says whether it did, as the search may be over before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of injury.

    Attributes:
        name: In the report.
        injure: Does it.
        weight: How often it is chosen.
        place: Where it happens: kinds of one place may injure one search.
    """

    name: str
    injure: Injure
    weight: float = 1.0
    place: str = "plain"


def killed(one: Round) -> bool:
    """The driver is killed at a line."""
    driver = one.stopped()
    if driver is None:
        return False
    driver.send(signal.SIGKILL)
    one.end(driver)
    return True


def killed_in_time(one: Round) -> bool:
    """The driver is killed at a moment in time, in the middle of whatever SQLite or the kernel does."""
    driver = one.start()
    left = one.rng.randint(0, int(one.case.trials * one.share))
    for said in driver.hear():
        left -= "trial" in said
        if left < 0:
            break
    time.sleep(one.rng.uniform(0, 0.02))
    driver.send(signal.SIGKILL)
    return one.end(driver) == -signal.SIGKILL


def signalled(one: Round) -> bool:
    """A user, a scheduler or a terminal that is closed ends the search."""
    driver = one.stopped()
    if driver is None:
        return False
    driver.send(one.rng.choice(SIGNALS))
    _go(driver)
    one.end(driver, may_fail=True)
    return True


def signalled_twice(one: Round) -> bool:
    """The same, impatiently."""
    driver = one.stopped()
    if driver is None:
        return False
    driver.send(one.rng.choice(SIGNALS))
    _go(driver)
    time.sleep(one.rng.choice((0.0, 0.0005, 0.002, 0.01)))
    with suppress(ProcessLookupError):
        driver.send(one.rng.choice(SIGNALS))
    one.end(driver, may_fail=True)
    return True


def _go(driver: Driver) -> None:
    with suppress(BrokenPipeError):
        driver.go()


def second_driver(one: Round) -> bool:
    """The same command is given a second time while the search runs."""
    first = one.stopped()
    if first is None:
        return False
    if one.rng.random() < 0.3:  # as on a file system without locks
        (one.folder / "study.lock").unlink(missing_ok=True)
    second = one.start()
    one.end(second, may_fail=True)
    refused = any("already writes" in said.get("error", "") for said in second.said)
    first.go() if one.rng.random() < 0.5 else first.send(signal.SIGKILL)
    one.end(first, may_fail=not refused)
    if refused and second.has_said("trial"):
        one.lose("a second driver was refused, but reported trials")
    return True


def clock_jumps(one: Round) -> bool:
    """The date jumps by up to 30 days back and forth, and the driver is killed in the end."""
    driver = one.stopped(clock_seed=one.rng.randrange(1 << 30))
    if driver is None:
        return False
    driver.send(one.rng.choice((signal.SIGKILL, signal.SIGTERM)))
    _go(driver)
    one.end(driver, may_fail=True)
    return True


@contextmanager
def injected(driver: Driver, *faults: str) -> Iterator[None]:
    """Has the kernel's answers to a driver changed by strace: errors, or delays."""
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(driver.pid)]
    calls = "fsync,fdatasync,pwrite64,write,rename,unlink,ftruncate"
    with subprocess.Popen(
        [*command, "-e", f"trace={calls}", *(part for fault in faults for part in ("-e", f"inject={fault}"))],
        stderr=subprocess.DEVNULL,
    ) as tracer:
        status = Path(f"/proc/{driver.pid}/status")
        while "TracerPid:\t0" in status.read_text() and tracer.poll() is None:
            time.sleep(0.005)
        yield
        tracer.terminate()


def slow_disk(one: Round) -> bool:
    """Everything that goes to the disk takes up to 30 ms longer, until the driver is killed."""
    driver = one.stopped()
    if driver is None:
        return False
    delay = one.rng.randint(1_000, 30_000)
    with injected(driver, f"fsync,fdatasync,pwrite64,rename,unlink:delay_enter={delay}"):
        driver.go()
        time.sleep(one.rng.uniform(0, 0.6))
        driver.send(signal.SIGKILL)
        one.end(driver)
    return True


def failing_disk(one: Round) -> bool:
    """From some write on, the disk says that it is full, or broken."""
    driver = one.stopped()
    if driver is None:
        return False
    what = one.rng.choice(("ENOSPC", "EIO", "EDQUOT"))
    calls = one.rng.choice(("pwrite64", "fsync,fdatasync", "pwrite64,fsync,fdatasync,rename"))
    count = one.rng.choice(("", "+", "+"))
    with injected(driver, f"{calls}:error={what}:when={one.rng.randint(1, 30)}{count}"):
        driver.go()
        one.end(driver, may_fail=True)
    return True


def full_disk(one: Round) -> bool:
    """The disk fills up at a line, to the last byte or nearly so; afterwards there is room again."""
    driver = one.stopped()
    if driver is None:
        return False
    filler = one.folder.parent / "filler"
    _fill(filler, spare=one.rng.choice((0, 0, 4_096, 20_000)))
    driver.go()
    one.end(driver, may_fail=True)
    filler.unlink()
    return True


def _fill(path: Path, *, spare: int) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
        file.truncate(max(0, file.tell() - spare))


def read_only(one: Round) -> bool:
    """The folder, or that of weights, may not be written to from some line on, or when the search begins."""
    if one.rng.random() < 0.3 and one.folder.exists():
        with _locked(one.folder):
            driver = one.start()
            one.end(driver, may_fail=True)
            if driver.has_said("trial"):
                one.lose("trials were reported from a folder that cannot be written")
        return True
    driver = one.stopped()
    if driver is None:
        return False
    weights = one.folder / "weights"
    with _locked(weights if weights.exists() and one.rng.random() < 0.5 else one.folder):
        driver.go()
        one.end(driver, may_fail=True)
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if folder.exists():
        folder.chmod(0o555)
    try:
        yield
    finally:
        if folder.exists():
            folder.chmod(0o755)


def _open(one: Round) -> Driver | None:
    """A driver that has stopped at a random line between the start of its search and the end."""
    driver = one.stopped()
    if driver is None:
        return None
    if driver.has_said("start") and not driver.has_said("ending"):
        return driver
    driver.go()
    one.end(driver)
    return None


def moved(one: Round) -> bool:
    """The study's folder is moved while the search runs, and put back, or continued where it is."""
    driver = _open(one)
    if driver is None:
        return False
    away = one.folder.with_name(f"moved-{one.injuries[one.kind]}")
    one.folder.rename(away)
    driver.go()
    one.end(driver, may_fail=True)
    _lose_folder(one)
    if one.rng.random() < 0.5:
        away.rename(one.folder)
    else:
        one.case = replace(one.case, folder=str(away))
    return True


def deleted(one: Round) -> bool:
    """The study's folder is deleted while the search runs: that is said, and a new search begins."""
    driver = _open(one)
    if driver is None:
        return False
    shutil.rmtree(one.folder)
    driver.go()
    one.end(driver, may_fail=True)
    if not driver.has_said("error"):
        one.lose("the folder was deleted, and the search did not say so")
    _lose_folder(one)
    one.name("trials deleted by the user", len(one.known))
    one.known.clear()
    Path(one.case.ledger).unlink(missing_ok=True)
    return True


def _lose_folder(one: Round) -> None:
    """Writes down that a folder is in place of the study's."""
    if one.folder.exists():
        left = sorted(path.relative_to(one.folder).as_posix() for path in one.folder.rglob("*"))
        one.lose(f"a folder was made anew in place of the study's, with {left}")
        shutil.rmtree(one.folder)


def deleted_weights(one: Round) -> bool:
    """Files of weights are deleted while the search runs, which is killed or ended then."""
    driver = one.stopped()
    if driver is None:
        return False
    files = sorted((one.folder / "weights").glob("trial-*"))
    gone = [path for path in files if one.rng.random() < 0.5]
    for path in gone:
        path.unlink()
    driver.send(one.rng.choice((signal.SIGKILL, signal.SIGTERM)))
    _go(driver)
    one.end(driver, may_fail=True)
    one.name("files of weights", len(gone))
    return bool(gone)


def candidate(one: Round) -> bool:
    """A candidate gives no number, raises what cannot be pickled or printed, or calls for the end."""
    left = [number for number in range(one.case.trials) if number not in one.planned]
    number = one.rng.choice(left)
    one.planned[number] = one.kind
    one.case = replace(one.case, faults={**one.case.faults, number: f"{one.rng.choice(CANDIDATE_FAULTS)}!"})
    return True


def deadly(one: Round) -> bool:
    """A candidate ends the process of the search, once or at each of three attempts."""
    number = one.rng.randrange(one.case.trials)
    fault = one.rng.choice(("_exit", "segfault"))
    always = one.rng.random() < 0.5
    one.case = replace(one.case, faults={number: fault + "!" * always})
    one.forgiven.add(number)
    for _ in range(3 if always else 1):
        driver = one.start()
        if one.end(driver) not in (7, -signal.SIGSEGV):
            return False
    one.injuries[one.kind] += 2 * always
    return True


@contextmanager
def memory_limit(name: str, size: int) -> Iterator[Path]:
    """A control group with so many bytes, in which the kernel ends who takes more (cgroup v1 or v2)."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next((line.split(":", 2)[2] for line in lines if ":memory:" in line), None)
    v1 = Path("/sys/fs/cgroup/memory")
    group = v1 / (own or "/").lstrip("/") / name if own is not None else Path("/sys/fs/cgroup") / name
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if own is not None else "memory.max")).write_text(str(size))
        yield group
    finally:
        for _ in range(50):
            with suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.1)


def out_of_memory(one: Round) -> bool:
    """A candidate takes memory until the kernel kills the process of the search."""
    number = one.rng.randrange(one.case.trials)
    one.case = replace(one.case, faults={number: "memory"})
    with memory_limit(f"faults-{os.getpid()}", 256 << 20) as group:
        driver = one.start(1)
        driver.reaches_line()
        (group / "cgroup.procs").write_text(str(driver.pid))
        driver.go()
        return one.end(driver) == -signal.SIGKILL


KINDS = (
    Kind(name="driver killed (SIGKILL) at a line of code", injure=killed, weight=120),
    Kind(name="driver killed (SIGKILL) at a moment in time", injure=killed_in_time, weight=120),
    Kind(name="SIGTERM, SIGINT or SIGHUP", injure=signalled, weight=110),
    Kind(name="two of these signals", injure=signalled_twice, weight=90),
    Kind(name="a second driver", injure=second_driver, weight=50),
    Kind(name="the clock jumps", injure=clock_jumps, weight=40),
    Kind(name="slow disk", injure=slow_disk, weight=30),
    Kind(name="disk that fails (ENOSPC, EIO, EDQUOT)", injure=failing_disk, weight=50),
    Kind(name="folder moved away", injure=moved, weight=30),
    Kind(name="folder deleted", injure=deleted, weight=20),
    Kind(name="weights deleted", injure=deleted_weights, weight=40),
    Kind(name="full disk", injure=full_disk, weight=50, place="full disk"),
    Kind(name="folder that is read-only", injure=read_only, weight=40, place="user"),
    Kind(name="NaN, odd exception, sys.exit of a candidate", injure=candidate, weight=30, place="candidates"),
    Kind(name="_exit or segmentation fault in the driver", injure=deadly, weight=7, place="deadly"),
    Kind(name="driver killed by the kernel for memory", injure=out_of_memory, weight=4, place="deadly"),
)
