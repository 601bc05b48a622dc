"""Fingerprints of spaces are on disk: a field that is added later must not change them."""

from dataclasses import dataclass, fields

import pytest

import search_spaces
from search_spaces.fingerprints import FIRST_VERSION, counted_fields
from search_spaces.ops import BUILT_IN_OPS

FIRST_FINGERPRINTS = {
    "mnasnet": "70853cd7c73b860b",
    "efficientnet": "0192cb62e90bb65f",
    "efficientnet_v2": "5432b569ade3746a",
    "mobilenet_v3": "d020991ce6d26ec9",
    "resnet": "0522247bda54370e",
    "nas_bench_macro": "50cbc0ad05e9049f",
    "small": "093e3e31c2e55393",
}


@pytest.mark.parametrize("name", FIRST_FINGERPRINTS)
def test_a_ready_made_space_keeps_the_fingerprint_it_had_first(name):
    assert getattr(search_spaces, name)().fingerprint == FIRST_FINGERPRINTS[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    channels: int
    dropout: float = 0.2
    groups: int = 1


@pytest.mark.parametrize(
    ("value", "counted"),
    [
        (Later(channels=8), {"channels": 8, "dropout": 0.2}),
        (Later(channels=8, dropout=0.0), {"channels": 8, "dropout": 0.0}),
        (Later(channels=8, groups=2), {"channels": 8, "dropout": 0.2, "groups": 2}),
    ],
)
def test_a_later_field_counts_only_where_it_is_not_at_its_default(value, counted):
    assert counted_fields(value, ("channels", "dropout")) == counted


def test_all_fields_count_of_a_class_without_a_first_version():
    assert counted_fields(Later(channels=8), None) == {"channels": 8, "dropout": 0.2, "groups": 1}


@pytest.mark.parametrize("cls", FIRST_VERSION, ids=lambda cls: cls.__name__)
def test_no_field_of_the_first_version_has_gone(cls):
    assert set(FIRST_VERSION[cls]) <= {field.name for field in fields(cls)}


def test_every_op_that_was_there_first_has_its_first_fields_written_down():
    first = {"BasicBlock", "Bottleneck", "Conv", "ConvPool", "DepthwiseSeparable", "FusedMBConv", "Identity"}
    assert {op.__name__ for op in BUILT_IN_OPS if op in FIRST_VERSION} == first | {"MBConv"}
