"""Drawing within bounds: the same distribution as throwing away, without the wait."""

import itertools
from collections import Counter

import numpy as np
import pytest

from search_spaces import (
    Conv,
    Identity,
    MBConv,
    SearchSpace,
    SpaceError,
    Stage,
    choice,
    efficientnet,
    mnasnet,
)

from .conftest import make_network


def conditional_space(*, is_tied=False):
    """432 tuples of tokens, some of one meaning; in the tied form a decision reaches two stages."""
    kernel = choice(3, 5)
    return SearchSpace(
        make_network(
            Stage(
                op=choice(MBConv(expand_ratio=choice(3, 6), se_ratio=choice(0.0, 0.25)), Conv(), Identity()),
                channels=choice(8, 16, 24),
            ),
            Stage(op=MBConv(kernel_size=kernel), channels=16, repeats=choice(1, 2, 3), stride=2),
            Stage(op=MBConv(kernel_size=kernel if is_tied else 3), channels=choice(16, 24)),
        )
    )


def every_candidate(space):
    """All tuples of tokens."""
    return np.array(list(itertools.product(*(range(count) for count in space.cardinalities))))


@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize("bounds", [{"macs": (250e3, 400e3)}, {"params": (0, 12e3), "macs": (1e5, 1e6)}])
def test_draws_within_bounds_are_distributed_as_draws_that_happen_to_lie_there(is_tied, bounds):
    space = conditional_space(is_tied=is_tied)
    raw = every_candidate(space)
    costs = space.costs(raw)
    inside = np.ones(len(raw), bool)
    for name, (least, most) in bounds.items():
        inside &= (costs[name] >= least) & (costs[name] <= most)
    weights = Counter(space.canonical(row) for row in raw[inside].tolist())
    assert 10 < len(weights) < 0.9 * len(raw)
    count = 20_000
    drawn = Counter(map(tuple, space.sample_within(np.random.default_rng(0), count, **bounds).tolist()))
    assert set(drawn) == set(weights)
    expected = {key: count * weight / inside.sum() for key, weight in weights.items()}
    chi_square = sum((drawn[key] - expected[key]) ** 2 / expected[key] for key in expected)
    freedom = len(expected) - 1
    assert chi_square < freedom + 4 * np.sqrt(2 * freedom)


def test_many_draws_are_distributed_as_single_ones():
    space = conditional_space()
    many = Counter(map(tuple, space.sample_many(np.random.default_rng(0), 20_000).tolist()))
    weights = Counter(space.canonical(row) for row in every_candidate(space).tolist())
    total = sum(weights.values())
    assert set(many) == set(weights)
    assert all(abs(many[key] / 20_000 - weights[key] / total) < 0.01 for key in weights)


@pytest.mark.parametrize("space", [efficientnet(), mnasnet(resolution=32)], ids=lambda space: space.name)
def test_one_candidate_in_ten_thousand_is_found_and_lies_within(space):
    rng = np.random.default_rng(1)
    macs = np.sort(space.costs(space.sample_many(rng, 20_000)).macs)
    rare = (float(macs[0]), float(macs[1]))
    found = space.sample_within(rng, 500, macs=rare)
    assert found.shape == (500, len(space.decisions))
    costs = space.costs(found).macs
    assert rare[0] <= costs.min() <= costs.max() <= rare[1]
    assert len({tuple(row) for row in found.tolist()}) > 450


def test_bounds_on_a_peak_are_kept_too():
    space = efficientnet(resolution=64)
    held = np.sort(space.costs(space.sample_many(np.random.default_rng(2), 1000)).inference_bytes)
    bound = (float(held[100]), float(held[200]))
    found = space.sample_within(np.random.default_rng(3), 50, inference_bytes=bound)
    costs = space.costs(found).inference_bytes
    assert bound[0] <= costs.min() <= costs.max() <= bound[1]


def test_a_single_sum_can_be_asked_for():
    space = conditional_space()
    wanted = int(space.costs([[0] * 7]).macs[0])
    found = space.sample_within(np.random.default_rng(0), 20, macs=(wanted, wanted))
    assert set(space.costs(found).macs.tolist()) == {wanted}


def test_the_same_seed_draws_the_same_candidates():
    space = mnasnet()
    first, second = (space.sample_within(np.random.default_rng(5), 10, params=(2e6, 3e6)) for _ in range(2))
    assert np.array_equal(first, second)


def test_bounds_beyond_reach_are_refused_with_what_can_be_had():
    space = efficientnet()
    message = r"1 <= macs <= 2; macs can be 51,594,768 to 884,060,256 in the space 'efficientnet'"
    with pytest.raises(SpaceError, match=message):
        space.sample_within(np.random.default_rng(0), macs=(1, 2))


def test_a_gap_between_sums_is_refused():
    space = conditional_space()
    sums = sorted(set(space.costs(every_candidate(space)).macs.tolist()))
    widest = max(range(len(sums) - 1), key=lambda place: sums[place + 1] - sums[place])
    with pytest.raises(SpaceError, match="no candidate was found"):
        space.sample_within(np.random.default_rng(0), macs=(sums[widest] + 1, sums[widest + 1] - 1))


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "bounds"),
        ({"macs": (2, 1)}, "macs"),
        ({"macs": (float("nan"), 1)}, "macs"),
        ({"macs": 3e6}, "macs"),
        ({"count": 0, "macs": (1, 1e9)}, "count"),
    ],
)
def test_bounds_that_are_none_are_refused_by_field(arguments, field):
    with pytest.raises(SpaceError) as error:
        efficientnet().sample_within(np.random.default_rng(0), **arguments)
    assert error.value.field == field


def test_candidates_within_bounds_are_told_from_those_beyond_and_those_that_cannot_be_built():
    stage = Stage(op=Conv(), channels=choice(8, 16), stride=choice(1, 2))
    space = SearchSpace(make_network(stage, resolution=choice(16, 2)))
    tokens = every_candidate(space)
    told = space.are_within(tokens, macs=(0, 30_000))
    for row, is_within in zip(tokens.tolist(), told, strict=True):
        try:
            expected = space.costs([row]).macs[0] <= 30_000
        except SpaceError:
            expected = False
        assert is_within == expected, row
    assert 0 < told.sum() < len(told)
