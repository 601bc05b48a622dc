import itertools
import math
import os
import signal
import sqlite3
import threading
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

import nas
from controllers import CONTROLLERS, Proposal, RandomSearch, RegularizedEvolution, state_to_json
from nas.catalogue import Catalogue
from nas.controller import ControllerOptions
from nas.errors import NasError, ObjectiveError, SearchStoppedError, SpaceArgumentError, StudyError
from nas.execution.inline_executor import InlineExecutor
from nas.execution.worker import Worker
from nas.objective import Constraint, Objective
from nas.proposals import Replicate, trial_seed
from nas.protocols import Reporter
from nas.scheduling import BATCH_FROM, Budget
from nas.study.journal_reading import MOST_AT_ONCE
from nas.study.study_folder import FILE_NAME
from nas.trial import Cause, Evaluation, InfeasibleError, Metric, Progress, Result, Status
from search_spaces import cost


def accuracy_of(candidate):
    """Between 0 and 1, different for different tokens, the same everywhere."""
    return (sum((i + 1) * (t + 1) for i, t in enumerate(candidate.job.tokens)) % 97) / 97


class Scripted:
    """A controller that proposes what it was told to, and remembers what it was told."""

    def __init__(self, tokens):
        self.script = [tuple(t) for t in tokens]
        self.at = 0
        self.heard = []

    def propose(self, n=1):
        found = self.script[self.at : self.at + n]
        first, self.at = self.at, self.at + len(found)
        return [Proposal(t, log_prob=-1.0, number=first + i) for i, t in enumerate(found)]

    def feedback(self, results):
        self.heard += [(p.number, p.tokens, o.reward, o.status) for p, o in results]

    def recommend(self, n=1):
        best = sorted((r for r in self.heard if r[3] == "completed"), key=lambda r: -r[2])
        return list(dict.fromkeys(tokens for _, tokens, _, _ in best))[:n]

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]

    def diagnostics(self):
        return {"heard": float(len(self.heard))}

    def probabilities(self):
        return None


class Shuffled:
    """An executor of several slots that gives results back in any order, and loses what it is told to."""

    is_in_process = False

    def __init__(self, slots=2, *, seed=0, lose=()):
        self.slots = slots
        self.rng = np.random.default_rng(seed)
        self.lose = Counter(lose)
        self.jobs = []
        self.most = 0
        self.submitted = []

    def check(self, space, evaluator, probe=None):
        pass

    def watch(self, tell):
        pass

    def start(self, space, evaluator):
        self.worker = Worker(space, evaluator)

    def submit(self, job, weights=None):
        assert weights is None
        self.jobs.append(job)
        self.submitted.append(job)
        self.most = max(self.most, len(self.jobs))
        assert len(self.jobs) <= self.slots

    def wait(self, timeout_seconds):  # noqa: ARG002
        count = int(self.rng.integers(1, len(self.jobs) + 1))
        picked = [self.jobs.pop(int(self.rng.integers(len(self.jobs)))) for _ in range(count)]
        return [self._run(job) for job in picked]

    def _run(self, job):
        if self.lose[job.trial] > 0:
            self.lose[job.trial] -= 1
            return Result(job=job, status=Status.LOST, cause=Cause.WORKER_DIED, message="the node is gone")
        return self.worker.run(job)

    def weights(self, job):  # noqa: ARG002
        return None

    def close(self):
        self.jobs = []


class Listener:
    """A reporter that remembers."""

    def __init__(self):
        self.start, self.trials, self.events, self.end = None, [], [], None

    def on_start(self, start):
        self.start = start

    def on_trial(self, report):
        self.trials.append(report)

    def on_event(self, kind, message):
        self.events.append((kind, message))

    def on_progress(self, progress):
        pass

    def on_end(self, end):
        self.end = end


def run(space, out, **options):
    given = {"evaluator": nas.TableEvaluator(accuracy_of), "controller": "random", "executor": "inline"}
    return nas.search(space, **{**given, "out": out, **options})


def some_tokens(space, count, seed=0):
    rng = np.random.default_rng(seed)
    found = {}
    while len(found) < count:
        tokens = space.sample(rng)
        found.setdefault(space.digest(tokens), tokens)
    return list(found.values())


def all_tokens(space):
    return list(itertools.product(*map(range, space.cardinalities)))


def rows(folder, query):
    with closing(sqlite3.connect(folder / FILE_NAME)) as database:
        return database.execute(query).fetchall()


def test_a_search_runs_its_trials_and_returns_the_best(tmp_path, small_space):
    listener = Listener()
    study = run(small_space, tmp_path / "a", trials=20, reporters=[listener])
    assert [t.number for t in study.trials] == list(range(20))
    assert all(t.status is Status.COMPLETED and t.reward == t.accuracy for t in study.trials)
    assert study.best.reward == max(t.reward for t in study.trials)
    assert study.best.network == small_space.decode(study.best.tokens)
    assert study.best.macs == cost(study.best.network).macs
    assert study.ending == "trials"
    assert [report.number for report in listener.trials] == list(range(20))
    assert listener.end.best.number == study.best.number
    assert listener.end.counts.done == 20
    assert listener.trials[-1].best.reward == study.best.reward
    assert listener.start.decisions == small_space.decisions


def test_a_listener_is_a_reporter():
    reporter: Reporter = Listener()
    assert reporter


