"""The recipes of full training by name, each with where its numbers come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nas.errors import RecipeError
from nas.full_training.recipe import FullRecipe
from nas.reading import read_text
from nas.units import hint

EFFICIENTNET = FullRecipe(
    name="efficientnet",
    epochs=350,
    largest_batch=256,
    optimizer="rmsproptf",
    optimizer_eps=1e-3,
    learning_rate=0.016,
    reference_batch=256,
    weight_decay=1e-5,
    schedule="step",
    warmup_epochs=5,
    decay_epochs=2.4,
    decay_rate=0.97,
    drop_path=0.2,
    auto_augment="rand-m9-mstd0.5",
    batch_norm_momentum=0.01,
    ema_decay=0.9999,
)
"""Tan and Le, ICML 2019, section 5.2, and its code; RandAugment as timm trains EfficientNet-B0 (77.7 %).
Dropout is the network's own (0.2 in B0, 0.5 in B7)."""

MOBILENET_V3 = FullRecipe(
    name="mobilenet_v3",
    epochs=600,
    largest_batch=256,
    optimizer="rmsprop",
    optimizer_eps=0.0316,
    learning_rate=0.064,
    reference_batch=1024,
    weight_decay=1e-5,
    schedule="step",
    warmup_epochs=0,
    decay_epochs=2,
    decay_rate=0.973,
    label_smoothing=0,
    auto_augment="original",
    random_erase=0.2,
    batch_norm_momentum=0.01,
    ema_decay=0.9999,
)
"""torchvision's references for MobileNetV3. It averages the last three checkpoints that improved; here the
averaged weights do the same work."""

MODERN = FullRecipe(
    name="modern",
    epochs=600,
    largest_batch=256,
    optimizer="momentum",
    learning_rate=0.5,
    reference_batch=1024,
    weight_decay=2e-5,
    warmup_epochs=5,
    train_size=176 / 224,
    auto_augment="ta_wide",
    random_erase=0.1,
    mixup=0.2,
    cutmix=1.0,
    repeats=4,
    batch_norm_momentum=0.1,
    ema_decay=0.9989,
    ema_every=32,
)
"""torchvision's second recipe for ResNet-50 and EfficientNetV2: its EMA of 0.99998 is, by its own scaling for
1,024 images a step and 600 epochs, 0.9989 every 32 steps. During the warm-up of the rate it begins the
average once more; here TensorFlow's warm-up of the decay leaves as little of the first weights."""

STRIKES_BACK_A1 = FullRecipe(
    name="strikes_back_a1",
    epochs=600,
    largest_batch=2048,
    optimizer="lamb",
    learning_rate=5e-3,
    reference_batch=2048,
    rate_rule="square_root",
    weight_decay=0.01,
    warmup_epochs=5,
    final_rate=2e-4,
    loss="binary_cross_entropy",
    label_smoothing=0.1,
    drop_path=0.05,
    auto_augment="rand-m7-mstd0.5-inc1",
    mixup=0.2,
    cutmix=1.0,
    repeats=3,
    batch_norm_momentum=0.1,
)
"""Wightman, Touvron and Jegou, 2021, table 2, column A1. The final rate is 1e-6."""

STRIKES_BACK_A2 = FullRecipe.changed(
    STRIKES_BACK_A1,
    name="strikes_back_a2",
    epochs=300,
    warmup_epochs=5,
    weight_decay=0.02,
    label_smoothing=0,
    mixup=0.1,
)
"""The same, column A2."""

STRIKES_BACK_A3 = FullRecipe.changed(
    STRIKES_BACK_A2,
    name="strikes_back_a3",
    epochs=100,
    warmup_epochs=5,
    learning_rate=8e-3,
    final_rate=1.25e-4,
    drop_path=0.0,
    auto_augment="rand-m6-mstd0.5-inc1",
    repeats=1,
    train_size=160 / 224,
)
"""The same, column A3: trained at 160 pixels, measured at 224."""

PROGRESSIVE = FullRecipe.changed(
    EFFICIENTNET,
    name="progressive",
    train_size=300 / 384,
    auto_augment="rand-m15-mstd0.5-mmax20",
    mixup=0.2,
    dropout=0.3,
    stages=4,
    first_size=128 / 300,
    first_magnitude=5,
    first_mixup=0.0,
    first_dropout=0.1,
)
"""Tan and Le, ICML 2021, algorithm 1 and table 6: sizes, dropout and RandAugment of EfficientNetV2-S, mixup
of EfficientNetV2-M. timm cuts magnitudes at 10 unless `mmax` is larger."""

