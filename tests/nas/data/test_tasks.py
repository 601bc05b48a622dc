"""Labels of several kinds go through the data layer: classes, 0 and 1 for each label, numbers."""

import numpy as np
import pytest

from nas.data.copies import array_contents
from nas.data.description import DataDescription
from nas.data.images import Carving, joined
from nas.data.iterative import iterative, quantile_flags
from nas.data.labelled import load_labelled
from nas.data.loading import from_arrays, load_data
from nas.data.targets import is_misleading, label_text, majority_share
from nas.errors import DataError


def pictures(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, size=(count, 6, 6), dtype=np.uint8)


def flags(count=200, labels=4, seed=0):
    shares = np.linspace(0.05, 0.6, labels)
    return (np.random.default_rng(seed).random((count, labels)) < shares).astype(np.int64)


def splits(data):
    return [data.train, data.search, data.test]


def test_rows_of_0_and_1_are_labels():
    data = from_arrays(pictures(200), flags(), classes=("a", "b", "c", "d"))
    assert data.task == "multilabel"
    assert data.classes == ("a", "b", "c", "d")
    assert data.train.labels.dtype == np.float32
    assert data.train.labels.shape == (len(data.train), 4)
    assert data.target_mean == data.target_std == ()
    assert str(data).startswith("arrays: 4 labels, ")


def test_floating_point_numbers_are_numbers_to_predict():
    numbers = np.random.default_rng(1).normal(50, 7, size=60)
    data = from_arrays(pictures(60), numbers)
    assert data.task == "regression"
    assert data.classes == ("0",)
    assert data.train.labels.shape == (len(data.train), 1)
    assert sorted(joined(splits(data)).labels[:, 0]) == sorted(numbers.astype(np.float32))


def test_mean_and_deviation_of_numbers_are_those_of_the_training_split():
    data = from_arrays(pictures(60), np.random.default_rng(1).normal(50, 7, size=(60, 2)))
    assert np.allclose(data.target_mean, data.train.labels.mean(0))
    assert np.allclose(data.target_std, data.train.labels.std(0))
    assert not np.allclose(data.target_mean, joined(splits(data)).labels.mean(0), atol=1e-6)


def test_integers_are_classes_unless_the_task_says_otherwise():
    images, labels = pictures(60), np.arange(60) % 5
    assert from_arrays(images, labels).task == "classification"
    data = from_arrays(images, labels, task="regression")
    assert data.task == "regression"
    assert data.num_classes == 1
    one = from_arrays(images, labels % 2, task="multilabel")
    assert one.task == "multilabel"
    assert one.train.labels.shape[1] == 1


def test_whole_floats_are_classes_where_the_task_says_so():
    data = from_arrays(pictures(30), (np.arange(30) % 3).astype(float), task="classification")
    assert data.train.labels.dtype == np.int64
    assert data.num_classes == 3


@pytest.mark.parametrize(
    ("labels", "task", "field", "words"),
    [
        (np.arange(30) % 3.0, None, "task", "all whole"),
        (np.arange(60).reshape(30, 2), None, "task", "may be numbers"),
        (np.arange(30) % 3, "ranking", "task", "`task in"),
        (np.arange(30) % 3, "multilabel", "labels", r"must be 0 and 1 for multilabel, but image 2 has 2"),
        (np.array([0.5] * 29 + [np.nan]), None, "labels", "finite numbers .* image 29 has nan"),
        (np.array([0.5] * 29 + [1e300]), None, "labels", "that float32 holds"),
        (np.array(["a"] * 30), "regression", "labels", "must be numbers"),
        (np.zeros((30, 2), dtype=int), "multilabel", "data", "0, 1 of arrays has none"),
        (np.full(30, 1.5), None, "data", "have the same in 0"),
    ],
)
def test_labels_that_do_not_fit_the_task_are_refused(labels, task, field, words):
    with pytest.raises(DataError, match=words) as error:
        from_arrays(pictures(30), labels, task=task)
    assert error.value.field == field


