"""Says which epoch a training has come to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from nas.trial import Say

EVERY_SECONDS = 5.0


class EpochProgress:
    """Says at which epoch a training is: when one begins, and every few seconds within it.

    Args:
        say: Receives the progress as text.
        steps: Steps of the whole training.
        per_epoch: Steps of an epoch.
        clock: Seconds.
    """

    def __init__(
        self, say: Say, *, steps: int, per_epoch: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._per_epoch = per_epoch
        self._epochs = math.ceil(steps / per_epoch)
        self._clock = clock
        self._said_at = clock()

    def __call__(self, step: int) -> None:
        """Is called before each step, counted from 0."""
        epoch, done = divmod(step, self._per_epoch)
        now = self._clock()
        if done and now - self._said_at < EVERY_SECONDS:
            return
        self._said_at = now
        within = f", step {done + 1} of {self._per_epoch}" if done else ""
        self._say(f"epoch {epoch + 1} of {self._epochs}{within}")
