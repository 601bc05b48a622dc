"""Which classes are taken for which: a heat map, and the most frequent mistakes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nas.report.page.charting import Layout, Trace, axis, share_map
from nas.report.page.escaping import visible
from nas.report.page.parts import Chart
from nas.report.printing import Column, Table, show_count, show_share

MOST_CLASSES = 40
"""Classes that are drawn: with more, those with the most mistakes."""

MOST_PAIRS = 12

NAME_LETTERS, FEW_CLASSES = 18, 12
"""Letters of a class beside an axis; classes with which cells have room for numbers, columns for names."""

Counts = npt.NDArray[np.float64]


def chosen_classes(confusion: Counts) -> list[int]:
    """The classes that are drawn, in their own order: all that occur, or those with the most mistakes."""
    wrong = confusion.sum(0) + confusion.sum(1) - 2 * confusion.diagonal()
    met = np.flatnonzero(confusion.sum(0) + confusion.sum(1))
    return sorted(int(one) for one in met[np.argsort(-wrong[met], kind="stable")[:MOST_CLASSES]])


def matrix(confusion: Counts, names: Sequence[str], key: str) -> Chart:
    """Who is taken for whom, as shares of each true class.

    Args:
        confusion: Images by true class (rows) and prediction (columns).
        names: Of the classes.
        key: Of the chart.
    """
    chosen = chosen_classes(confusion)
    few = len(chosen) <= FEW_CLASSES
    notes = ["The stronger the colour, the larger the share; on the diagonal predictions are right."]
    if len(chosen) < len(names):
        notes.append(f"The {len(chosen)} of {len(names):,} classes with the most mistakes are drawn.")
    if not few:
        notes.append("Columns are in the order of the rows.")
    right = float(confusion.diagonal().sum() / max(confusion.sum(), 1))
    title = "Predictions by true class, share of each row"
    return Chart(
        key=key,
        title=title,
        figure={
            "data": _cells(confusion, chosen, names, with_numbers=few),
            "layout": _layout([short_name(names[one]) for one in chosen], with_columns=few),
        },
        alt=f"{show_share(right)} of the predictions are right. {_worst_words(confusion, names)}",
        table=_counts(confusion, chosen, names, title),
        notes=tuple(notes),
        height=min(900, 260 + 24 * len(chosen)),
    )


def _cells(
    confusion: Counts, chosen: Sequence[int], names: Sequence[str], *, with_numbers: bool
) -> list[Trace]:
    counts = confusion[np.ix_(chosen, chosen)]
    support = confusion.sum(1)[chosen]
    shares = counts / np.maximum(support, 1)[:, None]
    words = [
        [
            f"true: {names[row]}\npredicted: {names[column]}\n{int(counts[i, j]):,} of {int(support[i]):,} "
            f"({show_share(float(shares[i, j]))})"
            for j, column in enumerate(chosen)
        ]
        for i, row in enumerate(chosen)
    ]
    cells = share_map(shares.round(4).tolist(), words) | {"showscale": False}
    return [cells, _cell_numbers(counts, shares)] if with_numbers else [cells]


def _layout(names: Sequence[str], *, with_columns: bool) -> Layout:
    ticks = {"tickvals": list(range(len(names))), "ticktext": list(names), "showgrid": False, "ticks": ""}
    turn = {"tickangle": -90 if len(names) > 4 else 0, "showticklabels": with_columns}
    return {
        "showlegend": False,
        "xaxis": axis("prediction", **ticks, **turn),
        "yaxis": axis("true class", **ticks, autorange="reversed"),
    }


def _counts(confusion: Counts, chosen: Sequence[int], names: Sequence[str], title: str) -> Table:
    columns = [
        Column(key=f"class{one}", heading=short_name(names[one]), show=show_count, is_number=True)
        for one in chosen
    ]
    rows = tuple(
        {"true": names[row], **{f"class{one}": int(confusion[row, one]) for one in chosen}} for row in chosen
    )
    first = Column(key="true", heading="true class")
    return Table(key="confusion", title=title, columns=(first, *columns), rows=rows)


def _cell_numbers(counts: Counts, shares: Counts) -> Trace:
    """The share in per cent, in each cell that has images."""
    cells = [(int(i), int(j)) for i, j in zip(*np.nonzero(counts), strict=True)]
    return {
        "type": "scatter",
        "mode": "text",
        "x": [j for _, j in cells],
        "y": [i for i, _ in cells],
        "text": ["<1" if shares[i, j] < 0.005 else f"{100 * shares[i, j]:.0f}" for i, j in cells],
        "textfont": {
            "size": 11,
            "color": ["palette:card" if shares[i, j] > 0.55 else "palette:ink" for i, j in cells],
        },
        "hoverinfo": "skip",
    }


def short_name(name: str) -> str:
    """A name that fits beside an axis."""
    seen = visible(name)
    return seen if len(seen) <= NAME_LETTERS else f"{seen[: NAME_LETTERS - 1]}…"


def _confusions(confusion: Counts) -> list[tuple[int, int, int]]:
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [(int(one) // len(wrong), int(one) % len(wrong)) for one in order]
    return [(row, column, int(wrong[row, column])) for row, column in pairs if wrong[row, column]]


def _worst_words(confusion: Counts, names: Sequence[str]) -> str:
    worst = _confusions(confusion)[:1]
    if not worst:
        return "No image is taken for another class."
    ((row, column, count),) = worst
    return f"The most frequent mistake is {names[row]} taken for {names[column]}, {count:,} times."


def pairs(confusion: Counts, names: Sequence[str]) -> Table:
    """The classes that are taken for another most often."""
    support = confusion.sum(1)
    rows = [
        {"true": names[row], "prediction": names[column], "count": count, "share": count / support[row]}
        for row, column, count in _confusions(confusion)
    ]
    columns = (
        Column(key="true", heading="true class"),
        Column(key="prediction", heading="taken for"),
        Column(key="count", heading="images", show=show_count, is_number=True),
        Column(key="share", heading="of the class", show=show_share, is_number=True),
    )
    return Table(key="confused", title="Confused most", columns=columns, rows=tuple(rows))
