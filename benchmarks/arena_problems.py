"""The problems of the arena: a benchmark with an accuracy for every candidate, an objective, a scale.

Used by `arena.py`, which says how the scale is to be read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from arena_landscapes import make_landscape

from controllers.decisions import Decisions
from controllers.mutation import mutate, neighbours
from controllers.pareto import hypervolume, is_dominated
from nas import Constraint, Objective
from nas.benchmarks import Benchmark, load_accel_nasbench, load_digits_bench, load_nas_bench_macro
from nas.benchmarks.surrogate import (
    Floats,
    Predict,
    Tokens,
    cached_surrogate,
    digest_of,
    fit_surrogate,
    held_out_quality,
)

BENCHMARKS = ("accel-mlp", "accel-trees", "macro", "digits", "cell", "tree")
OBJECTIVES = ("soft", "hard", "limit", "absolute", "pareto")
NOISES = ("own", "none")
FAILURES = ("none", "random", "lost", "digest", "rule", "collapse")

TARGETS = {
    "accel-mlp": (350e6, 300e6),
    "accel-trees": (350e6, 300e6),
    "macro": (50e6, 50e6),
    "digits": (150e3, 120e3),
    "cell": (60e6, 45e6),
    "tree": (70e6, 55e6),
}
"""Multiply-adds of the soft objective, where they are only a unit, and of the three that keep to them."""

RULES = {
    "accel-mlp": tuple((4 * block + 1, 2, 4 * block + 3, 3 if block == 5 else 2) for block in range(7)),
    "accel-trees": tuple((4 * block + 1, 2, 4 * block + 3, 3 if block == 5 else 2) for block in range(7)),
    "macro": ((0, 2, 7, 2), (1, 2, 6, 2)),
    "digits": ((1, 2, 3, 1), (5, 2, 7, 1)),
    "cell": ((0, 4, 3, 4), (1, 4, 5, 4)),
    "tree": tuple((7 * stage + 3, 2, 7 * stage + 6, 4) for stage in range(5)),
}
"""Pairs of options that fail together, as decision, option, decision, option: the largest expansion with the
most layers runs out of memory."""

FAILING, LOST, COLLAPSED = 0.10, 0.05, 0.01
"""Share of candidates that fail at random, by digest or by collapse; that are lost; a collapsed accuracy."""

LANDSCAPE_SEED = 10
"""Of the cell and the tree that are reported; settings were chosen on seeds 0 to 3."""

RANDOM = 20_000
"""Random candidates whose median is 100 on the scale."""

RESTARTS, BEAM, MOST_HOPS, PATIENCE, DOUBLES = 6, 30, 60, 4, 60
"""Of the local search whose best is 0 on the scale; after so many hops without a better one it ends."""

EVERY = 1 << 62
"""More neighbours than there are."""

MOST_EXPANDED = 150
"""Members of a front whose neighbours are looked at in one hop."""

Candidate = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A space in which every candidate has a true accuracy.

    Attributes:
        name: One of `BENCHMARKS`, or another for a field of one's own.
        benchmark: The table behind it, with its noise.
        predict: True accuracies of candidates.
        digest: Equal only where all true accuracies are.
        quality: How well a surrogate predicts candidates that were held out; empty for a whole table.
        memo: Accuracies and macs that have been looked up.
    """

    name: str
    benchmark: Benchmark
    predict: Predict
    digest: str
    quality: str = ""
    memo: dict[Candidate, tuple[float, float]] = field(default_factory=dict)

    def macs(self, tokens: Tokens) -> Floats:
        """Exact multiply-adds (n,)."""
        return self.benchmark.space.costs(tokens).macs.astype(np.float64)

    def look_up(self, candidate: Candidate) -> tuple[float, float]:
        """True accuracy and macs of one candidate."""
        found = self.memo.get(candidate)
        if found is None:
            row = np.array([candidate])
            found = self.memo[candidate] = (self.predict(row).item(), self.macs(row).item())
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """The scale of a problem.

    Attributes:
        best: The largest score known: a reward, or for `pareto` a hypervolume.
        median: The median score of one random candidate.
        least_accuracy: Reference point of the hypervolume: the worst random candidate's.
        most_macs: Likewise, the largest random candidate's.
        size: Candidates that make `best`: 1, or those of the best front known.
    """

    best: float
    median: float
    least_accuracy: float
    most_macs: float
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A field with an objective and a level of noise.

    Attributes:
        field: Where is searched.
        goal: One of `OBJECTIVES`.
        objective: The reward; for `pareto` that of controllers which need one; its constraint for `limit`.
        noise: Name of the level, `own` or `none`.
        anchors: The scale, of candidates that keep the limit and do not fail by digest or by rule.
        failures: One of `FAILURES`; `random` has lost ones too.
    """

    field: Field
    goal: str
    objective: Objective
    noise: str
    anchors: Anchors
    failures: str = "none"

    @property
    def name(self) -> str:
        """Benchmark, objective, noise and failures."""
        name = f"{self.field.name}-{self.goal}-{self.noise}"
        return name if self.failures == "none" else f"{name}-{self.failures}"

    def becomes(self, candidate: Candidate, rng: np.random.Generator) -> str:
        """What becomes of an evaluation: completed, collapse, infeasible or lost."""
        drawn = rng.random()  # always one, so that the same seed gives the same luck to all
        if self.failures in ("digest", "rule"):
            fails = bool(are_failing(self.field, self.failures, np.array([candidate]))[0])
            return "infeasible" if fails else "completed"
        if self.failures in ("random", "collapse") and drawn < FAILING:
            return "infeasible" if self.failures == "random" else "collapse"
        is_lost = self.failures in ("random", "lost") and FAILING <= drawn < FAILING + LOST
        return "lost" if is_lost else "completed"

    @property
    def reference(self) -> Candidate | None:
        """The published network that the space was built around, if there is one."""
        space = self.field.benchmark.space
        reference = getattr(space, "reference", None)
        return None if reference is None else space.encode(reference)

    @property
    def limit(self) -> float | None:
        """The most macs that a candidate may have; None where there is no limit."""
        return _limit_of(self.objective)

    def are_within(self, tokens: Tokens) -> npt.NDArray[np.bool_]:
        """Which candidates keep the limit, `(n,)`."""
        limit = self.limit
        assert limit is not None
        return np.asarray(self.field.macs(tokens) <= limit)

    @property
    def is_pareto(self) -> bool:
        """Whether a front is looked for, not one candidate."""
        return self.goal == "pareto"

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise on accuracies, a fraction."""
        return self.field.benchmark.noise if self.noise == "own" else 0.0

    @property
    def digest(self) -> str:
        """Equal only where runs can be compared."""
        parts = [self.field.digest, self.goal, self.objective.to_json(), repr(self.deviation)]
        return _short(*parts, *(() if self.failures == "none" else (self.failures,)))

    def rewards(self, accuracies: Floats, macs: Floats) -> Floats:
        """Rewards (n,) from accuracies (n,) and macs (n,)."""
        return rewards(self.objective, accuracies, macs)

    def reward(self, accuracy: float, macs: float) -> float:
        """The reward of one candidate."""
        return self.objective.reward(accuracy, {"macs": macs})

    def regret(self, answer: list[Candidate]) -> float:
        """How far an answer's true score is from the best, percent of a random candidate's distance."""
        accuracies, macs = np.array([self.field.look_up(candidate) for candidate in answer]).T
        anchors = self.anchors
        score = _volume(accuracies, macs, anchors) if self.is_pareto else self.rewards(accuracies, macs)[0]
        return 100 * float((anchors.best - score) / (anchors.best - anchors.median))

    def facts(self) -> dict[str, object]:
        """What a table of results has to say about the problem."""
        return {
            "problem": self.name,
            "digest": self.digest,
            "benchmark": self.field.name,
            "objective": self.goal,
            "noise": self.noise,
            "failures": self.failures,
            "source": self.field.benchmark.source,
            "reward": self.objective.describe(),
            "noise_points": 100 * self.deviation,
            "quality": self.field.quality,
            "best": self.anchors.best,
            "median": self.anchors.median,
            "size": self.anchors.size,
        }


