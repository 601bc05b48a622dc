"""`Benchmark`: a space with the measured accuracies of its candidates, to search without training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from nas.errors import BenchmarkError
from nas.evaluators import TableEvaluator
from search_spaces import SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Benchmark:
    """A table of trained candidates of a space. Its arrays are copies that cannot be written to.

    Attributes:
        name: Name of the benchmark for users; goes into the fingerprint of its evaluators.
        space: The space whose candidates were trained.
        tokens: int64 (candidates, decisions), in canonical form, no row twice.
        accuracies: float64 (candidates, seeds): fractions, one column for each training of a candidate.
        noise: Standard deviation of the accuracy of one training of one candidate, a fraction.
        source: Where the table comes from, for users.
        is_exhaustive: Whether every candidate of the space is in the table.

    Raises:
        BenchmarkError: Shapes do not fit, a value is out of range, a candidate is there twice, or one is
            missing from a table that is to be exhaustive.
    """

    name: str
    space: SearchSpace
    tokens: npt.NDArray[np.int64]
    accuracies: npt.NDArray[np.float64]
    noise: float
    source: str
    is_exhaustive: bool

    def __post_init__(self) -> None:
        for field, kinds, dtype in (("tokens", "iu", np.int64), ("accuracies", "f", np.float64)):
            array = np.asarray(getattr(self, field))
            if array.ndim != 2 or array.dtype.kind not in kinds or 0 in array.shape:
                raise BenchmarkError(
                    f"`{field}` of {self.name} must be a table of {np.dtype(dtype)} with rows and columns, "
                    f"but got {array.dtype} of shape {array.shape}"
                )
            copy = array.astype(dtype)
            copy.setflags(write=False)
            object.__setattr__(self, field, copy)
        self._check_tokens()
        self._check_accuracies()
        if not (math.isfinite(self.noise) and 0 <= self.noise < 1):
            raise BenchmarkError(f"`0 <= noise < 1` must hold for {self.name}, but got noise={self.noise!r}")
        if self.is_exhaustive and len(self.tokens) != self.space.size:
            raise BenchmarkError(
                f"an exhaustive table of {self.space.name} must have all {self.space.size:,} candidates, but "
                f"{self.name} has {len(self.tokens):,}: complete it, or say is_exhaustive=False"
            )

    @property
    def mean_accuracies(self) -> npt.NDArray[np.float64]:
        """Mean over the trainings of each candidate, a fraction (candidates,)."""
        means: npt.NDArray[np.float64] = self.accuracies.mean(axis=1)
        return means

    def lookup(self) -> dict[tuple[int, ...], float]:
        """Mean accuracy of each candidate, a fraction, by its tokens."""
        return dict(zip(map(tuple, self.tokens.tolist()), self.mean_accuracies.tolist(), strict=True))

    def evaluator(self, noise: float | None = None) -> TableEvaluator:
        """An evaluator that looks accuracies up; a candidate that is not in the table is infeasible.

        Args:
            noise: Standard deviation of the normal noise on the mean accuracy, a fraction, drawn from
                the job's seed. None is the benchmark's own, as if each trial were one training; 0 gives
                the means.

        Raises:
            BenchmarkError: The noise is negative or not finite.
        """
        chosen = self.noise if noise is None else noise
        if not (math.isfinite(chosen) and chosen >= 0):
            raise BenchmarkError(f"`noise >= 0` must hold, but got noise={noise!r}: 0 gives mean accuracies")
        return TableEvaluator(self.lookup(), noise=chosen, name=self.name, space=self.space)

    def _check_tokens(self) -> None:
        decisions, tokens = self.space.decisions, self.tokens
        if tokens.shape[1] != len(decisions):
            raise BenchmarkError(
                f"the space {self.space.name} has {len(decisions)} decisions, but the tokens of {self.name} "
                f"have the shape {tokens.shape}"
            )
        outside = (tokens < 0) | (tokens >= np.array(self.space.cardinalities))
        if outside.any():
            row, column = (int(index) for index in np.argwhere(outside)[0])
            raise BenchmarkError(
                f"`0 <= token < {self.space.cardinalities[column]}` must hold for {decisions[column].name}, "
                f"but row {row} of {self.name} has {tokens[row, column]}"
            )
        rows = list(map(tuple, tokens.tolist()))
        if any(self.space.conditions):
            for number, row_tokens in enumerate(rows):
                if (canonical := self.space.canonical(row_tokens)) != row_tokens:
                    raise BenchmarkError(
                        f"inactive decisions must have the token 0, but row {number} of {self.name} is "
                        f"{row_tokens}: write {canonical}"
                    )
        for one, other in pairwise(sorted(rows)):
            if one == other:
                raise BenchmarkError(
                    f"a candidate must have one row, but {self.name} has {one} more than once: "
                    "put its trainings into one row"
                )

    def _check_accuracies(self) -> None:
        if len(self.accuracies) != len(self.tokens):
            raise BenchmarkError(
                f"each candidate of {self.name} must have one row of accuracies, but there are "
                f"{len(self.tokens)} candidates and {len(self.accuracies)} rows"
            )
        outside = ~((self.accuracies >= 0) & (self.accuracies <= 1))
        if outside.any():
            row, column = (int(index) for index in np.argwhere(outside)[0])
            raise BenchmarkError(
                f"`0 <= accuracy <= 1` must hold, but row {row} of {self.name} has "
                f"{float(self.accuracies[row, column])!r}: accuracies are fractions, not percent"
            )


def pooled_deviation(accuracies: npt.NDArray[np.float64]) -> float:
    """Standard deviation of one training of one candidate, pooled over the candidates.

    Args:
        accuracies: Fractions (candidates, seeds), at least two seeds.

    Returns:
        The root of the mean over candidates of the variance over seeds (with seeds - 1 below the line).

    Raises:
        BenchmarkError: There are fewer than two seeds.
    """
    if accuracies.ndim != 2 or accuracies.shape[1] < 2:
        raise BenchmarkError(
            "a deviation needs at least two trainings of each candidate, but got accuracies of shape "
            f"{accuracies.shape}"
        )
    return float(np.sqrt(accuracies.var(axis=1, ddof=1).mean()))
