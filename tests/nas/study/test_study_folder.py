import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import nas
from nas.cli.main import main
from nas.errors import StudyError
from nas.processes import this_process
from nas.study.driver import FolderLock
from nas.study.identity import Identity
from nas.study.journal import Journal
from nas.study.study import open_study
from nas.study.study_folder import FILE_NAME, LOCK_NAME, LOG_NAME, has_study
from nas.trial import Evaluation, Metric

ROOT = Path(__file__).resolve().parents[3]
IDENTITY = Identity(
    space="a",
    evaluator="e",
    objective='{"absolutes": [], "constraints": [], "factors": []}',
    controller="C",
    seed=0,
)


class WithWeights:
    """Measures by a formula, and has weights to keep."""

    fingerprint = "formula"

    def prepare(self):
        pass

    def evaluate(self, candidate):
        accuracy = Metric(name="accuracy", value=0.5 + candidate.job.trial / 100, unit="fraction")
        return Evaluation(metrics=(accuracy,), weights=lambda: b"weights of %d" % candidate.job.trial)


def search(space, folder, *, trials=4, **options):
    evaluator = options.pop("evaluator", WithWeights())
    controller = options.pop("controller", "random")
    return nas.search(
        space,
        evaluator=evaluator,
        controller=controller,
        trials=trials,
        executor="inline",
        out=folder,
        **options,
    )


def contents(folder):
    return {
        str(path.relative_to(folder)): (
            path.read_bytes() if path.is_file() else None,
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
    }


def write(folder, name):
    path = folder / name
    if name.endswith("/"):
        path.mkdir(parents=True)
        path = path / "something"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 100)


REMAINS = (
    "weights/trial-00000.safetensors", "logs/trial-00000.log", "export/trial-0/card.md", "comparison.json",
    "tensorboard/events.out.tfevents.1", "study.lock", "study.sqlite-wal", "study.sqlite-shm", "search.png",
    "study.sqlite-journal",
)  # fmt: skip


@pytest.mark.parametrize("main", ["missing", "empty"])
@pytest.mark.parametrize("remains", REMAINS)
def test_what_is_left_of_a_study_without_its_journal_is_refused_and_not_touched(tmp_path, remains, main):
    write(tmp_path, remains)
    if main == "empty":
        (tmp_path / FILE_NAME).touch()
    before = contents(tmp_path)
    for use in (lambda: Journal(tmp_path, IDENTITY), lambda: open_study(tmp_path)):
        with pytest.raises(StudyError, match=f"study.sqlite is {main}.*put study.sqlite back") as error:
            use()
        assert remains.split("/")[0] in str(error.value)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("remains", [(), ("weights/trial-00000.safetensors",), ("study.lock",)])
def test_a_main_file_whose_tables_are_in_a_missing_wal_is_refused_and_not_touched(tmp_path, remains):
    for name in remains:
        write(tmp_path, name)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        database.execute("PRAGMA journal_mode = WAL")
    assert not (tmp_path / LOG_NAME).exists()
    before = contents(tmp_path)
    for use in (lambda: Journal(tmp_path, IDENTITY), lambda: open_study(tmp_path)):
        with pytest.raises(StudyError, match=r"study.sqlite-wal, which is missing beside it: copy"):
            use()
    assert contents(tmp_path) == before


