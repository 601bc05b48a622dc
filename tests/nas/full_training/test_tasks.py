"""Full trainings of every task, and by every metric."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import nas
from nas.cli.main import main
from nas.errors import DataError, RecipeError
from nas.folders import RUN
from nas.full_training.curves import draw_curves
from nas.full_training.display import trained_report
from nas.full_training.fitting import fit
from nas.full_training.learner import make_loss
from nas.full_training.ranks import OneRank
from nas.full_training.recipe import FullRecipe
from nas.full_training.task_laws import metric_of_task, recipe_of_task
from nas.full_training.training import FullTraining
from nas.full_training.work import Fit
from nas.training.accuracy import evaluate
from search_spaces import build, small

CPU = torch.device("cpu")
NETWORK = small(resolution=16, num_classes=2).reference
FAST = nas.TrainOptions(device="cpu", has_onnx=False)
RECIPE = nas.RECIPES["small"].changed(epochs=2, precision="float32")


def noise(count=120, side=16):
    return np.random.default_rng(0).integers(0, 80, (count, side, side, 3), dtype=np.uint8)


def numbers(count=120):
    """How bright the upper half is, from 0 to 100, and 1,000 times as much below."""
    images, levels = noise(count), np.random.default_rng(1).integers(0, 101, (count, 2))
    images[:, :8] += levels[:, :1, None, None].astype(np.uint8)
    images[:, 8:] += levels[:, 1:, None, None].astype(np.uint8)
    return images, levels * np.array([1.0, 1000.0]) + 0.5


def labels(count=120):
    """Whether the upper half is bright, and the lower one."""
    images, has = noise(count), np.random.default_rng(1).integers(0, 2, (count, 2))
    images[:, :8] += (100 * has[:, :1, None, None]).astype(np.uint8)
    images[:, 8:] += (100 * has[:, 1:, None, None]).astype(np.uint8)
    return images, has


def rare(count=120):
    """Nine dark images for each bright one."""
    images, label = noise(count), (np.arange(count) % 10 == 0).astype(np.int64)
    images += (60 * label[:, None, None, None]).astype(np.uint8)
    return images, label


DATA = {
    "regression": nas.from_arrays(*numbers(), classes=("above", "below"), task="regression"),
    "multilabel": nas.from_arrays(*labels(), classes=("above", "below"), task="multilabel"),
    "classification": nas.from_arrays(*rare(), classes=("dark", "bright")),
}


@pytest.fixture(scope="module", params=["regression", "multilabel"])
def trained(request, tmp_path_factory):
    data = DATA[request.param]
    out = tmp_path_factory.mktemp(request.param) / "run"
    return data, nas.train(NETWORK, data=data, recipe=RECIPE, out=out, options=FAST)


# A training of each task


def test_the_result_has_every_metric_of_the_task_and_the_first_chose_the_weights(trained):
    data, found = trained
    metrics = {
        "regression": ("r2", "rmse", "mae"),
        "multilabel": ("mean_average_precision", "macro_f1", "auroc"),
    }
    assert set(found.metrics) == set(metrics[data.task])
    assert found.metric == metrics[data.task][0]
    assert found.value == found.metrics[found.metric]
    assert (found.accuracy, found.right, found.images) == (None, None, len(data.test))
    values = [value for row in found.rows for value in (row.value, row.averaged_value)]
    assert found.fitted.best.value == max(values)


def test_the_bundle_has_the_weights_that_were_tested_and_the_unit_of_their_numbers(trained):
    data, found = trained
    scores = nas.evaluate(found.bundle, data=data)
    for name, value in found.metrics.items():
        assert getattr(scores, name) == pytest.approx(value, rel=1e-5)


def test_the_card_and_the_json_say_the_metrics_by_their_names(trained):
    _, found = trained
    card = (found.bundle / "card.md").read_text(encoding="utf-8")
    assert f"test {found.metric} of these weights" in card
    assert "accuracy" not in card
    assert (", loss=" in card) == ("regression_loss=" not in card) == (found.metric != "r2")
    result = json.loads((found.folder / "result.json").read_text(encoding="utf-8"))
    assert {name: result[name] for name in found.metrics} == found.metrics
    assert result[f"search_{found.metric}"] == found.fitted.best.value
    assert [row[found.metric] for row in result["evaluations"]] == [row.value for row in found.rows]
    facts = json.loads((found.folder / RUN).read_text(encoding="utf-8"))
    assert (facts["task"], facts["metric"]) == (result["task"], found.metric)


def test_the_report_and_the_curves_show_the_metric(trained, tmp_path):
    _, found = trained
    printed = trained_report(found).to_data()
    assert printed[found.metric] == found.value
    events = EventAccumulator(str(found.folder / "tensorboard"))
    events.Reload()
    assert f"search/{found.metric}" in events.Tags()["scalars"] + events.Tags()["tensors"]
    assert draw_curves(found.rows, tmp_path / "curves.png", title="t").stat().st_size > 10_000


def test_what_is_finished_is_neither_trained_nor_tested_again(trained):
    data, found = trained
    before = (found.folder / "checkpoint.safetensors").stat().st_mtime_ns
    again = nas.train(NETWORK, data=data, recipe=RECIPE, out=found.folder, options=FAST)
    assert again == found
    assert (found.folder / "checkpoint.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.parametrize("task", DATA)
@pytest.mark.parametrize("name", nas.RECIPES)
def test_every_recipe_from_scratch_trains_every_task(name, task, tmp_path):
    recipe = nas.RECIPES[name].changed(epochs=1, starts_from="scratch", precision="float32", batch_size=16)
    asked = FullTraining(network=NETWORK, data=DATA[task], recipe=recipe)
    (training,) = asked.prepare(tmp_path)
    done = fit(Fit.of(training, FAST), OneRank(device=CPU), lambda _: None)
    assert np.isfinite(done.state.rows[-1].loss)


# By which metric


@pytest.mark.parametrize(
    ("task", "metric"),
    [("regression", "rmse"), ("classification", "balanced_accuracy"), ("multilabel", "auroc")],
)
def test_the_best_weights_are_chosen_by_the_metric_that_is_asked_for(task, metric, tmp_path):
    data = DATA[task]
    (training,) = FullTraining(network=NETWORK, data=data, recipe=RECIPE, metric=metric).prepare(tmp_path)
    done = fit(Fit.of(training, FAST), OneRank(device=CPU), lambda _: None)
    values = [value for row in done.state.rows for value in (row.value, row.averaged_value)]
    assert done.state.best.value == (min(values) if metric == "rmse" else max(values))
    module = build(NETWORK, seed=0)
    module.load_state_dict(done.best)
    measured = evaluate(module, data, "search", [metric], device="cpu")[metric]
    assert measured == pytest.approx(done.state.best.value, rel=1e-6)


def test_another_metric_is_another_training(tmp_path):
    data = DATA["regression"]
    usual, other = (
        FullTraining(network=NETWORK, data=data, recipe=RECIPE, metric=metric).prepare(tmp_path)[0]
        for metric in (None, "mae")
    )
    assert "metric" not in usual.identity
    assert other.identity == {**usual.identity, "metric": "mae"}


def test_the_metric_of_a_study_is_that_of_its_objective(tmp_path):
    data = DATA["classification"]
    space = small(resolution=16, num_classes=2)
    evaluator = nas.ProxyEvaluator(
        data, nas.Recipe(epochs=0.5, warmup_epochs=0.1, precision="float32"), metrics=("balanced_accuracy",)
    )
    search = nas.Search(
        space,
        evaluator=evaluator,
        objective=nas.Objective.parse("balanced_accuracy"),
        budget=nas.Budget(trials=2, finalists=0),
    )
    study = search.run(tmp_path / "s", executor=nas.InlineExecutor())
    assert metric_of_task(None, data, study) == "balanced_accuracy"
    assert metric_of_task("macro_f1", data, study) == "macro_f1"
    assert metric_of_task(None, DATA["regression"], study) == "r2"


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("regression", "accuracy"),
        ("classification", "r2"),
        ("multilabel", "top5"),
        ("classification", "top5"),
    ],
)
def test_a_metric_of_another_task_is_refused_and_so_is_one_that_says_nothing(task, metric, tmp_path):
    with pytest.raises(DataError) as error:
        FullTraining(network=NETWORK, data=DATA[task], recipe=RECIPE, metric=metric).prepare(tmp_path)
    assert error.value.field == "metric"


def test_a_metric_that_is_not_defined_on_the_search_split_is_refused_before_anything_is_trained(tmp_path):
    data = DATA["classification"]
    dark = data.search.take(np.flatnonzero(data.search.labels == 0))
    with pytest.raises(DataError, match="auroc must be defined") as error:
        FullTraining(network=NETWORK, data=replace(data, search=dark), recipe=RECIPE, metric="auroc").prepare(
            tmp_path
        )
    assert error.value.field == "metric"


def test_the_warnings_say_where_an_accuracy_is_that_of_the_largest_class(tmp_path):
    recipe = RECIPE.changed(epochs=0.1, learning_rate=1e-9)
    found = nas.train(NETWORK, data=DATA["classification"], recipe=recipe, out=tmp_path, options=FAST)
    (warning,) = found.warnings
    assert "the largest class alone" in warning
    assert json.loads((tmp_path / "result.json").read_text())["warnings"] == [warning]
    assert warning in trained_report(found).to_data().values()


# What a task asks of a recipe


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("regression", {"class_weights": "balanced"}),
        ("regression", {"sampling": "balanced"}),
        ("multilabel", {"sampling": "balanced"}),
        ("regression", {"label_smoothing": 0.1}),
        ("regression", {"cutmix": 1.0}),
        ("regression", {"loss": "cross_entropy"}),
        ("multilabel", {"loss": "cross_entropy"}),
        ("multilabel", {"regression_loss": "squared"}),
        ("classification", {"regression_loss": "squared"}),
        ("classification", {"loss": "binary_cross_entropy", "class_weights": "balanced"}),
    ],
)
def test_a_field_without_a_meaning_for_the_task_is_refused_where_it_is_asked_for(task, changes, tmp_path):
    with pytest.raises(RecipeError) as error:
        FullTraining(network=NETWORK, data=DATA[task], recipe="small", changes=changes).prepare(tmp_path)
    assert error.value.field in changes


@pytest.mark.parametrize("name", nas.RECIPES)
def test_a_recipe_is_used_for_numbers_without_what_needs_classes_and_that_is_said(name):
    recipe = nas.RECIPES[name]
    found, notes = recipe_of_task(recipe, DATA["regression"])
    assert (found.label_smoothing, found.cutmix) == (0, 0)
    assert found == recipe.changed(label_smoothing=0, cutmix=0)
    has_views = bool(recipe.auto_augment) or recipe.crop == "resized"
    assert len(notes) == bool(recipe.label_smoothing) + bool(recipe.cutmix) + has_views
    assert has_views == any("numbers of the whole image" in note for note in notes)
    assert recipe_of_task(recipe, DATA["multilabel"]) == (recipe, ())
    assert recipe_of_task(recipe, DATA["classification"]) == (recipe, ())


@pytest.mark.parametrize("changes", [{"label_smoothing": 0.0}, {"cutmix": 0.0}])
def test_to_leave_out_what_has_no_meaning_is_no_mistake(changes, tmp_path):
    FullTraining(network=NETWORK, data=DATA["regression"], recipe="modern", changes=changes).prepare(tmp_path)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_balanced_weights_let_the_classes_of_a_training_count_alike(smoothing):
    data = DATA["classification"]
    loss = make_loss(FullRecipe(class_weights="balanced", label_smoothing=smoothing), data, CPU)
    counts = np.bincount(data.train.labels)
    of_class = [counts[label] * float(loss(torch.zeros(1, 2), torch.tensor([label]))) for label in (0, 1)]
    assert of_class[0] == pytest.approx(of_class[1])


# The command


def test_the_command_takes_a_task_and_a_metric_and_prints_them(tmp_path, capsys):
    images, values = numbers()
    np.savez(tmp_path / "p.npz", train_images=images, train_labels=np.rint(values).astype(np.float32))
    (tmp_path / "net.json").write_text(NETWORK.to_json())
    words = ("--data", tmp_path / "p.npz", "--task", "regression", "--metric", "mae", "--recipe", "small")
    command = ["train", tmp_path / "net.json", *words, "--out", tmp_path / "r", "--dry-run", "--json"]
    assert main([*map(str, command)]) == 0
    (printed,) = json.loads(capsys.readouterr().out)
    assert (printed["task"], printed["metric"]) == ("regression", "mae")


@pytest.mark.parametrize("words", [("--task", "segmentation"), ("--metric", "r2"), ("--metric", "acuracy")])
def test_a_mistake_of_task_or_metric_is_one_line_and_writes_nothing(words, tmp_path, capsys):
    images, values = rare()
    np.savez(tmp_path / "p.npz", train_images=images, train_labels=values)
    (tmp_path / "net.json").write_text(NETWORK.to_json())
    command = ["train", tmp_path / "net.json", "--data", tmp_path / "p.npz", "--out", tmp_path / "r", *words]
    assert main([*map(str, command)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("nas: ")
    assert not (tmp_path / "r").exists()
