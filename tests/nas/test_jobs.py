import json
import os
import signal
from dataclasses import replace

import pytest

from nas.errors import StudyError
from nas.evaluators import TableEvaluator
from nas.execution.inline_executor import InlineExecutor
from nas.jobs import JobLog, Training, earlier_result, run_trainings, value_of
from nas.trial import Cause, InfeasibleError, Status
from search_spaces import small

SPACE = small(resolution=8, in_channels=1)
TOKENS = SPACE.encode(SPACE.reference)
TRAININGS = tuple(
    Training(key=f"network/{seed}", label=f"training {seed}", tokens=TOKENS, seed=seed) for seed in range(6)
)


def by_seed(candidate):
    return 0.1 * candidate.job.seed


class Ran:
    """A run of the list, with what it told."""

    def __init__(self, folder, accuracy=by_seed, *, executor=None, stop_after=None, **log):
        self.executor = executor or InlineExecutor()
        self.finished, self.progress = [], []
        self.stop_after = stop_after
        with JobLog(folder / "log.jsonl", log.pop("settings", {}), **log) as self.log:
            run_trainings(
                SPACE,
                TableEvaluator(accuracy),
                self.executor,
                TRAININGS,
                self.log,
                on_finished=self.tell,
                on_progress=self.progress.append,
            )

    def tell(self, finished):
        key = finished.training.key
        assert key in {json.loads(line).get("key") for line in self.log.path.read_text().splitlines()}
        self.finished.append(finished)
        if len(self.finished) == self.stop_after:
            raise KeyboardInterrupt

    @property
    def places(self):
        return [TRAININGS.index(one.training) for one in self.finished]


def accuracies(log):
    return [value_of(log.results[one.key], "accuracy") for one in TRAININGS]


def test_every_training_runs_once_in_order_and_is_on_disk_before_it_is_reported(tmp_path):
    ran = Ran(tmp_path)
    assert ran.places == [0, 1, 2, 3, 4, 5]
    assert [(one.done, one.total) for one in ran.finished] == [(done, 6) for done in range(1, 7)]
    assert accuracies(ran.log) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert {one.trial for one in ran.progress} == {None, *range(6)}


def test_what_the_log_has_is_read_back_as_it_was_and_not_done_again(tmp_path):
    first = Ran(tmp_path)
    again = Ran(tmp_path)
    assert again.finished == []
    assert again.log.results == {
        key: replace(result, has_weights=False) for key, result in first.log.results.items()
    }


