import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nas
from nas.argument_checks import flag, real, seed_of, whole
from nas.errors import DataError, NasError, UsageError
from nas.study.study import open_study


def search(a_space, folder, **options):
    given = {
        "space": a_space,
        "evaluator": nas.TableEvaluator(lambda candidate: 0.5 + candidate.job.trial / 100),
        "controller": "random",
        "trials": 3,
        "executor": "inline",
        "out": folder,
    }
    return nas.search(**{**given, **options})


NO_INTEGERS = ("4", 2.5, 4.0, True, math.nan, [4], object(), Decimal(4), b"4")
WRONG = [
    *(("trials", value) for value in (*NO_INTEGERS, 0, -1)),
    *(("patience", value) for value in (*NO_INTEGERS, 0, -3)),
    *(("workers", value) for value in (*NO_INTEGERS, 0, -1, None)),
    *(("finalists", value) for value in (*NO_INTEGERS, -1, None)),
    *(("keep_best", value) for value in (*NO_INTEGERS, -1, None)),
    *(("seed", value) for value in (*NO_INTEGERS, 2**63, 2**64, 10**5000, -1, np.int64(-1), None)),
    *(("max_hours", value) for value in ("1", True, math.nan, math.inf, 0, -1.0, 1j, 10**400)),
    *(("target_macs", value) for value in ("30M", True, math.nan, math.inf, 0, -1.0)),
    *(("gpus_per_worker", value) for value in ("1", True, math.nan, math.inf, -0.5, None)),
    *(("accuracy_noise", value) for value in ("1", True, math.nan, math.inf, -0.5)),
    *(("deterministic", value) for value in (1, 0, "yes", None)),
    *(("out", value) for value in (None, "", 3, b"runs")),
    *(("objective", value) for value in (3, ["accuracy"])),
    *(("space", value) for value in (None, "mnasnet", 3)),
    *(("enqueue", value) for value in (None, 5, "first", {"a": 1})),
    *(("enqueue", [value]) for value in (5, None, object())),
    *(("warm_start", value) for value in ("runs/a", 3)),
    *(("rungs", value) for value in ((1, 3, 9), "1,3,9")),
    *(("recipe", value) for value in ({"epochs": 1}, "short")),
    *(("settings", value) for value in ([], "a")),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda one: one if isinstance(one, str) else type(one))
def test_a_wrong_argument_is_refused_by_name_before_anything_is_made(tmp_path, small_space, name, value):
    folder = tmp_path / "study"
    with pytest.raises(NasError) as error:
        search(small_space, folder, **{name: value})
    said = str(error.value)
    assert name in said or f"{name}d candidate 0" in said
    assert "must" in said
    assert "give" in said or "open" in said or "put" in said or "make" in said
    assert not folder.exists()


def test_numbers_of_numpy_are_numbers(tmp_path, small_space):
    study = search(
        small_space,
        tmp_path,
        trials=np.int64(6),
        seed=np.uint64(2**63 - 1),
        workers=np.int32(1),
        max_hours=np.float32(1),
        patience=np.array(5),
        keep_best=np.int8(2),
        finalists=np.int64(1),
        target_macs=np.float64(5e5),
        gpus_per_worker=np.float32(0),
        deterministic=np.bool_(True),
        accuracy_noise=np.float16(0.01),
    )
    assert len(study.trials) == 6
    assert open_study(tmp_path).identity.seed == 2**63 - 1
    again = search(small_space, tmp_path, trials=7, seed=2**63 - 1, deterministic=True, target_macs=5e5)
    assert len(again.trials) == 7


@given(st.integers())
def test_a_seed_is_what_a_journal_can_hold(value):
    if 0 <= value < 2**63:
        assert seed_of(value) == value
    else:
        with pytest.raises(UsageError, match=r"`0 <= seed <= 2\*\*63 - 1` must hold"):
            seed_of(value)


ANYTHING = (
    st.floats() | st.integers() | st.booleans() | st.text() | st.none() | st.fractions() | st.decimals()
)


@given(ANYTHING)
def test_a_number_is_converted_or_refused(value):
    is_number = isinstance(value, int | float | Fraction) and not isinstance(value, bool)
    if is_number and 0 <= value < 1 and float(value) < 1:
        assert type(real("share", value, least=0, below=1)) is float
        assert real("share", value, least=0, below=1) == float(value)
    else:
        with pytest.raises(UsageError, match="`0 <= share < 1` must hold"):
            real("share", value, least=0, below=1)


@given(ANYTHING)
def test_an_integer_is_returned_or_refused(value):
    if type(value) is int and value >= 1:
        assert whole("count", value, least=1) == value
    else:
        with pytest.raises(UsageError, match="`count >= 1` must hold"):
            whole("count", value, least=1)


def test_a_flag_is_a_boolean():
    assert flag("fast", np.True_) is True
    with pytest.raises(UsageError, match=r"`fast in \(True, False\)` must hold, but got fast=1"):
        flag("fast", 1)


@pytest.mark.parametrize(
    "wrong",
    [{"seed": -1}, {"seed": 1.5}, {"seed": "0"}, {"search_fraction": "0.2"}, {"test_fraction": math.nan}],
)
def test_numbers_of_a_split_are_checked_too(wrong):
    images, labels = np.zeros((20, 8, 8), dtype=np.uint8), np.arange(20) % 2
    with pytest.raises(DataError, match="must hold"):
        nas.from_arrays(images, labels, **wrong)


@pytest.mark.parametrize("resolution", ["32", 32.5, True, 3, 10**6])
def test_a_resolution_is_an_integer(tmp_path, resolution):
    with pytest.raises(DataError, match="must hold"):
        nas.load_data(tmp_path, resolution=resolution)
