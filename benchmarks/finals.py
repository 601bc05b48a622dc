"""What measuring the best again is worth: the regret of the recommendation with and without finals.

    OMP_NUM_THREADS=1 python benchmarks/finals.py --data FOLDER

Problems are those of `arena.py`, with noise; every search has as many trials in all, those that measure
again included. `none` tries new candidates to the end, `3` measures the three recommended again in the last
six trials, and `auto` leaves it to `controllers.finals`. The searches of one seed are the same one until the
first of them begins its finals. Regret is in percent, as in the arena: of the candidate that is recommended,
and of the best one that was evaluated, which nobody knows.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from arena_problems import (
    BENCHMARKS,
    COLLAPSED,
    FAILURES,
    OBJECTIVES,
    Candidate,
    Problem,
    load_field,
    make_problem,
)

import controllers
from controllers import Outcome, Proposal
from controllers.finals import MOST_SHARE, next_final
from nas.machine import processor_name
from nas.scheduling import FINAL_REPLICATES

MODES = ("none", "3", "auto")
"""Without finals, with three finalists, and as the noise calls for."""


class Search:
    """A search on a problem, one trial after the other.

    Args:
        problem: Where.
        seed: Of the controller, of the noise and of failures.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        space = problem.field.benchmark.space
        numbers = controllers.Problem(
            space.cardinalities, space.conditions, costs=problem.field.macs, reward=problem.rewards
        )
        self._problem, self._seed = problem, seed
        self._noise, self._luck = (np.random.default_rng([seed, stream]) for stream in (1, 3))
        self._best = float("inf")
        self.controller = controllers.Default(numbers, seed=seed)
        self.again: Counter[Candidate] = Counter()

    def copy(self) -> Search:
        """The same search, to be continued in another way."""
        other = Search(self._problem, self._seed)
        other.controller.load_state_dict(self.controller.state_dict())
        other._noise, other._luck = deepcopy((self._noise, self._luck))
        other._best, other.again = self._best, self.again.copy()
        return other

    def run(self, first: int, last: int, total: int, mode: str) -> None:
        """Runs trials of these numbers, of so many in all."""
        for number in range(first, last):
            tokens = self._finalist(total - number, total, mode)
            if tokens is None:
                (proposal,) = self.controller.propose() or [None]
                if proposal is None:
                    return
            else:
                self.again[tokens] += 1
                proposal = Proposal(tokens)
            self._evaluate(proposal)

    def result(self) -> tuple[float, float, int, int]:
        """Regret of the recommendation and of the best evaluated; trials measured again, and candidates."""
        regret = self._problem.regret(self.controller.recommend())
        return regret, self._best, self.again.total(), len(self.again)

    def _finalist(self, left: int, total: int, mode: str) -> Candidate | None:
        if mode == "auto":
            return next_final(self.controller.beliefs(), left=left, total=total)
        if mode == "none" or left > int(mode) * FINAL_REPLICATES:
            return None
        return min(self.controller.recommend(int(mode)), key=self.again.__getitem__)

    def _evaluate(self, proposal: Proposal) -> None:
        problem, tokens = self._problem, proposal.tokens
        accuracy, macs = problem.field.look_up(tokens)
        observed = accuracy + problem.deviation * self._noise.standard_normal()
        became = problem.becomes(tokens, self._luck)
        if became == "completed":
            self._best = min(self._best, problem.regret([tokens]))
        observed = COLLAPSED if became == "collapse" else observed
        outcome = (
            Outcome(problem.reward(observed, macs), accuracy=observed)
            if became in ("completed", "collapse")
            else Outcome(status=became)
        )
        self.controller.feedback([(proposal, outcome)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """All seeds of one problem and mode: columns are those of `Search.result`."""

    problem: str
    mode: str
    found: np.ndarray

    def __str__(self) -> str:
        recommended, best, trials, candidates = self.found.T
        low, middle, high = np.quantile(recommended, [0.25, 0.5, 0.75])
        cells = (
            self.problem,
            self.mode,
            f"{middle:.2f} [{low:.2f}, {high:.2f}]",
            f"{recommended.mean():.2f}",
            f"{np.median(best):.2f}",
            f"{np.median(recommended - best):.2f}",
            f"{np.median(trials):g}",
            f"{np.median(candidates):g}",
            str(len(self.found)),
        )
        return f"| {' | '.join(cells)} |"


def compare(problem: Problem, seeds: range, trials: int) -> list[Row]:
    """Runs all modes on a problem."""
    found: dict[str, list[tuple[float, float, int, int]]] = {mode: [] for mode in MODES}
    begun = trials - max(3 * FINAL_REPLICATES, int(MOST_SHARE * trials))
    for seed in seeds:
        shared = Search(problem, seed)
        shared.run(0, begun, trials, "none")
        for mode in MODES:
            search = shared.copy()
            search.run(begun, trials, trials, mode)
            found[mode].append(search.result())
    return [Row(problem=problem.name, mode=mode, found=np.array(found[mode])) for mode in MODES]


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--benchmarks", nargs="+", choices=BENCHMARKS, default=BENCHMARKS)
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES[:3], default=("soft",))
    parser.add_argument("--failures", nargs="+", choices=FAILURES, default=("none",))
    parser.add_argument("--noise", choices=("own", "none"), default="own")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--first-seed", type=int, default=1000, help="settings were chosen on 0 to 11")
    parser.add_argument("--trials", type=int, default=200, help="of each search, finals included")
    parser.add_argument("--data", type=Path, default=os.environ.get("MNAS_DATA"), help="published tables")
    parser.add_argument("--cache", type=Path, default=Path("runs/arena/cache"), help="surrogates and scales")
    options = parser.parse_args()
    print(f"{shlex.join(['python', *sys.argv])}; {processor_name()}\n")
    print("| problem | finals | recommended | mean | best evaluated | difference | again | of | n |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in options.benchmarks:
        field = load_field(name, options.data, options.cache)
        for goal in options.objectives:
            for failures in options.failures:
                problem = make_problem(field, goal, options.noise, options.cache, failures=failures)
                seeds = range(options.first_seed, options.first_seed + options.seeds)
                print(*compare(problem, seeds, options.trials), sep="\n", flush=True)


if __name__ == "__main__":
    main()
