import json
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import nas
from nas.cli.main import main
from nas.data.images import Carving
from nas.data.loading import load_data
from nas.errors import (
    DataError,
    ExecutorError,
    ExportError,
    NasError,
    RecipeError,
    StudyError,
    TrainingError,
    UsageError,
)
from nas.export.bundle import export_bundle
from nas.full_training.images import ImageSource
from nas.full_training.results import measure_test
from nas.full_training.run import Unwatched, locked, plan
from nas.full_training.start import find_start, with_weights
from nas.full_training.training import FullTraining
from nas.report.event_file import PATTERN
from nas.report.page.training_files import read_training
from search_spaces import Head, build, small

NETWORK = small(resolution=16, num_classes=3).reference
FAST = nas.TrainOptions(device="cpu", has_onnx=False)
RECIPE = nas.RECIPES["small"].changed(epochs=2, precision="float32")


def make_arrays(classes=3, count=120, side=16, channels=3):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    images = rng.integers(0, 120, (count, side, side, channels), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, :, label % channels] += 40 + 20 * int(label)
    return images, labels


@pytest.fixture(scope="module")
def data():
    return nas.from_arrays(*make_arrays(), classes=("red", "green", "blue"))


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "colours.npz"
    images, labels = make_arrays()
    np.savez(path, train_images=images, train_labels=labels, classes=np.array(["red", "green", "blue"]))
    return path


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    return nas.train(NETWORK, data=data, recipe=RECIPE, out=out, options=FAST)


@pytest.fixture(scope="module")
def study(data, tmp_path_factory):
    space = small(resolution=16, num_classes=3)
    evaluator = nas.ProxyEvaluator(data, nas.Recipe(epochs=0.5, warmup_epochs=0.1, precision="float32"))
    search = nas.Search(space, evaluator=evaluator, budget=nas.Budget(trials=5, finalists=0), keep_best=5)
    return search.run(tmp_path_factory.mktemp("study") / "s", executor=nas.InlineExecutor())


# What a training leaves


def test_the_bundle_holds_the_weights_that_were_tested(trained, data):
    scores = nas.evaluate(trained.bundle, data=data)
    assert scores.accuracy == trained.accuracy == trained.right / trained.images
    assert trained.interval[0] <= trained.accuracy <= trained.interval[1]


def test_the_exported_weights_are_the_best_on_the_search_split(trained, data):
    assert nas.evaluate(trained.bundle, data=data, split="search").accuracy == trained.fitted.best.value
    measured = [row.value for row in trained.rows] + [row.averaged_value for row in trained.rows]
    assert trained.fitted.best.value == max(measured)


def test_the_card_says_what_was_measured_on_what_and_what_it_cost(trained):
    card = (trained.bundle / "card.md").read_text(encoding="utf-8")
    assert "test accuracy of these weights" in card
    assert f"{trained.right:,} of {trained.images:,} test images; 95 % interval" in card
    assert "small: " in card
    assert "training_cost" in card


def test_a_report_reads_a_training_that_was_stopped_from_its_checkpoint(trained, tmp_path):
    for name in ("training.json", "checkpoint.safetensors"):
        shutil.copy(trained.folder / name, tmp_path)
    read = read_training(tmp_path)
    assert read.value is None
    assert read.curve("accuracy") == [(row.epoch, row.value) for row in trained.rows]
    assert read.best["value"] == trained.fitted.best.value


def test_a_report_reads_what_a_training_left(trained):
    read = read_training(trained.folder)
    assert (read.value, read.interval) == (trained.value, tuple(trained.interval))
    assert read.curve("loss") == [(row.epoch, row.loss) for row in trained.rows]
    assert read.digest == trained.network.digest
    assert "hours (1 x cpu" in read.cost


def test_the_recipe_beside_the_result_reads_back(trained):
    text = (trained.folder / "recipe.toml").read_text(encoding="utf-8")
    assert nas.FullRecipe.from_toml(text) == RECIPE
    assert nas.FullTraining(network="x", recipe=trained.folder / "recipe.toml").recipe is not None


