"""The columns of a study say the same as its trials, of which one is made when it is asked for."""

import math
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

import nas
from nas.errors import StudyError
from nas.study.study_folder import FILE_NAME
from nas.trial import Cause, InfeasibleError, Status


def measured(candidate):
    if candidate.job.trial % 5 == 4:
        raise InfeasibleError(Cause.DIVERGED, "the loss is nan")
    return {"accuracy": 0.5 + sum(candidate.job.tokens) / 100, "steps": float(candidate.job.trial)}


@pytest.fixture(scope="module")
def study(tmp_path_factory, small_space):
    folder = tmp_path_factory.mktemp("columns")
    evaluator = nas.TableEvaluator(measured)
    options = {"controller": "random", "executor": "inline", "trials": 40, "rungs": nas.Rungs((1 / 3, 1.0))}
    return nas.search(small_space, out=folder, evaluator=evaluator, **options)


def change(study, tmp_path, statement):
    folder = shutil.copytree(study.folder, tmp_path / "study")
    with closing(sqlite3.connect(folder / FILE_NAME)) as database, database:
        database.execute(statement)
    return nas.open_study(folder)


@pytest.mark.parametrize("name", ["accuracy", "steps", "macs", "params", "latency_ms"])
def test_the_column_of_a_metric_says_what_each_trial_says(study, name):
    expected = [trial.costs.get(name, math.nan) for trial in study.trials]
    assert np.array_equal(study.table.values(name), expected, equal_nan=True)


def test_columns_of_outcomes_say_what_each_trial_says(study):
    table, trials = study.table, study.trials
    assert {Status.COMPLETED, Status.INFEASIBLE} == set(table.status)
    assert table.status == [trial.status for trial in trials]
    assert [None if math.isnan(one) else one for one in table.reward] == [trial.reward for trial in trials]
    assert table.fidelity.tolist() == [trial.fidelity for trial in trials]
    assert table.is_copy.tolist() == [trial.copied_from is not None for trial in trials]
    assert table.metric_names() == {m.name for trial in study.completed for m in trial.metrics}


def test_ranked_trials_are_those_of_the_highest_fidelity_and_reward(study):
    ordered = sorted(study.completed, key=lambda trial: (-trial.fidelity, -trial.reward, trial.number))
    assert list(study.ranked(7)) == ordered[:7]
    assert list(study.ranked(1000)) == ordered


def test_a_trial_is_made_once(study):
    again = nas.open_study(study.folder)
    assert again.trial(3) is again.trials[3]
    assert [trial.number for trial in again.trials_at([5, 2])] == [5, 2]


def test_networks_of_a_large_study_are_read_from_the_journal_when_they_are_asked_for(
    study, tmp_path, monkeypatch
):
    monkeypatch.setattr("nas.study.study.KNOWN_NETWORKS", 10)
    other = change(study, tmp_path, "UPDATE candidate SET network_json = X'00' WHERE rowid = 1")
    assert other.trials[0].digest == study.trials[0].digest
    with pytest.raises(StudyError, match="nas verify"):
        _ = other.trials[0].network
    shutil.rmtree(other.folder)
    with pytest.raises(StudyError, match="cannot be used"):
        _ = other.trials[1].network


def test_tokens_that_cannot_be_read_are_said_when_the_trial_is_asked_for(study, tmp_path):
    other = change(study, tmp_path, "UPDATE trial SET tokens_json = '[1,' WHERE number = 2")
    assert other.trial(1) == replace(study.trial(1), folder=other.folder)
    with pytest.raises(StudyError, match="cannot be read"):
        other.trial(2)


@pytest.mark.parametrize(
    ("statement", "match"),
    [
        ("UPDATE trial SET seed = 'x' WHERE number = 2", "column seed of trial"),
        ("UPDATE candidate SET macs = 'x' WHERE rowid = 1", "column macs of candidate"),
        ("UPDATE attempt SET worker_seconds = 'x' WHERE trial = 2", "seconds of an attempt"),
        ("UPDATE attempt SET worker_seconds = 9e999 WHERE trial = 2", "no finite number"),
        ("UPDATE study SET ended_at = X'ff'", "ended_at of study is no text"),
        ("UPDATE controller SET rejected = 'x'", "how often the controller was asked"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_column(study, tmp_path, statement, match):
    with pytest.raises(StudyError, match=match):
        change(study, tmp_path, statement)


@pytest.mark.parametrize("tokens", ['["a", 0]', "[0.5, 0]", "[NaN, 0]", "[null, 0]", "[true, 0]", "{}", "7"])
def test_tokens_that_are_no_integers_are_said_when_the_trial_is_asked_for(study, tmp_path, tokens):
    other = change(study, tmp_path, f"UPDATE trial SET tokens_json = '{tokens}' WHERE number = 2")
    with pytest.raises(StudyError, match="cannot be read"):
        other.trial(2)


@pytest.mark.parametrize("column", ["reward", "value"])
@pytest.mark.parametrize("number", ["9e999", "-9e999"])
def test_a_trial_with_an_endless_number_counts_as_infeasible(study, tmp_path, column, number):
    where = (
        "trial SET reward = {} WHERE number = 2"
        if column == "reward"
        else ("measurement SET value = {} WHERE metric = 'accuracy' AND trial = 2")
    )
    other = change(study, tmp_path, "UPDATE " + where.format(number))
    assert other.trial(2).status is Status.INFEASIBLE
    assert "no number" in other.trial(2).message
    assert 2 not in [trial.number for trial in other.completed]


def test_networks_are_there_when_the_folder_is_gone(tmp_path, small_space):
    evaluator = nas.TableEvaluator(lambda _: 0.5)
    study = nas.search(small_space, evaluator=evaluator, trials=3, executor="inline", out=tmp_path / "a")
    shutil.rmtree(tmp_path / "a")
    assert [trial.network.digest for trial in study.trials] == [trial.digest for trial in study.trials]
