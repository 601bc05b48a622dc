"""The competitors of the arena: our controllers and peers, asked and told in the same way.

Used by `arena.py`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
from collections.abc import Callable
from importlib import metadata
from typing import Any, Protocol

import numpy as np
from arena_problems import Candidate, Problem

import controllers
from controllers import (
    NSGA2,
    PPO,
    Controller,
    LocalSearch,
    Outcome,
    RandomSearch,
    RegularizedEvolution,
    Reinforce,
)
from controllers.dyna import Dyna
from controllers.pareto import is_dominated

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
    "nsga2": "NSGA-II",
    "optuna-tpe": "Optuna TPE",
    "optuna-nsga2": "Optuna NSGA-II",
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
    "nsga2": NSGA2,
}

PARETO = ("nsga2", "random", "dyna", "optuna-nsga2", "optuna-tpe")
"""Those that are set to look for a front."""

PEERS = ("optuna-tpe", "optuna-nsga2")

DEFAULT = tuple(name for name in TITLES if name != "ppo-lstm")
"""An LSTM costs many times what all the others do, and gains nothing on these spaces."""


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

    def answer(self) -> list[Candidate]:
        """The one candidate it would return, or the front."""
        ...


class Ours:
    """One of our controllers."""

    def __init__(self, controller: Controller, problem: Problem, *, is_bare: bool) -> None:
        self._controller, self._problem, self._is_bare = controller, problem, is_bare
        self._observed: dict[Candidate, tuple[float, float]] = {}

    def ask(self) -> tuple[Any, Candidate] | None:
        """The next proposal."""
        proposals = self._controller.propose()
        return (proposals[0], proposals[0].tokens) if proposals else None

    def tell(self, handle: Any, accuracy: float, macs: float) -> None:
        """Feeds the reward back, with the accuracy unless only bare rewards are to be told."""
        reward = self._problem.reward(accuracy, macs)
        self._observed[handle.tokens] = accuracy, macs
        self._controller.feedback([(handle, reward if self._is_bare else Outcome(reward, accuracy=accuracy))])

    def fail(self, handle: Any, status: str) -> None:
        """Says what became of it."""
        self._controller.feedback([(handle, Outcome(status=status))])

    def answer(self) -> list[Candidate]:
        """What the controller recommends; its front, or what is one of all that was observed."""
        if not self._problem.is_pareto:
            return self._controller.recommend()
        if isinstance(self._controller, NSGA2):
            return self._controller.front()
        return observed_front(self._observed)


class Optuna:
    """A sampler of Optuna, asked and told without its storage or its processes."""

    def __init__(self, sampler: Any, problem: Problem) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._problem = problem
        directions = ["maximize", "minimize"] if problem.is_pareto else ["maximize"]
        self._study = optuna.create_study(sampler=sampler, directions=directions)
        space = problem.field.benchmark.space
        self._distributions = {
            # As numbers in order, TPE did worse: 12.0 for 9.2 % after 500 (accel-mlp-soft-own, seeds 0 to 5).
            decision.name: optuna.distributions.CategoricalDistribution(range(cardinality))
            for decision, cardinality in zip(space.decisions, space.cardinalities, strict=True)
        }
        self._observed: dict[Candidate, tuple[float, float]] = {}

    def ask(self) -> tuple[Any, Candidate] | None:
        """The next trial; Optuna may ask for a candidate a second time."""
        trial = self._study.ask(self._distributions)
        return trial, tuple(trial.params[name] for name in self._distributions)

    def tell(self, handle: Any, accuracy: float, macs: float) -> None:
        """Ends the trial."""
        candidate = tuple(handle.params[name] for name in self._distributions)
        reward = self._problem.reward(accuracy, macs)
        self._study.tell(handle, [accuracy, macs] if self._problem.is_pareto else reward)
        value = accuracy if self._problem.is_pareto else reward
        self._observed[candidate] = max(value, self._observed.get(candidate, (value,))[0]), macs

    def fail(self, handle: Any, status: str) -> None:  # noqa: ARG002  # Optuna knows one kind
        """Ends the trial as failed, which Optuna leaves out of what it learns from."""
        import optuna

        self._study.tell(handle, state=optuna.trial.TrialState.FAIL)

    def answer(self) -> list[Candidate]:
        """The best observed."""
        if not self._observed:
            return []
        if self._problem.is_pareto:
            return observed_front(self._observed)
        return [max(self._observed, key=lambda candidate: self._observed[candidate][0])]


def observed_front(observed: dict[Candidate, tuple[float, float]]) -> list[Candidate]:
    """Candidates that none dominates by observed accuracy and macs."""
    accuracies, macs = np.array(list(observed.values())).T
    is_front = ~is_dominated(np.column_stack([-accuracies, macs]))
    return [candidate for candidate, is_in in zip(observed, is_front, strict=True) if is_in]


def has_optuna() -> bool:
    """Whether the peers can be run."""
    return importlib.util.find_spec("optuna") is not None


def code_of(name: str) -> str:
    """Changes with the source that a competitor runs, of a peer with its version."""
    if name in PEERS:
        return f"optuna {metadata.version('optuna')}"
    modules = [inspect.getmodule(KINDS[name])]
    for module in modules:
        used = (inspect.getmodule(value) for value in vars(module).values() if callable(value))
        modules += [m for m in used if m and m.__name__.startswith("controllers.") and m not in modules]
    sources = sorted(inspect.getsource(module) for module in set(modules))
    return hashlib.sha256("".join(sources).encode()).hexdigest()[:10]


def make_competitor(name: str, problem: Problem, seed: int, workers: int) -> Competitor:
    """The competitor of that name, afresh."""
    if name in PEERS:
        return Optuna(_sampler(name, seed, workers), problem)
    space = problem.field.benchmark.space
    knows_costs = name == "dyna" or (name == "nsga2" and problem.is_pareto)
    numbers = controllers.Problem(
        space.cardinalities,
        space.conditions,
        costs=problem.field.macs if knows_costs else None,
        reward=problem.rewards if name == "dyna" else None,
    )
    settings = {"policy": "lstm"} if name == "ppo-lstm" else {}
    controller = KINDS[name](numbers, seed=seed, **settings)
    return Ours(controller, problem, is_bare=name == "dyna-bare")


def _sampler(name: str, seed: int, workers: int) -> Any:
    import optuna

    if name == "optuna-nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed)
    # What Optuna advises for trials side by side: those that run count as bad.
    return optuna.samplers.TPESampler(seed=seed, constant_liar=workers > 1)
