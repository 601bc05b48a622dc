"""The outcome of a trial whose metrics the objective can or cannot use, and searches with such trials."""

import json
import math
from pathlib import Path

import pytest

import nas
from nas.cli.main import main
from nas.errors import ObjectiveError, StudyError
from nas.metrics import show_metric
from nas.objective import AbsoluteTerm, Constraint, CostTerm, Objective
from nas.outcome import feedback_of, judge
from nas.report.tensorboard import TensorBoardReporter
from nas.trial import Cause, Metric, Result, Status, Trial
from search_spaces import cost

GOLDEN = Path(__file__).parent / "golden" / "version-3"
LIMIT = Objective(constraints=(Constraint(metric="energy_mj", upper=10),))
SOFT = Objective.soft("energy_mj", 10.0)
HARD = Objective.hard("energy_mj", 10.0)
ABSOLUTE = Objective.absolute("energy_mj", 10.0)
STEEP = Objective.product(CostTerm(metric="energy_mj", target=1e300, exponent_under=-9, exponent_over=0))
HUGE = Objective(absolutes=(AbsoluteTerm(metric="energy_mj", target=1e-300, beta=-1e300),))

CASES = [
    pytest.param(LIMIT, 0.0, None, id="0-satisfies-a-limit"),
    pytest.param(LIMIT, -3.0, None, id="negative-satisfies-a-limit"),
    pytest.param(LIMIT, 11.0, (Cause.CONSTRAINT, "`energy_mj <= 10`"), id="above-a-limit"),
    pytest.param(LIMIT, 1.7e308, (Cause.CONSTRAINT, "`energy_mj <= 10`"), id="far-above-a-limit"),
    pytest.param(LIMIT, math.nan, (Cause.ERROR, "energy_mj=nan"), id="nan-and-a-limit"),
    pytest.param(LIMIT, None, (Cause.ERROR, "let the evaluator measure it"), id="missing-and-a-limit"),
    pytest.param(SOFT, 0.0, (Cause.ERROR, "`energy_mj > 0` must hold"), id="0-in-a-factor"),
    pytest.param(SOFT, -1.0, (Cause.ERROR, "`energy_mj > 0` must hold"), id="negative-in-a-factor"),
    pytest.param(SOFT, math.inf, (Cause.ERROR, "energy_mj=inf"), id="infinite-in-a-factor"),
    pytest.param(SOFT, None, (Cause.ERROR, "needs 'energy_mj'"), id="missing-in-a-factor"),
    pytest.param(HARD, 0.0, None, id="0-to-the-power-0"),
    pytest.param(HARD, -1.0, (Cause.ERROR, "`energy_mj > 0` must hold"), id="negative-to-the-power-0"),
    pytest.param(ABSOLUTE, 0.0, None, id="0-in-a-summand"),
    pytest.param(ABSOLUTE, None, (Cause.ERROR, "needs 'energy_mj'"), id="missing-in-a-summand"),
    pytest.param(STEEP, 1.0, (Cause.ERROR, "use exponents nearer to 0"), id="overflow-in-a-power"),
    pytest.param(STEEP, 5e-324, (Cause.ERROR, "use exponents nearer to 0"), id="overflow-of-the-least-float"),
    pytest.param(HUGE, 1e300, (Cause.ERROR, "<= 1e+100` must hold"), id="overflow-in-a-sum"),
]


def metrics_of(value):
    accuracy = Metric(name="accuracy", value=0.5, unit="fraction")
    return (accuracy,) if value is None else (accuracy, Metric(name="energy_mj", value=value, unit="mJ"))


def some_trial(space):
    tokens = (0,) * len(space.cardinalities)
    network = space.decode(tokens)
    return Trial(
        number=0, tokens=tokens, decode=lambda: network, digest=network.digest, cost=cost(network), seed=0
    )


@pytest.mark.parametrize(("objective", "value", "failure"), CASES)
def test_a_metric_that_the_objective_cannot_use_makes_the_trial_infeasible(
    small_space, objective, value, failure
):
    trial = some_trial(small_space)
    result = Result(job=trial.job(1), status=Status.COMPLETED, metrics=metrics_of(value))
    outcome = judge(trial, result, objective)
    if failure is None:
        assert (outcome.status, outcome.cause) == (Status.COMPLETED, None)
        assert math.isfinite(outcome.reward)
    else:
        assert (outcome.status, outcome.cause, outcome.reward) == (Status.INFEASIBLE, failure[0], None)
        assert failure[1] in outcome.message
    assert outcome.metrics == result.metrics


