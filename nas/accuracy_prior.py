"""What accuracies can be expected of networks before any training: more of larger ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from search_spaces import SearchSpace

Tokens: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

Effects: TypeAlias = tuple[float, float]
"""Of the logarithms of multiply-adds and parameters, in deviations of a space's accuracies."""

EFFECTS: Effects = (0.6, 0.61)
"""Learnt from Accel-NASBench, NAS-Bench-Macro and digits by `python benchmarks/accuracy_prior.py`."""


def accuracy_prior(space: SearchSpace, effects: Effects = EFFECTS) -> Callable[[Tokens], Floats]:
    """Makes a function that says what can be expected of many candidates at once.

    Args:
        space: Where they come from.
        effects: Of each column of `log_sizes`.

    Returns:
        A function of tokens `(n, decisions)` of networks that can be built. It returns `(n,)` numbers of
        which only the differences mean something.
    """

    def prior(tokens: Tokens) -> Floats:
        return np.asarray(log_sizes(space, tokens) @ np.array(effects), dtype=np.float64)

    return prior


def log_sizes(space: SearchSpace, tokens: Tokens) -> Floats:
    """Returns logarithms of the multiply-adds and parameters of networks, `(n, 2)`; of none, that of 1."""
    costs = space.costs(tokens)
    sizes: Floats = np.stack([costs.macs, costs.params], axis=1).astype(np.float64)
    return np.log(np.maximum(sizes, 1.0))
