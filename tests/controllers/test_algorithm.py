"""The shell around every algorithm: what it takes to add one, and saved states, also of earlier versions."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from controllers import (
    PPO,
    Algorithm,
    ControllerError,
    LocalSearch,
    Problem,
    RandomSearch,
    Reinforce,
    state_from_json,
    state_to_json,
)
from controllers.testing import CHECKS

GOLDEN = Path(__file__).parent / "golden"


class SecondBest(Algorithm):
    """As little as an algorithm can be: it varies the second best result in one decision."""

    def __init__(self, problem, conditions=None, *, seed=0):
        super().__init__("SecondBest", problem, conditions, seed=seed, settings={})

    def _draw(self, rng, n, temperature):
        best = self._results.best(2)
        rows = self._decisions.sample(rng, n)
        if len(best) == 2 and temperature == 1:
            changed = rng.random(rows.shape).argmin(axis=1)[:, None] == np.arange(len(self._decisions))
            rows = self._decisions.canonical(np.where(changed, rows, best[1]))
        return rows


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_an_algorithm_that_only_draws_keeps_the_contract(check):
    check(lambda cardinalities, conditions, seed: SecondBest(cardinalities, conditions, seed=seed))


def test_an_algorithm_must_say_how_to_draw():
    class Nothing(Algorithm):
        pass

    with pytest.raises(TypeError, match="_draw"):
        Nothing("Nothing", [2, 2], None, seed=0, settings={})


def test_settings_are_part_of_the_state_and_must_be_equal():
    with pytest.raises(ControllerError) as error:
        LocalSearch([2, 2], first=6).load_state_dict(LocalSearch([2, 2], first=5).state_dict())
    assert error.value.field == "first"


@pytest.mark.parametrize("other", [Reinforce, RandomSearch])
def test_a_state_is_refused_by_another_algorithm(other):
    with pytest.raises(ControllerError):
        PPO([2, 2]).load_state_dict(other([2, 2]).state_dict())


def test_a_state_of_other_decisions_is_refused(controller_class):
    with pytest.raises(ControllerError) as error:
        controller_class([2, 3]).load_state_dict(controller_class([3, 2]).state_dict())
    assert error.value.field == "decisions"


@pytest.mark.parametrize("state", [{}, {"made": 1}, {"nothing": 1}])
def test_what_is_no_state_is_refused(controller_class, state):
    with pytest.raises(ControllerError) as error:
        controller_class([2, 2]).load_state_dict(state)
    assert error.value.field == "state"


def test_a_subclass_loads_the_state_of_its_algorithm():
    class Mine(RandomSearch):
        pass

    mine = Mine([3, 3, 3])
    mine.load_state_dict(RandomSearch([3, 3, 3]).state_dict())
    assert mine.propose(2) == RandomSearch([3, 3, 3]).propose(2)


def test_key_and_feasibility_are_used_by_every_algorithm(controller_class):
    problem = Problem([3, 3], key=lambda t: str(sorted(t)), feasible=lambda rows: rows.sum(axis=1) > 0)
    assert len(controller_class(problem).propose(9)) == 5


def load_make_states():
    spec = importlib.util.spec_from_file_location("make_states", GOLDEN / "make_states.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE_STATES = load_make_states()


VERSIONS = [
    *(("version-1", name) for name in MAKE_STATES.fresh() if "dyna" not in name),
    *(("version-4", name) for name in MAKE_STATES.fresh() if "dyna" in name),
]
"""The last version of each controller's states."""


@pytest.mark.parametrize(("version", "name"), VERSIONS)
def test_a_saved_state_continues_with_the_proposals_of_then(version, name, monkeypatch):
    monkeypatch.setattr("controllers.lstm_policy.HIDDEN", MAKE_STATES.HIDDEN)
    golden = json.loads((GOLDEN / f"{version}.json").read_text())[name]
    controller = MAKE_STATES.fresh()[name]
    controller.load_state_dict(state_from_json(json.dumps(golden["state"])))
    found = MAKE_STATES.search(controller, MAKE_STATES.NEXT)
    for (tokens, log_prob, number), then in zip(found, golden["next"], strict=True):
        assert (tokens, number) == (then[0], then[2])
        assert log_prob == pytest.approx(then[1], nan_ok=True)
    assert [list(tokens) for tokens in controller.recommend(3)] == golden["recommended"]


@pytest.mark.parametrize("version", ["version-1", "version-2", "version-3"])
@pytest.mark.parametrize("name", [name for name in MAKE_STATES.fresh() if "dyna" in name])
def test_a_state_of_an_earlier_default_goes_on_by_its_results(name, version):
    """Its predictor was another: what it was told and what it has proposed stay."""
    golden = json.loads((GOLDEN / f"{version}.json").read_text())[name]
    controller = MAKE_STATES.fresh()[name]
    controller.load_state_dict(state_from_json(json.dumps(golden["state"])))
    state = json.loads(state_to_json(controller.state_dict()))
    for part in ("results", "candidates", "pending", "policy"):
        assert state[part] == golden["state"][part]
    told = {tuple(row) for row in controller.state_dict()["results"]["tokens"].tolist()}
    found = {tuple(tokens) for tokens, *_ in MAKE_STATES.search(controller, 20)}
    assert len(found) == 20
    assert not found & told
    assert controller.state_dict()["version"] == 4


EXACT = [name for name in MAKE_STATES.fresh() if "lstm" not in name and "dyna" not in name]
"""Those whose proposals do not depend on the rounding of a linear algebra library."""


@pytest.mark.parametrize("name", EXACT)
def test_a_search_of_today_proposes_what_the_first_version_did(name):
    golden = json.loads((GOLDEN / "version-1.json").read_text())[name]
    controller = MAKE_STATES.fresh()[name]
    MAKE_STATES.search(controller, MAKE_STATES.TRIALS)
    state = json.loads(state_to_json(controller.state_dict()))
    then = golden["state"]
    assert state["results"] == then.get("search", then)["results"]
    assert state["candidates"] == then.get("search", then)["candidates"]
