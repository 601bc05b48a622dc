import json
from dataclasses import replace

import pytest

from nas.catalogue import Catalogue
from nas.errors import StudyError
from nas.evaluation.comparison import Comparison, Contender, Run, choose_contenders, compare, load_comparison
from nas.evaluators import TableEvaluator
from nas.execution.inline_executor import InlineExecutor
from nas.objective import Constraint, Objective
from nas.report.comparison_report import comparison_notes, comparison_report
from nas.report.winner_report import chance_note
from nas.tested_weights import TestedWeights
from nas.trial import Cause, InfeasibleError, Status
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice, cost, small

SPACE = small(resolution=28, in_channels=1)
WINNER = (*SPACE.encode(SPACE.reference)[:-1], 0)


def by_size(candidate):
    return min(1.0, cost(candidate.network).macs / 1e7)


def contenders(randoms=2, objective=None, winner=WINNER):
    return choose_contenders(
        Catalogue(SPACE),
        objective or Objective(),
        winner=winner,
        winner_name="trial 7",
        randoms=randoms,
        seed=0,
    )


def run(folder, *, table=by_size, noise=0.01, seeds=2, chosen=None, executor=None, name="table"):
    told = []
    evaluator = TableEvaluator(table, noise=noise, name=name)
    comparison = compare(
        SPACE,
        evaluator,
        executor or InlineExecutor(),
        chosen or contenders(),
        images=100,
        seeds=seeds,
        seed=0,
        folder=folder,
        on_finished=told.append,
    )
    return comparison, told


def made(*groups, roles=("winner", "reference", "random", "random")) -> Comparison:
    return Comparison(
        evaluator="x",
        images=100,
        seeds=len(groups[0]),
        contenders=tuple(
            Contender(
                role=role,
                name=f"{role} {i}",
                tokens=(i,),
                digest=str(i),
                macs=100 * (i + 1),
                params=10,
                runs=tuple(Run(seed=s, value=a) for s, a in enumerate(group)),
            )
            for i, (role, group) in enumerate(zip(roles, groups, strict=False))
        ),
    )


def test_winner_reference_and_random_candidates_take_part_once_each():
    chosen = contenders(randoms=3)
    assert [one.role for one in chosen] == ["winner", "reference", "random", "random", "random"]
    assert len({one.digest for one in chosen}) == 5
    assert chosen[0].name == "trial 7"


def test_a_reference_that_won_takes_part_as_the_winner_only():
    chosen = contenders(winner=SPACE.encode(SPACE.reference))
    assert [one.role for one in chosen] == ["winner", "random", "random"]


def test_no_network_takes_part_twice_even_when_the_space_runs_out():
    stage = Stage(op=MBConv(kernel_size=choice(3, 5)), channels=8, repeats=choice(1, 2))
    template = Network(
        stem=Stage(op=Conv(), channels=8), stages=(stage,), head=Head(channels=8), resolution=8, num_classes=2
    )
    chosen = choose_contenders(
        Catalogue(SearchSpace(template)),
        Objective(),
        winner=(0, 0),
        winner_name="trial 0",
        randoms=9,
        seed=0,
    )
    assert sorted(one.tokens for one in chosen) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_random_candidates_keep_the_constraints_of_the_search():
    limit = Constraint(metric="macs", upper=1_000_000)
    chosen = contenders(randoms=5, objective=Objective(constraints=(limit,)))
    randoms = [one for one in chosen if one.role == "random"]
    assert len(randoms) == 5
    assert all(one.macs <= 1_000_000 for one in randoms)


def test_every_contender_is_trained_from_the_same_number_of_seeds(tmp_path):
    comparison, told = run(tmp_path, seeds=3)
    assert [len(one.values) for one in comparison.contenders] == [3, 3, 3, 3]
    seeds = {tuple(r.seed for r in one.runs) for one in comparison.contenders}
    assert len(seeds) == 1
    assert [(one.done, one.total) for one in told] == [(n, 12) for n in range(1, 13)]


def test_what_is_on_disk_is_not_trained_again(tmp_path):
    first, _ = run(tmp_path)
    again, told = run(tmp_path)
    assert told == []
    assert again == first == load_comparison(tmp_path)


