"""Real searches on a table write event files, and tensorboard's own reader reads them back."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from controllers import Controller, Problem, RandomSearch, Reinforce
from controllers.dyna import Dyna
from nas.evaluators import TableEvaluator
from nas.events import TrialReport
from nas.objective import Objective
from nas.report.event_file import EventFile, read_scalars, scalar
from nas.report.run_log import _FigureTimer, tag
from nas.report.tensorboard import TensorBoardReporter
from nas.short_form import search
from nas.study.study import Study
from nas.trial import Candidate, Cause, InfeasibleError
from search_spaces import Conv, Decision, Head, MBConv, Network, SearchSpace, Stage, choice, cost

SPACE = SearchSpace(
    Network(
        stem=Stage(op=Conv(), channels=8),
        stages=(
            Stage(
                op=choice(
                    MBConv(kernel_size=choice(3, 5, 7, name="kernel"), expand_ratio=3),
                    MBConv(kernel_size=choice(3, 5, 7, name="kernel"), expand_ratio=6),
                    name="op",
                ),
                channels=choice(8, 16, 24, name="channels"),
                repeats=choice(1, 2, 3, 4, name="repeats"),
            ),
            Stage(op=MBConv(se_ratio=choice(0.0, 0.25, name="se")), channels=16),
        ),
        head=Head(channels=32),
        resolution=16,
        num_classes=10,
    ),
    name="tiny",
)
TARGET = 1e6


def accuracy(candidate: Candidate) -> dict[str, float]:
    macs = cost(candidate.network).macs
    return {"accuracy": float(0.9 - 0.5 * np.exp(-macs / 1e6)), "latency_ms": macs / 3e5}


def sometimes_diverges(candidate: Candidate) -> dict[str, float]:
    if candidate.job.trial % 3 == 2:
        raise InfeasibleError(Cause.DIVERGED, "the loss is not a number")
    return accuracy(candidate)


def run(
    out: Path,
    trials: int,
    *,
    controller: Controller | None = None,
    reporter: TensorBoardReporter | None = None,
    lookup: object = accuracy,
) -> Study:
    return search(
        SPACE,
        evaluator=TableEvaluator(lookup, noise=0.01, name="test"),  # type: ignore[arg-type]
        controller=controller
        or Reinforce(Problem(SPACE.cardinalities, SPACE.conditions, key=SPACE.digest), seed=0),
        objective=Objective.hard("macs", TARGET),
        trials=trials,
        executor="inline",
        out=out,
        reporters=[reporter or TensorBoardReporter()],
    )


def read(out: Path) -> EventAccumulator:
    everything = {"scalars": 0, "images": 0, "tensors": 0}
    events = EventAccumulator(str(out / "tensorboard"), size_guidance=everything)
    events.Reload()
    return events


def curve(events: EventAccumulator, name: str) -> dict[int, float]:
    points = events.Scalars(name)
    assert len({point.step for point in points}) == len(points)
    return {point.step: point.value for point in points}


def test_every_number_of_a_trial_is_the_journals(tmp_path: Path) -> None:
    study = run(tmp_path, 12)
    events = read(tmp_path)
    numbers = curve(events, "trial/number")
    assert sorted(numbers) == list(range(1, 13))
    for step, number in numbers.items():
        trial = study.trial(int(number))
        expected = {**{metric.name: metric.value for metric in trial.metrics}, "reward": trial.reward}
        expected |= {"macs": trial.macs, "params": trial.params}
        for name, value in expected.items():
            assert curve(events, f"trial/{name}")[step] == pytest.approx(value, rel=1e-6)


def test_best_so_far_is_the_highest_reward_up_to_each_step(tmp_path: Path) -> None:
    run(tmp_path, 15)
    events = read(tmp_path)
    rewards = list(curve(events, "trial/reward").values())
    assert list(curve(events, "best/reward").values()) == list(itertools.accumulate(rewards, max))


def test_of_many_steps_fewer_and_fewer_are_logged_and_always_the_best_and_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.report.run_log.EVERY_STEP", 10)
    study = run(tmp_path, 37)
    shown = curve(read(tmp_path), "trial/number")
    rewards = [trial.reward or 0.0 for trial in study.trials]
    bests = {step for step in range(1, 38) if rewards[step - 1] > max(rewards[: step - 1], default=0.0)}
    regular = {*range(1, 10), *range(10, 20, 2), *range(21, 30, 3), 32, 36}
    assert set(shown) == regular | bests | {37}
    assert len(shown) < 30


def test_resumed_search_continues_at_the_next_step_in_the_same_folder(tmp_path: Path) -> None:
    run(tmp_path, 7)
    run(tmp_path, 12)
    events = read(tmp_path)
    for name in ("trial/reward", "best/reward", "count/completed"):
        assert list(curve(events, name)) == list(range(1, 13))
    assert list(curve(events, "count/completed").values()) == list(range(1, 13))


def test_resuming_a_search_that_is_done_writes_nothing(tmp_path: Path) -> None:
    run(tmp_path, 5)
    before = sorted((tmp_path / "tensorboard").iterdir())
    run(tmp_path, 5)
    assert sorted((tmp_path / "tensorboard").iterdir()) == before


def test_record_cut_off_by_a_kill_hides_nothing_that_follows(tmp_path: Path) -> None:
    run(tmp_path, 6)
    (file,) = (tmp_path / "tensorboard").iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    run(tmp_path, 9)
    assert list(curve(read(tmp_path), "trial/reward")) == list(range(1, 10))


def test_steps_that_the_journal_has_lost_are_written_again(tmp_path: Path) -> None:
    folder = tmp_path / "tensorboard"
    for first, value in ((1, 0.25), (4, 0.5)):
        file = EventFile(folder, first_step=first)
        for step in range(first, first + 5):
            file.write(step, [scalar("x", value)])
        file.close()
    assert curve(read(tmp_path), "x") == dict.fromkeys(range(1, 4), 0.25) | dict.fromkeys(range(4, 9), 0.5)


def test_record_is_on_disk_before_the_file_is_closed(tmp_path: Path) -> None:
    file = EventFile(tmp_path / "tensorboard", first_step=1)
    file.write(1, [scalar("x", 0.5)])
    assert curve(read(tmp_path), "x") == {1: 0.5}
    file.close()


def test_policy_has_the_probability_of_each_option_of_each_decision(tmp_path: Path) -> None:
    controller = Reinforce(Problem(SPACE.cardinalities, SPACE.conditions, key=SPACE.digest), seed=0)
    run(tmp_path, 25, controller=controller, reporter=TensorBoardReporter(policy_every=5, clock=lambda: 0.0))
    events = read(tmp_path)
    for decision, probabilities in zip(SPACE.decisions, controller.probabilities() or (), strict=True):
        tags = [name for name in events.Tags()["scalars"] if name.startswith(f"policy/{decision.name}/")]
        curves = [curve(events, name) for name in tags]
        assert [list(one) for one in curves] == [[1, 5, 10, 15, 20, 25]] * len(decision.options)
        assert [one[25] for one in curves] == pytest.approx(list(probabilities), rel=1e-6)
        for step in (1, 25):
            assert sum(one[step] for one in curves) == pytest.approx(1, abs=1e-6)


def test_each_decision_has_the_entropy_of_its_probabilities_at_the_same_steps(tmp_path: Path) -> None:
    controller = Reinforce(Problem(SPACE.cardinalities, SPACE.conditions, key=SPACE.digest), seed=0)
    run(tmp_path, 25, controller=controller, reporter=TensorBoardReporter(policy_every=5, clock=lambda: 0.0))
    events = read(tmp_path)
    for decision, p in zip(SPACE.decisions, controller.probabilities() or (), strict=True):
        entropies = curve(events, f"policy_entropy/{decision.name}")
        assert list(entropies) == [1, 5, 10, 15, 20, 25]
        assert entropies[1] == pytest.approx(np.log(len(decision.options)), rel=1e-6)
        assert entropies[25] == pytest.approx(-(p * np.log(p)).sum(), rel=1e-5)


def test_the_predictor_of_dyna_says_how_well_it_predicts(tmp_path: Path) -> None:
    controller = Dyna(Problem(SPACE.cardinalities, SPACE.conditions, key=SPACE.digest), seed=0)
    run(tmp_path, 14, controller=controller)
    events = read(tmp_path)
    names = ("prediction_error", "calibration", "rank_correlation", "noise", "learns_accuracy")
    assert {"entropy", "baseline", *names} == set(controller.diagnostics())
    for name, value in controller.diagnostics().items():
        points = curve(events, f"controller/{name}")
        assert points[14] == pytest.approx(value, rel=1e-6, abs=1e-9)
        assert list(points) == list(range(6, 15))


def test_options_are_named_by_value_and_ops_by_their_closed_fields(tmp_path: Path) -> None:
    run(tmp_path, 1)
    tags = read(tmp_path).Tags()["scalars"]
    op = "policy/op/MBConv-expand_ratio={}-se_ratio=0.0-skip=identity"
    assert {op.format(3), op.format(6), "policy/kernel/7", "policy/se/0.25"} <= set(tags)


def test_every_decision_has_one_chart_with_a_line_for_each_option(tmp_path: Path) -> None:
    run(tmp_path, 1)
    (written,) = read(tmp_path).Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(written.tensor_proto.string_val[0])
    (category,) = layout.category
    assert [(chart.title, len(chart.multiline.tag)) for chart in category.chart] == [
        (decision.name, len(decision.options)) for decision in SPACE.decisions
    ]


def test_controller_without_probabilities_has_no_policy(tmp_path: Path) -> None:
    run(tmp_path, 12, controller=RandomSearch(SPACE.cardinalities, SPACE.conditions, seed=0))
    tags = read(tmp_path).Tags()
    assert [name for name in tags["scalars"] if name.startswith(("policy", "controller"))] == []
    assert "custom_scalars__config__" not in tags["tensors"]


def test_controller_numbers_are_those_of_its_last_update(tmp_path: Path) -> None:
    controller = Reinforce(Problem(SPACE.cardinalities, SPACE.conditions, key=SPACE.digest), seed=0)
    run(tmp_path, 40, controller=controller)
    events = read(tmp_path)
    diagnostics = controller.diagnostics()
    assert {"entropy", "baseline", "approx_kl"} <= set(diagnostics)
    for name, value in diagnostics.items():
        points = list(curve(events, f"controller/{name}").values())
        assert points[-1] == pytest.approx(value, rel=1e-6, abs=1e-9)
        assert len(points) <= 10


def test_failures_are_counted_by_cause_and_counting_continues_after_a_resume(tmp_path: Path) -> None:
    run(tmp_path, 7, lookup=sometimes_diverges)
    run(tmp_path, 12, lookup=sometimes_diverges)
    events = read(tmp_path)
    assert list(curve(events, "count/infeasible").values()) == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4]
    assert curve(events, "failures/diverged") == {
        step: float(count) for step, count in zip(range(3, 13), [1, 1, 1, 2, 2, 2, 3, 3, 3, 4], strict=True)
    }
    assert set(curve(events, "trial/accuracy")) == {1, 2, 4, 5, 7, 8, 10, 11}


class Restless(TensorBoardReporter):
    """Hears of a replaced worker before every second trial."""

    def on_trial(self, report: TrialReport) -> None:
        if report.counts.done % 2 == 0:
            self.on_event("worker_replaced", "it was silent")
        super().on_trial(report)


def test_events_are_counted_with_the_trial_that_follows(tmp_path: Path) -> None:
    run(tmp_path, 5, reporter=Restless())
    assert curve(read(tmp_path), "events/worker_replaced") == {2: 1, 3: 1, 4: 2, 5: 2}


def test_pareto_figure_is_drawn_once_at_the_end_of_a_short_search(tmp_path: Path) -> None:
    run(tmp_path, 8)
    (figure,) = read(tmp_path).Images("pareto/accuracy_macs")
    assert figure.step == 8
    picture = Image.open(io.BytesIO(figure.encoded_image_string))
    assert (picture.format, picture.size) == ("PNG", (figure.width, figure.height))


class Clock:
    """Moves on by an hour whenever it is looked at."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        self.seconds += 3600
        return self.seconds


