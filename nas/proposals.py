"""Which candidate becomes the next trial: enqueued, the controller's, a replicate, or one promoted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from controllers import Controller
from controllers.contract import front_of
from controllers.finals import HasBeliefs, most_finals, next_final
from nas.catalogue import Catalogue, Tokens
from nas.errors import ObjectiveError, SearchStoppedError, SpaceArgumentError
from nas.metrics import NETWORK_METRICS
from nas.objective import Objective
from nas.outcome import TrialOutcome
from nas.rungs import Halving
from nas.scheduling import AUTO, FINAL_REPLICATES, Budget
from nas.study.journal_reading import Asked, History
from nas.trial import Trial
from nas.values import shown, whole
from search_spaces import Network, SpaceError

SAMPLES = 64
"""Random candidates looked at before anything trains, to see whether the constraints can be met."""

REJECTIONS_IN_A_ROW = 2_000
"""So many proposals in a row that break the constraints end the search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicate:
    """Asks for a candidate to be trained again with new seeds, which never happens unasked.

    Attributes:
        candidate: The network, or its tokens; may be positional.
        times: How many replicates, beside the first training.

    Raises:
        SpaceArgumentError: There is nothing to train again.
    """

    candidate: Network | Tokens = field(kw_only=False)
    times: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", whole("times", self.times, least=1, error=SpaceArgumentError))


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """A candidate that the user put in; `replicate` counts from 1, 0 is the first training."""

    tokens: Tokens
    replicate: int = 0


def trial_seed(study_seed: int, number: int) -> int:
    """Seed of a trial's training, below 2**31: depends on the study's seed and the trial's number alone."""
    return int(np.random.SeedSequence([study_seed, number]).generate_state(1)[0] & 0x7FFFFFFF)


def enqueued_candidates(
    catalogue: Catalogue, objective: Objective, enqueued: Iterable[Network | Tokens | Replicate]
) -> tuple[Enqueued, ...]:
    """Checks the user's own candidates and writes them as tokens.

    Raises:
        SpaceArgumentError: One is not in the space.
        ObjectiveError: One breaks a constraint.
    """
    space = catalogue.space
    found: list[Enqueued] = []
    for position, item in enumerate(enqueued):
        candidate = item.candidate if isinstance(item, Replicate) else item
        try:
            tokens = space.encode(candidate) if isinstance(candidate, Network) else space.canonical(candidate)
            costs = catalogue.describe(tokens).costs
        except SpaceError as error:
            raise SpaceArgumentError(f"enqueued candidate {position}: {error}", field="enqueue") from error
        except TypeError as error:
            raise SpaceArgumentError(
                f"enqueued candidate {position} must be a network, its tokens or nas.Replicate, but got "
                f"{shown(candidate)}: give one of these",
                field="enqueue",
            ) from error
        for limit in objective.broken(costs, before_training=True):
            raise ObjectiveError(
                f"enqueued candidate {position}: `{limit.describe()}` must hold, but "
                f"{limit.metric}={costs[limit.metric]:,.12g}: relax the constraint, or leave this one out",
                field="enqueue",
            )
        replicates = range(1, item.times + 1) if isinstance(item, Replicate) else (0,)
        found.extend(Enqueued(tokens=tokens, replicate=replicate) for replicate in replicates)
    return tuple(found)


RARE = 256
"""Random candidates within the constraints that are looked through for a new one."""

RECOMMENDED = 10
"""Candidates that are written down as recommended."""


