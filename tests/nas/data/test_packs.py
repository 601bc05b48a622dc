import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.data.loading import load_data
from nas.errors import DataError


def plain(part="train", count=40, classes=4, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (count, 10, 10, 3), dtype=np.uint8)
    return {f"{part}_images": images, f"{part}_labels": np.arange(count) % classes}


def encoded(part="train", count=40, classes=4):
    streams = []
    for number in range(count):
        stream = io.BytesIO()
        Image.fromarray(np.full((10, 10, 3), number, dtype=np.uint8)).save(stream, "JPEG")
        streams.append(stream.getvalue())
    return {
        f"{part}_jpeg": np.frombuffer(b"".join(streams), dtype=np.uint8),
        f"{part}_offset": np.cumsum([0, *map(len, streams)]),
        f"{part}_label": np.arange(count) % classes,
    }


@pytest.fixture
def write(tmp_path):
    def to_file(**arrays):
        np.savez(tmp_path / "pack.npz", **arrays)
        return tmp_path / "pack.npz"

    return to_file


def test_plain_arrays_are_read(write):
    data = load_data(write(**plain(), classes=np.array(["a", "b", "c", "d"])))
    assert data.classes == ("a", "b", "c", "d")
    assert (data.name, data.channels, data.resolution) == ("pack", 3, 10)
    assert len(data.train) + len(data.search) + len(data.test) == 40


def test_a_column_of_labels_is_read_as_labels(write):
    arrays = plain()
    data = load_data(write(train_images=arrays["train_images"], train_labels=arrays["train_labels"][:, None]))
    assert data.num_classes == 4


def test_given_val_and_test_are_search_and_test(write):
    data = load_data(write(**plain(), **plain("val", 8), **plain("test", 4)))
    assert (len(data.train), len(data.search), len(data.test)) == (40, 8, 4)


def test_val_alone_is_the_test_split(write):
    data = load_data(write(**plain(), **plain("val", 8)))
    assert (len(data.train), len(data.search), len(data.test)) == (32, 8, 8)


def test_an_encoded_stream_is_cut_at_its_offsets(write):
    data = load_data(write(**encoded(), **encoded("test", 8)))
    assert (len(data.train), len(data.search), len(data.test)) == (32, 8, 8)
    assert [int(image[0, 0, 0]) for image in data.test.images] == list(range(8))
    assert data.test.labels.tolist() == [0, 1, 2, 3] * 2


def test_damaged_images_of_a_stream_are_skipped_and_named(write):
    arrays = encoded(count=200)
    stream = arrays["train_jpeg"].copy()
    stream[arrays["train_offset"][5] :][:20] = 0
    data = load_data(write(**arrays | {"train_jpeg": stream}))
    assert data.warnings[0] == "skipped 1 of 200 images that cannot be read: train image 5"
    assert len(data.train) + len(data.search) + len(data.test) == 199


@pytest.mark.parametrize("missing", ["train_labels", "train_offset", "train_label"])
def test_a_missing_array_is_named(write, missing):
    arrays = plain() if missing == "train_labels" else encoded()
    del arrays[missing]
    with pytest.raises(DataError, match=f"lacks {missing}"):
        load_data(write(**arrays))


def test_a_pack_without_training_images_is_refused_with_what_it_holds(write):
    with pytest.raises(DataError, match=r"must hold train_images.*but holds x"):
        load_data(write(x=np.zeros(3)))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_truncated_pack_is_refused(write, share):
    path = write(**plain())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match="is it complete"):
        load_data(path)


def test_a_pack_with_flipped_bytes_is_refused(write):
    path = write(**plain())
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(bytes(whole))
    with pytest.raises(DataError, match="is it complete"):
        load_data(path)


def test_a_pack_with_pickled_objects_is_refused(write):
    with pytest.raises(DataError, match=r"cannot be read.*: write texts with np\.array\(names, dtype=str\)"):
        load_data(write(train_images=np.array([{}], dtype=object), train_labels=np.zeros(1, dtype=int)))


