"""What the operating system says of this machine, containers among them."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from nas.machine import (
    free_memory,
    held_memory,
    memory_kills,
    open_files,
    processor_name,
    usable_cores,
)


def test_machine_facts_are_possible():
    free, total = free_memory()
    assert 0 < free <= total
    assert usable_cores() >= 1


def test_what_a_process_holds_is_its_memory_and_its_open_files(tmp_path):
    memory, files = held_memory(), open_files()
    kept = bytearray(os.urandom(1 << 20) * 256)  # far more than what other tests left, and may be freed now
    opened = [(tmp_path / str(number)).open("w") for number in range(20)]
    assert held_memory() - memory >= len(kept) // 2
    assert 0 < files < open_files() < 1
    for file in opened:
        file.close()


@pytest.mark.parametrize(
    ("limit", "used", "expected"), [("1000", "400", (600, 1000)), ("1000", "1400", (0, 1000))]
)
def test_memory_is_the_containers_where_it_has_a_limit(tmp_path, limit, used, expected):
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{used}\n")
    assert free_memory(tmp_path) == expected


def test_memory_is_the_machines_in_a_container_without_a_limit(tmp_path):
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert free_memory(tmp_path)[1] == free_memory(tmp_path / "none")[1] > 1000


def test_the_processor_is_named_as_the_system_names_it(tmp_path: Path):
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel\t\t: 17\nmodel name\t: Fast One 3000\n")
    assert processor_name(info) == "Fast One 3000"
    info.write_text("processor\t: 0\nBogoMIPS\t: 108.00\n\nModel\t\t: Small Board 5\n")
    assert processor_name(info) == "Small Board 5"
    assert processor_name(tmp_path / "none")


FAULTS = """
import ctypes, resource, sys
from nas.machine import keep_freed_memory

libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
if sys.argv[1] == "keep":
    assert keep_freed_memory()


def touch():
    place = libc.malloc(100 << 20)
    libc.memset(place, 1, 100 << 20)
    libc.free(place)


touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is Linux's")
def test_freed_memory_is_taken_again_without_asking_the_system():
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("the C library is another one")
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, check=True).stdout)
        for how in ("keep", "default")
    )
    assert kept < 100 < given_back


def test_processes_that_linux_ended_for_want_of_memory_are_those_of_the_container(tmp_path):
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("nr_free_pages 7\noom_kill 5\noom_kill_other 9\n")
    assert memory_kills(tmp_path, vmstat) == 5
    (tmp_path / "memory.events").write_text("low 0\noom 4\noom_kill 2\noom_group_kill 0\n")
    assert memory_kills(tmp_path, vmstat) == 2
    assert memory_kills(tmp_path / "none", tmp_path / "none") == 0
