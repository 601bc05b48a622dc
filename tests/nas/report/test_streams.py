import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]

LOUD_SPACE = """
import os, sys, subprocess
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice

print("printed by the space")
os.write(1, b"written to the descriptor\\n")
subprocess.run([sys.executable, "-c", "print('printed by a child')"])


def space(resolution, num_classes, in_channels=3):
    return SearchSpace(
        Network(
            stem=Stage(op=Conv(), channels=8),
            stages=(Stage(op=MBConv(expand_ratio=choice(1, 2)), channels=choice(8, 16), stride=2),),
            head=Head(channels=8, dropout=0.0),
            resolution=resolution, num_classes=num_classes, in_channels=in_channels,
        ),
        name="émile ünï",
    )
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A pack of 240 images of two classes and a file with a space that prints in every way."""
    folder = tmp_path_factory.mktemp("inputs")
    labels = np.arange(240) % 2
    images = np.random.default_rng(0).integers(0, 100, (240, 8, 8, 1)) + 150 * labels[:, None, None, None]
    classes = np.array(["é", "ß"])
    np.savez(folder / "ünï.npz", train_images=images.astype(np.uint8), train_labels=labels, classes=classes)
    (folder / "loud_space.py").write_text(LOUD_SPACE, encoding="utf-8")
    return folder


def nas(*words, environment=None, **options):
    pinned = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(environment or {})}
    return subprocess.run(
        [sys.executable, "-m", "nas", *map(str, words)],
        env={**os.environ, **pinned},
        capture_output=True,
        timeout=300,
        **options,
    )


def search(inputs, out, *more):
    words = ["search", "--data", inputs / "ünï.npz", "--space", f"{inputs}/loud_space.py:space", "--out", out]
    words += ["--epochs", "1", "--batch-size", "32", "--precision", "float32", "--compare-random", "1"]
    return [*words, "--compare-seeds", "1", "--trials", "2", "--executor", "inline", *more]


ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(scope="module")
def study(inputs, tmp_path_factory):
    """A study searched where nothing but ASCII can be printed, with the JSON that was printed."""
    out = tmp_path_factory.mktemp("runs") / "a"
    done = nas(*search(inputs, out, "--json"), environment=ASCII)
    assert done.returncode == 0, done.stderr.decode()
    return out, done


def test_json_is_alone_on_standard_output_whatever_else_prints(study):
    _, done = study
    assert json.loads(done.stdout)["winner"]["trial"] in (0, 1)
    for words in (b"printed by the space", b"written to the descriptor", b"printed by a child"):
        assert words in done.stderr


COMMANDS = (
    ("show", "STUDY"),
    pytest.param(("export", "STUDY"), marks=pytest.mark.slow),
    ("describe", "STUDY"),
    ("describe", "efficientnet_b0", "--layers"),
    ("profile", "--space", "SPACE", "--samples", "20"),
    ("scale", "STUDY", "--phi", "1", "--out", "OUT"),
    ("resume", "STUDY"),
)


@pytest.fixture
def said(inputs, study, tmp_path):
    """Runs a command on the study, and checks that it ended well."""
    places = {"STUDY": study[0], "SPACE": f"{inputs}/loud_space.py:space", "OUT": tmp_path / "out"}

    def run(words, environment=None):
        done = nas(*(places.get(word, word) for word in words), environment=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr.decode()
        assert b"Error" not in done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words))
def test_every_command_prints_json_alone(said, words):
    assert isinstance(json.loads(said((*words, "--json")).decode("utf-8")), dict)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words))
def test_every_command_prints_where_only_ascii_can_be_shown(said, words):
    assert said(words, ASCII).decode("ascii").strip()


@pytest.mark.parametrize(
    "words",
    [("show", "STUDY"), ("show", "STUDY", "--json"), ("--help",), ("search", "--help"), ("--version",),
     ("describe", "efficientnet_b0", "--layers"), ("describe", "efficientnet_b0", "--json")],
    ids=" ".join,
)  # fmt: skip
def test_a_reader_that_goes_away_is_a_quiet_end(study, words):
    real = [str(study[0]) if word == "STUDY" else word for word in words]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "nas", *real],
        stdout=writing,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=300,
    )
    os.close(writing)
    assert b"Error" not in done.stderr
    assert b"Traceback" not in done.stderr
    # argparse passes over it where output is not buffered, or is longer than the buffer
    assert done.returncode in ((0, 1) if real[-1] in ("--help", "--version") else (1,))


@pytest.mark.slow
@pytest.mark.ray
def test_lines_of_ray_and_of_its_workers_are_not_on_standard_output(inputs, tmp_path):
    words = search(inputs, tmp_path / "a", "--executor", "ray", "--workers", "1", "--json")
    done = nas(*words)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["winner"]["trial"] in (0, 1)


@pytest.mark.slow
def test_the_doctor_prints_json_alone(tmp_path):
    done = nas("doctor", "--no-ray", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["counts"]["fail"] == 0