def test_a_list_that_was_stopped_continues_where_it_was(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Ran(tmp_path, stop_after=2)
    ran = Ran(tmp_path)
    assert ran.places == [2, 3, 4, 5]
    assert [one.done for one in ran.finished] == [3, 4, 5, 6]


def test_a_line_cut_short_by_a_kill_is_done_again(tmp_path):
    Ran(tmp_path)
    path = tmp_path / "log.jsonl"
    lines = [line for line in path.read_text().splitlines(keepends=True) if '"job"' in line]
    path.write_text(json.dumps({"version": 2, "settings": {}}) + "\n" + lines[0] + lines[1][:40])
    assert Ran(tmp_path).places == [1, 2, 3, 4, 5]
    assert Ran(tmp_path).finished == []


class Losing(InlineExecutor):
    """Loses some attempts at the third training."""

    def __init__(self, attempts):
        super().__init__()
        self.attempts = attempts
        self.began = []

    def submit(self, job, weights=None):
        self.began.append((job.trial, job.attempt))
        super().submit(job, weights)

    def wait(self, timeout_seconds):
        return [
            replace(result, status=Status.LOST, cause=Cause.WORKER_DIED, metrics=(), message="no worker")
            if result.job.trial == 2 and result.job.attempt <= self.attempts
            else result
            for result in super().wait(timeout_seconds)
        ]


def test_what_a_machine_lost_is_tried_again_and_reported_once(tmp_path):
    ran = Ran(tmp_path, executor=Losing(2))
    assert [attempt for trial, attempt in ran.executor.began if trial == 2] == [1, 2, 3]
    assert ran.places == [0, 1, 2, 3, 4, 5]
    assert accuracies(ran.log)[2] == pytest.approx(0.2)


def test_after_three_attempts_a_loss_is_reported_and_the_next_call_tries_again(tmp_path):
    ran = Ran(tmp_path, executor=Losing(9))
    assert [attempt for trial, attempt in ran.executor.began if trial == 2] == [1, 2, 3]
    assert [one.result.message for one in ran.finished if one.result.status is Status.LOST] == ["no worker"]
    assert Ran(tmp_path).places == [2]


@pytest.mark.parametrize(("cause", "is_done"), [(Cause.DIVERGED, True), (Cause.ERROR, False)])
def test_a_failure_of_the_candidates_own_is_final_and_an_error_is_tried_again(tmp_path, cause, is_done):
    def failing(candidate):
        if candidate.job.seed == 4:
            raise InfeasibleError(cause, "loss is nan")
        return 0.5

    assert Ran(tmp_path, failing).finished[4].result.message == "loss is nan"
    assert Ran(tmp_path).places == ([] if is_done else [4])


def died_in(folder, *keys):
    """The file as a process leaves it that ends without a word while a training runs in it."""
    log = JobLog(folder / "log.jsonl", {})
    for key in keys:
        log.begin(key)
    log._lock.release()  # as the system does when a process ends


def test_a_training_that_ends_the_process_three_times_is_given_up(tmp_path):
    for _ in range(2):
        died_in(tmp_path, TRAININGS[0].key)
    with JobLog(tmp_path / "log.jsonl", {}) as log:
        assert log.deaths == {TRAININGS[0].key: 2}
    died_in(tmp_path, TRAININGS[0].key)
    ran = Ran(tmp_path)
    assert ran.places == [1, 2, 3, 4, 5]
    given_up = ran.log.results[TRAININGS[0].key]
    assert (given_up.status, given_up.cause) == (Status.INFEASIBLE, Cause.WORKER_DIED)
    assert Ran(tmp_path).finished == []


def test_a_training_that_a_user_stopped_is_not_given_up(tmp_path):
    def interrupted(_candidate):
        raise KeyboardInterrupt

    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            Ran(tmp_path, interrupted)
    assert Ran(tmp_path).places == [0, 1, 2, 3, 4, 5]


def test_a_signal_during_a_training_stops_and_one_while_a_result_is_reported_waits(tmp_path):
    def signalled(candidate):
        if candidate.job.seed == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return 0.5

    with pytest.raises(KeyboardInterrupt):
        Ran(tmp_path, signalled)

    class Signalling(Ran):
        def tell(self, finished):
            os.kill(os.getpid(), signal.SIGTERM)
            super().tell(finished)

    with pytest.raises(KeyboardInterrupt):
        Signalling(tmp_path)
    assert Ran(tmp_path).places == [2, 3, 4, 5]


def test_the_executor_is_started_only_for_work_and_closed_whatever_happens(tmp_path):
    class Recorded(InlineExecutor):
        def __init__(self):
            super().__init__()
            self.calls = []

        def start(self, space, evaluator):
            self.calls.append("start")
            super().start(space, evaluator)

        def close(self):
            self.calls.append("close")
            super().close()

    executor = Recorded()
    with pytest.raises(KeyboardInterrupt):
        Ran(tmp_path, executor=executor, stop_after=1)
    assert executor.calls == ["start", "close"]
    Ran(tmp_path)
    assert Ran(tmp_path, executor=Recorded()).executor.calls == []


def test_results_of_other_settings_are_refused_by_name(tmp_path):
    Ran(tmp_path, settings={"recipe": "a", "seed": "0"})
    with pytest.raises(StudyError, match="trainings with another recipe, data:") as error:
        Ran(tmp_path, settings={"recipe": "b", "seed": "0", "data": "c"})
    assert error.value.field == "out"


@pytest.mark.parametrize("text", ["{}\n", "[1]\n", '{"version": 3, "settings": {}}\n', "no json\n"])
def test_a_damaged_or_newer_file_is_refused_and_not_touched(tmp_path, text):
    path = tmp_path / "log.jsonl"
    path.write_text(text)
    with pytest.raises(StudyError) as error:
        Ran(tmp_path)
    assert error.value.field == "out"
    assert path.read_text() == text


def test_lines_of_the_first_version_are_read_by_whoever_wrote_them(tmp_path):
    head = {"version": 1, "settings": {}}
    (tmp_path / "log.jsonl").write_text(f'{json.dumps(head)}\n{{"way": 0, "accuracy": 0.25}}\n')

    def read(line):
        return TRAININGS[line["way"]].key, earlier_result(line["accuracy"], "")

    ran = Ran(tmp_path, read_earlier=read)
    assert ran.places == [1, 2, 3, 4, 5]
    assert accuracies(ran.log)[0] == 0.25
    assert Ran(tmp_path, read_earlier=read).finished == []


def test_a_second_process_cannot_train_into_the_same_log_and_changes_nothing(tmp_path):
    with JobLog(tmp_path / "log.jsonl", {}) as first:
        before = first.path.read_bytes()
        with pytest.raises(StudyError, match="another process trains into") as caught:
            JobLog(tmp_path / "log.jsonl", {})
        assert caught.value.field == "out"
        assert first.path.read_bytes() == before
    with JobLog(tmp_path / "log.jsonl", {}):
        pass
    with pytest.raises(StudyError, match="another x"):
        JobLog(tmp_path / "log.jsonl", {"x": "1"})
    with JobLog(tmp_path / "log.jsonl", {}):
        pass  # a log that was refused holds no lock
