"""What becomes of a trial once its result is in: completed with a reward, infeasible, or lost."""

from __future__ import annotations

from dataclasses import dataclass, replace

from controllers import Outcome, Proposal
from nas.errors import ObjectiveError
from nas.objective import Objective
from nas.trial import Cause, Metric, Result, Status, Trial
from search_spaces import Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialOutcome:
    """What became of a trial.

    Attributes:
        number: The trial's number.
        status: COMPLETED, INFEASIBLE or LOST.
        metrics: What was measured.
        reward: The objective's value; None unless completed.
        cause: Why it did not complete.
        message: One line for people.
        weights_file: Its weights, relative to the study's folder; None where they are not kept.
        copied_from: The trial with an equal key whose result this is; None where it ran itself.
    """

    number: int
    status: Status
    metrics: tuple[Metric, ...] = ()
    reward: float | None = None
    cause: Cause | None = None
    message: str = ""
    weights_file: str | None = None
    copied_from: int | None = None

    @property
    def accuracy(self) -> float | None:
        """The fraction measured, where it was."""
        return next((metric.value for metric in self.metrics if metric.name == "accuracy"), None)

    def copy_for(self, number: int) -> TrialOutcome:
        """The same outcome on another trial with an equal key; the weights stay with the first."""
        origin = self.number if self.copied_from is None else self.copied_from
        return replace(self, number=number, copied_from=origin, weights_file=None)


def known_costs(cost: Cost) -> dict[str, float]:
    """The costs that follow from the network alone, by name."""
    return {"macs": cost.macs, "params": cost.params, "activations": cost.activations}


def all_costs(cost: Cost, metrics: tuple[Metric, ...]) -> dict[str, float]:
    """Known costs and everything measured, by name; the network's own costs are not overruled."""
    return {metric.name: metric.value for metric in metrics} | known_costs(cost)


def judge(trial: Trial, result: Result, objective: Objective) -> TrialOutcome:
    """Says what becomes of a trial that will not be tried again.

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
    costs = all_costs(trial.cost, outcome.metrics)
    try:
        if outcome.accuracy is None:
            raise ObjectiveError(f"the accuracy must be measured, but there is only {', '.join(costs)}")
        broken = objective.broken(costs)
        reward = None if broken else objective.reward(outcome.accuracy, costs)
    except ObjectiveError as error:
        return replace(outcome, status=Status.INFEASIBLE, cause=Cause.ERROR, message=str(error))
    if broken:
        laws = ", ".join(
            f"`{c.metric} <= {c.upper:,.12g}` but {c.metric}={costs[c.metric]:,.6g}" for c in broken
        )
        return replace(outcome, status=Status.INFEASIBLE, cause=Cause.CONSTRAINT, message=laws)
    return replace(outcome, reward=reward)


def _with_predictions(metrics: tuple[Metric, ...], trial: Trial) -> tuple[Metric, ...]:
    """What was measured, and what a table predicts in place of what is measured under its name."""
    predicted = {metric.name for metric in trial.predictions}
    return (*(metric for metric in metrics if metric.name not in predicted), *trial.predictions)


def feedback_of(trial: Trial, outcome: TrialOutcome, reward: float) -> tuple[Proposal, Outcome]:
    """What a controller is told of a trial that was not lost."""
    proposal = Proposal(trial.tokens, log_prob=trial.log_prob, number=trial.proposal_number)
    told = Outcome(reward, accuracy=outcome.accuracy, fidelity=trial.fidelity, status=outcome.status.value)
    return proposal, told
