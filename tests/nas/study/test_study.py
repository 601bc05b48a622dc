import sqlite3
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from safetensors.torch import save

import nas
from nas.errors import StudyError
from nas.rungs import Rungs
from nas.study.journal_reading import read_begun
from nas.study.study_folder import FILE_NAME
from nas.trial import Evaluation, Metric, Status
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, SpaceError, Stage, build, choice


class Initialised:
    """Measures the share of positive logits of the untrained network, and gives its weights."""

    fingerprint = "initialised"

    def prepare(self):
        pass

    def evaluate(self, candidate):
        module = build(candidate.network, seed=candidate.job.seed).eval()
        with torch.no_grad():
            logits = module(torch.ones(1, 3, 8, 8))
        metrics = (
            Metric(name="accuracy", value=float((logits > 0).float().mean()), unit="fraction"),
            Metric(name="latency_ms", value=1.0 + candidate.job.trial, unit="ms", environment="made up"),
        )
        return Evaluation(metrics=metrics, weights=lambda: save(module.state_dict()))


def search(space, out, **options):
    given = {"evaluator": Initialised(), "controller": "random", "executor": "inline", "trials": 8}
    return nas.search(space, **{**given, "out": out, **options})


def test_the_best_builds_as_the_trained_module_that_was_measured(tmp_path, small_space):
    best = search(small_space, tmp_path).best
    module = best.build()
    assert not module.training
    with torch.no_grad():
        logits = module(torch.ones(1, 3, 8, 8))
    assert float((logits > 0).float().mean()) == pytest.approx(best.accuracy)


def test_a_study_opens_from_its_folder_alone(tmp_path, small_space):
    described = nas.Search(small_space, evaluator=Initialised(), budget=nas.Budget(trials=8))
    settings = {"space": "small", "workers": 2}
    study = described.run(tmp_path, executor=nas.InlineExecutor(), settings=settings)
    again = nas.open_study(tmp_path)
    assert again.trials == study.trials
    assert again.best == study.best
    assert again.best.network == small_space.decode(study.best.tokens)
    assert again.settings == {"space": "small", "workers": 2}
    assert again.objective == study.objective


def test_the_pareto_front_holds_what_no_other_trial_beats(tmp_path, small_space):
    study = search(small_space, tmp_path, trials=30)
    for metric in ("macs", "latency_ms", "params"):
        front = study.pareto_front(metric)
        assert front
        for trial in study.completed:
            beaten = any(
                other.accuracy >= trial.accuracy and other.costs[metric] <= trial.costs[metric]
                for other in front
            )
            assert beaten
        pairs = [(t.costs[metric], t.accuracy) for t in front]
        assert pairs == sorted(pairs)
        assert len({accuracy for _, accuracy in pairs}) == len(pairs)


def test_over_several_costs_the_front_holds_what_no_other_trial_beats_in_all_of_them(tmp_path, small_space):
    study = search(small_space, tmp_path, trials=30)
    costs = ("params", "latency_ms")
    front = study.pareto_front(*costs)
    numbers = {trial.number for trial in front}
    assert {trial.number for cost in costs for trial in study.pareto_front(cost)} <= numbers
    for trial in study.completed:
        beaten_by = [
            other.number
            for other in study.completed
            if other.number != trial.number
            and other.accuracy >= trial.accuracy
            and all(other.costs[cost] <= trial.costs[cost] for cost in costs)
        ]
        assert (trial.number in numbers) == (not beaten_by)


def test_the_front_is_of_the_costs_of_the_objective_unless_others_are_named(tmp_path, small_space):
    goal = nas.Objective.parse("accuracy * (latency/5ms)^-0.07 * params^-0.05")
    study = search(small_space, tmp_path, objective=goal, trials=20)
    assert study.pareto_front() == study.pareto_front("latency_ms", "params")
    kept = {trial.number for trial in study.trials if trial.weights_file is not None}
    assert {trial.number for trial in study.pareto_front()} <= kept


def test_a_front_of_what_was_not_measured_names_what_was(tmp_path, small_space):
    study = search(small_space, tmp_path)
    with pytest.raises(
        StudyError, match=r"has 'energy_mj' .* there are activations, latency_ms, macs, params"
    ):
        study.pareto_front("macs", "energy_mj")


def by_rungs(space, out, **options):
    """A search whose first rung measures everything better than the last."""

    def measured(candidate):
        return 0.9 - 0.5 * candidate.job.fidelity + 0.01 * (candidate.job.trial % 7)

    rungs = Rungs((0.25, 1.0), reduction_factor=2)
    return search(space, out, evaluator=nas.TableEvaluator(measured), rungs=rungs, trials=12, **options)


def test_only_trials_of_the_highest_fidelity_are_compared(tmp_path, small_space):
    study = by_rungs(small_space, tmp_path)
    whole = [trial for trial in study.completed if trial.fidelity == 1]
    assert 0 < len(whole) < len(study.completed)
    assert max(study.completed, key=lambda trial: trial.reward).fidelity == 0.25
    assert study.best.fidelity == 1
    assert {trial.fidelity for trial in study.pareto_front("macs", "params")} == {1.0}


