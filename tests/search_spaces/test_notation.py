import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models import create_model
from timm.models._efficientnet_builder import decode_arch_def

from search_spaces import (
    BasicBlock,
    Bottleneck,
    Conv,
    ConvPool,
    DepthwiseSeparable,
    FusedMBConv,
    Head,
    Identity,
    MBConv,
    Network,
    SpaceError,
    SqueezeExcite,
    Stage,
    choice,
    cost,
    efficientnet,
    mnasnet,
)
from search_spaces.notation import parse, to_strings


def words(text):
    return tuple(text.split())


PUBLISHED = {
    "mnasnet-a1": words(
        "r1_k3_s11_e1_i32_o16_noskip r2_k3_s22_e6_i16_o24 r3_k5_s22_e3_i24_o40_se0.25 r4_k3_s22_e6_i40_o80 "
        "r2_k3_s11_e6_i80_o112_se0.25 r3_k5_s22_e6_i112_o160_se0.25 r1_k3_s11_e6_i160_o320"
    ),
    "mnasnet-b1": words(
        "r1_k3_s11_e1_i32_o16_noskip r3_k3_s22_e3_i16_o24 r3_k5_s22_e3_i24_o40 r3_k5_s22_e6_i40_o80 "
        "r2_k3_s11_e6_i80_o96 r4_k5_s22_e6_i96_o192 r1_k3_s11_e6_i192_o320_noskip"
    ),
    "mnasnet-small": words(
        "r1_k3_s11_e1_i16_o8 r1_k3_s22_e3_i8_o16 r2_k3_s22_e6_i16_o16 r4_k5_s22_e6_i16_o32_se0.25 "
        "r3_k3_s11_e6_i32_o32_se0.25 r3_k5_s22_e6_i32_o88_se0.25 r1_k3_s11_e6_i88_o144"
    ),
    "efficientnet-b0": words(
        "r1_k3_s11_e1_i32_o16_se0.25 r2_k3_s22_e6_i16_o24_se0.25 r2_k5_s22_e6_i24_o40_se0.25 "
        "r3_k3_s22_e6_i40_o80_se0.25 r3_k5_s11_e6_i80_o112_se0.25 r4_k5_s22_e6_i112_o192_se0.25 "
        "r1_k3_s11_e6_i192_o320_se0.25"
    ),
    "efficientnetv2-b0": words(
        "r1_k3_s1_e1_i32_o16_c1 r2_k3_s2_e4_i16_o32_c1 r2_k3_s2_e4_i32_o48_c1 r3_k3_s2_e4_i48_o96_se0.25 "
        "r5_k3_s1_e6_i96_o112_se0.25 r8_k3_s2_e6_i112_o192_se0.25"
    ),
    "efficientnetv2-s": words(
        "r2_k3_s1_e1_i24_o24_c1 r4_k3_s2_e4_i24_o48_c1 r4_k3_s2_e4_i48_o64_c1 r6_k3_s2_e4_i64_o128_se0.25 "
        "r9_k3_s1_e6_i128_o160_se0.25 r15_k3_s2_e6_i160_o256_se0.25"
    ),
    "efficientnetv2-m": words(
        "r3_k3_s1_e1_i24_o24_c1 r5_k3_s2_e4_i24_o48_c1 r5_k3_s2_e4_i48_o80_c1 r7_k3_s2_e4_i80_o160_se0.25 "
        "r14_k3_s1_e6_i160_o176_se0.25 r18_k3_s2_e6_i176_o304_se0.25 r5_k3_s1_e6_i304_o512_se0.25"
    ),
    "efficientnetv2-l": words(
        "r4_k3_s1_e1_i32_o32_c1 r7_k3_s2_e4_i32_o64_c1 r7_k3_s2_e4_i64_o96_c1 r10_k3_s2_e4_i96_o192_se0.25 "
        "r19_k3_s1_e6_i192_o224_se0.25 r25_k3_s2_e6_i224_o384_se0.25 r7_k3_s1_e6_i384_o640_se0.25"
    ),
}
"""The strings of the official code: tensorflow/tpu@7dc921f and google/automl@6a54c87."""

SETTINGS = {
    "mnasnet-a1": {"activation": "relu"},
    "mnasnet-b1": {"activation": "relu"},
    "mnasnet-small": {"activation": "relu", "stem": 8},
    "efficientnetv2-b0": {"resolution": 224},
    "efficientnetv2-s": {"stem": 24, "resolution": 384},
    "efficientnetv2-m": {"stem": 24, "resolution": 480},
    "efficientnetv2-l": {"resolution": 480},
}

