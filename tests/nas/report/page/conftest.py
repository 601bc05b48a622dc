import sqlite3

import pytest

from nas.evaluators import TableEvaluator
from nas.execution.inline_executor import InlineExecutor
from nas.objective import Objective
from nas.report.tensorboard import TensorBoardReporter
from nas.scheduling import Budget
from nas.search import Search
from nas.study.study import open_study
from nas.trial import Cause, InfeasibleError
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice, cost

HOSTILE = "<img src=x onerror=window.hacked=1></script><b>bold</b>"
MESSAGE = f"loss is nan {HOSTILE} \x1b[31mred\x07 \u202egnp.exe שלום"


def hostile_space() -> SearchSpace:
    """Its name and that of a decision hold markup."""

    def stage(number):
        op = MBConv(
            kernel_size=choice(3, 5, name=f"{HOSTILE}{number}"),
            expand_ratio=choice(1, 3, 6, name=f"stage{number}.expand_ratio"),
        )
        return Stage(op=op, channels=choice(8, 16), repeats=choice(1, 2, 3), stride=2)

    template = Network(
        stem=Stage(op=Conv(kernel_size=3), channels=8, stride=2),
        stages=(stage(1), stage(2)),
        head=Head(channels=16),
        resolution=16,
        num_classes=4,
    )
    plain = SearchSpace(template, name="plain")
    reference = plain.decode((0,) * len(plain.decisions))
    return SearchSpace(template, name=f"space {HOSTILE}", reference=reference)


def measured(candidate):
    """Accuracy that grows with multiply-adds, and latencies; two trials diverge."""
    if candidate.job.trial in (3, 7):
        raise InfeasibleError(Cause.DIVERGED, MESSAGE)
    macs = cost(candidate.network).macs
    return {
        "accuracy": 0.5 + min(0.4, macs / 1e6) + (candidate.job.seed % 97) / 1e4,
        "latency_ms": 1 + macs / 1e5,
        "predicted_latency_ms": 1.1 + macs / 1e5,
    }


@pytest.fixture(scope="session")
def space():
    return hostile_space()


@pytest.fixture(scope="session")
def study(space, tmp_path_factory):
    """24 trials of the default controller; names and messages hold markup, control signs and Hebrew."""
    folder = tmp_path_factory.mktemp("studies") / "a <b>study & 'more'"
    described = Search(
        space,
        evaluator=TableEvaluator(measured),
        objective=Objective.soft("macs", 100_000),
        budget=Budget(trials=24),
    )
    described.run(
        folder,
        executor=InlineExecutor(),
        settings={"trials": 24},
        reporters=[TensorBoardReporter(policy_every=4)],
    )
    keep_weights(folder, open_study(folder).best.number)
    return open_study(folder, space=space)


def keep_weights(folder, number):
    """A table gives no weights; the page looks whether a trial has some, and not into them."""
    name = f"weights/trial-{number:05d}.safetensors"
    (folder / "weights").mkdir(exist_ok=True)
    (folder / name).write_bytes(b"weights")
    with sqlite3.connect(folder / "study.sqlite") as database:
        database.execute("UPDATE trial SET weights_file = ? WHERE number = ?", [name, number])
