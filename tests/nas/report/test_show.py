import json
import shutil
from pathlib import Path

import pytest

from nas.cli.main import main
from nas.evaluators import TableEvaluator
from nas.execution.inline_executor import InlineExecutor
from nas.objective import Objective
from nas.rungs import Rungs
from nas.scheduling import Budget
from nas.search import Search
from nas.short_form import search
from nas.trial import Cause, InfeasibleError
from search_spaces import cost


def sometimes(candidate):
    if candidate.job.trial in (2, 5):
        raise InfeasibleError(Cause.DIVERGED, f"loss is nan in trial {candidate.job.trial}")
    return 0.5 + min(0.4, cost(candidate.network).macs / 1e6)


@pytest.fixture(scope="module")
def study(small_space, tmp_path_factory):
    described = Search(
        small_space,
        evaluator=TableEvaluator(sometimes),
        controller="random",
        objective=Objective.soft("macs", 50_000),
        budget=Budget(trials=12),
    )
    folder = tmp_path_factory.mktemp("study")
    return described.run(folder, executor=InlineExecutor(), settings={"trials": 12})


def shown(study, capsys, *options):
    assert main(["show", str(study.folder), *options]) == 0
    return capsys.readouterr().out


def test_show_lists_the_best_trials_by_reward(study, capsys):
    data = json.loads(shown(study, capsys, "--json", "--top", "4"))
    ranked = sorted(study.completed, key=lambda trial: -trial.reward)
    assert [row["trial"] for row in data["top_trials"]] == [trial.number for trial in ranked[:4]]
    assert [row["is_best"] for row in data["top_trials"]].index(True) == 0


def test_show_lists_the_pareto_front(study, capsys):
    data = json.loads(shown(study, capsys, "--json"))
    front = [(row["macs"], row["accuracy"]) for row in data["pareto_front"]]
    assert front == [(trial.macs, trial.accuracy) for trial in study.pareto_front()]
    assert front == sorted(front)


def test_show_lists_a_front_over_the_costs_asked_for(study, capsys):
    data = json.loads(shown(study, capsys, "--json", "--pareto", "params,activations"))
    front = study.pareto_front("params", "activations")
    assert [row["trial"] for row in data["pareto_front"]] == [trial.number for trial in front]
    assert [row["activations"] for row in data["pareto_front"]] == [t.cost.activations for t in front]
    assert data["pareto_costs"] == ["params", "activations"]
    assert "at no more of params, activations" in shown(study, capsys, "--pareto", "params,activations")


@pytest.mark.parametrize(
    ("objective", "metrics", "words"),
    [
        ("min macs", {"rmse": 1.5}, "(1): no other trial has as little macs\n"),
        ("min rmse", {"rmse": 1.5}, "no other trial has as little rmse at no more macs\n"),
        ("min macs, accuracy >= 0.2", {"accuracy": 0.5}, "as little macs at no less accuracy\n"),
        (
            "max f1, params <= 1M, recall >= 0.1",
            {"f1": 0.5, "recall": 0.5},
            "at no more params and at no less recall",
        ),
    ],
)
def test_show_words_a_front_by_the_directions_of_its_goals(
    small_space, tmp_path, capsys, objective, metrics, words
):
    table = TableEvaluator(lambda _: metrics)
    described = Search(small_space, evaluator=table, objective=objective, budget=Budget(trials=4))
    study = described.run(tmp_path / "study", executor=InlineExecutor())
    text = shown(study, capsys)
    assert words in text
    assert ("(accuracy on the search split)" in text) is ("accuracy" in metrics)


def test_a_front_of_what_was_not_measured_names_what_was(study, capsys):
    assert main(["show", str(study.folder), "--pareto", "macs,latency"]) == 2
    assert "has 'latency_ms' beside its accuracy: there are activations, macs, params" in (
        capsys.readouterr().err
    )


