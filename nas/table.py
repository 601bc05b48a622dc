"""An evaluator that looks results up: for tests, and for controller research without training."""

from __future__ import annotations

import hashlib
import inspect
import math
import time
from collections.abc import Callable, Mapping

import numpy as np

from nas.conversion import as_number, as_text
from nas.trial import Candidate, Cause, Evaluation, InfeasibleError, Metric

Lookup = Callable[[Candidate], float | Mapping[str, float]]
"""Gives a candidate's accuracy, or several metrics by name, `accuracy` among them."""

Table = Mapping[tuple[int, ...], float] | Mapping[tuple[int, ...], Mapping[str, float]]
"""The same by tokens."""

UNITS = {
    "accuracy": "fraction",
    "latency_ms": "ms",
    "train_step_ms": "ms",
    "train_seconds": "s",
    "peak_memory_bytes": "bytes",
}


class TableEvaluator:
    """Looks a candidate up instead of training it.

    Args:
        table: Accuracies by tokens, or a function of the candidate.
        noise: Standard deviation of normal noise on the accuracy, drawn from the job's seed.
        seconds: How long each look-up pretends to train.
        name: Goes into the fingerprint: change it when a function's results change.

    Raises:
        ValueError: Noise or seconds are negative or not finite.
        MetricError: The name is no text.
    """

    def __init__(
        self, table: Table | Lookup, *, noise: float = 0.0, seconds: float = 0.0, name: str = "table"
    ) -> None:
        for label, value in (("noise", noise), ("seconds", seconds)):
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"`{label} >= 0` must hold, but got {label}={value!r}")
        self._table = table
        self._noise = noise
        self._seconds = seconds
        self._name = as_text(name, "the table's name")

    @property
    def fingerprint(self) -> str:
        """Changes with the entries of a table, the name of a function, the noise and the name."""
        if isinstance(self._table, Mapping):
            content = repr(sorted((tuple(key), repr(value)) for key, value in self._table.items()))
        else:
            function = self._table if inspect.isroutine(self._table) else type(self._table)
            content = f"{function.__module__}.{function.__qualname__}"
        return hashlib.sha256(f"{self._name}|{self._noise!r}|{content}".encode()).hexdigest()[:16]

    def prepare(self) -> None:
        """Nothing to prepare."""

    def evaluate(self, candidate: Candidate) -> Evaluation:
        """Looks the candidate up.

        Raises:
            InfeasibleError: The table has no such candidate.
            MetricError: It has something else than numbers by name, or one number.
        """
        if self._seconds:
            time.sleep(self._seconds)
        if isinstance(self._table, Mapping):
            if candidate.job.tokens not in self._table:
                raise InfeasibleError(Cause.ERROR, f"the table has no candidate {candidate.job.tokens}")
            found = self._table[candidate.job.tokens]
        else:
            found = self._table(candidate)
        values = dict(found) if isinstance(found, Mapping) else {"accuracy": found}
        if self._noise and "accuracy" in values:
            rng = np.random.default_rng(candidate.job.seed)
            noisy = as_number(values["accuracy"], "accuracy") + self._noise * rng.standard_normal()
            values["accuracy"] = min(1.0, max(0.0, noisy))
        return Evaluation(
            metrics=tuple(
                Metric(name=name, value=value, unit=UNITS.get(name, "count"), environment=self._name)
                for name, value in values.items()
            )
        )
