"""A supernet is searched in by several workers."""

import numpy as np
import pytest

import nas
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice

SPACE = SearchSpace(
    Network(
        stem=Stage(op=Conv(), channels=8),
        stages=(
            Stage(op=MBConv(kernel_size=choice(3, 5), expand_ratio=choice(1, 2)), channels=choice(8, 16)),
        ),
        head=Head(channels=16, dropout=0.0),
        resolution=8,
        num_classes=3,
    ),
    name="small",
)


def make_data():
    """Three classes, by the channel that is brightest, too faintly to be told apart always."""
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 3
    images = rng.integers(0, 160, (240, 8, 8, 3), dtype=np.uint8)
    images[np.arange(240), :, :, labels] += 8
    return nas.from_arrays(images, labels, name="faint")


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_two_workers_measure_in_a_supernet_what_one_process_does(tmp_path):
    shared = nas.SharedWeights(nas.Supernet(SPACE, seed=1).eval(), make_data(), device="cpu")
    measured = []
    for executor in (nas.ExecutorOptions("ray", workers=2), nas.ExecutorOptions("inline")):
        given = {"evaluator": shared, "executor": executor, "controller": "random", "trials": 8}
        study = nas.search(SPACE, out=tmp_path / executor.name, **given)
        measured.append({trial.digest: trial.accuracy for trial in study.completed})
    assert measured[0] == measured[1]
    assert len(set(measured[0].values())) > 1
