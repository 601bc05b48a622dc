"""Proposals, outcomes and errors, and what a controller need not have."""

from __future__ import annotations

import pickle

import pytest

from controllers import ControllerError, Outcome, Proposal, RandomSearch
from controllers.contract import diagnostics_of, probabilities_of, require_count


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("reward", {"reward": float("nan")}),
        ("reward", {}),
        ("status", {"reward": 0.5, "status": "gone"}),
        ("fidelity", {"reward": 0.5, "fidelity": 0.0}),
        ("fidelity", {"reward": 0.5, "fidelity": 1.5}),
        ("accuracy", {"reward": 0.5, "accuracy": float("inf")}),
    ],
)
def test_an_outcome_outside_its_ranges_is_refused_by_field(field, arguments):
    with pytest.raises(ControllerError) as error:
        Outcome(**arguments)
    assert error.value.field == field


def test_a_refused_reward_names_the_proposal():
    with pytest.raises(ControllerError, match=r"proposal 7 with tokens \(1, 0\)") as error:
        RandomSearch([2, 2]).feedback([(Proposal(tokens=(1, 0), number=7), float("nan"))])
    assert error.value.field == "reward"


def test_an_error_is_a_value_error_and_keeps_its_field_in_another_process():
    error = pickle.loads(pickle.dumps(ControllerError("wrong", field="seed")))
    assert isinstance(error, ValueError)
    assert (str(error), error.field, ControllerError("wrong").field) == ("wrong", "seed", "")


class Bare:
    """A controller without what is optional."""


def test_diagnostics_and_probabilities_are_optional():
    assert diagnostics_of(Bare()) == {}
    assert probabilities_of(Bare()) is None


@pytest.mark.parametrize("value", [1, -1, 2.0, "3", None])
def test_a_count_below_the_least_or_no_integer_is_refused(value):
    with pytest.raises(ControllerError) as error:
        require_count("batch", value, least=2)
    assert error.value.field == "batch"


def test_the_least_count_is_accepted():
    assert require_count("batch", 2, least=2) == 2
