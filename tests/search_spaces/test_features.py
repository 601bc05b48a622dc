import pickle
from dataclasses import replace

import pytest
import torch

from search_spaces import build, reference


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mnasnet_a1", "resnet18", "mobilenet_v3_small"])
def test_the_last_map_through_the_head_gives_the_logits_to_the_bit(name):
    network = replace(reference(name), num_classes=5)
    whole, backbone = build(network, seed=3).eval(), build(network, seed=3, features=True).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        maps = backbone(images)
        last = list(maps.values())[-1]
        assert torch.equal(whole.head(last), whole(images))
    assert list(maps) == [name for name, _ in whole.named_children() if name != "head"]
    for part, found in maps.items():
        stride = backbone.strides[part]
        assert found.shape == (2, backbone.channels[part], -(-64 // stride), -(-96 // stride))
    assert set(backbone.strides.values()) == {2, 4, 8, 16, 32} - ({2} if name == "resnet18" else set())


def test_sides_that_no_stride_divides_are_rounded_up():
    backbone = build(reference("resnet18"), seed=0, features=True)
    maps = backbone(torch.randn(2, 3, 45, 77))
    for part, found in maps.items():
        assert found.shape[2:] == (-(-45 // backbone.strides[part]), -(-77 // backbone.strides[part]))


def test_an_absent_stage_has_no_map():
    network = reference("mnasnet_a1")
    stages = (*network.stages[:2], replace(network.stages[2], repeats=0), *network.stages[3:])
    backbone = build(replace(network, stages=stages), features=True)
    assert "stage3" not in backbone.channels
    assert list(backbone(torch.randn(1, 3, 64, 64))) == list(backbone.channels) == list(backbone.strides)


def test_weights_go_from_the_network_to_its_features_and_back():
    network = replace(reference("mnasnet_a1"), num_classes=5)
    whole, backbone = build(network, seed=1), build(network, seed=2, features=True)
    state = whole.state_dict()
    backbone.load_state_dict(state)
    assert "head.classifier.weight" in state
    held = torch.nn.ModuleDict({"backbone": backbone})
    held.load_state_dict({f"backbone.{key}": value for key, value in state.items()})
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())
    other = build(network, seed=4)
    missing, unexpected = other.load_state_dict(backbone.state_dict(), strict=False)
    assert not unexpected
    assert {key.partition(".")[0] for key in missing} == {"head"}
    with pytest.raises(RuntimeError, match="stage1"):
        backbone.load_state_dict({key: value for key, value in state.items() if "stage1" not in key})
    assert pickle.loads(pickle.dumps(backbone)).strides == backbone.strides
