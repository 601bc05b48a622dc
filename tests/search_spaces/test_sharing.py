"""Which layers share weights, and how large the shared ones are."""

import numpy as np
import pytest

from search_spaces import (
    BasicBlock,
    Conv,
    FusedMBConv,
    Head,
    MBConv,
    Network,
    SearchSpace,
    SpaceError,
    Stage,
    choice,
    efficientnet,
    lower,
    nas_bench_macro,
    small,
)
from search_spaces.sharing import shared_layers, shared_leaves


def space_of(*stages, **fields):
    template = Network(
        stem=Stage(op=Conv(), channels=8),
        stages=stages,
        head=Head(channels=16, dropout=0.0),
        resolution=8,
        num_classes=4,
        **fields,
    )
    return SearchSpace(template)


def conv(*sizes, groups=1, bias=False):
    return sizes, (("groups", groups), ("bias", bias))


def test_a_shared_layer_is_as_large_as_the_largest_option_in_each_dimension_alone():
    op = MBConv(kernel_size=choice(3, 5), expand_ratio=choice(2, 4), skip="none")
    space = space_of(
        Stage(op=op, channels=choice(8, 16), repeats=choice(1, 2)), Stage(op=BasicBlock(), channels=24)
    )
    layers = shared_layers(space)

    def size(key):
        return layers[key].args, layers[key].kwargs

    assert size("stage1/block0/MBConv/expand/conv") == conv(8, 32, 1)
    assert size("stage1/block1/MBConv/expand/conv") == conv(16, 64, 1)
    assert size("stage1/block1/MBConv/depthwise/conv/depthwise5") == conv(64, 64, 5, groups=64)
    assert size("stage2/block0/BasicBlock/residual/conv1/conv/full3")[0] == (16, 24, 3) or any(
        key.startswith("stage2/block0/BasicBlock") and call.args == (16, 24, 3)
        for key, call in layers.items()
    )
    assert layers["head/classifier"].args == (16, 4)


def test_each_kernel_size_has_its_own_weights_and_norm_or_all_share_the_largest():
    space = space_of(Stage(op=MBConv(kernel_size=choice(3, 5, 7)), channels=8))
    own, cropped = shared_layers(space), shared_layers(space, "cropped")
    place = "stage1/block0/MBConv/depthwise"
    assert {f"{place}/{kind}/depthwise{size}" for kind in ("conv", "norm") for size in (3, 5, 7)} <= set(own)
    assert cropped[f"{place}/conv/depthwise"].args == (48, 48, 7)
    assert [key for key in cropped if key.startswith(f"{place}/norm")] == [f"{place}/norm/depthwise"]


def test_ops_of_different_classes_are_branches_and_a_skip_is_none():
    op = choice(MBConv(skip=choice("identity", "none")), FusedMBConv())
    space = space_of(Stage(op=op, channels=8))
    parts = [lower(space.decode(tokens))[1] for tokens in ((0, 0), (0, 1), (1, 0))]
    by_op = {tuple(leaf.key for leaf in shared_leaves(part)) for part in parts}
    assert len(by_op) == 2
    assert all("MBConv" in key.split("/")[2] for keys in by_op for key in keys)


@pytest.mark.parametrize("kernels", ["own", "cropped"])
@pytest.mark.parametrize(
    "space",
    [
        small(resolution=32, num_classes=4),
        nas_bench_macro(width=0.25),
        efficientnet(resolution=32, num_classes=4),
    ],
    ids=lambda space: space.name,
)
def test_every_layer_of_random_networks_fits_into_its_shared_one(space, kernels):
    layers = shared_layers(space, kernels)
    rng = np.random.default_rng(0)
    for tokens in space.sample_many(rng, 20).tolist():
        for part in lower(space.decode(tokens)):
            for leaf in shared_leaves(part, kernels):
                shared = layers[leaf.key]
                assert shared.layer == leaf.call.layer
                assert all(a <= b for a, b in zip(leaf.call.args, shared.args, strict=True))


def test_a_choice_among_whole_tuples_of_stages_shares_too():
    one = Stage(op=MBConv(), channels=8)
    template = Network(
        stem=Stage(op=Conv(), channels=8),
        stages=choice((one,), (one, Stage(op=MBConv(), channels=16))),
        head=Head(channels=0, dropout=0.0),
        resolution=8,
        num_classes=4,
    )
    layers = shared_layers(SearchSpace(template))
    assert layers["head/classifier"].args == (16, 4)
    assert layers["stage2/block0/MBConv/project/conv"].args == (48, 16, 1)


def test_a_part_with_too_many_variants_is_refused_by_name(monkeypatch):
    monkeypatch.setattr("search_spaces.sharing.MOST_VARIANTS", 3)
    with pytest.raises(SpaceError, match="stage1 has 4"):
        shared_layers(space_of(Stage(op=MBConv(expand_ratio=choice(2, 3, 4, 6)), channels=8)))