def test_curves_are_drawn_and_logged_for_tensorboard(trained):
    assert trained.curves.stat().st_size > 10_000
    assert any(PATTERN.match(path.name) for path in (trained.folder / "tensorboard").iterdir())


@pytest.mark.slow
def test_an_equal_training_gives_equal_weights(trained, data, tmp_path):
    again = nas.train(NETWORK, data=data, recipe=RECIPE, out=tmp_path / "b", options=FAST)
    one, other = (load_file(found.bundle / "weights.safetensors") for found in (trained, again))
    assert all(torch.equal(one[name], other[name]) for name in one)
    elsewhere = nas.train(NETWORK, data=data, recipe=RECIPE, out=tmp_path / "c", options=FAST, seed=1)
    third = load_file(elsewhere.bundle / "weights.safetensors")
    assert not all(torch.equal(one[name], third[name]) for name in one)


@pytest.mark.slow
def test_what_is_finished_is_neither_trained_nor_tested_again(data, tmp_path):
    first = nas.train(NETWORK, data=data, recipe=RECIPE, out=tmp_path, options=FAST)
    result = json.loads((tmp_path / "result.json").read_text())
    result["tested_weights"]["right"] = 1
    (tmp_path / "result.json").write_text(json.dumps(result))
    before = (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns
    again = nas.train(NETWORK, data=data, recipe=RECIPE, out=tmp_path, options=FAST)
    assert again.right == 1 != first.right
    assert (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_the_test_split_is_not_looked_at_again_where_the_export_failed(data, tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "mine.txt").write_text("not to be overwritten")
    with pytest.raises(ExportError, match="bundle"):
        nas.train(NETWORK, data=data, recipe=RECIPE, out=tmp_path, options=FAST)
    result = json.loads((tmp_path / "result.json").read_text())
    result["tested_weights"]["right"] = 1
    (tmp_path / "result.json").write_text(json.dumps(result))
    (tmp_path / "bundle" / "mine.txt").unlink()
    again = nas.train(NETWORK, data=data, recipe=RECIPE, out=tmp_path, options=FAST)
    assert again.right == 1
    assert f"1 of {again.images:,} test images" in (again.bundle / "card.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_result_that_cannot_be_written_is_an_error_and_the_same_command_goes_on(data, tmp_path):
    (tmp_path / "result.json").mkdir()
    with pytest.raises(TrainingError, match=r"result\.json cannot be written") as error:
        nas.train(NETWORK, data=data, recipe=RECIPE, out=tmp_path, options=FAST)
    assert error.value.field == "out"
    (tmp_path / "result.json").rmdir()
    before = (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns
    assert nas.train(NETWORK, data=data, recipe=RECIPE, out=tmp_path, options=FAST).bundle.is_dir()
    assert (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_bundle_of_other_weights_is_made_again(data, tmp_path):
    first = nas.train(NETWORK, data=data, recipe=RECIPE, out=tmp_path, options=FAST)
    weights = load_file(first.bundle / "weights.safetensors")
    other = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    export_bundle(first.bundle, network=first.network, weights=other, overwrite=True, with_onnx=False)
    again = nas.train(NETWORK, data=data, recipe=RECIPE, out=tmp_path, options=FAST)
    found = load_file(again.bundle / "weights.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())


@pytest.mark.slow
def test_a_test_image_that_can_no_longer_be_read_does_not_count(tmp_path):
    images, labels = make_arrays()
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / "images" / "abc"[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    data = load_data(tmp_path / "images", resolution=16, resident_bytes=0)
    (tmp_path / "images" / data.test.paths[0]).unlink()
    found = nas.train(NETWORK, data=data, recipe=RECIPE, out=tmp_path / "out", options=FAST)
    assert found.images == len(data.test) - 1
    assert found.accuracy == found.right / found.images


class NotFinite(torch.nn.Module):
    """A network whose logits are no numbers."""

    def forward(self, images):
        return torch.full((len(images), 3), torch.nan)


def test_logits_that_are_not_finite_on_the_test_split_are_an_error(data, tmp_path):
    (training,) = FullTraining(network=NETWORK, data=data, recipe=RECIPE).prepare(tmp_path)
    with pytest.raises(TrainingError, match="finite") as error:
        measure_test(NotFinite(), training, "0", torch.device("cpu"))
    assert error.value.field == "learning_rate"


@pytest.mark.slow
def test_a_bundle_that_is_gone_is_made_again(data, tmp_path):
    nas.train(NETWORK, data=data, recipe=RECIPE, out=tmp_path, options=FAST)
    (tmp_path / "bundle" / "card.md").unlink()
    again = nas.train(NETWORK, data=data, recipe=RECIPE, out=tmp_path, options=FAST)
    assert (again.bundle / "card.md").is_file()


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"recipe": RECIPE.changed(epochs=3)}, r"recipe \(epochs is 2 there, 3 here, "),
        ({"seed": 5}, "seed"),
        ({"network": replace(NETWORK, activation="relu")}, "network"),
    ],
)
def test_a_folder_of_another_training_is_refused_and_left_alone(trained, data, changed, names):
    asked = {"network": NETWORK, "data": data, "recipe": RECIPE} | changed
    before = sorted(path.name for path in trained.folder.iterdir())
    with pytest.raises(TrainingError, match=f"another {names}") as error:
        nas.train(**asked, out=trained.folder, options=FAST)
    assert error.value.field == "out"
    assert sorted(path.name for path in trained.folder.iterdir()) == before


def test_two_processes_do_not_train_in_one_folder(data, tmp_path):
    inside, done = threading.Event(), threading.Event()

    def hold():
        with locked(tmp_path):
            inside.set()
            done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(30)
    try:
        with pytest.raises(TrainingError, match="another process trains") as error:
            nas.train(NETWORK, data=data, recipe=RECIPE, out=tmp_path, options=FAST)
        assert error.value.field == "out"
    finally:
        done.set()
        holder.join()


def test_a_folder_that_cannot_be_made_is_an_error(data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError) as error:
        nas.train(NETWORK, data=data, recipe=RECIPE, out=tmp_path / "file", options=FAST)
    assert error.value.field == "out"


@pytest.mark.slow
def test_a_training_of_fewer_steps_than_stages_ends(data, tmp_path):
    recipe = nas.RECIPES["progressive"].changed(epochs=1, batch_size=48, precision="float32")
    assert recipe.steps(len(data.train)) < recipe.stages
    assert nas.train(NETWORK, data=data, recipe=recipe, out=tmp_path, options=FAST).rows


@pytest.mark.slow
@pytest.mark.parametrize(("held", "top"), [("study", 1), ("bundle", 1), ("ranking", 1), ("one", 3)])
def test_a_folder_that_holds_something_else_is_refused_and_left_alone(
    held, top, study, trained, data, tmp_path
):
    if held == "ranking":
        nas.train(study, data=data, recipe=RECIPE, out=tmp_path, top=2, options=FAST)
    there = {"study": study.folder, "bundle": trained.bundle, "one": trained.folder, "ranking": tmp_path}[
        held
    ]
    before = {path: path.stat().st_mtime_ns for path in there.rglob("*")}
    with pytest.raises(TrainingError, match="holds") as error:
        nas.train(study, data=data, recipe=RECIPE, out=there, top=top, options=FAST)
    assert error.value.field == "out"
    assert before == {path: path.stat().st_mtime_ns for path in there.rglob("*")}


def test_a_training_is_not_written_among_its_images(tmp_path):
    (tmp_path / "images" / "red").mkdir(parents=True)
    for place in (tmp_path / "images", tmp_path / "images" / "runs" / "a"):
        with pytest.raises(DataError, match="would be taken for a class") as error:
            nas.train(NETWORK, data=tmp_path / "images", recipe=RECIPE, out=place, options=FAST)
        assert error.value.field == "out"


@pytest.mark.slow
def test_one_network_of_a_ranking_is_exported_where_it_was_trained(study, data, tmp_path):
    nas.train(study, data=data, recipe=RECIPE, out=tmp_path, top=2, options=FAST)
    folder = next(tmp_path.glob("trial-*"))
    with pytest.raises(ExportError, match="not exported"):
        nas.evaluate(folder, data=data)
    found = nas.train(folder / "architecture.json", data=data, recipe=RECIPE, out=folder, options=FAST)
    assert nas.evaluate(folder, data=data).accuracy == pytest.approx(found.accuracy)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("DefaultCPUAllocator: not enough memory"), TrainingError),
        (RuntimeError("CUDA error: an illegal memory access"), ExecutorError),
        (RuntimeError("a bug"), RuntimeError),
    ],
)
def test_a_plan_says_of_a_failed_step_what_a_training_says(error, expected, data, tmp_path, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(torch.nn.Conv2d, "forward", fail)
    asked = FullTraining(network=NETWORK, data=data, recipe=RECIPE)
    with pytest.raises(expected) as found:
        plan(asked, tmp_path / "r", options=FAST, watcher=Unwatched())
    field = {TrainingError: "batch_size", ExecutorError: "device"}.get(expected)
    assert getattr(found.value, "field", None) == field


# What is trained


def test_the_best_of_a_study_are_trained_and_ranked_and_one_is_tested(study, data, tmp_path):
    found = nas.train(study, data=data, recipe=RECIPE, out=tmp_path, top=3, options=FAST)
    assert len(found.ranking) == 3
    accuracies = [one.best.value for one in found.ranking]
    assert accuracies == sorted(accuracies, reverse=True)
    assert len({one.label for one in found.ranking}) == 3
    assert found.ranking[0] == found.fitted
    assert {one.label for one in found.ranking} == {f"trial {t.number}" for t in study.top(3)}
    assert [*tmp_path.rglob("card.md")] == [tmp_path / "bundle" / "card.md"]
    assert len(json.loads((tmp_path / "ranking.json").read_text())) == 3
    card = (found.bundle / "card.md").read_text(encoding="utf-8")
    hours = sum(one.seconds for one in found.ranking) / 3600
    assert f"| ranking_cost | {hours:.6g} | hours | all 3 trainings of the ranking; " in card
    assert f"| training_cost | {found.fitted.seconds / 3600:.6g} | hours |" in card
    again = nas.train(study, data=data, recipe=RECIPE, out=tmp_path, top=3, options=FAST)
    assert again.ranking == found.ranking


def test_the_first_of_the_best_is_the_recommended_one(study):
    assert study.top(1) == (study.best,)
    assert len({trial.digest for trial in study.top(5)}) == len(study.top(5))


def test_more_networks_than_a_study_has_are_refused(study, data, tmp_path):
    with pytest.raises(StudyError) as error:
        nas.train(study, data=data, recipe=RECIPE, out=tmp_path, top=99, options=FAST)
    assert error.value.field == "top"


def test_a_study_s_own_path_is_a_network_too(study, data, tmp_path):
    (found,) = FullTraining(network=study.folder, data=data, recipe=RECIPE).prepare(tmp_path)
    assert found.start.network.digest == study.best.network.digest
    assert found.start.weights is None


@pytest.mark.parametrize("resolution", [16, 24])
def test_the_images_of_a_study_are_known_at_any_size(study, pack, resolution, tmp_path):
    asked = FullTraining(network=study, data=pack, recipe=RECIPE, resolution=resolution)
    (found,) = asked.prepare(tmp_path)
    assert not any("searched on" in note for note in found.notes)


def test_the_split_of_the_weights_is_asked_for_at_any_size(trained, pack, tmp_path):
    other = ImageSource(spec=pack, carving=Carving(seed=5))
    recipe = nas.RECIPES["fixres"]
    with pytest.raises(DataError, match="must be that of the training of the weights") as error:
        FullTraining(network=trained.bundle, data=other, recipe=recipe, resolution=24).prepare(tmp_path)
    assert error.value.field == "seed"


def test_a_name_is_fitted_to_the_images_and_that_is_said(tmp_path):
    larger = nas.from_arrays(*make_arrays(side=32, count=30))
    (found,) = FullTraining(network="mobilenet_v2", data=larger, recipe=RECIPE).prepare(tmp_path)
    network = found.start.network
    assert (network.resolution, network.num_classes, network.in_channels) == (32, 3, 3)
    assert any("resolution from 224 to 32" in note for note in found.notes)


@pytest.mark.parametrize(
    ("network", "field"), [("no_such_network", "architecture"), ("mobilenet_v3", "architecture")]
)
def test_a_name_that_nothing_has_is_refused(network, field, data, tmp_path):
    with pytest.raises(NasError) as error:
        FullTraining(network=network, data=data).prepare(tmp_path)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("name", "remedy"), [("mobilenet_v2x", "did you mean mobilenet_v2"), ("qq", "the folder of a study")]
)
def test_an_unknown_name_is_refused_with_what_a_user_can_give(name, remedy, data, tmp_path):
    with pytest.raises(NasError, match=remedy) as error:
        FullTraining(network=name, data=data).prepare(tmp_path)
    assert "reference_names()" not in str(error.value)