def test_the_controller_gets_every_reward_with_the_tokens_it_proposed(tmp_path, small_space):
    tokens = some_tokens(small_space, 6)
    controller = Scripted(tokens)
    study = run(
        small_space, tmp_path, controller=controller, trials=None, budget=Budget(trials=None, max_hours=1.0)
    )
    assert study.ending == "exhausted"
    assert controller.heard == [(i, t, study.trials[i].reward, "completed") for i, t in enumerate(tokens)]


def test_every_slot_is_kept_busy(tmp_path, small_space):
    executor = Shuffled(slots=3)
    study = run(small_space, tmp_path, executor=executor, trials=20)
    assert executor.most == 3
    assert len(study.completed) == 20


def test_no_more_is_proposed_than_the_machines_that_are_left_can_run(tmp_path, small_space):
    class Shrinking(Shuffled):
        """Loses two of three machines, and gets them back."""

        def wait(self, timeout_seconds):
            found = super().wait(timeout_seconds)
            self.slots = 1 if 5 <= len(self.submitted) < 10 else 3
            return found

    executor = Shrinking(slots=3)
    study = run(small_space, tmp_path, executor=executor, trials=20)
    assert len(study.completed) == 20
    assert executor.most == 3


def test_an_event_that_an_executor_tells_is_in_the_journal(tmp_path, small_space):
    class Telling(InlineExecutor):
        def start(self, space, evaluator):
            super().start(space, evaluator)
            self._tell(Progress(text="1 of 2 workers has no place", event="workers_missing"))

    listener = Listener()
    study = run(small_space, tmp_path, executor=Telling(), trials=1, reporters=[listener])
    assert listener.events == [("workers_missing", "1 of 2 workers has no place")]
    assert [(kind, message) for _, kind, message in study.events] == listener.events


def test_a_proposal_is_on_disk_before_it_runs_and_a_result_before_it_is_learnt(tmp_path, small_space):
    seen = []

    class Watching(Scripted):
        def feedback(self, results):
            seen.append(
                ("learns", rows(tmp_path, "SELECT status, reward IS NULL, feedback_rank FROM trial")[-1])
            )
            super().feedback(results)

    def look(_):
        seen.append(("runs", rows(tmp_path, "SELECT status, reward IS NULL, feedback_rank FROM trial")[-1]))
        return 0.5

    evaluator = nas.TableEvaluator(look, name="watching")
    run(
        small_space, tmp_path, controller=Watching(some_tokens(small_space, 2)), evaluator=evaluator, trials=2
    )
    assert seen == [("runs", ("running", 1, None)), ("learns", ("completed", 0, None))] * 2


def test_a_candidate_that_breaks_a_known_constraint_is_only_counted(tmp_path, small_space):
    tokens = some_tokens(small_space, 30)
    macs = [cost(small_space.decode(t)).macs for t in tokens]
    limit = sorted(macs)[15]
    controller = Scripted(tokens)
    objective = Objective(constraints=(Constraint(metric="macs", upper=limit),))
    study = run(
        small_space,
        tmp_path,
        controller=controller,
        objective=objective,
        trials=None,
        budget=Budget(trials=None, patience=100),
    )
    kept = [t for t, m in zip(tokens, macs, strict=True) if m <= limit]
    assert [t.tokens for t in study.trials] == kept
    assert [heard[1] for heard in controller.heard] == kept
    assert rows(tmp_path, "SELECT max(macs) <= ? FROM candidate".replace("?", str(limit))) == [(1,)]
    last_let_in = max(i for i, m in enumerate(macs) if m <= limit)
    assert study.summary().rejected == sum(m > limit for m in macs[:last_let_in])


def test_our_controllers_never_propose_what_breaks_a_known_constraint(tmp_path, small_space):
    objective = Objective.hard("macs", 1e6, constraints=(Constraint(metric="params", upper=4000),))
    study = run(small_space, tmp_path, objective=objective, trials=15)
    assert study.summary().rejected == 0
    assert all(t.params <= 4000 for t in study.trials)


def test_a_space_without_a_candidate_within_the_limits_is_refused_before_anything_trains(
    tmp_path, small_space
):
    smallest = min(cost(small_space.decode(t)).macs for t in all_tokens(small_space))
    objective = Objective(constraints=(Constraint(metric="macs", upper=smallest - 1),))
    with pytest.raises(SpaceArgumentError, match=f"nearest macs={smallest:,}"):
        run(small_space, tmp_path / "a", objective=objective)
    assert not (tmp_path / "a").exists()


def test_the_one_cheapest_candidate_is_found_where_only_it_meets_the_constraint(tmp_path, small_space):
    cheapest = min(all_tokens(small_space), key=lambda t: cost(small_space.decode(t)).macs)
    limit = cost(small_space.decode(cheapest)).macs
    objective = Objective(constraints=(Constraint(metric="macs", upper=limit),))
    study = run(small_space, tmp_path, objective=objective, trials=3)
    assert [t.macs for t in study.trials] == [limit] * len(study.trials)
    assert study.ending == "exhausted"


def test_a_controller_that_proposes_only_candidates_above_the_limit_is_stopped(tmp_path, small_space):
    dear = max(some_tokens(small_space, 200), key=lambda t: cost(small_space.decode(t)).macs)
    limit = cost(small_space.decode(dear)).macs - 1
    objective = Objective(constraints=(Constraint(metric="macs", upper=limit),))
    with pytest.raises(SearchStoppedError, match="in a row broke the constraints"):
        run(small_space, tmp_path, controller=Scripted([dear] * 5000), objective=objective)