PARAMS = {
    "mnasnet-a1": 3_887_038,
    "mnasnet-b1": 4_383_312,
    "mnasnet-small": 2_030_264,
    "efficientnet-b0": 5_288_548,
    "efficientnetv2-b0": 7_139_704,
    "efficientnetv2-s": 21_458_488,
    "efficientnetv2-m": 54_139_356,
    "efficientnetv2-l": 118_515_272,
}
"""Parameters of the published networks, as other implementations have them."""

MILLION_MACS = {
    "mnasnet-a1": 311.6,
    "mnasnet-b1": 314.4,
    "mnasnet-small": 68.3,
    "efficientnet-b0": 385.8,
    "efficientnetv2-s": 8366,
    "efficientnetv2-m": 24583,
    "efficientnetv2-l": 56080,
}

TIMM = {
    "mnasnet-a1": [
        ["ds_r1_k3_s1_e1_c16_noskip"],
        ["ir_r2_k3_s2_e6_c24"],
        ["ir_r3_k5_s2_e3_c40_se0.25"],
        ["ir_r4_k3_s2_e6_c80"],
        ["ir_r2_k3_s1_e6_c112_se0.25"],
        ["ir_r3_k5_s2_e6_c160_se0.25"],
        ["ir_r1_k3_s1_e6_c320"],
    ],
    "mnasnet-b1": [
        ["ds_r1_k3_s1_c16_noskip"],
        ["ir_r3_k3_s2_e3_c24"],
        ["ir_r3_k5_s2_e3_c40"],
        ["ir_r3_k5_s2_e6_c80"],
        ["ir_r2_k3_s1_e6_c96"],
        ["ir_r4_k5_s2_e6_c192"],
        ["ir_r1_k3_s1_e6_c320_noskip"],
    ],
    "mnasnet-small": [
        ["ds_r1_k3_s1_c8"],
        ["ir_r1_k3_s2_e3_c16"],
        ["ir_r2_k3_s2_e6_c16"],
        ["ir_r4_k5_s2_e6_c32_se0.25"],
        ["ir_r3_k3_s1_e6_c32_se0.25"],
        ["ir_r3_k5_s2_e6_c88_se0.25"],
        ["ir_r1_k3_s1_e6_c144"],
    ],
    "efficientnet-b0": [
        ["ds_r1_k3_s1_e1_c16_se0.25"],
        ["ir_r2_k3_s2_e6_c24_se0.25"],
        ["ir_r2_k5_s2_e6_c40_se0.25"],
        ["ir_r3_k3_s2_e6_c80_se0.25"],
        ["ir_r3_k5_s1_e6_c112_se0.25"],
        ["ir_r4_k5_s2_e6_c192_se0.25"],
        ["ir_r1_k3_s1_e6_c320_se0.25"],
    ],
    "efficientnetv2-b0": [
        ["cn_r1_k3_s1_e1_c16_skip"],
        ["er_r2_k3_s2_e4_c32"],
        ["er_r2_k3_s2_e4_c48"],
        ["ir_r3_k3_s2_e4_c96_se0.25"],
        ["ir_r5_k3_s1_e6_c112_se0.25"],
        ["ir_r8_k3_s2_e6_c192_se0.25"],
    ],
    "efficientnetv2-s": [
        ["cn_r2_k3_s1_e1_c24_skip"],
        ["er_r4_k3_s2_e4_c48"],
        ["er_r4_k3_s2_e4_c64"],
        ["ir_r6_k3_s2_e4_c128_se0.25"],
        ["ir_r9_k3_s1_e6_c160_se0.25"],
        ["ir_r15_k3_s2_e6_c256_se0.25"],
    ],
    "efficientnetv2-m": [
        ["cn_r3_k3_s1_e1_c24_skip"],
        ["er_r5_k3_s2_e4_c48"],
        ["er_r5_k3_s2_e4_c80"],
        ["ir_r7_k3_s2_e4_c160_se0.25"],
        ["ir_r14_k3_s1_e6_c176_se0.25"],
        ["ir_r18_k3_s2_e6_c304_se0.25"],
        ["ir_r5_k3_s1_e6_c512_se0.25"],
    ],
    "efficientnetv2-l": [
        ["cn_r4_k3_s1_e1_c32_skip"],
        ["er_r7_k3_s2_e4_c64"],
        ["er_r7_k3_s2_e4_c96"],
        ["ir_r10_k3_s2_e4_c192_se0.25"],
        ["ir_r19_k3_s1_e6_c224_se0.25"],
        ["ir_r25_k3_s2_e6_c384_se0.25"],
        ["ir_r7_k3_s1_e6_c640_se0.25"],
    ],
    "mobilenetv1": [
        ["dsa_r1_k3_s1_c64"],
        ["dsa_r2_k3_s2_c128"],
        ["dsa_r2_k3_s2_c256"],
        ["dsa_r6_k3_s2_c512"],
        ["dsa_r2_k3_s2_c1024"],
    ],
    "mobilenetv2": [
        ["ds_r1_k3_s1_c16"],
        ["ir_r2_k3_s2_e6_c24"],
        ["ir_r3_k3_s2_e6_c32"],
        ["ir_r4_k3_s2_e6_c64"],
        ["ir_r3_k3_s1_e6_c96"],
        ["ir_r3_k3_s2_e6_c160"],
        ["ir_r1_k3_s1_e6_c320"],
    ],
    "spnasnet": [
        ["ds_r1_k3_s1_c16_noskip"],
        ["ir_r3_k3_s2_e3_c24"],
        ["ir_r1_k5_s2_e6_c40", "ir_r3_k3_s1_e3_c40"],
        ["ir_r1_k5_s2_e6_c80", "ir_r3_k3_s1_e3_c80"],
        ["ir_r1_k5_s1_e6_c96", "ir_r3_k5_s1_e3_c96"],
        ["ir_r4_k5_s2_e6_c192"],
        ["ir_r1_k3_s1_e6_c320_noskip"],
    ],
    "mobilenetv3-large": [
        ["ds_r1_k3_s1_e1_c16_nre"],
        ["ir_r1_k3_s2_e4_c24_nre", "ir_r1_k3_s1_e3_c24_nre"],
        ["ir_r3_k5_s2_e3_c40_se0.25_nre"],
        ["ir_r1_k3_s2_e6_c80", "ir_r1_k3_s1_e2.5_c80", "ir_r2_k3_s1_e2.3_c80"],
        ["ir_r2_k3_s1_e6_c112_se0.25"],
        ["ir_r3_k5_s2_e6_c160_se0.25"],
        ["cn_r1_k1_s1_c960"],
    ],
    "mobilenetv3-small": [
        ["ds_r1_k3_s2_e1_c16_se0.25_nre"],
        ["ir_r1_k3_s2_e4.5_c24_nre", "ir_r1_k3_s1_e3.67_c24_nre"],
        ["ir_r1_k5_s2_e4_c40_se0.25", "ir_r2_k5_s1_e6_c40_se0.25"],
        ["ir_r2_k5_s1_e3_c48_se0.25"],
        ["ir_r3_k5_s2_e6_c96_se0.25"],
        ["cn_r1_k1_s1_c576"],
    ],
    "lcnet": [
        ["dsa_r1_k3_s1_c32"],
        ["dsa_r2_k3_s2_c64"],
        ["dsa_r2_k3_s2_c128"],
        ["dsa_r1_k3_s2_c256", "dsa_r1_k5_s1_c256"],
        ["dsa_r4_k5_s1_c256"],
        ["dsa_r2_k5_s2_c512_se0.25"],
    ],
    "mixed words": [
        ["ir_r2_k3_s2_e6_c24_skip", "ds_r1_k5_s1_c24_nr6_noskip", "er_r1_k3_s1_e4_c24_nsw_se0.5"]
    ],
}
"""`arch_def` of networks as timm has them, and one of what they leave out."""

