import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import ObjectiveError
from nas.metrics import METRICS, Goal
from nas.objective import AbsoluteTerm, Constraint, CostTerm, Objective

accuracies = st.floats(0.01, 1.0)
costs = st.floats(1.0, 1e12)
targets = st.floats(1.0, 1e12)

FORMS = [Objective.hard, Objective.soft, Objective.absolute]


def test_reward_is_the_accuracy_where_no_cost_was_named():
    assert Objective().reward(0.73, {"macs": 5e6}) == 0.73


@pytest.mark.parametrize("form", FORMS)
def test_reward_equals_accuracy_when_cost_meets_target(form):
    assert form("macs", 30e6).reward(0.8, {"macs": 30e6}) == pytest.approx(0.8, abs=1e-15)


def test_hard_gives_nothing_for_being_cheaper_and_halves_at_twice_the_target():
    objective = Objective.hard("latency_ms", 10.0)
    assert [objective.reward(0.8, {"latency_ms": cost}) for cost in (2.0, 9.9, 10.0)] == [0.8, 0.8, 0.8]
    assert objective.reward(0.8, {"latency_ms": 20.0}) == pytest.approx(0.4)


def test_soft_is_the_papers_trade_of_five_percent_accuracy_for_twice_the_cost():
    objective = Objective.soft("latency_ms", 80.0)
    twice = objective.reward(0.8, {"latency_ms": 160.0}) / objective.reward(0.8, {"latency_ms": 80.0})
    assert twice == pytest.approx(2**-0.07)
    assert 1 / twice == pytest.approx(1.05, abs=1e-3)


@given(accuracy=accuracies, cost=costs, target=targets)
def test_many_rewards_at_once_are_those_of_one_by_one(accuracy, cost, target):
    for form in FORMS:
        objective = form("macs", target)
        found = objective.rewards(np.array([accuracy, 0.5]), {"macs": np.array([cost, target])})
        expected = [objective.reward(accuracy, {"macs": cost}), objective.reward(0.5, {"macs": target})]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_many_rewards_need_every_cost_of_the_objective():
    with pytest.raises(ObjectiveError, match="needs 'macs', but only params is given"):
        Objective.hard("macs", 10.0).rewards(np.ones(2), {"params": np.ones(2)})


def test_absolute_punishes_both_sides_alike():
    objective = Objective.absolute("macs", 100.0, beta=-0.5)
    assert objective.reward(0.8, {"macs": 80.0}) == pytest.approx(0.7)
    assert objective.reward(0.8, {"macs": 120.0}) == pytest.approx(0.7)


def test_several_costs_multiply_as_in_efficientnetv2():
    step = CostTerm(metric="train_step_ms", target=1.0, exponent_under=-0.07, exponent_over=-0.07)
    size = CostTerm(metric="params", target=1.0, exponent_under=-0.05, exponent_over=-0.05)
    reward = Objective.product(step, size).reward(0.8, {"train_step_ms": 40.0, "params": 5e6})
    assert reward == pytest.approx(0.8 * 40.0**-0.07 * 5e6**-0.05)


@given(a=accuracies, b=accuracies, cost_a=costs, cost_b=costs, target=targets, other=targets)
def test_with_equal_exponents_the_target_cannot_change_which_network_wins(
    a, b, cost_a, cost_b, target, other
):
    def log_ratio(aim):
        soft = Objective.soft("macs", aim)
        return math.log(soft.reward(a, {"macs": cost_a})) - math.log(soft.reward(b, {"macs": cost_b}))

    assert log_ratio(target) == pytest.approx(log_ratio(other), abs=1e-9)


@given(accuracy=accuracies, low=costs, high=costs, target=targets)
def test_no_objective_rewards_a_higher_cost_above_the_target(accuracy, low, high, target):
    low, high = sorted((max(low, target), max(high, target)))
    for form in FORMS:
        objective = form("macs", target)
        assert objective.reward(accuracy, {"macs": high}) <= objective.reward(accuracy, {"macs": low}) + 1e-12


def test_only_equal_exponents_are_noted_as_a_unit():
    assert "(macs / 30,000,000)^-0.07" in Objective.soft("macs", 30e6).note
    assert Objective.hard("macs", 30e6).note == ""
    assert Objective.absolute("macs", 30e6).note == ""


@pytest.mark.parametrize("direction", ["max", "min"])
def test_any_metric_is_maximised_or_minimised(direction):
    goal = Goal(metric="quality", direction=direction)
    objective = Objective(goals=(goal,))
    assert objective.reward(3.5, {}) == (3.5 if direction == "max" else -3.5)
    assert objective.metrics == objective.measured_metrics == ("quality",)
    assert objective.costs == ()