def test_several_of_what_is_no_study_are_refused(data, tmp_path):
    with pytest.raises(UsageError) as error:
        FullTraining(network=NETWORK, data=data, top=2).prepare(tmp_path)
    assert error.value.field == "top"


def test_nothing_to_train_on_is_an_error(tmp_path):
    with pytest.raises(UsageError) as error:
        FullTraining(network=NETWORK).prepare(tmp_path)
    assert error.value.field == "data"


# The recipe


def test_the_default_recipe_follows_the_resolution_and_can_be_changed(data, tmp_path):
    (found,) = FullTraining(network=NETWORK, data=data, changes={"epochs": 7}).prepare(tmp_path)
    assert (found.recipe.name, found.recipe.epochs) == ("small", 7)
    large = nas.from_arrays(*make_arrays(side=72, count=30))
    (found,) = FullTraining(network=NETWORK, data=large).prepare(tmp_path)
    assert found.recipe.name == "modern"


def test_what_follows_from_few_images_is_said(data, tmp_path):
    (found,) = FullTraining(network=NETWORK, data=data, recipe="small").prepare(tmp_path)
    said = " ".join(found.notes)
    assert "the batch follows the 78 training images: 16" in said
    assert "the peak of the learning rate is" in said


@pytest.mark.parametrize(
    ("changes", "side", "field"),
    [
        ({"train_size": 0.5}, 32, "train_size"),
        ({"stages": 2, "first_size": 0.5}, 32, "first_size"),
        ({}, 16, "resolution"),
    ],
)
def test_training_sizes_that_a_network_cannot_take_are_refused(changes, side, field, tmp_path):
    data = nas.from_arrays(*make_arrays(side=side, count=30))
    with pytest.raises(RecipeError) as error:
        FullTraining(network="mobilenet_v2", data=data, changes=changes).prepare(tmp_path)
    assert error.value.field == field


