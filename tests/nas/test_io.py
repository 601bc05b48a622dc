import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nas.errors import ExportError
from nas.io import ABANDONED_SECONDS, fresh_folder, write_whole

ROOT = Path(__file__).resolve().parents[2]
FILES = ("card.md",)

EXPORT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from nas.io import fresh_folder
with fresh_folder(Path(sys.argv[1]), ("card.md",), is_replaced=True) as fresh:
    (fresh / "card.md").write_text("half")
    print("begun", flush=True)
    time.sleep(60)
"""


def export(folder, text="new"):
    with fresh_folder(folder, FILES, is_replaced=True) as fresh:
        (fresh / "card.md").write_text(text)


def begin(folder):
    command = [sys.executable, "-c", EXPORT, str(folder), str(ROOT)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    return process


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("next_one", ["trial-3", "trial-5"])
def test_the_next_export_removes_what_a_killed_one_left(tmp_path, next_one):
    kill(begin(tmp_path / "trial-3"))
    assert [path.name[:9] for path in tmp_path.iterdir()] == [".trial-3."]
    export(tmp_path / next_one)
    assert [path.name for path in tmp_path.iterdir()] == [next_one]


def test_an_export_that_is_running_is_left_alone(tmp_path):
    process = begin(tmp_path / "trial-3")
    export(tmp_path / "trial-3")
    assert len(list(tmp_path.iterdir())) == 2
    kill(process)
    export(tmp_path / "trial-3")
    assert [path.name for path in tmp_path.iterdir()] == ["trial-3"]


def test_a_bundle_that_a_killed_export_had_moved_aside_is_put_back(tmp_path):
    kill(begin(tmp_path / "trial-3"))
    (left,) = tmp_path.iterdir()
    left.rename(left.with_suffix(".old"))
    with (
        pytest.raises(ExportError, match="already holds a bundle"),
        fresh_folder(tmp_path / "trial-3", FILES, is_replaced=False),
    ):
        pass
    assert (tmp_path / "trial-3" / "card.md").read_text() == "half"
    assert [path.name for path in tmp_path.iterdir()] == ["trial-3"]


def test_what_an_earlier_version_or_another_machine_left_goes_after_a_day(tmp_path):
    names = (".trial-3.0123abcd.new", ".trial-3.ffffff-7-0123abcd.new")
    for name in (*names, ".trial-3.notes.new", ".trial-3"):
        (tmp_path / name).mkdir()
    export(tmp_path / "trial-3")
    assert all((tmp_path / name).exists() for name in names)
    for name in (*names, ".trial-3.notes.new", ".trial-3"):
        past = (tmp_path / name).stat().st_mtime - ABANDONED_SECONDS - 1
        os.utime(tmp_path / name, (past, past))
    export(tmp_path / "trial-3")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".trial-3", ".trial-3.notes.new", "trial-3"]


@pytest.mark.parametrize("content", ["a\nb\u00e9", b"a\nb\xc3\xa9"])
def test_a_file_is_written_to_the_byte_in_a_folder_that_is_made(tmp_path, content):
    path = write_whole(tmp_path / "new" / "file.txt", content)
    assert path.read_bytes() == b"a\nb\xc3\xa9"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_whose_folder_was_moved_away_does_not_make_it_anew(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "moved" / "file.txt", "new", makes_folder=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch):
    path = write_whole(tmp_path / "file.txt", "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
