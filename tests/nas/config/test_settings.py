import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from nas.config.readers import absolute_if_there, read_metrics, read_objective
from nas.config.resuming import resumed
from nas.config.settings import Settings
from nas.errors import DataError, ObjectiveError, StudyError, UsageError
from nas.objective import Constraint, Objective
from nas.options import options_of
from nas.training.recipe import Recipe

FOLDER = Path("runs/a")


def settings(**changes) -> Settings:
    return Settings(data="/data", space="mnasnet", recipe=Recipe().to_json(), **changes)


def test_settings_survive_json():
    one = settings(target_macs=30e6, trials=7, workers=2)
    assert Settings.from_dict(json.loads(json.dumps(one.to_dict())), FOLDER) == one


def test_a_resume_keeps_finalists_unless_it_is_given_others():
    stored = Settings.from_dict(json.loads(json.dumps(settings(finalists="auto").to_dict())), FOLDER)
    assert resumed(stored, {"trials": 9}, FOLDER).finalists == "auto"
    assert resumed(stored, {"finalists": 2}, FOLDER).finalists == 2


@pytest.mark.parametrize(
    "text", ["labels.csv", "labels.csv:age,height", "Labels.TSV", "pack.npz", "./images"]
)
def test_paths_of_images_are_stored_whole_so_that_a_resume_finds_them_from_anywhere(text):
    assert absolute_if_there(text) == str((Path.cwd() / text).absolute())


def test_names_of_data_sets_are_stored_as_they_are():
    assert absolute_if_there("cifar10") == "cifar10"


def test_what_a_newer_version_added_is_left_out():
    assert Settings.from_dict({**settings().to_dict(), "colour": "blue"}, FOLDER) == settings()


def test_a_study_started_from_python_is_refused_with_how_to_continue_it():
    with pytest.raises(StudyError, match=r"not started with `nas search`.*nas\.search"):
        Settings.from_dict({}, FOLDER)


def test_a_resume_may_change_how_much_is_done_and_where():
    changed = resumed(
        settings(), {"trials": 5, "workers": 3, "address": "auto", "max_hours": 2.0, "patience": 4}, FOLDER
    )
    assert (changed.trials, changed.workers, changed.address) == (5, 3, "auto")
    assert changed.data == "/data"


def test_what_was_moved_is_found_where_it_is_now():
    stored = settings(latency_table="/a.json", proxy_check="/a", data_root=None)
    now = {"latency_table": "/b.json", "proxy_check": "/b", "data_root": "/c", "data": "/d"}
    assert resumed(stored, now, FOLDER) == replace(stored, **now)


def test_a_resume_on_another_executor_leaves_the_machines_of_the_first():
    asked = {"workers": 4, "gpus_per_worker": 0.25, "address": "auto", "trial_timeout_minutes": 5.0}
    on_ray = settings(**asked, on_ray_loss="restart", latency_resource="phone")
    inline = resumed(on_ray, {"executor": "inline"}, FOLDER)
    # Where latency is measured stays, and is refused there.
    assert inline == replace(on_ray, executor="inline", on_ray_loss="stop", **dict.fromkeys(asked))
    assert resumed(on_ray, {"executor": "ray", "workers": 2}, FOLDER) == replace(on_ray, workers=2)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"space": "efficientnet"}, "--space is mnasnet there, efficientnet here"),
        ({"seed": 3}, "--seed is 0 there, 3 here"),
        ({"target_macs": 30e6}, "--target-macs is not given there, 30,000,000 here"),
        ({"target_latency_ms": 5.0}, "--target-latency is not given there, 5 here"),
        ({"recipe": Recipe(epochs=2).to_json()}, "--epochs is 5 there, 2 here"),
        ({"controller": "ppo"}, "--controller is dyna there, ppo here"),
        ({"proxy_check": "/check"}, "--proxy-check is not given there, /check here"),
        ({"latency_table": "/table.json"}, "--latency-table is not given there, /table.json here"),
    ],
)
def test_a_resume_may_not_change_what_is_searched(given, words):
    with pytest.raises(StudyError, match=words):
        resumed(settings(), given, FOLDER)


@pytest.mark.parametrize(("objective", "name"), [("accuracy", "dyna"), ("accuracy; macs", "front")])
def test_a_resume_may_name_the_controller_that_was_chosen_by_itself(objective, name):
    study = settings(objective=objective)
    assert study.controller is None
    assert resumed(study, {"controller": name}, FOLDER).chosen_controller == name
    assert resumed(settings(objective=objective, controller=name), {}, FOLDER).chosen_controller == name


def test_a_study_older_than_a_field_of_the_recipe_continues():
    stored = json.loads(Recipe(batch_size=128).to_json())
    del stored["batch_norm_statistics"]
    one = replace(settings(), recipe=json.dumps(stored))
    assert resumed(one, {"recipe": Recipe.from_json(one.recipe).to_json()}, FOLDER) == one


