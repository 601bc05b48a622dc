"""Costs against what others count: the papers' tables, fvcore, and the rows of two benchmarks."""

import csv
import json
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
    memory,
    reference,
)
from search_spaces.families import (
    efficientnet,
    efficientnet_v2,
    mnasnet,
    mobilenet_v3,
    nas_bench_macro,
    resnet,
    small,
)

B0 = efficientnet().reference


def counted_by_others(network):
    """Multiply-adds of convolutions and linear layers as fvcore traces them; parameters as built."""
    module = build(network, seed=0).eval()
    counted = traced(FlopCountAnalysis, module, network).by_operator()
    return counted["conv"] + counted["linear"], sum(parameter.numel() for parameter in module.parameters())


def activations_counted_by_others(network):
    """Values put out by convolutions and linear layers as fvcore traces them."""
    return traced(ActivationCountAnalysis, build(network, seed=0).eval(), network).total()


def traced(analysis, module, network):
    images = torch.zeros(1, network.in_channels, network.resolution, network.resolution)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = analysis(module, images).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        found.total()
    return found


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


SMALL = {"resolution": 32, "num_classes": 10, "width": 0.25}

SAMPLED = [
    (mnasnet(**SMALL), 30),
    (mnasnet(**SMALL, around="mnasnet_a1", pooling_skip=True), 30),
    (mnasnet(**SMALL, form="vertex"), 10),
    (efficientnet(**SMALL), 30),
    (efficientnet(resolution=75, in_channels=1), 3),  # odd sides round up under a stride
    (efficientnet_v2(**SMALL, around="efficientnet_v2_b0", with_width=True), 20),
    (mobilenet_v3(**SMALL), 20),
    (resnet(**SMALL, around="resnet18"), 30),
    (resnet(**SMALL), 5),
    (nas_bench_macro(width=0.25), 30),
    (small(resolution=32), 30),
]


@pytest.mark.slow
@pytest.mark.parametrize(("space", "count"), SAMPLED, ids=lambda value: getattr(value, "name", None))
def test_costs_equal_fvcore_and_the_module_on_sampled_networks(space, count):
    rng = np.random.default_rng(0)
    tokens = [space.sample(rng) for _ in range(count)]
    together = space.costs(tokens)
    for row, candidate in enumerate(tokens):
        network = space.decode(candidate)
        counted = cost(network)
        assert (counted.macs, counted.params) == counted_by_others(network)
        assert (together.macs[row], together.params[row]) == (counted.macs, counted.params)
        if row < 8:  # a trace of its own, which takes as long as the first
            assert counted.activations == activations_counted_by_others(network)


def test_costs_equal_fvcore_on_b0():
    assert (cost(B0).macs, cost(B0).params) == counted_by_others(B0)
    assert cost(B0).activations == activations_counted_by_others(B0)


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


def shared_file(name):
    folder = os.environ.get("MNAS_DATA", "")
    path = Path(folder) / name
    if not folder or not path.is_file():
        pytest.skip(f"set MNAS_DATA to the folder that holds {name}")
    return path


def test_costs_equal_every_row_of_accel_nasbench():
    with shared_file("accel_nasbench.csv").open() as file:
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


def test_costs_equal_every_row_of_nas_bench_macro():
    rows = json.loads(shared_file("nas-bench-macro_cifar10.json").read_text())
    assert len(rows) == 6561
    space = nas_bench_macro()
    tokens = [tuple(map(int, key)) for key in rows]
    published = [(row["flops"], row["params"]) for row in rows.values()]
    counted = [cost(space.decode(candidate)) for candidate in tokens]
    assert [(one.macs, one.params) for one in counted] == published
    together = space.costs(tokens)
    assert list(zip(together.macs.tolist(), together.params.tolist(), strict=True)) == published