MOBILENET_V3_SQUEEZE = SqueezeExcite(width_of="expanded", divisor=8, activation="relu", gate="hard_sigmoid")

TIMM_MODELS = {
    "mobilenetv1": ("mobilenetv1_100", {"activation": "relu6", "head": 0}),
    "mobilenetv2": ("mobilenetv2_100", {"activation": "relu6"}),
    "spnasnet": ("spnasnet_100", {"activation": "relu"}),
    "mobilenetv3-large": (
        "mobilenetv3_large_100",
        {
            "stem": 16,
            "head": Head(channels=0, hidden=1280),
            "activation": "hard_swish",
            "squeeze_excite": MOBILENET_V3_SQUEEZE,
        },
    ),
    "mobilenetv3-small": (
        "mobilenetv3_small_100",
        {
            "stem": 16,
            "head": Head(channels=0, hidden=1024),
            "activation": "hard_swish",
            "squeeze_excite": MOBILENET_V3_SQUEEZE,
        },
    ),
}
"""Names of models in timm, and what of them no string says."""


def published(name):
    return parse(PUBLISHED[name], **SETTINGS.get(name, {}))


def read_again(network, strings):
    return parse(
        strings,
        network.stem,
        network.head,
        network.resolution,
        network.num_classes,
        activation=network.activation,
        in_channels=network.in_channels,
        norm_eps=network.norm_eps,
        norm_momentum=network.norm_momentum,
        drop_path_rate=network.drop_path_rate,
        padding=network.padding,
        squeeze_excite=network.squeeze_excite,
    )


