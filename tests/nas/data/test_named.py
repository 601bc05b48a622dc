"""The data sets of EfficientNet's Table 5 are read from torchvision's files; these are tiny likenesses."""

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image
from scipy.io import savemat

from nas.data.images import Files, Wanted
from nas.data.loading import load_data, read_source
from nas.data.named import NAMES, find_name
from nas.errors import DataError


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    number = zlib.crc32(str(path).encode())
    pixels = np.random.default_rng(number).integers(0, 256, (8 + number % 3, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_food(root):
    base = root / "food-101"
    (base / "meta").mkdir(parents=True)
    for part, count in (("train", 4), ("test", 2)):
        listed = {name: [f"{name}/{part}{n}" for n in range(count)] for name in ("pizza", "apple_pie")}
        (base / "meta" / f"{part}.json").write_text(json.dumps(listed))
        for path in (path for paths in listed.values() for path in paths):
            write_image(base / "images" / f"{path}.jpg")


def write_pets(root):
    base = root / "oxford-iiit-pet"
    (base / "annotations").mkdir(parents=True)
    for part, count in (("trainval", 4), ("test", 2)):
        kinds = ("Abyssinian", "great_pyrenees")
        ids = [(f"{kind}_{part}{n}", kinds.index(kind) + 1) for kind in kinds for n in range(count)]
        lines = [f"{each} {label} 1 1\n" for each, label in ids]
        (base / "annotations" / f"{part}.txt").write_text("".join(lines))
        for each, _ in ids:
            write_image(base / "images" / f"{each}.jpg")


def write_aircraft(root):
    base = root / "fgvc-aircraft-2013b" / "data"
    base.mkdir(parents=True)
    (base / "variants.txt").write_text("707-320\nA300B4\n")
    number = 0
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        lines = []
        for variant in ("707-320", "A300B4"):
            for _ in range(count):
                number += 1
                write_image(base / "images" / f"{number:07}.jpg")
                lines.append(f"{number:07} {variant}\n")
        (base / f"images_variant_{part}.txt").write_text("".join(lines))


def write_cars(root):
    base = root / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    kinds = np.array(["Acura RL Sedan 2012", "Audi TTS Coupe 2012"], dtype=object)
    savemat(base / "devkit" / "cars_meta.mat", {"class_names": kinds})
    for part, count, place in (
        ("train", 8, base / "devkit" / "cars_train_annos.mat"),
        ("test", 4, base / "cars_test_annos_withlabels.mat"),
    ):
        rows = np.zeros(count, dtype=[("fname", object), ("class", object)])
        for number in range(count):
            write_image(base / f"cars_{part}" / f"{number:05}.jpg")
            rows[number] = (f"{number:05}.jpg", 1 + number % 2)
        savemat(place, {"annotations": rows})


@pytest.fixture
def write_flowers(monkeypatch):
    """Writes a likeness of the flowers; torchvision then expects the sums of the files that were written."""

    def write(root):
        base = root / "flowers-102"
        base.mkdir(parents=True)
        parts = {"trnid": 4, "valid": 1, "tstid": 2}
        ids, start = {}, 1
        for part, count in parts.items():
            ids[part] = np.arange(start, start + count * 102)
            start += count * 102
        savemat(base / "setid.mat", ids)
        savemat(base / "imagelabels.mat", {"labels": np.arange(start - 1) % 102 + 1})
        for number in range(1, start):
            write_image(base / "jpg" / f"image_{number:05}.jpg")
        known = dict(torchvision.datasets.Flowers102._file_dict)
        for key in ("label", "setid"):
            file = known[key][0]
            known[key] = (file, hashlib.md5((base / file).read_bytes()).hexdigest())
        monkeypatch.setattr(torchvision.datasets.Flowers102, "_file_dict", known)

    return write


@pytest.fixture
def root(tmp_path, write_flowers):
    for write in (write_food, write_pets, write_aircraft, write_cars, write_flowers):
        write(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("spelling", "classes", "counts"),
    [
        ("food-101", ("apple_pie", "pizza"), {"train": 8, "test": 4}),
        ("oxford_iiit_pets", ("Abyssinian", "Great Pyrenees"), {"train": 8, "test": 4}),
        ("FGVC Aircraft", ("707-320", "A300B4"), {"train": 8, "val": 4, "test": 6}),
        ("stanford_cars", ("Acura RL Sedan 2012", "Audi TTS Coupe 2012"), {"train": 8, "test": 4}),
        (
            "Flowers102",
            ("pink primrose", "hard-leaved pocket orchid"),
            {"train": 408, "val": 102, "test": 204},
        ),
    ],
)
def test_sets_of_table_5_have_the_splits_and_classes_of_torchvision(root, spelling, classes, counts):
    source = read_source(spelling, Wanted(), root=root)
    assert source.classes[:2] == classes
    assert {part: len(files) for part, files in source.parts.items()} == counts
    assert source.warnings == ()


def test_labels_of_files_are_those_that_torchvision_gives(root):
    dataset = torchvision.datasets.FGVCAircraft(str(root), split="val")
    files = read_source("fgvc-aircraft", Wanted(), root=root, resident_bytes=0).parts["val"]
    assert isinstance(files, Files)
    for number, (image, label) in enumerate(dataset):
        assert label == files.labels[number]
        with Image.open(Path(files.root) / files.paths[number]) as same:
            assert np.array_equal(np.asarray(same.convert("RGB")), np.asarray(image))


def test_files_of_a_named_set_may_stay_on_disk(root):
    data = load_data("food101", root=root, resolution=8, resident_bytes=100)
    assert not data.is_resident
    assert data.train.name(0).startswith("food-101/images/")
    held = load_data("food101", root=root, resolution=8)
    assert held.is_resident
    assert held.fingerprint == data.fingerprint
    assert held.split_fingerprint == data.split_fingerprint


def test_a_file_that_is_missing_in_a_named_set_is_said(root):
    (root / "food-101" / "images" / "pizza" / "train0.jpg").unlink()
    with pytest.raises(
        DataError, match=r"1 of 12 are not: food-101/images/pizza/train0.jpg; unpack"
    ) as error:
        load_data("food101", root=root)
    assert error.value.field == "data_root"


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("mnist5k",)])
def test_a_named_set_that_is_not_there_is_said_with_the_remedy(tmp_path, name):
    with pytest.raises(DataError, match=r"not found under .*--data-root.*--download") as error:
        load_data(name, root=tmp_path)
    assert error.value.field == "data_root"


def test_a_set_that_torchvision_does_not_have_is_read_from_a_folder():
    with pytest.raises(DataError, match="Birdsnap must be given as a folder") as error:
        load_data("birdsnap")
    assert error.value.field == "data"


def test_named_sets_are_for_classification(root):
    with pytest.raises(DataError, match="food101 holds labels for classification") as error:
        load_data("food101", root=root, task="regression")
    assert error.value.field == "task"


def test_spellings_of_names_do_not_matter():
    assert find_name("Oxford-IIIT Pets") == find_name("oxford_iiit_pet") == "oxford-iiit-pet"
    assert find_name("Stanford Cars") == "stanford-cars"
    assert find_name("a folder") is None
