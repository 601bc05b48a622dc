"""The decisions of a search as plain numbers: how many options each has and when it is active."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from controllers.contract import Condition, Conditions, ControllerError, Floats, Tokens


class Decisions:
    """Cardinalities with conditions.

    A decision with conditions is active when any of its `(parent, options)` holds, that is when the parent is
    itself active and its token is one of the options; without conditions it is always active. The canonical
    form of a candidate has 0 at every inactive decision.

    Args:
        cardinalities: Number of options of each decision, at least 1 each.
        conditions: For each decision its conditions; None means that all are always active.

    Raises:
        ControllerError: There is no decision, a cardinality is below 1, or a condition names a decision that
            does not come before or an option that does not exist.
    """

    def __init__(self, cardinalities: Sequence[int], conditions: Conditions | None = None) -> None:
        self.cardinalities = _cardinalities(cardinalities)
        self.conditions = _conditions(self.cardinalities, conditions)
        self.width = max(self.cardinalities)
        self._always = np.array([not alternatives for alternatives in self.conditions])
        self._conditional = [d for d, alternatives in enumerate(self.conditions) if alternatives]
        self._holds = [
            [(parent, np.isin(np.arange(self.width), options)) for parent, options in alternatives]
            for alternatives in self.conditions
        ]

    def __len__(self) -> int:
        return len(self.cardinalities)

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever tokens stop meaning the same decisions."""
        text = repr((self.cardinalities, self.conditions))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @cached_property
    def options(self) -> npt.NDArray[np.bool_]:
        """Which options exist, `(decisions, width)`: rows are padded to the largest cardinality."""
        return np.arange(self.width) < np.array(self.cardinalities)[:, None]

    def active_at(
        self, decision: int, tokens: Tokens, active: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Returns where one decision is active, `(n,)`, given all earlier columns of tokens and activity."""
        if self._always[decision]:
            return np.ones(len(tokens), dtype=np.bool_)
        result = np.zeros(len(tokens), dtype=np.bool_)
        for parent, holds in self._holds[decision]:
            result |= active[:, parent] & holds[tokens[:, parent]]
        return result

    def active(self, tokens: Tokens) -> npt.NDArray[np.bool_]:
        """Returns which decisions of the candidates `(n, decisions)` are active, in the same shape."""
        result = np.tile(self._always, (len(tokens), 1))
        for decision in self._conditional:
            result[:, decision] = self.active_at(decision, tokens, result)
        return result

    def canonical(self, tokens: Tokens) -> Tokens:
        """Returns the candidates `(n, decisions)` with 0 at every inactive decision."""
        return np.where(self.active(tokens), tokens, 0) if self._conditional else tokens

    def sample(self, rng: np.random.Generator, n: int, probabilities: Floats | None = None) -> Tokens:
        """Draws every active decision by itself.

        Args:
            rng: Source of randomness.
            n: Number of candidates.
            probabilities: Of each option, `(decisions, width)`; None means uniform.

        Returns:
            Canonical tokens `(n, decisions)`.
        """
        uniform = rng.random((n, len(self)))
        if probabilities is None:
            tokens = (uniform * np.array(self.cardinalities)).astype(np.int64)
        else:
            tokens = np.zeros(uniform.shape, dtype=np.int64)
            for below in np.cumsum(probabilities, axis=1)[:, :-1].T:  # over options: fewer than candidates
                tokens += uniform >= below
            tokens = np.minimum(tokens, np.array(self.cardinalities) - 1)
        return self.canonical(tokens)

    def shares(self, tokens: Tokens) -> list[Floats]:
        """Returns for each decision the share of each option among candidates `(n, decisions)`, n above 0."""
        return [
            np.bincount(column, minlength=count) / len(tokens)
            for column, count in zip(tokens.T, self.cardinalities, strict=True)
        ]

    def check(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """Returns one candidate in canonical form.

        Raises:
            ControllerError: The tokens are too few, too many, no integers or out of range.
        """
        if len(tokens) != len(self):
            raise ControllerError(
                f"a candidate must have {len(self)} tokens, one per decision, but got {len(tokens)}: "
                f"{tokens!r}",
                field="tokens",
            )
        for decision, (token, cardinality) in enumerate(zip(tokens, self.cardinalities, strict=True)):
            if not 0 <= _integer(token, f"token of decision {decision}", "tokens") < cardinality:
                raise ControllerError(
                    f"0 <= token < {cardinality} must hold for decision {decision}, but got {token} "
                    f"in {tokens!r}",
                    field="tokens",
                )
        row = self.canonical(np.array([tokens], dtype=np.int64))[0]
        return tuple(row.tolist())

    def check_all(self, candidates: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
        """Returns candidates in canonical form.

        Raises:
            ControllerError: As `check`, of the first candidate that is wrong.
        """
        rows = _rows(candidates, len(self))
        if rows is None or (rows < 0).any() or (rows >= np.array(self.cardinalities)).any():
            return [self.check(tokens) for tokens in candidates]
        return list(map(tuple, self.canonical(rows).tolist()))

    def enumerate(self, limit: int) -> Tokens | None:
        """Returns every canonical candidate `(size, decisions)`, or None if there are more than `limit`."""
        tokens = np.zeros((1, len(self)), dtype=np.int64)
        active = np.zeros((1, len(self)), dtype=np.bool_)
        for decision, cardinality in enumerate(self.cardinalities):
            active[:, decision] = self.active_at(decision, tokens, active)
            copies = np.where(active[:, decision], cardinality, 1)
            if copies.sum() > limit:
                return None
            first = np.repeat(np.cumsum(copies) - copies, copies)
            tokens, active = np.repeat(tokens, copies, axis=0), np.repeat(active, copies, axis=0)
            tokens[:, decision] = np.arange(len(tokens)) - first
        return tokens


def _rows(candidates: Sequence[Sequence[int]], width: int) -> Tokens | None:
    """Candidates as an array `(n, width)`; None where they are not plainly one of integers."""
    try:
        rows = np.asarray(candidates)
    except (ValueError, TypeError, OverflowError):
        return None
    return rows if rows.dtype == np.int64 and rows.shape == (len(candidates), width) else None


def _integer(value: object, what: str, field: str) -> int:
    try:
        return operator.index(value)  # type: ignore[arg-type]  # refusing what is no integer is the point
    except TypeError:
        raise ControllerError(f"{what} must be an integer, but got {value!r}", field=field) from None


def _cardinalities(cardinalities: Iterable[int]) -> tuple[int, ...]:
    field = "cardinalities"
    result = tuple(_integer(c, f"cardinality of decision {d}", field) for d, c in enumerate(cardinalities))
    if not result:
        raise ControllerError("a search needs at least one decision, but cardinalities is empty", field=field)
    for decision, cardinality in enumerate(result):
        if cardinality < 1:
            raise ControllerError(
                f"cardinality >= 1 must hold, but got {cardinality} for decision {decision}: "
                "every decision needs an option",
                field=field,
            )
    return result


def _conditions(
    cardinalities: tuple[int, ...], conditions: Conditions | None
) -> tuple[tuple[Condition, ...], ...]:
    if conditions is None:
        return ((),) * len(cardinalities)
    if len(conditions) != len(cardinalities):
        raise ControllerError(
            f"there must be one entry of conditions per decision, but got {len(conditions)} for "
            f"{len(cardinalities)} decisions: give () for a decision that is always active",
            field="conditions",
        )
    return tuple(
        tuple(_condition(cardinalities, decision, parent, options) for parent, options in alternatives)
        for decision, alternatives in enumerate(conditions)
    )


def _condition(
    cardinalities: tuple[int, ...], decision: int, parent: int, options: Sequence[int]
) -> Condition:
    field = "conditions"
    parent = _integer(parent, f"parent of decision {decision}", field)
    if not 0 <= parent < decision:
        raise ControllerError(
            f"a parent must come before its child, but decision {decision} names parent {parent}", field=field
        )
    what = f"option in a condition of decision {decision}"
    chosen = tuple(_integer(option, what, field) for option in options)
    if not chosen or not all(0 <= option < cardinalities[parent] for option in chosen):
        raise ControllerError(
            f"a condition must name options of its parent, 0 to {cardinalities[parent] - 1}, but decision "
            f"{decision} names {chosen} of decision {parent}",
            field=field,
        )
    return parent, chosen
