"""Checks what a user gives to a search before anything runs: space, controller, evaluator, and so on."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from controllers import Controller
from nas.data.images import ImageData
from nas.errors import ContractError
from nas.evaluators import Probed
from nas.execution.executors import EXECUTORS
from nas.own_files import line_of, raised
from nas.protocols import (
    ChecksNetworks,
    ChecksSpace,
    Clock,
    Evaluator,
    Executor,
    GivesWeights,
    HasData,
    HasNotes,
    HasRecipe,
    LatencyPredictor,
    NamesMetrics,
    Probe,
    Reporter,
    ResolvesPrecision,
)
from nas.values import shown
from nas.version import is_ours
from search_spaces import Network, SearchSpace, SpaceError
from search_spaces.testing import check_own_parts

REMEDIES: dict[type, str] = {
    Evaluator: "a function of a candidate is given as nas.TableEvaluator(function)",
    Controller: "it is made with (space.cardinalities, space.conditions, seed=0), as controllers.Default is",
    Executor: f"or name one of {', '.join(EXECUTORS)}",
    Probe: "such as nas.LatencyProbe()",
    Reporter: "its methods may do nothing",
    LatencyPredictor: "nas.LatencyTable.load(path) reads one",
    Clock: "nas.protocols.SystemClock() is this machine's",
}
"""What to do beside mending the object, by protocol."""

OPTIONAL = (
    ChecksNetworks,
    ChecksSpace,
    GivesWeights,
    HasData,
    HasNotes,
    HasRecipe,
    NamesMetrics,
    ResolvesPrecision,
)
"""What an evaluator or a probe may have beyond its protocol; one member each."""


def check_given(
    space: SearchSpace,
    *,
    controller: object = None,
    evaluator: Evaluator | None = None,
    executor: Executor | None = None,
    reporters: object = (),
    predictor: object = None,
) -> None:
    """Checks everything that is not ours in what a search was given; what is None or ours costs nothing.

    Raises:
        ContractError: Something lacks a method or is not valid, or cannot be exported or sent to workers; the
            message names all that is missing, and the remedy.
        NasError: The evaluator measures networks of another space.
    """
    check_space(space)
    for value in evaluators_of(evaluator):
        _check_measuring("the evaluator", value, Evaluator)
    if isinstance(evaluator, Probed):
        _check_measuring("the probe", evaluator.probe, Probe)
    if isinstance(evaluator, ChecksSpace):
        evaluator.check_space(space)
    if predictor is not None:
        check_members("the latency table", predictor, LatencyPredictor, field="predictor")
        _check_fingerprint("the latency table", predictor, field="predictor")
    if executor is not None:
        check_members("the executor", executor, Executor, field="executor")
        _check_slots(executor)
    for place, reporter in enumerate(listed_reporters(reporters)):
        check_members(f"reporter {place}", reporter, Reporter, field="reporters")
    if controller is not None:
        check_members("the controller", controller, Controller, field="controller")
        _check_controller(controller, space)
    if executor is not None:
        executor.check(space, evaluator)


def check_ways(space: SearchSpace, evaluators: Mapping[str, Evaluator], executor: Executor) -> None:
    """The same where several evaluators are compared.

    Raises:
        ContractError: One of them, the space or the executor cannot be used; names it.
        NasError: One of them measures networks of another space.
    """
    check_given(space, executor=executor)
    for name, evaluator in evaluators.items():
        if not is_ours(evaluator):
            _check_measuring(f"the evaluator {name!r}", evaluator, Evaluator)
        if isinstance(evaluator, ChecksSpace):
            evaluator.check_space(space)
        executor.check(space, evaluator)


def check_space(space: object) -> None:
    """Checks that it is a space, and the user's own ops in it.

    Raises:
        ContractError: It is no space, or an op is not valid.
    """
    if not isinstance(space, SearchSpace):
        remedy = "call it" if callable(space) else "give one, such as search_spaces.mnasnet()"
        if isinstance(space, Network):
            remedy = "write SearchSpace(network), with a choice(...) where a value is open"
        raise ContractError(
            f"`space` must be a search_spaces.SearchSpace, but got {shown(space)}: {remedy}", field="space"
        )
    try:
        check_own_parts(space)
    except (SpaceError, AssertionError) as error:
        raise ContractError(_space_text(space, str(error)), field="space") from error
    except (Exception, SystemExit) as error:
        text = f"an op of your own raised {type(error).__name__}: {error}"
        if isinstance(error, NameError):
            text += ": exported source has only torch, nn and math, so import everything else inside a method"
        raise ContractError(_space_text(space, text), field="space") from error


def _space_text(space: SearchSpace, text: str) -> str:
    kinds = ", ".join(kind.__name__ for kind in space.own_types)
    return (
        f"the space {space.name!r} has parts of your own ({kinds}), which cannot be used: {text} "
        "(search_spaces.testing.check_space checks them one by one)"
    )


def check_members(what: str, value: object, protocol: type, *, field: str, remedy: str | None = None) -> None:
    """Checks that an object has every method and value of a protocol, callable as the protocol says.

    Args:
        what: Name of the object, for the message.
        value: The object.
        protocol: What it must have.
        field: The argument that it was given as.
        remedy: What else may be done; by default that of the protocol.

    Raises:
        ContractError: It has not; lists everything at once with its signature.
    """
    if is_ours(value):
        return
    remedy = remedy or REMEDIES[protocol]
    if isinstance(value, type):
        raise ContractError(
            f"{what} must be an object, but got the class {value.__name__} itself: give "
            f"{value.__name__}(...) ({remedy})",
            field=field,
        )
    wrong = [text for name, member in members_of(protocol) if (text := _wrong(value, name, member))]
    if wrong:
        raise ContractError(
            f"{what} must have all that `{protocol.__name__}` has, but {shown(value)} lacks "
            f"{'; '.join(wrong)}: add {'it' if len(wrong) == 1 else 'them'} ({remedy})",
            field=field,
        )


def members_of(protocol: type) -> Iterator[tuple[str, object]]:
    """The methods and properties that a protocol asks for, in its order."""
    for name, member in vars(protocol).items():
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
            yield name, member


def evaluators_of(evaluator: object) -> Iterable[object]:
    """The user's own evaluator, also if it is combined with a probe."""
    if evaluator is None:
        return ()
    return (evaluator.evaluator,) if isinstance(evaluator, Probed) else (evaluator,)


