"""Parity with timm and torchvision, live: their weights in our modules give their logits."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from search_spaces import build, cost, reference, reference_names
from search_spaces.weights import load_weights

LARGEST_FAST = 4_500_000
"""Parameters of the largest network that is compared in the fast tests."""

RESOLUTION = 75
"""Sides of 75, 38, 19, 10, 5 and 3 pixels: TensorFlow's padding is uneven in two of the five strides."""


def _peers():
    """The module that the benchmark of parity is."""
    path = Path(__file__).parents[2] / "benchmarks" / "peers.py"
    spec = importlib.util.spec_from_file_location("benchmarks_peers", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


peers = _peers()


def _marked(peer):
    is_slow = cost(reference(peer.ours)).params > LARGEST_FAST
    marks = [pytest.mark.slow] if is_slow else []
    return pytest.param(peer, id=f"{peer.library}-{peer.theirs}", marks=marks)


each_peer = pytest.mark.parametrize("peer", [_marked(peer) for peer in peers.PEERS])


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """On images this small threads only wait for each other, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@each_peer
def test_their_weights_in_our_module_give_their_logits(peer):
    found = peers.compare(peer, RESOLUTION)
    assert found.params_ours == found.params_theirs
    assert found.difference < 1e-4
    assert found.spread > 0.02
    assert found.contrast > 0.02


@each_peer
def test_their_multiply_adds_are_those_we_count(peer):
    assert peers.peer_macs(peer) == cost(reference(peer.ours, like=peer.like)).macs


@pytest.mark.slow
@pytest.mark.parametrize("peer", [peer for peer in peers.PEERS if not peer.ours.endswith("l2")])
def test_sorted_weights_are_loaded_from_the_same_places(peer):
    module, state_dict = build(reference(peer.ours)), peers.make_peer(peer).state_dict()
    assert load_weights(module, dict(sorted(state_dict.items()))) == load_weights(module, state_dict)


@pytest.mark.parametrize(
    "peer",
    [
        peers.Peer("efficientnet_b0", "paper", "timm", "efficientnet_b0"),
        peers.Peer("efficientnet_b0", "torchvision", "timm", "tf_efficientnet_b0"),
        peers.Peer("tf_mobilenet_v3_small", "paper", "torchvision", "mobilenet_v3_small"),
        peers.Peer("mnasnet_small", "paper", "timm", "mnasnet_small"),
    ],
    ids=["other eps", "other eps and padding", "other padding", "other skip"],
)
def test_the_comparison_sees_what_is_not_among_the_weights(peer):
    assert peers.compare(peer, RESOLUTION).difference > 1e-3


def test_all_that_timm_and_torchvision_have_is_compared():
    compared = {peer.ours for peer in peers.PEERS}
    assert len(set(peers.PEERS)) == len(peers.PEERS)
    assert compared <= set(reference_names())
    assert {name for name in reference_names() if name not in compared} == {
        "mnasnet_a1_035",
        "mnasnet_a1_130",
        "mnasnet_b1_035",
        *(f"mnasnet_small_{width}" for width in ("035", "050", "075", "130", "140")),
        *(f"mnasnet_d1{width}" for width in ("", "_035", "_050", "_075", "_130", "_140")),
        "mobilenet_v2_130",
        "efficientnet_v2_b0",  # timm has these with TensorFlow's padding alone
        "efficientnet_v2_b1",
        "efficientnet_v2_b2",
        "efficientnet_v2_b3",
    }
