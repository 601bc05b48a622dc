"""What is known of candidates before training, predicted latency among it, and a search that goes by it."""

from __future__ import annotations

import numpy as np
import pytest

import controllers
import nas
from nas.catalogue import Catalogue
from nas.errors import ObjectiveError, SpaceArgumentError, StudyError
from nas.objective import Constraint, Objective
from nas.study.study import open_study
from nas.trial import Status
from search_spaces import cost

METRIC = "predicted_latency_ms"


class Clockwork:
    """Predicts a latency of one ms for each million multiply-adds, and half a ms for every network."""

    def __init__(self, name="clockwork", rate=1e-6):
        self.fingerprint = name
        self.origin = "clockwork, error 0 %"
        self.rate = rate

    def predict(self, network):
        return 0.5 + self.rate * cost(network).macs

    def least_ms(self, space):
        return 0.5 + self.rate * space.cost_range("macs")[0]

    def predict_many(self, space, tokens):
        return 0.5 + self.rate * space.costs(tokens)["macs"].astype(np.float64)


def accuracy_of(candidate):
    return min(1.0, 0.2 + 0.02 * sum(candidate.job.tokens))


def run(space, out, **options):
    given = {"evaluator": nas.TableEvaluator(accuracy_of), "executor": "inline", "trials": 20}
    return nas.search(space, out=out, **{**given, "latency": Clockwork(), **options})


def rows_of(space, count=50, seed=0):
    return space.sample_many(np.random.default_rng(seed), count)


def test_costs_of_many_are_those_of_each(small_space):
    catalogue = Catalogue(small_space, Clockwork())
    rows = rows_of(small_space)
    table = catalogue.costs(rows, ("params", METRIC, "macs"))
    for tokens, values in zip(rows.tolist(), table, strict=True):
        known = catalogue.describe(tokens).costs
        assert values.tolist() == pytest.approx([known["params"], known[METRIC], known["macs"]])


def test_many_are_within_limits_where_each_is(small_space):
    catalogue = Catalogue(small_space, Clockwork())
    rows = rows_of(small_space)
    latencies = catalogue.costs(rows, (METRIC,))[:, 0]
    limits = {METRIC: float(np.median(latencies)), "params": 1e6}
    objective = Objective(constraints=tuple(Constraint(metric=m, upper=u) for m, u in limits.items()))
    one_by_one = [catalogue.is_feasible(tokens, objective) for tokens in rows.tolist()]
    assert catalogue.are_within(rows, limits).tolist() == one_by_one
    assert 0 < sum(one_by_one) < len(one_by_one)


@pytest.mark.parametrize("controller", ["dyna", "reinforce", "evolution", "nsga2"])
def test_a_search_aims_at_predicted_latency_and_journals_it(tmp_path, small_space, controller):
    objective = Objective.hard(METRIC, 1.5, constraints=(Constraint(metric=METRIC, upper=2.5),))
    study = run(small_space, tmp_path, objective=objective, controller=controller)
    assert all(trial.status is Status.COMPLETED for trial in study.trials)
    for trial in study.trials:
        expected = Clockwork().predict(trial.network)
        assert expected <= 2.5
        assert trial.costs[METRIC] == pytest.approx(expected)
        assert trial.reward == pytest.approx(objective.reward(trial.accuracy, {METRIC: expected}))
        (metric,) = [m for m in trial.metrics if m.name == METRIC]
        assert metric.environment == "clockwork, error 0 %"
    assert [trial.costs[METRIC] for trial in study.pareto_front()] == sorted(
        trial.costs[METRIC] for trial in study.pareto_front()
    )


def test_a_limit_below_the_fastest_network_is_said_before_anything_runs(tmp_path, small_space):
    objective = Objective(constraints=(Constraint(metric=METRIC, upper=0.4),))
    with pytest.raises(
        SpaceArgumentError, match=r"predicted_latency_ms <= 0\.4`, nearest predicted_latency_ms="
    ):
        run(small_space, tmp_path, objective=objective)


