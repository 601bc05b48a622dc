import pytest

from nas.errors import DataError, ObjectiveError
from nas.objective import Objective
from nas.task_objective import judged_by, needed_of_task, objective_of_task


def made(text, task, metric=None):
    return objective_of_task(Objective.parse(text), task, metric=metric, is_written=True)


@pytest.mark.parametrize(
    ("task", "metric", "goal"),
    [
        ("classification", None, "accuracy"),
        ("classification", "balanced_accuracy", "max balanced_accuracy"),
        ("multilabel", None, "max mean_average_precision"),
        ("regression", None, "max r2"),
        ("regression", "rmse", "min rmse"),
        (None, "f1", "max f1"),
        (None, "val_loss", "min val_loss"),
        (None, None, "accuracy"),
    ],
)
def test_a_bare_objective_has_the_metric_as_its_goal_or_the_first_of_the_task(task, metric, goal):
    assert objective_of_task(Objective(), task, metric=metric).describe() == goal


def test_targets_of_a_metric_keep_their_form():
    found = objective_of_task(Objective.soft("macs", 2e6), "classification", metric="macro_f1")
    assert found.describe() == "max macro_f1 * (macs / 2,000,000)^-0.07"
    found = objective_of_task(Objective.absolute("macs", 2e6), "regression", metric="rmse")
    assert found.describe() == "min rmse + 0.1 * |macs / 2,000,000 - 1|"


def test_a_written_objective_says_what_is_measured_without_a_metric():
    found = made("macro_f1 * (macs/2M)^-0.07, accuracy >= 0.5", "classification")
    assert needed_of_task(found, "classification") == ("accuracy", "macro_f1")
    assert made("macro_f1", "classification", "macro_f1").goal.metric == "macro_f1"


def test_a_metric_that_contradicts_the_written_objective_is_refused():
    with pytest.raises(ObjectiveError) as error:
        made("accuracy * macs^-0.07", "classification", "macro_f1")
    assert error.value.field == "metric"


@pytest.mark.parametrize(
    ("task", "metric"), [("classification", "r2"), ("regression", "accuracy"), ("multilabel", "top5")]
)
def test_a_metric_of_another_task_is_refused(task, metric):
    with pytest.raises(DataError) as error:
        objective_of_task(Objective(), task, metric=metric)
    assert error.value.field == "metric"


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("accuracy, macs <= 2M", "regression"),
        ("accuracy, r2 >= 0.5", "classification"),
        ("max r2; accuracy", "regression"),
    ],
)
def test_an_objective_that_needs_a_metric_of_another_task_is_refused(text, task):
    with pytest.raises(ObjectiveError) as error:
        made(text, task)
    assert error.value.field == "objective"


@pytest.mark.parametrize("metric", ["r2", "rmse", "mae"])
def test_numbers_that_are_no_fractions_are_not_multiplied_and_the_remedy_is_an_objective(metric):
    with pytest.raises(ObjectiveError, match="absolute") as error:
        objective_of_task(Objective.hard("macs", 2e6), "regression", metric=metric)
    assert error.value.field == "objective"
    remedy = str(error.value).split("'")[1]
    found = made(remedy, "regression")
    assert (found.goal.metric, found.absolutes[0].target) == (metric, 2e6)


def test_networks_are_judged_by_the_goal_or_the_tasks_metric_where_that_is_a_cost():
    assert judged_by(Objective.parse("min rmse")).describe() == "min rmse"
    assert judged_by(Objective.parse("max f1 * macs^-0.07")).metric == "f1"
    assert judged_by(Objective.parse("min latency, accuracy >= 0.9")).metric == "accuracy"
    assert judged_by(Objective.parse("min macs"), "regression").metric == "r2"