def test_a_batch_that_has_no_equal_shares_is_refused(data, tmp_path):
    with pytest.raises(RecipeError) as error:
        FullTraining(network=NETWORK, data=data, recipe="small").prepare(tmp_path, workers=3)
    assert error.value.field == "batch_size"


# Weights to start from


def test_fixres_trains_the_classifier_and_the_last_statistics_alone(trained, tmp_path):
    larger = nas.from_arrays(*make_arrays(), classes=("red", "green", "blue"))
    found = nas.train(
        trained.folder,
        data=larger,
        recipe=nas.RECIPES["fixres"].changed(epochs=2),
        out=tmp_path,
        options=FAST,
    )
    before, after = (load_file(one.bundle / "weights.safetensors") for one in (trained, found))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    last_norm = max(name.rpartition(".")[0] for name in before if name.startswith("head.norm"))
    assert changed <= {
        "head.classifier.weight",
        "head.classifier.bias",
        *(f"{last_norm}.{part}" for part in ("running_mean", "running_var", "num_batches_tracked")),
    }
    assert {"head.classifier.weight", f"{last_norm}.running_mean"} <= changed


def test_a_recipe_that_starts_from_weights_needs_some(data, tmp_path):
    with pytest.raises(TrainingError, match="has none") as error:
        FullTraining(network=NETWORK, data=data, recipe="finetune").prepare(tmp_path)
    assert error.value.field == "weights"


