"""`nas evaluate` and `nas predict` as users run them."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from nas.cli.main import main
from nas.report.page.attached import Attached, Scores
from nas.report.page.scored import scored

from .conftest import CLASSES, make_bundle, preprocessing_of, write_classes, write_image


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "run" / "bundle"))


def run_json(capsys, *words) -> dict:
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_evaluate_prints_the_keys_that_other_programs_rely_on(copied, photos, capsys):
    found = run_json(capsys, "evaluate", copied.parent, "--data", photos)
    assert 0 <= found["accuracy"] <= 1
    assert found["accuracy_interval"][0] <= found["accuracy"] <= found["accuracy_interval"][1]
    assert found["top5"] is not None
    assert found["balanced_accuracy"] == pytest.approx(
        sum(row["recall"] for row in found["per_class"]) / len(CLASSES)
    )
    assert [row["class"] for row in found["per_class"]] == found["classes"] == list(CLASSES)
    assert [sum(row) for row in found["confusion"]] == [row["support"] for row in found["per_class"]]
    assert found["majority_share"] == pytest.approx(1 / len(CLASSES))
    assert sum(one["images"] for one in found["reliability"]) == found["images"]
    assert scored(Attached(scores=(Scores(path=copied, values=found),))).blocks


def test_evaluate_shows_accuracy_beside_the_majority_share_with_its_warnings(copied, photos, capsys):
    assert main(["evaluate", str(copied), "--data", str(photos), "--split", "all", "--top", "2"]) == 0
    out = capsys.readouterr().out
    assert "majority share     0.1429, the accuracy of always predicting ant" in out
    assert "WARNING: the network was trained on some of these images" in out
    assert "more mistakes: --top N, or --csv for all" in out


@pytest.mark.slow
def test_evaluate_writes_every_prediction_and_a_picture(copied, photos, tmp_path, capsys):
    table, picture = tmp_path / "new" / "a.csv", tmp_path / "pictures" / "a.png"
    words = ["--split", "all", "--csv", table, "--png", picture]
    found = run_json(capsys, "evaluate", copied, "--data", photos, *words)
    with table.open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) == found["images"] == 6 * len(CLASSES)
    assert sum(int(row["is_right"]) for row in rows) == found["right"]
    assert all(row["file"].startswith(f"{row['true']}/") for row in rows)
    assert Image.open(picture).width > 1000


def test_evaluate_refuses_a_picture_of_another_kind_before_it_reads_images(copied, capsys):
    assert main(["evaluate", str(copied), "--data", "nowhere/", "--png", "a.pdf"]) == 2
    assert "must end in .png or .svg" in capsys.readouterr().err


@pytest.mark.slow
def test_evaluate_shows_the_worst_of_many_classes(tmp_path, capsys):
    classes = [f"class {number:03}" for number in range(100)]
    folder = make_bundle(tmp_path / "bundle", preprocessing_of(classes=classes))
    data = write_classes(tmp_path / "photos", classes=tuple(classes), count=1)
    picture = str(tmp_path / "a.svg")
    assert main(["evaluate", str(folder), "--data", str(data), "--split", "all", "--png", picture]) == 0
    out = capsys.readouterr().out
    assert "The 20 classes of the lowest F1" in out
    assert "80 more classes: --json has all" in out
    assert "the 30 of 100 with the most mistakes" in Path(picture).read_text(encoding="utf-8")


def test_predict_lists_every_file_in_json_and_csv(copied, tmp_path, capsys):
    for number in range(3):
        write_image(tmp_path / "in" / f"bild {number} ö.png", number)
    (tmp_path / "in" / "broken.jpg").write_bytes(b"broken")
    table = tmp_path / "out" / "p.csv"
    found = run_json(
        capsys, "predict", copied.parent, tmp_path / "in", "--top", "2", "--csv", table, "--onnx"
    )
    with table.open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["file"] for row in rows] == [row["file"] for row in found["predictions"]]
    assert len(rows) == found["images"] == 3
    for row, one in zip(rows, found["predictions"], strict=True):
        assert (row["class"], row["class_2"]) == tuple(each["class"] for each in one["top"])
        assert float(row["probability"]) == pytest.approx(one["probability"], abs=1e-6)
    assert [Path(one["file"]).name for one in found["unreadable"]] == ["broken.jpg"]


def test_predict_names_unreadable_files_and_fails_only_where_nothing_can_be_read(copied, tmp_path, capsys):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"broken")
    good = write_image(tmp_path / "good.png", 1)
    assert main(["predict", str(copied), str(good), str(broken)]) == 0
    assert "WARNING: 1 of 2 images cannot be read" in capsys.readouterr().out
    assert main(["predict", str(copied), str(broken)]) == 1
    assert main(["predict", str(copied), str(tmp_path / "nowhere.png")]) == 2


def test_predict_shows_the_first_of_many_files(copied, tmp_path, capsys):
    for number in range(60):
        write_image(tmp_path / "in" / f"{number:02}.png", number)
    assert main(["predict", str(copied), str(tmp_path / "in")]) == 0
    out = capsys.readouterr().out
    assert "49.png" in out
    assert "50.png" not in out
    assert "10 more images: --csv FILE or --json has all" in out


@pytest.mark.parametrize("command", [["evaluate", "--data", "x"], ["predict", "x.png"]])
def test_what_is_no_bundle_is_a_mistake_with_a_remedy(tmp_path, command, capsys):
    assert main([command[0], str(tmp_path), *command[1:]]) == 2
    assert "give the folder that nas export or nas train wrote" in capsys.readouterr().err
