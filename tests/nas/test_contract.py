"""What a user gives to a search is checked before anything runs: all that is missing, with the remedy."""

# ruff: noqa: ARG001, ARG002, ARG005 - what stands for a user's own has arguments that it does not need

import dataclasses
import importlib
import random
import sys
import threading
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

import nas
from controllers import Default, Proposal, RandomSearch
from nas.contract import check_given
from nas.errors import ContractError, ControllerFailedError
from nas.execution.by_value import is_own, own_modules
from search_spaces import Context, Conv, Head, Identity, Network, SearchSpace, Stage, choice
from search_spaces.primitives import Call, Chain, Layer, Node, Shape


class Five:
    """A controller with the five methods and nothing else: counts up through the tokens."""

    def __init__(self, space):
        self.cardinalities = space.cardinalities
        self.number = 0
        self.results = []

    def tokens(self, number):
        found = []
        for count in self.cardinalities:
            number, token = divmod(number, count)
            found.append(token)
        return tuple(found)

    def propose(self, n=1):
        self.number += n
        return [Proposal(self.tokens(i), number=i) for i in range(self.number - n, self.number)]

    def feedback(self, results):
        for proposal, outcome in results:
            if outcome.is_feasible:
                self.results.append([outcome.reward, list(proposal.tokens)])

    def recommend(self, n=1):
        return [tuple(tokens) for _, tokens in sorted(self.results, reverse=True)[:n]]

    def state_dict(self):
        return {"number": self.number, "results": [list(one) for one in self.results]}

    def load_state_dict(self, state):
        self.number, self.results = state["number"], state["results"]


def accuracy(candidate):
    return 0.5 + 0.01 * sum(candidate.job.tokens)


def search(space, tmp_path, **given):
    values = {"evaluator": nas.TableEvaluator(accuracy), "executor": "inline", "trials": 3}
    return nas.search(space, out=tmp_path / "study", **{**values, **given})


def refusal(space, tmp_path, **given):
    """The message with which a search is refused, which has left no folder behind."""
    with pytest.raises(ContractError) as caught:
        search(space, tmp_path, **given)
    assert not (tmp_path / "study").exists()
    return str(caught.value)


def test_five_methods_make_a_controller(small_space, tmp_path):
    class Watching:
        def on_start(self, start):
            pass

        def on_trial(self, report):
            seen.append((report.diagnostics, report.probabilities()))

        def on_event(self, kind, message):
            pass

        def on_progress(self, progress):
            pass

        def on_end(self, end):
            pass

    seen = []
    study = search(
        small_space,
        tmp_path,
        controller=Five(small_space),
        trials=None,
        budget=nas.Budget(trials=6, finalists=1),
        reporters=[Watching()],
    )
    assert len(study.trials) == 6
    assert seen == [({}, None)] * 6
    again = search(
        small_space,
        tmp_path,
        controller=Five(small_space),
        trials=None,
        budget=nas.Budget(trials=8, finalists=1),
    )
    assert len(again.trials) == 8


def test_everything_that_a_controller_lacks_is_said_at_once(small_space, tmp_path):
    class Half:
        def propose(self):
            return []

        def feedback(self, results):
            pass

        load_state_dict = None

    message = refusal(small_space, tmp_path, controller=Half())
    for words in (
        "`propose(n=1)`",
        "takes other arguments",
        "`recommend(n=1)`",
        "`state_dict()`",
        "`load_state_dict(",
    ):
        assert words in message
    assert "feedback" not in message
    assert "space.cardinalities" in message


def holds_a_file():
    raise RuntimeError("it holds a file")


