"""A user's own controller: what can be converted is, and every other mistake is an error that names it."""

import sqlite3
import sys
from contextlib import closing

import numpy as np
import pytest

import nas
from controllers import Proposal, RandomSearch, state_from_json, state_to_json
from controllers.contract import ControllerError
from nas.catalogue import Catalogue
from nas.controller import ControllerOptions
from nas.errors import ControllerFailedError, NasError
from nas.study.study_folder import FILE_NAME


class Own(RandomSearch):
    """Does everything right, but for what is put in the place of one method's answer from a call on."""

    def __init__(self, space, method="", answer=None, first=2):
        super().__init__(space.cardinalities, space.conditions, seed=0)
        self.method, self.answer, self.left = method, answer, first

    def _answer(self, method, found):
        if method != self.method:
            return found
        self.left -= 1
        return found if self.left >= 0 else self.answer(found)

    def propose(self, n=1):
        return self._answer("propose", super().propose(n))

    def feedback(self, results):
        self._answer("feedback", None)
        super().feedback(results)

    def recommend(self, n=1):
        return self._answer("recommend", super().recommend(n))

    def state_dict(self):
        return self._answer("state_dict", super().state_dict())

    def diagnostics(self):
        return self._answer("diagnostics", super().diagnostics())


def run(space, out, trials=5, **options):
    given = {"evaluator": nas.TableEvaluator(lambda _: 0.5), "executor": "inline"}
    return nas.search(space, out=out, trials=trials, **{**given, **options})


def fails(error):
    def answer(_):
        raise error

    return answer


def with_tokens(change):
    return lambda found: [Proposal(change(p.tokens), log_prob=p.log_prob, number=p.number) for p in found]


MISTAKES = [
    ("propose", lambda _: None, "must return a list of at most 1"),
    ("propose", lambda found: found[0], "must return a list of at most 1"),
    ("propose", lambda found: found * 2, "must return a list of at most 1"),
    ("propose", lambda found: [found[0].tokens], "`controllers.Proposal` in the list"),
    ("propose", with_tokens(lambda tokens: tokens[:-1]), "one option index for each of 8 decisions"),
    ("propose", with_tokens(lambda tokens: (99, *tokens[1:])), "one option index for each of 8 decisions"),
    ("propose", with_tokens(lambda tokens: (-1, *tokens[1:])), "one option index for each of 8 decisions"),
    ("propose", with_tokens(lambda tokens: (0.5, *tokens[1:])), "one option index for each of 8 decisions"),
    ("propose", with_tokens(lambda _: None), "but got None"),
    ("propose", lambda found: [Proposal(found[0].tokens, log_prob="low")], "log_prob must be one number"),
    ("propose", lambda found: [Proposal(found[0].tokens, number=None)], "TypeError"),
    ("propose", fails(RuntimeError("no idea")), "RuntimeError: no idea"),
    ("propose", lambda _: sys.exit(1), "SystemExit: 1"),
    ("feedback", fails(RuntimeError("no idea")), "RuntimeError: no idea"),
    ("feedback", fails(ControllerError("not so")), "ControllerError: not so"),
    ("state_dict", lambda _: [], "must return a dict"),
    ("diagnostics", lambda _: None, "must return numbers by name"),
    ("diagnostics", lambda _: {"loss": "high"}, "loss must be one number"),
    ("diagnostics", fails(KeyError("loss")), "KeyError: 'loss'"),
]


FIRST = {"state_dict": 6}
"""Right answers of a method before its mistakes: the check before the first trial asks for some."""


@pytest.mark.parametrize(("method", "answer", "words"), MISTAKES)
def test_a_mistake_of_a_controller_names_it_and_leaves_a_study_that_can_continue(
    tmp_path, small_space, method, answer, words
):
    with pytest.raises(ControllerFailedError) as error:
        run(small_space, tmp_path, controller=Own(small_space, method, answer, FIRST.get(method, 2)))
    assert "controller Own" in str(error.value)
    assert f"`{method}`" in str(error.value)
    assert words in str(error.value)
    assert "start again to continue" in str(error.value)
    study = nas.open_study(tmp_path)
    assert study.ending == "failed"
    finished = len(study.completed)
    assert finished >= 1
    study = run(small_space, tmp_path, controller=Own(small_space))
    assert len(study.completed) == 5
    assert study.ending == "trials"


def test_a_state_that_is_no_json_is_an_error_and_leaves_a_study_that_can_continue(tmp_path, small_space):
    with pytest.raises(ControllerFailedError, match="of the controller Own gave what cannot be stored"):
        run(small_space, tmp_path, controller=Own(small_space, "state_dict", lambda _: {"a": object()}, 6))
    assert len(run(small_space, tmp_path, controller=Own(small_space)).completed) == 5


class Forgetful(Own):
    """Recommends wrongly once it has learnt from three trials."""

    results = 0

    def feedback(self, results):
        self.results += len(results)
        super().feedback(results)

    def recommend(self, n=1):
        found = RandomSearch.recommend(self, n)
        return self.answer(found) if self.results > 3 else found


