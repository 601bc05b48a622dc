"""The blocks of a space are found once each, and sums over parts are those of each network by itself."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from search_spaces import (
    Context,
    Conv,
    Head,
    Identity,
    MBConv,
    SearchSpace,
    SpaceError,
    Stage,
    blocks_of,
    build,
    build_part,
    choice,
    efficientnet,
    efficientnet_v2,
    find_blocks,
    inference_parts,
    lower,
    mnasnet,
    mobilenet_v3,
    nas_bench_macro,
    resnet,
    small,
)
from search_spaces.primitives import Chain

from .conftest import make_network

SPACES = [
    mnasnet(resolution=32),
    mnasnet(resolution=32, flat=True),
    efficientnet(),
    efficientnet_v2(),
    mobilenet_v3(),
    resnet(),
    small(),
    nas_bench_macro(),
]


def stage(**fields):
    op = MBConv(kernel_size=choice(3, 5), expand_ratio=choice(1, 3))
    return Stage(**{"op": op, "channels": choice(8, 16), "repeats": choice(1, 2), "stride": 2, **fields})


def drop_path_space():
    return SearchSpace(
        make_network(stage(), stage(), drop_path_rate=0.2, head=Head(channels=32, dropout=0.3))
    )


def user_space(shuffle_op, **fields):
    op = choice(shuffle_op(groups=2), shuffle_op(groups=4), MBConv())
    return SearchSpace(make_network(Stage(op=op, channels=16, repeats=choice(1, 2, 3)), stage(), **fields))


def worth(part):
    """A value that differs for different layers, shapes and names."""
    return sum(map(ord, part.text)) / 7 + part.in_shape.elements / 3 + len(part.name) / 11


def keys_of(network):
    return {block.key for part in inference_parts(network) for block in blocks_of(part)}


def assert_sums_are_those_of_each(space, count=40):
    tokens = space.sample_many(np.random.default_rng(1), count)
    expected = [sum(map(worth, inference_parts(space.decode(row)))) for row in tokens.tolist()]
    np.testing.assert_allclose(space.sums(tokens, worth), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_sums_of_many_candidates_equal_the_sums_of_each(space):
    assert_sums_are_those_of_each(space)


def test_sums_leave_stochastic_depth_out_as_inference_does():
    space = drop_path_space()
    assert_sums_are_those_of_each(space)
    network = space.decode([0] * len(space.decisions))
    assert inference_parts(network) == lower(replace(network, drop_path_rate=0.0))


def test_sums_of_a_space_with_a_users_own_op_equal_the_sums_of_each(shuffle_op):
    assert_sums_are_those_of_each(user_space(shuffle_op))
    assert_sums_are_those_of_each(user_space(shuffle_op, drop_path_rate=0.1))


def test_sums_of_a_chosen_tuple_of_stages_equal_the_sums_of_each():
    one, two = Stage(op=MBConv(), channels=8), Stage(op=Conv(), channels=16, stride=2)
    assert_sums_are_those_of_each(SearchSpace(make_network(stages=choice((one,), (one, two), (two, two)))))


def test_a_part_is_asked_for_its_value_once():
    asked = []
    space = small()
    sums = space.part_sums(lambda part: asked.append((part.name, part.text, part.in_shape)) or 1.0)
    tokens = space.sample_many(np.random.default_rng(0), 500)
    sums(tokens)
    count = len(asked)
    sums(tokens)
    assert len(asked) == count == len(set(asked))


def test_a_candidate_that_breaks_a_law_is_named_by_its_row():
    deep = SearchSpace(
        make_network(*(Stage(op=Conv(), channels=8, stride=choice(1, 2)) for _ in range(4)), resolution=8)
    )
    assert deep.sums([[0, 0, 0, 0]], worth)[0] > 0
    with pytest.raises(SpaceError, match=r"\(candidate 1\)") as error:
        deep.sums([[0, 0, 0, 0], [1, 1, 1, 1]], worth)
    assert error.value.field == "stride"


def test_tokens_of_another_space_are_refused():
    with pytest.raises(SpaceError) as error:
        small().sums([[0, 0]], worth)
    assert error.value.field == "tokens"


def test_extremes_of_the_sums_are_those_of_all_candidates():
    space = SearchSpace(make_network(stage(), stage()))
    every = (
        np.array(np.meshgrid(*map(np.arange, space.cardinalities))).reshape(len(space.cardinalities), -1).T
    )
    sums = space.part_sums(worth)
    found = sums(every)
    assert sums.extremes() == pytest.approx((found.min(), found.max()), rel=1e-12)


def test_extremes_are_not_stated_where_a_decision_reaches_two_parts():
    kernel = choice(3, 5)
    tied = Stage(op=MBConv(kernel_size=kernel), channels=8)
    assert SearchSpace(make_network(tied, tied)).part_sums(worth).extremes() is None


MANY_BLOCKS = ("mnasnet", "mnasnet_flat")


@pytest.mark.parametrize(
    "space",
    [pytest.param(s, marks=[pytest.mark.slow] if s.name in MANY_BLOCKS else [], id=s.name) for s in SPACES],
)
def test_every_block_of_every_network_is_among_those_found(space):
    found = find_blocks(space)
    keys = [block.key for block in found.blocks]
    assert found.is_complete
    assert len(keys) == len(set(keys))
    for tokens in space.sample_many(np.random.default_rng(2), 60).tolist():
        assert keys_of(space.decode(tokens)) <= set(keys)


def test_the_efficientnet_space_has_168_blocks_beside_its_stem_and_head():
    stages = [block.stage for block in find_blocks(efficientnet()).blocks]
    assert len([name for name in stages if name.startswith("stage")]) == 168
    assert (stages[0], stages[-1]) == ("stem", "head")
    assert len(stages) == 170


def test_no_block_is_found_that_stands_in_no_network():
    space = SearchSpace(make_network(stage(), stage()))
    every = (
        np.array(np.meshgrid(*map(np.arange, space.cardinalities))).reshape(len(space.cardinalities), -1).T
    )
    occurring = set().union(*(keys_of(space.decode(row)) for row in every.tolist()))
    assert {block.key for block in find_blocks(space).blocks} == occurring


def test_blocks_of_a_users_own_op_are_found_from_all_networks_where_there_are_few(shuffle_op):
    space = user_space(shuffle_op)
    found = find_blocks(space)
    assert found.is_complete
    assert "all" in found.origin
    tokens = space.sample_many(np.random.default_rng(3), 30).tolist()
    assert set().union(*(keys_of(space.decode(row)) for row in tokens)) <= {b.key for b in found.blocks}


def test_blocks_found_from_drawn_networks_are_said_to_be_incomplete(shuffle_op, monkeypatch):
    monkeypatch.setattr("search_spaces.blocks.MOST_LISTED", 10)
    monkeypatch.setattr("search_spaces.blocks.SAMPLED", 8)
    found = find_blocks(user_space(shuffle_op), seed=5)
    assert not found.is_complete
    assert "8 random networks" in found.origin
    assert "seed 5" in found.origin


def test_blocks_without_layers_are_left_out():
    network = make_network(Stage(op=Identity(), channels=8), Stage(op=MBConv(), channels=8, repeats=2))
    assert [len(blocks_of(part)) for part in lower(network)] == [1, 0, 2, 1]


def test_the_costs_of_blocks_add_up_to_those_of_their_part():
    network = efficientnet().reference
    for part in lower(network):
        blocks = blocks_of(part)
        assert sum(block.part.cost.macs for block in blocks) == part.cost.macs
        assert sum(block.part.cost.params for block in blocks) == part.cost.params
        assert blocks[-1].part.out_shape == part.out_shape


def test_dropout_and_stochastic_depth_do_not_change_a_key():
    space = drop_path_space()
    network = space.decode([1] * len(space.decisions))
    plain = replace(network, drop_path_rate=0.0, head=Head(channels=32, dropout=0.0))
    trained = [block.key for part in lower(network) for block in blocks_of(part)]
    assert trained == [block.key for part in lower(plain) for block in blocks_of(part)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Versioned:
    """A user's op whose layers can be changed while its fields stay."""

    def check(self):
        pass

    def layers(self, context: Context) -> Chain:
        return context.convolution(context.out_channels, VERSION["kernel_size"], stride=context.stride)


