"""Writes a controller of your own and compares it with two of ours, without images: 20 seconds.

    python examples/own_controller.py
    nas search --data photos/ --space small --controller examples/own_controller.py:Annealing --out runs/own

A controller sees numbers only: how many options each decision has. `Algorithm` leaves out candidates that
were proposed before, keeps the results, saves and continues the state; you say how candidates are drawn.
"""

import tempfile

import numpy as np

import nas
from controllers import Algorithm, Default, RandomSearch
from controllers.testing import check_controller
from search_spaces import efficientnet


class Annealing(Algorithm):
    """Simulated annealing: changes the current candidate, and moves to a worse one ever more rarely."""

    def __init__(self, problem, conditions=None, *, seed=0, cooling=0.95):
        super().__init__("Annealing", problem, conditions, seed=seed, settings={"cooling": cooling})
        self.cooling, self.heat = cooling, 0.1
        self.current, self.value = None, -np.inf

    def _draw(self, rng, n, temperature):
        rows = self._decisions.sample(rng, n)
        if self.current is None or np.isinf(temperature):
            return rows  # at the start, and where no neighbour is new
        changed = rng.random(rows.shape) < min(
            1.0, temperature / 10
        )  # one decision in ten, more if few are new
        return self._decisions.canonical(np.where(changed, rows, self.current))

    def _learn(self, told):
        for _, candidate, outcome in told:
            gain = outcome.reward - self.value
            if gain > 0 or self._rng.random() < np.exp(gain / self.heat):
                self.current, self.value = candidate, outcome.reward
            self.heat *= self.cooling

    def _own_state(self):
        current = None if self.current is None else list(self.current)
        return {"current": current, "value": self.value if current else None, "heat": self.heat}

    def _load_own_state(self, state):
        if state["current"] is not None:
            self.current, self.value = tuple(state["current"]), state["value"]
        self.heat = state["heat"]


def accuracy(candidate):
    """Stands for a training: squeeze-excite and wide kernels help."""
    stages = candidate.network.stages
    return 0.7 + 0.01 * sum((stage.op.se_ratio > 0) + (stage.op.kernel_size == 5) for stage in stages)


if __name__ == "__main__":
    check_controller(lambda cardinalities, conditions, seed: Annealing(cardinalities, conditions, seed=seed))
    print("Annealing keeps the contract of controllers: its proposals are valid and new, its states continue")
    space = efficientnet()
    for make in (RandomSearch, Annealing, Default):
        with tempfile.TemporaryDirectory() as out:
            study = nas.search(
                space,
                evaluator=nas.TableEvaluator(accuracy, name="assumed accuracy"),
                objective=nas.Objective.soft("macs", 200e6),  # accuracy * (macs / 200 M)^-0.07
                controller=make(space.cardinalities, space.conditions, seed=0),
                executor="inline",
                trials=100,
                out=out,
            )
            print(f"{make.__name__:14} best reward of {len(study.trials)} trials: {study.best.reward:.4f}")
