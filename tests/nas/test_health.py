"""A search that fails for one reason is stopped with it; one that fails now and then never is."""

import random

import pytest

import nas
from nas.errors import SearchStoppedError
from nas.failures import failure_of
from nas.health import ALIKE_IN_A_ROW, ALIKE_OF_RECENT, FAILURES_AT_FIRST, RECENT, Health
from nas.outcome import TrialOutcome
from nas.trial import Cause, InfeasibleError, Job, Result, Status

DISK = OSError("cannot read the images at 0x7f12")


class Watched:
    """The health of a run that is told one outcome after another; the first has completed."""

    def __init__(self, folder):
        self.health = Health(folder=folder)
        self.number = 0
        self.completes()

    def _look(self, status, **facts):
        job = Job(trial=self.number, attempt=1, tokens=(0,), seed=0)
        result = Result(job=job, status=status, **facts)
        outcome = TrialOutcome(number=self.number, status=status, cause=result.cause, message=result.message)
        self.number += 1
        self.health.look(outcome, result, completed=1)

    def completes(self):
        self._look(Status.COMPLETED)

    def is_lost(self):
        self._look(Status.LOST, cause=Cause.WORKER_DIED)

    def breaks_a_limit(self):
        self._look(Status.INFEASIBLE, cause=Cause.CONSTRAINT, message="too slow")

    def fails(self, error):
        failure = failure_of(error)
        self._look(
            Status.INFEASIBLE,
            cause=failure.cause,
            message=failure.message,
            log=failure.log,
            is_expected=failure.is_expected,
        )

    def runs(self, errors):
        """Fails with each error, and completes where it is None."""
        for error in errors:
            self.completes() if error is None else self.fails(error)


@pytest.fixture
def watched(tmp_path):
    return Watched(tmp_path)


def test_failures_alike_in_a_row_stop_a_search_with_reason_count_first_trial_and_log(watched, tmp_path):
    watched.runs(OSError(f"cannot read the images at {n:#x}") for n in range(19))
    with pytest.raises(SearchStoppedError, match=r"the last 20 trials failed alike.*start again") as error:
        watched.fails(DISK)
    for words in (
        "first was trial 1",
        str(tmp_path / "logs/trial-00001.log"),
        "OSError: cannot read the images",
    ):
        assert words in str(error.value)


@pytest.mark.parametrize("cause", [Cause.OUT_OF_MEMORY, Cause.DIVERGED, Cause.TIMEOUT])
def test_a_cause_that_every_trial_has_counts_whatever_its_words(watched, cause):
    with pytest.raises(SearchStoppedError, match="failed alike"):
        watched.runs(InfeasibleError(cause, "abc"[number % 3]) for number in range(ALIKE_IN_A_ROW))


def test_nearly_all_failures_alike_stop_a_search_though_one_machine_is_sound(watched):
    with pytest.raises(SearchStoppedError, match=f"{ALIKE_OF_RECENT} of the last {RECENT} trials failed"):
        watched.runs([*[DISK] * 9, None] * RECENT)


@pytest.mark.parametrize(
    "between",
    [
        Watched.completes,
        Watched.breaks_a_limit,
        lambda watched: watched.fails(ValueError("another thing")),
        lambda watched: watched.fails(InfeasibleError("too deep")),
    ],
)
def test_anything_else_between_failures_begins_the_row_again(watched, between):
    watched.runs([DISK] * (ALIKE_IN_A_ROW - 1))
    between(watched)
    watched.runs([DISK] * (ALIKE_IN_A_ROW - 1))


def test_a_lost_trial_says_nothing_of_a_row_of_failures(watched):
    watched.runs([DISK] * (ALIKE_IN_A_ROW - 1))
    watched.is_lost()
    with pytest.raises(SearchStoppedError, match="failed alike"):
        watched.fails(DISK)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_failures_now_and_then_never_stop_a_search(watched, share):
    draw = random.Random(0)
    watched.runs(DISK if draw.random() < share else None for _ in range(20_000))


def test_candidates_of_which_the_evaluator_says_that_they_are_at_fault_stop_no_search(watched):
    for _ in range(3 * RECENT):
        watched.fails(InfeasibleError("kernels larger than the image"))
        watched.breaks_a_limit()
    for _ in range(3 * RECENT):
        watched.fails(InfeasibleError("kernels larger than the image"))
    for _ in range(3 * RECENT):
        watched.breaks_a_limit()


def test_a_search_that_was_stopped_for_failures_alike_goes_on_and_counts_them_no_more(tmp_path, small_space):
    broken = [False]

    def evaluate(candidate):
        if broken[0] and candidate.job.trial >= FAILURES_AT_FIRST:
            raise OSError("the disk with the images is gone")
        return 0.5

    def search():
        return nas.search(
            small_space,
            evaluator=nas.TableEvaluator(evaluate, name="disk"),
            controller="random",
            executor="inline",
            trials=60,
            out=tmp_path,
        )

    broken[0] = True
    for stopped_at in (FAILURES_AT_FIRST + ALIKE_IN_A_ROW, FAILURES_AT_FIRST + 2 * ALIKE_IN_A_ROW):
        with pytest.raises(SearchStoppedError, match=r"last 20 trials failed alike.*images is gone"):
            search()
        assert len(nas.open_study(tmp_path).trials) == stopped_at
    broken[0] = False
    assert len(search().completed) == 60 - 2 * ALIKE_IN_A_ROW