@pytest.mark.parametrize("aim", [Objective.hard, Objective.absolute])
def test_a_target_below_the_fastest_network_is_said_before_anything_runs(tmp_path, small_space, aim):
    with pytest.raises(ObjectiveError, match=r"predicted to take less than .* ms, but the target is .*=0\.4"):
        run(small_space, tmp_path, objective=aim(METRIC, 0.4))
    run(small_space, tmp_path, objective=Objective.soft(METRIC, 0.4), trials=2)  # there it is only a unit


def test_predicted_latency_without_a_table_is_refused(tmp_path, small_space):
    with pytest.raises(ObjectiveError, match="nothing predicts it: give a latency table"):
        run(small_space, tmp_path, objective=Objective.hard(METRIC, 2.0), latency=None)


def test_a_table_beside_an_objective_of_measured_latency_is_refused(tmp_path, small_space):
    with pytest.raises(ObjectiveError, match="write predicted_latency_ms in the objective") as caught:
        run(small_space, tmp_path, objective=Objective.hard("latency_ms", 2.0))
    assert caught.value.field == "latency"
    assert list(tmp_path.iterdir()) == []


def test_a_search_continues_with_its_table_and_not_with_another(tmp_path, small_space):
    objective = Objective.hard(METRIC, 1.5)
    run(small_space, tmp_path, objective=objective, trials=8)
    with pytest.raises(StudyError, match="latency table is another"):
        run(small_space, tmp_path, objective=objective, latency=Clockwork("other"))
    study = run(small_space, tmp_path, objective=objective, trials=12)
    assert [METRIC in trial.costs for trial in open_study(study.folder).trials] == [True] * 12


def test_a_warm_start_judges_earlier_trials_by_this_table(tmp_path, small_space):
    earlier = run(small_space, tmp_path / "a", latency=None, objective=Objective())
    objective = Objective.hard(METRIC, 1.5)
    controller = Remembering(small_space.cardinalities, small_space.conditions)
    run(small_space, tmp_path / "b", objective=objective, warm_start=earlier, controller=controller, trials=1)
    for trial, (proposal, outcome) in zip(earlier.trials, controller.first, strict=True):
        latency = Clockwork().predict(trial.network)
        assert proposal.tokens == trial.tokens
        assert outcome.reward == pytest.approx(objective.reward(trial.accuracy, {METRIC: latency}))


class Remembering(controllers.RandomSearch):
    """Remembers what it was told first."""

    first = None

    def feedback(self, results):
        self.first = self.first or list(results)
        super().feedback(results)


def test_a_measured_metric_with_the_name_of_a_prediction_is_replaced_by_it_and_named(tmp_path, small_space):
    evaluator = nas.TableEvaluator(lambda _: {"accuracy": 0.5, METRIC: 9.0})
    study = run(small_space, tmp_path, objective=Objective.soft(METRIC, 1.5), evaluator=evaluator, trials=3)
    for trial in study.trials:
        assert [m.value for m in trial.metrics if m.name == METRIC] == [Clockwork().predict(trial.network)]
        assert trial.costs[METRIC] == trial.metric(METRIC)
    assert [kind for _, kind, _ in study.events] == ["metric_not_used"]


class Stopped(Clockwork):
    """Knows nothing of every other candidate."""

    def predict(self, network):
        return super().predict(network) if int(network.digest, 16) % 2 else float("nan")


def test_a_candidate_whose_latency_cannot_be_predicted_ends_nothing(tmp_path, small_space):
    study = run(small_space, tmp_path / "a", objective=Objective(), latency=Stopped(), trials=12)
    assert len(study.completed) == 12
    assert {METRIC in trial.costs for trial in study.trials} == {True, False}
    study = run(
        small_space, tmp_path / "b", objective=Objective.soft(METRIC, 1.5), latency=Stopped(), trials=30
    )
    assert {trial.status for trial in study.trials} == {Status.COMPLETED, Status.INFEASIBLE}
