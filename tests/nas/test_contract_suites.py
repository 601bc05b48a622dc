"""The suites for evaluators and executors hold for ours, and find what is wrong with others."""

import contextlib
import threading
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save

import nas
from nas.errors import ContractError, DataError, ExecutorError
from nas.execution.ray_executor import RayExecutor
from nas.testing import check_evaluator, check_executor
from nas.trial import Cause, Evaluation, InfeasibleError, Metric, Status
from search_spaces import build


class Sound:
    """Measures, and gives no weights."""

    fingerprint = "sound"

    def prepare(self):
        self.accuracy = 0.5

    def evaluate(self, candidate):  # noqa: ARG002
        return Evaluation(metrics=(Metric(name="accuracy", value=self.accuracy, unit="fraction"),))


class Weighed(Sound):
    """Gives the weights of its networks, and continues from them."""

    def evaluate(self, candidate):
        module = build(candidate.network, seed=0)
        if candidate.weights is not None:
            module.load_state_dict(load(candidate.weights))
        return replace(super().evaluate(candidate), weights=lambda: save(module.state_dict()))


class SometimesInfeasible(Sound):
    def evaluate(self, candidate):
        if candidate.job.trial == 0:
            raise InfeasibleError(Cause.DIVERGED, "nan")
        return super().evaluate(candidate)


@pytest.mark.parametrize(
    "evaluator",
    [
        Sound(),
        SometimesInfeasible(),
        Weighed(),
        nas.TableEvaluator(lambda _: 0.5),
        nas.TableEvaluator(lambda _: 0.5, noise=0.1),
    ],
)
def test_sound_evaluators_keep_the_contract(evaluator, small_space):
    check_evaluator(evaluator, small_space)


class Forgetful(Sound):
    def evaluate(self, candidate):  # noqa: ARG002
        return Evaluation(metrics=())


class Other(Sound):
    def evaluate(self, candidate):  # noqa: ARG002
        return Evaluation(metrics=(Metric(name="f1", value=0.5),))


class Failing(Sound):
    def evaluate(self, candidate):  # noqa: ARG002
        raise RuntimeError("no such file")


class Changing(Sound):
    def prepare(self):
        super().prepare()
        self.fingerprint = "prepared"


class Texting(Sound):
    def evaluate(self, candidate):
        return replace(super().evaluate(candidate), weights=lambda: "weights")


class Strange(Sound):
    """Gives weights of another network."""

    def evaluate(self, candidate):
        return replace(super().evaluate(candidate), weights=lambda: save({"a": torch.zeros(1)}))


class Stubborn(Weighed):
    """Cannot continue."""

    def evaluate(self, candidate):
        if candidate.weights is not None:
            raise ValueError("only from new weights")
        return super().evaluate(candidate)


class Noted(Sound):
    notes = "one text"


class Strict(Sound):
    def check(self, network):  # noqa: ARG002
        raise DataError("no network fits")


class Locked(Sound):
    def __init__(self):
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        (Forgetful, "must return at least one metric"),
        (Other, "must measure `accuracy`, but gave f1"),
        (Failing, "some of 2 random candidates must complete.*no such file"),
        (Changing, "must not change the fingerprint"),
        (Texting, "must give safetensors bytes, but gave 'weights' of type str"),
        (Strange, "weights must be those of the network, as safetensors"),
        (Stubborn, "must continue from weights that the evaluator gave, but: .*only from new weights"),
        (Noted, "`notes` of the evaluator must be a tuple of texts"),
        (Strict, "`check` must accept a network that completes, but says: no network fits"),
        (Locked, r"evaluator\.lock, of type _thread\.lock"),
    ],
)
def test_an_evaluator_that_violates_the_contract_fails_with_the_rule(kind, law, small_space):
    with pytest.raises((AssertionError, ContractError), match=law):
        check_evaluator(kind(), small_space)


def test_an_evaluator_of_another_metric_keeps_the_contract_of_its_objective(small_space):
    check_evaluator(Other(), small_space, metric="f1")


def test_the_executor_in_this_process_keeps_the_contract():
    check_executor(nas.InlineExecutor)


@pytest.mark.ray
def test_the_executor_on_ray_keeps_the_contract(local_ray):  # noqa: ARG001
    check_executor(lambda: RayExecutor(2))


class Dropping(nas.InlineExecutor):
    """Loses weights on the way to the job."""

    def submit(self, job, weights=None):  # noqa: ARG002
        super().submit(job)


class Renaming(nas.InlineExecutor):
    """Answers for another trial."""

    def wait(self, timeout_seconds):
        return [replace(one, job=replace(one.job, trial=99)) for one in super().wait(timeout_seconds)]


class Losing(nas.InlineExecutor):
    """Takes the candidate's fault for the machine's."""

    def wait(self, timeout_seconds):
        found = super().wait(timeout_seconds)
        return [one if one.status is Status.COMPLETED else replace(one, status=Status.LOST) for one in found]


class Weightless(nas.InlineExecutor):
    """Never has weights."""

    def weights(self, job):  # noqa: ARG002
        return None


class Mixing(nas.InlineExecutor):
    """Gives the weights of the last job for every job."""

    def wait(self, timeout_seconds):
        found = super().wait(timeout_seconds)
        for result in found:
            self.last = super().weights(result.job)
        return found

    def weights(self, job):  # noqa: ARG002
        return self.last


class Silent(nas.InlineExecutor):
    """Keeps what users should know to itself."""

    def wait(self, timeout_seconds):
        return [replace(one, notes=()) for one in super().wait(timeout_seconds)]


class Greedy(nas.InlineExecutor):
    """Takes more jobs than it has slots for."""

    def submit(self, job, weights=None):
        if not self._jobs:
            super().submit(job, weights)


class Hasty(nas.InlineExecutor):
    """Does not say that an evaluator cannot be prepared."""

    def start(self, space, evaluator):
        with contextlib.suppress(ExecutorError):
            super().start(space, evaluator)


class Shouting(nas.InlineExecutor):
    """Tells texts."""

    def watch(self, tell):
        super().watch(lambda progress: tell(progress.text))


class Percents(nas.InlineExecutor):
    """Takes what was measured as it comes."""

    def wait(self, timeout_seconds):
        return [
            replace(one, status=Status.COMPLETED) if "accuracy" in one.message else one
            for one in super().wait(timeout_seconds)
        ]


class Inventive(nas.InlineExecutor):
    """Gives a result of no job."""

    def wait(self, timeout_seconds):
        return super().wait(timeout_seconds) or ["a result"]


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        (Dropping, "a job must get the weights of its submit"),
        (Renaming, "a result must name a job that waits for one"),
        (Losing, "a failure must be INFEASIBLE"),
        (Weightless, "weights must be those of the job"),
        (Inventive, "an executor without jobs must return no results"),
        (Mixing, "there must be no weights of a job that never ran"),
        (Silent, "must have the evaluation's notes"),
        (Greedy, "a job beyond the slots must be refused"),
        (Hasty, "`start` must raise an ExecutorError that says why.*raises none"),
        (Shouting, "must pass on `nas.Progress` only"),
        (Percents, "an accuracy of 5 must be INFEASIBLE"),
        (object, "lacks `slots`.*`is_in_process`.*`watch"),
    ],
)
def test_an_executor_that_violates_the_contract_fails_with_the_rule(kind, law):
    with pytest.raises((AssertionError, ContractError), match=law):
        check_executor(kind)
