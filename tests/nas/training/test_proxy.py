import pickle
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load

from nas.data.loading import from_arrays
from nas.errors import DataError
from nas.evaluators import Probed
from nas.latency.probe import LatencyProbe
from nas.rungs import Rungs
from nas.training.accuracy import evaluate_accuracy
from nas.training.proxy import ProxyEvaluator
from nas.training.recipe import Recipe
from nas.training.reduction import Reduction
from nas.trial import Candidate, Cause, InfeasibleError, Job
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, build, choice

RECIPE = Recipe(epochs=2, warmup_epochs=0.5, batch_size=32, precision="float32")


def bars(count=300):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 100, (count, 12, 12), dtype=np.uint8)
    labels = np.arange(count) % 3
    for image, label in zip(images, labels, strict=True):
        image[label * 4 : label * 4 + 2] += 120
    return from_arrays(images, labels, name="bars")


SPACE = SearchSpace(
    Network(
        stem=Stage(op=Conv(), channels=8, stride=2),
        stages=(Stage(op=MBConv(kernel_size=choice(3, 5), expand_ratio=choice(1, 3)), channels=8, stride=2),),
        head=Head(channels=16),
        resolution=12,
        num_classes=3,
        in_channels=1,
    )
)


def candidate(tokens=(0, 1), seed=0, fidelity=1.0, weights=None):
    job = Job(trial=0, attempt=1, tokens=tokens, seed=seed, fidelity=fidelity)
    return Candidate(job=job, network=SPACE.decode(tokens), weights=weights)


def metrics(evaluation):
    return {metric.name: metric for metric in evaluation.metrics}


def test_a_candidate_is_trained_and_measured():
    evaluator = ProxyEvaluator(bars(), RECIPE, device="cpu")
    evaluator.prepare()
    measured = metrics(evaluator.evaluate(candidate()))
    assert measured["accuracy"].unit == "fraction"
    assert 0 <= measured["accuracy"].value <= 1
    assert "search split" in measured["accuracy"].environment
    assert measured["train_seconds"].value > 0
    assert measured["peak_memory_bytes"].value > 0
    assert "tensors kept for backward" in measured["peak_memory_bytes"].environment
    assert "latency_ms" not in measured


def test_equal_jobs_give_equal_accuracy_in_a_second_worker():
    first = ProxyEvaluator(bars(), RECIPE, device="cpu")
    first.prepare()
    first.evaluate(candidate(seed=3))
    second = pickle.loads(pickle.dumps(first))
    values = [metrics(evaluator.evaluate(candidate(seed=7)))["loss"].value for evaluator in (first, second)]
    assert values[0] == values[1]
    assert metrics(second.evaluate(candidate(seed=8)))["loss"].value != values[0]


def test_the_weights_are_those_that_were_measured():
    data = bars()
    evaluation = ProxyEvaluator(data, RECIPE, device="cpu").evaluate(candidate())
    module = build(candidate().network, seed=99)
    module.load_state_dict(load(evaluation.weights()))
    assert evaluate_accuracy(module, data, "search", device="cpu") == metrics(evaluation)["accuracy"].value


def test_fidelity_is_a_share_of_the_schedule():
    evaluator = ProxyEvaluator(bars(), replace(RECIPE, epochs=4, warmup_epochs=1), device="cpu")
    half = ProxyEvaluator(bars(), replace(RECIPE, epochs=2, warmup_epochs=0.5), device="cpu")
    losses = [
        metrics(evaluator.evaluate(candidate(fidelity=0.5)))["loss"].value,
        metrics(half.evaluate(candidate()))["loss"].value,
    ]
    assert losses[0] == losses[1]


def test_latency_is_measured_where_it_is_asked_for():
    probe = LatencyProbe(device="cpu", batch=2, runs=5)
    evaluator = Probed(ProxyEvaluator(bars(), RECIPE, device="cpu"), probe)
    evaluator.prepare()
    measured = metrics(evaluator.evaluate(candidate()))
    assert measured["latency_ms"].value > 0
    assert "batch 2, threads 1, float32" in measured["latency_ms"].environment
    assert "accuracy" in measured
    assert evaluator.recipe == RECIPE.settled(192)


