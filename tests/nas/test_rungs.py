"""Asynchronous successive halving: who goes on, what the controller hears, and what survives a kill."""

from __future__ import annotations

import numpy as np
import pytest

import nas
from nas.errors import RecipeError
from nas.outcome import TrialOutcome
from nas.report.trial_tables import rung_table
from nas.rungs import Halving, Rungs
from nas.study.study import open_study
from nas.trial import Evaluation, Metric, Status, Trial
from search_spaces import Cost

THREE = Rungs((1 / 9, 1 / 3, 1.0))


def trial(number, fidelity=1 / 9, **options):
    cost = Cost(macs=1, params=1, activations=1)
    given = {
        "tokens": (number,),
        "decode": lambda: None,
        "digest": f"d{number}",
        "cost": cost,
        "seed": number,
    }
    return Trial(number=number, fidelity=fidelity, **{**given, **options})


def done(number, reward, status=Status.COMPLETED, **options):
    return TrialOutcome(number=number, status=status, reward=reward, **options)


class Recorded:
    """An evaluator whose accuracy is quality blurred less by more training; it notes what it was given."""

    fingerprint = "recorded"

    def __init__(self):
        self.seen = []

    def prepare(self):
        pass

    def evaluate(self, candidate):
        job = candidate.job
        self.seen.append((job.trial, job.tokens, job.fidelity, candidate.weights))
        quality = 0.4 + 0.02 * sum(job.tokens)
        noise = 0.05 * (1 - job.fidelity) * np.random.default_rng(job.seed).normal()
        accuracy = Metric(name="accuracy", value=float(np.clip(quality + noise, 0, 1)), unit="fraction")
        return Evaluation(metrics=(accuracy,), weights=lambda: f"{job.tokens} at {job.fidelity}".encode())


def run(space, out, **options):
    evaluator = options.pop("evaluator", None) or Recorded()
    given = {"controller": "random", "executor": "inline", "trials": 40, "rungs": THREE}
    return nas.search(space, evaluator=evaluator, out=out, **{**given, **options}), evaluator


@pytest.mark.parametrize(
    ("rungs", "words"),
    [
        ((1.0,), "at least two"),
        ((0.5, 0.25, 1.0), "must rise"),
        ((0.1, 0.5), "last rung must be the whole"),
        ((0.0, 1.0), "share in"),
        ((0.5, float("nan"), 1.0), "share in"),
    ],
)
def test_rungs_that_do_not_rise_to_the_whole_is_refused(rungs, words):
    with pytest.raises(RecipeError, match=words):
        Rungs(rungs)


def test_rungs_may_be_given_in_its_own_unit():
    assert Rungs.of("epochs", (1, 3, 9), whole=9) == Rungs((1 / 9, 1 / 3, 1.0))
    assert Rungs.of("resolution", (16, 32), whole=32, reduction_factor=2).shares == (0.5, 1.0)
    with pytest.raises(RecipeError, match="whole training, 9 epochs, but got 1, 3, 5"):
        Rungs.of("epochs", (1, 3, 5), whole=9)
    with pytest.raises(RecipeError, match="fidelity"):
        Rungs((0.5, 1.0), fidelity="depth")
    with pytest.raises(RecipeError, match="reduction_factor >= 2"):
        Rungs((0.5, 1.0), reduction_factor=1)


def test_a_candidate_is_promoted_as_soon_as_it_is_in_the_best_third():
    halving = Halving(THREE)
    for number, reward in enumerate((0.5, 0.9)):
        halving.note(trial(number), done(number, reward))
        assert halving.next() is None
    halving.note(trial(2), done(2, 0.7))
    paused, rung = halving.next()
    assert (paused.number, rung) == (1, 1 / 3)
    assert halving.next() is None
    for number in (3, 4):
        halving.note(trial(number), done(number, 0.1))
    assert halving.next() is None
    halving.note(trial(5), done(5, 0.2))
    assert halving.next()[0].number == 2


