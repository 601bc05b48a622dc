import pickle
import subprocess
import sys

import numpy as np
import pytest

from nas.data.images import Pixels
from nas.data.loading import check_fits, from_arrays, load_data
from nas.errors import DataError
from search_spaces import efficientnet


def arrays(count=60, classes=3, shape=(8, 8), seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, size=(count, *shape), dtype=np.uint8)
    return images, np.arange(count) % classes


def rows(part):
    return {image.tobytes() for image in part.images}


def test_three_splits_share_no_image_and_lose_none():
    images, labels = arrays()
    data = from_arrays(images, labels)
    parts = [rows(data.split(name)) for name in ("train", "search", "test")]
    assert sum(map(len, parts)) == len(images)
    assert set.union(*parts) == {image.tobytes() for image in images}


def test_every_split_has_each_class_in_the_same_proportions():
    labels = np.array([0] * 100 + [1] * 50 + [2] * 10)
    images = arrays(len(labels))[0]
    data = from_arrays(images, labels, test_fraction=0.2, search_fraction=0.25)
    assert np.bincount(data.test.labels).tolist() == [20, 10, 2]
    assert np.bincount(data.search.labels).tolist() == [20, 10, 2]
    assert np.bincount(data.train.labels).tolist() == [60, 30, 6]


def test_labels_stay_with_their_images():
    images, labels = arrays()
    images[:, 0, 0] = labels
    data = from_arrays(images, labels)
    for part in (data.train, data.search, data.test):
        assert (part.images[:, 0, 0, 0] == part.labels).all()


def test_a_given_test_set_is_the_test_split_and_search_is_carved_from_training():
    images, labels = arrays()
    test_images, test_labels = arrays(12, seed=1)
    data = from_arrays(images, labels, test_images=test_images, test_labels=test_labels)
    assert rows(data.test) == {image.tobytes() for image in test_images}
    assert len(data.train) + len(data.search) == 60


def test_the_seed_decides_the_split_and_the_split_fingerprint_tells():
    images, labels = arrays()
    first, again, other = (from_arrays(images, labels, seed=seed) for seed in (0, 0, 1))
    assert rows(first.search) == rows(again.search) != rows(other.search)
    assert first.split_fingerprint == again.split_fingerprint != other.split_fingerprint
    assert first.fingerprint == other.fingerprint


def test_the_fingerprint_changes_with_one_pixel_and_with_a_class_name():
    images, labels = arrays()
    changed = images.copy()
    changed[0, 0, 0] ^= 1
    fingerprints = {
        from_arrays(images, labels).fingerprint,
        from_arrays(changed, labels).fingerprint,
        from_arrays(images, labels, classes=("a", "b", "c")).fingerprint,
    }
    assert len(fingerprints) == 3


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((8, 8), (1, 8, 8)), ((8, 8, 3), (3, 8, 8)), ((3, 8, 8), (3, 8, 8)), ((8, 6), (1, 6, 6))],
)
def test_arrays_of_any_layout_become_square_and_channels_first(shape, expected):
    images, labels = arrays(shape=shape)
    data = from_arrays(images, labels)
    assert data.train.images.shape[1:] == expected
    assert (data.channels, data.resolution) == expected[:2]


def test_mean_and_std_are_those_of_the_training_split():
    images, labels = arrays(shape=(8, 8, 3))
    data = from_arrays(images, labels)
    pixels = data.train.images / 255
    np.testing.assert_allclose(data.mean, pixels.mean(axis=(0, 2, 3)), atol=1e-12)
    np.testing.assert_allclose(data.std, pixels.std(axis=(0, 2, 3)), atol=1e-12)


def test_constant_images_have_a_standard_deviation_above_zero():
    data = from_arrays(np.zeros((30, 8, 8), dtype=np.uint8), np.arange(30) % 3)
    assert data.std[0] > 0


def test_pickling_costs_no_more_than_the_pixels_and_ships_them_out_of_band():
    images, labels = arrays(600)
    data = from_arrays(images, labels)
    buffers = []
    small = pickle.dumps(data, protocol=5, buffer_callback=buffers.append)
    assert len(small) < 3_000
    again = pickle.loads(small, buffers=buffers)
    assert again.fingerprint == data.fingerprint
    assert (again.search.images == data.search.images).all()


def test_data_already_loaded_are_returned_as_they_are():
    data = from_arrays(*arrays())
    assert load_data(data) is data


def test_one_class_is_refused():
    with pytest.raises(DataError, match="at least 2 classes"):
        from_arrays(arrays()[0], np.zeros(60, dtype=np.int64))


def test_a_class_with_too_few_images_for_three_splits_is_named():
    labels = np.array([0] * 58 + [1] * 2)
    with pytest.raises(DataError, match=r"'dogs'.* has 2"):
        from_arrays(arrays()[0], labels, classes=("cats", "dogs"))


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(DataError, match="0 < search_fraction < 1"):
        from_arrays(*arrays(), search_fraction=fraction)


