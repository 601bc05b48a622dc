"""Costs counted twice: by description, and by fvcore on the built module."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from nas.errors import UsageError
from nas.evaluation.cost_check import CostDifference, check_costs
from search_spaces import Context, Conv, Head, Network, Stage, cost, reference
from search_spaces.primitives import Call, Chain, Layer, Shape


@pytest.mark.parametrize(
    "name",
    ["mnasnet_a1", "mobilenet_v1", "mobilenet_v3_small", "efficientnet_b0", "efficientnet_v2_b0", "resnet18"],
)
def test_both_counts_of_published_networks_agree(name):
    network = replace(reference(name), resolution=64)
    check = check_costs(network)
    assert check.is_equal
    assert check.differences == ()
    assert (check.counted_macs, check.counted_params) == (cost(network).macs, cost(network).params)


class Twice(nn.Module):
    """A layer of a user's own: two convolutions one after the other."""

    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 1, bias=False)
        self.second = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, images):
        return self.second(self.first(images))


class Branching(Twice):
    def forward(self, images):
        raise RuntimeError(f"no such branch\nfor {images}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """Says of its module that it has so many convolutions."""

    module: type[nn.Module]
    convolutions: int

    def at(self, shape: Shape) -> Layer:
        weights = self.convolutions * shape.channels**2
        return Layer(
            out=shape,
            call=Call(self.module, (shape.channels,)),
            macs=weights * shape.height * shape.width,
            params=weights,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnOp:
    module: type[nn.Module] = Twice
    convolutions: int = 2

    def check(self):
        pass

    def layers(self, context: Context) -> Chain:
        unit = context.convolution(context.out_channels, 3, stride=context.stride)
        return Chain((*unit.layers, ("own", Leaf(module=self.module, convolutions=self.convolutions))))


def network_of(op, repeats=1):
    return Network(
        stem=Stage(op=Conv(), channels=8, stride=2),
        stages=(Stage(op=op, channels=8, repeats=repeats),),
        head=Head(),
        resolution=16,
        num_classes=3,
    )


def test_a_users_own_layer_that_says_its_costs_rightly_agrees():
    assert check_costs(network_of(OwnOp())).is_equal


def test_a_users_own_layer_that_says_them_wrongly_is_named_with_how_far_it_is_off():
    check = check_costs(network_of(OwnOp(convolutions=1), repeats=2))
    assert not check.is_equal
    assert check.differences == (
        CostDifference(module="Twice", layers=2, macs=-2 * 64 * 8 * 8, params=-2 * 64),
    )
    assert check.macs - check.counted_macs == -2 * 64 * 8 * 8
    assert check.params - check.counted_params == -2 * 64


def test_a_module_that_cannot_be_traced_is_refused():
    with pytest.raises(UsageError, match="no such branch;") as error:
        check_costs(network_of(OwnOp(module=Branching)))
    assert error.value.field == "check"


def test_the_check_leaves_the_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    check_costs(network_of(Conv()))
    assert torch.equal(torch.rand(2), expected)
