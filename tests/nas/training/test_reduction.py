from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from nas.data.images import Files, Pixels
from nas.data.loading import from_arrays, load_data
from nas.errors import RecipeError
from nas.training.recipe import Recipe
from nas.training.reduction import Reduction
from search_spaces import Conv, Head, MBConv, Network, Stage, cost


def images(count=400, side=32, seed=0):
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 255, (count, side, side, 3), dtype=np.uint8)
    return from_arrays(pixels, np.arange(count) % 4, name="noise", seed=seed)


def network(channels=32, resolution=32):
    stages = (
        Stage(op=MBConv(kernel_size=3, expand_ratio=3), channels=channels, repeats=2, stride=2),
        Stage(op=MBConv(kernel_size=5, expand_ratio=3), channels=2 * channels, repeats=3, stride=2),
    )
    return Network(
        stem=Stage(op=Conv(), channels=channels, stride=1),
        stages=stages,
        head=Head(channels=96),
        resolution=resolution,
        num_classes=4,
    )


@pytest.mark.parametrize("share", [0, -0.5, 1.2, float("nan"), True, "half"])
def test_a_share_outside_its_range_is_refused_by_name(share):
    with pytest.raises(RecipeError, match="`0 < width <= 1` must hold for a reduction, but got width="):
        Reduction(width=share)


def test_nothing_reduced_changes_nothing():
    data, recipe = images(), Recipe()
    whole = Reduction()
    assert whole.is_whole
    assert whole.describe() == "whole"
    assert whole.data_of(data) is data
    assert whole.recipe(recipe) == recipe
    assert whole.network(network()) == network()


def test_fewer_epochs_shorten_the_warm_up_with_them():
    short = Reduction(epochs=1 / 2).recipe(Recipe(epochs=6, warmup_epochs=1))
    assert (short.epochs, short.warmup_epochs) == (3, 0.5)


def test_shifts_keep_their_share_of_a_smaller_image():
    recipe = Recipe(crop_padding=4)
    assert Reduction(resolution=0.5).recipe(recipe).crop_padding == 2
    assert Reduction(resolution=0.1).recipe(recipe).crop_padding == 1
    assert Reduction(resolution=0.5).recipe(Recipe(crop_padding=0)).crop_padding == 0


@pytest.mark.parametrize(
    ("whole", "share", "side"),
    [(32, 0.5, 16), (28, 0.5, 16), (32, 2 / 3, 20), (224, 0.5, 112), (32, 0.01, 8), (6, 0.5, 6), (30, 1, 30)],
)
def test_a_reduced_side_is_a_multiple_of_four_of_at_least_eight_pixels(whole, share, side):
    assert Reduction(resolution=share).side(whole) == side


def test_half_the_width_halves_channels_and_leaves_layers():
    half = Reduction(width=0.5).network(network())
    assert [stage.channels for stage in half.stages] == [16, 32]
    assert [stage.repeats for stage in half.stages] == [2, 3]
    assert (half.stem.channels, half.head.channels, half.resolution) == (16, 48, 32)
    assert cost(half).macs < cost(network()).macs / 2


def test_rounding_never_widens_a_narrow_network():
    narrow = Reduction(width=0.5).network(network(channels=4))
    assert narrow.stem.channels == 4
    assert [stage.channels for stage in narrow.stages] == [4, 8]


def test_images_and_network_get_the_same_smaller_side():
    reduction = Reduction(resolution=0.5)
    data = reduction.data_of(images())
    assert data.resolution == reduction.network(network()).resolution == 16
    assert data.train.images.shape[1:] == data.search.images.shape[1:] == (3, 16, 16)
    assert data.fingerprint != images().fingerprint


def test_resizing_averages_pixels_rather_than_picking_them():
    pixels = np.zeros((60, 32, 32), dtype=np.uint8)
    pixels[:, ::2] = 200  # rows of one pixel: picking would give all or nothing
    small = Reduction(resolution=0.5).data_of(from_arrays(pixels, np.arange(60) % 2))
    inner = small.train.images[:, :, 2:-2, 2:-2].astype(int)
    assert abs(inner.mean() - 100) < 5
    assert inner.std() < 30


def test_a_data_share_shortens_the_training_split_alone_and_keeps_the_classes_even():
    data = images()
    third = Reduction(data=1 / 3).data_of(data)
    counts = np.bincount(third.train.labels)
    assert len(third.train) == round(len(data.train) / 12) * 4
    assert counts.max() == counts.min()
    assert np.array_equal(third.search.images, data.search.images)
    assert np.array_equal(third.test.images, data.test.images)
    assert third.split_fingerprint != data.split_fingerprint
    assert (third.mean, third.std) == (data.mean, data.std)


def rows(data):
    return {image.tobytes() for image in data.train.images}


def test_a_smaller_share_of_the_data_is_a_subset_of_each_larger_one():
    data = images()
    nested = [rows(Reduction(data=share).data_of(data)) for share in (0.1, 0.34, 0.5, 0.9, 1.0)]
    for smaller, larger in pairwise(nested):
        assert smaller < larger


def test_the_kept_images_depend_on_the_data_and_not_on_the_call_or_the_resolution():
    data = images()
    first, again = (Reduction(data=0.5).data_of(images()) for _ in range(2))
    assert rows(first) == rows(again)
    small = Reduction(resolution=0.5).data_of(data)
    both = Reduction(data=0.5, resolution=0.5).data_of(data)
    expected = Reduction(resolution=0.5).data_of(replace(data, train=first.train))
    assert rows(both) == rows(expected) < rows(small)
    assert rows(Reduction(data=0.5).data_of(images(seed=1))) != rows(first)


def test_every_class_keeps_an_image_of_the_smallest_share():
    kept = Reduction(data=0.001).data_of(images()).train.labels
    assert sorted(kept) == [0, 1, 2, 3]
    assert Reduction(data=0.001).train_images(images().train.labels).sum() == 4


def test_files_are_listed_shorter_and_decoded_smaller(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(20):
            pixels = rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    streamed = load_data(str(tmp_path), resident_bytes=0)
    small = Reduction(data=0.5, resolution=0.5).data_of(streamed)
    assert isinstance(small.train, Files)
    assert small.resolution == 12
    assert len(small.train) < len(streamed.train)
    assert set(small.train.paths) < set(streamed.train.paths)
    resident = Reduction(data=0.5, resolution=0.5).data_of(load_data(str(tmp_path)))
    assert isinstance(resident.train, Pixels)
    assert len(resident.train) == len(small.train)