def test_weights_that_are_not_used_are_said_and_those_of_a_study_go_without_saying(
    trained, study, data, tmp_path
):
    (bundle,) = FullTraining(network=trained.folder, data=data, recipe=RECIPE).prepare(tmp_path)
    (kept,) = FullTraining(network=trained.folder, data=data, recipe="finetune").prepare(tmp_path)
    (trial,) = FullTraining(network=study, data=data, recipe=RECIPE).prepare(tmp_path)
    is_said = [any("are not used" in note for note in one.notes) for one in (bundle, kept, trial)]
    assert is_said == [True, False, False]


def test_an_unknown_normalisation_of_weights_is_said(trained, data, tmp_path):
    weights = load_file(trained.bundle / "weights.safetensors")
    (found,) = FullTraining(network=NETWORK, data=data, recipe="finetune", weights=weights).prepare(tmp_path)
    (known,) = FullTraining(network=trained.folder, data=data, recipe="finetune").prepare(tmp_path)
    assert [any("is not known" in note for note in one.notes) for one in (found, known)] == [True, False]


def test_weights_are_taken_from_where_they_are_given(trained, data, tmp_path):
    given = FullTraining(network=NETWORK, data=data, recipe="small", weights=trained.folder)
    (found,) = given.prepare(tmp_path)
    expected = load_file(trained.bundle / "weights.safetensors")
    assert found.start.weights is not None
    assert all(torch.equal(found.start.weights[name], expected[name]) for name in expected)
    file = trained.bundle / "weights.safetensors"
    for source in (file, expected):
        (same,) = replace(given, weights=source).prepare(tmp_path)
        assert same.identity == {**found.identity, "normalisation": same.identity["normalisation"]}


