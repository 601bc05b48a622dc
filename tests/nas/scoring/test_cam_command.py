"""`nas cam` as users run it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.class_mapping import class_map
from nas.cli.main import main
from nas.errors import UsageError
from nas.report.class_maps_picture import MOST_COLUMNS, MOST_ROWS, check_size, draw_class_maps

from .conftest import CLASSES, SIDE, write_image


@pytest.fixture
def images(tmp_path: Path) -> tuple[str, str]:
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8))
    wide.save(tmp_path / "wide.jpg")
    return str(write_image(tmp_path / "square.png", 1)), str(tmp_path / "wide.jpg")


def refused(capsys, *words: object) -> str:
    assert main(["cam", *map(str, words)]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    return str(captured.err)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_cam_draws_a_row_for_each_image_and_a_column_for_each_network(
    bundle, labels_bundle, numbers_bundle, images, tmp_path, capsys, suffix
):
    out = tmp_path / "new" / f"cam{suffix}"
    assert main(["cam", *map(str, (bundle, labels_bundle, numbers_bundle)), *images, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert f"wrote {out}" in printed
    assert printed.count("square.png") == printed.count("wide.jpg") == 3
    if suffix == ".svg":
        text = out.read_text(encoding="utf-8")
        assert "CAM, 8 x 8 places" in text
        assert "as a share of the largest value in that map" in text
    else:
        assert Image.open(out).width > Image.open(out).height


def test_cam_prints_the_keys_that_other_programs_rely_on(bundle, images, tmp_path, capsys):
    words = ["cam", str(bundle), *images, "--out", str(tmp_path / "a.png"), "--class", "cat", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["file"] for row in found["maps"]] == list(images)
    one = class_map(bundle, images[1], class_name="cat")
    row = found["maps"][1]
    assert (row["prediction"], row["mapped"]) == (one.predicted, "cat")
    assert row["mapped_probability"] == pytest.approx(one.value)
    assert (row["method"], row["places"]) == ("cam", [SIDE, SIDE])
    assert (row["peak"]["x"], row["peak"]["y"]) == one.peak
    assert row["top_tenth_share"] == pytest.approx(one.top_tenth_share)
    assert row["image_size"] == {"width": 40, "height": 20}
    assert row["seen"] == {"left": 10, "top": 0, "right": 30, "bottom": 20}


def test_the_peak_is_where_the_map_over_the_image_is_highest(bundle, images, tmp_path):
    one = class_map(bundle, images[1])
    places = np.zeros_like(one.places)
    places[5, 2] = 1
    one = replace(one, places=places)
    over = one.over_image()
    row, column = np.unravel_index(np.nanargmax(over), over.shape)
    x, y = one.peak
    assert abs(column + 0.5 - x) <= 0.5
    assert abs(row + 0.5 - y) <= 0.5
    assert draw_class_maps([[one]], tmp_path / "a.png").is_file()


def test_cam_refuses_a_name_that_is_no_picture_before_it_opens_networks(images, capsys):
    assert "must end in .png or .svg" in refused(capsys, "nowhere", images[0], "--out", "a.pdf")


def test_cam_does_not_replace_an_image(bundle, images, capsys):
    before = Path(images[0]).read_bytes()
    assert "must not replace an image" in refused(capsys, bundle, images[0], "--out", images[0])
    assert Path(images[0]).read_bytes() == before


def test_cam_says_that_a_picture_cannot_be_written(bundle, images, tmp_path, capsys):
    (tmp_path / "file").touch()
    said = refused(capsys, bundle, images[0], "--out", tmp_path / "file" / "a.png")
    assert "cannot be written" in said


def test_cam_names_near_classes(bundle, images, tmp_path, capsys):
    said = refused(capsys, bundle, images[0], "--out", tmp_path / "a.png", "--class", "caat")
    assert f"among its {len(CLASSES)}: did you mean cat or ant?" in said
    assert not (tmp_path / "a.png").exists()


def test_cam_without_networks_or_images_says_what_is_missing(bundle, images, capsys):
    assert "there must be a network, but nothing was given" in refused(capsys, "--out", "a.png")
    assert "there must be a network" in refused(capsys, *images, "--out", "a.png")
    assert "there must be an image" in refused(capsys, bundle, "--out", "a.png")


def test_a_picture_of_too_many_cells_is_refused():
    check_size(MOST_ROWS, MOST_COLUMNS)
    for rows, columns in ((MOST_ROWS + 1, 1), (1, MOST_COLUMNS + 1)):
        with pytest.raises(UsageError, match="at most") as caught:
            check_size(rows, columns)
        assert caught.value.field == "what"