@pytest.mark.parametrize("answer", [fails(RuntimeError("no idea")), lambda _: None, lambda _: [(0,)]])
def test_a_controller_that_cannot_recommend_costs_the_recommendation_only(tmp_path, small_space, answer):
    study = run(small_space, tmp_path, controller=Forgetful(small_space, answer=answer))
    assert study.ending == "trials"
    assert study.recommended == ()
    assert [kind for _, kind, _ in study.events] == ["nothing_recommended"]
    assert study.best.accuracy == 0.5


class Numpy(Own):
    """Gives numpy's numbers wherever there are any."""

    def propose(self, n=1):
        return [
            Proposal(np.array(p.tokens), log_prob=np.float32(-1.5), number=np.int64(p.number))
            for p in super().propose(n)
        ]

    def recommend(self, n=1):
        return [tuple(np.int64(token) for token in tokens) for tokens in super().recommend(n)]

    def state_dict(self):
        return {**super().state_dict(), "loss": np.float32(0.5), "is_warm": np.True_, "steps": np.int64(3)}

    def diagnostics(self):
        return {"loss": np.float32("nan"), "steps": np.int64(3)}


def test_numbers_of_numpy_are_stored_as_numbers_and_the_study_continues(tmp_path, small_space):
    run(small_space, tmp_path, trials=3, controller=Numpy(small_space))
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        kinds = set(database.execute("SELECT typeof(log_prob), typeof(proposal_number) FROM trial"))
    assert kinds == {("real", "integer")}
    study = run(small_space, tmp_path, controller=Numpy(small_space))
    assert len(study.completed) == 5
    assert len({trial.tokens for trial in study.trials}) == 5
    assert study.recommended


@pytest.mark.parametrize("log_prob", [float("nan"), None, float("-inf"), np.float64("nan")])
def test_a_log_probability_that_nobody_knows_does_no_harm(tmp_path, small_space, log_prob):
    def answer(found):
        return [Proposal(p.tokens, log_prob=log_prob, number=p.number) for p in found]

    study = run(small_space, tmp_path, controller=Own(small_space, "propose", answer, first=0))
    assert len(study.completed) == 5
    assert len(run(small_space, tmp_path, trials=6, controller=Own(small_space)).completed) == 6


def test_scalars_of_numpy_in_a_state_are_read_back_as_python_numbers():
    state = state_from_json(state_to_json({"a": np.float32(0.5), "b": np.int64(3), "c": np.False_}))
    assert state == {"a": 0.5, "b": 3, "c": False}


@pytest.mark.parametrize("value", [object(), {1, 2}, {(1, 2): 3}, 1j, b"bytes"])
def test_a_state_that_cannot_be_written_is_a_controllers_error(value):
    with pytest.raises(ControllerError, match="a controller's state must"):
        state_to_json({"a": value})


class Failing:
    """A reporter whose methods of the names given raise."""

    def __init__(self, *methods, error=None):
        self.methods = methods
        self.error = error or RuntimeError("no screen")
        self.told = []

    def _tell(self, method, words=""):
        self.told.append((method, words))
        if method in self.methods:
            raise self.error

    def on_start(self, start):  # noqa: ARG002
        self._tell("on_start")

    def on_trial(self, report):  # noqa: ARG002
        self._tell("on_trial")

    def on_event(self, kind, message):
        self._tell("on_event", f"{kind}: {message}")

    def on_progress(self, progress):
        pass

    def on_end(self, end):  # noqa: ARG002
        self._tell("on_end")


@pytest.mark.parametrize("method", ["on_start", "on_trial", "on_end"])
@pytest.mark.parametrize("error", [RuntimeError("no screen"), SystemExit(3), NasError("full")])
def test_a_reporter_that_raises_is_named_once_and_ends_nothing(tmp_path, small_space, method, error):
    failing, other = Failing(method, "on_event", error=error), Failing()
    study = run(small_space, tmp_path, reporters=[failing, other])
    assert (study.ending, len(study.completed)) == ("trials", 5)
    (event,) = study.events
    assert event[1] == "reporter_failed"
    assert f"{method} of Failing failed" in event[2]
    assert [words for name, words in other.told if name == "on_event"] == [f"{event[1]}: {event[2]}"]
    assert [name for name, _ in other.told].count("on_trial") == 5
    assert [name for name, _ in other.told][-1] in ("on_end", "on_event")
    assert [name for name, _ in failing.told].count("on_trial") == 5


def test_a_reporter_may_still_pass_on_ctrl_c(tmp_path, small_space):
    study = run(small_space, tmp_path, reporters=[Failing("on_trial", error=KeyboardInterrupt())])
    assert study.ending == "interrupted"


@pytest.mark.parametrize("name", ["reinforce", "ppo"])
def test_a_policy_gradient_is_told_how_many_trials_are_planned(small_space, name):
    catalogue, objective = Catalogue(small_space), nas.Objective.soft("macs", 1e6)
    long, short, open_ended = (
        ControllerOptions(name).make(catalogue, objective, seed=0, trials=trials).state_dict()
        for trials in (20_000, 200, None)
    )
    assert long["evaluations"] == 20_000
    assert "evaluations" not in short | open_ended
