"""Scaling in a direction to a real cost: the tolerance, the dimensions left alone, and what is impossible."""

import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from search_spaces import (
    DIRECTIONS,
    EFFICIENTNET_LITE_RULE,
    EFFICIENTNET_RULE,
    EFFICIENTNET_V2_RULE,
    MNASNET_RULE,
    Conv,
    Direction,
    Head,
    Network,
    SpaceError,
    Stage,
    cost,
    distinct,
    efficientnet,
    largest,
    lattice,
    lattice_members,
    match,
    memory,
    reference,
    scale,
    small,
)

B0 = reference("efficientnet_b0")
SMALL = efficientnet(resolution=32, num_classes=10, width=0.5).reference
TINY = small(resolution=32).reference
NETWORKS = (
    B0,
    SMALL,
    TINY,
    replace(reference("mobilenet_v2"), resolution=32),
    replace(reference("resnet50"), resolution=64),
    reference("mobilenet_v1"),
)
RULES = (EFFICIENTNET_RULE, EFFICIENTNET_V2_RULE, EFFICIENTNET_LITE_RULE, MNASNET_RULE)

directions = st.one_of(
    st.sampled_from(lattice()),
    st.sampled_from(tuple(DIRECTIONS.values())),
    st.tuples(*[st.integers(0, 20)] * 3)
    .filter(any)
    .map(lambda one: Direction(**dict(zip(("depth", "width", "resolution"), shares_of(one), strict=True)))),
)


def shares_of(numbers):
    return tuple(number / sum(numbers) for number in numbers)


def macs(network):
    return cost(network).macs


def layers(network):
    return [stage.repeats for stage in network.stages]


def channels(network):
    return [network.stem.channels, *(stage.channels for stage in network.stages), network.head.channels]


def matched_or_field(network, direction, **asked):
    try:
        return match(network, direction, **asked)
    except SpaceError as error:
        return error.field