@given(value=accuracies, cost=costs, target=targets)
def test_what_is_minimised_times_a_cost_is_worse_where_either_is_more(value, cost, target):
    objective = Objective(
        goals=(Goal(metric="rmse", direction="min"),), factors=Objective.soft("macs", target).factors
    )
    reward = objective.reward(value, {"macs": cost})
    assert reward == pytest.approx(-value * (cost / target) ** 0.07)
    assert objective.reward(value, {"macs": 2 * cost}) < reward
    assert objective.reward(value / 2, {"macs": cost}) > reward


def test_a_minimum_of_0_has_the_reward_0_and_not_minus_0():
    for text in ("min rmse", "min rmse * (macs/3M)^(0, 1)"):
        assert str(Objective.parse(text).reward(0.0, {"macs": 1e6})) == "0.0"


@pytest.mark.parametrize("text", ["max f1 * macs^-0.07", "min rmse * macs^0.07", "accuracy * macs^-0.07"])
@pytest.mark.parametrize(
    ("value", "remedy"), [(87.5, "divide percent by 100"), (-0.1, "scale it"), (1e9, "scale it")]
)
def test_a_metric_that_factors_multiply_must_be_a_fraction(text, value, remedy):
    objective = Objective.parse(text)
    assert objective.reward(0.0, {"macs": 1e6}) == 0.0
    with pytest.raises(ObjectiveError, match=remedy) as error:
        objective.reward(value, {"macs": 1e6})
    assert error.value.field == "objective"


def test_the_remedy_of_a_number_outside_0_and_1_is_an_objective_that_takes_it():
    for text, form in {
        "r2 * (macs/2M)^-0.07": "max r2 - 0.1 * |macs / 2,000,000 - 1|",
        "min rmse * macs^0.07": "min rmse + 0.1 * |macs / 1,200,000 - 1|",
    }.items():
        with pytest.raises(ObjectiveError) as error:
            Objective.parse(text).reward(-0.3, {"macs": 1_234_567})
        assert str(error.value).endswith(form)
        assert math.isfinite(Objective.parse(form).reward(-0.3, {"macs": 1_234_567}))


@pytest.mark.parametrize("cost", [0.0, 5e-324, 1.0, 1e300])
def test_a_metric_of_0_has_the_reward_0_whatever_the_costs(cost):
    for text in (
        "f1 * energy_mj^-8 * size_kb^-8",
        "min rmse * energy_mj^8 * size_kb^8",
        "accuracy * size_kb^-1",
    ):
        objective = Objective.parse(text)
        assert objective.reward(0.0, {"energy_mj": cost, "size_kb": cost}) == 0.0
    with pytest.raises(ObjectiveError, match="`size_kb > 0` must hold"):
        objective.reward(0.0, {"size_kb": -1.0})


def test_an_estimate_below_0_does_not_reward_costs():
    for text in ("f1 * macs^-0.07", "min rmse * macs^0.07", "r2 * macs^-1"):
        found = Objective.parse(text).rewards(np.array([-0.3, -0.3]), {"macs": np.array([1.0, 1e9])})
        assert found.tolist() == [0.0, 0.0]
    assert Objective.parse("max r2").rewards(np.array([-0.3]), {}).tolist() == [-0.3]


def test_a_lower_limit_is_broken_below_it_and_known_only_once_measured():
    objective = Objective.parse("min macs, accuracy >= 0.7")
    assert objective.broken({"accuracy": 0.7}) == ()
    assert objective.broken({"accuracy": 0.69}) == objective.constraints
    assert objective.broken({}, before_training=True) == ()
    with pytest.raises(ObjectiveError, match="needs 'accuracy'"):
        objective.broken({"macs": 1.0})


@pytest.mark.parametrize(
    ("metric", "lower", "field"),
    [("macs", 1.0, "lower"), ("accuracy", 70.0, "lower"), ("f1", 0.0, "lower"), ("f 1", 0.5, "metric")],
)
def test_a_lower_limit_that_cannot_be_meant_is_refused(metric, lower, field):
    with pytest.raises(ObjectiveError) as error:
        Constraint(metric=metric, lower=lower)
    assert error.value.field == field


def test_the_reward_of_a_front_is_its_first_goal_with_more_better():
    assert Objective.parse("accuracy; macs").reward(0.5, {"macs": 7.0}) == 0.5
    assert Objective.parse("min rmse; macs").reward(3.0, {"macs": 7.0}) == -3.0


def test_goals_that_are_measured_come_before_those_known_before_training():
    front = Objective.parse("macs; accuracy; min latency_ms; params; max f1")
    assert front.describe() == "accuracy; min latency_ms; max f1; min macs; min params"
    known, measured = front.further_goals
    assert [goal.metric for goal in known] == ["macs", "params"]
    assert [goal.metric for goal in measured] == ["latency_ms", "f1"]
    assert front.measured_costs({"latency_ms": 5.0, "f1": 0.7}) == (5.0, -0.7)
    with pytest.raises(ObjectiveError, match="f1"):
        front.measured_costs({"latency_ms": 5.0})


