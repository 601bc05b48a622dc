"""Domination, fronts, crowding, hypervolume and knee, each against its definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from controllers.pareto import by_knee, crowding, fronts, hypervolume, is_dominated

# Few values, so that there are many ties.
points_of = st.integers(1, 3).flatmap(
    lambda objectives: npst.arrays(
        np.float64, st.tuples(st.integers(0, 14), st.just(objectives)), elements=st.integers(-2, 3).map(float)
    )
)


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


@given(points_of, st.lists(st.integers(-2, 4), min_size=3, max_size=3))
def test_the_hypervolume_is_the_number_of_cells_that_a_point_covers(points, reference):
    reference = np.array(reference[: points.shape[1]], dtype=np.float64)
    cells = itertools.product(*(range(-2, int(end)) for end in reference))
    covered = sum(bool((points <= np.array(cell)).all(axis=1).any()) for cell in cells)
    assert hypervolume(points, reference) == covered


def test_the_hypervolume_of_a_front_worked_out_by_hand():
    points = np.array([[-0.9, 4.0], [-0.5, 1.0], [-0.8, 2.0], [-0.8, 3.0]])
    assert hypervolume(points, np.array([-0.1, 5.0])) == pytest.approx(0.4 * 1 + 0.7 * 2 + 0.8 * 1)


@given(points_of.filter(len))
def test_the_knee_of_a_front_is_a_point_of_it_that_scales_and_orders_do_not_change(points):
    front = np.unique(points[~is_dominated(points)], axis=0)
    best = front[by_knee(front)[0]]
    assert (front[by_knee(3.0 * front + 7.0)[0]] == best).all()
    assert (front[::-1][by_knee(front[::-1])[0]] == best).all()


def test_the_knee_is_the_point_nearest_to_the_best_of_everything():
    bent = np.array([[0.0, 10.0], [1.0, 2.0], [5.0, 1.0], [10.0, 0.0]])
    assert by_knee(bent).tolist() == [1, 2, 0, 3]
    assert by_knee(bent[:1]).tolist() == [0]
    assert by_knee(bent[:0]).tolist() == []


def test_a_straight_front_has_its_knee_in_the_middle_and_equal_ends_in_the_order_of_the_first_objective():
    assert by_knee(np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]])).tolist() == [1, 2, 0]


def test_two_objectives_that_go_together_leave_the_knee_between_the_ends():
    error = np.array([1.0, 0.6, 0.3, 0.1, 0.0])
    cost = np.array([0.0, 0.2, 0.4, 0.7, 1.0])
    assert by_knee(np.column_stack([error, cost, cost]))[0] == 2
