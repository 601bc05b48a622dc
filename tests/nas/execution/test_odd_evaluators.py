"""What users' evaluators and probes really give, over both executors, and the studies that come of it."""

import asyncio
import decimal
import fractions
import json
import math
import pickle
import sys
import types

import numpy as np
import pytest
import torch

import nas
from nas.cli.main import main
from nas.errors import ContractError, ExecutorError
from nas.evaluators import Probed
from nas.execution.inline_executor import InlineExecutor
from nas.execution.ray_executor import RayExecutor
from nas.execution.worker import Worker
from nas.trial import Cause, Evaluation, InfeasibleError, Job, Metric, Result, Status, WeightsError


class Number:
    """A number of some library that Python does not know."""

    def __float__(self):
        return 0.25


class Unshowable:
    def __repr__(self):
        raise RuntimeError("no text")


class SilentError(Exception):
    """An exception whose text cannot be had."""

    def __str__(self):
        raise ValueError("no text")


class StuckError(Exception):
    """An exception that cannot be pickled."""

    def __init__(self, first, second):
        super().__init__(first)
        self.second = second
        self.hook = lambda: second


class ForgetfulError(InfeasibleError):
    """Does not call the constructor it extends."""

    def __init__(self):
        Exception.__init__(self, "no memory of it")


class OwnBase(BaseException):
    pass


CONVERTED = {
    "float16": np.float16(0.25),
    "float32": np.float32(0.25),
    "float64": np.float64(0.25),
    "longdouble": np.longdouble(0.25),
    "0-d array": np.array(0.25, dtype=np.float32),
    "array of one": np.array([[0.25]]),
    "tensor": torch.tensor(0.25),
    "tensor with a gradient": torch.tensor([0.25], requires_grad=True),
    "bfloat16": torch.tensor(0.25, dtype=torch.bfloat16),
    "Decimal": decimal.Decimal("0.25"),
    "Fraction": fractions.Fraction(1, 4),
    "own number": Number(),
}
WHOLE = {
    "int": 1,
    "int64": np.int64(1),
    "uint8": np.uint8(1),
    "bool": True,
    "numpy bool": np.True_,
    "tensor of int": torch.tensor(1),
    "tensor of bool": torch.tensor(True),
    "above 1 by rounding": float(np.nextafter(np.float32(1), np.float32(2))),
}


def raises(kind, *values):
    """A function that raises; the exception is made there, as not every one can be pickled."""

    def function():
        raise kind(*values)

    return function


def recursion():
    return recursion()


def evaluation(**options):
    given = {"name": "accuracy", "value": 0.5, "unit": "fraction"}
    return Evaluation(metrics=(Metric(**{**given, **options}),))


def with_second(name, value=2.0, environment=""):
    return Evaluation(
        metrics=(
            Metric(name="accuracy", value=0.5, unit="fraction"),
            Metric(name=name, value=value, unit="count", environment=environment),
        )
    )


