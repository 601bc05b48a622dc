import math
from dataclasses import replace

import pytest

from nas import InfeasibleError, InlineExecutor, TableEvaluator
from nas.errors import SearchStoppedError, SpaceArgumentError, StudyError
from nas.evaluation.family import Family
from nas.evaluation.scaled_networks import ScalingPlan
from nas.evaluation.scaling_law import middle
from nas.evaluation.scaling_search import LOG, ScalingSetting, search_coefficients
from nas.metrics import Goal
from nas.trial import Cause
from search_spaces import DIRECTIONS, cost, reference, small

BASE = small(resolution=64, num_classes=10).reference


def layers(network):
    return sum(stage.repeats for stage in network.stages)


def width(network):
    return sum(stage.channels for stage in network.stages)


def wide_is_best(candidate):
    """Accuracy by width alone: the law must send all growth there."""
    return 0.5 + 0.05 * math.log2(width(candidate.network) / width(BASE))


def setting(look_up=wide_is_best, *, noise=0.002, sides=None, **changes):
    def evaluator(side):
        if sides is not None:
            sides.append(side)
        return TableEvaluator(look_up, noise=noise)

    given = {
        "evaluator": evaluator,
        "executor": InlineExecutor,
        "goal": Goal(metric="accuracy", direction="max"),
        "settings": {"data": "made up"},
    }
    return ScalingSetting(**{**given, **changes})


def test_the_direction_of_a_metric_that_only_width_moves_is_width(tmp_path):
    found = search_coefficients(BASE, setting(), ScalingPlan(parts=3), folder=tmp_path)
    assert found.found.width >= 0.9
    assert found.law is not None
    assert found.law.difference(DIRECTIONS["width"], DIRECTIONS["depth"]).low > 0


def test_members_cost_what_they_should_and_each_is_another_network(tmp_path):
    found = search_coefficients(BASE, setting(), ScalingPlan(parts=4), folder=tmp_path)
    base = cost(BASE).macs
    for one in found.members:
        assert one.cost == cost(one.network).macs
        assert abs(one.cost / (2 * base) - 1) <= 0.03
    assert len({one.network.digest for one in found.members}) == len(found.members)
    assert len(found.members) + sum(len(one.equals) for one in found.members) + len(found.unmatched) == 15


def test_finalists_are_repeated_and_hold_the_known_directions(tmp_path):
    found = search_coefficients(BASE, setting(), ScalingPlan(parts=3, finalists=2, seeds=3), folder=tmp_path)
    assert found.finalist(DIRECTIONS["efficientnet"]) is not None
    assert found.finalist(DIRECTIONS["fast"]) is not None
    assert found.finalist(found.found) is not None
    assert {len(one.values) for one in found.finalists} == {3}
    assert len(found.baseline.values) == 3
    assert len(set(found.baseline.values)) == 3


def test_a_finished_search_trains_nothing_again(tmp_path):
    plan = ScalingPlan(parts=3, curve_factors=(2.0,))
    first = search_coefficients(BASE, setting(), plan, folder=tmp_path)

    def refuse(candidate):
        raise AssertionError(candidate.network.digest)

    again = search_coefficients(BASE, setting(refuse), plan, folder=tmp_path)
    assert again == first


def test_a_stopped_search_continues_to_the_result_of_one_that_was_not_stopped(tmp_path):
    plan = ScalingPlan(parts=3)
    whole = search_coefficients(BASE, setting(), plan, folder=tmp_path / "whole")
    count = 0

    def stop_at_the_eighth(candidate):
        nonlocal count
        count += 1
        if count == 8:
            raise KeyboardInterrupt
        return wide_is_best(candidate)

    with pytest.raises(KeyboardInterrupt):
        search_coefficients(BASE, setting(stop_at_the_eighth), plan, folder=tmp_path / "parts")
    assert search_coefficients(BASE, setting(), plan, folder=tmp_path / "parts") == whole


def test_further_seeds_finer_lattices_and_curves_build_on_what_is_there(tmp_path):
    search_coefficients(BASE, setting(), ScalingPlan(parts=2, seeds=1), folder=tmp_path)
    before = (tmp_path / LOG).read_text().count('"key"')
    seen = []

    def count(candidate):
        seen.append(candidate.network.digest)
        return wide_is_best(candidate)

    plan = ScalingPlan(parts=4, seeds=2, curve_factors=(2.0, 4.0))
    search_coefficients(BASE, setting(count), plan, folder=tmp_path)
    after = (tmp_path / LOG).read_text().count('"key"')
    assert after == before + len(seen)


def test_curves_begin_at_the_baseline_and_grow_in_one_dimension_alone(tmp_path):
    plan = ScalingPlan(parts=2, curve_factors=(2.0, 4.0), seeds=1)
    curves = search_coefficients(BASE, setting(), plan, folder=tmp_path).curves
    named = {curve.name: curve for curve in curves if curve.figure == 3}
    assert set(named) == {"depth", "width", "resolution", "found", "efficientnet", "fast"}
    for curve in named.values():
        assert curve.points[0].network == BASE
        assert [round(one.cost_factor) for one in curve.points] == [1, 2, 4]
    for one in named["depth"].points:
        assert (width(one.network), one.network.resolution) == (width(BASE), 64)
    for one in named["width"].points:
        assert (layers(one.network), one.network.resolution) == (layers(BASE), 64)
    for one in named["resolution"].points:
        assert (layers(one.network), width(one.network)) == (layers(BASE), width(BASE))
    wider = {curve.name: curve for curve in curves if curve.figure == 4}
    assert set(wider) == {"deeper", "larger images", "both"}
    start, more = wider["deeper"].points
    assert layers(start.network) == layers(more.network) > layers(BASE)
    assert width(more.network) > width(start.network) == width(BASE)


