"""One driver at a time writes to a study, on one machine and on several."""

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from nas.errors import StudyError
from nas.io import this_process
from nas.study.driver import FolderLock
from nas.study.identity import Identity
from nas.study.journal import Journal
from nas.study.study import open_study
from nas.study.study_folder import FILE_NAME, LOCK_NAME

ROOT = Path(__file__).resolve().parents[3]
IDENTITY = Identity(
    space="a",
    evaluator="e",
    objective='{"absolutes": [], "constraints": [], "factors": []}',
    controller="C",
    seed=0,
)


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
            os.waitid(os.P_PID, first.process.pid, os.WEXITED | os.WNOWAIT)  # dead, but not reaped
        (tmp_path / LOCK_NAME).unlink()
        with closing(Journal(tmp_path, IDENTITY)) as second:
            second.note("said", "by the second")
    assert [message for _, _, message in open_study(tmp_path).events][-1] == "by the second"


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
