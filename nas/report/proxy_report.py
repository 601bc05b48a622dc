"""How a proxy check is shown: its report in words and tables, and its picture."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.evaluation.proxy_check import ProxyCheck
from nas.evaluation.proxy_quality import BUDGET_TRIALS, WayQuality
from nas.evaluation.proxy_variants import LONG, RECIPE
from nas.report.printing import Column, Fact, Report, Table, show_seconds, show_share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS_PER_ROW = 3

AGAINST_PARAMS = {
    "better": "better",
    "not distinguishable": "no better",
    "worse": "worse",
    "unknown": "unknown",
}


def proxy_report(check: ProxyCheck, *, title: str, saved: tuple[Path, ...] = ()) -> Report:
    """The report of a check."""
    ceiling = check.way(LONG).tau
    noise = check.way(RECIPE).noise
    facts = (
        Fact(
            key="sample",
            label="sample",
            value={"candidates": len(check.candidates), "seeds": check.seeds},
            text=f"{len(check.candidates)} random candidates spread over the multiply-adds, "
            f"{check.seeds} seeds, accuracies on {check.search_images:,} search images",
        ),
        Fact(
            key="schedules",
            label="schedules",
            value={"epochs": check.epochs, "long_epochs": check.long_epochs},
            text=f"the recipe's {check.epochs:g} epochs, judged by {check.long_epochs:g}",
        ),
        Fact(
            key="noise",
            label="noise",
            value=check.noise,
            text="not known: too many trainings failed"
            if noise is None
            else f"{100 * noise.value:.2f} points from seed to seed by the recipe (95 %: "
            f"{100 * noise.low:.2f} to {100 * noise.high:.2f})",
        ),
        Fact(
            key="ceiling",
            label="ceiling",
            value=None if ceiling is None else asdict(ceiling),
            text="not known"
            if ceiling is None
            else f"tau {_interval(asdict(ceiling))} between two trainings by the longer schedule itself",
        ),
        *(Fact(key=f"saved_{path.suffix[1:]}", label="saved", value=str(path)) for path in saved),
    )
    warnings = tuple(f"warning: {words}" for words in check.warnings)
    return Report(
        title=title,
        facts=facts,
        tables=(_ways(check), _rankers(check)),
        notes=("", *outcomes(check), *warnings),
    )


def outcomes(check: ProxyCheck) -> tuple[str, ...]:
    """What to make of the figures, one sentence for each thing to know."""
    words = []
    best = check.best
    if best is None or best.gain is None or best.tau is None or best.gain <= 0:
        words.append("No proxy can be said to rank as the longer schedule does by this sample.")
    else:
        spread = check.way(LONG).spread
        points = f" ({100 * best.gain * spread:.2g} points)" if spread else ""
        doubt = ", though its tau cannot be told from 0" if best.tau.low <= 0 else ""
        words.append(
            f"In the time of {BUDGET_TRIALS} trainings by the recipe, {_named(best)} gives most: the best "
            f"candidate by it is expected {best.gain:.2f} standard deviations{points} above the mean of the "
            f"longer schedule; it is first in {show_share(best.best_share or 0.0)} of the resamples{doubt}."
        )
    for way in check.ways:
        if way.name != LONG and way.tau is not None:
            words.append(_against_params(way))
    return tuple(words)


def _against_params(way: WayQuality) -> str:
    above = way.above_params
    if above is None:
        return f"{_named(way)} cannot be compared with the parameter count.".capitalize()
    interval = _interval(asdict(above), sign="+")
    outcome = {
        "better": "ranks better than the parameter count alone",
        "worse": "ranks worse than the parameter count alone",
    }.get(way.against_params, "cannot be told apart from ranking by the parameter count alone")
    name = _named(way)
    return f"{name[0].upper()}{name[1:]} {outcome} (tau {interval})."


def _named(way: WayQuality) -> str:
    return "the recipe" if way.name == RECIPE else way.name


def _interval(estimate: dict[str, float], sign: str = "") -> str:
    value, low, high = (format(estimate[key], f"{sign}.2f") for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _value(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.2f}"


def _points(estimate: Any) -> str:
    value = estimate["value"] if isinstance(estimate, dict) else estimate
    return f"{100 * value:.2f}"


def _ways(check: ProxyCheck) -> Table:
    columns = (
        Column(key="name", heading="way to train"),
        Column(key="accuracy", heading="acc.", show=_points, is_number=True),
        Column(key="noise", heading="noise", show=_points, is_number=True),
        Column(key="spread", heading="spread", show=_points, is_number=True),
        Column(key="tau", heading="tau (95 %)", show=_interval, is_number=True),
        Column(key="spearman", heading="Spearman", show=_value, is_number=True),
        Column(key="seconds", heading="seconds", show=show_seconds, is_number=True),
        Column(
            key="bits_per_100_seconds", heading="bits/100 s", show=lambda v: f"{v + 0.0:.3g}", is_number=True
        ),
        Column(key="gain", heading="gain", show=lambda v: f"{v + 0.0:.2f}", is_number=True),
        Column(key="against_params", heading="than params", show=AGAINST_PARAMS.__getitem__, is_number=True),
    )
    best = check.best
    rows = tuple(asdict(way) | {"is_best": best is not None and way.name == best.name} for way in check.ways)
    drawn = tuple({**row, "against_params": None} if row["name"] == LONG else row for row in rows)
    return Table(
        key="ways",
        title="Ways to train, by how one training ranks as the longer schedule does",
        columns=columns,
        rows=rows,
        drawn=drawn,
        notes=(
            "accuracy, noise (from seed to seed) and spread (between candidates, noise taken off) in points",
            "than params: how it ranks beside the parameter count alone; no better where intervals cannot "
            "tell them apart",
            f"tau of {LONG}: between its own seeds, the ceiling that its noise sets",
            "gain: standard deviations above the mean of the best of as many random candidates as fit into "
            f"the time of {BUDGET_TRIALS} trainings by the recipe",
        ),
    )


def _rankers(check: ProxyCheck) -> Table:
    columns = (
        Column(key="name", heading="without training"),
        Column(key="tau", heading="tau (95 %)", show=_interval, is_number=True),
        Column(key="spearman", heading="Spearman (95 %)", show=_interval, is_number=True),
    )
    rows = tuple(asdict(ranker) for ranker in check.rankers)
    title = "Costs as rankers: a strong baseline in spaces whose larger networks are better"
    return Table(key="rankers", title=title, columns=columns, rows=rows)


def draw_check(check: ProxyCheck, path: Path) -> Path:
    """Draws every proxy's accuracies against those of the longer schedule, and parameters beside them.

    Raises:
        NasError: The path ends in neither .png nor .svg, or cannot be written.
    """
    from nas.report.figures import INK, LARGE, new_figure, save

    proxies = [way for way in check.ways if way.name != LONG]
    count = len(proxies) + 1
    columns = min(PANELS_PER_ROW, count)
    rows = -(-count // columns)
    figure = new_figure(3.7 * columns, 3.5 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, way in zip(panels, proxies, strict=False):
        _draw_way(panel, check, way)
    _draw_params(panels[len(proxies)], check)
    for panel in panels[count:]:
        panel.set_axis_off()
    figure.suptitle(
        f"{len(check.candidates)} candidates: each proxy against {check.long_epochs:g} epochs",
        fontsize=LARGE,
        color=INK,
        fontweight="bold",
    )
    return save(figure, path)


def _draw_way(axes: Axes, check: ProxyCheck, way: WayQuality) -> None:
    from nas.report.figures import BLUE, GREY

    pairs = [
        (100 * proxy, 100 * truth)
        for one in check.candidates
        if (proxy := one.accuracies.get(way.name)) is not None
        and (truth := one.accuracies.get(LONG)) is not None
    ]
    long = check.way(LONG)
    x_span, y_span = [
        None if side.noise is None else 100 * side.noise.value / check.seeds**0.5 for side in (way, long)
    ]
    if pairs:
        x, y = zip(*pairs, strict=True)
        style = {"fmt": "o", "color": BLUE, "ecolor": GREY, "elinewidth": 0.8, "markersize": 4.5}
        axes.errorbar(x, y, xerr=x_span, yerr=y_span, alpha=0.85, **style)  # type: ignore[arg-type]
    tau = "tau not known" if way.tau is None else f"tau {_interval(asdict(way.tau))}"
    seconds = "" if way.seconds is None else f", {show_seconds(way.seconds)}"
    _label(axes, f"{way.name}{seconds}\n{tau}", f"accuracy by {way.name} (%)", check)


def _draw_params(axes: Axes, check: ProxyCheck) -> None:
    from nas.report.figures import ORANGE, scale_of

    scale, word = scale_of(max(one.params for one in check.candidates))
    pairs = [
        (one.params / scale, 100 * accuracy)
        for one in check.candidates
        if (accuracy := one.accuracies.get(LONG)) is not None
    ]
    if pairs:
        x, y = zip(*pairs, strict=True)
        axes.scatter(x, y, color=ORANGE, s=22, linewidths=0)
    params = next(ranker for ranker in check.rankers if ranker.name == "params")
    tau = "tau not known" if params.tau is None else f"tau {_interval(asdict(params.tau))}"
    _label(axes, f"parameters, no training\n{tau}", f"parameters ({word})" if word else "parameters", check)


def _label(axes: Axes, title: str, x: str, check: ProxyCheck) -> None:
    from nas.report.figures import INK, NORMAL, SMALL, quiet

    quiet(axes)
    axes.set_title(title, fontsize=SMALL, color=INK, loc="left")
    axes.set_xlabel(x, fontsize=NORMAL, color=INK)
    axes.set_ylabel(f"accuracy after {check.long_epochs:g} epochs (%)", fontsize=NORMAL, color=INK)
