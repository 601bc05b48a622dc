import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

import nas
from nas.cli.main import main
from nas.errors import StudyError
from nas.study.journal_file import connect_readonly
from nas.study.problems import Mend, Severity
from nas.study.study_folder import FILE_NAME
from nas.trial import Evaluation, Metric
from search_spaces import SearchSpace

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
    "step": ("INSERT INTO step VALUES (99, 0, 'counted', 99, 0, 1)", DOUBTFUL, Mend.RECOUNT),
    "size": (
        "INSERT INTO step SELECT steps + 1, 0, 'counted', asked, rejected, 65 FROM controller",
        DOUBTFUL,
        Mend.RECOUNT,
    ),
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


def test_weights_that_are_gone_or_cut_are_forgotten_and_what_is_left_is_kept(study, small_space):
    gone, cut = sorted((study / "weights").glob("trial-*"))[:2]
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:-4])
    found = nas.verify(study)
    assert [(one.file, one.mend) for one in found.problems] == [
        (f"weights/{path.name}", Mend.FORGET_WEIGHTS) for path in (gone, cut)
    ]
    assert nas.verify(study, repair=True).is_sound
    assert (study / "weights" / f"set-aside-1-{cut.name}").exists()
    assert search(small_space, study, trials=TRIALS + 3).best.weights_file is not None
    assert nas.verify(study).is_sound


def test_a_file_of_weights_that_no_trial_names_is_set_aside_and_one_of_no_trial_is_only_named(study):
    first = next((study / "weights").glob("trial-*"))
    (study / "weights" / "trial-00000.safetensors").write_bytes(first.read_bytes())
    (study / "weights" / "trial-00099.safetensors").write_bytes(first.read_bytes())
    (study / "weights" / ".trial-00003.safetensors.0123abcd.new").write_bytes(b"half")
    injure(study, "UPDATE trial SET weights_file = NULL WHERE number = 0")
    found = {one.file: (one.severity, one.mend) for one in nas.verify(study).problems}
    assert found == {
        "weights/trial-00000.safetensors": (HARMLESS, Mend.SET_ASIDE),
        "weights/trial-00099.safetensors": (LOST, None),
        "weights/.trial-00003.safetensors.0123abcd.new": (HARMLESS, Mend.REMOVE_FILE),
    }
    (left,) = nas.verify(study, repair=True).problems
    assert left.file == "weights/trial-00099.safetensors"
    assert "study.sqlite-wal" in left.remedy
    assert not list((study / "weights").glob(".trial*"))


def test_a_damaged_index_is_built_again(study, small_space):
    with closing(sqlite3.connect(study / FILE_NAME)) as database:
        (page,) = database.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'trial_of_candidate'"
        ).fetchone()
        (empty,) = database.execute("PRAGMA page_size").fetchone()
    with (study / FILE_NAME).open("r+b") as file:  # an index without entries
        file.seek((page - 1) * empty)
        file.write(bytes([10, 0, 0, 0, 0]) + empty.to_bytes(2, "big") + bytes(empty - 7))
    assert {one.mend for one in nas.verify(study).problems} == {Mend.REINDEX}
    before = facts(study)
    repaired = nas.verify(study, repair=True)
    assert repaired.is_sound
    assert "indices" in repaired.repaired[0]
    assert facts(study) == before
    assert len(search(small_space, study, trials=TRIALS + 3).trials) == TRIALS + 3


def page_of(folder, table):
    """Where the first leaf of a table is, and its size."""
    with closing(sqlite3.connect(folder / FILE_NAME)) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table]).fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    data = (folder / FILE_NAME).read_bytes()
    while data[(page - 1) * size] == 5:  # inside of a table's tree: its cells lead to pages below
        cell = (page - 1) * size + int.from_bytes(data[(page - 1) * size + 12 :][:2], "big")
        page = int.from_bytes(data[cell : cell + 4], "big")
    return (page - 1) * size, size


def test_a_damaged_page_of_trials_costs_only_these(small_space, tmp_path):
    study = tmp_path / "study"
    search(small_space, study, trials=60)
    before = facts(study)
    place, size = page_of(study, "trial")
    with (study / FILE_NAME).open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * size)
    (found,) = nas.verify(study).problems
    assert (found.severity, found.mend) == (LOST, Mend.SALVAGE)
    repaired = nas.verify(study, repair=True)
    assert repaired.is_sound, repaired.problems
    assert len(search(small_space, study, trials=63).trials) == 63
    after = facts(study)
    same = [number for number in before if after[number] == before[number]]
    assert 0 < len(same) < len(before)
    assert nas.verify(study).is_sound


