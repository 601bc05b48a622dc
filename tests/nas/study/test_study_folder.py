import os
import shutil
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import nas
from nas.cli.main import main
from nas.errors import StudyError
from nas.export.bundle import WEIGHTS
from nas.folders import RUN, SUPERNET
from nas.study.identity import Identity, Provenance
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


def edit(folder, statement, *values):
    with closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as database:
        database.execute(statement, values)


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


class Interrupts:
    """A user who ends a search as soon as it says that it begins."""

    def on_start(self, start):  # noqa: ARG002
        raise KeyboardInterrupt

    def on_trial(self, report):
        pass

    def on_event(self, kind, message):
        pass

    on_progress = on_end = on_trial


def test_weights_that_are_gone_are_named_by_the_next_run_where_one_was_ended_before_it_said_so(
    tmp_path, small_space
):
    gone = search(small_space, tmp_path).best
    gone.weights_file.unlink()
    with pytest.raises(KeyboardInterrupt):
        search(small_space, tmp_path, reporters=[Interrupts()])
    again = search(small_space, tmp_path, trials=5)
    assert again.trials[gone.number].weights_file is None
    assert [kind for _, kind, _ in again.events] == ["weights_missing"]


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


@pytest.mark.parametrize(
    ("files", "held"),
    [
        ({RUN: "{}"}, "a training of nas train"),
        ({RUN: '{"identity": {"kernels": "own"}}'}, "a supernet"),
        ({RUN: "{}", SUPERNET: "{}"}, "a supernet"),
        ({WEIGHTS: "{}"}, "a bundle"),
    ],
)
def test_a_folder_of_something_else_is_named_and_no_study_is_put_there(
    small_space, tmp_path, capsys, files, held
):
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "events").write_text("numbers")
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    before = contents(tmp_path)
    for command in ("show", "resume", "verify"):
        assert main([command, str(tmp_path)]) == 2
        assert f"must be the folder of a search, but holds {held}" in capsys.readouterr().err
    with pytest.raises(StudyError, match=held):
        search(small_space, tmp_path)
    assert contents(tmp_path) == before


def test_another_study_by_the_same_recipe_names_the_option_of_the_weights_it_starts_from(tmp_path):
    words = Provenance(recipe_json="{}")
    with pytest.raises(StudyError, match=r"start from other weights \(--init\)"):
        replace(IDENTITY, evaluator="f").check_same(IDENTITY, tmp_path, told=words, tells=words)
