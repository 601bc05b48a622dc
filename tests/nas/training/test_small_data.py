"""Searches on few images end with honest numbers, whatever prints them."""

import json
import re
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import nas
from nas.cli.main import main
from nas.data.images import Files
from nas.data.loading import load_data
from nas.evaluation.comparison import load_comparison
from nas.finalizing import measure_weights
from nas.report.comparison_report import comparison_notes
from nas.report.pictures import SearchPicture
from nas.spaces import find_space
from nas.study.study import open_study
from nas.tested_weights import weights_digest
from nas.training.accuracy import evaluate_accuracy
from nas.training.proxy import load_bytes
from search_spaces import build

SPACE_FILE = """
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice


def space(resolution, num_classes, in_channels=3):
    stages = (Stage(op=MBConv(expand_ratio=choice(1, 2, 3)), channels=choice(8, 12, 16), stride=2),)
    return SearchSpace(
        Network(
            stem=Stage(op=Conv(), channels=8), stages=stages, head=Head(channels=8, dropout=0.0),
            resolution=resolution, num_classes=num_classes, in_channels=in_channels,
        ),
        name="tiny",
    )
"""


def pack(path, count, classes, *, contrast=150, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = rng.integers(0, 100, (count, 8, 8, 1)) + contrast * labels[:, None, None, None] // classes
    np.savez(path, train_images=images.astype(np.uint8), train_labels=labels)
    return path


@pytest.fixture(scope="module")
def space_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("space") / "small_data_space.py"
    path.write_text(SPACE_FILE)
    yield f"{path}:space"
    sys.modules.pop("small_data_space", None)


def search(data, space, out, *options):
    words = ["search", "--data", str(data), "--space", space, "--executor", "inline", "--out", str(out)]
    return main([*words, "--compare-random", "1", *options])


@pytest.fixture(scope="module")
def finished(space_file, tmp_path_factory):
    """Sixty images of three classes; the last four trials train two finalists again."""
    folder = tmp_path_factory.mktemp("runs")
    data = pack(folder / "images.npz", 60, 3)
    assert search(data, space_file, folder / "a", "--trials", "8", "--finalists", "2") == 0
    return folder / "a"


def said_by(capsys, *words):
    capsys.readouterr()
    assert main(words) == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_few_images_are_searched_and_what_follows_from_their_number_is_said(space_file, tmp_path, capsys):
    data = pack(tmp_path / "few.npz", 12, 4)
    assert search(data, space_file, tmp_path / "a", "--trials", "2") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "the batch follows the 4 training images: 4" in said
    assert "5 steps leave 59% of the initial ones" in said
    assert said.count("only 5 steps a training") >= 2  # at the beginning and with the winner
    assert "chance may explain the rest" in said or "always answering with that class" in said


def test_a_batch_that_was_asked_for_is_refused_where_it_does_not_fit(space_file, tmp_path, capsys):
    data = pack(tmp_path / "few.npz", 60, 3)
    assert search(data, space_file, tmp_path / "a", "--batch-size", "128") == 2
    assert "at least one batch of 128 images, but has 39" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_images_that_tell_nothing_are_said_to_tell_nothing(space_file, tmp_path, capsys):
    data = pack(tmp_path / "noise.npz", 200, 2, contrast=0)
    assert search(data, space_file, tmp_path / "a", "--trials", "3", "--epochs", "2") == 0
    said = " ".join(capsys.readouterr().out.split())
    for split in ("search", "test"):
        assert re.search(rf"the largest class alone is 0.5000 of the \d+ {split} images", said)


def test_the_accuracy_of_a_winner_trained_again_is_the_mean_wherever_it_is_printed(finished, capsys):
    study = open_study(finished)
    best = study.best
    assert len(best.accuracies) > 1
    mean, deviation = statistics.fmean(best.accuracies), statistics.stdev(best.accuracies)
    words = f"{mean:.4f} ± {deviation:.4f} (n={len(best.accuracies)})"
    assert best.mean_accuracy == mean
    resumed = ("resume", str(finished), "--compare-random", "1")
    assert f"accuracy {words}" in said_by(capsys, *resumed)
    assert f"winner trial {best.number}, accuracy {words}" in said_by(capsys, "show", str(finished))
    assert words in (finished / "export" / f"trial-{best.number}" / "card.md").read_text()
    chosen = SearchPicture.of(study).chosen
    assert (chosen.value, chosen.values) == (mean, best.accuracies)
    shown = json.loads(said_by(capsys, "show", str(finished), "--json"))
    assert (shown["winner_accuracy"], shown["winner_accuracies"]) == (mean, list(best.accuracies))
    ended = json.loads(said_by(capsys, *resumed, "--json"))
    assert (ended["winner"]["accuracy"], ended["winner"]["accuracies"]) == (mean, list(best.accuracies))


def test_the_kept_weights_themselves_are_measured_once_on_the_test_split(finished, capsys):
    study = open_study(finished)
    best = study.best
    kept = json.loads((finished / "comparison.json").read_text())["tested_weights"]
    data = load_data(study.settings["data"])
    module = build(best.network, seed=0)
    load_bytes(module, best.weights())
    accuracy = evaluate_accuracy(module, data, "test", device="cpu")
    assert kept["digest"] == weights_digest(best.weights())
    assert kept["right"] / kept["images"] == accuracy
    words = f"trial {best.number} themselves: accuracy {accuracy:.4f} ({kept['right']} of 12 test images"
    assert words in said_by(capsys, "show", str(finished))
    card = (finished / "export" / f"trial-{best.number}" / "card.md").read_text()
    assert f"| test accuracy of these weights | {accuracy:.4f} | fraction |" in card
    assert "95 % interval" in card


def test_weights_that_were_not_kept_are_said_not_to_be_measured(finished, tmp_path):
    study = open_study(finished)
    comparison, data = load_comparison(finished), load_data(study.settings["data"])
    for gone in (None, finished / "weights" / "gone.safetensors"):
        winner = replace(study.best, weights_file=gone)
        found = measure_weights(comparison, winner, data, tmp_path)
        assert "are not measured: they were not kept" in comparison_notes(found)[0]
        assert load_comparison(tmp_path) == found


def test_a_test_image_that_is_gone_is_not_counted_for_the_kept_weights(finished, tmp_path):
    study = open_study(finished)
    data = load_data(study.settings["data"])
    paths = tuple(f"{number}.png" for number in range(len(data.test)))
    for path, image in zip(paths[1:], data.test.images[1:], strict=True):
        Image.fromarray(image[0]).save(tmp_path / path)
    part = Files(root=str(tmp_path), paths=paths, labels=data.test.labels)
    comparison = replace(load_comparison(finished), tested_weights=None)
    found = measure_weights(comparison, study.best, replace(data, test=part), tmp_path).tested_weights
    assert found.images == len(data.test) - 1
    assert 0 <= found.right <= found.images


def test_what_the_command_finalized_is_not_made_again_from_python(finished, space_file):
    study = open_study(
        finished, space=find_space(space_file).make(resolution=8, num_classes=3, in_channels=1)
    )
    before = load_comparison(finished)
    card = finished / "export" / f"trial-{study.best.number}" / "card.md"
    written = card.stat().st_mtime_ns
    found = nas.finalize(study, data=load_data(study.settings["data"]), randoms=1)
    assert found.comparison == before
    assert found.bundle == card.parent
    assert card.stat().st_mtime_ns == written


def test_events_say_the_mean_of_the_winner_too(finished):
    events = EventAccumulator(str(finished / "tensorboard"))
    events.Reload()
    (said,) = events.Tensors("study/winner")[-1].tensor_proto.string_val
    best = open_study(finished).best
    assert f"{best.mean_accuracy:.4f} ± " in said.decode()


def test_a_search_from_python_tells_what_was_decided_about_its_images(tmp_path, space_file):
    sys.path.insert(0, str(Path(space_file.rpartition(":")[0]).parent))
    from small_data_space import space

    data = pack(tmp_path / "images.npz", 60, 2)
    np.savez(data, **np.load(data), masks=np.zeros(3))
    ours = {"recipe": nas.Recipe(epochs=1, warmup_epochs=0), "executor": "inline", "trials": 1}
    study = nas.search(space(8, 2, 1), data=data, out=tmp_path / "study", **ours)
    told = [message for _, kind, message in study.events if kind == "data_warning"]
    assert any("masks" in message for message in told)
    again = nas.search(space(8, 2, 1), data=data, out=tmp_path / "study", **{**ours, "trials": 2})
    assert [message for _, kind, message in again.events if kind == "data_warning"] == told
