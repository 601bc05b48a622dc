from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nas.data.loading import from_arrays
from nas.training.accuracy import Normalise, evaluate_accuracy
from nas.training.batches import make_batches
from nas.training.norm_statistics import recompute_statistics
from nas.training.proxy import ProxyEvaluator, load_bytes
from nas.training.recipe import Recipe
from nas.training.training import train
from nas.trial import Candidate, Job
from search_spaces import build, small

CPU = torch.device("cpu")
SHORT = Recipe(epochs=5, batch_size=16, learning_rate=0.05, precision="float32")
"""Few steps on 92 images: the running statistics keep a tenth of the initial ones."""


def two_classes(count=192, side=24, seed=0):
    """Dark and bright images with noise, told apart by a single number; the classes one after the other."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) * 2 // count
    images = rng.integers(0, 150, (count, side, side, 3)) + 60 * labels[:, None, None, None]
    return from_arrays(images.astype(np.uint8), labels, name="two")


def candidate(data, seed):
    space = small(resolution=data.resolution, num_classes=2, in_channels=3)
    return build(space.decode(space.sample(np.random.default_rng(seed))), seed=seed)


def accuracy(data, recipe, seed):
    return train(candidate(data, seed), data, recipe, seed=seed, device="cpu").metrics["accuracy"]


def test_a_short_training_is_measured_by_what_it_learnt_and_not_by_the_lag_of_its_statistics():
    data, seeds = two_classes(), range(5)
    recipe = replace(SHORT, batch_size=64)
    lagging = [accuracy(data, replace(recipe, batch_norm_statistics="running"), seed) for seed in seeds]
    measured = [accuracy(data, recipe, seed) for seed in seeds]
    assert np.mean(measured) > np.mean(lagging) + 0.15, (measured, lagging)


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU(), nn.Conv2d(4, 8, 3)
        )
        self.append(nn.BatchNorm2d(8)).append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten()).append(
            nn.Linear(8, 2)
        )


def recomputed(module, data, **changes):
    given = {"images": len(data.train), "batch_size": 32, "device": CPU, "precision": "float32", **changes}
    recompute_statistics(module, make_batches(data, CPU), Normalise(data, CPU), **given)
    return module


def test_statistics_are_those_of_the_training_images_and_nothing_else_changes():
    data, module = two_classes(count=400), Net()
    before = {name: tensor.clone() for name, tensor in module.named_parameters()}
    recomputed(module, data)
    values = module[0](Normalise(data, CPU)(torch.from_numpy(data.train.images)))
    torch.testing.assert_close(module[1].running_mean, values.mean((0, 2, 3)), atol=0.02, rtol=0.02)
    torch.testing.assert_close(module[1].running_var, values.var((0, 2, 3)), atol=0.02, rtol=0.05)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.named_parameters())
    assert (module[1].momentum, module.training, module[1].training) == (0.1, False, False)


def test_the_order_of_the_images_mixes_the_classes_of_a_sorted_split():
    data, module = two_classes(count=1_000), Net()
    recomputed(module, data, batch_size=2)
    values = module[0](Normalise(data, CPU)(torch.from_numpy(data.train.images)))
    torch.testing.assert_close(module[1].running_var, values.var((0, 2, 3)), atol=0.02, rtol=0.1)


def test_recomputing_twice_gives_equal_statistics_whatever_the_generators_are():
    data, module = two_classes(), Net()
    first = {name: tensor.clone() for name, tensor in recomputed(module, data).state_dict().items()}
    torch.manual_seed(5)
    np.random.seed(5)
    second = recomputed(module, data).state_dict()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize("images", [2, 3, 64, 65, 130])
def test_any_number_of_images_has_statistics(images):
    data = two_classes(count=400)
    part = data.train.take(np.linspace(0, len(data.train) - 1, images).astype(np.int64))
    module = recomputed(Net(), replace(data, train=part), batch_size=2)
    assert module[1].num_batches_tracked == max(1, images // 64)
    assert all(tensor.isfinite().all() for tensor in module.state_dict().values())


def test_a_module_without_norms_or_with_norms_that_track_nothing_stays_as_it_is():
    data = two_classes()
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten())
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    recomputed(module, data)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_the_weights_that_are_kept_are_those_that_were_measured():
    data = two_classes()
    space = small(resolution=data.resolution, num_classes=2, in_channels=3)
    tokens = tuple(space.sample(np.random.default_rng(0)))
    job = Job(trial=0, attempt=1, tokens=tokens, seed=0)
    network = space.decode(tokens)
    evaluation = ProxyEvaluator(data, SHORT, device="cpu").evaluate(Candidate(job=job, network=network))
    module = build(network, seed=1)
    load_bytes(module, evaluation.weights())
    measured = next(metric.value for metric in evaluation.metrics if metric.name == "accuracy")
    assert evaluate_accuracy(module, data, "search", device="cpu") == measured


@pytest.mark.parametrize(
    ("epochs", "momentum", "expected"),
    [
        (1, 0.1, "recomputed"),
        (4, 0.1, "recomputed"),
        (6, 0.1, "running"),
        (6, 0.01, "recomputed"),
        (1, 0.5, "running"),
        (1, 1.0, "running"),
        (100, 0.0003, "recomputed"),
    ],
)
def test_statistics_are_recomputed_where_momentum_and_steps_leave_much_of_the_initial_ones(
    epochs, momentum, expected
):
    recipe = Recipe(epochs=epochs, warmup_epochs=0, batch_size=100, batch_norm_momentum=momentum)
    assert recipe.settled(1_000).batch_norm_statistics == expected
    for chosen in ("running", "recomputed"):
        assert replace(recipe, batch_norm_statistics=chosen).settled(1_000).batch_norm_statistics == chosen
