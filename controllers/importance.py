"""Which decisions matter: how much of a function's variation each explains, and which option wins."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from controllers.contract import Floats, Tokens, require_count
from controllers.decisions import Decisions

Function: TypeAlias = Callable[[Tokens], Floats]
"""Values `(n,)` of canonical candidates `(n, decisions)`, each by itself; NaN where there is none."""

_CONSTANT = 1e-9  # deviations of less than this share of the values are rounding


def total_effects(function: Function, decisions: Decisions, *, samples: int = 512, seed: int = 0) -> Floats:
    """Returns the share of the variance over random candidates that stays while one decision is open.

    That is the total Sobol index: what a decision does alone and together with others. The shares add up to
    1 where decisions act apart, and to more where they act together. Each decision is drawn by itself,
    uniformly; one that is not active changes nothing.

    Args:
        function: What varies. Pairs of candidates of which one has no value (NaN) are left out.
        decisions: What the tokens mean.
        samples: Random candidates, at least 2; the standard error of a share is near
            `(5 / samples) ** 0.5` of it.
        seed: Of the generator behind them.

    Returns:
        A share for each decision, `(decisions,)`, at least 0; all 0 where the function does not vary.

    Raises:
        ControllerError: `samples` is below 2.

    Source: Jansen, Computer Physics Communications 117, 1999; formula (f) in table 2 of Saltelli et al.,
    the same journal, 181, 2010.
    """
    rng = _generator(samples, seed)
    base, other = _raw(decisions, rng, samples), _raw(decisions, rng, samples)
    start = decisions.canonical(base)
    values = _values(function, start)
    known = values[~np.isnan(values)]
    effects = np.zeros(len(decisions))
    if not len(known) or known.std() <= _CONSTANT * np.abs(known).max():
        return effects
    for decision in range(len(decisions)):
        changed = base.copy()
        changed[:, decision] = other[:, decision]
        rows = decisions.canonical(changed)
        moved = (rows != start).any(axis=1)
        differences = np.where(np.isnan(values), np.nan, 0.0)
        differences[moved] = values[moved] - _values(function, rows[moved])
        squares = differences[~np.isnan(differences)] ** 2
        effects[decision] = squares.mean() / (2 * known.var()) if len(squares) else 0.0
    return effects


def main_effects(
    function: Function,
    decisions: Decisions,
    *,
    around: Tokens | None = None,
    samples: int = 128,
    seed: int = 0,
) -> list[Floats]:
    """Returns the mean of a function for each option of each decision, all else as in some candidates.

    The options of a decision are compared on the same candidates, those in which it is active.

    Args:
        function: What is averaged. Candidates in which an option has no value (NaN) are left out for it.
        decisions: What the tokens mean.
        around: The candidates `(n, decisions)`, canonical; None means random ones.
        samples: How many random ones, at least 2.
        seed: Of the generator behind them, and behind the decisions that an option makes active.

    Returns:
        For each decision the mean of each option, `(options,)`; NaN where none of the candidates tells.

    Raises:
        ControllerError: `samples` is below 2.
    """
    rng = _generator(samples, seed)
    base = _raw(decisions, rng, samples if around is None else len(around))
    if around is not None:
        base = np.where(decisions.active(around), around, base)
    active = decisions.active(base)
    means = []
    for decision, cardinality in enumerate(decisions.cardinalities):
        rows = base[active[:, decision]]
        options = range(cardinality)
        means.append(np.array([_mean(function, decisions, rows, decision, option) for option in options]))
    return means


def _mean(function: Function, decisions: Decisions, base: Tokens, decision: int, option: int) -> float:
    """Mean over the candidates after the decision was given the option."""
    changed = base.copy()
    changed[:, decision] = option
    values = _values(function, decisions.canonical(changed))
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def _values(function: Function, tokens: Tokens) -> Floats:
    return np.asarray(function(tokens), dtype=np.float64) if len(tokens) else np.zeros(0)


def _raw(decisions: Decisions, rng: np.random.Generator, n: int) -> Tokens:
    """Draws every decision, also those not active: another decision may make them so."""
    tokens: Tokens = rng.integers(0, decisions.cardinalities, (n, len(decisions)))
    return tokens


def _generator(samples: int, seed: int) -> np.random.Generator:
    require_count("samples", samples, least=2)
    return np.random.default_rng(seed)
