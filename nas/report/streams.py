"""Standard output and error as they have to be: JSON alone on one, nothing that a terminal cannot show."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import UnsupportedOperation
from typing import TextIO

_saved_output: list[TextIO] = []
"""Where JSON goes while everything else that is printed goes to standard error."""


def json_output() -> TextIO:
    """The stream that a command's JSON is written to."""
    return _saved_output[-1] if _saved_output else sys.stdout


@contextmanager
def json_alone() -> Iterator[None]:
    """Sends everything but the JSON to standard error, also the output of Ray's processes and of C++."""
    output, descriptor = sys.stdout, _descriptor(sys.stdout)
    output.flush()
    if descriptor is None:  # a notebook's, or a test's: there is no file to turn aside
        copy = output
    else:
        copy = open(os.dup(descriptor), "w", encoding=output.encoding, errors=output.errors)  # noqa: PTH123, SIM115
        os.dup2(2, descriptor)
    _saved_output.append(copy)
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout = output
        _saved_output.pop()
        if descriptor is not None:
            try:
                copy.flush()
            finally:
                os.dup2(copy.fileno(), descriptor)
                with suppress(OSError):
                    copy.close()


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno() if stream.fileno() == 1 else None
    except (UnsupportedOperation, AttributeError, ValueError):
        return None


def tolerate(*streams: TextIO) -> None:
    """Has streams show a character that they cannot encode by another sign, in place of failing."""
    for stream in streams:
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and getattr(stream, "errors", "") == "strict":
            reconfigure(errors="replace" if not _is_unicode(stream) else "backslashreplace")


def _is_unicode(stream: TextIO) -> bool:
    return (stream.encoding or "").lower().replace("-", "").startswith("utf")


def forget_output() -> None:
    """Gives up standard output whose reader has gone, so that the flush at the end does not fail either."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, *_saved_output):
        with suppress(OSError, ValueError, UnsupportedOperation):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
