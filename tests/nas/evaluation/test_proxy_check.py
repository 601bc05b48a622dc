import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from nas.data.loading import from_arrays
from nas.errors import DataError, RecipeError, SearchStoppedError, SpaceArgumentError, StudyError
from nas.evaluation.proxy_check import check_proxies, read_check, read_noise, training_seed
from nas.evaluation.proxy_quality import Measured, best_of_normals, judge, pooled_noise
from nas.evaluation.proxy_sample import sample_candidates
from nas.evaluation.proxy_variants import (
    Proxy,
    long_recipe,
    possible_variants,
    read_proxies,
    usual_proxies,
    variants_of,
)
from nas.execution.inline_executor import InlineExecutor
from nas.statistics import kendall_tau
from nas.training.proxy import ProxyEvaluator
from nas.training.recipe import Recipe
from nas.trial import Cause, Evaluation, InfeasibleError, Metric
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice, cost

RECIPE = Recipe(epochs=2, warmup_epochs=0.5, batch_size=32, precision="float32")


def make_space():
    """1,296 candidates of a few thousand multiply-adds."""

    def stage(stride):
        op = MBConv(kernel_size=choice(3, 5), expand_ratio=choice(1, 3, 6))
        return Stage(op=op, channels=choice(8, 16), repeats=choice(1, 2, 3), stride=stride)

    stem = Stage(op=Conv(kernel_size=3), channels=8, stride=2)
    head = Head(channels=16)
    template = Network(stem=stem, stages=(stage(1), stage(2)), head=head, resolution=8, num_classes=4)
    return SearchSpace(template, name="small")


class Table:
    """True accuracies that follow the multiply-adds as far as wanted, measured with known noise."""

    def __init__(self, name, *, noise, agreement=1.0, fails=(), error=False, truth=None):
        self.name, self.noise, self.agreement, self.fails, self.error = name, noise, agreement, fails, error
        self.truth = truth or unrelated
        self.asked = []

    @property
    def fingerprint(self):
        return f"{self.name} {self.noise} {self.agreement}"

    def prepare(self):
        pass

    def evaluate(self, candidate):
        self.asked.append(candidate.job)
        if self.error:
            raise RuntimeError("no such thing")
        if candidate.job.tokens in self.fails:
            raise InfeasibleError(Cause.DIVERGED, "the loss is nan")
        true = self.truth(candidate.network)
        own = np.random.default_rng(int(candidate.network.digest, 16) % 2**32).normal()
        value = 0.7 + 0.03 * (self.agreement * true + math.sqrt(1 - self.agreement**2) * own)
        value += self.noise * np.random.default_rng(candidate.job.seed).normal()
        value = min(1.0, max(0.0, value))
        return Evaluation(metrics=(Metric(name="accuracy", value=value, unit="fraction"),))


def unrelated(network):
    """Unrelated to the costs, about standard normal."""
    return np.random.default_rng(int(network.digest, 16) % 2**31).normal()


class SecondEach(InlineExecutor):
    """A second for every training: what is worth most must not hang on how busy the machine is."""

    def wait(self, timeout_seconds):
        return [replace(result, seconds=1.0) for result in super().wait(timeout_seconds)]


def check(folder, variants, *, count=24, seeds=2, space=None, **changes):
    space = space or make_space()
    candidates = sample_candidates(space, count, seed=3)
    given = {
        "recipe": RECIPE,
        "long": long_recipe(RECIPE),
        "search_images": 5_000,
        "folder": folder,
    } | changes
    return check_proxies(space, variants, SecondEach(), candidates, seeds=seeds, **given)


def tables(truth=None, **changes):
    return {
        "long": Table("long", noise=0.001, truth=truth),
        "recipe": Table("recipe", noise=0.006, truth=truth),
        "epochs=1/3": Table("short", noise=0.006, agreement=0.2, truth=truth),
    } | changes


