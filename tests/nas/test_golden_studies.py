"""Studies that an earlier version made, beside this file, still open, show, export and resume."""

import importlib.util
import shutil
from dataclasses import field, make_dataclass
from pathlib import Path

import pytest

import nas
from nas.objective import Objective
from nas.objective.terms import FIRST_VERSION
from nas.rungs import Rungs
from nas.training.recipe import Recipe
from nas.training.reduction import Reduction
from search_spaces import cost
from search_spaces.fingerprints import counted_fields

GOLDEN = Path(__file__).parent / "golden" / "version-3"
TRIALS = {"defaults": 6, "rungs": 9, "python": 12}


def _space():
    spec = importlib.util.spec_from_file_location("golden_space", GOLDEN / "space.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.tiny(resolution=8, num_classes=2, in_channels=1)


def accuracy(candidate):
    return 0.5 + cost(candidate.network).params / 10_000


def _table():
    evaluator = nas.TableEvaluator(accuracy, name="params")
    accuracy.__module__ = "__main__"  # where it was defined then
    return evaluator


def _resume(name, out):
    """What was asked for then, with two trials more."""
    asked = {"trials": TRIALS[name] + 2, "executor": "inline", "out": out}
    if name == "python":
        goal = "accuracy * (macs/20k)^-0.07"
        return nas.search(_space(), evaluator=_table(), controller="reinforce", objective=goal, **asked)
    asked |= {"data": GOLDEN / "squares.npz", "target_macs": 20_000}
    if name == "defaults":
        return nas.search(
            _space(), **{**asked, "trials": None}, budget=nas.Budget(trials=asked["trials"], finalists=1)
        )
    recipe = Recipe(epochs=3, warmup_epochs=0.2 * 3, learning_rate=0.05, batch_size=32)
    rungs = Rungs.of("epochs", (1.0, 3.0), whole=3.0, reduction_factor=3)
    return nas.search(_space(), recipe=recipe, rungs=rungs, controller="evolution", **asked)


@pytest.fixture(params=TRIALS)
def golden(request, tmp_path):
    shutil.copytree(GOLDEN / request.param, tmp_path / "study")
    return request.param, tmp_path / "study"


def _facts(study):
    return [(t.number, t.tokens, t.status, t.reward, t.accuracy, t.digest) for t in study.trials]


def test_an_earlier_study_opens_with_all_its_trials(golden):
    name, folder = golden
    study = nas.Study(folder, space=_space())
    assert len(study.trials) == TRIALS[name]
    assert study.best.network.digest == study.best.digest


def test_an_earlier_study_is_resumed_and_its_trials_stay_as_they_are(golden):
    name, folder = golden
    before = _facts(nas.Study(folder, space=_space()))
    study = _resume(name, folder)
    assert len(study.trials) == TRIALS[name] + 2
    assert _facts(study)[: len(before)] == before


@pytest.mark.slow
def test_the_trained_winner_of_an_earlier_study_is_exported(tmp_path):
    shutil.copytree(GOLDEN / "defaults", tmp_path / "study")
    study = nas.Study(tmp_path / "study", space=_space())
    kept = next(t for t in study.trials if t.weights_file is not None)
    bundle = kept.export(tmp_path / "bundle")
    assert "weights.safetensors" in bundle.files


def _with_one_more_field(cls):
    more = [("added_later", float, field(default=0.5))]
    return make_dataclass(cls.__name__, more, bases=(cls,), frozen=True, slots=True, kw_only=True)


@pytest.mark.parametrize("cls", [Recipe, Reduction])
def test_a_field_added_later_changes_no_fingerprint_until_it_is_used(cls):
    grown = _with_one_more_field(cls)
    assert grown().fingerprint == cls().fingerprint
    assert grown(added_later=0.25).fingerprint != cls().fingerprint
    assert grown(epochs=0.25, **_warm(cls)).fingerprint == cls(epochs=0.25, **_warm(cls)).fingerprint


def _warm(cls):
    return {"warmup_epochs": 0.0} if cls is Recipe else {}


@pytest.mark.parametrize("cls", FIRST_VERSION, ids=lambda cls: cls.__name__)
def test_a_field_added_to_a_term_later_counts_only_where_it_is_used(cls):
    values = {"target": 1.0, "exponent_under": -1.0, "exponent_over": -1.0, "beta": -1.0, "upper": 1.0}
    values |= {"lower": 1.0, "direction": "max"}
    needed = {name: value for name, value in values.items() if name in FIRST_VERSION[cls]}
    grown = _with_one_more_field(cls)
    needed["metric"] = "f1"
    assert counted_fields(grown(**needed), FIRST_VERSION[cls]) == needed
    used = grown(added_later=0.25, **needed)
    assert counted_fields(used, FIRST_VERSION[cls])["added_later"] == 0.25


def test_the_text_of_an_objective_in_an_earlier_journal_is_that_of_an_equal_objective_now():
    text = nas.Study(GOLDEN / "defaults", space=_space()).identity.objective
    assert Objective.hard("macs", 20_000).to_json() == text
