import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from nas.errors import ControllerFailedError, StudyError
from nas.outcome import TrialOutcome
from nas.proposals import trial_seed
from nas.study.identity import Identity
from nas.study.journal import Journal
from nas.study.journal_file import connect_readonly, journal_mode_of, set_journal_mode
from nas.study.journal_reading import Asked
from nas.study.journal_tables import SCHEMA_VERSION
from nas.study.study import open_study
from nas.study.study_folder import FILE_NAME
from nas.trial import Cause, Job, Metric, Result, Status, Trial
from search_spaces import cost

ROOT = Path(__file__).resolve().parents[3]
IDENTITY = Identity(
    space="a",
    evaluator="e",
    objective='{"absolutes": [], "constraints": [], "factors": []}',
    controller="C",
    seed=0,
)
ACCURACY = Metric(name="accuracy", value=0.5, unit="fraction")


def make_trial(space, number):
    tokens = space.sample(np.random.default_rng(number))
    network = space.decode(tokens)
    return Trial(
        number=number,
        tokens=tokens,
        decode=lambda: network,
        digest=network.digest,
        cost=cost(network),
        seed=trial_seed(0, number),
        proposal_number=number,
        log_prob=-1.5,
    )


def complete(journal, trial, *, attempt=1, reward=0.5, weights_file=None, dropped=()):
    job = trial.job(attempt)
    journal.start(job)
    result = Result(job=job, status=Status.COMPLETED, metrics=(ACCURACY,), node="here", seconds=1.0)
    outcome = TrialOutcome(
        number=trial.number,
        status=Status.COMPLETED,
        metrics=(ACCURACY,),
        reward=reward,
        weights_file=weights_file,
    )
    journal.finish(outcome, result, dropped=dropped)


def test_everything_written_is_read_back(tmp_path, small_space):
    state = {"weights": np.arange(6, dtype=np.float32).reshape(2, 3), "count": 3}
    first, second, third = (make_trial(small_space, number) for number in range(3))
    with closing(Journal(tmp_path, IDENTITY)) as journal:
        assert not journal.is_resumed
        for trial in (first, second, third):
            journal.propose([trial], lambda: state, Asked(rejected=7))
        complete(journal, first, reward=0.25)
        journal.start(second.job(1))
        journal.lose(Result(job=second.job(1), status=Status.LOST, cause=Cause.WORKER_DIED, message="gone"))
        journal.fed_back(0, 0.25, 0, lambda: state, Asked(rejected=7))
    with closing(Journal(tmp_path, IDENTITY)) as journal:
        assert journal.is_resumed
        history = journal.history(small_space)
    assert history.trials == (first, second, third)
    assert history.finished == {
        0: TrialOutcome(number=0, status=Status.COMPLETED, metrics=(ACCURACY,), value=0.5, reward=0.25)
    }
    assert history.fed_back == (0,)
    assert dict(history.lost_attempts) == {1: 1}
    assert dict(history.last_attempt) == {0: 1, 1: 1}
    assert history.asked.rejected == 7
    assert history.controller_state is not None
    np.testing.assert_array_equal(history.controller_state["weights"], state["weights"])


def test_an_attempt_that_ran_when_the_driver_ended_is_interrupted_and_costs_no_try(tmp_path, small_space):
    trial = make_trial(small_space, 0)
    journal = Journal(tmp_path, IDENTITY)
    journal.propose([trial], dict, Asked())
    journal.start(trial.job(1))
    journal.close()
    with closing(Journal(tmp_path, IDENTITY)) as again:
        history = again.history(small_space)
    assert history.finished == {}
    assert dict(history.lost_attempts) == {}
    assert dict(history.last_attempt) == {0: 1}
    with closing(connect_readonly(tmp_path)) as database:
        assert database.execute("SELECT status, cause FROM attempt").fetchall() == [("lost", "interrupted")]
        assert database.execute("SELECT status FROM trial").fetchall() == [("proposed",)]


def test_a_second_driver_in_this_process_is_refused(tmp_path):
    with closing(Journal(tmp_path, IDENTITY)), pytest.raises(StudyError, match="already writes"):
        Journal(tmp_path, IDENTITY)
    Journal(tmp_path, IDENTITY).close()