class Source:
    """Gives the next trial.

    Args:
        catalogue: Where candidates come from.
        controller: Who chooses once the user's own are through.
        objective: Whose constraints on known costs must be met.
        seed: Seed of the study.
        budget: Which of the last trials train finalists again.
        enqueued: The user's own candidates.
        halving: Which candidates are promoted; None trains each of them whole at once.
        helps_out: Whether a controller that finds no more candidates is given random ones within the
            constraints; a controller made by the caller may have good reason to end.
        history: Earlier runs: an enqueued candidate that they tried is not tried twice.

    Attributes:
        asked: How often the controller was asked for a proposal so far.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        controller: Controller,
        objective: Objective,
        *,
        seed: int,
        budget: Budget,
        enqueued: Sequence[Enqueued] = (),
        halving: Halving | None = None,
        helps_out: bool = False,
        history: History | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._controller = controller
        self._objective = objective
        self._seed = seed
        known = set() if history is None else {(trial.digest, trial.replicate) for trial in history.trials}
        self._enqueued = [e for e in enqueued if (catalogue.digest(e.tokens), e.replicate) not in known]
        self._budget = budget
        self._halving = halving
        self._helps_out = helps_out
        self._replicates: dict[str, int] = {}  # of each candidate so far, by digest
        for digest, replicate in known:
            self._replicates[digest] = max(replicate, self._replicates.get(digest, 0))
        self._under_way: dict[int, Tokens] = {}  # trained again, and the controller was not told yet
        self._has_finals = False
        if history is not None:
            repeats = [trial for trial in history.trials if trial.is_final]
            self._has_finals = bool(repeats)
            told = set(history.fed_back)
            self._under_way = {trial.number: trial.tokens for trial in repeats if trial.number not in told}
        self.asked = Asked() if history is None else history.asked

    def next(self, number: int, most: int = 1) -> Sequence[Trial]:
        """Gives the trials from this number on, none where the controller has no candidate at present.

        Args:
            number: Of the first of them.
            most: For how many the controller is asked at once; a trial that it does not choose comes alone.

        Raises:
            SearchStoppedError: Too many proposals in a row broke the constraints.
        """
        trial = self._given(number)
        return self._chosen(number, self._at_once(number, most)) if trial is None else [trial]

    def _given(self, number: int) -> Trial | None:
        """A trial that the controller does not choose: the user's, a finalist again, or one promoted."""
        if self._enqueued:
            candidate = self._enqueued.pop(0)
            return self._trial(number, candidate.tokens, replicate=candidate.replicate, origin="user")
        if (finalist := self._finalist(number)) is not None:
            replicate = self._replicates.get(self._catalogue.digest(finalist), 0) + 1
            trial = self._trial(number, finalist, replicate=replicate)
            if trial is not None:
                self._under_way[number] = finalist
                return trial
        promoted = None if self._halving is None else self._halving.next()
        if promoted is None:
            return None
        paused, rung = promoted
        return replace(
            paused,
            number=number,
            seed=trial_seed(self._seed, number),
            fidelity=rung,
            proposal_number=-1,
            log_prob=float("nan"),
            continues=paused.number,
        )

    def _at_once(self, number: int, most: int) -> int:
        """For how many trials the controller may be asked, with none that is a final and none too many."""
        total, finalists = self._budget.trials, self._budget.finalists
        if total is None:
            return most
        finals = most_finals(total) if finalists == AUTO else finalists * FINAL_REPLICATES
        return max(1, min(most, total - finals - number))

    def _chosen(self, number: int, size: int) -> Sequence[Trial]:
        """Trials of the controller's next proposals that break no constraint."""
        for _ in range(0, REJECTIONS_IN_A_ROW, size):
            self.asked = replace(self.asked, asked=self.asked.asked + 1, size=size)
            proposals = self._controller.propose(size)
            if not proposals:
                rare = self._rare(number) if self._helps_out else None
                return [] if rare is None else [rare]
            trials: list[Trial] = []
            for one in proposals:
                place = number + len(trials)
                trial = self._trial(place, one.tokens, proposal_number=one.number, log_prob=one.log_prob)
                if trial is not None:
                    trials.append(trial)
            broken = len(proposals) - len(trials)
            self.asked = replace(self.asked, rejected=self.asked.rejected + broken)
            if trials:
                return trials
        raise SearchStoppedError(
            f"{REJECTIONS_IN_A_ROW} proposals in a row broke the constraints ({self._objective.describe()}): "
            "relax them, or narrow the space"
        )

    def _finalist(self, number: int) -> Tokens | None:
        """The candidate that this trial trains again; None where it tries a new one."""
        budget = self._budget
        if (
            budget.finalists == AUTO
            and budget.trials is not None
            and isinstance(self._controller, HasBeliefs)
        ):
            left = budget.trials - number
            if left > most_finals(budget.trials):
                return None
            return next_final(
                self._controller.beliefs(),
                left=left,
                total=budget.trials,
                under_way=tuple(self._under_way.values()),
            )
        if not budget.is_final(number):
            return None
        finalists = self._controller.recommend(budget.fixed_finalists)
        return min(
            finalists, key=lambda one: self._replicates.get(self._catalogue.digest(one), 0), default=None
        )

    def _rare(self, number: int) -> Trial | None:
        """A random candidate within the constraints, where they are too rare for the controller to meet one.

        The controller learns from it as from any candidate of others, and finds its like. None where the
        constraints leave no new one, or the space cannot say where they are.
        """
        limits = self._objective.known_limits
        ranges = {metric: (0.0, limits[metric]) for metric in NETWORK_METRICS if metric in limits}
        if not limits:
            return None
        rng = np.random.default_rng([self._seed, number, RARE])
        try:
            rows = self._catalogue.space.sample_within(rng, RARE, **ranges)
        except SpaceError:
            return None
        for tokens in map(tuple, rows.tolist()):
            if self._catalogue.digest(tokens) not in self._replicates:
                trial = self._trial(number, tokens)
                if trial is not None:
                    return trial
        return None

    def notice(self, trial: Trial) -> str:
        """What a user should know when this trial is proposed; mostly empty."""
        if self._has_finals or not trial.is_final or self._budget.trials is None:
            return ""
        self._has_finals = True
        count, total = self._budget.trials - trial.number, self._budget.trials
        return f"from trial {trial.number} on, {count} of {total} trials measure the best again" + (
            ", fewer if one of them stands out before" if self._budget.finalists == AUTO else ""
        )

    def count(self, trial: Trial) -> None:
        """Takes in that the controller is told of a trial now."""
        self._under_way.pop(trial.number, None)

    def note(self, trial: Trial, outcome: TrialOutcome) -> None:
        """Takes in what became of a trial, for what comes next."""
        if self._halving is not None:
            self._halving.note(trial, outcome)

    def recommended(self) -> tuple[str, ...]:
        """Digests of the candidates to go with, best first: the controller's, or those on the last rung.

        Of an objective with several goals it is the controller's front.
        """
        if self._halving is not None:
            return self._halving.best(RECOMMENDED)
        is_front = self._objective.is_front
        tokens = front_of(self._controller) if is_front else self._controller.recommend(RECOMMENDED)
        return tuple(dict.fromkeys(self._catalogue.digest(one) for one in tokens))

    def _trial(
        self,
        number: int,
        tokens: Sequence[int],
        *,
        replicate: int = 0,
        proposal_number: int = -1,
        log_prob: float = float("nan"),
        origin: str = "controller",
    ) -> Trial | None:
        """Decodes a candidate; None if it violates a constraint or is not valid in the space."""
        if not self._catalogue.is_feasible(tokens, self._objective):
            return None
        description = self._catalogue.describe(tokens)
        self._replicates[description.digest] = max(replicate, self._replicates.get(description.digest, 0))
        return Trial(
            number=number,
            tokens=tuple(int(token) for token in tokens),
            decode=lambda: description.network,
            digest=description.digest,
            cost=description.cost,
            predictions=description.predictions,
            seed=trial_seed(self._seed, number),
            fidelity=1.0 if self._halving is None else self._halving.rungs.shares[0],
            replicate=replicate,
            proposal_number=proposal_number,
            log_prob=log_prob,
            origin=origin,
        )


