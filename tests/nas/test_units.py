import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import UsageError
from nas.units import (
    hint,
    one_of,
    parse_bases,
    parse_bytes,
    parse_count,
    parse_finalists,
    parse_fraction,
    parse_hours,
    parse_milliseconds,
    parse_natural,
    parse_number,
    parse_phis,
    parse_positive_int,
    parse_rungs,
    parse_seconds,
    show_bytes,
    show_count,
    show_number,
    show_seconds,
    show_share,
)


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (parse_count, "30M", 30e6),
        (parse_count, "2.5G", 2.5e9),
        (parse_count, "1e6", 1e6),
        (parse_count, "300_000", 300_000),
        (parse_count, "0.5 m", 5e5),
        (parse_milliseconds, "5ms", 5.0),
        (parse_milliseconds, "5", 5.0),
        (parse_milliseconds, "0.01s", 10.0),
        (parse_milliseconds, "800us", 0.8),
        (parse_bytes, "2GiB", 2 * 1024**3),
        (parse_bytes, "500MB", 500e6),
        (parse_seconds, "30", 30.0),
        (parse_seconds, "2min", 120.0),
        (parse_fraction, "0.75", 0.75),
        (parse_hours, "90min", 1.5),
        (parse_hours, "2d", 48.0),
        (parse_hours, "1.5", 1.5),
    ],
)
def test_a_quantity_is_read_with_its_unit(read, text, value):
    assert read(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["0", "-3M", "M", "30X", "", "1 000", "nan", "inf", "1e999", "5ms"])
def test_what_is_no_positive_count_is_an_error(text):
    with pytest.raises(UsageError):
        parse_count(text)


@pytest.mark.parametrize(
    ("show", "value", "text"),
    [
        (show_count, 29_840_000, "29.8M"),
        (show_count, 999_600, "1.00M"),
        (show_count, 812, "812"),
        (show_number, 0.91324, "0.9132"),
        (show_number, 29_840_000, "29.8M"),
        (show_bytes, 2**29, "512 MiB"),
        (show_bytes, 12, "12 B"),
        (show_seconds, 8.04, "8.0 s"),
        (show_seconds, 245, "4 min 05 s"),
        (show_seconds, 7800, "2 h 10 min"),
        (show_share, 0.413, "41 %"),
        (show_share, 0.0021, "0.21 %"),
    ],
)
def test_a_quantity_is_printed_with_its_unit(show, value, text):
    assert show(value) == text


def test_percent_are_no_fraction():
    with pytest.raises(UsageError, match="divide percent by 100"):
        parse_fraction("75")


def test_a_target_of_zero_says_that_it_must_be_greater_than_zero():
    with pytest.raises(UsageError, match="greater than 0 and finite, but got '0'"):
        parse_count("0")


def test_an_unknown_unit_is_answered_with_the_known_ones():
    with pytest.raises(UsageError, match="units: ns, us, µs, ms, s"):
        parse_milliseconds("5 parsec")


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (parse_positive_int, "0"),
        (parse_positive_int, "1.5"),
        (parse_natural, "-1"),
        (parse_finalists, "-1"),
        (parse_finalists, "automatic"),
        (parse_number, "-0.1"),
        (parse_number, "nan"),
    ],
)
def test_numbers_out_of_range_are_errors(read, text):
    with pytest.raises(UsageError):
        read(text)


def test_finalists_are_counted_or_left_to_the_search():
    assert parse_finalists("auto") == "auto"
    assert parse_finalists("3") == 3


def test_a_near_miss_is_answered_with_the_word_that_was_meant():
    read = one_of("controller", ("reinforce", "ppo", "random"))
    assert read("ppo") == "ppo"
    with pytest.raises(UsageError, match="no controller 'renforce': did you mean reinforce"):
        read("renforce")


def test_a_word_that_is_near_to_nothing_is_answered_with_all_there_are():
    assert hint("zzz", ("hard", "soft")) == "there are hard, soft"


READERS = (parse_count, parse_milliseconds, parse_seconds, parse_fraction, parse_bytes, parse_hours,
           parse_natural, parse_number, parse_positive_int, parse_phis, parse_rungs, parse_bases)  # fmt: skip
NUMBERLIKE = st.text(alphabet="0123456789_.,eE+-xXinfaMGhs \u0663\u00b2", max_size=12)


@pytest.mark.parametrize("read", READERS)
@given(
    text=NUMBERLIKE
    | st.text(max_size=8)
    | st.sampled_from(["1__0", "1_", "1e999", "9" * 5000, "1..1e9", "-0"])
)
def test_whatever_is_typed_for_a_number_is_finite_or_refused(read, text):
    try:
        value = read(text)
    except UsageError:
        return
    assert all(math.isfinite(one) for one in (value if isinstance(value, tuple) else (value,)))


@pytest.mark.parametrize("text", [str(2**63), str(2**64), "9" * 5000, "-1", "1.5", "True", "nan"])
def test_a_seed_that_no_journal_can_hold_is_refused(text):
    with pytest.raises(UsageError, match=r"an integer from 0 to 2\*\*63 - 1 is needed"):
        parse_natural(text)


def test_a_range_of_phis_without_end_is_refused():
    assert len(parse_phis("1..100")) == 100
    with pytest.raises(UsageError, match="at most 100 phis"):
        parse_phis("1..1000000000000")
