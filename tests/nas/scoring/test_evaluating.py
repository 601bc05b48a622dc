"""A bundle is scored on the images and the split of its training, as they were read then."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.metrics import accuracy_score

import nas
from nas.data.loading import load_data
from nas.errors import DataError, ExecutorError, ExportError, UsageError
from nas.export.opened import open_bundle
from nas.export.preprocessing import Preprocessing
from nas.scoring.readings import HEADING
from nas.training.accuracy import evaluate_accuracy

from .conftest import CLASSES, SIDE, make_bundle, preprocessing_of, write_classes, write_image


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


@pytest.mark.parametrize("split", ["train", "search", "test"])
def test_accuracy_is_that_of_the_training_on_the_same_split(copied, photos, split):
    data = load_data(photos, resolution=SIDE, seed=5)
    expected = evaluate_accuracy(open_bundle(copied).module(), data, split, device="cpu")
    scores = nas.evaluate(copied, data=photos, split=split, device="cpu")
    assert scores.accuracy == expected
    assert scores.images == len(data.split(split))
    assert scores.split == split


def test_loaded_data_and_a_path_give_the_same_predictions(copied, photos):
    from_path = nas.evaluate(copied, data=photos)
    from_data = nas.evaluate(copied, data=load_data(photos, resolution=SIDE, seed=5))
    assert np.array_equal(from_path.predictions.classes, from_data.predictions.classes)
    assert [from_path.image(row).name for row in range(from_path.images)] == [
        from_data.image(row).name for row in range(from_data.images)
    ]


def test_onnx_predictions_as_torch_does_in_any_batch_size(copied, photos):
    torch_scores = nas.evaluate(copied, data=photos, split="all")
    for batch_size in (1, 5, 100):
        scores = nas.evaluate(copied, data=photos, split="all", runtime="onnx", batch_size=batch_size)
        assert scores.runtime == "ONNX Runtime on cpu"
        assert np.array_equal(scores.predictions.classes[:, 0], torch_scores.predictions.classes[:, 0])
        assert np.allclose(
            scores.predictions.probabilities, torch_scores.predictions.probabilities, atol=1e-5
        )


def test_every_prediction_is_of_the_image_it_is_named_for(copied, photos):
    scores = nas.evaluate(copied, data=photos, split="all")
    predicted = {Path(one.file): one for one in nas.predict(copied, photos)}
    assert len(predicted) == scores.images == 6 * len(CLASSES)
    for row in range(scores.images):
        one = scores.image(row)
        assert one.label == Path(one.name).parent.name
        assert one.prediction == predicted[photos / one.name].label
        assert one.probability == pytest.approx(predicted[photos / one.name].probability, abs=1e-6)


def test_same_split_is_not_warned_of_and_another_is(copied, photos):
    assert not any("training" in one for one in nas.evaluate(copied, data=photos).warnings)
    for given in ({"seed": 6}, {"test_fraction": 0.4}):
        warnings = nas.evaluate(copied, data=photos, **given).warnings
        assert any(
            "test split is not that of the training, which was carved with seed 5" in w for w in warnings
        )


def test_training_images_are_warned_of(copied, photos):
    for split in ("train", "all"):
        warnings = nas.evaluate(copied, data=photos, split=split).warnings
        assert any("was trained on" in one for one in warnings)


def test_other_images_are_warned_of_where_their_split_is_carved_alone(copied, tmp_path):
    folder = write_classes(tmp_path / "others", count=5)
    warnings = nas.evaluate(copied, data=folder).warnings
    assert any("--split all scores all of them" in one for one in warnings)
    assert not any("--split all" in one for one in nas.evaluate(copied, data=folder, split="all").warnings)


def test_bundle_that_does_not_say_what_it_was_trained_on_warns(photos, tmp_path):
    folder = make_bundle(tmp_path / "old", preprocessing_of())
    warnings = nas.evaluate(folder, data=photos).warnings
    assert any("does not say which images it was trained on" in one for one in warnings)


def test_classes_in_another_order_are_matched_by_name(tmp_path, photos):
    folder = make_bundle(tmp_path / "bundle", preprocessing_of(classes=[*reversed(CLASSES)]))
    scores = nas.evaluate(folder, data=photos, split="all")
    labels = [scores.image(row).label for row in range(scores.images)]
    assert labels == [Path(scores.part.name(row)).parent.name for row in range(scores.images)]
    assert scores.accuracy == accuracy_score(
        labels, [scores.image(row).prediction for row in range(scores.images)]
    )
    assert any("another order" in note for note in scores.notes)


def test_class_that_the_images_lack_has_no_support_and_averages_say_so(copied, tmp_path):
    scores = nas.evaluate(copied, data=write_classes(tmp_path / "few", classes=("dog", "ant")), split="all")
    assert [one.support for one in scores.per_class] == [6, 0, 0, 6, 0, 0, 0]
    recalls = [one.recall for one in scores.per_class if one.recall is not None]
    assert scores.balanced_accuracy == pytest.approx(sum(recalls) / 2)
    assert any("5 of 7 classes have no image" in note for note in scores.notes)


def test_class_that_the_network_does_not_know_is_refused(copied, tmp_path):
    folder = write_classes(tmp_path / "wrong", classes=("ant", "yak"))
    with pytest.raises(DataError, match="yak of wrong is none of its 7") as caught:
        nas.evaluate(copied, data=folder, split="all")
    assert caught.value.field == "data"


def test_numbered_classes_of_a_pack_are_refused_with_the_remedy(copied, tmp_path):
    pack = tmp_path / "pack.npz"
    np.savez(pack, test_images=np.zeros((4, SIDE, SIDE, 3), np.uint8), test_labels=[0, 1, 2, 3])
    with pytest.raises(DataError, match="name the classes of the pack or arrays in `classes`"):
        nas.evaluate(copied, data=pack)


def test_accents_written_in_two_ways_are_one_class(tmp_path):
    folder = make_bundle(tmp_path / "bundle", preprocessing_of(classes=["caf\u00e9", "t\u00e9", "x"]))
    data = write_classes(tmp_path / "photos", classes=("cafe\u0301", "x"))
    assert nas.evaluate(folder, data=data, split="all").per_class[0].support == 6


def test_deep_grey_images_reach_the_network_with_the_pixels_of_its_training(tmp_path):
    def write(folder: Path, greatest: int) -> Path:
        for place, name in enumerate(("a", "b")):
            for number in range(5):
                path = folder / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                rng = np.random.default_rng(10 * place + number)
                pixels = rng.integers(0, greatest, size=(SIDE, SIDE), dtype=np.uint16)
                Image.fromarray(pixels).save(path)
        return folder

    trained_on = load_data(write(tmp_path / "bright", 4096), resolution=SIDE)
    folder = make_bundle(tmp_path / "bundle", Preprocessing.of(trained_on))
    dark = write(tmp_path / "dark", 1000)  # of themselves, these would be read as 10 bits
    scores = nas.evaluate(folder, data=dark, split="all")
    assert trained_on.reading.bits == 12
    for index in range(len(scores.part)):
        raw = np.asarray(Image.open(dark / scores.part.name(index))).astype(np.int64)
        assert np.array_equal(scores.part.images[index, 0], raw >> 4)


def test_images_that_cannot_be_read_are_named_and_do_not_count(copied, tmp_path):
    folder = write_classes(tmp_path / "photos")
    for number in (0, 1, 2):
        (folder / "cat" / f"{number}.png").write_bytes(b"broken")
    scores = nas.evaluate(copied, data=folder, split="all")
    assert [one.name for one in scores.unreadable] == ["cat/0.png", "cat/1.png", "cat/2.png"]
    assert scores.images == 6 * len(CLASSES) - 3
    assert any("skipped 3 of 42" in one for one in scores.warnings)


def test_split_that_cannot_be_carved_names_all(copied, tmp_path):
    with pytest.raises(DataError, match="choose the split all") as caught:
        nas.evaluate(copied, data=write_classes(tmp_path / "few", count=2))
    assert caught.value.field == "split"


def test_reading_the_test_split_adds_a_row_to_the_card_and_others_do_not(copied, photos):
    before = (copied / "card.md").read_text(encoding="utf-8")
    files = {path.name for path in copied.iterdir()}
    nas.evaluate(copied, data=photos, split="search")
    assert (copied / "card.md").read_text(encoding="utf-8") == before
    first = nas.evaluate(copied, data=photos)
    nas.evaluate(copied, data=photos, runtime="onnx")
    after = (copied / "card.md").read_text(encoding="utf-8")
    assert after.startswith(before.rstrip())
    rows = after.partition(HEADING)[2].strip().splitlines()[-2:]
    assert f"{first.accuracy:.4f}" in rows[0]
    assert "torch on cpu" in rows[0]
    assert "ONNX Runtime on cpu" in rows[1]
    assert {path.name for path in copied.iterdir()} == files
    open_bundle(copied).module()


def test_card_that_cannot_be_written_is_warned_of(copied, photos):
    (copied / "card.md").unlink()
    scores = nas.evaluate(copied, data=photos)
    assert any("could not be written into" in one for one in scores.warnings)


def test_weights_that_are_not_numbers_are_refused_before_images_are_read(copied, photos):
    weights = load_file(copied / "weights.safetensors")
    next(tensor for tensor in weights.values() if tensor.is_floating_point())[0] = torch.nan
    save_file(weights, copied / "weights.safetensors")
    with pytest.raises(ExportError, match="must be finite"):
        nas.evaluate(copied, data=photos)


@pytest.mark.parametrize(
    ("given", "error", "field"),
    [
        ({"runtime": "tflite"}, UsageError, "runtime"),
        ({"device": "tpu"}, ExecutorError, "device"),
        ({"device": "tpu", "runtime": "onnx"}, ExecutorError, "device"),
        ({"batch_size": 0}, UsageError, "batch_size"),
        ({"split": "dev"}, DataError, "split"),
        ({"seed": -1}, DataError, "seed"),
        ({"test_fraction": 1.5}, DataError, "test_fraction"),
        ({"data": "nowhere/at/all"}, DataError, "data"),
    ],
)
def test_wrong_argument_is_named(copied, photos, given, error, field):
    with pytest.raises(error) as caught:
        nas.evaluate(copied, **{"data": photos, **given})
    assert caught.value.field == field


def test_onnx_needs_an_onnx_file_that_loads_and_is_of_the_network(copied, photos, tmp_path):
    path = copied / "model.onnx"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ExportError, match="cannot be loaded"):
        nas.evaluate(copied, data=photos, runtime="onnx")
    other = make_bundle(tmp_path / "other", preprocessing_of(classes=["a", "b"]), with_onnx=True)
    shutil.copy(other / "model.onnx", path)
    with pytest.raises(ExportError, match="files of two bundles were mixed"):
        nas.evaluate(copied, data=photos, runtime="onnx")
    path.unlink()
    with pytest.raises(ExportError, match="lacks") as caught:
        nas.evaluate(copied, data=photos, runtime="onnx")
    assert caught.value.field == "runtime"


def test_bundle_remembers_which_images_it_was_trained_on(bundle, photos):
    data = load_data(photos, resolution=SIDE, seed=5)
    known = open_bundle(bundle).required_preprocessing().trained_on
    assert known is not None
    assert (known.data, known.split, known.carving) == (
        data.content_digest,
        data.split_fingerprint,
        data.carving,
    )


def test_images_left_on_disk_are_scored_as_those_in_memory(copied, photos):
    held = nas.evaluate(copied, data=load_data(photos, resolution=SIDE, seed=5))
    streamed = nas.evaluate(
        copied, data=load_data(photos, resolution=SIDE, seed=5, resident_bytes=0), batch_size=4
    )
    assert np.array_equal(held.predictions.classes[:, 0], streamed.predictions.classes[:, 0])
    assert held.confusion.tolist() == streamed.confusion.tolist()


def test_image_that_vanishes_after_loading_is_named(copied, tmp_path):
    folder = write_classes(tmp_path / "photos")
    data = load_data(folder, resolution=SIDE, resident_bytes=0)
    gone = data.test.name(0)
    (folder / gone).unlink()
    scores = nas.evaluate(copied, data=data)
    assert [one.name for one in scores.unreadable] == [gone]
    assert scores.images == len(data.test) - 1
    write_image(folder / gone, 1)
    for index in range(len(data.test)):
        (folder / data.test.name(index)).unlink()
    with pytest.raises(DataError, match="none of the 7 images of the test split"):
        nas.evaluate(copied, data=data)


def test_bundle_for_another_size_than_it_was_trained_at_knows_its_images(photos, tmp_path):
    data = load_data(photos, resolution=2 * SIDE, seed=5)
    facts = json.loads(Preprocessing.of(data).to_json())
    folder = make_bundle(
        tmp_path / "bundle", Preprocessing.from_json(json.dumps({**facts, "resolution": SIDE}))
    )
    assert not any("training" in one for one in nas.evaluate(folder, data=photos).warnings)