@pytest.mark.parametrize(("trials", "expected"), [(3, [1, 3]), (4, [1, 3, 4])])
def test_pareto_figure_is_drawn_in_between_when_it_costs_little_of_the_time(
    trials: int, expected: list[int], tmp_path: Path
) -> None:
    run(tmp_path, trials, reporter=TensorBoardReporter(clock=Clock(), figure_share=1.0, policy_every=99))
    assert [figure.step for figure in read(tmp_path).Images("pareto/accuracy_macs")] == expected


def test_figures_of_a_long_search_are_few() -> None:
    timer = _FigureTimer(share=1.0, clock=Clock())
    drawn = [trials for trials in range(1, 10_001) if timer.is_due(trials)]
    assert drawn[:20] == list(range(1, 21))
    assert all(1.05 <= after / before < 1.1 for before, after in itertools.pairwise(drawn[20:]))
    assert len(drawn) < 200


def test_controller_that_is_slow_to_say_its_policy_is_asked_less_often(tmp_path: Path) -> None:
    run(tmp_path, 25, reporter=TensorBoardReporter(clock=Clock(), figure_share=0.0, policy_every=5))
    assert list(curve(read(tmp_path), "policy/kernel/7")) == [1, 25]


def test_best_architecture_is_a_table_of_its_stages_written_when_it_changes(tmp_path: Path) -> None:
    study = run(tmp_path, 20)
    events = read(tmp_path)
    texts = events.Tensors("best/architecture")
    best = list(curve(events, "best/reward").values())
    changes = [step for step in range(1, 21) if step == 1 or best[step - 1] > best[step - 2]]
    assert [text.step for text in texts] == changes
    last = texts[-1].tensor_proto.string_val[0].decode()
    winner = max(study.completed, key=lambda trial: trial.reward or 0.0)
    assert f"Trial {winner.number}: reward {winner.reward:.4f}" in last
    assert all(f"| {name} |" in last for name in ("stem", "stage1", "stage2", "head"))


