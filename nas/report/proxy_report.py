"""How a proxy check is shown: its figures and what to make of them, and its picture."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.evaluation.proxy_check import ProxyCheck
from nas.evaluation.proxy_quality import BUDGET_TRIALS, Estimate, Rival, VariantQuality
from nas.evaluation.proxy_variants import LONG, SHARED
from nas.metrics import FRACTION, metric_info, show_difference
from nas.report.agreement_report import marginal_table
from nas.report.printing import Column, Fact, Report, Table, show_seconds
from nas.units import show_number
from nas.values import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    facts = (
        Fact(
            key="sample",
            label="sample",
            value={"candidates": len(check.candidates), "seeds": check.seeds},
            text=f"{len(check.candidates)} random candidates spread over the multiply-adds, {check.seeds} "
            f"seeds, {metric_info(check.metric).label} on {check.search_images:,} search images",
        ),
        Fact(
            key="schedules",
            label="schedules",
            value={"epochs": check.epochs, "long_epochs": check.long_epochs},
            text=f"the recipe's {counted(check.epochs, 'epoch')}, judged by {check.long_epochs:g}",
        ),
        Fact(key="noise", label="noise", value=check.noise, text=_noise_text(check)),
        *(Fact(key=f"saved_{path.suffix[1:]}", label="saved", value=str(path)) for path in saved),
    )
    rival = () if check.rival is None else (_rival_text(check, check.rival),)
    notes = (recommendation(check), *rival, *(f"warning: {words}" for words in check.warnings))
    marginals = (marginal_table(check.marginals),) if check.marginals else ()
    tables = (_variants(check), _rankers(check), *marginals)
    return Report(title=title, facts=facts, tables=tables, notes=("", *notes))


def _noise_text(check: ProxyCheck) -> str:
    noise = check.variant("recipe").noise
    if noise is None:
        return "not known: too many trainings failed"
    interval = f"95 %: {_scaled(check, noise.low)} to {_scaled(check, noise.high)}"
    return f"{show_difference(check.metric, noise.value)} from seed to seed by the recipe ({interval})"


def recommendation(check: ProxyCheck) -> str:
    """Which training to search with, in a sentence."""
    best = check.best
    if best is None or best.gain is None or best.tau is None or best.gain <= 0:
        return "This sample does not show that any proxy ranks as the longer schedule does."
    spread = check.variant(LONG).spread
    points = f" ({show_difference(check.metric, best.gain * spread)})" if spread else ""
    caution = ", though its tau may be 0" if best.tau.low <= 0 else ""
    return (
        f"In the time of {BUDGET_TRIALS} trainings by the recipe, {_named(best)} gives most: the best "
        f"candidate by it is expected {best.gain:.2f} standard deviations{points} above the mean of the "
        f"longer schedule{caution}."
    )


def _rival_text(check: ProxyCheck, rival: Rival) -> str:
    """What the supernet's time would buy, and how far the sample can say what comes of it."""
    shared = check.variant(SHARED).tau
    text = (
        f"Training the supernet took {show_seconds(rival.seconds)}, as long as {rival.trainings:.0f} "
        f"trainings by the recipe: tau of its shared weights is {_interval(shared)}, that of a predictor "
        f"(ridge on the options) fitted to {rival.fitted} such trainings {_interval(rival.tau)}."
    )
    if rival.fitted < int(rival.trainings):
        text += " The time buys more of them than the sample has, with which it would rank better."
    return text


def _named(variant: VariantQuality) -> str:
    return "the recipe" if variant.name == "recipe" else variant.name


def _interval(estimate: Estimate | None) -> str:
    return "–" if estimate is None else str(estimate)  # noqa: RUF001  # a dash


def _factor(check: ProxyCheck) -> int:
    """Fractions are shown in points."""
    return 100 if metric_info(check.metric).unit is FRACTION else 1


def _scaled(check: ProxyCheck, value: float) -> str:
    shown = _factor(check) * value
    return f"{shown:.2f}" if _factor(check) == 100 else show_number(shown)


