"""Asynchronous successive halving: which candidate is promoted, and to how much training."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, get_args

from nas.errors import RecipeError
from nas.trial import Status, Trial

if TYPE_CHECKING:
    from nas.outcome import TrialOutcome

Fidelity = Literal["epochs", "resolution", "data"]
"""What a training is made cheaper by."""

FIDELITY: Fidelity = "epochs"
REDUCTION_FACTOR = 3
"""Of so many candidates on a rung one is promoted, where nothing else is said."""

_WHOLE = {"epochs": "epochs", "resolution": "pixels", "data": "of the images"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rungs:
    """The rungs on which candidates are compared, and how many are promoted from each to the next.

    Attributes:
        shares: Shares of the whole schedule, rising, the last of them 1; may be positional.
        fidelity: What they are shares of: the epochs, the resolution, or the training images.
        reduction_factor: Of so many candidates on a rung one is promoted (eta in the paper).

    Raises:
        RecipeError: There are fewer than two rungs, they do not rise to 1, or the factor is below 2.

    Source: Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020, algorithm 2.
    """

    shares: tuple[float, ...] = field(kw_only=False)
    fidelity: Fidelity = FIDELITY
    reduction_factor: int = REDUCTION_FACTOR

    def __post_init__(self) -> None:
        if self.fidelity not in get_args(Fidelity):
            raise RecipeError(
                f"`fidelity in {get_args(Fidelity)}` must hold, but got fidelity={self.fidelity!r}"
            )
        rungs = tuple(float(share) for share in self.shares)
        words = ", ".join(f"{rung:g}" for rung in rungs)
        if len(rungs) < 2:
            raise RecipeError(f"`Rungs` needs at least two, but got {words or 'none'}: leave it out")
        if not (all(math.isfinite(rung) for rung in rungs) and rungs[0] > 0):
            raise RecipeError(f"every rung must be a share in (0, 1], but got {words}")
        if any(above <= below for below, above in pairwise(rungs)):
            raise RecipeError(f"the rungs must rise, but got {words}: order them")
        if abs(rungs[-1] - 1) > 1e-9:
            raise RecipeError(f"the last rung must be the whole schedule, 1, but got {words}")
        if not (isinstance(self.reduction_factor, int) and self.reduction_factor >= 2):
            raise RecipeError(
                f"`reduction_factor >= 2` must hold, but got reduction_factor={self.reduction_factor!r}"
            )
        object.__setattr__(self, "shares", (*rungs[:-1], 1.0))

    @classmethod
    def of(
        cls,
        fidelity: Fidelity,
        values: Sequence[float],
        *,
        whole: float,
        reduction_factor: int = REDUCTION_FACTOR,
    ) -> Rungs:
        """The rungs given in their own unit.

        Args:
            fidelity: What is shared out.
            values: The rungs: epochs, pixels of the image's side, or shares of the images.
            whole: What the last of them must be.
            reduction_factor: Of so many candidates on a rung one is promoted.

        Raises:
            RecipeError: The last rung is not the whole, or they do not rise.
        """
        if values and not math.isclose(values[-1], whole):
            raise RecipeError(
                f"the last rung must be the whole training, {whole:g} {_WHOLE.get(fidelity, fidelity)}, but "
                f"got {', '.join(f'{value:g}' for value in values)}: end there, or change the recipe"
            )
        shares = tuple(value / whole for value in values)
        return cls(shares, fidelity=fidelity, reduction_factor=reduction_factor)

    @property
    def least_trials(self) -> int:
        """Trials after which one candidate can have reached the top: 13 on three rungs by threes."""
        return sum(self.reduction_factor**place for place in range(len(self.shares)))

    def above(self, rung: float) -> float | None:
        """The next rung; None on the last."""
        place = self.shares.index(rung) + 1
        return self.shares[place] if place < len(self.shares) else None

    def describe(self) -> str:
        """The rungs in a few words."""
        return f"{self._text}, 1 of {self.reduction_factor} is promoted"

    @property
    def fingerprint(self) -> str:
        """What a journal remembers of them: the text of the first version, which studies hold."""
        return f"{self._text}, 1 of {self.reduction_factor} goes on"

    @property
    def _text(self) -> str:
        shares = ", ".join(f"{rung:.3g}" for rung in self.shares)
        return f"rungs at {shares} of the {self.fidelity}"

    def check_trials(self, trials: int | None) -> None:
        """Checks that a search of so many trials can get a candidate to the top.

        Raises:
            RecipeError: It cannot.
        """
        if trials is not None and trials < self.least_trials:
            raise RecipeError(
                f"{len(self.shares)} rungs of which 1 in {self.reduction_factor} is promoted need at least "
                f"{self.least_trials} trials for one candidate to reach the last, but got trials={trials}: "
                "use more trials or fewer rungs",
                field="trials",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A candidate that was measured on a rung."""

    trial: Trial
    reward: float

    @property
    def order(self) -> tuple[float, int]:
        """What they are ranked by: the best reward first, of equal ones the first trial."""
        return -self.reward, self.trial.number