def test_study_is_described_in_words(tmp_path: Path) -> None:
    run(tmp_path, 1)
    (about,) = read(tmp_path).Tensors("study/about")
    words = about.tensor_proto.string_val[0].decode()
    assert "space: tiny, 5 decisions" in words
    assert "controller: Reinforce" in words


def test_folder_that_cannot_be_written_is_an_event_with_the_remedy_and_ends_nothing(tmp_path: Path) -> None:
    run(tmp_path, 2)
    for file in (tmp_path / "tensorboard").iterdir():
        file.unlink()
    (tmp_path / "tensorboard").rmdir()
    (tmp_path / "tensorboard").symlink_to("/proc")  # a folder in which nobody can make a file
    run(tmp_path, 4)
    study = Study(tmp_path)
    assert len(study.trials) == 4
    ((_, kind, message),) = study.events
    assert kind == "reporter_failed"
    assert "cannot be written: No such file or directory; free some space" in message


def test_reporter_refuses_a_trial_before_the_start() -> None:
    with pytest.raises(RuntimeError, match="on_start"):
        TensorBoardReporter().on_event("worker_replaced", "")


def test_reporter_that_was_never_started_ends_without_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    TensorBoardReporter().on_end(None)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("policy_every", "figure_share"), [(0, 0.1), (1, -0.1), (1, 1.5)])
def test_settings_out_of_range_are_refused(policy_every: int, figure_share: float) -> None:
    with pytest.raises(ValueError, match="must hold"):
        TensorBoardReporter(policy_every=policy_every, figure_share=figure_share)