FAILING = {
    "huge int": (lambda: evaluation(value=10**400), "accuracy must fit into a float"),
    "int too long to show": (lambda: evaluation(value=10**6000), "accuracy must fit into a float"),
    "complex": (lambda: evaluation(value=0.5 + 0j), "of type complex"),
    "numpy complex": (lambda: evaluation(value=np.complex64(0.5)), "of type complex64"),
    "text": (lambda: evaluation(value="0.9"), "but got '0.9' of type str"),
    "bytes": (lambda: evaluation(value=b"0.9"), "of type bytes"),
    "None": (lambda: evaluation(value=None), "but got None"),
    "list": (lambda: evaluation(value=[0.5]), "but got [0.5]"),
    "array of two": (lambda: evaluation(value=np.array([0.5, 0.6])), "must be one number"),
    "empty array": (lambda: evaluation(value=np.array([])), "must be one number"),
    "array of text": (lambda: evaluation(value=np.array("0.5")), "must be one number"),
    "masked": (lambda: evaluation(value=np.ma.masked), "must be one number"),
    "time": (lambda: evaluation(value=np.timedelta64(5, "ns")), "must be one number"),
    "unshowable": (lambda: evaluation(value=Unshowable()), "a Unshowable that cannot be shown"),
    "meta tensor": (lambda: evaluation(value=torch.empty((), device="meta")), "must be one number"),
    "percent": (lambda: evaluation(value=87.5), "accuracy=87.5: it looks like percent: divide by 100"),
    "negative": (lambda: evaluation(value=-0.5), "`0 <= accuracy <= 1` must hold, but got accuracy=-0.5"),
    "far above 1": (lambda: evaluation(value=1e9), "accuracy is a fraction"),
    "infinite": (
        lambda: with_second("steps", np.float32("inf")),
        "every metric must be finite, but steps=inf",
    ),
    "Decimal nan": (lambda: with_second("steps", decimal.Decimal("nan")), "steps=nan"),
    "name is a number": (lambda: evaluation(name=3), "a metric's name must be text, but got 3"),
    "name is bytes": (lambda: evaluation(name=b"accuracy"), "a metric's name must be text"),
    "name is None": (lambda: evaluation(name=None), "a metric's name must be text"),
    "name is empty": (lambda: evaluation(name=" "), "a metric must have a name"),
    "unit is None": (lambda: evaluation(unit=None), "the unit of accuracy must be text"),
    "environment is a list": (
        lambda: evaluation(environment=["cpu"]),
        "the environment of accuracy must be text",
    ),
    "one name twice": (lambda: with_second("accuracy"), "two are named 'accuracy'"),
    "one name in two places": (lambda: with_second("accuracy", environment="phone"), "two are named"),
    "no metrics": (lambda: Evaluation(metrics=()), "must return at least one metric"),
    "metrics None": (lambda: Evaluation(metrics=None), "must be a tuple of `nas.Metric`, but got None"),
    "metrics a metric": (lambda: Evaluation(metrics=evaluation().metrics[0]), "must be a tuple of"),
    "metrics a dict": (lambda: Evaluation(metrics={"accuracy": 0.5}), "there is 'accuracy' of type str"),
    "weights are bytes": (lambda: Evaluation(metrics=(), weights=b"w"), "weights must be a function"),
    "a number": (lambda: 0.9, "must return a `nas.Evaluation`, but returned 0.9"),
    "a dict": (lambda: {"accuracy": 0.9}, "nas.TableEvaluator(function)"),
    "a tuple": (lambda: (0.9, 12.0), "of type tuple"),
    "nothing": (lambda: None, "but returned None"),
    "a class": (lambda: Evaluation, "of type type"),
    "silent": (raises(SilentError), "SilentError: its text is not available"),
    "cannot be pickled": (raises(StuckError, "a", "b"), "StuckError: a"),
    "huge message": (raises(ValueError, "x" * 10**6), "characters left out"),
    "surrogates": (raises(ValueError, "\udc80 and \0"), "\\udc80 and \\x00"),
    "many lines": (raises(ValueError, "first\nsecond"), "ValueError: first"),
    "no message": (raises(ValueError), "ValueError"),
    "recursion": (recursion, "RecursionError"),
    "unknown cause": (raises(InfeasibleError, "too_odd", "it is odd"), "too_odd: it is odd"),
    "cause of no kind": (raises(InfeasibleError, [1], "it is odd"), "[1]: it is odd"),
    "no cause": (raises(InfeasibleError, "it is odd"), "it is odd"),
    "forgetful": (raises(ForgetfulError), ""),
    "exit": (lambda: sys.exit(3), "SystemExit: 3"),
    "exit without a word": (lambda: sys.exit(), "SystemExit"),
    "GeneratorExit": (raises(GeneratorExit), "GeneratorExit"),
    "cancelled": (raises(asyncio.CancelledError), "CancelledError"),
    "own base": (raises(OwnBase, "mine"), "OwnBase: mine"),
    "group": (raises(ExceptionGroup, "several", [ValueError("a")]), "ExceptionGroup: several"),
    "stop": (raises(StopIteration), "StopIteration"),
}
DIVERGED = {
    "nan": (lambda: evaluation(value=math.nan), "accuracy=nan"),
    "numpy nan": (lambda: evaluation(value=np.float32("nan")), "accuracy=nan"),
    "said": (raises(InfeasibleError, "diverged", "the loss is nan"), "the loss is nan"),
}
WEIGHTS = {
    "raises": (raises(RuntimeError, "no disk"), "RuntimeError: no disk"),
    "exits": (lambda: sys.exit(1), "SystemExit: 1"),
    "silent": (raises(SilentError), "SilentError"),
    "nothing": (lambda: None, "`weights` must give safetensors bytes, but gave None"),
    "text": (lambda: "weights", "of type str"),
    "a state": (lambda: {"w": torch.zeros(2)}, "of type dict"),
}
CASES = {
    **{
        f"converted {name}": (lambda value=value: evaluation(value=value))
        for name, value in CONVERTED.items()
    },
    **{f"whole {name}": (lambda value=value: evaluation(value=value)) for name, value in WHOLE.items()},
    **{f"failing {name}": case for name, (case, _) in FAILING.items()},
    **{f"diverged {name}": case for name, (case, _) in DIVERGED.items()},
    **{
        f"weights {name}": (lambda case=case: Evaluation(metrics=evaluation().metrics, weights=case))
        for name, (case, _) in WEIGHTS.items()
    },
    "bytearray": lambda: Evaluation(metrics=evaluation().metrics, weights=lambda: bytearray(b"w")),
    "odd text": lambda: with_second("steps\udcff", environment="a\0b \ud800"),
    "a list": lambda: Evaluation(metrics=list(evaluation().metrics)),
    "a generator": lambda: Evaluation(metrics=(metric for metric in evaluation().metrics)),
    "a metric of one's own": lambda: Evaluation(metrics=(OwnMetric(name="accuracy", value=1, unit=""),)),
}
NAMES = list(CASES)