WRONG_CONTROLLERS = {
    "propose(1) must return a list of at most one": {
        "propose": lambda self, n=1: [Proposal((0,)), Proposal((1,))]
    },
    "propose(1) must return controllers.Proposal": {"propose": lambda self, n=1: [(0, 0)]},
    "gives tokens that are not of this space": {"propose": lambda self, n=1: [Proposal((99,))]},
    "tokens must be a tuple": {"propose": lambda self, n=1: [Proposal(("first",))]},
    "must take an Outcome": {"feedback": lambda self, results: [float(r) for _, r in results]},
    "state_dict() must return a dict": {"state_dict": lambda self: None},
    "must hold numpy arrays of numbers and JSON values only, but got {1}": {
        "state_dict": lambda self: {"seen": {1}}
    },
    'Outcome(status="lost") must teach nothing': {
        "feedback": lambda self, results: self.results.extend(p.tokens for p, _ in results),
        "recommend": lambda self, n=1: [tuple(tokens) for tokens in self.results[::-1][:n]],
    },
    "recommend(1) gives": {"recommend": lambda self, n=1: [(99,)]},
    "load_state_dict(state) with what state_dict() returned raised KeyError: 'absent' (line": {
        "load_state_dict": lambda self, state: state["absent"]
    },
    "propose(1) raised ZeroDivisionError: division by zero (line": {"propose": lambda self, n=1: 1 / 0},
    "propose(1) raised SystemExit: 4 (line": {"propose": lambda self, n=1: sys.exit(4)},
    "recommend(1) raised SystemExit (line": {"recommend": lambda self, n=1: sys.exit()},
    "state_dict() raised RuntimeError: it holds a file (line": {"state_dict": lambda self: holds_a_file()},
}


@pytest.mark.parametrize("law", WRONG_CONTROLLERS)
def test_a_controller_that_violates_the_contract_is_refused_with_the_rule(law, small_space, tmp_path):
    kind = type("Wrong", (Five,), WRONG_CONTROLLERS[law])
    assert law in refusal(small_space, tmp_path, controller=kind(small_space))


def test_a_method_that_is_a_coroutine_is_refused(small_space, tmp_path):
    class Waiting(Five):
        async def propose(self, n=1):
            return []

    assert "as a plain function, not `async`" in refusal(
        small_space, tmp_path, controller=Waiting(small_space)
    )


@pytest.mark.parametrize("value", [Five, RandomSearch, accuracy, 7])
def test_what_is_no_controller_is_refused(value, small_space, tmp_path):
    message = refusal(small_space, tmp_path, controller=value)
    assert "the controller must" in message
    assert "seed=0" in message


def test_the_check_of_a_controller_leaves_it_and_the_generators_alone(small_space):
    class Drawing(Five):
        def propose(self, n=1):
            random.random(), np.random.random(), torch.rand(1)
            return super().propose(n)

    controller = Drawing(small_space)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    check_given(small_space, controller=controller)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    assert controller.state_dict() == {"number": 0, "results": []}


def test_a_controller_that_cannot_be_copied_is_used_as_it_is(small_space, tmp_path):
    class Locked(Five):
        def __init__(self, space):
            super().__init__(space)
            self.lock = threading.Lock()

    controller = Locked(small_space)
    check_given(small_space, controller=controller)
    assert controller.number == 0
    assert len(search(small_space, tmp_path, controller=controller).trials) == 3


def test_a_controller_that_needs_what_a_copy_lacks_is_not_refused(small_space):
    class Writing(Five):
        def feedback(self, results):
            raise OSError("the file is not there yet")

    check_given(small_space, controller=Writing(small_space))


def test_a_controller_that_tells_others_is_not_tried_where_they_would_hear_of_it(small_space, tmp_path):
    class Telling(Five):
        def propose(self, n=1):
            asked.append(n)
            return super().propose(n)

        def feedback(self, results):
            HEARD.extend(results)
            super().feedback(results)

    asked = []
    HEARD.clear()
    check_given(small_space, controller=Telling(small_space))
    assert (asked, HEARD) == ([], [])
    search(small_space, tmp_path, controller=Telling(small_space))
    assert (len(asked), len(HEARD)) == (3, 3)


HEARD = []


def test_proposals_that_are_too_many_later_on_are_a_mistake_of_the_controller(small_space, tmp_path):
    class Greedy(Five):
        def propose(self, n=1):
            return super().propose(n if self.number < 4 else 2)

    with pytest.raises(ControllerFailedError, match="must return a list of at most 1"):
        search(small_space, tmp_path, controller=Greedy(small_space), trials=9)


class Evaluating:
    fingerprint = "evaluating"

    def prepare(self):
        pass

    def evaluate(self, candidate):
        return nas.Evaluation(
            metrics=(nas.Metric(name="accuracy", value=accuracy(candidate), unit="fraction"),)
        )


def but(**members):
    """An evaluator with other members."""
    return type("Altered", (Evaluating,), members)()


def of_each_call(self):
    return str(random.random())