HOLDER = """
import sys, time
from pathlib import Path
from nas.study.journal import Journal
from nas.study.identity import Identity
journal = Journal(Path(sys.argv[1]), Identity(**eval(sys.argv[2])))
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_driver_is_refused_until_the_first_is_killed(tmp_path):
    fields = {name: getattr(IDENTITY, name) for name in IDENTITY.__slots__}
    command = [sys.executable, "-c", HOLDER, str(tmp_path), repr(fields)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StudyError, match=f"already writes .*process {holder.pid} on"):
            Journal(tmp_path, IDENTITY)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    Journal(tmp_path, IDENTITY).close()


@pytest.mark.parametrize(
    ("field", "value"),
    [("space", "b"), ("data", "d"), ("split", "s"), ("recipe", "r"), ("evaluator", "f"), ("objective", "o"),
     ("controller", "D"), ("seed", 1), ("deterministic_workers", 2)],
)  # fmt: skip
def test_a_folder_that_holds_another_study_is_refused_with_both_values(tmp_path, field, value):
    Journal(tmp_path, IDENTITY).close()
    with pytest.raises(StudyError, match="holds another study") as error:
        Journal(tmp_path, replace(IDENTITY, **{field: value}))
    assert f"{field} is {getattr(IDENTITY, field)!r} there, {value!r} here" in str(error.value)
    Journal(tmp_path, IDENTITY).close()


def test_a_fixed_schedule_keeps_the_width_it_was_begun_with(tmp_path):
    Journal(tmp_path, replace(IDENTITY, deterministic_workers=2)).close()
    with closing(Journal(tmp_path, replace(IDENTITY, deterministic_workers=5))) as journal:
        assert journal.identity.deterministic_workers == 2


def test_a_journal_of_a_newer_schema_is_refused(tmp_path):
    Journal(tmp_path, IDENTITY).close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    for use in (lambda: Journal(tmp_path, IDENTITY), lambda: open_study(tmp_path)):
        with pytest.raises(StudyError, match=f"schema version {SCHEMA_VERSION + 1}.*pip install --upgrade"):
            use()


def test_a_foreign_sqlite_file_is_refused_and_left_alone(tmp_path):
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        database.execute("CREATE TABLE recipes (name TEXT)")
    before = (tmp_path / FILE_NAME).read_bytes()
    for use in (lambda: Journal(tmp_path, IDENTITY), lambda: open_study(tmp_path)):
        with pytest.raises(StudyError, match="not a study's journal"):
            use()
    assert (tmp_path / FILE_NAME).read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"\xff" * 5000])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path, content):
    (tmp_path / FILE_NAME).write_bytes(content)
    for use in (lambda: Journal(tmp_path, IDENTITY), lambda: open_study(tmp_path)):
        with pytest.raises(StudyError, match="no journal, or a truncated one"):
            use()
    assert (tmp_path / FILE_NAME).read_bytes() == content


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_journal_is_refused(tmp_path, small_space, share):
    with closing(Journal(tmp_path, IDENTITY)) as journal:
        for number in range(20):
            journal.propose([make_trial(small_space, number)], dict, Asked())
    path = tmp_path / FILE_NAME
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * share))
    for use in (lambda: Journal(tmp_path, IDENTITY), lambda: open_study(tmp_path)):
        with pytest.raises(StudyError, match=r"truncated|damaged"):
            use()


def test_a_journal_with_a_damaged_page_is_refused(tmp_path, small_space):
    with closing(Journal(tmp_path, IDENTITY)) as journal:
        for number in range(20):
            journal.propose([make_trial(small_space, number)], dict, Asked())
        page = journal._database.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'trial_of_candidate'"
        ).fetchone()[0]
    path = tmp_path / FILE_NAME
    with path.open("r+b") as file:
        file.seek(4096 * (page - 1) + 3)
        file.write(b"\0\1")  # the index claims to have a single entry
    for use in (lambda: Journal(tmp_path, IDENTITY), lambda: open_study(tmp_path)):
        with pytest.raises(StudyError, match="is damaged"):
            use()


def test_a_journal_truncated_to_nothing_is_not_taken_for_a_new_study(tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "trial-00000.safetensors").write_bytes(b"x")
    (tmp_path / FILE_NAME).touch()
    with pytest.raises(StudyError, match=r"is empty, but .* what is left of a study"):
        Journal(tmp_path, IDENTITY)


def test_a_file_left_empty_by_a_kill_at_the_very_start_becomes_a_study(tmp_path):
    (tmp_path / FILE_NAME).touch()
    Journal(tmp_path, IDENTITY).close()
    assert open_study(tmp_path).trials == ()


def test_a_full_disk_is_said_and_loses_nothing(tmp_path, small_space):
    journal = Journal(tmp_path, IDENTITY)
    trials = [make_trial(small_space, number) for number in range(200)]
    pages = journal._database.execute("PRAGMA page_count").fetchone()[0]
    journal._database.execute(f"PRAGMA max_page_count = {pages + 3}")
    written: list[Trial] = []

    def fill():
        for trial in trials:
            journal.propose([trial], dict, Asked())
            written.append(trial)

    with pytest.raises(StudyError, match=r"database or disk is full.*free some disk space"):
        fill()
    journal.close()
    assert 0 < len(written) < len(trials)
    with closing(Journal(tmp_path, IDENTITY)) as again:
        assert again.history(small_space).trials == tuple(written)


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match="cannot be written"):
        Journal(tmp_path / "file" / "study", IDENTITY)


@pytest.mark.parametrize("what", ["moved", "deleted", "replaced"])
def test_a_folder_that_is_moved_or_deleted_under_a_search_ends_it(tmp_path, small_space, what):
    folder, away = tmp_path / "study", tmp_path / "away"
    trial = make_trial(small_space, 0)
    with closing(Journal(folder, IDENTITY)) as journal:
        journal.propose([trial], dict, Asked())
        folder.rename(away)
        if what == "deleted":
            shutil.rmtree(away)
        if what == "replaced":
            folder.mkdir()
            (folder / FILE_NAME).touch()
        with pytest.raises(StudyError, match=r"moved or deleted while .*put it back"):
            complete(journal, trial)
    assert folder.exists() is (what == "replaced")
    if what == "moved":
        with closing(Journal(away, IDENTITY)) as journal:
            complete(journal, trial)
        assert len(open_study(away).completed) == 1


def test_a_search_that_ends_while_it_makes_its_journal_can_be_begun_again(tmp_path, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("nas.study.journal.package_version", interrupt)
        with pytest.raises(KeyboardInterrupt):
            Journal(tmp_path, IDENTITY)
    Journal(tmp_path, IDENTITY).close()


def test_a_step_that_breaks_in_the_middle_leaves_no_half(tmp_path, small_space):
    trial = make_trial(small_space, 0)
    with closing(Journal(tmp_path, IDENTITY)) as journal:
        with pytest.raises(ControllerFailedError, match="the controller C gave what cannot be stored"):
            journal.propose([trial], lambda: {"bad": object()}, Asked())
        assert journal.history(small_space).trials == ()
        journal.propose([trial], dict, Asked())
        assert journal.history(small_space).trials == (trial,)


def test_a_study_can_be_read_while_it_is_written(tmp_path, small_space):
    with closing(Journal(tmp_path, IDENTITY)) as journal:
        trial = make_trial(small_space, 0)
        journal.propose([trial], dict, Asked())
        complete(journal, trial)
        study = open_study(tmp_path)
        assert [t.status for t in study.trials] == [Status.COMPLETED]
        assert study.ending is None
        journal.end("trials")
    assert open_study(tmp_path).ending == "trials"


def test_the_views_say_what_a_person_looks_for(tmp_path, small_space):
    with closing(Journal(tmp_path, IDENTITY)) as journal:
        good, bad = make_trial(small_space, 0), make_trial(small_space, 1)
        for trial in (good, bad):
            journal.propose([trial], dict, Asked())
        complete(journal, good, reward=0.5)
        job = bad.job(1)
        journal.start(job)
        result = Result(job=job, status=Status.INFEASIBLE, cause=Cause.DIVERGED, message="loss is nan")
        journal.finish(
            TrialOutcome(number=1, status=Status.INFEASIBLE, cause=Cause.DIVERGED, message="loss is nan"),
            result,
        )
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        rows = database.execute(
            "SELECT number, status, reward, accuracy, macs, attempts FROM trials"
        ).fetchall()
        assert rows == [
            (0, "completed", 0.5, 0.5, good.cost.macs, 1),
            (1, "infeasible", None, None, bad.cost.macs, 1),
        ]
        failures = database.execute("SELECT trial, attempt, status, cause, message FROM failures").fetchall()
        assert failures == [(1, 1, "infeasible", "diverged", "loss is nan")]


def test_a_file_system_without_shared_memory_gets_the_rollback_journal(tmp_path):
    uri = f"file:{tmp_path / 'plain.sqlite'}?vfs=unix-dotfile"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as database:
        assert set_journal_mode(database) == "delete"
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)
        database.execute("CREATE TABLE proof (id INTEGER)")
    assert journal_mode_of(tmp_path) == "wal"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain.sqlite"]


def test_a_study_on_a_read_only_disk_can_be_read(tmp_path, small_space):
    with closing(Journal(tmp_path, IDENTITY)) as journal:
        journal.propose([make_trial(small_space, 0)], dict, Asked())
    path = tmp_path / FILE_NAME
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        assert len(open_study(tmp_path).trials) == 1
    finally:
        tmp_path.chmod(0o755)


def test_a_network_is_written_to_the_journal_on_one_line(tmp_path, small_space):
    trial = make_trial(small_space, 0)
    with closing(Journal(tmp_path, IDENTITY)) as journal:
        journal.propose([trial], dict, Asked())
    with closing(connect_readonly(tmp_path)) as database:
        (text,) = database.execute("SELECT network_json FROM candidate").fetchone()
    assert not set(" \n") & set(text)
    assert open_study(tmp_path).trials[0].network == trial.network


def test_a_job_carries_the_trials_seed_and_tokens(small_space):
    trial = make_trial(small_space, 3)
    assert trial.job(2) == Job(trial=3, attempt=2, tokens=trial.tokens, seed=trial.seed)


class Moved:
    """A clock that somebody else moves."""

    def __init__(self):
        self.seconds = 0.0

    def monotonic(self):
        return self.seconds

    def now(self):
        return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)


def test_times_are_those_of_the_clock(tmp_path, small_space):
    clock = Moved()
    trial = make_trial(small_space, 0)
    with closing(Journal(tmp_path, IDENTITY, clock=clock)) as journal:
        clock.seconds = 60
        journal.propose([trial], dict, Asked())
        clock.seconds = 120
        complete(journal, trial)
        journal.end("trials")
    study = open_study(tmp_path)
    assert study.trials[0].proposed_at == "2030-01-01T00:01:00.000+00:00"
    assert study.trials[0].finished_at == "2030-01-01T00:02:00.000+00:00"
    assert study.summary().created_at == "2030-01-01T00:00:00.000+00:00"
