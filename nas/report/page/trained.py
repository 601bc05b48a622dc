"""Full trainings: curves of the metric, the loss and the learning rate, what each reached, took and cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nas.metrics import Goal, metric_info, show_metric
from nas.report.page.attached import Attached
from nas.report.page.charting import COLORS, Layout, Trace, axis, metric_axis, metric_column, titled
from nas.report.page.escaping import visible
from nas.report.page.parts import Absent, Block, Chart, Section, Words
from nas.report.page.training_files import TrainingRecord, number
from nas.report.printing import MACS, PARAMS, Column, Row, Table, show_seconds
from nas.units import show_interval

KEY, TITLE = "trainings", "Full trainings"

MOST_CURVES = 12
"""Trainings with curves of their own; the table has all."""

MOST_POINTS = 400
"""Points of one curve."""


def trained(found: Attached) -> Section | Absent:
    """The trainings that were given, and those in the folders that were."""
    records = found.trainings
    if not records:
        return Absent(
            key=KEY,
            title=TITLE,
            reason="no network was trained in full, or nas train wrote into a folder that was not given",
        )
    blocks: list[Block] = [_table(records)]
    for place, (metric, split) in enumerate(dict.fromkeys((one.metric, one.split) for one in records)):
        same = [one for one in records if (one.metric, one.split) == (metric, split) and one.rows]
        if len({one.split for one in records}) > 1 and same:
            blocks.append(Words(lines=(f"Trained on {same[0].data}:",)))
        blocks += _charts(metric, same, f"{KEY}-{place}")
    notes = tuple(f"{label(one)}: {note}" for one in records for note in one.notes)
    blocks += [Words(lines=notes, is_warning=True)] if notes else []
    return Section(key=KEY, title=TITLE, lead=_lead(records), blocks=tuple(blocks))


def label(one: TrainingRecord) -> str:
    """What a training is called beside others: by its folder, which no other has."""
    return visible(one.folder.resolve().name)


def without_seed(one: TrainingRecord) -> str:
    """What a network is called that was trained from several seeds, each in a folder `NAME-seed-K`."""
    name, _, seed = label(one).rpartition("-seed-")
    return name if name and seed.isdecimal() else label(one)


def _lead(records: Sequence[TrainingRecord]) -> str:
    tested = [one for one in records if one.value is not None]
    seconds = show_seconds(sum(one.seconds for one in records))
    many = f"{len(records)} networks were" if len(records) > 1 else "One network was"
    words = f"{many} trained in full, in {seconds} altogether"
    if not tested:
        return f"{words}; none was tested yet."
    metric = tested[0].metric
    if len({(one.metric, one.split) for one in tested}) > 1:
        return f"{words}, on different images or for different metrics, so that they do not rank."
    best = max(tested, key=lambda one: Goal.of(metric).sign * (one.value or 0.0))
    of = "" if len(records) == 1 else f" of {label(best)}, the best of {len(tested)} that were tested"
    interval = "" if best.interval is None else f", 95 % interval {show_interval(best.interval)}"
    return (
        f"{words}; {metric_info(metric).label} on the test split{of}: "
        f"{show_metric(metric, best.value or 0.0)}{interval}."
    )


def _table(records: Sequence[TrainingRecord]) -> Table:
    metrics = tuple(dict.fromkeys(one.metric for one in records))
    columns = [
        Column(key="training", heading="training"),
        *([Column(key="study", heading="study")] if any(one.study for one in records) else []),
        Column(key="network", heading="network"),
        Column(key="recipe", heading="recipe"),
        Column(key="epochs", heading="epochs"),
    ]
    for name in metrics:
        columns += [
            metric_column(name, where=" (test)"),
            metric_column(name, key=f"search_{name}", where=" (search)"),
        ]
    columns += [
        Column(key="interval", heading="95 % interval", show=show_interval, is_number=True),
        Column(key="kept", heading="weights kept"),
        MACS,
        PARAMS,
        Column(key="seconds", heading="time", show=show_seconds, is_number=True),
        Column(key="cost", heading="cost"),
        Column(key="seed", heading="seed", is_number=True),
    ]
    return Table(
        key="trainings",
        title="Trainings",
        columns=tuple(columns),
        rows=tuple(map(_row, records)),
        notes=("The test split was looked at once for each; weights were chosen by the search split.",),
    )


def _row(one: TrainingRecord) -> Row:
    done = max((epoch for epoch, _ in one.curve("loss")), default=0.0)
    fitted = one.result.get("fitted", {})
    kept = (
        f"{one.best['kind']}, epoch {one.best['epoch']:g}" if {"kind", "epoch"} <= one.best.keys() else None
    )
    return {
        "training": label(one),
        "study": one.study or None,
        "network": one.name,
        "recipe": one.recipe.get("name"),
        "epochs": f"{done:g} of {one.epochs:g}",
        one.metric: one.value,
        f"search_{one.metric}": one.search_value,
        "interval": one.interval,
        "kept": kept,
        "macs": number(fitted.get("macs")),
        "params": number(fitted.get("params")),
        "seconds": one.seconds,
        "cost": one.cost or None,
        "seed": one.seed,
        "folder": str(one.folder),
    }


def _charts(metric: str, records: Sequence[TrainingRecord], prefix: str) -> Iterator[Block]:
    """Curves of trainings on the same images with one metric, those first that were tested best."""
    if not records:
        return
    sign = Goal.of(metric).sign
    ranked = sorted(records, key=lambda one: float("inf") if one.value is None else -sign * one.value)[
        :MOST_CURVES
    ]
    left = len(records) - len(ranked)
    notes = (f"The {MOST_CURVES} best of {len(records)} trainings are drawn.",) if left else ()
    table = _evaluations(metric, ranked)
    what = (
        (
            "metric",
            f"{titled(metric)} on the search split, by epoch",
            (metric, f"averaged_{metric}"),
            {**metric_axis(metric, where=", search split"), "nticks": 6},
        ),
        ("loss", "Training loss, by epoch", ("loss",), axis("training loss")),
        ("rate", "Learning rate, by epoch", ("learning_rate",), axis("learning rate", rangemode="tozero")),
        (
            "speed",
            "Training speed, by epoch",
            ("images_per_second",),
            axis("images a second", rangemode="tozero"),
        ),
    )
    for key, title, names, y in what:
        chart = _chart(f"{prefix}-{key}", title, names, y, ranked, table, notes)
        if chart is not None:
            yield chart


def _chart(
    key: str,
    title: str,
    names: Sequence[str],
    y: Layout,
    records: Sequence[TrainingRecord],
    table: Table,
    notes: tuple[str, ...],
) -> Chart | None:
    traces = [
        trace
        for one in records
        for name in names
        if (trace := _curve(one, name, _color(records, one), alone=len(records) == 1))
    ]
    if not traces:
        return None
    traces = _with_one_name(traces)
    last = max(trace["x"][-1] for trace in traces)
    if any(name.startswith("averaged_") for name in names) and any("dash" in t["line"] for t in traces):
        notes = (*notes, "Dashed: the average of the weights over the steps (EMA).")
    return Chart(
        key=key,
        title=title,
        figure={
            "data": traces,
            "layout": {
                "xaxis": axis("epoch", range=[0, 1.03 * last], nticks=7),
                "yaxis": y,
                "showlegend": len(traces) > 1,
            },
        },
        alt=_alt(title, names, records),
        table=table,
        notes=notes,
        height=380 if key.endswith(("metric", "loss")) else 260,
    )


def _curve(one: TrainingRecord, name: str, color: str, *, alone: bool) -> Trace | None:
    points = _thinned(one.curve(name))
    if not points:
        return None
    is_averaged = name.startswith("averaged_")
    says = name.removeprefix("averaged_")
    title = ("averaged weights" if is_averaged else "weights") if alone else without_seed(one)
    shown = [show_metric(says, value) if says == one.metric else f"{value:.4g}" for _, value in points]
    averaged = ", averaged" * is_averaged
    return {
        "type": "scatter",
        "legendgroup": f"{one.digest}{name * alone}",
        "mode": "lines+markers" if len(points) <= 40 else "lines",
        "name": title,
        "x": [epoch for epoch, _ in points],
        "y": [value for _, value in points],
        "text": [
            f"{label(one)}{averaged}\nepoch {epoch:g}: {words}"
            for (epoch, _), words in zip(points, shown, strict=True)
        ],
        "hoverinfo": "text",
        "marker": {"color": color, "size": 5},
        "line": {"color": color, "width": 2, **({"dash": "dash"} if is_averaged else {})},
    }


def _color(records: Sequence[TrainingRecord], one: TrainingRecord) -> str:
    """Trainings of one network have one colour."""
    order = list(dict.fromkeys(each.digest for each in records))
    return COLORS[order.index(one.digest) % len(COLORS)]


def _with_one_name(traces: Sequence[Trace]) -> list[Trace]:
    """The traces with one entry in the legend for each network."""
    met: set[str] = set()
    found = []
    for trace in traces:
        found.append({**trace, "showlegend": trace["legendgroup"] not in met})
        met.add(trace["legendgroup"])
    return found


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    step = -(-len(points) // MOST_POINTS) or 1
    return [*points[:-1:step], *points[-1:]]


def _alt(title: str, names: Sequence[str], records: Sequence[TrainingRecord]) -> str:
    ends = []
    for one in records[:3]:
        curve = one.curve(names[0])
        if curve:
            ends.append(
                f"{label(one)} from {curve[0][1]:.4g} to {curve[-1][1]:.4g} at epoch {curve[-1][0]:g}"
            )
    more = f"; and {len(records) - 3} more" if len(records) > 3 else ""
    return f"{title}: {'; '.join(ends)}{more}."


def _evaluations(metric: str, records: Sequence[TrainingRecord]) -> Table:
    show = metric_info(metric).unit.show
    columns = (
        Column(key="training", heading="training"),
        Column(key="epoch", heading="epoch", show="{:g}".format, is_number=True),
        Column(key="loss", heading="training loss", show="{:.4f}".format, is_number=True),
        metric_column(metric),
        Column(key=f"averaged_{metric}", heading="averaged weights", show=show, is_number=True),
        Column(key="learning_rate", heading="learning rate", show="{:.3g}".format, is_number=True),
        Column(key="images_per_second", heading="images/s", show="{:,.0f}".format, is_number=True),
        Column(key="side", heading="pixels", is_number=True),
    )
    rows = tuple({"training": label(one), **row} for one in records for row in one.rows)
    return Table(key=f"evaluations_{metric}", title="Evaluations", columns=columns, rows=rows)