def test_images_are_read_once_at_each_side_that_is_trained_at(tmp_path):
    sides = []
    found = search_coefficients(BASE, setting(sides=sides), ScalingPlan(parts=3), folder=tmp_path)
    trained = {one.network.resolution for one in (*found.members, *found.finalists, found.baseline)}
    assert sorted(sides) == sorted(trained)


def test_a_network_that_fails_is_left_out_and_said(tmp_path):
    def deep_fails(candidate):
        if layers(candidate.network) > 1.8 * layers(BASE):
            raise InfeasibleError(Cause.DIVERGED, "diverged")
        return wide_is_best(candidate)

    found = search_coefficients(BASE, setting(deep_fails), ScalingPlan(parts=3), folder=tmp_path)
    failed = [one for one in found.members if one.failures]
    assert failed
    assert all(one.mean is None and "diverged" in one.failures[0] for one in failed)
    assert found.found.width >= 0.9


def test_a_metric_of_which_less_is_better_finds_the_least(tmp_path):
    goal = Goal(metric="loss", direction="min")
    loss = setting(lambda one: {"loss": 3 - 4 * wide_is_best(one)}, noise=0.0, goal=goal)
    found = search_coefficients(BASE, loss, ScalingPlan(parts=3), folder=tmp_path)
    assert found.found.width >= 0.9


def test_a_price_of_ones_own_is_what_members_are_matched_by(tmp_path):
    def params(network):
        return cost(network).params

    priced = setting(price=params, cost_name="params")
    found = search_coefficients(BASE, priced, ScalingPlan(parts=2), folder=tmp_path)
    for one in found.members:
        assert abs(params(one.network) / (2 * params(BASE)) - 1) <= 0.03
    assert any(name.startswith("resolution") for name in found.unmatched)


def test_trainings_that_all_fail_end_the_search(tmp_path):
    def fail(_):
        raise InfeasibleError("no luck")

    with pytest.raises(SearchStoppedError, match="no luck"):
        search_coefficients(BASE, setting(fail), ScalingPlan(parts=3), folder=tmp_path)


def test_a_folder_of_another_networks_trainings_is_refused(tmp_path):
    search_coefficients(BASE, setting(), ScalingPlan(parts=2, seeds=1), folder=tmp_path)
    other = replace(reference("mobilenet_v2"), resolution=32, num_classes=10)
    with pytest.raises(StudyError, match="network"):
        search_coefficients(other, setting(), ScalingPlan(parts=2, seeds=1), folder=tmp_path)


def test_a_lattice_of_too_few_networks_says_which_coincide_or_cannot_be_made(tmp_path):
    tiny = replace(BASE, stages=(replace(BASE.stages[0], stride=2),), resolution=8)
    with pytest.raises(SpaceArgumentError, match="lattice") as caught:
        search_coefficients(tiny, setting(), ScalingPlan(parts=1, cost_factor=1.05), folder=tmp_path)
    assert caught.value.field == "parts"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"cost_factor": 1.0}, "cost_factor"),
        ({"cost_factor": math.nan}, "cost_factor"),
        ({"curve_factors": (2.0, 0.5)}, "curves"),
        ({"parts": 0}, "parts"),
        ({"seeds": 0}, "seeds"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"finalists": -1}, "finalists"),
    ],
)
def test_a_plan_out_of_range_is_refused(given, field):
    with pytest.raises(SpaceArgumentError) as caught:
        ScalingPlan(**given)
    assert caught.value.field == field


def test_a_network_that_several_directions_give_counts_in_the_middle_of_them():
    one, other = DIRECTIONS["width"], DIRECTIONS["depth"]
    assert middle((one, other)).shares == pytest.approx((0.5, 0.5, 0.0))
    assert middle((DIRECTIONS["fast"],)).shares == pytest.approx(DIRECTIONS["fast"].shares)


def test_a_point_of_a_curve_is_the_matched_network_where_there_is_one(tmp_path):
    plan = ScalingPlan(parts=2, seeds=1, curve_factors=(2.0,))
    found = search_coefficients(BASE, setting(), plan, folder=tmp_path)
    points = {curve.name: curve.points[-1] for curve in found.curves if curve.figure == 3}
    finalists = {one.name: one for one in found.finalists}
    for name in ("efficientnet", "fast"):
        assert points[name].network == finalists[name].network


def test_a_family_grows_by_the_price_that_a_search_held_equal():
    def params(network):
        return cost(network).params

    family = Family(baseline=BASE, direction=DIRECTIONS["width"], price=params, tolerance=0.15)
    assert params(family.at(1).member.network) == pytest.approx(2 * params(BASE), rel=0.15)