_order = attrgetter("order")


class Halving:
    """Remembers which candidate was measured on which rung, and says which is promoted.

    A candidate is promoted as soon as it is among the best `1 / reduction_factor` of those measured on its
    rung, without waiting for the others: some are promoted too early, and no worker ever waits.

    Args:
        rungs: The rungs.
        trials: Trials of the study in the end; None if unknown.
    """

    def __init__(self, rungs: Rungs, trials: int | None = None) -> None:
        self.rungs = rungs
        self._trials = trials
        self._measured: dict[float, list[Measured]] = {rung: [] for rung in rungs.shares}
        self._waiting: dict[float, list[Measured]] = {rung: [] for rung in rungs.shares}  # not promoted
        self._counts = dict.fromkeys(rungs.shares, 0)
        self._promoted: set[int] = set()
        self._arrived: set[int] = set()

    def restore(self, trials: Iterable[Trial], outcomes: Iterable[TrialOutcome]) -> None:
        """Takes in what earlier runs did."""
        by_number = {trial.number: trial for trial in trials}
        self._promoted.update(t.continues for t in by_number.values() if t.continues is not None)
        for outcome in outcomes:
            self.note(by_number[outcome.number], outcome)

    def note(self, trial: Trial, outcome: TrialOutcome) -> None:
        """Takes an outcome; replicates, copies of a result and lost trials are on no rung."""
        if trial.continues is not None:
            self._arrived.add(trial.continues)
        if trial.replicate or outcome.copied_from is not None or outcome.status is Status.LOST:
            return
        self._counts[trial.fidelity] += 1
        if outcome.reward is not None:
            measured = Measured(trial=trial, reward=outcome.reward)
            insort(self._measured[trial.fidelity], measured, key=_order)
            if trial.number not in self._promoted:
                insort(self._waiting[trial.fidelity], measured, key=_order)

    def next(self) -> tuple[Trial, float] | None:
        """The next candidate to promote, and its rung: the best of the highest rung that has one."""
        for rung in reversed(self.rungs.shares[:-1]):
            above, waiting = self.rungs.above(rung), self._waiting[rung]
            if above is None or not waiting:
                continue
            place = bisect_left(self._measured[rung], waiting[0].order, key=_order)
            if place < self._counts[rung] // self.rungs.reduction_factor:
                trial = waiting.pop(0).trial
                self._promoted.add(trial.number)
                return trial, above
        return None

    def held(self) -> set[int]:
        """Numbers of the trials that may be promoted or are being trained on, so that their weights are kept.

        In a study of N trials only the best `N / reduction_factor` of a rung can ever be promoted.
        """
        found: set[int] = set()
        for rung in self.rungs.shares[:-1]:
            most = None if self._trials is None else self._trials // self.rungs.reduction_factor
            found |= {measured.trial.number for measured in self._measured[rung][:most]}
        return (found - self._promoted) | (self._promoted - self._arrived)

    def may_hold(self, trial: Trial, reward: float) -> bool:
        """Whether `held` would have a trial once it is noted with this reward."""
        if trial.replicate or self.rungs.above(trial.fidelity) is None:
            return False
        better = bisect_left(self._measured[trial.fidelity], -reward, key=lambda one: -one.reward)
        return self._trials is None or better < self._trials // self.rungs.reduction_factor

    def best(self, count: int) -> tuple[str, ...]:
        """Digests of the best candidates, the highest rung first."""
        ranked = [c.trial.digest for rung in reversed(self.rungs.shares) for c in self._measured[rung]]
        return tuple(dict.fromkeys(ranked))[:count]
