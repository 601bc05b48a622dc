import math

import numpy as np
import pytest

from nas.evaluation.agreement import marginals_of
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice


def make_space():
    """Two stages of a kernel and of blocks, the second of which has decisions only where its op is chosen."""

    def stage(stride):
        return Stage(op=MBConv(kernel_size=choice(3, 5, 7)), channels=8, repeats=choice(1, 2), stride=stride)

    either = Stage(op=choice(Conv(kernel_size=3), MBConv(expand_ratio=choice(2, 4))), channels=8)
    template = Network(
        stem=Stage(op=Conv(kernel_size=3), channels=8),
        stages=(stage(1), stage(2), either),
        head=Head(channels=8),
        resolution=8,
        num_classes=2,
    )
    return SearchSpace(template, name="small")


SPACE = make_space()


def sample(rng, count):
    tokens = np.stack([rng.integers(n, size=count) for n in SPACE.cardinalities], axis=1)
    return [SPACE.canonical(row.tolist()) for row in tokens]


def place_of(name):
    return next(index for index, one in enumerate(SPACE.decisions) if one.name == name)


def test_an_option_that_looks_better_in_shared_weights_than_it_is_comes_first():
    rng = np.random.default_rng(0)
    tokens = sample(rng, 40)
    place = place_of("stages[0].repeats")
    alone = rng.normal(size=40)
    has_it = np.array([row[place] == 0 for row in tokens])
    shared = alone + 1.5 * has_it
    first, second, *others = marginals_of(SPACE, tokens, shared, alone)
    assert {(one.decision, one.option) for one in (first, second)} == {
        ("stages[0].repeats", "1"),
        ("stages[0].repeats", "2"),
    }
    favoured = first if first.option == "1" else second
    assert favoured.networks == has_it.sum()
    assert favoured.bias > 0.5
    assert favoured.is_clear
    assert favoured.shared == pytest.approx((shared[has_it].mean() - shared.mean()) / shared.std())
    assert favoured.alone == pytest.approx((alone[has_it].mean() - alone.mean()) / alone.std())
    assert not any(one.is_clear for one in others[4:])


def test_options_that_play_no_part_are_rarely_said_to():
    clear = total = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        tokens, alone = sample(rng, 24), rng.normal(size=24)
        found = marginals_of(SPACE, tokens, alone + rng.normal(size=24), alone)
        clear, total = clear + sum(one.is_clear for one in found), total + len(found)
    assert 0.02 < clear / total < 0.08


def test_an_option_counts_where_its_decision_is_active():
    rng = np.random.default_rng(1)
    tokens, alone = sample(rng, 40), rng.normal(size=40)
    found = marginals_of(SPACE, tokens, alone + rng.normal(size=40), alone)
    name = "stages[2].op.MBConv.expand_ratio"
    conditional, place = [one for one in found if one.decision == name], place_of(name)
    active = sum(SPACE.active(row)[place] for row in tokens)
    assert 0 < active < 40
    assert sum(one.networks for one in conditional) == active


def test_networks_without_a_value_do_not_count_and_few_or_equal_ones_say_nothing():
    rng = np.random.default_rng(2)
    tokens, alone = sample(rng, 20), rng.normal(size=20)
    shared = alone + rng.normal(size=20)
    holes = shared.copy()
    holes[[3, 7]] = math.nan
    kept = [index for index in range(20) if index not in (3, 7)]
    known = marginals_of(SPACE, [tokens[i] for i in kept], shared[kept], alone[kept])
    assert marginals_of(SPACE, tokens, holes, alone) == known
    assert marginals_of(SPACE, tokens[:3], shared[:3], alone[:3]) == ()
    assert marginals_of(SPACE, tokens, np.ones(20), alone) == ()
