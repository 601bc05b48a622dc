import signal

import pytest


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_arrives():
    """A shell that starts the tests in the background has them, and their children, ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
