"""Prints a state of every controller after 30 trials, and its next five proposals.

    python tests/controllers/golden/make_states.py > tests/controllers/golden/version-1.json

`version-1.json` was made so by the first version that wrote states, in which policy gradients kept part of
theirs under `search`. It is not made again: it stands for the journals that users have. `version-2.json`
holds those of `Dyna` since its predictor learns from failures apart, `version-3.json` those since it
follows results and draws those of candidates under way, and `version-4.json` those since it learns ranks.
"""

import dataclasses
import json
import math
import sys

import numpy as np

import controllers

CARDINALITIES = (3, 2, 4, 3, 5, 2)
CONDITIONS = ((), (), ((0, (1, 2)),), ((1, (1,)), (2, (3,))), (), ((4, (0, 2, 4)),))
TRIALS, NEXT = 30, 5
HIDDEN = 4  # units of the LSTM, so that the file stays small


def costs(rows):
    return np.stack([1.0 + rows.sum(axis=1), 1.0 + (rows**2).max(axis=1)], axis=1)


def reward(accuracies, table):
    return accuracies * (table[:, 0] / 8.0) ** -0.07


def feasible(rows):
    return rows.sum(axis=1) < 14


def key(tokens):
    return tokens[:-1]


def accuracy_of(tokens):
    return math.sin(sum((d + 1.3) * (t + 0.7) ** 1.5 for d, t in enumerate(tokens))) ** 2


def outcome(proposal):
    """Every seventh candidate is infeasible."""
    if proposal.number % 7 == 6:
        return controllers.Outcome(status="infeasible")
    accuracy = accuracy_of(proposal.tokens)
    told = reward(np.array([accuracy]), costs(np.array([proposal.tokens])))
    return controllers.Outcome(float(told[0]), accuracy=accuracy)


def fresh():
    """A new controller of every kind, by name."""
    given = (CARDINALITIES, CONDITIONS)
    everything = controllers.Problem(*given, key=key, feasible=feasible, costs=costs, reward=reward)
    with_costs = controllers.Problem(*given, costs=costs, feasible=feasible)
    with_reward = controllers.Problem(*given, costs=costs, reward=reward)
    with_noise = dataclasses.replace(with_reward, noise=0.05)
    return {
        "random": controllers.RandomSearch(*given, seed=1),
        "random with all callables": controllers.RandomSearch(everything, seed=2),
        "evolution": controllers.RegularizedEvolution(*given, seed=3, population=12, sample=4),
        "local": controllers.LocalSearch(*given, seed=4, first=8),
        "nsga2": controllers.NSGA2(*given, seed=5, population=8),
        "nsga2 with costs": controllers.NSGA2(with_costs, seed=6, population=8),
        "reinforce": controllers.Reinforce(*given, seed=7, batch=4),
        "ppo": controllers.PPO(*given, seed=8, batch=4),
        "reinforce lstm": controllers.Reinforce(*given, seed=9, policy="lstm"),
        "ppo lstm": controllers.PPO(*given, seed=10, policy="lstm"),
        "dyna": controllers.Dyna(*given, seed=11),
        "dyna with all callables": controllers.Dyna(everything, seed=12, first=6),
        "dyna with a known noise": controllers.Dyna(with_noise, seed=13),
    }


def search(controller, trials):
    """Each trial's proposal, fed back one trial late; the last is left without a result."""
    waiting, found = [], []
    for _ in range(trials):
        (proposal,) = controller.propose()
        found.append([list(proposal.tokens), proposal.log_prob, proposal.number])
        controller.feedback([(earlier, outcome(earlier)) for earlier in waiting])
        waiting = [proposal]
    return found


def make():
    """State, proposals and recommendations by name of the controller."""
    from controllers import lstm_policy

    lstm_policy.HIDDEN = HIDDEN
    made = {}
    for name, controller in fresh().items():
        search(controller, TRIALS)
        state = json.loads(controllers.state_to_json(controller.state_dict()))
        after = {"next": search(controller, NEXT), "recommended": controller.recommend(3)}
        made[name] = {"state": state, **after}
    return made


if __name__ == "__main__":
    json.dump(make(), sys.stdout, separators=(",", ":"))
