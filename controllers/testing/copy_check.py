"""Checks a user's controller quickly, on a copy of it, before a search depends on it."""

from __future__ import annotations

import copy
import inspect
import operator
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType, ModuleType, NoneType

import numpy as np

from controllers.contract import Conditions, Controller, ControllerError, Outcome, Proposal
from controllers.decisions import Decisions
from controllers.testing.tools import require, through_json

MISTAKES = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    NameError,
    ArithmeticError,
    NotImplementedError,
    SystemExit,
)
"""What wrong code raises; anything else may come from a file or a service that a copy does not have."""


def check_copy(controller: Controller, cardinalities: Sequence[int], conditions: Conditions | None) -> None:
    """Checks on a copy that a controller proposes, learns, recommends and saves as a search needs it.

    The controller itself stays as it is, and so do the global generators. Of one that cannot be copied, or
    whose methods share variables with others that a copy would change, only the state is looked at; what it
    cannot do for want of a file, say, is not held against it.

    Args:
        controller: The controller, which has the five methods.
        cardinalities: Options of each decision of the space that is to be searched.
        conditions: Conditions of each decision.

    Raises:
        AssertionError: The contract is broken; the message says where and how.
    """
    with _generators_kept():
        with _named("state_dict()", (Exception, SystemExit)):
            _check_state(controller)
        try:
            if _shares_variables(type(controller)):
                return
            twin, other = copy.deepcopy(controller), copy.deepcopy(controller)
        except Exception:
            return
        try:
            _use(twin, Decisions(cardinalities, conditions))
            _lose(other, Decisions(cardinalities, conditions))
        except AssertionError:
            raise
        except Exception:
            return


def _shares_variables(kind: type) -> bool:
    """Whether methods use variables from outside that may change: a copy of the controller has the same."""
    package = __name__.partition(".")[0]
    own = [one for one in kind.__mro__ if one.__module__.partition(".")[0] not in (package, "builtins")]
    members = (member for one in own for member in vars(one).values())
    for function in filter(inspect.isfunction, members):
        used = inspect.getclosurevars(function)
        held = [value for name, value in used.nonlocals.items() if name != "__class__"]
        if not all(map(_is_constant, (*held, *used.globals.values()))):
            return True
    return False


def _is_constant(value: object) -> bool:
    if isinstance(value, tuple | frozenset):
        return all(map(_is_constant, value))
    plain = (type, ModuleType, FunctionType, BuiltinFunctionType, int, float, str, bytes, NoneType)
    return isinstance(value, plain)


def _use(twin: Controller, decisions: Decisions) -> None:
    first, second = _propose(twin, decisions), _propose(twin, decisions)
    for proposal, outcome in ((first, Outcome(0.5, accuracy=0.5)), (second, Outcome(status="infeasible"))):
        if proposal is not None:
            _feed(twin, proposal, outcome)
    with _named("state_dict()"):
        _check_state(twin)
    with _named("recommend(1)"):
        for tokens in twin.recommend(1):
            _check_tokens(tokens, decisions, "recommend(1)")
    with _named("load_state_dict(state) with what state_dict() returned"):
        twin.load_state_dict(through_json(twin.state_dict()))


def _lose(twin: Controller, decisions: Decisions) -> None:
    """A candidate that a machine lost leaves what is recommended as it was: its reward is NaN."""
    first, second = _propose(twin, decisions), _propose(twin, decisions)
    if first is None or second is None:
        return
    _feed(twin, first, Outcome(0.5, accuracy=0.5))
    with _named("recommend(2)"):
        before = twin.recommend(2)
    _feed(twin, second, Outcome(status="lost"))
    with _named("recommend(2)"):
        after = twin.recommend(2)
    require(
        list(map(tuple, after)) == list(map(tuple, before)),
        f'Outcome(status="lost") must teach nothing, but recommend(2) was {_short(before)} and is '
        f"{_short(after)} after it: leave out what is_lost",
    )


def _check_state(controller: Controller) -> None:
    state = controller.state_dict()
    require(isinstance(state, dict), f"state_dict() must return a dict, but returned {type(state).__name__}")
    try:
        through_json(state)
    except ControllerError as error:
        raise AssertionError(str(error)) from error


def _propose(controller: Controller, decisions: Decisions) -> Proposal | None:
    with _named("propose(1)"):
        found = controller.propose(1)
    require(
        isinstance(found, Sequence) and len(found) <= 1,
        f"propose(1) must return a list of at most one Proposal, but returned {_short(found)}",
    )
    if not found:
        return None
    proposal = found[0]
    require(
        isinstance(proposal, Proposal),
        f"propose(1) must return controllers.Proposal(tokens), but returned {_short(proposal)} in a list",
    )
    _check_tokens(proposal.tokens, decisions, "propose(1)")
    return proposal


def _check_tokens(tokens: object, decisions: Decisions, what: str) -> None:
    try:
        found = tuple(operator.index(token) for token in tokens)  # type: ignore[attr-defined]
    except TypeError:
        raise AssertionError(f"tokens must be a tuple of ints, but {what} gives {_short(tokens)}") from None
    try:
        decisions.check(found)
    except ValueError as error:
        raise AssertionError(f"{what} gives tokens that are not of this space: {error}") from error


def _feed(controller: Controller, proposal: Proposal, outcome: Outcome) -> None:
    try:
        controller.feedback([(proposal, outcome)])
    except MISTAKES as error:
        raise AssertionError(
            f"feedback([(proposal, outcome)]) must take an Outcome, here of status {outcome.status!r} (its "
            f"reward is outcome.reward), but raised {type(error).__name__}: {error}"
        ) from error


@contextmanager
def _named(method: str, mistakes: tuple[type[BaseException], ...] = MISTAKES) -> Iterator[None]:
    """Says which method raised what wrong code raises."""
    try:
        yield
    except AssertionError:
        raise
    except mistakes as error:
        text = f": {error}" if str(error) else ""
        raise AssertionError(f"{method} raised {type(error).__name__}{text}") from error


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Leaves the global generators of Python, numpy and torch as they were."""
    python, numbers = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")
    drawn = None if torch is None else torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)
        if torch is not None:
            torch.set_rng_state(drawn)
