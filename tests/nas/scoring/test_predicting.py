"""Classes of image files: whatever is given is predicted once, or named as unreadable."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import nas
from nas.data.decoding import decode
from nas.errors import DataError, UsageError
from nas.export.opened import open_bundle
from nas.scoring.predicting import Predictor
from nas.training.accuracy import Normalise

from .conftest import CLASSES, write_image


def expected(bundle: Path, path: Path) -> np.ndarray:
    """Probabilities by hand: decoded, normalised, one image at a time."""
    opened = open_bundle(bundle)
    preprocessing = opened.required_preprocessing()
    pixels = torch.from_numpy(decode(path, preprocessing.reading))[None]
    with torch.inference_mode():
        logits = opened.module()(Normalise(preprocessing, torch.device("cpu"))(pixels))
    return logits.softmax(1)[0].numpy()


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_probabilities_are_those_of_the_network_on_the_decoded_image(bundle, tmp_path, runtime):
    paths = [
        write_image(tmp_path / f"{n}.png", n, mode=mode) for n, mode in enumerate(("RGB", "L", "P", "1"))
    ]
    found = nas.predict(bundle, paths, top=3, runtime=runtime, batch_size=3)
    for one, path in zip(found, paths, strict=True):
        probabilities = expected(bundle, path)
        order = np.argsort(-probabilities)[:3]
        assert one.file == str(path)
        assert one.classes == tuple(CLASSES[index] for index in order)
        assert one.probabilities == pytest.approx(probabilities[order], abs=1e-5)
        assert (one.label, one.probability) == (one.classes[0], one.probabilities[0])


def test_folders_are_walked_in_order_and_every_file_comes_once(bundle, tmp_path):
    paths = [write_image(tmp_path / name, 1) for name in ("b/ö ü.png", "b/c/deep.jpg", "a.png")]
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_bytes(b"")
    found = nas.predict(bundle, [tmp_path, paths[2]])
    assert [Path(one.file) for one in found] == sorted(paths)
    assert any("passed over 1 file" in note for note in found.notes)


def test_one_path_needs_no_list(bundle, tmp_path):
    path = write_image(tmp_path / "a.png", 1)
    assert len(nas.predict(bundle, path)) == len(nas.predict(bundle, str(path))) == 1


def test_unreadable_files_are_named_with_a_reason_and_change_no_other(bundle, tmp_path):
    paths = [write_image(tmp_path / f"{n}.png", n) for n in range(6)]
    clean = {one.file: one for one in nas.predict(bundle, paths)}
    paths[1].write_bytes(b"")
    paths[4].write_bytes(paths[4].read_bytes()[:60])
    text = tmp_path / "named.txt"
    text.write_text("no image")
    found = nas.predict(bundle, [*paths, text], batch_size=2)
    assert [one.name for one in found.unreadable] == [str(paths[1]), str(paths[4]), str(text)]
    assert all(one.reason for one in found.unreadable)
    assert [one.file for one in found] == [str(paths[n]) for n in (0, 2, 3, 5)]
    for one in found:
        assert one.label == clean[one.file].label
        assert one.probability == pytest.approx(clean[one.file].probability, abs=1e-6)


def test_whole_batch_of_unreadable_files_is_no_error(bundle, tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(b"broken")
    found = nas.predict(bundle, tmp_path, batch_size=2)
    assert len(found) == 0
    assert len(found.unreadable) == 5


def test_no_more_classes_are_given_than_there_are(bundle, tmp_path):
    (one,) = nas.predict(bundle, write_image(tmp_path / "a.png", 1), top=100)
    assert sorted(one.classes) == sorted(CLASSES)
    assert sum(one.probabilities) == pytest.approx(1)


def test_files_are_decoded_only_a_few_batches_ahead(bundle, tmp_path):
    for number in range(40):
        write_image(tmp_path / f"{number:02}.png", number)
    predictor = iter(Predictor(bundle, tmp_path, batch_size=2))
    next(predictor)
    for path in sorted(tmp_path.glob("*.png"))[12:]:
        path.unlink()
    rest = [*predictor]
    assert sum(len(batch.unreadable) for batch in rest) == 28


@pytest.mark.parametrize(
    ("paths", "match"),
    [
        (["nowhere.png", "."], "nowhere.png does not exist"),
        ([], "no path has none"),
        (["empty"], "has none that"),
    ],
)
def test_paths_without_an_image_are_refused(bundle, tmp_path, paths, match):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=match) as caught:
        nas.predict(bundle, [tmp_path / path for path in paths])
    assert caught.value.field == "paths"


def test_wrong_number_of_classes_is_refused(bundle, tmp_path):
    with pytest.raises(UsageError) as caught:
        nas.predict(bundle, write_image(tmp_path / "a.png", 1), top=0)
    assert caught.value.field == "top"


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
def test_name_that_is_not_utf8_is_predicted_where_it_is_given(bundle, tmp_path):
    path = write_image(tmp_path / "a.png", 1).rename(tmp_path / os.fsdecode(b"caf\xe9.png"))
    assert len(nas.predict(bundle, path)) == 1