def test_names_must_be_as_many_as_columns():
    with pytest.raises(DataError, match="must name each of the 4 columns") as error:
        from_arrays(pictures(200), flags(), classes=("a", "b"))
    assert error.value.field == "classes"


def test_a_test_set_must_have_the_same_columns():
    with pytest.raises(DataError, match=r"as many columns .* 4 \(train\), 3 \(test\)"):
        from_arrays(
            pictures(200), flags(), test_images=pictures(50, 1), test_labels=flags(50, 3), task="multilabel"
        )


def test_data_that_are_loaded_keep_their_task():
    data = from_arrays(pictures(30), np.arange(30) % 3)
    assert load_data(data, task="classification") is data
    with pytest.raises(DataError, match="holds labels for classification") as error:
        load_data(data, task="regression")
    assert error.value.field == "task"


def test_each_label_keeps_its_share_in_every_split():
    labels = flags(1000, 6, seed=3)
    data = from_arrays(pictures(1000), labels)
    for part, share in zip(splits(data), (0.64, 0.16, 0.2), strict=True):
        assert abs(len(part) - share * 1000) <= 5
        assert np.abs(part.labels.sum(0) - share * labels.sum(0)).max() <= 4


@pytest.mark.parametrize("seed", range(5))
def test_three_images_of_a_rare_label_are_one_in_each_split(seed):
    labels = flags(300, 5, seed=seed)
    labels[:, 4] = 0
    labels[[7, 99, 250], 4] = 1
    data = from_arrays(pictures(300), labels, seed=seed)
    assert [part.labels[:, 4].sum() for part in splits(data)] == [1, 1, 1]
    assert data.warnings == ()


def test_a_split_without_a_label_is_said():
    labels = flags(300, 5)
    labels[:, 4] = np.arange(300) == 7
    data = from_arrays(pictures(300), labels)
    assert data.train.labels[:, 4].sum() == 1
    assert data.warnings == (
        "the search split lacks 1 of 5 labels: 4",
        "the test split lacks 1 of 5 labels: 4",
    )


def test_numbers_are_alike_in_every_split():
    numbers = np.random.default_rng(0).lognormal(size=500)
    data = from_arrays(pictures(500), numbers)
    whole = np.quantile(numbers, [0.1, 0.5, 0.9])
    for part, count in zip(splits(data), (320, 80, 100), strict=True):
        assert abs(len(part) - count) <= 4
        assert np.allclose(np.quantile(part.labels, [0.1, 0.5, 0.9]), whole, rtol=0.35)


@pytest.mark.parametrize("count", range(4, 30))
def test_few_numbers_are_split_without_an_empty_part(count):
    numbers = np.arange(count) + 0.5
    if count < 6:
        numbers[-1] = numbers[0] - 1  # the training split keeps two values
    data = from_arrays(pictures(count), numbers)
    assert sum(map(len, splits(data))) == count
    assert min(map(len, splits(data))) >= 1


def test_columns_that_repeat_one_number_have_fewer_quantiles():
    numbers = np.zeros((100, 1), dtype=np.float32)
    numbers[90:] = 1
    assert quantile_flags(numbers, 0.2).sum() == 100
    assert quantile_flags(numbers, 0.2).shape[1] <= 3


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_copies_of_an_image_stay_in_one_split(task):
    images = pictures(100)
    images[50:70] = images[:20]
    labels = flags(100, 3) if task == "multilabel" else np.random.default_rng(0).normal(size=100)
    labels[50:70] = labels[:20]
    data = from_arrays(images, labels, task=task)
    found = array_contents({str(place): part.images for place, part in enumerate(splits(data))})
    first, second, third = map(set, (each.tolist() for each in found.values()))
    assert not first & second
    assert not first & third
    assert not second & third
    assert any("20 of 100 images are copies" in note for note in data.notes)


