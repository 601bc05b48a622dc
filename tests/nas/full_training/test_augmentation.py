import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import Mixup, create_transform
from torchvision import transforms

from nas.data.decoding import decode
from nas.data.loading import from_arrays, load_data
from nas.errors import RecipeError
from nas.full_training.augmentation import (
    Augmentation,
    Mixing,
    Normalised,
    Shift,
    generators_kept,
    posterized,
    seed_generators,
    smoothed,
)
from nas.full_training.recipe import FullRecipe
from nas.full_training.recipes import RECIPES
from nas.training.accuracy import Normalise
from nas.training.streaming import StreamedBatches, View

CPU = torch.device("cpu")
NOTATIONS = (
    "ta_wide",
    "original",
    "originalr-mstd0.5",
    "v0",
    "v0r",
    "3a",
    "rand-m9-mstd0.5-inc1",
    "rand-m15-n3-mstd101-mmax20-p0.8",
    "rand-m9-tweights",
    "rand-t3a",
    "rand-t3aw-inc0",
)
STRONG = FullRecipe(auto_augment="rand-m9-mstd0.5-inc1", random_erase=0.5, crop="resized")


def augmentation(recipe, *, channels=3, resolution=16, fit="crop"):
    return Augmentation(
        recipe=recipe,
        resolution=resolution,
        mean=(0.4, 0.5, 0.6)[:channels],
        std=(0.2, 0.3, 0.25)[:channels],
        fit=fit,
    )


