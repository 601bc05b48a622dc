"""The text of an objective, `accuracy * (latency/5ms)^-0.07, memory <= 2GiB`, read into its terms.

    objective   = goal { ";" goal } [ "," [ "subject" "to" ] limit { "," limit } ]
    goal        = [ "max" | "min" ] product { summand }
    product     = a metric and any number of factors, in any order, with "*" between them
    factor      = cost "^" exponents | "(" cost "/" quantity ")" "^" exponents
    exponents   = number | "(" number ["under"] "," number ["over"] ")"
    summand     = ( "-" | "+" ) [ number "*" ] "|" cost "/" quantity "-" "1" "|"
    limit       = metric ( "<=" | ">=" ) quantity

A metric or a cost is a name, or an alias that `nas.metrics` has for it. Without `max` or `min` a goal is
maximised, if terms are beside it or the registry says that more is better. A quantity has its unit behind it,
`300M`, `5ms`, `2GiB`; without one it is in the metric's own. A thousand may be written 1,000.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from nas.errors import NasError, ObjectiveError
from nas.metrics import REGISTRY, WORD, Direction, Goal, direction_of, metric_info, metric_name
from nas.objective.terms import AbsoluteTerm, Constraint, CostTerm

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

_OR_MIN = ": write `min` before a goal that is minimised"
_ONE_GOAL = "maximise one and limit the other, such as {}, {} >= 0.5"
_LIMIT = "a limit is written with <= or >= behind a comma, such as: accuracy, latency <= 5ms"
_HINTS = {
    "/": "a ratio is a factor in brackets, such as (latency / 5ms)^-0.07 or params^-0.05",
    "^": "only a cost has an exponent, such as params^-0.05; the goal has none",
    "**": "an exponent is written with ^, such as params^-0.05",
    **dict.fromkeys(("<", "<=", ">", ">="), _LIMIT),
}
"""What to say of a token with which an objective cannot continue."""

Made = TypeVar("Made")


class _Token(NamedTuple):
    text: str
    start: int
    kind: str


class ObjectiveReader:
    """Reads the text of an objective by recursive descent; `read` fills its lists of terms.

    Args:
        text: The text.

    Attributes:
        goals: As in `nas.objective.Objective`, and so are the others.
    """

    def __init__(self, text: str) -> None:
        self.goals: list[Goal] = []
        self.factors: list[CostTerm] = []
        self.absolutes: list[AbsoluteTerm] = []
        self.constraints: list[Constraint] = []
        self._text = text
        kinds = ((match, str(match.lastgroup)) for match in _TOKEN.finditer(text))
        self._tokens = [_Token(match[kind], match.start(kind), kind) for match, kind in kinds]
        self._tokens += [_Token("", len(text), "end")] * 2
        self._place = 0

    def read(self) -> None:
        """Reads the objective.

        Raises:
            ObjectiveError: It is none; says where it stops making sense and what was expected there.
        """
        self._goal()
        while self._skip(";"):
            self._goal()
        if self._skip(","):
            if (self._next.text, self._after.text) == ("subject", "to"):
                self._place += 2
            self._limit()
            while self._skip(","):
                self._limit()
        if self._next.kind != "end":
            raise self._unexpected("`*` and a factor, or a comma and a limit, was expected")

    def _goal(self) -> None:
        direction = self._direction()
        start, sign = self._next, -1.0 if direction == "min" else 1.0
        metric = self._product(sign)
        while self._next.text in ("+", "-"):
            self._summand(sign)
        self.goals.append(Goal(metric=metric, direction=direction or self._implied(metric, start)))

    def _implied(self, metric: str, start: _Token) -> Direction:
        """The direction of a goal that has no word for it: terms are those of what is maximised."""
        usual, has_terms = direction_of(metric), bool(self.factors or self.absolutes)
        is_front = self.goals or self._next.text == ";"
        if usual == "max" or (usual is None and has_terms):
            return "max"
        if usual == "min" and is_front and metric in REGISTRY:
            return usual
        if self._next.text in _HINTS:
            raise self._unexpected("")
        law = f"`max {metric}` or `min {metric}` was expected"
        if has_terms:
            law = f"{metric} is minimised: {law}; costs multiply as in min {metric} * macs^0.07, or are added"
        raise self._error(law, start)

    def _direction(self) -> Direction | None:
        """`max` or `min`, where something to optimise follows it."""
        if self._after.kind == "word" or self._after.text == "(":
            for direction in ("max", "min"):
                if self._skip(direction):
                    return direction
        return None

    def _product(self, sign: float) -> str:
        """Reads what is multiplied; returns the metric that has no exponent."""
        found = ""
        while True:
            start, target = self._next, None
            if self._skip("("):
                metric = self._cost()
                target = self._target(metric)
                self._expect(")", "`)` was expected")
            else:
                metric = self._metric()
            if target is not None or (self._next.text == "^" and direction_of(metric) != "max"):
                self._factor(start, metric, target or 1.0, sign)
            elif not found:
                found = metric
            elif metric == found:
                raise self._error(f"{metric} must occur once in an objective", start)
            else:
                raise self._second(found, metric)
            if not self._skip("*"):
                break
        if not found:
            raise self._unexpected(f"a metric without an exponent is missing, such as: {EXAMPLE}")
        return found

    def _second(self, first: str, second: str) -> ObjectiveError:
        """The error for two metrics without an exponent that multiply."""
        both = (second, first)
        costs = [metric for metric in both if direction_of(metric) == "min"]
        unknown = [metric for metric in both if direction_of(metric) is None]
        if costs:
            return self._unexpected(f"`^` and an exponent, such as {costs[0]}^-0.07, was expected")
        law = f"two metrics cannot multiply: {_ONE_GOAL.format(first, second)}"
        cost = (
            f"; if {unknown[0]} is a cost, give it an exponent, such as {unknown[0]}^-0.07" if unknown else ""
        )
        return self._unexpected(law + cost)

    def _factor(self, start: _Token, metric: str, target: float, sign: float) -> None:
        if direction_of(metric) == "max":
            raise self._error(f"only a cost is a factor with an exponent, but more {metric} is better", start)
        self._expect("^", f"`^` and an exponent, such as {metric}^-0.07, was expected")
        is_pair = self._skip("(")
        under = over = self._number()
        if is_pair:
            self._skip("under")
            self._expect(",", "`,` and the exponent above the target, as in (0, -1), was expected")
            over = self._number()
            self._skip("over")
            self._expect(")", "`)` behind two exponents, under and over the target, was expected")
        if sign < 0 and min(under, over) < 0:
            raise self._error(
                f"a cost in a minimised goal has an exponent of at least 0, such as {metric}^0.07", start
            )
        if sign > 0 and max(under, over) > 0:
            name = "exponent_under" if under > 0 else "exponent_over"
            raise self._error(
                f"`{name} <= 0` must hold in a maximised goal, as what has an exponent is a cost{_OR_MIN}",
                start,
            )
        under, over = sign * under + 0.0, sign * over + 0.0
        self.factors.append(
            self._made(
                start,
                lambda: CostTerm(metric=metric, target=target, exponent_under=under, exponent_over=over),
            )
        )

    def _summand(self, sign: float) -> None:
        start = self._take()
        beta = sign if start.text == "+" else -sign
        is_times = self._next.kind == "number" and self._after.text == "*"
        if (self._ahead(2) if is_times else self._next).kind == "word":
            raise self._error(
                "only a distance from a target is added or taken away, such as - 0.1 * |macs / 300M - 1|, "
                f"and no metric: {_ONE_GOAL.format('max accuracy', 'macro_f1')}",
                start,
            )
        if sign < 0 < beta:
            raise self._error("a distance is added to a minimised goal: `+` was expected", start)
        if sign > 0 and beta > 0:
            raise self._error(f"`beta < 0` must hold for a distance in a maximised goal{_OR_MIN}", start)
        if self._next.kind == "number":
            beta *= self._number()
            self._expect("*", "`*` and a distance, such as - 0.1 * |macs / 300M - 1|, was expected")
        self._expect("|", "a distance from a target, such as |macs / 300M - 1|, was expected")
        metric = self._cost()
        target = self._target(metric)
        for token in ("-", "1", "|"):
            self._expect(token, f"`{token}`, as in |{metric} / 300 - 1|, was expected")
        self.absolutes.append(
            self._made(start, lambda: AbsoluteTerm(metric=metric, target=target, beta=beta))
        )

    def _limit(self) -> None:
        start = self._next
        metric = self._metric()
        bound = "lower" if self._skip(">=") else "upper"
        if bound == "upper":
            self._expect("<=", "`<=` or `>=` and a quantity, such as latency <= 5ms, was expected")
        limit = {bound: self._quantity(metric)}
        self.constraints.append(self._made(start, lambda: Constraint(metric=metric, **limit)))

    def _metric(self) -> str:
        token = self._next
        if token.kind != "word":
            raise self._unexpected(
                "the name of a metric, such as accuracy, macs, params, latency or memory, was expected"
            )
        name = self._made(token, lambda: metric_name(token.text))
        self._take()
        return name

    def _cost(self) -> str:
        if self._next.text == "accuracy":
            raise self._error("a cost was expected, but accuracy is not a cost")
        return self._metric()

    def _target(self, metric: str) -> float:
        self._expect("/", f"`/` and a target, such as {metric} / 300, was expected")
        return self._quantity(metric)

    def _number(self) -> float:
        """A number without a unit, perhaps with a sign."""
        sign = -1.0 if self._next.text == "-" else 1.0
        if self._next.text in ("-", "+"):
            self._take()
        if self._next.kind != "number" or not _PLAIN_NUMBER.fullmatch(self._next.text):
            raise self._error("a number was expected, such as 0.07")
        return sign * float(self._take().text.replace(",", ""))

    def _quantity(self, metric: str) -> float:
        """A number above 0 with the metric's unit, which may stand apart."""
        token, unit = self._next, metric_info(metric).unit
        if token.kind != "number":
            raise self._error(f"a quantity of {metric} was expected, such as {unit.example}")
        text = self._take().text.replace(",", "")
        if _PLAIN_NUMBER.fullmatch(text) and self._next.kind == "word":
            text += self._take().text
        return self._made(token, lambda: unit.read(text))

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    @property
    def _after(self) -> _Token:
        return self._ahead(1)

    def _ahead(self, count: int) -> _Token:
        return self._tokens[min(self._place + count, len(self._tokens) - 1)]

    def _take(self) -> _Token:
        token = self._next
        self._place += token.kind != "end"
        return token

    def _skip(self, text: str) -> bool:
        """Takes a token if it is the next."""
        is_next = self._next.text == text
        self._place += is_next
        return is_next

    def _expect(self, text: str, law: str) -> None:
        if not self._skip(text):
            raise self._error(law)

    def _unexpected(self, law: str) -> ObjectiveError:
        """An error at an unexpected token: a hint, or else what was expected."""
        return self._error(_HINTS.get(self._next.text, law))

    def _error(self, law: str, token: _Token | None = None) -> ObjectiveError:
        token = token or self._next
        where = f"at {token.text!r}, character {token.start + 1}" if token.text else "at its end"
        return ObjectiveError(
            f"the objective {self._text.strip()!r} cannot be read {where}: {law}", field="objective"
        )

    def _made(self, start: _Token, make: Callable[[], Made]) -> Made:
        """Makes a value from the tokens from `start` on; an error shows their place."""
        try:
            return make()
        except NasError as error:
            raise self._error(str(error), start) from None
