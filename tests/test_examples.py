"""Every program and notebook of examples/ runs, with fewer trials and smaller images than its reader uses."""

import json
import os
import re
import runpy
import sys
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

from nas.cli.main import main
from nas.study.study import open_study
from search_spaces import reference
from search_spaces.testing import check_space

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PROGRAMS = sorted(EXAMPLES.glob("*.py"))


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs an example as a program in an empty folder, and returns what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])

    def run(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def grades(tmp_path_factory):
    """Squares of four sizes: the size is the grade."""
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 4
    images = rng.integers(0, 60, (240, 16, 16), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[: 2 + 4 * label, : 2 + 4 * label] += 150
    path = tmp_path_factory.mktemp("grades") / "grades.npz"
    np.savez(path, train_images=images, train_labels=labels)
    return path


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_an_example_is_short_and_begins_with_what_it_shows_and_how_long_it_takes(path):
    text = path.read_text()
    first = text.splitlines()[0]
    assert len(text.splitlines()) < 80
    assert re.search(r"\b(second|minute)s?\b|\d s\b", first), first
    assert re.search(rf"python examples/{path.name}|examples/{path.name}:\w+", text)


def test_the_table_of_examples_lists_each():
    listed = re.findall(r"\]\((\w+\.(?:py|ipynb))\)", (EXAMPLES / "README.md").read_text())
    assert sorted(listed) == sorted(
        path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")
    )


def test_ask_and_tell_finds_more_than_random_search(run):
    best = [float(value) for value in re.findall(r"candidates: ([\d.]+)", run("ask_and_tell.py"))]
    assert best[1] > best[0] + 0.05


def test_own_evaluator_searches_without_images(run):
    printed = run("own_evaluator.py")
    assert re.search(r"trial \d+: accuracy 0\.8", printed)
    assert "front:" in printed


def test_an_own_controller_keeps_the_contract_and_finds_more_than_random_search(run):
    found = dict(re.findall(r"^(\w+) +best reward of 100 trials: ([\d.]+)", run("own_controller.py"), re.M))
    assert list(found) == ["RandomSearch", "Annealing", "Dyna"]
    assert float(found["Annealing"]) > float(found["RandomSearch"])


def test_published_networks_are_counted_scaled_written_and_loaded(run):
    assert run("published_networks.py").splitlines() == [
        "B0: 5,288,548 parameters, 385,814,752 macs",
        "phi 1: 992,629,472 macs, 51,354,328 bytes at the peak",
        "r2_k3_s22_e6_i16_o24_se0.25 ir_r2_k3_s2_e6_c24_se0.25",
        "stem.block0.conv.weight is features.0.0.weight",
        "30,787,328 macs, digest 74fcea0e3caf25ed",
    ]


def test_own_op_is_a_valid_space(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import own_op

    check_space(own_op.space(resolution=28, num_classes=10, in_channels=1))


@pytest.mark.slow
def test_own_data_are_searched_compared_exported_and_predicted(run, grades, tmp_path):
    with np.load(grades) as arrays:
        for number, (image, label) in enumerate(
            zip(arrays["train_images"], arrays["train_labels"], strict=True)
        ):
            file = tmp_path / "photos" / f"grade-{label}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
    printed = run("own_data.py", "photos", "--trials", 2, "--seeds", 1, "--executor", "inline")
    assert "4 classes of 16 x 16 pixels" in printed
    assert [line.split()[0] for line in printed.splitlines() if "test accuracy" in line].count("random") == 2
    assert re.search(r"grade-0/0\.png: grade-\d, probability [\d.]+", printed)


def test_without_images_of_ones_own_digits_of_every_class_are_written(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import own_data

    counts = {folder.name: len(list(folder.iterdir())) for folder in own_data.digits(tmp_path).iterdir()}
    assert sorted(counts) == [f"digit-{label}" for label in range(10)]
    assert sum(counts.values()) == 1067


@pytest.mark.slow
def test_a_table_of_this_machine_limits_the_latency_of_a_search(run):
    printed = run("latency_aware.py", "--rounds", 2, "--trials", 2, "--epochs", 0.6)
    (limit,) = re.findall(r"the limit is their median, ([\d.]+) ms", printed)
    (predicted,) = re.findall(r"predicted ([\d.]+) ms$", printed, re.M)
    assert float(predicted) <= float(limit) + 0.01
    assert printed.count("measured in turns") == 2


@pytest.mark.slow
def test_a_supernet_is_searched_and_the_best_trained_alone(run):
    printed = run("weight_sharing.py", "--epochs", 0.3, "--trials", 3, "--finalists", 1)
    assert "3 networks measured in the supernet" in printed
    assert re.search(r"best in the supernet: trial [0-2], [\d,]+ macs, 0\.\d{3} there", printed)
    assert re.search(r"best of 1 trained by themselves: test accuracy 0\.\d{3}", printed)


@pytest.mark.slow
@pytest.mark.ray
def test_a_search_runs_on_a_cluster(run):
    printed = run("ray_cluster.py", "--workers", 1, "--trials", 2, "--epochs", 0.6)
    assert re.search(r"2 trials in \d+ s", printed)
    assert re.search(r"best: trial [01], accuracy 0\.\d{3} at", printed)


@pytest.mark.slow
def test_a_network_is_scaled_trained_scored_and_used(run, tmp_path):
    printed = run("scale_train_export.py", "--epochs", 0.5)
    macs = [int(digits.replace(",", "")) for digits in re.findall(r"([\d,]+) macs", printed)]
    assert macs[1] == pytest.approx(2 * macs[0], rel=0.05)
    assert len(re.findall(r"test accuracy 0\.\d{3}", printed)) == 2
    assert re.search(r"digit\.png: class \d, probability [\d.]+; label \d", printed)
    assert (tmp_path / re.search(r"python (\S+predict\.py) --onnx", printed)[1]).is_file()


@pytest.mark.slow
def test_a_network_like_b0_is_discovered_on_published_accuracies(run, tmp_path):
    path = Path(os.environ.get("MNAS_DATA", "")) / "accel_nasbench.csv"
    if not os.environ.get("MNAS_DATA") or not path.is_file():
        pytest.skip("set MNAS_DATA to the folder that holds accel_nasbench.csv")
    printed = run("discover_b0.py", path, "--trials", 60)
    assert re.search(r"EfficientNet-B0 +6[56]\.\d\d% +385\.8 M +5\.29 M", printed)
    assert int(re.search(r"first trial to match it: (\d+) of 60", printed)[1]) <= 60
    budgets = re.findall(r"at most (\d+) M macs +[\d.]+% +([\d.]+) M", printed)
    assert len(budgets) == 4
    assert all(float(macs) <= float(budget) for budget, macs in budgets)
    assert json.loads((tmp_path / "runs" / "discover-b0" / "winner.json").read_text())


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom_and_shows_its_pictures(tmp_path):
    notebook = nbformat.read(EXAMPLES / "tutorial.ipynb", as_version=4)
    numbers = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert numbers.source.startswith("TRIALS, SEARCH_EPOCHS, SEEDS, EPOCHS = 12, 5, 2, 15\n")
    numbers.source = "TRIALS, SEARCH_EPOCHS, SEEDS, EPOCHS, EVERY = 2, 1.1, 1, 1, 20"
    kernel = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(
        notebook, timeout=300, startup_timeout=300, kernel_name="python3", resources=kernel
    ).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output.get("text", "") for output in outputs)
    assert "10 classes, 1 x 28 x 28" in printed
    assert re.search(r"^test accuracy 0\.\d{3}", printed, re.M)
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3


@pytest.fixture(scope="module")
def study(grades):
    given = ["search", "--data", grades, "--space", "small", "--evaluator", f"{EXAMPLES}/own_task.py:Grades"]
    given += ["--objective", "kappa - 0.1 * |macs/1M - 1|", "--epochs", "2", "--trials", "2"]
    given += ["--compare-seeds", "0", "--executor", "inline", "--out", grades.with_name("study")]
    assert main([str(word) for word in given]) == 0
    yield grades.with_name("study")
    sys.modules.pop("own_task", None)


@pytest.mark.slow
def test_a_task_of_ones_own_is_searched_resumed_and_exported(study, capsys):
    assert main(["resume", str(study), "--trials", "3"]) == 0
    found = open_study(study)
    assert len(found.completed) == 3
    assert found.best.metric("kappa") == found.best.value
    assert found.best.metric("mean_distance") >= 0
    bundle = study / "export" / f"trial-{found.best.number}"
    assert json.loads((bundle / "preprocessing.json").read_text())["classes"] == ["0", "1", "2", "3"]
    capsys.readouterr()
    assert main(["resume", str(study), "--trials", "4", "--epochs", "3"]) == 2
    assert "--epochs" in capsys.readouterr().err


@pytest.mark.slow
def test_the_loss_of_grades_grows_with_the_distance(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from own_task import earth_movers

    logits, losses = 20 * torch.eye(5)[[0]], []
    for grade in range(5):
        losses.append(earth_movers(logits, torch.tensor([grade])).item())
    assert losses[0] == pytest.approx(0, abs=1e-6)
    assert losses == sorted(losses)
    sys.modules.pop("own_task")


@pytest.mark.slow
def test_a_searched_network_is_the_backbone_of_a_detector(study, run):
    assert run("detector.py", study).count("loss_rpn_box_reg") == 5


@pytest.mark.slow
def test_the_backbone_has_the_weights_and_the_gradient_of_the_network(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import detector

    backbone = detector.Backbone(reference("mnasnet_small"))
    assert [backbone.body.strides[name] for name in backbone.names] == [4, 8, 16, 32]
    model = detector.detector(backbone, 3).train()
    losses = model(*detector.drawn(2, 3, torch.Generator().manual_seed(0)))
    sum(losses.values()).backward()
    unused = {name for name, value in backbone.named_parameters() if value.grad is None}
    assert not unused
    sys.modules.pop("detector")