def noise(*, channels=3, size=(24, 20), seed=0):
    shape = (size[1], size[0], 3) if channels == 3 else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def stir():
    """Draws from every global generator."""
    random.random()
    np.random.random()
    torch.rand(3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("notation", NOTATIONS)
def test_a_view_is_a_function_of_image_and_view(channels, notation):
    make = augmentation(FullRecipe(auto_augment=notation, random_erase=0.5), channels=channels)
    again = augmentation(FullRecipe(auto_augment=notation, random_erase=0.5), channels=channels)
    image = noise(channels=channels)
    before = image.tobytes()
    for seed in range(20):
        first = make(image, View(seed, 0))
        stir()
        make(image, View(seed + 1, 0, is_mirrored=True))
        assert torch.equal(again(image, View(seed, 0)), first)
        assert first.shape == (channels, 16, 16)
        assert first.dtype == torch.float32
        assert first.isfinite().all()
    assert image.tobytes() == before


@pytest.mark.parametrize("notation", ["", *NOTATIONS])
def test_views_with_other_seeds_differ(notation):
    make = augmentation(FullRecipe(auto_augment=notation))
    views = [make(noise(), View(seed, 0)).numpy().tobytes() for seed in range(10)]
    assert len(set(views)) > 7


@pytest.mark.parametrize(
    "notation", ["rand-x3", "rand-m", "rand-mstd.5", "rand-p.5", "rand-t3", "randm9", "v1", "v0-m2"]
)
def test_a_notation_that_timm_cannot_read_is_refused(notation):
    with pytest.raises(RecipeError) as error:
        FullRecipe(auto_augment=notation)
    assert error.value.field == "auto_augment"


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_recipe_makes_views_of_the_size_of_each_stage(recipe, channels):
    make = augmentation(recipe, channels=channels, resolution=32)
    for stage in range(recipe.stages):
        side = recipe.side(stage, 32)
        assert make(noise(channels=channels), View(3, stage)).shape == (channels, side, side)


# As others make them


@pytest.mark.parametrize(
    "notation", ["", "rand-m9-mstd0.5", "rand-m7-inc1", "rand-m9-n3-inc1-p0.9", "original"]
)
@pytest.mark.parametrize("size", [(24, 20), (100, 37)])
def test_a_view_is_what_timm_s_training_transform_makes_of_the_image(notation, size):
    """But for mirrors, which are not drawn by the view."""
    make = augmentation(FullRecipe(auto_augment=notation, random_erase=0.5, least_area=0.2))
    theirs = create_transform(
        16,
        is_training=True,
        scale=(0.2, 1.0),
        hflip=0.0,
        color_jitter=None,
        auto_augment=notation or None,
        interpolation="bilinear",
        mean=make.mean,
        std=make.std,
        re_prob=0.5,
        re_mode="const",
    )
    for seed in range(40):
        image = noise(size=size, seed=seed)
        found = make(image, View(seed, 0))
        seed_generators(seed)
        torch.testing.assert_close(found, theirs(image), rtol=1e-4, atol=1e-5)


def test_trivialaugment_is_that_of_torchvision_s_references():
    make = augmentation(FullRecipe(auto_augment="ta_wide", crop="none"))
    theirs = transforms.Compose(
        [
            transforms.TrivialAugmentWide(interpolation=transforms.InterpolationMode.BILINEAR),
            transforms.ToTensor(),
            transforms.Normalize(make.mean, make.std),
        ]
    )
    for seed in range(60):
        image = noise(size=(16, 16), seed=seed)
        found = make(image, View(seed, 0))
        seed_generators(seed)
        torch.testing.assert_close(found, theirs(image), rtol=1e-4, atol=1e-5)


# As in evaluation


def files(folder, shapes, *, suffix=".png", mode="RGB"):
    """A folder of two classes with images of these shapes."""
    rng = np.random.default_rng(0)
    for number, size in enumerate(shapes):
        for name in "ab":
            path = folder / name / f"{number}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).convert(mode).save(path)
    return folder


SHAPES = ((16, 16), (40, 24), (24, 40), (17, 33), (300, 200), (650, 640), (9, 12), (130, 131))


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize(
    ("suffix", "mode"), [(".png", "RGB"), (".png", "L"), (".png", "LA"), (".jpg", "RGB"), (".jpg", "CMYK")]
)
def test_without_augmentation_a_view_is_the_image_as_it_is_evaluated(tmp_path, fit, suffix, mode):
    """JPEGs many times the resolution too, which are decoded at a fraction of their size."""
    data = load_data(
        files(tmp_path, SHAPES, suffix=suffix, mode=mode), resolution=16, resident_bytes=0, fit=fit
    )
    make = Augmentation.of(FullRecipe(crop="none"), data)
    streamed = StreamedBatches(data, CPU, augment=make, least_side=make.least_side)
    views = streamed.views([[(index, View(index, 0))] for index in range(len(data.train))])
    normalise = Normalise(data, CPU)
    for path, (image, _) in zip(data.train.paths, views, strict=True):
        expected = normalise(torch.from_numpy(decode(tmp_path / path, data.reading).copy())[None])
        assert torch.equal(image, expected), path


def test_images_in_memory_are_seen_as_they_are_evaluated():
    for channels in (1, 3):
        images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, channels), dtype=np.uint8)
        data = from_arrays(images, np.arange(40) % 2)
        streamed = StreamedBatches(data, CPU, augment=Augmentation.of(FullRecipe(crop="none"), data))
        ((found, labels),) = streamed.views([[(index, View(index, 0)) for index in range(10)]])
        assert torch.equal(found, Normalise(data, CPU)(torch.from_numpy(data.train.images[:10])))
        assert labels.tolist() == data.train.labels[:10].tolist()


@pytest.mark.parametrize("crop", ["none", "shifted"])
def test_a_mirrored_view_is_the_mirror_image(crop):
    make = augmentation(FullRecipe(crop=crop, shift=0.0))
    image = noise(size=(16, 16))
    assert torch.equal(make(image, View(1, 0, is_mirrored=True)), make(image, View(1, 0)).flip(-1))


# Crops and shifts


