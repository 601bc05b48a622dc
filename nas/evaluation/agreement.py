"""Compares the accuracies of shared weights with those of the same networks trained by themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.evaluation.proxy_quality import Estimate, tau_between
from nas.study.study import Study
from nas.study.study_trial import StudyTrial
from nas.study.trial_rows import option_words
from nas.task_objective import judged_by
from search_spaces import SearchSpace

LEAST_NETWORKS = 4
"""With fewer networks nothing is said of single options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marginal:
    """How the networks with one option stand among all, by shared weights and trained by themselves.

    Attributes:
        decision: The decision's name.
        option: The option in words.
        networks: How many networks have it.
        shared: Their mean accuracy in shared weights less that of all networks, in standard deviations.
        alone: The same of the networks trained by themselves.
        chance: Standard deviation of `bias` if the option played no part in it: so many networks were drawn
            from all, without replacement.
    """

    decision: str
    option: str
    networks: int
    shared: float
    alone: float
    chance: float

    @property
    def bias(self) -> float:
        """How much better it looks in shared weights than it is."""
        return self.shared - self.alone

    @property
    def is_clear(self) -> bool:
        """Whether the bias is more than two such deviations."""
        return abs(self.bias) > 2 * self.chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A network by both: the number of its trial, and its metric in shared weights and by itself."""

    trial: int
    shared: float
    alone: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far shared weights and trainings agree on networks of a study.

    Attributes:
        metric: What both measured, on the search split.
        pairs: The networks.
        tau: Kendall's tau of the two orders, networks resampled; None of too few networks.
        marginals: Every option that some of the networks have and others lack, the largest bias first.
    """

    metric: str
    pairs: tuple[Pair, ...]
    tau: Estimate | None
    marginals: tuple[Marginal, ...]


def agreement_of(study: Study, alone: Mapping[str, float]) -> Agreement | None:
    """Compares a study in shared weights with trainings of its networks; None where fewer than two are both.

    Args:
        study: The study.
        alone: Its metric that says how good a network is, by the network's digest, trained by itself.
    """
    found: dict[str, tuple[StudyTrial, float]] = {}
    completed = np.flatnonzero(study.table.is_completed).tolist()
    for trial in study.trials_at(place for place in completed if study.table.digests[place] in alone):
        value = trial.mean_quality
        if trial.has_shared_weights and value is not None:
            found.setdefault(trial.digest, (trial, value))
    if len(found) < 2:
        return None
    pairs = tuple(
        Pair(trial=trial.number, shared=value, alone=alone[digest])
        for digest, (trial, value) in found.items()
    )
    goal = judged_by(study.objective)
    shared = [goal.sign * one.shared for one in pairs]
    own = [goal.sign * one.alone for one in pairs]
    tokens = [trial.tokens for trial, _ in found.values()]
    marginals = () if study.space is None else marginals_of(study.space, tokens, shared, own)
    return Agreement(metric=goal.metric, pairs=pairs, tau=tau_between(shared, own), marginals=marginals)


def marginals_of(
    space: SearchSpace, tokens: Sequence[Sequence[int]], shared: Sequence[float], alone: Sequence[float]
) -> tuple[Marginal, ...]:
    """How each option stands by both, the largest bias for its chance first.

    What converges first looks better in shared weights than it is; this shows which options that are. An
    option of a decision that is not active in a network is not one that the network has.

    Args:
        space: Where the networks come from.
        tokens: The networks.
        shared: Their metric in shared weights, more being better; NaN where there is none.
        alone: The same, trained by themselves.
    """
    pairs = np.array([shared, alone], dtype=np.float64)
    usable = np.flatnonzero(np.isfinite(pairs).all(axis=0))
    pairs = pairs[:, usable]
    if len(usable) < LEAST_NETWORKS or not pairs.std(axis=1).all():
        return ()
    scores = (pairs - pairs.mean(axis=1, keepdims=True)) / pairs.std(axis=1, keepdims=True)
    rows = [tokens[int(index)] for index in usable]
    active = np.array([space.active(row) for row in rows])
    found = []
    for place, decision in enumerate(space.decisions):
        chosen = np.where(active[:, place], [row[place] for row in rows], -1)
        for option, words in enumerate(option_words(decision.options)):
            one = _marginal(decision.name, str(words), chosen == option, scores)
            found += [] if one is None else [one]
    return tuple(sorted(found, key=lambda one: -abs(one.bias) / (one.chance or math.inf)))


def _marginal(
    decision: str, option: str, has_it: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]
) -> Marginal | None:
    """None where all networks have it, or fewer than two."""
    count, networks = int(has_it.sum()), len(has_it)
    if count < 2 or count == networks:
        return None
    shared, alone = scores[:, has_it].mean(axis=1)
    spread = float((scores[0] - scores[1]).std(ddof=1))
    return Marginal(
        decision=decision,
        option=option,
        networks=count,
        shared=float(shared),
        alone=float(alone),
        chance=spread * math.sqrt((1 - count / networks) / count),
    )