def test_a_pickled_evaluator_holds_little_but_the_pixels():
    evaluator = ProxyEvaluator(bars(3_000), RECIPE)
    evaluator.prepare()
    buffers = []
    small = pickle.dumps(evaluator, protocol=5, buffer_callback=buffers.append)
    assert len(small) < 4_000
    assert sum(buffer.raw().nbytes for buffer in buffers) == 3_000 * (12 * 12 + 16)


def test_the_fingerprint_tells_recipe_data_split_and_measurements_apart():
    data = bars()
    evaluators = [
        ProxyEvaluator(data, RECIPE),
        ProxyEvaluator(data, replace(RECIPE, epochs=3)),
        ProxyEvaluator(bars(240), RECIPE),
        ProxyEvaluator(from_arrays(data.train.images, data.train.labels, seed=5), RECIPE),
        ProxyEvaluator(data, RECIPE, split="test"),
        Probed(ProxyEvaluator(data, RECIPE), LatencyProbe()),
    ]
    assert len({evaluator.fingerprint for evaluator in evaluators}) == len(evaluators)
    assert ProxyEvaluator(bars(), RECIPE).fingerprint == evaluators[0].fingerprint


def test_a_diverging_candidate_is_infeasible():
    evaluator = ProxyEvaluator(bars(), replace(RECIPE, learning_rate=1e20), device="cpu")
    with pytest.raises(InfeasibleError) as error:
        evaluator.evaluate(candidate())
    assert error.value.cause is Cause.DIVERGED


def test_a_space_that_does_not_fit_the_data_is_refused_before_training():
    evaluator = ProxyEvaluator(bars(), RECIPE)
    with pytest.raises(DataError, match="resolution=12 to fit bars, but has resolution=16"):
        evaluator.check(replace(candidate().network, resolution=16))


def test_fewer_images_than_a_batch_are_refused_when_the_evaluator_is_made():
    with pytest.raises(DataError, match="at least one batch of 512"):
        ProxyEvaluator(bars(), replace(RECIPE, batch_size=512))


KINDS = ("epochs", "resolution", "data")
RUNGS = (1 / 3, 1.0)


def on_rungs(fidelity="epochs", shares=RUNGS, recipe=RECIPE):
    return ProxyEvaluator(bars(), recipe, device="cpu", rungs=Rungs(shares, fidelity=fidelity))


@pytest.mark.parametrize("fidelity", KINDS)
def test_a_promoted_training_in_another_process_gives_the_same_weights_to_the_bit(fidelity):
    here = on_rungs(fidelity)
    weights = here.evaluate(candidate(seed=3, fidelity=RUNGS[0])).weights()
    there = pickle.loads(pickle.dumps(here))
    here.evaluate(candidate(seed=9))  # something else in between must leave no trace
    going_on = candidate(seed=4, weights=weights)
    assert here.evaluate(going_on).weights() == there.evaluate(going_on).weights()


@pytest.mark.parametrize("fidelity", KINDS)
def test_a_promoted_training_changes_the_weights_that_it_starts_from(fidelity):
    evaluator = on_rungs(fidelity)
    one, other = (evaluator.evaluate(candidate(seed=seed, fidelity=RUNGS[0])).weights() for seed in (1, 2))
    after = [evaluator.evaluate(candidate(seed=5, weights=weights)).weights() for weights in (one, other)]
    assert len({one, other, *after}) == 4


def test_the_whole_fidelity_without_weights_is_one_plain_training_on_any_rungs():
    plain = ProxyEvaluator(bars(), RECIPE, device="cpu").evaluate(candidate(seed=5)).weights()
    for fidelity in KINDS:
        assert on_rungs(fidelity).evaluate(candidate(seed=5)).weights() == plain


