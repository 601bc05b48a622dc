"""The contract between a search and its controller: proposals, outcomes and the controller protocol."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

Tokens: TypeAlias = npt.NDArray[np.int64]
"""Candidates as rows, `(candidates, decisions)`, one option index per decision."""

Candidate: TypeAlias = tuple[int, ...]
"""One candidate: an option index per decision, 0 where a decision is not active."""

Floats: TypeAlias = npt.NDArray[np.float64]

Condition: TypeAlias = tuple[int, tuple[int, ...]]
"""`(parent, options)`: holds when decision `parent` is active and its token is one of `options`."""

Conditions: TypeAlias = Sequence[Sequence[tuple[int, Sequence[int]]]]
"""For each decision, the conditions of which any must hold; none means always active."""

Key: TypeAlias = Callable[[tuple[int, ...]], Hashable]
"""Identity of a candidate as str, bytes, int or a tuple of those: equal keys are one candidate."""

Feasible: TypeAlias = Callable[[Tokens], npt.NDArray[np.bool_]]
"""Which of the candidates `(n, decisions)` may be proposed, `(n,)`; pure and known before any training."""

Costs: TypeAlias = Callable[[Tokens], npt.NDArray[np.float64]]
"""Exact costs of the candidates `(n, decisions)`, `(n,)` or `(n, costs)`."""

Reward: TypeAlias = Callable[[Floats, Floats], Floats]
"""Reward `(n,)` from accuracies `(n,)` and costs `(n,)` or `(n, costs)`."""

Prior: TypeAlias = Callable[[Tokens], Floats]
"""What is expected of the accuracies of candidates `(n, decisions)`, `(n,)`, more for better, in any unit."""

State: TypeAlias = dict[str, Any]
"""What a controller remembers: numpy arrays, JSON scalars, lists and dicts of those, nothing else."""


class ControllerError(ValueError):
    """A controller was used against its contract.

    Args:
        message: The rule, the value and the remedy.
        field: Name of the argument or field that is wrong, as Python spells it; empty where the mistake is
            not in one of them.
    """

    def __init__(self, message: str = "", *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


def require_count(field: str, value: object, *, least: int = 1) -> int:
    """Returns an argument that counts something, as an int.

    Raises:
        ControllerError: It is no integer, or below `least`.
    """
    try:
        count = operator.index(value)  # type: ignore[arg-type]  # refusing what is no integer is the point
    except TypeError:
        raise ControllerError(f"{field} must be an integer, but got {field}={value!r}", field=field) from None
    if count < least:
        raise ControllerError(f"{field} >= {least} must hold, but got {field}={count}", field=field)
    return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One candidate that a controller asks to have evaluated.

    Attributes:
        tokens: One option index per decision; decisions that are not active hold 0. May be positional.
        log_prob: Natural logarithm of the probability of the tokens under the policy that proposed them;
            NaN where no policy did.
        number: Which proposal of its controller this is, counted from 0; -1 where no controller made it.
    """

    tokens: tuple[int, ...] = field(kw_only=False)
    log_prob: float = math.nan
    number: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a proposal, where a bare reward does not say it all.

    Attributes:
        reward: What the search maximises; need not be given (NaN) unless completed. May be positional.
        accuracy: The measured part of the reward, a fraction, where it is known.
        fidelity: Share of the full evaluation that was spent, in (0, 1].
        status: "completed"; or "infeasible", the candidate's own fault: a controller that sees rewards only
            learns the worst finite reward it has seen, whatever `reward` says; or "lost", a machine's fault:
            no result will come, the proposal is under way no longer, and nothing is learnt.
        costs: What was measured of further objectives, in the problem's order; less is better. Only
            controllers of fronts look at them.

    Raises:
        ControllerError: A completed outcome without a finite reward, or a value outside its range.
    """

    reward: float = field(default=math.nan, kw_only=False)
    accuracy: float | None = None
    fidelity: float = 1.0
    status: str = "completed"
    costs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.status not in ("completed", "infeasible", "lost"):
            raise ControllerError(
                f'status must be "completed", "infeasible" or "lost", but got {self.status!r}',
                field="status",
            )
        if self.status == "completed" and not math.isfinite(self.reward):
            raise ControllerError(
                f"the reward of a completed trial must be finite, but got {self.reward!r}: feed back "
                'Outcome(status="infeasible") for a candidate that could not be trained',
                field="reward",
            )
        if self.accuracy is not None and not math.isfinite(self.accuracy):
            raise ControllerError(
                f"accuracy must be finite or None, but got {self.accuracy!r}", field="accuracy"
            )
        if not all(map(math.isfinite, self.costs)):
            raise ControllerError(f"costs must be finite numbers, but got {self.costs!r}", field="costs")
        if not 0 < self.fidelity <= 1:
            raise ControllerError(f"fidelity must lie in (0, 1], but got {self.fidelity!r}", field="fidelity")

    @property
    def is_feasible(self) -> bool:
        """Whether the candidate was evaluated."""
        return self.status == "completed"

    @property
    def is_lost(self) -> bool:
        """Whether no result will come, which says nothing about the candidate."""
        return self.status == "lost"


Feedback: TypeAlias = Sequence[tuple[Proposal, float | Outcome]]
"""Evaluated proposals, each with its bare reward or its outcome."""


class Controller(Protocol):
    """Chooses candidates and learns from their outcomes: ask, tell, save.

    These five methods are all it needs. Three more are used where a controller has them: `diagnostics()`, see
    `HasDiagnostics`, `probabilities()`, see `HasProbabilities`, and `front()`, see `HasFront`.

    `controllers.testing.check_controller` checks everything that is stated here.
    """

    def propose(self, n: int = 1) -> list[Proposal]:
        """Returns up to `n` candidates to evaluate, fewer or none only when no others can be found."""
        ...

    def feedback(self, results: Feedback) -> None:
        """Learns from results, in any order, late, or for candidates this controller never proposed.

        A lost one is no result: its candidate is under way no longer, and nothing else changes. It may be
        told again, and may still be followed by a result.

        Raises:
            ControllerError: A reward is not finite or tokens do not fit; then none of the results is taken.
        """
        ...

    def recommend(self, n: int = 1) -> list[Candidate]:
        """Returns the up to `n` candidates it would go with, best first, none before a completed result.

        Only candidates with a completed result are recommended, and none that was infeasible. A controller
        that estimates rewards goes by its estimates, any other by the mean of what was observed. Asking
        changes nothing that is proposed.

        Raises:
            ControllerError: `n` is below 1.
        """
        ...

    def state_dict(self) -> State:
        """Returns everything needed to continue exactly; later calls do not change what was returned."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Continues where `state` was taken, in a controller made with the same arguments."""
        ...


