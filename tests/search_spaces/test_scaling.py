"""Compound scaling: the formula, the single dimensions, the limits, and the paper's Table 3."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import (
    EFFICIENTNET_LITE_RULE,
    EFFICIENTNET_V2_RULE,
    MNASNET_RULE,
    Rule,
    Scaling,
    SpaceError,
    apply_scaling,
    build,
    compound,
    cost,
    largest_phi,
    member,
    memory,
    reference,
    round_channels,
    scale,
)

B0 = reference("efficientnet_b0")


def gigamacs(network):
    return cost(network).macs / 1e9


def test_the_formula_at_phi_1_gives_its_bases():
    scaled = scale(B0, phi=1)
    assert scaled.resolution == 258  # 224 * 1.15 = 257.6
    assert [stage.repeats for stage in scaled.stages] == [2, 3, 3, 4, 4, 5, 2]  # 1.2 times, rounded up
    assert [stage.channels for stage in scaled.stages] == [
        round_channels(1.1 * s.channels) for s in B0.stages
    ]
    assert (scaled.stem.channels, scaled.head.channels) == (32, 1408)


def test_phi_0_changes_nothing():
    assert scale(B0, phi=0) == B0


def test_the_factors_at_phi_7_are_the_bases_to_the_seventh_power():
    seven = compound(7)
    assert (seven.width, seven.depth) == (pytest.approx(1.949, abs=5e-4), pytest.approx(3.583, abs=5e-4))
    assert 224 * seven.resolution == pytest.approx(596, abs=0.5)
    assert compound(1).nominal_factor == pytest.approx(1.9203, abs=5e-5)


@pytest.mark.parametrize(
    ("size", "width", "depth", "resolution", "dropout"),
    [
        ("b1", 1.0, 1.1, 240, 0.2),
        ("b3", 1.2, 1.4, 300, 0.3),
        ("b7", 2.0, 3.1, 600, 0.5),
    ],
)
def test_the_published_table_is_reached_by_its_own_factors(size, width, depth, resolution, dropout):
    scaled = scale(B0, width=width, depth=depth, resolution=resolution / 224)
    published = reference(f"efficientnet_{size}")
    assert replace(scaled, head=replace(scaled.head, dropout=dropout)) == published


@pytest.mark.parametrize(
    ("factors", "expected"),
    [({}, 0.39), ({"depth": 4.0}, 1.58), ({"width": 2.0}, 1.45), ({"resolution": 2.0}, 1.54)],
)
def test_single_dimensions_of_b0_cost_what_table_7_costs_in_multiply_adds(factors, expected):
    scaled = scale(B0, **factors) if factors else B0
    assert gigamacs(scaled) == pytest.approx(expected, abs=0.006)


def test_compound_scaling_of_b0_by_table_7_is_b3_but_for_its_resolution():
    compound_row = scale(B0, depth=1.4, width=1.2, resolution=1.3, resolution_multiple=4)
    assert compound_row.resolution == 292
    assert cost(compound_row).params == cost(reference("efficientnet_b3")).params


TABLE_3 = [
    ("mobilenet_v1", {}, 1, 0.57),
    ("mobilenet_v1", {"width": 2.0}, 1, 2.22),
    ("mobilenet_v1", {"resolution": 2.0}, 1, 2.27),
    ("mobilenet_v1", {"depth": 1.4, "width": 1.2, "resolution": 1.3}, 32, 2.24),
    ("mobilenet_v1", {"depth": 1.4, "width": 1.2, "resolution": 1.3}, 1, 2.47),
    ("mobilenet_v2", {}, 1, 0.30),
    ("mobilenet_v2", {"depth": 4.0}, 1, 1.22),
    ("mobilenet_v2", {"width": 2.0}, 1, 1.14),
    ("mobilenet_v2", {"resolution": 2.0}, 1, 1.20),
    ("mobilenet_v2", {"depth": 1.4, "width": 1.2, "resolution": 1.3}, 32, 1.28),
    ("resnet50", {}, 1, 4.09),
    ("resnet50", {"depth": 4.0}, 1, 14.6),
    ("resnet50", {"width": 2.0}, 1, 16.1),
    ("resnet50", {"resolution": 2.0}, 1, 16.35),
    ("resnet50", {"depth": 1.4, "width": 1.2, "resolution": 1.3}, 1, 15.9),
]
"""Network, factors, multiple of the resolution, 1e9 multiply-adds as counted, not as the paper prints."""


@pytest.mark.parametrize(("name", "factors", "multiple", "expected"), TABLE_3)
def test_table_3_of_the_paper_has_these_multiply_adds(name, factors, multiple, expected):
    network = reference(name)
    scaled = scale(network, **factors, resolution_multiple=multiple) if factors else network
    assert gigamacs(scaled) == pytest.approx(expected, rel=0.006)


def test_a_side_that_32_does_not_divide_costs_more_than_its_factor():
    mobilenet = reference("mobilenet_v1")
    scaling = Scaling(depth=1.4, width=1.2, resolution=1.3)
    exact, rounded = (member(mobilenet, scaling, resolution_multiple=multiple) for multiple in (1, 32))
    assert (exact.network.resolution, rounded.network.resolution) == (291, 288)
    per_pixel = [one.macs_factor / one.network.resolution**2 for one in (exact, rounded)]
    assert per_pixel[0] > 1.07 * per_pixel[1]


def test_rules_leave_alone_what_they_say():
    lite = apply_scaling(B0, Scaling(width=1.4, depth=1.8), rule=EFFICIENTNET_LITE_RULE)
    assert (lite.stem.channels, lite.head.channels) == (32, 1280)
    assert [lite.stages[place].repeats for place in (0, 1, -1)] == [1, 4, 1]
    mnasnet = apply_scaling(B0, Scaling(width=0.5, depth=2.0), rule=MNASNET_RULE)
    assert (mnasnet.stem.channels, mnasnet.head.channels) == (16, 1280)
    assert [stage.repeats for stage in mnasnet.stages] == [stage.repeats for stage in B0.stages]


def test_the_second_generation_rounds_without_the_tenth():
    assert round_channels(48 * 1.2) == 56
    narrow = Scaling(width=0.45)
    first, second = (apply_scaling(B0, narrow, rule=rule) for rule in (Rule(), EFFICIENTNET_V2_RULE))
    assert (first.stages[1].channels, second.stages[1].channels) == (16, 8)  # 24 * 0.45 = 10.8


def test_channels_that_are_no_multiples_of_8_stay_at_width_1():
    odd = replace(B0, stages=(replace(B0.stages[0], channels=12), *B0.stages[1:]))
    assert scale(odd, depth=2.0).stages[0].channels == 12


def test_a_scaled_network_is_a_network_like_any_other():
    scaled = scale(replace(B0, resolution=32, num_classes=10), phi=0.5)
    module = build(scaled, seed=0)
    assert sum(parameter.numel() for parameter in module.parameters()) == cost(scaled).params


@given(
    limit=st.sampled_from(["macs", "params", "inference_bytes"]),
    factor=st.floats(0.4, 20.0),
    multiple=st.sampled_from([1, 32]),
)
def test_the_largest_phi_keeps_the_limit_and_the_next_does_not(limit, factor, multiple):
    def costs(network):
        price = cost(network)
        return {
            "macs": price.macs,
            "params": price.params,
            "inference_bytes": memory(network).inference_bytes,
        }[limit]

    most = factor * costs(B0)
    phi = largest_phi(B0, **{limit: most}, resolution_multiple=multiple)
    assert costs(scale(B0, phi=phi, resolution_multiple=multiple)) <= most
    assert costs(scale(B0, phi=phi + 2e-6, resolution_multiple=multiple)) > most


def test_the_largest_phi_keeps_every_limit_at_once():
    phi = largest_phi(B0, macs=2e9, params=9e6, inference_bytes=1e9)
    scaled = scale(B0, phi=phi)
    assert cost(scaled).params <= 9e6
    assert phi < largest_phi(B0, macs=2e9)


def test_a_limit_that_nothing_keeps_is_refused_with_the_costs():
    with pytest.raises(SpaceError, match=r"keeps params <= 1,000: unscaled it has .*params=5,288,548"):
        largest_phi(B0, params=1000)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "phi"),
        ({"phi": 1, "width": 2.0}, "phi"),
        ({"width": 0.0}, "width"),
        ({"width": -1.0}, "width"),
        ({"depth": math.nan}, "depth"),
        ({"resolution": math.inf}, "resolution"),
        ({"width": "2"}, "width"),
        ({"phi": math.nan}, "phi"),
        ({"phi": 1000}, "phi"),
        ({"phi": True}, "phi"),
        ({"phi": 1, "width_base": 0.0}, "width_base"),
        ({"phi": 1, "resolution_multiple": 0}, "resolution_multiple"),
        ({"width": 900.0}, "channels"),
        ({"resolution": 0.02}, "stride"),
    ],
)
def test_scalings_out_of_range_are_refused_by_field(arguments, field):
    with pytest.raises(SpaceError) as error:
        cost(scale(B0, **arguments))
    assert error.value.field == field


def test_a_phi_whose_network_would_be_absurd_is_refused():
    with pytest.raises(SpaceError, match=r"(0 < depth <= 1000|channels=|repeats=|resolution=)"):
        scale(B0, phi=50)


@pytest.mark.parametrize(("limits", "field"), [({"macs": 0}, "macs"), ({"params": math.nan}, "params")])
def test_limits_that_are_none_are_refused_by_field(limits, field):
    with pytest.raises(SpaceError) as error:
        largest_phi(B0, **limits)
    assert error.value.field == field


def test_the_largest_scaling_needs_a_limit():
    with pytest.raises(SpaceError, match="needs a limit"):
        largest_phi(B0)