@pytest.mark.parametrize(
    ("text", "measured", "reward", "message"),
    [
        ("max f1", {"f1": 0.8}, 0.8, ""),
        ("min rmse", {"rmse": 87.5}, -87.5, ""),
        ("min rmse", {"rmse": 0.0}, 0.0, ""),
        ("min rmse * (energy_mj/2)^0.5", {"rmse": 0.5, "energy_mj": 8.0}, -1.0, ""),
        ("min rmse * energy_mj^0.5", {"rmse": 0.0, "energy_mj": 8.0}, 0.0, ""),
        ("max psnr * energy_mj^-1", {"psnr": 37.5, "energy_mj": 8.0}, None, "`0 <= psnr <= 1` must hold"),
        ("max r2 * energy_mj^-1", {"r2": -0.5, "energy_mj": 8.0}, None, "`0 <= r2 <= 1` must hold"),
        ("min params, accuracy >= 0.7", {"accuracy": 0.6}, None, "`accuracy >= 0.7` but accuracy=0.6"),
        ("max f1", {"accuracy": 0.8}, None, "needs 'f1'"),
    ],
)
def test_any_metric_is_judged_as_the_objective_says(small_space, text, measured, reward, message):
    trial = some_trial(small_space)
    metrics = tuple(Metric(name=name, value=value) for name, value in measured.items())
    objective = Objective.parse(text)
    outcome = judge(trial, Result(job=trial.job(1), status=Status.COMPLETED, metrics=metrics), objective)
    assert outcome.reward == (reward if reward is None else pytest.approx(reward))
    assert message in outcome.message
    expected = measured | {"params": trial.cost.params}
    assert outcome.value == expected.get(objective.goal.metric)
    if reward is not None:
        _, told = feedback_of(trial, outcome, outcome.reward, objective)
        assert told.accuracy == objective.goal.sign * outcome.value


def test_a_result_without_accuracy_makes_the_trial_infeasible(small_space):
    trial = some_trial(small_space)
    result = Result(job=trial.job(1), status=Status.COMPLETED, metrics=metrics_of(1.0)[1:])
    outcome = judge(trial, result, Objective())
    assert (outcome.status, outcome.cause) == (Status.INFEASIBLE, Cause.ERROR)
    assert "accuracy" in outcome.message


VALUES = [5.0, 0.0, None, -1.0, 1.7e308, 12.0, 5e-324, 3.0]


def odd_numbers(candidate):
    value = VALUES[candidate.job.trial % len(VALUES)]
    accuracy = 0.3 + candidate.job.trial / 100
    return {"accuracy": accuracy} if value is None else {"accuracy": accuracy, "energy_mj": value}


def odd_search(space, out, objective, **options):
    given = {"trials": 24, "evaluator": nas.TableEvaluator(odd_numbers), "executor": "inline"}
    return nas.search(space, out=out, objective=objective, **{**given, **options})


def rmse_of(candidate):
    return {"rmse": 3.0 - 0.2 * sum(candidate.job.tokens), "f1": sum(candidate.job.tokens) / 40}


@pytest.mark.parametrize("controller", ["dyna", "nsga2", "evolution", "ppo"])
@pytest.mark.parametrize("text", ["min rmse", "max f1 * (macs/20M)^(0, -1)", "min macs, f1 >= 0.15"])
def test_a_search_optimises_a_metric_that_only_a_users_evaluator_has(
    tmp_path, small_space, capsys, text, controller
):
    evaluator = nas.TableEvaluator(rmse_of)
    options = {"controller": controller, "evaluator": evaluator, "trials": None}
    odd_search(small_space, tmp_path, text, budget=nas.Budget(trials=16, finalists=1), **options)
    budget = nas.Budget(trials=30, finalists=1)
    reporters = [TensorBoardReporter()]
    study = odd_search(small_space, tmp_path, text, budget=budget, reporters=reporters, **options)
    assert len(study.trials) == 30
    objective = study.objective
    values = {trial.number: trial.costs[objective.goal.metric] for trial in study.completed}
    assert all(trial.value == values[trial.number] for trial in study.completed)
    assert all(
        trial.reward == pytest.approx(objective.reward(trial.value, trial.costs)) for trial in study.completed
    )
    front = study.pareto_front()
    ends = max if objective.goal.direction == "max" else min
    assert ends(values.values()) in [trial.value for trial in front]
    assert main(["show", str(tmp_path)]) == 0
    words = f"{objective.goal.metric} {show_metric(objective.goal.metric, study.best.value)}"
    assert words in capsys.readouterr().out


