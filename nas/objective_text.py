"""The arithmetic in which people write an objective: `accuracy * (latency/5ms)^-0.07, memory <= 2GiB`.

    objective   = product { summand } [ ( "," | "subject to" ) limit { ( "," | "and" ) limit } ]
    product     = "accuracy" and any number of factors, in any order, with "*" between them
    factor      = cost "^" exponents | "(" cost "/" quantity ")" "^" exponents
    exponents   = number | "(" number ["under"] "," number ["over"] ")"
    summand     = ( "+" | "-" ) [ number "*" ] "|" cost "/" quantity "-" "1" "|"
    limit       = cost "<=" quantity

A cost is the name of a metric, or short for one of ours (`SHORT_NAMES`). A quantity has its unit behind it:
`300M`, `5ms`, `2GiB`; without one it is in the metric's own. `×` and `x` stand for `*` too, `**` for `^`,
`abs(...)` for `|...|`, and `300,000` is one number.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar

from nas.errors import NasError, ObjectiveError
from nas.objective import (
    KNOWN_METRICS,
    MEASURED_METRICS,
    AbsoluteTerm,
    Constraint,
    CostTerm,
    Objective,
)
from nas.units import parse_bytes, parse_count, parse_milliseconds

SHORT_NAMES = {
    "latency": "latency_ms",
    "predicted_latency": "predicted_latency_ms",
    "memory": "peak_memory_bytes",
    "peak_memory": "peak_memory_bytes",
    "step_time": "train_step_ms",
}
"""What people may write for a metric of ours."""

EXAMPLE = "accuracy * (macs / 300M)^-0.07, memory <= 2GiB"

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number> (?: [1-9]\d{0,2}(?:,\d{3})+(?!\d) | \d[\d_]* )(?:\.\d*)?(?:[eE][+-]?\d+)?[A-Za-zµ]*
              | \.\d+(?:[eE][+-]?\d+)?[A-Za-zµ]* )
    | (?P<word> [^\W\d]\w* )
    | (?P<sign> \*\* | <= | >= | == | [-+*/^(),|<>=\u00d7\u00b7\u00f7\u2212\u2264] )
    | (?P<other> \S ) )""",
    re.VERBOSE,
)
_SPELLINGS = {"**": "^", "×": "*", "·": "*", "−": "-", "≤": "<=", "÷": "/"}  # noqa: RUF001  # what people paste
_NUMBER = re.compile(r"[\d_,.]+(?:[eE][+-]?\d+)?")

Made = TypeVar("Made")


def metric_name(word: str) -> str:
    """The metric that a word names: one of ours, also by its short name, or a user's own.

    Raises:
        ObjectiveError: It nearly names one of ours, but not quite.
    """
    name = SHORT_NAMES.get(word, word)
    ours = KNOWN_METRICS + MEASURED_METRICS
    near = [] if name in ours else get_close_matches(word, [*SHORT_NAMES, *ours, "accuracy"], 1, 0.85)
    if near and word != "accuracy":
        raise ObjectiveError(f"there is no metric {word!r}: did you mean {near[0]!r}?")
    return name


def parse_objective(text: str) -> Objective:
    """Reads an objective.

    Raises:
        ObjectiveError: It is none; says where it stops making sense and what was expected there.
    """
    reader = _Reader(text)
    factors = _product(reader)
    absolutes = []
    while reader.next.text in ("+", "-"):
        absolutes.append(_summand(reader))
    constraints = _limits(reader)
    if not reader.at_end:
        raise reader.error(_hint(reader.next.text))
    return Objective(factors=tuple(factors), absolutes=tuple(absolutes), constraints=tuple(constraints))


def _hint(word: str) -> str:
    """What to say of a word with which nothing can go on."""
    hints = {
        "/": "a division is written as a factor with a negative exponent, such as params^-0.05",
        "<": "a limit is written with <= behind a comma, such as: accuracy, latency <= 5ms",
        "<=": "a limit stands behind a comma, such as: accuracy, latency <= 5ms",
        "^": "only a cost has an exponent, such as params^-0.05; accuracy counts as it is",
    }
    return hints.get(word, "`*` and a factor, or a comma and a limit, was expected")


def _product(reader: _Reader) -> list[CostTerm]:
    factors: list[CostTerm] = []
    has_accuracy = False
    if reader.at_end:
        raise reader.error(f"accuracy was expected, and what it may cost, such as: {EXAMPLE}")
    while True:
        if reader.next.text == "accuracy":
            if has_accuracy:
                raise reader.error("accuracy stands in an objective once")
            has_accuracy = True
            reader.take()
            if reader.next.text == "^":
                raise reader.error(_hint("^"))
        else:
            factors.append(_factor(reader))
        if reader.next.text not in ("*", "x"):
            break
        reader.take()
    if not has_accuracy:
        raise reader.error(f"accuracy is missing from the product, such as: {EXAMPLE}")
    return factors


def _factor(reader: _Reader) -> CostTerm:
    start = reader.next
    target = 1.0
    if start.text == "(":
        reader.take()
        metric = reader.metric()
        reader.expect("/", "`/` and a target, such as (latency / 5ms)^-0.07, was expected")
        target = reader.quantity(metric)
        reader.expect(")", "`)` was expected")
    else:
        metric = reader.metric()
        if reader.next.text == "/":
            raise reader.error(f"a ratio stands in brackets, such as ({start.text} / 5)^-0.07")
        if reader.next.text in ("<=", "<"):
            raise reader.error("an objective begins with accuracy, such as: accuracy, latency <= 5ms")
    reader.expect("^", f"`^` and an exponent, such as {metric}^-0.07, was expected")
    under, over = _exponents(reader)
    return reader.made(
        start,
        lambda: CostTerm(metric=metric, target=target, exponent_under=under, exponent_over=over),
    )