def test_show_says_at_which_fidelity_trials_are_where_there_are_several(small_space, tmp_path, study, capsys):
    found = search(
        small_space,
        evaluator=TableEvaluator(lambda candidate: 0.9 - 0.5 * candidate.job.fidelity),
        controller="random",
        trials=9,
        rungs=Rungs((0.25, 1.0), reduction_factor=2),
        executor=InlineExecutor(),
        out=tmp_path,
    )
    data = json.loads(shown(found, capsys, "--json"))
    fidelities = [row["fidelity"] for row in data["top_trials"]]
    assert fidelities == sorted(fidelities, reverse=True)
    assert {row["fidelity"] for row in data["pareto_front"]} == {1.0}
    text = shown(found, capsys)
    assert "by reward, the highest fidelity first" in text
    assert "no other trial of fidelity 1 has as much accuracy at no more macs" in text
    assert "fidelity" not in shown(study, capsys)


def test_show_counts_states_and_names_failures_with_their_logs(study, capsys):
    data = json.loads(shown(study, capsys, "--json"))
    assert {row["state"]: row["trials"] for row in data["states"]} == {"completed": 10, "infeasible": 2}
    assert [(row["trial"], row["cause"]) for row in data["failures"]] == [(2, "diverged"), (5, "diverged")]
    log = study.folder / "logs" / "trial-00002.log"
    assert data["failures"][0]["log"] == str(log)
    assert "loss is nan in trial 2" in log.read_text()


def test_what_show_prints_is_what_it_gives_as_json(study, capsys):
    text = shown(study, capsys)
    data = json.loads(shown(study, capsys, "--json"))
    assert "12 of 12 done" in text
    assert "loss is nan in trial 5" in text
    for row in data["top_trials"]:
        assert f"{row['reward']:.4f}" in text
    assert data["objective"] in text


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_a_study_whose_own_space_is_gone_is_shown_without_it(tmp_path, capsys, form):
    golden = Path(__file__).parents[1] / "golden" / "version-3" / "defaults"  # its space was /data/space.py
    folder = shutil.copytree(golden, tmp_path / "study")
    assert main(["show", str(folder), *form]) == 0
    said = capsys.readouterr()
    assert "0.227" in said.out
    assert "shown without its space" in said.err
    assert "/data/space.py" in said.err


def test_show_without_a_study_says_so(tmp_path, capsys):
    assert main(["show", str(tmp_path)]) == 2
    assert "there is no study in" in capsys.readouterr().err


def test_show_of_a_study_in_which_nothing_completed_has_no_best(small_space, tmp_path, capsys):
    def never(_):
        raise InfeasibleError(Cause.DIVERGED, "loss is nan")

    search(
        small_space,
        evaluator=TableEvaluator(never),
        controller="random",
        trials=2,
        executor=InlineExecutor(),
        out=tmp_path,
    )
    assert main(["show", str(tmp_path), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["top_trials"] == []
    assert len(data["failures"]) == 2


def test_show_draws_the_first_failures_and_json_has_all_of_them(small_space, tmp_path, capsys):
    def late(candidate):
        if candidate.job.trial > 0:
            raise InfeasibleError("loss is nan")  # in words of its own: failures alike would stop the search
        return 0.5

    found = search(
        small_space,
        evaluator=TableEvaluator(late),
        controller="random",
        trials=24,
        executor=InlineExecutor(),
        out=tmp_path,
    )
    data = json.loads(shown(found, capsys, "--json"))
    assert len(data["failures"]) == 23
    text = shown(found, capsys)
    assert text.count("loss is nan") == 20
    assert "3 more are in --json" in text


def test_export_of_a_trial_without_weights_says_which_have_theirs(study, capsys):
    assert main(["export", str(study.folder), "--trial", "0"]) == 2
    assert "weights of trial 0 are not kept" in capsys.readouterr().err


def test_export_of_a_trial_that_is_not_there_names_the_range(study, capsys):
    assert main(["export", str(study.folder), "--trial", "99"]) == 2
    assert "0 <= trial < 12" in capsys.readouterr().err