@pytest.mark.parametrize("hidden", [0, 24, 48])
@pytest.mark.parametrize("is_reversed", [False, True])
def test_the_classes_of_weights_are_known_whatever_the_order_of_the_tensors(hidden, is_reversed):
    """A hidden layer before the classifier is a matrix too (MobileNetV3)."""
    network = replace(NETWORK, num_classes=7, head=Head(channels=48, hidden=hidden))
    weights = [*build(network, seed=3).state_dict().items()]
    start = find_start(replace(network, num_classes=3))
    found = with_weights(start, dict(reversed(weights) if is_reversed else weights))
    assert found.network.num_classes == 7
    assert all(torch.equal(found.weights[name], tensor) for name, tensor in weights)


def test_weights_of_a_pickle_are_read_without_running_it(trained, data, tmp_path):
    state = load_file(trained.bundle / "weights.safetensors")
    torch.save(state, tmp_path / "w.pt")
    asked = FullTraining(network=NETWORK, data=data, recipe="finetune", weights=tmp_path / "w.pt")
    (found,) = asked.prepare(tmp_path / "out")
    assert found.start.weights is not None
    torch.save({"model": NETWORK}, tmp_path / "bad.pt")
    with pytest.raises(TrainingError) as error:
        replace(asked, weights=tmp_path / "bad.pt").prepare(tmp_path / "out")
    assert error.value.field == "weights"


@pytest.mark.parametrize("content", [b"", b"\0" * 30, b"{}"])
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_weights_that_cannot_be_read_are_refused(content, name, data, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainingError) as error:
        FullTraining(network=NETWORK, data=data, recipe="finetune", weights=tmp_path / name).prepare(tmp_path)
    assert error.value.field == "weights"


def test_weights_of_another_network_are_refused(trained, data, tmp_path):
    with pytest.raises(TrainingError) as error:
        FullTraining(network="mobilenet_v2", data=data, recipe="finetune", weights=trained.folder).prepare(
            tmp_path
        )
    assert error.value.field == "weights"


@pytest.mark.parametrize("arrays", [{"classes": 2}, {"channels": 1, "classes": 3}])
def test_fixres_refuses_weights_for_other_classes_or_channels_than_the_images_have(arrays, trained, tmp_path):
    images, labels = make_arrays(classes=arrays["classes"], channels=3)
    images = images[:, :, :, :1] if arrays.get("channels") == 1 else images
    with pytest.raises(TrainingError, match="must be for") as error:
        FullTraining(network=trained.folder, data=nas.from_arrays(images, labels), recipe="fixres").prepare(
            tmp_path
        )
    assert error.value.field == "weights"


