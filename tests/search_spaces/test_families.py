"""The built-in spaces: their options and sizes, the published networks in them, and any images."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from search_spaces import (
    Head,
    Identity,
    SpaceError,
    adapt_strides,
    build,
    cost,
    lower,
    reference,
    round_channels,
    scale,
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
from search_spaces.families.efficientnet_v2 import AROUND as EFFICIENTNETS_V2
from search_spaces.families.mobilenet_v3 import AROUND as MOBILENETS_V3
from search_spaces.families.resnet import AROUND as RESNETS
from search_spaces.scaling import EFFICIENTNET_V2_RULE
from search_spaces.testing import check_network, check_space

MAKERS = (efficientnet, efficientnet_v2, mnasnet, mobilenet_v3, nas_bench_macro, resnet, small)

SIZES = [
    (mnasnet, {}, 42, 128 * 192 * 288**4 * 192),
    (mnasnet, {"around": "mnasnet_a1"}, 42, 128 * 192 * 288**4 * 192),
    (mnasnet, {"pooling_skip": True}, 42, 192 * 288 * 432**4 * 288),
    (mnasnet, {"form": "vertex"}, 42, 56 * 84 * 126**4 * 84),
    (mnasnet, {"flat": True}, 18, 32 * 4 * 6 * 9**4 * 6),
    (efficientnet, {}, 28, 36**6 * 48),
    (efficientnet, {"flat": True}, 10, 12 * 3**6 * 4),
    (efficientnet_v2, {}, 24, 36**6),
    (efficientnet_v2, {"with_width": True}, 30, 108**6),
    (efficientnet_v2, {"around": "efficientnet_v2_m"}, 28, 36**7),
    (efficientnet_v2, {"around": "efficientnet_v2_l"}, 28, 36**7),
    (efficientnet_v2, {"around": "efficientnet_v2_xl"}, 28, 36**7),
    (efficientnet_v2, {"around": "efficientnet_v2_b0"}, 24, 24 * 36**5),
    (efficientnet_v2, {"around": "efficientnet_v2_b3"}, 24, 36**6),
    (efficientnet_v2, {"flat": True}, 9, 12 * 3**6),
    (mobilenet_v3, {}, 45, 48**6 * 32**2 * 72),
    (mobilenet_v3, {"around": "mobilenet_v3_small"}, 35, 48**7),
    (mobilenet_v3, {"flat": True}, 13, 16 * 2**5 * 3**4),
    (resnet, {}, 16, 48 * 80 * 80 * 48),
    (resnet, {"around": "resnet152"}, 16, 48 * 80 * 80 * 48),
    (resnet, {"around": "resnet18"}, 16, 48 * 64 * 64 * 48),
    (resnet, {"flat": True}, 10, 4 * 4**4 * 225),
    (resnet, {"around": "resnet34", "flat": True}, 10, 4 * 4**4 * 144),
    (nas_bench_macro, {}, 8, 3**8),
    (nas_bench_macro, {"flat": True}, 1, 3),
    (small, {}, 12, 36**3),
    (small, {"flat": True}, 6, 12 * 3**3),
]


def name_of(value):
    if isinstance(value, dict):
        return "-".join(f"{key}={word}" for key, word in value.items()) or "default"
    return value.__name__ if callable(value) else None


@pytest.mark.parametrize(("make", "arguments", "decisions", "size"), SIZES, ids=name_of)
def test_the_sizes_are_those_counted_by_hand_and_those_of_the_docstrings(make, arguments, decisions, size):
    space = make(**arguments)
    assert (len(space.decisions), space.size) == (decisions, size)
    assert f"{size:,}" in make.__doc__


PUBLISHED = [
    (partial(mnasnet, around="mnasnet_a1"), ["mnasnet_a1"]),
    (partial(mnasnet, around="mnasnet_a1", pooling_skip=True), ["mnasnet_a1"]),
    (partial(mnasnet, around="mnasnet_a1", form="vertex"), ["mnasnet_a1"]),
    (efficientnet, ["efficientnet_b0"]),
    *((partial(efficientnet_v2, around=name), [name]) for name in EFFICIENTNETS_V2),
    (partial(efficientnet_v2, with_width=True), ["efficientnet_v2_s"]),
    *((partial(mobilenet_v3, around=name), [name]) for name in MOBILENETS_V3),
    *(
        (partial(resnet, around=name), RESNETS[:2] if name in RESNETS[:2] else RESNETS[2:])
        for name in RESNETS
    ),
    (partial(resnet, flat=True), RESNETS[2:]),
]


@pytest.mark.parametrize(("make", "names"), PUBLISHED)
def test_the_published_networks_are_points_of_their_spaces(make, names):
    space = make()
    assert space.reference in [reference(name) for name in names]
    for name in names:
        network = reference(name)
        assert space.decode(space.encode(network)).digest == network.digest


def test_mnasnets_reference_is_mobilenet_v2_with_mnasnets_activation():
    assert mnasnet().reference == replace(reference("mobilenet_v2"), activation="relu")
    with pytest.raises(SpaceError, match=r"network\.activation must be 'relu', but is 'relu6'"):
        mnasnet().encode(reference("mobilenet_v2"))


@pytest.mark.parametrize(
    ("make", "published", "rule"),
    [
        (efficientnet, "efficientnet_b0", {}),
        (efficientnet_v2, "efficientnet_v2_s", {"rule": EFFICIENTNET_V2_RULE}),
        (mobilenet_v3, "mobilenet_v3_large", {}),
        (resnet, "resnet50", {}),
    ],
)
def test_the_reference_at_another_width_is_the_published_network_scaled(make, published, rule):
    narrow = scale(reference(published), width=0.75, **rule)
    expected = replace(narrow, resolution=192, num_classes=7, in_channels=1)
    assert make(width=0.75, resolution=192, num_classes=7, in_channels=1).reference == expected


def test_mnasnet_offers_the_papers_options_around_mobilenet_v2():
    options = {decision.name: decision.options for decision in mnasnet().decisions}
    assert [len(options[f"block{n}.op"]) for n in range(1, 8)] == [4] * 7
    channels = [options[f"block{n}.channels"] for n in range(1, 8)]
    assert channels == [
        (16, 24),
        (24, 32),
        (24, 32, 40),
        (48, 64, 80),
        (72, 96, 120),
        (120, 160, 200),
        (240, 320, 400),
    ]
    repeats = [options[f"block{n}.repeats"] for n in range(1, 8)]
    assert repeats == [(1, 2), (2, 3, 1), (3, 4, 2), (4, 5, 3), (3, 4, 2), (3, 4, 2), (1, 2)]


def test_mnasnet_around_a1_offers_that_networks_widths_and_layers():
    options = {decision.name: decision.options for decision in mnasnet(around="mnasnet_a1").decisions}
    channels = [options[f"block{n}.channels"] for n in range(3, 6)]
    assert channels == [(32, 40, 48), (64, 80, 104), (88, 112, 144)]
    assert [options[f"block{n}.repeats"][0] for n in range(1, 8)] == [1, 2, 3, 4, 2, 3, 1]


def test_mnasnet_kernel_se_and_skip_are_one_decision_a_block_whatever_the_op():
    assert len(mnasnet().decisions) == 7 * 6
    assert all(decision.conditions == () for decision in mnasnet().decisions)


def test_a_block_of_the_papers_form_has_the_papers_432_options():
    space = mnasnet(pooling_skip=True)
    counts = [len(decision.options) for decision in space.decisions if decision.name.startswith("block4.")]
    assert math.prod(counts) == 432


def test_the_later_form_decides_expansion_and_squeeze_excite_of_mbconv_only():
    space = mnasnet(form="vertex")
    conditional = {decision.name.split(".")[1] for decision in space.decisions if decision.conditions}
    assert conditional == {"expand_ratio", "se_ratio"}
    assert len([decision for decision in space.decisions if decision.conditions]) == 7 * 2


def test_b0_is_the_reference_and_a_point_of_its_space():
    space = efficientnet()
    b0 = space.decode(space.encode(space.reference))
    assert b0 == space.reference == reference("efficientnet_b0")
    assert b0.head == Head(channels=1280, dropout=0.2)


@pytest.mark.parametrize(
    ("make", "head"),
    [
        (mnasnet, Head(channels=1280)),
        (partial(mnasnet, head_channels=64), Head(channels=64)),
        (efficientnet, Head(channels=640)),
        (partial(efficientnet, head_channels=64), Head(channels=64)),
        (small, Head(channels=128, dropout=0.0)),
        (mobilenet_v3, Head(channels=480, hidden=640)),
        (resnet, Head(channels=0, dropout=0.0)),
    ],
)
def test_the_head_at_half_the_width_is_that_of_the_familys_code(make, head):
    assert make(width=0.5).reference.head == head


def test_efficientnet_v2_is_made_for_the_published_resolution_unless_told():
    assert efficientnet_v2().template.resolution == 384
    assert efficientnet_v2(around="efficientnet_v2_b0").template.resolution == 224
    assert efficientnet_v2(resolution=128).template.resolution == 128


def test_mobilenet_v3_offers_the_published_expansion_of_every_row():
    options = {decision.name: decision.options for decision in mobilenet_v3().decisions}
    expansions = [options[f"stage{n}.expand_ratio"] for n in range(1, 10)]
    assert expansions == [
        (3, 6, 1),
        (3, 6, 4),
        (3, 6),
        (3, 6),
        (3, 6),
        (3, 6, 2.5),
        (3, 6, 2.3),
        (3, 6),
        (3, 6),
    ]


def test_resnets_layers_hold_those_of_all_published_ones():
    options = {decision.name: decision.options for decision in resnet().decisions}
    assert [options[f"stage{n}.repeats"] for n in range(1, 5)] == [
        (3, 4, 2),
        (4, 5, 3, 8, 24),
        (6, 7, 5, 23, 36),
        (3, 4, 2),
    ]
    assert options["stage4.channels"] == (1024, 1536, 2048, 2560)


@pytest.mark.parametrize(
    ("resolution", "pool", "stem"), [(224, 2, 2), (97, 2, 2), (96, 1, 2), (64, 1, 2), (32, 1, 1)]
)
def test_resnets_pooling_goes_before_the_stems_stride(resolution, pool, stem):
    network = resnet(resolution=resolution).reference
    assert (network.stem.op.pool_stride, network.stem.stride) == (pool, stem)


def test_the_tokens_of_nas_bench_macro_are_the_digits_of_its_keys():
    space = nas_bench_macro()
    assert [decision.name for decision in space.decisions] == [f"layer{n}.op" for n in range(1, 9)]
    network = space.decode((0, 1, 2, 0, 0, 1, 2, 0))
    words = [
        "0" if isinstance(stage.op, Identity) else f"k{stage.op.kernel_size}e{stage.op.expand_ratio}"
        for stage in network.stages
    ]
    assert words == ["0", "k3e3", "k5e6", "0", "0", "k3e3", "k5e6", "0"]


@pytest.mark.parametrize(
    ("key", "macs", "params"),
    [
        ("00000000", 7_713_280, 387_882),
        ("22212220", 85_164_544, 1_985_514),
        ("22222222", 105_660_928, 2_932_586),
    ],
)
def test_networks_of_nas_bench_macro_cost_what_the_benchmark_says(key, macs, params):
    network = nas_bench_macro().decode(tuple(map(int, key)))
    assert (cost(network).macs, cost(network).params) == (macs, params)
    assert (network.activation, network.norm_eps, network.norm_momentum) == ("relu", 1e-5, 0.1)


def test_nas_bench_macro_has_3969_different_networks():
    space = nas_bench_macro(width=0.25)
    tokens = np.stack(np.unravel_index(np.arange(3**8), (3,) * 8), axis=1).tolist()
    assert len({space.digest(row) for row in tokens}) == 3969
    assert space.digest((1, 0, 1, 0, 2, 1, 2, 0)) == space.digest((1, 0, 1, 2, 0, 1, 0, 2))
    assert space.digest((1, 0, 1, 0, 2, 1, 2, 0)) != space.digest((0, 1, 1, 0, 2, 1, 2, 0))


FLAT = [partial(make, resolution=32, width=0.25, flat=True) for make in MAKERS]


@pytest.mark.parametrize("make", FLAT, ids=lambda make: make.func.__name__)
def test_all_layers_of_a_flat_space_are_alike_but_channels_and_repeats_are_open(make):
    space = make()
    rng = np.random.default_rng(0)
    networks = [space.decode(space.sample(rng)) for _ in range(20)]
    assert {len({stage.op for stage in network.stages}) for network in networks} == {1}
    per_stage = {decision.name for decision in space.decisions if "." in decision.name}
    per_layer = {decision.name for decision in space.decisions if "." not in decision.name}
    assert all(name.endswith((".channels", ".repeats")) for name in per_stage)
    assert per_layer <= {"op", "kernel_size", "expand_ratio", "se_ratio", "skip", "activation"}


@pytest.mark.parametrize(
    ("channels", "rounded"), [(32 * 1.1, 32), (24 * 0.75, 24), (1280 * 1.1, 1408), (3, 8), (12, 16), (20, 24)]
)
def test_channels_round_to_eights_losing_at_most_a_tenth(channels, rounded):
    assert round_channels(channels) == rounded
    assert rounded >= 0.9 * channels


@pytest.mark.parametrize(
    ("resolution", "total"), [(224, 32), (128, 32), (96, 16), (64, 16), (32, 8), (28, 8), (16, 4), (4, 1)]
)
def test_early_strides_go_until_the_last_map_has_four_pixels(resolution, total):
    strides = adapt_strides((2, 1, 2, 2, 2, 1, 2, 1), resolution)
    assert math.prod(strides) == total
    assert math.ceil(resolution / total) >= 4
    assert strides[-4:] == (2, 1, 2, 1)[-4:] or total < 4


@pytest.mark.parametrize("make", [make for make in MAKERS if make is not small])
@pytest.mark.parametrize("resolution", [1, 4, 28, 32, 75, 96])
def test_the_last_map_has_four_pixels_at_any_resolution(make, resolution):
    space = make(resolution=resolution, width=0.25)
    parts = lower(space.decode([0] * len(space.decisions)))
    assert parts[-1].in_shape.height >= min(4, resolution)


@pytest.mark.parametrize("make", MAKERS)
def test_spaces_adapt_to_resolution_width_classes_and_channels(make):
    space = make(resolution=32, num_classes=7, in_channels=1, width=0.25)
    module = build(space.decode([0] * len(space.decisions)), seed=0).eval()
    convolution = module.get_submodule("stem.block0.conv")
    assert convolution.weight.shape[1] == 1
    assert convolution.stride == ((2, 2) if make is small else (1, 1))
    assert module.get_submodule("head.classifier").out_features == 7


@pytest.mark.parametrize(
    "space",
    [
        mnasnet(resolution=32, num_classes=10, width=0.25, around="mnasnet_a1", pooling_skip=True),
        mnasnet(resolution=32, num_classes=10, width=0.25, form="vertex"),
        mnasnet(resolution=32, num_classes=10, width=0.25, flat=True),
        efficientnet_v2(
            resolution=32, num_classes=10, width=0.25, around="efficientnet_v2_b0", with_width=True
        ),
        mobilenet_v3(resolution=32, num_classes=10, width=0.25),
        mobilenet_v3(resolution=32, num_classes=10, width=0.25, around="mobilenet_v3_small"),
        resnet(resolution=32, num_classes=10, width=0.125),
        resnet(resolution=32, num_classes=10, width=0.125, around="resnet18"),
        nas_bench_macro(width=0.25),
        small(resolution=32, width=0.5),
    ],
    ids=lambda space: space.name,
)
def test_the_contract_of_spaces_holds(space):
    check_space(space, samples=4)
    if space.reference is not None:
        check_network(space.reference)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("width", 0),
        ("width", float("nan")),
        ("resolution", 0),
        ("num_classes", 0),
        ("in_channels", -1),
        ("flat", "yes"),
    ],
)
def test_impossible_arguments_are_refused_by_field(make, field, value):
    with pytest.raises(SpaceError) as error:
        make(**{field: value})
    assert error.value.field == field


@pytest.mark.parametrize(
    ("make", "around", "near"),
    [
        (mnasnet, "mnasnet_a2", "mnasnet_a1"),
        (efficientnet_v2, "efficientnetv2_s", "efficientnet_v2_s"),
        (mobilenet_v3, "mobilenetv3_smal", "mobilenet_v3_small"),
        (resnet, "ResNet51", "resnet50"),
    ],
)
def test_an_unknown_network_to_build_around_is_answered_with_the_near_ones(make, around, near):
    with pytest.raises(SpaceError, match=f"did you mean .*{near}") as error:
        make(around=around)
    assert error.value.field == "around"


def test_a_pooling_skip_needs_a_form_with_skips():
    with pytest.raises(SpaceError) as error:
        mnasnet(form="vertex", pooling_skip=True)
    assert error.value.field == "pooling_skip"


def test_an_unknown_form_is_refused():
    with pytest.raises(SpaceError) as error:
        mnasnet(form="papers")
    assert error.value.field == "form"
