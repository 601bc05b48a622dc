"""What a study's results say of its decisions: which matter, and which option does better."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from controllers import ControllerError, Outcome, Proposal
from controllers.decisions import Decisions
from controllers.importance import main_effects, total_effects
from controllers.policies import IndependentPolicy
from controllers.predictor import MOST_RESULTS, Calibration, Predictor
from controllers.results import Results
from nas.metrics import NETWORK_METRICS
from nas.objective import Objective
from nas.study.journal_file import readable
from nas.study.random_rewards import RandomRewards
from nas.study.study import Study
from nas.study.study_trial import StudyTrial
from nas.trial import Status
from search_spaces import Decision, SearchSpace

Floats = npt.NDArray[np.float64]
Tokens = npt.NDArray[np.int64]
Places = npt.NDArray[np.int64]

LEAST_TRIALS = 10
"""Completed trials from which on decisions are explained."""

LEAST_REPLICATES = 4
"""Replicates from which on the noise of one training is measured, and not left to the model."""

SAMPLES = 256
"""Random candidates behind an importance: its standard error is near a seventh of it."""

MOST_EXPLAINED = 2_000
"""Trials that an explanation looks at: half of them have the highest rewards, others are spread over all."""

GOOD_SHARE, MOST_GOOD = 0.25, 20
"""Options are compared around so many candidates, those tried with the highest estimated rewards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionInsight:
    """What is known of one decision.

    Attributes:
        index: Its place in the space, which is that of its token.
        decision: The decision.
        accuracy_importance: Share of the variance of the estimated accuracy, or what the objective has in its
            place, over random candidates that stays while only this decision is open.
        cost_importance: The same of the exact cost.
        reward_importance: The same of the estimated reward.
        option_rewards: Mean estimated reward of each option, all else as in good candidates; NaN where
            unknown.
        probabilities: Of each option under the controller's policy; None where none is stored.
    """

    index: int
    decision: Decision
    accuracy_importance: float
    cost_importance: float
    reward_importance: float
    option_rewards: tuple[float, ...]
    probabilities: tuple[float, ...] | None

    @property
    def best_option(self) -> int | None:
        """The option with the highest mean reward, the first of equals; None where none is known."""
        known = [option for option, reward in enumerate(self.option_rewards) if not math.isnan(reward)]
        return max(known, key=lambda option: (self.option_rewards[option], -option), default=None)

    @property
    def gain(self) -> float | None:
        """Mean reward of the best option less that of the average option; None where none is known."""
        known = [reward for reward in self.option_rewards if not math.isnan(reward)]
        return max(known) - sum(known) / len(known) if known else None

    @property
    def entropy(self) -> float | None:
        """Entropy of the policy's choice in nats; None where there is no policy."""
        return None if self.probabilities is None else entropy(self.probabilities)


@dataclass(frozen=True, slots=True, kw_only=True)
class Insight:
    """What the results of a study say.

    Attributes:
        decisions: Every decision, those that matter most for the reward first.
        good: Good candidates that options are compared around.
        cost: The metric that `cost_importance` is about.
        calibration: How well the accuracy of each fitted trial is predicted from the others.
        fitted: Trials that `calibration` is about.
        noise: Standard deviation of the accuracy of one training: measured where there are `replicates`, else
            as the model has it, which is often too low while trials are few.
        replicates: Replicates, beyond the first training of each candidate, that `noise` was measured on.
        likely_best: The completed trial with the highest estimated reward.
        estimates: Estimated reward of each completed trial that was looked at, by number.
        predicted: What the model says of the accuracy of fitted trials, each from all others, by number.
        random: Draws rewards that random candidates may have, as the model knows them.
    """

    decisions: tuple[DecisionInsight, ...]
    good: int
    cost: str
    calibration: Calibration
    fitted: int
    noise: float
    replicates: int
    likely_best: StudyTrial
    estimates: Mapping[int, float]
    predicted: Mapping[int, float]
    random: RandomRewards = field(repr=False)


def entropy(probabilities: Iterable[float]) -> float:
    """Entropy of a choice in nats: 0 where it is decided, `log(options)` where all are alike."""
    return -sum(p * math.log(p) for p in probabilities if p > 0) or 0.0  # not -0.0