def test_a_table_with_known_noise_and_agreement_gives_its_figures_back(tmp_path):
    found = check(tmp_path, tables(), count=30, seeds=4)
    recipe, short, long = found.variant("recipe"), found.variant("epochs=1/3"), found.variant("long")
    assert recipe.noise.low < 0.006 < recipe.noise.high
    assert recipe.noise.value == pytest.approx(0.006, rel=0.2)
    assert long.noise.value == pytest.approx(0.001, rel=0.2)
    assert (recipe.trainings, recipe.failed) == (120, 0)
    assert recipe.spread == pytest.approx(0.03, rel=0.4)
    expected = 2 / math.pi * math.asin(0.03 / math.hypot(0.03, 0.006))  # of normal values
    assert recipe.tau.value == pytest.approx(expected, abs=0.08)
    assert recipe.tau.low < expected < recipe.tau.high
    assert short.tau.high < recipe.tau.low
    assert recipe.tau.value < long.tau.value  # the ceiling
    assert found.noise == recipe.noise.value
    assert found.best.name == "recipe"
    assert found.warnings == ()


def by_params(network):
    return (math.log(cost(network).params) - 9) / 0.5


def test_where_accuracy_follows_the_parameters_no_proxy_is_said_to_be_better(tmp_path):
    found = check(tmp_path, tables(truth=by_params))
    params = next(ranker for ranker in found.rankers if ranker.name == "params")
    assert params.tau.value > 0.95
    assert found.variant("recipe").against_params != "better"
    assert found.variant("epochs=1/3").against_params == "worse"


def test_a_proxy_as_good_as_the_parameters_is_not_called_better(tmp_path):
    def half(network):
        return 0.7 * by_params(network) + 0.7 * unrelated(network)

    variants = tables(recipe=Table("recipe", noise=0.0, agreement=0.8, truth=half), truth=half)
    assert check(tmp_path, variants, count=12).variant("recipe").against_params == "not distinguishable"


def test_a_proxy_that_ranks_where_parameters_do_not_is_said_to_be_better(tmp_path):
    found = check(tmp_path, tables(), count=30)
    assert found.variant("recipe").against_params == "better"
    assert found.variant("recipe").above_params.low > 0
    assert found.variant("long").against_params == "unknown"


def test_correlations_are_those_of_each_seed_against_the_mean_of_the_long_ones():
    rng = np.random.default_rng(0)
    long, recipe = rng.normal(size=(2, 12, 3)).round(1)  # with ties
    seconds = np.ones((12, 3))
    measured = {
        "long": Measured(values=long, seconds=seconds),
        "recipe": Measured(values=recipe, seconds=seconds),
    }
    variants, rankers = judge(measured, {"params": list(range(12))})
    means = long.mean(axis=1)
    variant = next(variant for variant in variants if variant.name == "recipe")
    assert variant.tau.value == pytest.approx(np.mean([kendall_tau(column, means) for column in recipe.T]))
    assert rankers[0].tau.value == pytest.approx(kendall_tau(np.arange(12.0), means))


def test_the_gain_weighs_agreement_against_seconds():
    rng = np.random.default_rng(1)
    long = np.repeat(rng.normal(size=(40, 1)), 2, axis=1)

    def variant(noise, seconds):
        return Measured(
            values=long + noise * rng.normal(size=long.shape), seconds=np.full(long.shape, seconds)
        )

    measured = {
        "long": variant(0, 30),
        "recipe": variant(0.3, 10),
        "same, more expensive": variant(0.3, 40),
        "quick": variant(0.6, 0.1),
    }
    variants, _ = judge(measured, {"params": list(range(40))})
    gains = {variant.name: variant.gain for variant in variants}
    assert gains["long"] is None
    assert gains["same, more expensive"] < gains["recipe"] < gains["quick"]


def test_the_best_of_many_normals_is_as_tables_say():
    assert best_of_normals(1) == best_of_normals(0.2) == 0
    assert best_of_normals(10) == pytest.approx(1.5388, abs=0.01)
    assert best_of_normals(100) == pytest.approx(2.5076, abs=0.01)


def test_noise_is_pooled_over_candidates_and_leaves_failures_out():
    accuracies = np.array([[0.1, 0.3], [0.5, np.nan], [0.7, 0.7], [np.nan, np.nan]])
    noise = pooled_noise(accuracies)
    assert noise.value == pytest.approx(math.sqrt(0.02 / 2))
    assert noise.low < noise.value < noise.high
    assert pooled_noise(accuracies[:, :1]) is None


def test_failures_are_counted_and_left_out(tmp_path):
    space = make_space()
    victim = sample_candidates(space, 24, seed=3)[2].tokens
    found = check(tmp_path, tables(recipe=Table("recipe", noise=0.006, fails=(victim,))), space=space)
    assert found.variant("recipe").failed == 2
    assert found.candidates[2].values["recipe"] is None
    assert found.candidates[2].values["long"] is not None
    assert found.variant("recipe").tau is not None
    assert "recipe: 2 of 48 trainings failed" in " ".join(found.warnings)


