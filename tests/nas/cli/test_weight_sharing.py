"""A search that trains shared weights and a policy first."""

import json
import sys

import numpy as np
import pytest

from nas.cli.main import main
from nas.study.study import open_study
from nas.weight_sharing.inherit import slices_of

SPACE_FILE = """
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice


def space(resolution, num_classes, in_channels):
    op = MBConv(expand_ratio=choice(1, 2, 4), kernel_size=choice(3, 5))
    return SearchSpace(
        Network(
            stem=Stage(op=Conv(), channels=8), stages=(Stage(op=op, channels=choice(8, 16)),),
            head=Head(channels=8, dropout=0.0),
            resolution=resolution, num_classes=num_classes, in_channels=in_channels,
        ),
        name="policy",
    )
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A pack of 120 images of two classes that a glance tells apart, and a file with a space for them."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    images = rng.integers(0, 100, (120, 8, 8, 1)) + 150 * labels[:, None, None, None]
    np.savez(folder / "images.npz", train_images=images.astype(np.uint8), train_labels=labels)
    (folder / "policy_space.py").write_text(SPACE_FILE)
    yield folder
    sys.modules.pop("policy_space", None)


def search(inputs, out, *options, epochs="1"):
    words = ["search", "--weight-sharing", "--data", f"{inputs}/images.npz", "--executor", "inline"]
    words += ["--space", f"{inputs}/policy_space.py:space", "--supernet-epochs", epochs, "--trials", "4"]
    return [*words, "--objective", "accuracy - 0.1 * |macs / 60k - 1|", "--out", str(out), *options]


@pytest.mark.slow
def test_it_searches_in_the_weights_it_has_trained_and_can_be_continued_elsewhere(inputs, tmp_path, capsys):
    out = tmp_path / "a"
    assert main(search(inputs, out)) == 0
    said = capsys.readouterr().out
    assert "policy" in said
    assert "shared weights" in said
    study = open_study(out)
    policy = json.loads((out / "supernet" / "policy.json").read_text())
    assert list(study.trials[0].tokens) == policy["draws"][0]
    assert sum(policy["records"][-1]["probabilities"][0]) == pytest.approx(1)
    moved = out.rename(tmp_path / "b")
    assert main(["resume", str(moved), "--trials", "5"]) == 0
    study = open_study(moved)
    assert len(study.trials) == 5
    assert slices_of(moved)(study.best)


def test_a_dry_run_writes_nothing(inputs, tmp_path):
    assert main(search(inputs, tmp_path / "a", "--dry-run")) == 0
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("options", "law"),
    [
        (("--supernet", "net"), "leave one of them out"),
        (("--epochs", "3"), "give --supernet-epochs"),
        (("--rungs", "1,3"), "no candidate is trained"),
    ],
)
def test_what_means_nothing_beside_it_is_refused(inputs, tmp_path, capsys, options, law):
    assert main(search(inputs, tmp_path / "a", *options)) == 2
    said = capsys.readouterr().err
    assert law in said
    assert "Traceback" not in said


def test_its_epochs_alone_are_refused(inputs, tmp_path, capsys):
    words = [word for word in search(inputs, tmp_path / "a") if word != "--weight-sharing"]
    assert main(words) == 2
    assert "--weight-sharing" in capsys.readouterr().err


def test_an_objective_that_shared_weights_cannot_measure_is_refused(inputs, tmp_path, capsys):
    words = search(inputs, tmp_path / "a")
    words[words.index("--objective") + 1] = "accuracy, train_step_ms <= 5"
    assert main(words) == 2
    assert "train_step_ms" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_resume_before_the_weights_are_trained_says_which_command_continues(tmp_path, capsys):
    (tmp_path / "a" / "supernet").mkdir(parents=True)
    assert main(["resume", str(tmp_path / "a")]) == 2
    assert "nas search --weight-sharing" in capsys.readouterr().err
