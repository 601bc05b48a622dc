from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from nas.data.loading import from_arrays, load_data
from nas.errors import RecipeError
from nas.full_training.batches import Order, TrainingBatches, is_simple, resized
from nas.full_training.ranks import OneRank, share_of_batch
from nas.full_training.recipe import FullRecipe
from nas.full_training.recipes import RECIPES
from nas.training.accuracy import Normalise

CPU = torch.device("cpu")
ALONE = OneRank(device=CPU)
PLAIN = FullRecipe(epochs=3, warmup_epochs=0, batch_size=8, crop="none", flip="none")
SHIFTED = replace(PLAIN, crop="shifted", shift=0.2, flip="auto")
MIXED = replace(PLAIN, mixup=0.2, cutmix=1.0)
STRONG = replace(
    MIXED, crop="resized", flip="auto", auto_augment="rand-m9-mstd0.5-inc1", random_erase=0.3, repeats=3
)


class Share(OneRank):
    """One of several ranks, which only takes its share."""

    def __init__(self, rank, world):
        super().__init__(device=CPU)
        object.__setattr__(self, "place", (rank, world))

    rank = property(lambda self: self.place[0])
    world = property(lambda self: self.place[1])


def pixels(count=60, *, side=8, channels=3, mirrors=True):
    images = np.random.default_rng(0).integers(0, 256, (count, side, side, channels), dtype=np.uint8)
    return from_arrays(images, np.arange(count) % 3, mirrors=mirrors)


DATA = pixels()
STEPS = len(DATA.train) // 8


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(60):
        path = folder / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return folder


def all_of(feed, *epochs):
    return [batch for epoch in epochs for batch in feed.epoch(epoch)]


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for batch, other in zip(found, expected, strict=True):
        assert all(torch.equal(one, two) for one, two in zip(batch, other, strict=True))


def feed(recipe=PLAIN, data=DATA, ranks=ALONE, seed=0):
    return TrainingBatches(data, recipe, ranks, seed=seed)


def numbers_of(images, data=DATA):
    """Which training images these are, as they are or mirrored, and whether they are mirrored."""
    every = Normalise(data, CPU)(torch.from_numpy(data.train.images))
    known = {image.numpy().tobytes(): (index, False) for index, image in enumerate(every.contiguous())}
    known |= {
        image.numpy().tobytes(): (index, True) for index, image in enumerate(every.flip(-1).contiguous())
    }
    return [known[image.numpy().tobytes()] for image in images.contiguous()]


def test_there_are_images_for_several_steps():
    assert STEPS == 4


# An epoch


@pytest.mark.parametrize("recipe", [PLAIN, SHIFTED, MIXED, STRONG])
def test_batches_are_normalised_channels_last_and_of_equal_size(recipe):
    batches = all_of(feed(recipe), 0)
    assert len(batches) == STEPS
    for images, labels in batches:
        assert images.shape == (8, 3, 8, 8)
        assert images.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert labels.shape == ((8, 3) if recipe.mixup or recipe.cutmix else (8,))


def test_an_epoch_shows_each_image_once_with_its_label():
    seen = []
    for images, labels in feed().epoch(0):
        numbers = [number for number, _ in numbers_of(images)]
        assert labels.tolist() == DATA.train.labels[numbers].tolist()
        seen += numbers
    assert len(seen) == len({*seen}) == 8 * STEPS


