"""Turns whatever a user's function raises into a cause, one line and a log, without raising itself."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from nas.errors import MetricError
from nas.trial import MESSAGE_CHARACTERS, Cause, InfeasibleError
from nas.values import bounded, clean, shown

CUDA_ERROR = "CUDA error:"
"""How torch begins the text of an error of CUDA."""

NO_MEMORY = (
    "not enough memory",
    f"{CUDA_ERROR} out of memory",
    f"{CUDA_ERROR} CUBLAS_STATUS_ALLOC_FAILED",
)
"""Texts of other errors that say that memory ran out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a function failed.

    Attributes:
        cause: Why.
        message: One line for users.
        log: The traceback.
        is_expected: Whether it is an `InfeasibleError` with words of the user's own in place of a cause.
        is_of_device: Whether the GPU failed, which no later call of this process can use then.
    """

    cause: Cause
    message: str
    log: str
    is_expected: bool
    is_of_device: bool


def failure_of(error: BaseException) -> Failure:
    """Describes an exception, also one whose own text cannot be had."""
    text = _text(error)
    cause = _cause(error)
    is_expected = cause is Cause.ERROR and isinstance(error, InfeasibleError)
    needs_type = cause is Cause.ERROR and not isinstance(error, MetricError | InfeasibleError)
    lines = (f"{type(error).__name__}: {text}" if needs_type else text).strip().splitlines()
    line = bounded(clean(lines[0] if lines else type(error).__name__), MESSAGE_CHARACTERS)
    return Failure(
        cause=cause,
        message=line,
        log=_traceback(error),
        is_expected=is_expected,
        is_of_device=cause is Cause.ERROR and not is_expected and _is_of_device(error, text),
    )


def _cause(error: BaseException) -> Cause:
    if isinstance(error, InfeasibleError):
        cause = getattr(error, "cause", None)  # a subclass may not have called the constructor
        return cause if isinstance(cause, Cause) else Cause.ERROR
    return Cause.OUT_OF_MEMORY if _is_out_of_memory(error, _text(error)) else Cause.ERROR


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as failure:
        return f"its text is not available, as it raises {type(failure).__name__}"


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException as failure:
        return f"the traceback is not available: it raises {shown(type(failure))}"


def _is_out_of_memory(error: BaseException, text: str) -> bool:
    """Knows torch's error by its name, since torch may not be loaded here."""
    names = {kind.__name__ for kind in type(error).__mro__}
    is_allocator = isinstance(error, RuntimeError) and any(words in text for words in NO_MEMORY)
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or is_allocator


def _is_of_device(error: BaseException, text: str) -> bool:
    """Knows errors of CUDA's driver, after which its context is unusable: launch failures, asserts, ECC."""
    return isinstance(error, RuntimeError) and text.startswith(CUDA_ERROR)
