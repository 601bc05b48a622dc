import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: tests run side by side, one a core

import pytest

from nas.machine import usable_cores


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_arrives():
    """A shell may have started the tests, and with them their children, so that they ignore these signals."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, before)
    signal.signal(signal.SIGHUP, hangup)


def pytest_xdist_auto_num_workers():
    """One process more than cores, as tests wait for Ray and other processes for a third of the time."""
    return min(8, usable_cores() + 1)


def pytest_collection_modifyitems(items):
    """Tests that share a local Ray run in one process, so that Ray is started once."""
    for item in items:
        if item.get_closest_marker("ray") or "local_ray" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group("ray"))
