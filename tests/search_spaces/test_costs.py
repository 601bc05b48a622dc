"""Costs against what others count: the papers' tables, fvcore, and the rows of Accel-NASBench."""

import csv
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis

from search_spaces import (
    MBConv,
    Network,
    Stage,
    build,
    cost,
    describe,
    describe_layers,
    efficientnet,
    memory,
    mnasnet,
    reference,
)

B0 = efficientnet().reference


def fvcore_counts(network):
    """(macs, activations) of convolutions and linear layers, as fvcore traces them in eval mode."""
    module = build(network, seed=0).eval()
    images = torch.zeros(1, network.in_channels, network.resolution, network.resolution)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flops = (
            FlopCountAnalysis(module, images).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        )
        counted = flops.by_operator()
        activations = ActivationCountAnalysis(module, images)
        activations.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        return counted["conv"] + counted["linear"], activations.total()


def test_b0_costs_what_the_paper_says():
    assert cost(B0).params == 5_288_548
    assert cost(B0).macs == pytest.approx(385.8e6, abs=0.05e6)


def test_mobilenet_v2_costs_what_the_paper_says():
    mobilenet = mnasnet().reference
    assert cost(mobilenet).params == 3_504_872
    assert cost(mobilenet).macs == pytest.approx(300.8e6, abs=0.05e6)


@pytest.mark.parametrize(("classes", "params"), [(10, 4_020_358), (100, 4_135_648)])
def test_b0_for_fewer_classes_has_the_known_size(classes, params):
    assert cost(efficientnet(num_classes=classes).reference).params == params


@pytest.mark.parametrize(
    "space",
    [
        mnasnet(resolution=32, num_classes=10),
        efficientnet(resolution=32, num_classes=10, width=0.5),
        efficientnet(resolution=75, in_channels=1),  # odd sides round up under a stride
    ],
    ids=["mnasnet", "efficientnet", "odd"],
)
def test_costs_equal_fvcore_on_sampled_networks(space):
    rng = np.random.default_rng(0)
    for _ in range(30 if space.template.resolution == 32 else 3):
        network = space.decode(space.sample(rng))
        counted = cost(network)
        assert (counted.macs, counted.activations) == fvcore_counts(network)


def test_costs_equal_fvcore_on_b0():
    assert (cost(B0).macs, cost(B0).activations) == fvcore_counts(B0)


def test_the_table_adds_up_to_the_cost():
    rows = describe(B0)
    assert sum(row.macs for row in rows) == cost(B0).macs
    assert sum(row.params for row in rows) == cost(B0).params


def test_the_table_reads_as_in_the_paper():
    rows = describe(B0)
    assert [row.resolution for row in rows] == [224, 112, 112, 56, 28, 14, 14, 7, 7]
    assert [row.channels for row in rows] == [32, 16, 24, 40, 80, 112, 192, 320, 1000]
    assert [row.layers for row in rows] == [1, 1, 2, 2, 3, 3, 4, 1, 1]
    assert rows[3].operator == "MBConv6, k5x5, se0.25"


def test_costs_equal_every_row_of_accel_nasbench():
    folder = os.environ.get("MNAS_DATA", "")
    path = Path(folder) / "accel_nasbench.csv"
    if not folder or not path.is_file():
        pytest.skip("set MNAS_DATA to the folder that holds accel_nasbench.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5125
    for row in rows:
        stages = tuple(
            Stage(
                op=MBConv(
                    kernel_size=int(row[f"block{i}_k"]),
                    expand_ratio=int(row[f"block{i}_e"]),
                    se_ratio=0.25 * int(row[f"block{i}_se"]),
                ),
                channels=base.channels,
                repeats=int(row[f"block{i}_l"]),
                stride=base.stride,
            )
            for i, base in enumerate(B0.stages)
        )
        network = Network(stem=B0.stem, stages=stages, head=B0.head, resolution=224, num_classes=1000)
        counted = cost(network)
        assert (counted.macs, counted.params) == (int(row["macs"]), int(row["params"]))


def test_layers_add_up_to_the_cost_and_bear_the_names_of_the_module():
    network = reference("mobilenet_v3_small")
    rows, price = describe_layers(network), cost(network)
    assert (sum(row.macs for row in rows), sum(row.params for row in rows)) == (price.macs, price.params)
    assert sum(row.activations for row in rows) == price.activations
    module = build(network, seed=0)
    leaves = [name for name, part in module.named_modules() if name and not any(part.children())]
    assert [row.name for row in rows] == leaves
    assert rows[0].layer == "nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)"


def test_the_largest_stage_holds_the_peak_of_the_network():
    rows, held = describe(B0), memory(B0)
    image = 3 * 224 * 224
    assert max(row.peak_bytes for row in rows) == 4 * (held.inference_values - image)
