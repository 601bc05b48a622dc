"""The published networks: their sizes to the digit, and what may be asked for."""

from dataclasses import replace

import pytest

from search_spaces import (
    MBConv,
    Network,
    SpaceError,
    build,
    cost,
    describe,
    memory,
    reference,
    reference_names,
    scale,
)
from search_spaces.testing import check_network

PUBLISHED = {
    "mobilenet_v2": (3_504_872, 300.8, 17),
    "mnasnet_a1": (3_887_038, 311.6, 16),
    "mnasnet_b1": (4_383_312, 314.4, 17),
    "mnasnet_small": (2_030_264, 68.3, 15),
    "mnasnet_a1_035": (1_747_018, 61.7, 16),
    "mnasnet_a1_050": (2_082_006, 103.2, 16),
    "mnasnet_a1_075": (2_912_278, 223.4, 16),
    "mnasnet_a1_140": (6_105_992, 586.3, 16),
    "efficientnet_b0": (5_288_548, 385.8, 16),
    "efficientnet_b1": (7_794_184, 686.8, 23),
    "efficientnet_b2": (9_109_994, 993.6, 23),
    "efficientnet_b3": (12_233_232, 1_827, 26),
    "efficientnet_b4": (19_341_616, 4_394, 32),
    "efficientnet_b5": (30_389_784, 10_266, 39),
    "efficientnet_b6": (43_040_704, 19_068, 45),
    "efficientnet_b7": (66_347_960, 37_746, 55),
    "efficientnet_b8": (87_413_142, 62_598, 61),
    "efficientnet_l2": (480_309_308, 475_704, 88),
    "efficientnet_v2_b0": (7_139_704, 718, 21),
    "efficientnet_v2_b1": (8_141_052, 1_197, 27),
    "efficientnet_v2_b2": (10_096_086, 1_698, 28),
    "efficientnet_v2_b3": (14_358_406, 3_012, 32),
    "efficientnet_v2_s": (21_458_488, 8_366, 40),
    "efficientnet_v2_m": (54_139_356, 24_583, 57),
    "efficientnet_v2_l": (118_515_272, 56_080, 79),
}
"""Parameters, millions of multiply-adds (whole ones were rounded to a tenth first, then again), blocks."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts_hold_to_the_digit(name):
    params, macs, blocks = PUBLISHED[name]
    network = reference(name)
    assert cost(network).params == params
    assert cost(network).macs / 1e6 == pytest.approx(macs, abs=0.05 if isinstance(macs, float) else 0.55)
    assert sum(stage.repeats for stage in network.stages) == blocks


def test_every_name_makes_a_network_of_its_own():
    digests = {}
    for name in reference_names():
        network = reference(name)
        assert network.digest not in digests, (name, digests[network.digest])
        digests[network.digest] = name
        assert memory(network).inference_bytes > 4 * cost(network).params


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("efficientnetv2_s", "efficientnet_v2_s"),
        ("tf_efficientnetv2_b0", "tf_efficientnet_v2_b0"),
        ("EfficientNet-B0", "efficientnet_b0"),
        ("semnasnet_100", "mnasnet_a1"),
        ("mnasnet_050", "mnasnet_b1_050"),
        ("mnasnet0_5", "mnasnet_b1_050"),
        ("mobilenetv3_large_100", "mobilenet_v3_large"),
        ("mobilenetv2_140", "mobilenet_v2_140"),
        ("resnet_50", "resnet50"),
    ],
)
def test_names_of_timm_and_torchvision_are_understood(alias, name):
    assert reference(alias) == reference(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("efficientnet_b9", "efficientnet_b"),
        ("resnet51", "did you mean resnet"),
        ("tf_resnet50", "there is no reference network 'tf_resnet50'"),
        ("qqq", r"reference_names\(\) lists all"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, message):
    with pytest.raises(SpaceError, match=message):
        reference(name)


def test_an_unknown_convention_is_refused():
    with pytest.raises(SpaceError) as error:
        reference("resnet50", like="keras")
    assert error.value.field == "like"


def test_tensorflow_variants_differ_in_the_padding_alone():
    assert reference("tf_efficientnet_b0") == replace(reference("efficientnet_b0"), padding="same")


@pytest.mark.parametrize(
    ("name", "like", "eps", "momentum"),
    [
        ("efficientnet_b0", "paper", 1e-3, 0.01),
        ("efficientnet_b0", "timm", 1e-5, 0.1),
        ("efficientnet_b0", "torchvision", 1e-5, 0.1),
        ("efficientnet_b5", "torchvision", 1e-3, 0.01),
        ("mnasnet_b1", "torchvision", 1e-5, 3e-4),
        ("resnet50", "paper", 1e-5, 0.1),
    ],
)
def test_batch_normalisation_is_that_of_the_code_asked_for(name, like, eps, momentum):
    network = reference(name, like=like)
    assert (network.norm_eps, network.norm_momentum) == (eps, momentum)


def test_mnasnet_small_takes_its_first_skip_only_as_in_timm():
    assert isinstance(reference("mnasnet_small").stages[0].op, MBConv)
    skips = [reference("mnasnet_small", like=like).stages[0].op.skip for like in ("paper", "timm")]
    assert skips == ["none", "identity"]


def test_squeezed_widths_of_mobilenet_v3_come_from_the_expanded_channels():
    network = replace(reference("mobilenet_v3_large"), resolution=32)
    weights = build(network, seed=0).state_dict()
    (key,) = [key for key in weights if key.startswith("stage4.block1") and key.endswith("reduce.weight")]
    assert tuple(weights[key].shape) == (32, 120, 1, 1)  # 120 * 0.25 = 30, to a multiple of 8


@pytest.mark.parametrize(
    "name",
    ["mnasnet_small", "mobilenet_v1", "mobilenet_v3_small", "resnet18", "resnet50", "tf_efficientnet_v2_b0"],
)
def test_module_cost_and_source_of_a_reference_agree(name):
    check_network(replace(reference(name), resolution=40, num_classes=10))


def test_references_are_read_back_from_json():
    for name in ("mobilenet_v3_large", "resnet50", "tf_efficientnet_b0"):
        assert Network.from_json(reference(name).to_json()) == reference(name)


def test_tables_read_as_in_the_papers():
    rows = describe(reference("efficientnet_v2_s"))
    assert rows[1].operator == "Fused-MBConv1, k3x3"
    assert rows[4].operator == "MBConv4, k3x3, se0.25"
    assert [row.layers for row in rows[1:7]] == [2, 4, 4, 6, 9, 15]
    assert describe(reference("resnet50"))[0].operator == "Conv, k7x7, max pool"
    assert describe(reference("mobilenet_v3_large"))[-1].operator == "Conv1x1 to 960, Pool, FC to 1280, FC"


def test_b1_by_the_formula_is_not_the_published_b1():
    formula = scale(reference("efficientnet_b0"), phi=1)
    assert cost(formula).params != cost(reference("efficientnet_b1")).params
