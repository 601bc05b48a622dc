"""Nothing asks a network unless it is told to: an audit hook refuses every address but this machine's."""

import subprocess
import sys

import pytest

HOOK = """
import os, sys
def watch(event, arguments):
    if event == "socket.connect":
        address = arguments[1]
        is_here = not isinstance(address, tuple) or str(address[0]).startswith(("127.", "::1"))
    else:
        is_here = event != "socket.getaddrinfo" or arguments[0] in (None, "", "localhost", "127.0.0.1")
    if not is_here:
        sys.stderr.write(f"asked the network: {event} {arguments[1:] or arguments}\\n")
        sys.stderr.flush()
        os._exit(77)
sys.addaudithook(watch)
"""

SEARCH = """
import nas
from nas.cli.main import main
from search_spaces import mnasnet
study = nas.search(
    mnasnet(resolution=32, num_classes=10),
    evaluator=nas.TableEvaluator(lambda candidate: 0.5, name="half"),
    controller="random", target_macs=5e6, trials=3, executor="inline", out=sys.argv[1],
)
study.best.network
sys.exit(main(["show", sys.argv[1], "--json"]) or main(["describe", "efficientnet_b0", "--json"]))
"""


def run(program, *arguments):
    command = [sys.executable, "-c", HOOK + program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_search_and_its_report_ask_no_network(tmp_path):
    done = run(SEARCH, tmp_path / "study")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "call", ['socket.create_connection(("192.0.2.1", 9))', 'socket.getaddrinfo("a.test", 80)']
)
def test_the_hook_of_this_test_notices_a_call(call):
    assert run(f"import socket\n{call}").returncode == 77