class WithoutFingerprint:
    prepare, evaluate = Evaluating.prepare, Evaluating.evaluate


WRONG_EVALUATORS = {
    "class": (Evaluating, "got the class Evaluating itself: give Evaluating(...)"),
    "table class": (nas.TableEvaluator, "got the class TableEvaluator itself"),
    "function": (accuracy, "nas.TableEvaluator(function)"),
    "lambda": (lambda candidate: 0.5, "`fingerprint` ("),
    "number": (0.5, "`evaluate(candidate)`"),
    "no fingerprint": (WithoutFingerprint(), "lacks `fingerprint`"),
    "fingerprint method": (but(fingerprint=lambda self: "x"), "put @property above it"),
    "fingerprint number": (but(fingerprint=3), "must be a text"),
    "fingerprint empty": (but(fingerprint=""), "must be a text"),
    "fingerprint new": (but(fingerprint=property(of_each_call)), "must stay the same"),
    "fingerprint raises": (but(fingerprint=property(lambda self: 1 / 0)), "raises ZeroDivisionError"),
    "other arguments": (but(evaluate=lambda self, network, job: 0), "takes other arguments"),
    "not callable": (but(prepare=True), "which is True and cannot be called"),
}


@pytest.mark.parametrize("name", WRONG_EVALUATORS)
def test_what_is_no_evaluator_is_refused_with_the_remedy(name, small_space, tmp_path):
    value, words = WRONG_EVALUATORS[name]
    message = refusal(small_space, tmp_path, evaluator=value)
    assert words in message
    assert "the evaluator must" in message or "the fingerprint of the evaluator" in message
    beside_a_probe = nas.Probed(value, Measuring())
    assert words in refusal(small_space, tmp_path, evaluator=beside_a_probe)


class Measuring:
    fingerprint = "measuring"

    def prepare(self):
        pass

    def measure(self, network):
        return (nas.Metric(name="latency_ms", value=1.0, unit="ms"),)


class Half:
    def measure(self, network):
        return ()


def test_everything_else_that_a_user_gives_is_checked_too(small_space, tmp_path):
    assert "`prepare()`" in refusal(small_space, tmp_path, latency=Half())
    assert "`measure(network)`" in refusal(
        small_space, tmp_path, evaluator=nas.Probed(nas.TableEvaluator(accuracy), object())
    )
    message = refusal(small_space, tmp_path, executor=object())
    for words in (
        "`slots`",
        "`start(space, evaluator)`",
        "`submit(job, weights=None)`",
        "`weights(job)`",
        "`close()`",
    ):
        assert words in message
    assert "reporters=[reporter]" in refusal(small_space, tmp_path, reporters=print)
    assert "reporter 1 must" in refusal(small_space, tmp_path, reporters=[nas.reporters.Reporters([]), print])
    assert "`predict_many(" in refusal(small_space, tmp_path, latency=object())


@pytest.mark.parametrize("slots", [0, 1.5, True, "2"])
def test_an_executor_says_how_many_jobs_it_runs_as_a_number(slots, small_space, tmp_path):
    class Own(nas.InlineExecutor):
        pass

    Own.slots = slots
    assert "`slots >= 1` must hold" in refusal(small_space, tmp_path, executor=Own())


def test_what_is_no_space_is_refused(small_space, tmp_path):
    for value, words in (
        (small_space.template, "SearchSpace(network)"),
        ("mnasnet", "search_spaces.mnasnet()"),
        (lambda: small_space, "call it"),
        (None, "must be a search_spaces.SearchSpace"),
    ):
        assert words in refusal(value, tmp_path)


class Double(nn.Module):
    """Twice the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keeps the shape."""
        return 2 * x


class Halved(nn.Module):
    """Drops every other row and column."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Halves the sides."""
        return x[..., ::2, ::2]


class Borrowing(nn.Module):
    """Uses a name from outside, which exported source does not have."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keeps the shape."""
        return x * float(np.float32(2))


class Tied(nn.Module):
    """Raises where it runs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keeps the shape, or would."""
        raise RuntimeError("no kernel for this")


class Heavy(nn.Module):
    """Has a parameter that its layer does not say."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Keeps the shape."""
        return x * self.scale


