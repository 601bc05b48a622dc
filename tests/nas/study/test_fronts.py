"""A front in numbers: how its hypervolume grows, and where its knee is."""

from __future__ import annotations

import math

import pytest

from nas.metrics import ACCURACY, Goal
from nas.study.checkpoints import Entry
from nas.study.fronts import Growth, from_knee

GOALS = (ACCURACY, Goal.of("macs"))


def entry(number, value, *costs, fidelity=1.0):
    return Entry(number=number, reward=value, value=value, costs=costs, fidelity=fidelity)


def test_the_hypervolume_grows_with_each_trial_that_joins_the_front():
    found = Growth.of([entry(2, 0.5, 10.0), entry(0, 0.2, 40.0), entry(1, 0.8, 20.0)], GOALS)
    assert found.axes == ("accuracy", "log macs")
    assert found.reference == (0.2, 40.0)
    assert found.numbers == (0, 1, 2)
    assert found.volumes == pytest.approx((0.0, 0.6 * math.log(2), 0.6 * math.log(2) + 0.3 * math.log(2)))


def test_a_dominated_trial_adds_nothing_and_a_lower_fidelity_does_not_count():
    entries = [entry(0, 0.8, 20.0), entry(1, 0.5, 40.0), entry(2, 0.9, 10.0, fidelity=0.5)]
    found = Growth.of(entries, GOALS)
    assert found.numbers == (0, 1)
    assert found.volumes[0] == found.volumes[1] > 0


def test_costs_of_0_and_goals_that_are_maximised_count_as_they_are():
    goals = (ACCURACY, Goal.of("macs"), Goal(metric="f1", direction="max"))
    found = Growth.of([entry(0, 0.5, 0.0, 0.5), entry(1, 0.2, 4.0, 0.1)], goals)
    assert found.axes == ("accuracy", "macs", "f1")
    assert found.reference == (0.2, 4.0, 0.1)
    assert found.volumes == pytest.approx((0.3 * 4.0 * 0.4,) * 2)


def test_a_front_is_given_from_its_knee_on():
    entries = [entry(0, 0.1, 1.0), entry(1, 0.8, 2.0), entry(2, 0.9, 16.0), entry(3, 0.2, 8.0)]
    assert [one.number for one in from_knee(entries, GOALS)] == [1, 2, 0]
    assert from_knee([], GOALS) == []