def test_a_stopped_comparison_continues_where_it_was(tmp_path):
    whole, _ = run(tmp_path)
    (tmp_path / "comparison.json").unlink()
    log = tmp_path / "comparison-trainings.jsonl"
    lines = [line for line in log.read_text().splitlines() if "begun" not in line and "closed" not in line]
    log.write_text("\n".join(lines[:5]) + "\n")
    comparison, told = run(tmp_path)
    assert len(told) == 4
    assert comparison == whole


def test_a_comparison_of_a_version_without_a_log_continues_where_it_was(tmp_path):
    whole, _ = run(tmp_path)
    (tmp_path / "comparison-trainings.jsonl").unlink()
    data = json.loads((tmp_path / "comparison.json").read_text())
    for one in data["contenders"]:
        one["runs"] = one["runs"][:1]
    data["contenders"][1]["runs"][0] |= {"value": None, "message": "no worker", "is_lost": True}
    (tmp_path / "comparison.json").write_text(json.dumps(data))
    comparison, told = run(tmp_path)
    assert len(told) == 5
    assert comparison == whole


def test_accuracies_of_other_measurements_are_not_mixed_in(tmp_path):
    run(tmp_path)
    _, told = run(tmp_path, name="another recipe")
    assert len(told) == 8
    assert run(tmp_path)[1] == []  # the former ones are still there


def test_a_failed_training_is_left_out_of_the_mean_and_said(tmp_path):
    def sometimes(candidate):
        if candidate.network.digest == contenders()[2].digest:
            raise InfeasibleError(Cause.DIVERGED, "loss is nan")
        return 0.5

    comparison, _ = run(tmp_path, table=sometimes)
    failed = comparison.contenders[2]
    assert failed.mean is None
    assert failed.runs[0].message == "loss is nan"
    assert comparison.outcome(failed) == "unknown"
    assert any("2 trainings failed" in note for note in comparison_notes(comparison))


class LosingOne(InlineExecutor):
    """Loses every attempt at the second contender."""

    def wait(self, timeout_seconds):
        return [
            replace(result, status=Status.LOST, cause=Cause.WORKER_DIED, metrics=(), message="no worker")
            if result.job.trial % 4 == 1
            else result
            for result in super().wait(timeout_seconds)
        ]


def test_a_training_that_was_lost_for_good_is_done_by_the_next_call(tmp_path):
    first, told = run(tmp_path, executor=LosingOne())
    assert [len(one.values) for one in first.contenders] == [2, 0, 2, 2]
    assert [one.result.status for one in told].count(Status.LOST) == 2
    assert load_comparison(tmp_path) == first
    again, told = run(tmp_path)
    assert [len(one.values) for one in again.contenders] == [2, 2, 2, 2]
    assert [one.training.label for one in told] == [again.contenders[1].name] * 2
    assert load_comparison(tmp_path) == again


def test_a_difference_that_seeds_explain_is_a_tie():
    comparison = made((0.90, 0.92), (0.91, 0.93), (0.70, 0.72), (0.98, 1.0))
    assert [comparison.outcome(one) for one in comparison.contenders[1:]] == ["tie", "ahead", "behind"]


def test_the_margin_is_that_of_a_t_test_with_pooled_deviation():
    comparison = made((0.90, 0.92), (0.91, 0.93), roles=("winner", "reference"))
    assert comparison.seed_deviation == pytest.approx(0.02 / 2**0.5)
    assert comparison.margin(comparison.contenders[1]) == pytest.approx(4.303 * 0.02 / 2**0.5, rel=1e-3)


def test_one_seed_each_gives_no_outcome():
    comparison = made((0.90,), (0.10,), roles=("winner", "reference"))
    assert comparison.outcome(comparison.contenders[1]) == "unknown"
    assert any("no outcome" in note for note in comparison_notes(comparison))


def test_spread_between_candidates_stands_beside_that_between_seeds():
    (note,) = [
        n for n in comparison_notes(made((0.9, 0.92), (0.9, 0.9), (0.5, 0.5), (0.7, 0.7))) if "Spread" in n
    ]
    assert "between 2 random candidates 0.1414" in note
    assert "between seeds of one network 0.0071 (2 seeds each, pooled)" in note


def test_candidates_that_differ_no_more_than_seeds_are_said_to():
    notes = comparison_notes(made((0.8, 0.9), (0.8, 0.9), (0.80, 0.90), (0.81, 0.91)))
    assert any("too short to compare them" in note for note in notes)