def test_a_file_cut_short_is_salvaged_as_far_as_it_can_be_read(study):
    data = (study / FILE_NAME).read_bytes()
    (study / FILE_NAME).write_bytes(data[: len(data) - 4096])
    assert {one.mend for one in nas.verify(study).problems} == {Mend.SALVAGE}
    assert not [one for one in nas.verify(study, repair=True).problems if one.mend is not None]


def test_without_the_table_of_tables_its_rows_are_found_all_the_same(study):
    before = facts(study)
    with (study / FILE_NAME).open("r+b") as file:
        file.seek(100)
        file.write(bytes(3_996))
    assert {one.mend for one in nas.verify(study).problems} == {Mend.SALVAGE}
    assert nas.verify(study, repair=True).is_sound
    assert facts(study) == before


def test_a_damaged_law_of_a_table_is_found_and_costs_nothing(study, small_space):
    before = facts(study)
    data = (study / FILE_NAME).read_bytes()
    assert data.count(b"'running', 'completed'") == 2
    (study / FILE_NAME).write_bytes(data.replace(b"'running', 'completed'", b"'running', 'cmmpleted'"))
    (found,) = nas.verify(study).problems
    assert found.mend is Mend.SALVAGE
    assert "definition of" in found.found
    assert nas.verify(study, repair=True).is_sound
    assert facts(study) == before
    assert len(search(small_space, study, trials=TRIALS + 3).trials) == TRIALS + 3


@pytest.mark.parametrize("is_known", [True, False])
def test_without_all_candidates_only_the_space_helps_and_else_nothing_is_changed(
    study, small_space, is_known
):
    before = facts(study)
    injure(study, "DELETE FROM candidate")
    injured = (study / FILE_NAME).read_bytes()
    if is_known:
        assert nas.verify(study, repair=True, space=small_space).is_sound
        assert facts(study) == before
        return
    with pytest.raises(StudyError, match="space"):
        nas.verify(study, repair=True)
    assert (study / FILE_NAME).read_bytes() == injured


def test_a_file_beyond_repair_is_left_as_it_is(study):
    data = b"SQLite format 3\0" + bytes(8_000)
    (study / FILE_NAME).write_bytes(data)
    with pytest.raises(StudyError):
        nas.verify(study, repair=True)
    assert (study / FILE_NAME).read_bytes() == data


@pytest.fixture
def killed(study):
    """A study whose last results are in the log only, as after a kill."""
    copy = study.with_name("killed")
    with closing(sqlite3.connect(study / FILE_NAME, isolation_level=None)) as database:
        database.execute("PRAGMA wal_autocheckpoint = 0")
        for number in range(3):
            database.execute("UPDATE event SET message = ? WHERE id = 1", [f"written {number}"])
        shutil.copytree(study, copy)
    return copy


def test_a_log_beside_the_file_is_read(killed):
    assert nas.verify(killed).is_sound


def test_a_log_that_is_gone_is_found_by_what_is_left_of_it(killed):
    (killed / f"{FILE_NAME}-wal").unlink()
    (found,) = nas.verify(killed).problems
    assert (found.severity, found.mend) == (LOST, None)
    assert "-wal" in found.remedy


def test_a_log_with_a_flipped_bit_is_found_and_what_is_whole_of_it_is_kept(killed):
    log = killed / f"{FILE_NAME}-wal"
    data = bytearray(log.read_bytes())
    data[len(data) - 1000] ^= 1
    log.write_bytes(data)
    (found,) = nas.verify(killed).problems
    assert (found.severity, found.mend) == (LOST, Mend.CHECKPOINT)
    repaired = nas.verify(killed, repair=True)
    assert repaired.is_sound
    assert (killed / f"{FILE_NAME}.before-repair-1-wal").read_bytes() == bytes(data)
    with closing(connect_readonly(killed)) as database:
        assert database.execute("SELECT message FROM event WHERE id = 1").fetchone() == ("written 1",)


def test_a_log_cut_in_a_page_is_found(killed):
    log = killed / f"{FILE_NAME}-wal"
    log.write_bytes(log.read_bytes()[:-100])
    assert [one.mend for one in nas.verify(killed).problems] == [Mend.CHECKPOINT]


def test_while_a_search_runs_its_journal_is_checked_and_a_repair_is_refused(study, small_space):
    seen = []

    class Looking(Weighed):
        def evaluate(self, candidate):
            seen.append(nas.verify(study))
            with pytest.raises(StudyError, match="already writes"):
                nas.verify(study, repair=True)
            return super().evaluate(candidate)

    search(small_space, study, trials=TRIALS + 2, evaluator=Looking())
    assert seen
    assert all(found.is_sound and found.is_running and found.unchecked for found in seen)


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(StudyError, match="there is no study in"):
        nas.verify(tmp_path)


