# ruff: noqa: ARG001, ARG002, ARG005 - what stands for a user's own has arguments that it does not need

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nas
from nas.errors import DataError, NasError, UsageError
from nas.execution.inline_executor import InlineExecutor
from nas.study.study import open_study
from nas.values import flag, real, seed_of, whole

LIMITS = {"trials", "max_hours", "patience", "finalists"}
RUN = {"out", "enqueue", "warm_start", "reporters", "executor", "settings"}
CHECKED = RUN - {"settings"}


def accuracy(candidate):
    return 0.5 + candidate.job.trial / 100


def described(a_space, **options):
    """The search with these options, each where it belongs, and what is given when it runs."""
    limits = {name: options.pop(name) for name in LIMITS & set(options)}
    given = {"out": options.pop("out", None), "executor": InlineExecutor()}
    given |= {name: options.pop(name) for name in RUN & set(options)}
    noise = options.pop("accuracy_noise", None)
    options = {
        "evaluator": nas.TableEvaluator(accuracy),
        "controller": nas.ControllerOptions("random", accuracy_noise=noise),
        "budget": nas.Budget(**{"trials": 3, **limits}),
        **options,
    }
    return nas.Search(options.pop("space", a_space), **options), given


def checked(a_space, **options):
    search, given = described(a_space, **options)
    return search.check(given.pop("out"), **{name: given[name] for name in CHECKED & set(given)})


def run(a_space, **options):
    search, given = described(a_space, **options)
    return search.run(given.pop("out"), **given)


NO_INTEGERS = ("4", 2.5, 4.0, True, math.nan, [4], object(), Decimal(4), b"4")
WRONG = [
    *(("trials", value) for value in (*NO_INTEGERS, 0, -1)),
    *(("patience", value) for value in (*NO_INTEGERS, 0, -3)),
    *(("finalists", value) for value in (*NO_INTEGERS, -1, None, 2)),
    *(("keep_best", value) for value in (*NO_INTEGERS, -1, None)),
    *(("seed", value) for value in (*NO_INTEGERS, 2**63, 2**64, 10**5000, -1, np.int64(-1), None)),
    *(("max_hours", value) for value in ("1", True, math.nan, math.inf, 0, -1.0, 1j, 10**400)),
    *(("accuracy_noise", value) for value in ("1", True, math.nan, math.inf, -0.5)),
    *(("deterministic", value) for value in (1, 0, "yes", None)),
    *(("out", value) for value in ("", 3, b"runs")),
    *(("objective", value) for value in (3, ["accuracy"], None)),
    *(("enqueue", value) for value in (None, 5, "first", {"a": 1})),
    *(("warm_start", value) for value in ("runs/a", 3)),
    *(("rungs", value) for value in ((1, 3, 9), "1,3,9")),
    *(("budget", value) for value in (100, None)),
]


def label(one):
    return one if isinstance(one, str) else type(one).__name__


@pytest.mark.parametrize(("name", "value"), WRONG, ids=label)
def test_a_wrong_value_is_refused_by_its_field_in_a_check_and_in_a_run(tmp_path, small_space, name, value):
    given = {"out": tmp_path / "study", name: value}
    for take in (checked, run):
        with pytest.raises(NasError) as error:
            take(small_space, **given)
        assert error.value.field == name
        said = str(error.value)
        assert name in said
        assert any(word in said for word in ("give", "open", "put", "make", "must hold"))
    assert not (tmp_path / "study").exists()


def _odd(*bases, **members):
    return type("Odd", bases, members)()


def naming(**members):
    """An evaluator that says what it measures, and has other members too."""
    return type("Naming", (nas.TableEvaluator,), {"measures": ("accuracy",), **members})(accuracy)


def _fail(self):
    raise RuntimeError("not me")


class Silent:
    """Cannot be shown."""

    __repr__ = _fail


class Predicting:
    """Predicts the same latency of every network."""

    origin = "a table"

    def __init__(self, latency_ms, fingerprint="one"):
        self.latency_ms = latency_ms
        self.fingerprint = fingerprint

    def predict(self, network):
        return self.latency_ms

    def predict_many(self, space, tokens):
        return np.full(len(tokens), self.latency_ms)

    def least_ms(self, space):
        return self.latency_ms


