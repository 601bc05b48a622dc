"""Searches that are injured lose nothing; `benchmarks/faults.py` injures more of them."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import faults
from fault_checks import JOURNAL, changed, content, differences, facts, laws, left_over
from fault_kinds import KINDS
from fault_search import Case, Telling, search

ALONE = (
    "^(driver killed .*(line|time)|SIG|two|a second|the clock|folder (moved|del)|weights|pages|study|NaN|_ex)"
)
"""Kinds that need neither root nor strace nor Ray."""


@pytest.mark.slow
def test_searches_that_are_injured_lose_nothing():
    command = [sys.executable, faults.__file__, "--n", "18", "--seed", "1", "--only", ALONE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    total = next(line for line in done.stdout.splitlines() if line.startswith("all "))
    assert total.split()[1:] == ["18", "0"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study that was not injured."""
    folder = tmp_path_factory.mktemp("whole")
    faults = {3: "nan!", 5: "surrogates!"}
    case = Case(folder=str(folder / "study"), ledger=str(folder / "ledger"), seed=2, faults=faults, nap_ms=0)
    search(case, Telling(lambda **_: None))
    return folder / "study"


@pytest.fixture
def study(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "study")


def test_a_study_that_was_not_injured_breaks_no_law(whole, tmp_path):
    assert list(laws(whole)) == []
    assert list(left_over(whole, tmp_path)) == []
    assert changed(facts(whole), whole) == []
    assert {status for status, *_ in facts(whole).values()} == {"completed", "infeasible"}


RESULT = "SELECT min(number) FROM trial WHERE status = 'completed' AND copied_from IS NULL"

INJURIES = {
    "a trial gone": (f"DELETE FROM trial WHERE number = ({RESULT})", "the trials are numbered"),
    "an attempt twice": (
        "INSERT INTO attempt SELECT trial, 2, status, cause, message, node, seed, fidelity, started_at, "
        f"finished_at, worker_seconds FROM attempt WHERE trial = ({RESULT})",
        "2 of its attempts settled it",
    ),
    "a lost trial fed back": (f"UPDATE trial SET status = 'lost' WHERE number = ({RESULT})", "was fed back"),
    "an infeasible trial not fed back": (
        "UPDATE trial SET feedback_rank = NULL WHERE status = 'infeasible'",
        "was not fed back",
    ),
    "a trial left": (f"UPDATE trial SET status = 'running' WHERE number = ({RESULT})", "has ended"),
    "weights not named": ("UPDATE trial SET weights_file = NULL", "does not name"),
}


@pytest.mark.parametrize("name", INJURIES)
def test_a_broken_law_is_noticed(study, name):
    statement, words = INJURIES[name]
    with closing(sqlite3.connect(study / JOURNAL)) as database, database:
        database.execute(statement)
    assert [found for found in laws(study) if words in found]


def test_a_changed_result_and_another_search_are_noticed(study, whole):
    known, wanted = facts(study), content(whole)
    assert list(differences(content(study), wanted, set())) == []
    with closing(sqlite3.connect(study / JOURNAL)) as database, database:
        database.execute(f"UPDATE trial SET reward = reward / 2 WHERE number = ({RESULT})")
    assert len(changed(known, study)) == 1
    assert "reward differ" in next(differences(content(study), wanted, set()))


def test_weights_that_are_not_what_was_trained_are_noticed(study):
    path = next((study / "weights").iterdir())
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    path.with_name(".trial-00001.safetensors.0123abcd.new").write_bytes(b"half")
    assert any("is not what was trained" in found for found in laws(study))
    assert any(".new is left over" in found for found in left_over(study, study / "weights"))


def test_a_seed_gives_the_same_injuries_in_shares_by_weight():
    names = [[kind.name for kind in one] for one in faults.plan(KINDS, 200, Random(3))]
    assert names == [[kind.name for kind in one] for one in faults.plan(KINDS, 200, Random(3))]
    assert names != [[kind.name for kind in one] for one in faults.plan(KINDS, 200, Random(4))]
    counts = [sum(one.count(kind.name) for one in names) for kind in KINDS]
    assert sum(counts) == 200
    total = sum(kind.weight for kind in KINDS)
    assert all(abs(n - 200 * k.weight / total) < 1 for n, k in zip(counts, KINDS, strict=True))
