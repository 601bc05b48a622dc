"""The peers of the arena: Optuna's samplers, BoTorch and SMAC, asked and told as our controllers are.

Used by `arena_competitors.py`. All of them see the decisions as categories, begin with the reference of the
space where it has one, are told of limits as constraints where they take any, and answer with the best mean
of what they saw of a candidate.
"""

from __future__ import annotations

import importlib.util
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from arena_problems import Candidate, Problem

from controllers.pareto import is_dominated

PEERS = {"optuna-tpe": "optuna", "optuna-nsga2": "optuna", "botorch": "botorch", "smac": "smac"}
"""The package that each is from."""

SLOW = ("botorch", "smac")

MOST_OF_SLOW = 100
"""Evaluations that BoTorch and SMAC are given at most: they take a second for a proposal."""

STARTUP = 10
"""Random candidates that BoTorch is given first, as many as Optuna's TPE takes."""

FAILED = 0.0
"""The value of what was not measured because it is above a limit; constraints tell peers that it is out."""


@dataclass(slots=True)
class Observations:
    """Accuracies and macs of candidates; repeats count by their mean."""

    seen: dict[Candidate, tuple[list[float], float]] = field(default_factory=dict)

    def add(self, candidate: Candidate, value: float, macs: float) -> None:
        """Takes in one more measurement."""
        self.seen.setdefault(candidate, ([], macs))[0].append(value)

    def best(self) -> list[Candidate]:
        """The candidate with the largest mean; none where nothing was seen."""
        return [max(self.seen, key=lambda one: float(np.mean(self.seen[one][0])))] if self.seen else []

    def front(self) -> list[Candidate]:
        """Candidates that none dominates by mean and macs."""
        if not self.seen:
            return []
        values = np.array([[-np.mean(values), macs] for values, macs in self.seen.values()])
        return [one for one, is_out in zip(self.seen, is_dominated(values), strict=True) if not is_out]


def is_installed(name: str) -> bool:
    """Whether a peer's package is there."""
    return importlib.util.find_spec(PEERS[name]) is not None


def version_of(name: str) -> str:
    """The package of a peer and its version."""
    return f"{PEERS[name]} {metadata.version(PEERS[name])}"


def make_peer(name: str, problem: Problem, seed: int, workers: int) -> Any:
    """The peer of that name, afresh."""
    makers: dict[str, Callable[[], Any]] = {
        "optuna-tpe": lambda: Optuna(name, problem, seed, workers),
        "optuna-nsga2": lambda: Optuna(name, problem, seed, workers),
        "botorch": lambda: BoTorch(problem, seed),
        "smac": lambda: Smac(problem, seed),
    }
    return makers[name]()


