import dataclasses
import math
import tomllib
from dataclasses import asdict, fields, make_dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import RecipeError
from nas.full_training.recipe import FullRecipe
from nas.full_training.recipe_laws import LAWS, UNSUITED
from nas.full_training.recipes import RECIPES
from nas.options import options_of

NO_NUMBERS = (math.nan, math.inf, -math.inf, True, "0.5", [1], -(10**400), 1j)

OUT_OF_RANGE = {
    "epochs": (0, -1, None),
    "learning_rate": (0, -0.1, None),
    "decay_epochs": (0, -1, None),
    "optimizer_eps": (-1e-9, None),
    "weight_decay": (-1e-9, None),
    "clip_norm": (-1, None),
    "warmup_epochs": (-1, 100, 101, None),
    "mixup": (-0.1, None),
    "cutmix": (-0.1, None),
    "first_magnitude": (-1,),
    "first_mixup": (-0.1,),
    "momentum": (-0.1, 1, None),
    "label_smoothing": (-0.1, 1, None),
    "shift": (-0.1, 1, None),
    "ema_decay": (-0.1, 1, None),
    "dropout": (-0.1, 1),
    "drop_path": (-0.1, 1),
    "first_dropout": (-0.1, 1),
    "decay_rate": (0, 1.1, None),
    "layer_decay": (0, 1.1, None),
    "train_size": (0, 1.1, None),
    "least_area": (0, 1.1, None),
    "first_size": (0, 1.1, None),
    "random_erase": (-0.1, 1.1, None),
    "final_rate": (-0.1, 1.1, None),
    "batch_norm_momentum": (0, 1.1),
    "reference_batch": (0, 1.5, None),
    "repeats": (0, 1.5, None),
    "stages": (0, 1.5, None),
    "ema_every": (0, 1.5, None),
    "batch_size": (1, 0, 2.5),
    "largest_batch": (1, 0, 2.5, None),
}
NO_WORDS = (None, 3, "", "unheard_of", ["cosine"])
WORDS = tuple(name for name, one in options_of(FullRecipe).items() if one.choices)


def refused(**values):
    with pytest.raises(RecipeError) as error:
        FullRecipe(**values)
    return error.value


def test_every_number_of_a_recipe_has_a_law_and_a_test_of_it():
    of_laws = {name for _, names, _ in LAWS for name in names}
    assert of_laws - {"name", "optimizer", "freeze", "ema_warmup"} == {*OUT_OF_RANGE}
    assert of_laws | {*WORDS} | {"auto_augment"} == {field.name for field in fields(FullRecipe)}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in OUT_OF_RANGE.items() for value in (*values, *NO_NUMBERS)],
)
def test_a_number_out_of_range_is_refused_by_its_name(name, value):
    error = refused(**{name: value})
    assert error.field == name
    assert f", but got {name}=" in str(error)


def test_a_number_that_no_float_can_hold_is_refused():
    assert refused(epochs=10**400).field == "epochs"


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in WORDS for value in NO_WORDS])
def test_a_word_that_is_no_choice_is_refused_by_its_name(name, value):
    assert refused(**{name: value}).field == name


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_a_switch_is_true_or_false(value):
    assert refused(ema_warmup=value).field == "ema_warmup"


@pytest.mark.parametrize("value", [None, 3, "", "two\nlines"])
def test_a_name_is_printable_text(value):
    assert refused(name=value).field == "name"


@pytest.mark.parametrize(
    "text", ["rand-m9-x3", "rand-mstd.5", "rand-tunknown", "auto", "v0-m3", "rand9", 3, None]
)
def test_an_augmentation_that_timm_cannot_read_is_refused(text):
    assert refused(auto_augment=text).field == "auto_augment"


@pytest.mark.parametrize("text", ["", "ta_wide", "original", "v0", "3a"])
def test_a_growing_magnitude_needs_randaugment(text):
    assert refused(auto_augment=text, first_magnitude=3).field == "first_magnitude"


@pytest.mark.parametrize(("word", "near"), [("rmspropt", "rmsproptf"), ("lam", "lamb"), ("SGD", "sgd")])
def test_an_optimiser_that_timm_does_not_have_is_answered_with_a_near_one(word, near):
    error = refused(optimizer=word)
    assert error.field == "optimizer"
    assert near in str(error)


