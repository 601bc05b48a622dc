import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import RecipeError
from nas.training.recipe import FIRST_VERSION, Recipe


@given(
    epochs=st.floats(0.5, 100),
    warmup=st.floats(0, 0.4),
    peak=st.floats(1e-4, 2),
    steps=st.integers(2, 300),
)
def test_the_rate_rises_to_at_most_its_peak_and_falls_to_nearly_zero(epochs, warmup, peak, steps):
    recipe = Recipe(epochs=epochs, warmup_epochs=warmup, learning_rate=peak)
    rates = [recipe.learning_rate_at(step, steps) for step in range(steps)]
    top = rates.index(max(rates))
    assert all(a <= b for a, b in pairwise(rates[: top + 1]))
    assert all(a >= b for a, b in pairwise(rates[top:]))
    assert 0 <= rates[-1] <= max(rates) <= peak * (1 + 1e-9)


def test_warm_up_is_linear_and_the_cosine_passes_half_the_peak_halfway():
    recipe = Recipe(epochs=10, warmup_epochs=2, learning_rate=1.0)
    assert [recipe.learning_rate_at(step, 100) for step in (0, 9, 19)] == pytest.approx([0.05, 0.5, 1.0])
    assert recipe.learning_rate_at(59, 100) == pytest.approx(0.5)
    assert recipe.learning_rate_at(99, 100) == pytest.approx(0.0)


def test_fidelity_shortens_the_schedule_and_its_warm_up():
    recipe = Recipe(epochs=8, warmup_epochs=2)
    assert recipe.at(0.25) == replace(recipe, epochs=2.0, warmup_epochs=0.5)
    assert recipe.at(1.0) == recipe
    assert recipe.at(0.25).steps(1_000) == recipe.steps(1_000) // 4


@pytest.mark.parametrize("fidelity", [0, -1, 1.1, float("nan")])
def test_a_fidelity_out_of_range_is_refused(fidelity):
    with pytest.raises(RecipeError, match="0 < fidelity <= 1"):
        Recipe().at(fidelity)


def test_steps_leave_the_partial_batch_out_and_are_at_least_one():
    assert Recipe(epochs=3, batch_size=64).steps(200) == 9
    assert Recipe(epochs=0.01, warmup_epochs=0, batch_size=64).steps(200) == 1


@pytest.mark.parametrize(
    ("images", "batch"),
    [(100_000, 128), (1_024, 128), (1_023, 64), (114, 8), (64, 8), (38, 4), (12, 4), (4, 4), (3, 3), (2, 2)],
)
def test_a_batch_follows_the_images_unless_it_is_given(images, batch):
    assert Recipe().batch_for(images) == batch
    assert Recipe(batch_size=256).batch_for(images) == 256


@given(images=st.integers(2, 200_000))
def test_a_batch_that_follows_the_images_is_of_at_least_two_of_them_and_leaves_eight_steps_or_is_small(
    images,
):
    batch = Recipe().batch_for(images)
    assert 2 <= batch <= min(128, images)
    assert images // batch >= 8 or batch <= 4
    assert Recipe().settled(images) == Recipe().settled(images).settled(images)


def test_enough_images_settle_the_default_recipe_as_it_always_was():
    assert Recipe().settled(5_000) == Recipe(batch_size=128, batch_norm_statistics="running")


def test_a_stored_recipe_of_before_statistics_could_be_recomputed_means_the_running_ones():
    written = json.loads(Recipe(batch_size=128).to_json())
    stored = {name: written[name] for name in FIRST_VERSION}
    assert Recipe.from_json(json.dumps(stored)) == Recipe(batch_size=128, batch_norm_statistics="running")
    assert Recipe.from_json('{"epochs": 3}') == Recipe(epochs=3)


def test_json_brings_back_the_same_recipe():
    recipe = Recipe(epochs=3, optimizer="rmsprop", augmentation="none", precision="float32")
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_the_fingerprint_tells_recipes_apart_but_not_spellings_of_one():
    assert Recipe(epochs=5).fingerprint == Recipe(epochs=5.0).fingerprint
    assert Recipe(epochs=5).fingerprint != Recipe(epochs=6).fingerprint


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", float("inf")),
        ("epochs", "5"),
        ("learning_rate", -1),
        ("learning_rate", float("nan")),
        ("momentum", 1),
        ("label_smoothing", -0.1),
        ("weight_decay", -1),
        ("warmup_epochs", 5),
        ("batch_norm_momentum", 0),
        ("batch_size", 1),
        ("batch_size", 64.0),
        ("batch_size", True),
        ("crop_padding", -1),
        ("optimizer", "adam"),
        ("augmentation", "mixup"),
        ("precision", "float16"),
        ("batch_norm_statistics", "frozen"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(RecipeError, match=f"`.*{field}.*` must hold, but got {field}=") as error:
        Recipe(**{field: value})
    assert error.value.field == field


@pytest.mark.parametrize("text", ["", "[]", "3", '{"epoch": 5}'])
def test_text_that_is_no_recipe_is_refused(text):
    with pytest.raises(RecipeError):
        Recipe.from_json(text)


def test_a_recipe_without_probes_leaves_no_precision_to_be_timed_and_keeps_one_that_was_chosen():
    assert Recipe().without_probes() == Recipe(precision="float32")
    assert Recipe(precision="bfloat16").without_probes() == Recipe(precision="bfloat16")


def test_a_number_that_no_float_can_hold_is_refused_by_its_name():
    with pytest.raises(RecipeError) as error:
        Recipe(momentum=10**400)
    assert error.value.field == "momentum"


def test_weights_sampling_and_loss_leave_the_fingerprint_at_their_defaults():
    plain = Recipe()
    assert (
        Recipe(class_weights="none", sampling="shuffled", regression_loss="huber").fingerprint
        == plain.fingerprint
    )
    changes = ({"class_weights": "balanced"}, {"sampling": "balanced"}, {"regression_loss": "squared"})
    assert len({plain.fingerprint, *(Recipe(**change).fingerprint for change in changes)}) == 4
    earlier = {
        name: value
        for name, value in json.loads(plain.to_json()).items()
        if name not in ("class_weights", "sampling", "regression_loss")
    }
    assert Recipe.from_json(json.dumps(earlier)) == plain


def test_classes_are_balanced_once():
    with pytest.raises(RecipeError) as error:
        Recipe(class_weights="balanced", sampling="balanced")
    assert error.value.field == "sampling"
