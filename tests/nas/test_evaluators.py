"""Evaluators made of something else, and what they can do beyond the protocol."""

from pathlib import Path

import pytest

import nas
from nas.protocols import ChecksNetworks, HasData, HasNotes, HasRecipe, ResolvesPrecision
from nas.short_form import search
from nas.study.study import open_study


class Plain:
    """An evaluator with nothing beyond the protocol."""

    fingerprint = "plain"

    def prepare(self):
        pass

    def evaluate(self, candidate):  # noqa: ARG002
        return nas.Evaluation(metrics=(nas.Metric(name="accuracy", value=0.5, unit="fraction"),))


class Able(Plain):
    """One with all of it."""

    notes = ("few images",)
    data = recipe = "mine"

    def __init__(self):
        self.checked, self.resolved = [], []

    def check(self, network):
        self.checked.append(network)

    def resolve_precision(self, device, *, threads):
        self.resolved.append((device, threads))


class Meter:
    """A probe."""

    fingerprint = "meter"

    def prepare(self):
        pass

    def measure(self, network):  # noqa: ARG002
        return (nas.Metric(name="latency_ms", value=2.0, unit="ms"),)


CAPABILITIES = (ChecksNetworks, HasData, HasNotes, HasRecipe, ResolvesPrecision)


def test_what_an_evaluator_can_do_is_asked_by_protocol():
    assert not any(isinstance(Plain(), kind) for kind in CAPABILITIES)
    assert all(isinstance(Able(), kind) for kind in CAPABILITIES)


def test_a_pair_can_do_what_its_evaluator_can(small_space):
    able = Able()
    pair = nas.Probed(able, Meter())
    network = small_space.decode((0,) * len(small_space.cardinalities))
    pair.check(network)
    pair.resolve_precision("cpu", threads=2)
    assert (able.checked, able.resolved) == ([network], [("cpu", 2)])
    assert (pair.notes, pair.data, pair.recipe) == (("few images",), "mine", "mine")


def test_a_pair_of_a_plain_evaluator_has_nothing_to_say(small_space):
    pair = nas.Probed(Plain(), Meter())
    network = small_space.decode((0,) * len(small_space.cardinalities))
    assert (pair.check(network), pair.resolve_precision("cpu", threads=1)) == (None, None)
    assert (pair.notes, pair.data, pair.recipe) == ((), None, None)


@pytest.mark.parametrize("with_probe", [False, True])
def test_attributes_of_other_types_count_as_no_data_and_no_recipe(small_space, tmp_path: Path, with_probe):
    evaluator = nas.Probed(Able(), Meter()) if with_probe else Able()
    search(small_space, evaluator=evaluator, controller="random", executor="inline", trials=1, out=tmp_path)
    identity = open_study(tmp_path).identity
    assert (identity.data, identity.split, identity.recipe) == ("", "", "")
