"""What a full training came to: the best weights, tested once and exported, and what is written of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas.data.description import DataDescription
from nas.data.images import ImageData
from nas.devices import choose_device, describe_device
from nas.errors import ExportError, TrainingError
from nas.evaluation.agreement import Agreement
from nas.export.bundle import CARD, export_bundle
from nas.export.card import Origin
from nas.export.opened import RUN_BUNDLE, open_bundle
from nas.export.preprocessing import Preprocessing
from nas.export.weights import trained
from nas.full_training.checkpoint import Best, Checkpoint, Row
from nas.full_training.curves import draw_curves
from nas.full_training.options import TrainOptions
from nas.full_training.recipe import FullRecipe
from nas.full_training.task_laws import is_telling
from nas.full_training.training import Training
from nas.io import write_whole
from nas.reading import read_json
from nas.report.winner_report import chance_note
from nas.starting_weights import Weights
from nas.tasks import REGRESSION, TASKS
from nas.tested_weights import TestedWeights, weights_digest
from nas.training.accuracy import measure_tested
from nas.training.proxy import weights_bytes
from nas.trial import InfeasibleError, Metric, Say
from nas.values import counted
from search_spaces import Network

RESULT, CURVES = "result.json", "curves.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A network that was trained, and not tested.

    Attributes:
        label: What it is called.
        folder: Where it was trained.
        best: Which weights are kept, with their metric on the search split.
        macs: Multiply-adds of one image.
        params: Parameters.
        seconds: Wall time of the training.
        notes: What happened.
    """

    label: str
    folder: Path
    best: Best
    macs: int
    params: int
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a full training came to.

    Attributes:
        folder: Where it is.
        network: The network.
        tested: What the exported weights reach on the test split.
        fitted: The training of these weights.
        rows: Its evaluations.
        ranking: All networks that were trained, the best on the search split first.
        bundle: Folder of the exported network.
        curves: The picture of the training.
        warnings: What the user should look at before trusting the result.
        agreement: How far the ranking agrees with shared weights; None where the study has none.
    """

    folder: Path
    network: Network
    tested: TestedWeights
    fitted: Fitted
    rows: tuple[Row, ...]
    ranking: tuple[Fitted, ...]
    bundle: Path
    curves: Path
    warnings: tuple[str, ...] = ()
    agreement: Agreement | None = None

    @property
    def metric(self) -> str:
        """The metric that the weights were chosen by."""
        return self.fitted.best.metric

    @property
    def metrics(self) -> Mapping[str, float]:
        """Every metric of the task on the test split, by name."""
        return self.tested.values

    @property
    def value(self) -> float:
        """The metric on the test split."""
        return self.metrics[self.metric]

    @property
    def accuracy(self) -> float | None:
        """Accuracy on the test split, a fraction; None where there are no classes."""
        return self.tested.accuracy

    @property
    def interval(self) -> tuple[float, float] | None:
        """Central 95 % interval of the accuracy on images like these (Wilson), or else of the metric."""
        return self.tested.interval or self.tested.intervals.get(self.metric)

    @property
    def right(self) -> int | None:
        """Test images classified rightly; None where there are no classes."""
        return self.tested.right

    @property
    def images(self) -> int:
        """Test images that could be read."""
        return self.tested.images


def finish(
    folder: Path,
    training: Training,
    best: Fitted,
    checkpoint: Checkpoint,
    ranking: Sequence[Fitted],
    options: TrainOptions,
    say: Say,
    *,
    agreement: Agreement | None = None,
) -> Trained:
    """Tests the best weights, writes the result, exports, draws; what is there already is not made again."""
    network, data = training.start.network, training.data
    module = trained(network, checkpoint.best)
    digest = weights_digest(weights_bytes(module))
    tested = _tested_before(folder, digest)
    if tested is None:
        say(f"testing on {counted(len(data.test), 'image')}")
        tested = measure_test(module, training, digest, choose_device(options.device))
    found = Trained(
        folder=folder,
        network=network,
        tested=tested,
        fitted=best,
        rows=checkpoint.state.rows,
        ranking=tuple(ranking),
        bundle=folder / RUN_BUNDLE,
        curves=folder / CURVES,
        warnings=_warnings(tested, best.best.metric, data),
        agreement=agreement,
    )
    # Before anything that may fail or be killed, so that the test split is not looked at again.
    write_json(folder / RESULT, _result(found, training))
    if not _is_exported(found.bundle, checkpoint.best):
        say("exporting, and loading the bundle in a new process")
        _export(found, training, checkpoint.best, options)
    draw_curves(found.rows, found.curves, title=f"{best.label}, recipe {training.recipe.name}")
    return found


def _export(found: Trained, training: Training, weights: Weights, options: TrainOptions) -> None:
    export_bundle(
        found.bundle,
        network=found.network,
        weights=weights,
        preprocessing=Preprocessing.of(training.data),
        origin=_origin(training, found, options),
        overwrite=True,
        with_onnx=options.has_onnx,
    )


def measure_test(module: nn.Module, training: Training, digest: str, device: torch.device) -> TestedWeights:
    """Looks at the test split, once, with every metric; images that can no longer be read do not count.

    Raises:
        TrainingError: An output is not finite.
        DataError: No image can be read any more, or too many cannot.
    """
    data = training.data
    names = [name for name in TASKS[data.task].metrics if is_telling(name, data.test, data)]
    try:
        return measure_tested(
            module,
            data,
            names,
            trial=None,
            digest=digest,
            device=device,
            batch_size=training.recipe.batch_for(len(data.train)),
        )
    except InfeasibleError as error:
        raise TrainingError(
            f"the weights of {training.start.name} cannot be used: {error.message}; give a lower "
            "learning_rate, and another --out",
            field="learning_rate",
        ) from error


def _warnings(tested: TestedWeights, metric: str, data: ImageData) -> tuple[str, ...]:
    """Says where a result may be chance, and where images are missing in it."""
    found = []
    lost = len(data.test) - tested.images
    if lost:
        found.append(f"{lost:,} of the {len(data.test):,} test images cannot be read, and do not count")
    counts = DataDescription.of(data).by_split()["test"]
    names = dict.fromkeys((TASKS[data.task].metrics[0], metric))
    found += [chance_note(name, tested.values.get(name), counts, split="test") for name in names]
    return tuple(filter(None, found))


def _tested_before(folder: Path, weights: str) -> TestedWeights | None:
    """What these weights reached on the test split before; it is looked at once."""
    try:
        tested = TestedWeights(**read_json(folder / RESULT)["tested_weights"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return tested if tested.digest == weights and tested.values else None


def _is_exported(bundle: Path, weights: Weights) -> bool:
    """Whether the bundle is there, whole, with these weights."""
    if not (bundle / CARD).is_file():
        return False
    try:
        exported = open_bundle(bundle).weights()
    except ExportError:
        return False
    return exported.keys() == weights.keys() and all(
        torch.equal(exported[name], tensor) for name, tensor in weights.items()
    )


def _origin(training: Training, found: Trained, options: TrainOptions) -> Origin:
    best = found.fitted.best
    device = choose_device(options.device)
    where = f"{options.workers} x {describe_device(device)}"
    unit = "GPU-hours" if device.type == "cuda" else "hours"
    threads = "" if device.type == "cuda" else f", threads {torch.get_num_threads()}"
    trial = training.start.trial
    search = Metric(
        name=best.metric,
        value=best.value,
        environment=f"search split; {best.kind} of epoch {best.epoch:g}, the best evaluation",
    )
    hours = [one.seconds / 3600 * (options.workers if device.type == "cuda" else 1) for one in found.ranking]
    spent = [Metric(name="training_cost", value=hours[0], unit=unit, environment=f"{where}{threads}")]
    if len(hours) > 1:
        every = f"all {len(hours)} trainings of the ranking; {where}{threads}"
        spent.append(Metric(name="ranking_cost", value=sum(hours), unit=unit, environment=every))
    return Origin(
        study="" if trial is None else str(trial.folder),
        trial=None if trial is None else trial.number,
        seed=training.seed,
        space="" if trial is None else trial.provenance.space_name,
        data=str(training.data),
        recipe=_in_words(training.recipe, training.data),
        objective="" if trial is None else trial.objective.describe(),
        metrics=(search, *spent),
        tested=found.tested,
    )


def _in_words(recipe: FullRecipe, data: ImageData) -> str:
    """The recipe without its name and the loss of another task."""
    left_out = ("name", "loss" if data.task == REGRESSION else "regression_loss")
    lines = [line.split(" = ", 1) for line in recipe.to_toml().splitlines()]
    fields = ", ".join(f"{name}={value}" for name, value in lines if name not in left_out)
    images = len(data.train)
    steps = counted(recipe.steps(images), "step")
    return f"{recipe.name}: {recipe.batch_for(images)} images a step, {steps}; {fields}"


def _result(found: Trained, training: Training) -> Mapping[str, Any]:
    return {
        "network": found.network.digest,
        "recipe": training.recipe.name,
        "task": training.data.task,
        "metric": found.metric,
        **found.metrics,
        "interval": found.interval,
        f"search_{found.metric}": found.fitted.best.value,
        "fitted": plain(found.fitted),
        "ranking": [plain(fitted) for fitted in found.ranking],
        "agreement": None if found.agreement is None else asdict(found.agreement),
        "evaluations": [_evaluation(row) for row in found.rows],
        "tested_weights": asdict(found.tested),
        "warnings": found.warnings,
    }


def _evaluation(row: Row) -> dict[str, Any]:
    """An evaluation as JSON values, with its metric by name."""
    values = asdict(row)
    metric, value, averaged = (values.pop(name) for name in ("metric", "value", "averaged_value"))
    return {**values, metric: value, f"averaged_{metric}": averaged}


def plain(fitted: Fitted) -> dict[str, Any]:
    """A training as JSON values."""
    return {**asdict(fitted), "folder": str(fitted.folder)}


def write_json(path: Path, value: object) -> None:
    """Writes a value as JSON, whole or not at all."""
    try:
        write_whole(path, json.dumps(value, indent=1) + "\n")
    except OSError as error:
        raise TrainingError(
            f"{path} cannot be written: {error.strerror or error}; make room, and repeat the command: the "
            "training is kept",
            field="out",
        ) from error
