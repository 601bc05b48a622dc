from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import ObjectiveError
from nas.metrics import ACCURACY, Goal
from nas.objective import AbsoluteTerm, Constraint, CostTerm, Objective

METRICS = ("macs", "params", "activations", "predicted_latency_ms", "latency_ms", "peak_memory_bytes")
metrics = st.sampled_from((*METRICS, "train_step_ms", "train_seconds", "energy_mj", "x", "under", "Disk_2"))
quantities = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
own = st.sampled_from(("accuracy", "f1", "max", "min", "subject"))
directions = st.sampled_from(("max", "min"))
exponents = st.floats(-8, 0).map(lambda exponent: exponent + 0.0)


def objectives(numbers, powers):
    factor = st.builds(
        CostTerm, metric=metrics, target=numbers, exponent_under=powers, exponent_over=powers
    ) | st.builds(
        lambda metric, power: CostTerm(metric=metric, target=1, exponent_under=power, exponent_over=power),
        metrics,
        powers,
    )
    distance = st.builds(AbsoluteTerm, metric=metrics, target=numbers, beta=numbers.map(lambda size: -size))
    limit = st.builds(Constraint, metric=metrics, upper=numbers)
    limit |= st.builds(Constraint, metric=st.sampled_from(("f1", "max", "to")), lower=numbers)
    limit |= st.builds(Constraint, metric=st.just("accuracy"), lower=st.floats(0.01, 1))
    limits = {"constraints": st.lists(limit, max_size=4).map(tuple)}
    single = st.builds(
        Objective,
        factors=st.lists(factor, max_size=3).map(tuple),
        absolutes=st.lists(distance, max_size=2).map(tuple),
        goals=st.tuples(st.builds(Goal, metric=own, direction=directions)),
        **limits,
    )
    goals = st.lists(
        st.builds(Goal, metric=metrics | own, direction=directions),
        min_size=2,
        max_size=4,
        unique_by=lambda goal: goal.metric,
    )
    return single | st.builds(Objective, goals=goals.map(tuple), **limits)


def factor(metric, target, under, over=None):
    return CostTerm(
        metric=metric, target=target, exponent_under=under, exponent_over=under if over is None else over
    )


def most(metric, upper):
    return Constraint(metric=metric, upper=upper)


def least(metric, lower):
    return Constraint(metric=metric, lower=lower)


def goals(*pairs):
    return tuple(Goal(metric=metric, direction=direction) for direction, metric in pairs)


V2 = Objective.product(factor("train_step_ms", 1, -0.07), factor("params", 1, -0.05))
F1, RMSE = goals(("max", "f1"), ("min", "rmse"))
MEANT = {
    "accuracy": Objective(),
    "max accuracy": Objective(),
    "accuracy * step_time^-0.07 * params^-0.05": V2,
    "step_time^-0.07 * accuracy * params^-.05": V2,
    "accuracy * (latency/5ms)^-0.07 * params^-0.05": Objective.product(
        factor("latency_ms", 5, -0.07), factor("params", 1, -0.05)
    ),
    "accuracy*(macs/300M)^(0,-1)": Objective.hard("macs", 300e6),
    "accuracy * (macs / 300 M)^(0 under, -1 over)": Objective.hard("macs", 300e6),
    "accuracy * (macs / 300,000,000)^-0.07": Objective.soft("macs", 300e6),
    "accuracy - 0.1 * |macs/300M - 1|": Objective.absolute("macs", 300e6),
    "accuracy - 0.1 * |macs/3e8 - 1|": Objective.absolute("macs", 300e6),
    "accuracy - |params/5M-1|": Objective.absolute("params", 5e6, beta=-1.0),
    "accuracy, latency <= 5ms": Objective(constraints=(most("latency_ms", 5),)),
    "accuracy, subject to memory <= 2GiB, params <= 5,000,000": Objective(
        constraints=(most("peak_memory_bytes", 2**31), most("params", 5e6))
    ),
    "accuracy, predicted_latency <= 800us, train_seconds <= 30 s, energy_mj <= 4": Objective(
        constraints=(most("predicted_latency_ms", 0.8), most("train_seconds", 30), most("energy_mj", 4))
    ),
    "max f1": Objective(goals=(F1,)),
    "min rmse, macs <= 30M": Objective(goals=(RMSE,), constraints=(most("macs", 30e6),)),
    "f1 * (macs/30M)^(0,-1)": Objective(goals=(F1,), factors=Objective.hard("macs", 30e6).factors),
    "macs^-0.07 * f1": Objective(goals=(F1,), factors=(factor("macs", 1, -0.07),)),
    "f1 - 0.1 * |macs/30M - 1|, latency <= 5ms": Objective(
        goals=(F1,),
        absolutes=Objective.absolute("macs", 30e6).absolutes,
        constraints=(most("latency_ms", 5),),
    ),
    "images_per_second": Objective(goals=(Goal(metric="images_per_second", direction="max"),)),
    "max (macs/30M)^(0,-1) * f1": Objective(goals=(F1,), factors=Objective.hard("macs", 30e6).factors),
    "min rmse * (macs/30M)^(0,1)": Objective(goals=(RMSE,), factors=Objective.hard("macs", 30e6).factors),
    "min rmse + 0.1 * |macs/30M - 1|": Objective(
        goals=(RMSE,), absolutes=Objective.absolute("macs", 30e6).absolutes
    ),
    "min macs, accuracy >= 0.7": Objective(
        goals=goals(("min", "macs")), constraints=(least("accuracy", 0.7),)
    ),
    "max f1, accuracy >= 0.7, recall >= 0.5, latency <= 5ms": Objective(
        goals=(F1,),
        constraints=(least("accuracy", 0.7), least("recall", 0.5), most("latency_ms", 5)),
    ),
    "accuracy; macs": Objective(goals=(ACCURACY, Goal.of("macs"))),
    "macs; accuracy; latency": Objective(
        goals=goals(("min", "macs"), ("max", "accuracy"), ("min", "latency_ms"))
    ),
    "max accuracy; min macs, memory <= 2GiB": Objective(
        goals=(ACCURACY, Goal.of("macs")), constraints=(most("peak_memory_bytes", 2**31),)
    ),
    "accuracy; max f1; images_per_second": Objective(
        goals=(ACCURACY, F1, Goal(metric="images_per_second", direction="max"))
    ),
}


