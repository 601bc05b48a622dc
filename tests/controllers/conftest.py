from __future__ import annotations

import pytest

from controllers import PPO, RandomSearch, Reinforce

INDEPENDENT = {
    "reinforce": lambda c, k, seed: Reinforce(c, k, seed=seed),
    "ppo": lambda c, k, seed: PPO(c, k, seed=seed),
}
LSTM = {
    "reinforce-lstm": lambda c, k, seed: Reinforce(c, k, seed=seed, policy="lstm"),
    "ppo-lstm": lambda c, k, seed: PPO(c, k, seed=seed, policy="lstm"),
}
ALL = {"random": lambda c, k, seed: RandomSearch(c, k, seed=seed), **INDEPENDENT, **LSTM}


@pytest.fixture(params=ALL.values(), ids=ALL.keys())
def make(request):
    return request.param


@pytest.fixture(params=[RandomSearch, Reinforce, PPO], ids=lambda cls: cls.__name__)
def controller_class(request):
    return request.param


@pytest.fixture(params=INDEPENDENT.values(), ids=INDEPENDENT.keys())
def make_independent(request):
    return request.param


@pytest.fixture(params=LSTM.values(), ids=LSTM.keys())
def make_lstm(request):
    return request.param
