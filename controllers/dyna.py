"""The default controller: a policy and a predictor that learn from the same results and choose together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from controllers.climb import BEAM, climb
from controllers.contract import (
    Candidate,
    Conditions,
    Floats,
    State,
    Tokens,
    require_count,
)
from controllers.finals import COMPARED, Beliefs
from controllers.kernel import Near
from controllers.mutation import mutate
from controllers.pending import Estimating
from controllers.policies import IndependentPolicy
from controllers.policy_gradient import Advantages
from controllers.predictor import Predictor
from controllers.problem import Problem
from controllers.results import Told
from controllers.start import Start

VERSION = 4
"""Of saved states: one of an earlier version goes on by its results, as its predictor was another."""

LEARNING_RATE = 0.2
"""Adam's, of the policy."""

BASELINE_KEEP = 0.9
"""Share of the policy's baseline that an update keeps."""

IMAGINED, IMAGINED_BATCH = 4, 32
"""Updates of the policy by estimated rewards after each call of `feedback`, and the candidates of each."""

DRAWN, MUTATED = 100, 200
"""Candidates that a climb begins with: drawn from the policy, and mutated from the best so far."""

CHANGED = (2, 6)
"""Decisions that mutation changes, one half of the candidates each."""

MOST_RECOMMENDED_BY = 1000
"""Results that a recommendation goes by at most."""