@pytest.mark.parametrize("text", MEANT)
def test_the_text_of_an_objective_means_what_it_says(text):
    assert Objective.parse(text) == MEANT[text]


@given(objective=objectives(quantities, exponents))
def test_an_objective_reads_back_from_its_description(objective):
    assert Objective.parse(objective.describe()) == objective
    assert Objective.from_json(objective.to_json()) == objective


@given(
    objective=objectives(st.floats(1e-3, 1e9), st.floats(-2, 0)).filter(lambda one: not one.is_front),
    accuracies=st.lists(st.floats(0.01, 1), min_size=1, max_size=4),
    data=st.data(),
)
def test_many_rewards_at_once_are_those_of_one_by_one(objective, accuracies, data):
    read = Objective.parse(objective.describe())
    values = st.floats(1e-3, 1e9)
    row = st.lists(values, min_size=len(accuracies), max_size=len(accuracies))
    costs = {metric: data.draw(row) for metric in read.costs}
    found = read.rewards(np.array(accuracies), {name: np.array(column) for name, column in costs.items()})
    expected = [
        read.reward(accuracy, {name: column[place] for name, column in costs.items()})
        for place, accuracy in enumerate(accuracies)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_reward_without_targets_is_efficientnetv2s():
    reward = V2.reward(0.8, {"train_step_ms": 40.0, "params": 5e6})
    assert reward == pytest.approx(0.8 * 40.0**-0.07 * 5e6**-0.05)


@pytest.mark.parametrize(
    ("text", "place", "law"),
    [
        ("", "at its end", "such as accuracy"),
        ("accuracy *", "at its end", "the name of a metric"),
        ("accuracy * latncy^-0.07", "at 'latncy', character 12", "did you mean 'latency'?"),
        ("acuracy", "at 'acuracy', character 1", "did you mean 'accuracy'?"),
        ("accuracy * (parms / 5M)^-1", "at 'parms', character 13", "did you mean 'params'?"),
        ("accuracy * latency^0.07", "at 'latency'", "`exponent_under <= 0` must hold"),
        ("accuracy * latency", "at its end", "such as latency_ms^-0.07"),
        ("latency * accuracy", "at its end", "such as latency_ms^-0.07"),
        ("accuracy * latency/5ms^-0.07", "at '/'", "a ratio is a factor in brackets"),
        ("latency/5ms^-0.07 * accuracy", "at '/'", "a ratio is a factor in brackets"),
        ("accuracy / params", "at '/'", "or params^-0.05"),
        ("max f1 / params", "at '/'", "or params^-0.05"),
        ("accuracy^2", "at '^', character 9", "only a cost has an exponent"),
        ("auroc^2", "at '^', character 6", "only a cost has an exponent"),
        ("accuracy * (auroc/0.5)^2", "at '('", "more auroc is better"),
        ("max f1^2 * auroc", "at 'f1'", "`exponent_under <= 0` must hold in a maximised goal"),
        ("accuracy * macro_f1", "at its end", "maximise one and limit the other, such as accuracy, macro_f1"),
        ("accuracy * f1", "at its end", "if f1 is a cost, give it an exponent, such as f1^-0.07"),
        ("accuracy + macro_f1", "at '+'", "and no metric: maximise one and limit the other"),
        ("accuracy - loss", "at '-'", "and no metric: maximise one and limit the other"),
        ("max f1 + 0.5 * g1", "at '+'", "only a distance from a target is added"),
        ("accuracy * accuracy", "at 'accuracy', character 12", "once"),
        ("max f1 * f1", "at 'f1', character 10", "once"),
        ("macs^-0.07", "at its end", "a metric without an exponent is missing"),
        ("macs", "at 'macs'", "`max macs` or `min macs` was expected"),
        ("rmse * macs^-0.07", "at 'rmse'", "rmse is minimised: `max rmse` or `min rmse` was expected"),
        ("macs^-0.07 * val_loss", "at 'macs'", "val_loss is minimised"),
        ("energy_ms - 0.1 * |macs/3 - 1|", "at 'energy_ms'", "`min energy_ms` was expected"),
        ("rmse * macs^0.07", "at 'macs'", "write `min` before a goal that is minimised"),
        ("rmse * macs^(0, 1)", "at 'macs'", "`exponent_over <= 0` must hold"),
        ("rmse + 0.1 * |macs/3 - 1|", "at '+'", "write `min` before a goal that is minimised"),
        ("f1 * latency", "at its end", "such as latency_ms^-0.07"),
        ("latency * f1", "at its end", "such as latency_ms^-0.07"),
        ("f1 * accuracy^-0.1", "at '^'", "only a cost has an exponent"),
        ("f1 * (images_per_second/3)^-1", "at '('", "more images_per_second is better"),
        ("f1, macs <= 3M", "at 'f1'", "`max f1` or `min f1` was expected"),
        ("accuracy; f1", "at 'f1', character 11", "`max f1` or `min f1` was expected"),
        ("accuracy;", "at its end", "such as accuracy"),
        ("max", "at 'max'", "was expected"),
        ("accuracy * (macs/3M)^(0,-1,-2)", "at ','", "two exponents"),
        ("accuracy * (macs/3M)^(-1)", "at ')'", "the exponent above the target"),
        ("accuracy * (macs/3M)^-1ms", "at '1ms'", "a number was expected"),
        ("accuracy * params**-0.05", "at '**'", "is written with ^"),
        ("accuracy * (macs/0)^-1", "at '0'", "must be greater than 0"),
        ("accuracy * (macs/-3)^-1", "at '-'", "a quantity of macs was expected, such as 300M"),
        ("accuracy * (accuracy/3)^-1", "at 'accuracy', character 13", "a cost was expected"),
        ("accuracy + 0.1 * |macs/3 - 1|", "at '+'", "`beta < 0` must hold"),
        ("accuracy - 0.1|macs/3 - 1|", "at '|'", "`*` and a distance"),
        ("accuracy - |macs/3 - 2|", "at '2'", "`1`, as in"),
        ("min rmse * macs^-0.07", "at 'macs'", "at least 0, such as macs^0.07"),
        ("min rmse - 0.1 * |macs/3 - 1|", "at '-'", "`+` was expected"),
        ("accuracy, latency > 5", "at '>'", "`<=` or `>=` and a quantity"),
        ("accuracy, macs >= 5M", "at 'macs'", "of a measured metric"),
        ("accuracy, accuracy >= 70", "at '70'", "divide percent by 100"),
        ("accuracy, latency <= 5GiB", "at '5GiB', character 22", "not a time such as 5ms"),
        ("accuracy, memory <= 5ms", "at '5ms'", "not an amount of memory"),
        ("accuracy, accuracy <= 0.5", "at 'accuracy', character 11", "must be of a cost"),
        ("latency <= 5ms", "at '<='", "such as: accuracy, latency <= 5ms"),
        ("accuracy <= 3", "at '<='", "behind a comma"),
        ("max f1 >= 0.3", "at '>='", "behind a comma"),
        ("accuracy, subject latency <= 5", "at 'latency'", "`<=` or `>=`"),
        ("accuracy subject to latency <= 5", "at 'subject'", "a comma and a limit"),
        ("accuracy $ 3", "at '$'", "was expected"),
        ("accuracy, macs <= 5M,", "at its end", "the name of a metric"),
        ("accuracy * macs^-1; params", "cannot be read", "each goal of a front must be a metric alone"),
        ("accuracy; macs; macs", "cannot be read", "each of another metric"),
        ("max f1 * f1^-1", "cannot be read", "another metric than the goal"),
    ],
)
def test_a_mistake_is_shown_with_its_place_and_what_was_expected(text, place, law):
    with pytest.raises(ObjectiveError) as error:
        Objective.parse(text)
    assert error.value.field == "objective"
    assert f"the objective {text!r} cannot be read" in str(error.value)
    assert place in str(error.value)
    assert law in str(error.value)


@given(st.text("accuracy max min macs*^()/-+|<>=,;0159.M$", max_size=30))
def test_every_text_gives_an_objective_or_an_objective_error(text):
    with suppress(ObjectiveError):
        objective = Objective.parse(text)
        assert Objective.parse(objective.describe()) == objective


def test_a_bare_unit_is_no_target_and_is_not_noted():
    objective = Objective.parse("accuracy * (latency/5ms)^-0.07 * params^-0.05 * (macs/3M)^(0, -1)")
    assert objective.targets == {"latency_ms": 5.0, "macs": 3e6}
    assert "(latency_ms / 5)^-0.07" in objective.note
    assert "params" not in objective.note