def test_a_measured_constraint_makes_a_candidate_infeasible_after_training(tmp_path, small_space):
    values = iter([5.0, 20.0])
    evaluator = nas.TableEvaluator(lambda _: {"accuracy": 0.5, "latency_ms": next(values)})
    objective = Objective(constraints=(Constraint(metric="latency_ms", upper=10),))
    controller = Scripted(some_tokens(small_space, 2))
    study = run(
        small_space, tmp_path, controller=controller, evaluator=evaluator, objective=objective, trials=2
    )
    good, bad = study.trials
    assert (good.status, bad.status, bad.cause) == (Status.COMPLETED, Status.INFEASIBLE, Cause.CONSTRAINT)
    assert "latency_ms=20" in bad.message
    assert bad.metric("latency_ms") == 20.0
    assert controller.heard[1][2:] == (0.5, "infeasible")


def test_a_candidate_proposed_twice_is_trained_once(tmp_path, small_space):
    first, second = some_tokens(small_space, 2)
    trained = Counter()

    def count(candidate):
        trained[candidate.job.tokens] += 1
        return 0.25

    controller = Scripted([first, second, first, first])
    study = run(
        small_space,
        tmp_path,
        controller=controller,
        evaluator=nas.TableEvaluator(count),
        executor=Shuffled(slots=4),
        trials=4,
    )
    assert trained == {first: 1, second: 1}
    assert [t.copied_from for t in study.trials] == [None, None, 0, 0]
    assert [t.reward for t in study.trials] == [0.25] * 4
    assert [t.attempts for t in study.trials] == [1, 1, 0, 0]
    assert len(controller.heard) == 4


def test_a_repeat_asked_for_is_trained_again_with_a_new_seed(tmp_path, small_space):
    (tokens,) = some_tokens(small_space, 1)
    evaluator = nas.TableEvaluator(lambda _: 0.5, noise=0.1)
    network = small_space.decode(tokens)
    study = run(
        small_space, tmp_path, evaluator=evaluator, enqueue=[network, Replicate(network, times=2)], trials=3
    )
    assert [t.digest for t in study.trials] == [network.digest] * 3
    assert [t.replicate for t in study.trials] == [0, 1, 2]
    assert len({t.seed for t in study.trials}) == len({t.reward for t in study.trials}) == 3


def test_the_users_own_candidates_come_first_and_only_once(tmp_path, small_space):
    mine = some_tokens(small_space, 3, seed=9)
    for trials in (5, 8):
        study = run(small_space, tmp_path, enqueue=[small_space.decode(mine[0]), *mine[1:]], trials=trials)
    assert [t.digest for t in study.trials[:3]] == [small_space.digest(t) for t in mine]
    assert [t.origin for t in study.trials] == ["user"] * 3 + ["controller"] * 5
    assert len({t.digest for t in study.trials}) == 8


def test_a_candidate_of_the_users_that_is_not_in_the_space_or_above_the_limit_is_refused(
    tmp_path, small_space
):
    with pytest.raises(SpaceArgumentError, match="enqueued candidate 0"):
        run(small_space, tmp_path, enqueue=[(0, 0)])
    (tokens,) = some_tokens(small_space, 1)
    macs = cost(small_space.decode(tokens)).macs
    objective = Objective(constraints=(Constraint(metric="macs", upper=macs - 1),))
    with pytest.raises(ObjectiveError, match=f"enqueued candidate 0.*macs={macs:,}"):
        run(small_space, tmp_path, enqueue=[tokens], objective=objective)


def test_an_infeasible_trial_is_fed_back_as_the_worst_reward_so_far(tmp_path, small_space):
    outcomes = iter([None, 0.6, 0.3, None, 0.9, None])

    def evaluate(_):
        value = next(outcomes)
        if value is None:
            raise InfeasibleError(Cause.DIVERGED, "the loss is nan")
        return value

    controller = Scripted(some_tokens(small_space, 6))
    study = run(
        small_space, tmp_path, controller=controller, evaluator=nas.TableEvaluator(evaluate), trials=6
    )
    assert [heard[2] for heard in controller.heard] == [0.0, 0.6, 0.3, 0.3, 0.9, 0.3]
    assert [heard[3] == "infeasible" for heard in controller.heard] == [True, False, False, True, False, True]
    assert study.trials[0].reward is None
    assert study.trials[0].cause is Cause.DIVERGED
    assert study.best.number == 4


def test_a_lost_attempt_is_run_again_with_the_same_seed(tmp_path, small_space):
    executor = Shuffled(lose=[1, 1])
    listener = Listener()
    study = run(small_space, tmp_path, executor=executor, trials=4, reporters=[listener])
    assert [t.status for t in study.trials] == [Status.COMPLETED] * 4
    again = [job for job in executor.submitted if job.trial == 1]
    assert [job.attempt for job in again] == [1, 2, 3]
    assert len({job.seed for job in again}) == 1
    assert [kind for kind, _ in listener.events] == ["attempt_lost"] * 2


def test_a_trial_lost_three_times_is_reported_and_teaches_nothing(tmp_path, small_space):
    controller = Scripted(some_tokens(small_space, 4))
    listener = Listener()
    study = run(
        small_space,
        tmp_path,
        controller=controller,
        executor=Shuffled(lose=[1] * 9),
        trials=4,
        reporters=[listener],
    )
    assert study.trials[1].status is Status.LOST
    assert study.trials[1].attempts == 3
    assert sorted((heard[0], heard[3]) for heard in controller.heard) == [
        (0, "completed"),
        (1, "lost"),
        (2, "completed"),
        (3, "completed"),
    ]
    assert sorted(report.number for report in listener.trials) == [0, 1, 2, 3]
    assert rows(tmp_path, "SELECT feedback_rank FROM trial WHERE number = 1") == [(None,)]


