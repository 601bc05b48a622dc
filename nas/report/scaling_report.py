"""How a search for the direction of scaling is shown: its networks, its law, and what to make of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from nas.evaluation.scaled_networks import KNOWN, SINGLE, Curve, ScaledNetwork, short_name
from nas.evaluation.scaling_law import Estimated
from nas.evaluation.scaling_search import ScalingSearch
from nas.metrics import metric_info, show_difference, show_metric
from nas.report.printing import PARAMS, Column, Fact, Report, Row, Table, show_count
from nas.statistics import t_quantile
from search_spaces import DIRECTIONS, Direction, cost

FEW_EPOCHS = 50
"""Epochs below which it is said that short trainings favour width."""

SHOWN = 10
"""Networks of the lattice that users see; JSON has all."""


def scaling_report(
    search: ScalingSearch,
    *,
    title: str,
    data: str,
    epochs: float,
    native_side: float | None,
    pictures: Sequence[Path] = (),
) -> Report:
    """The report of `nas scale --search`.

    Args:
        search: What was found out.
        title: First line.
        data: The images, in words.
        epochs: Of each training.
        native_side: Median side of the images as they came, pixels; None where that is not known.
        pictures: What was drawn.
    """
    facts = (
        Fact(key="images", label="images", value=data),
        Fact(
            key="native_side",
            label="their own size",
            value=native_side,
            text="not known" if native_side is None else f"{native_side:g} pixels a side (median)",
        ),
        _baseline(search),
        Fact(
            key="lattice",
            label="lattice",
            value={
                "members": len(search.members),
                "parts": search.plan.parts,
                "cost_factor": search.plan.cost_factor,
                "cost": search.cost_name,
                "metric": search.goal.metric,
                "direction": search.goal.direction,
                "epochs": epochs,
            },
            text=f"{len(search.members)} different networks of {search.plan.cost_factor:g} times the "
            f"baseline's {search.cost_name}, {_counted(epochs, 'epoch')} each, measured on the search split",
        ),
        *_left_out(search),
        _found(search),
        Fact(
            key="pictures",
            label="pictures",
            value=[str(path) for path in pictures],
            text=", ".join(map(str, pictures)),
        ),
    )
    tables = (
        _networks(search, native_side),
        _finalists(search, native_side),
        *([_curves(search, native_side)] if search.curves else []),
    )
    return Report(title=title, facts=facts, tables=tables, notes=("", *_notes(search, epochs, native_side)))


def _baseline(search: ScalingSearch) -> Fact:
    one = search.baseline
    price = cost(one.network)
    return Fact(
        key="baseline",
        label="baseline",
        value={"macs": price.macs, "params": price.params, "values": list(one.values)},
        text=f"{show_count(price.params)} params, {show_count(price.macs)} macs at {one.network.resolution} "
        f"pixels: {_mean(search, one)}",
    )


def _left_out(search: ScalingSearch) -> tuple[Fact, ...]:
    same = [
        " = ".join(map(short_name, (one.direction, *one.equals)))
        for one in search.members
        if one.direction is not None and one.equals
    ]
    facts = [Fact(key="coinciding", label="the same once rounded", value=same, text="; ".join(same))]
    missed = [f"{name}: {why}" for name, why in search.unmatched.items()]
    facts += [
        Fact(key="unmatched", label="no such network", value=dict(search.unmatched), text="\n".join(missed))
    ]
    return tuple(fact for fact in facts if fact.value)


def _found(search: ScalingSearch) -> Fact:
    found, law = search.found, search.law
    bases = _bases(search)(found)
    words = f"depth {found.depth:.2f}, width {found.width:.2f}, resolution {found.resolution:.2f} of log-cost"
    value: dict[str, Any] = {**_shares(found), "bases": list(bases), "intervals": None, "law": None}
    if law is not None:
        ranges = ", ".join(f"{name} {low:.2f} to {high:.2f}" for name, (low, high) in law.intervals.items())
        words = f"{words} (9 of 10 laws: {ranges})"
        value["law"] = list(law.weights)
        value["intervals"] = {name: list(ends) for name, ends in law.intervals.items()}
    shown = ", ".join(f"{base:.3f}" for base in bases)
    return Fact(
        key="found",
        label="direction found",
        value=value,
        text=f"{words}\nfor each phi: depth, width, resolution x {shown}",
    )


def _bases(search: ScalingSearch) -> Any:
    def bases(direction: Direction) -> tuple[float, float, float]:
        scaling = direction.at(search.plan.cost_factor)
        return scaling.depth, scaling.width, scaling.resolution

    return bases


def _shares(direction: Direction) -> dict[str, float]:
    return {"depth": direction.depth, "width": direction.width, "resolution": direction.resolution}


def _mean(search: ScalingSearch, one: ScaledNetwork) -> str:
    if one.mean is None:
        return f"failed: {one.failures[0]}" if one.failures else "not trained"
    metric = search.goal.metric
    spread = f" ± {show_difference(metric, statistics.stdev(one.values))}" if len(one.values) > 1 else ""
    return f"{metric_info(metric).label} {show_metric(metric, one.mean)}{spread} (n = {len(one.values)})"


def _row(one: ScaledNetwork, native_side: float | None) -> dict[str, Any]:
    price, side = cost(one.network), one.network.resolution
    is_enlarged = native_side is not None and side > native_side
    direction = {} if one.direction is None else _shares(one.direction)
    return {
        "name": one.name,
        **direction,
        "blocks": sum(stage.repeats for stage in one.network.stages),
        "pixels": side,
        "is_enlarged": is_enlarged,
        "shown_pixels": f"{side}*" if is_enlarged else str(side),
        "params": price.params,
        "macs": price.macs,
        "cost": one.cost,
        "cost_factor": one.cost_factor,
        "error": one.error,
        "mean": one.mean,
        "deviation": statistics.stdev(one.values) if len(one.values) > 1 else None,
        "values": list(one.values),
        "failures": list(one.failures),
    }


def scaled_columns(metric: str, *, has_direction: bool = True) -> tuple[Column, ...]:
    """The columns of networks that were scaled and measured by a metric."""
    shares = [
        Column(key=name, heading=heading, show="{:.2f}".format, is_number=True)
        for name, heading in (("depth", "depth"), ("width", "width"), ("resolution", "side"))
    ]
    return (
        Column(key="name", heading="direction"),
        *(shares if has_direction else []),
        Column(key="blocks", heading="blocks", is_number=True),
        Column(key="shown_pixels", heading="pixels", is_number=True),
        PARAMS,
        Column(key="cost_factor", heading="x cost", show="{:.3g}".format, is_number=True),
        Column(key="error", heading="off by", show=_percent, is_number=True),
        Column(
            key="mean", heading=metric_info(metric).label, show=partial(show_metric, metric), is_number=True
        ),
        Column(key="deviation", heading="±", show=partial(show_difference, metric), is_number=True),
    )


def law_column(metric: str) -> Column:
    """The column of what the law says of a direction."""
    return Column(key="law", heading="by the law", show=partial(show_metric, metric), is_number=True)


def _percent(share: float) -> str:
    return f"{100 * share:+.1f} %"


def _networks(search: ScalingSearch, native_side: float | None) -> Table:
    sign = search.goal.sign
    ranked = sorted(search.members, key=lambda one: float("inf") if one.mean is None else -sign * one.mean)
    rows = tuple(_row(one, native_side) for one in ranked)
    notes = ["depth, width, side: shares of the growth of log-cost"]
    if any(row["is_enlarged"] for row in rows):
        notes.append("*: images are only enlarged to this size")
    if len(rows) > SHOWN:
        notes.append(f"the best {SHOWN} of {len(rows)}; --json has all")
    return Table(
        key="members",
        title="The lattice, best first",
        columns=scaled_columns(search.goal.metric),
        rows=rows,
        drawn=rows[:SHOWN],
        notes=tuple(notes),
    )


def _finalists(search: ScalingSearch, native_side: float | None) -> Table:
    rows = []
    for one in search.finalists:
        row = _row(one, native_side)
        if search.law is not None and one.direction is not None:
            at = search.law.at(one.direction)
            row |= {"law": at.value, "law_low": at.low, "law_high": at.high}
        rows.append(row)
    columns = scaled_columns(search.goal.metric)
    by_law = () if search.law is None else (law_column(search.goal.metric),)
    return Table(
        key="finalists",
        title=f"Finalists, {_counted(search.plan.seeds, 'seed')} each",
        columns=(*columns, *by_law),
        rows=tuple(rows),
    )


def _curves(search: ScalingSearch, native_side: float | None) -> Table:
    def rows(curve: Curve) -> list[Row]:
        label = curve.name if curve.figure == 3 else f"wider, after {curve.name}"
        return [_row(one, native_side) | {"name": label, "figure": curve.figure} for one in curve.points]

    return Table(
        key="curves",
        title="Growth in one direction at a time",
        columns=scaled_columns(search.goal.metric, has_direction=False),
        rows=tuple(chain.from_iterable(rows(curve) for curve in search.curves)),
    )


def _notes(search: ScalingSearch, epochs: float, native_side: float | None) -> list[str]:
    notes = [_against(search, name) for name in KNOWN]
    if epochs < FEW_EPOCHS:
        notes.append(
            f"warning: these networks were trained for {_counted(epochs, 'epoch')}; short trainings favour "
            "width, and long ones depth: repeat the finalists with more epochs before a large budget is spent"
        )
    missing = [name for name in SINGLE if f"{name} x{search.plan.cost_factor:g}" in search.unmatched]
    if search.law is not None and missing:
        notes.append(
            f"warning: there is no network of {' alone, or of '.join(missing)} alone, so the law only "
            "extrapolates there: look at --curves, or give a larger --tolerance"
        )
    if search.law is None:
        notes.append("there is no law: a quadratic needs 7 trainings of 6 different directions")
    beyond = native_side is not None and any(one.network.resolution > native_side for one in search.members)
    if beyond:
        notes.append(
            "images that are enlarged hold no more detail: what resolution gains here is computation on "
            "finer maps, and more may be gained on larger originals"
        )
    shares = ",".join(f"{share:.3f}" for share in search.found.shares)
    notes.append(f"to scale in this direction: nas scale ARCH --direction {shares} --phi 1..3")
    return notes


def _counted(count: float, word: str) -> str:
    return f"{count:g} {word}{'s' * (count != 1)}"


def _against(search: ScalingSearch, name: str) -> str:
    """How the direction found compares with a known one, by the trainings of both and by the law."""
    direction = DIRECTIONS[name]
    ours, theirs = search.finalist(search.found), search.finalist(direction)
    if search.found == direction:
        return f"the direction found is that of {name}"
    if ours is not None and theirs is not None and ours.network.digest == theirs.network.digest:
        return f"found against {name}: the same network at this cost, once rounded"
    parts = []
    measured = _difference(search, ours, theirs)
    if measured is not None:
        parts.append(f"{_interval(search, measured)} by their trainings")
    if search.law is not None:
        parts.append(f"{_interval(search, search.law.difference(search.found, direction))} by the law")
    are_trained = all(one is not None and one.mean is not None for one in (ours, theirs))
    unknown = "one training of each says nothing of chance: give --seeds 2 or more"
    unknown = unknown if are_trained else "one of them has no training"
    return f"found against {name}: {'; '.join(parts) or f'not known, since {unknown}'}"


def _interval(search: ScalingSearch, one: Estimated) -> str:
    show = partial(show_difference, search.goal.metric)
    sign = search.goal.sign
    is_better, is_worse = sign * one.low > 0 < sign * one.high, sign * one.low < 0 > sign * one.high
    verdict = "better" if is_better else "worse" if is_worse else "not distinguishable"
    return f"{verdict}, {show(one.value)} (95 %: {show(one.low)} to {show(one.high)})"


def _difference(
    search: ScalingSearch, ours: ScaledNetwork | None, theirs: ScaledNetwork | None
) -> Estimated | None:
    """The difference of two means, with the noise of all finalists; None where either has no training."""
    if ours is None or theirs is None or ours.mean is None or theirs.mean is None:
        return None
    repeated = [one.values for one in (*search.finalists, search.baseline) if len(one.values) > 1]
    freedom = sum(len(values) - 1 for values in repeated)
    if not freedom:
        return None
    squares = sum((len(values) - 1) * statistics.variance(values) for values in repeated)
    scale = (1 / len(ours.values) + 1 / len(theirs.values)) ** 0.5
    half = t_quantile(freedom) * (squares / freedom) ** 0.5 * scale
    value = ours.mean - theirs.mean
    return Estimated(value=value, low=value - half, high=value + half)