@pytest.mark.parametrize("size", [(160, 40), (40, 160)])
def test_crops_come_from_the_whole_of_an_image_that_is_not_square(size):
    """The value of a pixel is its place along the longer side."""
    ramp = np.linspace(0, 255, max(size)).astype(np.uint8)
    wide = size[0] > size[1]
    pixels = np.broadcast_to(ramp[None] if wide else ramp[:, None], size[::-1])
    make = Augmentation(
        recipe=FullRecipe(least_area=0.05), resolution=16, mean=(0.0,), std=(1.0,), fit="crop"
    )
    seen = torch.stack([make(Image.fromarray(pixels), View(seed, 0)) for seed in range(300)])
    assert seen.min() < 0.03
    assert seen.max() > 0.97


def test_crops_have_at_least_the_least_area():
    """A ramp of both sides: the range of values in a crop is its share of the side."""
    ramp = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8), (64, 64))
    make = Augmentation(recipe=FullRecipe(least_area=0.9), resolution=64, mean=(0.0,), std=(1.0,), fit="crop")
    widths = [float(v.max() - v.min()) for v in (make(Image.fromarray(ramp), View(s, 0)) for s in range(100))]
    assert min(widths) > 0.75  # 0.9 of the area, 3:4 at most narrower
    assert max(widths) > 0.97


def test_shifts_reach_as_far_as_asked_for_and_mirror_the_edge():
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    shift = Shift(2)
    seen = set()
    for seed in range(200):
        random.seed(seed)
        moved = np.asarray(shift(Image.fromarray(pixels)))
        matches = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if (
                np.pad(pixels, 2, mode="reflect")[2 + down : 10 + down, 2 + right : 10 + right] == moved
            ).all()
        ]
        assert len(matches) == 1
        seen |= {*matches}
    assert len(seen) == 25


def test_a_shift_wider_than_the_image_is_cut_at_its_edge():
    random.seed(0)
    moved = Shift(20)(Image.fromarray(np.full((4, 4), 7, dtype=np.uint8)))
    assert (np.asarray(moved) == 7).all()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_erasing_leaves_its_share_of_the_images_changed(share):
    make = augmentation(FullRecipe(crop="none", random_erase=share))
    image = noise(size=(16, 16))
    plain = Normalised(make)(image)
    changed = [not torch.equal(make(image, View(seed, 0)), plain) for seed in range(400)]
    assert np.mean(changed) == pytest.approx(share, abs=0.08)


def test_an_erased_rectangle_has_the_mean_colour():
    """As in torchvision's references: 0 after normalisation."""
    make = augmentation(FullRecipe(crop="none", random_erase=1.0))
    black = Image.new("RGB", (16, 16))
    plain = Normalised(make)(black)
    for view in (make(black, View(seed, 0)) for seed in range(20)):
        hole = view != plain
        assert hole.any()
        assert (view[hole] == 0).all()


def test_translations_of_randaugment_are_a_share_of_the_side_and_uncover_the_mean():
    make = augmentation(FullRecipe(auto_augment="rand-m10-n4-p1.0", crop="none"), resolution=64)
    (transform,) = make._auto_augment("rand-m10-n4-p1.0", 64)
    hparams = [op.hparams for op in transform.ops]
    assert all(one["translate_const"] == 28 and one["img_mean"] == (102, 128, 153) for one in hparams)
    (grey,) = augmentation(FullRecipe(), channels=1)._auto_augment("rand-m10", 16)
    assert all(op.hparams["img_mean"] == 102 for op in grey.ops)