def test_what_fails_from_the_start_ends_the_check_and_is_tried_again(tmp_path):
    broken = tables(long=Table("long", noise=0.001, error=True))
    with pytest.raises(SearchStoppedError, match=r"first 5 trainings all failed.*no such thing"):
        check(tmp_path, broken)
    assert check(tmp_path, tables()).variant("long").failed == 0


def stop_after(count):
    def stop(finished):
        if finished.done == count:
            raise KeyboardInterrupt

    return stop


def test_a_check_that_was_killed_continues_to_the_same_result(tmp_path):
    whole = check(tmp_path / "whole", tables())
    with pytest.raises(KeyboardInterrupt):
        check(tmp_path / "cut", tables(), on_finished=stop_after(50))
    journal = tmp_path / "cut" / "trainings.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert sum("job" in line for line in lines) == 50
    with journal.open("a") as file:
        file.write('{"variant": "recipe", "candi')  # a kill in the middle of a line
    variants = tables()
    again = check(tmp_path / "cut", variants)
    assert sum(len(variant.asked) for variant in variants.values()) == 3 * 24 * 2 - 50
    assert [variant.tau for variant in again.variants] == [variant.tau for variant in whole.variants]
    assert again.candidates == whole.candidates
    untouched = tables()
    check(tmp_path / "cut", untouched)
    assert not any(variant.asked for variant in untouched.values())


def test_proxies_and_seeds_can_be_added_to_a_check(tmp_path):
    check(tmp_path, tables())
    variants = tables(**{"width=1/2": Table("narrow", noise=0.002)})
    found = check(tmp_path, variants, seeds=3)
    assert len(variants["width=1/2"].asked) == 3 * 24
    assert len(variants["recipe"].asked) == 24
    assert found.variant("width=1/2").tau is not None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"recipe": replace(RECIPE, batch_size=16)}, "recipe"),
        ({"data": "other"}, "data"),
        ({"seed": 4}, "seed"),
        ({"count": 20}, "sample of candidates"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, changes, named):
    check(tmp_path, tables())
    with pytest.raises(StudyError, match=f"trainings with another {named}"):
        check(tmp_path, tables(), **changes)


def test_a_damaged_journal_is_refused(tmp_path):
    (tmp_path / "trainings.jsonl").write_text("{}\n")
    with pytest.raises(StudyError) as error:
        check(tmp_path, tables())
    assert error.value.field == "out"


def test_every_training_has_a_seed_of_its_own():
    seeds = {training_seed(0, w, c, n) for w in ("long", "recipe") for c in range(30) for n in range(3)}
    assert len(seeds) == 180


def test_the_file_reads_back_as_it_was_written(tmp_path):
    found = check(tmp_path, tables())
    assert read_check(tmp_path) == read_check(tmp_path / "proxy-check.json") == found
    assert json.loads((tmp_path / "proxy-check.json").read_text())["version"] == 5


def test_trainings_of_the_first_version_are_not_done_again(tmp_path):
    whole = check(tmp_path, tables())
    path = tmp_path / "trainings.jsonl"
    head, *lines = map(json.loads, path.read_text().splitlines())
    earlier = [{"version": 1, "settings": head["settings"]}]
    for line in (line for line in lines if "job" in line):
        way, candidate, number = line["key"].rsplit("/", 2)
        accuracy = line["metrics"][0]["value"]
        place = {"way": way, "candidate": int(candidate), "number": int(number)}
        earlier.append({**place, "accuracy": accuracy, "seconds": line["seconds"], "message": ""})
    path.write_text("".join(json.dumps(line) + "\n" for line in earlier))
    variants = tables()
    assert check(tmp_path, variants) == whole
    assert not any(variant.asked for variant in variants.values())


def test_a_check_of_the_first_version_is_read(tmp_path):
    found = check(tmp_path, tables())
    written = (tmp_path / "proxy-check.json").read_text()
    data = json.loads(written.replace('"mean":', '"accuracy":').replace('"values":', '"accuracies":'))
    del data["metric"]
    more = {"degrees": 24, "spearman": None, "against_params": "better", "best_share": 0.5}
    data["ways"] = [{**variant, **more} for variant in data.pop("variants")]
    data["rankers"] = [{**ranker, "spearman": None} for ranker in data["rankers"]]
    (tmp_path / "proxy-check.json").write_text(json.dumps({**data, "version": 1}))
    assert read_check(tmp_path) == found


