"""A journal that was made or changed to do harm is refused, or read within bounds."""

import shutil
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

import nas
from nas.cli.main import main
from nas.errors import NasError, StudyError
from nas.study.journal_file import connect_readonly

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from fuzz_samples import write_study


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("studied") / "study").parent


@pytest.fixture
def changed(studied, tmp_path):
    """Changes a copy of the study by SQL; returns its folder."""

    def change(*statements):
        folder = shutil.copytree(studied, tmp_path / "study")
        with closing(sqlite3.connect(folder / "study.sqlite")) as database, database:
            database.execute("PRAGMA writable_schema = ON")
            for statement in statements:
                database.execute(statement)
        return folder

    return change


def test_a_journal_as_it_was_written_is_read(changed):
    assert len(nas.open_study(changed()).trials) == 4


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER harm AFTER UPDATE ON trial BEGIN DELETE FROM trial; END",
        "CREATE VIEW harm AS SELECT zeroblob(1000000000) AS b",
        "CREATE VIRTUAL TABLE harm USING fts5(text)",
        "CREATE TABLE harm (a, b AS (zeroblob(100000000)))",
    ],
)
def test_a_journal_that_acts_by_itself_is_refused(changed, statement):
    with pytest.raises(StudyError, match="harm"):
        nas.open_study(changed(statement))


def test_a_view_in_place_of_a_table_is_refused_before_it_is_asked(changed):
    endless = "WITH RECURSIVE n(i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
    folder = changed("DROP TABLE event", f"CREATE VIEW event AS {endless}")
    with pytest.raises(StudyError, match="event"):
        nas.open_study(folder)


@pytest.mark.parametrize("path", ["/etc/passwd", "../../other/weights.safetensors", "weights/../../a"])
def test_weights_outside_of_the_folder_of_their_study_are_not_read(changed, path):
    folder = changed(f"UPDATE trial SET weights_file = '{path}' WHERE number = 0")
    with pytest.raises(StudyError, match="must lie in the folder"):
        nas.open_study(folder)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE study SET settings_json = '{'",
        "UPDATE study SET settings_json = '[]'",
        "UPDATE study SET settings_json = replace(hex(zeroblob(100000)), '00', '[')",
        "UPDATE study SET objective = 'x'",
        "UPDATE study SET preprocessing_json = X'ff'",
        "UPDATE trial SET tokens_json = '7'",
        "UPDATE trial SET tokens_json = '[\"a\", null]'",
        "UPDATE trial SET status = X'00'",
        "UPDATE trial SET seed = 'x', fidelity = 'x', repeat = 'x'",
        "UPDATE trial SET cause = 'x', status = 'infeasible'",
        "UPDATE candidate SET macs = 'x', network_json = 'x'",
        "UPDATE candidate SET macs = -1, params = 9e99",
        "UPDATE attempt SET worker_seconds = 'x'",
        "UPDATE measurement SET metric = X'ff', value = 9e999",
        "UPDATE trial SET proposed_at = X'ff', finished_at = 7",
        "UPDATE trial SET weights_file = X'ff'",
        "DELETE FROM candidate",
        "DELETE FROM study",
        "UPDATE trial SET number = number + 1000",
    ],
)
def test_a_study_with_foreign_values_is_shown_or_refused_but_never_a_traceback(changed, statement):
    folder = changed("PRAGMA ignore_check_constraints = ON", statement)
    assert main(["show", str(folder)]) in (0, 2)
    assert main(["show", str(folder), "--json"]) in (0, 2)
    with suppress(NasError):
        nas.open_study(folder).summary()


def test_a_value_of_a_journal_is_bounded(changed):
    folder = changed()
    with closing(connect_readonly(folder)) as database, pytest.raises(sqlite3.DatabaseError):
        database.execute("SELECT zeroblob(300000000)").fetchone()


def test_names_of_tables_that_are_no_text_are_an_error_of_ours(changed):
    folder = changed("CREATE TABLE aeiou (x)")
    path = folder / "study.sqlite"
    path.write_bytes(path.read_bytes().replace(b"aeiou", b"ae\xffou"))
    with pytest.raises(StudyError):
        nas.open_study(folder)
