import json
import sqlite3
from types import SimpleNamespace

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


# What comes after a search

ODD = f"{HOSTILE}\x1b[31m\n\u202e\u05e9\u05dc\u05d5\u05dd"


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def training(folder, *, digest="ab", value=0.9, epochs=3, is_finished=True, split="s", name=ODD):
    """A training of so many epochs, tested where it is finished."""
    rows = [
        {
            "epoch": float(epoch),
            "step": 10 * epoch,
            "learning_rate": 0.1 / epoch,
            "loss": 2.0 / epoch,
            "accuracy": value - 0.2 / epoch,
            "averaged_accuracy": value - 0.1 / epoch,
            "images_per_second": 500.0,
            "side": 32,
        }
        for epoch in range(1, epochs + 1)
    ]
    asked = {
        "name": name,
        "identity": {"network": digest, "split": split},
        "metric": "accuracy",
        "seed": 0,
        "recipe": {"name": "short", "epochs": 3.0},
        "data": f"images {ODD}",
        "notes": [f"note {ODD}"],
    }
    write(folder / "training.json", asked)
    if is_finished:
        best = {"step": 30, "epoch": 3.0, "kind": "averaged weights", "metric": "accuracy", "value": value}
        fitted = {
            "label": name,
            "folder": str(folder),
            "best": best,
            "macs": 10,
            "params": 5,
            "seconds": 60.0,
        }
        write(
            folder / "result.json",
            {
                "accuracy": value,
                "interval": [0.8, 0.95],
                "fitted": fitted,
                "evaluations": rows,
                "warnings": [],
            },
        )
    return folder


def scores(classes=3):
    """An evaluation in which class 0 is taken for class 1 seven times."""
    names = [ODD, *(f"class {place}" for place in range(1, classes))]
    confusion = [[10 if row == column else 0 for column in range(classes)] for row in range(classes)]
    confusion[0][1] = 7
    return {
        "bundle": f"runs/{ODD}",
        "task": "classification",
        "split": "test",
        "data": ODD,
        "images": 10 * classes + 7,
        "runtime": "torch",
        "accuracy": 0.8,
        "accuracy_interval": [0.7, 0.9],
        "classes": names,
        "confusion": confusion,
        "per_class": [
            {"class": one, "precision": 0.9, "recall": 0.8, "f1": 0.5 + place / 100, "support": 10}
            for place, one in enumerate(names)
        ],
        "calibration_error": 0.1,
        "reliability": [
            {"low": 0.0, "high": 0.5, "images": 0, "confidence": None, "accuracy": None},
            {"low": 0.5, "high": 1.0, "images": 37, "confidence": 0.8, "accuracy": 0.7},
        ],
        "mistakes": [{"file": ODD, "true": names[0], "prediction": names[1], "probability": 0.9}],
        "warnings": [f"careful {ODD}"],
    }


def scaling():
    """A search for the direction of scaling, with a law, and a family that was trained."""

    def network(name, depth, width, mean, **more):
        return {
            "name": name,
            "depth": depth,
            "width": width,
            "resolution": 1 - depth - width,
            "blocks": 5,
            "pixels": 32,
            "shown_pixels": "32",
            "params": 100,
            "macs": 1000,
            "cost_factor": 2.0,
            "error": 0.01,
            "mean": mean,
            "deviation": 0.01,
            "values": [mean - 0.01, mean + 0.01],
            **more,
        }

    found = {"depth": 0.5, "width": 0.5, "resolution": 0.0}
    return {
        "images": ODD,
        "baseline": {"macs": 500, "params": 50, "values": [0.4, 0.42]},
        "lattice": {
            "members": 2,
            "metric": "accuracy",
            "cost_factor": 2.0,
            "cost": "macs",
            "epochs": 3.0,
        },
        "found": found | {"bases": [1.4, 1.2, 1.0], "intervals": None, "law": [0.4, 0.5, 0.3, 0.1, 0.0, 0.0]},
        "members": [network(ODD, 0.5, 0.5, 0.6), network("width", 0.0, 1.0, 0.5)],
        "finalists": [network("fast", 0.1, 0.8, 0.55, law=0.5)],
        "curves": [
            network("depth", 1.0, 0.0, 0.5, figure=3),
            network("wider, after deeper", 0.0, 1.0, 0.6, figure=4),
        ],
        "trained": [
            {
                "name": name,
                "is_reference": place == 1,
                "pixels": 32,
                "params": 100 + place,
                "macs": 1000 + place,
                "latency_ms": 1.0 + place,
                "quartiles": "1 to 2",
                "mean": 0.7 + place / 10,
                "deviation": 0.01,
                "n": 2,
            }
            for place, name in enumerate(("member", ODD))
        ],
        "notes": ["of a table", "", f"found against fast: {ODD}", "picture: law.png"],
    }


@pytest.fixture(scope="session")
def left():
    """Makes what `nas train`, `nas evaluate --json` and `nas scale` leave, with odd names."""
    return SimpleNamespace(training=training, scores=scores, scaling=scaling, write=write)


@pytest.fixture(scope="session")
def searches(space, tmp_path_factory):
    """Two controllers from two seeds each, and a study with another objective."""
    folder = tmp_path_factory.mktemp("several")

    def search(name, controller, seed, objective):
        described = Search(
            space,
            evaluator=TableEvaluator(measured),
            controller=controller,
            objective=objective,
            seed=seed,
            budget=Budget(trials=12),
        )
        described.run(folder / name, executor=InlineExecutor(), settings={"trials": 12})
        return folder / name

    soft = Objective.soft("macs", 100_000)
    return (
        *(search(f"random-{seed} <b>", "random", seed, soft) for seed in (0, 1)),
        *(search(f"evolution-{seed}", "evolution", seed, soft) for seed in (0, 1)),
        search("other objective", "random", 0, Objective.hard("macs", 50_000)),
    )
