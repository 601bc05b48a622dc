"""How far studies are apart, with intervals where several seeds or a comparison allow one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from nas.evaluation.comparison import Comparison
from nas.metrics import metric_info, show_difference
from nas.report.page.parts import Absent, Section
from nas.report.page.studies import Group
from nas.report.page.studies_best import curve_of
from nas.report.printing import Column, Row, Table
from nas.statistics import t_quantile


def differences_of_studies(groups: Sequence[Group]) -> Section | Absent:
    """How far studies are apart, with intervals where replicates or comparisons allow it."""
    key, title = "differences", "Differences"
    rows: list[Row] = []
    for found in groups:
        rows += _by_seeds(found)
        rows += _by_test(found)
    if not rows:
        return Absent(
            key=key,
            title=title,
            reason="an interval needs two comparable studies of several seeds each, or two winners that were "
            "compared alike on the test split; one search each says nothing of chance",
        )
    apart = sum(row["low"] > 0 or row["high"] < 0 for row in rows)
    table = Table(
        key="differences",
        title="Differences with 95 % intervals",
        columns=(
            Column(key="first", heading="first"),
            Column(key="second", heading="second"),
            Column(key="what", heading="what"),
            Column(key="shown", heading="first minus second", is_number=True),
            Column(key="interval", heading="95 % interval", is_number=True),
            Column(key="verdict", heading="verdict"),
        ),
        rows=tuple(rows),
        notes=(
            "Seeds: Welch's interval of the mean best reward at the same number of trained candidates, of "
            "whole searches. Test: winners trained anew and tested alike, by the pooled spread between seeds "
            "of training; it says which of the two networks is better, not which search.",
            "Intervals are of one difference each: of twenty such, one is wrong by chance.",
        ),
    )
    lead = f"{apart or 'None'} of {len(rows)} differences {'are' if apart > 1 else 'is'} more than chance."
    if len(rows) == 1:
        lead = f"The one difference with an interval is {'' if apart else 'no '}more than chance explains."
    return Section(key=key, title=title, lead=lead, blocks=(table,))


def _difference(first: str, second: str, what: str, value: float, half: float, metric: str | None) -> Row:
    low, high = value - half, value + half
    shown = [f"{n:+.4f}" if metric is None else show_difference(metric, n) for n in (value, low, high)]
    verdict = "not distinguishable" if low <= 0 <= high else "larger" if value > 0 else "smaller"
    return {
        "first": first,
        "second": second,
        "what": what,
        "value": value,
        "low": low,
        "high": high,
        "shown": shown[0],
        "interval": f"{shown[1]} to {shown[2]}",
        "verdict": verdict,
    }


def _by_seeds(found: Group) -> Iterator[Row]:
    """Mean best rewards of setups with several seeds, at the number of trials that all have."""
    curves = [(setup, [c for one in setup.studies if (c := curve_of(one))]) for setup in found.setups]
    several = [(setup, each) for setup, each in curves if len(each) > 1]
    for place, (first, ours) in enumerate(several):
        for second, theirs in several[place + 1 :]:
            count = int(min(curve.trials[-1] for curve in (*ours, *theirs)))
            a, b = ([float(curve.best[count - 1]) for curve in each] for each in (ours, theirs))
            half = welch(a, b)
            if half is not None and all(map(math.isfinite, (*a, *b))):
                what = f"best reward after {count} candidates, {len(a)} and {len(b)} seeds"
                value = statistics.fmean(a) - statistics.fmean(b)
                yield _difference(first.name, second.name, what, value, half, None)


def welch(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Half-width of the 95 % interval of a difference of means; None where no values differ.

    Source: Welch, Biometrika 34, 1947; its degrees of freedom are rounded down.
    """
    parts = [statistics.variance(values) / len(values) for values in (a, b)]
    total = sum(parts)
    if total <= 0:
        return None
    spread = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (a, b), strict=True))
    return t_quantile(max(1, int(total**2 / spread))) * math.sqrt(total)


def _by_test(found: Group) -> Iterator[Row]:
    """Winners that were trained anew and tested alike."""
    tested = [one for one in found.studies if one.comparison is not None and one.comparison.winner.values]
    for place, first in enumerate(tested):
        for second in tested[place + 1 :]:
            ours, theirs = first.comparison, second.comparison
            assert ours is not None
            assert theirs is not None
            if (ours.evaluator, ours.metric) != (theirs.evaluator, theirs.metric):
                continue
            half = _pooled(ours, theirs)
            if half is not None and ours.winner.mean is not None and theirs.winner.mean is not None:
                what = f"{metric_info(ours.metric).label} of the winners, test split"
                value = ours.winner.mean - theirs.winner.mean
                yield _difference(first.name, second.name, what, value, half, ours.metric)


def _pooled(ours: Comparison, theirs: Comparison) -> float | None:
    """Half-width of the interval of the difference of two winners, by the spread in both comparisons."""
    known = [(one.seed_deviation, one.seed_freedom) for one in (ours, theirs)]
    freedom = sum(count for _, count in known)
    if not freedom:
        return None
    squares = sum(count * (deviation or 0.0) ** 2 for deviation, count in known)
    scale = 1 / len(ours.winner.values) + 1 / len(theirs.winner.values)
    return t_quantile(freedom) * math.sqrt(squares / freedom * scale)