PLAIN = SqueezeExcite()


def written(network, dialect, squeeze_excite=PLAIN):
    """Strings and no complaint, or no strings and the complaint."""
    try:
        return to_strings(network, dialect, squeeze_excite=squeeze_excite), ""
    except SpaceError as error:
        return None, str(error)


def decoded(strings):
    """timm's reading, one stage after another."""
    return [block for stage in decode_arch_def(strings) for block in stage]


def network_of(*stages, **fields):
    values = {"stem": Stage(op=Conv(), channels=16, stride=2), "head": Head(channels=32), "num_classes": 4}
    return Network(**{**values, "stages": stages, "resolution": 32, **fields})


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_strings_have_the_published_costs(name):
    found = cost(published(name))
    assert found.params == PARAMS[name]
    if name in MILLION_MACS:
        assert found.macs / 1e6 == pytest.approx(MILLION_MACS[name], abs=0.05 if found.macs < 1e9 else 1)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_strings_are_written_as_published(name):
    first, *rest = PUBLISHED[name]
    if name == "mnasnet-small":
        first = "r1_k3_s11_e1_i8_o8_noskip"
    assert to_strings(published(name)) == (first, *rest)


@pytest.mark.parametrize("dialect", ["mnasnet", "timm"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_survive_both_dialects(name, dialect):
    network = published(name)
    assert read_again(network, to_strings(network, dialect)).digest == network.digest


@pytest.mark.parametrize("name", PUBLISHED)
def test_timm_reads_our_strings_as_its_own_of_the_same_network(name):
    ours = decoded([[text] for text in to_strings(published(name), "timm")])
    theirs = decoded(TIMM[name])
    if name == "mnasnet-small":  # whose first skip timm takes by the channels, TensorFlow by the declaration
        assert (ours[0].pop("noskip"), theirs[0].pop("noskip")) == (True, False)
    assert ours == theirs


@pytest.mark.parametrize("name", TIMM)
def test_timm_reads_what_we_read_and_write_as_the_original(name):
    fields = TIMM_MODELS.get(name, ("", {}))[1]
    network = parse(TIMM[name], **fields)
    strings = to_strings(network, "timm", squeeze_excite=network.squeeze_excite)
    assert decoded([[text] for text in strings]) == decoded(TIMM[name])
    assert read_again(network, strings).digest == network.digest


@pytest.mark.parametrize("name", TIMM_MODELS)
def test_networks_of_timm_have_the_parameters_of_timms_models(name):
    model, fields = TIMM_MODELS[name]
    expected = sum(parameter.numel() for parameter in create_model(model).parameters())
    assert cost(parse(TIMM[name], **fields)).params == expected


@pytest.mark.parametrize(
    ("name", "space", "activation"),
    [("efficientnet-b0", efficientnet, "swish"), ("mobilenetv2", mnasnet, "relu")],
)
def test_the_reference_networks_of_the_spaces_are_the_published_ones(name, space, activation):
    assert parse(TIMM[name], activation=activation).digest == space().reference.digest


def test_fields_stand_in_any_order():
    given = parse(["noskip_o24_se0.25_i32_s22_r2_c0_k5_e6"])
    assert given == parse(["r2_k5_s2_e6_i32_o24_se0.25_noskip"])
    assert given.stages == (
        Stage(
            op=MBConv(kernel_size=5, expand_ratio=6, se_ratio=0.25, skip="none"),
            channels=24,
            repeats=2,
            stride=2,
        ),
    )


def test_what_no_string_says_is_taken_from_the_arguments():
    stem = Stage(op=MBConv(expand_ratio=1), channels=12)
    head = Head(channels=0, dropout=0.0, hidden=7)
    squeeze = SqueezeExcite(gate="hard_sigmoid")
    network = parse(
        ["ds_r1_k3_s1_c16"],
        stem,
        head,
        32,
        10,
        activation="gelu",
        in_channels=1,
        norm_eps=1e-5,
        norm_momentum=0.1,
        drop_path_rate=0.2,
        padding="same",
        squeeze_excite=squeeze,
    )
    assert network == Network(
        stem=stem,
        stages=(Stage(op=MBConv(expand_ratio=1), channels=16),),
        head=head,
        resolution=32,
        num_classes=10,
        in_channels=1,
        activation="gelu",
        norm_eps=1e-5,
        norm_momentum=0.1,
        drop_path_rate=0.2,
        padding="same",
        squeeze_excite=squeeze,
    )


@pytest.mark.parametrize(
    ("text", "op"),
    [
        ("r1_k3_s1_e1_i32_o16_c1", FusedMBConv(expand_ratio=1)),
        ("r1_k3_s11_e6_i32_o16_a0", MBConv(activation="relu")),
        ("r1_k3_s11_e6_i32_o16_a1_se1", MBConv(activation="swish", se_ratio=1.0)),
        ("dsa_r1_k5_s1_c16", DepthwiseSeparable(kernel_size=5, is_linear=False, skip="none")),
        ("er_r1_k3_s1_e4_c16_noskip", FusedMBConv(skip="none")),
        ("cn_r1_k3_s1_c16_skip", FusedMBConv(expand_ratio=1)),
        ("cn_r1_k1_s1_e1_c16_nre", Conv(kernel_size=1, activation="relu")),
        ("cn_r1_k1_s1_c16_noskip", Conv(kernel_size=1)),
        ("ir_r1_k3_s1_e3.67_c16_nhs", MBConv(expand_ratio=3.67, activation="hard_swish")),
        ("ds_r1_k3_s1_c16_nr6_skip", MBConv(expand_ratio=1, activation="relu6")),
    ],
)
def test_a_string_means_an_op(text, op):
    assert parse([text]).stages == (Stage(op=op, channels=16),)


def test_the_first_string_may_declare_a_skip_away_by_its_input_channels():
    declared = parse(["r1_k3_s11_e1_i16_o8"], stem=8)
    assert declared.stages[0].op == MBConv(expand_ratio=1, skip="none")
    assert parse(["r1_k3_s11_e1_i8_o8"], stem=8).stages[0].op == MBConv(expand_ratio=1)
    widened = parse(["r2_k3_s11_e1_i16_o24"], stem=8)
    assert widened.digest == parse(["r2_k3_s11_e1_i8_o24"], stem=8).digest


GOOD = ("r1_k3_s11_e1_i32_o16", "r2_k3_s22_e6_i16_o24")
IN_MNASNET = [
    ("", "must be one such as"),
    ("hello", "must be one such as"),
    ("K3_r1", "must be one such as"),
    (5, "must be one such as"),
    (None, "must be one such as"),
    ("r1_k3", "`s` must be there"),
    ("r1_k3_s11_e6_i24", "`o` must be there"),
    ("r1_k3_k5_s11_e6_i24_o40", "must stand once, but got `k3` and `k5`"),
    ("r1_k3_s11_e6_i24_o40_noskip_noskip", "must stand once, but got `noskip`"),
    ("r1_k3_s11_e6_i24_o40_z3", "must be one of .* but got `z3`"),
    ("r1_k3_s11_e6_i24_o40_skip", "must be one of .* but got `skip`"),
    ("r1_k3_s11_e6_i24_o40_noskip2", "must be one of .* but got `noskip2`"),
    ("r1_k3_s11_e6_i24_o40_", "must be one of .* but got ``"),
    ("r1__k3_s11_e6_i24_o40", "must be one of .* but got ``"),
    ("r1_k3_s11_e6_i24_o40\n", "`o` must be followed by a whole number"),
    ("r1_k_s11_e6_i24_o40", "`k` must be followed by a whole number .* got `k`"),
    ("r1_k3x_s11_e6_i24_o40", "`k` must be followed by a whole number .* got `k3x`"),
    ("r1_k3_s11_e2.5_i24_o40", "`e` must be followed by a whole number .* got `e2.5`"),
    ("r1_k3_s11_e6_i24_o40_se1e3", "`se` must be followed by a number .* got `se1e3`"),
    ("r1_k3_s11_e6_i24_o40_se0.2.5", "`se` must be followed by a number"),
    ("r1_k4_s11_e6_i24_o40", "`kernel_size` must be odd.* in field `k4`"),
    ("r1_k33_s11_e6_i24_o40", "1 <= kernel_size <= 31.* in field `k33`"),
    ("r1_k3_s12_e6_i24_o40", "`s` must say the same step .* got `s12`"),
    ("r1_k3_s33_e6_i24_o40", r"stride in \(1, 2\).* in field `s33`"),
    ("r1_k3_s0_e6_i24_o40", r"stride in \(1, 2\).* in field `s0`"),
    ("r1_k3_s222_e6_i24_o40", r"stride in \(1, 2\).* in field `s222`"),
    ("r1_k3_s11_e0_i24_o40", "1 <= expand_ratio <= 64.* in field `e0`"),
    ("r1_k3_s11_e65_i24_o40", "1 <= expand_ratio <= 64.* in field `e65`"),
    ("r0_k3_s11_e6_i24_o40", "1 <= repeats <= 1000.* in field `r0`"),
    ("r9999_k3_s11_e6_i24_o40", "1 <= repeats <= 1000.* in field `r9999`"),
    ("r1_k3_s11_e6_i24_o99999999", "1 <= channels <= 65536.* in field `o99999999`"),
    (f"r1_k3_s11_e6_i24_o{'9' * 9999}", "at most nine digits"),
    ("r1_k3_s11_e6_i24_o40_se1.5", "0 <= se_ratio <= 1.* in field `se1.5`"),
    ("r1_k3_s11_e6_i24_o40_c2", "`c` must be followed by 0 or 1, but got `c2`"),
    ("r1_k3_s11_e6_i24_o40_a7", "`a` must be followed by 0 or 1, but got `a7`"),
    ("r1_k3_s11_e6_i25_o40", "`i` must be the 24 channels that arrive .* got `i25`"),
    ("ir_r1_k3_s1_e6_c40", "all strings must be in one dialect"),
]


@pytest.mark.parametrize(("text", "message"), IN_MNASNET)
def test_a_mistake_names_stage_string_and_field(text, message):
    with pytest.raises(SpaceError, match=message) as error:
        parse([*GOOD, text])
    assert f"stage3 {text!r}" in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ir", "`r` must be there"),
        ("ir_r1_k3_s1_c16", "`e` must be there"),
        ("ir_r1_k3_s1_e1_c16", "`e` must be more than 1 in `ir`"),
        ("er_r1_k3_s1_e1_c16", "`e` must be more than 1 in `er`.*`cn` with `skip`"),
        ("er_r1_k3_s1_e4_c24_fc24_noskip", "got `fc24`"),
        ("ds_r1_k3_s1_e2_c16", "`e` must be 1 or left out in `ds`"),
        ("cn_r1_k3_s1_c16_se0.25", "got `se0.25`"),
        ("dsa_r1_k3_s1_c16_skip", "got `skip`"),
        ("ir_r1_k3_s1_e6_c16_skip_noskip", "got `skip` and `noskip`"),
        ("ir_r1_k3_s1_e6_c16_nre_nsw", "got `nre` and `nsw`"),
        ("ir_r1_k3_s1_e6_c16_nge", "got `nge`"),
        ("ir_r1_k3_s1_e6_c16_nmi", "got `nmi`"),
        ("ir_r1_k3.5_s1_e6_c16", "`k` must be followed by a whole number .* got `k3.5`"),
        ("ir_r1_k3_s11_e6_c16", r"stride in \(1, 2\).* in field `s11`"),
        ("ir_r1_k3_a1.1_s1_e6_c16", "got `a1.1`"),
        ("ir_r1_k3_s1_e6_c16_cc4", "got `cc4`"),
        ("ir_r1_k3_s1_e6_i32_o16", "got `i32`"),
        ("uir_r1_a3_k5_s2_e4_c80", "no op here is timm's `uir`"),
        ("r1_k3_s11_e6_i16_o40", "all strings must be in one dialect"),
    ],
)
def test_a_mistake_in_timms_dialect_names_stage_string_and_field(text, message):
    with pytest.raises(SpaceError, match=message) as error:
        parse(["ds_r1_k3_s1_c16", text])
    assert f"stage2 {text!r}" in str(error.value)


