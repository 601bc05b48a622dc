"""The arena runs competitors on tables and surrogates, remembers every run, and draws all of them."""

import importlib.util
import itertools
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from controllers import RandomSearch
from nas import Objective
from nas.benchmarks import Benchmark
from nas.benchmarks.surrogate import (
    Surrogate,
    SurrogateSettings,
    cached_surrogate,
    fit_surrogate,
    held_out_quality,
    kendall_tau,
)
from nas.errors import BenchmarkError
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice

FOLDER = Path(__file__).parents[1] / "benchmarks"
QUICK = SurrogateSettings(nets=2, hidden=32, steps=300, batch=64)
has_optuna = importlib.util.find_spec("optuna") is not None
has_sklearn = importlib.util.find_spec("sklearn") is not None


@pytest.fixture(scope="module")
def arena():
    """The program's modules, which find each other since Python puts a program's folder on the path."""
    sys.path.insert(0, str(FOLDER))
    try:
        names = ("arena", "arena_competitors", "arena_peers", "arena_problems", "arena_report")
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def table():
    """All 324 candidates of a small space; accuracy grows with the logarithm of macs, and interacts."""

    def stage():
        op = MBConv(kernel_size=choice(3, 5), expand_ratio=choice(1, 3, 6))
        return Stage(op=op, channels=8, repeats=choice(1, 2, 3), stride=2)

    stem = Stage(op=Conv(kernel_size=3), channels=8, stride=1)
    template = Network(
        stem=stem, stages=(stage(), stage()), head=Head(channels=16), resolution=8, num_classes=4
    )
    space = SearchSpace(template, name="tiny")
    tokens = np.array(list(itertools.product(*map(range, space.cardinalities))))
    macs = np.log(space.costs(tokens).macs)
    accuracies = 0.5 + 0.1 * (macs - macs.mean()) + 0.03 * (tokens[:, 0] == tokens[:, 3])
    return Benchmark(
        name="tiny",
        space=space,
        tokens=tokens,
        accuracies=accuracies[:, None],
        noise=0.01,
        source="made up",
        is_exhaustive=True,
    )


@pytest.fixture
def make_problem(arena, table, tmp_path):
    field = arena.arena_problems.table_field("tiny", table)
    targets = (np.median(table.space.costs(table.tokens).macs).item(),) * 2

    def make(goal="soft", noise="own"):
        return arena.arena_problems.make_problem(field, goal, noise, tmp_path, targets)

    return make


def run_digits(arena, out, *more):
    names = ["random", "dyna", *(["optuna-tpe"] if has_optuna else [])]
    given = ["--benchmarks", "digits", "--objectives", "soft", "--controllers", *names, "--seeds", "2"]
    return arena.arena.main([*given, "--evaluations", "30", "--out", str(out), *more])