def test_copies_with_other_labels_are_named_in_words_and_learned_from():
    images, labels = pictures(40), flags(40, 2, seed=5)
    images[1] = images[0]
    labels[:2] = [[1, 1], [0, 0]]
    data = from_arrays(images, labels, classes=("cat", "dog"))
    assert (
        "1 image is a copy with another label: train image 1 (no label) is train image 0 (cat + dog)"
        in data.warnings
    )
    assert {"train image 0", "train image 1"} <= {data.train.name(place) for place in range(len(data.train))}


def test_images_that_are_all_copies_are_split_all_the_same():
    labels = np.arange(12, dtype=float)[:, None]
    where = iterative(
        "regression", labels, 0.25, np.random.default_rng(0), contents=np.zeros(12, dtype=int), reserve=1
    )
    assert len(where) == 3


def test_the_split_follows_from_the_seed():
    first, again, other = (from_arrays(pictures(200), flags(), seed=seed) for seed in (0, 0, 1))
    assert first.split_fingerprint == again.split_fingerprint != other.split_fingerprint
    assert first.fingerprint == other.fingerprint


def test_numbers_of_mirrored_images_may_differ_so_they_are_not_mirrored():
    assert not from_arrays(pictures(30), np.arange(30) + 0.5).mirrors
    assert from_arrays(pictures(200), flags()).mirrors
    assert from_arrays(pictures(30), np.arange(30) + 0.5, mirrors=True).mirrors


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_packs_hold_labels_of_every_task(tmp_path, kind):
    labels = flags() if kind == "multilabel" else np.random.default_rng(0).normal(size=(200, 2))
    names = np.array(["a", "b", "c", "d"][: labels.shape[1]])
    np.savez(tmp_path / "p.npz", train_images=pictures(200), train_labels=labels, classes=names)
    data = load_data(tmp_path / "p.npz")
    assert data.task == kind
    assert data.classes == tuple(names)
    found = load_labelled(
        tmp_path / "p.npz", "test", data.reading, carving=data.carving or Carving(), task=data.task
    )
    assert found.task == kind
    assert np.array_equal(found.part.labels, data.test.labels)


def test_a_folder_of_classes_holds_no_other_task(tmp_path):
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="holds labels for classification") as error:
        load_data(tmp_path, task="regression")
    assert error.value.field == "task"


def test_the_share_of_the_largest_class_is_said_where_accuracy_misleads():
    labels = np.array([0] * 900 + [1] * 30)
    assert majority_share(labels) == 900 / 930
    data = from_arrays(pictures(930), labels, classes=("fine", "defect"))
    assert data.warnings == (
        "'fine' is 96.8% of the images (fine 900, defect 30), so that is the accuracy of always answering "
        "it: balanced_accuracy and macro_f1 count every class alike",
    )


@pytest.mark.parametrize(
    ("share", "classes", "misleads"), [(0.69, 2, 0), (0.71, 2, 1), (0.29, 10, 0), (0.31, 10, 1)]
)
def test_accuracy_misleads_from_20_points_above_an_even_share(share, classes, misleads):
    assert is_misleading(share, classes) == bool(misleads)


def test_labels_are_said_in_words():
    assert label_text("classification", ("cat", "dog"), 1) == "dog"
    assert label_text("multilabel", ("cat", "dog"), [1.0, 1.0]) == "cat + dog"
    assert label_text("regression", ("age", "height"), [3.5, 101.25]) == "age 3.5, height 101.25"


def test_a_description_counts_labels_and_images_and_says_another_task():
    data = from_arrays(pictures(200), flags(), classes=("a", "b", "c", "d"))
    described = DataDescription.of(data)
    assert described.counts[0] == tuple(data.train.labels.sum(0))
    assert described.sizes() == tuple(map(len, splits(data)))
    assert DataDescription.from_json(described.to_json()) == described
    numbers = DataDescription.of(
        from_arrays(pictures(200), flags(), task="regression", classes=tuple("abcd"))
    )
    assert "labels for regression, before for multilabel (--task)" in numbers.changes_from(described)
    fewer = DataDescription.of(from_arrays(pictures(190), flags(190), classes=tuple("abcd")))
    assert fewer.changes_from(described)[0] == "4 images fewer in label 'b' (44, before 48)"
