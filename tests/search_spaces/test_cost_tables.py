"""The costs of many candidates at once are those of each by itself."""

import numpy as np
import pytest

from search_spaces import (
    BasicBlock,
    Conv,
    DepthwiseSeparable,
    FusedMBConv,
    Head,
    Identity,
    MBConv,
    SearchSpace,
    SpaceError,
    SqueezeExcite,
    Stage,
    choice,
    cost,
    efficientnet,
    memory,
    mnasnet,
)

from .conftest import make_network


def random_tokens(space, count, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, options, count) for options in space.cardinalities], axis=1)


def one_by_one(space, tokens):
    """The same record, from `cost` and `memory` of the decoded network."""
    network = space.decode(tokens)
    price, held = cost(network), memory(network)
    return (
        price.macs,
        price.params,
        price.activations,
        held.weights,
        held.inference_values,
        held.inference_bytes,
        held.training_values,
        held.traffic,
    )


def odd_space():
    """Choices in every place a network has, shared ones and optional layers among them."""
    shared = choice(3, 5)
    return SearchSpace(
        make_network(
            Stage(op=choice(Identity(), MBConv(kernel_size=shared, se_ratio=choice(0.0, 0.25))), channels=8),
            Stage(
                op=choice(FusedMBConv(kernel_size=shared), BasicBlock(), Conv(skip="pool")),
                channels=choice(8, 16),
                repeats=choice(1, 2, 3),
                stride=choice(1, 2),
            ),
            Stage(op=DepthwiseSeparable(skip=choice("identity", "pool", "none")), channels=choice(8, 24)),
            stem=Stage(op=Conv(), channels=choice(8, 12), stride=choice(1, 2)),
            head=Head(channels=choice(0, 32), hidden=choice(0, 16), dropout=choice(0.0, 0.2)),
            resolution=choice(16, 24),
            activation=choice("relu", "swish", "gelu"),
            squeeze_excite=choice(SqueezeExcite(), SqueezeExcite(width_of="expanded", divisor=8)),
        )
    )


@pytest.mark.parametrize("space", [odd_space(), mnasnet(resolution=32), efficientnet()], ids=lambda s: s.name)
def test_costs_of_many_equal_the_costs_of_each(space):
    tokens = random_tokens(space, 200)
    assert [tuple(record) for record in space.costs(tokens).tolist()] == [
        one_by_one(space, row) for row in tokens.tolist()
    ]


def test_costs_of_a_space_with_a_users_own_op_equal_the_costs_of_each(shuffle_op):
    op = choice(shuffle_op(groups=2), shuffle_op(groups=4), MBConv())
    space = SearchSpace(make_network(Stage(op=op, channels=16, repeats=choice(1, 2))))
    tokens = random_tokens(space, 20)
    assert [tuple(record) for record in space.costs(tokens).tolist()] == [
        one_by_one(space, row) for row in tokens.tolist()
    ]


def test_costs_of_a_chosen_tuple_of_stages_equal_the_costs_of_each():
    one, two = Stage(op=MBConv(), channels=8), Stage(op=Conv(), channels=16, stride=2)
    space = SearchSpace(make_network(stages=choice((one,), (one, two), (two, two))))
    assert space.costs([[0], [1], [2]]).macs.tolist() == [cost(space.decode((t,))).macs for t in range(3)]


def test_keys_beyond_a_dense_table_are_looked_up_one_by_one(monkeypatch):
    monkeypatch.setattr("search_spaces.cost_tables.MOST_DENSE", 10)
    space = odd_space()
    tokens = random_tokens(space, 50)
    assert [tuple(record) for record in space.costs(tokens).tolist()] == [
        one_by_one(space, row) for row in tokens.tolist()
    ]


def test_tokens_of_inactive_decisions_mean_nothing():
    space = odd_space()
    tokens = random_tokens(space, 100)
    canonical = [space.canonical(row) for row in tokens.tolist()]
    assert np.array_equal(space.costs(tokens), space.costs(canonical))


def test_fields_are_arrays_by_name_and_by_attribute():
    found = efficientnet().costs(random_tokens(efficientnet(), 5))
    assert found.macs is not None
    assert np.array_equal(found["macs"], found.macs)
    assert found.shape == (5,)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([[0] * 27], r"shape \(n, 28\).*shape \(1, 27\)"),
        ([0] * 28, r"shape \(28,\)"),
        ([[0.5] * 28], "float64"),
        ([[0] * 28, [9] * 28], "token < 2.*block1.kernel_size.*got 9 in candidate 1"),
        ([[-1] * 28], "got -1 in candidate 0"),
    ],
)
def test_arrays_that_hold_no_candidates_are_refused(tokens, message):
    with pytest.raises(SpaceError, match=message):
        efficientnet().costs(tokens)


def test_a_combination_that_breaks_a_law_is_named_with_its_stage_and_row():
    template = make_network(
        Stage(op=Conv(), channels=8, stride=choice(1, 2)),
        Stage(op=Conv(), channels=8, stride=choice(1, 2)),
        stem=Stage(op=Conv(), channels=8, stride=2),
        resolution=choice(16, 2),
    )
    space = SearchSpace(template)
    names = [decision.name for decision in space.decisions]
    tokens = np.zeros((3, 3), int)
    tokens[2, names.index("resolution")] = 1
    tokens[2, names.index("stages[1].stride")] = 1
    with pytest.raises(SpaceError, match=r"stride=2 for an input of 1 x 1 pixels.*stage2 \(candidate 2\)"):
        space.costs(tokens)
