"""Makes text of the system's, such as a file's name, that can be stored as UTF-8."""

from __future__ import annotations


def storable(text: str) -> str:
    """The text with the bytes that Python could not read as characters read as UTF-8, or shown as a sign.

    A name that is not UTF-8 has such bytes, and every name with an accent where the locale is ASCII.
    """
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # surrogates that stand for no byte
        return text.encode("utf-8", "replace").decode("utf-8")
