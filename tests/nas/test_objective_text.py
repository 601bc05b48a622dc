from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import ObjectiveError
from nas.objective import AbsoluteTerm, Constraint, CostTerm, Objective
from nas.objective_text import SHORT_NAMES, metric_name

METRICS = ("macs", "params", "activations", "predicted_latency_ms", "latency_ms", "peak_memory_bytes")
metrics = st.sampled_from((*METRICS, "train_step_ms", "train_seconds", "energy_mj", "x", "under", "Disk_2"))
quantities = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
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
    return st.builds(
        Objective,
        factors=st.lists(factor, max_size=3).map(tuple),
        absolutes=st.lists(distance, max_size=2).map(tuple),
        constraints=st.lists(limit, max_size=3).map(tuple),
    )


def factor(metric, target, under, over=None):
    return CostTerm(
        metric=metric, target=target, exponent_under=under, exponent_over=under if over is None else over
    )


def most(metric, upper):
    return Constraint(metric=metric, upper=upper)


V2 = Objective.product(factor("train_step_ms", 1, -0.07), factor("params", 1, -0.05))
MEANT = {
    "accuracy": Objective(),
    "accuracy x step_time^-0.07 x params^-0.05": V2,
    "step_time**-0.07 * accuracy * params**-.05": V2,
    "accuracy × step_time^−0.07 × params^−0.05": V2,  # noqa: RUF001  # as it is pasted from a paper
    "accuracy * (latency/5ms)^-0.07 * params^-0.05": Objective.product(
        factor("latency_ms", 5, -0.07), factor("params", 1, -0.05)
    ),
    "accuracy*(macs/300M)^(0,-1)": Objective.hard("macs", 300e6),
    "accuracy * (macs / 300 M)^(0 under, -1 over)": Objective.hard("macs", 300e6),
    "accuracy * (macs / 300,000,000)^(-0.07)": Objective.soft("macs", 300e6),
    "accuracy - 0.1 * |macs/300M - 1|": Objective.absolute("macs", 300e6),
    "accuracy + -0.1 * abs(macs/3e8 - 1)": Objective.absolute("macs", 300e6),
    "accuracy - |params/5M-1|": Objective.absolute("params", 5e6, beta=-1.0),
    "accuracy, latency <= 5ms": Objective(constraints=(most("latency_ms", 5),)),
    "accuracy subject to memory <= 2GiB and params <= 5,000,000": Objective(
        constraints=(most("peak_memory_bytes", 2**31), most("params", 5e6))
    ),
    "accuracy, subject to predicted_latency ≤ 800us, train_seconds <= 30 s, energy_mj <= 4": Objective(
        constraints=(most("predicted_latency_ms", 0.8), most("train_seconds", 30), most("energy_mj", 4))
    ),
}


@pytest.mark.parametrize("text", MEANT)
def test_what_people_write_means_what_they_read(text):
    assert Objective.parse(text) == MEANT[text]


@given(objective=objectives(quantities, exponents))
def test_an_objective_reads_back_from_its_description(objective):
    assert Objective.parse(objective.describe()) == objective


@given(
    objective=objectives(st.floats(1e-3, 1e9), st.floats(-2, 0)),
    accuracies=st.lists(st.floats(0.01, 1), min_size=1, max_size=4),
    data=st.data(),
)
def test_many_rewards_at_once_are_those_of_one_by_one(objective, accuracies, data):
    read = Objective.parse(objective.describe())
    values = st.floats(1e-3, 1e9)
    row = st.lists(values, min_size=len(accuracies), max_size=len(accuracies))
    costs = {metric: data.draw(row) for metric in read.metrics}
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
        ("", "at its end", "accuracy was expected"),
        ("accuracy *", "at its end", "the name of a cost"),
        ("accuracy * latncy^-0.07", "at 'latncy', character 12", "did you mean 'latency'?"),
        ("acuracy", "at 'acuracy', character 1", "did you mean 'accuracy'?"),
        ("accuracy × (parms / 5M)^-1", "at 'parms', character 13", "did you mean 'params'?"),  # noqa: RUF001
        ("accuracy * latency^0.07", "at 'latency'", "`exponent_under <= 0` must hold"),
        ("accuracy * latency", "at its end", "such as latency_ms^-0.07"),
        ("accuracy * latency/5ms^-0.07", "at '/'", "a ratio stands in brackets"),
        ("accuracy / params", "at '/'", "negative exponent"),
        ("accuracy^2", "at '^', character 9", "accuracy counts as it is"),
        ("accuracy * accuracy", "at 'accuracy', character 12", "once"),
        ("macs^-0.07", "at its end", "accuracy is missing"),
        ("accuracy * (macs/3M)^(0,-1,-2)", "at ','", "two with a comma"),
        ("accuracy * (macs/3M)^-1ms", "at '1ms'", "a number was expected"),
        ("accuracy * (macs/0)^-1", "at '0'", "must be greater than 0"),
        ("accuracy * (macs/-3)^-1", "at '-'", "a quantity of macs was expected, such as 300M"),
        ("accuracy + 0.1 * |macs/3 - 1|", "at '+'", "`beta < 0` must hold"),
        ("accuracy - 0.1|macs/3 - 1|", "at '|'", "`*` and a distance"),
        ("accuracy - |macs/3 - 2|", "at '2'", "`1`, as in"),
        ("accuracy, latency > 5", "at '>'", "the most that a cost may be"),
        ("accuracy, latency <= 5GiB", "at '5GiB', character 22", "not a time such as 5ms"),
        ("accuracy, memory <= 5ms", "at '5ms'", "not an amount of memory"),
        ("accuracy, accuracy <= 5", "at 'accuracy', character 11", "a cost was expected"),
        ("latency <= 5ms", "at '<='", "begins with accuracy"),
        ("accuracy <= 3", "at '<='", "a limit stands behind a comma"),
        ("accuracy subject latency <= 5", "at 'latency'", "`to`"),
        ("accuracy $ 3", "at '$'", "was expected"),
        ("accuracy, macs <= 5M and", "at its end", "the name of a cost"),
    ],
)
def test_a_mistake_is_shown_with_its_place_and_what_was_expected(text, place, law):
    with pytest.raises(ObjectiveError) as error:
        Objective.parse(text)
    assert f"{text!r} makes no sense {place}" in str(error.value)
    assert law in str(error.value)


@given(st.text("accuracy macs*^()/-|<=,0159.M$", max_size=30))
def test_no_text_is_answered_with_anything_but_an_objective_or_its_mistake(text):
    with suppress(ObjectiveError):
        objective = Objective.parse(text)
        assert Objective.parse(objective.describe()) == objective


def test_short_names_are_of_metrics_of_ours_and_other_words_are_the_users_own():
    assert [metric_name(word) for word in ("latency", "memory", "step_time")] == [
        "latency_ms",
        "peak_memory_bytes",
        "train_step_ms",
    ]
    assert all(metric_name(name) == name for name in SHORT_NAMES.values())
    assert metric_name("energy_mj") == "energy_mj"


def test_a_bare_unit_is_no_target_and_is_not_noted():
    objective = Objective.parse("accuracy * (latency/5ms)^-0.07 * params^-0.05 * (macs/3M)^(0, -1)")
    assert objective.targets == {"latency_ms": 5.0, "macs": 3e6}
    assert "latency_ms 5 (exponent -0.07)" in objective.note
    assert "params" not in objective.note
