"""Rewards that random candidates of a space may have, as a model of a study's results knows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from controllers.decisions import Decisions
from controllers.predictor import Predictor
from controllers.results import Results
from nas.objective import Objective
from search_spaces import SearchSpace

Floats = npt.NDArray[np.float64]

BLOCK = 200
"""Candidates whose errors are drawn together: the time grows with their cube."""

BOUNDED = ("macs", "params", "activations")

MOST_DRAWS = 20
"""Draws for each candidate that is asked for, before a space of mostly infeasible candidates is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomRewards:
    """What a random search might measure, according to a model that was fitted to a study's results.

    A reward is what the model expects, plus an error of the model, plus the noise of one training, each drawn
    from the normal distribution that the model has for it. Candidates whose known costs break a limit are not
    drawn, as in a search.

    Attributes:
        predictor: The model, of rewards.
        results: What it was fitted to.
        decisions: What the tokens mean.
        space: The space.
        objective: Its limits on known costs.
    """

    predictor: Predictor
    results: Results
    decisions: Decisions
    space: SearchSpace
    objective: Objective

    def draw(self, count: int, *, seed: int) -> Floats:
        """Rewards of so many random candidates, NaN for those that fail; fewer where few meet the limits.

        Args:
            count: How many.
            seed: Of the generator behind them.
        """
        rng = np.random.default_rng(seed)
        tokens = self._feasible(rng, count)
        blocks = [tokens[at : at + BLOCK] for at in range(0, len(tokens), BLOCK)]
        rewards = [self._rewards(rng, block) for block in blocks]
        return np.concatenate(rewards) if rewards else np.zeros(0)

    def _feasible(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
        limits = self.objective.known_limits
        bounds = {metric: (0.0, limit) for metric, limit in limits.items() if metric in BOUNDED}
        found, have = [], 0
        for _ in range(MOST_DRAWS):
            tokens = self.decisions.sample(rng, count)
            tokens = tokens[self.space.are_within(tokens, **bounds)]
            found.append(tokens)
            have += len(tokens)
            if have >= count:
                break
        return np.concatenate(found)[:count]

    def _rewards(self, rng: np.random.Generator, tokens: npt.NDArray[np.int64]) -> Floats:
        beliefs = self.predictor.beliefs(self.results, tokens)
        values, vectors = np.linalg.eigh(beliefs.covariance)
        errors = vectors @ (np.sqrt(np.maximum(values, 0.0)) * rng.standard_normal(len(tokens)))
        rewards = np.asarray(beliefs.means + errors + beliefs.noise * rng.standard_normal(len(tokens)))
        rewards[rng.random(len(tokens)) > self.predictor.chance(tokens)] = np.nan
        return rewards
