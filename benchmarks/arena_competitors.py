"""The competitors of the arena: our controllers and peers, asked and told in the same way.

Used by `arena.py`.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from accuracy_prior import LEFT_OUT
from arena_peers import PEERS, SLOW, Observations, make_peer, version_of
from arena_problems import Candidate, Problem

import controllers
from controllers import (
    NSGA2,
    PPO,
    Controller,
    Front,
    LocalSearch,
    Outcome,
    RandomSearch,
    RegularizedEvolution,
    Reinforce,
)
from controllers.dyna import Dyna
from nas.accuracy_prior import accuracy_prior

MOST_OF_PEERS = 500
"""Evaluations that a peer is given at most: its time for a proposal grows with their number."""

TITLES = {
    "dyna": "Dyna",
    "dyna-bare": "Dyna, bare rewards",
    "reinforce": "Reinforce",
    "ppo": "PPO",
    "ppo-lstm": "PPO, LSTM",
    "evolution": "Aging evolution",
    "local": "Local search",
    "random": "Random search",
    "front": "Front",
    "nsga2": "NSGA-II",
    "optuna-tpe": "Optuna TPE",
    "optuna-nsga2": "Optuna NSGA-II",
    "botorch": "BoTorch",
    "smac": "SMAC",
}

KINDS: dict[str, Callable[..., Controller]] = {
    "dyna": Dyna,
    "dyna-bare": Dyna,
    "reinforce": Reinforce,
    "ppo": PPO,
    "ppo-lstm": PPO,
    "evolution": RegularizedEvolution,
    "local": LocalSearch,
    "random": RandomSearch,
    "front": Front,
    "nsga2": NSGA2,
}

PARETO = ("front", "nsga2", "random", "dyna", "optuna-nsga2", "optuna-tpe")
"""Those that are set to look for a front."""

DEFAULT = tuple(name for name in TITLES if name not in ("ppo-lstm", *SLOW))
"""An LSTM costs many times what all the others do, and gains nothing on these spaces; so do two peers."""


class Competitor(Protocol):
    """Chooses candidates, is told what became of them, and has an answer at any time."""

    def ask(self) -> tuple[Any, Candidate] | None:
        """A handle and a candidate to evaluate; None where none is left."""
        ...

    def tell(self, handle: Any, accuracy: float, macs: float) -> None:
        """What was observed."""
        ...

    def fail(self, handle: Any, status: str) -> None:
        """The candidate was infeasible or lost: nothing was observed."""
        ...

    def reject(self, handle: Any, macs: float) -> None:
        """The candidate is above the limit, and was not evaluated."""
        ...

    def answer(self) -> list[Candidate]:
        """The one candidate it would return, or the front."""
        ...


class Ours:
    """One of our controllers."""

    def __init__(self, controller: Controller, problem: Problem, *, is_bare: bool) -> None:
        self._controller, self._problem, self._is_bare = controller, problem, is_bare
        self._observed = Observations()

    def ask(self) -> tuple[Any, Candidate] | None:
        """The next proposal."""
        proposals = self._controller.propose()
        return (proposals[0], proposals[0].tokens) if proposals else None

    def tell(self, handle: Any, accuracy: float, macs: float) -> None:
        """Feeds the reward back, with the accuracy unless only bare rewards are to be told."""
        reward = self._problem.reward(accuracy, macs)
        self._observed.add(handle.tokens, accuracy, macs)
        self._controller.feedback([(handle, reward if self._is_bare else Outcome(reward, accuracy=accuracy))])

    def fail(self, handle: Any, status: str) -> None:
        """Says what became of it."""
        self._controller.feedback([(handle, Outcome(status=status))])

    def reject(self, handle: Any, macs: float) -> None:  # noqa: ARG002  # it failed, by how much or not
        """Says that it is above the limit."""
        self.fail(handle, "infeasible")

    def answer(self) -> list[Candidate]:
        """What the controller recommends; its front, or what is one of all that was observed."""
        if not self._problem.is_pareto:
            return self._controller.recommend()
        if isinstance(self._controller, Front | NSGA2):
            return self._controller.front()
        return self._observed.front()


def code_of(name: str) -> str:
    """Changes with the source that a competitor runs, of a peer with its version."""
    if name in PEERS:
        return version_of(name)
    modules = [inspect.getmodule(KINDS[name])]
    for module in modules:
        used = (inspect.getmodule(value) for value in vars(module).values() if callable(value))
        modules += [m for m in used if m and m.__name__.startswith("controllers.") and m not in modules]
    sources = sorted(inspect.getsource(module) for module in set(modules))
    return hashlib.sha256("".join(sources).encode()).hexdigest()[:10]


def make_competitor(name: str, problem: Problem, seed: int, workers: int) -> Competitor:
    """The competitor of that name, afresh."""
    if name in PEERS:
        return make_peer(name, problem, seed, workers)
    settings = {"policy": "lstm"} if name == "ppo-lstm" else {}
    controller = KINDS[name](make_numbers(problem, name), seed=seed, **settings)
    return Ours(controller, problem, is_bare=name == "dyna-bare")


def make_numbers(problem: Problem, name: str) -> controllers.Problem:
    """What one of our controllers is told of a problem."""
    space = problem.field.benchmark.space
    knows_costs = name == "dyna" or (name in ("front", "nsga2") and problem.is_pareto)
    return controllers.Problem(
        space.cardinalities,
        space.conditions,
        feasible=problem.are_within if problem.limit is not None else None,
        costs=problem.field.macs if knows_costs else None,
        reward=problem.rewards if name == "dyna" else None,
        prior=_prior(problem) if name == "dyna" else None,
        reference=problem.reference if name == "dyna" else None,
    )


def _prior(problem: Problem) -> controllers.contract.Prior:
    """What a search expects of networks, learnt without this benchmark; of mere numbers, by macs."""
    space, name = problem.field.benchmark.space, problem.field.name.partition("-")[0]
    if name in LEFT_OUT:
        return accuracy_prior(space, LEFT_OUT[name])
    return lambda tokens: np.log(problem.field.macs(tokens))
