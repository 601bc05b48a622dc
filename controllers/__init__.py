"""Controllers choose which candidates of a search are evaluated: `propose` asks, `feedback` tells.

They see numbers only: how many options each decision has and when it is active. No torch is loaded unless an
LSTM policy is used. `Algorithm` makes a controller of a function that draws candidates, and
`controllers.testing.check_controller` checks any controller. Imports run one way: contract, decisions,
problem, candidates and results, `Algorithm`, the algorithms (none imports another), testing.
"""

from collections.abc import Callable

from controllers.algorithm import Algorithm
from controllers.contract import Candidate, Controller, ControllerError, Feedback, Outcome, Proposal, State
from controllers.dyna import Dyna
from controllers.evolution import RegularizedEvolution
from controllers.front import Front
from controllers.importance import main_effects, total_effects
from controllers.local_search import LocalSearch
from controllers.nsga2 import NSGA2
from controllers.ppo import PPO
from controllers.problem import Problem
from controllers.random_search import RandomSearch
from controllers.reinforce import Reinforce
from controllers.state import state_from_json, state_to_json

CONTROLLERS: dict[str, Callable[..., Controller]] = {
    "dyna": Dyna,
    "reinforce": Reinforce,
    "ppo": PPO,
    "evolution": RegularizedEvolution,
    "local": LocalSearch,
    "front": Front,
    "nsga2": NSGA2,
    "random": RandomSearch,
}
"""Our controllers by the names that users give, the default first; each is made of a `Problem` and a seed."""

Default = Dyna
"""The controller that a search uses by default."""

__all__ = [
    "CONTROLLERS",
    "NSGA2",
    "PPO",
    "Algorithm",
    "Candidate",
    "Controller",
    "ControllerError",
    "Default",
    "Dyna",
    "Feedback",
    "Front",
    "LocalSearch",
    "Outcome",
    "Problem",
    "Proposal",
    "RandomSearch",
    "RegularizedEvolution",
    "Reinforce",
    "State",
    "main_effects",
    "state_from_json",
    "state_to_json",
    "total_effects",
]