VERSION = {"kernel_size": 3}


def test_a_changed_op_changes_the_key_and_keeps_the_words(monkeypatch):
    def block(resolution):
        network = make_network(Stage(op=Versioned(), channels=12), resolution=resolution)
        return blocks_of(lower(network)[1])[0]

    before = block(16)
    monkeypatch.setitem(VERSION, "kernel_size", 5)
    # The lowering remembers what an op said; another process would not.
    from search_spaces import lowering

    for kept in (lowering._node_of, lowering._tally_block, lowering.tally_stage, lowering.lower_stage):
        kept.cache_clear()
    after = block(16)
    assert after.key != before.key
    assert (after.words, after.in_shape) == (before.words, before.in_shape)
    assert block(32).key != after.key


@torch.no_grad()
def test_blocks_built_alone_make_up_the_network():
    network = efficientnet(resolution=32, num_classes=5, width=0.25).reference
    module = build(network, seed=0).eval()
    images = torch.rand(2, 3, 32, 32)
    features = images
    for part in lower(network):
        for block in blocks_of(part):
            alone = build_part(block.part, seed=1).eval()
            alone.load_state_dict(module.get_submodule(block.part.name).state_dict())
            assert features.shape[1:] == tuple(block.in_shape)
            features = alone(features)
    torch.testing.assert_close(features, module(images))


def test_building_a_part_with_a_seed_leaves_the_global_generator_alone():
    part = lower(small().reference)[1]
    before = torch.random.get_rng_state()
    first, second = build_part(part, seed=3), build_part(part, seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])


def test_words_say_op_channels_and_the_stride_of_the_first_block_only():
    stem, *stages, head = inference_parts(
        make_network(Stage(op=MBConv(kernel_size=5, expand_ratio=3), channels=24, repeats=2, stride=2))
    )
    assert [block.words for block in blocks_of(stages[0])] == [
        "MBConv3, k5x5, 8 to 24 channels, stride 2",
        "MBConv3, k5x5, 24 to 24 channels",
    ]
    assert [block.words for block in (*blocks_of(stem), *blocks_of(head))] == [
        "Conv, k3x3, 3 to 8 channels, stride 2",
        "head, 24 channels to 4 values",
    ]
