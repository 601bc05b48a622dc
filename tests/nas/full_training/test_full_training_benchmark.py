import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from nas import load_data
from nas.full_training.recipes import RECIPES
from search_spaces import cost, reference

FOLDER = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def runs(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import full_training_runs

    return full_training_runs


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v2"])
@pytest.mark.parametrize("macs", [1_500_000, 2_000_000, 3_100_000])
@pytest.mark.parametrize("last_map", [1, 2])
def test_a_published_network_is_scaled_to_equal_macs_by_its_width_alone(runs, name, macs, last_map):
    found = runs.of_equal_macs(lambda width: runs.at_32_pixels(name, width, last_map=last_map), macs)
    assert cost(found).macs == pytest.approx(macs, rel=0.02)
    assert [stage.repeats for stage in found.stages] == [stage.repeats for stage in reference(name).stages]
    assert found.resolution == 32
    strides = [found.stem.stride, *(stage.stride for stage in found.stages)]
    assert 32 / np.prod(strides) == last_map


def test_macs_that_no_width_has_are_refused(runs):
    with pytest.raises(ValueError, match=r"within 2%"):
        runs.of_equal_macs(lambda width: runs.at_32_pixels("efficientnet_b0", width), 1000)


@pytest.mark.parametrize(("mine", "other"), [(0.03, 0.05), (0.05, 0.03), (0.04, 0.04), (0.011, 0.1)])
def test_a_training_of_equal_time_differs_by_less_than_a_step(runs, mine, other):
    per_epoch, epochs = 15, 6
    found = runs.epochs_of_equal_time(epochs, mine, other, per_epoch)
    steps = found * per_epoch
    assert steps == pytest.approx(round(steps))
    assert abs(steps * other - epochs * per_epoch * mine) <= other / 2
    recipe = RECIPES["small"].changed(epochs=found, batch_size=8)
    assert recipe.steps(8 * per_epoch) == round(steps)


def test_a_pack_has_as_many_images_of_each_class_and_the_whole_test_set(runs, tmp_path):
    source, target = tmp_path / "all.npz", tmp_path / "some.npz"
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 30))
    write_encoded(source, train=labels, test=np.arange(40) % 10)
    data = load_data(runs.write_pack(source, target, train=100, search=50))
    assert set(Counter(data.train.labels.tolist()).values()) == {10}
    assert set(Counter(data.search.labels.tolist()).values()) == {5}
    assert len(data.test) == 40
    pairs = itertools.product(data.train.images, data.search.images)
    assert not any(np.array_equal(one, other) for one, other in pairs)


def test_the_reference_loop_takes_the_recipes_steps_and_ends_with_a_small_rate(runs, tmp_path):
    from full_training_reference import ReferenceLoop

    source = tmp_path / "all.npz"
    write_encoded(source, train=np.arange(160) % 10, test=np.arange(40) % 10)
    data = load_data(source)
    network = runs.at_32_pixels("efficientnet_b0", 0.1)
    recipe = RECIPES["small"].changed(
        epochs=3, batch_size=32, optimizer="sgd", learning_rate=0.1, ema_decay=0.0, warmup_epochs=1
    )
    loop = ReferenceLoop(network, data, recipe, seed=0, device=torch.device("cpu"))
    before = [parameter.detach().clone() for parameter in loop.module.parameters()]
    loop.train()
    after = list(loop.module.parameters())
    assert all(not torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert 0 < loop.rate < recipe.peak_rate(len(data.train)) * 0.6


def write_encoded(path, **labels):
    import io

    from PIL import Image

    rng = np.random.default_rng(1)
    arrays = {"classes": np.array([f"class {label}" for label in range(10)])}
    for part, given in labels.items():
        files = []
        for _ in given:
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file, "JPEG")
            files.append(np.frombuffer(file.getvalue(), dtype=np.uint8))
        arrays[f"{part}_jpeg"] = np.concatenate(files)
        arrays[f"{part}_offset"] = np.cumsum([0, *map(len, files)])
        arrays[f"{part}_label"] = given
    np.savez(path, **arrays)
