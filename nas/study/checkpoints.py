"""The weights that a study keeps beside its journal: those of the best trials and of the front."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from controllers.pareto import crowding
from nas.errors import StudyError
from nas.io import unfinished, write_whole
from nas.metrics import Goal, losses, pareto_front
from nas.outcome import TrialOutcome, all_costs
from nas.protocols import Executor
from nas.reading import read_bytes
from nas.rungs import Halving
from nas.trial import Result, Trial, WeightsError
from nas.values import few

MOST_ON_FRONT = 32
"""Weights kept of a front over several costs, which may hold most of the trials; over one cost, all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A completed trial as the policy sees it.

    Attributes:
        number: The trial's number.
        reward: The objective's value.
        value: What the objective maximises or minimises.
        costs: The other metrics that are compared, mostly costs: one finite number each.
        fidelity: Share of the recipe's schedule, in (0, 1]; only equal ones are compared.
    """

    number: int
    reward: float
    value: float
    costs: tuple[float, ...]
    fidelity: float = 1.0


def entry_of(
    number: int,
    *,
    reward: float | None,
    metrics: Mapping[str, float],
    goals: Iterable[Goal],
    fidelity: float,
) -> Entry | None:
    """A trial with those of its metrics that are compared; None where one or the reward is missing."""
    value, *costs = (float(metrics.get(goal.metric, math.nan)) for goal in goals)
    if reward is None or not all(map(math.isfinite, (value, *costs))):
        return None
    return Entry(number=number, reward=reward, value=value, costs=tuple(costs), fidelity=fidelity)


def of_highest_fidelity(entries: Iterable[Entry]) -> list[Entry]:
    """The entries of the highest fidelity that any of them has: the others measured something easier."""
    found = list(entries)
    highest = max((entry.fidelity for entry in found), default=1.0)
    return [entry for entry in found if entry.fidelity == highest]


def front_of(entries: Iterable[Entry], goals: Sequence[Goal]) -> list[Entry]:
    """The entries of the highest fidelity that no other beats in the goals of their value and their costs.

    In order of the first cost and then of the next; of equals the one with the lowest number.
    """
    found = sorted(entries, key=lambda entry: entry.number)
    points = np.array([(entry.value, *entry.costs) for entry in found]).reshape(-1, len(goals))
    return [found[row] for row in front_rows(points, np.array([entry.fidelity for entry in found]), goals)]


def front_rows(
    points: npt.NDArray[np.float64], fidelity: npt.NDArray[np.float64], goals: Sequence[Goal]
) -> npt.NDArray[np.int64]:
    """The rows that `front_of` gives of metrics `(n, goals)` and fidelities `(n,)` in order of number."""
    rows = np.flatnonzero(fidelity == fidelity.max(initial=0.0))
    keys = (-goals[0].sign * points[rows, 0], *points[rows, :0:-1].T)  # the last is the first to sort by
    rows = rows[np.lexsort(keys)]
    return rows[list(pareto_front(points[rows], goals))]


def joined(front: list[Entry], entry: Entry, goals: Sequence[Goal]) -> list[Entry]:
    """A front, as `front_of` gives it, with one more entry: most often the front as it was."""
    if any(_beats(one, entry, goals) for one in front):
        return front
    return front_of([*front, entry], goals)


def _beats(one: Entry, other: Entry, goals: Sequence[Goal]) -> bool:
    """Whether an entry keeps another off the front."""
    if one.fidelity != other.fidelity:
        return one.fidelity > other.fidelity
    pairs = zip((one.value, *one.costs), (other.value, *other.costs), goals, strict=True)
    gains = [goal.sign * (a - b) for a, b, goal in pairs]
    return min(gains) >= 0 and (max(gains) > 0 or one.number < other.number)


def thinned(front: Iterable[Entry], goals: Sequence[Goal], most: int) -> list[Entry]:
    """At most so many entries of a front, spread over it: one in the densest place leaves, again and again.

    Ends of the front stay as long as others are left; of equally dense places the latest trial leaves.

    Source: crowding distance, Deb et al., IEEE TEC 2002, section III-B; of costs, their logarithms.
    """
    left = sorted(front, key=lambda entry: entry.number)
    tiny = np.finfo(np.float64).tiny
    while len(left) > most:
        points = [(entry.value, *np.log(np.maximum(entry.costs, tiny))) for entry in left]
        room = crowding(losses(points, goals))
        del left[len(left) - 1 - int(np.argmin(room[::-1]))]
    return left


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a search finds in the folder of weights when it continues.

    Attributes:
        missing: Trials whose weights the journal names, but which are gone.
        left: Names of files of trials that the journal does not have; they stay.
    """

    missing: tuple[int, ...] = ()
    left: tuple[str, ...] = ()

    def messages(self) -> tuple[tuple[str, str], ...]:
        """Kind and text of an event for each thing that users have to know."""
        found = []
        if self.missing:
            trials = ", ".join(map(str, self.missing))
            found.append(("weights_missing", f"the weights of trials {trials} are gone from weights/"))
        if self.left:
            stay = "They stay, renamed once a trial gets their number"
            remedy = "If the journal was copied without its -wal file, stop and put both files back"
            found.append(("weights_unknown", f"{unknown_weights(self.left)}. {stay}. {remedy}"))
        return tuple(found)