def test_a_search_needs_metrics_that_its_evaluator_measures():
    ours = tuple(info.name for info in METRICS if info.origin == "measured")
    Objective.parse("accuracy * (latency/5ms)^-0.07, macs <= 3M").check_searchable(measured=ours)
    Objective.parse("max f1").check_searchable()
    unmeasured = [("max f1", ours), ("accuracy, energy_mj <= 3", ours), ("accuracy; macs; max f1", ours)]
    unmeasured += [("min macs, f1 >= 0.5", ours)]
    unmeasured += [("accuracy", ("f1",)), ("min macs, accuracy >= 0.5", ("f1",)), ("f1 * macs^-1", ("rmse",))]
    for text, measured in unmeasured:
        with pytest.raises(ObjectiveError) as error:
            Objective.parse(text).check_searchable(measured=measured)
        assert error.value.field == "objective"
    with pytest.raises(ObjectiveError, match="did you mean macro_f1"):
        Objective.parse("max f1").check_searchable(measured=("accuracy",))


@pytest.mark.parametrize(
    ("text", "front"),
    [
        ("accuracy", "accuracy; min macs"),
        ("accuracy * (latency/5ms)^-0.07, macs <= 3M", "accuracy; min latency_ms; min macs"),
        ("max f1", "max f1; min macs"),
        ("min macs", "min macs; accuracy"),
        ("min macs, accuracy >= 0.7", "min macs; accuracy"),
        ("min rmse; max f1, rmse <= 3", "min rmse; max f1"),
    ],
)
def test_the_front_that_is_shown_is_of_the_goals_and_then_of_costs_and_limits(text, front):
    assert "; ".join(goal.describe() for goal in Objective.parse(text).front) == front


@pytest.mark.parametrize("target", [0, -1.0, math.nan, math.inf, True, "30M", None])
@pytest.mark.parametrize("form", FORMS)
def test_a_target_that_is_not_a_positive_number_is_refused_with_its_value(form, target):
    with pytest.raises(ObjectiveError, match="`target > 0` must hold") as error:
        form("macs", target)
    assert repr(target) in str(error.value)


@pytest.mark.parametrize("upper", [0, -5, math.nan])
def test_a_limit_that_is_not_a_positive_number_is_refused(upper):
    with pytest.raises(ObjectiveError, match="`upper > 0` must hold"):
        Constraint(metric="macs", upper=upper)


def test_exponents_that_reward_cost_are_refused():
    with pytest.raises(ObjectiveError, match="`exponent_over <= 0` must hold"):
        CostTerm(metric="macs", target=1.0, exponent_under=0.0, exponent_over=1.0)
    with pytest.raises(ObjectiveError, match="`beta < 0` must hold"):
        AbsoluteTerm(metric="macs", target=1.0, beta=0.0)


def test_a_misspelt_metric_is_answered_with_the_near_match():
    for metric, meant in {"parms": "params", "latency": "latency_ms"}.items():
        with pytest.raises(ObjectiveError, match=f"did you mean {meant!r}"):
            Objective.hard(metric, 1e6)


@pytest.mark.parametrize("name", ["micro_f1", "macro_f2", "top3", "val_accuracy", "auprc", "mse"])
def test_a_metric_of_anothers_that_looks_like_one_of_ours_is_no_misspelling(name):
    assert Objective.parse(f"max {name}").goal.metric == name


def test_a_users_own_metric_is_welcome():
    assert Objective.hard("energy_mj", 5.0).reward(0.5, {"energy_mj": 10.0}) == pytest.approx(0.25)


def test_a_cost_that_was_not_measured_is_named_with_what_there_is():
    with pytest.raises(ObjectiveError, match=r"needs 'latency_ms', which is not among .* \(macs\): let"):
        Objective.hard("latency_ms", 5.0).reward(0.5, {"macs": 1e6})


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_cost_that_is_not_a_positive_number_is_refused(value):
    with pytest.raises(ObjectiveError, match=f"macs={value:g}"):
        Objective.soft("macs", 5.0).reward(0.5, {"macs": value})


def test_known_constraints_are_distinguished_from_measured_ones():
    objective = Objective(
        constraints=(Constraint(metric="params", upper=10), Constraint(metric="latency_ms", upper=10))
    )
    both = {"params": 11, "latency_ms": 11}
    assert [c.metric for c in objective.broken(both)] == ["params", "latency_ms"]
    assert [c.metric for c in objective.broken({"params": 11}, before_training=True)] == ["params"]
    assert objective.broken({"params": 10, "latency_ms": 10}) == ()
    assert objective.excess({"params": 15}) == pytest.approx(0.5)
    assert objective.measured_metrics == objective.timed_metrics == ("latency_ms",)


