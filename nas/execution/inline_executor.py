"""Runs jobs in this process, one at a time: needs no Ray, and a debugger works."""

from __future__ import annotations

from nas.errors import ExecutorError, NasError
from nas.execution.worker import Worker
from nas.failures import failure_of
from nas.protocols import Decodes, Evaluator, Probe
from nas.trial import Job, Progress, Result, Tell


class InlineExecutor:
    """Runs a job when it is waited for.

    Attributes:
        is_in_process: A candidate that ends its process ends the search.
    """

    is_in_process = True

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._jobs: list[tuple[Job, bytes | None]] = []
        self._tell: Tell = lambda _: None
        self._problem: Exception | None = None

    def check(self, space: Decodes, evaluator: Evaluator | None, probe: Probe | None = None) -> None:
        """Whatever the caller made can be used in this process."""

    def watch(self, tell: Tell) -> None:
        """Reports progress to `tell` from now on; its exceptions are raised when the job has ended."""
        self._tell = tell

    @property
    def slots(self) -> int:
        """One: this process."""
        return 1

    def start(self, space: Decodes, evaluator: Evaluator) -> None:
        """Prepares the evaluator.

        Raises:
            ExecutorError: The evaluator's `prepare` failed.
        """
        self._tell(Progress(text="preparing the evaluator"))
        try:
            self._worker = Worker(space, evaluator)
        except (NasError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise ExecutorError(
                f"the evaluator could not be prepared: {failure_of(error).message}"
            ) from error

    def submit(self, job: Job, weights: bytes | None = None) -> None:
        """Remembers a job, and the weights it continues from.

        Raises:
            ExecutorError: It was not started, or has a job already.
        """
        if self._worker is None or len(self._jobs) >= self.slots:
            raise ExecutorError(
                f"a started executor takes one job at a time, but has {len(self._jobs)}: start it, or wait"
            )
        self._jobs.append((job, weights))

    def wait(self, timeout_seconds: float) -> list[Result]:  # noqa: ARG002 - the job runs to its end here
        """Runs the remembered job to its end, whatever the timeout."""
        if self._worker is None or not self._jobs:
            return []
        job, weights = self._jobs.pop()
        self._tell(Progress(text="begins", trial=job.trial))
        result = self._worker.run(
            job, weights, progress=lambda text: self._pass_on(Progress(text=text, trial=job.trial))
        )
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem
        return [result]

    def _pass_on(self, progress: Progress) -> None:
        """Keeps exceptions of the progress function away from the evaluator."""
        if self._problem is None:
            try:
                self._tell(progress)
            except Exception as error:
                self._problem = error

    def weights(self, job: Job) -> bytes | None:
        """The weights of the job returned last.

        Raises:
            WeightsError: The evaluator's function failed, or gave something else than bytes.
        """
        return None if self._worker is None else self._worker.weights(job)

    def close(self) -> None:
        """Lets go of everything."""
        self._worker = None
        self._jobs.clear()
