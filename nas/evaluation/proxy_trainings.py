"""Trains a sample of candidates in several ways, from several seeds, on an executor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from nas.conversion import digest
from nas.errors import DataError, SearchStoppedError
from nas.evaluation.proxy_sample import Candidate as Sampled
from nas.evaluation.proxy_variants import LONG
from nas.evaluation.run_log import Run, RunLog
from nas.protocols import ChecksNetworks, Evaluator, Executor, ResolvesPrecision
from nas.signals import Interruption
from nas.trial import Candidate, Cause, Evaluation, Job, Result, Status, Tell, as_evaluation
from search_spaces import Network, SearchSpace, SpaceError

ATTEMPTS = 3
"""How often a training is tried that its machine lost."""

FAILURES_AT_FIRST = 5
"""When so many trainings fail before one works, something else is wrong than a candidate."""

POLL_SECONDS = 0.5


class WaysEvaluator:
    """Several evaluators as one: the number of a job's trial says which of them, and which candidate.

    Args:
        ways: Evaluators by name.
        candidates: How many candidates each of them sees.
    """

    def __init__(self, ways: Mapping[str, Evaluator], candidates: int) -> None:
        self._ways = dict(ways)
        self._candidates = candidates

    @property
    def fingerprint(self) -> str:
        """Changes with each of them."""
        return digest(*(f"{name} {way.fingerprint}" for name, way in self._ways.items()))

    def resolve_precision(self, device: str, *, threads: int) -> None:
        """Has each of them that can find out here what the precision `auto` means for all workers."""
        for way in self._ways.values():
            if isinstance(way, ResolvesPrecision):
                way.resolve_precision(device, threads=threads)

    def prepare(self) -> None:
        """Prepares all of them."""
        for way in self._ways.values():
            way.prepare()

    def evaluate(self, candidate: Candidate) -> Evaluation:
        """Trains in the way that the job's number says.

        Raises:
            InfeasibleError: The candidate is at fault.
        """
        name, _ = self.place(candidate.job.trial)
        # The weights are for nobody.
        return replace(as_evaluation(self._ways[name].evaluate(candidate)), weights=None)

    def place(self, trial: int) -> tuple[str, int]:
        """The way and the candidate of a job's number."""
        way, candidate = divmod(trial, self._candidates)
        return list(self._ways)[way], candidate

    def trial(self, way: str, candidate: int) -> int:
        """The job's number of a way and a candidate."""
        return list(self._ways).index(way) * self._candidates + candidate


def training_seed(seed: int, way: str, candidate: int, number: int) -> int:
    """Seed of one training, unlike any other's: ways that shared seeds would seem to agree by their luck."""
    word = int(digest("proxy check", way), 16)
    return int(np.random.SeedSequence([seed, word, candidate, number]).generate_state(1)[0] & 0x7FFFFFFF)


def train_all(
    space: SearchSpace,
    ways: Mapping[str, Evaluator],
    executor: Executor,
    candidates: Sequence[Sampled],
    log: RunLog,
    *,
    seeds: int,
    seed: int,
    on_run: Callable[[Run, int, int], None] = lambda *_: None,
    on_progress: Tell = lambda _: None,
) -> None:
    """Trains what the log lacks: every candidate in every way from every seed.

    Whole rounds follow one another, a seed each; in a round the longer schedule comes first, so that no
    worker is left alone with it at the end.

    Args:
        space: Where the candidates come from.
        ways: Evaluators by name, `long` among them.
        executor: Runs the trainings; started and closed here.
        candidates: The sample.
        log: What is done already, and where results go.
        seeds: Trainings of each candidate in each way.
        seed: Theirs are derived from it.
        on_run: Told of each finished training, with the number done and the number of all.
        on_progress: Told what goes on, trials numbered as in `WaysEvaluator.trial`.

    Raises:
        DataError: A candidate, reduced, is not valid.
        SearchStoppedError: The first trainings all fail.
        ExecutorError: The machines cannot be had.
    """
    check_lawful(ways, [space.decode(one.tokens) for one in candidates])
    evaluator = WaysEvaluator(ways, len(candidates))
    order = sorted(ways, key=lambda name: name != LONG)
    wanted = [
        Run(way=way, candidate=index, number=number, accuracy=None)
        for number in range(seeds)
        for way in order
        for index in range(len(candidates))
    ]
    waiting = {
        Job(
            trial=evaluator.trial(run.way, run.candidate),
            attempt=1,
            tokens=candidates[run.candidate].tokens,
            seed=training_seed(seed, run.way, run.candidate, run.number),
        ): run
        for run in wanted
        if run.key not in log.runs
    }
    if not waiting:
        return
    executor.watch(on_progress)
    try:
        executor.start(space, evaluator)
        done = len(wanted) - len(waiting)
        failed = 0
        for finished, result in enumerate(_run_all(executor, list(waiting)), start=1):
            run = _finished(waiting[replace(result.job, attempt=1)], result)
            if result.status is not Status.LOST and result.cause is not Cause.ERROR:
                log.add(run)  # the others say nothing of the candidate: the next call tries them again
            failed += run.accuracy is None
            if failed == finished == FAILURES_AT_FIRST:
                raise SearchStoppedError(
                    f"the first {FAILURES_AT_FIRST} trainings all failed, the last with: {run.message}"
                )
            on_run(run, done + finished, len(wanted))
    finally:
        executor.close()


def check_lawful(ways: Mapping[str, Evaluator], networks: Sequence[Network]) -> None:
    """Checks every network in every way that can be checked.

    Raises:
        DataError: One does not fit; names the way.
    """
    for name, way in ways.items():
        if not isinstance(way, ChecksNetworks):
            continue
        for network in networks:
            try:
                way.check(network)
            except (DataError, SpaceError) as error:
                raise DataError(f"the proxy {name} cannot be tried: {error}") from error


def _run_all(executor: Executor, jobs: list[Job]) -> Iterator[Result]:
    """Yields a result for every job; what a machine loses is tried again. Signals end it between two."""
    running = 0
    while jobs or running:
        while jobs and running < executor.slots:
            executor.submit(jobs.pop(0))
            running += 1
        with Interruption() as interruption, interruption.breakable():
            results = executor.wait(POLL_SECONDS)
        for result in results:
            running -= 1
            if result.status is Status.LOST and result.job.attempt < ATTEMPTS:
                jobs.insert(0, replace(result.job, attempt=result.job.attempt + 1))
                continue
            yield result


def _finished(run: Run, result: Result) -> Run:
    accuracy = next((metric.value for metric in result.metrics if metric.name == "accuracy"), None)
    message = "" if accuracy is not None else result.message or result.status.value
    return replace(run, accuracy=accuracy, seconds=result.seconds, message=message)