@pytest.mark.parametrize("name", UNSUITED)
def test_an_optimiser_that_cannot_be_continued_exactly_is_refused(name):
    error = refused(optimizer=name)
    assert error.field == "optimizer"
    assert UNSUITED[name] in str(error)


def test_a_whole_number_and_a_real_one_are_the_same_recipe():
    assert FullRecipe(epochs=5, warmup_epochs=1) == FullRecipe(epochs=5.0, warmup_epochs=1.0)
    assert FullRecipe(epochs=9).fingerprint == FullRecipe(epochs=9.0).fingerprint


def test_no_augmentation_may_be_called_none():
    assert FullRecipe(auto_augment="none") == FullRecipe(auto_augment="")


def test_the_fingerprint_changes_with_every_field_but_the_name():
    recipe = FullRecipe(auto_augment="rand-m9", stages=2, starts_from="weights")
    others = {
        "starts_from": "scratch",
        "freeze": "stage2",
        "trains": "classifier",
        "precision": "float32",
        "optimizer": "adamw",
        "rate_rule": "none",
        "schedule": "step",
        "loss": "binary_cross_entropy",
        "regression_loss": "squared",
        "class_weights": "balanced",
        "sampling": "balanced",
        "crop": "none",
        "flip": "none",
        "auto_augment": "rand-m8",
        "ema_warmup": False,
        "batch_size": 64,
        "first_magnitude": 3,
    }
    seen = {recipe.fingerprint}
    for field in fields(FullRecipe):
        if field.name != "name":
            before = getattr(recipe, field.name)
            value = others.get(field.name, 0.5 if before is None else before * 2 if before else 0.25)
            if field.name in ("train_size", "first_size", "momentum", "decay_rate", "layer_decay"):
                value = 0.5
            seen.add(recipe.changed(**{field.name: value}).fingerprint)
    assert len(seen) == len(fields(FullRecipe))
    assert recipe.changed(name="other").fingerprint == recipe.fingerprint


def test_a_field_added_later_changes_no_fingerprint_until_it_is_used():
    more = [("added_later", float, dataclasses.field(default=0.5))]
    grown = make_dataclass("FullRecipe", more, bases=(FullRecipe,), frozen=True, slots=True, kw_only=True)
    assert grown(epochs=9).fingerprint == FullRecipe(epochs=9).fingerprint
    assert grown(epochs=9, added_later=0.25).fingerprint != FullRecipe(epochs=9).fingerprint


@pytest.mark.parametrize(
    ("name", "fingerprint"),
    [("small", "7ef08a6bc3a8bb7b"), ("modern", "df00d4e98bc63761"), ("progressive", "72c21a71bee6880a")],
)
def test_trainings_of_earlier_versions_can_be_continued(name, fingerprint):
    """Made with `RECIPES[name].fingerprint` before any field was added."""
    assert RECIPES[name].fingerprint == fingerprint


def test_classes_are_not_balanced_twice():
    error = refused(class_weights="balanced", sampling="balanced")
    assert error.field == "sampling"


# TOML


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_in_toml_is_read_as_it_was(name):
    recipe = RECIPES[name]
    assert FullRecipe.from_toml(recipe.to_toml()) == recipe
    written = tomllib.loads(recipe.to_toml())
    assert written == {name: value for name, value in asdict(recipe).items() if value is not None}


def sometimes(values):
    return st.none() | values


share = st.floats(0, 1, exclude_max=True)


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "name": st.text(min_size=1).filter(str.isprintable),
            "epochs": st.floats(1e-6, 1e300) | st.integers(1, 10**6),
            "warmup_epochs": st.just(0),
            "learning_rate": st.floats(5e-324, 1e300),
            "weight_decay": st.floats(0, 1e300),
            "dropout": sometimes(share),
            "first_mixup": sometimes(share),
            "largest_batch": st.integers(2, 2**62),
            "ema_warmup": st.booleans(),
        }
    )
)
def test_any_recipe_in_toml_is_read_as_it_was(values):
    recipe = FullRecipe(**values)
    assert FullRecipe.from_toml(recipe.to_toml()) == recipe


