"""Searches whose objective has several goals: who chooses, what is refused, and what is recommended."""

from __future__ import annotations

import json
import math

import pytest

import nas
from controllers import NSGA2, Front, RandomSearch
from nas.cli.main import main
from nas.errors import UsageError
from nas.evaluators import TableEvaluator
from search_spaces import cost


def measured(candidate):
    """Dearer networks are better, with ever less gain; latency depends on the trial's network only."""
    macs = cost(candidate.network).macs
    share = sum(candidate.job.tokens) / len(candidate.job.tokens)
    return {"accuracy": 0.9 - 2e4 / (macs + 3e4), "f1": 0.5 + 0.1 * share, "latency_ms": 1.0 + macs / 1e5}


def search(space, out, objective="accuracy; macs", **options):
    given = {"evaluator": TableEvaluator(measured), "executor": "inline", "trials": 16}
    return nas.search(space, **{**given, "out": out, "objective": objective, **options})


@pytest.mark.parametrize(
    "objective", ["accuracy; macs", "macs; accuracy; latency", "max f1; params, macs <= 1M"]
)
def test_several_goals_are_searched_by_the_controller_of_fronts(tmp_path, small_space, objective):
    study = search(small_space, tmp_path, objective)
    assert study.identity.controller == "Front"
    assert len(study.completed) == 16
    goals = study.objective.goals
    front = {trial.digest for trial in study.pareto_front(*(goal.metric for goal in goals[1:]))}
    assert study.best.digest in study.recommended
    assert set(study.recommended) & front
    assert study.top(2)[0] == study.best


@pytest.mark.parametrize("controller", ["front", "nsga2", "random", None])
def test_controllers_of_fronts_and_random_search_may_be_named(tmp_path, small_space, controller):
    study = search(small_space, tmp_path, controller=controller)
    kinds = {"front": Front, "nsga2": NSGA2, "random": RandomSearch, None: Front}
    assert study.identity.controller == kinds[controller].__name__
    knee = study.best
    ends = [study.pareto_front()[0].number, study.pareto_front()[-1].number]
    assert knee.number not in ends


def test_without_several_goals_the_default_stays(tmp_path, small_space):
    assert search(small_space, tmp_path, "accuracy * macs^-0.07", trials=3).identity.controller == "Dyna"


@pytest.mark.parametrize("controller", ["dyna", "ppo", "evolution", "local", "reinforce"])
def test_a_controller_that_looks_for_one_network_is_refused(tmp_path, small_space, controller):
    with pytest.raises(UsageError, match="needs a controller that looks for one") as error:
        search(small_space, tmp_path / "a", controller=controller)
    assert error.value.field == "controller"
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("finalists", {"trials": None, "budget": nas.Budget(trials=30, finalists=2)}),
        ("rungs", {"rungs": nas.Rungs((0.25, 1.0), reduction_factor=2)}),
    ],
)
def test_what_goes_by_one_reward_is_refused(tmp_path, small_space, field, options):
    with pytest.raises(UsageError) as error:
        search(small_space, tmp_path / "a", **options)
    assert error.value.field == field
    assert not (tmp_path / "a").exists()


def test_a_goal_that_is_not_measured_makes_a_trial_infeasible(tmp_path, small_space):
    def half(candidate):
        found = measured(candidate)
        return found if candidate.job.trial % 2 else {**found, "f1": math.nan}

    study = search(small_space, tmp_path, "accuracy; max f1; macs", evaluator=TableEvaluator(half))
    failed = [trial for trial in study.trials if trial.status.value == "infeasible"]
    assert len(failed) == 8
    assert all("f1" in trial.message for trial in failed)
    assert study.best.number % 2


def test_a_front_continues_where_it_was(tmp_path, small_space):
    whole = search(small_space, tmp_path / "whole", "accuracy; latency; macs")
    search(small_space, tmp_path / "parts", "accuracy; latency; macs", trials=12)
    parts = search(small_space, tmp_path / "parts", "accuracy; latency; macs")
    assert [trial.tokens for trial in parts.trials] == [trial.tokens for trial in whole.trials]
    assert parts.recommended == whole.recommended


def test_a_front_learns_from_an_earlier_study(tmp_path, small_space):
    first = search(small_space, tmp_path / "first", "accuracy * macs^-0.07")
    second = search(small_space, tmp_path / "second", "accuracy; latency", warm_start=first, trials=4)
    assert not {trial.tokens for trial in second.trials} & {trial.tokens for trial in first.trials}


def test_patience_counts_trials_that_do_not_join_the_front(tmp_path, small_space):
    cheaper_is_better = TableEvaluator(lambda _: {"accuracy": 0.5})
    budget = nas.Budget(trials=200, patience=12)
    study = search(
        small_space, tmp_path, evaluator=cheaper_is_better, trials=None, budget=budget, controller="random"
    )
    (cheapest,) = study.pareto_front()
    assert study.ending == "patience"
    assert cheapest.number + 12 == study.trials[-1].number
    assert cheapest.number > 0


def test_a_controller_of_ones_own_may_have_a_front(tmp_path, small_space):
    own = RandomSearch(small_space.cardinalities, small_space.conditions)
    study = search(small_space, tmp_path / "a", controller=own)
    assert study.recommended == ()
    own = NSGA2(small_space.cardinalities, small_space.conditions)
    assert len(search(small_space, tmp_path / "b", controller=own).recommended) >= 1


def shown(study, capsys, *options):
    assert main(["show", str(study.folder), *options]) == 0
    return capsys.readouterr().out


def test_show_gives_the_hypervolume_over_trials_its_reference_point_and_the_knee(
    tmp_path, small_space, capsys
):
    study = search(small_space, tmp_path)
    data = json.loads(shown(study, capsys, "--json"))
    assert [number for number, _ in data["hypervolume_over_trials"]] == list(range(16))
    volumes = [volume for _, volume in data["hypervolume_over_trials"]]
    assert volumes == sorted(volumes)
    assert data["hypervolume"] == volumes[-1] > 0
    worst = {"accuracy": min(t.accuracy for t in study.trials), "macs": max(t.macs for t in study.trials)}
    assert data["reference_point"] == pytest.approx(worst)
    assert data["knee"] == data["winner"] == study.best.number
    text = shown(study, capsys)
    assert f"trial {study.best.number}, accuracy" in text
    assert "the point of the front nearest to the best of every goal" in text


def test_show_says_why_there_is_no_knee(tmp_path, small_space, capsys):
    evaluator = TableEvaluator(lambda _: {"accuracy": 0.5})
    study = search(small_space, tmp_path, evaluator=evaluator, trials=5)
    assert "knee         none: it needs 3 trials on the front, and there are 1" in shown(study, capsys)


def test_show_gives_them_for_evolution_by_fronts_and_where_costs_are_named(tmp_path, small_space, capsys):
    study = search(small_space, tmp_path / "a", "accuracy * macs^-0.07", controller="nsga2")
    assert json.loads(shown(study, capsys, "--json"))["hypervolume"] > 0
    study = search(small_space, tmp_path / "b", "accuracy * macs^-0.07", controller="random")
    assert "hypervolume" not in json.loads(shown(study, capsys, "--json"))
    assert list(json.loads(shown(study, capsys, "--json", "--pareto", "params"))["reference_point"]) == [
        "accuracy",
        "params",
    ]
