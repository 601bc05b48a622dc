"""After a search by a latency table, the winner and the front are measured on its device."""

from dataclasses import replace

import pytest

from nas.evaluators import TableEvaluator
from nas.latency.environment import judge_share
from nas.latency.measurement import read_measurements
from nas.machine import processor_name
from nas.measured_finalists import MOST, finalists_table
from nas.short_form import search
from search_spaces import cost

from .latency.table.synthetic import small_space, table_of


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine of which others use a share that a test chooses."""
    state = {"share": 0.0}
    monkeypatch.setattr("nas.latency.environment.busy", lambda _: judge_share(state["share"], "CPU"))
    return state


@pytest.fixture(scope="module")
def table():
    return table_of(check=4)


@pytest.fixture
def study(tmp_path):
    return search(
        small_space(),
        evaluator=TableEvaluator(lambda candidate: 0.5 + cost(candidate.network).macs / 1e7),
        controller="random",
        trials=3,
        executor="inline",
        out=tmp_path / "study",
    )


def test_finalists_are_measured_where_this_machine_is_the_tables_and_every_sample_is_kept(study, table):
    found = finalists_table(study, study.best, replace(table, device_name=processor_name()))
    assert found.rows[0]["trial"] == study.best.number
    assert 1 <= len(found.rows) <= MOST
    stored = read_measurements(study.folder / "latency-cpu.json")
    assert [one.median_ms for one in stored] == [row["median_ms"] for row in found.rows]
    for row in found.rows:
        assert row["error"] == pytest.approx(row["predicted_ms"] / row["median_ms"] - 1)
    assert "every sample is in" in found.notes[0]
    assert table.error_text in found.notes[-1]


@pytest.mark.parametrize(
    ("changes", "share", "reason"),
    [
        ({}, 0.0, "measure them on Synthetic"),
        ({"settings": None}, 0.0, "is measured with other tools"),
        ({"device_name": processor_name()}, 0.6, "others used 60 % of the CPU"),
    ],
    ids=["other machine", "other tools", "busy"],
)
def test_finalists_that_cannot_be_measured_are_predicted_and_the_reason_is_said(
    study, table, machine, changes, share, reason
):
    machine["share"] = share
    found = finalists_table(study, study.best, replace(table, **changes))
    assert reason in found.notes[0]
    assert all(row["median_ms"] is None and row["predicted_ms"] > 0 for row in found.rows)
    assert not (study.folder / "latency-cpu.json").exists()