def test_giving_the_same_again_is_no_difference():
    one = settings(target_macs=30e6)
    given = {"data": "/data", "target_macs": 30e6, "recipe": one.recipe}
    assert resumed(one, given, FOLDER) == one


def test_targets_and_limits_of_options_become_an_objective():
    one = settings(target_macs=30e6, target_latency_ms=5.0, max_macs=1e6)
    assert [(term.metric, term.target) for term in one.make_objective().factors] == [
        ("macs", 30e6),
        ("latency_ms", 5.0),
    ]
    assert [(c.metric, c.upper) for c in one.make_objective().constraints] == [("macs", 1e6)]
    assert settings(target_macs=1e6).make_objective() == Objective.hard("macs", 1e6)
    soft = settings(objective="soft", target_macs=1e6).make_objective()
    assert soft == Objective.soft("macs", 1e6)


WRITTEN = "accuracy * (latency/5ms)^-0.07, memory <= 2GiB"


def test_an_objective_that_is_written_out_is_the_whole_objective():
    assert settings(objective=WRITTEN).make_objective() == Objective.parse(WRITTEN)


def test_limits_are_added_to_those_of_an_objective_that_is_written_out():
    objective = settings(objective=WRITTEN, max_macs=1e6).make_objective()
    parsed = Objective.parse(WRITTEN)
    assert objective.factors == parsed.factors
    assert objective.constraints == (*parsed.constraints, Constraint(metric="macs", upper=1e6))


def test_a_target_beside_an_objective_that_is_written_out_is_refused_with_what_to_write():
    one = settings(objective="accuracy * params^-0.05", target_latency_ms=5.0)
    with pytest.raises(UsageError, match=r"--target-latency: .*\(latency_ms / 5\)\^\(0, -1\)") as error:
        one.make_objective()
    assert error.value.field == "objective"


def test_equal_objectives_are_stored_as_equal_text_however_they_are_written():
    texts = ["accuracy*(latency/5ms)^-0.07", "(latency_ms / 5.0)^-0.070 * accuracy"]
    assert len({read_objective(text) for text in texts}) == 1
    stored = settings(objective=read_objective(texts[0]))
    assert resumed(stored, {"objective": read_objective(texts[1])}, FOLDER) == stored
    assert Settings.from_dict(json.loads(json.dumps(stored.to_dict())), FOLDER) == stored


@pytest.mark.parametrize("kind", ["hard", "soft", "absolute"])
def test_the_kinds_are_read_as_they_are(kind):
    assert read_objective(kind) == kind


def test_a_misspelt_kind_is_answered_with_the_near_one():
    with pytest.raises(UsageError, match=r"no objective 'sotf', .*: did you mean soft\?$"):
        read_objective("sotf")
    with pytest.raises(UsageError, match="cannot be read at 'latncy'"):
        read_objective("accuracy * latncy^-1")


def test_costs_of_a_front_are_read_by_their_short_names():
    assert read_metrics("latency, params,latency_ms") == ("latency_ms", "params")
    for text in ("", "macs,", "accuracy", "macs params"):
        with pytest.raises(UsageError, match="costs with commas between are needed"):
            read_metrics(text)
    with pytest.raises(UsageError, match="did you mean 'params'"):
        read_metrics("parms")


@pytest.mark.parametrize("given", [{"objective": "soft"}, {"target_macs": 1.0, "target_params": 1.0}])
def test_a_form_that_does_not_go_with_its_targets_names_the_options(given):
    one = settings(**{"objective": "absolute", **given})
    with pytest.raises(UsageError, match="--objective") as error:
        one.make_objective()
    assert error.value.field == "objective"


def test_every_setting_but_the_recipe_is_an_option():
    names = {field.name for field in fields(Settings)}
    assert names - set(options_of(Settings)) == {"recipe"}
    assert len({one.flag for one in options_of(Settings).values()}) == len(names) - 1


def test_a_metric_is_the_goal_of_targets_and_what_is_left_out_follows_the_task():
    one = settings(metric="balanced_accuracy", objective="soft", target_macs=1e6)
    assert one.make_objective("classification").describe() == (
        "max balanced_accuracy * (macs / 1,000,000)^-0.07"
    )
    assert settings(task="multilabel").make_objective().goal.metric == "mean_average_precision"
    assert settings(max_macs=1e6).make_objective("regression").goal.metric == "r2"
    with pytest.raises(DataError):
        settings(metric="rmse").make_objective("classification")
    with pytest.raises(ObjectiveError) as error:
        settings(metric="macro_f1", objective=WRITTEN).make_objective()
    assert error.value.field == "metric"


def test_another_metric_task_or_weighting_is_no_resume():
    one = settings(metric="macro_f1")
    for change in ({"metric": "accuracy"}, {"task": "multilabel"}):
        with pytest.raises(StudyError, match=f"--{next(iter(change))} is"):
            resumed(one, change, FOLDER)
    with pytest.raises(StudyError, match="--class-weights is none there, balanced here"):
        resumed(one, {"recipe": Recipe(class_weights="balanced").to_json()}, FOLDER)
