"""The trainings that a proxy check compares: the recipe, smaller variants of it, and the longer schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from fractions import Fraction
from typing import TYPE_CHECKING

from nas.errors import DataError, RecipeError
from nas.protocols import Evaluator
from nas.tasks import CLASSIFICATION
from nas.training.recipe import Recipe
from nas.training.reduction import LEAST_SIDE, SIDE_STEP, Reduction
from nas.trial import Candidate, Evaluation, as_evaluation
from nas.values import digest
from search_spaces import Network, SpaceError

if TYPE_CHECKING:
    from nas.data.images import ImageData
    from nas.training.proxy import ProxyEvaluator

RECIPE, LONG = "recipe", "long"
"""Names of the user's own proxy and of the longer schedule that all are judged by."""

SHARED = "shared weights"
"""Name of a supernet among the variants. It measures each candidate once, as no seed changes anything."""

SHARES: Mapping[str, Fraction] = {
    "epochs": Fraction(1, 3),
    "resolution": Fraction(1, 2),
    "width": Fraction(1, 2),
    "data": Fraction(1, 3),
}
"""The shares that are tried by default."""

LEAST_SEARCH_IMAGES = 50
"""With fewer search images metrics are too coarse to compare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A training that is smaller than the recipe.

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
                f"width=1/2+data=1/3, but got {part.strip()!r}: did you mean {' or '.join(near)}=...?",
                field="proxies",
            )
        try:
            shares[name] = Fraction(value.strip())
        except (ValueError, ZeroDivisionError):
            raise RecipeError(
                f"a share is a number such as 1/3 or 0.5, but got {part.strip()!r}", field="proxies"
            ) from None
    return Proxy.of(shares)


def long_recipe(recipe: Recipe, *, epochs: float | None = None, times: float = 3.0) -> Recipe:
    """The longer schedule of a recipe: the same warm-up, and more epochs.

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
            f"{wanted:g}: give --long-epochs {3 * recipe.epochs:g}, or a shorter proxy with --epochs",
            field="long_epochs" if epochs is not None else "longer",
        )
    return replace(recipe, epochs=wanted)


def variants_of(
    data: ImageData,
    recipe: Recipe,
    long: Recipe,
    proxies: Sequence[Proxy],
    *,
    metrics: Sequence[str] = (),
    device: str = "auto",
) -> dict[str, ProxyEvaluator]:
    """Evaluators of the longer schedule and of every proxy, which share the images on a device.

    Args:
        data: The images.
        recipe: The recipe that is checked.
        long: Its longer schedule.
        proxies: What else is tried.
        metrics: What is measured beside the first metric of the task.
        device: Where.

    Raises:
        DataError: There are too few images or classes to tell candidates apart.
    """
    from nas.training.proxy import ProxyEvaluator

    has_one = data.task == CLASSIFICATION and data.num_classes < 2
    if has_one or len(data.search) < LEAST_SEARCH_IMAGES:
        raise DataError(
            f"at least 2 classes and {LEAST_SEARCH_IMAGES} search images are needed for candidates to be "
            f"told apart, but {data.name} has {data.num_classes} and {len(data.search)}: give more images, "
            "or a larger --search-fraction",
            field="data",
        )
    first = ProxyEvaluator(data, long, metrics=metrics, device=device)
    return {LONG: first} | {proxy.name: first.beside(recipe, proxy.reduction) for proxy in proxies}


def seeds_of(variant: str, seeds: int) -> int:
    """How often each candidate is measured in a variant, where trainings have so many seeds."""
    return 1 if variant == SHARED else seeds


def possible_variants(
    variants: Mapping[str, ProxyEvaluator], networks: Sequence[Network]
) -> dict[str, ProxyEvaluator]:
    """Those in which every network can be built, and which make some training smaller.

    Raises:
        DataError: The recipe itself is not possible.
    """
    kept = {}
    for name, variant in variants.items():
        is_needed = name in (LONG, RECIPE)
        try:
            check_networks({name: variant}, networks)
        except DataError:
            if is_needed:
                raise
            continue
        if is_needed or _is_smaller(variant, networks):
            kept[name] = variant
    return kept


def check_networks(variants: Mapping[str, Evaluator], networks: Sequence[Network]) -> None:
    """Checks that every network can be trained in every variant of ours.

    Raises:
        DataError: One does not fit; names the variant.
    """
    from nas.training.proxy import ProxyEvaluator

    for name, variant in variants.items():
        if not isinstance(variant, ProxyEvaluator):
            continue
        for network in networks:
            try:
                variant.check(network)
            except (DataError, SpaceError) as error:
                raise DataError(f"the proxy {name} cannot be tried: {error}", field="proxies") from error


def _is_smaller(variant: ProxyEvaluator, networks: Sequence[Network]) -> bool:
    """Whether a reduction makes anything smaller, and no image smaller than it says."""
    smaller = variant.reduction
    if smaller.resolution * variant.data.resolution < LEAST_SIDE - SIDE_STEP / 2:
        return False
    is_shorter = smaller.epochs < 1 or smaller.data < 1
    return is_shorter or any(smaller.network(network) != network for network in networks)


class VariantsEvaluator:
    """Several evaluators as one.

    Args:
        variants: Evaluators by name.
        names: The name of the variant of each training in the list.
    """

    def __init__(self, variants: Mapping[str, Evaluator], names: Sequence[str]) -> None:
        self._variants = dict(variants)
        self._names = tuple(names)

    @property
    def fingerprint(self) -> str:
        """Changes with each of them."""
        return digest(*(f"{name} {each.fingerprint}" for name, each in self._variants.items()))

    def resolve_precision(self, device: str, *, threads: int) -> None:
        """Finds out here what the precision `auto` means for all workers of this machine."""
        from nas.training.proxy import ProxyEvaluator

        for variant in self._variants.values():
            if isinstance(variant, ProxyEvaluator):
                variant.resolve_precision(device, threads=threads)

    def prepare(self) -> None:
        """Prepares all of them."""
        for variant in self._variants.values():
            variant.prepare()

    def evaluate(self, candidate: Candidate) -> Evaluation:
        """Trains in the variant of this training, and drops the weights.

        Raises:
            InfeasibleError: The candidate is at fault.
        """
        variant = self._variants[self._names[candidate.job.trial]]
        return replace(as_evaluation(variant.evaluate(candidate)), weights=None)