def _exponents(reader: _Reader) -> tuple[float, float]:
    if reader.next.text != "(":
        exponent = reader.number()
        return exponent, exponent
    reader.take()
    under = over = reader.number()
    reader.skip("under")
    if reader.next.text == ",":
        reader.take()
        over = reader.number()
        reader.skip("over")
    reader.expect(")", "`)` behind one exponent, or two with a comma (under, over), was expected")
    return under, over


def _summand(reader: _Reader) -> AbsoluteTerm:
    start = reader.next
    beta = -1.0 if reader.take().text == "-" else 1.0
    if reader.next.text not in ("|", "abs"):
        beta *= reader.number()
        if reader.next.text not in ("*", "x"):
            raise reader.error("`*` and a distance, such as - 0.1 * |macs / 300M - 1|, was expected")
        reader.take()
    if reader.skip("abs"):
        reader.expect("(", "`(` was expected")
        closing = ")"
    else:
        reader.expect("|", "a distance from a target, such as |macs / 300M - 1|, was expected")
        closing = "|"
    metric = reader.metric()
    reader.expect("/", f"`/` and a target, such as |{metric} / 300 - 1|, was expected")
    target = reader.quantity(metric)
    reader.expect("-", f"`- 1`, as in |{metric} / 300 - 1|, was expected")
    reader.expect("1", f"`1`, as in |{metric} / 300 - 1|, was expected")
    reader.expect(closing, f"`{closing}` was expected")
    return reader.made(start, lambda: AbsoluteTerm(metric=metric, target=target, beta=beta))


def _limits(reader: _Reader) -> list[Constraint]:
    found: list[Constraint] = []
    while reader.next.text in ((",", "and") if found else (",", "subject")):
        word = reader.take().text
        if word == "," and not found and reader.next.text == "subject":
            word = reader.take().text
        if word == "subject":
            reader.expect("to", "`to`, as in: subject to latency <= 5ms, was expected")
        found.append(_limit(reader))
    return found


def _limit(reader: _Reader) -> Constraint:
    start = reader.next
    metric = reader.metric()
    law = "every limit is the most that a cost may be: `<=` and a quantity was expected"
    reader.expect("<=", law)
    upper = reader.quantity(metric)
    return reader.made(start, lambda: Constraint(metric=metric, upper=upper))


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    start: int
    is_number: bool = False
    is_word: bool = False


class _Reader:
    """Reads an objective token by token, and says where it is when something does not fit."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._place = 0

    @property
    def next(self) -> _Token:
        return self._tokens[self._place]

    @property
    def at_end(self) -> bool:
        return self._place == len(self._tokens) - 1

    def take(self) -> _Token:
        """The next token; the last, which is empty, is never passed."""
        token = self.next
        self._place += not self.at_end
        return token

    def skip(self, word: str) -> bool:
        """Passes a word if it is the next."""
        is_next = self.next.text == word
        if is_next:
            self.take()
        return is_next

    def expect(self, word: str, law: str) -> None:
        if not self.skip(word):
            raise self.error(law)

    def error(self, law: str, token: _Token | None = None) -> ObjectiveError:
        token = token or self.next
        where = f"at {token.text!r}, character {token.start + 1}" if token.text else "at its end"
        return ObjectiveError(f"the objective {self._text.strip()!r} makes no sense {where}: {law}")

    def made(self, start: _Token, make: Callable[[], Made]) -> Made:
        """What is made of the tokens from `start` on; a law it breaks is told with its place."""
        try:
            return make()
        except NasError as error:
            raise self.error(str(error), start) from None

    def metric(self) -> str:
        token = self.next
        if not token.is_word:
            raise self.error("the name of a cost, such as macs, params, latency or memory, was expected")
        if token.text == "accuracy":
            raise self.error("a cost was expected, and accuracy is what it costs for")
        name = self.made(token, lambda: metric_name(token.text))
        self.take()
        return name

    def number(self) -> float:
        """A number without a unit, perhaps with a sign."""
        sign = -1.0 if self.next.text == "-" else 1.0
        if self.next.text in ("-", "+"):
            self.take()
        token = self.next
        if not token.is_number or not _NUMBER.fullmatch(token.text):
            raise self.error("a number was expected, such as 0.07")
        self.take()
        return sign * float(token.text.replace(",", ""))

    def quantity(self, metric: str) -> float:
        """A number above 0 with the metric's unit, which may stand apart."""
        token = self.next
        if not token.is_number:
            raise self.error(f"a quantity of {metric} was expected, such as {_quantity_example(metric)}")
        text = self.take().text.replace(",", "")
        if _NUMBER.fullmatch(text) and self.next.is_word and self.next.text not in ("and", "x"):
            text += self.take().text
        return self.made(token, lambda: _quantity(metric, text))


def _tokens(text: str) -> list[_Token]:
    found = []
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        word = _SPELLINGS.get(match[kind], match[kind])
        found.append(_Token(word, match.start(kind), is_number=kind == "number", is_word=kind == "word"))
    return [*found, _Token("", len(text))]


def _quantity(metric: str, text: str) -> float:
    """Reads a quantity in the unit that the metric's name says."""
    if metric.endswith("_ms"):
        return parse_milliseconds(text)
    if metric.endswith("_bytes"):
        return parse_bytes(text)
    if metric.endswith("_seconds"):
        return parse_milliseconds(text) / (1.0 if _NUMBER.fullmatch(text) else 1e3)
    return parse_count(text)


def _quantity_example(metric: str) -> str:
    endings = {"_ms": "5ms", "_bytes": "2GiB", "_seconds": "30s"}
    return next((example for ending, example in endings.items() if metric.endswith(ending)), "300M")