def test_the_summary_adds_up(tmp_path, small_space):
    study = search(small_space, tmp_path)
    summary = study.summary()
    assert sum(summary.states.values()) == summary.states["completed"] == 8
    assert summary.best == study.best.number
    assert (summary.space_name, summary.controller, summary.ending) == ("small", "RandomSearch", "trials")
    assert summary.with_weights == sum(t.weights_file is not None for t in study.trials) > 0


def test_a_trial_can_be_asked_for_by_number(tmp_path, small_space):
    study = search(small_space, tmp_path)
    assert study.trial(3) is study.trials[3]
    with pytest.raises(StudyError, match="`0 <= trial < 8` must hold"):
        study.trial(8)


def test_a_folder_without_a_study_is_said(tmp_path):
    with pytest.raises(StudyError, match="there is no study"):
        nas.open_study(tmp_path / "nowhere")


def test_a_study_in_which_nothing_has_completed_has_no_best(tmp_path, small_space):
    study = search(small_space, tmp_path, trials=None, budget=nas.Budget(trials=None, max_hours=1e-9))
    with pytest.raises(StudyError, match="has completed yet"):
        _ = study.best
    assert study.pareto_front() == ()
    assert study.summary().best is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wide:
    """An op of a user's own."""

    width: int = 2

    def check(self):
        pass

    def label(self):
        return f"Wide{self.width}"

    def layers(self, context):
        return context.convolution(context.out_channels, kernel_size=3, stride=context.stride)


def own_space():
    stage = Stage(op=choice(Wide(width=2), MBConv(expand_ratio=1)), channels=choice(8, 16))
    template = Network(
        stem=Stage(op=Conv(), channels=8, stride=2),
        stages=(stage,),
        head=Head(channels=0),
        resolution=8,
        num_classes=3,
    )
    return SearchSpace(template, name="own")


def test_a_study_of_the_users_own_ops_opens_with_its_space_and_says_so_without(tmp_path):
    space = own_space()
    study = search(space, tmp_path, trials=4)
    wide = next(t for t in study.trials if isinstance(t.network.stages[0].op, Wide))
    assert nas.open_study(tmp_path, space=space).trials[wide.number].network == wide.network
    blind = nas.open_study(tmp_path)
    assert blind.trials[wide.number].macs == wide.macs
    with pytest.raises(SpaceError):
        _ = blind.trials[wide.number].network


def test_the_best_exports_as_a_bundle(tmp_path, small_space):
    best = search(small_space, tmp_path / "study").best
    bundle = best.export(tmp_path / "bundle", with_onnx=False)
    assert {"architecture.json", "model.py", "weights.safetensors"} <= set(bundle.files)
    assert str(tmp_path / "study") in (tmp_path / "bundle" / "card.md").read_text()


def test_noise_of_a_table_depends_on_the_seed_alone(tmp_path, small_space):
    table = nas.TableEvaluator(lambda _: 0.5, noise=0.05)
    rewards = [
        [t.reward for t in search(small_space, tmp_path / str(run), evaluator=table, seed=run // 2).trials]
        for run in range(4)
    ]
    assert rewards[0] == rewards[1] != rewards[2] == rewards[3]


def test_a_table_answers_by_tokens_and_says_what_it_does_not_have(tmp_path, small_space):
    known = small_space.sample(np.random.default_rng(0))
    other = small_space.sample(np.random.default_rng(1))
    table = nas.TableEvaluator({known: {"accuracy": 0.75, "latency_ms": 3.0}})
    study = search(small_space, tmp_path, evaluator=table, enqueue=[known, other], trials=2)
    assert study.trials[0].metric("latency_ms") == 3.0
    assert study.trials[1].status is Status.INFEASIBLE
    assert "has no candidate" in study.trials[1].message


def test_a_tables_fingerprint_changes_with_its_entries_its_noise_and_its_name():
    tables = [
        nas.TableEvaluator({(0,): 0.5}),
        nas.TableEvaluator({(0,): 0.6}),
        nas.TableEvaluator({(0,): 0.5}, noise=0.1),
        nas.TableEvaluator({(0,): 0.5}, name="other"),
        nas.TableEvaluator(lambda _: 0.5),
    ]
    assert len({table.fingerprint for table in tables}) == len(tables)
    assert nas.TableEvaluator({(0,): 0.5}).fingerprint == tables[0].fingerprint


def test_what_a_study_is_can_be_read_without_its_trials(tmp_path, small_space):
    assert read_begun(tmp_path / "free") is None
    study = search(small_space, tmp_path, trials=3)
    assert read_begun(tmp_path) == (study.identity, study.provenance)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database, database:
        database.execute("DELETE FROM study")
    assert read_begun(tmp_path) is None
