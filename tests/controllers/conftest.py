from __future__ import annotations

import numpy as np
import pytest

from controllers import (
    NSGA2,
    PPO,
    Dyna,
    Front,
    LocalSearch,
    Problem,
    RandomSearch,
    RegularizedEvolution,
    Reinforce,
)

INDEPENDENT = {
    "reinforce": lambda c, k, seed: Reinforce(c, k, seed=seed),
    "ppo": lambda c, k, seed: PPO(c, k, seed=seed),
}
LSTM = {
    "reinforce-lstm": lambda c, k, seed: Reinforce(c, k, seed=seed, policy="lstm"),
    "ppo-lstm": lambda c, k, seed: PPO(c, k, seed=seed, policy="lstm"),
}
MUTATING = {
    "evolution": lambda c, k, seed: RegularizedEvolution(c, k, seed=seed, population=20, sample=5),
    "local": lambda c, k, seed: LocalSearch(c, k, seed=seed),
    "nsga2": lambda c, k, seed: NSGA2(c, k, seed=seed, population=20),
}


def costs(rows):
    """Two costs of each candidate."""
    return np.stack([rows.sum(axis=1), (rows**2).max(axis=1)], axis=1) / 4


ALL = {
    "ppo-long": lambda c, k, seed: PPO(Problem(c, k, evaluations=1000), seed=seed),
    "random": lambda c, k, seed: RandomSearch(c, k, seed=seed),
    "nsga2-costs": lambda c, k, seed: NSGA2(Problem(c, k, costs=costs), seed=seed, population=8),
    "front": lambda c, k, seed: Front(c, k, seed=seed),
    "front-costs": lambda c, k, seed: Front(Problem(c, k, costs=costs), seed=seed, first=4),
    "dyna": lambda c, k, seed: Dyna(c, k, seed=seed),
    "dyna-noise": lambda c, k, seed: Dyna(Problem(c, k, noise=0.01), seed=seed),
    **INDEPENDENT,
    **LSTM,
    **MUTATING,
}


@pytest.fixture(params=ALL)
def make(request, monkeypatch):
    if "lstm" in request.param:
        monkeypatch.setattr("controllers.lstm_policy.HIDDEN", 8)  # the contract does not depend on it
    return ALL[request.param]


@pytest.fixture(
    params=[RandomSearch, Reinforce, PPO, RegularizedEvolution, LocalSearch, NSGA2, Front, Dyna],
    ids=lambda cls: cls.__name__,
)
def controller_class(request):
    return request.param


@pytest.fixture(params=INDEPENDENT.values(), ids=INDEPENDENT.keys())
def make_independent(request):
    return request.param


@pytest.fixture(params=LSTM.values(), ids=LSTM.keys())
def make_lstm(request):
    return request.param


@pytest.fixture(params=MUTATING.values(), ids=MUTATING.keys())
def make_mutating(request):
    return request.param
