"""What a controller searches, as numbers and callables, checked once when it is made."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field

import numpy as np
import numpy.typing as npt

from controllers.contract import (
    Candidate,
    Conditions,
    ControllerError,
    Costs,
    Feasible,
    Floats,
    Key,
    Prior,
    Reward,
    Tokens,
    require_count,
)
from controllers.decisions import Decisions

DIGEST_BYTES = 8  # at 10^5 candidates two share a digest with a chance of 3e-10


@dataclass(frozen=True, slots=True)
class Problem:
    """A search problem.

    Attributes:
        cardinalities: Number of options of each decision. Options that have an order, such as kernel sizes,
            are best listed in it: `Dyna` starts from equal steps in that order.
        conditions: For each decision the `(parent, options)` of which any makes it active; None or empty:
            always active.
        key: Identity of a candidate, so that none is proposed twice; None means its canonical tokens.
        feasible: Which candidates may be proposed; None means all.
        costs: Exact costs of candidates; None where they are unknown.
        reward: How the reward follows from accuracies and those costs; None where that is unknown.
        noise: Standard deviation of one measurement of the accuracy, as a fraction, known from measuring
            beforehand; None where it is unknown. Not every controller uses it.
        measured_costs: How many more objectives outcomes come with, as `Outcome.costs`. Only controllers of
            fronts use them.
        prior: What accuracies can be expected before any result, in any unit; None where nothing is known.
            How much it is worth is learnt from results. `Dyna` chooses its first candidates by it.
        reference: A candidate that is known to be good for its costs, such as a published network; kept in
            canonical form. `Dyna` proposes it first where it can be expected to do well.
        evaluations: How many results are planned; None where that is open. `Reinforce` and `PPO` set
            themselves for long searches by it. It binds nobody: more or fewer may come.
        decisions: Cardinalities and conditions, checked.

    Raises:
        ControllerError: There is no decision, a cardinality or a condition is wrong, what must be a function
            cannot be called, the noise is negative or not finite, a number of costs or of evaluations is no
            count, or the reference is no candidate.
    """

    cardinalities: Sequence[int]
    conditions: Conditions | None = None
    _: KW_ONLY
    key: Key | None = None
    feasible: Feasible | None = None
    costs: Costs | None = None
    reward: Reward | None = None
    noise: float | None = None
    measured_costs: int = 0
    prior: Prior | None = None
    reference: Candidate | None = None
    evaluations: int | None = None
    decisions: Decisions = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("key", "feasible", "costs", "reward", "prior"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise ControllerError(f"{name} must be a function or None, but got {value!r}", field=name)
        if self.noise is not None and not 0 <= self.noise < math.inf:
            raise ControllerError(
                f"`noise >= 0` must hold for a deviation of accuracies, but got noise={self.noise}",
                field="noise",
            )
        require_count("measured_costs", self.measured_costs, least=0)
        if self.evaluations is not None:
            object.__setattr__(self, "evaluations", require_count("evaluations", self.evaluations))
        decisions = Decisions(self.cardinalities, self.conditions)
        object.__setattr__(self, "decisions", decisions)
        object.__setattr__(self, "cardinalities", decisions.cardinalities)
        object.__setattr__(self, "conditions", decisions.conditions)
        if self.reference is not None:
            object.__setattr__(self, "reference", self._checked(self.reference))

    @classmethod
    def of(cls, problem: Problem | Sequence[int], conditions: Conditions | None) -> Problem:
        """Returns the problem, made of cardinalities and conditions where it is not one yet.

        Raises:
            ControllerError: As of the class; or conditions are given beside a problem.
        """
        if not isinstance(problem, Problem):
            return cls(problem, conditions)
        if conditions is not None:
            raise ControllerError(
                "conditions belong to the problem, but both were given: make Problem(cardinalities, "
                "conditions)",
                field="conditions",
            )
        return problem

    def digest(self, candidate: Candidate) -> bytes:
        """Returns 8 bytes that are equal for equal keys, in every process.

        Raises:
            ControllerError: `key` returns what is not the same in every process.
        """
        key = candidate if self.key is None else self.key(candidate)
        if not isinstance(key, str | bytes | int | tuple):
            raise ControllerError(
                f"key must return a str, bytes, int or tuple, but got {type(key).__name__} for tokens "
                f"{candidate}: only those look the same in every process",
                field="key",
            )
        return hashlib.blake2b(repr(key).encode(), digest_size=DIGEST_BYTES).digest()

    def are_feasible(self, tokens: Tokens) -> npt.NDArray[np.bool_]:
        """Returns which of the candidates `(n, decisions)` may be proposed, `(n,)`.

        Raises:
            ControllerError: `feasible` returns another shape.
        """
        n = len(tokens)
        if self.feasible is None or not n:
            return np.ones(n, dtype=np.bool_)
        mask = np.asarray(self.feasible(tokens), dtype=np.bool_)
        if mask.shape != (n,):
            raise ControllerError(
                f"feasible must return one truth value per candidate, shape ({n},), but got shape "
                f"{mask.shape}",
                field="feasible",
            )
        return mask

    def guesses(self, tokens: Tokens) -> Floats:
        """Returns what `prior` says of the candidates `(n, decisions)`, `(n,)`.

        Raises:
            ControllerError: `prior` is None, or returns another shape or numbers that are not finite.
        """
        if self.prior is None:
            raise ControllerError("prior must be given to be asked, but is None", field="prior")
        if not len(tokens):
            return np.zeros(0)
        found = np.asarray(self.prior(tokens), dtype=np.float64)
        if found.shape != (len(tokens),) or not np.isfinite(found).all():
            raise ControllerError(
                f"prior must return one finite number per candidate, shape ({len(tokens)},), but got shape "
                f"{found.shape}, beginning with {found.ravel()[:3].tolist()}",
                field="prior",
            )
        return found

    def _checked(self, reference: Sequence[int]) -> Candidate:
        try:
            return self.decisions.check(reference)
        except ControllerError as error:
            raise ControllerError(f"reference: {error}", field="reference") from error

    def cost_table(self, tokens: Tokens) -> Floats:
        """Returns the costs of the candidates, `(n, costs)`, without columns where no costs are known.

        Raises:
            ControllerError: `costs` returns another shape or numbers that are not finite.
        """
        n = len(tokens)
        if self.costs is None or not n:
            return np.zeros((n, 0))
        costs = np.asarray(self.costs(tokens), dtype=np.float64)
        if costs.ndim not in (1, 2) or len(costs) != n or not np.isfinite(costs).all():
            raise ControllerError(
                f"costs must return finite numbers of shape ({n},) or ({n}, costs) for {n} candidates, but "
                f"got shape {costs.shape}, beginning with {costs.ravel()[:3].tolist()}",
                field="costs",
            )
        return costs.reshape(n, -1)
