import numpy as np
import pytest
from PIL import Image

from nas.data.loading import from_arrays, load_data
from nas.data.splits import stratified


def arrays(count=60, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 8, 8), dtype=np.uint8), np.arange(count) % classes


def write(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_classes(folder, classes=("cat", "dog"), count=10, seed=0):
    for label, name in enumerate(classes):
        for number in range(count):
            write(folder / name / f"{number:03}.bmp", [seed, label, number])
    return folder


def contents(data):
    return {
        name: [data.split(name).images[i].tobytes() for i in range(len(data.split(name)))]
        for name in ("train", "search", "test")
    }


def assert_apart(data):
    parts = [set(every) for every in contents(data).values()]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("times", [2, 3, 5])
def test_copies_are_in_one_split_and_classes_keep_their_share(times, seed):
    images, labels = arrays(90)
    data = from_arrays(np.concatenate([images] * times), np.concatenate([labels] * times), seed=seed)
    assert_apart(data)
    assert len(data.train) + len(data.search) + len(data.test) == 90 * times
    for part, share in ((data.test, 6 * times), (data.search, 0.2 * 24 * times)):
        counts = np.bincount(part.labels)
        assert (np.abs(counts - share) < times).all()
    assert data.notes == (
        f"{90 * (times - 1)} of {90 * times} images are copies of others, and kept in one split with those",
    )
    assert data.warnings == ()


@pytest.mark.parametrize("seed", range(20))
def test_a_group_larger_than_a_split_stays_whole_and_every_split_has_every_class(seed):
    images, labels = arrays(9)
    copies = np.concatenate([images, np.repeat(images[:1], 20, axis=0)])
    data = from_arrays(copies, np.concatenate([labels, np.zeros(20, dtype=np.int64)]), seed=seed)
    assert_apart(data)
    for part in (data.train, data.search, data.test):
        assert set(part.labels) == {0, 1, 2}


def test_copies_with_different_labels_are_learnt_from_only_and_named():
    images, labels = arrays()
    images[[10, 20, 30]] = images[1]
    data = from_arrays(images, labels)
    assert_apart(data)
    assert contents(data)["train"].count(images[1].tobytes()) == 4
    (warning,) = data.warnings
    assert warning == (
        "2 images are copies with another label: train image 20 (2) is train image 1 (1), "
        "train image 30 (0) is train image 1 (1)"
    )


def test_a_class_of_one_image_in_copies_is_still_in_every_split_and_it_is_said():
    images, labels = arrays()
    images[labels == 1] = images[1]
    data = from_arrays(images, labels)
    assert set(data.test.labels) == set(data.search.labels) == set(data.train.labels) == {0, 1, 2}
    assert any("4 of 12 test images are copies of training images" in each for each in data.warnings)


def test_the_split_with_copies_is_decided_by_the_seed():
    images, labels = arrays()
    images[3:30] = images[33:]
    first, again, other = (from_arrays(images, labels, seed=seed).split_fingerprint for seed in (0, 0, 1))
    assert first == again != other


def test_splits_without_copies_are_those_of_older_versions():
    """The digests were printed before copies were looked for: studies of then can be resumed."""
    images, labels = arrays()
    data = from_arrays(images, labels)
    assert (data.fingerprint, data.split_fingerprint) == ("8c406574490b7bf6", "778f59b3ff8c3bc1")
    digits = load_data("mnist5k")
    assert (digits.fingerprint, digits.split_fingerprint) == ("001263a9eacf74f2", "07b200e7c9253754")


def test_the_digest_of_a_folder_is_that_of_older_versions(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        for number in range(20):
            path = tmp_path / name / ("a" if number < 3 else "") / f"{number:03}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / name / "a.bmp")
    data = load_data(tmp_path)
    assert (data.content_digest, data.split_fingerprint) == ("24420ff39e9be15e", "f55a2622ed96bd4f")


def test_without_copies_the_choice_is_the_plain_stratified_one():
    labels = np.random.default_rng(0).integers(0, 5, 500)
    plain = stratified(labels, 0.2, np.random.default_rng(1))
    shuffled = np.random.default_rng(2).permutation(500)
    numbered = stratified(labels, 0.2, np.random.default_rng(1), contents=shuffled, reserve=2)
    assert (plain == numbered).all()


@pytest.mark.parametrize("resident_bytes", [1 << 30, 1])
def test_copies_of_files_are_in_one_split(tmp_path, resident_bytes):
    write_classes(tmp_path, count=30)
    for number in range(20):
        copy = (tmp_path / "cat" / f"{number:03}.bmp").read_bytes()
        (tmp_path / "cat" / f"copy {number}.bmp").write_bytes(copy)
    data = load_data(tmp_path, resident_bytes=resident_bytes)
    if resident_bytes > 1:
        assert_apart(data)
    else:
        found = [
            {(tmp_path / path).read_bytes() for path in part.paths} for part in (data.train, data.search)
        ]
        found.append({(tmp_path / path).read_bytes() for path in data.test.paths})
        assert sum(map(len, found)) == len(set.union(*found))
    assert data.split_fingerprint == load_data(tmp_path).split_fingerprint
    assert data.notes[-1] == "20 of 80 images are copies of others, and kept in one split with those"


def test_hard_links_are_copies(tmp_path):
    write_classes(tmp_path)
    (tmp_path / "cat" / "again.bmp").hardlink_to(tmp_path / "cat" / "003.bmp")
    data = load_data(tmp_path)
    assert_apart(data)
    assert len(data.train) + len(data.search) + len(data.test) == 21


def test_files_of_equal_size_and_middle_that_differ_elsewhere_are_no_copies(tmp_path):
    write_classes(tmp_path)
    base = np.zeros((80, 80, 3), dtype=np.uint8)
    for number in range(4):
        base[0, 0] = number
        Image.fromarray(base).save(tmp_path / "cat" / f"large {number}.bmp")
    assert not any("copies" in note for note in load_data(tmp_path).notes)


def test_copies_across_given_splits_are_counted_in_a_warning(tmp_path):
    for seed, name in enumerate(("train", "val", "test")):
        write_classes(tmp_path / name, seed=seed)
    copies = [("val", "train", 3), ("test", "train", 2), ("test", "val", 1)]
    for target, source, count in copies:
        for number in range(count):
            content = (tmp_path / source / "cat" / f"00{number}.bmp").read_bytes()
            (tmp_path / target / "cat" / f"{source} {number}.bmp").write_bytes(content)
    expected = [
        "3 of 23 search images are copies of training images",
        "2 of 23 test images are copies of training images",
        "3 of 23 test images are copies of search images",
    ]
    data = load_data(tmp_path)
    assert len(data.warnings) == 3
    assert all(warning.startswith(said) for warning, said in zip(data.warnings, expected, strict=True))


def test_copies_of_files_under_two_labels_are_named(tmp_path):
    write_classes(tmp_path)
    (tmp_path / "dog" / "x.bmp").write_bytes((tmp_path / "cat" / "000.bmp").read_bytes())
    assert load_data(tmp_path).warnings == (
        "1 image is a copy with another label: dog/x.bmp (dog) is cat/000.bmp (cat)",
    )