class Optuna:
    """A sampler of Optuna, asked and told without its storage or its processes."""

    def __init__(self, name: str, problem: Problem, seed: int, workers: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._problem = problem
        directions = ["maximize", "minimize"] if problem.is_pareto else ["maximize"]
        if name == "optuna-nsga2":
            sampler = optuna.samplers.NSGAIISampler(seed=seed)
        else:  # what Optuna advises for trials side by side: those that run count as bad
            sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=workers > 1)
        self._study = optuna.create_study(sampler=sampler, directions=directions)
        space = problem.field.benchmark.space
        self._distributions = {
            # As numbers in order, TPE did worse: 12.0 for 9.2 % after 500 (accel-mlp-soft-own, seeds 0 to 5).
            decision.name: optuna.distributions.CategoricalDistribution(range(cardinality))
            for decision, cardinality in zip(space.decisions, space.cardinalities, strict=True)
        }
        if problem.reference is not None:
            self._study.enqueue_trial(dict(zip(self._distributions, problem.reference, strict=True)))
        self._observed = Observations()

    def ask(self) -> tuple[Any, Candidate] | None:
        """The next trial; Optuna may ask for a candidate a second time."""
        trial = self._study.ask(self._distributions)
        return trial, tuple(trial.params[name] for name in self._distributions)

    def tell(self, handle: Any, accuracy: float, macs: float) -> None:
        """Ends the trial."""
        candidate = tuple(handle.params[name] for name in self._distributions)
        reward = self._problem.reward(accuracy, macs)
        self._constrain(handle, macs)
        self._study.tell(handle, [accuracy, macs] if self._problem.is_pareto else reward)
        self._observed.add(candidate, accuracy if self._problem.is_pareto else reward, macs)

    def fail(self, handle: Any, status: str) -> None:  # noqa: ARG002  # Optuna knows one kind
        """Ends the trial as failed, which Optuna leaves out of what it learns from."""
        import optuna

        self._study.tell(handle, state=optuna.trial.TrialState.FAIL)

    def reject(self, handle: Any, macs: float) -> None:
        """Ends a trial that is above the limit, by how much it is."""
        self._constrain(handle, macs)
        self._study.tell(handle, FAILED)

    def answer(self) -> list[Candidate]:
        """The best observed."""
        return self._observed.front() if self._problem.is_pareto else self._observed.best()

    def _constrain(self, trial: Any, macs: float) -> None:
        if self._problem.limit is not None:
            trial.set_constraint("macs", macs / self._problem.limit - 1)


class BoTorch:
    """BoTorch: a Gaussian process over one-hot options, log expected improvement, local search.

    Its noise is estimated, the improvement is over the best expected value, and a limit is given to the
    search for the next candidate as what it may not propose.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        self._problem, self._rng = problem, np.random.default_rng(seed)
        self._sizes: Sequence[int] = problem.field.benchmark.space.cardinalities
        self._rows: list[Candidate] = []
        self._rewards: list[float] = []
        self._asked: set[Candidate] = set()
        self._observed = Observations()

    def ask(self) -> tuple[Any, Candidate] | None:
        """The candidate with the largest log expected improvement that is found."""
        first = None if self._asked else self._problem.reference
        candidate = first or (self._random() if len(self._rows) < STARTUP else self._best())
        self._asked.add(candidate)
        return candidate, candidate

    def tell(self, handle: Any, accuracy: float, macs: float) -> None:
        """Takes in a result."""
        reward = self._problem.reward(accuracy, macs)
        self._rows.append(handle)
        self._rewards.append(reward)
        self._observed.add(handle, reward, macs)

    def fail(self, handle: Any, status: str) -> None:
        """Leaves it out: BoTorch's models know values alone."""

    def reject(self, handle: Any, macs: float) -> None:
        """Leaves it out; it is not asked for again."""

    def answer(self) -> list[Candidate]:
        """The best observed."""
        return self._observed.best()

    def _random(self) -> Candidate:
        return tuple(int(self._rng.integers(size)) for size in self._sizes)

    def _best(self) -> Candidate:
        import torch
        from botorch.acquisition import LogExpectedImprovement
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from botorch.models.transforms import Standardize
        from gpytorch.mlls import ExactMarginalLogLikelihood

        inputs = torch.tensor(self._one_hot(np.array(self._rows)))
        values = torch.tensor(self._rewards, dtype=torch.float64)[:, None]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = SingleTaskGP(inputs, values, outcome_transform=Standardize(m=1))
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
            with torch.no_grad():
                best = model.posterior(inputs).mean.max()
                improvement = LogExpectedImprovement(model, best_f=best)
                return self._climb(lambda rows: improvement(torch.tensor(rows)[:, None]).numpy())

    def _climb(self, score: Callable[[np.ndarray], np.ndarray]) -> Candidate:
        """From random candidates and the best seen, to the best neighbour until there is none."""
        order = np.argsort(self._rewards)[::-1][:5]
        pool = [self._rows[row] for row in order] + [self._random() for _ in range(200)]
        values = dict(zip(pool, score(self._one_hot(np.array(pool))), strict=True))
        for _ in range(20):
            beam = sorted(values, key=lambda one: -values[one])[:5]
            around = {near for one in beam for near in self._neighbours(one)} - values.keys()
            if not around:
                break
            some = sorted(around)
            values |= dict(zip(some, score(self._one_hot(np.array(some))), strict=True))
        fresh = [one for one in values if one not in self._asked and self._is_within(one)]
        return max(fresh, key=lambda one: values[one]) if fresh else self._random()

    def _is_within(self, candidate: Candidate) -> bool:
        limit = self._problem.limit
        return limit is None or self._problem.field.look_up(candidate)[1] <= limit

    def _neighbours(self, candidate: Candidate) -> list[Candidate]:
        return [
            (*candidate[:at], option, *candidate[at + 1 :])
            for at, size in enumerate(self._sizes)
            for option in range(size)
            if option != candidate[at]
        ]

    def _one_hot(self, rows: np.ndarray) -> np.ndarray:
        blocks = [np.eye(size)[rows[:, at]] for at, size in enumerate(self._sizes)]
        return np.concatenate(blocks, axis=1)


