from __future__ import annotations

import pytest

from controllers import PPO, LocalSearch, RandomSearch, RegularizedEvolution, Reinforce

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
}
ALL = {"random": lambda c, k, seed: RandomSearch(c, k, seed=seed), **INDEPENDENT, **LSTM, **MUTATING}


@pytest.fixture(params=ALL.values(), ids=ALL.keys())
def make(request):
    return request.param


@pytest.fixture(
    params=[RandomSearch, Reinforce, PPO, RegularizedEvolution, LocalSearch], ids=lambda cls: cls.__name__
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
