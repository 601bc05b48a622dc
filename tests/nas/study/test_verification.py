import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from safetensors.numpy import save

import nas
from nas.study.journal_file import connect_readonly
from nas.study.problems import Mend, Severity
from nas.study.study_folder import FILE_NAME
from nas.trial import Evaluation, Metric

TRIALS = 16


class Weighed:
    """An accuracy by the tokens, a second metric that no reward depends on, and small weights."""

    fingerprint = "weighed"

    def prepare(self):
        pass

    def evaluate(self, candidate):
        tokens = candidate.job.tokens
        if sum(tokens) % 4 == 1:
            raise nas.InfeasibleError("diverged", "a loss that is no number")
        mark = sum((place + 1) * token for place, token in enumerate(tokens)) % 50 / 50
        metrics = (Metric(name="accuracy", value=mark), Metric(name="macro_f1", value=mark / 2))
        return Evaluation(metrics=metrics, weights=lambda: save({"a": np.full(3, mark)}))


def search(space, folder, *, trials=TRIALS, **options):
    asked = {"evaluator": Weighed(), "executor": "inline", "target_macs": 20_000, "seed": 1}
    asked |= {"controller": "evolution", "budget": nas.Budget(trials=trials, finalists=2)}
    return nas.search(space, out=folder, **(asked | options))


@pytest.fixture(scope="module")
def whole(small_space, tmp_path_factory):
    """A study with infeasible trials, replicates of the best and copies."""
    folder = tmp_path_factory.mktemp("whole") / "study"
    twice = small_space.sample(np.random.default_rng(3))
    search(small_space, folder, enqueue=[twice, twice])
    return folder


@pytest.fixture
def study(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "study")


def injure(folder, *statements):
    with closing(sqlite3.connect(folder / FILE_NAME)) as database, database:
        database.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            database.execute(statement)


def facts(folder):
    """What is known of each finished trial."""
    return {
        trial.number: (trial.tokens, trial.reward, trial.metrics)
        for trial in nas.open_study(folder).trials
        if trial.status.value in ("completed", "infeasible")
    }


def test_a_study_that_was_not_touched_is_sound(whole):
    found = nas.verify(whole)
    assert found.is_sound
    assert found.trials == TRIALS
    assert not found.is_running
    assert found.unchecked == ()


def test_a_repair_of_a_sound_study_changes_nothing_and_keeps_no_copy(study):
    before = (study / FILE_NAME).read_bytes()
    found = nas.verify(study, repair=True)
    assert found.is_sound
    assert found.kept is None
    assert (study / FILE_NAME).read_bytes() == before


FIRST = "(SELECT min(number) FROM trial WHERE status = 'completed' AND number > 4 AND copied_from IS NULL)"
FAILED = "(SELECT min(number) FROM trial WHERE status = 'infeasible')"
COPY = "(SELECT min(number) FROM trial WHERE copied_from IS NOT NULL)"
DOUBTFUL, HARMLESS, LOST = Severity.DOUBTFUL, Severity.HARMLESS, Severity.LOST