FIXRES = FullRecipe(
    name="fixres",
    starts_from="weights",
    trains="classifier_and_last_norm",
    epochs=10,
    largest_batch=256,
    optimizer="momentum",
    learning_rate=8e-3,
    reference_batch=512,
    weight_decay=1e-4,
    schedule="step",
    warmup_epochs=0,
    decay_epochs=30,
    decay_rate=0.1,
    label_smoothing=0,
    dropout=0.0,
    drop_path=0.0,
    crop="none",
    batch_norm_momentum=0.1,
)
"""Touvron et al., NeurIPS 2019, and its code. Give the larger test size as the resolution. It runs 56 epochs
for ResNet-50 and one for larger networks; the epochs here are ours."""

SMALL = FullRecipe(
    name="small",
    epochs=30,
    largest_batch=128,
    optimizer="muon",
    learning_rate=0.02,
    reference_batch=128,
    rate_rule="square_root",
    weight_decay=5e-4,
    warmup_epochs=3,
    label_smoothing=0.2,
    crop="shifted",
    shift=0.0625,
    flip="auto",
    batch_norm_momentum=0.1,
    ema_decay=0.99,
)
"""For 32 to 64 pixels and an hour of a laptop, in the manner of airbench (K. Jordan, 2024): Muon, strong
label smoothing, shifts by two pixels of 32, no stronger augmentation. The rate follows the root of the batch:
on 200 digits in batches of 16, two seeds gave 93 %, and 83 % in proportion to it (docs/training.md)."""

FINETUNE = FullRecipe(
    name="finetune",
    starts_from="weights",
    epochs=20,
    largest_batch=256,
    optimizer="rmsproptf",
    optimizer_eps=1e-3,
    learning_rate=5e-4,
    reference_batch=256,
    weight_decay=1e-5,
    warmup_epochs=1,
    drop_path=0.2,
    least_area=0.25,
    batch_norm_momentum=0.1,
    ema_decay=0.9996,
)
"""Tan and Le, ICML 2021, section 5.2 (rate and cosine), and its code (averaged weights, stochastic depth).
The epochs and the least area are ours."""

LINEAR_PROBE = FullRecipe(
    name="linear_probe",
    starts_from="weights",
    trains="classifier",
    epochs=20,
    largest_batch=256,
    learning_rate=0.1,
    reference_batch=256,
    weight_decay=0.0,
    warmup_epochs=0,
    label_smoothing=0,
    dropout=0.0,
    drop_path=0.0,
    least_area=0.25,
)
"""The classifier alone, on features as they are; the numbers are ours."""

RECIPES: Mapping[str, FullRecipe] = {
    recipe.name: recipe
    for recipe in (
        EFFICIENTNET,
        MOBILENET_V3,
        MODERN,
        STRIKES_BACK_A1,
        STRIKES_BACK_A2,
        STRIKES_BACK_A3,
        PROGRESSIVE,
        FIXRES,
        SMALL,
        FINETUNE,
        LINEAR_PROBE,
    )
}
"""Every recipe by its name."""


MOST_RECIPE = 2**20
"""Bytes of a file of a recipe."""


def find_recipe(name: str | Path | FullRecipe, *, also: Sequence[FullRecipe] = ()) -> FullRecipe:
    """Finds a recipe by its name, or reads it from a TOML file.

    Args:
        name: The name or the file; a recipe is returned itself.
        also: Recipes that have a name here beside those of `RECIPES`.

    Raises:
        RecipeError: There is no such recipe, or the file is none.
    """
    if isinstance(name, FullRecipe):
        return name
    known = {**RECIPES, **{recipe.name: recipe for recipe in also}}
    if isinstance(name, str) and name in known:
        return known[name]
    path = Path(name).expanduser()
    if path.suffix != ".toml":
        raise RecipeError(
            f"there is no recipe {str(name)!r}: {hint(str(name), known)}; or give a file, recipe.toml",
            field="recipe",
        )
    try:
        text = read_text(path, MOST_RECIPE)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read: {error}", field="recipe") from error
    return FullRecipe.from_toml(text, base=known).changed(name=path.stem)
