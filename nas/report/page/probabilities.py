"""How often the search chose each option over time, and how likely its policy thinks each is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.report.event_file import read_scalars
from nas.report.page.charting import axis, rows_axis, share_map
from nas.report.page.parts import Absent, Chart, Section
from nas.report.page.source import Source
from nas.report.printing import Column, Table, show_share
from nas.report.run_log import option_tags
from nas.report.tensorboard import FOLDER
from nas.study.trial_rows import option_words
from search_spaces import Decision, SearchSpace

Floats = npt.NDArray[np.float64]

KEY, TITLE = "options", "Options over time"

MOST_WINDOWS, LEAST_IN_WINDOW = 24, 8
"""Windows of proposals, and proposals in each at least."""

MOST_DECISIONS = 16
"""Decisions in a heat map, those that matter most for the reward first."""

ROW_PIXELS = 19

HEADING = {"x": 0, "xref": "paper", "xanchor": "left", "showarrow": False, "font": {"size": 12}}
"""How the name of a decision stands above its options."""

COLOR_BAR = {
    "orientation": "h",
    "x": 1,
    "xanchor": "right",
    "y": 1,
    "yanchor": "bottom",
    "len": 0.4,
    "thickness": 8,
    "tickformat": ".0%",
    "tickvals": [0, 0.5, 1],
    "outlinewidth": 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shares:
    """The share of each option of each decision over time.

    Attributes:
        times: What is said of each time, `(times,)`.
        values: Of each decision, `(options, times)`; NaN where it was not active.
    """

    times: tuple[str, ...]
    values: tuple[Floats, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A row of a heat map: an option, or the name of a decision.

    Attributes:
        label: The option.
        heading: The decision.
        shares: The share of the option at each time; None where it is not known.
        words: What each says under the pointer.
    """

    label: str = ""
    heading: str = ""
    shares: list[float | None]
    words: list[str]


def probabilities(source: Source) -> Section | Absent:
    """The shares of options over time, and the policy."""
    space, study = source.study.space, source.study
    if space is None:
        why = (
            f"the space {study.provenance.space_name!r} is not known here, so that its options have no names"
        )
        return Absent(key=KEY, title=TITLE, reason=why)
    if len(study.trials) < 2 * LEAST_IN_WINDOW:
        least = 2 * LEAST_IN_WINDOW
        return Absent(
            key=KEY, title=TITLE, reason=f"it needs {least} trials, and there are {len(study.trials)}"
        )
    return _shown(source, space)


def _shown(source: Source, space: SearchSpace) -> Section:
    chosen = _chosen(source, space)
    decisions = [space.decisions[index] for index in chosen]
    shares = _taken(source, space, chosen)
    blocks = [
        _heat_map(
            "taken",
            "Share of the candidates that took each option",
            decisions,
            shares,
            x="trials, in the order of their proposals",
            notes=(
                "Each column is a window of proposals, enqueued and repeated ones included. A share counts "
                "the candidates of the window in which the decision is active; it is what the search "
                "tried, and not what it believes.",
                *_left_words(space, chosen),
            ),
        )
    ]
    policy = _policy(source, space, chosen)
    if policy is not None:
        blocks.append(
            _heat_map(
                "policy",
                "Probability of each option under the controller's policy",
                decisions,
                policy,
                x="trials done",
                notes=(
                    "The last column is the policy as it is stored now; those before it are from the study's "
                    "TensorBoard files, where the search wrote some.",
                ),
            )
        )
    lead = _lead(decisions, shares)
    if policy is None:
        lead += " The controller stores no probabilities of its own."
    return Section(key=KEY, title=TITLE, lead=lead, blocks=tuple(blocks))


def _chosen(source: Source, space: SearchSpace) -> list[int]:
    """Decisions by importance where it is known, else in the order of the space."""
    if source.insight is None:
        return list(range(len(space.decisions)))[:MOST_DECISIONS]
    return [one.index for one in source.insight.decisions[:MOST_DECISIONS]]


def _left_words(space: SearchSpace, chosen: Sequence[int]) -> tuple[str, ...]:
    left = len(space.decisions) - len(chosen)
    return (f"{left} more decisions are not drawn: these matter most for the reward.",) * (left > 0)