def over_at_first(count):
    """An evaluator whose first candidates are too slow."""
    return nas.TableEvaluator(
        lambda candidate: {"accuracy": 0.5, "latency_ms": 20.0 if candidate.job.trial < count else 5.0}
    )


def test_first_trials_that_all_break_a_constraint_do_not_stop_a_search(tmp_path, small_space):
    objective = Objective(constraints=(Constraint(metric="latency_ms", upper=10.0),))
    study = run(small_space, tmp_path, evaluator=over_at_first(40), objective=objective, trials=42)
    assert [trial.number for trial in study.completed] == [40, 41]


def test_a_search_in_which_nothing_keeps_a_constraint_is_stopped_with_the_remedy(tmp_path, small_space):
    objective = Objective(constraints=(Constraint(metric="latency_ms", upper=10.0),))
    words = "first 50 trials that were measured in this run all broke a constraint: relax it"
    with pytest.raises(SearchStoppedError, match=words) as error:
        run(small_space, tmp_path, evaluator=over_at_first(99), objective=objective, trials=60)
    assert "`latency_ms <= 10` but latency_ms=20" in str(error.value)


def test_a_search_whose_first_trials_all_fail_is_stopped_and_shows_the_first_log_at_once(
    tmp_path, small_space
):
    listener = Listener()

    def broken(_):
        raise RuntimeError("no such file: labels.csv")

    with pytest.raises(SearchStoppedError, match="first 5 trials") as error:
        run(small_space, tmp_path, evaluator=nas.TableEvaluator(broken), trials=50, reporters=[listener])
    assert "labels.csv" in str(error.value)
    first = listener.trials[0]
    assert first.is_first_failure
    assert "Traceback" in first.log
    assert "in broken" in first.log
    assert "in broken" in first.log_file.read_text()
    assert [report.is_first_failure for report in listener.trials] == [True, False, False, False, False]
    assert listener.end.ending == "failed"
    study = nas.open_study(tmp_path)
    assert [t.status for t in study.trials] == [Status.INFEASIBLE] * 5
    assert study.ending == "failed"


def test_a_search_that_failed_at_first_can_go_on_once_the_cause_is_mended(tmp_path, small_space):
    is_broken = [True]

    def evaluate(candidate):
        if is_broken[0]:
            raise RuntimeError("not mounted")
        return accuracy_of(candidate)

    evaluator = nas.TableEvaluator(evaluate, name="disk")
    with pytest.raises(SearchStoppedError):
        run(small_space, tmp_path, evaluator=evaluator, trials=10)
    is_broken[0] = False
    assert len(run(small_space, tmp_path, evaluator=evaluator, trials=10).completed) == 5


def test_machines_that_lose_one_trial_after_another_stop_the_search(tmp_path, small_space):
    lost = [number for number in range(3, 50) for _ in range(3)]
    with pytest.raises(SearchStoppedError, match="machines lost 5 trials in a row"):
        run(small_space, tmp_path, executor=Shuffled(slots=1, lose=lost), trials=50)
    assert len(nas.open_study(tmp_path).completed) == 3


def test_patience_ends_a_search_that_finds_nothing_better(tmp_path, small_space):
    values = iter([0.1, 0.5, *[0.4] * 50])
    study = run(
        small_space,
        tmp_path,
        evaluator=nas.TableEvaluator(lambda _: next(values)),
        budget=Budget(trials=50, patience=6),
    )
    assert study.ending == "patience"
    assert len(study.trials) == 8


def test_hours_end_a_search(tmp_path, small_space):
    study = run(small_space, tmp_path, trials=None, budget=Budget(trials=None, max_hours=1e-9))
    assert (study.ending, study.trials) == ("max_hours", ())


@pytest.mark.parametrize("limits", [{"trials": 0}, {"patience": -1}, {"max_hours": math.nan}])
def test_a_limit_that_is_not_positive_is_refused(limits):
    with pytest.raises(NasError) as error:
        Budget(**limits)
    assert error.value.field in limits


def test_a_budget_without_any_limit_is_refused():
    with pytest.raises(NasError) as error:
        Budget(trials=None)
    assert error.value.field == "trials"


def test_a_small_space_is_searched_to_its_last_candidate(tmp_path, small_space):
    two = Scripted(some_tokens(small_space, 2))
    assert run(small_space, tmp_path, controller=two, trials=10).ending == "exhausted"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_search_cleanly_and_the_same_call_continues_it(tmp_path, small_space, number):
    calls = []

    def evaluate(candidate):
        calls.append(candidate.job.trial)
        if len(calls) == 4:
            os.kill(os.getpid(), number)
            threading.Event().wait(5)
        return accuracy_of(candidate)

    before = signal.getsignal(number)
    evaluator = nas.TableEvaluator(evaluate, name="signalled")
    study = run(small_space, tmp_path, evaluator=evaluator, trials=8)
    assert signal.getsignal(number) is before
    assert study.ending == "interrupted"
    assert [t.status for t in study.trials] == [Status.COMPLETED] * 3 + [Status.PROPOSED]
    study = run(small_space, tmp_path, evaluator=evaluator, trials=8)
    assert calls == [0, 1, 2, 3, 3, 4, 5, 6, 7]
    assert [t.status for t in study.trials] == [Status.COMPLETED] * 8
    assert study.trials[3].attempts == 2