def test_toml_changes_a_recipe_that_it_names():
    read = FullRecipe.from_toml('base = "modern"\nepochs = 60\nmixup = 0.0\n', base=RECIPES)
    assert read == RECIPES["modern"].changed(epochs=60, mixup=0.0)
    assert read.warmup_epochs == 0.5


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("epochs = ", "recipe", "TOML"),
        ("epoch = 3", "epoch", "epochs"),
        ("[recipe]\nepochs = 3", "recipe", "no field"),
        ('base = "moderm"', "base", "modern"),
        ('base = ["modern"]', "base", "no recipe"),
        ("base = 3", "base", "no recipe"),
        ('epochs = "3"', "epochs", "epochs > 0"),
        ("epochs = nan", "epochs", "epochs > 0"),
        ("epochs = 1979-05-27", "epochs", "epochs > 0"),
        ("optimizer = 3", "optimizer", "text"),
        ("stages = 2.0", "stages", "stages >= 1"),
    ],
)
def test_toml_that_is_no_recipe_is_refused_with_what_is_wrong(text, field, words):
    with pytest.raises(RecipeError, match=words) as error:
        FullRecipe.from_toml(text, base=RECIPES)
    assert error.value.field == field


# Changes


def test_other_epochs_scale_the_warmup_and_the_steps():
    recipe = FullRecipe(epochs=100, warmup_epochs=5, decay_epochs=2)
    shorter = recipe.changed(epochs=10)
    assert (shorter.warmup_epochs, shorter.decay_epochs) == (0.5, 0.2)
    given_too = recipe.changed(epochs=10, warmup_epochs=2)
    assert (given_too.warmup_epochs, given_too.decay_epochs) == (2.0, 0.2)
    assert recipe.changed(learning_rate=1).warmup_epochs == 5.0


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_made_as_short_as_one_wishes(name):
    assert RECIPES[name].changed(epochs=0.01).epochs == 0.01


@pytest.mark.parametrize("epochs", [0, -1, math.nan, True, "10"])
def test_epochs_that_are_none_are_refused_and_scale_nothing(epochs):
    with pytest.raises(RecipeError) as error:
        FullRecipe().changed(epochs=epochs)
    assert error.value.field == "epochs"


def test_a_field_that_a_recipe_does_not_have_is_answered_with_a_near_one():
    with pytest.raises(RecipeError, match="label_smoothing") as error:
        FullRecipe().changed(labelsmoothing=0.1)
    assert error.value.field == "labelsmoothing"


def test_a_warmup_longer_than_the_training_is_refused():
    with pytest.raises(RecipeError, match="warmup_epochs < epochs=3") as error:
        FullRecipe().changed(epochs=3, warmup_epochs=3)
    assert error.value.field == "warmup_epochs"


@pytest.mark.parametrize(
    ("images", "batch"), [(10, 10), (128, 16), (255, 16), (256, 32), (1_000, 64), (2_048, 256), (10**6, 256)]
)
def test_few_images_have_a_batch_that_leaves_eight_steps(images, batch):
    recipe = FullRecipe(largest_batch=256)
    assert recipe.batch_for(images) == batch
    assert images < 128 or recipe.steps_an_epoch(images) >= 8


def test_a_batch_that_is_given_stays_as_far_as_there_are_images():
    assert FullRecipe(batch_size=256).batch_for(800) == 256
    assert FullRecipe(batch_size=256).batch_for(100) == 100


# Steps, sizes, rates


@pytest.mark.parametrize(
    ("images", "batch", "an_epoch", "steps"),
    [(100, 10, 10, 25), (109, 10, 10, 25), (5, 10, 1, 2), (3, 2, 1, 2)],
)
def test_partial_batches_are_left_out_and_a_small_split_is_one_batch(images, batch, an_epoch, steps):
    recipe = FullRecipe(epochs=2.5, batch_size=batch, warmup_epochs=0)
    assert recipe.steps_an_epoch(images) == an_epoch
    assert recipe.steps(images) == steps


def test_there_is_at_least_one_step():
    assert FullRecipe(epochs=0.001, warmup_epochs=0).steps(1_000) == 1


@pytest.mark.parametrize(
    ("rule", "peak"), [("linear", 0.1 * 64 / 256), ("square_root", 0.1 / 2), ("none", 0.1)]
)
def test_the_peak_follows_the_batch_by_the_recipe_s_rule(rule, peak):
    recipe = FullRecipe(batch_size=128, learning_rate=0.1, reference_batch=256, rate_rule=rule)
    assert recipe.peak_rate(64) == pytest.approx(peak)  # 64 images allow a batch of 64


