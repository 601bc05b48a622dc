"""What is recommended at the end of a search, finals, and a warm start from an earlier study."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import numpy as np
import pytest

import nas
from controllers import RandomSearch
from nas.errors import ControllerFailedError, StudyError, UsageError
from nas.objective import Objective
from nas.protocols import Reporter
from nas.report.show import study_report
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


AUTO = {"trials": None, "budget": nas.Budget(trials=60, finalists="auto")}


def finals_of(study):
    return [trial.number for trial in study.trials if trial.is_final]


class Stop(Reporter):
    """Interrupts a search after a trial."""

    def __init__(self, number):
        self._number = number

    def on_trial(self, report):
        if report.number == self._number:
            raise KeyboardInterrupt


@pytest.mark.parametrize("controller", ["dyna", "evolution"])
def test_automatic_finals_measure_the_best_again_at_the_end_and_say_so(tmp_path, small_space, controller):
    study = run(small_space, tmp_path, controller=controller, **AUTO)
    finals = finals_of(study)
    assert len(study.trials) == 60
    assert 2 <= len(finals) <= 6
    assert min(finals) >= 54
    assert all(trial.copied_from is None for trial in study.trials)
    (message,) = [message for _, kind, message in study.events if kind == "finals"]
    first, count = min(finals), 60 - min(finals)
    assert message.startswith(f"from trial {first} on, {count} of 60 trials measure the best again")
    facts = {fact.key: fact for fact in study_report(study).facts}
    distinct = len({study.trials[number].digest for number in finals})
    assert facts["finals"].value == len(finals)
    assert facts["finals"].text.startswith(f"{len(finals)} of 60 trials measured the ")
    assert facts["finalists_measured"].value == distinct


def test_without_noise_automatic_finals_end_after_the_two_repeats_that_show_it(tmp_path, small_space):
    exact = nas.TableEvaluator(lambda candidate: true_accuracy(candidate.job.tokens))
    assert len(finals_of(run(small_space, tmp_path / "unknown", evaluator=exact, **AUTO))) <= 2
    known = nas.ControllerOptions("dyna", accuracy_noise=0.0)
    study = run(small_space, tmp_path / "known", evaluator=exact, controller=known, **AUTO)
    assert finals_of(study) == []
    assert not [kind for _, kind, _ in study.events if kind == "finals"]
    assert "finals" not in {fact.key for fact in study_report(study).facts}


@pytest.mark.parametrize("stopped_after", [50, 55, 57])
def test_automatic_finals_that_were_interrupted_continue_as_if_they_were_not(
    tmp_path, small_space, stopped_after
):
    whole = run(small_space, tmp_path / "whole", deterministic=True, **AUTO)
    part = run(small_space, tmp_path / "part", deterministic=True, reporters=[Stop(stopped_after)], **AUTO)
    assert part.ending == "interrupted"
    resumed = run(small_space, tmp_path / "part", deterministic=True, **AUTO)
    assert [t.tokens for t in resumed.trials] == [t.tokens for t in whole.trials]
    assert [t.seed for t in resumed.trials] == [t.seed for t in whole.trials]
    assert len([kind for _, kind, _ in resumed.events if kind == "finals"]) == 1


def test_automatic_finals_need_a_controller_that_says_how_sure_it_is(tmp_path, small_space):
    class Bare:
        def __init__(self):
            self._own = RandomSearch(small_space.cardinalities, small_space.conditions)
            for name in ("propose", "feedback", "recommend", "state_dict", "load_state_dict"):
                setattr(self, name, getattr(self._own, name))

    with pytest.raises(UsageError, match=r"needs a controller.* but .*Bare has none") as error:
        run(small_space, tmp_path / "bare", controller=Bare(), **AUTO)
    assert error.value.field == "finalists"
    own = RandomSearch(small_space.cardinalities, small_space.conditions, seed=0)
    assert finals_of(run(small_space, tmp_path / "own", controller=own, **AUTO))


def test_beliefs_that_are_none_name_the_controller(tmp_path, small_space):
    class Wrong(RandomSearch):
        def beliefs(self, n=1):
            return [n]

    own = Wrong(small_space.cardinalities, small_space.conditions, seed=0)
    with pytest.raises(ControllerFailedError, match=r"`beliefs` of the controller .*Wrong must return"):
        run(small_space, tmp_path, controller=own, **AUTO)


@pytest.mark.parametrize(
    ("finalists", "trials", "words"),
    [
        (-1, 10, "finalists >= 0"),
        (5, 10, r"2 \* finalists < trials.* finalists=5 and trials=10"),
        (2, None, "finalists=2 without trials"),
        ("auto", None, "finalists=auto without trials"),
        ("all", 10, "finalists"),
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
        database.execute("DROP TABLE step")
        database.execute("DROP TABLE identity_copy")
        database.execute("ALTER TABLE controller DROP COLUMN steps")
        database.execute("ALTER TABLE controller DROP COLUMN asked")
        for column in ("proposed_seal", "finished_seal"):
            database.execute(f"ALTER TABLE trial DROP COLUMN {column}")
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