def unexplained(study: Study) -> str:
    """Says why nothing can be said of a study's decisions; empty where something can."""
    own = len(_own_results(study, with_infeasible=False))
    if own < LEAST_TRIALS:
        return f"needs {LEAST_TRIALS} completed trials to learn from, and there are {own} so far"
    if study.space is None:
        return (
            f"needs the space {study.provenance.space_name!r} as it was searched, and it is not built in: "
            "nas.report.show.study_report(nas.open_study(folder, space=space)) shows it in Python"
        )
    return ""


def explain(study: Study) -> Insight:
    """Fits a model to the results of a study and asks it; `unexplained` says whether that is possible.

    Trials that are copies are left out, and so are infeasible ones where it is about accuracy. Of many trials
    `MOST_EXPLAINED` are looked at.
    """
    assert study.space is not None, "unexplained says so"
    space, sign = study.space, study.objective.goal.sign
    decisions = Decisions(space.cardinalities, space.conditions)
    costs = _Costs(space, study.objective)
    accuracies = _own_results(study, with_infeasible=False)
    looked_at = _some(study, accuracies)
    values = [(trial, Outcome(sign * _value(trial))) for trial in looked_at]
    accuracy, told = _fitted(Predictor(decisions, None, None), decisions, values)
    known = (costs.table, costs.rewards) if costs.give_reward else (None, None)
    rewards = [
        (trial, _outcome(trial, sign)) for trial in _some(study, _own_results(study, with_infeasible=True))
    ]
    reward, results = _fitted(Predictor(decisions, *known), decisions, rewards)
    assert accuracy.calibration is not None, "it is fitted"
    spread, replicates = _spread_of_replicates(study, accuracies)
    completed = [*_some(study, np.flatnonzero(study.table.is_completed))]
    if all(trial.number != study.best.number for trial in completed):
        completed.append(study.best)
    tokens = np.array([trial.tokens for trial in completed], dtype=np.int64)
    estimates = reward.estimate(tokens).tolist()
    ranked = sorted(range(len(completed)), key=lambda row: (-estimates[row], -(completed[row].reward or 0.0)))
    most = min(MOST_GOOD, math.ceil(GOOD_SHARE * len(ranked)))
    good = np.array(list(dict.fromkeys(completed[row].tokens for row in ranked))[:most], dtype=np.int64)
    return Insight(
        decisions=_decisions(study, space, decisions, accuracy, reward, costs, good),
        good=len(good),
        cost=costs.names[0],
        calibration=accuracy.calibration,
        fitted=min(len(looked_at), MOST_RESULTS),
        noise=accuracy.noise if spread is None else spread,
        replicates=0 if spread is None else replicates,
        likely_best=completed[ranked[0]],
        estimates={trial.number: value for trial, value in zip(completed, estimates, strict=True)},
        predicted={
            looked_at[row].number: sign * value
            for row, value in zip(*(found.tolist() for found in accuracy.left_out(told)), strict=True)
        },
        random=RandomRewards(
            predictor=reward, results=results, decisions=decisions, space=space, objective=study.objective
        ),
    )


def stored_policy(study: Study, decisions: Decisions) -> list[Floats] | None:
    """The probability of each option of each decision; None where no independent logits are stored."""
    try:
        state = study.controller_state() or {}
    except ControllerError:
        return None
    search = state.get("search", state)  # where our policy-gradient controllers keep theirs
    stored = search.get("policy") if isinstance(search, dict) else None
    if not isinstance(stored, dict) or not {"arrays", "steps"} <= stored.keys():
        return None
    if np.shape(stored["arrays"]) != (3, len(decisions), decisions.width):
        return None
    policy = IndependentPolicy(decisions, learning_rate=0.0)
    policy.load_state_dict(stored)
    return policy.probabilities()


class _Costs:
    """Exact costs of candidates, and the reward that follows from them and an accuracy."""

    def __init__(self, space: SearchSpace, objective: Objective) -> None:
        self.names = tuple(metric for metric in objective.costs if metric in NETWORK_METRICS) or ("macs",)
        self.give_reward = set(objective.costs) <= set(NETWORK_METRICS)
        self._space, self._objective = space, objective

    def table(self, tokens: Tokens) -> Floats:
        """Costs `(n, costs)`, NaN for candidates that cannot be built."""
        result = np.full((len(tokens), len(self.names)), math.nan)
        can_be_built = self._space.are_within(tokens)
        records = self._space.costs(tokens[can_be_built])
        result[can_be_built] = np.stack([records[name] for name in self.names], axis=1)
        return result

    def shown(self, tokens: Tokens) -> Floats:
        """The first cost, which is reported, `(n,)`."""
        column: Floats = self.table(tokens)[:, 0]
        return column

    def rewards(self, values: Floats, costs: Floats) -> Floats:
        """The objective's rewards `(n,)` from values of which more is better `(n,)` and a table of costs."""
        own = self._objective.goal.sign * values
        return self._objective.rewards(own, dict(zip(self.names, costs.T, strict=True)))


