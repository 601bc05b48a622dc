"""`Probed`: an evaluator and a probe as one evaluator, so that a trial is both."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nas.conversion import as_text
from nas.data.images import digest
from nas.errors import ExecutorError
from nas.trial import Candidate, Evaluation, Evaluator, Metric, Probe, as_evaluation, as_metrics


class Probed:
    """Evaluates a candidate, then measures it with a probe in the same process.

    An executor that has another place for the probe takes the two apart.

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

    def __getattr__(self, name: str) -> Any:
        # What an evaluator says of itself beyond the protocol, such as its data and recipe.
        if name.startswith("_") or name in ("evaluator", "probe"):
            raise AttributeError(name)
        return getattr(self.evaluator, name)

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


def check_alone_on_gpu(evaluator: Evaluator, gpus: float) -> None:
    """Checks that a probe in the worker's process would not share its GPU with other trainings.

    Raises:
        ExecutorError: It would, and measure them too.
    """
    device = str(getattr(getattr(evaluator, "probe", None), "device", "cpu"))
    if isinstance(evaluator, Probed) and 0 < gpus < 1 and (device == "auto" or "cuda" in device):
        raise ExecutorError(
            f"latency must never be measured on a GPU that is training, but {1 / gpus:.0f} workers share "
            f"each GPU (gpus_per_worker={gpus:g}): give it a node of its own with a latency resource, "
            "measure on the processor, give each worker a whole GPU, or predict latency from a table"
        )
