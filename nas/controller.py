"""The controller of a search: one of ours made by name, or a user's own whose answers are checked."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

import controllers
from controllers import (
    CONTROLLERS,
    Candidate,
    Controller,
    ControllerError,
    Feedback,
    Outcome,
    Proposal,
    State,
)
from controllers.contract import diagnostics_of, front_of, probabilities_of
from controllers.finals import COMPARED, Beliefs, HasBeliefs
from nas.accuracy_prior import accuracy_prior
from nas.catalogue import Catalogue
from nas.errors import ControllerFailedError, ObjectiveError, StudyError, UsageError
from nas.failures import failure_of
from nas.metrics import FRACTION, KNOWN_METRICS, NUMBER, metric_info
from nas.objective import Objective
from nas.objective.terms import metric_of
from nas.study.identity import LATENCY_TABLE, Identity, Provenance, differences
from nas.study.study import Study
from nas.study.study_trial import StudyTrial
from nas.trial import Status
from nas.units import hint
from nas.values import as_number, clean, real, shown

FRONT_CONTROLLERS = tuple(name for name, kind in CONTROLLERS.items() if hasattr(kind, "front"))
"""Those that look for a front, the default first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerOptions:
    """Which of our controllers chooses, and its options.

    Attributes:
        name: One of `controllers.CONTROLLERS`; may be positional. None is the default: the first of them, or
            `front` where the objective has several goals.
        accuracy_noise: Standard deviation of one measured accuracy, a fraction, as `nas proxy-check` finds
            it, for controllers that use the noise; None leaves them to estimate it.

    Raises:
        UsageError: There is no such controller, or the noise is no number.
    """

    name: str | None = field(default=None, kw_only=False)
    accuracy_noise: float | None = None

    def __post_init__(self) -> None:
        if self.name is not None and self.name not in CONTROLLERS:
            raise UsageError(
                f"there is no controller {self.name!r}: {hint(str(self.name), CONTROLLERS)}",
                field="controller",
            )
        if self.accuracy_noise is not None:
            noise = real("accuracy_noise", self.accuracy_noise, least=0)
            object.__setattr__(self, "accuracy_noise", noise)

    def make(
        self, catalogue: Catalogue, objective: Objective, *, seed: int, trials: int | None = None
    ) -> Controller:
        """Makes the controller for a space: it never repeats a candidate, and none is above a known limit.

        Args:
            catalogue: Of the space.
            objective: What is maximised.
            seed: Of its choices.
            trials: How many are planned; None where that is open.

        Raises:
            UsageError: The objective has several goals, and the controller looks for one candidate.
        """
        name = self.chosen(objective)
        if objective.is_front and not (name in FRONT_CONTROLLERS or name == "random"):
            raise UsageError(
                f"a front of {objective.describe()} needs a controller that looks for one, but got "
                f"controller={self.name}, which looks for one network: leave it out, or name "
                f"{', '.join(FRONT_CONTROLLERS)} or random",
                field="controller",
            )
        problem = problem_of(catalogue, objective, noise=self.accuracy_noise)
        return CONTROLLERS[name](replace(problem, evaluations=trials), seed=seed)

    def chosen(self, objective: Objective) -> str:
        """The name of the controller for an objective."""
        if self.name is not None:
            return self.name
        return FRONT_CONTROLLERS[0] if objective.is_front else next(iter(CONTROLLERS))


