import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.training.sampling import epoch_order


def test_a_shuffled_epoch_has_each_image_once_in_the_order_that_it_always_had():
    labels = np.arange(20) % 3
    order = epoch_order(labels, "shuffled", np.random.default_rng(4))
    assert order.tolist() == np.random.default_rng(4).permutation(20).tolist()
    assert epoch_order(np.zeros((20, 2)), "shuffled", np.random.default_rng(4)).tolist() == order.tolist()


@given(counts=st.lists(st.integers(0, 40), min_size=2, max_size=6).filter(any), seed=st.integers(0, 99))
def test_a_balanced_epoch_has_as_many_images_and_every_class_equally_often(counts, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    order = epoch_order(labels, "balanced", np.random.default_rng(seed))
    assert len(order) == len(labels)
    drawn = np.bincount(labels[order], minlength=len(counts))
    present = drawn[np.array(counts) > 0]
    assert present.sum() == len(labels)
    assert present.max() - present.min() <= 1
    for label in range(len(counts)):
        times = np.bincount(order[labels[order] == label], minlength=len(labels))[labels == label]
        assert not len(times) or times.max() - times.min() <= 1


def test_balanced_epochs_follow_from_the_seed_and_show_other_images_of_a_frequent_class():
    labels = np.array([0] * 90 + [1] * 3)
    rng, again = np.random.default_rng(1), np.random.default_rng(1)
    first, second = (epoch_order(labels, "balanced", rng) for _ in range(2))
    assert first.tolist() == epoch_order(labels, "balanced", again).tolist()
    assert set(first[labels[first] == 0]) != set(second[labels[second] == 0])


@pytest.mark.parametrize("sampling", ["shuffled", "balanced"])
def test_the_order_is_mixed(sampling):
    labels = np.repeat([0, 1], 50)
    order = epoch_order(labels, sampling, np.random.default_rng(0))
    assert (np.diff(labels[order]) != 0).sum() > 10