class OwnMetric(Metric):
    pass


class Odd:
    """Gives the case whose place among all is the job's number."""

    fingerprint = "odd"

    def prepare(self):
        pass

    def evaluate(self, candidate):
        return CASES[NAMES[candidate.job.trial % len(NAMES)]]()


def check_results(executor, space):
    """Runs every case on a started executor; says which of them is not as the tables say."""
    tokens = (0,) * len(space.cardinalities)
    for number, name in enumerate(NAMES):
        executor.submit(Job(trial=number, attempt=1, tokens=tokens, seed=number))
        results = []
        while not results:
            results = executor.wait(10.0)
        check_result(name, results[0])
        check_weights(name, executor, results[0].job)


def check_result(name, result):
    kind, _, case = name.partition(" ")
    values = {metric.name: metric.value for metric in result.metrics}
    assert all(type(value) is float for value in values.values()), name
    assert all(type(metric) is Metric for metric in result.metrics), name
    if kind in ("failing", "diverged"):
        expected = Cause.DIVERGED if kind == "diverged" else Cause.ERROR
        assert (result.status, result.cause) == (Status.INFEASIBLE, expected), name
        assert {**FAILING, **DIVERGED}[case][1] in result.message, (name, result.message)
        assert 0 < len(result.message) <= 500, name
        assert len(result.log) <= 100_000, name
        (result.message + result.log).encode()
    else:
        assert result.status is Status.COMPLETED, (name, result.message)
        assert values["accuracy"] == {"converted": 0.25, "whole": 1.0}.get(kind, values["accuracy"]), name
        if name == "odd text":
            assert [metric.name for metric in result.metrics] == ["accuracy", "steps\\udcff"]
            assert result.metrics[1].environment == "a\\x00b \\ud800"


def check_weights(name, executor, job):
    kind, _, case = name.partition(" ")
    if kind == "weights":
        with pytest.raises(WeightsError) as error:
            executor.weights(job)
        assert WEIGHTS[case][1] in str(error.value)
    elif name == "bytearray":
        assert executor.weights(job) == b"w"
    else:
        assert executor.weights(job) is None


def test_whatever_an_evaluator_gives_is_converted_or_fails_that_trial_inline(small_space):
    executor = InlineExecutor()
    executor.start(small_space, Odd())
    check_results(executor, small_space)


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_whatever_an_evaluator_gives_is_converted_or_fails_that_trial_on_ray(small_space):
    executor = RayExecutor(1, modules=[sys.modules[__name__]])
    try:
        executor.start(small_space, Odd())
        check_results(executor, small_space)
    finally:
        executor.close()


class Forgets(Odd):
    measures = ("accuracy", "f1", "g1")

    def evaluate(self, candidate):  # noqa: ARG002
        return evaluation()


def test_a_metric_that_an_evaluator_names_and_does_not_return_is_said(small_space):
    job = Job(trial=0, attempt=1, tokens=(0,) * len(small_space.cardinalities), seed=0)
    (note,) = Worker(small_space, Forgets()).run(job).notes
    assert note.startswith("the evaluator names f1, g1 in `measures`, but returned accuracy: return")