@settings(deadline=None, max_examples=40)
@given(
    network=st.sampled_from(NETWORKS),
    direction=directions,
    factor=st.floats(0.3, 10.0),
    rule=st.sampled_from(RULES),
    multiple=st.sampled_from([1, 1, 8]),
)
def test_a_match_costs_its_target_and_leaves_alone_what_has_no_share(
    network, direction, factor, rule, multiple
):
    target = factor * macs(network)
    asked = {"target": target, "rule": rule, "resolution_multiple": multiple}
    found = matched_or_field(network, direction, **asked)
    if isinstance(found, str):
        assert found in ("target", "direction")
        return
    scaled = found.network
    assert found.cost == macs(scaled) == pytest.approx(target, rel=0.03)
    assert found.error == pytest.approx(macs(scaled) / target - 1)
    assert found == match(network, direction, **asked)
    if not direction.depth:
        assert layers(scaled) == layers(network)
    if not direction.width:
        assert channels(scaled) == channels(network)
    if not direction.resolution:
        assert scaled.resolution == network.resolution
    sign = 1 if target >= macs(network) else -1
    assert all(
        sign * (after - before) >= 0 for after, before in zip(layers(scaled), layers(network), strict=True)
    )
    assert sign * (scaled.resolution - network.resolution) >= 0
    assert scaled.resolution in (network.resolution, scaled.resolution // multiple * multiple)
    for stage, before in zip(scaled.stages, network.stages, strict=True):
        assert stage.channels == before.channels or stage.channels % rule.divisor == 0


@pytest.mark.slow
@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("network", NETWORKS)
def test_nearly_every_direction_of_the_lattice_is_matched_on_large_and_small_networks(network, factor):
    found = lattice_members(network, target=factor * macs(network))
    assert len(found.members) + len(found.coinciding) >= 19
    assert all(abs(one.error) <= 0.03 for one in found.members)
    assert len({one.network.digest for one in found.members}) == len(found.members)


def test_every_direction_of_a_lattice_is_a_member_a_duplicate_or_unmatched_with_its_reason():
    found = lattice_members(TINY, target=2 * macs(TINY))
    everything = {one.direction for one in found.members}
    everything |= {left for left, _ in found.coinciding} | {left for left, _ in found.unmatched}
    assert everything == set(lattice())
    assert all("nearest costs" in reason for _, reason in found.unmatched)


def test_the_nominal_double_of_b0_costs_far_more_and_the_match_does_not():
    assert macs(scale(B0, phi=1)) > 2.5 * macs(B0)
    assert match(B0, "efficientnet", target=2 * macs(B0)).error == pytest.approx(0, abs=0.01)


def test_the_layers_of_a_match_are_near_to_the_shares_of_the_direction():
    found = match(B0, "efficientnet", target=4 * macs(B0))
    asked = DIRECTIONS["efficientnet"]
    logs = [
        math.log(found.scaling.depth),
        2 * math.log(found.scaling.width),
        2 * math.log(found.scaling.resolution),
    ]
    assert [one / sum(logs) for one in logs] == pytest.approx(asked.shares, abs=0.04)


def test_the_second_generation_adds_layers_late_and_stops_at_480_pixels():
    plain, late = (match(B0, name, target=40 * macs(B0)).network for name in ("efficientnet", "v2"))
    assert plain.resolution > 480 == late.resolution
    middle = len(B0.stages) // 2
    growth = [after / before for after, before in zip(layers(late), layers(B0), strict=True)]
    assert sum(growth[-middle:]) > 1.5 * sum(growth[:middle])


def test_any_price_can_be_matched():
    def price(network):
        return memory(network).inference_bytes

    found = match(B0, "uniform", target=2.0 * price(B0), price=price)
    assert found.cost == price(found.network) == pytest.approx(2.0 * price(B0), rel=0.03)


def test_a_baseline_that_costs_its_target_stays_as_it_is():
    assert match(B0, "efficientnet", target=macs(B0)).network == B0


def test_a_rule_that_leaves_the_layers_alone_refuses_directions_with_depth():
    with pytest.raises(SpaceError, match=r"share of depth, 0.1, but the rule leaves") as error:
        match(B0, "fast", target=2 * macs(B0), rule=MNASNET_RULE)
    assert error.value.field == "direction"
    assert match(B0, "width", target=2 * macs(B0), rule=MNASNET_RULE).error < 0.03


def chain(*stages):
    return Network(
        stem=Stage(op=Conv(kernel_size=3), channels=16, stride=2),
        stages=stages,
        head=Head(channels=64),
        resolution=64,
        num_classes=10,
    )


def test_networks_whose_only_stages_are_the_ends_that_a_rule_leaves_have_no_depth():
    two = chain(*(Stage(op=Conv(kernel_size=3), channels=32) for _ in range(2)))
    with pytest.raises(SpaceError, match="between the first and the last") as error:
        match(two, "depth", target=2 * macs(two), rule=EFFICIENTNET_LITE_RULE)
    assert error.value.field == "direction"


def test_a_network_of_single_layers_cannot_lose_any():
    two = chain(*(Stage(op=Conv(kernel_size=3), channels=32) for _ in range(2)))
    with pytest.raises(SpaceError, match="no stage has a layer to lose") as error:
        match(two, "depth", target=0.5 * macs(two))
    assert error.value.field == "direction"


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """A convolution that only the first layer of a stage may be."""

    def check(self):
        """Has no fields."""

    def label(self):
        """Its name."""
        return "Once"

    def layers(self, context):
        """A convolution to other channels."""
        if context.in_channels == context.out_channels:
            raise SpaceError("Once must change the channels")
        return context.convolution(context.out_channels, 3, stride=context.stride)


def test_a_stage_that_must_not_repeat_keeps_its_layer_and_others_get_more():
    mixed = chain(Stage(op=Once(), channels=32), Stage(op=Conv(kernel_size=3), channels=40, repeats=4))
    found = match(mixed, "depth", target=3 * macs(mixed), tolerance=0.1)
    assert layers(found.network)[0] == 1
    single = chain(Stage(op=Once(), channels=32))
    with pytest.raises(SpaceError, match="no stage can have another layer") as error:
        match(single, "depth", target=2 * macs(single))
    assert error.value.field == "direction"


def test_a_cost_that_no_rounding_reaches_is_refused_with_the_nearest_and_the_remedy():
    with pytest.raises(
        SpaceError, match=r"nearest costs [\d,]+ \([+-][\d.]+ %\); choose a cost near that"
    ) as error:
        match(B0, "resolution", target=1.5 * macs(B0), resolution_multiple=128)
    assert error.value.field == "target"
    assert "smaller multiple" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"target": 0}, "target"),
        ({"target": math.nan}, "target"),
        ({"target": True}, "target"),
        ({"target": 1e9, "tolerance": 0}, "tolerance"),
        ({"target": 1e9, "tolerance": 1}, "tolerance"),
        ({"target": 1e9, "resolution_multiple": 0}, "resolution_multiple"),
    ],
)
def test_goals_out_of_range_are_refused_by_field(changes, field):
    for scaled in (lambda: match(B0, "fast", **changes), lambda: lattice_members(B0, **changes)):
        with pytest.raises(SpaceError) as error:
            scaled()
        assert error.value.field == field