@pytest.mark.parametrize(
    "offsets",
    [
        lambda o: o[:-1],
        lambda o: np.concatenate([o[:1], o[2:3], o[1:2], o[3:]]),
        lambda o: np.concatenate([o[:1] + 1, o[1:]]),
        lambda o: np.concatenate([o[:-1], o[-1:] + 1]),
        lambda o: o.astype(float),
    ],
)
def test_offsets_that_do_not_fit_the_stream_are_refused(write, offsets):
    arrays = encoded()
    with pytest.raises(DataError, match="the offsets of"):
        load_data(write(**arrays | {"train_offset": offsets(arrays["train_offset"])}))


@pytest.mark.parametrize("dtype", [float, str])
def test_labels_that_are_not_integers_are_refused(write, dtype):
    arrays = plain()
    with pytest.raises(DataError, match="must be integers"):
        load_data(write(**arrays | {"train_labels": arrays["train_labels"].astype(dtype)}))


def test_test_images_of_another_shape_are_refused(write):
    images = np.zeros((8, 12, 12, 3), dtype=np.uint8)
    with pytest.raises(DataError, match=r"train has \(3, 10, 10\) and test has \(3, 12, 12\)"):
        load_data(write(**plain(), test_images=images, test_labels=np.arange(8) % 4))


def test_the_local_cifar10_pack_is_read():
    folder = os.environ.get("MNAS_DATA")
    if not folder or not (Path(folder) / "cifar10_jpeg_small.npz").is_file():
        pytest.skip("set MNAS_DATA to a folder with cifar10_jpeg_small.npz to run this")
    data = load_data(Path(folder) / "cifar10_jpeg_small.npz")
    assert (data.num_classes, data.channels, data.resolution) == (10, 3, 32)
    assert (len(data.train), len(data.search), len(data.test)) == (4_000, 1_000, 1_000)
    assert data.classes[0] == "airplane"
    assert data.warnings == data.notes == ()


def test_encoded_val_and_test_are_search_and_test(write):
    data = load_data(write(**encoded(), **encoded("val", 8), **encoded("test", 4)))
    assert (len(data.train), len(data.search), len(data.test)) == (40, 8, 4)


def test_encoded_val_alone_is_the_test_split(write):
    data = load_data(write(**encoded(), **encoded("val", 8)))
    assert (len(data.train), len(data.search), len(data.test)) == (32, 8, 8)


@pytest.mark.parametrize("make", [plain, encoded])
@pytest.mark.parametrize("part", ["valid", "validation", "eval", "dev", "Val", "val_set"])
def test_arrays_of_a_split_by_another_name_are_read_and_it_is_said(write, make, part):
    data = load_data(write(**make(), **make(part, 8), **make("test", 4, seed=9) if make is plain else {}))
    assert len(data.search if make is plain else data.test) == 8
    assert any(f"{part}_" in note and "is read as val_" in note for note in data.notes)


@pytest.mark.parametrize(
    "more",
    [
        {"extra": np.zeros(3)},
        {"test_jpeg": np.zeros(3, dtype=np.uint8)},
        plain("steam_train"),
        plain("other"),
    ],
)
def test_arrays_that_are_not_used_are_named(write, more):
    (warning,) = load_data(write(**plain(), **more)).warnings
    assert warning.startswith(f"passed over the arrays {', '.join(sorted(more))}")


def test_plain_arrays_in_an_encoded_pack_are_named(write):
    data = load_data(write(**encoded(), **plain("test", 8)))
    assert data.warnings[0].startswith("passed over the arrays test_images, test_labels")


def test_arrays_that_are_cropped_to_a_square_are_said_to_be(write):
    images = np.random.default_rng(0).integers(0, 256, (40, 30, 400), dtype=np.uint8)
    data = load_data(write(train_images=images, train_labels=np.arange(40) % 4))
    (note,) = data.notes
    assert "cuts off 92% of a picture on average" in note
    assert "(400 x 30); --fit pad" in note


@pytest.mark.parametrize("make", [plain, encoded])
def test_copies_in_a_pack_are_in_one_split(write, make):
    arrays = make(count=40)
    if make is plain:
        arrays["train_images"][20:] = arrays["train_images"][:20]
    else:
        stream, offset = arrays["train_jpeg"], arrays["train_offset"]
        half = stream[: offset[20]]
        arrays["train_jpeg"] = np.concatenate([half, half])
        arrays["train_offset"] = np.concatenate([offset[:21], offset[20] + offset[1:21]])
    data = load_data(write(**arrays))
    found = [{image.tobytes() for image in part.images} for part in (data.train, data.search, data.test)]
    assert sum(map(len, found)) == len(set.union(*found)) == 20
    assert "20 of 40 images are copies of others, and kept in one split with those" in data.notes