@pytest.mark.parametrize(
    ("strings", "message"),
    [
        ([], "must be a list of at least one"),
        ("r1_k3_s11_e1_i32_o16", "must be a list of at least one"),
        (None, "must be a list of at least one"),
        ([["ds_r1_k3_s1_c16"], []], "must not be empty"),
        ([list(GOOD)], "only timm's strings may stand in lists"),
        ([["ds_r1_k3_s1_c16", "ds_r1_k3_s2_c16"]], "`s` must be 1 behind another .* got `s2` in stage2"),
    ],
)
def test_a_list_that_is_none_is_a_mistake(strings, message):
    with pytest.raises(SpaceError, match=message):
        parse(strings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("r1_k3_s11_e6_i16_o8", "hidden or squeezed channels"),
        ("r1_k3_s11_e1_i16_o8_se0.25", "hidden or squeezed channels"),
        ("r1_k3_s11_e1_i16_o16", "declares a skip"),
        ("r2_k3_s11_e1_i16_o8", "the skip of one of several blocks"),
    ],
)
def test_the_first_string_may_not_declare_channels_that_decide_more_than_the_skip(text, message):
    with pytest.raises(SpaceError, match=rf"`i` must be the 8 channels.*stem=16.*{message}.*stage1"):
        parse([text], stem=8)


