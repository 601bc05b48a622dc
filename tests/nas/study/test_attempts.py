import os
import sqlite3

import pytest

from nas.evaluators import TableEvaluator
from nas.execution.inline_executor import InlineExecutor
from nas.short_form import search
from nas.study.attempts import driver_of, read_attempts


@pytest.fixture
def folder(small_space, tmp_path):
    out = tmp_path / "study"
    search(
        small_space,
        evaluator=TableEvaluator(lambda _: 0.5),
        controller="random",
        trials=3,
        executor=InlineExecutor(),
        out=out,
    )
    return out


def change(folder, statement):
    with sqlite3.connect(folder / "study.sqlite") as database:
        database.execute(statement)


def test_attempts_come_in_the_order_of_their_beginning(folder):
    change(
        folder,
        "UPDATE attempt SET started_at = '2026-01-01T00:00:00+00:00', "
        "finished_at = '2026-01-01T00:00:09+00:00' WHERE trial = 2",
    )
    found = read_attempts(folder)
    assert [one.trial for one in found] == [2, 0, 1]
    assert {one.status for one in found} == {"completed"}


def test_an_attempt_takes_as_long_as_its_worker_says_up_to_its_result(folder):
    change(
        folder,
        "UPDATE attempt SET started_at = '2026-01-01T00:00:00+00:00', worker_seconds = 40, "
        "finished_at = '2026-01-01T00:01:00+00:00'",
    )
    one = read_attempts(folder)[0]
    assert one.seconds == 40
    assert one.begun.second == 20
    change(folder, "UPDATE attempt SET worker_seconds = 400")
    assert read_attempts(folder)[0].seconds == 60


def test_an_attempt_that_has_not_ended_has_no_time(folder):
    change(folder, "UPDATE attempt SET finished_at = NULL, status = 'running' WHERE trial = 1")
    one = next(one for one in read_attempts(folder) if one.trial == 1)
    assert (one.ended, one.seconds) == (None, 0.0)


def test_an_attempt_whose_beginning_cannot_be_read_is_left_out(folder):
    change(folder, "UPDATE attempt SET started_at = 'yesterday' WHERE trial = 1")
    assert [one.trial for one in read_attempts(folder)] == [0, 2]


def test_a_search_that_ended_has_no_driver_and_one_that_runs_names_its_process(folder):
    assert driver_of(folder) is None
    change(
        folder,
        "INSERT OR REPLACE INTO driver (id, session, host, process, started, inode) "
        f"VALUES (1, 7, 'elsewhere', {os.getpid()}, '', 0)",
    )
    assert str(driver_of(folder)) == f"process {os.getpid()} on elsewhere"
    change(folder, "DROP TABLE driver")
    assert driver_of(folder) is None