def test_the_highest_rung_that_has_somebody_comes_first():
    halving = Halving(THREE)
    for number in range(9):
        halving.note(trial(number), done(number, number / 10))
    gone = [halving.next()[0].number for _ in range(3)]
    assert gone == [8, 7, 6]
    for number, parent in zip((10, 11, 12), gone, strict=True):
        halving.note(
            trial(number, 1 / 3, continues=parent, digest=f"d{parent}"), done(number, 0.5 + number / 100)
        )
    for number in range(20, 23):
        halving.note(trial(number), done(number, 0.95))
    assert halving.next() == (trial(12, 1 / 3, continues=6, digest="d6"), 1.0)
    assert halving.next()[1] == 1 / 3


def test_a_failed_candidate_counts_on_its_rung_but_is_never_promoted():
    halving = Halving(Rungs((0.5, 1.0), reduction_factor=2))
    halving.note(trial(0, 0.5), done(0, None, Status.INFEASIBLE))
    assert halving.next() is None
    halving.note(trial(1, 0.5), done(1, 0.3))
    assert halving.next()[0].number == 1


def test_replicates_copies_and_lost_trials_are_on_no_rung():
    halving = Halving(Rungs((0.5, 1.0), reduction_factor=2))
    halving.note(trial(0, 0.5, replicate=1), done(0, 0.5))
    halving.note(trial(1, 0.5), done(1, 0.5, copied_from=0))
    halving.note(trial(2, 0.5), done(2, None, Status.LOST))
    assert halving.next() is None
    assert halving.best(5) == ()


def test_weights_are_wanted_of_whoever_may_go_on_or_is_going_on():
    halving = Halving(Rungs((0.5, 1.0), reduction_factor=2), trials=4)
    for number, reward in enumerate((0.1, 0.4, 0.3)):
        halving.note(trial(number, 0.5), done(number, reward))
    assert halving.held() == {1, 2}  # of four trials never more than two can go on
    assert halving.next()[0].number == 1
    assert halving.held() == {1, 2}
    halving.note(trial(3, 1.0, continues=1), done(3, 0.5))
    assert halving.held() == {2}


@pytest.mark.parametrize("trials", [None, 12])
def test_weights_are_fetched_of_whoever_would_be_held(trials):
    halving = Halving(Rungs((0.5, 1.0), reduction_factor=3), trials=trials)
    numbers = np.random.default_rng(0).permutation(12)
    would, held = set(), set()
    for number, reward in zip(
        numbers, (0.5, 0.4, 0.4, 0.4, 0.4, 0.6, 0.3, 0.7, 0.4, 0.8, 0.1, 0.2), strict=True
    ):
        one = trial(int(number), 0.5)
        would |= {one.number} if halving.may_hold(one, reward) else set()
        halving.note(one, done(one.number, reward))
        held |= {one.number} & halving.held()
    assert held <= would
    assert len(would) < 12 or trials is None
    assert not halving.may_hold(trial(20, 1.0), 0.9)
    assert not halving.may_hold(trial(21, 0.5, replicate=1), 0.9)


def test_a_search_trains_few_candidates_on_from_their_weights(tmp_path, small_space):
    study, evaluator = run(small_space, tmp_path)
    by_rung = {rung: [t for t in study.trials if t.fidelity == rung] for rung in THREE.shares}
    counts = [len(trials) for trials in by_rung.values()]
    assert sum(counts) == 40
    # Who went on early may be overtaken, so that a few more than a third go on.
    assert counts[0] // 3 - 1 <= counts[1] <= counts[0] // 2
    assert counts[1] // 3 - 1 <= counts[2] <= counts[1] // 2
    for number, tokens, fidelity, weights in evaluator.seen:
        parent = study.trials[number].continues
        assert (parent is None) == (fidelity == THREE.shares[0])
        below = None if parent is None else f"{tokens} at {study.trials[parent].fidelity}".encode()
        assert weights == below
    assert study.best.fidelity == 1.0
    assert study.best.reward == max(t.reward for t in by_rung[1.0])
    assert study.recommended[0] == study.best.digest