def _own_results(study: Study, *, with_infeasible: bool) -> Places:
    """Places of trials with results of their own, at the largest share of the schedule that any was given."""
    table = study.table
    kinds = (Status.COMPLETED, *((Status.INFEASIBLE,) if with_infeasible else ()))
    places = np.flatnonzero(table.have(*kinds) & ~table.is_copy)
    fidelity = table.fidelity[places]
    found: Places = places[fidelity == fidelity.max(initial=0.0)]
    return found


def _some(study: Study, places: Places) -> tuple[StudyTrial, ...]:
    """At most `MOST_EXPLAINED` of the trials at some places, in their order."""
    if len(places) > MOST_EXPLAINED:
        rewards = study.table.reward[places]
        ranked = np.argsort(-np.where(np.isnan(rewards), -math.inf, rewards), kind="stable")
        best, others = ranked[: MOST_EXPLAINED // 2], np.sort(ranked[MOST_EXPLAINED // 2 :])
        spread = others[np.linspace(0, len(others) - 1, MOST_EXPLAINED - len(best)).astype(int)]
        places = places[np.sort(np.concatenate([best, spread]))]
    return study.trials_at(places)


def _spread_of_replicates(study: Study, places: Places) -> tuple[float | None, int]:
    """Pooled standard deviation of accuracies of one candidate, None if too few say it; and how many do."""
    table = study.table
    values, digests = table.values(study.objective.goal.metric), table.digests
    count = Counter(digests[place] for place in places.tolist())
    by_digest: dict[str, list[float]] = defaultdict(list)
    for place in places.tolist():
        if count[digests[place]] > 1:
            by_digest[digests[place]].append(float(values[place]))
    replicates = len(places) - len(count)
    squares = sum(len(found) * np.var(found) for found in by_digest.values())
    return (math.sqrt(squares / replicates) if replicates >= LEAST_REPLICATES else None), replicates


def _value(trial: StudyTrial) -> float:
    assert trial.value is not None, "a completed trial has one"
    return trial.value


def _outcome(trial: StudyTrial, sign: float) -> Outcome:
    if trial.reward is None:
        return Outcome(status="infeasible")
    return Outcome(trial.reward, accuracy=sign * _value(trial))


def _fitted(
    predictor: Predictor, decisions: Decisions, found: Sequence[tuple[StudyTrial, Outcome]]
) -> tuple[Predictor, Results]:
    """A predictor that knows all of the trials, and the trials as it has them."""
    results = Results(decisions)
    with readable(found[0][0].folder):  # tokens that another program changed may lie outside of the space
        results.take([(Proposal(trial.tokens), outcome) for trial, outcome in found])
    predictor.fit(results)
    predictor.condition(results)
    return predictor, results


def _decisions(
    study: Study,
    space: SearchSpace,
    decisions: Decisions,
    accuracy: Predictor,
    reward: Predictor,
    costs: _Costs,
    good: Tokens,
) -> tuple[DecisionInsight, ...]:
    of_accuracy, of_reward, of_cost = (
        total_effects(function, decisions, samples=SAMPLES).tolist()
        for function in (accuracy.estimate, reward.expected, costs.shown)
    )
    options = main_effects(reward.expected, decisions, around=good)
    policy = stored_policy(study, decisions)
    found = [
        DecisionInsight(
            index=index,
            decision=decision,
            accuracy_importance=of_accuracy[index],
            cost_importance=of_cost[index],
            reward_importance=of_reward[index],
            option_rewards=tuple(options[index].tolist()),
            probabilities=None if policy is None else tuple(policy[index].tolist()),
        )
        for index, decision in enumerate(space.decisions)
    ]
    return tuple(sorted(found, key=lambda one: -one.reward_importance))
