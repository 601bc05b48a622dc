"""The largest member whose measured training keeps a budget, on loads that are known."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import UsageError
from nas.evaluation.training_budget import TrainingBudget, TrainingLoad, largest_trained
from search_spaces import SpaceError, cost, scale, small

BASE = replace(small(resolution=64).reference, head=replace(small().reference.head, dropout=0.0))
MACS = cost(BASE).macs


def member(phi):
    return scale(BASE, phi=phi)


class Machine:
    """Trains a network of as many macs as the baseline in an hour, with a mebibyte a thousand macs."""

    def __init__(self, *, exponent=1.0, memory=lambda macs: 1000.0 * macs):
        self.exponent, self.memory, self.measured = exponent, memory, []

    def __call__(self, network):
        macs = cost(network).macs
        self.measured.append(network)
        return TrainingLoad(seconds=3600 * (macs / MACS) ** self.exponent, memory_bytes=self.memory(macs))


def found(machine, budget, **changes):
    probes = []
    best = largest_trained(member, machine, budget, watch=probes.append, **changes)
    assert [probe.network for probe in probes] == machine.measured
    return best


@given(hours=st.floats(0.4, 30), exponent=st.floats(0.6, 1.6))
def test_the_largest_keeps_its_hours_and_a_tenth_of_phi_more_does_not_or_it_is_nearly_full(hours, exponent):
    machine = Machine(exponent=exponent)
    budget = TrainingBudget(seconds=3600 * hours)
    best = found(machine, budget)
    assert best.keeps
    assert best.used == budget.used(best.load) <= 1
    larger = budget.used(machine(member(best.phi + 0.1)))
    assert best.used >= 0.95 or larger > 1


def test_few_steps_are_measured_and_no_network_twice():
    machine = Machine()
    found(machine, TrainingBudget(seconds=20 * 3600))
    digests = [network.digest for network in machine.measured]
    assert len(digests) <= 10
    assert len(digests) == len(set(digests))


def test_the_budget_that_binds_decides():
    machine = Machine()
    loose = found(machine, TrainingBudget(seconds=3600 * 8))
    tight = found(Machine(), TrainingBudget(seconds=3600 * 8, memory_bytes=3000.0 * MACS))
    assert tight.phi < loose.phi
    assert tight.load.memory_bytes <= 3000.0 * MACS


def test_other_limits_bound_the_search():
    assert found(Machine(), TrainingBudget(seconds=3600 * 1000), most_phi=1.5).phi == 1.5
    assert found(Machine(), TrainingBudget(seconds=3600 * 1000), most_phi=-0.5).phi == -0.5


def test_a_network_that_breaks_its_budget_shrinks():
    best = found(Machine(), TrainingBudget(seconds=1800))
    assert best.phi < 0
    assert best.keeps


def test_a_network_whose_memory_ran_out_counts_as_too_large():
    machine = Machine(memory=lambda macs: math.inf if macs > 3 * MACS else 1.0)
    best = found(machine, TrainingBudget(memory_bytes=2.0))
    assert cost(best.network).macs <= 3 * MACS
    assert math.isinf(machine(member(best.phi + 0.1)).memory_bytes)


def test_the_search_never_steps_far_beyond_what_kept_the_budget():
    machine = Machine()
    found(machine, TrainingBudget(seconds=3600 * 1000))
    macs = [cost(network).macs for network in machine.measured]
    assert all(larger <= 4 * smaller for smaller, larger in pairwise(macs))


def test_a_family_that_ends_is_searched_to_its_end():
    def short(phi):
        if phi > 0.7:
            raise SpaceError("too large")
        return member(phi)

    machine = Machine()
    best = largest_trained(short, machine, TrainingBudget(seconds=1e9), watch=[].append)
    assert 0.6 <= best.phi <= 0.7
    large = scale(BASE, phi=2)

    def tall(phi):
        if phi < -1.3:
            raise SpaceError("too small")
        return scale(large, phi=phi)

    hour = 3600 * cost(tall(-1.25)).macs / MACS
    assert largest_trained(tall, machine, TrainingBudget(seconds=hour), watch=[].append).phi >= -1.3


def test_a_budget_that_nothing_keeps_is_refused_with_what_was_measured():
    with pytest.raises(UsageError, match=r"no network .* within the budget: the smallest measured") as error:
        found(Machine(), TrainingBudget(seconds=1e-3))
    assert error.value.field == "max_train_hours"
    with pytest.raises(UsageError) as error:
        found(Machine(memory=lambda _: math.inf), TrainingBudget(memory_bytes=1e9))
    assert error.value.field == "max_train_memory"


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({}, "max_train_hours"),
        ({"seconds": 0}, "max_train_hours"),
        ({"memory_bytes": math.nan}, "max_train_memory"),
    ],
)
def test_budgets_that_are_none_are_refused_by_field(limits, field):
    with pytest.raises(UsageError) as error:
        TrainingBudget(**limits)
    assert error.value.field == field
