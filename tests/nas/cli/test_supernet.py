import json
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
import torch

import nas
from nas.cli.main import main
from nas.report.pictures import SearchPicture
from nas.study.study import open_study
from nas.study.with_space import open_with_space
from nas.study_page import write_report
from nas.weight_sharing.inherit import slices_of
from nas.weight_sharing.stored import read_supernet

SPACE_FILE = """
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice


def space(resolution, num_classes, in_channels, width=1.0):
    op = MBConv(expand_ratio=choice(1, 2), kernel_size=choice(3, 5))
    return SearchSpace(
        Network(
            stem=Stage(op=Conv(), channels=int(8 * width)), stages=(Stage(op=op, channels=choice(8, 16)),),
            head=Head(channels=8, dropout=0.0),
            resolution=resolution, num_classes=num_classes, in_channels=in_channels,
        ),
        name="tiny",
    )
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A pack of 200 images of two classes that a glance tells apart, and a file with a space for them."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    images = rng.integers(0, 100, (200, 8, 8, 1)) + 150 * labels[:, None, None, None]
    np.savez(folder / "images.npz", train_images=images.astype(np.uint8), train_labels=labels)
    np.savez(folder / "others.npz", train_images=255 - images.astype(np.uint8), train_labels=labels)
    (folder / "shared_space.py").write_text(SPACE_FILE)
    yield folder
    sys.modules.pop("shared_space", None)


def training(inputs, out, *options):
    words = ["supernet", "--data", f"{inputs}/images.npz", "--space", f"{inputs}/shared_space.py:space"]
    return [*words, "--epochs", "1", "--sampling", "uniform", "--device", "cpu", "--out", str(out), *options]


@pytest.fixture(scope="module")
def supernet(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "net"
    assert main(training(inputs, out, "--search-fraction", "0.3", "--seed", "2", "--width", "0.5")) == 0
    return out


@pytest.fixture(scope="module")
def searched(supernet, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "study"
    assert main(search(supernet, out, "--trials", "6", "--seed", "5")) == 0
    return out


def search(supernet, out, *options):
    return ["search", "--supernet", str(supernet), "--executor", "inline", "--out", str(out), *options]


def interrupted_when(path):
    """Waits for a file of a training, then does what Ctrl-C does."""
    while not path.exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


def complaint(capsys, *words):
    capsys.readouterr()
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_a_supernet_says_what_its_networks_reach_and_what_comes_next(inputs, supernet, capsys):
    again = training(inputs, supernet, "--search-fraction", "0.3", "--seed", "2", "--width", "0.5")
    assert main(again) == 0
    said = capsys.readouterr().out
    for words in ("largest network", "smallest network", "random network", "with shared weights"):
        assert words in said
    assert f"nas search --supernet {supernet}" in said
    assert main([*again, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["metric"] == "accuracy"
    assert 0 <= data["smallest"] <= 1


def test_a_dry_run_shows_the_plan_and_writes_nothing(inputs, tmp_path, capsys):
    assert main(training(inputs, tmp_path / "net", "--dry-run", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == 1
    assert not (tmp_path / "net").exists()


def test_a_search_takes_space_images_and_split_from_its_supernet(inputs, searched):
    study = open_study(searched)
    assert len(study.completed) == 6
    settings = study.settings
    assert settings["space"] == f"{inputs}/shared_space.py:space"
    assert settings["data"] == f"{inputs}/images.npz"
    expected = (0.5, 8, 0.3, 2, 5)
    names = ("width", "resolution", "search_fraction", "split_seed", "seed")
    assert tuple(settings[name] for name in names) == expected


def test_whatever_shows_such_a_study_says_that_its_accuracy_is_of_shared_weights(searched, capsys):
    for words in (["show", str(searched)], ["search", "--out", str(searched)]):
        assert main(words) == 0
        said = capsys.readouterr().out
        assert "shared weights" in said
        assert "nas train" in said
        if words[0] == "show":
            assert "measuring_seconds" in said
            assert "train_seconds" not in said
    best = open_study(searched).best
    assert SearchPicture.of(open_study(searched)).split == best.measured_on
    assert "nas train" in complaint(capsys, "export", str(searched))
    assert not (searched / "export").exists()
    assert best.measured_on == "search split, shared weights"


def test_a_supernet_search_is_continued_and_can_be_deterministic(supernet, tmp_path, capsys):
    journals = []
    for name, trials in (("a", ["4"]), ("b", ["2", "4"])):
        for count in trials:
            assert main(search(supernet, tmp_path / name, "--trials", count, "--deterministic")) == 0
        journals.append([(one.tokens, one.accuracy) for one in open_study(tmp_path / name).trials])
    assert journals[0] == journals[1]
    assert "accuracy (shared weights) " in capsys.readouterr().out


def test_a_dry_run_of_a_search_names_the_supernet(supernet, tmp_path, capsys):
    assert main(search(supernet, tmp_path / "s", "--dry-run", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["supernet"] == str(supernet)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("command", ["supernet", "train"])
def test_ctrl_c_ends_a_training_with_where_it_is_and_what_continues(
    inputs, searched, tmp_path, capsys, command
):
    out = tmp_path / "net"
    words = ["train", str(searched), "--device", "cpu", "--out", str(out)]
    words = training(inputs, out) if command == "supernet" else words
    interrupt = threading.Thread(target=interrupted_when, args=(out / "training.json",), daemon=True)
    interrupt.start()
    assert main([*words, "--epochs", "9000"]) == 130
    interrupt.join()
    stopped = f"nas: stopped; what is done is in {out}, and the same command continues it"
    assert capsys.readouterr().err.splitlines()[-1] == stopped


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "INPUTS/others.npz"], "the images must be those that the supernet was trained on"),
        (["--search-fraction", "0.2"], "the split must be those"),
        (["--split-seed", "9"], "the split must be those"),
        (["--resolution", "16"], "must be of the space"),
        (["--width", "1"], "must be of the space"),
        (["--space", "small"], "must be of the space"),
        (["--epochs", "3"], "--epochs: in shared weights no candidate is trained"),
        (["--rungs", "1,3"], "--rungs: in shared weights"),
        (["--init", "timm:x"], "--init: in shared weights"),
        (["--compare-seeds", "2"], "--compare-seeds: in shared weights"),
        (["--max-memory", "2GiB"], "needs peak_memory_bytes, but shared weights measure no training"),
        (["--objective", "accuracy * step_time^-0.07"], "needs train_step_ms, but shared weights measure no"),
    ],
)
def test_what_a_supernet_cannot_measure_is_refused_before_anything_runs(
    inputs, supernet, tmp_path, capsys, options, words
):
    given = [option.replace("INPUTS", str(inputs)) for option in options]
    assert words in complaint(capsys, *search(supernet, tmp_path / "s", *given))
    assert not (tmp_path / "s").exists()


def test_a_folder_without_a_supernet_is_refused_with_the_command_that_trains_one(tmp_path, capsys):
    said = complaint(capsys, *search(tmp_path, tmp_path / "s"))
    assert "holds no trained supernet: train one with nas supernet" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sampling", "greedy"], "uniform, fair, sandwich"),
        (["--kernels", "all"], "own, cropped"),
        (["--ema-decay", "0.9"], "knows no option --ema-decay"),
        (["--recipe", "modern"], "must hold for a supernet"),
        (["--calibration-images", "5000"], "5000: each network's statistics"),
        (["--width", "-1"], "width"),
    ],
)
def test_bad_options_of_a_supernet_are_refused_before_anything_is_written(
    inputs, tmp_path, capsys, options, words
):
    assert words in complaint(capsys, *training(inputs, tmp_path / "net", *options))
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize(
    ("words", "held"),
    [
        (["evaluate", "SUPERNET", "--data", "IMAGES"], "is a supernet, whose weights are not those of one"),
        (["train", "SUPERNET", "--data", "IMAGES", "--out", "OUT"], "nas search --supernet"),
        (["train", "efficientnet_b0", "--data", "IMAGES", "--out", "SUPERNET"], "but holds a supernet"),
        (["verify", "SUPERNET"], "but holds a supernet"),
    ],
)
def test_a_supernet_is_called_one_where_something_else_is_needed(
    inputs, supernet, tmp_path, capsys, words, held
):
    places = {"SUPERNET": str(supernet), "IMAGES": f"{inputs}/images.npz", "OUT": str(tmp_path / "out")}
    assert held in complaint(capsys, *[places.get(word, word) for word in words])
    assert not (tmp_path / "out").exists()


def test_a_page_over_a_supernet_s_folder_names_it(searched, supernet, tmp_path):
    page = tmp_path / "page.html"
    assert main(["report", str(searched), str(supernet), "--out", str(page)]) == 0
    assert "supernet, not one network" in page.read_text()


def test_a_study_cannot_be_continued_with_another_supernet(inputs, searched, tmp_path, capsys):
    other, same = tmp_path / "other", ("--search-fraction", "0.3", "--seed", "2", "--width", "0.5")
    assert main(training(inputs, other, *same, "--learning-rate", "0.01")) == 0
    said = complaint(capsys, "resume", str(searched), "--supernet", str(other), "--trials", "4")
    assert "holds another study: evaluator" in said


def test_finalists_are_trained_from_scratch_or_from_their_slices_as_asked(searched, supernet, tmp_path):
    study = open_with_space(str(searched))
    shared, _ = read_supernet(supernet, study.space)
    for inherits, recipe in ((None, "small"), (slices_of(searched), "finetune")):
        trainings = nas.FullTraining(network=searched, top=2, inherits=inherits).prepare(tmp_path / "net")
        assert [one.recipe.name for one in trainings] == [recipe] * 2
        for training in trainings:
            assert training.data.split_fingerprint == study.identity.split
            if inherits is None:
                assert training.start.weights is None
                continue
            expected = shared.materialise(training.start.trial.tokens)
            assert set(training.start.weights) == set(expected)
            assert all(torch.equal(training.start.weights[name], one) for name, one in expected.items())
            assert training.data.mean == training.start.preprocessing.mean


@pytest.mark.slow
def test_finalists_say_how_far_shared_weights_agree_with_their_trainings(searched, tmp_path, capsys):
    out = tmp_path / "trained"
    words = ["--top", "5", "--epochs", "1", "--recipe", "small", "--no-onnx", "--device", "cpu"]
    assert main(["train", str(searched), *words, "--out", str(out)]) == 0
    assert "Kendall's tau" in capsys.readouterr().out
    said = json.loads((out / "result.json").read_text())["agreement"]
    study = open_with_space(str(searched))
    ranking = json.loads((out / "ranking.json").read_text())
    alone = {one["folder"].rsplit("-", 1)[-1]: one["best"]["value"] for one in ranking}
    assert {str(one["trial"]): one["alone"] for one in said["pairs"]} == alone
    assert {one["trial"]: one["shared"] for one in said["pairs"]} == {
        one["trial"]: study.trials[one["trial"]].accuracy for one in said["pairs"]
    }
    page = write_report([searched, out], tmp_path / "page.html").page
    (section,) = [one for one in page.sections if one.key == "shared"]
    (points,) = section.blocks[0].figure["data"]
    assert sorted(zip(points["x"], points["y"], strict=True)) == sorted(
        (one["shared"], one["alone"]) for one in said["pairs"]
    )
    alone_on_page = write_report([searched], tmp_path / "alone.html").page
    (absent,) = [one for one in alone_on_page.absent if one.key == "shared"]
    assert f"nas train {searched} --top 5" in absent.reason


@pytest.mark.parametrize(
    ("what", "options", "words"),
    [
        ("efficientnet_b0", ["--data", "IMAGES"], "is no such study"),
        ("STUDY", ["--weights", "x.pt"], "leave one of them out"),
    ],
)
def test_slices_are_inherited_only_by_networks_of_a_supernet_search(
    inputs, searched, tmp_path, capsys, what, options, words
):
    given = [option.replace("IMAGES", f"{inputs}/images.npz") for option in options]
    what = what.replace("STUDY", str(searched))
    assert words in complaint(capsys, "train", what, "--inherit", "--out", str(tmp_path / "t"), *given)
    assert not (tmp_path / "t").exists()


@pytest.mark.slow
def test_trainings_on_other_images_are_not_compared_with_shared_weights(inputs, searched, tmp_path):
    words = ["--top", "2", "--epochs", "1", "--recipe", "small", "--no-onnx", "--device", "cpu"]
    words += ["--data", f"{inputs}/others.npz", "--out", str(tmp_path / "trained")]
    assert main(["train", str(searched), *words]) == 0
    said = json.loads((tmp_path / "trained" / "result.json").read_text())
    assert said["agreement"] is None
    page = write_report([searched, tmp_path / "trained"], tmp_path / "page.html").page
    assert "trainings" in {one.key for one in page.sections}
    assert "shared" in {one.key for one in page.absent}
