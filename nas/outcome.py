"""The outcome of a trial whose result is in: completed with a reward, infeasible, or lost."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from operator import attrgetter

from controllers import Outcome, Proposal
from nas.errors import ObjectiveError
from nas.metrics import NETWORK_METRICS
from nas.objective import Objective
from nas.objective.terms import metric_of
from nas.trial import Cause, Metric, Result, Status, Trial
from search_spaces import Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialOutcome:
    """The outcome of a trial.

    Attributes:
        number: The trial's number.
        status: COMPLETED, INFEASIBLE or LOST.
        metrics: What was measured.
        value: What the objective maximises or minimises, the accuracy by default; None where not measured.
        reward: The objective's value; None unless completed.
        cause: Why it did not complete.
        message: One line for the user.
        weights_file: Its weights, relative to the study's folder; None where they are not kept.
        copied_from: The trial with an equal key whose result this is; None where it ran itself.
    """

    number: int
    status: Status
    metrics: tuple[Metric, ...] = ()
    value: float | None = None
    reward: float | None = None
    cause: Cause | None = None
    message: str = ""
    weights_file: str | None = None
    copied_from: int | None = None

    def copy_for(self, number: int) -> TrialOutcome:
        """The same outcome on another trial with an equal key; the weights stay with the first."""
        origin = self.number if self.copied_from is None else self.copied_from
        return replace(self, number=number, copied_from=origin, weights_file=None)


_network_metrics = attrgetter(*NETWORK_METRICS)


def known_costs(cost: Cost) -> dict[str, float]:
    """The costs that follow from the network alone, by name."""
    return dict(zip(NETWORK_METRICS, _network_metrics(cost), strict=True))


def all_costs(cost: Cost, metrics: tuple[Metric, ...]) -> dict[str, float]:
    """Everything measured and the network's own costs, by name; a measurement does not replace a cost."""
    return {metric.name: metric.value for metric in metrics} | known_costs(cost)


def judge(trial: Trial, result: Result, objective: Objective) -> TrialOutcome:
    """The outcome of a trial that will not be tried again.

    One whose metrics the objective cannot use (missing, 0 in a factor, a power that overflows) is infeasible.
    """
    outcome = TrialOutcome(
        number=trial.number,
        status=result.status,
        metrics=_with_predictions(result.metrics, trial) if result.metrics else (),
        cause=result.cause,
        message=result.message,
    )
    if result.status is not Status.COMPLETED:
        return outcome
    metrics = all_costs(trial.cost, outcome.metrics)
    outcome = replace(outcome, value=metrics.get(objective.goal.metric))
    try:
        value = metric_of(metrics, objective.goal.metric)
        broken = objective.broken(metrics)
        objective.measured_costs(metrics)
        reward = None if broken else objective.reward(value, metrics)
    except ObjectiveError as error:
        return replace(outcome, status=Status.INFEASIBLE, cause=Cause.ERROR, message=str(error))
    if broken:
        laws = ", ".join(
            f"`{limit.describe()}` but {limit.metric}={metrics[limit.metric]:,.6g}" for limit in broken
        )
        return replace(outcome, status=Status.INFEASIBLE, cause=Cause.CONSTRAINT, message=laws)
    return replace(outcome, reward=reward)


def lost_with_weights(result: Result) -> Result:
    """A result whose worker died before its weights were fetched: the attempt counts as lost."""
    message = "the worker died before the weights were fetched"
    return Result(
        job=result.job,
        status=Status.LOST,
        cause=Cause.WORKER_DIED,
        message=message,
        node=result.node,
        seconds=result.seconds,
    )


def _with_predictions(metrics: tuple[Metric, ...], trial: Trial) -> tuple[Metric, ...]:
    """What was measured, and what a table predicts in place of what is measured under its name."""
    predicted = {metric.name for metric in trial.predictions}
    return (*(metric for metric in metrics if metric.name not in predicted), *trial.predictions)


def feedback_of(
    trial: Trial, outcome: TrialOutcome, reward: float | None, objective: Objective
) -> tuple[Proposal, Outcome]:
    """What a controller is told of a trial, signed so that more is better; of a lost one, that it is lost."""
    proposal = Proposal(trial.tokens, log_prob=trial.log_prob, number=trial.proposal_number)
    value = None if outcome.value is None else objective.goal.sign * outcome.value
    told = math.nan if reward is None else reward
    is_completed = outcome.status is Status.COMPLETED
    costs = objective.measured_costs(all_costs(trial.cost, outcome.metrics)) if is_completed else ()
    return proposal, Outcome(
        told, accuracy=value, fidelity=trial.fidelity, status=outcome.status.value, costs=costs
    )