def test_weights_for_the_same_classes_in_another_order_are_refused(trained, tmp_path):
    data = nas.from_arrays(*make_arrays(), classes=("blue", "green", "red"))
    with pytest.raises(TrainingError, match="in their order") as error:
        FullTraining(network=trained.folder, data=data, recipe="finetune").prepare(tmp_path)
    assert error.value.field == "weights"


def test_images_are_normalised_as_the_weights_were_trained(trained, tmp_path):
    images, labels = make_arrays()
    dark = nas.from_arrays(images // 2, labels, classes=("red", "green", "blue"))
    (found,) = FullTraining(network=trained.folder, data=dark, recipe="linear_probe").prepare(tmp_path)
    known = nas.from_arrays(images, labels, classes=("red", "green", "blue"))
    assert (found.data.mean, found.data.std) == (known.mean, known.std) != (dark.mean, dark.std)
    (fresh,) = FullTraining(network=trained.folder, data=dark, recipe="small").prepare(tmp_path)
    assert fresh.data.mean == dark.mean


@pytest.mark.slow
def test_a_split_that_would_test_on_what_the_weights_have_seen_is_refused(pack, tmp_path):
    first = nas.train(NETWORK, data=pack, recipe=RECIPE, out=tmp_path / "a", options=FAST)
    source = ImageSource(spec=pack, carving=Carving(seed=3))
    with pytest.raises(DataError, match="must be that of the training of the weights"):
        FullTraining(network=first.folder, data=source, recipe="fixres").prepare(tmp_path / "b")
    (found,) = FullTraining(network=first.folder, data=pack, recipe="fixres", resolution=20).prepare(tmp_path)
    assert found.data.resolution == found.start.network.resolution == 20


@pytest.mark.slow
def test_the_split_of_a_bundle_is_kept_where_none_is_said(pack, tmp_path):
    source = ImageSource(spec=pack, carving=Carving(seed=3, search_fraction=0.3))
    first = nas.train(NETWORK, data=source, recipe=RECIPE, out=tmp_path / "a", options=FAST)
    (found,) = FullTraining(network=first.folder, data=pack, recipe="fixres").prepare(tmp_path / "b")
    assert found.data.carving == Carving(seed=3, search_fraction=0.3)


# Images


@pytest.mark.parametrize("split", ["search", "test"])
def test_an_empty_split_is_refused(split, data, tmp_path):
    empty = data.split(split).take(np.empty(0, dtype=np.int64))
    with pytest.raises(DataError, match=split) as error:
        FullTraining(network=NETWORK, data=replace(data, **{split: empty})).prepare(tmp_path)
    assert error.value.field == "data"


def test_a_class_without_a_training_image_is_refused():
    images, labels = make_arrays()
    classes = ("red", "green", "blue", "yellow")
    with pytest.raises(DataError, match="yellow"):
        nas.from_arrays(images, labels, classes=classes)


def test_loaded_images_have_one_resolution(data, tmp_path):
    with pytest.raises(DataError) as error:
        FullTraining(network=NETWORK, data=data, resolution=20).prepare(tmp_path)
    assert error.value.field == "resolution"


def test_the_resolution_of_files_is_the_network_s_unless_another_is_given(pack, tmp_path):
    (own,) = FullTraining(network=replace(NETWORK, resolution=24), data=pack).prepare(tmp_path)
    (given,) = FullTraining(network=NETWORK, data=pack, resolution=20).prepare(tmp_path)
    assert (own.data.resolution, given.data.resolution) == (24, 20)


# How it is run


class Recorded(Unwatched):
    def __init__(self):
        self.plans = []
        self.progresses = []

    def on_plan(self, plan):
        self.plans.append(plan)

    def on_progress(self, progress):
        self.progresses.append(progress)


@pytest.mark.slow
def test_a_training_says_before_it_begins_what_it_will_take(data, tmp_path):
    watcher = Recorded()
    found = nas.train(NETWORK, data=data, recipe=RECIPE, out=tmp_path, options=FAST, watcher=watcher)
    (plan,) = watcher.plans
    assert plan.steps == RECIPE.steps(len(data.train)) == watcher.progresses[-1].step
    assert plan.seconds > 0
    assert plan.memory_bytes > found.fitted.params * 4
    assert [progress.row for progress in watcher.progresses if progress.row is not None] == [*found.rows]


@pytest.mark.slow
def test_measuring_does_not_change_what_is_trained(data, tmp_path, trained):
    again = nas.train(NETWORK, data=data, recipe=RECIPE, out=tmp_path, options=FAST, watcher=Recorded())
    assert again.rows[-1].loss == trained.rows[-1].loss


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"workers": 0}, "workers"),
        ({"checkpoint_steps": 0}, "checkpoint_steps"),
        ({"checkpoint_minutes": 0}, "checkpoint_minutes"),
        ({"evaluate_every": -1}, "evaluate_every"),
        ({"sync_batch_norm": True}, "sync_batch_norm"),
    ],
)
def test_options_out_of_range_are_refused(options, field):
    with pytest.raises(UsageError) as error:
        nas.TrainOptions(**options)
    assert error.value.field == field


