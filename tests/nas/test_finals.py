"""What is recommended at the end of a search, finals, and a warm start from an earlier study."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import numpy as np
import pytest

import nas
from nas.errors import StudyError, UsageError
from nas.objective import Objective
from nas.scheduling import FINAL_REPLICATES
from nas.study.journal_tables import SCHEMA_VERSION
from nas.study.study import open_study
from nas.study.study_folder import FILE_NAME
from nas.trial import Status
from search_spaces import efficientnet


def true_accuracy(tokens):
    return 0.5 + 0.02 * sum(tokens)


def noisy(candidate):
    rng = np.random.default_rng(candidate.job.seed)
    return float(np.clip(true_accuracy(candidate.job.tokens) + 0.05 * rng.normal(), 0, 1))


def run(space, out, **options):
    given = {"evaluator": nas.TableEvaluator(noisy), "executor": "inline", "trials": 30}
    return nas.search(space, **{**given, "out": out, **options})


def test_the_best_is_the_recommended_trial_and_not_the_luckiest(tmp_path, small_space):
    study = run(small_space, tmp_path)
    assert study.recommended[0] == study.best.digest
    assert 1 <= len(study.recommended) <= 10
    luckiest = max(study.completed, key=lambda trial: trial.reward)
    assert true_accuracy(study.best.tokens) >= true_accuracy(luckiest.tokens)


def test_while_a_search_runs_the_best_is_the_best_observed(tmp_path, small_space):
    study = run(small_space, tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database, database:
        database.execute("DELETE FROM recommendation")
    study = open_study(tmp_path)
    assert study.recommended == ()
    assert study.best.reward == max(trial.reward for trial in study.completed)


def test_the_last_trials_train_again_what_is_recommended_with_new_seeds(tmp_path, small_space):
    study = run(small_space, tmp_path, trials=None, budget=nas.Budget(trials=30, finalists=3))
    assert len(study.trials) == 30
    finals = study.trials[-3 * FINAL_REPLICATES :]
    assert all(trial.origin == "controller" for trial in study.trials)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        repeats = [r for (r,) in database.execute("SELECT repeat FROM trial ORDER BY number")]
    assert repeats[:24] == [0] * 24
    assert min(repeats[24:]) == 1
    earlier = {trial.digest: trial for trial in study.trials[:24]}
    for trial in finals:
        assert earlier[trial.digest].seed != trial.seed
        assert trial.copied_from is None
    assert study.best.digest in {trial.digest for trial in finals}


def test_a_search_stopped_in_its_finals_continues_them(tmp_path, small_space):
    finals = {"trials": None, "budget": nas.Budget(trials=30, finalists=3)}
    whole = run(small_space, tmp_path / "whole", deterministic=True, **finals)
    run(small_space, tmp_path / "parts", deterministic=True, **finals)
    parts = open_study(tmp_path / "parts")
    assert [t.tokens for t in parts.trials] == [t.tokens for t in whole.trials]
    again = run(
        small_space,
        tmp_path / "parts",
        deterministic=True,
        trials=None,
        budget=nas.Budget(trials=34, finalists=3),
    )
    assert len(again.trials) == 34
    repeats = [trial.digest for trial in again.trials[28:]]
    assert max(repeats.count(digest) for digest in repeats) <= FINAL_REPLICATES + 1


@pytest.mark.parametrize(
    ("finalists", "trials", "words"),
    [
        (-1, 10, "finalists >= 0"),
        (5, 10, r"2 \* finalists < trials.* finalists=5 and trials=10"),
        (2, None, "finalists=2 without trials"),
    ],
)
def test_finals_that_cannot_be_are_refused(finalists, trials, words):
    with pytest.raises(UsageError, match=words) as error:
        nas.Budget(trials=trials, patience=3, finalists=finalists)
    assert error.value.field == "finalists"


def test_without_finalists_there_are_no_finals():
    assert not any(nas.Budget(trials=10).is_final(number) for number in range(10))
    assert [nas.Budget(trials=10, finalists=2).is_final(number) for number in range(10)] == [False] * 6 + [
        True
    ] * 4


def test_a_warm_start_learns_from_the_earlier_study_under_the_new_objective(tmp_path, small_space):
    earlier = run(small_space, tmp_path / "earlier", trials=25)
    target = float(np.median([trial.macs for trial in earlier.trials]))
    goal = Objective.hard("macs", target)
    study = run(small_space, tmp_path / "new", trials=10, warm_start=earlier, objective=goal)
    old, new = ({trial.tokens for trial in one.trials} for one in (earlier, study))
    assert len(new) == 10
    assert not old & new
    cold = run(small_space, tmp_path / "cold", trials=10, objective=goal)
    assert np.mean([t.reward for t in study.trials]) > np.mean([t.reward for t in cold.trials])
    resumed = run(small_space, tmp_path / "new", trials=14, warm_start=earlier, objective=goal)
    assert [t.tokens for t in resumed.trials[:10]] == [t.tokens for t in study.trials]


def test_a_warm_start_from_another_measurement_is_refused(tmp_path, small_space):
    earlier = run(small_space, tmp_path / "earlier", trials=3)
    other = nas.TableEvaluator(noisy, name="longer trainings")
    with pytest.raises(StudyError, match=r"but of .*earlier differs: evaluator is .* there, .* here"):
        run(small_space, tmp_path / "new", warm_start=earlier, evaluator=other)


def test_a_journal_of_the_first_version_is_read_and_brought_up_to_date(tmp_path, small_space):
    run(small_space, tmp_path, trials=12)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database, database:
        database.execute("DROP TABLE recommendation")
        database.execute("ALTER TABLE trial DROP COLUMN continues")
        database.execute("ALTER TABLE study DROP COLUMN data_json")
        database.execute("DROP TABLE driver")
        database.execute("PRAGMA user_version = 1")
    assert open_study(tmp_path).recommended == ()
    assert open_study(tmp_path).best.status is Status.COMPLETED
    study = run(small_space, tmp_path, trials=14)
    assert len(study.trials) == 14
    assert study.recommended
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_a_controller_of_an_earlier_version_is_named_and_not_a_traceback(tmp_path, small_space):
    run(small_space, tmp_path, trials=5, controller="random")
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database, database:
        (text,) = database.execute("SELECT state_json FROM controller").fetchone()
        database.execute("UPDATE controller SET state_json = ?", [text.replace('"results"', '"outcomes"')])
    with pytest.raises(StudyError, match=r"earlier version of mnas.*no 'results'"):
        run(small_space, tmp_path, trials=6, controller="random")


@pytest.mark.parametrize("controller", ["dyna", "random"])
def test_constraints_that_keep_one_in_thirty_thousand_do_not_end_a_search(tmp_path, controller):
    """A controller's own draws never meet one; the space knows where they are."""
    space, limit = efficientnet(), 67.7e6
    objective = Objective(constraints=(nas.Constraint(metric="macs", upper=limit),))
    evaluator = nas.TableEvaluator(lambda candidate: 0.02 * sum(candidate.job.tokens))
    study = run(space, tmp_path, controller=controller, objective=objective, trials=25, evaluator=evaluator)
    assert study.ending == "trials"
    assert len({trial.digest for trial in study.trials}) == 25
    assert all(trial.macs <= limit and trial.origin == "controller" for trial in study.trials)


def test_constraints_that_leave_few_candidates_end_a_search_when_all_are_tried(tmp_path, small_space):
    macs = sorted(set(small_space.costs(small_space.sample_many(np.random.default_rng(0), 2_000))["macs"]))
    objective = Objective(constraints=(nas.Constraint(metric="macs", upper=float(macs[2])),))
    study = run(small_space, tmp_path, controller="random", objective=objective, trials=500)
    assert study.ending == "exhausted"
    assert 3 <= len(study.trials) < 500
