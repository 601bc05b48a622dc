import pickle
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load

from nas.data.loading import from_arrays
from nas.errors import DataError
from nas.training.measurement import LatencyProbe
from nas.training.proxy import ProxyEvaluator
from nas.training.recipe import Recipe
from nas.training.training import evaluate_accuracy
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


def candidate(tokens=(0, 1), seed=0, fidelity=1.0):
    return Candidate(
        job=Job(trial=0, attempt=1, tokens=tokens, seed=seed, fidelity=fidelity), network=SPACE.decode(tokens)
    )


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
    evaluator = ProxyEvaluator(bars(), RECIPE, device="cpu", measure_latency=LatencyProbe(batch=2, runs=5))
    latency = metrics(evaluator.evaluate(candidate()))["latency_ms"]
    assert latency.value > 0
    assert "batch 2, threads 1, float32; n=5, quartiles" in latency.environment


def test_a_pickled_evaluator_holds_little_but_the_pixels():
    evaluator = ProxyEvaluator(bars(3_000), RECIPE)
    evaluator.prepare()
    buffers = []
    small = pickle.dumps(evaluator, protocol=5, buffer_callback=buffers.append)
    assert len(small) < 4_000
    assert sum(buffer.raw().nbytes for buffer in buffers) == 3_000 * (12 * 12 + 8)


def test_the_fingerprint_tells_recipe_data_split_and_measurements_apart():
    data = bars()
    evaluators = [
        ProxyEvaluator(data, RECIPE),
        ProxyEvaluator(data, replace(RECIPE, epochs=3)),
        ProxyEvaluator(bars(240), RECIPE),
        ProxyEvaluator(from_arrays(data.train.images, data.train.labels, seed=5), RECIPE),
        ProxyEvaluator(data, RECIPE, split="test"),
        ProxyEvaluator(data, RECIPE, measure_latency=LatencyProbe()),
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