# The command


def run_command(*words, capsys):
    code = main(["train", *map(str, words)])
    return code, capsys.readouterr()


def test_the_command_trains_and_prints_json(pack, tmp_path, capsys):
    (tmp_path / "net.json").write_text(NETWORK.to_json())
    words = (
        "--data",
        pack,
        "--recipe",
        "small",
        "--epochs",
        1,
        "--no-onnx",
        "--out",
        tmp_path / "r",
        "--json",
    )
    code, printed = run_command(tmp_path / "net.json", *words, capsys=capsys)
    found = json.loads(printed.out)
    assert code == 0
    assert found["accuracy"] == json.loads((tmp_path / "r" / "result.json").read_text())["accuracy"]
    assert "epoch 1/1" in printed.err
    code, printed = run_command(tmp_path / "net.json", *words, capsys=capsys)
    assert json.loads(printed.out)["accuracy"] == found["accuracy"]


def test_a_dry_run_writes_nothing(pack, tmp_path, capsys):
    (tmp_path / "net.json").write_text(NETWORK.to_json())
    words = ("--data", pack, "--out", tmp_path / "r", "--dry-run", "--json")
    code, printed = run_command(tmp_path / "net.json", *words, capsys=capsys)
    (plan,) = json.loads(printed.out)
    assert code == 0
    assert plan["recipe"] == "small"
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--recipe", "smal"),
        ("--recipe", "nothere.toml"),
        ("--recipe", "small", "--epochs", "0"),
        ("--recipe", "small", "--optimizer", "sgdd"),
        ("--resolution", "3"),
        ("--top", "2"),
        ("--weights", "nothere"),
        ("--device", "tpu"),
        ("--search-fraction", "0"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_writes_nothing(words, pack, tmp_path, capsys):
    (tmp_path / "net.json").write_text(NETWORK.to_json())
    code, printed = run_command(
        tmp_path / "net.json", "--data", pack, "--out", tmp_path / "r", *words, capsys=capsys
    )
    assert code == 2
    assert printed.err.splitlines()[-1].startswith("nas: ")
    assert "Traceback" not in printed.err
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_two_workers_learn_what_one_process_learns(trained, data, tmp_path):
    recipe = nas.RECIPES["linear_probe"].changed(epochs=3, batch_size=26, precision="float32")

    def losses(workers):
        found = nas.train(
            trained.folder,
            data=data,
            recipe=recipe,
            out=tmp_path / str(workers),
            options=replace(FAST, workers=workers),
        )
        return [row.loss for row in found.rows], [row.value for row in found.rows], found.accuracy

    one, two = losses(1), losses(2)
    assert two[0] == pytest.approx(one[0], rel=1e-4)
    assert two[1:] == one[1:]


@pytest.mark.parametrize(
    "words", [("--fit", "pad"), ("--search-fraction", "0.3"), ("--split-seed", "0"), ("--data-root", "x")]
)
def test_how_images_are_read_is_refused_where_the_study_says_which_they_are(words, study, tmp_path, capsys):
    code, printed = run_command(study.folder, "--out", tmp_path / "r", *words, capsys=capsys)
    assert code == 2
    assert "give both, or leave it out" in printed.err
