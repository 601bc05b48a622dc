import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import ObjectiveError
from nas.metrics import (
    ACCURACY,
    KNOWN_METRICS,
    METRICS,
    Goal,
    metric_info,
    metric_name,
    pareto_front,
    show_metric,
)
from nas.objective import Objective
from nas.trial import Metric
from search_spaces import Cost


def test_every_metric_is_found_by_its_name_and_its_aliases():
    for info in METRICS:
        assert metric_info(info.name) is info
        assert metric_name(info.name) == info.name
        assert all(metric_name(alias) == info.name for alias in info.aliases)
    names = [name for info in METRICS for name in (info.name, *info.aliases)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("info", METRICS, ids=lambda info: info.name)
def test_every_metric_is_read_printed_and_named_in_an_objective(info):
    value = info.unit.read(info.unit.example)
    assert value > 0
    assert info.unit.show(value)
    assert Metric(name=info.name, value=value).unit == info.unit.name
    assert Objective.parse(f"{info.direction} {info.name}").goal == Goal.of(info.name)
    assert Goal.of(info.name).direction == info.direction


def test_what_is_known_before_training_is_of_the_network_or_predicted():
    assert set(Cost.__dataclass_fields__) >= {info.name for info in METRICS if info.origin == "network"}
    assert [info.name for info in METRICS if info.is_known_before_training] == list(KNOWN_METRICS)


@pytest.mark.parametrize(
    ("name", "unit", "text"),
    [
        ("energy_mj", "number", "12.35"),
        ("queue_ms", "ms", "12.35 ms"),
        ("model_bytes", "bytes", "12 B"),
        ("warm_up_seconds", "s", "12 s"),
    ],
)
def test_a_metric_of_a_users_own_is_read_by_the_end_of_its_name(name, unit, text):
    info = metric_info(name)
    assert (info.unit.name, info.label, info.direction, info.is_known_before_training) == (
        unit,
        name,
        "min",
        False,
    )
    assert show_metric(name, 12.3456) == text
    assert metric_name(name) == name


@pytest.mark.parametrize("word", ["val_accuracy", "balanced_accuracy", "train_loss", "f1", "memory_kib"])
def test_a_name_that_is_only_like_one_of_ours_is_a_users_own(word):
    assert metric_name(word) == word


@pytest.mark.parametrize(
    ("word", "meant"), [("acuracy", "accuracy"), ("latncy", "latency"), ("parms", "params")]
)
def test_a_near_miss_is_answered_with_what_was_meant(word, meant):
    with pytest.raises(ObjectiveError, match=f"did you mean {meant!r}"):
        metric_name(word)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"metric": "", "direction": "max"}, "metric"),
        ({"metric": "f-1", "direction": "max"}, "metric"),
        ({"metric": 3, "direction": "max"}, "metric"),
        ({"metric": "latency", "direction": "min"}, "metric"),
        ({"metric": "f1", "direction": "up"}, "direction"),
    ],
)
def test_a_goal_that_is_none_is_refused(values, field):
    with pytest.raises(ObjectiveError) as error:
        Goal(**values)
    assert error.value.field == field


@given(
    st.lists(st.tuples(*(st.integers(0, 4),) * 3), max_size=20),
    st.tuples(*(st.sampled_from(("max", "min")),) * 3),
)
def test_the_front_is_what_no_other_point_beats_and_of_equals_the_first(points, directions):
    goals = [
        Goal(metric=name, direction=direction) for name, direction in zip("abc", directions, strict=True)
    ]
    signs = np.array([goal.sign for goal in goals])
    turned = [tuple(signs * point) for point in points]
    expected = [
        row
        for row, one in enumerate(turned)
        if one not in turned[:row]
        and not any(other != one and all(np.greater_equal(other, one)) for other in turned)
    ]
    assert list(pareto_front(points, goals)) == expected


def test_a_front_over_one_goal_is_its_best_point():
    assert pareto_front([[0.2], [0.9], [0.9]], [ACCURACY]) == (1,)
    assert pareto_front([[3.0], [1.0]], [Goal.of("macs")]) == (1,)