class Smac:
    """SMAC 3's facade for hyperparameters: a random forest and log expected improvement."""

    def __init__(self, problem: Problem, seed: int) -> None:
        import ConfigSpace
        from smac import HyperparameterOptimizationFacade, Scenario

        self._problem = problem
        sizes = problem.field.benchmark.space.cardinalities
        self._names = [f"d{at:03d}" for at in range(len(sizes))]
        configurations = ConfigSpace.ConfigurationSpace(seed=seed)
        configurations.add(
            *(
                ConfigSpace.Categorical(name, list(range(size)))
                for name, size in zip(self._names, sizes, strict=True)
            )
        )
        self._folder = tempfile.TemporaryDirectory()
        scenario = Scenario(
            configurations,
            deterministic=True,
            n_trials=MOST_OF_SLOW,  # a quarter of them are its initial design
            seed=seed,
            output_directory=Path(self._folder.name),
        )
        self._smac = HyperparameterOptimizationFacade(
            scenario, _never_called, overwrite=True, logging_level=False
        )
        self._first = [] if problem.reference is None else [self._of(configurations, problem.reference)]
        self._observed = Observations()

    def ask(self) -> tuple[Any, Candidate] | None:
        """The next trial."""
        trial = self._first.pop() if self._first else self._smac.ask()
        return trial, tuple(int(trial.config[name]) for name in self._names)

    def tell(self, handle: Any, accuracy: float, macs: float) -> None:
        """Ends the trial; SMAC minimises."""
        reward = self._problem.reward(accuracy, macs)
        self._end(handle, cost=-reward)
        self._observed.add(tuple(int(handle.config[name]) for name in self._names), reward, macs)

    def fail(self, handle: Any, status: str) -> None:  # noqa: ARG002  # SMAC knows one kind
        """Ends the trial as crashed."""
        from smac.runhistory import StatusType

        self._end(handle, cost=1.0, status=StatusType.CRASHED)

    def reject(self, handle: Any, macs: float) -> None:  # noqa: ARG002  # it takes no constraints
        """Ends the trial as crashed: it takes no constraints."""
        self.fail(handle, "infeasible")

    def answer(self) -> list[Candidate]:
        """The best observed."""
        return self._observed.best()

    def _of(self, configurations: Any, candidate: Candidate) -> Any:
        from ConfigSpace import Configuration
        from smac.runhistory import TrialInfo

        values = dict(zip(self._names, candidate, strict=True))
        return TrialInfo(config=Configuration(configurations, values), seed=0)

    def _end(self, handle: Any, **value: Any) -> None:
        from smac.runhistory import TrialValue

        self._smac.tell(handle, TrialValue(**value))


def _never_called(config: Any, seed: int) -> float:
    """SMAC wants a function, though it is asked and told."""
    raise NotImplementedError(config, seed)
