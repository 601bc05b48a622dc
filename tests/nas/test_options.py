"""An option follows from the field that declares it: its name, reader, help and default."""

import argparse
from dataclasses import dataclass
from typing import Literal

import pytest

from nas.cli.adding import add_declared
from nas.errors import UsageError
from nas.options import option, options_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    has_nesterov: bool = option(True, "plain momentum in place of Nesterov's", flag="--no-nesterov")
    swaps: bool = option(True, "keep the order")
    flips: bool = option(False, "mirror images")
    decay: float | None = option(None, "of the weights", metavar="D", default_text="none")
    seed: int = option(0, "of everything", metavar="N")
    kind: Literal["first", "second"] = option("first", "", metavar="NAME")


def parsed(*words):
    parser = argparse.ArgumentParser()
    for one in options_of(Declared).values():
        add_declared(parser, one)
    return {name: value for name, value in vars(parser.parse_args(words)).items() if value is not None}


def test_what_is_true_by_default_is_switched_off_and_what_is_false_on():
    assert parsed("--no-nesterov", "--no-swaps", "--flips") == {
        "has_nesterov": False,
        "swaps": False,
        "flips": True,
    }
    assert parsed() == {}


def test_help_ends_with_the_default_unless_the_option_is_a_switch():
    found = {name: one.help for name, one in options_of(Declared).items()}
    assert found["swaps"] == "keep the order"
    assert found["decay"] == "of the weights (default none)"
    assert found["seed"] == "of everything (default 0)"
    assert found["kind"] == "first, second (default first)"


def test_a_word_among_others_is_read_by_the_type_of_the_field():
    kind = options_of(Declared)["kind"]
    assert kind.read("second") == "second"
    with pytest.raises(UsageError, match="did you mean second"):
        kind.read("secondd")