def problem_of(
    catalogue: Catalogue, objective: Objective, *, noise: float | None = None
) -> controllers.Problem:
    """What a controller is told of a search.

    It gets the known costs of the objective, or macs where there is none; and how the reward follows from
    what is maximised and the costs, where no cost has to be measured. Of several goals it gets the known
    ones after the first as costs, turned so that less is better, and the number of the measured ones. It
    gets the reference of the space, and what can be expected of networks by their sizes, unless the goal
    itself is a time or a size.

    Args:
        catalogue: Of the space.
        objective: What is maximised.
        noise: Standard deviation of one measurement of that; None where it is unknown.
    """
    known, measured = objective.further_goals
    metrics = tuple(goal.metric for goal in known)
    if not objective.is_front:
        metrics = tuple(metric for metric in objective.costs if metric in KNOWN_METRICS) or ("macs",)
    signs = np.array([-goal.sign for goal in known] or [1.0])
    limits = objective.known_limits
    space = catalogue.space
    is_quality = metric_info(objective.goal.metric).unit in (FRACTION, NUMBER)

    def feasible(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        return catalogue.are_within(rows, limits)

    def costs(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        return signs * catalogue.costs(rows, metrics)

    def reward(
        accuracies: npt.NDArray[np.float64], table: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        values = objective.goal.sign * accuracies  # for a controller more is better
        return objective.rewards(values, dict(zip(metrics, table.T, strict=True)))

    return controllers.Problem(
        space.cardinalities,
        space.conditions,
        key=catalogue.digest,
        feasible=feasible if limits else None,
        costs=costs if metrics else None,
        reward=reward if set(objective.costs) <= set(KNOWN_METRICS) and not objective.is_front else None,
        noise=noise,
        measured_costs=len(measured),
        prior=accuracy_prior(space) if is_quality else None,
        reference=None if space.reference is None else space.encode(space.reference),
    )


def earlier_results(
    study: Study, identity: Identity, catalogue: Catalogue, objective: Objective, *, provenance: Provenance
) -> list[tuple[Proposal, Outcome]]:
    """What an earlier study found out, as results for a controller under this study's objective.

    A trial that this objective cannot judge, a cost of 0 in a factor say, counts as infeasible.

    Args:
        study: The earlier study.
        identity: What makes this study what it is.
        catalogue: Of this study.
        objective: Of this study.
        provenance: What this study is in words.

    Raises:
        StudyError: It searched another space, or measured differently, or no trial has a reward: a cost
            that is needed is missing.
    """
    names = [
        name
        for name in ("space", "data", "split", "recipe", "evaluator")
        if getattr(identity, name).split(LATENCY_TABLE)[0]
        != getattr(study.identity, name).split(LATENCY_TABLE)[0]
    ]
    if names:
        found = differences(names, study.identity, identity, study.provenance, provenance)
        raise StudyError(
            f"a warm start needs results that can be compared, but of {study.folder} differs: "
            f"{'; '.join(found)}. Search without it, or with the same space, data and recipe"
        )
    judged = [trial for trial in study.completed if trial.copied_from is None]
    outcomes = {trial.number: _outcome(trial, catalogue, objective) for trial in judged}
    failures = [outcome for outcome in outcomes.values() if isinstance(outcome, ObjectiveError)]
    if failures and len(failures) == len(outcomes):
        raise StudyError(f"no trial of {study.folder} has a reward by this objective: {failures[0]}")
    infeasible = Outcome(status="infeasible")
    results = []
    for trial in study.trials:
        outcome = outcomes.get(trial.number, infeasible if trial.status is Status.INFEASIBLE else None)
        if outcome is not None:
            tokens = catalogue.space.canonical(trial.tokens)
            results.append((Proposal(tokens), outcome if isinstance(outcome, Outcome) else infeasible))
    return results


def _outcome(trial: StudyTrial, catalogue: Catalogue, objective: Objective) -> Outcome | ObjectiveError:
    """What an earlier trial is under another objective; or why it cannot be said."""
    costs = trial.costs | catalogue.describe(catalogue.space.canonical(trial.tokens)).costs
    try:
        broken = objective.broken(costs)
        value = metric_of(costs, objective.goal.metric)
        reward = objective.reward(value, costs)
        measured = objective.measured_costs(costs)
    except ObjectiveError as error:
        return error
    told = objective.goal.sign * value
    status = "infeasible" if broken else "completed"
    return Outcome(reward, accuracy=told, status=status, costs=measured)


class CheckedController:
    """A controller whose mistakes are errors that name it; what can be converted is.

    Tokens become Python's integers, and log-probabilities and diagnostics floats.

    Args:
        controller: The user's own.
        cardinalities: How many options each decision of the space has.
    """

    def __init__(self, controller: Controller, cardinalities: Sequence[int]) -> None:
        self._controller = controller
        self._cardinalities = tuple(cardinalities)
        self._name = type(controller).__qualname__

    def propose(self, n: int = 1) -> list[Proposal]:
        """Asks for candidates.

        Raises:
            ControllerFailedError: It fails, or returns something else than at most `n` proposals.
        """
        with self._named("propose"):
            proposals = self._controller.propose(n)
            if not isinstance(proposals, list | tuple) or len(proposals) > n:
                raise self._wrong("propose", f"a list of at most {n} `controllers.Proposal`", proposals)
            return [self._proposal(proposal) for proposal in proposals]

    def feedback(self, results: Feedback) -> None:
        """Gives it results.

        Raises:
            ControllerFailedError: It fails.
        """
        with self._named("feedback"):
            self._controller.feedback(results)

    def recommend(self, n: int = 1) -> list[Candidate]:
        """Asks what it would go with.

        Raises:
            ControllerFailedError: It fails, or returns something else than candidates.
        """
        with self._named("recommend"):
            candidates = self._controller.recommend(n)
            if not isinstance(candidates, list | tuple):
                raise self._wrong("recommend", "a list of candidates", candidates)
            return [self._tokens("recommend", tokens) for tokens in candidates]

    def beliefs(self, n: int = COMPARED) -> Beliefs:
        """Asks how far its estimates may be off.

        Raises:
            ControllerFailedError: It fails, or has no beliefs.
        """
        with self._named("beliefs"):
            found = self._controller.beliefs(n) if isinstance(self._controller, HasBeliefs) else None
            if not isinstance(found, Beliefs):
                raise self._wrong("beliefs", "`controllers.finals.Beliefs`", found)
            return found

    def state_dict(self) -> State:
        """Asks for everything it needs to continue.

        Raises:
            ControllerFailedError: It fails, or returns something else than a dict.
        """
        with self._named("state_dict"):
            state = self._controller.state_dict()
            if not isinstance(state, dict):
                raise self._wrong("state_dict", "a dict", state)
            return state

    def load_state_dict(self, state: State) -> None:
        """Lets it continue.

        Raises:
            ControllerError: The state is not one of its own.
            ControllerFailedError: It fails in another way.
        """
        with self._named("load_state_dict"):
            try:
                self._controller.load_state_dict(state)
            except ControllerError as error:
                refusal: ControllerError | None = error
            else:
                refusal = None
        if refusal is not None:
            raise refusal

    def front(self) -> list[Candidate]:
        """Asks for its front; empty where it has none.

        Raises:
            ControllerFailedError: It fails, or returns something else than candidates.
        """
        with self._named("front"):
            return [self._tokens("front", tokens) for tokens in front_of(self._controller)]

    def diagnostics(self) -> dict[str, float]:
        """Asks for numbers about its last update.

        Raises:
            ControllerFailedError: It fails, or returns something else than numbers by name.
        """
        with self._named("diagnostics"):
            found = diagnostics_of(self._controller)
            if not isinstance(found, Mapping):
                raise self._wrong("diagnostics", "numbers by name", found)
            return {clean(str(name)): as_number(value, str(name)) for name, value in found.items()}

    def probabilities(self) -> list[npt.NDArray[np.float64]] | None:
        """Asks for the probability of each option of each decision.

        Raises:
            ControllerFailedError: It fails.
        """
        with self._named("probabilities"):
            return probabilities_of(self._controller)

    def _proposal(self, proposal: object) -> Proposal:
        if not isinstance(proposal, Proposal):
            raise self._wrong("propose", "`controllers.Proposal` in the list", proposal)
        return Proposal(
            self._tokens("propose", proposal.tokens),
            log_prob=float("nan") if proposal.log_prob is None else as_number(proposal.log_prob, "log_prob"),
            number=operator.index(proposal.number),
        )

    def _tokens(self, method: str, tokens: object) -> Candidate:
        law = (
            f"one option index for each of {len(self._cardinalities)} decisions, below {self._cardinalities}"
        )
        try:
            found = tuple(operator.index(token) for token in tokens)  # type: ignore[attr-defined]
        except TypeError:
            raise self._wrong(method, law, tokens) from None
        if len(found) != len(self._cardinalities) or not all(
            0 <= token < count for token, count in zip(found, self._cardinalities, strict=True)
        ):
            raise self._wrong(method, law, tokens)
        return found

    def _wrong(self, method: str, wanted: str, got: object) -> ControllerFailedError:
        return ControllerFailedError(
            f"`{method}` of the controller {self._name} must return {wanted}, but got {shown(got)}: fix it "
            "and start again to continue; `controllers.testing.check_controller` checks all of it"
        )

    @contextmanager
    def _named(self, method: str) -> Iterator[None]:
        try:
            yield
        except ControllerFailedError:
            raise
        except (Exception, SystemExit) as error:
            raise ControllerFailedError(
                f"`{method}` of the controller {self._name} failed: {failure_of(error).message}; everything "
                "finished is in the journal: fix it and start again to continue"
            ) from error
