import json
import sqlite3
import sys

import numpy as np
import pytest

from nas.cli.main import main, parse
from nas.config.request import given_options
from nas.study.study import open_study
from search_spaces import Network, cost

SPACE_FILE = """
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice


def space(resolution, num_classes, in_channels=3):
    stages = tuple(
        Stage(op=MBConv(expand_ratio=choice(1, 2), kernel_size=kernel), channels=choice(8, 16), stride=2)
        for kernel in (choice(3, 5), choice(3, 5))
    )
    return SearchSpace(
        Network(
            stem=Stage(op=Conv(), channels=8), stages=stages, head=Head(channels=8, dropout=0.0),
            resolution=resolution, num_classes=num_classes, in_channels=in_channels,
        ),
        name="tiny",
    )
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A pack of 240 images of two classes that a glance tells apart, and a file with a space for them."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 2
    images = rng.integers(0, 100, (240, 8, 8, 1)) + 150 * labels[:, None, None, None]
    np.savez(folder / "images.npz", train_images=images.astype(np.uint8), train_labels=labels)
    (folder / "cli_space.py").write_text(SPACE_FILE)
    yield folder
    sys.modules.pop("cli_space", None)


def command(inputs, out, *options):
    words = ["search", "--data", str(inputs / "images.npz"), "--space", f"{inputs}/cli_space.py:space"]
    words += ["--executor", "inline", "--epochs", "1", "--batch-size", "32", "--compare-random", "1"]
    return [*words, "--out", str(out), *options]


@pytest.fixture(scope="module")
def finished(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "a"
    assert main(command(inputs, out, "--target-macs", "60k", "--trials", "4", "--seed", "1")) == 0
    return out


def complaint(capsys, *words):
    capsys.readouterr()
    assert main(words) == 2
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return said.err


def test_a_search_leaves_journal_pictures_bundle_comparison_and_events(finished):
    study = open_study(finished)
    assert [trial.status.value for trial in study.trials] == ["completed"] * 4
    bundle = finished / "export" / f"trial-{study.best.number}"
    assert (bundle / "model.py").is_file()
    for name in ("search.png", "winner.png", "comparison.json", "tensorboard"):
        assert (finished / name).exists()


@pytest.mark.slow
def test_the_comparison_is_measured_on_the_test_split_alone(inputs, tmp_path):
    with np.load(inputs / "images.npz") as pack:
        images, labels = pack["train_images"], pack["train_labels"]
    swapped = {"test_images": images[:60], "test_labels": 1 - labels[:60]}
    np.savez(tmp_path / "swapped.npz", train_images=images, train_labels=labels, **swapped)
    words = command(inputs, tmp_path / "t", "--trials", "2", "--epochs", "8")
    words[2] = str(tmp_path / "swapped.npz")
    assert main(words) == 0
    assert open_study(tmp_path / "t").best.accuracy > 0.9
    comparison = json.loads((tmp_path / "t" / "comparison.json").read_text())
    assert comparison["images"] == 60
    accuracies = [run["value"] for run in comparison["contenders"][0]["runs"]]
    assert max(accuracies) < 0.1


def test_paths_are_stored_so_that_a_resume_works_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    given = given_options(
        parse(["search", "--out", "a", "--data", "photos", "--data-root", "sets", "--space", "mine.py:space"])
    )
    assert given["data"] == str(tmp_path / "photos")
    assert given["data_root"] == str(tmp_path / "sets")
    assert given["space"] == f"{tmp_path / 'mine.py'}:space"
    assert given_options(parse(["search", "--out", "a", "--data", "cifar10"]))["data"] == "cifar10"


def test_the_same_command_again_prints_the_finished_study(inputs, finished, capsys):
    again = command(inputs, finished, "--target-macs", "60k", "--trials", "4", "--seed", "1", "--json")
    assert main(again) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["winner"]["trial"] == open_study(finished).best.number
    assert [row["role"] for row in data["comparison"]["comparison"]] == ["winner", "random"]
    assert len(open_study(finished).trials) == 4


@pytest.mark.slow
def test_out_alone_continues_a_study_with_its_own_settings(inputs, tmp_path, capsys):
    assert main(command(inputs, tmp_path / "b", "--trials", "2", "--compare-seeds", "0")) == 0
    words = ["search", "--out", str(tmp_path / "b"), "--trials", "3", "--compare-seeds", "0"]
    assert main(words) == 0
    assert main(["resume", str(tmp_path / "b"), "--trials", "5", "--compare-seeds", "0"]) == 0
    study = open_study(tmp_path / "b")
    assert len(study.completed) == 5
    assert study.settings["trials"] == 5
    assert "3 trials done" in capsys.readouterr().out


def test_a_resume_with_another_target_names_the_difference(finished, capsys):
    text = complaint(capsys, "search", "--out", str(finished), "--target-macs", "30M")
    assert "--target-macs is 60,000 there, 30,000,000 here" in text


def test_a_resume_with_other_images_names_the_difference(inputs, finished, tmp_path, capsys):
    with np.load(inputs / "images.npz") as pack:
        images, labels = pack["train_images"], pack["train_labels"]
    stay = np.flatnonzero(labels == 0).tolist() + np.flatnonzero(labels == 1)[12:].tolist()
    np.savez(tmp_path / "fewer.npz", train_images=images[stay], train_labels=labels[stay])
    text = complaint(capsys, "search", "--out", str(finished), "--data", str(tmp_path / "fewer.npz"))
    assert "the images differ now: 12 images fewer in class '1' (108, before 120)" in text


def test_images_that_changed_since_are_another_study(inputs, tmp_path, capsys):
    pack = tmp_path / "images.npz"
    labels = np.arange(240) % 2
    for seed in (0, 1):
        images = np.random.default_rng(seed).integers(0, 255, (240, 8, 8, 1)).astype(np.uint8)
        np.savez(pack, train_images=images, train_labels=labels)
        words = command(inputs, tmp_path / "c", "--trials", "1", "--compare-seeds", "0")
        words[2] = str(pack)
        if seed == 0:
            assert main(words) == 0
    assert "holds another study" in complaint(capsys, *words)


def test_a_new_search_must_say_images_and_space(tmp_path, capsys):
    text = complaint(capsys, "search", "--out", str(tmp_path / "none"))
    assert "a new one needs --data and --space" in text
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["search", "resume", "quickstart", "proxy-check"])
def test_an_empty_folder_name_is_not_the_folder_one_is_in(inputs, tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    words = command(inputs, "")[1:]
    fewer = [*words[:6], "--out", ""]
    given = {"search": words, "resume": [""], "quickstart": ["--out", ""], "proxy-check": fewer}[name]
    assert "a folder is needed" in complaint(capsys, name, *given)
    assert not list(tmp_path.iterdir())


def test_resuming_what_is_not_there_says_how_to_begin(tmp_path, capsys):
    assert "there is no study in" in complaint(capsys, "resume", str(tmp_path))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--data", "./nowhere"), "there is no folder or pack"),
        (("--data", "cifar11"), "did you mean cifar10"),
        (("--space", "mnasnt"), "did you mean mnasnet"),
        (("--max-macs", "1"), "nearest macs="),
        (("--max-macs", "1", "--dry-run"), "nearest macs="),
        (("--batch-size", "999"), "at least one batch of 999"),
        (("--workers", "2"), "--workers needs --executor ray"),
        (("--gpus-per-worker", "1"), "--gpus-per-worker needs --executor ray"),
        (("--trial-timeout", "5"), "--trial-timeout needs --executor ray"),
        (("--on-ray-loss", "restart"), "--on-ray-loss needs --executor ray"),
        (("--on-ray-loss", "retry"), "there is no on ray loss 'retry'"),
        (
            ("--target-latency", "5ms", "--latency-resource", "phone"),
            "--latency-resource needs --executor ray",
        ),
        (("--executor", "ray", "--address", "auto"), "give --workers too"),
        (("--objective", "soft"), "--objective: the objective 'soft' needs a target"),
        (("--deterministic", "--target-latency", "5ms"), "deterministic"),
        (("--learning-rate", "0"), "learning_rate > 0"),
        (("--resolution", "9999"), "resolution"),
        (("--enqueue", "nothing.json"), "--enqueue nothing.json cannot be read"),
    ],
)
def test_bad_input_is_a_message_and_leaves_nothing_behind(inputs, tmp_path, capsys, options, words):
    out = tmp_path / "bad"
    assert words in complaint(capsys, *command(inputs, out, *options))
    assert not out.exists()


def test_gpus_where_there_are_none_are_refused_before_anything_starts(inputs, tmp_path, capsys):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    out = tmp_path / "gpu"
    words = command(inputs, out, "--executor", "ray", "--workers", "4", "--gpus-per-worker", "0.25")
    assert "torch sees no GPU" in complaint(capsys, *words)
    assert not out.exists()


def test_a_dry_run_prints_the_plan_and_writes_nothing(inputs, tmp_path, capsys):
    out = tmp_path / "dry"
    assert main(command(inputs, out, "--trials", "50", "--target-macs", "60k", "--dry-run", "--json")) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["jobs"] == {"trials": 50, "comparison": 6}
    assert data["plan"][0]["seconds"] > 0
    assert data["plan"][0]["seconds_per_trial_origin"].startswith("measured")
    assert len(data["examples"]) == 5
    assert not out.exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--trials", "10", "--finalists", "9"),
        ("--trials", "9", "--rungs", "1,3", "--epochs", "3", "--finalists", "1"),
        ("--trials", "9", "--rungs", "1,3", "--epochs", "3", "--deterministic"),
        ("--target-latency", "5ms", "--deterministic"),
        ("--max-macs", "1"),
        ("--warm-start", "nowhere"),
    ],
)
def test_a_dry_run_refuses_what_the_search_refuses_in_the_same_words(inputs, tmp_path, capsys, options):
    asked = command(inputs, tmp_path / "new", *options)
    refused = complaint(capsys, *asked)
    assert complaint(capsys, *asked, "--dry-run") == refused
    assert not (tmp_path / "new").exists()


def test_a_dry_run_refuses_a_folder_that_cannot_be_written(inputs, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "weights").touch()
    assert "must be a folder" in complaint(capsys, *command(inputs, out, "--dry-run"))
    monkeypatch.setattr("os.access", lambda *_: False)  # whoever is root may write anywhere
    words = command(inputs, tmp_path / "new" / "deep", "--dry-run")
    assert f"{tmp_path} may not be written to" in complaint(capsys, *words)


def test_a_dry_run_refuses_an_earlier_study_of_another_recipe(inputs, finished, tmp_path, capsys):
    words = command(inputs, tmp_path / "out", "--epochs", "2", "--warm-start", str(finished))
    assert "the recipe differs: epochs is 1.0 there, 2.0 here" in complaint(capsys, *words, "--dry-run")


def test_a_dry_run_refuses_other_images_than_those_of_the_study(inputs, finished, tmp_path, capsys):
    other = tmp_path / "other.npz"
    with np.load(inputs / "images.npz") as pack:
        np.savez(other, train_images=pack["train_images"][4:], train_labels=pack["train_labels"][4:])
    words = ("search", "--out", str(finished), "--data", str(other))
    said = complaint(capsys, *words)
    assert "the images differ now" in said
    assert "Give the same data to continue it" in said
    assert complaint(capsys, *words, "--dry-run") == said


def test_a_dry_run_of_a_study_counts_what_is_left(finished, capsys):
    before = sorted(path.name for path in finished.iterdir())
    assert main(["search", "--out", str(finished), "--trials", "10", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["jobs"]["trials"] == 6
    assert sorted(path.name for path in finished.iterdir()) == before


@pytest.mark.slow
def test_an_enqueued_network_is_tried_first(inputs, finished, tmp_path):
    architecture = tmp_path / "mine.json"
    architecture.write_text(open_study(finished).trials[2].network.to_json())
    out = tmp_path / "d"
    words = ("--trials", "1", "--compare-seeds", "0", "--enqueue", str(architecture))
    assert main(command(inputs, out, *words)) == 0
    (trial,) = open_study(out).trials
    assert trial.origin == "user"
    assert trial.network == Network.from_json(architecture.read_text())


@pytest.mark.slow
def test_a_latency_target_is_measured_and_counts(inputs, tmp_path):
    out = tmp_path / "e"
    words = ("--trials", "1", "--compare-seeds", "0", "--target-latency", "0.0001ms")
    assert main(command(inputs, out, *words)) == 0
    (trial,) = open_study(out).trials
    assert trial.metric("latency_ms") > 0
    assert trial.reward < trial.accuracy


@pytest.mark.slow
def test_no_candidate_above_a_limit_is_trained(inputs, tmp_path):
    out = tmp_path / "f"
    assert main(command(inputs, out, "--trials", "3", "--max-macs", "45k", "--compare-seeds", "0")) == 0
    assert all(cost(trial.network).macs <= 45_000 for trial in open_study(out).trials)


def test_a_search_in_which_nothing_completed_says_what_became_of_its_trials(inputs, tmp_path, capsys):
    out = tmp_path / "i"
    text = complaint(capsys, *command(inputs, out, "--trials", "3", "--max-memory", "1kB"))
    assert "no trial of" in text
    assert "(3 infeasible)" in text
    assert f"nas show {out}" in text


def test_a_profile_with_images_measures_the_time_of_a_trial(inputs, capsys):
    words = ["profile", "--data", str(inputs / "images.npz"), "--space", f"{inputs}/cli_space.py:space"]
    assert main([*words, "--batch-size", "32", "--samples", "10", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["plan"][0]["seconds_per_trial"] > 0
    assert "measured: 4 steps of each of 3 random candidates" in data["plan"][0]["seconds_per_trial_origin"]
    assert "2 classes, 1 x 8 x 8" in data["images"]


def test_export_writes_a_bundle_to_the_given_folder(finished, tmp_path, capsys):
    capsys.readouterr()
    assert main(["export", str(finished), "--to", str(tmp_path / "bundle"), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["is_bit_equal"] or data["torch_error"] < 1e-4
    assert sorted(data["files"]) == sorted(path.name for path in (tmp_path / "bundle").iterdir())


def test_show_prints_the_comparison_again(finished, capsys):
    capsys.readouterr()
    assert main(["show", str(finished)]) == 0
    text = capsys.readouterr().out
    assert "Comparison on the test split" in text
    assert "4 of 4 done" in text


def test_a_truncated_journal_is_refused(finished, tmp_path, capsys):
    broken = tmp_path / "g"
    broken.mkdir()
    (broken / "study.sqlite").write_bytes((finished / "study.sqlite").read_bytes()[:5000])
    for words in (["show", str(broken)], ["search", "--out", str(broken)]):
        assert "nas: " in complaint(capsys, *words)


def test_a_journal_of_a_newer_version_says_to_upgrade(finished, tmp_path, capsys):
    newer = tmp_path / "h"
    newer.mkdir()
    (newer / "study.sqlite").write_bytes((finished / "study.sqlite").read_bytes())
    with sqlite3.connect(newer / "study.sqlite") as database:
        database.execute("PRAGMA user_version = 999")
    assert "upgrade" in complaint(capsys, "search", "--out", str(newer))


@pytest.mark.parametrize("command", ["search", "proxy-check"])
def test_nothing_is_written_among_the_images(command, tmp_path, capsys):
    images = tmp_path / "images"
    (images / "red").mkdir(parents=True)
    words = [command, "--data", str(images), "--space", "small", "--out", str(images / "runs")]
    assert main(words) == 2
    assert "would be taken for a class" in capsys.readouterr().err
    assert [*images.rglob("*")] == [images / "red"]