@pytest.mark.parametrize("stem", [0, "8", True, Stage(op=Conv(kernel_size=2), channels=8)])
def test_a_stem_that_breaks_a_law_is_named(stem):
    with pytest.raises(SpaceError, match="in stem"):
        parse(GOOD, stem=stem)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnBlock:
    """A user's op that looks like one of ours."""

    kernel_size: int = 3
    expand_ratio: int = 6
    se_ratio: float = 0.0
    skip: str = "identity"
    activation: str | None = None

    def layers(self, context):
        return context.convolution(context.out_channels, stride=context.stride)


@dataclass(frozen=True, slots=True, kw_only=True)
class WideMBConv(MBConv):
    """A user's op that is one of ours with other layers."""

    def layers(self, context):
        return context.convolution(context.out_channels, stride=context.stride)


BOTH = [
    (WideMBConv(), "op=WideMBConv"),
    (OwnBlock(), "op=OwnBlock"),
    (Identity(), "op=Identity"),
    (BasicBlock(), "op=BasicBlock"),
    (Bottleneck(), "op=Bottleneck"),
    (ConvPool(), "op=ConvPool"),
    (MBConv(skip="pool"), "skip='pool'"),
    (Conv(se_ratio=0.25), "se_ratio=0.25|op=Conv"),
    (Conv(skip="identity"), "skip='identity'|op=Conv"),
    (DepthwiseSeparable(is_linear=False), "skip='identity'|op=DepthwiseSeparable"),
    (MBConv(activation="gelu"), "activation='gelu'"),
]