def test_a_search_over_all_of_it_ends_resumes_and_is_shown(tmp_path, small_space, capsys):
    def searched(trials):
        described = nas.Search(
            small_space,
            evaluator=Odd(),
            controller="random",
            budget=nas.Budget(trials=trials),
            keep_best=99,
        )
        return described.run(tmp_path, executor=InlineExecutor())

    study = searched(len(NAMES))
    assert study.ending == "trials"
    failed = [name for name in NAMES if name.startswith(("failing", "diverged"))]
    assert len(study.completed) == len(NAMES) - len(failed)
    kinds = [kind for _, kind, _ in study.events]
    assert kinds.count("weights_lost") >= 1
    again = searched(len(NAMES) + 1)
    assert len(again.trials) == len(NAMES) + 1
    assert main(["show", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["show", str(tmp_path), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["trials_done"] == len(NAMES) + 1
    assert data["top_trials"][0]["accuracy"] == 1.0


class Odder(Odd):
    """What cannot be prepared, or says of itself what is no text."""

    def __init__(self, prepare=lambda: None, fingerprint="odd"):
        self.prepare = prepare
        self.fingerprint = fingerprint


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda: sys.exit(2), "SystemExit: 2"),
        (raises(SilentError), "SilentError"),
        (raises(OwnBase, "mine"), "OwnBase: mine"),
    ],
)
def test_an_evaluator_that_ends_the_process_while_it_is_prepared_is_an_error(small_space, prepare, words):
    with pytest.raises(ExecutorError, match=f"could not be prepared: {words}"):
        InlineExecutor().start(small_space, Odder(prepare))


@pytest.mark.parametrize("fingerprint", [None, 5, b"odd", ["odd"]])
def test_a_fingerprint_that_is_no_text_is_refused(tmp_path, small_space, fingerprint):
    for evaluator in (
        Odder(fingerprint=fingerprint),
        Probed(Odder(fingerprint=fingerprint), Meter()),
        Probed(Odd(), Meter(fingerprint=fingerprint)),
    ):
        with pytest.raises(ContractError, match=r"the fingerprint of the \w+ must be a text"):
            nas.search(small_space, evaluator=evaluator, executor="inline", out=tmp_path)


class Meter:
    """A probe that gives what it is told to."""

    def __init__(self, measure=lambda: (), fingerprint="meter"):
        self._measure = measure
        self.fingerprint = fingerprint

    def prepare(self):
        pass

    def measure(self, network):  # noqa: ARG002
        return self._measure()


PROBED = {
    "float32": (lambda: (Metric(name="latency_ms", value=np.float32(2), unit="ms"),), None),
    "a list": (lambda: [Metric(name="latency_ms", value=2.0, unit="ms")], None),
    "infinite": (lambda: (Metric(name="latency_ms", value=math.inf, unit="ms"),), "latency_ms=inf"),
    "text": (lambda: (Metric(name="latency_ms", value="2 ms", unit="ms"),), "must be one number"),
    "a number": (lambda: 2.0, "what a probe measures must be a tuple of `nas.Metric`, but got 2.0"),
    "nothing": (lambda: None, "but got None"),
    "numbers": (lambda: (2.0,), "there is 2.0 of type float"),
    "twice": (lambda: (Metric(name="latency_ms", value=2.0, unit="ms"),) * 2, "two are named 'latency_ms'"),
    "silent": (raises(SilentError), "SilentError"),
    "exit": (lambda: sys.exit(1), "SystemExit: 1"),
    "unknown cause": (raises(InfeasibleError, "odd", "hot"), "odd: hot"),
}


class Half(Odd):
    def evaluate(self, candidate):  # noqa: ARG002
        return evaluation()


class NoEvaluation(Odd):
    def evaluate(self, candidate):  # noqa: ARG002
        return 0.9


@pytest.mark.parametrize("case", PROBED)
def test_what_a_probe_gives_is_converted_or_fails_that_trial_inline(small_space, case):
    measure, words = PROBED[case]
    job = Job(trial=0, attempt=1, tokens=(0,) * len(small_space.cardinalities), seed=0)
    check_probed(Worker(small_space, Probed(Half(), Meter(measure))).run(job), words)


def test_a_probe_beside_an_evaluator_that_returns_a_number_blames_the_evaluator(small_space):
    job = Job(trial=0, attempt=1, tokens=(0,) * len(small_space.cardinalities), seed=0)
    result = Worker(small_space, Probed(NoEvaluation(), Meter())).run(job)
    assert "`evaluate` must return a `nas.Evaluation`, but returned 0.9" in result.message