@runtime_checkable
class HasDiagnostics(Protocol):
    """A controller that reports numbers about its last update."""

    def diagnostics(self) -> dict[str, float]:
        """Returns finite floats, named as in cleanrl."""
        ...


@runtime_checkable
class HasProbabilities(Protocol):
    """A controller that reports how likely it is to choose each option."""

    def probabilities(self) -> list[Floats] | None:
        """Returns for each decision the probability of each option; None where there is no policy."""
        ...


@runtime_checkable
class HasFront(Protocol):
    """A controller that looks for a front."""

    def front(self) -> list[Candidate]:
        """Returns the completed candidates that none dominates, in the order of the first cost."""
        ...


def front_of(controller: object) -> list[Candidate]:
    """The front that a controller goes with; empty where it has no `front`."""
    return controller.front() if isinstance(controller, HasFront) else []


def diagnostics_of(controller: object) -> dict[str, float]:
    """Numbers about the last update; empty where a controller has no `diagnostics`."""
    return controller.diagnostics() if isinstance(controller, HasDiagnostics) else {}


def probabilities_of(controller: object) -> list[Floats] | None:
    """For each decision the probability of each option; None where a controller has no `probabilities`."""
    return controller.probabilities() if isinstance(controller, HasProbabilities) else None


def as_outcome(proposal: Proposal, result: float | Outcome) -> Outcome:
    """Returns the result as an outcome.

    Raises:
        ControllerError: The reward is not a finite number; the message names the proposal.
    """
    if isinstance(result, Outcome):
        return result
    try:
        return Outcome(float(result))
    except (TypeError, ValueError) as error:
        raise ControllerError(
            f"proposal {proposal.number} with tokens {proposal.tokens}: {error}", field="reward"
        ) from error