@pytest.mark.parametrize(
    "notation", ["rand-m0-p1.0", "rand-m2-p1.0", "rand-m10-inc1-p1.0", "rand-m20-mmax20-inc1-p1.0", "v0"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_magnitudes_that_leave_no_bits_make_black_images_and_no_error(notation, channels):
    """Pillow refuses to posterize to 0 bits, and timm asks for it."""
    make = augmentation(FullRecipe(auto_augment=notation, crop="none"), channels=channels)
    views = [make(noise(channels=channels), View(seed, 0)) for seed in range(200)]
    black = Normalised(make)(noise(channels=channels, size=(16, 16)).point(lambda _: 0))
    assert any(torch.equal(view, black) for view in views)


def test_posterizing_keeps_the_upper_bits():
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for bits in range(9):
        kept = np.asarray(posterized(Image.fromarray(pixels), bits))
        assert (kept == pixels - pixels % 2 ** (8 - bits)).all() if bits else (kept == 0).all()


def test_a_magnitude_above_ten_is_stronger():
    """timm cuts at 10 without `mmax`."""
    recipe = RECIPES["progressive"]
    for stage, magnitude in enumerate((5, 8, 12, 15)):
        (made,) = augmentation(recipe)._auto_augment(recipe.augment_at(stage), 16)
        assert {op.magnitude for op in made.ops} == {magnitude}
        assert all(op.magnitude_max > magnitude for op in made.ops)


# Generators and processes


def test_an_error_of_an_augmentation_is_not_taken_for_a_damaged_file(tmp_path):
    data = load_data(files(tmp_path, [(20, 24)] * 8), resolution=16, resident_bytes=0)

    def fail(*_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        next(StreamedBatches(data, CPU, augment=fail).views([[(0, View(0, 0))]]))


def states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


def test_generators_are_put_back_also_after_an_error():
    before = states()
    with generators_kept():
        augmentation(STRONG)(noise(), View(1, 0))
        stir()
    assert states() == before

    def fail():
        with generators_kept():
            stir()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert states() == before


def test_an_augmentation_crosses_to_another_process_as_what_it_is():
    make = augmentation(STRONG)
    expected = make(noise(), View(5, 0))
    other = pickle.loads(pickle.dumps(make))
    assert torch.equal(other(noise(), View(5, 0)), expected)
    assert other == augmentation(STRONG) or other.recipe == STRONG


@pytest.mark.parametrize("is_resident", [True, False])
def test_views_that_loading_processes_make_are_those_of_this_one(tmp_path, is_resident):
    folder = files(tmp_path, [(20, 24)] * 8)
    data = load_data(folder, resolution=16, **({} if is_resident else {"resident_bytes": 0}))
    assert data.is_resident == is_resident
    make = Augmentation.of(STRONG, data)
    chosen = [
        [(index, View(7 * index + batch, 0, index % 2 == 0)) for index in range(4)] for batch in range(5)
    ]
    here, there = (
        list(StreamedBatches(data, CPU, augment=make, loaders=loaders).views(chosen)) for loaders in (0, 2)
    )
    for (images, labels), (others, other_labels) in zip(here, there, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, other_labels)


# Mixing


def classes(count):
    """Images of so many classes."""
    return from_arrays(np.zeros((9 * count, 8, 8, 3), dtype=np.uint8), np.arange(9 * count) % count)


def test_mixed_images_and_targets_are_the_same_shares_of_the_same_pair():
    mix = Mixing(FullRecipe(mixup=0.5, label_smoothing=0.1), classes(4))
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    images = torch.eye(4)[labels][:, :, None, None].expand(6, 4, 5, 5).clone()  # a pixel is its class
    mixed, targets = mix(images.clone(), labels, stage=0, seed=3)
    torch.testing.assert_close(mixed[:, :, 0, 0] * 0.9 + 0.1 / 4, targets)
    assert torch.equal(mixed, mixed[:, :, :1, :1].expand_as(mixed))
    assert 0 < float(mixed[0, 0, 0, 0]) < 1


def test_targets_of_cutmix_are_the_shares_of_the_pixels():
    mix = Mixing(FullRecipe(cutmix=1.0, label_smoothing=0.0), classes(4))
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    images = torch.eye(4)[labels][:, :, None, None].expand(6, 4, 8, 8).clone()
    for seed in range(10):
        mixed, targets = mix(images.clone(), labels, stage=0, seed=seed)
        assert set(mixed.unique().tolist()) <= {0.0, 1.0}
        torch.testing.assert_close(mixed.mean((2, 3)), targets)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("ways", [{"mixup": 0.5}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_images_and_targets_of_classes_are_those_of_timm(ways, smoothing):
    images, labels = torch.randn(8, 3, 6, 6), torch.tensor([0, 1, 2, 3, 0, 1, 2, 2])
    mix = Mixing(FullRecipe(label_smoothing=smoothing, **ways), classes(4))
    alphas = {f"{name}_alpha": value for name, value in ways.items()}
    theirs = Mixup(label_smoothing=smoothing, num_classes=4, **{"mixup_alpha": 0.0, **alphas})
    for seed in range(8):
        found = mix(images.clone(), labels, stage=0, seed=seed)
        np.random.seed(seed)
        expected = theirs(images.clone(), labels)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        ("multilabel", np.array([[0, 1], [1, 1], [1, 0], [0, 0]] * 9)),
        ("regression", np.array([[1.5, -2.0], [3.0, 40.0], [-7.0, 0.5], [2.0, 6.0]] * 9)),
    ],
)
def test_rows_of_labels_and_numbers_are_mixed_as_their_images_are(task, labels):
    data = from_arrays(np.zeros((36, 8, 8, 3), dtype=np.uint8), labels, task=task)
    rows = torch.tensor(labels[:5], dtype=torch.float32)
    images = rows[:, :, None, None].expand(5, 2, 4, 4).clone()  # a pixel is its label
    mixed, targets = Mixing(FullRecipe(mixup=1.0, label_smoothing=0.1), data)(images, rows, stage=0, seed=3)
    torch.testing.assert_close(mixed[:, :, 0, 0], targets)
    assert torch.equal(targets[0], rows[0])
    assert not torch.equal(targets[1:], rows[1:])


def test_mixing_is_a_function_of_its_seed():
    mix = Mixing(FullRecipe(mixup=0.2, cutmix=1.0), classes(3))
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    first = mix(images.clone(), labels, stage=0, seed=5)
    stir()
    again = mix(images.clone(), labels, stage=0, seed=5)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    others = [mix(images.clone(), labels, stage=0, seed=seed)[1] for seed in range(20)]
    assert len({other.numpy().tobytes() for other in others}) > 10


def test_of_an_odd_batch_the_first_image_stays_alone():
    mix = Mixing(FullRecipe(mixup=0.5, label_smoothing=0.1), classes(3))
    images, labels = torch.randn(5, 3, 4, 4), torch.tensor([2, 1, 0, 1, 2])
    mixed, targets = mix(images.clone(), labels, stage=0, seed=1)
    assert torch.equal(mixed[0], images[0])
    assert not torch.equal(mixed[1], images[1])
    torch.testing.assert_close(targets[0], torch.tensor([0.1 / 3, 0.1 / 3, 0.9 + 0.1 / 3]))
    assert targets.sum(1).tolist() == pytest.approx([1.0] * 5)


def test_without_mixing_labels_stay_labels():
    images, labels = torch.randn(4, 3, 4, 4), torch.tensor([0, 1, 2, 0])
    assert Mixing(FullRecipe(), classes(3))(images, labels, stage=0, seed=0)[1] is labels
    growing = Mixing(FullRecipe(mixup=0.2, first_mixup=0.0, stages=2), classes(3))
    assert growing(images, labels, stage=0, seed=0)[1] is labels
    assert growing(images.clone(), labels, stage=1, seed=0)[1].shape == (4, 3)


def test_a_single_image_has_nothing_to_be_mixed_with():
    images, labels = torch.randn(1, 3, 4, 4), torch.tensor([1])
    assert Mixing(FullRecipe(mixup=0.2), classes(3))(images, labels, stage=0, seed=0)[1] is labels


def test_a_target_without_mixing_is_smoothed_as_torch_does():
    target = smoothed(torch.tensor([1]), 4, 0.2)
    logits = torch.randn(1, 4)
    cross_entropy = torch.nn.functional.cross_entropy
    assert cross_entropy(logits, target) == pytest.approx(
        float(cross_entropy(logits, torch.tensor([1]), label_smoothing=0.2))
    )