def test_noise_is_read_for_the_very_recipe_and_images_only(tmp_path):
    data = images()
    found = check(tmp_path, tables(), data=data.fingerprint, split=data.split_fingerprint)
    assert read_noise(tmp_path, recipe=RECIPE, data=data).noise == found.noise
    assert read_noise(tmp_path).recipe == RECIPE.fingerprint
    with pytest.raises(StudyError, match="that of another recipe"):
        read_noise(tmp_path, recipe=replace(RECIPE, epochs=3))
    with pytest.raises(StudyError, match="that of another images"):
        read_noise(tmp_path, data=images(count=500))


def test_a_missing_or_damaged_file_is_refused_with_a_remedy(tmp_path):
    with pytest.raises(StudyError) as error:
        read_noise(tmp_path)
    assert error.value.field == "proxy_check"
    (tmp_path / "proxy-check.json").write_text('{"version": 9}')
    with pytest.raises(StudyError) as error:
        read_noise(tmp_path)
    assert error.value.field == "proxy_check"


def supernet(**changes):
    return tables(**{"shared weights": Table("supernet", noise=0.0, agreement=0.9), **changes})


def test_a_supernet_measures_each_candidate_once_and_stands_beside_what_its_time_buys(tmp_path):
    variants = supernet()
    found = check(tmp_path, variants, supernet_seconds=100.0)
    assert len(variants["shared weights"].asked) == 24
    shared = found.variant("shared weights")
    assert (shared.trainings, shared.failed, shared.noise) == (24, 0, None)
    assert shared.tau.low > 0.3
    assert found.rival.trainings == 100
    assert found.rival.fitted == 22
    assert found.rival.tau.low < 0 < found.rival.tau.high  # accuracies that no option explains
    assert read_check(tmp_path) == found
    again = supernet()
    assert check(tmp_path, again, supernet_seconds=100.0) == found
    assert not again["shared weights"].asked


def test_another_supernet_is_measured_again_and_may_be_added_later(tmp_path):
    assert check(tmp_path, tables()).rival is None
    check(tmp_path, supernet(), supernet_seconds=100.0)
    other = supernet(**{"shared weights": Table("other", noise=0.0, agreement=0.2)})
    found = check(tmp_path, other, supernet_seconds=100.0)
    assert len(other["shared weights"].asked) == 24
    assert found.variant("shared weights").tau.value < 0.5


def test_the_time_of_training_a_supernet_is_taken_off_its_gain():
    rng = np.random.default_rng(1)
    long = np.repeat(rng.normal(size=(40, 1)), 2, axis=1)
    measured = {
        "long": Measured(values=long, seconds=np.full(long.shape, 30.0)),
        "recipe": Measured(values=long + rng.normal(size=long.shape), seconds=np.full(long.shape, 10.0)),
        "shared weights": Measured(values=long[:, :1], seconds=np.full((40, 1), 0.1)),
    }

    def gain(seconds):
        variants, _ = judge(measured, {"params": list(range(40))}, supernet_seconds=seconds)
        return next(variant.gain for variant in variants if variant.name == "shared weights")

    assert gain(0.0) == pytest.approx(best_of_normals(10_000))
    assert gain(900.0) == pytest.approx(best_of_normals(1_000))
    assert gain(1_001.0) == 0.0  # its training alone takes longer


def test_fewer_than_ten_candidates_are_warned_of_and_fewer_than_five_refused(tmp_path):
    found = check(tmp_path, tables(), count=6)
    assert "only 6 candidates" in found.warnings[0]
    with pytest.raises(SpaceArgumentError) as error:
        check(tmp_path / "b", tables(), count=4)
    assert error.value.field == "candidates"


def test_too_few_search_images_for_the_spread_are_warned_of(tmp_path):
    found = check(tmp_path, tables(), search_images=200)
    assert any("off by 3.2 points by chance" in words for words in found.warnings)


def test_a_long_schedule_that_disagrees_with_itself_judges_nobody(tmp_path):
    found = check(tmp_path, tables(long=Table("long", noise=1.0)))
    assert found.best is None
    assert any("no proxy can be judged" in words for words in found.warnings)