def test_finished_runs_are_made_once_and_all_are_in_the_tables(arena, tmp_path, capsys):
    made = run_digits(arena, tmp_path)
    assert made == (6 if has_optuna else 4)
    runs = tmp_path / "runs.jsonl"
    whole = runs.read_bytes()
    runs.write_bytes(whole[:-40])  # killed while writing
    assert run_digits(arena, tmp_path) == 1
    assert run_digits(arena, tmp_path) == 0
    assert run_digits(arena, tmp_path, "--seeds", "3", "--part", "1/2") + run_digits(
        arena, tmp_path, "--seeds", "3", "--part", "2/2"
    ) == (3 if has_optuna else 2)
    capsys.readouterr()
    assert arena.arena.main(["--tables-only", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "### digits, soft" in shown
    for title in ("Random search", "Dyna", *(["Optuna TPE"] if has_optuna else [])):
        assert f"| {title} |" in shown
    assert shown == (tmp_path / "report.md").read_text() + "\n"
    assert (tmp_path / "curves-own-1.png").stat().st_size > 10_000


def test_a_run_again_finds_the_same(arena, tmp_path):
    for folder in ("one", "other"):
        run_digits(arena, tmp_path / folder)
    one, other = (arena.arena_report.read_runs(tmp_path / folder) for folder in ("one", "other"))
    assert [run["regret"] for run in one] == [run["regret"] for run in other]


@pytest.mark.parametrize("goal", ["soft", "hard", "absolute"])
def test_searching_a_whole_table_leaves_no_regret(arena, make_problem, goal):
    problem = make_problem(goal, "none")
    competitor = arena.arena_competitors.make_competitor("random", problem, 0, 1)
    regrets, ms = arena.arena.compete(problem, competitor, seed=0, evaluations=400, workers=1)
    assert regrets["10"] > 0
    assert regrets["400"] == 0
    assert ms > 0


def test_the_scale_is_0_at_the_best_and_100_at_the_median(make_problem, table):
    problem = make_problem()
    rewards = problem.rewards(table.mean_accuracies, problem.field.macs(table.tokens))
    order = np.argsort(rewards)
    assert problem.regret([tuple(table.tokens[order[-1]].tolist())]) == 0
    middle = [problem.regret([tuple(table.tokens[row].tolist())]) for row in order[[161, 162]]]
    assert np.mean(middle) == pytest.approx(100)


@pytest.mark.parametrize(
    "name", ["nsga2", "random", "dyna", *(["optuna-nsga2", "optuna-tpe"] if has_optuna else [])]
)
def test_a_front_is_scored_by_what_it_covers(arena, make_problem, name):
    problem = make_problem("pareto", "none")
    competitor = arena.arena_competitors.make_competitor(name, problem, 0, 1)
    regrets, _ = arena.arena.compete(problem, competitor, seed=0, evaluations=50, workers=1)
    assert 0 <= regrets["50"] < 60
    assert regrets["50"] < regrets["10"]


def test_a_whole_table_s_front_leaves_no_regret(make_problem, table):
    problem = make_problem("pareto")
    assert problem.regret([tuple(row) for row in table.tokens.tolist()]) == pytest.approx(0)
    assert problem.anchors.size < len(table.tokens)


def test_controllers_without_a_front_are_left_out_where_one_is_looked_for(arena, make_problem):
    assert arena.arena.entrants(make_problem("pareto"), ["ppo", "nsga2"]) == ["nsga2"]


class Watched:
    """Random search that remembers how many candidates were under way, and in which order results came."""

    def __init__(self, problem):
        self.controller = RandomSearch(problem.field.benchmark.space.cardinalities, seed=0)
        self.asked, self.told, self.most = 0, [], 0

    def ask(self):
        (proposal,) = self.controller.propose()
        self.asked += 1
        self.most = max(self.most, self.asked - len(self.told))
        return proposal, proposal.tokens

    def tell(self, handle, accuracy, macs):  # noqa: ARG002  # as all competitors are told
        self.told.append(handle.number)
        self.controller.feedback([(handle, accuracy)])

    def answer(self):
        return self.controller.recommend()


def test_workers_keep_so_many_under_way_and_results_come_in_random_order(arena, make_problem):
    one, many = Watched(make_problem()), Watched(make_problem())
    arena.arena.compete(make_problem(), one, seed=0, evaluations=60, workers=1)
    assert (one.most, one.told) == (1, list(range(60)))
    arena.arena.compete(make_problem(), many, seed=0, evaluations=60, workers=16)
    assert many.most == 16
    assert many.told != sorted(many.told)
    assert sorted(many.told) == list(range(60))


def test_in_batches_all_results_come_before_the_next_are_asked_for(arena, make_problem):
    watched = Watched(make_problem())
    arena.arena.compete(make_problem(), watched, seed=0, evaluations=40, workers=5, in_batches=True)
    assert watched.most == 5
    for first in range(0, 40, 5):
        assert sorted(watched.told[first : first + 5]) == list(range(first, first + 5))


@pytest.mark.parametrize("name", ["dyna", "random", *(["optuna-tpe"] if has_optuna else [])])
def test_what_is_above_a_limit_costs_no_evaluation_and_is_no_answer(arena, make_problem, name):
    problem = make_problem("limit")
    competitor = arena.arena_competitors.make_competitor(name, problem, 0, 1)
    evaluated = []
    tell = competitor.tell
    competitor.tell = lambda handle, accuracy, macs: (evaluated.append(macs), tell(handle, accuracy, macs))
    regrets, _ = arena.arena.compete(problem, competitor, seed=0, evaluations=40, workers=1)
    assert len(evaluated) == 40
    assert max(evaluated) <= problem.limit
    assert 0 <= regrets["40"] < 50
    macs = np.array([macs for _, macs in problem.field.memo.values()])
    assert (macs > problem.limit).mean() > 0.3, "the limit excludes many"


@pytest.mark.skipif(not has_optuna, reason="Optuna is not installed")
def test_peers_begin_with_the_reference_of_the_space(arena, table, tmp_path):
    space = SearchSpace(table.space.template, name="tiny", reference=table.space.decode((1, 2, 1, 0, 1, 2)))
    field = arena.arena_problems.table_field("tiny", replace(table, space=space))
    problem = arena.arena_problems.make_problem(field, "soft", "own", tmp_path, (1e5, 1e5))
    competitor = arena.arena_competitors.make_competitor("optuna-tpe", problem, 0, 1)
    assert competitor.ask()[1] == problem.reference == (1, 2, 1, 0, 1, 2)


def test_repeats_of_a_candidate_count_by_their_mean(arena):
    seen = arena.arena_peers.Observations()
    for candidate, value in (((0,), 0.9), ((0,), 0.5), ((1,), 0.8), ((2,), 0.75)):
        seen.add(candidate, value, macs=10.0 if candidate == (1,) else 5.0)
    assert seen.best() == [(1,)]
    assert seen.front() == [(1,), (2,)]


@pytest.mark.skipif(importlib.util.find_spec("botorch") is None, reason="BoTorch is not installed")
def test_botorch_takes_part(arena, make_problem):
    problem = make_problem("limit")
    competitor = arena.arena_competitors.make_competitor("botorch", problem, 0, 1)
    regrets, _ = arena.arena.compete(problem, competitor, seed=0, evaluations=20, workers=1)
    assert 0 <= regrets["20"] < 100


@pytest.mark.parametrize("name", ["dyna", "nsga2", *(["optuna-tpe"] if has_optuna else [])])
def test_competitors_run_side_by_side(arena, make_problem, name):
    problem = make_problem()
    competitor = arena.arena_competitors.make_competitor(name, problem, 0, 8)
    regrets, _ = arena.arena.compete(problem, competitor, seed=0, evaluations=40, workers=8)
    assert np.isfinite(list(regrets.values())).all()


def test_noise_is_seen_by_competitors_and_not_by_their_score(arena, make_problem):
    problem = make_problem()
    seen = []

    class Told(Watched):
        def tell(self, handle, accuracy, macs):
            seen.append(accuracy - problem.field.look_up(handle.tokens)[0])
            super().tell(handle, accuracy, macs)

    competitor = Told(problem)
    regrets, _ = arena.arena.compete(problem, competitor, seed=0, evaluations=300, workers=1)
    assert np.std(seen) == pytest.approx(0.01, rel=0.15)
    assert regrets["300"] == problem.regret(competitor.answer())


@pytest.mark.parametrize("make", [Objective.soft, Objective.hard, Objective.absolute])
def test_rewards_of_many_are_those_of_one_by_one(arena, make):
    objective = make("macs", 2e6)
    rng = np.random.default_rng(0)
    accuracies, macs = rng.random(50), rng.uniform(1e6, 4e6, 50)
    one_by_one = [objective.reward(a, {"macs": m}) for a, m in zip(accuracies, macs, strict=True)]
    assert arena.arena_problems.rewards(objective, accuracies, macs) == pytest.approx(one_by_one)


def test_the_long_search_finds_the_best_of_a_table(arena, table):
    decisions = arena.arena_problems.Decisions(table.space.cardinalities)
    lookup = table.lookup()

    def score(tokens):
        return np.array([lookup[row] for row in map(tuple, tokens.tolist())])

    start = table.tokens[np.argsort(table.mean_accuracies)[:20]]
    found = arena.arena_problems._climb(decisions, np.random.default_rng(0), start, score)
    assert found == table.mean_accuracies.max()


def test_a_part_must_be_one_of_the_parts(arena, capsys):
    with pytest.raises(SystemExit):
        arena.arena.main(["--part", "3/2"])
    assert "1 <= I <= N" in capsys.readouterr().err


def test_every_competitor_has_a_colour(arena):
    assert set(arena.arena_report.COLORS) == set(arena.arena_competitors.TITLES)


def test_labels_are_moved_apart_as_little_as_may_be(arena):
    apart = arena.arena_report._apart([0.5, 0.5, 0.5, 0.9], 0.1)
    assert apart == pytest.approx([0.4, 0.5, 0.6, 0.9])
    assert arena.arena_report._apart([0.98, 0.99], 0.1) == pytest.approx([0.9, 1.0])


def test_a_surrogate_ranks_candidates_that_it_has_not_seen(table):
    quality = held_out_quality(table, lambda known: fit_surrogate(known, QUICK), best=50)
    assert (quality.held_out, quality.best) == (162, 50)
    assert quality.r2 > 0.9
    assert quality.tau > 0.8


def test_a_surrogate_is_fitted_once_and_read_back_alike(table, tmp_path):
    made = cached_surrogate(table, tmp_path, QUICK)
    (path,) = tmp_path.glob("mlp-*.npz")
    written = path.stat().st_mtime_ns
    read = cached_surrogate(table, tmp_path, QUICK)
    assert path.stat().st_mtime_ns == written
    assert read.digest == made.digest == fit_surrogate(table, QUICK).digest
    assert np.array_equal(read(table.tokens), made(table.tokens))
    assert read(table.tokens[:0]).shape == (0,)
    cached_surrogate(table, tmp_path, SurrogateSettings(nets=1, hidden=8, steps=5))
    assert len(list(tmp_path.glob("mlp-*.npz"))) == 2


def test_predictions_of_one_candidate_and_of_many_agree(table):
    surrogate = fit_surrogate(table, QUICK)
    alone = [surrogate(row[None]).item() for row in table.tokens[:20]]
    assert surrogate(table.tokens)[:20] == pytest.approx(alone, abs=1e-6)


def test_a_surrogate_of_another_space_or_a_damaged_file_is_refused(table, small_digits, tmp_path):
    path = tmp_path / "surrogate.npz"
    fit_surrogate(table, SurrogateSettings(nets=1, hidden=8, steps=5)).save(path)
    with pytest.raises(BenchmarkError, match="must be for its cardinalities"):
        Surrogate.load(path, small_digits)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BenchmarkError, match="Delete it"):
        Surrogate.load(path, table.space)
    with pytest.raises(BenchmarkError, match="nets > 0"):
        SurrogateSettings(nets=0)


@pytest.fixture
def small_digits():
    from nas.benchmarks import digits_space

    return digits_space()


def test_kendall_s_tau_is_that_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    one = rng.integers(0, 20, 100).astype(float)
    other = one + rng.integers(-8, 8, 100)
    assert kendall_tau(one, other) == pytest.approx(stats.kendalltau(one, other)[0])
    assert kendall_tau(one, np.zeros(100)) == 0


@pytest.mark.skipif(not has_sklearn, reason="needs scikit-learn")
@pytest.mark.usefixtures("arena")
def test_trees_laid_out_as_arrays_predict_as_scikit_learn_does(table, tmp_path, monkeypatch):
    trees = importlib.import_module("tree_surrogate")
    monkeypatch.setitem(trees.SETTINGS, "n_estimators", 30)
    made = trees.cached_trees(table, tmp_path)
    model = trees.GradientBoostingRegressor(init="zero", **trees.SETTINGS)
    features = trees.tree_features(table.space, table.tokens)
    offset = table.mean_accuracies.mean()
    model.fit(features, table.mean_accuracies - offset)
    assert made(table.tokens) == pytest.approx(model.predict(features) + offset, abs=1e-12)
    assert trees.cached_trees(table, tmp_path).digest == made.digest


@pytest.mark.parametrize("failures", ["random", "digest", "rule", "collapse", "lost"])
def test_failures_are_told_and_a_failed_candidate_is_no_answer(arena, failures, tmp_path):
    field = arena.arena_problems.load_field("cell", None, tmp_path)
    problem = arena.arena_problems.make_problem(field, "soft", "own", tmp_path, failures=failures)
    competitor = arena.arena_competitors.make_competitor("random", problem, 0, 1)
    regrets, _ = arena.arena.compete(problem, competitor, seed=0, evaluations=60, workers=1)
    assert 0 <= regrets["60"] < 100
    told = [problem.becomes((4, 0, 0, 4, 0, 0), np.random.default_rng(seed)) for seed in range(200)]
    shares = {"random": ("infeasible", 0.1), "collapse": ("collapse", 0.1), "lost": ("lost", 0.05)}
    if failures in shares:
        kind, share = shares[failures]
        assert told.count(kind) / 200 == pytest.approx(share, abs=0.05)
    else:
        assert len(set(told)) == 1
    assert told[0] == "infeasible" or failures != "rule"
    assert problem.name == f"cell-soft-own-{failures}"


def test_the_scale_leaves_out_what_fails_by_rule(arena, tmp_path):
    field = arena.arena_problems.load_field("cell", None, tmp_path)
    make = arena.arena_problems.make_problem
    free, ruled = (make(field, "soft", "own", tmp_path, failures=law) for law in ("none", "rule"))
    assert ruled.anchors.best <= free.anchors.best
    assert ruled.digest != free.digest
    assert np.isfinite(ruled.anchors.median)


@pytest.mark.parametrize("failures", ["rule", "digest"])
def test_the_scale_is_finite_however_many_candidates_fail(arena, failures, tmp_path, monkeypatch):
    everything = lambda field, failures, tokens: np.arange(len(tokens)) % 10 > 0  # noqa: ARG005, E731
    monkeypatch.setattr(arena.arena_problems, "are_failing", everything)
    field = arena.arena_problems.load_field("cell", None, tmp_path)
    problem = arena.arena_problems.make_problem(field, "soft", "own", tmp_path, failures=failures)
    assert np.isfinite([problem.anchors.best, problem.anchors.median]).all()
