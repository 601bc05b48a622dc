"""The protocols of a search: evaluators, probes, executors, reporters, clocks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from nas.events import SearchEnd, SearchStart, TrialReport
from nas.trial import Candidate, Evaluation, Job, Metric, Progress, Result, Tell
from search_spaces import Network, SearchSpace


class Evaluator(Protocol):
    """A function from a candidate to its measurements, made by the driver and run in a worker.

    Optional members have protocols of their own: `ChecksNetworks`, `ChecksSpace`, `GivesWeights`, `HasData`,
    `HasNotes`, `HasRecipe`, `NamesMetrics`, `ResolvesPrecision`.
    """

    @property
    def fingerprint(self) -> str:
        """Changes whenever results stop being comparable (recipe, data, table)."""
        ...

    def prepare(self) -> None:
        """Runs once in each worker before its first candidate (moves the data to the device)."""
        ...

    def evaluate(self, candidate: Candidate) -> Evaluation:
        """Trains and measures; raises `InfeasibleError` if the candidate is the cause of a failure."""
        ...


@runtime_checkable
class ChecksNetworks(Protocol):
    """An evaluator that can check before a search whether it fits the networks of a space."""

    def check(self, network: Network) -> None:
        """Raises a `NasError` for a network that cannot be evaluated."""
        ...


@runtime_checkable
class ChecksSpace(Protocol):
    """An evaluator that measures networks of one space only, such as slices of a supernet."""

    def check_space(self, space: SearchSpace) -> None:
        """Raises a `NasError` for another space."""
        ...


@runtime_checkable
class ResolvesPrecision(Protocol):
    """An evaluator whose precision may be `auto`; the driver chooses it once for all workers."""

    def resolve_precision(self, device: str, *, threads: int) -> None:
        """Chooses the precision for a device."""
        ...


@runtime_checkable
class HasNotes(Protocol):
    """An evaluator with notes for users before the first trial."""

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence each."""
        ...


@runtime_checkable
class NamesMetrics(Protocol):
    """An evaluator or a probe that names its metrics before the first trial."""

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of its metrics; empty if unknown."""
        ...


@runtime_checkable
class GivesWeights(Protocol):
    """An evaluator that says before the first trial whether networks can be exported with its weights."""

    @property
    def gives_weights(self) -> bool:
        """Whether `weights` of an `Evaluation` gives the state dict of `build(candidate.network)`."""
        ...


@runtime_checkable
class HasData(Protocol):
    """An evaluator with images that it trains on; how they are read goes into exports."""

    @property
    def data(self) -> object:
        """The images; anything but `ImageData` counts as none."""
        ...


@runtime_checkable
class HasRecipe(Protocol):
    """An evaluator with a training recipe."""

    @property
    def recipe(self) -> object:
        """The recipe; anything but a `Recipe` counts as none."""
        ...


class Probe(Protocol):
    """Measures a candidate without training it, such as its latency; the executor chooses the node.

    A probe that measures on a GPU has a `device`, see `HasDevice`.
    """

    @property
    def fingerprint(self) -> str:
        """Changes whenever measurements stop being comparable."""
        ...

    def prepare(self) -> None:
        """Runs once in the measuring process, before its first candidate."""
        ...

    def measure(self, network: Network) -> tuple[Metric, ...]:
        """Measures; raises `InfeasibleError` if the candidate is the cause of a failure."""
        ...


@runtime_checkable
class HasDevice(Protocol):
    """A probe with a device on which it measures."""

    @property
    def device(self) -> object:
        """`cpu`, `cuda`, `auto` or the like."""
        ...


class Decodes(Protocol):
    """What an executor asks of a search space, or of a list of networks: which network a job means."""

    @property
    def name(self) -> str:
        """What users call it."""
        ...

    @property
    def own_types(self) -> tuple[type, ...]:
        """The user's own classes that occur in its networks."""
        ...

    def decode(self, tokens: Sequence[int]) -> Network:
        """The network that tokens mean."""
        ...


class Executor(Protocol):
    """Runs jobs: in this process, or on a Ray cluster."""

    @property
    def slots(self) -> int:
        """How many jobs run at the same time, at present: fewer while machines are gone, at least 1."""
        ...

    @property
    def is_in_process(self) -> bool:
        """Whether jobs run in the process of the search; one that ends it 3 times is infeasible."""
        ...

    def check(self, space: Decodes, evaluator: Evaluator | None, probe: Probe | None = None) -> None:
        """Raises `ContractError` where one of them cannot be used here; called before `start`."""
        ...

    def watch(self, tell: Tell) -> None:
        """Takes a function that receives the progress of jobs; called before `start`."""
        ...

    def start(self, space: Decodes, evaluator: Evaluator) -> None:
        """Starts the workers; raises `ExecutorError` if that is impossible."""
        ...

    def submit(self, job: Job, weights: bytes | None = None) -> None:
        """Starts a job, from the weights of an earlier one if given; never more than `slots` at a time.

        A job belongs to no machine: it runs where one is up, and one that dies before the job began there
        does not lose it.
        """
        ...

    def wait(self, timeout_seconds: float) -> list[Result]:
        """Returns finished jobs, at the latest after the timeout, perhaps none."""
        ...

    def weights(self, job: Job) -> bytes | None:
        """Fetches the weights of a job just returned; None if the worker has lost them.

        Raises:
            WeightsError: The evaluator's function failed, or did not return bytes.
        """
        ...

    def close(self) -> None:
        """Ends everything that was started; safe to call twice."""
        ...


class Reporter(Protocol):
    """Shows a search to its users. An exception from it becomes an event, and the search continues."""

    def on_start(self, start: SearchStart) -> None:
        """Called once, before the first trial of a run."""
        ...

    def on_trial(self, report: TrialReport) -> None:
        """Called for every trial that is finished."""
        ...

    def on_event(self, kind: str, message: str) -> None:
        """Called for every other event: an attempt lost, a worker replaced, weights not kept."""
        ...

    def on_progress(self, progress: Progress) -> None:
        """Called often, also before `on_start`: the start of a phase, the epoch of a trial."""
        ...

    def on_end(self, end: SearchEnd) -> None:
        """Called once, also after a failure."""
        ...


@runtime_checkable
class ChecksReady(Protocol):
    """A reporter that can check before a search whether it can report, such as to a server."""

    def check_ready(self) -> None:
        """Raises a `NasError` where it cannot."""
        ...


class LatencyPredictor(Protocol):
    """Predicts latencies from networks alone, as a latency table does."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever predictions do."""
        ...

    @property
    def origin(self) -> str:
        """The device of its predictions and their error, as text."""
        ...

    def predict(self, network: Network) -> float:
        """Latency of one network in ms."""
        ...

    def predict_many(self, space: SearchSpace, tokens: npt.ArrayLike, /) -> npt.NDArray[np.float64]:
        """Latencies in ms of candidates `(n, decisions)`, `(n,)`."""
        ...

    def least_ms(self, space: SearchSpace, /) -> float:
        """The smallest latency that it predicts for any network of a space."""
        ...


class Clock(Protocol):
    """The time as a search sees it; a simulated cluster moves its own."""

    def monotonic(self) -> float:
        """Seconds since a fixed moment; never decreases."""
        ...

    def now(self) -> datetime:
        """The date and time in UTC."""
        ...


class SystemClock:
    """The clock of this machine."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        return time.monotonic()

    def now(self) -> datetime:
        """The date and time in UTC."""
        return datetime.now(UTC)