@pytest.mark.parametrize("dialect", ["mnasnet", "timm"])
@pytest.mark.parametrize(("op", "message"), BOTH)
def test_what_a_dialect_cannot_say_is_a_mistake_that_names_the_stage_and_a_remedy(op, message, dialect):
    network = network_of(Stage(op=MBConv(), channels=16), Stage(op=op, channels=16))
    with pytest.raises(SpaceError, match=rf"dialect cannot say ({message}).*: (use|keep|leave).* in stage2"):
        to_strings(network, dialect)


@pytest.mark.parametrize(
    ("op", "dialect", "message"),
    [
        (MBConv(activation="relu"), "mnasnet", "activation='relu'"),
        (MBConv(expand_ratio=2.5), "mnasnet", "expand_ratio=2.5"),
        (Conv(), "mnasnet", "op=Conv"),
        (FusedMBConv(expand_ratio=1, se_ratio=0.25), "timm", "se_ratio=0.25"),
        (FusedMBConv(expand_ratio=1, skip="none"), "timm", "skip='none'"),
    ],
)
def test_what_one_dialect_cannot_say_is_said_in_the_other(op, dialect, message):
    network = network_of(Stage(op=op, channels=16))
    with pytest.raises(SpaceError, match=f"cannot say {message}.*stage1"):
        to_strings(network, dialect)
    other = {"mnasnet": "timm", "timm": "mnasnet"}[dialect]
    assert read_again(network, to_strings(network, other)).digest == network.digest


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (Conv(skip="identity"), "cn_r1_k3_s2_c16"),
        (FusedMBConv(expand_ratio=1, skip="none"), "cn_r1_k3_s2_c16_skip"),
        (DepthwiseSeparable(is_linear=False), "dsa_r1_k3_s2_c16"),
        (DepthwiseSeparable(skip="none"), "ds_r1_k3_s2_c16_noskip"),
        (MBConv(activation="swish"), "ir_r1_k3_s2_e6_c16_nsw"),
        (MBConv(expand_ratio=6.0, se_ratio=1), "ir_r1_k3_s2_e6_c16_se1"),
        (MBConv(expand_ratio=1.1, se_ratio=1e-5), "ir_r1_k3_s2_e1.1_c16_se0.00001"),
    ],
)
def test_a_skip_that_could_not_stand_is_no_obstacle(op, text):
    network = network_of(Stage(op=op, channels=16, stride=2))
    assert to_strings(network, "timm") == (text,)
    assert read_again(network, [text]).digest == network.digest


def test_squeeze_excite_is_written_where_it_is_read_alike():
    op = MBConv(expand_ratio=4, se_ratio=0.25)
    network = network_of(Stage(op=op, channels=16), squeeze_excite=MOBILENET_V3_SQUEEZE)
    with pytest.raises(SpaceError, match=r"se_ratio=0.25 where it squeezes 16 input channels to 16.*stage1"):
        to_strings(network, "timm")
    strings = to_strings(network, "timm", squeeze_excite=MOBILENET_V3_SQUEEZE)
    assert strings == ("ir_r1_k3_s1_e4_c16_se0.25",)
    assert read_again(network, strings).digest == network.digest
    eights = network_of(Stage(op=op, channels=12, repeats=2), squeeze_excite=SqueezeExcite(divisor=8))
    eights = replace(eights, stem=replace(eights.stem, channels=32))
    with pytest.raises(
        SpaceError, match=r"where it squeezes 12 input channels to 8: 3 would be read.*stage1"
    ):
        to_strings(eights)
    for op in (MBConv(expand_ratio=4), MBConv(expand_ratio=1, se_ratio=0.5)):
        same = replace(network, stages=(Stage(op=op, channels=16),))
        assert read_again(same, to_strings(same)).digest == same.digest