def require_feasible(catalogue: Catalogue, objective: Objective, *, seed: int) -> None:
    """Checks that some candidate meets the constraints on known costs, before anything is trained.

    Looks at random candidates, then walks from the nearest one decision by decision towards the limits, so
    that a small feasible corner of a large space is found too.

    Raises:
        SpaceArgumentError: None was found; names the nearest candidate and its cost.
    """
    if not any(constraint.is_known_before_training for constraint in objective.constraints):
        return
    space = catalogue.space
    rng = np.random.default_rng(seed)
    nearest: Tokens = ()
    excess = float("inf")
    for _ in range(SAMPLES):
        tokens = space.sample(rng)
        found = _excess(catalogue, objective, tokens)
        if found == 0:
            return
        if found < excess or not nearest:
            nearest, excess = tokens, found
    nearest, excess = _descend(catalogue, objective, nearest, excess)
    if excess == 0:
        return
    try:
        costs = catalogue.describe(nearest).costs
    except SpaceError as error:
        raise SpaceArgumentError(
            f"no candidate of the space {space.name!r} can be built: {error}", field="space"
        ) from error
    limits = "; ".join(
        f"`{c.describe()}`, nearest {c.metric}={costs.get(c.metric, math.nan):,.6g}"
        for c in objective.constraints
        if c.is_known_before_training
    )
    raise SpaceArgumentError(
        f"no candidate of the space {space.name!r} was found that meets the constraints: {limits}, for "
        f"tokens {nearest}. Relax the constraints, or choose a smaller width or resolution",
        field="objective",
    )


def _excess(catalogue: Catalogue, objective: Objective, tokens: Tokens) -> float:
    try:
        return objective.excess(catalogue.describe(tokens).costs)
    except (SpaceError, ObjectiveError):
        return float("inf")


def _descend(
    catalogue: Catalogue, objective: Objective, tokens: Tokens, excess: float
) -> tuple[Tokens, float]:
    """Changes one decision at a time for the better until none helps or the limits are met."""
    space = catalogue.space
    improved = True
    while improved and excess > 0:
        improved = False
        for index, count in enumerate(space.cardinalities):
            for option in range(count):
                other = (*tokens[:index], option, *tokens[index + 1 :])
                found = _excess(catalogue, objective, other)
                if found < excess:
                    tokens, excess, improved = other, found, True
                if excess == 0:
                    return space.canonical(tokens), excess
    return space.canonical(tokens), excess