def test_one_seed_cannot_show_noise(tmp_path):
    with pytest.raises(RecipeError) as error:
        check(tmp_path, tables(), seeds=1)
    assert error.value.field == "seeds"


def test_candidates_are_spread_over_the_multiply_adds_and_keep_the_limits():
    space = make_space()
    sample = sample_candidates(space, 20, seed=1)
    assert all(one.macs <= other.macs for one, other in pairwise(sample))
    assert len({one.digest for one in sample}) == 20
    assert sample == sample_candidates(space, 20, seed=1) != sample_candidates(space, 20, seed=2)
    every = np.sort(space.costs(space.sample_many(np.random.default_rng(0), 2_000))["macs"])
    low, high = np.searchsorted(every, [sample[0].macs, sample[-1].macs]) / len(every)
    assert low < 0.06
    assert high > 0.94
    limit = float(np.median(every))
    assert all(one.macs <= limit for one in sample_candidates(space, 20, limits={"macs": limit}))


def test_a_space_without_enough_candidates_is_refused():
    stage = Stage(op=MBConv(kernel_size=choice(3, 5)), channels=8, repeats=choice(1, 2))
    stem, head = Stage(op=Conv(), channels=8), Head(channels=8)
    four = SearchSpace(Network(stem=stem, stages=(stage,), head=head, resolution=8, num_classes=2))
    with pytest.raises(SpaceArgumentError) as error:
        sample_candidates(four, 5)
    assert error.value.field == "candidates"
    with pytest.raises(SpaceArgumentError) as error:
        sample_candidates(make_space(), 20, limits={"macs": 10.0})
    assert error.value.field == "limits"


def test_proxies_are_read_in_every_usual_notation():
    names = [proxy.name for proxy in read_proxies("epochs=1, epochs=1/3,resolution=0.5,data=0.25+width=1/2")]
    assert names == ["recipe", "epochs=1/3", "resolution=1/2", "width=1/2+data=1/4"]
    assert read_proxies("data=1/4")[1].reduction.data == 0.25
    assert len(usual_proxies()) == 5
    assert Proxy.of({}).reduction.is_whole


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch=1/3", "did you mean epochs="),
        ("resolutoin=0.5", "did you mean resolution="),
        ("depth", "did you mean"),
        ("epochs=3", "0 < epochs <= 1"),
        ("epochs=x", "a share is a number"),
        ("epochs=1/0", "a share is a number"),
        ("epochs=1/2+epochs=1/3", "each once"),
    ],
)
def test_a_proxy_that_is_none_is_refused_with_a_hint(text, words):
    with pytest.raises(RecipeError, match=words):
        read_proxies(text)


def test_the_longer_schedule_must_be_longer():
    assert long_recipe(RECIPE).epochs == 6
    assert long_recipe(RECIPE, epochs=5).warmup_epochs == RECIPE.warmup_epochs
    for wrong, field in (({"epochs": 2.0}, "long_epochs"), ({"times": 0.5}, "longer")):
        with pytest.raises(RecipeError) as error:
            long_recipe(RECIPE, **wrong)
        assert error.value.field == field


def images(count=600, side=16):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (count, side, side, 3), dtype=np.uint8)
    return from_arrays(pixels, np.arange(count) % 4)


def test_the_variants_share_the_images_and_differ_only_in_the_reduction():
    data = images()
    variants = variants_of(data, RECIPE, long_recipe(RECIPE), usual_proxies(), device="cpu")
    assert list(variants) == ["long", "recipe", "epochs=1/3", "resolution=1/2", "width=1/2", "data=1/3"]
    assert variants["recipe"].fingerprint == ProxyEvaluator(data, RECIPE).fingerprint
    assert len({variant.fingerprint for variant in variants.values()}) == 6


def test_too_few_search_images_are_refused():
    with pytest.raises(DataError) as error:
        variants_of(images(count=200), RECIPE, long_recipe(RECIPE), usual_proxies())
    assert error.value.field == "data"


def test_usual_proxies_that_the_networks_do_not_allow_are_left_out():
    space = make_space()  # of 8 pixels: half of it is no smaller, as 8 is the least
    variants = variants_of(images(side=8), RECIPE, long_recipe(RECIPE), usual_proxies(), device="cpu")
    kept = possible_variants(variants, [space.decode(one.tokens) for one in sample_candidates(space, 5)])
    assert "resolution=1/2" not in kept
    assert {"long", "recipe", "data=1/3"} <= set(kept)