def test_open_choices_and_unknown_dialects_are_mistakes():
    with pytest.raises(SpaceError, match="decode"):
        to_strings(network_of(Stage(op=MBConv(kernel_size=choice(3, 5)), channels=16)))
    with pytest.raises(SpaceError, match=r"dialect in \('mnasnet', 'timm'\)"):
        to_strings(network_of(Stage(op=MBConv(), channels=16)), "tf")


KERNELS = st.sampled_from([1, 3, 5, 7])
RATIOS = st.sampled_from([0.0, 0.25, 1 / 3, 0.0625, 1.0])
SKIP = st.sampled_from(["identity", "identity", "none", "none", "pool"])
ACTIVATION = st.sampled_from([None, None, None, "relu", "relu6", "swish", "hard_swish", "gelu"])
FIELDS = {"kernel_size": KERNELS, "se_ratio": RATIOS, "skip": SKIP, "activation": ACTIVATION}
EXPANSION = st.one_of(st.integers(1, 8), st.integers(1, 2), st.floats(1, 8))
OPS = st.one_of(
    st.builds(MBConv, expand_ratio=st.integers(1, 6), kernel_size=KERNELS, skip=SKIP),
    st.builds(FusedMBConv, expand_ratio=st.integers(1, 6), se_ratio=RATIOS, skip=SKIP),
    st.builds(MBConv, expand_ratio=EXPANSION, **FIELDS),
    st.builds(FusedMBConv, expand_ratio=EXPANSION, **FIELDS),
    st.builds(DepthwiseSeparable, is_linear=st.booleans(), **FIELDS),
    st.builds(Conv, **FIELDS),
    st.just(Identity()),
)
STAGES = st.builds(
    Stage,
    op=OPS,
    channels=st.sampled_from([8, 12, 16, 24]),
    repeats=st.integers(1, 3),
    stride=st.sampled_from([1, 2]),
)
FORMS = st.builds(
    SqueezeExcite,
    width_of=st.sampled_from(["input", "expanded"]),
    divisor=st.sampled_from([1, 8]),
    activation=st.sampled_from([None, "relu"]),
    gate=st.sampled_from(["sigmoid", "hard_sigmoid"]),
)


@settings(max_examples=500, deadline=None)
@given(
    stages=st.lists(STAGES, min_size=1, max_size=2),
    form=FORMS,
    dialect=st.sampled_from(["mnasnet", "timm"]),
    activation=st.sampled_from(["swish", "relu", "gelu"]),
    is_told=st.booleans(),
)
def test_what_is_written_is_read_as_the_same_network(stages, form, dialect, activation, is_told):
    network = network_of(*stages, squeeze_excite=form, activation=activation, drop_path_rate=0.1)
    strings, complaint = written(network, dialect, form if is_told else PLAIN)
    if strings is None:
        assert re.search(r"dialect cannot say .*: .* in stage[1-3]$", complaint)
        return
    assert read_again(network, strings).digest == network.digest
    if not is_told:
        plain = replace(form, width_of="input", divisor=1)
        assert read_again(replace(network, squeeze_excite=plain), strings).digest == network.digest


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dialect=st.sampled_from(["mnasnet", "timm"]))
def test_every_network_of_the_efficientnet_space_survives(seed, dialect):
    space = efficientnet(resolution=32, num_classes=10, in_channels=1, width=0.5)
    network = space.decode(space.sample(np.random.default_rng(seed)))
    assert read_again(network, to_strings(network, dialect)).digest == network.digest


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dialect=st.sampled_from(["mnasnet", "timm"]))
def test_every_network_of_the_mnasnet_space_survives_or_is_refused_for_its_convolutions(seed, dialect):
    space = mnasnet(resolution=224)
    network = space.decode(space.sample(np.random.default_rng(seed)))
    strings, complaint = written(network, dialect)
    if strings is None:
        assert "Conv(" in complaint
        assert any(isinstance(stage.op, Conv) for stage in network.stages)
    else:
        assert read_again(network, strings).digest == network.digest
