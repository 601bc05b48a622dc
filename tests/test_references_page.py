"""docs/references.md says what is counted now, and what the others' modules have."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from search_spaces import cost, reference, reference_names
from search_spaces.published import PRINTED

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "references.md").read_text()
ROWS = {
    cells[0].strip("`"): cells[1:]
    for line in PAGE.splitlines()
    if line.startswith("| `")
    for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
}
"""Side, params, paper's, timm's, torchvision's, macs, paper's, timm's, torchvision's, three differences."""


def test_every_reference_network_has_its_row():
    assert set(ROWS) == {name for name in reference_names() if not name.startswith("tf_")}


@pytest.mark.parametrize("name", ROWS)
def test_the_page_says_what_is_counted(name):
    side, params, _, _, _, macs, *_ = ROWS[name]
    network = reference(name)
    assert (side, params, macs) == (
        str(network.resolution),
        f"{cost(network).params:,}",
        f"{cost(network).macs:,}",
    )


def test_printed_figures_are_within_five_percent_of_ours():
    for name, printed in PRINTED.items():
        price = cost(reference(name))
        assert price.macs == pytest.approx(printed.macs, rel=0.055), name
        if printed.params is not None:
            assert price.params == pytest.approx(printed.params, rel=0.05), name
        assert "-" not in (ROWS[name][6],)


def test_every_peer_agrees_to_the_digit_and_in_its_logits():
    compared = 0
    for name, cells in ROWS.items():
        assert set(cells[3:5] + cells[7:9]) <= {"=", "-"}, name
        differences = [float(cell) for cell in cells[9:12] if cell != "-"]
        assert all(difference < 1e-4 for difference in differences), name
        compared += len(differences)
    assert compared == int(re.search(r"^(\d+) comparisons", PAGE, re.M)[1]) > 80


@pytest.mark.slow
def test_the_peers_have_what_the_page_says(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("peers", ROOT / "benchmarks" / "peers.py")
    peers = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "peers", peers)
    spec.loader.exec_module(peers)
    for peer in peers.PEERS:
        network = reference(peer.ours)
        assert peers.peer_macs(peer) == cost(network).macs, peer
        column = 3 if peer.library == "timm" else 4
        assert ROWS[peer.ours.removeprefix("tf_")][column] == "=", peer