def test_the_controller_gets_results_of_the_first_rung_only(tmp_path, small_space):
    class Heard(nas_random(small_space)):
        def feedback(self, results):
            heard.extend(outcome.fidelity for _, outcome in results)
            super().feedback(results)

    heard = []
    study, _ = run(small_space, tmp_path, controller=Heard(small_space.cardinalities, small_space.conditions))
    assert set(heard) == {THREE.shares[0]}
    assert len(heard) == sum(t.continues is None for t in study.trials)


def nas_random(space):  # noqa: ARG001
    import controllers

    return controllers.RandomSearch


def test_weights_stay_on_disk_only_while_they_are_wanted(tmp_path, small_space):
    study, _ = run(small_space, tmp_path)
    kept = {int(path.stem.removeprefix("trial-")) for path in (tmp_path / "weights").iterdir()}
    assert kept == {t.number for t in study.trials if t.weights_file is not None}
    gone_on = {t.continues for t in study.trials if t.continues is not None}
    top = {t.number for t in study.trials if t.fidelity == 1.0}
    assert not kept & (gone_on - top)
    most = 40 // THREE.reduction_factor
    assert len(kept) <= 2 * most + 3


@pytest.mark.parametrize("first", [5, 13, 22, 31])
def test_an_interrupted_search_continues_on_the_same_rungs(tmp_path, small_space, first):
    whole, _ = run(small_space, tmp_path / "whole")
    run(small_space, tmp_path / "parts", trials=40, reporters=[StopAfter(first)])
    part = open_study(tmp_path / "parts", space=small_space)
    assert len(part.trials) < 40
    study, _ = run(small_space, tmp_path / "parts")
    told = [(t.tokens, t.fidelity, t.continues, t.reward) for t in study.trials]
    assert told == [(t.tokens, t.fidelity, t.continues, t.reward) for t in whole.trials]


class StopAfter:
    """A reporter that interrupts after so many trials."""

    def __init__(self, trials):
        self.left = trials

    def on_start(self, start):
        pass

    def on_trial(self, report):  # noqa: ARG002
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def on_event(self, kind, message):
        pass

    def on_progress(self, progress):
        pass

    def on_end(self, end):
        pass


def test_paused_weights_that_are_gone_are_trained_again(tmp_path, small_space):
    run(small_space, tmp_path, reporters=[StopAfter(20)])
    for path in (tmp_path / "weights").iterdir():
        path.unlink()
    study, evaluator = run(small_space, tmp_path)
    assert len(study.completed) == 40
    assert any(fidelity > THREE.shares[0] and weights is None for _, _, fidelity, weights in evaluator.seen)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"trials": 12}, "trials"),
        ({"deterministic": True}, "rungs"),
        ({"trials": None, "budget": nas.Budget(trials=40, finalists=2)}, "finalists"),
    ],
)
def test_options_that_exclude_rungs_are_refused(tmp_path, small_space, options, field):
    with pytest.raises(RecipeError) as error:
        run(small_space, tmp_path, **options)
    assert error.value.field == field
    assert not tmp_path.joinpath("study.sqlite").exists()


def test_another_ladder_is_another_study(tmp_path, small_space):
    run(small_space, tmp_path)
    with pytest.raises(nas.StudyError, match="1 of 4 goes on"):
        run(small_space, tmp_path, rungs=Rungs((1 / 9, 1 / 3, 1.0), reduction_factor=4), trials=60)


def test_show_says_what_each_rung_cost_and_predicted(tmp_path, small_space):
    study, _ = run(small_space, tmp_path, trials=60)
    table = rung_table(study)
    assert [row["fidelity"] for row in table.rows] == list(THREE.shares)
    assert sum(row["trials"] for row in table.rows) == 60
    going = [row["promoted"] for row in table.rows]
    assert going == [row["trials"] for row in table.rows[1:]] + [0]
    reached = table.rows[-1]["trials"]
    assert [row["pairs"] for row in table.rows] == [reached] * 3
    assert table.rows[0]["kendall"] is None or -1 <= table.rows[0]["kendall"] <= 1
    assert table.rows[-1]["kendall"] is None
    whole, _ = run(small_space, tmp_path / "whole", trials=5, rungs=None)
    assert rung_table(whole) is None
