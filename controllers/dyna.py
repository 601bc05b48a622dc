"""The default controller: a policy and a predictor that learn from the same results and choose together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from controllers.advantages import Advantages
from controllers.candidates import Candidates
from controllers.contract import (
    Candidate,
    Conditions,
    ControllerError,
    Costs,
    Feasible,
    Feedback,
    Floats,
    Key,
    Proposal,
    Reward,
    State,
    Tokens,
)
from controllers.independent_policy import IndependentPolicy
from controllers.mutation import mutate, neighbours, without_policy
from controllers.predictor import MOST_RESULTS, Predictor
from controllers.results import Results, require_count
from controllers.state import check_made_alike

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

BEAM, HOPS = 6, 12
"""Candidates whose neighbours are looked at in a step of a climb, and the most steps of it."""

RANKED = 256
"""Candidates that a climb gives, the best first, in case that others have been proposed."""

MOST_PENDING = 64
"""Candidates under way that are reckoned with: a result that has not come after so many hardly comes."""


class Dyna:
    """A policy that learns from results and from imagination, and a predictor that imagines and picks.

    The first `first` candidates are drawn from the policy, which begins uniform. From then on a predictor of
    the reward, with its uncertainty, is fitted to all results. After each result the policy takes a REINFORCE
    step by the real reward and several by rewards that the predictor expects of candidates the policy draws.
    The next candidate is the one with the largest expected improvement that is found by climbing, decision by
    decision, from the policy's draws and from mutations of the best. Candidates under way count as if they
    did what is expected, so that many can be evaluated side by side.

    The best so far is the best by its estimated reward: a lucky measurement stands out from what is known of
    its neighbours and is not chased, nor recommended. Given `costs` and `reward`, and accuracies in the
    outcomes, the predictor may learn the accuracy alone: see `controllers.predictor.Predictor`.

    Results may come late or never. `Outcome.fidelity` is not looked at: feed back rewards that can be
    compared.

    Args:
        cardinalities: Number of options of each decision. Options that stand in an order, such as kernel
            sizes, are best listed in it: the predictor starts from steps in that order counting alike.
        conditions: For each decision the `(parent, options)` of which any makes it active; None: always.
        seed: The same seed and the same results give the same proposals.
        key: Identity of a candidate, for not proposing one twice; None means its canonical tokens.
        feasible: Which candidates may be proposed; None means all.
        costs: Exact costs of candidates, used together with `reward`.
        reward: How the reward follows from accuracies and those costs.
        first: Results before the predictor is asked, at least 2.
        entropy_coef: Weight of each decision's entropy in nats beside advantages of unit size.
        noise: Standard deviation of one measurement of the accuracy, as a fraction, known from measuring
            beforehand; None has it estimated from the results. It is used where accuracies are told.

    Raises:
        ControllerError: An argument breaks its law.

    Source: Sutton, Dyna, SIGART Bulletin 2, 1991, for learning from real and imagined results alike; Jones et
    al., Journal of Global Optimization 13, 1998, for expected improvement.
    """

    def __init__(
        self,
        cardinalities: Sequence[int],
        conditions: Conditions | None = None,
        *,
        seed: int = 0,
        key: Key | None = None,
        feasible: Feasible | None = None,
        costs: Costs | None = None,
        reward: Reward | None = None,
        first: int = 10,
        entropy_coef: float = 0.1,
        noise: float | None = None,
    ) -> None:
        if first < 2:
            raise ControllerError(f"first >= 2 must hold, but got first={first}")
        if noise is not None and not 0 <= noise < math.inf:
            raise ControllerError(
                f"`noise >= 0` must hold for a deviation of accuracies, but got noise={noise}"
            )
        self._candidates = Candidates(cardinalities, conditions, seed=seed, key=key, feasible=feasible)
        self._decisions = self._candidates.decisions
        self._feasible = feasible
        self._first = first
        self._entropy_coef = entropy_coef
        self._results = Results(self._decisions)
        self._pending: list[Candidate] = []
        self._policy = IndependentPolicy(self._decisions, learning_rate=LEARNING_RATE)
        self._advantages = Advantages(BASELINE_KEEP)
        self._predictor = Predictor(self._decisions, costs, reward, noise=noise)
        self._conditioned: tuple[int, int, tuple[Candidate, ...]] | None = None
        self._diagnostics: dict[str, float] = {}
        self._made: State = {
            "controller": "Dyna",
            "decisions": self._decisions.fingerprint,
            "first": first,
            "entropy_coef": entropy_coef,
            "learns_accuracy": costs is not None and reward is not None,
        }
        if noise is not None:
            self._made["noise"] = noise

    def propose(self, n: int = 1) -> list[Proposal]:
        """Returns up to `n` unseen candidates, fewer or none only when no others can be found."""
        require_count(n)
        found: list[Proposal] = []
        for _ in range(n):
            proposals = self._candidates.propose(1, self._draw, without_policy)
            if not proposals:
                break
            found += proposals
            self._pending = [*self._pending, proposals[0].tokens][-MOST_PENDING:]
        return found

    def feedback(self, results: Feedback) -> None:
        """Learns from results: the predictor where it is due, the policy each time.

        Raises:
            ControllerError: A result is not valid; then none of them is taken.
        """
        taken = self._results.take(results)
        for _, tokens, _ in taken:
            self._candidates.note(tokens)
        done = {tokens for _, tokens, _ in taken}
        self._pending = [tokens for tokens in self._pending if tokens not in done]
        if not taken or not self._can_predict:
            return
        self._predictor.fit(self._results)
        self._condition(())
        rewards = [outcome.reward if outcome.is_feasible else self._results.worst for *_, outcome in taken]
        self._learn(np.array([tokens for _, tokens, _ in taken]), np.array(rewards))
        for _ in range(IMAGINED):
            imagined = self._policy.sample(self._candidates.rng, IMAGINED_BATCH)
            self._learn(imagined, self._predictor.estimate(imagined))
        self._diagnose()

    def recommend(self, n: int = 1) -> list[Candidate]:
        """Returns the candidates with the best estimated rewards among those completed.

        Raises:
            ControllerError: `n` is below 1.
        """
        require_count(n)
        return self._ranked(most=len(self._results))[0][:n]

    def state_dict(self) -> State:
        """Returns everything needed to continue exactly."""
        return {
            "made": dict(self._made),
            "candidates": self._candidates.state_dict(),
            "results": self._results.state_dict(),
            "pending": np.array(self._pending, dtype=np.int64).reshape(-1, len(self._decisions)),
            "policy": self._policy.state_dict(),
            "advantages": self._advantages.state_dict(),
            "predictor": self._predictor.state_dict(),
            "diagnostics": dict(self._diagnostics),
        }

    def load_state_dict(self, state: State) -> None:
        """Continues where the state was taken.

        Raises:
            ControllerError: The state is of a controller made otherwise.
        """
        check_made_alike(state, self._made)
        self._candidates.load_state_dict(state["candidates"])
        self._results.load_state_dict(state["results"])
        self._pending = [tuple(row) for row in np.asarray(state["pending"]).tolist()]
        self._policy.load_state_dict(state["policy"])
        self._advantages.load_state_dict(state["advantages"])
        self._predictor.load_state_dict(state["predictor"])
        self._diagnostics = dict(state["diagnostics"])
        self._conditioned = None

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

    @property
    def _can_predict(self) -> bool:
        return len(self._results) >= self._first and math.isfinite(self._results.worst)

    def _condition(self, pending: Sequence[Candidate], *, most: int = MOST_RESULTS) -> None:
        """Brings the predictor up to date; it is the same whether it was or not."""
        wanted = (min(most, len(self._results)), len(self._results), tuple(pending))
        if wanted != self._conditioned:
            rows = np.array(pending, dtype=np.int64).reshape(-1, len(self._decisions))
            self._predictor.condition(self._results, rows, most=most)
            self._conditioned = wanted

    def _learn(self, tokens: Tokens, rewards: Floats) -> None:
        advantages = self._advantages.of(rewards)
        self._policy.step(tokens, advantages / len(advantages), self._entropy_coef)

    def _ranked(self, *, most: int = MOST_RESULTS) -> tuple[list[Candidate], float]:
        """Completed candidates, the best by estimate first, and the estimated reward of the first."""
        if not self._can_predict:
            return self._results.best(len(self._results) or 1), math.nan
        self._condition((), most=most)
        completed = np.array(self._results.best(len(self._results)), dtype=np.int64)
        estimates = self._predictor.estimate(completed)
        order = np.argsort(-estimates, kind="stable")
        return list(map(tuple, completed[order].tolist())), float(estimates[order[0]])

    def _draw(self, rng: np.random.Generator, n: int, temperature: float) -> Tokens:
        if temperature != 1.0 or not self._can_predict:
            return self._policy.sample(rng, n, temperature)
        best, reward = self._ranked()
        self._condition(self._pending)
        parents = np.array(best[:BEAM], dtype=np.int64)
        start = [parents, self._policy.sample(rng, DRAWN)]
        for changes in CHANGED:
            chosen = parents[rng.integers(0, len(parents), MUTATED // len(CHANGED))]
            start.append(mutate(self._decisions, rng, chosen, changes))
        return self._climb(np.concatenate(start), lambda tokens: self._predictor.improvement(tokens, reward))

    def _climb(self, start: Tokens, score: Callable[[Tokens], Floats]) -> Tokens:
        """Goes from the best candidates to their neighbours until none of these is better; best first."""
        scores: dict[Candidate, float] = {}
        expanded: set[Candidate] = set()
        fresh = start
        for _ in range(HOPS):
            rows = [row for row in dict.fromkeys(map(tuple, fresh.tolist())) if row not in scores]
            scores |= self._scored(rows, score)
            beam = [row for row in _top(scores, BEAM) if row not in expanded]
            if not beam:
                break
            expanded.update(beam)
            fresh = neighbours(self._decisions, np.array(beam, dtype=np.int64))
        for row in (*map(tuple, self._results.candidates.tolist()), *self._pending):
            scores.pop(row, None)
        return np.array(_top(scores, RANKED), dtype=np.int64).reshape(-1, len(self._decisions))

    def _scored(self, rows: list[Candidate], score: Callable[[Tokens], Floats]) -> dict[Candidate, float]:
        """Scores of those that may be proposed."""
        if not rows:
            return {}
        tokens = np.array(rows, dtype=np.int64)
        if self._feasible is not None:
            tokens = tokens[np.asarray(self._feasible(tokens))]
        return (
            dict(zip(map(tuple, tokens.tolist()), score(tokens).tolist(), strict=True)) if len(tokens) else {}
        )

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


def _top(scores: dict[Candidate, float], n: int) -> list[Candidate]:
    return sorted(scores, key=lambda row: -scores[row])[:n]
