"""Images are read as a network that exists was trained to see them, split as then, and keep their names."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.data.decoding import decode
from nas.data.images import Carving, Files, Pixels, Reading
from nas.data.labelled import load_labelled
from nas.data.loading import from_arrays, load_data
from nas.errors import DataError

GREY = Reading(channels=1, resolution=8, bits=12)
COLOUR = Reading(channels=3, resolution=8)


def write(path: Path, number: int, *, mode: str = "RGB", side: int = 12) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    if mode == "I;16":
        Image.fromarray(rng.integers(0, 3000, size=(side, side), dtype=np.uint16)).save(path)
    else:
        Image.fromarray(rng.integers(0, 256, size=(side, side, 3), dtype=np.uint8)).convert(mode).save(path)
    return path


def write_classes(
    folder: Path, *, classes: tuple[str, ...] = ("cat", "dog"), count: int = 10, **image
) -> Path:
    for place, name in enumerate(classes):
        for number in range(count):
            write(folder / name / f"{number}.png", 1000 * place + number, **image)
    return folder


def labelled(spec, split="test", reading=COLOUR, **carving):
    return load_labelled(spec, split, reading, carving=Carving(**carving))


@pytest.mark.parametrize("seed", [0, 3])
def test_carved_split_is_that_of_the_training(tmp_path, seed):
    folder = write_classes(tmp_path)
    trained = load_data(folder, resolution=8, seed=seed, search_fraction=0.3)
    found = labelled(folder, reading=trained.reading, seed=seed, search_fraction=0.3)
    assert np.array_equal(found.part.images, trained.test.images)
    assert found.content_digest == trained.content_digest
    assert found.split_fingerprint == trained.split_fingerprint
    assert found.carving == trained.carving == Carving(seed=seed, search_fraction=0.3)


def test_given_split_is_taken_whole_and_has_the_datas_digest(tmp_path):
    for part in ("train", "test"):
        write_classes(tmp_path / part)
    trained = load_data(tmp_path, resolution=8)
    found = labelled(tmp_path, reading=trained.reading)
    assert np.array_equal(found.part.images, trained.test.images)
    assert found.carving is None
    assert found.content_digest == trained.content_digest


def test_deep_images_are_scaled_as_in_the_training_not_by_their_own_values(tmp_path):
    folder = write_classes(tmp_path, mode="I;16", count=3)
    found = labelled(folder, "all", replace(GREY, bits=16))
    paths = [folder / found.part.name(index) for index in range(len(found.part))]
    assert load_data(folder, resolution=8).reading.bits == 12
    expected = np.stack([decode(path, replace(GREY, bits=16)) for path in paths])
    assert np.array_equal(found.part.images, expected)


def test_values_above_the_white_of_the_training_are_warned_of(tmp_path):
    folder = write_classes(tmp_path, mode="I;16", count=3)
    found = labelled(folder, "all", replace(GREY, bits=10))
    assert any("6 images have values above 1023" in warning for warning in found.warnings)


def test_colour_images_become_grey_for_a_grey_network_in_folders_and_arrays_alike(tmp_path):
    folder = write_classes(tmp_path / "folder", count=3, side=8)
    from_folder = labelled(folder, "all", GREY)
    files = [folder / from_folder.part.name(index) for index in range(6)]
    images = np.stack([np.asarray(Image.open(path)) for path in files])
    pack = tmp_path / "pack.npz"
    np.savez(pack, train_images=images, train_labels=from_folder.part.labels)
    assert np.array_equal(labelled(pack, "all", GREY).part.images, from_folder.part.images)
    for notes in (from_folder.notes, labelled(pack, "all", GREY).notes):
        assert any("become grey" in note for note in notes)


def test_note_on_images_that_are_not_square_offers_no_choice_that_the_network_has_not(tmp_path):
    folder = write_classes(tmp_path, count=3)
    Image.new("RGB", (30, 10)).save(folder / "cat" / "wide.png")
    pack = tmp_path / "pack.npz"
    np.savez(pack, train_images=np.zeros((3, 8, 9), np.uint8), train_labels=[0, 1, 0])
    for spec in (folder, pack):
        (note,) = (
            note for note in labelled(spec, "all", replace(COLOUR, fit="pad")).notes if "square" in note
        )
        assert note == "images that are not square are padded with black, as in the network's training"


def test_one_class_an_empty_class_and_many_damaged_images_are_enough(tmp_path):
    folder = write_classes(tmp_path, classes=("dog",), count=4)
    (folder / "cat").mkdir()
    (folder / "dog" / "0.png").write_bytes(b"no image")
    found = labelled(folder, "all")
    assert found.classes == ("cat", "dog")
    assert found.part.labels.tolist() == [1, 1, 1]
    assert any("skipped 1 of 4 images that cannot be read: dog/0.png" in one for one in found.warnings)


def test_pack_of_test_images_alone_can_be_evaluated_but_not_carved(tmp_path):
    pack = tmp_path / "pack.npz"
    np.savez(pack, test_images=np.zeros((3, 8, 8), np.uint8), test_labels=[0, 2, 0])
    found = labelled(pack, "test", GREY)
    assert found.classes == ("0", "1", "2")
    assert found.part.name(1) == "test image 1"
    with pytest.raises(DataError, match="must give the search split") as caught:
        labelled(pack, "search", GREY)
    assert caught.value.field == "split"


def test_loaded_data_of_another_size_are_refused_and_of_another_fit_warned_of():
    images = np.zeros((12, 8, 8), np.uint8)
    data = from_arrays(images, np.arange(12) % 2, fit="pad")
    with pytest.raises(DataError, match="resolution=16") as caught:
        labelled(data, reading=replace(GREY, resolution=16))
    assert caught.value.field == "data"
    assert any("fit=crop" in one for one in labelled(data, reading=GREY).warnings)


def test_unknown_split_is_refused(tmp_path):
    with pytest.raises(DataError, match="split='dev'") as caught:
        labelled(write_classes(tmp_path, count=3), "dev")
    assert caught.value.field == "split"


@pytest.mark.parametrize("resident_bytes", [1 << 30, 0])
def test_names_stay_with_their_images_through_splitting_choosing_and_pickling(tmp_path, resident_bytes):
    folder = write_classes(tmp_path, classes=("á b", "z"))
    data = load_data(folder, resolution=8, resident_bytes=resident_bytes)
    for part in (data.train, data.search, data.test):
        assert isinstance(part, Files if resident_bytes == 0 else Pixels)
        chosen = pickle.loads(pickle.dumps(part.take(np.array([len(part) - 1, 0]))))
        assert [chosen.name(0), chosen.name(1)] == [part.name(len(part) - 1), part.name(0)]
        if isinstance(part, Pixels):
            for index in range(len(part)):
                assert np.array_equal(part.images[index], decode(folder / part.name(index), data.reading))


def test_images_of_an_array_are_named_by_their_place_in_it():
    images = np.arange(30, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    data = from_arrays(images, np.arange(30) % 3)
    for part in (data.train, data.search, data.test):
        assert [part.name(i) for i in range(len(part))] == [
            f"train image {i}" for i in part.images[:, 0, 0, 0]
        ]


def test_as_many_names_as_images_are_needed():
    with pytest.raises(DataError, match="one name per image"):
        Pixels(images=np.zeros((2, 1, 8, 8), np.uint8), labels=np.zeros(2, np.int64), names=("a",))
    assert Pixels(images=np.zeros((2, 1, 8, 8), np.uint8), labels=np.zeros(2, np.int64)).name(1) == "image 1"
