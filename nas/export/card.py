"""`card.md`: where an exported network comes from, what was measured on it, how to load it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas.export.preprocessing import Preprocessing
from nas.tasks import CLASSIFICATION, MULTILABEL, REGRESSION, TASKS, TaskName
from nas.tested_weights import TestedWeights
from nas.trial import Metric
from nas.units import show_accuracies
from search_spaces import Network, cost, describe

SELECTED_ON = (
    "`{metric}` was measured on the search split, by which the network or its weights were chosen among "
    "others: it flatters them. Only a value on a test split is an estimate for new images."
)

COMMAND = """\
### Command line

Needs numpy, pillow, and {needs}.

```
python predict.py image.png
```

This prints a line for each image: its path{line}. In place of an image
a folder can be given. `python predict.py --help` lists the options. In Python `predict.predict(paths)` yields
{yields} for each file."""

LINES: dict[TaskName, tuple[str, str]] = {
    CLASSIFICATION: (
        ", the most probable class and its probability",
        "the probabilities of all classes",
    ),
    MULTILABEL: (
        " and each label with its probability, the likeliest first; a `*` marks those of at least 0.5",
        "the probabilities of all labels",
    ),
    REGRESSION: (
        " and each number after its name, in the unit of the labels",
        "the numbers",
    ),
}
"""What the command line prints, and what Python yields."""

KINDS: dict[TaskName, str] = {
    CLASSIFICATION: "An image classifier",
    MULTILABEL: "A multi-label classifier of images",
    REGRESSION: "A network that predicts numbers from images",
}

FILE = 'images = predict.normalise(predict.load("image.png")[None])  # float32 of shape ({shape})\n'
NUMBERS = "images = np.zeros(({shape}), np.float32)  # put images here, prepared as in training\n"
TORCH = """\
with torch.inference_mode():
    logits = model.load()(torch.from_numpy(images)).numpy()
"""
ONNX = """\
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
(logits,) = session.run(["logits"], {"images": images})
"""
NAME = 'print(predict.preprocessing()["classes"][logits[0].argmax()])\n'
NAMED = 'print(dict(zip(predict.preprocessing()["classes"], predict.interpret(logits)[0].tolist())))\n'
NUMBER = "print(logits[0].argmax())\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a network comes from; what is empty is left out of the card.

    Attributes:
        study: Folder or name of the study.
        trial: Number of the trial that trained the weights.
        seed: Seed of that training.
        space: Name of the search space.
        data: What it was trained on, in words.
        recipe: How it was trained, in words or JSON.
        objective: What the search was after, in words.
        metrics: What was measured on it.
        accuracies: Of all trainings of its network in the study; empty where there was one.
        tested: What these weights reach on the test split; None where that was not measured.
    """

    study: str = ""
    trial: int | None = None
    seed: int | None = None
    space: str = ""
    data: str = ""
    recipe: str = ""
    objective: str = ""
    metrics: tuple[Metric, ...] = ()
    accuracies: tuple[float, ...] = ()
    tested: TestedWeights | None = None


def write_card(
    network: Network,
    origin: Origin,
    preprocessing: Preprocessing | None,
    *,
    checks: Sequence[str],
    made_with: str,
    has_onnx: bool,
) -> str:
    """Writes the card as Markdown.

    Args:
        network: The network.
        origin: Where it comes from.
        preprocessing: What its images go through; None where that is not known.
        checks: What was verified, a sentence each.
        made_with: Versions and machine, in words.
        has_onnx: Whether the bundle has a `model.onnx`.
    """
    task = None if preprocessing is None else preprocessing.task
    of_task = TASKS[task or CLASSIFICATION].metrics
    selected = [metric.name for metric in origin.metrics if metric.name in of_task]
    images = ", with an image `image.png` in it" if preprocessing is not None else ""
    either = "torch with safetensors" + " or (`--onnx`) onnxruntime" * has_onnx
    sections = [
        f"# Network {network.digest}",
        _summary(network, task),
        "## Where it comes from",
        _origin_table(origin, made_with),
        "## Measurements",
        _metric_table(network, origin),
        *([SELECTED_ON.format(metric="`, `".join(selected))] if selected else []),
        "## The network",
        _network_table(network),
        "## How to use it",
        f"In this folder{images}:",
        *([_command(either, task)] if task is not None else []),
        _usage("PyTorch", "torch, safetensors", _program(network, preprocessing, ("model", "torch"), TORCH)),
        *(
            [_usage("ONNX Runtime", "onnxruntime", _program(network, preprocessing, ("onnxruntime",), ONNX))]
            * has_onnx
        ),
        "## What was checked",
        "\n".join(f"- {check}" for check in checks),
    ]
    return "\n\n".join(sections) + "\n"


