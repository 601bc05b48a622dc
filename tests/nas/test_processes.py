"""Which process left something behind, and whether it still runs."""

import os
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest

from nas.io import Process, this_process


def test_this_process_is_alive_here():
    me = this_process()
    assert (me.number, me.is_here, me.is_alive) == (os.getpid(), True, True)
    assert str(me) == f"process {os.getpid()} on {me.host}"


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
def test_a_later_process_with_the_same_number_is_another_one(seconds):
    me = this_process()
    assert not replace(me, started=str(float(me.started) + seconds)).is_alive


def test_a_clock_that_was_adjusted_by_a_second_makes_no_other_process():
    me = this_process()
    assert replace(me, started=str(float(me.started) + 1.0)).is_alive


def test_a_process_that_has_ended_is_not_alive():
    child = subprocess.Popen([sys.executable, "-c", ""])
    other = replace(this_process(), number=child.pid, started="")
    child.wait()
    assert not other.is_alive


@pytest.mark.parametrize("number", [-1, 2**40])
def test_a_number_that_no_process_can_have_is_of_none(number):
    assert not Process(host="here", number=number).is_alive


def test_a_process_of_another_user_that_tells_nothing_is_alive(monkeypatch):
    def refuse(self):
        raise psutil.AccessDenied(self.pid)

    monkeypatch.setattr(psutil.Process, "create_time", refuse)
    assert Process(host="here", number=os.getpid(), started="1").is_alive


def test_a_process_elsewhere_is_not_here():
    assert not Process(host="elsewhere", number=1).is_here