def test_a_search_killed_while_it_made_its_journal_begins_again(tmp_path, small_space):
    with closing(sqlite3.connect(tmp_path / "a.sqlite", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("SELECT count(*) FROM sqlite_master")
        for suffix in ("", "-wal", "-shm"):
            shutil.copy(tmp_path / f"a.sqlite{suffix}", tmp_path / f"study.sqlite{suffix}")
    (tmp_path / LOCK_NAME).touch()
    assert not has_study(tmp_path)
    assert len(search(small_space, tmp_path).trials) == 4


@pytest.mark.parametrize("name", ["weights", "logs", "export", "tensorboard"])
@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_a_part_of_a_study_that_is_no_folder_is_refused_before_anything_runs(
    tmp_path, small_space, name, kind
):
    if kind == "file":
        (tmp_path / name).touch()
    else:
        (tmp_path / name).symlink_to(tmp_path / "nowhere")
    with pytest.raises(StudyError, match=f"{name} must be a folder, but is a "):
        search(small_space, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", [FILE_NAME, LOCK_NAME])
def test_a_file_of_a_study_that_is_a_folder_is_refused(tmp_path, small_space, name):
    (tmp_path / name).mkdir()
    with pytest.raises(StudyError, match=f"{name} must be a file, but is a folder"):
        search(small_space, tmp_path)


def test_a_study_whose_folder_is_a_file_is_refused(tmp_path, small_space):
    (tmp_path / "study").touch()
    for use in (lambda: search(small_space, tmp_path / "study"), lambda: open_study(tmp_path / "study")):
        with pytest.raises(StudyError, match=r"study must be a folder, but is a file"):
            use()
    with pytest.raises(StudyError, match="cannot be written"):
        search(small_space, tmp_path / "study" / "inner")


def test_removing_the_journal_of_a_search_keeps_its_weights(tmp_path, small_space):
    search(small_space, tmp_path)
    (tmp_path / FILE_NAME).unlink()
    before = contents(tmp_path)
    with pytest.raises(StudyError, match=r"is missing, and so is study\.sqlite-wal"):
        search(small_space, tmp_path)
    assert contents(tmp_path) == before


def test_a_main_file_copied_alone_while_a_search_runs_is_a_journal(tmp_path):
    with closing(Journal(tmp_path / "a", IDENTITY)):
        (tmp_path / "b").mkdir()
        shutil.copy(tmp_path / "a" / FILE_NAME, tmp_path / "b" / FILE_NAME)
        assert open_study(tmp_path / "b").trials == ()
        with closing(Journal(tmp_path / "b", IDENTITY)) as journal:
            assert journal.is_resumed


def test_weights_that_the_journal_does_not_know_are_left_and_named(tmp_path, small_space):
    search(small_space, tmp_path, trials=3)
    weights = tmp_path / "weights"
    for name in ("trial-00004.safetensors", "trial-00009.safetensors", "trial-mine.txt", "notes.txt"):
        (weights / name).write_bytes(b"other")
    (weights / "trial-00001.partial").write_bytes(b"half")
    (weights / "trial-00007.partial").write_bytes(b"half")
    (weights / ".trial-00002.safetensors.0123abcd.new").write_bytes(b"half")
    study = search(small_space, tmp_path, trials=6)
    assert not [*weights.glob("*.partial"), *weights.glob(".*")]
    assert (weights / "trial-00009.safetensors").read_bytes() == b"other"
    assert (weights / "trial-mine.txt").read_bytes() == b"other"
    assert (weights / "trial-00004.old-1.safetensors").read_bytes() == b"other"
    assert study.trials[5].weights_file.read_bytes() == b"weights of 5"
    (event,) = (message for _, kind, message in study.events if kind == "weights_unknown")
    assert "trial-00004.safetensors, trial-00009.safetensors, trial-mine.txt" in event
    search(small_space, tmp_path, trials=12)
    assert (weights / "trial-00009.old-1.safetensors").read_bytes() == b"other"


def test_a_main_file_copied_without_its_wal_is_shown_with_a_warning(tmp_path, small_space, capsys):
    whole = search(small_space, tmp_path / "a")
    assert whole.warnings == ()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    edit(tmp_path / "b", "DELETE FROM attempt WHERE trial = 3")
    edit(tmp_path / "b", "DELETE FROM measurement WHERE trial = 3")
    edit(tmp_path / "b", "DELETE FROM trial WHERE number = 3")  # as if it had still been in the -wal file
    assert whole.trials[3].weights_file is not None
    (warning,) = open_study(tmp_path / "b").warnings
    assert "1 files of trials that the journal does not have: trial-00003.safetensors" in warning
    assert main(["show", str(tmp_path / "b")]) == 0
    assert "does not have: trial-00003.safetensors" in " ".join(capsys.readouterr().out.split())


def test_weights_written_but_not_entered_before_a_kill_are_swept(tmp_path, small_space):
    study = search(small_space, tmp_path, trials=6)
    dropped = next(trial.number for trial in study.trials if trial.weights_file is None)
    path = tmp_path / "weights" / f"trial-{dropped:05d}.safetensors"
    path.write_bytes(b"x")
    search(small_space, tmp_path, trials=7)
    assert not path.exists()


def test_weights_that_are_gone_are_named(tmp_path, small_space):
    study = search(small_space, tmp_path)
    gone = study.best
    gone.weights_file.unlink()
    again = search(small_space, tmp_path, trials=5)
    assert again.trials[gone.number].weights_file is None
    assert [m for _, kind, m in again.events if kind == "weights_missing"] == [
        f"the weights of trials {gone.number} are gone from weights/"
    ]


@contextmanager
def who_may_only_read(folder):
    """Makes a folder and its files read-only; root, who may do all, is somebody else meanwhile."""
    above = [path for path in folder.parents if path.name.startswith(("pytest-", "test_", "popen-"))]
    modes = {path: path.stat().st_mode for path in (folder, *above, *folder.iterdir())}
    for path in modes:
        path.chmod(0o555 if path.is_dir() else 0o444)
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.seteuid(65534)
        yield
    finally:
        if is_root:
            os.seteuid(0)
        for path, mode in modes.items():
            path.chmod(mode)


@pytest.mark.parametrize("names", [("", "-wal"), ("", "-wal", "-shm"), ("",)])
def test_a_read_only_copy_shows_the_trials_that_are_still_in_its_wal(tmp_path, small_space, names):
    search(small_space, tmp_path / "a")
    with closing(sqlite3.connect(tmp_path / "a" / FILE_NAME, isolation_level=None)) as database:
        database.execute("PRAGMA wal_autocheckpoint = 0")
        database.execute("BEGIN IMMEDIATE")
        database.execute("DELETE FROM measurement WHERE trial = 3")
        database.execute("DELETE FROM attempt WHERE trial = 3")
        database.execute("DELETE FROM trial WHERE number = 3")
        database.execute("COMMIT")
        copy = tmp_path / "b"
        copy.mkdir()
        for suffix in names:
            shutil.copy(tmp_path / "a" / f"{FILE_NAME}{suffix}", copy / f"{FILE_NAME}{suffix}")
    before = contents(copy)
    with who_may_only_read(copy):
        assert len(open_study(copy).trials) == (4 if names == ("",) else 3)
    assert contents(copy) == before


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from nas.errors import StudyError
from nas.study.journal import Journal
from nas.study.identity import Identity
journal = Journal(Path(sys.argv[1]), Identity(**eval(sys.argv[2])))
print("held", flush=True)
for line in sys.stdin:
    try:
        journal.note("said", line.strip())
        print("written", flush=True)
    except StudyError as error:
        print(error, flush=True)
"""


class OtherDriver:
    """A process that holds a study, and writes to it when it is told to."""

    def __init__(self, folder):
        fields = {name: getattr(IDENTITY, name) for name in IDENTITY.__slots__}
        command = [sys.executable, "-c", DRIVER, str(folder), repr(fields), str(ROOT)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.first = self.process.stdout.readline().strip()

    def write(self):
        self.process.stdin.write("something\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def edit(folder, statement, *values):
    with closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as database:
        database.execute(statement, values)


def test_a_second_driver_is_refused_by_the_journal_where_the_lock_file_was_deleted(tmp_path):
    with OtherDriver(tmp_path) as first:
        assert first.first == "held"
        (tmp_path / LOCK_NAME).unlink()
        with pytest.raises(StudyError, match=f"already writes .*process {first.process.pid} on"):
            Journal(tmp_path, IDENTITY)
        assert first.write() == "written"


def test_a_driver_that_was_replaced_stops_and_writes_nothing(tmp_path):
    with OtherDriver(tmp_path) as first:
        (tmp_path / LOCK_NAME).unlink()
        edit(tmp_path, "DELETE FROM driver")
        with closing(Journal(tmp_path, IDENTITY)) as second:
            assert "has taken over" in first.write()
            second.note("said", "by the second")
        assert [message for _, _, message in open_study(tmp_path).events] == ["by the second"]
        assert "has taken over" in first.write()


@pytest.mark.parametrize("waits", [True, False])
def test_a_killed_driver_is_followed_at_once(tmp_path, waits):
    with OtherDriver(tmp_path) as first:
        first.process.send_signal(signal.SIGKILL)
        if waits:
            first.process.wait()
        else:
            os.waitid(
                os.P_PID, first.process.pid, os.WEXITED | os.WNOWAIT
            )  # dead, but nobody has waited for it
        (tmp_path / LOCK_NAME).unlink()
        Journal(tmp_path, IDENTITY).close()


def test_a_copy_of_a_study_that_is_searched_is_a_study_of_its_own(tmp_path):
    with OtherDriver(tmp_path / "a") as first:
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        Journal(tmp_path / "b", IDENTITY).close()
        assert first.write() == "written"


def test_a_process_that_only_has_the_number_of_a_dead_driver_does_not_count(tmp_path):
    Journal(tmp_path, IDENTITY).close()
    me = this_process()
    inode = (tmp_path / FILE_NAME).stat().st_ino
    parent = os.getppid()
    for started in ("another boot/1", "1.5", ""):
        edit(tmp_path, "UPDATE driver SET host = ?, process = ?, started = ?, inode = ?",
             me.host, parent, started, inode)  # fmt: skip
        if started:
            Journal(tmp_path, IDENTITY).close()
        else:
            with pytest.raises(StudyError, match="already writes"):
                Journal(tmp_path, IDENTITY)


def test_a_driver_of_another_machine_is_replaced_only_where_the_lock_file_says_it_has_ended(tmp_path):
    Journal(tmp_path, IDENTITY).close()
    inode = (tmp_path / FILE_NAME).stat().st_ino
    edit(tmp_path, "UPDATE driver SET host = 'elsewhere', process = 7, started = 'x', inode = ?", inode)
    with pytest.raises(StudyError, match=r"process 7 on elsewhere writes to .*DELETE FROM driver") as error:
        Journal(tmp_path, IDENTITY)
    (tmp_path / LOCK_NAME).write_text("process 7 on elsewhere\n")  # of an earlier version
    with pytest.raises(StudyError, match="remove its claim with"):
        Journal(tmp_path, IDENTITY)
    (tmp_path / LOCK_NAME).write_text("\0process 7 on elsewhere\n")
    Journal(tmp_path, IDENTITY).close()
    edit(tmp_path, "UPDATE driver SET host = 'elsewhere', process = 7, started = 'x', inode = ?", inode)
    remedy = str(error.value).partition("remove its claim with ")[2].replace("python", sys.executable, 1)
    subprocess.run(remedy, shell=True, check=True)
    Journal(tmp_path, IDENTITY).close()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_no_other_driver(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    Journal(tmp_path, IDENTITY).close()
    with closing(Journal(tmp_path, IDENTITY)), pytest.raises(StudyError, match="in this process"):
        FolderLock(tmp_path)
    with OtherDriver(tmp_path) as other, pytest.raises(StudyError, match=f"process {other.process.pid} on"):
        Journal(tmp_path, IDENTITY)
    Journal(tmp_path, IDENTITY).close()


def test_a_running_driver_of_an_earlier_version_is_respected(tmp_path):
    with OtherDriver(tmp_path / "other") as running:
        Journal(tmp_path / "study", IDENTITY).close()
        inode = (tmp_path / "study" / FILE_NAME).stat().st_ino
        stat = Path(f"/proc/{running.process.pid}/stat").read_text()
        started = f"a boot id/{stat.rpartition(')')[2].split()[19]}"
        edit(tmp_path / "study", "UPDATE driver SET host = ?, process = ?, started = ?, inode = ?",
             this_process().host, running.process.pid, started, inode)  # fmt: skip
        with pytest.raises(StudyError, match=f"already writes .*process {running.process.pid} on"):
            Journal(tmp_path / "study", IDENTITY)
    Journal(tmp_path / "study", IDENTITY).close()


def test_an_interrupted_claim_costs_no_second_study(tmp_path):
    Journal(tmp_path, IDENTITY).close()
    with pytest.raises(StudyError, match="holds another study"):
        Journal(tmp_path, replace(IDENTITY, seed=5))
    Journal(tmp_path, IDENTITY).close()
