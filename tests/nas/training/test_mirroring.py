import sys
from dataclasses import replace

import numpy as np
import pytest

from nas.cli.main import main
from nas.data.loading import from_arrays
from nas.training.mirroring import describe_augmentation, mirror_warning
from nas.training.recipe import Recipe


def images(classes, *, mirrors=True):
    count = 6 * len(classes)
    pixels = np.random.default_rng(0).integers(0, 256, (count, 8, 8), dtype=np.uint8)
    return from_arrays(pixels, np.arange(count) % len(classes), classes=tuple(classes), mirrors=mirrors)


def test_mirroring_is_said_with_what_it_does_and_how_it_is_switched_off():
    said = describe_augmentation(Recipe(), images(["cat", "dog"]))
    assert "mirroring" in said
    assert "--augmentation crop" in said


@pytest.mark.parametrize(
    ("recipe", "mirrors", "expected"),
    [
        (Recipe(augmentation="crop"), True, "no mirroring"),
        (Recipe(), False, "no mirroring"),
        (Recipe(augmentation="none"), True, "none"),
        (Recipe(augmentation="crop_flip"), False, "mirroring, which"),
    ],
)
def test_each_augmentation_is_said(recipe, mirrors, expected):
    assert expected in describe_augmentation(recipe, images(["cat", "dog"], mirrors=mirrors))


@pytest.mark.parametrize(
    "classes",
    [
        "0123456789",
        "27",
        "ABC",
        "abç",
        "αβγ",
        ["1", "b"],
        ["digit_0", "digit_1"],
        ["letter-a", "Letter-B"],
        ["three", "Seven"],
    ],
)
def test_classes_named_as_digits_or_letters_are_warned_of(classes):
    warning = mirror_warning(Recipe(), images(sorted(classes)))
    assert "look like digits or letters" in warning
    assert "--augmentation crop" in warning


@pytest.mark.parametrize(
    "classes",
    [
        ["left", "right"],
        ["turn_left", "stop", "turn_right"],
        ["Left hand", "right hand"],
        ["left-arrow", "right-arrow", "up-arrow"],
        ["clockwise", "counterclockwise"],
        ["cw", "ccw"],
    ],
)
def test_classes_that_a_mirror_exchanges_are_warned_of(classes):
    assert "a mirror makes" in mirror_warning(Recipe(), images(classes))


@pytest.mark.parametrize(
    "classes",
    [
        ["cat", "dog"],
        ["class_1", "class_2"],
        ["0", "10"],
        ["left", "front"],
        ["bright", "dark"],
        ["1", "cat"],
    ],
)
def test_other_classes_are_not_warned_of(classes):
    assert mirror_warning(Recipe(), images(classes)) is None


@pytest.mark.parametrize("augmentation", ["none", "crop"])
def test_nothing_is_warned_of_without_mirroring(augmentation):
    digits = images("0123456789")
    assert mirror_warning(Recipe(augmentation=augmentation), digits) is None
    assert mirror_warning(Recipe(), replace(digits, mirrors=False)) is None


@pytest.fixture
def digits(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (120, 8, 12), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", train_images=pixels, train_labels=np.arange(120) % 2)
    (tmp_path / "wide_space.py").write_text(
        "from search_spaces import *\n"
        "def space(resolution, num_classes, in_channels=3):\n"
        "    stage = Stage(op=MBConv(expand_ratio=choice(1, 2)), channels=8, stride=2)\n"
        "    return SearchSpace(Network(stem=Stage(op=Conv(), channels=8), stages=(stage,),\n"
        "        head=Head(channels=8), resolution=resolution, num_classes=num_classes,\n"
        "        in_channels=in_channels))\n"
    )
    yield tmp_path
    sys.modules.pop("wide_space", None)


def words(folder, *options):
    return [
        *("search", "--data", str(folder / "images.npz"), "--space", f"{folder}/wide_space.py:space"),
        *("--executor", "inline", "--epochs", "1", "--batch-size", "16", "--trials", "1"),
        *("--compare-seeds", "0", "--out", str(folder / "out"), *options),
    ]


def test_a_dry_run_says_augmentation_fit_and_warning(digits, capsys):
    assert main(words(digits, "--dry-run")) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "augmentation random crops and mirroring" in said
    assert "warning classes named 0, 1, ... look like digits" in said
    assert "cuts off 33% of a picture" in said
    assert main(words(digits, "--dry-run", "--augmentation", "crop", "--fit", "pad")) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "augmentation random crops, no mirroring" in said
    assert "warning" not in said
    assert "12 x 12" in said


@pytest.mark.slow
def test_the_first_lines_of_a_search_say_augmentation_and_warning_and_fit_may_not_change(digits, capsys):
    assert main(words(digits, "--fit", "stretch")) == 0
    first = " ".join(" ".join(capsys.readouterr().out.split("\n")[:6]).split())
    assert "augmentation random crops and mirroring" in first
    assert "look like digits" in first
    assert "1 x 10 x 10" in first
    assert main([*words(digits, "--fit", "pad")]) == 2
    assert "--fit is stretch there, pad here" in capsys.readouterr().err
    assert main(words(digits)) == 0


def test_an_unknown_fit_is_refused_with_the_known_ones(digits, capsys):
    assert main(words(digits, "--fit", "squeeze")) == 2
    assert "crop, pad, stretch" in capsys.readouterr().err.replace(" or ", ", ")