def test_a_promoted_training_trains_what_lies_between_the_rungs():
    work = on_rungs()._work(candidate(fidelity=1.0).job, is_promoted=True)
    assert work.recipe.epochs == pytest.approx(RECIPE.epochs * 2 / 3)
    assert work.recipe.warmup_epochs == pytest.approx(RECIPE.warmup_epochs * 2 / 3)
    low = on_rungs()._work(candidate(fidelity=1 / 3).job, is_promoted=False)
    assert low.recipe == RECIPE.at(1 / 3)
    for fidelity in ("resolution", "data"):
        assert on_rungs(fidelity)._work(candidate(fidelity=1.0).job, is_promoted=True).recipe == RECIPE


def test_the_order_of_images_differs_from_rung_to_rung():
    evaluator = on_rungs(shares=(0.25, 0.5, 1.0))
    seeds = [evaluator._work(candidate(fidelity=share).job, is_promoted=True).seed for share in (0.5, 1.0)]
    assert len({*seeds, candidate().job.seed}) == 3


@pytest.mark.parametrize("fidelity", ["resolution", "data"])
def test_a_rung_of_resolution_or_data_trains_on_less(fidelity):
    evaluator = on_rungs(fidelity, recipe=replace(RECIPE, batch_size=16))
    low, whole = (evaluator._on_device.of(evaluator._reduced(share))[0] for share in RUNGS)
    assert whole is evaluator.data
    assert (low.resolution, len(low.train)) == {"resolution": (8, 192), "data": (12, 63)}[fidelity]
    assert metrics(evaluator.evaluate(candidate(fidelity=RUNGS[0])))["accuracy"].value >= 0
    assert evaluator._on_device.of(evaluator._reduced(RUNGS[0]))[0] is low


def test_weights_of_another_network_are_refused():
    evaluator = on_rungs()
    weights = evaluator.evaluate(candidate((1, 0), fidelity=RUNGS[0])).weights()
    with pytest.raises(DataError, match="weights to start from must be of the same network"):
        evaluator.evaluate(candidate((0, 1), weights=weights))
    with pytest.raises(DataError, match="weights to start from"):
        evaluator.evaluate(candidate((1, 0), weights=weights[:100]))


def test_a_reduction_trains_a_smaller_network_on_fewer_and_smaller_images():
    reduction = Reduction(epochs=0.5, width=0.5, resolution=0.7, data=0.5)
    evaluator = ProxyEvaluator(bars(), RECIPE, device="cpu", reduction=reduction)
    weights = load(evaluator.evaluate(candidate()).weights())
    narrow = reduction.network(candidate().network)
    build(narrow, seed=0).load_state_dict(weights)
    assert narrow.resolution == 8
    assert evaluator._on_device.of(reduction)[0].train.images.shape == (96, 1, 8, 8)


def test_the_fingerprint_is_as_before_without_a_reduction_and_another_with_each():
    data = bars()
    recipe = Recipe(epochs=2, batch_size=32, batch_norm_statistics="running")
    assert ProxyEvaluator(data, recipe).fingerprint == "f11763fe78c187ac"
    evaluators = [
        ProxyEvaluator(data, RECIPE),
        ProxyEvaluator(data, RECIPE, reduction=Reduction(width=0.5)),
        ProxyEvaluator(data, RECIPE, reduction=Reduction(data=0.5)),
        ProxyEvaluator(data, RECIPE, rungs=Rungs((0.5, 1.0), fidelity="data")),
        ProxyEvaluator(data, RECIPE, rungs=Rungs((0.5, 1.0))),
        ProxyEvaluator(data, RECIPE, rungs=Rungs((0.25, 1.0))),
    ]
    assert len({evaluator.fingerprint for evaluator in evaluators}) == len(evaluators)
    assert ProxyEvaluator(data, RECIPE, reduction=Reduction()).fingerprint == evaluators[0].fingerprint


def test_a_rung_with_fewer_images_than_a_batch_is_refused_when_the_evaluator_is_made():
    with pytest.raises(DataError, match=r"reduced training split of bars.*data=0.1 leaves 18"):
        on_rungs("data", (0.1, 1.0))


FOLLOWS = replace(RECIPE, batch_size=None)


