"""Which ways to train are compared: the recipe, smaller ones beside it, and the longer schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from fractions import Fraction

from nas.errors import RecipeError
from nas.training.recipe import Recipe
from nas.training.reduction import Reduction

RECIPE, LONG = "recipe", "long"
"""Names of the user's own proxy and of the longer schedule that all are judged by."""

SHARES: Mapping[str, Fraction] = {
    "epochs": Fraction(1, 3),
    "resolution": Fraction(1, 2),
    "width": Fraction(1, 2),
    "data": Fraction(1, 3),
}
"""The shares that are tried where nobody says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A way to train, smaller than the recipe.

    Attributes:
        name: `recipe`, or its shares such as `epochs=1/3` or `epochs=1/3+width=1/2`.
        reduction: What it is smaller by.
    """

    name: str
    reduction: Reduction

    @classmethod
    def of(cls, shares: Mapping[str, Fraction]) -> Proxy:
        """A proxy by its shares, named by those that are not 1.

        Raises:
            RecipeError: A share is not in (0, 1].
        """
        reduction = Reduction(**{name: float(share) for name, share in shares.items()})
        order = [field.name for field in fields(Reduction)]
        words = [f"{name}={shares[name]}" for name in order if shares.get(name, 1) != 1]
        return cls(name="+".join(words) or RECIPE, reduction=reduction)


def usual_proxies() -> tuple[Proxy, ...]:
    """The recipe, and it made smaller in one dimension at a time."""
    return (Proxy.of({}), *(Proxy.of({name: share}) for name, share in SHARES.items()))


def read_proxies(text: str) -> tuple[Proxy, ...]:
    """Reads proxies such as `epochs=1/3,resolution=0.5,width=1/2+data=1/3`; the recipe is always the first.

    Raises:
        RecipeError: A name is unknown (with near ones), or a share is not in (0, 1].
    """
    found = [Proxy.of({}), *(_read_proxy(word.strip()) for word in text.split(",") if word.strip())]
    return tuple({proxy.name: proxy for proxy in found}.values())


def _read_proxy(word: str) -> Proxy:
    if word == RECIPE:
        return Proxy.of({})
    shares: dict[str, Fraction] = {}
    for part in word.split("+"):
        name, equals, value = part.strip().partition("=")
        if name not in SHARES or not equals or name in shares:
            near = get_close_matches(name, SHARES, n=1, cutoff=0.5) or SHARES
            raise RecipeError(
                f"a proxy is a share of {', '.join(SHARES)}, each once, such as epochs=1/3 or "
                f"width=1/2+data=1/3, but got {part.strip()!r}: did you mean {' or '.join(near)}=...?"
            )
        try:
            shares[name] = Fraction(value.strip())
        except (ValueError, ZeroDivisionError):
            raise RecipeError(f"a share is a number such as 1/3 or 0.5, but got {part.strip()!r}") from None
    return Proxy.of(shares)


def long_recipe(recipe: Recipe, *, epochs: float | None = None, times: float = 3.0) -> Recipe:
    """The schedule that a recipe stands for: the same warm-up, and more epochs.

    Args:
        recipe: The proxy.
        epochs: Epochs of the longer schedule; None takes `times` as many.
        times: How many times the recipe's.

    Raises:
        RecipeError: It is not longer than the recipe.
    """
    wanted = epochs if epochs is not None else times * recipe.epochs
    if not (math.isfinite(wanted) and wanted > recipe.epochs):
        raise RecipeError(
            f"the longer schedule must be longer than the proxy's {recipe.epochs:g} epochs, but got "
            f"{wanted:g}: give --long-epochs {3 * recipe.epochs:g}, or a shorter proxy with --epochs"
        )
    return replace(recipe, epochs=wanted)