def unreadable():
    scope = {"nn": nn}
    exec("class Unreadable(nn.Module):\n    def forward(self, x):\n        return x", scope)
    return scope["Unreadable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Of:
    """A layer of a module class."""

    module: type

    def at(self, shape: Shape) -> Layer:
        return Layer(out=shape, call=Call(self.module))


MODULES = {"double": Double, "halved": Halved, "borrowing": Borrowing, "tied": Tied, "heavy": Heavy}


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """An op of one's own: a convolution, then a module by name."""

    kind: str = "double"
    name: str = "own"

    def layers(self, context: Context) -> Node:
        unit = context.convolution(context.out_channels, 1, stride=context.stride)
        module = unreadable() if self.kind == "unreadable" else MODULES[self.kind]
        return Chain((*unit.layers, (self.name, Of(module=module))))


def own_space(op, **fields):
    """The own op is one option among ours, so that the first candidate does not have it."""
    stages = (
        Stage(op=Conv(kernel_size=choice(1, 3)), channels=8),
        Stage(op=choice(Identity(), Conv(), op), channels=8, repeats=choice(1, 2)),
    )
    values = {"stem": Stage(op=Conv(), channels=8, stride=2), "stages": stages, "head": Head(channels=16)}
    return SearchSpace(Network(**{**values, **fields}, resolution=16, num_classes=4), name="own")


OWN_OPS = {
    "halved": "stage2 must put out (8, 8, 8)",
    "borrowing": "import everything else inside a method",
    "tied": "RuntimeError: no kernel for this",
    "heavy": "the module has",
    "unreadable": "define it in a .py file",
}


@pytest.mark.parametrize("kind", OWN_OPS)
def test_an_op_that_cannot_be_built_run_counted_or_exported_is_refused_before_the_first_trial(kind, tmp_path):
    message = refusal(own_space(Own(kind=kind)), tmp_path)
    assert OWN_OPS[kind] in message
    assert "the space 'own' has parts of your own (Own)" in message
    in_stem = own_space(Conv(), stem=Stage(op=choice(Conv(), Own(kind=kind)), channels=8))
    assert OWN_OPS[kind].replace("stage2", "stem").replace("8, 8, 8", "8, 16, 16") in refusal(
        in_stem, tmp_path
    )


def test_a_layer_whose_name_is_no_python_name_is_refused(tmp_path):
    assert "must be a Python name" in refusal(own_space(Own(name="class")), tmp_path)


def test_a_sound_op_passes_and_the_search_runs(tmp_path):
    assert len(search(own_space(Own()), tmp_path).trials) == 3


def test_a_head_that_json_cannot_keep_is_refused(tmp_path):
    @dataclass(frozen=True, slots=True, kw_only=True)
    class OwnHead(Head):
        def layers(self, context, classes):
            return Head.layers(self, context, classes)

    assert "only ops may be of classes of one's own" in refusal(
        own_space(Conv(), head=OwnHead(channels=16)), tmp_path
    )


def test_our_own_parts_are_not_looked_at(small_space, monkeypatch):
    monkeypatch.setattr("search_spaces.testing.check_text", lambda *_: pytest.fail("looked at"))
    monkeypatch.setattr("controllers.testing.check_copy", lambda *_: pytest.fail("looked at"))
    controller = Default(small_space.cardinalities, small_space.conditions)
    assert small_space.own_types == ()
    check_given(small_space, controller=controller, executor=nas.InlineExecutor())


def test_modules_of_a_users_own_files_are_distinguished_from_installed_ones():
    import json

    import yaml

    assert is_own(sys.modules[__name__])
    assert not any(map(is_own, (json, yaml, np, torch, nas, dataclasses, sys)))
    import ray.cloudpickle

    assert sys.modules[__name__] in own_modules(ray.cloudpickle.dumps(Evaluating()))
    assert own_modules(ray.cloudpickle.dumps(nas.TableEvaluator({(0,): 1.0}))) == []


class Holding(Evaluating):
    def __init__(self, held):
        self.options = {"held": [1, held]}


def test_what_cannot_be_sent_to_workers_is_named_with_its_path(small_space, tmp_path):
    message = refusal(small_space, tmp_path, evaluator=Holding(threading.Lock()), executor="ray")
    assert "the evaluator.options['held'][1], of type _thread.lock" in message
    assert "`prepare`" in message
    assert 'executor="inline"' in message
    lock = threading.Lock()

    def guarded(candidate):
        with lock:
            return 0.5

    message = refusal(small_space, tmp_path, evaluator=nas.TableEvaluator(guarded), executor="ray")
    assert "its variable lock, of type _thread.lock" in message
    with (tmp_path / "log").open("w") as file:
        assert "TextIOWrapper" in refusal(small_space, tmp_path, evaluator=Holding(file), executor="ray")
    probe = Measuring()
    probe.lock = lock
    assert "the probe.lock" in refusal(small_space, tmp_path, latency=probe, executor="ray")


def test_the_same_evaluator_needs_no_pickle_in_this_process(small_space, tmp_path):
    assert len(search(small_space, tmp_path, evaluator=Holding(threading.Lock())).trials) == 3


@pytest.mark.ray
def test_a_space_and_an_evaluator_of_a_file_that_workers_cannot_import_run_on_ray(tmp_path, local_ray):
    space = own_space(Own())
    study = search(space, tmp_path, evaluator=Holding(None), executor="ray", trials=2)
    assert [trial.status for trial in study.trials] == [nas.Status.COMPLETED] * 2


LOCKED_FILE = """
import threading

import nas

LOCK = threading.Lock()


def accuracy(candidate):
    with LOCK:
        return 0.5


evaluator = nas.TableEvaluator(accuracy)
"""


def test_a_module_that_workers_can_neither_import_nor_be_sent_is_refused(small_space, tmp_path, monkeypatch):
    (tmp_path / "locked_module.py").write_text(LOCKED_FILE)
    with monkeypatch.context() as there:
        there.syspath_prepend(tmp_path)
        evaluator = importlib.import_module("locked_module").evaluator
    message = refusal(small_space, tmp_path, evaluator=evaluator, executor="ray")
    for words in ("'locked_module'", "workers cannot import", "inside a function or in `prepare`"):
        assert words in message
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check_given(small_space, evaluator=evaluator, executor=nas.RayExecutor())


SPACE_FILE = """
import math as mathematics
from dataclasses import dataclass

import torch
from torch import nn

from search_spaces import Conv, Head, Network, SearchSpace, Stage, choice
from search_spaces.primitives import Call, Chain, Layer


class Scaled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * mathematics.pi


@dataclass(frozen=True)
class Scale:
    def at(self, shape):
        return Layer(out=shape, call=Call(Scaled))


@dataclass(frozen=True)
class Own:
    def layers(self, context):
        unit = context.convolution(context.out_channels, 1, stride=context.stride)
        return Chain((*unit.layers, ("scale", Scale())))


def space(resolution, num_classes, in_channels):
    stages = (Stage(op=choice(Conv(), Own()), channels=8), Stage(op=Conv(), channels=choice(8, 16, 24)))
    return SearchSpace(
        Network(
            stem=Stage(op=Conv(), channels=8), stages=stages, head=Head(channels=8),
            resolution=resolution, num_classes=num_classes, in_channels=in_channels,
        )
    )
"""


@pytest.fixture
def words(tmp_path):
    """Options of a command with images and a space whose op cannot be exported."""
    labels = np.arange(600) % 2
    images = np.zeros((600, 8, 8, 1), np.uint8) + (150 * labels[:, None, None, None]).astype(np.uint8)
    np.savez(tmp_path / "images.npz", train_images=images, train_labels=labels)
    (tmp_path / "unsound_space.py").write_text(SPACE_FILE)
    yield ["--data", str(tmp_path / "images.npz"), "--space", f"{tmp_path}/unsound_space.py:space"]
    sys.modules.pop("unsound_space", None)


@pytest.mark.parametrize(
    "command",
    [["search", "--trials", "2"], ["search", "--dry-run"], ["proxy-check", "--candidates", "5"]],
    ids=" ".join,
)
def test_every_command_that_trains_refuses_an_op_that_cannot_be_exported(command, words, tmp_path, capsys):
    from nas.cli.main import main

    out = tmp_path / "out"
    assert main([*command, *words, "--executor", "inline", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "parts of your own (Own)" in said
    assert "NameError: name 'mathematics' is not defined" in said
    assert not out.exists()


def test_what_cannot_be_shown_is_refused_like_everything_else(small_space):
    class Shy:
        def __repr__(self):
            raise RuntimeError("not me")

    with pytest.raises(ContractError, match="a Shy that cannot be shown"):
        check_given(small_space, evaluator=Shy())