def test_the_table_states_n_spread_and_outcome_of_every_network():
    comparison = made((0.90, 0.92), (0.91, 0.93), (0.70, 0.72), (0.98, 1.0))
    (table,) = comparison_report(comparison, Objective.hard("macs", 200)).tables
    assert [row["n"] for row in table.rows] == [2, 2, 2, 2]
    assert [row["outcome"] for row in table.rows] == [None, "tie", "winner ahead", "winner behind"]
    assert table.rows[2]["reward"] == pytest.approx(0.71 * 200 / 300)
    assert "100 images" in table.title


def test_a_damaged_file_says_what_to_do(tmp_path):
    (tmp_path / "comparison.json").write_text('{"contenders": [')
    with pytest.raises(StudyError, match=r"remove it to compare again") as error:
        load_comparison(tmp_path)
    assert error.value.field == "folder"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"file/comparison\.json cannot be written") as error:
        made((0.5, 0.6)).save(tmp_path / "file")
    assert error.value.field == "folder"


def test_the_weights_themselves_and_chance_are_spoken_of_beside_the_trainings(tmp_path):
    comparison = replace(made((0.52, 0.5)), class_counts=(50, 50))
    assert "the largest class alone is 0.5000 of the 100 test images" in comparison_notes(comparison)[0]
    tested = TestedWeights(trial=7, digest="ab", right=90, images=100)
    comparison = replace(comparison, tested_weights=tested)
    note = comparison_notes(comparison)[0]
    assert "themselves: accuracy 0.9000 (90 of 100 test images; 95 % interval 0.8256" in note
    comparison.save(tmp_path)
    assert load_comparison(tmp_path) == comparison
    not_kept = replace(tested, right=None, message="they were not kept")
    assert (
        "trial 7 are not measured: they were not kept"
        in comparison_notes(replace(comparison, tested_weights=not_kept))[0]
    )


def test_a_comparison_of_an_earlier_version_is_read(tmp_path):
    path = made((0.5, 0.6)).save(tmp_path)
    data = json.loads(path.read_text())
    del data["class_counts"], data["tested_weights"]
    path.write_text(json.dumps(data))
    assert load_comparison(tmp_path) == made((0.5, 0.6))


def test_a_minimised_metric_leads_by_what_is_less_and_keeps_its_unit():
    comparison = replace(made((3.0, 3.2), (5.0, 5.2), (2.0, 2.2)), metric="rmse", direction="min")
    assert comparison.difference(comparison.contenders[1]) == pytest.approx(2)
    assert [comparison.outcome(one) for one in comparison.contenders[1:]] == ["ahead", "behind"]
    (table,) = comparison_report(comparison, Objective.parse("min rmse")).tables
    assert (table.rows[0]["rmse"], table.rows[0]["values"]) == (pytest.approx(3.1), [3.0, 3.2])
    assert "RMSE" in [column.heading for column in table.columns]
    assert any(note.startswith("Spread of RMSE") for note in comparison_notes(comparison))


def test_a_comparison_of_accuracies_of_before_other_metrics_is_read(tmp_path):
    comparison = made((0.5, 0.6), (0.4, None))
    path = comparison.save(tmp_path)
    data = json.loads(path.read_text().replace('"value":', '"accuracy":'))
    del data["metric"], data["direction"]
    path.write_text(json.dumps(data))
    assert load_comparison(tmp_path) == comparison


def test_weights_are_spoken_of_by_every_metric_the_compared_one_first(tmp_path):
    comparison = replace(made((0.8, 0.82)), metric="macro_f1")
    tested = TestedWeights(
        trial=7,
        digest="ab",
        right=90,
        images=100,
        metrics={"macro_f1": 0.81},
        intervals={"macro_f1": (0.7, 0.9)},
    )
    comparison = replace(comparison, tested_weights=tested)
    note = comparison_notes(comparison)[0]
    assert "macro F1 0.8100 (100 test images; 95 % interval 0.7 to 0.9, by resampling them); accuracy" in note
    comparison.save(tmp_path)
    assert load_comparison(tmp_path) == comparison


@pytest.mark.parametrize(
    ("metric", "value", "is_said"),
    [
        ("accuracy", 0.89, True),
        ("balanced_accuracy", 0.5, True),
        ("balanced_accuracy", 0.6, False),
        ("r2", -0.1, True),
        ("r2", 0.2, False),
        ("macro_f1", 0.1, False),
    ],
)
def test_what_is_no_better_than_one_answer_for_all_is_said(metric, value, is_said):
    assert bool(chance_note(metric, value, (90, 10), split="test")) == is_said
