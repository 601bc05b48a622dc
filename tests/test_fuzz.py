"""Damaged and lying files are read or refused by an error of ours; `benchmarks/fuzz.py` tries more."""

import random
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.data.decoding import probe

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import fuzz

PARSERS = (
    *("architecture", "recipe", "full recipe", "objective", "objective as text", "preprocessing"),
    *("data description", "controller state", "pack", "arrays", "table of labels", "image", "weights"),
    *("bundle, architecture", "bundle, weights", "file of torch.save", "checkpoint", "journal", "comparison"),
    *("list of trainings", "latency table"),
)


@pytest.fixture(scope="module")
def parsers(tmp_path_factory):
    made = {}
    for group in fuzz.GROUPS:
        made |= group(tmp_path_factory.mktemp(group.__name__))
    return made


def test_every_parser_of_the_program_is_fed_here(parsers):
    assert sorted(parsers) == sorted(PARSERS)


@pytest.mark.parametrize("name", PARSERS)
def test_a_valid_input_is_read(parsers, name):
    for content in parsers[name].seeds:
        if name == "image" and content.startswith(b"%!PS"):
            assert probe(content) is None
        else:
            parsers[name].read(content)


@pytest.mark.filterwarnings("ignore")  # Pillow's, of damaged images
@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_a_damaged_input_is_read_or_refused_by_an_error_of_ours(parsers, name, seed):
    fuzz.try_one(parsers[name], random.Random(seed))


def test_a_parser_that_raises_what_is_not_ours_is_noticed():
    def broken(content):
        raise KeyError(content)

    with pytest.raises(KeyError):
        fuzz.try_one(fuzz.Parser(seeds=(b"{}",), read=broken), random.Random(0))


def test_changes_of_an_input_are_those_of_their_seed():
    seed = b'{"a": [1, 2, {"b": null}]}' * 1
    changed = {fuzz.mutated(seed, random.Random(number), is_json=True) for number in range(200)}
    again = {fuzz.mutated(seed, random.Random(number), is_json=True) for number in range(200)}
    assert changed == again
    assert len(changed) > 100
