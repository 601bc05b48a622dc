"""Domination, fronts, crowding and hypervolume, each against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from controllers.pareto import crowding, fronts, hypervolume, is_dominated

# Few values, so that there are many ties.
points_of = st.integers(1, 3).flatmap(
    lambda objectives: npst.arrays(
        np.float64, st.tuples(st.integers(0, 14), st.just(objectives)), elements=st.integers(-2, 3).map(float)
    )
)
candidates = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=12)


def beats(one, other):
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)


def fronts_by_definition(points):
    """Takes away what nothing left dominates, again and again."""
    left, result, number = set(range(len(points))), {}, 0
    while left:
        front = {i for i in left if not any(beats(points[j], points[i]) for j in left)}
        result |= dict.fromkeys(front, number)
        left, number = left - front, number + 1
    return [result[i] for i in range(len(points))]


@given(points_of)
def test_a_point_is_dominated_where_another_is_nowhere_worse_and_somewhere_better(points):
    expected = [any(beats(other, point) for other in points) for point in points]
    assert is_dominated(points).tolist() == expected


@given(points_of)
def test_a_front_is_what_nothing_left_dominates(points):
    assert fronts(points).tolist() == fronts_by_definition(points)


@given(points_of, st.randoms())
def test_fronts_and_domination_do_not_depend_on_the_order(points, random):
    order = random.sample(range(len(points)), len(points))
    assert fronts(points[order]).tolist() == fronts(points)[order].tolist()
    assert is_dominated(points[order]).tolist() == is_dominated(points)[order].tolist()


def crowding_by_definition(points):
    result, seen = [], set()
    for point in map(tuple, points):
        room = 0.0
        for objective in range(len(point)):
            ordered = sorted(set(map(tuple, points)), key=lambda p: (p[objective], p))
            place, span = ordered.index(point), ordered[-1][objective] - ordered[0][objective]
            if place in (0, len(ordered) - 1):
                room = np.inf
            elif span > 0:
                room += (ordered[place + 1][objective] - ordered[place - 1][objective]) / span
        result.append(0.0 if point in seen else room)
        seen.add(point)
    return result


@given(points_of.filter(len))
def test_room_is_the_distance_of_the_neighbours_in_parts_of_the_range(points):
    assert crowding(points).tolist() == pytest.approx(crowding_by_definition(points))


def test_the_room_of_a_front_worked_out_by_hand():
    front = np.array([[0.0, 8.0], [1.0, 6.0], [1.0, 6.0], [2.0, 2.0], [4.0, 0.0]])
    assert crowding(front).tolist() == [np.inf, 2 / 4 + 6 / 8, 0.0, 3 / 4 + 6 / 8, np.inf]


@given(candidates, st.integers(0, 5), st.integers(3, 8))
def test_the_hypervolume_is_the_number_of_cells_that_a_candidate_covers(pairs, least_accuracy, most_cost):
    covered = sum(
        any(accuracy > row and cost <= column for accuracy, cost in pairs)
        for row in range(least_accuracy, 9)
        for column in range(most_cost)
    )
    accuracies, costs = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    found = hypervolume(accuracies, costs, least_accuracy=least_accuracy, most_cost=most_cost)
    assert found == covered


def test_the_hypervolume_of_a_front_worked_out_by_hand():
    accuracies, costs = np.array([0.9, 0.5, 0.8, 0.8]), np.array([4.0, 1.0, 2.0, 3.0])
    found = hypervolume(accuracies, costs, least_accuracy=0.1, most_cost=5.0)
    assert found == pytest.approx(0.4 * 1 + 0.7 * 2 + 0.8 * 1)
