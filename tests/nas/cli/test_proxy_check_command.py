import json

import numpy as np
import pytest
from PIL import Image

from nas.cli.main import main
from nas.evaluation.proxy_check import read_check, read_noise
from nas.weight_sharing.training import train_supernet
from search_spaces import small


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """500 images of 16 pixels, four classes that a bar's place tells apart, some of them faint."""
    rng = np.random.default_rng(0)
    labels = np.arange(500) % 4
    images = rng.integers(0, 120, (500, 16, 16), dtype=np.uint8)
    for image, label, strength in zip(images, labels, rng.integers(5, 60, 500), strict=True):
        image[4 * label : 4 * label + 2] += np.uint8(strength)
    path = tmp_path_factory.mktemp("images") / "bars.npz"
    np.savez(path, train_images=images, train_labels=labels)
    return path


def command(pack, out, *options):
    words = [
        "proxy-check",
        "--data",
        str(pack),
        "--space",
        "small",
        "--executor",
        "inline",
        "--out",
        str(out),
    ]
    return [*words, "--epochs", "1", "--batch-size", "32", "--precision", "float32", *options]


def complaint(capsys, words):
    capsys.readouterr()
    assert main(words) == 2
    return capsys.readouterr().err


@pytest.mark.slow
def test_a_whole_check_is_trained_shown_drawn_and_repeated_at_once(pack, tmp_path, capsys):
    supernet = tmp_path / "net"
    space = small(resolution=16, num_classes=4, in_channels=1)
    train_supernet(space, data=pack, out=supernet, sampling="uniform", epochs=1)
    options = ("--candidates", "5", "--longer", "2x", "--proxies", "epochs=1/2,data=1/2+width=1/2")
    options += ("--supernet", str(supernet))
    assert main(command(pack, tmp_path, *options)) == 0
    shown = capsys.readouterr().out
    for words in (
        "width=1/2+data=1/2",
        "from seed to seed by the recipe",
        "ceiling",
        "only 5 candidates",
        "shared weights",
    ):
        assert words in shown
    with Image.open(tmp_path / "proxy-check.png") as picture:
        assert picture.width > 1_000
    journal = (tmp_path / "trainings.jsonl").read_bytes()
    assert main([*command(pack, tmp_path, *options), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (tmp_path / "trainings.jsonl").read_bytes() == journal
    assert [variant["name"] for variant in answer["variants"]] == [
        "long",
        "recipe",
        "epochs=1/2",
        "width=1/2+data=1/2",
        "shared weights",
    ]
    rival = read_check(tmp_path).rival
    assert 0 < rival.fitted <= 3
    assert f"fitted to {rival.fitted} such trainings" in shown
    assert answer["noise"] == read_noise(tmp_path).noise > 0
    assert all(variant["failed"] == 0 and variant["seconds"] > 0 for variant in answer["variants"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--proxies", "epcohs=1/3"), "did you mean epochs="),
        (("--proxies", "epochs=2"), "`0 < epochs <= 1` must hold"),
        (("--proxies", "resolution=0.01"), "of at least 8 pixels, but resolution=1/100"),
        (("--proxies", "data=0.01"), "leaves 4: keep a larger share"),
        (("--candidates", "4"), "at least 5 candidates are needed"),
        (("--seeds", "1"), "`seeds >= 2` must hold"),
        (("--longer", "0.5"), "must be longer than the proxy's 1 epochs"),
        (("--long-epochs", "1"), "must be longer than the proxy's 1 epochs"),
        (("--longer", "2", "--long-epochs", "2"), "give one of them"),
        (("--max-macs", "10"), "no candidates can be drawn within the limits"),
        (("--search-fraction", "0.1"), "50 search images are needed"),
        (("--longer", "threex"), "a number is needed"),
        (("--supernet", "nowhere"), "nowhere holds no trained supernet"),
    ],
)
def test_a_mistake_is_refused_with_the_rule_and_writes_nothing(pack, tmp_path, capsys, options, words):
    assert words in complaint(capsys, command(pack, tmp_path / "out", *options))
    assert not (tmp_path / "out").exists()


def test_trainings_beside_a_supernet_have_the_recipe_that_is_asked_for(pack, tmp_path, capsys):
    space = small(resolution=16, num_classes=4, in_channels=1)
    train_supernet(space, data=pack, out=tmp_path / "net", sampling="uniform", epochs=0.3)
    words = command(pack, tmp_path / "out", "--supernet", str(tmp_path / "net"), "--max-macs", "10")
    assert "no candidates can be drawn within the limits" in complaint(capsys, words)


def test_images_and_space_must_be_given(tmp_path, capsys):
    assert "needs --data and --space" in complaint(capsys, ["proxy-check", "--out", str(tmp_path)])


def test_help_says_what_the_command_does(capsys):
    with pytest.raises(SystemExit):
        main(["proxy-check", "--help"])
    assert "--long-epochs" in capsys.readouterr().out