def test_a_metric_that_training_on_images_does_not_measure_is_refused(tmp_path, small_space):
    data = nas.load_data(str(GOLDEN / "squares.npz"), resolution=small_space.template.resolution)
    with pytest.raises(ObjectiveError) as error:
        nas.search(small_space, data=data, objective="max f1", executor="inline", out=tmp_path / "a")
    assert error.value.field == "objective"
    assert not (tmp_path / "a").exists()


def test_a_search_for_a_minimum_finds_it(tmp_path, small_space):
    evaluator = nas.TableEvaluator(rmse_of)
    study = odd_search(small_space, tmp_path, "min rmse", controller="dyna", evaluator=evaluator, trials=40)
    most = sum(count - 1 for count in small_space.cardinalities)
    assert study.best.value == pytest.approx(3.0 - 0.2 * most)
    assert study.best.value == min(trial.value for trial in study.completed)


@pytest.mark.parametrize("objective", [LIMIT, SOFT, HARD, ABSOLUTE, STEEP], ids=lambda o: o.describe())
@pytest.mark.parametrize("controller", ["dyna", "nsga2"])
def test_a_search_with_odd_numbers_ends_resumes_and_is_shown(
    tmp_path, small_space, capsys, objective, controller
):
    if objective is STEEP:
        objective = Objective.product(
            CostTerm(metric="energy_mj", target=5.0, exponent_under=-9, exponent_over=0)
        )
    options = {"controller": controller, "reporters": [TensorBoardReporter(figure_share=1.0)]}
    study = odd_search(small_space, tmp_path, objective, **options)
    assert study.ending == "trials"
    assert {t.status for t in study.trials} == {Status.COMPLETED, Status.INFEASIBLE}
    assert {t.number % 8 for t in study.completed} >= {0, 7}
    missing = [t for t in study.trials if t.number % 8 == 2]
    assert all(t.status is Status.INFEASIBLE and "'energy_mj'" in t.message for t in missing)
    options["reporters"] = [TensorBoardReporter(figure_share=1.0)]
    study = odd_search(small_space, tmp_path, objective, trials=30, **options)
    assert len(study.trials) == 30
    study.pareto_front()
    study.pareto_front("energy_mj", "macs")
    for words in (["show", str(tmp_path)], ["show", str(tmp_path), "--json"]):
        assert main(words) == 0
    assert "Failures" in capsys.readouterr().out


def test_a_search_by_rungs_passes_over_what_cannot_be_judged(tmp_path, small_space):
    rungs = nas.Rungs((1 / 3, 1.0))
    study = odd_search(small_space, tmp_path, SOFT, rungs=rungs, controller="random")
    assert study.ending == "trials"
    assert all(t.status is Status.COMPLETED for t in study.trials if t.number % 8 in (0, 4, 5, 7))


def test_weights_are_kept_of_a_search_over_costs_of_zero(tmp_path, small_space):
    class Weighing:
        fingerprint = "weighing"

        def prepare(self):
            pass

        def evaluate(self, candidate):
            return nas.Evaluation(
                metrics=metrics_of(VALUES[candidate.job.trial % len(VALUES)]), weights=lambda: b"w"
            )

    objective = Objective.absolute("energy_mj", 10.0, constraints=(Constraint(metric="macs", upper=1e12),))
    study = odd_search(small_space, tmp_path, objective, evaluator=Weighing())
    assert study.best.weights() == b"w"


def test_a_warm_start_takes_what_its_objective_cannot_judge_for_infeasible(tmp_path, small_space):
    earlier = odd_search(small_space, tmp_path / "a", Objective(), controller="random")
    assert len(earlier.completed) == 24
    study = odd_search(small_space, tmp_path / "b", SOFT, controller="dyna", warm_start=earlier, trials=3)
    assert len(study.trials) == 3


def test_a_warm_start_without_a_usable_reward_is_refused(tmp_path, small_space):
    earlier = odd_search(small_space, tmp_path / "a", Objective(), controller="random")
    with pytest.raises(StudyError, match=r"no trial .* has a reward .* needs 'latency_ms'"):
        odd_search(small_space, tmp_path / "b", Objective.hard("latency_ms", 5.0), warm_start=earlier)


def test_show_names_the_reason_of_each_trial_that_cannot_be_judged(tmp_path, small_space, capsys):
    odd_search(small_space, tmp_path, SOFT, trials=4, controller="random")
    assert main(["show", str(tmp_path), "--json"]) == 0
    failures = json.loads(capsys.readouterr().out)["failures"]
    assert ["`energy_mj > 0` must hold" in row["message"] for row in failures] == [True, False, True]
    assert "needs 'energy_mj'" in failures[1]["message"]
