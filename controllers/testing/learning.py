"""A small objective with a known optimum, and a check that a controller beats random search.

No file is read and nothing is trained.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from controllers.contract import Controller, Floats, Outcome
from controllers.random_search import RandomSearch
from controllers.testing.tools import Make

CARDINALITIES = (3, 2, 3, 2) * 5
"""Twenty decisions like those of a block-wise space: 6^10, sixty million candidates."""


class ChainObjective:
    """A sum of effects of each token and of each pair of neighbouring tokens.

    The optimum is exact, by dynamic programming along the chain. Rewards are scaled to make it 1 and the mean
    of all candidates 0.

    Args:
        cardinalities: Number of options of each decision.
        seed: Of the effects.
        interaction: Standard deviation of a pair's effect, where a token's own is 1.
    """

    def __init__(
        self, cardinalities: Sequence[int] = CARDINALITIES, *, seed: int = 0, interaction: float = 0.5
    ) -> None:
        rng = np.random.default_rng(seed)
        self.cardinalities = tuple(cardinalities)
        self._own = [rng.normal(size=c) for c in self.cardinalities]
        self._pairs = [interaction * rng.normal(size=pair) for pair in itertools.pairwise(cardinalities)]
        self._mean = float(sum(effects.mean() for effects in (*self._own, *self._pairs)))
        self._span = self._best() - self._mean

    def __call__(self, tokens: tuple[int, ...]) -> float:
        """Returns the reward of a candidate, 1 for the best."""
        own = sum(effects[token] for effects, token in zip(self._own, tokens, strict=True))
        pairs = sum(
            effects[pair] for effects, pair in zip(self._pairs, itertools.pairwise(tokens), strict=True)
        )
        return float((own + pairs - self._mean) / self._span)

    def _best(self) -> float:
        best: Floats = self._own[0]
        for own, pairs in zip(self._own[1:], self._pairs, strict=True):
            best = (best[:, None] + pairs).max(axis=0) + own
        return float(best.max())


def regret(
    controller: Controller,
    objective: ChainObjective,
    *,
    evaluations: int,
    noise: float,
    seed: int,
    failing: float = 0.0,
) -> float:
    """Returns how far the candidate with the best observed reward is truly below the optimum.

    Args:
        controller: Fresh.
        objective: What it maximises.
        evaluations: Proposals evaluated, one after the other.
        noise: Standard deviation of the normal error of every observed reward.
        seed: Of that error.
        failing: Share of proposals that are infeasible, drawn at random.
    """
    rng, failures = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    best_observed, true_reward = -np.inf, -np.inf
    for _ in range(evaluations):
        for proposal in controller.propose(1):
            if failures.random() < failing:
                controller.feedback([(proposal, Outcome(status="infeasible"))])
                continue
            truth = objective(proposal.tokens)
            observed = truth + noise * float(rng.normal())
            if observed > best_observed:
                best_observed, true_reward = observed, truth
            controller.feedback([(proposal, observed)])
    return 1.0 - true_reward


def check_learning(
    make: Make,
    *,
    margin: float = 0.5,
    evaluations: int = 200,
    noise: float = 0.05,
    seeds: Sequence[int] = range(5),
    failing: float = 0.0,
) -> tuple[float, float]:
    """Checks that a controller's regret is well below that of random search, over several objectives.

    Args:
        make: Makes a fresh controller.
        margin: Share of random search's mean regret that must be gone, in (0, 1).
        evaluations: Proposals per search.
        noise: Standard deviation of rewards, where the optimum is 1 and the mean of all candidates 0.
        seeds: One search each; the seed also makes the objective and the noise.
        failing: Share of candidates that fail, in [0, 1).

    Returns:
        Mean regret of the controller and of random search.

    Raises:
        AssertionError: The margin is not reached; the message gives both regrets.
    """

    def mean_regret(make_any: Make) -> float:
        regrets = []
        for seed in seeds:
            objective = ChainObjective(seed=seed)
            controller = make_any(objective.cardinalities, None, seed)
            regrets.append(
                regret(
                    controller, objective, evaluations=evaluations, noise=noise, seed=seed, failing=failing
                )
            )
        return float(np.mean(regrets))

    learned = mean_regret(make)
    random = mean_regret(
        lambda cardinalities, conditions, seed: RandomSearch(cardinalities, conditions, seed=seed)
    )
    if not learned <= (1 - margin) * random:
        raise AssertionError(
            f"a controller's mean regret must be at most {1 - margin:.2f} of random search's, but over "
            f"{len(seeds)} seeds of {evaluations} evaluations it is {learned:.3f} against {random:.3f}"
        )
    return learned, random
