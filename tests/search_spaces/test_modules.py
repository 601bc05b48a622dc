import math

import pytest
import torch
from torch import nn

from search_spaces import Conv, DepthwiseSeparable, Head, MBConv, Stage, build, to_source
from search_spaces.layers import GatedBlock, ResidualBlock

from .conftest import make_network


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone():
    network = make_network(Stage(op=MBConv(se_ratio=0.25), channels=8))
    before = torch.random.get_rng_state()
    first, second, other = (build(network, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["stem.block0.conv.weight"], other["stem.block0.conv.weight"])


def test_depthwise_weights_start_with_variance_two_over_the_fan_out_of_a_group():
    network = make_network(
        Stage(op=DepthwiseSeparable(kernel_size=5, skip="none"), channels=8),
        stem=Stage(op=Conv(), channels=4096),
    )
    weight = build(network, seed=0).get_submodule("stage1.block0.depthwise.conv").weight
    assert weight.std().item() == pytest.approx(math.sqrt(2 / 25), rel=0.02)


def test_the_projection_is_linear():
    network = make_network(Stage(op=MBConv(), channels=16))
    names = [name for name, _ in build(network).get_submodule("stage1.block0.project").named_children()]
    assert names == ["conv", "norm"]


def test_squeeze_excite_multiplies_each_channel_by_a_factor_between_0_and_1():
    network = make_network(Stage(op=Conv(se_ratio=0.25), channels=8))
    gate = build(network, seed=0).get_submodule("stage1.block0.se")
    assert isinstance(gate, GatedBlock)
    x = torch.rand(2, 8, 8, 8) + 0.5
    factors = gate(x) / x
    assert torch.allclose(factors, factors[:, :, :1, :1].expand_as(factors))
    assert 0 < factors.min() < factors.max() < 1


def test_stochastic_depth_drops_whole_images_and_keeps_the_mean():
    block = ResidualBlock(nn.Identity(), drop_rate=0.25).train()
    torch.manual_seed(0)
    update = block(torch.ones(4000, 1, 1, 1)) - 1
    assert sorted(update.unique().tolist()) == pytest.approx([0.0, 1 / 0.75])
    assert update.mean().item() == pytest.approx(1.0, abs=0.03)
    assert torch.equal(block.eval()(torch.ones(2, 1, 1, 1)), torch.full((2, 1, 1, 1), 2.0))


def test_inputs_of_other_sizes_work_too():
    network = make_network(Stage(op=MBConv(), channels=16, stride=2))
    assert build(network, seed=0).eval()(torch.zeros(3, 3, 48, 48)).shape == (3, 4)


def test_a_head_without_convolution_pools_the_last_map():
    network = make_network(Stage(op=Conv(), channels=8), head=Head(channels=0, dropout=0.0))
    names = [name for name, _ in build(network).get_submodule("head").named_children()]
    assert names == ["pool", "flatten", "classifier"]


def test_source_imports_only_torch_and_the_standard_library():
    source = to_source(
        make_network(Stage(op=MBConv(se_ratio=0.25), channels=8, repeats=2), drop_path_rate=0.2)
    )
    imports = {line for line in source.splitlines() if line.startswith(("import ", "from "))}
    assert imports == {
        "import math",
        "from collections import OrderedDict",
        "import torch",
        "from torch import nn",
    }
    assert "drop_rate=" in source


def test_source_holds_the_users_own_module_class_once(shuffle_op):
    stages = [Stage(op=shuffle_op(groups=2), channels=8) for _ in range(2)]
    source = to_source(make_network(*stages))
    assert source.count("class ChannelShuffle(nn.Module):") == 1