def rewards(objective: Objective, accuracies: Floats, macs: Floats) -> Floats:
    """`Objective.reward` of many candidates at once, for objectives of macs alone."""
    result = np.asarray(accuracies, np.float64)
    for term in objective.factors:
        exponents = np.where(macs <= term.target, term.exponent_under, term.exponent_over)
        result = result * (macs / term.target) ** exponents
    for term in objective.absolutes:
        result = result + term.beta * np.abs(macs / term.target - 1)
    return result


def make_objective(goal: str, targets: tuple[float, float]) -> Objective:
    """The objective of that name; for a front the soft one, which trades accuracy for cost."""
    unit, target = targets
    if goal == "hard":
        return Objective.hard("macs", target)
    if goal == "limit":
        return Objective(constraints=(Constraint(metric="macs", upper=target),))
    if goal == "absolute":
        return Objective.absolute("macs", target)
    return Objective.soft("macs", unit)


def _limit_of(objective: Objective) -> float | None:
    return objective.constraints[0].upper if objective.constraints else None


def load_field(name: str, data: Path | None, cache: Path) -> Field:
    """Loads a benchmark, and fits its surrogate where it needs one and none is in the cache."""
    if name in ("cell", "tree"):
        made = make_landscape(name, LANDSCAPE_SEED)
        return Field(name=name, benchmark=made, predict=made.accuracy, digest=_short(made.source))
    if name == "digits":
        return table_field(name, load_digits_bench())
    if data is None:
        raise SystemExit(f"{name} needs published files: set MNAS_DATA or give --data FOLDER")
    if name == "macro":
        return table_field(name, load_nas_bench_macro(data / "nas-bench-macro_cifar10.json"))
    benchmark = load_accel_nasbench(data / "accel_nasbench.csv")
    if name == "accel-mlp":
        predict, fit = cached_surrogate(benchmark, cache), fit_surrogate
    else:
        from tree_surrogate import cached_trees, fit_trees

        predict, fit = cached_trees(benchmark, cache), fit_trees
    said = cache / f"quality-{name}-{predict.digest[:12]}.json"
    quality = cached_json(said, lambda: str(held_out_quality(benchmark, fit)))
    return Field(name=name, benchmark=benchmark, predict=predict, digest=predict.digest, quality=quality)