def test_copies_across_the_splits_of_a_pack_are_counted(write):
    arrays = plain("test", 8, seed=1)
    arrays["test_images"][:2] = plain()["train_images"][:2]
    (warning,) = load_data(write(**plain(), **arrays)).warnings
    assert warning.startswith("2 of 8 test images are copies of training images")


@pytest.mark.parametrize("names", [["a", "é", "c", "d"], [b"a", "é".encode(), b"c", b"d"], [0, 10, 20, 30]])
def test_names_of_classes_are_text_bytes_or_numbers(write, names):
    found = load_data(write(**plain(), classes=np.array(names))).classes
    assert found == (("0", "10", "20", "30") if names[0] == 0 else ("a", "é", "c", "d"))


@pytest.mark.parametrize("names", ["abcd", [["a"], ["b"], ["c"], ["d"]]])
def test_names_of_classes_of_another_shape_are_refused(write, names):
    with pytest.raises(DataError, match=r"must be one name per class, of shape \(classes,\)"):
        load_data(write(**plain(), classes=np.array(names)))


@pytest.mark.parametrize("make", [plain, encoded])
@pytest.mark.parametrize(
    ("largest", "words"),
    [
        (np.int64(2**62), f"range from 0 to {2**62} and none is 4"),
        (np.uint64(2**64 - 1), f"must count from 0, but range from 0 to {2**64 - 1}"),
        (np.int64(5), "range from 0 to 5 and none is 4: number the classes from 0"),
    ],
)
def test_labels_with_a_gap_are_refused_whatever_their_size(write, make, largest, words):
    arrays = make()
    key = "train_labels" if make is plain else "train_label"
    labels = arrays[key].astype(largest.dtype)
    labels[0] = largest
    with pytest.raises(DataError, match=words):
        load_data(write(**arrays | {key: labels}))


@pytest.mark.parametrize("shape", [(40, 0, 10), (40, 10, 0, 3), (40, 0, 0, 1)])
def test_images_without_pixels_are_refused(write, shape):
    with pytest.raises(DataError, match="must have pixels, but the array has the shape"):
        load_data(write(**plain() | {"train_images": np.zeros(shape, dtype=np.uint8)}))


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_split_without_images_is_refused(write, part):
    empty = {f"{part}_images": np.zeros((0, 10, 10, 3), np.uint8), f"{part}_labels": np.zeros(0, int)}
    with pytest.raises(DataError, match=f"pack {part} must hold at least one image"):
        load_data(write(**plain() | empty))


def test_too_few_labels_are_refused_with_both_counts(write):
    arrays = plain()
    with pytest.raises(DataError, match="pack train must hold one label per image, but has 40 images and 39"):
        load_data(write(**arrays | {"train_labels": arrays["train_labels"][1:]}))


def test_offsets_of_every_integer_type_are_read(write):
    arrays = encoded()
    data = load_data(write(**arrays | {"train_offset": arrays["train_offset"].astype(np.uint64)}))
    assert len(data.train) + len(data.search) + len(data.test) == 40


def test_a_split_of_which_no_image_can_be_read_is_refused(write):
    damaged = {"val_jpeg": np.zeros(1, np.uint8), "val_offset": np.arange(2), "val_label": np.zeros(1, int)}
    with pytest.raises(DataError, match=r"none of the 1 images of .* val can be read"):
        load_data(write(**encoded(), **damaged))


def test_a_single_array_is_no_pack(tmp_path):
    np.save(tmp_path / "one.npy", plain()["train_images"])
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(DataError, match=r"must be a \.npz pack, but is one array: write it with np\.savez"):
        load_data(tmp_path / "one.npz")


def test_files_in_a_pack_that_are_no_arrays_are_named(write):
    path = write(**plain())
    with zipfile.ZipFile(path, "a") as pack:
        pack.writestr("notes.txt", "where they come from")
    (warning,) = load_data(path).warnings
    assert warning.startswith("passed over the arrays notes.txt")
    with zipfile.ZipFile(path, "w") as pack:
        pack.writestr("train_images", "x")
        pack.writestr("train_labels", "y")
    with pytest.raises(DataError, match="labels of pack train must be integers"):
        load_data(path)