def unknown_weights(names: Sequence[str]) -> str:
    """Says that there are files of weights without their trials."""
    return f"weights/ holds {len(names)} files of trials that the journal does not have: {few(names)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The weights of a trial that has just ended, on their way to the disk.

    Attributes:
        weights: The weights; None where there are none, or none are wanted.
        problem: Why weights that are wanted are not there.
        is_gone: Whether they died with their worker, so that another attempt has them.
    """

    weights: bytes | None = None
    problem: str = ""
    is_gone: bool = False


class CheckpointStore:
    """Keeps the weights of the best trials by reward and of the Pareto front, and drops the rest.

    Trials of a higher fidelity come before all others. A trial that falls out of the best or of the front
    never comes back into it, so what is kept in the end does not depend on the order in which trials finish.
    A front over several costs may grow large, and no rule that looks at one trial at a time can keep a fixed
    number of it whatever the order: past `MOST_ON_FRONT` its densest places are thinned as trials come, which
    does depend on it. Only weights are thinned: the front of `Study.pareto_front` is whole in any order.

    Args:
        folder: The study's folder.
        goals: Of the Pareto front, that of the objective first.
        best: How many of the best by reward are kept.
        halving: Names the trials whose weights are kept as well, because their training may be continued.
    """

    def __init__(
        self, folder: Path, *, goals: tuple[Goal, ...], best: int = 3, halving: Halving | None = None
    ) -> None:
        self._folder = folder
        self._goals = goals
        self._best = best
        self._halving = halving
        self._top: list[Entry] = []
        self._front: list[Entry] = []
        self._files: set[int] = set()
        self._left: set[int] = set()

    def place(self, trial: Trial, outcome: TrialOutcome) -> bool:
        """Takes a completed trial into account; says whether its weights are wanted."""
        return self._take(trial, outcome) and trial.number in self._wanted(self._files | {trial.number})

    def restore(self, finished: Iterable[tuple[Trial, TrialOutcome]]) -> None:
        """Takes trials of earlier runs into account."""
        for trial, outcome in finished:
            self._take(trial, outcome)

    def _take(self, trial: Trial, outcome: TrialOutcome) -> bool:
        """Takes a trial into account; says whether it has all that is compared."""
        entry = self.entry(trial, outcome)
        if entry is None:
            return False
        self._top, self._front = self._with(entry)
        if outcome.weights_file is not None:
            self._files.add(trial.number)
        return True

    def entry(self, trial: Trial, outcome: TrialOutcome) -> Entry | None:
        """The trial as the policy sees it; None unless it completed, is no copy, and has all metrics."""
        if outcome.copied_from is not None:
            return None
        return entry_of(
            trial.number,
            reward=outcome.reward,
            metrics=all_costs(trial.cost, outcome.metrics),
            goals=self._goals,
            fidelity=trial.fidelity,
        )

    def fetch(self, trial: Trial, outcome: TrialOutcome, result: Result, executor: Executor) -> Fetched:
        """The weights of a trial that `place` will want; of others none. Nothing is remembered of it."""
        entry = self.entry(trial, outcome)
        if entry is None or not result.has_weights:
            return Fetched()
        is_chosen = trial.number in self._chosen(*self._with(entry), self._files | {trial.number})
        if not is_chosen and (self._halving is None or not self._halving.may_hold(trial, entry.reward)):
            return Fetched()
        try:
            weights = executor.weights(result.job)
        except WeightsError as error:
            return Fetched(problem=str(error))
        if weights is None:
            return Fetched(problem="the worker has lost them", is_gone=True)
        return Fetched(weights=weights)

    def _with(self, entry: Entry) -> tuple[list[Entry], list[Entry]]:
        """The best and the front with one more trial."""
        ranked = sorted([*self._top, entry], key=lambda e: (-e.fidelity, -e.reward, e.number))
        return ranked[: self._best], joined(self._front, entry, self._goals)

    def _wanted(self, available: AbstractSet[int]) -> set[int]:
        """Trials whose weights are wanted, of those whose weights are there or can be had."""
        held = set() if self._halving is None else self._halving.held()
        return self._chosen(self._top, self._front, available) | held

    def _chosen(self, top: list[Entry], front: list[Entry], available: AbstractSet[int]) -> set[int]:
        """The best, and those of the front whose weights are there or can be had."""
        front = [entry for entry in front if entry.number in available]
        if len(self._goals) > 2:
            front = thinned(front, self._goals, MOST_ON_FRONT)
        return {entry.number for entry in (*top, *front)}

    def unwanted(self) -> tuple[int, ...]:
        """Trials whose weight files may be dropped."""
        return tuple(sorted(self._files - self._wanted(self._files)))

    def save(self, outcome: TrialOutcome, fetched: Fetched) -> tuple[TrialOutcome, str]:
        """Writes a weight file whole or not at all.

        Returns:
            The outcome with its name, and why there is none, or nothing.
        """
        if fetched.weights is None:
            return outcome, fetched.problem
        name = weights_name(outcome.number)
        try:
            (self._folder / name).parent.mkdir(exist_ok=True)  # a study's folder that was moved stays moved
            write_whole(self._folder / name, fetched.weights, makes_folder=False)
        except OSError as error:
            return outcome, str(error)
        self._files.add(outcome.number)
        return replace(outcome, weights_file=name), ""

    def weights_for(self, trial: Trial) -> tuple[bytes | None, str]:
        """The weights that a trial continues from, and what is to be said where those are gone."""
        if trial.continues is None:
            return None, ""
        if trial.continues in self._files:
            with suppress(OSError):
                return read_bytes(self._folder / weights_name(trial.continues)), ""
        gone = f"those of trial {trial.continues} are gone"
        return None, f"trial {trial.number} trains from new weights, as {gone}"

    def drop(self, numbers: Iterable[int]) -> None:
        """Removes weight files; the journal must have forgotten them already.

        One that cannot be removed stays until the search is continued, which needs none of them.
        """
        for number in numbers:
            with suppress(OSError):
                (self._folder / weights_name(number)).unlink()
            self._files.discard(number)

    def sweep(self, known: AbstractSet[int]) -> Swept:
        """Removes what a kill left of writing weights; leaves files of trials that the journal lacks.

        Args:
            known: Numbers of the trials that the journal has. A file of one of them that the journal does not
                name was about to be entered or removed when the search was killed.

        Raises:
            StudyError: A file cannot be removed.
        """
        entered = {Path(weights_name(number)).name for number in self._files}
        left = []
        weights = self._folder / "weights"
        for path in unfinished(weights, "trial-*"):
            _remove(path)
        for path in sorted(weights.glob("trial-*")):
            if path.name in entered:
                continue
            number = _number_of(path)
            if path.suffix == ".partial" or number in known:  # the former of earlier versions
                _remove(path)
            else:
                left.append(path.name)
                self._left |= set() if number is None else {number}
        missing = {number for number in self._files if not (self._folder / weights_name(number)).is_file()}
        self._files -= missing
        return Swept(missing=tuple(sorted(missing)), left=tuple(left))

    def make_room(self, numbers: Iterable[int]) -> None:
        """Renames files that other trials of these numbers left, before these are begun.

        Raises:
            StudyError: One cannot be renamed.
        """
        for number in self._left.intersection(numbers):
            self._put_aside(number)

    def _put_aside(self, number: int) -> None:
        path = self._folder / weights_name(number)
        free = (path.with_name(f"{path.stem}.old-{count}{path.suffix}") for count in itertools.count(1))
        try:
            path.rename(next(other for other in free if not other.exists()))
        except FileNotFoundError:
            pass  # it was moved away
        except OSError as error:
            raise StudyError(f"{path} cannot be renamed ({error}): move it away") from error
        self._left.discard(number)


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        raise StudyError(
            f"{path} is left of weights that are not kept, and cannot be removed "
            f"({error.strerror or error}): allow writing to {path.parent}"
        ) from error


def kept_weights(folder: Path) -> dict[int, str]:
    """Names of the files of weights in a study's folder, by the number of their trial."""
    numbers = {path.name: _number_of(path) for path in sorted((folder / "weights").glob("trial-*"))}
    return {number: name for name, number in numbers.items() if number is not None}


def _number_of(weights: Path) -> int | None:
    """Number of the trial that a file of weights is of; None where its name is not one that we give."""
    found = re.fullmatch(r"trial-(\d{5,})\.safetensors", weights.name)
    return None if found is None else int(found[1])


def weights_name(number: int) -> str:
    """Path of a trial's weights in the study's folder."""
    return f"weights/trial-{number:05d}.safetensors"