def test_a_signal_between_two_steps_waits_for_the_step(tmp_path, small_space):
    class Signalling(Scripted):
        def feedback(self, results):
            super().feedback(results)
            if len(self.heard) == 3:
                os.kill(os.getpid(), signal.SIGINT)
            self.finished = len(self.heard)

    controller = Signalling(some_tokens(small_space, 8))
    study = run(small_space, tmp_path, controller=controller, trials=8)
    assert study.ending == "interrupted"
    assert controller.finished == 3
    assert rows(tmp_path, "SELECT count(feedback_rank) FROM trial") == [(3,)]


def deterministic(space, out, *, slots, seed, **options):
    executor = Shuffled(slots, seed=seed, lose=options.pop("lose", ()))
    return run(space, out, controller="reinforce", executor=executor, deterministic=True, **options)


TABLES = {
    "trial": "number, digest, tokens_json, origin, proposal_number, log_prob, repeat, seed, fidelity, "
    "status, cause, message, reward, copied_from, weights_file, feedback_rank, feedback_reward",
    "candidate": "digest, macs, params, activations, network_json",
    "measurement": "trial, metric, value, unit, environment, attempt",
    "attempt": "trial, number, status, cause, message, seed, fidelity",
    "controller": "proposals, feedbacks, rejected, state_json",
}


def content(folder):
    """All that two equal searches must agree on: everything but times."""
    return {
        table: sorted(rows(folder, f"SELECT {names} FROM {table}"), key=repr)
        for table, names in TABLES.items()
    }


def test_deterministic_searches_are_equal_in_whatever_order_results_arrive(tmp_path, small_space):
    for seed in range(4):
        deterministic(small_space, tmp_path / str(seed), slots=3, seed=seed, trials=25)
    first, *others = (content(tmp_path / str(seed)) for seed in range(4))
    assert all(other == first for other in others)
    assert len(first["trial"]) == 25


def test_searches_that_are_not_deterministic_do_differ(tmp_path, small_space):
    for seed in range(4):
        executor = Shuffled(3, seed=seed)
        run(small_space, tmp_path / str(seed), controller="reinforce", executor=executor, trials=25)
    assert len({repr(content(tmp_path / str(seed))["trial"]) for seed in range(4)}) > 1


class Stopped(Shuffled):
    """Is interrupted when it has given so many results."""

    def __init__(self, slots, *, seed, after, lose=()):
        super().__init__(slots, seed=seed, lose=lose)
        self.after = after

    def wait(self, timeout_seconds):
        if self.after <= 0:
            raise KeyboardInterrupt
        results = super().wait(timeout_seconds)
        self.after -= len(results)
        return results


@pytest.mark.parametrize("after", range(1, 24, 2))
def test_a_deterministic_search_with_lost_trials_interrupted_anywhere_and_resumed_is_the_same(
    tmp_path, small_space, after
):
    lost = [number for number in (2, 9, 10, 13, 17) for _ in range(3)]
    options = {"controller": "dyna", "deterministic": True, "trials": 18}
    run(small_space, tmp_path / "whole", executor=Shuffled(3, lose=lost), **options)
    begun = Stopped(3, seed=after, after=after, lose=lost)
    run(small_space, tmp_path / "parts", executor=begun, **options)
    left = [number for number, times in begun.lose.items() for _ in range(times)]
    listener = Listener()
    study = run(
        small_space, tmp_path / "parts", executor=Shuffled(3, lose=left), reporters=[listener], **options
    )
    assert study.ending == "trials"
    parts, whole = content(tmp_path / "parts"), content(tmp_path / "whole")
    for attempts in ("attempt", "measurement"):
        del parts[attempts], whole[attempts]
    assert parts == whole
    assert len(study.completed) == 13
    assert listener.end.counts.lost == 5


class Few(nas.InlineExecutor):
    """Runs so many trials, and then the search fails as it does where a machine does."""

    def __init__(self, trials):
        super().__init__()
        self.left = trials

    def wait(self, timeout_seconds):
        if not self.left:
            raise nas.NasError("the machine fails")
        self.left -= 1
        return super().wait(timeout_seconds)


