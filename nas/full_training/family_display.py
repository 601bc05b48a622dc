"""How a family that was trained in full is shown: a table, sentences, and accuracy over three costs."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from nas.full_training.family import AtEqual, Family, FamilyNetwork
from nas.metrics import FRACTION, metric_info, show_difference, show_metric
from nas.report.family_report import trained_columns
from nas.report.figures import BLUE, INK, LARGE, NORMAL, ORANGE, SMALL, new_figure, quiet, save
from nas.report.printing import Fact, Report, Table, show_count
from search_spaces import cost

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AS_MANY = 0.05
"""Relative difference below which numbers of parameters or multiply-adds count as the same."""

NAMES_A_LINE = 150
"""Characters of a line of names below the picture."""

PANELS = (("params", "parameters"), ("macs", "multiply-adds"), ("latency_ms", "ms an image, one CPU thread"))


def family_table(family: Family) -> Table:
    """Every network with its costs and its metric on the test split."""
    return Table(
        key="trained",
        title="Trained in full, on the test split",
        columns=trained_columns(family.goal.metric),
        rows=tuple(_row(one) for one in family.networks),
        notes=("ms: one image on one thread of this CPU, all networks in turns", *family.flags),
    )


def _row(one: FamilyNetwork) -> dict[str, object]:
    price, timing = cost(one.network), one.timing
    return {
        "name": one.name,
        "is_reference": one.is_reference,
        "pixels": one.network.resolution,
        "params": price.params,
        "macs": price.macs,
        "latency_ms": None if timing is None else timing.median_ms,
        "quartiles": None if timing is None else f"{timing.q1_ms:.3g} to {timing.q3_ms:.3g}",
        "mean": one.mean,
        "deviation": one.deviation,
        "values": list(one.values),
        "n": len(one.values),
        "bundles": [str(each.bundle) for each in one.trained],
    }


def comparisons(family: Family) -> tuple[str, ...]:
    """What the family saves at equal quality, a sentence for each reference."""
    return tuple(_sentence(family, one) for one in family.at_equal())


def _sentence(family: Family, one: AtEqual) -> str:
    metric, reference, member = family.goal.metric, one.reference, one.member
    if member is None:
        return f"no member is as good as {reference.name} ({_value(family, reference)})"
    difference = family.goal.sign * (member.mean - reference.mean)
    words = (
        f"{member.name} is at least as good as {reference.name} ({_value(family, member)} against "
        f"{_value(family, reference)}, {show_difference(metric, difference)} better) with "
        f"{_times(one.params_ratio, 'params')} and {_times(one.macs_ratio, 'macs')}"
    )
    if one.latency is None:
        return words
    found = one.latency
    spread = f"x{found.ratio:.2f}, 95 %: {found.low:.2f} to {found.high:.2f}"
    if not found.is_safe:
        return f"{words}, and is as fast ({spread})"
    return f"{words}, and is {'faster' if found.ratio > 1 else 'slower'} ({spread})"


def _times(ratio: float | None, what: str) -> str:
    ratio = ratio or 1.0
    if abs(ratio - 1) < AS_MANY:
        return f"as many {what}"
    return f"{ratio:.2g} times fewer {what}" if ratio > 1 else f"{1 / ratio:.2g} times more {what}"


def _value(family: Family, one: FamilyNetwork) -> str:
    metric = family.goal.metric
    spread = "" if one.deviation is None else f" ± {show_difference(metric, one.deviation)}"
    return f"{show_metric(metric, one.mean)}{spread}"


def trained_family_report(family: Family, picture: Path) -> Report:
    """The report of a family that was trained."""
    return Report(
        title="",
        facts=(Fact(key="trained_metric", label="", value=family.goal.metric),),
        tables=(family_table(family),),
        notes=("", *comparisons(family), f"picture: {picture}"),
    )


def draw_family(family: Family, path: Path, *, title: str) -> Path:
    """Draws the metric on the test split over parameters, multiply-adds and latency.

    Raises:
        NasError: The path ends in neither .png nor .svg, or cannot be written.
    """
    figure = new_figure(12.5, 4.8)
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (key, label) in zip(panels, PANELS, strict=True):
        _panel(axes, family, key, label)
    info = metric_info(family.goal.metric)
    panels[0].set_ylabel(f"test {info.label}{' (%)' * (info.unit is FRACTION)}", fontsize=NORMAL, color=INK)
    names = "   ".join(f"{number} {one.name}" for number, one in enumerate(family.networks, start=1))
    figure.supxlabel("\n".join(wrap(names, NAMES_A_LINE)), x=0.01, ha="left", fontsize=SMALL, color=INK)
    panels[0].legend(fontsize=SMALL, frameon=False, loc="lower right")
    figure.suptitle(title, fontsize=LARGE, color=INK, fontweight="bold", x=0.01, ha="left")
    return save(figure, path)


def _panel(axes: Axes, family: Family, key: str, label: str) -> None:
    quiet(axes)
    scale = 100 if metric_info(family.goal.metric).unit is FRACTION else 1
    for networks, color, mark, line, words in (
        (family.members, BLUE, "o", "-", "the family"),
        (family.references, ORANGE, "s", "", "references"),
    ):
        rows = [_row(one) for one in networks]
        x = [row[key] for row in rows]
        if not networks or None in x:
            continue
        axes.errorbar(
            x,  # type: ignore[arg-type]
            [scale * one.mean for one in networks],
            yerr=[scale * (one.deviation or 0.0) for one in networks],
            color=color,
            marker=mark,
            linestyle=line,
            markersize=6,
            elinewidth=0.9,
            capsize=2,
            label=words,
        )
        for one, at in zip(networks, x, strict=True):
            axes.annotate(
                str(family.networks.index(one) + 1),
                (at, scale * one.mean),
                xytext=(-6, 5) if one.is_reference else (6, 5),
                textcoords="offset points",
                fontsize=SMALL,
                color=color,
                ha="right" if one.is_reference else "left",
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: show_count(value) if value >= 1000 else f"{value:g}")
    )
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.18, y=0.12)
    axes.set_xlabel(label, fontsize=NORMAL, color=INK)
