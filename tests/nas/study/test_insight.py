"""Searches on made-up tables in which it is known what matters, and what studies say of their decisions."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import nas
import search_spaces
from controllers import PPO, Problem, Proposal, RandomSearch
from controllers.decisions import Decisions
from controllers.dyna import Dyna
from nas.cli.main import main
from nas.errors import StudyError
from nas.report.decisions import MOST_DECISIONS, decision_section
from nas.study.insight import LEAST_TRIALS, entropy, explain, stored_policy, unexplained
from nas.study.study_folder import FILE_NAME
from nas.study.trial_rows import option_words
from nas.study.with_space import open_with_space
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice

EFFICIENTNET = search_spaces.efficientnet(resolution=32, num_classes=10)
NAMES = [decision.name for decision in EFFICIENTNET.decisions]
EXPAND, KERNEL = NAMES.index("block5.expand_ratio"), NAMES.index("block3.kernel_size")


def two_matter(candidate):
    """Expand ratio 6 in block 5 is worth 4 points, kernel size 5 in block 3 is worth 2."""
    tokens = candidate.job.tokens
    return 0.7 + 0.02 * tokens[EXPAND] + 0.02 * tokens[KERNEL]


def run(
    out, *, space=EFFICIENTNET, lookup=two_matter, controller="random", trials=60, noise=0.003, **options
):
    return nas.search(
        space,
        evaluator=nas.TableEvaluator(lookup, noise=noise),
        controller=controller,
        trials=trials,
        executor="inline",
        out=out,
        **options,
    )


def decision_table(study):
    return decision_section(study)[0]


def shown(folder, capsys, *options):
    assert main(["show", str(folder), *options]) == 0
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    run(out, objective=nas.Objective.soft("macs", 10e6))
    return out


def test_show_names_the_decisions_that_matter_for_the_accuracy(folder, capsys):
    rows = json.loads(shown(folder, capsys, "--json"))["decisions"]
    assert [row["decision"] for row in rows] != NAMES
    assert sorted(row["decision"] for row in rows) == sorted(NAMES)
    by_accuracy = sorted(rows, key=lambda row: -row["accuracy_importance"])
    assert [row["decision"] for row in by_accuracy[:2]] == ["block5.expand_ratio", "block3.kernel_size"]
    assert by_accuracy[0]["accuracy_importance"] == pytest.approx(8 / 11, abs=0.15)
    assert by_accuracy[1]["accuracy_importance"] == pytest.approx(3 / 11, abs=0.15)
    assert by_accuracy[2]["accuracy_importance"] < 0.05
    assert by_accuracy[1]["best_option"] == "5"
    rewards = [row["reward_importance"] for row in rows]
    assert rewards == sorted(rewards, reverse=True)


def test_importance_for_the_cost_is_exact_and_names_what_costs_most(folder, capsys):
    rows = json.loads(shown(folder, capsys, "--json"))["decisions"]
    assert {row["cost"] for row in rows} == {"macs"}
    most_expensive = max(rows, key=lambda row: row["cost_importance"])
    tokens = EFFICIENTNET.sample_many(np.random.default_rng(0), 4000)
    macs = EFFICIENTNET.costs(tokens).macs.astype(float)
    index = NAMES.index(most_expensive["decision"])
    changed = tokens.copy()
    changed[:, index] = np.random.default_rng(1).integers(0, EFFICIENTNET.cardinalities[index], len(tokens))
    exact = ((EFFICIENTNET.costs(changed).macs - macs) ** 2).mean() / (2 * macs.var())
    assert most_expensive["cost_importance"] == pytest.approx(exact, rel=0.3)


def test_show_draws_the_most_important_decisions_and_how_far_to_trust_them(folder, capsys):
    text = shown(folder, capsys)
    rows = json.loads(shown(folder, capsys, "--json"))["decisions"]
    drawn, left = rows[:MOST_DECISIONS], rows[MOST_DECISIONS:]
    section = text[text.index("Decisions by importance") : text.index("Importance: ")]
    assert [line.split()[0] for line in section.splitlines()[3:] if line] == [
        row["decision"] for row in drawn
    ]
    assert left
    assert f"{len(left)} more decisions are in --json" in " ".join(text.split())
    for part in (
        "rank correlation 0.",
        "points of accuracy",
        "Calibration",
        "Noise of one training",
        "by estimate",
    ):
        assert part in text


def test_accuracy_is_predicted_about_as_well_as_its_noise_allows(folder):
    insight = explain(open_with_space(str(folder)))
    assert insight.replicates == 0
    assert 0 < insight.noise < insight.calibration.error
    assert 0.002 < insight.calibration.error < 0.006
    assert insight.calibration.rank_correlation > 0.6
    assert insight.fitted == 60


def test_how_far_to_trust_the_model_is_in_json(folder, capsys):
    insight = explain(open_with_space(str(folder)))
    model = json.loads(shown(folder, capsys, "--json"))["decision_model"]
    assert model["rank_correlation"] == insight.calibration.rank_correlation
    assert model["accuracy_error"] == insight.calibration.error
    assert (model["noise"], model["noise_replicates"]) == (insight.noise, 0)
    assert model["likely_best_estimate"] == max(insight.estimates.values())


def test_noise_is_measured_where_candidates_were_trained_again(tmp_path):
    wanted = [nas.Replicate(EFFICIENTNET.sample(np.random.default_rng(seed)), times=10) for seed in range(2)]
    study = run(tmp_path, enqueue=wanted, trials=30, noise=0.01)
    insight = explain(study)
    assert insight.replicates == 18
    assert 0.006 < insight.noise < 0.015
    assert any("measured on 18 replicates" in note for note in decision_table(study).notes)
    assert any("18 trained a candidate again" in note for note in decision_table(study).notes)


def test_a_lucky_measurement_is_distinguished_from_the_best_trial(small_space, tmp_path):
    def true_accuracy(tokens):
        return 0.7 + 0.02 * tokens[0] + 0.02 * tokens[1]

    def lucky_once(candidate):
        return true_accuracy(candidate.job.tokens) + (0.04 if candidate.job.trial == 7 else 0.0)

    study = run(tmp_path, space=small_space, lookup=lucky_once, trials=80, noise=0.01, seed=3)
    insight = explain(study)
    assert max(study.completed, key=lambda trial: trial.reward).number == 7
    assert true_accuracy(insight.likely_best.tokens) > true_accuracy(study.trial(7).tokens)
    assert insight.estimates[7] < study.trial(7).reward - 0.01
    (note,) = [note for note in decision_table(study).notes if "as measured" in note]
    assert note.startswith("Trial 7 is the best as measured")
    assert f"trial {insight.likely_best.number} is by estimate" in note
    assert "may have been lucky" in note


@pytest.mark.parametrize("kind", [Dyna, PPO], ids=lambda kind: kind.__name__)
def test_stored_policy_is_the_controllers(kind, tmp_path):
    controller = kind(EFFICIENTNET.cardinalities, EFFICIENTNET.conditions, seed=0)
    study = run(tmp_path, controller=controller, trials=24)
    policy = stored_policy(study, Decisions(EFFICIENTNET.cardinalities))
    for ours, theirs in zip(policy, controller.probabilities(), strict=True):
        assert ours == pytest.approx(theirs)
    rows = {row["decision"]: row for row in decision_table(study).rows}
    for decision, p in zip(EFFICIENTNET.decisions, controller.probabilities(), strict=True):
        row = rows[decision.name]
        assert row["policy_option"] == str(decision.options[int(p.argmax())])
        assert row["policy_probability"] == pytest.approx(p.max())
        assert row["entropy"] == pytest.approx(-(p * np.log(p)).sum())


@pytest.mark.parametrize("controller", ["random", "lstm"])
def test_study_without_stored_logits_has_no_policy(controller, tmp_path):
    chosen = controller if controller == "random" else PPO(EFFICIENTNET.cardinalities, policy="lstm")
    table = decision_table(run(tmp_path, controller=chosen, trials=12))
    assert len(table.rows) == len(NAMES)
    assert not any("policy_option" in row for row in table.rows)
    assert not any(note.startswith("Policy") for note in table.notes)


def test_too_few_trials_are_named(tmp_path, capsys):
    run(tmp_path, trials=LEAST_TRIALS - 1)
    data = json.loads(shown(tmp_path, capsys, "--json"))
    assert (data["decisions"], data["decision_model"]) == ([], None)
    assert "What matters needs 10 completed trials to learn from, and there are 9 so far." in data["notes"]


def make_own_space(name="own"):
    """A conditional decision, and a combination that cannot be built: too many strides for the image."""
    op = choice(MBConv(kernel_size=choice(3, 5), expand_ratio=3), Conv(), name="op")
    return SearchSpace(
        Network(
            stem=Stage(op=Conv(), channels=8, stride=2),
            stages=(
                Stage(op=op, channels=choice(8, 16, 24), stride=choice(1, 2)),
                Stage(op=Conv(), channels=8, stride=choice(1, 2)),
            ),
            head=Head(channels=16),
            resolution=choice(16, 2, name="resolution"),
            num_classes=4,
        ),
        name=name,
    )


class OnlyWhatCanBeBuilt(RandomSearch):
    """Random candidates of the own space, but for those that cannot be built."""


def own_study(out, trials=30, name="own"):
    space = make_own_space(name)
    problem = Problem(space.cardinalities, space.conditions, key=space.digest, feasible=space.are_within)
    controller = OnlyWhatCanBeBuilt(problem, seed=0)
    return run(
        out, space=space, lookup=lambda c: 0.5 + 0.1 * c.job.tokens[0], controller=controller, trials=trials
    )


def test_space_of_ones_own_is_explained_in_python_and_missed_by_the_command_line(tmp_path, capsys):
    study = own_study(tmp_path)
    table = decision_table(study)
    assert {row["decision"] for row in table.rows} == {d.name for d in study.space.decisions}
    assert all(np.isfinite(row["cost_importance"]) for row in table.rows)
    assert sum(row["cost_importance"] for row in table.rows) > 0.9
    (note,) = [
        note for note in json.loads(shown(tmp_path, capsys, "--json"))["notes"] if "What matters" in note
    ]
    assert "needs the space 'own' as it was searched" in note


def test_space_of_ones_own_with_the_name_of_a_built_in_one_is_not_taken_for_it(tmp_path, capsys):
    own_study(tmp_path, trials=12, name="nas_bench_macro")
    data = json.loads(shown(tmp_path, capsys, "--json"))
    assert data["decisions"] == []
    assert data["trials_done"] == 12


def test_decision_that_is_not_active_in_the_best_trial_has_no_option_there(tmp_path):
    study = own_study(tmp_path)
    names = [decision.name for decision in study.space.decisions]
    kernel = next(index for index, decision in enumerate(study.space.decisions) if decision.conditions)
    rows = {row["decision"]: row for row in decision_table(study).rows}
    is_active = study.space.active(study.best.tokens)[kernel]
    assert (rows[names[kernel]]["best_trial_option"] is not None) == is_active


def test_space_that_has_changed_since_the_search_is_not_taken_for_it(tmp_path):
    run(tmp_path, trials=12)
    other = nas.open_study(tmp_path, space=search_spaces.efficientnet())
    assert other.space is None
    assert "as it was searched" in unexplained(other)


def test_trials_that_did_not_complete_teach_the_reward_and_not_the_accuracy(tmp_path):
    def sometimes(candidate):
        if candidate.job.tokens[KERNEL] == 0 and candidate.job.trial > 0:
            raise nas.InfeasibleError(nas.Cause.DIVERGED, "loss is nan")
        return 0.7 + 0.02 * candidate.job.tokens[EXPAND]

    rows = {row["decision"]: row for row in decision_table(run(tmp_path, lookup=sometimes)).rows}
    kernel = rows["block3.kernel_size"]
    assert kernel["accuracy_importance"] < 0.1
    assert kernel["best_option"] == "5"


def test_equal_accuracies_leave_nothing_to_explain(tmp_path):
    rows = decision_table(run(tmp_path, lookup=lambda _: 0.5, noise=0.0, trials=12)).rows
    assert max(row["accuracy_importance"] for row in rows) < 1e-6


def test_measured_cost_in_the_objective_is_left_to_the_model(tmp_path):
    def with_latency(candidate):
        return {"accuracy": two_matter(candidate), "latency_ms": 1.0 + candidate.job.tokens[KERNEL]}

    study = run(tmp_path, lookup=with_latency, objective=nas.Objective.soft("latency_ms", 1.0, exponent=-1.0))
    table = decision_table(study)
    assert table.rows[0]["decision"] == "block3.kernel_size"
    assert table.rows[0]["best_option"] == "3"
    assert table.rows[0]["cost"] == "macs"


class Repeating(RandomSearch):
    """Proposes every candidate twice."""

    def propose(self, n=1):  # noqa: ARG002
        self._again, again = (None, self._again) if getattr(self, "_again", None) else (None, None)
        if again is not None:
            return [Proposal(again.tokens, number=again.number + 10_000)]
        (self._again,) = super().propose(1)
        return [self._again]


def test_duplicates_and_rejected_candidates_are_counted(tmp_path):
    limit = nas.Objective(constraints=(nas.Constraint(metric="macs", upper=30e6),))
    controller = Repeating(EFFICIENTNET.cardinalities, seed=0)
    study = run(tmp_path, controller=controller, objective=limit, trials=24)
    copies = sum(trial.copied_from is not None for trial in study.trials)
    rejected = study.summary().rejected
    assert copies
    assert rejected
    (note,) = [note for note in decision_table(study).notes if note.startswith("Of ")]
    assert f"Of {24 + rejected} proposals {copies} copied the result of an equal candidate" in note
    assert f"{rejected} broke a constraint before training" in note
    assert "to learn from" in unexplained(nas.open_study(tmp_path)) or explain(study).fitted == 24 - copies


def test_journal_whose_controller_state_is_unreadable_has_no_policy(tmp_path):
    import sqlite3

    study = run(tmp_path, controller="reinforce", trials=12)
    with closing(sqlite3.connect(Path(study.folder) / "study.sqlite")) as database:
        database.execute("UPDATE controller SET state_json = '[]'")
        database.commit()
    assert stored_policy(study, Decisions(EFFICIENTNET.cardinalities)) is None


def test_entropy_is_0_when_decided_and_the_logarithm_of_the_options_when_not():
    assert entropy((0.0, 1.0)) == 0
    assert entropy((0.25,) * 4) == pytest.approx(np.log(4))


def test_options_are_described_by_what_differs():
    ops = (MBConv(expand_ratio=3), MBConv(expand_ratio=6), Conv(kernel_size=choice(3, 5)))
    assert option_words(ops) == ("MBConv expand_ratio=3", "MBConv expand_ratio=6", "Conv")
    assert option_words((3, 5)) == ("3", "5")
    inner = (Conv(kernel_size=choice(3, 5)), Conv(kernel_size=choice(5, 7)))
    assert option_words(inner) == ("Conv #0", "Conv #1")


@pytest.mark.parametrize("tokens", ["[99]", f"[{', '.join(['99'] * len(NAMES))}]"])
def test_tokens_outside_of_the_space_are_said_as_those_of_a_changed_journal(tmp_path, tokens):
    folder = run(tmp_path, trials=12).folder
    with closing(sqlite3.connect(folder / FILE_NAME)) as database, database:
        database.execute("UPDATE trial SET tokens_json = ? WHERE number = 3", [tokens])
    with pytest.raises(StudyError, match="nas verify"):
        explain(nas.open_study(folder, space=EFFICIENTNET))