def test_tag_keeps_its_parts_apart_and_drops_what_tensorboard_would_not_take() -> None:
    assert tag("policy", "stages[2].op/x", "a b,c") == "policy/stages_2_.op_x/a_b_c"


def test_options_of_equal_words_get_their_index() -> None:
    from nas.report.run_log import option_tags

    decision = Decision(name="d", options=("a b", "a_b", "c"))
    assert option_tags((decision,)) == [["policy/d/a_b.0", "policy/d/a_b.1", "policy/d/c.2"]]


def test_reporter_loads_no_torch_and_no_matplotlib() -> None:
    program = (
        "import sys, nas.report.tensorboard; "
        "sys.exit(bool({'torch', 'matplotlib', 'tensorflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_scalars_are_read_as_tensorboard_reads_them_also_of_a_continued_run_and_a_record_cut_short(tmp_path):
    folder = tmp_path / "tensorboard"
    for first, value in ((1, 0.25), (4, 0.5)):
        file = EventFile(folder, first_step=first)
        for step in range(first, first + 5):
            file.write(step, [scalar("x", value), scalar("other", 1.0)])
        file.close()
    with file.path.open("ab") as cut:
        cut.write(b"\x20\0\0\0\0\0\0\0half")
    found = read_scalars(folder, {"x", "missing"})
    assert (
        found["x"]
        == curve(read(tmp_path), "x")
        == dict.fromkeys((1, 2, 3), 0.25) | dict.fromkeys(range(4, 9), 0.5)
    )
    assert found["missing"] == {}
    assert read_scalars(tmp_path / "none", {"x"}) == {"x": {}}