def test_images_that_are_not_uint8_are_refused():
    images, labels = arrays()
    with pytest.raises(DataError, match="must be uint8"):
        from_arrays(images / 255, labels)


def test_a_label_without_a_class_name_is_refused():
    with pytest.raises(DataError, match=r"must be in 0\.\.1, but range from 0 to 2"):
        from_arrays(*arrays(), classes=("a", "b"))


def test_fewer_labels_than_images_are_refused():
    images, labels = arrays()
    with pytest.raises(DataError, match="one label per image"):
        from_arrays(images, labels[:-1])


def test_test_images_without_labels_are_refused():
    images, labels = arrays()
    with pytest.raises(DataError, match="given together"):
        from_arrays(images, labels, test_images=images)


def test_an_unknown_name_is_refused_with_the_near_matches():
    with pytest.raises(DataError, match="did you mean cifar10 or cifar100"):
        load_data("cifar1")


def test_a_name_far_from_all_is_refused_with_the_list():
    with pytest.raises(DataError, match=r"known names are mnist5k, mnist, .*cifar10"):
        load_data("qqq")


@pytest.mark.parametrize("spec", ["no/such/folder", "./nowhere", "pack.npz"])
def test_a_path_that_is_not_there_is_refused(spec):
    with pytest.raises(DataError, match="there is no folder or pack"):
        load_data(spec)


def test_a_file_that_is_no_pack_and_no_table_is_refused(tmp_path):
    (tmp_path / "images.json").write_text("1,2")
    with pytest.raises(DataError, match=r"a \.npz pack or a \.csv of file names and labels, but is none"):
        load_data(tmp_path / "images.json")


@pytest.mark.parametrize("resolution", [0, 3, 5000])
def test_a_resolution_out_of_range_is_refused(resolution):
    with pytest.raises(DataError, match="4 <= resolution <= 2048"):
        load_data("mnist5k", resolution=resolution)


def test_a_named_set_that_is_not_there_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(DataError, match=r"not found under .*--data-root.*--download"):
        load_data("CIFAR-10", root=tmp_path)


def test_a_named_set_is_read_from_torchvisions_own_files(tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for prefix, count in (("train", 40), ("t10k", 10)):
        header = {3: (2051, count, 28, 28), 1: (2049, count)}
        images = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for kind, values in ((3, images), (1, labels)):
            name = f"{prefix}-{'images-idx3' if kind == 3 else 'labels-idx1'}-ubyte"
            (folder / name).write_bytes(np.array(header[kind], dtype=">i4").tobytes() + values.tobytes())
    data = load_data("mnist", root=tmp_path)
    assert (data.num_classes, data.channels, data.resolution) == (10, 1, 28)
    assert (len(data.train), len(data.search), len(data.test)) == (30, 10, 10)
    assert not data.mirrors


def test_mnist5k_needs_no_files_of_the_users():
    data = load_data("mnist5k")
    assert str(data) == "mnist5k: 10 classes, 1 x 28 x 28, 3,200 train / 800 search / 1,000 test"
    assert np.bincount(data.search.labels).tolist() == [80] * 10
    assert not data.mirrors
    assert isinstance(data.train, Pixels)


def test_a_resolution_asked_for_is_given():
    data = load_data("mnist5k", resolution=16)
    assert data.train.images.shape == (3_200, 1, 16, 16)


def test_a_network_of_another_resolution_does_not_fit():
    data = from_arrays(*arrays())
    check_fits(efficientnet(resolution=8, num_classes=3, in_channels=1).reference, data)
    for wrong in ({"resolution": 16}, {"num_classes": 4}, {"in_channels": 3}):
        fields = {"resolution": 8, "num_classes": 3, "in_channels": 1} | wrong
        (name,) = wrong
        with pytest.raises(DataError, match=f"build the space with {name}="):
            check_fits(efficientnet(**fields).reference, data)


def test_loading_a_pack_or_folder_imports_no_torch():
    program = "import sys, nas.data.loading, nas.training.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"spec": "no-such-set"}, "data"),
        ({"spec": "./nowhere"}, "data"),
        ({"spec": "cifar10", "root": "/nowhere"}, "data_root"),
        ({"spec": "mnist5k", "fit": "squeeze"}, "fit"),
        ({"spec": "mnist5k", "resolution": 1}, "resolution"),
        ({"spec": "mnist5k", "search_fraction": 1.5}, "search_fraction"),
        ({"spec": "mnist5k", "test_fraction": 0}, "test_fraction"),
        ({"spec": "mnist5k", "seed": -1}, "seed"),
    ],
)
def test_a_refusal_names_the_argument(options, field):
    with pytest.raises(DataError) as error:
        load_data(**options)
    assert error.value.field == field


def test_a_test_set_without_its_labels_is_refused():
    images = np.zeros((9, 4, 4), dtype=np.uint8)
    with pytest.raises(DataError) as error:
        from_arrays(images, np.arange(9) % 3, test_images=images)
    assert error.value.field == "test_labels"