def test_epochs_have_other_orders_and_seeds_other_ones_again():
    orders = [
        tuple(number for images, _ in feed(seed=seed).epoch(epoch) for number, _ in numbers_of(images))
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert len({*orders}) == 3


@pytest.mark.parametrize("recipe", [PLAIN, SHIFTED, STRONG])
def test_a_feed_is_a_function_of_its_seed(recipe):
    assert_equal(all_of(feed(recipe), 0, 1, 2), all_of(feed(recipe), 0, 1, 2))


@pytest.mark.parametrize("first", [0, 1, 3, 4])
@pytest.mark.parametrize(
    "recipe", [SHIFTED, MIXED, STRONG, replace(STRONG, stages=2, first_size=0.99, first_mixup=0.0)]
)
def test_an_epoch_can_be_continued_at_any_batch(recipe, first):
    for epoch in (0, 2):
        whole = [*feed(recipe).epoch(epoch)]
        assert_equal([*feed(recipe).epoch(epoch, first=first)], whole[first:])


def test_a_feed_that_was_left_within_an_epoch_can_be_used_again(on_disk):
    for data in (DATA, load_data(on_disk, resident_bytes=0)):
        used = feed(STRONG, data)
        next(used.epoch(1))
        [*used.splits.scan("search", 4)]
        assert_equal([*used.epoch(0)], [*feed(STRONG, data).epoch(0)])


def test_the_last_epoch_of_a_fraction_ends_with_it():
    recipe = replace(PLAIN, epochs=1.5)
    assert [len([*feed(recipe).epoch(epoch)]) for epoch in (0, 1, 2)] == [4, 2, 0]


def test_two_feeds_side_by_side_do_not_disturb_each_other(on_disk):
    for data in (DATA, load_data(on_disk, resident_bytes=0)):
        expected = [*feed(STRONG, data).epoch(0)], [*feed(SHIFTED, data, seed=1).epoch(0)]
        both = [*zip(feed(STRONG, data).epoch(0), feed(SHIFTED, data, seed=1).epoch(0), strict=True)]
        assert_equal([one for one, _ in both], expected[0])
        assert_equal([two for _, two in both], expected[1])


def test_what_others_draw_meanwhile_changes_nothing():
    stirred = []
    for batch in feed(STRONG).epoch(0):
        stirred.append(batch)
        torch.manual_seed(0)
        np.random.seed(0)
    assert_equal(stirred, [*feed(STRONG).epoch(0)])


# Ranks


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("recipe", [PLAIN, SHIFTED, MIXED, STRONG])
@pytest.mark.parametrize("is_resident", [True, False])
def test_ranks_share_the_batches_of_one_process_partners_of_the_mixing_too(
    world, recipe, is_resident, on_disk
):
    data = DATA if is_resident else load_data(on_disk, resident_bytes=0)
    whole = all_of(feed(recipe, data), 0, 1)
    seen = 0
    for rank in range(world):
        mine = all_of(feed(recipe, data, Share(rank, world)), 0, 1)
        expected = [tuple(share_of_batch(part, rank, world) for part in batch) for batch in whole]
        assert_equal(mine, expected)
        seen += sum(len(images) for images, _ in mine)
    assert seen == 2 * STEPS * 8


@pytest.mark.parametrize(("world", "words"), [(3, "equal shares"), (8, "2 images a step")])
def test_a_batch_that_ranks_cannot_share_is_refused_at_once(world, words):
    with pytest.raises(RecipeError, match=words) as error:
        feed(ranks=Share(0, world))
    assert error.value.field == "batch_size"


def test_a_single_training_image_is_refused():
    data = replace(DATA, train=DATA.train.take(np.array([0])))
    with pytest.raises(RecipeError, match="1 training images") as error:
        feed(data=data)
    assert error.value.field == "batch_size"


# Mirrors


def mirrored_of(recipe, data, epoch, seed=0):
    order = Order.of(recipe, data, seed=seed, epoch=epoch)
    return dict(zip(order.images.tolist(), order.is_mirrored.tolist(), strict=True))


def test_alternating_mirrors_show_each_image_the_other_way_in_the_next_epoch():
    recipe = replace(PLAIN, flip="alternating")
    epochs = [mirrored_of(recipe, DATA, epoch) for epoch in range(4)]
    for one, other in pairwise(epochs):
        assert {number: not mirrored for number, mirrored in one.items()} == other
    assert 0.2 < np.mean([*epochs[0].values()]) < 0.8
    assert mirrored_of(recipe, DATA, 0, seed=1) != epochs[0]


def test_random_mirrors_are_drawn_for_each_epoch():
    recipe = replace(PLAIN, flip="random")
    epochs = [mirrored_of(recipe, DATA, epoch) for epoch in range(50)]
    shares = np.mean([[one[number] for number in range(len(DATA.train))] for one in epochs], axis=0)
    assert shares.min() > 0.2
    assert shares.max() < 0.8


@pytest.mark.parametrize("recipe", [PLAIN, replace(PLAIN, crop="shifted", shift=0.0)])
@pytest.mark.parametrize(
    ("flip", "mirrors", "wanted"),
    [
        ("auto", True, True),
        ("auto", False, False),
        ("none", True, False),
        ("random", False, True),
    ],
)
def test_images_are_mirrored_where_labels_outlive_it_or_it_is_asked_for(recipe, flip, mirrors, wanted):
    data = pixels(mirrors=mirrors)
    found = [
        is_mirrored
        for images, _ in feed(replace(recipe, flip=flip), data).epoch(0)
        for _, is_mirrored in numbers_of(images, data)
    ]
    assert any(found) == wanted


def test_digits_are_never_mirrored_in_views_either():
    data = pixels(mirrors=False)
    for recipe in RECIPES.values():
        assert not Order.of(recipe, data, seed=0, epoch=0).is_mirrored.any()


# Repeats


@pytest.mark.parametrize("repeats", [1, 2, 3, 100])
def test_views_of_an_image_follow_each_other(repeats):
    order = Order.of(replace(STRONG, repeats=repeats), DATA, seed=0, epoch=0)
    count = len(DATA.train)
    assert len(order.images) == count
    groups = [order.images[first : first + repeats] for first in range(0, count, repeats)]
    assert all(len({*group}) == 1 for group in groups)
    assert len({*order.images}) == len(groups)
    assert len({*order.seeds}) == count


def test_repeated_images_come_as_other_views():
    images, _ = next(feed(replace(STRONG, mixup=0.0, cutmix=0.0, repeats=8)).epoch(0))
    assert len({image.numpy().tobytes() for image in images.contiguous()}) == 8


# In memory and from disk


def test_images_from_disk_are_those_from_memory_to_the_bit_but_for_shifts(on_disk):
    """Shifts are drawn for each view on disk, and for all of an epoch together in memory."""
    files, held = load_data(on_disk, resident_bytes=0), load_data(on_disk)
    assert held.is_resident
    assert not files.is_resident
    for recipe in (PLAIN, replace(PLAIN, flip="alternating"), STRONG, replace(SHIFTED, shift=0.0)):
        assert_equal(all_of(feed(recipe, files), 0, 1), all_of(feed(recipe, held), 0, 1))


@pytest.mark.parametrize("is_resident", [True, False])
def test_shifts_reach_all_pixels_asked_for(on_disk, is_resident):
    data = load_data(on_disk, **({} if is_resident else {"resident_bytes": 0}))
    recipe = replace(SHIFTED, shift=1 / 8, flip="none", epochs=20)
    held = Normalise(data, CPU)(torch.from_numpy(load_data(on_disk).train.images))
    padded = torch.nn.functional.pad(held, (1, 1, 1, 1), mode="reflect")
    found = set()
    used = feed(recipe, data)
    for epoch in range(20):
        order = Order.of(recipe, data, seed=0, epoch=epoch).images
        images = torch.cat([images for images, _ in used.epoch(epoch)])
        for number, image in zip(order, images, strict=False):
            at = [
                (down - 1, right - 1)
                for down in range(3)
                for right in range(3)
                if torch.equal(padded[number, :, down : down + 8, right : right + 8], image)
            ]
            assert len(at) == 1
            found |= {*at}
    assert len(found) == 9


def test_shifts_in_memory_are_about_equally_frequent():
    order = Order.of(SHIFTED, pixels(3_000), seed=0, epoch=0)
    shifts = np.rint(order.shifts * 2.499)
    shares = [np.mean(shifts == value) for value in range(-2, 3)]
    assert shares == pytest.approx([0.2] * 5, abs=0.03)


# Sizes


@pytest.mark.parametrize("crop", ["none", "shifted", "resized"])
def test_sizes_grow_with_the_stages(crop):
    data = pixels(side=16)
    recipe = replace(PLAIN, crop=crop, stages=3, first_size=0.5)
    sides = [images.shape[-1] for epoch in range(3) for images, _ in feed(recipe, data).epoch(epoch)]
    assert sides == [8] * STEPS + [12] * STEPS + [16] * STEPS


def test_a_stage_may_begin_within_an_epoch():
    data = pixels(side=16)
    recipe = replace(PLAIN, epochs=1, stages=2, first_size=0.5)
    assert [images.shape[-1] for images, _ in feed(recipe, data).epoch(0)] == [8, 8, 16, 16]
    assert [images.shape[-1] for images, _ in feed(recipe, data).epoch(0, first=1)] == [8, 16, 16]


def test_smaller_images_in_memory_are_those_that_pillow_makes_within_rounding():
    data = pixels(side=16)
    recipe = replace(PLAIN, train_size=0.5)
    from_memory = torch.cat([images for images, _ in feed(recipe, data).epoch(0)])
    order = Order.of(recipe, data, seed=0, epoch=0).images[: len(from_memory)]
    normalise = Normalise(data, CPU)
    for number, image in zip(order, from_memory, strict=True):
        whole = Image.fromarray(data.train.images[number].transpose(1, 2, 0))
        small = np.asarray(whole.resize((8, 8), Image.Resampling.BILINEAR)).transpose(2, 0, 1).copy()
        assert (image - normalise(torch.from_numpy(small)[None])[0]).abs().max() < 1.5 / 255 / min(data.std)


def test_images_of_the_size_asked_for_are_not_touched():
    images = torch.rand(2, 3, 8, 8)
    assert resized(images, 8) is images


@pytest.mark.parametrize(("name", "simple"), [(name, name in ("small", "fixres")) for name in RECIPES])
def test_shifted_and_mirrored_images_are_made_on_the_device(name, simple):
    assert is_simple(RECIPES[name]) == simple


@pytest.mark.parametrize("repeats", [1, 3])
def test_balanced_sampling_shows_every_class_equally_often_and_is_a_function_of_its_epoch(repeats):
    labels = np.repeat([0, 1], [54, 6])
    data = from_arrays(np.zeros((60, 8, 8, 3), dtype=np.uint8), labels)
    recipe = replace(PLAIN, sampling="balanced", repeats=repeats)
    first, second = (Order.of(recipe, data, seed=0, epoch=epoch).images for epoch in (0, 1))
    counts = np.bincount(data.train.labels[first])
    assert counts.sum() == len(data.train)
    assert abs(counts[0] - counts[1]) <= 2 * repeats + len(data.train) % 2
    assert (Order.of(recipe, data, seed=0, epoch=0).images == first).all()
    assert (first != second).any()


# Evaluation


@pytest.mark.parametrize("is_resident", [True, False])
def test_whole_splits_are_brought_whole_splits_too(on_disk, is_resident):
    data = load_data(on_disk, **({} if is_resident else {"resident_bytes": 0}))
    used = feed(STRONG, data)
    labels = torch.cat([labels for _, labels in used.splits.scan("search", 5)])
    assert labels.tolist() == data.search.labels.tolist()
    assert used.unreadable == ()


def test_an_image_that_cannot_be_read_is_noted(tmp_path):
    for number in range(60):
        path = tmp_path / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    data = load_data(tmp_path, resident_bytes=0)
    (tmp_path / data.train.paths[0]).unlink()
    used = feed(replace(PLAIN, epochs=6), data)
    images = [images for epoch in range(2) for images, _ in used.epoch(epoch)]
    assert all(image.shape == (8, 3, 8, 8) for image in images)
    assert used.unreadable == (data.train.paths[0],)


HALVED = replace(PLAIN, train_size=0.5)


@pytest.mark.parametrize(
    ("recipe", "loaders", "lost"),
    [(PLAIN, 2, 1), (HALVED, 0, 1), (HALVED, 2, 8), (replace(HALVED, crop="resized", mixup=0.2), 0, 8)],
)
def test_an_image_that_cannot_be_read_gives_way_to_another_in_views_of_any_size(
    tmp_path, monkeypatch, recipe, loaders, lost
):
    """Of a batch of which no image can be read, every place is taken by the first image that can be."""
    rng = np.random.default_rng(0)
    for number in range(1_000):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(1, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    data = load_data(tmp_path, resolution=16, resident_bytes=0)
    monkeypatch.setattr("nas.training.streaming.sensible_loaders", lambda _: loaders)
    for index in Order.of(recipe, data, seed=0, epoch=0).images[:lost]:
        (tmp_path / data.train.paths[index]).unlink()
    one = feed(recipe, data)
    images, labels = next(one.epoch(0))
    side = recipe.side(0, 16)
    assert images.shape == (8, 3, side, side)
    assert images.dtype == torch.float32
    assert len(labels) == 8
    black = Normalise(data, CPU)(torch.zeros(1, 3, side, side, dtype=torch.uint8))
    assert not any(torch.equal(image, black[0]) for image in images)
    assert len(one.unreadable) == lost