def test_a_file_of_another_program_is_refused(tmp_path):
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        database.execute("CREATE TABLE other (a)")
    with pytest.raises(StudyError, match="not a study's journal"):
        nas.verify(tmp_path)


def test_a_study_of_a_newer_version_is_refused(study):
    injure(study, "PRAGMA user_version = 99")
    with pytest.raises(StudyError, match=r"schema version 99.*upgrade"):
        nas.verify(study)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("controller = 'RandomSfarch'", "controller is 'RandomSfarch'"),
        ("controller = CAST(x'52ff' AS TEXT)", "controller is "),
        ("seed = 9", "seed is 9"),
        ("objective = '{'", "objective is '{'"),
        ("space = upper(space), evaluator = 'e'", "space is "),
    ],
)
def test_what_was_searched_is_restored_from_its_copy(study, change, found):
    with closing(sqlite3.connect(study / FILE_NAME)) as database:
        before = database.execute("SELECT * FROM study").fetchall()
    injure(study, f"UPDATE study SET {change}")
    problems = nas.verify(study).problems
    assert any(one.mend is Mend.RESTORE_IDENTITY and found in one.found for one in problems)
    assert nas.verify(study, repair=True).is_sound
    with closing(sqlite3.connect(study / FILE_NAME)) as database:
        assert database.execute("SELECT * FROM study").fetchall() == before


@pytest.mark.parametrize("change", ["identity_json = replace(identity_json, 'R', 'Q')", "seal = 'a'"])
def test_a_damaged_copy_of_what_was_searched_is_made_anew(study, change):
    with closing(sqlite3.connect(study / FILE_NAME)) as database:
        before = database.execute("SELECT * FROM identity_copy").fetchall()
    injure(study, f"UPDATE identity_copy SET {change}")
    (problem,) = nas.verify(study).problems
    assert (problem.severity, problem.mend) == (Severity.HARMLESS, Mend.COPY_IDENTITY)
    assert nas.verify(study, repair=True).is_sound
    with closing(sqlite3.connect(study / FILE_NAME)) as database:
        assert database.execute("SELECT * FROM identity_copy").fetchall() == before


@pytest.mark.parametrize(
    "statements", [["DELETE FROM study"], ["UPDATE study SET objective = '{'", "DELETE FROM identity_copy"]]
)
def test_a_study_that_does_not_say_what_it_is_cannot_be_repaired(study, statements):
    injure(study, *statements)
    left = nas.verify(study, repair=True).problems
    assert [(one.severity, one.mend) for one in left] == [(LOST, None)]
    assert "restore study.sqlite from a copy" in left[0].remedy


LOST_NETWORKS = [
    "DELETE FROM candidate WHERE rowid = 3",
    "UPDATE candidate SET network_json = '{' WHERE rowid = 3",
]


@pytest.mark.parametrize("statement", LOST_NETWORKS)
def test_with_the_space_a_lost_network_is_written_anew_and_costs_no_result(study, small_space, statement):
    before = facts(study)
    injure(study, statement)
    assert not nas.verify(study).is_sound
    assert nas.verify(study, repair=True, space=small_space).is_sound
    assert facts(study) == before


def test_another_space_is_refused(study, small_space):
    other = SearchSpace(replace(small_space.template, num_classes=7), name="other")
    with pytest.raises(StudyError) as error:
        nas.verify(study, space=other)
    assert error.value.field == "space"


def test_a_resume_of_rows_that_do_not_fit_together_names_verify(study, small_space):
    injure(study, "DELETE FROM candidate WHERE rowid = 3")
    with pytest.raises(StudyError, match="nas verify"):
        search(small_space, study, trials=TRIALS + 3)


def test_a_study_with_rungs_goes_on_after_a_repair(small_space, tmp_path):
    rungs = nas.Rungs(shares=(0.25, 1.0), reduction_factor=2)
    options = {"rungs": rungs, "budget": nas.Budget(trials=12)}
    search(small_space, tmp_path, **options)
    assert nas.verify(tmp_path).is_sound
    injure(tmp_path, "UPDATE trial SET reward = 0.9 WHERE number = (SELECT min(continues) FROM trial)")
    assert nas.verify(tmp_path, repair=True).is_sound
    assert len(search(small_space, tmp_path, **options | {"budget": nas.Budget(trials=15)}).trials) == 15
    assert nas.verify(tmp_path).is_sound


