"""Controllers choose which candidates of a search are evaluated: ask with `propose`, tell with `feedback`.

They see numbers only: how many options each decision has and when it is active. No torch is loaded unless an
LSTM policy is asked for. A controller of one's own is checked by `controllers.testing.check_controller`.
"""

from controllers.contract import Controller, ControllerError, Feedback, Outcome, Proposal, State
from controllers.evolution import RegularizedEvolution
from controllers.local_search import LocalSearch
from controllers.ppo import PPO
from controllers.random_search import RandomSearch
from controllers.reinforce import Reinforce
from controllers.state import state_from_json, state_to_json

__all__ = [
    "PPO",
    "Controller",
    "ControllerError",
    "Feedback",
    "LocalSearch",
    "Outcome",
    "Proposal",
    "RandomSearch",
    "RegularizedEvolution",
    "Reinforce",
    "State",
    "state_from_json",
    "state_to_json",
]
