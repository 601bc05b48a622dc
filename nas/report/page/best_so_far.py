"""The best reward so far, beside what random search of the same budget might have found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.metrics import Goal, metric_info, show_metric
from nas.report.page.charting import Trace, axis, band, steps, trial_points
from nas.report.page.parts import GREY, Absent, Chart, Section
from nas.report.page.source import Source
from nas.report.printing import TRIAL, Column, Table, show_accuracy
from nas.study.fronts import Growth
from nas.study.study import Study
from nas.study.study_trial import StudyTrial

Floats = npt.NDArray[np.float64]

KEY, TITLE = "best", "Best so far"

RUNS = 200
"""Random searches that are simulated."""

POOL = 2_000
"""Random candidates whose rewards are drawn from the model once; each search takes some of them."""

RANDOM = "RandomSearch"

MOST_LISTED = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class _Random:
    """Simulated random searches.

    Attributes:
        median: Median of their best so far after each trial, `(trials,)`.
        low: A tenth of them is below.
        high: A tenth of them is above.
        words: What is simulated from what, and what that leaves out.
    """

    median: Floats
    low: Floats
    high: Floats
    words: str


def best_so_far(source: Source) -> Section | Absent:
    """The best so far over trials."""
    study = source.study
    trials = whole(study)
    if not trials:
        return Absent(key=KEY, title=TITLE, reason="no trial has completed yet")
    if study.objective.is_front:
        return _front_growth(study)
    rewards = np.array([-np.inf if trial.reward is None else trial.reward for trial in trials])
    best = np.maximum.accumulate(rewards)
    random = _simulated(source, rewards)
    last = float(best[-1])
    lead = f"The best reward after {len(trials):,} trained candidates is {show_accuracy(last)}"
    if random is None:
        lead += f". Random search is not simulated beside it: {_why_not(source)}."
    else:
        median = float(random.median[-1])
        apart = f"{show_accuracy(abs(last - median))} {'less' if last > median else 'more'}"
        lead += (
            f"; a simulated random search of the same budget reaches {show_accuracy(median)} (median of "
            f"{RUNS}), {apart}."
        )
    return Section(key=KEY, title=TITLE, lead=lead, blocks=(_chart(source, trials, rewards, best, random),))


def whole(study: Study) -> list[StudyTrial]:
    """Trials that were trained themselves at the highest fidelity and have ended, in order."""
    ended = [
        t for t in study.trials if t.copied_from is None and t.status.value in ("completed", "infeasible")
    ]
    most = max((trial.fidelity for trial in ended if trial.reward is not None), default=None)
    found = [trial for trial in ended if trial.fidelity == most]
    while found and found[0].reward is None:
        del found[0]  # there is no best before the first reward
    return found


def _simulated(source: Source, rewards: Floats) -> _Random | None:
    if source.study.identity.controller == RANDOM:
        pool = rewards
        words = (
            f"The band is of {RUNS} random searches that are simulated: this search is one itself, and its "
            "own results are taken in other orders. None of them can find more than it found."
        )
    elif source.insight is not None:
        pool = source.insight.random.draw(POOL, seed=0)
        words = (
            f"The band is of {RUNS} random searches that are simulated, not run: {len(pool):,} random "
            "candidates within the limits on known costs, each with the reward that a model of this study's "
            "results expects, an error as large as the model expects of itself, and the noise of one "
            "training. The model learnt from candidates that a controller chose, and may be wrong far from "
            "them; only training random candidates, as the final comparison does, is a measurement."
        )
    else:
        return None
    pool = np.where(np.isnan(pool), -np.inf, pool)
    if not len(pool) or not np.isfinite(pool).any():
        return None
    rng = np.random.default_rng(0)
    count = len(rewards)
    runs = np.stack([_order(rng, pool, count) for _ in range(RUNS)])
    runs = np.maximum.accumulate(runs, axis=1)
    runs = np.where(np.isfinite(runs), runs, pool[np.isfinite(pool)].min())
    low, median, high = np.quantile(runs, [0.1, 0.5, 0.9], axis=0)
    return _Random(median=median, low=low, high=high, words=words)


def _order(rng: np.random.Generator, pool: Floats, count: int) -> Floats:
    if count <= len(pool):
        return pool[rng.permutation(len(pool))[:count]]
    return pool[rng.integers(len(pool), size=count)]


def _why_not(source: Source) -> str:
    return f"that {source.unexplained}" if source.unexplained else "no random candidate has a reward"


def _chart(
    source: Source, trials: Sequence[StudyTrial], rewards: Floats, best: Floats, random: _Random | None
) -> Chart:
    numbers = list(range(1, len(trials) + 1))
    shown = {trial.number for trial in source.shown}
    dots = [place for place, trial in enumerate(trials) if trial.number in shown and trial.reward is not None]
    kept = corners(best)
    traces: list[Trace] = []
    if random is not None:
        traces += _band(numbers, random)
    metrics = (source.study.objective.goal.metric, *source.study.objective.costs)
    traces += [
        trial_points(
            [trials[place] for place in dots],
            [numbers[place] for place in dots],
            rewards[dots].tolist(),
            name="one trial",
            metrics=metrics,
            size=6 if len(dots) > 200 else 8,
        ),
        steps([numbers[p] for p in kept], best[kept].tolist(), name="best so far"),
    ]
    floor = _floor(rewards[np.isfinite(rewards)])
    top = max(float(best[-1]), -np.inf if random is None else float(random.high[-1]))
    span = (top - floor) or 1.0
    layout = {
        "xaxis": axis("trained candidates"),
        "yaxis": axis("reward", range=[floor - 0.04 * span, top + 0.06 * span]),
    }
    below = int((rewards[np.isfinite(rewards)] < floor - 0.04 * span).sum())
    left = len([t for t in trials if t.reward is not None]) - len(dots)
    notes = (
        *(() if random is None else (random.words,)),
        *_shorter_words(source.study, len(trials)),
        *((f"{below} trials lie below the axis.",) if below else ()),
        *((f"Of the trials {len(dots):,} are drawn as dots, {left:,} are not.",) if left else ()),
    )
    end = f" The median of simulated random searches ends at {random.median[-1]:.4f}." if random else ""
    return Chart(
        key=KEY,
        title="Reward of each trial, and the best so far",
        figure={"data": traces, "layout": layout},
        alt=f"The best reward rises from {best[0]:.4f} to {best[-1]:.4f} over {len(trials)} trials.{end}",
        table=_table(trials, best, random),
        notes=notes,
    )


def _shorter_words(study: Study, whole: int) -> tuple[str, ...]:
    """That shorter trainings are not counted; nothing where there are none."""
    most = max(trial.fidelity for trial in study.completed)
    shorter = sum(trial.fidelity < most and trial.copied_from is None for trial in study.trials)
    return (
        f"Only the {whole:,} trainings of the highest fidelity count here; the search also spent {shorter:,} "
        "shorter ones, which a random search of the same number of whole trainings does not.",
    ) * (shorter > 0)


def corners(best: Floats) -> list[int]:
    """Where the best changes, and the ends, in order."""
    changes = [0, *(np.flatnonzero(np.diff(best)) + 1).tolist(), len(best) - 1]
    return list(dict.fromkeys(changes))


def _band(numbers: Sequence[int], random: _Random) -> list[Trace]:
    places = sorted({round(p) for p in np.linspace(0, len(numbers) - 1, min(len(numbers), 300)).tolist()})
    x = [numbers[place] for place in places]
    low, middle, high = (one[places].tolist() for one in (random.low, random.median, random.high))
    return [
        *band(x, low, high, opacity=0.22, name=f"random search, simulated: 80 % of {RUNS}"),
        steps(x, middle, name="its median, simulated", color=GREY, dash="dash", width=2),
    ]


def _floor(rewards: Floats) -> float:
    """Where the axis begins: rewards far below the others would flatten them."""
    low, middle = np.quantile(rewards, [0.1, 0.5])
    reach, least = float(rewards.max() - low), float(rewards.min())
    return least if float(middle) - least <= 2 * reach or not reach else float(low) - 0.5 * reach


def _table(trials: Sequence[StudyTrial], best: Floats, random: _Random | None) -> Table:
    found = corners(best)
    rows = [
        {
            "after": place + 1,
            "trial": trials[place].number if place in found else None,
            "reward": float(best[place]),
            **({} if random is None else {"random": float(random.median[place])}),
        }
        for place in dict.fromkeys((*found[-MOST_LISTED:], len(best) - 1))
    ]
    columns = [
        Column(key="after", heading="after", is_number=True),
        TRIAL,
        Column(key="reward", heading="best reward", show=show_accuracy, is_number=True),
    ]
    if random is not None:
        columns.append(
            Column(key="random", heading="random search (simulated)", show=show_accuracy, is_number=True)
        )
    title = "When a better one was found" + (", the latest" if len(found) > MOST_LISTED else "")
    return Table(key="best_so_far", title=title, columns=tuple(columns), rows=tuple(rows))


def _front_growth(study: Study) -> Section | Absent:
    goals = study.front_goals()
    entries = study.entries(goals)
    if not entries:
        return Absent(key=KEY, title=TITLE, reason="no trial has every metric that the front is of")
    growth = Growth.of(entries, goals)
    lead = (
        f"The search looked for a front; its hypervolume is {growth.volumes[-1]:.4g} after "
        f"{len(growth.numbers):,} trials."
    )
    return Section(key=KEY, title=TITLE, lead=lead, blocks=(_growth_chart(growth, goals),))


def _growth_chart(growth: Growth, goals: Sequence[Goal]) -> Chart:
    places = corners(np.array(growth.volumes))
    worst = ", ".join(
        f"{metric_info(goal.metric).label} {show_metric(goal.metric, value)}"
        for goal, value in zip(goals, growth.reference, strict=True)
    )
    rows = tuple({"trial": growth.numbers[p], "volume": growth.volumes[p]} for p in places)
    columns = (
        TRIAL,
        Column(key="volume", heading="hypervolume", show=lambda v: f"{v:.4g}", is_number=True),
    )
    volume = steps(
        [growth.numbers[p] for p in places], [growth.volumes[p] for p in places], name="hypervolume"
    )
    return Chart(
        key=KEY,
        title="Hypervolume of the Pareto front",
        figure={
            "data": [volume],
            "layout": {
                "xaxis": axis("trial"),
                "yaxis": axis("hypervolume", rangemode="tozero"),
                "showlegend": False,
            },
        },
        alt=f"The hypervolume grows to {growth.volumes[-1]:.4g} over {len(growth.numbers)} trials.",
        table=Table(key="hypervolume", title="When the front grew", columns=columns, rows=rows[-40:]),
        notes=(
            f"It is the volume between the front and the worst of each ({worst}), by "
            f"{', '.join(growth.axes)}.",
            "Random search is not simulated beside a search of fronts: the model of rewards knows none.",
        ),
    )