def test_lost_trials_count_again_under_a_fixed_schedule(small_space, tmp_path):
    search(small_space, tmp_path, deterministic=True)
    lost = "(SELECT min(number) FROM trial WHERE status = 'completed' AND copied_from IS NULL)"
    injure(
        tmp_path,
        f"DELETE FROM measurement WHERE trial = {lost}",
        f"UPDATE attempt SET status = 'lost', cause = 'worker_died' WHERE trial = {lost}",
        "UPDATE trial SET status = 'lost', cause = 'worker_died', reward = NULL, finished_seal = NULL "
        f"WHERE number = {lost}",
        "UPDATE trial SET feedback_rank = NULL, feedback_reward = NULL",
        "DELETE FROM controller",
    )
    assert len(search(small_space, tmp_path, trials=TRIALS + 3, deterministic=True).trials) == TRIALS + 3


CELLS = st.one_of(
    st.none(),
    st.integers(-3, 99),
    st.floats(allow_nan=False),
    st.sampled_from(["", "x", "[1]", "lost", b"\xff"]),
)
PLACES = st.sampled_from(
    [
        (
            "trial",
            "number",
            ("tokens_json", "digest", "seed", "fidelity", "repeat", "status", "reward", "cause"),
        ),
        (
            "trial",
            "number",
            ("number", "copied_from", "continues", "feedback_rank", "weights_file", "finished_at"),
        ),
        ("measurement", "trial", ("trial", "metric", "value", "unit", "environment")),
        ("attempt", "trial", ("trial", "number", "status", "cause")),
        ("candidate", "rowid", ("digest", "macs", "network_json")),
        ("controller", "id", ("proposals", "feedbacks", "state_json", "steps", "asked")),
        ("recommendation", "rank", ("rank", "digest")),
        ("study", "id", ("objective", "settings_json", "space")),
    ]
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=PLACES, value=CELLS, row=st.integers(0, TRIALS - 1), column=st.integers(0, 9))
@example(place=("study", "id", ("settings_json",)), value=0, row=0, column=0)
def test_whatever_is_in_a_cell_no_changed_result_is_called_sound(whole, tmp_path, place, value, row, column):
    table, key, names = place
    study = shutil.copytree(whole, tmp_path / "cell", dirs_exist_ok=True)
    with closing(sqlite3.connect(study / FILE_NAME)) as database, suppress(sqlite3.Error), database:
        database.execute("PRAGMA ignore_check_constraints = ON")
        keys = [found for (found,) in database.execute(f"SELECT {key} FROM {table}")]
        name = names[column % len(names)]
        database.execute(f"UPDATE {table} SET {name} = ? WHERE {key} = ?", [value, keys[row % len(keys)]])
    called_sound_only_if_unchanged(study, facts(whole))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.floats(0, 1, exclude_max=True), data=st.binary(min_size=1, max_size=300), is_cut=st.booleans()
)
def test_whatever_bytes_are_damaged_no_changed_result_is_called_sound(whole, tmp_path, place, data, is_cut):
    study = shutil.copytree(whole, tmp_path / "bytes", dirs_exist_ok=True)
    content = bytearray((study / FILE_NAME).read_bytes())
    at = int(place * len(content))
    content[at : at + len(data)] = b"" if is_cut and len(data) > 250 else data[: len(content) - at]
    (study / FILE_NAME).write_bytes(content)
    called_sound_only_if_unchanged(study, facts(whole))


def called_sound_only_if_unchanged(study, before):
    try:
        is_sound = nas.verify(study).is_sound
    except nas.NasError:
        return
    if is_sound:
        assert facts(study) == before
        return
    with suppress(nas.NasError):
        assert not [one for one in nas.verify(study, repair=True).problems if one.mend is not None]


def test_the_command_prints_what_it_found_and_did(study, capsys):
    assert main(["verify", str(study)]) == 0
    assert "sound" in capsys.readouterr().out
    injure(study, INJURIES["reward"][0])
    assert main(["verify", str(study)]) == 1
    text = capsys.readouterr().out
    assert "its reward is stored as" in text
    assert f"nas verify {study} --repair" in text
    assert main(["verify", str(study), "--repair"]) == 0
    assert "study.sqlite.before-repair-1" in capsys.readouterr().out
    assert main(["verify", str(study / "none")]) == 2


def test_the_command_gives_json(study, capsys):
    injure(study, INJURIES["rank"][0])
    assert main(["verify", str(study), "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["is_sound"] is False
    assert data["problems"][0]["severity"] == "a result is doubtful"
    assert data["problems"][0]["mend"]


def test_verify_loads_no_torch():
    code = "import sys, nas; nas.verify; from nas.cli import verify; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
