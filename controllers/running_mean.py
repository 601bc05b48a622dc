"""A running mean that forgets, without the bias of its start."""

from __future__ import annotations

from controllers.contract import ControllerError, State


class RunningMean:
    """Exponential moving average: each new value counts `1 - keep`, what was there before `keep`.

    Args:
        keep: Share that is kept, in [0, 1).

    Raises:
        ControllerError: `keep` is out of range.

    Source: Kingma and Ba, Adam, ICLR 2015, section 3, for the correction of the start.
    """

    def __init__(self, keep: float) -> None:
        if not 0 <= keep < 1:
            raise ControllerError(f"0 <= keep < 1 must hold for a running mean, but got {keep!r}")
        self._keep = keep
        self._total = 0.0
        self._weight = 0.0

    @property
    def value(self) -> float | None:
        """The mean, or None before the first value."""
        return self._total / self._weight if self._weight else None

    def add(self, value: float) -> float:
        """Takes a value in and returns the mean with it."""
        self._total = self._keep * self._total + (1 - self._keep) * value
        self._weight = self._keep * self._weight + (1 - self._keep)
        return self._total / self._weight

    def state_dict(self) -> State:
        """Returns the two sums."""
        return {"total": self._total, "weight": self._weight}

    def load_state_dict(self, state: State) -> None:
        """Continues from a state."""
        self._total, self._weight = float(state["total"]), float(state["weight"])