class Dyna(Estimating):
    """A policy that learns from results and from imagination, and a predictor that imagines and picks.

    The first `first` candidates are chosen by what is known before any result: see `Start`. From then on a
    predictor of the reward, with its uncertainty, is fitted to all results. After each result the policy
    takes a REINFORCE step by the real reward and several by rewards that the predictor expects of candidates
    the policy draws. The next candidate is the one with the largest expected improvement that is found by
    climbing, decision by decision, from the policy's draws and from mutations of the best. Candidates under
    way count with results drawn from what the predictor expects, anew for each proposal, so that many can be
    evaluated side by side.

    The best so far is the best by its estimated reward: a lucky measurement stands out from what is known of
    its neighbours and is not chased, nor recommended. Where the problem has `costs` and `reward`, and
    outcomes have accuracies, the predictor may learn the accuracy alone: see `Predictor`. Where the problem
    has no `noise`, it is estimated from the results.

    Args:
        problem: What is searched; cardinalities stand for `Problem(cardinalities, conditions)`.
        conditions: As in `Problem`.
        seed: The same seed and the same results give the same proposals.
        first: Results before the predictor is used, at least 2.
        entropy_coef: Weight of each decision's entropy in nats beside advantages of unit size.

    Raises:
        ControllerError: An argument is wrong.

    Source: Sutton, Dyna, SIGART Bulletin 2, 1991, for learning from real and imagined results; Jones et
    al., Journal of Global Optimization 13, 1998, for expected improvement.
    """

    def __init__(
        self,
        problem: Problem | Sequence[int],
        conditions: Conditions | None = None,
        *,
        seed: int = 0,
        first: int = 6,
        entropy_coef: float = 0.1,
    ) -> None:
        problem = Problem.of(problem, conditions)
        settings: State = {
            "entropy_coef": entropy_coef,
            "learns_accuracy": problem.costs is not None and problem.reward is not None,
        }
        if problem.noise is not None:
            settings["noise"] = problem.noise
        super().__init__("Dyna", problem, seed=seed, settings=settings, first=first)
        self._entropy_coef = entropy_coef
        self._start = Start(self._problem)
        self._policy = IndependentPolicy(self._decisions, learning_rate=LEARNING_RATE)
        self._advantages = Advantages(BASELINE_KEEP)
        self._predictor = Predictor(self._decisions, problem.costs, problem.reward, noise=problem.noise)
        self._diagnostics: dict[str, float] = {}

    def _draw(self, rng: np.random.Generator, n: int, temperature: float) -> Tokens:
        """Draws the candidates with the largest expected improvement; before `first`, those of `Start`."""
        if temperature != 1.0:
            return self._policy.sample(rng, n, temperature)
        if not self._can_predict:
            return self._start.draw(rng, self._results, self._pending.rows)
        self._predictor.condition(self._results)
        self._predictor.imagine(self._pending.rows, rng)
        numbers, reward = self._predictor.ranked(self._results)
        parents = self._results.candidates[numbers[:BEAM]]
        start = [parents, self._policy.sample(rng, DRAWN)]
        for changes in CHANGED:
            chosen = parents[rng.integers(0, len(parents), MUTATED // len(CHANGED))]
            start.append(mutate(self._decisions, rng, chosen, changes))

        def score(tokens: Tokens, near: Near | None) -> Floats:
            return self._predictor.improvement(tokens, reward, near=near)

        known = np.concatenate([self._results.candidates, self._pending.rows])
        return climb(self._problem, np.concatenate(start), score, rng, but=known)

    def _learn(self, told: Sequence[Told]) -> None:
        """Learns from results: the predictor where it is due, the policy each time."""
        self._forget([tokens for _, tokens, _ in told])
        if not told or not self._can_predict:
            return
        self._predictor.fit(self._results)
        self._predictor.condition(self._results)
        rewards = [outcome.reward if outcome.is_feasible else self._results.worst for *_, outcome in told]
        self._step(np.array([tokens for _, tokens, _ in told]), np.array(rewards))
        for _ in range(IMAGINED):
            imagined = self._policy.sample(self._rng, IMAGINED_BATCH)
            self._step(imagined, self._predictor.estimate(imagined))
        self._diagnose()

    def recommend(self, n: int = 1) -> list[Candidate]:
        """Returns the candidates with the best estimated rewards among those completed.

        Raises:
            ControllerError: `n` is below 1.
        """
        n = require_count("n", n)
        if not self._can_predict:
            return self._results.best(n)
        numbers, _ = self._predictor.widened(self._results, MOST_RECOMMENDED_BY).ranked(self._results)
        return list(map(tuple, self._results.candidates[numbers[:n]].tolist()))

    def beliefs(self, n: int = COMPARED) -> Beliefs:
        """What is believed of the rewards of the `n` candidates that it would recommend.

        Raises:
            ControllerError: `n` is below 1.
        """
        candidates = self.recommend(n)
        if not self._can_predict or not candidates:
            return super().beliefs(n)
        return self._predictor.beliefs(self._results, np.array(candidates, dtype=np.int64))

    def _own_state(self) -> State:
        return {
            "version": VERSION,
            "pending": self._pending.rows,
            "policy": self._policy.state_dict(),
            "advantages": self._advantages.state_dict(),
            "predictor": self._predictor.state_dict(),
            "diagnostics": dict(self._diagnostics),
        }

    def _load_own_state(self, state: State) -> None:
        self._pending.load(state["pending"])
        self._policy.load_state_dict(state["policy"])
        self._advantages.load_state_dict(state["advantages"])
        is_of_now = state.get("version") == VERSION
        self._predictor.load_state_dict(state["predictor"] if is_of_now else {})
        if self._can_predict:
            self._predictor.fit(self._results)  # where the state is of an earlier version
            self._predictor.condition(self._results)
        self._diagnostics = dict(state["diagnostics"])

    def _check_made_alike(self, state: State) -> None:
        saved = state.get("made")
        if isinstance(saved, dict):  # states once named `first`, which only says when the predictor begins
            state = {**state, "made": {name: value for name, value in saved.items() if name != "first"}}
        super()._check_made_alike(state)

    def diagnostics(self) -> dict[str, float]:
        """Returns numbers about the last update, empty before the predictor's first fit.

        `entropy` is the policy's mean of a decision in nats, `baseline` the reward it expects of its draws.
        `prediction_error` is the root mean square error of predicting each result's reward from all others,
        `calibration` that error over the predicted deviation (1 is right, more is too sure), and
        `rank_correlation` Spearman's of predicted and observed rewards, all three as of the last fit.
        `noise` is the deviation of one measurement of what is learnt, known or estimated; what is learnt is
        the accuracy where `learns_accuracy` is 1, else the reward.
        """
        return dict(self._diagnostics)

    def probabilities(self) -> list[Floats] | None:
        """Returns for each decision the probability of each option under the policy."""
        return self._policy.probabilities()

    def _step(self, tokens: Tokens, rewards: Floats) -> None:
        advantages = self._advantages.of(rewards)
        self._policy.step(tokens, advantages / len(advantages), self._entropy_coef)

    def _diagnose(self) -> None:
        calibration = self._predictor.calibration
        if calibration is None:
            return
        self._diagnostics = {
            "entropy": self._policy.entropy(self._results.tokens[-1:]),
            "baseline": self._advantages.baseline,
            "prediction_error": calibration.error,
            "calibration": calibration.ratio,
            "rank_correlation": calibration.rank_correlation,
            "noise": self._predictor.noise,
            "learns_accuracy": float(self._predictor.target == "accuracy"),
        }