WAYS = {
    "enqueued": lambda space: {"controller": "dyna", "enqueue": some_tokens(space, 3), "deterministic": True},
    "rejected": lambda space: {
        "controller": RegularizedEvolution(
            space.cardinalities, space.conditions, seed=1, population=8, sample=3
        ),  # it does not know of the constraint
        "objective": "accuracy, params <= 4000",
        "deterministic": True,
    },
    "finals": lambda _: {"trials": None, "budget": nas.Budget(trials=24, finalists=3), "controller": "ppo"},
    "rungs": lambda _: {"rungs": nas.Rungs((1 / 3, 1.0)), "controller": "reinforce"},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_controller_is_continued_from_a_state_of_long_ago(tmp_path, small_space, monkeypatch, way):
    monkeypatch.setattr("nas.study.journal.STATE_EVERY", 1)  # the state is as old as half of the search

    def once(folder, **options):
        run(small_space, tmp_path / folder, **{"trials": 24, **WAYS[way](small_space), **options})

    once("whole")
    for trials in (3, 1, 8, 10):
        with pytest.raises(nas.NasError, match="the machine fails"):
            once("parts", executor=Few(trials))
    assert len(rows(tmp_path / "parts", "SELECT * FROM step")) >= 4
    once("parts")
    parts, whole = content(tmp_path / "parts"), content(tmp_path / "whole")
    for attempts in ("attempt", "measurement"):
        del parts[attempts], whole[attempts]
    assert parts == whole
    assert rows(tmp_path / "whole", "SELECT * FROM step") == []
    assert (rows(tmp_path / "whole", "SELECT rejected FROM controller")[0][0] > 0) == (way == "rejected")


class Fickle(Scripted):
    """Proposes something else when it is asked again."""

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.script = self.script[: self.at] + self.script[: self.at - 1 : -1]


def test_a_controller_that_does_not_do_the_same_again_is_told_all_results(tmp_path, small_space, monkeypatch):
    monkeypatch.setattr("nas.study.journal.STATE_EVERY", 1)
    tokens = some_tokens(small_space, 12)
    with pytest.raises(nas.NasError, match="the machine fails"):
        run(small_space, tmp_path, controller=Fickle(tokens), executor=Few(5), trials=8)
    before = rows(tmp_path, "SELECT number, tokens_json, reward FROM trial WHERE reward IS NOT NULL")
    since = rows(tmp_path, "SELECT trial FROM step WHERE kind = 'counted' ORDER BY number")
    controller = Fickle(tokens)
    study = run(small_space, tmp_path, controller=controller, trials=8)
    assert [heard[:1] for heard in controller.heard[: len(since)]] == since != []
    assert rows(tmp_path, "SELECT number, tokens_json, reward FROM trial")[: len(before)] == before
    assert len(study.completed) == 8
    assert [kind for _, kind, _ in study.events].count("controller_differs") == 1


class Sized(RegularizedEvolution):
    """Remembers for how many candidates it was asked; knows no constraint."""

    def __init__(self, space):
        super().__init__(space.cardinalities, space.conditions, population=8, sample=3)
        self.sizes = []

    def propose(self, n=1):
        self.sizes.append(n)
        return super().propose(n)


def sizes(space, out, slots, **options):
    controller = Sized(space)
    run(space, out, controller=controller, executor=Shuffled(slots), **{"trials": 60, **options})
    return controller.sizes


def test_many_free_slots_are_filled_by_one_call_and_few_one_by_one(tmp_path, small_space):
    many = sizes(small_space, tmp_path / "many", BATCH_FROM)
    assert many[0] == max(many) == BATCH_FROM
    assert set(sizes(small_space, tmp_path / "few", BATCH_FROM - 1)) == {1}
    assert set(sizes(small_space, tmp_path / "fixed", BATCH_FROM, deterministic=True)) == {1}


def test_a_batch_has_room_in_the_budget_and_ends_before_the_finals(tmp_path, small_space):
    assert sizes(small_space, tmp_path / "trials", 40, trials=30) == [30]
    finals = nas.Budget(trials=30, finalists=2)
    assert sum(sizes(small_space, tmp_path / "finals", 24, trials=None, budget=finals)) == 26
    assert len(rows(tmp_path / "finals", "SELECT * FROM trial WHERE repeat > 0")) == 4
    assert sizes(small_space, tmp_path / "most", 100, trials=90)[0] == MOST_AT_ONCE


class Broken(Shuffled):
    """Gives so many results, and then the search fails as it does where a machine does."""

    left = math.inf

    def wait(self, timeout_seconds):
        if self.left <= 0:
            raise nas.NasError("the machine fails")
        results = super().wait(timeout_seconds)
        self.left -= len(results)
        return results


@pytest.mark.parametrize("left", [0, 40, 50])
def test_a_controller_that_was_asked_for_many_at_once_is_continued_where_it_was(
    tmp_path, small_space, monkeypatch, left
):
    monkeypatch.setattr("nas.study.journal.STATE_EVERY", 1)
    options = {"objective": "accuracy, params <= 4000", "trials": 90}
    controller, executor = Sized(small_space), Broken(24)
    executor.left = left
    with pytest.raises(nas.NasError, match="the machine fails"):
        run(small_space, tmp_path, controller=controller, executor=executor, **options)
    assert left != 40 or rows(tmp_path, "SELECT max(size) FROM step")[0][0] >= BATCH_FROM
    asked = sum(controller.sizes)
    trials, rejected = rows(tmp_path, "SELECT count(*), (SELECT max(rejected) FROM step) FROM trial")[0]
    assert asked == trials + (rejected or rows(tmp_path, "SELECT rejected FROM controller")[0][0])

    again, states = Sized(small_space), []

    class Looking(Listener):
        def on_start(self, start):  # noqa: ARG002
            states.append(state_to_json(again.state_dict()))

    study = run(
        small_space, tmp_path, controller=again, executor=Broken(24), reporters=[Looking()], **options
    )
    assert states == [state_to_json(controller.state_dict())]
    assert len(study.completed) == 90
    assert not [kind for _, kind, _ in study.events if kind == "controller_differs"]


def test_a_lost_trial_that_a_killed_search_told_nobody_is_told_on_resume(tmp_path, small_space):
    tokens = some_tokens(small_space, 5)
    run(small_space, tmp_path, controller=Scripted(tokens), executor=Shuffled(1, lose=[1] * 3), trials=3)
    controller = Scripted(tokens)
    run(small_space, tmp_path, controller=controller, trials=4)
    assert [(heard[0], heard[3]) for heard in controller.heard] == [(1, "lost"), (3, "completed")]


@pytest.mark.parametrize("controller", ["dyna", "reinforce", "evolution", "local", "nsga2"])
def test_a_deterministic_search_interrupted_and_resumed_with_other_workers_is_the_same(
    tmp_path, small_space, controller
):
    options = {"controller": controller, "deterministic": True, "trials": 24}
    run(small_space, tmp_path / "whole", executor=Shuffled(3), **options)
    for after, slots in ((5, 3), (4, 1), (6, 5), (99, 2)):
        study = run(
            small_space, tmp_path / "parts", executor=Stopped(slots, seed=after, after=after), **options
        )
    assert study.ending == "trials"
    parts, whole = content(tmp_path / "parts"), content(tmp_path / "whole")
    for attempts in ("attempt", "measurement"):
        del parts[attempts], whole[attempts]
    assert parts == whole


def test_a_deterministic_search_refuses_an_objective_of_times(tmp_path, small_space):
    with pytest.raises(ObjectiveError, match=r"cannot depend on times.*latency_ms"):
        run(small_space, tmp_path, deterministic=True, objective=Objective.hard("latency_ms", 5.0))


def test_a_resume_may_change_trials_and_time_but_not_the_seed(tmp_path, small_space):
    run(small_space, tmp_path, trials=3)
    assert len(run(small_space, tmp_path, budget=Budget(trials=6, max_hours=1)).trials) == 6
    with pytest.raises(StudyError, match="seed is 0 there, 1 here"):
        run(small_space, tmp_path, trials=9, seed=1)


def test_a_study_that_is_done_is_returned_without_starting_workers(tmp_path, small_space):
    run(small_space, tmp_path, trials=3)

    class Unstartable(InlineExecutor):
        def start(self, space, evaluator):  # noqa: ARG002
            raise AssertionError("started")

    assert len(run(small_space, tmp_path, trials=3, executor=Unstartable()).trials) == 3


def test_seeds_depend_on_the_study_seed_and_the_trial_number_alone():
    seeds = {(study, number): trial_seed(study, number) for study in range(5) for number in range(50)}
    assert len(set(seeds.values())) == 250
    assert all(0 <= seed < 2**31 for seed in seeds.values())
    assert trial_seed(3, 4) == seeds[3, 4]


def test_an_objective_that_needs_what_nobody_measures_ends_the_search_with_its_name(tmp_path, small_space):
    with pytest.raises(
        SearchStoppedError, match=r"first 5 trials.*needs 'latency_ms'.*let the evaluator measure it"
    ):
        run(small_space, tmp_path, objective=Objective.hard("latency_ms", 5.0))


def test_an_objective_and_a_target_together_are_refused(tmp_path, small_space):
    with pytest.raises(ObjectiveError, match="leave it out") as error:
        run(small_space, tmp_path, objective=Objective(), target_macs=1e6)
    assert error.value.field == "objective"


def test_neither_or_both_of_data_and_evaluator_are_refused(tmp_path, small_space):
    with pytest.raises(NasError, match="got neither"):
        nas.search(small_space, out=tmp_path)
    with pytest.raises(NasError, match="got both"):
        run(small_space, tmp_path, data=tmp_path)


def test_a_controller_of_the_users_own_needs_no_key(tmp_path, small_space):
    controller = RandomSearch(small_space.cardinalities, small_space.conditions, seed=3)
    assert len(run(small_space, tmp_path, controller=controller, trials=10).completed) == 10


@pytest.mark.parametrize("name", CONTROLLERS)
def test_every_controller_that_the_command_line_offers_can_be_made(small_space, name):
    controller = ControllerOptions(name).make(Catalogue(small_space), Objective(), seed=0)
    assert len(controller.propose(2)) == 2


@pytest.mark.parametrize(
    ("objective", "metric"),
    [
        (Objective(), "macs"),
        (Objective.hard("params", 1e5), "params"),
        (Objective.hard("latency_ms", 5.0), "macs"),
        (replace(Objective(), constraints=(Constraint(metric="params", upper=1e9),)), "params"),
    ],
)
def test_costs_of_a_controller_are_the_first_that_is_known_before_training(small_space, objective, metric):
    controller = ControllerOptions("nsga2").make(Catalogue(small_space), objective, seed=0)
    tokens = sorted(some_tokens(small_space, 30), key=sum)
    costs = small_space.costs(tokens)
    controller.feedback([(Proposal(t), float(cost)) for t, cost in zip(tokens, costs[metric], strict=True)])
    # Dearer is better here by just as much, so that all are on the front, in the order of their costs.
    front = small_space.costs(controller.front())[metric]
    assert front.tolist() == sorted(costs[metric].tolist())


class Weighing:
    """An evaluator whose weights are the trial's number."""

    fingerprint = "weighing"

    def prepare(self):
        pass

    def evaluate(self, candidate):
        number = candidate.job.trial
        metric = Metric(name="accuracy", value=accuracy_of(candidate), unit="fraction")
        return Evaluation(metrics=(metric,), weights=lambda: f"weights of {number}".encode())


def test_weights_are_kept_of_the_best_and_the_pareto_front_and_of_no_other(tmp_path, small_space):
    study = run(small_space, tmp_path, evaluator=Weighing(), trials=40)
    ranked = sorted(study.completed, key=lambda t: (-t.reward, t.number))[:3]
    wanted = {t.number for t in ranked} | {t.number for t in study.pareto_front()}
    assert {t.number for t in study.trials if t.weights_file is not None} == wanted
    names = {f"trial-{number:05d}.safetensors" for number in wanted}
    assert {path.name for path in (tmp_path / "weights").iterdir()} == names
    assert study.best == ranked[0]
    assert study.best.weights() == f"weights of {study.best.number}".encode()
    dropped = next(t for t in study.trials if t.number not in wanted)
    with pytest.raises(StudyError, match=f"weights of trial {dropped.number} are not kept"):
        dropped.weights()


def test_the_best_is_a_trial_whose_weights_are_kept(tmp_path, small_space):
    class Forgetful(InlineExecutor):
        def weights(self, job):
            return None if job.trial == 2 else super().weights(job)

    values = defaultdict(lambda: 0.1, {2: 0.9, 3: 0.8})

    class Valued(Weighing):
        def evaluate(self, candidate):
            metric = Metric(name="accuracy", value=values[candidate.job.trial], unit="fraction")
            return Evaluation(metrics=(metric,), weights=lambda: b"weights")

    listener = Listener()
    study = run(
        small_space, tmp_path, evaluator=Valued(), executor=Forgetful(), trials=5, reporters=[listener]
    )
    assert study.trials[2].reward == 0.9
    assert study.best.number == 3
    assert [kind for kind, _ in listener.events] == ["attempt_lost", "attempt_lost", "weights_lost"]


class DiesOnce(InlineExecutor):
    """Its worker dies once between a trial's result and its weights."""

    def __init__(self, trial):
        super().__init__()
        self.trial = trial

    def weights(self, job):
        return None if (job.trial, job.attempt) == (self.trial, 1) else super().weights(job)


def kept(study):
    """Everything that a study has found, apart from its attempts."""
    return [(t.tokens, t.seed, t.reward, t.weights_file and t.weights_file.name) for t in study.trials]


def test_a_worker_that_dies_between_its_result_and_its_weights_loses_the_attempt_alone(tmp_path, small_space):
    options = {"evaluator": Weighing(), "trials": 8, "deterministic": True, "controller": "evolution"}
    whole = run(small_space, tmp_path / "whole", **options)
    for number in sorted({0, whole.best.number, whole.trials[-1].number}):
        listener = Listener()
        folder = tmp_path / str(number)
        study = run(small_space, folder, executor=DiesOnce(number), reporters=[listener], **options)
        assert kept(study) == kept(whole)
        assert study.best.number == whole.best.number
        assert study.best.weights() == whole.best.weights()
        assert [t.attempts for t in study.trials] == [2 if t.number == number else 1 for t in study.trials]
        assert listener.events[-1:] == [
            ("attempt_lost", f"trial {number}, attempt 1: the worker died before the weights were fetched")
        ]


def test_a_promoted_trial_whose_weights_are_gone_is_told_of(tmp_path, small_space):
    class Deleting(Listener):
        def on_trial(self, report):
            super().on_trial(report)
            for path in (tmp_path / "weights").glob("*"):
                path.unlink()

    listener = Deleting()
    options = {"evaluator": Weighing(), "trials": 20, "rungs": nas.Rungs((1 / 3, 1.0))}
    study = run(small_space, tmp_path, reporters=[listener], **options)
    promoted = [t.number for t in study.trials if t.continues is not None]
    told = [message for kind, message in listener.events if kind == "weights_missing"]
    assert [int(message.split()[1]) for message in told] == promoted != []


def test_a_trial_that_may_be_promoted_is_tried_again_where_its_weights_are_lost(tmp_path, small_space):
    options = {"evaluator": Weighing(), "trials": 20, "rungs": nas.Rungs((1 / 3, 1.0))}
    study = run(small_space, tmp_path, executor=DiesOnce(0), **options)
    assert study.trials[0].attempts == 2
    assert [t.status for t in study.trials] == [Status.COMPLETED] * 20


def test_files_left_by_a_kill_are_swept_and_lost_ones_forgotten_on_resume(tmp_path, small_space):
    study = run(small_space, tmp_path, evaluator=Weighing(), trials=6)
    (tmp_path / "weights" / "trial-00098.partial").write_bytes(b"half")
    gone = study.best
    gone.weights_file.unlink()
    study = run(small_space, tmp_path, evaluator=Weighing(), trials=7)
    kept = {path.name for path in (tmp_path / "weights").iterdir()}
    assert kept == {t.weights_file.name for t in study.trials if t.weights_file is not None}
    assert study.trials[gone.number].weights_file is None
    assert study.best.number != gone.number


def test_a_disk_too_full_for_weights_costs_the_weights_and_not_the_trial(tmp_path, small_space):
    class Spoiler(Listener):
        def on_start(self, start):
            super().on_start(start)
            (tmp_path / "weights").touch()

    listener = Spoiler()
    study = run(small_space, tmp_path, evaluator=Weighing(), trials=3, reporters=[listener])
    assert len(study.completed) == 3
    assert {kind for kind, _ in listener.events} == {"weights_lost"}


class Noting:
    """An evaluator with something to say of each trial, as where image files went bad."""

    fingerprint = "noting"

    def prepare(self):
        pass

    def evaluate(self, candidate):
        accuracy = Metric(name="accuracy", value=accuracy_of(candidate), unit="fraction")
        notes = ("cat/1.png cannot be read",) + (
            ("cat/2.png cannot be read",) if candidate.job.trial > 2 else ()
        )
        return Evaluation(metrics=(accuracy,), notes=notes)


def test_a_note_of_an_evaluation_is_reported_and_stored_once(tmp_path, small_space):
    listener = Listener()
    run(small_space, tmp_path / "a", trials=6, evaluator=Noting(), reporters=[listener])
    told = [("note", "cat/1.png cannot be read"), ("note", "cat/2.png cannot be read")]
    assert listener.events == told
    assert rows(tmp_path / "a", "SELECT kind, message FROM event") == told