def _variants(check: ProxyCheck) -> Table:
    show, label = partial(_scaled, check), metric_info(check.metric).label
    unit = "points" if _factor(check) == 100 else "its own unit"
    less = "" if check.rival is None else "; that of training the supernet is taken off first"
    columns = (
        Column(key="name", heading="training"),
        Column(key="mean", heading=label, show=show, is_number=True),
        Column(key="noise", heading="noise", show=lambda noise: show(noise["value"]), is_number=True),
        Column(key="spread", heading="spread", show=show, is_number=True),
        Column(key="tau", heading="tau (95 %)", show=_row_interval, is_number=True),
        Column(key="seconds", heading="seconds", show=show_seconds, is_number=True),
        Column(key="gain", heading="gain", show=lambda gain: f"{gain + 0.0:.2f}", is_number=True),
        Column(key="against_params", heading="than params", show=AGAINST_PARAMS.__getitem__, is_number=True),
    )
    rows = tuple(
        asdict(variant)
        | {
            "against_params": None if variant.name == LONG else variant.against_params,
            "is_best": check.best is not None and variant.name == check.best.name,
        }
        for variant in check.variants
    )
    return Table(
        key="variants",
        title="Trainings, by how one of them ranks as the longer schedule does",
        columns=columns,
        rows=rows,
        notes=(
            f"{label}, noise (from seed to seed) and spread (between candidates, noise taken off) in {unit}",
            f"tau of {LONG}: between its own seeds, the ceiling that its noise sets",
            "gain: standard deviations above the mean of the best of as many random candidates as fit into "
            f"the time of {BUDGET_TRIALS} trainings by the recipe{less}",
            "than params: how it ranks compared with the parameter count; no better where the interval of "
            "their difference contains 0",
        ),
    )


def _row_interval(estimate: dict[str, Any]) -> str:
    return _interval(Estimate(**estimate))


def _rankers(check: ProxyCheck) -> Table:
    columns = (
        Column(key="name", heading="without training"),
        Column(key="tau", heading="tau (95 %)", show=_row_interval, is_number=True),
    )
    rows = tuple(asdict(ranker) for ranker in check.rankers)
    title = "Costs as rankers: a strong baseline in spaces whose larger networks are better"
    return Table(key="rankers", title=title, columns=columns, rows=rows)


def draw_check(check: ProxyCheck, path: Path) -> Path:
    """Draws every proxy's metrics against those of the longer schedule, and parameters beside them.

    Raises:
        NasError: The path ends in neither .png nor .svg, or cannot be written.
    """
    from nas.report.figures import BLUE, INK, LARGE, ORANGE, new_figure, save, scale_of

    proxies = [variant for variant in check.variants if variant.name != LONG]
    count = len(proxies) + 1
    columns = min(PANELS_PER_ROW, count)
    rows = -(-count // columns)
    figure = new_figure(3.7 * columns, 3.5 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, variant in zip(panels, proxies, strict=False):
        seconds = "" if variant.seconds is None else f", {show_seconds(variant.seconds)}"
        values = [one.values.get(variant.name) for one in check.candidates]
        x = [None if value is None else _factor(check) * value for value in values]
        _draw_panel(axes, check, x, color=BLUE, noise=variant.noise)
        _label(axes, check, f"{variant.name}{seconds}", variant.tau, _axis(check, f"by {variant.name}"))
    axes = panels[len(proxies)]
    scale, word = scale_of(max(one.params for one in check.candidates))
    _draw_panel(axes, check, [one.params / scale for one in check.candidates], color=ORANGE, noise=None)
    tau = next(ranker.tau for ranker in check.rankers if ranker.name == "params")
    _label(axes, check, "parameters, no training", tau, f"parameters ({word})" if word else "parameters")
    for axes in panels[count:]:
        axes.set_axis_off()
    title = f"{len(check.candidates)} candidates: each proxy against {counted(check.long_epochs, 'epoch')}"
    figure.suptitle(title, fontsize=LARGE, color=INK, fontweight="bold")
    return save(figure, path)


def _draw_panel(
    axes: Axes, check: ProxyCheck, x: Sequence[float | None], *, color: str, noise: Estimate | None
) -> None:
    """Draws the candidates' long metrics over something else, with the noise of both."""
    from nas.report.figures import GREY

    truths, factor = [one.values.get(LONG) for one in check.candidates], _factor(check)
    pairs = [
        (at, factor * truth)
        for at, truth in zip(x, truths, strict=True)
        if at is not None and truth is not None
    ]
    spans = [
        None if one is None else factor * one.value / check.seeds**0.5
        for one in (noise, check.variant(LONG).noise)
    ]
    if pairs:
        style = {"fmt": "o", "color": color, "ecolor": GREY, "elinewidth": 0.8, "markersize": 4.5}
        xs, ys = zip(*pairs, strict=True)
        axes.errorbar(xs, ys, xerr=spans[0], yerr=spans[1], alpha=0.85, **style)  # type: ignore[arg-type]


def _label(axes: Axes, check: ProxyCheck, title: str, tau: Estimate | None, x: str) -> None:
    from nas.report.figures import INK, NORMAL, SMALL, quiet

    quiet(axes)
    words = "tau not known" if tau is None else f"tau {_interval(tau)}"
    axes.set_title(f"{title}\n{words}", fontsize=SMALL, color=INK, loc="left")
    axes.set_xlabel(x, fontsize=NORMAL, color=INK)
    axes.set_ylabel(_axis(check, f"after {counted(check.long_epochs, 'epoch')}"), fontsize=NORMAL, color=INK)


def _axis(check: ProxyCheck, words: str) -> str:
    return f"{metric_info(check.metric).label} {words}{' (%)' * (_factor(check) == 100)}"