@pytest.mark.parametrize(
    "objective",
    [
        Objective(),
        Objective.hard("macs", 30_000_000),
        Objective.soft("latency_ms", 5.5, constraints=(Constraint(metric="params", upper=5e6),)),
        Objective.absolute("macs", 3e7, beta=-0.2),
        Objective.parse("min rmse * (macs/3M)^(0, 1), recall >= 0.5"),
        Objective.parse("accuracy; min macs, memory <= 2GiB"),
    ],
)
def test_an_objective_survives_json(objective):
    text = objective.to_json()
    assert Objective.from_json(text) == objective
    assert Objective.from_json(text).to_json() == text


def test_equal_objectives_give_equal_json_whether_integers_or_floats_were_typed():
    assert Objective.hard("macs", 30_000_000).to_json() == Objective.hard("macs", 30e6).to_json()


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"factors": [{"metric": "macs"}]})])
def test_what_is_no_objective_is_refused(text):
    with pytest.raises(ObjectiveError, match="an objective as JSON was expected"):
        Objective.from_json(text)


def test_a_predicted_latency_is_known_before_training_and_measured_by_nobody():
    objective = Objective(constraints=(Constraint(metric="predicted_latency_ms", upper=5.0),))
    assert objective.known_limits == {"predicted_latency_ms": 5.0}
    assert objective.measured_metrics == objective.timed_metrics == ()
    assert objective.broken({"predicted_latency_ms": 6.0}, before_training=True) == objective.constraints
    assert objective.excess({"predicted_latency_ms": 6.0}) == pytest.approx(0.2)
    with pytest.raises(ObjectiveError, match="give a latency table"):
        objective.broken({"macs": 1.0}, before_training=True)


def test_a_reward_too_large_for_a_number_is_refused_with_its_term():
    objective = Objective.parse("accuracy * (macs / 1G)^-100")
    with pytest.raises(ObjectiveError, match=r"macs=1: use exponents nearer to 0"):
        objective.reward(0.5, {"macs": 1.0})


def test_known_limits_are_the_least_of_each_cost_that_needs_no_training():
    limits = (
        Constraint(metric="macs", upper=3e6),
        Constraint(metric="macs", upper=2e6),
        Constraint(metric="params", upper=1e6),
        Constraint(metric="latency_ms", upper=5.0),
    )
    assert Objective(constraints=limits).known_limits == {"macs": 2e6, "params": 1e6}
    assert Objective().known_limits == {}


def test_a_target_without_a_form_means_hard_and_the_form_is_asked_for_by_name():
    macs = {"macs": 30e6, "params": None}
    assert Objective.of(targets=macs) == Objective.of("hard", targets=macs) == Objective.hard("macs", 30e6)
    assert Objective.of("soft", targets=macs) == Objective.soft("macs", 30e6)
    assert Objective.of("absolute", targets=macs) == Objective.absolute("macs", 30e6)
    assert Objective.of() == Objective()


def test_several_targets_multiply():
    both = {"macs": 30e6, "latency_ms": 5}
    hard = Objective.hard("macs", 30e6).factors + Objective.hard("latency_ms", 5).factors
    assert Objective.of(targets=both) == Objective(factors=hard)


@pytest.mark.parametrize("given", ["accuracy, params <= 5M", Objective.parse("accuracy, params <= 5M")])
def test_limits_come_behind_those_of_the_objective(given):
    found = Objective.of(given, limits={"macs": 30e6, "latency_ms": None})
    assert found == Objective.parse("accuracy, params <= 5M, macs <= 30M")


@pytest.mark.parametrize(
    ("given", "targets"),
    [
        ("soft", {}),
        ("soft", {"macs": None}),
        ("absolute", {"macs": 1.0, "params": 1.0}),
        ("accuracy", {"macs": 1.0}),
        (Objective(), {"macs": 1.0}),
        (Objective.hard("macs", 1.0), {"macs": 1.0}),
    ],
)
def test_a_form_and_targets_that_do_not_go_together_are_refused(given, targets):
    with pytest.raises(ObjectiveError) as error:
        Objective.of(given, targets=targets)
    assert error.value.field == "objective"


def test_a_metric_that_is_not_measured_is_not_proposed_in_its_own_place():
    with pytest.raises(
        ObjectiveError, match="needs accuracy, but the evaluator measures r2: write"
    ) as caught:
        Objective().check_searchable(measured=("r2",))
    assert "did you mean" not in str(caught.value)
