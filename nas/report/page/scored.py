"""Scores on labelled images: each class, who is taken for whom, calibration, the largest mistakes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nas.report.page.attached import Attached, Scores, blocks_of
from nas.report.page.charting import axis, bars, line, rows_axis
from nas.report.page.confusion import MOST_CLASSES, matrix, pairs, short_name
from nas.report.page.escaping import visible
from nas.report.page.parts import BLUE, VERMILION, Absent, Block, Chart, Section, Words
from nas.report.page.training_files import Values, number
from nas.report.printing import Column, Fact, Report, Table, show_accuracy, show_count, show_share
from nas.report.scores_report_classes import SHARES
from nas.report.scores_report_labels import COLUMNS as OF_LABELS
from nas.report.scores_report_numbers import COLUMNS as OF_NUMBERS
from nas.units import show_interval, show_value

KEY, TITLE = "scores", "Scores by class"

SAID = {
    "accuracy": "accuracy",
    "majority_share": "share of the largest class",
    "top5": "top-5 accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auroc": "AUROC",
    "calibration_error": "calibration error",
    "mean_average_precision": "mean AP",
    "label_frequency": "mean AP of a random order",
    "micro_f1": "micro F1",
    "exact_match": "images with all labels right",
    "hamming_loss": "share of labels that is wrong",
}
"""Fractions that an evaluation may have, by key."""


def scored(found: Attached) -> Section | Absent:
    """The evaluations that were given, and those in the folders that were."""
    if not found.scores:
        return Absent(
            key=KEY,
            title=TITLE,
            reason="there is no evaluation: nas evaluate TRAINING --data ... --json > TRAINING/scores.json "
            "writes one, and nas report STUDY TRAINING shows it",
        )
    blocks = blocks_of(found.scores, _of_one, "the scores of nas evaluate --json")
    return Section(key=KEY, title=TITLE, lead=_lead(found.scores), blocks=tuple(blocks))


def _lead(scores: Sequence[Scores]) -> str:
    first = scores[0].values
    known = [
        name for name in ("accuracy", "mean_average_precision", "r2") if number(first.get(name)) is not None
    ]
    if not known:
        return f"{len(scores)} evaluations on labelled images."
    value, interval = float(first[known[0]]), first.get(f"{known[0]}_interval")
    within = "" if not interval else f" (95 % interval {show_interval((interval[0], interval[1]))})"
    label = SAID.get(known[0], "R2")
    more = f" {len(scores) - 1} more evaluations follow." if len(scores) > 1 else ""
    return (
        f"On {int(first['images']):,} images of the {first['split']} split the network has {label} "
        f"{show_accuracy(value)}{within}.{more}"
    )


def _of_one(one: Scores, place: int) -> Iterator[Block]:
    values = one.values
    title = f"{Path(str(values['bundle'])).name or 'bundle'} on {values.get('data', '')}"
    yield Report(title=f"{title}, {values['split']} split", facts=tuple(_facts(values)))
    notes = tuple(map(str, values.get("warnings") or ()))
    if notes:
        yield Words(lines=notes, is_warning=True)
    if values.get("confusion"):
        yield from _classes(values, place)
    elif values.get("per_label"):
        yield _bars(values["per_label"], "label", "average_precision", "average precision", OF_LABELS, place)
    elif values.get("per_column"):
        yield _table("per_column", "Columns, in their own unit", OF_NUMBERS, values["per_column"])
    if values.get("reliability"):
        yield _calibration(values, place)
    yield from _mistakes(values)


def _facts(values: Values) -> Iterator[Fact]:
    yield Fact(key="images", label="images", value=values["images"], text=f"{int(values['images']):,}")
    for name, label in SAID.items():
        value = number(values.get(name))
        if value is not None:
            interval = values.get(f"{name}_interval")
            within = "" if not interval else f", 95 % interval {show_interval((interval[0], interval[1]))}"
            yield Fact(key=name, label=label, value=value, text=f"{show_accuracy(value)}{within}")
    for name in ("r2", "rmse", "mae"):
        value = number(values.get(name))
        if value is not None:
            yield Fact(key=name, label=name.upper(), value=value, text=show_value(value))
    if values.get("runtime"):
        yield Fact(key="runtime", label="run by", value=values["runtime"])


def _classes(values: Values, place: int) -> Iterator[Block]:
    confusion = np.array(values["confusion"], dtype=np.float64)
    names = [visible(name) for name in values["classes"]]
    if confusion.shape != (len(names), len(names)):
        raise ValueError(f"the matrix is of shape {confusion.shape}, but there are {len(names)} classes")
    yield matrix(confusion, names, f"{KEY}-{place}-matrix")
    yield pairs(confusion, names)
    columns = (Column(key="class", heading="class"), *SHARES)
    yield _bars(values["per_class"], "class", "f1", "F1", columns, place)


def _bars(
    rows: Sequence[Values], key: str, score: str, label: str, columns: tuple[Column, ...], place: int
) -> Chart:
    """A bar for each class or label, the worst first."""
    known = [row for row in rows if number(row.get(score)) is not None]
    worst = sorted(known, key=lambda row: float(row[score]))
    shown = worst[:MOST_CLASSES]
    plain = tuple(
        Column(key=c.key, heading=c.heading, show=str, is_number=False) if c.key == key else c
        for c in columns
    )
    cut = (f"The {len(shown)} of {len(rows):,} with the lowest {label} are drawn.",) * (
        len(shown) < len(rows)
    )
    words = [
        f"{visible(row[key])}\n{label} {float(row[score]):.4f}, {int(row['support'])} images" for row in shown
    ]
    ends = [(str(row[key]), float(row[score])) for row in (worst[:1] + worst[-1:])]
    alt = " to ".join(f"{value:.4f} ({name})" for name, value in ends) or "none is known"
    return Chart(
        key=f"{KEY}-{place}-{score.replace('_', '-')}",
        title=f"{label[:1].upper()}{label[1:]} of each {key}, the worst first",
        figure={
            "data": [bars([float(row[score]) for row in shown], words, BLUE)],
            "layout": {
                "showlegend": False,
                "xaxis": axis(label, range=[0, 1.02]),
                "yaxis": rows_axis([short_name(str(row[key])) for row in shown], ticks=""),
            },
        },
        alt=f"{label} of {len(rows):,}: {alt}.",
        table=_table(f"per_{key}", "The same in numbers", plain, rows),
        notes=cut,
        height=120 + 20 * max(len(shown), 3),
    )


def _calibration(values: Values, place: int) -> Chart:
    bins = [one for one in values["reliability"] if one["images"]]
    middles = [(one["low"] + one["high"]) / 2 for one in bins]
    most = max(one["images"] for one in bins)
    error = number(values.get("calibration_error"))
    words = [
        f"probability {show_share(one['low'])} to {show_share(one['high'])}\nright: "
        f"{show_share(one['accuracy'])} of {one['images']:,}"
        for one in bins
    ]
    columns = (
        Column(key="low", heading="from", show=show_share, is_number=True),
        Column(key="high", heading="to", show=show_share, is_number=True),
        Column(key="images", heading="predictions", show=show_count, is_number=True),
        Column(key="confidence", heading="mean probability", show=show_accuracy, is_number=True),
        Column(key="accuracy", heading="share that is right", show=show_accuracy, is_number=True),
    )
    said = "" if error is None else f", expected error {error:.4f}"
    return Chart(
        key=f"{KEY}-{place}-calibration",
        title=f"Calibration: how often predictions are right, by their probability{said}",
        figure={
            "data": [
                {
                    "type": "bar",
                    "x": middles,
                    "y": [one["accuracy"] for one in bins],
                    "width": [one["high"] - one["low"] for one in bins],
                    "text": words,
                    "textposition": "none",
                    "hoverinfo": "text",
                    "marker": {"color": BLUE, "opacity": [0.3 + 0.7 * one["images"] / most for one in bins]},
                },
                line([0, 1], [0, 1], color=VERMILION, dash="dash"),
            ],
            "layout": {
                "showlegend": False,
                "xaxis": axis("probability of the prediction", range=[0, 1], tickformat=".0%"),
                "yaxis": axis("share that is right", range=[0, 1], tickformat=".0%"),
            },
        },
        alt=f"Predictions in {len(bins)} ranges of probability{said}; the dashed line is the ideal.",
        table=_table("reliability", "Predictions by probability", columns, bins),
        notes=(
            "Stronger colour: more predictions. Below the dashed line the network is too sure of itself.",
        ),
        height=340,
    )


def _mistakes(values: Values) -> Iterator[Block]:
    rows = values.get("mistakes") or values.get("residuals")
    if not rows:
        return
    show = {"probability": show_accuracy, "is_present": lambda value: "yes" if value else "no"}
    show |= dict.fromkeys(("true", "prediction", "residual"), _plain)
    numbers = ("probability", "residual")
    columns = tuple(
        Column(
            key=name,
            heading={"is_present": "has it", "true": "true"}.get(name, name),
            show=show.get(name, str),
            is_number=name in numbers,
        )
        for name in rows[0]
    )
    yield _table("mistakes", f"The largest mistakes ({len(rows)})", columns, rows)


def _plain(value: Any) -> str:
    return show_value(value) if isinstance(value, float) else str(value)


def _table(key: str, title: str, columns: tuple[Column, ...], rows: Sequence[Values]) -> Table:
    return Table(key=key, title=title, columns=columns, rows=tuple(rows))
