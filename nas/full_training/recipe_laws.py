"""The laws of a recipe's fields, and which of timm's names and notations can be used."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nas.errors import RecipeError
from nas.units import hint
from nas.values import is_count, is_number

if TYPE_CHECKING:
    from nas.full_training.recipe import FullRecipe

UNSUITED = {
    "adahessian": "it needs second derivatives, which a step here does not compute",
    **dict.fromkeys(
        ("kron", "kronc", "kronw"),
        "its lists of matrices and its random numbers cannot be stored in a checkpoint",
    ),
}
"""Optimisers of timm that cannot train here, each with the reason."""

POLICIES = ("original", "originalr", "v0", "v0r", "3a")
"""timm's learned policies of AutoAugment."""

NUMBER = r"\d+(\.\d+)?"

RAND = re.compile(rf"rand(-(m\d+|n\d+|p{NUMBER}|mstd{NUMBER}|mmax\d+|inc[01]|t(weights|3aw?)))*")
"""timm's notation of RandAugment. It takes any other set of operations (`t`) for its own."""

LEARNED = re.compile(rf"({'|'.join(POLICIES)})(-mstd{NUMBER})?")

COMMON = frozenset(("sgd", "momentum", "rmsprop", "rmsproptf", "adamw", "lamb", "muon"))
"""Optimisers that are known to be timm's without loading it."""


def check_optimizer(name: str) -> None:
    """Checks that timm has an optimiser, and that it can train here.

    Raises:
        RecipeError: It has not, or it cannot.
    """
    if name in COMMON:
        return
    from timm.optim import list_optimizers

    known = list_optimizers()
    if name not in known:
        raise RecipeError(f"timm has no optimiser {name!r}: {hint(name, known)}", field="optimizer")
    if name in UNSUITED:
        raise RecipeError(
            f"the optimiser {name!r} cannot be used: {UNSUITED[name]}; take another", field="optimizer"
        )


def check_notation(text: str) -> None:
    """Checks that timm can read an augmentation.

    Raises:
        RecipeError: It cannot.
    """
    if not (RAND.fullmatch(text) or LEARNED.fullmatch(text)):
        raise RecipeError(
            f"`auto_augment` must be ta_wide, one of {', '.join(POLICIES)}, or like rand-m9-n2-mstd0.5-inc1, "
            f"but is {text!r}",
            field="auto_augment",
        )


def check_augmentation(text: object, first_magnitude: float | None) -> None:
    """Checks that timm can make an augmentation, and that its magnitude can grow where it is to.

    Raises:
        RecipeError: It cannot.
    """
    if not isinstance(text, str):
        raise RecipeError(
            f"`auto_augment is text` must hold, but got auto_augment={text!r}", field="auto_augment"
        )
    if text and text != "ta_wide":
        check_notation(text)
    if first_magnitude is not None and not text.startswith("rand-"):
        raise RecipeError(
            "`first_magnitude` needs auto_augment='rand-...', whose magnitude grows, but got "
            f"auto_augment={text!r}: leave it out",
            field="first_magnitude",
        )


def check_together(recipe: FullRecipe) -> None:
    """Checks fields that must fit each other.

    Raises:
        RecipeError: What is kept was not trained, parts are frozen in two ways, or classes balanced twice.
    """
    if recipe.freeze and recipe.starts_from != "weights":
        raise RecipeError(
            "`freeze` keeps weights that were trained, but the recipe starts from scratch: give "
            "starts_from=weights, or the recipe finetune, or leave freeze out",
            field="freeze",
        )
    for name, is_used in (("freeze", bool(recipe.freeze)), ("layer_decay", recipe.layer_decay != 1)):
        if is_used and recipe.trains != "all":
            raise RecipeError(
                f"`{name} is left out unless trains=all` must hold, but got {name}={getattr(recipe, name)!r}",
                field=name,
            )
    if recipe.class_weights == recipe.sampling == "balanced":
        raise RecipeError(
            "`class_weights=none or sampling=shuffled` must hold, as rare classes would count too much when "
            "they are balanced twice, but got both balanced: leave one of them out",
            field="sampling",
        )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value) and value.isprintable()


LAWS = (
    ("{} is printable text", ("name", "optimizer"), _is_text),
    ("{} is the name of a stage, or empty", ("freeze",), lambda value: isinstance(value, str)),
    (
        "{} > 0",
        ("epochs", "learning_rate", "decay_epochs"),
        lambda value: is_number(value) and value > 0,
    ),
    (
        "{} >= 0",
        ("optimizer_eps", "weight_decay", "clip_norm", "warmup_epochs", "mixup", "cutmix"),
        lambda value: is_number(value) and value >= 0,
    ),
    (
        "{} >= 0 or None",
        ("first_magnitude", "first_mixup"),
        lambda value: value is None or (is_number(value) and value >= 0),
    ),
    (
        "0 <= {} < 1",
        ("momentum", "label_smoothing", "shift", "ema_decay"),
        lambda value: is_number(value) and 0 <= value < 1,
    ),
    (
        "0 <= {} < 1 or None",
        ("dropout", "drop_path", "first_dropout"),
        lambda value: value is None or (is_number(value) and 0 <= value < 1),
    ),
    (
        "0 < {} <= 1",
        ("decay_rate", "layer_decay", "train_size", "least_area", "first_size"),
        lambda value: is_number(value) and 0 < value <= 1,
    ),
    ("0 <= {} <= 1", ("random_erase", "final_rate"), lambda value: is_number(value) and 0 <= value <= 1),
    (
        "0 < {} <= 1 or None",
        ("batch_norm_momentum",),
        lambda value: value is None or (is_number(value) and 0 < value <= 1),
    ),
    ("{} >= 1", ("reference_batch", "repeats", "stages", "ema_every"), lambda value: is_count(value, 1)),
    (
        "{} >= 2 (batch norm needs two images)",
        ("largest_batch",),
        lambda value: is_count(value, 2),
    ),
    (
        "{} >= 2 or None (batch norm needs two images)",
        ("batch_size",),
        lambda value: value is None or (is_count(value, 2)),
    ),
    ("{} in (False, True)", ("ema_warmup",), lambda value: isinstance(value, bool)),
)
"""Laws of single fields: the law, the fields, and whether a value keeps it."""