def test_each_rung_of_data_has_a_batch_that_follows_its_images():
    evaluator = on_rungs("data", (0.02, 0.1, 1.0), FOLLOWS)
    found = [(images, recipe.batch_for(images)) for recipe, images in evaluator.trainings()]
    assert found == [(3, 3), (18, 4), (192, 16)]
    for share in (0.02, 0.1, 1.0):
        assert 0 <= metrics(evaluator.evaluate(candidate(fidelity=share)))["accuracy"].value <= 1


def test_the_recipe_of_an_evaluator_says_what_was_decided_for_these_images():
    decided = ProxyEvaluator(bars(), FOLLOWS).recipe
    assert (decided.batch_size, decided.batch_norm_statistics) == (16, "recomputed")


def test_what_was_decided_counts_alike_whether_it_was_given_or_followed_from_the_images():
    given = replace(FOLLOWS, batch_size=16, batch_norm_statistics="recomputed")
    assert ProxyEvaluator(bars(), FOLLOWS).fingerprint == ProxyEvaluator(bars(), given).fingerprint
    by_data = [on_rungs("data", (0.1, 1.0), recipe) for recipe in (FOLLOWS, replace(given, batch_size=8))]
    assert by_data[0].fingerprint != by_data[1].fingerprint


def test_an_evaluator_says_what_follows_from_few_images_and_on_which_rung():
    (batch, statistics, steps) = ProxyEvaluator(bars(), replace(FOLLOWS, epochs=1.0)).notes
    assert "the batch follows the 192 training images: 16" in batch
    assert (
        "recomputed over training images before measuring, as 12 steps leave 28% of the initial" in statistics
    )
    assert "only 12 steps a training" in steps
    many = replace(RECIPE, epochs=20.0)
    assert ProxyEvaluator(bars(), many).notes == ()
    assert all(note.startswith("first rung: ") for note in on_rungs("epochs", (0.1, 1.0), many).notes)
    assert "keeps them" in ProxyEvaluator(bars(), replace(RECIPE, batch_norm_statistics="running")).notes[0]


def test_a_resolution_too_small_for_the_strides_is_refused_before_training():
    deep = replace(candidate().network, stages=SPACE.decode((0, 1)).stages * 3, resolution=24)
    data = from_arrays(np.zeros((300, 24, 24), dtype=np.uint8), np.arange(300) % 3)
    ProxyEvaluator(data, RECIPE).check(deep)
    with pytest.raises(DataError, match=r"must be valid when reduced .resolution=0.25.*reduce less"):
        ProxyEvaluator(data, RECIPE, reduction=Reduction(resolution=0.25)).check(deep)


def test_ways_to_train_side_by_side_share_the_images_on_the_device_in_every_process():
    first = ProxyEvaluator(bars(), RECIPE, device="cpu")
    pair = (first, first.beside(RECIPE.at(0.5), Reduction(width=0.5)))
    for one, other in (pair, pickle.loads(pickle.dumps(pair))):
        assert one._on_device.of(Reduction())[1] is other._on_device.of(Reduction(width=0.5))[1]
    alone = ProxyEvaluator(bars(), RECIPE.at(0.5), device="cpu", reduction=Reduction(width=0.5))
    assert pair[1].evaluate(candidate()).weights() == alone.evaluate(candidate()).weights()
    assert pair[1].fingerprint == alone.fingerprint


def test_metrics_of_the_task_are_measured_beside_its_first_and_change_the_fingerprint():
    data = bars()
    plain, more = ProxyEvaluator(data, RECIPE), ProxyEvaluator(data, RECIPE, metrics=("auroc", "macro_f1"))
    assert more.metrics == ("accuracy", "macro_f1", "auroc")
    assert set(more.metrics) < set(more.measures)
    assert ProxyEvaluator(data, RECIPE, metrics=("accuracy",)).fingerprint == plain.fingerprint
    assert more.fingerprint != plain.fingerprint
    assert more.beside(RECIPE).metrics == more.metrics
    measured = metrics(more.evaluate(candidate()))
    assert 0 <= measured["macro_f1"].value <= 1
    assert measured["auroc"].environment == "search split"
    with pytest.raises(DataError) as error:
        ProxyEvaluator(data, RECIPE, metrics=("r2",))
    assert error.value.field == "metric"