def _summary(network: Network, task: TaskName | None) -> str:
    total = cost(network)
    kind, outputs = (
        ("A network for images", "outputs") if task is None else (KINDS[task], TASKS[task].outputs)
    )
    outputs = outputs if network.num_classes > 1 else outputs.removesuffix("s")
    return (
        f"{kind}: {total.macs / 1e6:.4g} M multiply-adds, "
        f"{total.params / 1e6:.4g} M parameters, images of {network.in_channels} x {network.resolution} x "
        f"{network.resolution}, {network.num_classes} {outputs}."
    )


def _command(needs: str, task: TaskName) -> str:
    line, yields = LINES[task]
    return COMMAND.format(needs=needs, line=line, yields=yields)


def _origin_table(origin: Origin, made_with: str) -> str:
    facts = {
        "study": origin.study,
        "trial": origin.trial,
        "seed": origin.seed,
        "search space": origin.space,
        "objective": origin.objective,
        "data": origin.data,
        "recipe": origin.recipe,
        "exported with": made_with,
    }
    return _table(("", ""), [(name, str(value)) for name, value in facts.items() if value not in ("", None)])


def _metric_table(network: Network, origin: Origin) -> str:
    total = cost(network)
    counted = "counted, convolutions and linear layers, batch 1"
    rows = [] if origin.tested is None else _test_rows(origin.tested)
    if origin.accuracies:
        where = next((metric.environment for metric in origin.metrics if metric.name == "accuracy"), "")
        mean = show_accuracies(origin.accuracies)
        rows.append(("accuracy, mean of the network's trainings", mean, "fraction", where))
    rows += [(one.name, f"{one.value:.6g}", one.unit, one.environment) for one in origin.metrics]
    known = {metric.name for metric in origin.metrics}
    for name, value, where in (("macs", total.macs, counted), ("params", total.params, "counted")):
        if name not in known:
            rows.append((name, f"{value:,}", "count", where))
    return _table(("metric", "value", "unit", "measured on"), rows)


def _test_rows(tested: TestedWeights) -> list[tuple[str, str, str, str]]:
    """What these weights reach on the test split, the accuracy first."""
    rows = []
    for name, value in tested.values.items():
        unit = Metric(name=name, value=value).unit
        shown = show_accuracies([value]) if name == "accuracy" else f"{value:.6g}"
        rows.append((f"test {name} of these weights", shown, unit, tested.where_of(name)))
    return rows


def _network_table(network: Network) -> str:
    rows = [
        (
            row.stage,
            row.operator,
            f"{row.resolution} x {row.resolution}",
            f"{row.channels:,}",
            str(row.layers),
            f"{row.macs:,}",
            f"{row.params:,}",
        )
        for row in describe(network)
    ]
    return _table(("stage", "operator", "resolution", "channels", "layers", "macs", "params"), rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(text) for text in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _program(
    network: Network, preprocessing: Preprocessing | None, modules: tuple[str, ...], run: str
) -> str:
    shape = f"1, {network.in_channels}, {network.resolution}, {network.resolution}"
    if preprocessing is None:
        lines = ["import numpy as np", *(f"import {name}" for name in modules)]
        images, answer = NUMBERS, NUMBER
    else:
        lines = [f"import {name}" for name in sorted((*modules, "predict"))]
        images, answer = FILE, NAME if preprocessing.task == CLASSIFICATION else NAMED
    return "\n".join(lines) + f"\n\n{images.format(shape=shape)}{run}{answer}"


def _usage(title: str, needs: str, program: str) -> str:
    return f"### {title}\n\nNeeds {needs}, numpy, pillow.\n\n```python\n{program}```"