def _taken(source: Source, space: SearchSpace, chosen: Sequence[int]) -> _Shares:
    trials = source.study.trials
    windows = min(MOST_WINDOWS, max(2, len(trials) // LEAST_IN_WINDOW))
    tokens = np.array([trial.tokens for trial in trials], dtype=np.int64)
    active = np.array([space.active(trial.tokens) for trial in trials], dtype=np.bool_)
    parts = np.array_split(np.arange(len(trials)), windows)
    values = []
    for index in chosen:
        count = len(space.decisions[index].options)
        shares = np.full((count, windows), np.nan)
        for place, part in enumerate(parts):
            seen = tokens[part[active[part, index]], index]
            if len(seen):
                shares[:, place] = np.bincount(seen, minlength=count)[:count] / len(seen)
        values.append(shares)
    return _Shares(times=tuple(f"{part[0]} to {part[-1]}" for part in parts), values=tuple(values))


def _policy(source: Source, space: SearchSpace, chosen: Sequence[int]) -> _Shares | None:
    """The policy over time: what TensorBoard's files have of it, and what is stored now."""
    if source.insight is None or source.insight.decisions[0].probabilities is None:
        return None
    now = {one.index: one.probabilities for one in source.insight.decisions}
    tags = option_tags(space.decisions)
    wanted = {name for index in chosen for name in tags[index]}
    history = read_scalars(source.study.folder / FOLDER, wanted)
    steps = sorted({step for series in history.values() for step in series})
    if len(steps) > MOST_WINDOWS:
        steps = [steps[round(p)] for p in np.linspace(0, len(steps) - 1, MOST_WINDOWS)]
    values = []
    for index in chosen:
        rows = [_row(history.get(name, {}), steps) for name in tags[index]]
        known = now[index] or ()
        values.append(np.array([[*row, p] for row, p in zip(rows, known, strict=True)], dtype=np.float64))
    return _Shares(times=(*map(str, steps), "now"), values=tuple(values))


def _row(series: Mapping[int, float], steps: Sequence[int]) -> list[float]:
    return [series.get(step, float("nan")) for step in steps]


def _heat_map(
    key: str,
    title: str,
    decisions: Sequence[Decision],
    shares: _Shares,
    *,
    x: str,
    notes: tuple[str, ...],
) -> Chart:
    """A heat map with a row for each option, below a line with the name of its decision."""
    rows, times = list(_rows(decisions, shares)), shares.times
    cells = share_map([row.shares for row in rows], [row.words for row in rows])
    places = {"x": list(range(len(times))), "y": list(range(len(rows)))}
    layout = {
        "xaxis": axis(x, tickvals=_ticks(times), ticktext=_tick_words(times), showgrid=False),
        "yaxis": rows_axis([row.label for row in rows], zeroline=False, ticks=""),
        "annotations": [
            {**HEADING, "y": place, "text": row.heading} for place, row in enumerate(rows) if row.heading
        ],
    }
    return Chart(
        key=f"{KEY}-{key}",
        title=title,
        figure={"data": [{**cells, **places, "hoverongaps": False, "colorbar": COLOR_BAR}], "layout": layout},
        alt=_lead(decisions, shares),
        table=_table(key, title, decisions, shares),
        notes=notes,
        height=110 + ROW_PIXELS * len(rows),
    )


def _rows(decisions: Sequence[Decision], shares: _Shares) -> Iterator[_Row]:
    """For each decision a row with its name alone, and a row for each of its options."""
    empty = len(shares.times)
    for decision, values in zip(decisions, shares.values, strict=True):
        yield _Row(heading=decision.name, shares=[None] * empty, words=[""] * empty)
        for option, row in zip(option_words(decision.options), values.tolist(), strict=True):
            words = [
                f"{decision.name}\n{option}: {show_share(v)}\n{time}" if v == v else ""
                for v, time in zip(row, shares.times, strict=True)
            ]
            yield _Row(label=option, shares=[_known(v) for v in row], words=words)


def _known(value: float) -> float | None:
    return round(value, 3) if value == value else None


def _ticks(times: Sequence[str]) -> list[int]:
    """A few places on the axis, the ends among them."""
    return sorted({round(place) for place in np.linspace(0, len(times) - 1, min(5, len(times))).tolist()})


def _tick_words(times: Sequence[str]) -> list[str]:
    return [times[place].partition(" ")[0] for place in _ticks(times)]


def _lead(decisions: Sequence[Decision], shares: _Shares) -> str:
    """The decision whose most frequent option gained most."""
    changes = []
    for decision, values in zip(decisions, shares.values, strict=True):
        known = ~np.isnan(values).any(axis=0)
        if known.sum() < 2:
            continue
        first, last = values[:, known][:, 0], values[:, known][:, -1]
        option = int(np.argmax(last))
        changes.append((float(last[option] - first[option]), decision, option, first[option], last[option]))
    if not changes:
        return "No decision was active often enough to compare its options over time."
    _, decision, option, first_share, last_share = max(changes, key=lambda change: change[0])
    word = option_words(decision.options)[option]
    return (
        f"Most of all the search moved towards {word} for {decision.name}: from {show_share(first_share)} at "
        f"first to {show_share(last_share)} at last."
    )


def _table(key: str, title: str, decisions: Sequence[Decision], shares: _Shares) -> Table:
    rows = tuple(
        {
            "decision": decision.name,
            "option": option,
            "first": _known(float(row[0])),
            "middle": _known(float(row[len(row) // 2])),
            "last": _known(float(row[-1])),
        }
        for decision, values in zip(decisions, shares.values, strict=True)
        for option, row in zip(option_words(decision.options), values, strict=True)
    )
    times = shares.times
    columns = (
        Column(key="decision", heading="decision"),
        Column(key="option", heading="option"),
        Column(key="first", heading=times[0], show=show_share, is_number=True),
        Column(key="middle", heading=times[len(times) // 2], show=show_share, is_number=True),
        Column(key="last", heading=times[-1], show=show_share, is_number=True),
    )
    return Table(key=key, title=title, columns=columns, rows=rows)