@pytest.mark.parametrize("direction", ["depth", "width", "resolution", "fast", "v2"])
def test_costs_that_no_network_can_have_are_refused(direction):
    for target in (1.0, 1e30):
        with pytest.raises(SpaceError) as error:
            match(SMALL, direction, target=target)
        assert error.value.field == "target"


@settings(deadline=None, max_examples=20)
@given(
    direction=directions,
    name=st.sampled_from(["macs", "params", "inference_bytes"]),
    factor=st.floats(1.0, 6.0),
)
def test_the_largest_in_a_direction_keeps_the_limit_and_grows_with_it(direction, name, factor):
    assume((direction.resolution, name) != (1, "params"))  # they do not grow with the side

    def costs(network):
        return {
            "macs": macs(network),
            "params": cost(network).params,
            "inference_bytes": memory(network).inference_bytes,
        }[name]

    found = largest(SMALL, direction, **{name: factor * costs(SMALL)})
    assert costs(found.network) <= factor * costs(SMALL)
    assert macs(found.network) >= macs(SMALL)
    assert found.cost == pytest.approx(costs(found.network) / (factor * costs(SMALL)))


def test_the_largest_in_a_direction_comes_near_to_its_limits_and_shrinks_a_network_that_breaks_them():
    found = largest(B0, "efficientnet", macs=1e9, params=9e6)
    assert max(macs(found.network) / 1e9, cost(found.network).params / 9e6) == pytest.approx(1, abs=0.03)
    small = largest(B0, "uniform", params=3e6)
    assert 2.7e6 < cost(small.network).params <= 3e6


def test_limits_that_nothing_in_a_direction_keeps_are_refused_with_the_costs():
    with pytest.raises(SpaceError, match=r"keeps params <= 1,000: unscaled it has .*params=5,288,548"):
        largest(B0, "fast", params=1000)
    with pytest.raises(SpaceError, match="needs a limit"):
        largest(B0, "fast")
    with pytest.raises(SpaceError) as error:
        largest(B0, "fast", macs=-1)
    assert error.value.field == "macs"


def test_equal_networks_are_kept_once_and_named():
    side_is_stuck = replace(B0, resolution=32)  # 33 pixels cost twice as much
    found = lattice_members(side_is_stuck, target=2 * macs(side_is_stuck))
    assert found.coinciding
    kept = {one.direction for one in found.members}
    assert all(first in kept and left not in kept for left, first in found.coinciding)
    one = found.members[0]
    assert distinct([one, replace(one, direction=DIRECTIONS["fast"])]) == (
        (one,),
        ((DIRECTIONS["fast"], one.direction),),
    )


def test_scale_takes_a_direction_with_multiply_adds_or_with_phi():
    assert macs(scale(B0, direction="fast", macs=800e6)) == pytest.approx(800e6, rel=0.03)
    assert macs(scale(B0, direction="0.2,0.5,0.3", phi=2)) == pytest.approx(4 * macs(B0), rel=0.03)
    assert scale(B0, macs=800e6) == scale(B0, direction="efficientnet", macs=800e6)
    assert macs(scale(B0, direction="width", phi=-1)) == pytest.approx(macs(B0) / 2, rel=0.03)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"direction": "fast"}, "phi"),
        ({"direction": "fast", "phi": 1, "macs": 1e9}, "phi"),
        ({"direction": "fast", "width": 2.0}, "direction"),
        ({"direction": "fast", "phi": 1, "depth_base": 1.3}, "direction"),
        ({"direction": "quick", "macs": 1e9}, "direction"),
        ({"direction": "fast", "phi": math.nan}, "phi"),
        ({"macs": 0}, "macs"),
        ({"macs": "1G"}, "macs"),
        ({"direction": "resolution", "macs": 6e8, "resolution_multiple": 128}, "macs"),
    ],
)
def test_directions_that_do_not_go_together_are_refused_by_field(arguments, field):
    with pytest.raises(SpaceError) as error:
        scale(B0, **arguments)
    assert error.value.field == field