INJURIES = {
    "reward": (f"UPDATE trial SET reward = reward + 0.01 WHERE number = {FIRST}", DOUBTFUL, Mend.RERUN),
    "no reward": (f"UPDATE trial SET reward = NULL WHERE number = {FIRST}", DOUBTFUL, Mend.RERUN),
    "endless reward": (f"UPDATE trial SET reward = 9e999 WHERE number = {FIRST}", DOUBTFUL, Mend.RERUN),
    "metric": (
        f"UPDATE measurement SET value = value + 0.01 WHERE metric = 'accuracy' AND trial = {FIRST}",
        DOUBTFUL,
        Mend.RERUN,
    ),
    "metric without effect": (
        f"UPDATE measurement SET value = value + 0.01 WHERE metric = 'macro_f1' AND trial = {FIRST}",
        DOUBTFUL,
        Mend.RERUN,
    ),
    "no metrics": (f"DELETE FROM measurement WHERE trial = {FIRST}", DOUBTFUL, Mend.RERUN),
    "no finish time": (f"UPDATE trial SET finished_at = NULL WHERE number = {FIRST}", DOUBTFUL, Mend.RERUN),
    "no attempt": (f"DELETE FROM attempt WHERE trial = {FIRST}", DOUBTFUL, Mend.RERUN),
    "no cause": (f"UPDATE trial SET cause = NULL WHERE number = {FAILED}", DOUBTFUL, Mend.RERUN),
    "status": (f"UPDATE trial SET status = 'proposed' WHERE number = {FIRST}", DOUBTFUL, Mend.RERUN),
    "unknown status": (f"UPDATE trial SET status = 'gone' WHERE number = {FIRST}", LOST, Mend.SALVAGE),
    "lost": (
        f"UPDATE trial SET status = 'lost', cause = 'error' WHERE number = {FIRST}",
        DOUBTFUL,
        Mend.RERUN,
    ),
    "copy of nothing": (f"UPDATE trial SET copied_from = 99 WHERE number = {COPY}", DOUBTFUL, Mend.RERUN),
    "copy of another": (
        f"UPDATE trial SET copied_from = {FIRST} WHERE number = {COPY}",
        DOUBTFUL,
        Mend.RERUN,
    ),
    "tokens": (
        "UPDATE trial SET tokens_json = (SELECT tokens_json FROM trial WHERE number = 3) "
        f"WHERE number = {FIRST}",
        LOST,
        Mend.REFILL,
    ),
    "no tokens": (f"UPDATE trial SET tokens_json = '[1, ' WHERE number = {FIRST}", LOST, Mend.REFILL),
    "seed": (f"UPDATE trial SET seed = seed + 1 WHERE number = {FIRST}", LOST, Mend.REFILL),
    "fidelity": (f"UPDATE trial SET fidelity = 2 WHERE number = {FIRST}", LOST, Mend.REFILL),
    "continues": (f"UPDATE trial SET continues = 0 WHERE number = {FIRST}", LOST, Mend.REFILL),
    "row": (f"DELETE FROM trial WHERE number = {FIRST}", LOST, Mend.REFILL),
    "last row": (f"DELETE FROM trial WHERE number = {TRIALS - 1}", LOST, Mend.RECOUNT),
    "rank": (f"UPDATE trial SET feedback_rank = 99 WHERE number = {FIRST}", DOUBTFUL, Mend.RECOUNT),
    "told": (f"UPDATE trial SET feedback_reward = 0.123 WHERE number = {FIRST}", DOUBTFUL, Mend.RECOUNT),
    "state": ("UPDATE controller SET state_json = '{'", DOUBTFUL, Mend.RECOUNT),
    "no state": ("DELETE FROM controller", DOUBTFUL, Mend.RECOUNT),
    "count of state": ("UPDATE controller SET feedbacks = 3", DOUBTFUL, Mend.RECOUNT),
    "step": ("INSERT INTO step VALUES (99, 0, 'counted', 99, 0)", DOUBTFUL, Mend.RECOUNT),
    "costs": ("UPDATE candidate SET macs = macs + 1", DOUBTFUL, Mend.RECOST),
    "recommended": ("UPDATE recommendation SET digest = 'gone'", HARMLESS, Mend.FORGET_RECOMMENDATION),
    "running": (f"UPDATE attempt SET status = 'running' WHERE trial = {FAILED}", HARMLESS, Mend.INTERRUPT),
    "number of attempt": (f"UPDATE attempt SET number = 7 WHERE trial = {FIRST}", HARMLESS, Mend.RENUMBER),
    "cause of attempt": (
        f"UPDATE attempt SET cause = NULL WHERE trial = {FAILED}",
        HARMLESS,
        Mend.NAME_CAUSE,
    ),
    "attempt of nothing": (
        "INSERT INTO attempt SELECT 99, 1, status, cause, message, node, seed, fidelity, started_at, "
        "finished_at, worker_seconds FROM attempt WHERE trial = 0",
        DOUBTFUL,
        Mend.DROP_ROWS,
    ),
    "candidate of nothing": (
        "INSERT INTO candidate SELECT 'other', macs, params, activations, network_json FROM candidate "
        "WHERE digest = (SELECT digest FROM trial WHERE number = 0)",
        HARMLESS,
        Mend.DROP_ROWS,
    ),
}


@pytest.mark.parametrize("name", INJURIES)
def test_an_injured_row_is_found_and_mended_and_the_search_goes_on(study, small_space, name):
    statement, severity, mend = INJURIES[name]
    before = facts(study)
    injure(study, statement)
    found = nas.verify(study)
    assert not found.is_sound
    assert (severity, mend) in {(one.severity, one.mend) for one in found.problems}
    repaired = nas.verify(study, repair=True)
    assert repaired.kept == study / f"{FILE_NAME}.before-repair-1"
    assert repaired.repaired
    assert repaired.is_sound, repaired.problems
    resumed = search(small_space, study, trials=TRIALS + 3)
    assert len(resumed.trials) == TRIALS + 3
    assert all(trial.status.value in ("completed", "infeasible") for trial in resumed.trials)
    assert nas.verify(study).is_sound
    after = facts(study)
    changed = [number for number, known in before.items() if after[number] != known]
    assert len(changed) <= (1 if mend in (Mend.REFILL, Mend.RECOUNT) else 0)


def test_the_copy_that_a_repair_keeps_is_the_file_as_it_was(study):
    injure(study, "DELETE FROM controller")
    injured = (study / FILE_NAME).read_bytes()
    kept = nas.verify(study, repair=True).kept
    assert kept.read_bytes() == injured
    injure(study, "UPDATE recommendation SET digest = 'gone'")
    assert nas.verify(study, repair=True).kept.name.endswith("-2")


def test_a_repair_is_written_down_as_an_event(study):
    injure(study, "DELETE FROM controller")
    nas.verify(study, repair=True)
    with closing(connect_readonly(study)) as database:
        (text,) = database.execute("SELECT message FROM event WHERE kind = 'repaired'").fetchone()
    assert "table controller" in text
