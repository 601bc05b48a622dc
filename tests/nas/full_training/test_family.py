from dataclasses import replace
from types import SimpleNamespace

import pytest

from nas.full_training.family import Family, FamilyNetwork
from nas.full_training.family_display import comparisons, draw_family, family_table
from nas.latency.session import Timing
from nas.metrics import Goal
from search_spaces import cost, small

BASE = small(resolution=32, num_classes=10).reference
WIDE = replace(BASE, stages=tuple(replace(stage, channels=2 * stage.channels) for stage in BASE.stages))


def network(name, architecture, values, ms, *, is_reference=False):
    samples = tuple(ms * factor for factor in (0.99, 1.0, 1.01, 1.0, 0.99, 1.0, 1.01, 1.0))
    return FamilyNetwork(
        name=name,
        network=architecture,
        is_reference=is_reference,
        trained=tuple(SimpleNamespace(value=value, bundle=f"{name}/bundle") for value in values),
        timing=Timing(name=name, samples_ms=samples, normalised_ms=samples, calls=3, is_settled=True),
    )


def family(*references, metric="accuracy", direction="max"):
    members = (network("one", BASE, (0.60, 0.62), 1.0), network("two", WIDE, (0.70, 0.72), 2.0))
    goal = Goal(metric=metric, direction=direction)
    return Family(goal=goal, networks=(*members, *references), repeat_error=0.01)


def test_a_reference_is_compared_with_the_smallest_member_that_is_as_good():
    (found,) = family(network("other", WIDE, (0.60, 0.60), 3.0, is_reference=True)).at_equal()
    assert found.member.name == "one"
    assert found.macs_ratio == pytest.approx(cost(WIDE).macs / cost(BASE).macs)
    assert found.params_ratio == pytest.approx(cost(WIDE).params / cost(BASE).params)
    assert found.latency.ratio == pytest.approx(3.0)
    (said,) = comparisons(family(network("other", WIDE, (0.60, 0.60), 3.0, is_reference=True)))
    assert "one is at least as good as other" in said
    assert "faster (x3.00" in said


def test_a_reference_that_no_member_reaches_is_said():
    (said,) = comparisons(family(network("other", BASE, (0.9,), 1.0, is_reference=True)))
    assert said == "no member is as good as other (0.9000)"


def test_equal_sizes_are_said_to_be_as_many():
    (said,) = comparisons(family(network("other", BASE, (0.60,), 1.0, is_reference=True)))
    assert "with as many params and as many macs, and is as fast" in said


def test_of_a_metric_of_which_less_is_better_the_least_is_good():
    found = family(network("other", BASE, (0.65,), 1.0, is_reference=True), metric="rmse", direction="min")
    assert found.at_equal()[0].member.name == "one"


def test_the_table_and_the_picture_have_every_network(tmp_path):
    every = family(network("other", WIDE, (0.60,), 3.0, is_reference=True))
    rows = family_table(every).rows
    assert [row["name"] for row in rows] == ["one", "two", "other"]
    assert rows[0]["mean"] == pytest.approx(0.61)
    assert rows[2]["deviation"] is None
    text = draw_family(every, tmp_path / "family.svg", title="a family").read_text()
    assert "1 one   2 two   3 other" in text.replace("\u00a0", " ")
