"""What identifies a device, how much of it others use, and what of the process changes speed."""

from collections import namedtuple

import psutil
import pytest

from nas.errors import LatencyError
from nas.latency.devices import DeviceSettings
from nas.latency.environment import (
    CpuTimes,
    busy,
    describe_environment,
    judge_share,
    read_cpu_times,
    require_quiet,
    share_of_others,
)
from nas.machine import keep_freed_memory

CPU = DeviceSettings(device="cpu")


def test_the_environment_names_what_ran_the_network():
    plain, onnx = (describe_environment(DeviceSettings(device=device)) for device in ("cpu", "onnx-cpu"))
    assert (plain.onnxruntime, plain.cuda) == ("", "")
    assert plain.options == "freed memory kept" * keep_freed_memory()
    assert plain.options in plain.text
    assert onnx.options == ""
    assert onnx.onnxruntime
    assert f"ONNX Runtime {onnx.onnxruntime}" in onnx.text
    assert plain.cores >= 1


def test_what_others_use_is_all_but_idle_and_this_process(monkeypatch):
    times = namedtuple("times", ["user", "system", "idle", "iowait", "steal", "guest"])
    own = namedtuple("own", ["user", "system"])

    def read(cpu, process):
        monkeypatch.setattr(psutil, "cpu_times", lambda: times(*cpu))
        monkeypatch.setattr(psutil.Process, "cpu_times", lambda _: own(*process))
        return read_cpu_times()

    # 40 of the user's seconds are a guest's, which Linux counts in both places.
    before = read((100, 50, 800, 10, 0, 40), (30, 10))
    # 200 seconds later: 60 idle, 10 waiting for disks, 130 used (20 of them stolen), 50 of them here.
    after = read((190, 70, 860, 20, 20, 90), (70, 20))
    assert (before.idle, before.own) == (810, 40)
    assert after.total - before.total == 200
    assert share_of_others(before, after) == pytest.approx((130 - 50) / 200)


def test_a_system_that_does_not_tell_is_unknown_not_idle(monkeypatch):
    def fail():
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "cpu_times", fail)
    assert read_cpu_times() is None
    times = CpuTimes(total=10, idle=5, own=1)
    assert share_of_others(None, times) is share_of_others(times, times) is None
    unknown = judge_share(None, "CPU")
    assert "cannot be known" in unknown.text
    assert not unknown.is_busy


@pytest.mark.parametrize(
    ("share", "is_busy", "is_too_busy"), [(0.05, False, False), (0.2, True, False), (0.5, True, True)]
)
def test_a_busy_machine_is_flagged_and_a_very_busy_one_refused(share, is_busy, is_too_busy):
    found = judge_share(share, "CPU")
    assert (found.is_busy, found.is_too_busy) == (is_busy, is_too_busy)


def test_this_machine_can_be_asked_how_busy_it_is():
    found = busy(CPU, seconds=0.05)
    assert found.share is None or 0 <= found.share <= 1


def test_a_very_busy_machine_is_refused_unless_forced(monkeypatch):
    monkeypatch.setattr("nas.latency.environment.busy", lambda _: judge_share(0.8, "CPU"))
    with pytest.raises(LatencyError, match="others used 80 % of the CPU") as error:
        require_quiet(CPU)
    assert error.value.field == "force"
    assert require_quiet(CPU, is_forced=True).share == 0.8
