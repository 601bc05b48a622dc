"""Errors name the field that is wrong, also through the places that are added to their messages."""

from __future__ import annotations

import pickle

import pytest

from search_spaces import SpaceError
from search_spaces.errors import located, require_fraction, require_integer, require_one_of


@pytest.mark.parametrize(
    "check",
    [
        lambda: require_integer("depth", 0, least=1, most=9),
        lambda: require_integer("depth", True, least=0, most=9),
        lambda: require_fraction("depth", 1.0),
        lambda: require_fraction("depth", float("nan")),
        lambda: require_one_of("depth", "deep", ("low", "high")),
        lambda: require_one_of("depth", True, (1, 2)),
    ],
)
def test_a_refused_value_names_its_field(check):
    with pytest.raises(SpaceError) as error:
        check()
    assert error.value.field == "depth"


def test_a_place_is_added_to_the_message_and_the_field_stays():
    with (
        pytest.raises(SpaceError, match="wrong in stage3 in network") as error,
        located("network"),
        located("stage3"),
    ):
        raise SpaceError("wrong", field="stride")
    assert error.value.field == "stride"


def test_an_error_is_a_value_error_and_keeps_its_field_in_another_process():
    error = pickle.loads(pickle.dumps(SpaceError("wrong", field="stride")))
    assert isinstance(error, ValueError)
    assert (str(error), error.field, SpaceError("wrong").field) == ("wrong", "stride", "")
