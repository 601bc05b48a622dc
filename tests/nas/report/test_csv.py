"""`nas show --csv` prints every trial as one line that other programs read back."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest

import nas
from nas.cli.main import main
from nas.report.csv_table import write_csv
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice

SPACE = SearchSpace(
    Network(
        stem=Stage(op=Conv(), channels=8),
        stages=(
            Stage(
                op=choice(
                    MBConv(kernel_size=choice(3, 5, name="=kernel"), expand_ratio=3),
                    Conv(),
                    name="op",
                ),
                channels=choice(8, 16, 24, name="params"),
            ),
        ),
        head=Head(channels=32),
        resolution=16,
        num_classes=10,
    ),
    name="tiny",
)


def measured(candidate: nas.Candidate) -> nas.Evaluation:
    if candidate.job.trial == 2:
        raise nas.InfeasibleError(nas.Cause.DIVERGED, '=1+1, "quoted", and\na line')
    metrics = (
        nas.Metric(name="accuracy", value=0.1 + candidate.job.trial / 7),
        nas.Metric(name="energy", value=-3.5, unit="mJ"),
        nas.Metric(name="zeta", value=1e-9),
    )
    return nas.Evaluation(metrics=metrics)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "s"

    class Mine:
        fingerprint = "mine, version 1"

        def prepare(self) -> None:
            pass

        def evaluate(self, candidate: nas.Candidate) -> nas.Evaluation:
            return measured(candidate)

    nas.search(SPACE, evaluator=Mine(), controller="random", trials=6, executor="inline", out=out)
    return out


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def printed(folder: Path, capfd: pytest.CaptureFixture[str]) -> str:
    assert main(["show", str(folder), "--csv"]) == 0
    return capfd.readouterr().out


def test_every_number_of_every_trial_is_read_back_exactly(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study, rows = nas.open_study(folder), read(printed(folder, capfd))
    assert [int(row["trial"]) for row in rows] == list(range(6))
    for row, trial in zip(rows, study.trials, strict=True):
        assert row["status"] == trial.status
        assert (int(row["seed"]), int(row["macs"]), float(row["fidelity"])) == (trial.seed, trial.macs, 1.0)
        if trial.reward is not None:
            assert float(row["reward"]) == trial.reward
            assert float(row["accuracy"]) == trial.accuracy
            assert float(row["energy [mJ]"]) == -3.5
            assert float(row["zeta"]) == 1e-9
        assert row["worker"]


def test_failure_has_its_cause_and_a_message_that_no_spreadsheet_runs(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    row = read(printed(folder, capfd))[2]
    assert (row["status"], row["cause"], row["reward"], row["accuracy"]) == ("infeasible", "diverged", "", "")
    assert row["message"].startswith("'=1+1")


def test_decisions_have_their_names_and_options_where_the_space_is_known(folder: Path) -> None:
    study = nas.open_study(folder, space=SPACE)
    for row, trial in zip(study.rows(), study.trials, strict=True):
        tokens = dict(zip(("op", "=kernel", "params"), trial.tokens, strict=True))
        first = tokens["op"] == 0
        assert row["decision/op"] == ("MBConv" if first else "Conv")
        assert row["decision/=kernel"] == ((3, 5)[tokens["=kernel"]] if first else None)
        assert row["decision/params"] == (8, 16, 24)[tokens["params"]]
        assert row["params"] == trial.params


def test_decisions_of_an_unknown_space_are_numbered_tokens(folder: Path) -> None:
    study = nas.open_study(folder)
    row = study.rows()[0]
    assert [row[f"decision/{place}"] for place in range(3)] == list(study.trials[0].tokens)


def test_all_rows_have_the_same_names_in_the_same_order(folder: Path) -> None:
    rows = nas.open_study(folder, space=SPACE).rows()
    assert len({tuple(row) for row in rows}) == 1
    assert list(rows[0])[:6] == ["trial", "status", "reward", "accuracy", "energy [mJ]", "zeta"]


@pytest.mark.parametrize("option", ["--json", "--pareto=macs", "--top=2"])
def test_csv_beside_another_output_is_refused(
    folder: Path, option: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(folder), "--csv", option]) == 2
    assert "leave out" in capfd.readouterr().err


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "\n=1", "  =1"])
def test_text_that_is_a_formula_is_marked_and_numbers_are_not(text: str) -> None:
    output = io.StringIO()
    write_csv(
        [{text: text, "b": -1.5, "c": math.nan, "d": None, "e": True, "f": math.inf}],
        (text, *"bcdef"),
        output,
    )
    names, values = csv.reader(io.StringIO(output.getvalue(), newline=""))
    assert names[0] == values[0] == "'" + text.replace("\r", "\n")
    assert values[1:] == ["-1.5", "", "", "True", "inf"]
