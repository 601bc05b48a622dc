"""Evaluators made of something else: a table, a function, or an evaluator and a probe."""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from nas.errors import UsageError
from nas.protocols import (
    ChecksNetworks,
    ChecksSpace,
    Evaluator,
    GivesWeights,
    HasData,
    HasNotes,
    HasRecipe,
    NamesMetrics,
    Probe,
    ResolvesPrecision,
)
from nas.trial import Candidate, Cause, Evaluation, InfeasibleError, Metric, as_evaluation, as_metrics
from nas.values import as_number, as_text, digest, instance, real
from search_spaces import Network, SearchSpace

Lookup = Callable[[Candidate], float | Mapping[str, float]]
"""Gives a candidate's accuracy, or metrics by name."""

Table = Mapping[tuple[int, ...], float] | Mapping[tuple[int, ...], Mapping[str, float]]
"""The same by tokens."""


class TableEvaluator:
    """Looks a candidate up instead of training it.

    Args:
        table: Accuracies by tokens, or a function of the candidate.
        noise: Standard deviation of normal noise on the accuracy, drawn from the job's seed.
        seconds: How long each look-up pretends to train.
        name: Goes into the fingerprint: change it when a function's results change.
        space: What the tokens are of: a search of another space is refused. None checks nothing.

    Raises:
        UsageError: Noise or seconds are negative or not finite, or the space is none.
        MetricError: The name is no text.
    """

    def __init__(
        self,
        table: Table | Lookup,
        *,
        noise: float = 0.0,
        seconds: float = 0.0,
        name: str = "table",
        space: SearchSpace | None = None,
    ) -> None:
        self._table = table
        self._noise = real("noise", noise, least=0)
        self._seconds = real("seconds", seconds, least=0)
        self._name = as_text(name, "the table's name")
        instance("space", space, (SearchSpace, type(None)), "give the SearchSpace of the tokens")
        self._space = None if space is None else (space.name, space.fingerprint)

    @property
    def fingerprint(self) -> str:
        """Changes with the entries of a table, the name of a function, the noise and the name."""
        if isinstance(self._table, Mapping):
            content = repr(sorted((tuple(key), repr(value)) for key, value in self._table.items()))
        else:
            function = self._table if inspect.isroutine(self._table) else type(self._table)
            content = f"{function.__module__}.{function.__qualname__}"
        return hashlib.sha256(f"{self._name}|{self._noise!r}|{content}".encode()).hexdigest()[:16]

    def check_space(self, space: SearchSpace) -> None:
        """Checks that the tokens are of a space, where that is known.

        Raises:
            UsageError: They are of another.
        """
        if self._space is None or self._space[1] == space.fingerprint:
            return
        name, fingerprint = self._space
        raise UsageError(
            f"the table {self._name} is of the space {name} ({fingerprint}), but the search is of "
            f"{space.name} ({space.fingerprint}), where tokens mean other networks: search the space of "
            "the table",
            field="space",
        )

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
                Metric(name=name, value=value, environment=self._name) for name, value in values.items()
            )
        )


class Probed:
    """Evaluates a candidate, then measures it with a probe in the same process.

    An executor that has another place for the probe takes the two apart. What the evaluator can do beyond the
    protocol, the pair can do too.

    Args:
        evaluator: Gives the accuracy.
        probe: Gives further metrics, which need no trained weights.

    Attributes:
        evaluator: The same.
        probe: The same.
    """

    def __init__(self, evaluator: Evaluator, probe: Probe) -> None:
        self.evaluator = evaluator
        self.probe = probe

    @property
    def fingerprint(self) -> str:
        """Changes with either.

        Raises:
            MetricError: One of theirs is no text.
        """
        return digest(
            as_text(self.evaluator.fingerprint, "an evaluator's fingerprint"),
            as_text(self.probe.fingerprint, "a probe's fingerprint"),
        )

    @property
    def data(self) -> object:
        """The images that the evaluator trains on, where it says so."""
        return self.evaluator.data if isinstance(self.evaluator, HasData) else None

    @property
    def recipe(self) -> object:
        """The recipe that the evaluator trains by, where it says so."""
        return self.evaluator.recipe if isinstance(self.evaluator, HasRecipe) else None

    @property
    def gives_weights(self) -> bool | None:
        """Whether the evaluator gives weights, where it says so."""
        return self.evaluator.gives_weights if isinstance(self.evaluator, GivesWeights) else None

    @property
    def notes(self) -> tuple[str, ...]:
        """The evaluator's."""
        return self.evaluator.notes if isinstance(self.evaluator, HasNotes) else ()

    @property
    def measures(self) -> tuple[str, ...]:
        """What both measure; empty where one of them does not say."""
        both = [
            part.measures if isinstance(part, NamesMetrics) else () for part in (self.evaluator, self.probe)
        ]
        return () if () in both else both[0] + both[1]

    def check(self, network: Network) -> None:
        """Checks that the evaluator can train a network, if it has such a check."""
        if isinstance(self.evaluator, ChecksNetworks):
            self.evaluator.check(network)

    def check_space(self, space: SearchSpace) -> None:
        """Checks that the evaluator measures networks of a space, if it has such a check."""
        if isinstance(self.evaluator, ChecksSpace):
            self.evaluator.check_space(space)

    def resolve_precision(self, device: str, *, threads: int) -> None:
        """Has the evaluator find out what the precision `auto` means on a device."""
        if isinstance(self.evaluator, ResolvesPrecision):
            self.evaluator.resolve_precision(device, threads=threads)

    def prepare(self) -> None:
        """Prepares both."""
        self.evaluator.prepare()
        self.probe.prepare()

    def evaluate(self, candidate: Candidate) -> Evaluation:
        """Evaluates and measures; raises `InfeasibleError` where the candidate is at fault."""
        evaluation = as_evaluation(self.evaluator.evaluate(candidate))
        candidate.progress("measuring with the probe")
        measured = as_metrics(self.probe.measure(candidate.network), "what a probe measures")
        return replace(evaluation, metrics=joined(evaluation.metrics, measured))


def joined(metrics: tuple[Metric, ...], measured: tuple[Metric, ...]) -> tuple[Metric, ...]:
    """Metrics of a training with those of a probe, which says more about what both have measured."""
    names = {metric.name for metric in measured}
    return (*(metric for metric in metrics if metric.name not in names), *measured)
