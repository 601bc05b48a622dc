"""Makes whatever a study says harmless on a page: as HTML, as JSON inside HTML, as text of a chart."""

from __future__ import annotations

import html
import json
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from nas.report.printing import plain

_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
"""Characters that change the direction of what follows them, and are not seen themselves."""

_ISOLATE, _END_ISOLATE = "\u2068", "\u2069"
_RIGHT_TO_LEFT = frozenset(("R", "AL", "AN"))
_AS_PLOTLY_READS = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": "<br>"})
_IN_SCRIPT = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def visible(text: object, *, keep: str = "") -> str:
    r"""The text with each character that is not seen, or reorders its neighbours, as its number: `\x1b`.

    Args:
        text: The text.
        keep: Such characters that stay as they are.
    """
    words = str(text)
    if words.isprintable():  # then there is no such character, and most text is so
        return words
    return "".join(letter if letter in keep or _is_seen(letter) else _number(letter) for letter in words)


def _is_seen(letter: str) -> bool:
    if letter in _REORDERING:
        return False
    return unicodedata.category(letter) not in ("Cc", "Cs", "Co", "Cn", "Zl", "Zp")


def _number(letter: str) -> str:
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def attribute(text: object) -> str:
    """Text for between the quotes of an attribute."""
    return html.escape(visible(text), quote=True)


def content(text: object, *, keep: str = "") -> str:
    """Text for between two tags; what runs from right to left is set apart from its surroundings."""
    safe = html.escape(visible(text, keep=keep), quote=True)
    return f"<bdi>{safe}</bdi>" if _runs_leftwards(safe) else safe


def _runs_leftwards(text: str) -> bool:
    return not text.isascii() and any(unicodedata.bidirectional(letter) in _RIGHT_TO_LEFT for letter in text)


def chart_text(text: str) -> str:
    """Text for a figure: plotly reads a part of HTML in it, which is shown as it is written instead.

    Source: plotly.js, svg_text_utils.js: tags of a short list, and entities by name.
    """
    safe = visible(text, keep="\n")
    safe = f"{_ISOLATE}{safe}{_END_ISOLATE}" if _runs_leftwards(safe) else safe
    return safe.translate(_AS_PLOTLY_READS)


def harmless_figure(figure: object) -> Any:
    """A figure in which every string, names of fields apart, is text and nothing else."""
    return _each_text(figure, chart_text)


def visible_data(data: object) -> Any:
    """Data in which every string, names of fields apart, is `visible`."""
    return _each_text(data, visible)


def _each_text(data: object, change: Callable[[str], str]) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _each_text(value, change) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_each_text(value, change) for value in data]
    return change(data) if isinstance(data, str) else data


def script_json(data: object) -> str:
    """Data as JSON that can stand inside a `script` element; numbers that JSON has no word for are null."""
    text = json.dumps(plain(data), ensure_ascii=False, separators=(",", ":"))
    return text.translate(_IN_SCRIPT).encode("utf-8", "backslashreplace").decode("utf-8")