def _wrong(value: object, name: str, member: object) -> str:
    """What is wrong with one member, or nothing."""
    try:
        found = getattr(value, name)
    except AttributeError:
        return _signature(name, member)
    except (Exception, SystemExit) as error:
        return f"{name}, which raises {raised(error, _file_of(value))}"
    if isinstance(member, property):
        return f"{name}, a value and not a method (put @property above it)" if inspect.ismethod(found) else ""
    if not callable(found):
        return f"{_signature(name, member)}, which is {shown(found)} and cannot be called"
    if inspect.iscoroutinefunction(found):
        return f"{_signature(name, member)} as a plain function, not `async`"
    return "" if _takes(found, member) else f"{_signature(name, member)}, which takes other arguments"


def _signature(name: str, member: object) -> str:
    """A member as one writes it, with the first line of what it does."""
    function = member.fget if isinstance(member, property) else member
    assert callable(function)
    does = (inspect.getdoc(function) or "").splitlines()[0].rstrip(".")
    if isinstance(member, property):
        return f"`{name}` ({does})"
    parameters = list(inspect.signature(function).parameters.values())[1:]
    words = [one.name if one.default is one.empty else f"{one.name}={one.default!r}" for one in parameters]
    return f"`{name}({', '.join(words)})` ({does})"


def _takes(method: Callable[..., object], member: object) -> bool:
    """Whether a method can be called with all arguments of the protocol's as a search gives them."""
    assert inspect.isfunction(member)
    parameters = list(inspect.signature(member).parameters.values())[1:]
    named = {one.name: None for one in parameters if one.kind is one.KEYWORD_ONLY}
    try:
        inspect.signature(method).bind(*range(len(parameters) - len(named)), **named)
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return True
    return True