def table_field(name: str, benchmark: Benchmark) -> Field:
    """A field whose true accuracies are the means of an exhaustive table."""
    table = benchmark.lookup()
    macs = benchmark.space.costs(benchmark.tokens).macs.tolist()
    return Field(
        name=name,
        benchmark=benchmark,
        predict=lambda tokens: np.array([table[row] for row in map(tuple, tokens.tolist())]),
        digest=digest_of({"tokens": benchmark.tokens, "accuracies": benchmark.accuracies}),
        memo={row: (accuracy, cost) for (row, accuracy), cost in zip(table.items(), macs, strict=True)},
    )


def are_failing(field: Field, failures: str, tokens: Tokens) -> npt.NDArray[np.bool_]:
    """Which candidates fail each time, by their digest or by a rule on decisions, `(n,)`."""
    space = field.benchmark.space
    decisions = Decisions(space.cardinalities, space.conditions)
    tokens = decisions.canonical(tokens)
    if failures == "digest":
        digests = [hashlib.sha256(row.tobytes()).digest()[0] for row in tokens.astype(np.uint8)]
        return np.array(digests) < FAILING * 256
    active, fails = decisions.active(tokens), np.zeros(len(tokens), dtype=np.bool_)
    for one, option, other, with_option in RULES[field.name] if failures == "rule" else ():
        both = active[:, one] & active[:, other]
        fails |= both & (tokens[:, one] == option) & (tokens[:, other] == with_option)
    return fails


def make_problem(
    field: Field, goal: str, noise: str, cache: Path, targets=None, failures: str = "none"
) -> Problem:
    """A problem with its scale, which is computed once and kept in the cache."""
    objective = make_objective(goal, targets or TARGETS[field.name])
    kind = "front" if goal == "pareto" else objective.to_json()
    law = failures if failures in ("digest", "rule") and goal != "pareto" else ""
    name = f"anchors-{field.name}-{goal}-{law}{_short(field.digest, kind)}.json"
    make = _front_anchors if goal == "pareto" else _reward_anchors
    anchors = Anchors(**cached_json(cache / name, lambda: vars_of(make(field, objective, law))))
    return Problem(
        field=field, goal=goal, objective=objective, noise=noise, anchors=anchors, failures=failures
    )


def vars_of(anchors: Anchors) -> dict[str, float]:
    """The fields by name."""
    return {name: getattr(anchors, name) for name in Anchors.__dataclass_fields__}


def cached_json(path: Path, make: Callable[[], object]):
    """Reads a JSON file, or makes what is to be in it and writes it whole."""
    if not path.exists():
        write_whole(path, json.dumps(make()) + "\n")
    return json.loads(path.read_text(encoding="utf-8"))


