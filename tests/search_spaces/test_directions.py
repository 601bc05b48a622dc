"""Directions: their shares, names, bases and factors, and the lattice."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import DIRECTIONS, Direction, SpaceError, find_direction, lattice

shares = st.tuples(*[st.floats(0, 1)] * 3).filter(lambda one: sum(one) > 1e-3)


def direction_of(numbers):
    total = sum(numbers)
    depth, width, resolution = (number / total for number in numbers)
    return Direction(depth=depth, width=width, resolution=resolution)


def test_the_bases_of_efficientnet_have_the_shares_of_its_log_cost():
    shares = Direction.of_bases(1.2, 1.1, 1.15).shares
    assert shares == pytest.approx((0.279, 0.292, 0.428), abs=5e-4)
    assert DIRECTIONS["efficientnet"].shares == shares


def test_fast_compound_scaling_at_twice_the_cost_has_the_factors_of_its_paper():
    fast = DIRECTIONS["fast"].at(2.0)
    assert (fast.depth, fast.width, fast.resolution) == pytest.approx((1.072, 1.32, 1.035), abs=5e-4)


@given(numbers=shares, factor=st.floats(0.05, 50))
def test_the_factors_of_any_direction_multiply_to_the_factor(numbers, factor):
    assert direction_of(numbers).at(factor).nominal_factor == pytest.approx(factor)


@given(numbers=shares)
def test_the_bases_of_a_direction_lead_back_to_it(numbers):
    direction = direction_of(numbers)
    assert Direction.of_bases(*direction.bases()).shares == pytest.approx(direction.shares, abs=1e-9)


@pytest.mark.parametrize(("parts", "number"), [(1, 3), (5, 21), (6, 28), (8, 45)])
def test_a_lattice_has_every_direction_of_its_parts_once_in_order(parts, number):
    found = [one.shares for one in lattice(parts)]
    assert len(set(found)) == number == len(found)
    assert all(first > second for first, second in pairwise(found))
    assert {(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)} <= set(found)


def test_directions_are_found_by_name_and_by_rounded_shares():
    assert find_direction("v2") is DIRECTIONS["v2"]
    assert find_direction("0.2,0.5,0.3").shares == pytest.approx((0.2, 0.5, 0.3))
    assert find_direction("0.279,0.292,0.428").shares == pytest.approx((0.279, 0.292, 0.428), abs=1e-3)
    assert [str(find_direction(name)) for name in DIRECTIONS] == list(DIRECTIONS)
    assert str(find_direction("0.2,0.5,0.3")) == "0.2,0.5,0.3"


@pytest.mark.parametrize(
    "text",
    ["fastt", "", "0.2,0.5", "0.2,0.5,0.5", "a,b,c", "nan,0.5,0.5", "-0.1,0.6,0.5", "inf,0,0", 3, "1;0;0"],
)
def test_what_is_no_direction_is_refused(text):
    with pytest.raises(SpaceError) as error:
        find_direction(text)
    assert error.value.field == "direction"


def test_a_near_miss_of_a_name_is_answered_with_the_name():
    with pytest.raises(SpaceError, match="did you mean uniform"):
        find_direction("unifrom")


@pytest.mark.parametrize(
    ("numbers", "field"),
    [
        ((0.5, 0.5, 0.1), "direction"),
        ((1.2, -0.2, 0.0), "depth"),
        ((0.5, math.nan, 0.5), "width"),
        ((0.5, 0.5, True), "resolution"),
        ((0.5, 0.5, "0"), "resolution"),
    ],
)
def test_shares_that_are_none_are_refused_by_field(numbers, field):
    depth, width, resolution = numbers
    with pytest.raises(SpaceError) as error:
        Direction(depth=depth, width=width, resolution=resolution)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("bases", "field"),
    [((1, 1, 1), "depth_base"), ((1.2, 0.9, 1.1), "width_base"), ((1.2, 1.1, math.inf), "resolution_base")],
)
def test_bases_without_a_direction_are_refused_by_field(bases, field):
    with pytest.raises(SpaceError) as error:
        Direction.of_bases(*bases)
    assert error.value.field == field


@pytest.mark.parametrize("factor", [0, -1, math.inf, math.nan, True, "2"])
def test_a_factor_that_is_none_is_refused(factor):
    with pytest.raises(SpaceError) as error:
        DIRECTIONS["fast"].at(factor)
    assert error.value.field == "factor"


@pytest.mark.parametrize("parts", [0, 51, 2.0, True])
def test_parts_out_of_range_are_refused(parts):
    with pytest.raises(SpaceError) as error:
        lattice(parts)
    assert error.value.field == "parts"
