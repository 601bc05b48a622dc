"""The arena's tables and curves, drawn from the runs in its folder.

Used by `arena.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from arena_competitors import TITLES
from arena_peers import PEERS
from arena_problems import FAILURES

from nas.machine import processor_name

GOALS = ("soft", "hard", "limit", "absolute", "pareto")

COLUMNS = (20, 50, 100, 200, 500, 2000)
"""Evaluations that have a column in the tables."""

COLORS = {
    "dyna": "#c2185b",
    "dyna-bare": "#f06292",
    "front": "#c2185b",
    "reinforce": "#1f77b4",
    "ppo": "#17a2b8",
    "ppo-lstm": "#7fb3d5",
    "evolution": "#2e7d32",
    "local": "#8bc34a",
    "random": "#616161",
    "nsga2": "#8d6e63",
    "optuna-tpe": "#e65100",
    "optuna-nsga2": "#ffa726",
    "botorch": "#5e35b1",
    "smac": "#795548",
}

OURS = ("dyna", "front")
"""Those that are drawn bold: what a search takes by itself."""

TICKS = (0, 0.5, 1, 2, 5, 10, 20, 40, 80)
FIRST = 25
"""Evaluations at which curves begin."""

Group = dict[str, list[dict[str, Any]]]
"""The runs of one problem by controller."""


def key_of(run: dict[str, Any]) -> tuple:
    """What tells a run from another."""
    names = ("problem", "digest", "workers", "batches", "controller", "seed")
    return tuple(run.get(name, False) if name == "batches" else run[name] for name in names)


def read_runs(out: Path) -> list[dict[str, Any]]:
    """All whole lines of a folder's runs; the last of two runs of one kind and seed."""
    path = out / "runs.jsonl"
    runs: dict[tuple, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            run = json.loads(line)
            runs[key_of(run)] = run
        except (ValueError, TypeError, KeyError):
            continue  # cut short when the program was killed: that run is made again
    return list(runs.values())


def write_report(out: Path, command: str, versions: str) -> str:
    """Writes OUT/report.md and a picture for each kind of noise and number of workers.

    Returns:
        The text of the report.
    """
    paths = sorted((out / "problems").glob("*.json"))
    facts = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    known = {fact["problem"]: fact for fact in facts}
    runs = [run for run in read_runs(out) if run["digest"] == known.get(run["problem"], {}).get("digest")]
    kinds: dict[tuple[int, bool, bool], dict[str, Group]] = {}
    for run in runs:
        kind = run["workers"], run.get("batches", False), known[run["problem"]]["noise"] == "none"
        group = kinds.setdefault(kind, {}).setdefault(run["problem"], {})
        group.setdefault(run["controller"], []).append(run)
    lines = ["# Arena of controllers", "", *_preamble(runs, command, versions)]
    for (workers, in_batches, is_exact), problems in sorted(kinds.items()):
        noise = "none" if is_exact else "own"
        picture = f"curves-{noise}-{workers}{'-batches' * in_batches}.png"
        draw(problems, known, out / picture)
        said = "Without noise" if is_exact else "With each benchmark's own noise"
        side = "one after the other" if workers == 1 else f"{workers} workers, results in random order"
        side = f"batches of {workers}" if in_batches else side
        lines += [
            "",
            f"## {said}, {side}",
            "",
            f"![Curves]({picture})",
            "",
            *_summary(problems),
        ]
        for name in sorted(problems, key=lambda name: _place(known[name])):
            lines += ["", *_table(known[name], problems[name])]
    text = "\n".join(lines) + "\n"
    (out / "report.md").write_text(text, encoding="utf-8")
    return text


def _place(fact: dict[str, Any]) -> tuple[bool, str, tuple[int, int]]:
    return fact["objective"] == "pareto", fact["benchmark"], _column(fact)


def _column(fact: dict[str, Any]) -> tuple[int, int]:
    """Objective and failures by their order: a column of the picture."""
    return GOALS.index(fact["objective"]), FAILURES.index(fact.get("failures", "none"))


def _preamble(runs: list[dict[str, Any]], command: str, versions: str) -> list[str]:
    machines = ", ".join(sorted({run["machine"] for run in runs})) or processor_name()
    seeds = sorted({run["seed"] for run in runs})
    lines = [
        "Normalised regret in percent of what each would return after so many evaluations: 0 is the best",
        "known, 100 the median random candidate; median [quartiles] over n seeds. It is scored by the true",
        "reward, without noise; for a front by the true hypervolume in accuracy and the logarithm of macs.",
        "ms: mean CPU time for a proposal with its feedback. Peers have 500 evaluations at most.",
        "",
        f"Made by `{command}`; {len(runs)} runs"
        + (f", seeds {seeds[0]} to {seeds[-1]}" if seeds else "")
        + f"; {machines}; {versions}.",
    ]
    codes = {name: {run["code"] for run in runs if run["controller"] == name} for name in TITLES}
    mixed = [TITLES[name] for name in TITLES if len(codes[name]) > 1]
    if mixed:
        lines += ["", f"**Made by more than one version of their code: {', '.join(mixed)}.**"]
    return lines


def _at(runs: list[dict[str, Any]], evaluations: int) -> np.ndarray:
    """Regrets after so many evaluations, of the runs that have them."""
    return np.array([run["regret"][str(evaluations)] for run in runs if str(evaluations) in run["regret"]])


def _columns(groups: list[Group]) -> list[int]:
    found = {int(at) for group in groups for runs in group.values() for run in runs for at in run["regret"]}
    return [at for at in COLUMNS if at in found] or [max(found)]


def _ranked(group: Group, columns: list[int]) -> list[str]:
    """Controllers, the lowest median at the last column that it has first."""

    def last(controller: str) -> float:
        has = [at for at in columns if len(_at(group[controller], at))]
        reached = min(max(has, default=0), 500)
        values = _at(group[controller], reached)
        return float(np.median(values)) if len(values) else np.inf

    return sorted(group, key=last)


def _title(fact: dict[str, Any]) -> str:
    """Benchmark and objective, and the failures where there are any."""
    failures = fact.get("failures", "none")
    return f"{fact['benchmark']}, {fact['objective']}" + (f", {failures}" if failures != "none" else "")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _table(fact: dict[str, Any], group: Group) -> list[str]:
    columns = _columns([group])
    scale = f"Best known {fact['best']:.5g}, median random {fact['median']:.5g}."
    for_whom = ""
    if fact["objective"] == "pareto":
        for_whom = " for those that need a reward"
        scale = f"Best front known has {fact['size']} candidates, hypervolume {fact['best']:.5g}."
    lines = [
        f"### {_title(fact)}",
        "",
        f"{fact['source']}; {fact['reward']}{for_whom}; noise {fact['noise_points']:.2f} points. {scale}"
        + (f" Surrogate: {fact['quality']}." if fact["quality"] else ""),
        "",
        _row(["controller", *(str(at) for at in columns), "ms", "n"]),
        "|---" * (len(columns) + 3) + "|",
    ]
    for controller in _ranked(group, columns):
        cells = []
        for at in columns:
            values = _at(group[controller], at)
            cells.append("{:.1f} [{:.1f}, {:.1f}]".format(*_quartiles(values)) if len(values) else "-")
        ms = np.mean([run["ms"] for run in group[controller]])
        lines.append(_row([TITLES[controller], *cells, f"{ms:.1f}", str(len(group[controller]))]))
    return lines


def _quartiles(values: np.ndarray) -> np.ndarray:
    """Median, lower and upper quartile."""
    return np.percentile(values, [50, 25, 75])


def _summary(problems: dict[str, Group]) -> list[str]:
    """Means over the problems of the medians, and how often each has the lowest."""
    columns = _columns(list(problems.values()))
    medians: dict[int, dict[str, dict[str, float]]] = {at: {} for at in columns}
    for name, group in problems.items():
        for at in columns:
            found = {c: float(np.median(_at(runs, at))) for c, runs in group.items() if len(_at(runs, at))}
            medians[at][name] = found
    lines = [
        "Mean over the problems of the median regrets (on how many problems it is the lowest, or equals it):",
        "",
        _row(["controller", *(str(at) for at in columns), "problems"]),
        "|---" * (len(columns) + 2) + "|",
    ]
    rows = []
    for controller in TITLES:
        names = [name for name in problems if controller in problems[name]]
        cells, means = [], []
        for at in columns:
            reached = [found for found in medians[at].values() if controller in found]
            mine = [found[controller] for found in reached]
            first = sum(found[controller] <= min(found.values()) for found in reached)
            cells.append(f"{np.mean(mine):.1f} ({first})" if mine else "-")
            means.append(np.mean(mine) if mine else np.inf)
        if names:
            rows.append((-len(names), means[0], _row([TITLES[controller], *cells, str(len(names))])))
    return lines + [row for *_, row in sorted(rows)]


def draw(problems: dict[str, Group], known: dict[str, dict[str, Any]], path: Path) -> None:
    """Draws one panel for each problem: median regret with its quartiles by evaluations."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    benchmarks = list(dict.fromkeys(known[name]["benchmark"] for name in sorted(problems)))
    columns = sorted({_column(known[name]) for name in problems})
    size = (4.9 * len(columns) + 0.3, 3.9 * len(benchmarks) + 0.3)
    shape = len(benchmarks), len(columns)
    figure, axes = plt.subplots(*shape, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.set_visible(False)
    for name, group in problems.items():
        fact = known[name]
        axis = axes[benchmarks.index(fact["benchmark"]), columns.index(_column(fact))]
        axis.set_visible(True)
        _panel(axis, fact, group)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(axis: Any, fact: dict[str, Any], group: Group) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    ends: list[tuple[str, float]] = []
    longest = max(run["evaluations"] for runs in group.values() for run in runs)
    lowest, highest = np.inf, 1.0
    for controller, runs in group.items():
        points = sorted({int(at) for run in runs for at in run["regret"]})
        points = [at for at in points if at >= min(FIRST, longest)]
        bands = np.array([_quartiles(_at(runs, at)) for at in points])
        is_peer = controller in PEERS
        style = {"color": COLORS[controller], "linewidth": 2.6 if controller in OURS else 1.5}
        axis.plot(points, bands[:, 0], linestyle="--" if is_peer else "-", **style)
        axis.fill_between(points, bands[:, 1], bands[:, 2], color=COLORS[controller], alpha=0.09, linewidth=0)
        ends.append((controller, bands[-1, 0]))
        lowest, highest = min(lowest, bands[:, 1].min()), max(highest, bands[0, 2])
    axis.set_xscale("log")
    axis.set_yscale("symlog", linthresh=1, linscale=0.5)
    axis.set_xlim(min(FIRST, longest), longest * 1.001)
    axis.set_ylim(lowest / 1.5 if lowest > 1 else min(0.0, lowest), highest * 1.1)
    ticks = (10, 25, 50, 100, 200, 500, 1000, 2000)
    points = [at for at in ticks if min(FIRST, longest) <= at <= longest]
    axis.xaxis.set(major_locator=FixedLocator(points), minor_locator=NullLocator())
    axis.yaxis.set(major_locator=FixedLocator(TICKS), minor_locator=NullLocator())
    axis.set_xticklabels([str(at) for at in points])
    axis.set_yticklabels([f"{tick:g}" for tick in TICKS])
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    count = max(len(runs) for runs in group.values())
    axis.set_title(f"{_title(fact)} (n={count})", fontsize=11, loc="left")
    axis.set_xlabel("evaluations")
    axis.set_ylabel("regret, % of a random candidate's")
    _label(axis, ends)


def _label(axis: Any, ends: list[tuple[str, float]]) -> None:
    """Writes each name at the end of its curve, moved apart where they would overlap."""
    to_axis = axis.transData + axis.transAxes.inverted()
    limit = axis.get_xlim()[1]
    places = sorted((float(to_axis.transform((limit, value))[1]), name) for name, value in ends)
    heights = _apart([height for height, _ in places], 0.056)
    for height, (start, name) in zip(heights, places, strict=True):
        weight = "bold" if name in OURS else "normal"
        axis.annotate(
            TITLES[name],
            xy=(1.0, start),
            xytext=(1.04, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=COLORS[name],
            fontsize=8.5,
            fontweight=weight,
            verticalalignment="center",
            arrowprops={"arrowstyle": "-", "color": COLORS[name], "linewidth": 0.6, "relpos": (0, 0.5)},
            annotation_clip=False,
        )


def _apart(heights: list[float], gap: float) -> list[float]:
    """Ascending heights moved as little as may be, so that none is nearer to the next than a gap."""
    blocks: list[tuple[float, int]] = []  # the height of the lowest of so many that stand gap by gap
    for number, height in enumerate(heights):
        mean, count = height - number * gap, 1
        while blocks and blocks[-1][0] > mean:
            lower, below = blocks.pop()
            mean, count = (mean * count + lower * below) / (count + below), count + below
        blocks.append((mean, count))
    shifted = [mean for mean, count in blocks for _ in range(count)]
    top = 1.0 - (len(heights) - 1) * gap
    return [min(max(mean, 0.0), max(top, 0.0)) + number * gap for number, mean in enumerate(shifted)]