def _check_measuring(what: str, value: object, protocol: type) -> None:
    """Checks an evaluator or a probe, also what it may leave out but has."""
    check_members(what, value, protocol, field="evaluator")
    _check_fingerprint(what, value, field="evaluator")
    if is_ours(value):
        return
    for optional in OPTIONAL:
        ((name, _),) = members_of(optional)
        if _has(value, name):
            check_members(what, value, optional, field="evaluator", remedy=f"or leave `{name}` out")
    for protocol, name in ((HasNotes, "notes"), (NamesMetrics, "measures")):
        found = getattr(value, name) if isinstance(value, protocol) else ()
        if not isinstance(found, tuple) or not all(isinstance(text, str) for text in found):
            raise ContractError(
                f"`{name}` of {what} must be a tuple of texts, but got {shown(found)}: write one such as "
                f"('accuracy',), or leave `{name}` out",
                field="evaluator",
            )


def export_notes(evaluator: Evaluator) -> tuple[str, ...]:
    """What an export of a network will lack, as far as a user's own evaluator says it, a sentence each."""
    own = next(iter(evaluators_of(evaluator)))
    if is_ours(own):
        return ()
    notes = []
    if not isinstance(own, GivesWeights):
        notes.append(
            "networks can be exported only if the evaluator gives weights, which it does not say: add "
            "`gives_weights = True` where it does"
        )
    elif not own.gives_weights:
        notes.append("no network can be exported, as the evaluator gives no weights")
    if not notes and not isinstance(own.data if isinstance(own, HasData) else None, ImageData):
        notes.append("exports will have no predict.py, as the evaluator has no `data` with images")
    return tuple(notes)


def _has(value: object, name: str) -> bool:
    """Whether a member is there, also where it raises an error; a method that is None counts as absent."""
    try:
        return getattr(value, name, None) is not None
    except (Exception, SystemExit):
        return True


def _check_fingerprint(what: str, value: object, *, field: str) -> None:
    found = value.fingerprint  # type: ignore[attr-defined]  # it is there: checked before
    if not isinstance(found, str) or not found:
        raise ContractError(
            f"the fingerprint of {what} must be a text that changes whenever its results do, but got "
            f"{shown(found)}: return one such as 'mine, version 1'",
            field=field,
        )
    if value.fingerprint != found:  # type: ignore[attr-defined]
        raise ContractError(
            f"the fingerprint of {what} must stay the same while it measures the same, but it changes from "
            "one call to the next: make it of what decides the results",
            field=field,
        )


def _check_slots(executor: object) -> None:
    slots = executor.slots  # type: ignore[attr-defined]  # it is there: checked before
    if isinstance(slots, bool) or not isinstance(slots, int) or slots < 1:
        raise ContractError(
            f"`slots >= 1` must hold for an executor, an integer, but got slots={shown(slots)}: say how "
            "many jobs it runs at the same time",
            field="executor",
        )


def _check_controller(controller: object, space: SearchSpace) -> None:
    if is_ours(controller):
        return
    from controllers.testing import check_copy

    name = type(controller).__name__
    try:
        check_copy(controller, space.cardinalities, space.conditions)  # type: ignore[arg-type]
    except AssertionError as error:
        cause = error.__cause__
        raise ContractError(
            f"the controller {name} does not keep the contract of controllers: {error}"
            f"{line_of(cause, _file_of(controller)) if cause else ''}. Mend it; "
            "controllers.testing.check_controller checks every law",
            field="controller",
        ) from error


def _file_of(value: object) -> str | None:
    """The file that the class of a value is written in, as tracebacks name it; None where there is none."""
    return getattr(sys.modules.get(type(value).__module__), "__file__", None)


def listed_reporters(reporters: object) -> Sequence[Any]:
    """Checks that reporters come in a list.

    Raises:
        ContractError: They do not.
    """
    if isinstance(reporters, Sequence) and not isinstance(reporters, str):
        return reporters
    raise ContractError(
        f"`reporters` must be a list of objects with on_start, on_trial, on_event, on_progress and on_end, "
        f"but got {shown(reporters)}: write reporters=[reporter]",
        field="reporters",
    )
