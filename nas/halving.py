"""Owns asynchronous successive halving: which paused candidate goes on, and to how much training.

Does not own training it (`nas.training.proxy`) nor who proposes new candidates (`controllers`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, get_args

from nas.errors import RecipeError
from nas.trial import Status, Trial

if TYPE_CHECKING:
    from nas.verdict import Verdict

Fidelity = Literal["epochs", "resolution", "data"]
"""What a training is made cheaper by."""

_WHOLE = {"epochs": "epochs", "resolution": "pixels", "data": "of the images"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """The rungs on which candidates are compared, and how many climb from each to the next.

    Attributes:
        rungs: Shares of the whole schedule, rising, the last of them 1; may be positional.
        fidelity: What they are shares of: the epochs, the resolution, or the training images.
        reduction_factor: Of so many candidates on a rung one goes on (eta in the paper).

    Raises:
        RecipeError: There are fewer than two rungs, they do not rise to 1, or the factor is below 2.

    Source: Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020, algorithm 2.
    """

    rungs: tuple[float, ...] = field(kw_only=False)
    fidelity: Fidelity = "epochs"
    reduction_factor: int = 3

    def __post_init__(self) -> None:
        if self.fidelity not in get_args(Fidelity):
            raise RecipeError(
                f"`fidelity in {get_args(Fidelity)}` must hold, but got fidelity={self.fidelity!r}"
            )
        object.__setattr__(self, "rungs", tuple(float(rung) for rung in self.rungs))
        rungs = self.rungs
        words = ", ".join(f"{rung:g}" for rung in rungs)
        if len(rungs) < 2:
            raise RecipeError(f"a ladder needs at least two rungs, but got {words or 'none'}: leave it out")
        if not (all(math.isfinite(rung) for rung in rungs) and rungs[0] > 0):
            raise RecipeError(f"every rung must be a share in (0, 1], but got {words}")
        if any(above <= below for below, above in pairwise(rungs)):
            raise RecipeError(
                f"the rungs of a ladder must rise from its start to its end, but got {words}: order them"
            )
        if abs(rungs[-1] - 1) > 1e-9:
            raise RecipeError(f"the last rung must be the whole schedule, 1, but got {words}")
        if not (isinstance(self.reduction_factor, int) and self.reduction_factor >= 2):
            raise RecipeError(
                f"`reduction_factor >= 2` must hold, but got reduction_factor={self.reduction_factor!r}"
            )
        object.__setattr__(self, "rungs", (*rungs[:-1], 1.0))

    @classmethod
    def of(
        cls, fidelity: Fidelity, values: Sequence[float], *, whole: float, reduction_factor: int = 3
    ) -> Ladder:
        """The ladder whose rungs are given in their own unit.

        Args:
            fidelity: What is shared out.
            values: The rungs: epochs, pixels of the image's side, or shares of the images.
            whole: What the last of them must be.
            reduction_factor: Of so many candidates on a rung one goes on.

        Raises:
            RecipeError: The last rung is not the whole, or the rungs make no ladder.
        """
        if values and not math.isclose(values[-1], whole):
            raise RecipeError(
                f"the last rung must be the whole training, {whole:g} {_WHOLE.get(fidelity, fidelity)}, but "
                f"got {', '.join(f'{value:g}' for value in values)}: end the ladder there, or train otherwise"
            )
        shares = tuple(value / whole for value in values)
        return cls(shares, fidelity=fidelity, reduction_factor=reduction_factor)

    @property
    def least_trials(self) -> int:
        """Trials after which one candidate can have reached the top: 13 on three rungs by threes."""
        return sum(self.reduction_factor**place for place in range(len(self.rungs)))

    def above(self, rung: float) -> float | None:
        """The next rung; None on the last."""
        place = self.rungs.index(rung) + 1
        return self.rungs[place] if place < len(self.rungs) else None

    def describe(self) -> str:
        """The ladder in a few words."""
        shares = ", ".join(f"{rung:.3g}" for rung in self.rungs)
        return f"rungs at {shares} of the {self.fidelity}, 1 of {self.reduction_factor} goes on"

    def check_trials(self, trials: int | None) -> None:
        """Checks that a search of so many trials can get a candidate to the top.

        Raises:
            RecipeError: It cannot.
        """
        if trials is not None and trials < self.least_trials:
            raise RecipeError(
                f"{len(self.rungs)} rungs of which 1 in {self.reduction_factor} goes on need at least "
                f"{self.least_trials} trials for one candidate to reach the last, but got trials={trials}: "
                "use more trials or fewer rungs"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Climber:
    """A candidate that was measured on a rung."""

    trial: Trial
    reward: float


class Halving:
    """Remembers who stands on which rung, and says who goes on.

    A candidate goes on as soon as it is among the best `1 / reduction_factor` of those measured on its rung,
    without waiting for the others: some go on too early, and no worker ever waits.

    Args:
        ladder: The rungs.
        trials: Trials of the study in the end; None where nobody knows.
    """

    def __init__(self, ladder: Ladder, trials: int | None = None) -> None:
        self.ladder = ladder
        self._trials = trials
        self._standing: dict[float, list[Climber]] = {rung: [] for rung in ladder.rungs}
        self._counts = dict.fromkeys(ladder.rungs, 0)
        self._gone_on: set[int] = set()
        self._arrived: set[int] = set()

    def restore(self, trials: Iterable[Trial], verdicts: Iterable[Verdict]) -> None:
        """Takes in what earlier runs did."""
        by_number = {trial.number: trial for trial in trials}
        self._gone_on.update(t.continues for t in by_number.values() if t.continues is not None)
        for verdict in verdicts:
            self.note(by_number[verdict.number], verdict)

    def note(self, trial: Trial, verdict: Verdict) -> None:
        """Takes a verdict; repeats, copies of a result and what machines lost stand on no rung."""
        if trial.continues is not None:
            self._arrived.add(trial.continues)
        if trial.repeat or verdict.copied_from is not None or verdict.status is Status.LOST:
            return
        self._counts[trial.fidelity] += 1
        if verdict.reward is not None:
            rung = self._standing[trial.fidelity]
            rung.append(Climber(trial=trial, reward=verdict.reward))
            rung.sort(key=lambda climber: (-climber.reward, climber.trial.number))

    def next(self) -> tuple[Trial, float] | None:
        """Who goes on, and to which rung: the best of the highest rung that has somebody; None for nobody."""
        for rung in reversed(self.ladder.rungs[:-1]):
            above = self.ladder.above(rung)
            many = self._counts[rung] // self.ladder.reduction_factor
            for climber in self._standing[rung][:many]:
                if above is not None and climber.trial.number not in self._gone_on:
                    self._gone_on.add(climber.trial.number)
                    return climber.trial, above
        return None

    def held(self) -> set[int]:
        """Numbers of the trials that may go on or are going on, so that their weights are wanted.

        In a study of N trials only the best `N / reduction_factor` of a rung can ever go on.
        """
        found: set[int] = set()
        for rung in self.ladder.rungs[:-1]:
            most = None if self._trials is None else self._trials // self.ladder.reduction_factor
            found |= {climber.trial.number for climber in self._standing[rung][:most]}
        return (found - self._gone_on) | (self._gone_on - self._arrived)

    def best(self, count: int) -> tuple[str, ...]:
        """Digests of the best candidates, the highest rung first."""
        ranked = [c.trial.digest for rung in reversed(self.ladder.rungs) for c in self._standing[rung]]
        return tuple(dict.fromkeys(ranked))[:count]