TOGETHER = [
    ("finalists", {"rungs": nas.Rungs((0.5, 1.0), reduction_factor=2), "trials": 9, "finalists": 1}),
    ("rungs", {"rungs": nas.Rungs((0.5, 1.0), reduction_factor=2), "trials": 9, "deterministic": True}),
    ("trials", {"rungs": nas.Rungs((0.5, 1.0)), "trials": 2}),
    ("objective", {"objective": "accuracy * (train_seconds/1s)^-0.07", "deterministic": True}),
    ("objective", {"objective": "accuracy, predicted_latency_ms <= 5ms"}),
    ("controller", {"objective": "accuracy; macs", "controller": "dyna"}),
    ("objective", {"objective": "max f1", "evaluator": naming()}),
    ("objective", {"objective": "accuracy, memory <= 2GiB", "evaluator": naming()}),
    ("objective", {"objective": "accuracy, macs <= 1"}),
    ("objective", {"objective": "accuracy, predicted_latency_ms <= 5ms", "predictor": Predicting(math.nan)}),
    ("enqueue", {"enqueue": [(99,) * 8]}),
    ("enqueue", {"enqueue": [5]}),
    ("enqueue", {"enqueue": [Silent()]}),
    ("enqueue", {"enqueue": Silent()}),
    ("enqueue", {"enqueue": [(1,) * 8], "objective": "accuracy, params <= 1k"}),
    ("evaluator", {"evaluator": _odd()}),
    ("evaluator", {"evaluator": None}),
    ("evaluator", {"evaluator": naming(fingerprint=3)}),
    ("evaluator", {"evaluator": naming(notes=None)}),
    ("evaluator", {"evaluator": naming(notes=(3,))}),
    ("evaluator", {"evaluator": naming(measures="accuracy")}),
    ("evaluator", {"evaluator": naming(measures=["accuracy"])}),
    ("evaluator", {"evaluator": naming(measures=property(_fail))}),
    ("evaluator", {"evaluator": naming(data=property(_fail))}),
    ("evaluator", {"evaluator": naming(check=3)}),
    ("evaluator", {"evaluator": naming(check=lambda self: None)}),
    ("executor", {"executor": _odd(slots=0)}),
    ("executor", {"executor": _odd(InlineExecutor, slots=0)}),
    ("reporters", {"reporters": print}),
    ("reporters", {"reporters": [_odd()]}),
    ("controller", {"controller": _odd()}),
    ("controller", {"controller": None}),
    ("predictor", {"predictor": _odd()}),
    ("predictor", {"predictor": Predicting(1.0, fingerprint=3)}),
    ("space", {"space": "mnasnet"}),
]
"""What is refused although each value is of its kind, with the field that the error names."""


@pytest.mark.parametrize(("field", "options"), TOGETHER)
def test_a_check_refuses_what_a_run_refuses(tmp_path, small_space, field, options):
    said = []
    for take in (checked, run):
        with pytest.raises(NasError) as error:
            take(small_space, out=tmp_path / "study", **options)
        said.append((type(error.value), str(error.value)))
        assert error.value.field == field
    assert said[0] == said[1]
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(("name", "value"), [("executor", None), ("clock", 3), ("clock", _odd())])
def test_a_run_needs_what_a_check_leaves_out(tmp_path, small_space, name, value):
    search, given = described(small_space, out=tmp_path / "study")
    with pytest.raises(nas.ContractError) as error:
        search.run(given.pop("out"), **{**given, name: value})
    assert error.value.field == name
    assert not (tmp_path / "study").exists()


def test_a_check_refuses_the_folder_of_another_study_as_a_run_does(tmp_path, small_space):
    run(small_space, out=tmp_path)
    for changed in ({"seed": 1}, {"objective": "accuracy * (macs/20k)^-0.07"}, {"controller": "evolution"}):
        said = []
        for take in (checked, run):
            with pytest.raises(nas.StudyError) as error:
                take(small_space, out=tmp_path, **changed)
            said.append(str(error.value))
        assert said[0] == said[1]


ACCEPTED = [
    {},
    {"trials": None, "patience": 2},
    {"finalists": 1, "trials": 5},
    {"deterministic": True},
    {"rungs": nas.Rungs((0.5, 1.0), reduction_factor=2), "trials": 5},
    {"objective": "accuracy * (macs/20k)^-0.07, params <= 1G"},
    {"controller": "evolution", "seed": 2**63 - 1},
    {"enqueue": [(0,) * 8, nas.Replicate((0,) * 8)]},
    {"keep_best": 0},
]


@pytest.mark.parametrize("options", ACCEPTED)
def test_a_check_accepts_what_a_run_accepts_and_writes_nothing(tmp_path, small_space, options):
    plan = checked(small_space, out=tmp_path / "study", **options)
    assert not (tmp_path / "study").exists()
    study = run(small_space, out=tmp_path / "study", **options)
    assert len(study.trials) >= 3
    assert study.identity == plan.identity
    checked(small_space, out=tmp_path / "study", **options)


def short(a_space, folder, **options):
    given = {"evaluator": nas.TableEvaluator(accuracy), "controller": "random", "executor": "inline"}
    return nas.search(a_space, **{**given, "trials": 3, "out": folder, **options})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("workers", value) for value in (*NO_INTEGERS, 0, -1, None)),
        *(("target_macs", value) for value in ("30M", True, math.nan, math.inf, 0, -1.0)),
        *(("recipe", value) for value in ({"epochs": 1}, "short")),
        *(("out", value) for value in (None, "", 3, b"runs")),
        ("executor", "dask"),
        ("controller", "dynaa"),
        ("data", "photos"),
        *(("data", value) for value in (3, b"photos", Silent())),
        *(("latency", value) for value in (3, "table.json", _odd(measure=None))),
        ("budget", nas.Budget()),
    ],
    ids=label,
)
def test_the_short_form_refuses_a_wrong_argument_by_its_field(tmp_path, small_space, name, value):
    with pytest.raises(NasError) as error:
        short(small_space, tmp_path / "study", **{name: value})
    assert error.value.field == {"budget": "trials"}.get(name, name)
    assert not (tmp_path / "study").exists()


def test_numbers_of_numpy_are_numbers(tmp_path, small_space):
    options = {"deterministic": np.bool_(True), "seed": np.uint64(2**63 - 1), "keep_best": np.int8(2)}
    study = run(
        small_space,
        out=tmp_path,
        trials=np.int64(6),
        max_hours=np.float32(1),
        patience=np.array(5),
        finalists=np.int64(1),
        accuracy_noise=np.float16(0.01),
        **options,
    )
    assert len(study.trials) == 6
    assert open_study(tmp_path).identity.seed == 2**63 - 1
    again = run(small_space, out=tmp_path, trials=7, seed=2**63 - 1, deterministic=True)
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