def write_whole(path: Path, text: str) -> None:
    """Writes a whole file or none, so that another process never reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_text(text, encoding="utf-8")
    half.replace(path)


def _short(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _sample(field: Field) -> Tokens:
    """All candidates of a table, or random ones."""
    if field.benchmark.is_exhaustive:
        return field.benchmark.tokens
    decisions = Decisions(field.benchmark.space.cardinalities, field.benchmark.space.conditions)
    return decisions.sample(np.random.default_rng(0), RANDOM)


def _reward_anchors(field: Field, objective: Objective, failures: str) -> Anchors:
    limit = _limit_of(objective)

    def score(tokens: Tokens) -> Floats:
        macs = field.macs(tokens)
        scores = rewards(objective, field.predict(tokens), macs)
        scores = scores if limit is None else np.where(macs <= limit, scores, -np.inf)
        return np.where(are_failing(field, failures, tokens), -np.inf, scores) if failures else scores

    tokens = _sample(field)
    scores = score(tokens)
    best = scores.max()
    if not field.benchmark.is_exhaustive:
        decisions = Decisions(field.benchmark.space.cardinalities, field.benchmark.space.conditions)
        rng = np.random.default_rng(1)
        best = max(_climb(decisions, rng, part, score) for part in np.array_split(tokens, RESTARTS))
    macs = field.macs(tokens)
    return Anchors(
        best=float(best),
        median=float(np.median(scores[np.isfinite(scores)])),
        least_accuracy=float(field.predict(tokens).min()),
        most_macs=float(macs.max()),
        size=1,
    )


def _climb(
    decisions: Decisions, rng: np.random.Generator, start: Tokens, score: Callable[[Tokens], Floats]
) -> float:
    """The best score of a beam that goes on to neighbours and to random changes of two decisions."""
    beam, best, idle = start[np.argsort(-score(start))[:BEAM]], -np.inf, 0
    for _ in range(MOST_HOPS):
        doubles = mutate(decisions, rng, np.repeat(beam, DOUBLES, axis=0), 2)
        around = np.unique(
            np.concatenate([beam, neighbours(decisions, beam, rng, EVERY)[0], doubles]), axis=0
        )
        scores = score(around)
        order = np.argsort(-scores, kind="stable")[:BEAM]
        beam = around[order]
        idle = 0 if scores[order[0]] > best else idle + 1
        best = max(best, scores[order[0]])
        if idle == PATIENCE:
            break
    return float(best)


def _front_anchors(
    field: Field,
    objective: Objective,  # noqa: ARG001  # made like the others
    failures: str,  # noqa: ARG001
) -> Anchors:
    tokens = _sample(field)
    accuracies, macs = field.predict(tokens), field.macs(tokens)
    reference = Anchors(
        best=0.0, median=0.0, least_accuracy=accuracies.min().item(), most_macs=macs.max().item(), size=0
    )
    alone = [_volume(accuracies[[row]], macs[[row]], reference) for row in range(len(tokens))]
    front = ~is_dominated(np.column_stack([-accuracies, macs]))
    tokens, accuracies, macs = tokens[front], accuracies[front], macs[front]
    if not field.benchmark.is_exhaustive:
        tokens, accuracies, macs = _spread_front(field, tokens)
    return Anchors(
        best=_volume(accuracies, macs, reference),
        median=float(np.median(alone)),
        least_accuracy=reference.least_accuracy,
        most_macs=reference.most_macs,
        size=len(tokens),
    )


def _spread_front(field: Field, front: Tokens) -> tuple[Tokens, Floats, Floats]:
    """A front from which no single change, and no random change of two decisions, leads farther."""
    decisions = Decisions(field.benchmark.space.cardinalities, field.benchmark.space.conditions)
    rng, expanded, idle = np.random.default_rng(1), set(), 0
    while idle < PATIENCE:
        fresh = [row for row in map(tuple, front.tolist()) if row not in expanded]
        idle = 0 if fresh else idle + 1
        chosen = np.array(fresh) if fresh else front
        chosen = rng.permutation(chosen)[:MOST_EXPANDED]
        around = [front, mutate(decisions, rng, np.repeat(chosen, DOUBLES, axis=0), 2)]
        if fresh:
            around.append(neighbours(decisions, chosen, rng, EVERY)[0])
            expanded.update(map(tuple, chosen.tolist()))
        tokens = np.unique(np.concatenate(around), axis=0)
        accuracies, macs = field.predict(tokens), field.macs(tokens)
        is_front = ~is_dominated(np.column_stack([-accuracies, macs]))
        front, accuracies, macs = tokens[is_front], accuracies[is_front], macs[is_front]
    return front, accuracies, macs


def _volume(accuracies: Floats, macs: Floats, anchors: Anchors) -> float:
    """Hypervolume of accuracy and the logarithm of macs: halving them counts alike everywhere."""
    points = np.column_stack([-accuracies, np.log(macs)])
    return hypervolume(points, np.array([-anchors.least_accuracy, np.log(anchors.most_macs)]))
