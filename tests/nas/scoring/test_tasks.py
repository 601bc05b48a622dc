"""Bundles for labels and for numbers are evaluated and predicted with, from Python and the command line."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nas
from nas.cli.main import main
from nas.data.loading import from_arrays
from nas.errors import DataError, ExportError, UsageError
from nas.export.opened import open_bundle
from nas.export.preprocessing import Preprocessing
from nas.scoring.readings import HEADING

from .conftest import COLUMNS, LABELS, SIDE, label_data, levels, make_bundle, number_data, write_image


@pytest.fixture
def labels_copy(labels_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(labels_bundle, tmp_path / "labels"))


@pytest.fixture
def numbers_copy(numbers_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(numbers_bundle, tmp_path / "numbers"))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return write_image(tmp_path / "photo.png", 1)


def write_pack(path: Path, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Path:
    np.savez(path, test_images=images, test_labels=labels, classes=np.array(classes))
    return path


def run_json(capsys, *words) -> dict:
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_bundle_takes_its_task_from_the_data(labels_bundle, numbers_bundle):
    labels = open_bundle(labels_bundle).required_preprocessing()
    assert (labels.task, labels.classes, labels.target_mean) == ("multilabel", LABELS, ())
    data = number_data()
    numbers = open_bundle(numbers_bundle).required_preprocessing()
    assert (numbers.task, numbers.classes) == ("regression", COLUMNS)
    assert (numbers.target_mean, numbers.target_std) == (data.target_mean, data.target_std)


def test_labels_are_scored_as_predict_predicts_them(labels_copy, tmp_path):
    data = label_data()
    scores = nas.evaluate(labels_copy, data=data, split="all")
    assert isinstance(scores, nas.MultilabelScores)
    assert (scores.task, scores.images) == ("multilabel", 60)
    for row in (0, 30, 59):
        pixels = scores.part.images[int(scores.predictions.places[row])].transpose(1, 2, 0)
        Image.fromarray(pixels).save(tmp_path / "one.png")
        (one,) = nas.predict(labels_copy, tmp_path / "one.png")
        assert isinstance(one, nas.MultilabelPrediction)
        assert set(one.labels) == set(scores.image(row).predictions)
        found = dict(zip(one.classes, one.probabilities, strict=True))
        assert [found[name] for name in LABELS] == pytest.approx(scores.image(row).probabilities, abs=1e-6)


def test_numbers_are_scored_in_their_own_unit_as_predict_predicts_them(numbers_copy, tmp_path):
    data = number_data()
    scores = nas.evaluate(numbers_copy, data=data, split="all")
    assert isinstance(scores, nas.RegressionScores)
    assert scores.per_column[0].mean == pytest.approx(
        np.concatenate([data.train.labels, data.search.labels, data.test.labels])[:, 0].mean(), rel=1e-5
    )
    pixels = scores.part.images[int(scores.predictions.places[7])].transpose(1, 2, 0)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    (one,) = nas.predict(numbers_copy, tmp_path / "one.png")
    assert isinstance(one, nas.RegressionPrediction)
    assert (one.columns, one.value) == (COLUMNS, one.values[0])
    assert one.values == pytest.approx(scores.image(7).predictions, rel=1e-4)
    logits = np.array([scores.predictions.logits[7]], float)
    assert one.values == pytest.approx((logits * data.target_std + data.target_mean)[0], rel=1e-4)


def test_columns_in_another_order_are_matched_by_name(numbers_copy, labels_copy, tmp_path):
    for folder, data, names in (
        (numbers_copy, number_data(), COLUMNS),
        (labels_copy, label_data(), LABELS),
    ):
        direct = nas.evaluate(folder, data=data)
        pack = write_pack(
            tmp_path / f"{names[0]}.npz",
            data.test.images.transpose(0, 2, 3, 1),
            data.test.labels[:, ::-1],
            names[::-1],
        )
        turned = nas.evaluate(folder, data=pack)
        assert turned.headline == direct.headline
        assert any("in another order than the network" in note for note in turned.notes)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (("red", "green", "violet"), "violet of p is none of its 3"),
        (("red", "green"), "lacks blue: add it to the labels"),
    ],
)
def test_unknown_and_missing_labels_are_refused(labels_copy, tmp_path, names, match):
    images, _ = levels(6)
    labels = np.ones((6, len(names)), np.float32)
    labels[0] = 0
    data = write_pack(tmp_path / "p.npz", images, labels, names)
    with pytest.raises(DataError, match=match) as caught:
        nas.evaluate(labels_copy, data=data)
    assert caught.value.field == "data"


def test_unknown_label_that_no_image_has_is_left_out(labels_copy, tmp_path):
    images, _ = levels(6)
    labels = np.zeros((6, 4), np.float32)
    labels[:3, 1] = 1
    data = write_pack(tmp_path / "p.npz", images, labels, ("violet", *LABELS))
    scores = nas.evaluate(labels_copy, data=data)
    assert [one.support for one in scores.per_label] == [3, 0, 0]
    assert any("2 of 3 labels have no image here (green, blue)" in note for note in scores.notes)


def test_missing_and_unknown_columns_of_numbers_are_refused(numbers_copy, tmp_path):
    images, _ = levels(6)
    numbers = np.random.default_rng(0).normal(size=(6, 2))
    for names, match in ((("brightness", "x"), "x of p is none"), (("brightness",), "lacks warmth")):
        data = write_pack(tmp_path / "p.npz", images, numbers[:, : len(names)], names)
        with pytest.raises(DataError, match=match):
            nas.evaluate(numbers_copy, data=data)


def test_labels_for_another_task_are_refused_with_the_remedy(labels_copy, bundle, photos):
    for folder, data in ((labels_copy, photos), (labels_copy, number_data()), (bundle, label_data())):
        with pytest.raises(DataError, match="or the bundle of a network for these labels") as e:
            nas.evaluate(folder, data=data)
        assert e.value.field == "data"


def test_whole_numbers_are_scored_as_numbers_where_the_network_says_so(tmp_path):
    images, colours = levels(40)
    data = from_arrays(images, colours[:, 0].astype(np.int64), task="regression", classes=("level",))
    folder = make_bundle(tmp_path / "bundle", Preprocessing.of(data))
    pack = write_pack(tmp_path / "p.npz", images[:9], colours[:9, 0].astype(np.int64), ("level",))
    assert nas.evaluate(folder, data=pack).per_column[0].mean == pytest.approx(colours[:9, 0].mean())


def test_untrained_network_is_warned_of(labels_copy, numbers_copy):
    assert any(
        "no better than by the mean" in one for one in nas.evaluate(numbers_copy, data=number_data()).warnings
    )
    labels = nas.evaluate(labels_copy, data=label_data(), split="all")
    assert labels.warnings


def test_reading_the_test_split_adds_a_row_with_the_scores_of_the_task(labels_copy, numbers_copy):
    for folder, data in ((labels_copy, label_data()), (numbers_copy, number_data())):
        scores = nas.evaluate(folder, data=data)
        section = (folder / "card.md").read_text(encoding="utf-8").partition(HEADING)[2].splitlines()
        header, row = section[-3], section[-1]
        for name, value in scores.headline:
            assert f" {name} " in header
            assert f" {value} " in row


def test_top_and_threshold_choose_labels(labels_bundle, photo):
    (every,) = nas.predict(labels_bundle, photo)
    (two,) = nas.predict(labels_bundle, photo, top=2)
    assert set(every.classes) == set(LABELS)
    assert two.classes == every.classes[:2]
    assert list(every.probabilities) == sorted(every.probabilities, reverse=True)
    (all_of_them,) = nas.predict(labels_bundle, photo, threshold=0.0)
    (none,) = nas.predict(labels_bundle, photo, threshold=1.0)
    assert (all_of_them.labels, none.labels) == (every.classes, ())
    (exactly,) = nas.predict(labels_bundle, photo, threshold=every.probabilities[1])
    assert exactly.labels == every.classes[:2]


@pytest.mark.parametrize(
    ("name", "given", "field"),
    [
        ("numbers_bundle", {"top": 2}, "top"),
        ("numbers_bundle", {"threshold": 0.5}, "threshold"),
        ("bundle", {"threshold": 0.5}, "threshold"),
        ("labels_bundle", {"threshold": 1.5}, "threshold"),
        ("labels_bundle", {"top": 0}, "top"),
    ],
)
def test_options_of_another_task_are_refused(request, photo, name, given, field):
    with pytest.raises(UsageError) as caught:
        nas.predict(request.getfixturevalue(name), photo, **given)
    assert caught.value.field == field


def test_predict_prints_and_writes_labels(labels_copy, tmp_path, capsys):
    for number in range(3):
        write_image(tmp_path / "in" / f"{number}.png", number)
    table = tmp_path / "labels.csv"
    found = run_json(capsys, "predict", labels_copy, tmp_path / "in", "--csv", table)
    rows = [*csv.DictReader(table.open(encoding="utf-8", newline=""))]
    assert list(rows[0]) == ["file", "labels", *LABELS]
    for row, one in zip(rows, found["predictions"], strict=True):
        assert row["labels"] == "|".join(one["labels"])
        assert float(row["red"]) == pytest.approx(one["probabilities"]["red"], abs=1e-6)
    assert found["task"] == "multilabel"
    assert main(["predict", str(labels_copy), str(tmp_path / "in"), "--threshold", "0.9"]) == 0
    out = capsys.readouterr().out
    assert "below the threshold" in out
    assert "(no label)" in out
    assert main(["predict", str(labels_copy), str(tmp_path / "in"), "--top", "1", "--csv", str(table)]) == 0
    rows = [*csv.DictReader(table.open(encoding="utf-8", newline=""))]
    assert [sum(row[name] != "" for name in LABELS) for row in rows] == [1, 1, 1]


def test_predict_prints_and_writes_numbers(numbers_copy, tmp_path, capsys):
    for number in range(3):
        write_image(tmp_path / "in" / f"{number}.png", number)
    table = tmp_path / "numbers.csv"
    found = run_json(capsys, "predict", numbers_copy, tmp_path / "in", "--csv", table)
    rows = [*csv.DictReader(table.open(encoding="utf-8", newline=""))]
    assert list(rows[0]) == ["file", *COLUMNS]
    for row, one in zip(rows, found["predictions"], strict=True):
        assert [float(row[name]) for name in COLUMNS] == pytest.approx([*one["values"].values()], rel=1e-6)
    means = {one["column"]: one["mean"] for one in found["summary"]}
    assert means["warmth"] == pytest.approx(np.mean([float(row["warmth"]) for row in rows]), rel=1e-5)
    assert main(["predict", str(numbers_copy), str(tmp_path / "in"), "--top", "2"]) == 2
    assert "top chooses the likeliest" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "data", "keys"),
    [
        (
            "labels_copy",
            label_data,
            {
                "mean_average_precision",
                "label_frequency",
                "micro_f1",
                "exact_match",
                "hamming_loss",
                "per_label",
            },
        ),
        ("numbers_copy", number_data, {"r2", "rmse", "mae", "per_column", "residuals"}),
    ],
)
def test_evaluate_prints_writes_and_draws_every_task(request, tmp_path, capsys, name, data, keys):
    folder, data = request.getfixturevalue(name), data()
    pack = write_pack(
        tmp_path / "p.npz", data.test.images.transpose(0, 2, 3, 1), data.test.labels, data.classes
    )
    table, picture = tmp_path / "p.csv", tmp_path / "p.png"
    found = run_json(capsys, "evaluate", folder, "--data", pack, "--csv", table, "--png", picture)
    assert keys <= set(found)
    assert (found["task"], found["images"], found["classes"]) == (data.task, len(data.test), [*data.classes])
    rows = [*csv.DictReader(table.open(encoding="utf-8", newline=""))]
    assert len(rows) == len(data.test)
    truth = [[float(row[f"{one}_true"]) for one in data.classes] for row in rows]
    assert np.allclose(truth, data.test.labels, rtol=1e-6)
    assert Image.open(picture).width > 1000
    assert main(["evaluate", str(folder), "--data", str(pack), "--top", "2"]) == 0
    assert "more" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"task": "detection"}, "task"),
        ({"task": "regression"}, "target_mean"),
        ({"target_mean": (1.0,) * 3, "target_std": (1.0,) * 3}, "target_mean"),
        ({"task": "regression", "target_mean": (1.0,) * 3, "target_std": (1.0, 0.0, 1.0)}, "target_std"),
        ({"task": "regression", "target_mean": (np.nan,) * 3, "target_std": (1.0,) * 3}, "target_mean"),
    ],
)
def test_preprocessing_of_a_task_states_the_rule_it_violates(labels_bundle, change, field):
    preprocessing = open_bundle(labels_bundle).required_preprocessing()
    with pytest.raises(ExportError) as caught:
        replace(preprocessing, **change)
    assert caught.value.field == field


def test_preprocessing_without_a_task_is_read_as_classification(bundle):
    facts = json.loads((bundle / "preprocessing.json").read_text(encoding="utf-8"))
    old = {name: value for name, value in facts.items() if name not in ("task", "answers")}
    assert Preprocessing.from_json(json.dumps(old)).task == "classification"
    assert Preprocessing.from_json(json.dumps(old)).reading.resolution == SIDE


def write_table(folder: Path, header: str, cells: list[str]) -> Path:
    for number, cell in enumerate(cells):
        write_image(folder / f"{number}.png", number)
        header += f"\n{number}.png,{cell}"
    (folder / "test.csv").write_text(header + "\n", encoding="utf-8")
    return folder / "test.csv"


def test_label_that_no_image_lists_is_on_none(labels_copy, tmp_path):
    table = write_table(tmp_path, "file,labels", ["red|green", "green", "red", ""])
    scores = nas.evaluate(labels_copy, data=table, split="all")
    assert [one.support for one in scores.per_label] == [2, 2, 0]
    assert scores.image(0).labels == ("red", "green")
    assert any("1 of 3 labels have no image here (blue)" in note for note in scores.notes)


def test_listed_label_that_the_network_does_not_know_is_refused(labels_copy, tmp_path):
    table = write_table(tmp_path, "file,labels", ["red|green", "violet", "red"])
    with pytest.raises(DataError, match=r"violet of \S+ is none of its 3"):
        nas.evaluate(labels_copy, data=table, split="all")


def test_table_without_a_column_of_labels_is_refused(labels_copy, tmp_path):
    table = write_table(tmp_path, "file,red,green", ["1,0", "1,1", "0,0"])
    with pytest.raises(DataError, match="lacks blue"):
        nas.evaluate(labels_copy, data=table, split="all")


def test_table_with_more_columns_of_numbers_names_those_to_choose(numbers_copy, tmp_path):
    table = write_table(tmp_path, "file,warmth,x,brightness", ["1.5,2.5,3.5", "2.5,1,6", "0.5,1,2"])
    with pytest.raises(DataError, match=r"labels\.csv:brightness,warmth"):
        nas.evaluate(numbers_copy, data=table, split="all")
    scores = nas.evaluate(numbers_copy, data=f"{table}:warmth,brightness", split="all")
    assert scores.image(0).labels == (3.5, 1.5)


def test_numbers_for_a_network_of_labels_or_classes_are_named_as_such(labels_copy, bundle, tmp_path):
    table = tmp_path / "table" / "numbers.csv"
    for number in range(6):
        write_image(table.parent / f"{number}.png", number)
    table.write_text("file,brightness\n" + "".join(f"{n}.png,{20 + n}.5\n" for n in range(6)))
    for folder, words in (
        (labels_copy, "for multilabel, but the labels of .* are not: give images with 0 or 1 for each label"),
        (bundle, r"for classes \(.*but the labels of .* are numbers \(20"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            nas.evaluate(folder, data=table, split="all")
        assert caught.value.field == "data"
