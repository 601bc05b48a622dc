"""Advantages: rewards on a scale on which learning rates and entropy bonuses always mean the same."""

from __future__ import annotations

import math

from controllers.contract import Floats, State
from controllers.running_mean import RunningMean


class Advantages:
    """Rewards minus a running mean of earlier ones, over the running root mean square of that difference.

    The first batch has nothing before it and is compared with its own mean.

    Args:
        keep: Share of both running means that a batch keeps, in [0, 1).

    Attributes:
        baseline: What the last batch was compared with, in units of the reward; NaN before the first.
        deviation: What the last batch was divided by; NaN before the first.

    Raises:
        ControllerError: `keep` is out of range.
    """

    def __init__(self, keep: float) -> None:
        self._mean = RunningMean(keep)
        self._square = RunningMean(keep)
        self.baseline = math.nan
        self.deviation = math.nan

    def of(self, rewards: Floats) -> Floats:
        """Returns the advantages of a batch, `(batch,)`, and takes its rewards in."""
        mean = float(rewards.mean())
        before = self._mean.value
        self.baseline = mean if before is None else before
        differences = rewards - self.baseline
        self.deviation = math.sqrt(self._square.add(float((differences**2).mean())))
        self._mean.add(mean)
        return differences / self.deviation if self.deviation > 0 else differences

    def state_dict(self) -> State:
        """Returns both running means."""
        return {"mean": self._mean.state_dict(), "square": self._square.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Continues from a state."""
        self._mean.load_state_dict(state["mean"])
        self._square.load_state_dict(state["square"])
