"""Journals in which numpy scalars were stored as their bytes open again, for reading and for going on."""

import json
import sqlite3
from contextlib import closing

import numpy as np
import pytest

import nas
from nas.cli.main import main
from nas.study.stored_values import stored_count, stored_number
from nas.study.study_folder import FILE_NAME
from nas.trial import Cause, Status


def evaluator():
    return nas.TableEvaluator(lambda candidate: {"accuracy": 0.25 + candidate.job.trial / 64, "steps": 7})


def run(space, out, trials, **options):
    given = {"evaluator": evaluator(), "controller": "random", "executor": "inline"}
    return nas.search(space, out=out, trials=trials, **{**given, **options})


def hurt(folder, query, values):
    with closing(sqlite3.connect(folder / FILE_NAME)) as database, database:
        database.executemany(query, values)


KINDS = [np.float16, np.float32, np.float64]


@pytest.mark.parametrize("kind", [*KINDS, np.int8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("number", [0, 1, 3, -2, 100])
def test_bytes_of_a_numpy_scalar_are_read_as_its_number(kind, number):
    assert stored_number(kind(number).tobytes()) == number


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [0.71875, 1e-3, -0.125, 512.5])
def test_bytes_of_a_numpy_float_are_read_as_its_number(kind, number):
    assert stored_number(kind(number).tobytes()) == float(kind(number))


@pytest.mark.parametrize("value", [None, b"", b"abc", b"0123456789abcdef", "many"])
def test_what_is_no_number_is_none(value):
    assert stored_number(value) is None


@pytest.mark.parametrize("value", [True, 5, np.int64(5).tobytes(), np.int32(5).tobytes()])
def test_whole_numbers_are_read_from_bytes_too(value):
    assert stored_count(value) == (1 if value is True else 5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_study_with_numbers_stored_as_bytes_opens_resumes_and_is_shown(tmp_path, small_space, capsys, kind):
    before = run(small_space, tmp_path, 12)
    hurt(
        tmp_path,
        "UPDATE measurement SET value = ? WHERE trial = ? AND metric = 'accuracy'",
        [(kind(t.accuracy).tobytes(), t.number) for t in before.trials],
    )
    hurt(
        tmp_path,
        "UPDATE measurement SET value = ? WHERE trial = ? AND metric = 'steps'",
        [(np.int64(7).tobytes(), t.number) for t in before.trials],
    )
    hurt(
        tmp_path,
        "UPDATE trial SET reward = ?, feedback_reward = ?, log_prob = ?, proposal_number = ? "
        "WHERE number = ?",
        [
            (
                kind(t.reward).tobytes(),
                kind(t.reward).tobytes(),
                kind(-1.5).tobytes(),
                b"\x05" + b"\0" * 7,
                t.number,
            )
            for t in before.trials
        ],
    )
    study = nas.open_study(tmp_path)
    assert [t.accuracy for t in study.trials] == [t.accuracy for t in before.trials]
    assert [t.reward for t in study.trials] == [t.reward for t in before.trials]
    assert {t.metric("steps") for t in study.trials} == {7.0}
    assert study.best.number == before.best.number
    assert main(["show", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["top_trials"][0]["accuracy"] == before.trials[11].accuracy
    again = run(small_space, tmp_path, 14)
    assert [t.status for t in again.trials] == [Status.COMPLETED] * 14
    run(small_space, tmp_path / "new", 3, controller="dyna", warm_start=again)


def test_a_study_whose_last_result_was_stored_as_bytes_and_not_learnt_goes_on(tmp_path, small_space):
    run(small_space, tmp_path, 5)
    hurt(
        tmp_path,
        "UPDATE trial SET reward = ?, feedback_rank = NULL, feedback_reward = NULL WHERE number = ?",
        [(np.float32(0.3125).tobytes(), 4)],
    )
    study = run(small_space, tmp_path, 6)
    assert study.trials[4].reward == 0.3125
    assert len(study.completed) == 6


def test_a_trial_whose_accuracy_cannot_be_read_is_infeasible_with_the_reason(tmp_path, small_space, capsys):
    run(small_space, tmp_path, 12)
    query = "UPDATE measurement SET value = ? WHERE trial = ? AND metric = 'accuracy'"
    hurt(tmp_path, query, [(b"nonsense bytes", 3), ("many", 4)])
    study = nas.open_study(tmp_path)
    for trial in study.trials[3:5]:
        assert (trial.status, trial.cause, trial.reward) == (Status.INFEASIBLE, Cause.ERROR, None)
        assert "its accuracy is stored as something that is no number" in trial.message
    assert main(["show", str(tmp_path)]) == 0
    assert "no number" in capsys.readouterr().out
    assert len(run(small_space, tmp_path, 13).completed) == 11
