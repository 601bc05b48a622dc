"""The text of an objective, `accuracy * (latency/5ms)^-0.07, memory <= 2GiB`, read into its terms.

    objective   = goal { ";" goal } [ "," [ "subject" "to" ] limit { "," limit } ]
    goal        = [ "max" | "min" ] product { summand }
    product     = a metric and any number of factors, in any order, with "*" between them
    factor      = cost "^" exponents | "(" cost "/" quantity ")" "^" exponents
    exponents   = number | "(" number ["under"] "," number ["over"] ")"
    summand     = ( "-" | "+" ) [ number "*" ] "|" cost "/" quantity "-" "1" "|"
    limit       = metric ( "<=" | ">=" ) quantity

A metric or a cost is a name, or an alias that `nas.metrics` has for it. A quantity has its unit behind it,
`300M`, `5ms`, `2GiB`; without one it is in the metric's own. A thousand may be written 1,000.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from nas.errors import NasError, ObjectiveError
from nas.metrics import ACCURACY, METRICS, WORD, Direction, Goal, metric_info, metric_name
from nas.objective_terms import AbsoluteTerm, Constraint, CostTerm, LowerLimit

EXAMPLE = "accuracy * (macs / 300M)^-0.07, memory <= 2GiB"

_TOKEN = re.compile(
    rf"""\s*(?:
    (?P<number> (?: [1-9]\d{{0,2}}(?:,\d{{3}})+(?!\d) | \d+ )(?:\.\d*)?(?:[eE][+-]?\d+)?[A-Za-zµ]*
              | \.\d+(?:[eE][+-]?\d+)?[A-Za-zµ]* )
    | (?P<word> {WORD} )
    | (?P<sign> \*\* | <= | >= | == | \S ) )""",
    re.VERBOSE,
)
_PLAIN_NUMBER = re.compile(r"[\d,.]+(?:[eE][+-]?\d+)?")

_HINTS = {
    "/": "a division is written as a factor with a negative exponent, such as params^-0.05",
    "<": "a limit is written with <= behind a comma, such as: accuracy, latency <= 5ms",
    "<=": "a limit stands behind a comma, such as: accuracy, latency <= 5ms",
    ">=": "a limit stands behind a comma, such as: max f1, accuracy >= 0.7",
    "^": "only a cost has an exponent, such as params^-0.05; what is optimised counts as it is",
}
"""What to say of a token with which an objective cannot continue."""

Made = TypeVar("Made")


@dataclass(slots=True, kw_only=True)
class ObjectiveParts:
    """What stands in the text of an objective; see `nas.objective.Objective`."""

    goals: list[Goal] = field(default_factory=list)
    factors: list[CostTerm] = field(default_factory=list)
    absolutes: list[AbsoluteTerm] = field(default_factory=list)
    constraints: list[Constraint] = field(default_factory=list)
    lower_limits: list[LowerLimit] = field(default_factory=list)


def read_objective(text: str) -> ObjectiveParts:
    """Reads the text of an objective.

    Raises:
        ObjectiveError: It is none; says where it stops making sense and what was expected there.
    """
    reader = _Reader(text)
    parts = ObjectiveParts()
    while True:
        _goal(reader, parts)
        if not reader.skip(";"):
            break
    _limits(reader, parts)
    if not reader.at_end:
        raise reader.error(
            _HINTS.get(reader.next.text, "`*` and a factor, or a comma and a limit, was expected")
        )
    return parts


def _goal(reader: _Reader, parts: ObjectiveParts) -> None:
    direction = reader.direction()
    sign = -1.0 if direction == "min" else 1.0
    start, metric = _product(reader, parts, direction, sign)
    while reader.next.text in ("+", "-"):
        parts.absolutes.append(_summand(reader, sign))
    if direction is None and metric != "accuracy":
        is_ours = any(metric == info.name for info in METRICS)
        if not parts.goals and reader.next.text != ";":
            raise reader.error(
                f"accuracy, `max {metric}` or `min {metric}` was expected, as what is optimised",
                start,
            )
        if not is_ours:
            raise reader.error(f"`max` or `min` in front of {metric} was expected", start)
    parts.goals.append(
        reader.made(start, lambda: Goal(metric=metric, direction=direction or metric_info(metric).direction))
    )


def _product(
    reader: _Reader, parts: ObjectiveParts, direction: Direction | None, sign: float
) -> tuple[_Token, str]:
    """Reads what is multiplied; returns the metric that has no exponent, with its place."""
    found: tuple[_Token, str] | None = None
    while True:
        start = reader.next
        if reader.at_end and found is None and not parts.factors:
            raise reader.error(f"accuracy was expected, and what it may cost, such as: {EXAMPLE}")
        target = None
        if reader.skip("("):
            metric = reader.cost()
            reader.expect("/", "`/` and a target, such as (latency / 5ms)^-0.07, was expected")
            target = reader.quantity(metric)
            reader.expect(")", "`)` was expected")
        else:
            metric = reader.metric()
            if metric == "accuracy" and reader.next.text == "^":
                raise reader.error(_HINTS["^"])
        if target is not None or reader.next.text == "^":
            parts.factors.append(_factor(reader, start, metric, 1.0 if target is None else target, sign))
        elif found is None:
            if direction is None and metric != "accuracy":
                _check_begins(reader, start)
            found = start, metric
        else:
            raise _second_metric(reader, found, metric)
        if not reader.skip("*"):
            break
    if found is None:
        raise reader.error(f"accuracy is missing from the product, such as: {EXAMPLE}")
    return found


def _check_begins(reader: _Reader, start: _Token) -> None:
    """Checks that a product which begins with a bare cost is not a limit or a ratio."""
    if reader.next.text in ("<=", "<", ">=", ">"):
        raise reader.error("an objective begins with accuracy, such as: accuracy, latency <= 5ms")
    if reader.next.text == "/":
        raise reader.error(f"a ratio stands in brackets, such as ({start.text} / 5)^-0.07")


def _second_metric(reader: _Reader, first: tuple[_Token, str], metric: str) -> ObjectiveError:
    """What is wrong with a product of two metrics without exponents."""
    if metric == first[1]:
        return reader.error(f"{metric} stands in an objective once", reader.last)
    if reader.next.text == "/":
        return reader.error(f"a ratio stands in brackets, such as ({reader.last.text} / 5)^-0.07")
    cost, place = (first[1], first[0]) if metric == "accuracy" else (metric, reader.next)
    return reader.error(f"`^` and an exponent, such as {cost}^-0.07, was expected", place)


def _factor(reader: _Reader, start: _Token, metric: str, target: float, sign: float) -> CostTerm:
    reader.expect("^", f"`^` and an exponent, such as {metric}^-0.07, was expected")
    under, over = (sign * exponent + 0.0 for exponent in _exponents(reader))
    if sign < 0 and max(under, over) > 0:
        raise reader.error(
            f"the exponent of a cost in what is minimised is at least 0, such as {metric}^0.07", start
        )
    return reader.made(
        start, lambda: CostTerm(metric=metric, target=target, exponent_under=under, exponent_over=over)
    )


def _exponents(reader: _Reader) -> tuple[float, float]:
    if not reader.skip("("):
        exponent = reader.number()
        return exponent, exponent
    under = reader.number()
    reader.skip("under")
    reader.expect(",", "`,` and the exponent above the target, as in (0, -1), was expected")
    over = reader.number()
    reader.skip("over")
    reader.expect(")", "`)` behind two exponents, under and over the target, was expected")
    return under, over


def _summand(reader: _Reader, sign: float) -> AbsoluteTerm:
    start = reader.take()
    beta = sign * (-1.0 if start.text == "-" else 1.0)
    if sign < 0 < beta:
        raise reader.error("a distance is added to what is minimised: `+` was expected", start)
    if reader.next.is_number:
        beta *= reader.number()
        reader.expect("*", "`*` and a distance, such as - 0.1 * |macs / 300M - 1|, was expected")
    reader.expect("|", "a distance from a target, such as |macs / 300M - 1|, was expected")
    metric = reader.cost()
    reader.expect("/", f"`/` and a target, such as |{metric} / 300 - 1|, was expected")
    target = reader.quantity(metric)
    for token in ("-", "1"):
        reader.expect(token, f"`{token}`, as in |{metric} / 300 - 1|, was expected")
    reader.expect("|", "`|` was expected")
    return reader.made(start, lambda: AbsoluteTerm(metric=metric, target=target, beta=beta))


def _limits(reader: _Reader, parts: ObjectiveParts) -> None:
    if not reader.skip(","):
        return
    if reader.next.text == "subject" and reader.after.text == "to":
        reader.take()
        reader.take()
    while True:
        _limit(reader, parts)
        if not reader.skip(","):
            break


def _limit(reader: _Reader, parts: ObjectiveParts) -> None:
    start = reader.next
    metric = reader.metric()
    if reader.skip(">="):
        lower = reader.quantity(metric)
        parts.lower_limits.append(reader.made(start, lambda: LowerLimit(metric=metric, lower=lower)))
        return
    reader.expect("<=", "`<=` or `>=` and a quantity, such as latency <= 5ms, was expected")
    upper = reader.quantity(metric)
    parts.constraints.append(reader.made(start, lambda: Constraint(metric=metric, upper=upper)))


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    start: int
    kind: str = ""

    @property
    def is_word(self) -> bool:
        return self.kind == "word"

    @property
    def is_number(self) -> bool:
        return self.kind == "number"


class _Reader:
    """Reads an objective token by token, and says where it is when something does not fit."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = [
            _Token(match[str(match.lastgroup)], match.start(str(match.lastgroup)), str(match.lastgroup))
            for match in _TOKEN.finditer(text)
        ]
        self._end = _Token("", len(text))
        self._place = 0

    @property
    def last(self) -> _Token:
        """The token taken last."""
        return self._tokens[self._place - 1]

    @property
    def next(self) -> _Token:
        return self._tokens[self._place] if not self.at_end else self._end

    @property
    def after(self) -> _Token:
        """The token behind the next one."""
        return self._tokens[self._place + 1] if self._place + 1 < len(self._tokens) else self._end

    @property
    def at_end(self) -> bool:
        return self._place >= len(self._tokens)

    def take(self) -> _Token:
        """The next token; the end, which is empty, is never passed."""
        token = self.next
        self._place += not self.at_end
        return token

    def skip(self, text: str) -> bool:
        """Takes a token if it is the next."""
        is_next = self.next.text == text
        if is_next:
            self.take()
        return is_next

    def expect(self, text: str, law: str) -> None:
        if not self.skip(text):
            raise self.error(law)

    def error(self, law: str, token: _Token | None = None) -> ObjectiveError:
        token = token or self.next
        where = f"at {token.text!r}, character {token.start + 1}" if token.text else "at its end"
        return ObjectiveError(
            f"the objective {self._text.strip()!r} makes no sense {where}: {law}", field="objective"
        )

    def made(self, start: _Token, make: Callable[[], Made]) -> Made:
        """What is made of the tokens from `start` on; a law that it breaks is said with its place."""
        try:
            return make()
        except NasError as error:
            raise self.error(str(error), start) from None

    def direction(self) -> Direction | None:
        """`max` or `min`, where something to optimise follows it."""
        if self.after.is_word or self.after.text == "(":
            for direction in ("max", "min"):
                if self.skip(direction):
                    return direction
        return None

    def metric(self) -> str:
        token = self.next
        if not token.is_word:
            raise self.error(
                "the name of a metric, such as accuracy, macs, params, latency or memory, was expected"
            )
        name = self.made(token, lambda: metric_name(token.text))
        self.take()
        return name

    def cost(self) -> str:
        if self.next.text == ACCURACY.metric:
            raise self.error("a cost was expected, and accuracy is what it costs for")
        return self.metric()

    def number(self) -> float:
        """A number without a unit, perhaps with a sign."""
        sign = -1.0 if self.next.text == "-" else 1.0
        if self.next.text in ("-", "+"):
            self.take()
        token = self.next
        if not token.is_number or not _PLAIN_NUMBER.fullmatch(token.text):
            raise self.error("a number was expected, such as 0.07")
        self.take()
        return sign * float(token.text.replace(",", ""))

    def quantity(self, metric: str) -> float:
        """A number above 0 with the metric's unit, which may stand apart."""
        token, unit = self.next, metric_info(metric).unit
        if not token.is_number:
            raise self.error(f"a quantity of {metric} was expected, such as {unit.example}")
        text = self.take().text.replace(",", "")
        if _PLAIN_NUMBER.fullmatch(text) and self.next.is_word:
            text += self.take().text
        return self.made(token, lambda: unit.read(text))
