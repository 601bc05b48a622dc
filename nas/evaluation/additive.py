"""Predicts a metric as a sum of effects of the options chosen: the plainest predictor of trained networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Tokens = npt.NDArray[np.int64]

RIDGE = 1.0
"""Weight of the squared effects, beside squared errors of values of unit deviation."""


def fit_additive(
    cardinalities: Sequence[int], tokens: Tokens, values: Floats, *, ridge: float = RIDGE
) -> Callable[[Tokens], Floats]:
    """Fits the effects by ridge regression on one-hot options; returns what predicts values of other rows.

    Args:
        cardinalities: Number of options of each decision.
        tokens: Trained candidates (candidates, decisions).
        values: Their metric (candidates,), finite.
        ridge: Weight of the squared effects.
    """
    mean, deviation = float(values.mean()), float(values.std()) or 1.0
    rows = _one_hot(cardinalities, tokens)
    centre = rows.mean(axis=0)
    features = rows - centre
    products = features.T @ features + ridge * np.eye(features.shape[1])
    effects = np.linalg.solve(products, features.T @ ((values - mean) / deviation))

    def predict(others: Tokens) -> Floats:
        found: Floats = mean + deviation * ((_one_hot(cardinalities, others) - centre) @ effects)
        return found

    return predict


def predicted_order(
    cardinalities: Sequence[int], tokens: Tokens, values: Floats, *, most: int | None = None, seed: int = 0
) -> Floats:
    """Which of each two candidates a fit to the others puts first (candidates, candidates): 1, -1 or 0.

    Leaving both out keeps what is left out from telling by its absence: fitted to all but one, even a
    predictor of the mean ranks, and in reverse.

    Args:
        cardinalities: Number of options of each decision.
        tokens: The candidates (candidates, decisions).
        values: Their metric, NaN where there is none.
        most: Candidates that a fit is given at most, random ones; None is all others.
        seed: Of that choice.

    Source: Airola et al., Computational Statistics & Data Analysis 2011 (leave-pair-out).
    """
    rng = np.random.default_rng(seed)
    known = np.flatnonzero(np.isfinite(values))
    order = np.zeros((len(values), len(values)))
    for first, second in combinations(range(len(values)), 2):
        others = known[(known != first) & (known != second)]
        if most is not None and most < len(others):
            others = rng.choice(others, most, replace=False)
        if len(others) < 2:
            continue
        one, other = fit_additive(cardinalities, tokens[others], values[others])(tokens[[first, second]])
        order[first, second] = np.sign(one - other)
        order[second, first] = -order[first, second]
    return order


def _one_hot(cardinalities: Sequence[int], tokens: Tokens) -> Floats:
    """One column for each option (candidates, options)."""
    return np.concatenate(
        [np.eye(count, dtype=np.float64)[tokens[:, place]] for place, count in enumerate(cardinalities)],
        axis=1,
    )