def test_stages_are_of_equal_length_and_in_order():
    recipe = FullRecipe(stages=4)
    stages = [recipe.stage_at(step, 10) for step in range(10)]
    assert stages == sorted(stages)
    assert [stages.count(stage) for stage in range(4)] == [3, 2, 3, 2]
    assert [recipe.stage_at(step, 2) for step in range(2)] == [0, 2]


@pytest.mark.parametrize(("stages", "steps"), [(1, 7), (4, 10), (4, 3), (3, 12)])
def test_the_pixels_of_steps_are_those_of_their_stages(stages, steps):
    recipe = FullRecipe(stages=stages, first_size=0.5)
    sides = [recipe.side(recipe.stage_at(step, steps), 64) for step in range(steps)]
    for first in range(steps + 1):
        expected = sum(side**2 for side in sides[first:])
        assert recipe.pixels(first, steps, steps, 64) == expected


def test_efficientnetv2_s_grows_as_in_the_paper():
    """Tan and Le, ICML 2021, table 6: 128 to 300 pixels, RandAugment 5 to 15, dropout 0.1 to 0.3."""
    recipe = RECIPES["progressive"]
    sizes = [recipe.side(stage, 384) for stage in range(4)]
    assert sizes == [128, 184, 244, 300]  # 128, 185.3, 242.7, 300 to multiples of 4
    assert [recipe.augment_at(stage) for stage in range(4)] == [
        "rand-m5-mstd0.5-mmax20",
        "rand-m8-mstd0.5-mmax20",
        "rand-m12-mstd0.5-mmax20",
        "rand-m15-mstd0.5-mmax20",
    ]
    dropouts = [recipe.dropout_at(stage, own=0.9) for stage in range(4)]
    assert dropouts == pytest.approx([0.1, 0.1 + 0.2 / 3, 0.1 + 0.4 / 3, 0.3])
    mixups = [recipe.mixup_at(stage) for stage in range(4)]
    assert mixups == pytest.approx([0, 0.2 / 3, 0.4 / 3, 0.2])


@settings(deadline=None)
@given(st.floats(0.01, 1), st.floats(0.01, 1), st.integers(1, 5), st.integers(2, 128).map(lambda n: 4 * n))
def test_sides_grow_in_multiples_of_four_up_to_the_network_s(train_size, first_size, stages, resolution):
    recipe = FullRecipe(train_size=train_size, first_size=first_size, stages=stages)
    sides = [recipe.side(stage, resolution) for stage in range(stages)]
    assert sides == sorted(sides)
    assert all(8 <= side <= resolution and side % 4 == 0 for side in sides)
    assert abs(sides[-1] - train_size * resolution) <= 2 or sides[-1] == 8


@pytest.mark.parametrize("resolution", [6, 7, 29, 30])
def test_the_network_s_own_size_is_trained_whatever_it_is(resolution):
    assert FullRecipe().side(0, resolution) == resolution


def test_what_has_no_first_value_does_not_grow():
    recipe = FullRecipe(stages=3, mixup=0.4, dropout=0.3, auto_augment="rand-m9-n3")
    for stage in range(3):
        assert recipe.mixup_at(stage) == 0.4
        assert recipe.dropout_at(stage, own=0.1) == 0.3
        assert recipe.augment_at(stage) == "rand-m9-n3"
    assert FullRecipe().dropout_at(0, own=0.1) == 0.1


def test_a_magnitude_that_is_not_written_is_timm_s_ten():
    recipe = FullRecipe(stages=2, auto_augment="rand-mstd0.5-mmax20-inc1", first_magnitude=4)
    assert recipe.augment_at(0) == "rand-m4-mstd0.5-mmax20-inc1"
    assert recipe.augment_at(1) == "rand-m10-mstd0.5-mmax20-inc1"


@pytest.mark.parametrize(
    ("shift", "side", "pixels"), [(0.0625, 32, 2), (0.0625, 8, 1), (0.01, 8, 1), (0, 32, 0)]
)
def test_a_shift_is_a_share_of_the_side_and_at_least_a_pixel(shift, side, pixels):
    assert FullRecipe(shift=shift).shift_pixels(side) == pixels