class Meters(Meter):
    """Gives the cases one after another."""

    def __init__(self):
        super().__init__()
        self.left = list(PROBED)

    def measure(self, network):  # noqa: ARG002
        return PROBED[self.left.pop(0)][0]()


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_what_a_probe_gives_is_converted_or_fails_that_trial_on_ray(small_space):
    executor = RayExecutor(1, probe_resource="phone", modules=[sys.modules[__name__]])
    try:
        executor.start(small_space, Probed(Half(), Meters()))
        for number, (_, words) in enumerate(PROBED.values()):
            tokens = (0,) * len(small_space.cardinalities)
            executor.submit(Job(trial=number, attempt=1, tokens=tokens, seed=0))
            results = []
            while not results:
                results = executor.wait(10.0)
            check_probed(results[0], words)
    finally:
        executor.close()


def check_probed(result, words):
    if words is None:
        assert result.status is Status.COMPLETED, result.message
        assert {metric.name: metric.value for metric in result.metrics} == {
            "accuracy": 0.5,
            "latency_ms": 2.0,
        }
    else:
        assert (result.status, result.cause) == (Status.INFEASIBLE, Cause.ERROR)
        assert words in result.message


def test_an_infeasible_error_survives_pickling():
    error = pickle.loads(pickle.dumps(InfeasibleError(Cause.TIMEOUT, "too slow")))
    assert (error.cause, str(error)) == (Cause.TIMEOUT, "too slow")


TABLED = {
    "numpy": (np.float32(0.5), None),
    "metrics of numpy": ({"accuracy": np.float32(0.5), "steps": np.int64(3)}, None),
    "a mapping": (types.MappingProxyType({"accuracy": 0.5}), None),
    "nothing": (None, "accuracy must be one number, but got None"),
    "text": ("0.5", "but got '0.5'"),
    "a tuple": ((0.5, 2.0), "but got (0.5, 2.0)"),
    "no number": ({}, "must return at least one metric"),
    "a name of no text": ({"accuracy": 0.5, 3: 1.0}, "a metric's name must be text, but got 3"),
}


@pytest.mark.parametrize("noise", [0.0, 1e-9])
@pytest.mark.parametrize("case", TABLED)
def test_a_table_gives_a_number_or_numbers_by_name(small_space, case, noise):
    found, words = TABLED[case]
    job = Job(trial=0, attempt=1, tokens=(0,) * len(small_space.cardinalities), seed=0)
    result = Worker(small_space, nas.TableEvaluator(lambda _: found, noise=noise)).run(job)
    if words is None:
        assert result.status is Status.COMPLETED
        assert result.metrics[0].value == pytest.approx(0.5)
    else:
        assert result.status is Status.INFEASIBLE
        assert words in result.message


def test_a_very_long_message_and_log_are_cut_in_the_middle_and_say_so():
    job = Job(trial=0, attempt=1, tokens=(), seed=0)
    text = "a" * 300_000 + "the end"
    result = Result(job=job, status=Status.LOST, message=text, log=text)
    assert len(result.message) <= 500
    assert len(result.log) <= 100_000
    for cut in (result.message, result.log):
        assert cut.startswith("aaa")
        assert cut.endswith("the end")
        assert "characters left out" in cut


def test_a_metric_named_like_a_cost_of_the_network_is_named_once_and_not_used(tmp_path, small_space):
    evaluator = nas.TableEvaluator(lambda _: {"accuracy": 0.5, "macs": 0.0, "params": 5.0})
    objective = nas.Objective.hard("macs", 1e9)
    study = nas.search(
        small_space, evaluator=evaluator, objective=objective, executor="inline", trials=4, out=tmp_path
    )
    assert len(study.completed) == 4
    assert {trial.reward for trial in study.trials} == {0.5}
    (event,) = [message for _, kind, message in study.events if kind == "metric_not_used"]
    assert "macs" in event
    assert "params" in event
    assert "another name" in event


def test_metrics_that_repeat_the_costs_of_the_network_are_welcome(tmp_path, small_space):
    evaluator = nas.TableEvaluator(
        lambda candidate: {"accuracy": 0.5, "macs": small_space.costs([candidate.job.tokens])["macs"][0]}
    )
    study = nas.search(small_space, evaluator=evaluator, executor="inline", trials=2, out=tmp_path)
    assert study.events == ()
