"""Checks what a user's own controller returns, and names the controller in what it raises."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from controllers import Candidate, Controller, ControllerError, Feedback, Proposal, State
from controllers.contract import diagnostics_of, probabilities_of
from nas.conversion import as_number, clean, shown
from nas.errors import ControllerFailedError
from nas.failures import failure_of


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
        """Tells it of results.

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
            f"`{method}` of the controller {self._name} must return {wanted}, but got {shown(got)}: mend it "
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
                "finished is in the journal: mend it and start again to continue"
            ) from error
