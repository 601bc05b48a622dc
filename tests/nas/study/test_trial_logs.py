"""Logs of trials that failed are bounded in number and size."""

from nas.study.trial_logs import TrialLogs
from nas.trial import LOG_CHARACTERS, Cause, Job, Result, Status


def lost(trial, attempt=1, log="Traceback"):
    job = Job(trial=trial, attempt=attempt, tokens=(0,), seed=0)
    return Result(job=job, status=Status.LOST, cause=Cause.WORKER_DIED, message="the worker died", log=log)


def names(folder):
    return [int(path.stem.removeprefix("trial-")) for path in sorted((folder / "logs").iterdir())]


def test_the_first_and_the_last_logs_are_kept(tmp_path):
    logs = TrialLogs(tmp_path, most=10, first=3)
    for trial in range(25):
        logs.add(lost(trial))
        assert len(names(tmp_path)) <= 10
    assert names(tmp_path) == [0, 1, 2, *range(18, 25)]


def test_a_continued_search_counts_the_logs_that_are_there(tmp_path):
    for trial in range(8):
        TrialLogs(tmp_path, most=5, first=2).add(lost(trial))
    (tmp_path / "logs/notes.log").write_text("not ours")
    TrialLogs(tmp_path, most=5, first=2).add(lost(8))
    (tmp_path / "logs/notes.log").unlink()
    assert names(tmp_path) == [0, 1, 6, 7, 8]


def test_a_log_has_all_attempts_and_says_where_one_was_cut(tmp_path):
    logs = TrialLogs(tmp_path)
    logs.add(lost(4))
    path = logs.add(lost(4, attempt=2, log="x" * 3 * LOG_CHARACTERS))
    text = path.read_text()
    assert "attempt 1 on an unknown node: lost, worker_died\nthe worker died\nTraceback\nattempt 2" in text
    assert "characters left out" in text
    assert len(text) < 1.1 * LOG_CHARACTERS
