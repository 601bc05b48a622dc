"""`nas.predict`: the classes, labels or numbers of image files, by a bundle's network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas.data.images import Files
from nas.data.tree import count, few, find_kinds, list_tree, printable
from nas.errors import DataError, UsageError
from nas.export.opened import OpenBundle, open_bundle
from nas.export.preprocessing import Preprocessing
from nas.scoring.outputs import Unreadable, batch_size_for, run_over
from nas.scoring.predictions import AnyPrediction, Read, class_reader, label_reader, number_reader
from nas.scoring.runtimes import RuntimeName, make_runtime
from nas.tasks import CLASSIFICATION, MULTILABEL, REGRESSION, THRESHOLD
from nas.trial import Say, say_nothing
from nas.values import real, whole

Paths = str | Path | Sequence[str | Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What was predicted.

    Attributes:
        images: One for each image that could be read, in the order of the paths: `Prediction`,
            `MultilabelPrediction` or `RegressionPrediction`, by the network's task.
        unreadable: Those that could not.
        runtime: What ran the network, where.
        notes: What was passed over in folders.
    """

    images: tuple[AnyPrediction, ...]
    unreadable: tuple[Unreadable, ...] = ()
    runtime: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[AnyPrediction]:
        return iter(self.images)


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """One batch of predictions.

    Attributes:
        images: Of those that could be read.
        unreadable: Those that could not.
    """

    images: tuple[AnyPrediction, ...]
    unreadable: tuple[Unreadable, ...]


class Predictor:
    """A bundle's network over files that were found, batch by batch: memory does not grow with the files.

    Args:
        bundle: A bundle, or the folder of a training or study that has one.
        paths: Image files, and folders with images at any depth.
        runtime: `torch`, or `onnx` for the bundle's `model.onnx` in ONNX Runtime.
        top: Classes or labels of each image, the likeliest first; by default one class, or all labels.
        threshold: Probability from which on a label counts as predicted; by default 0.5. For labels only.
        batch_size: Images a forward pass; by default up to 256, fewer where they are large.
        device: `auto` (a GPU where there is one), `cpu` or `cuda`.

    Attributes:
        preprocessing: What the network predicts, and from what.
        top: Classes or labels of each image, not more than there are; all numbers.
        files: The files, in the order of the paths; those of a folder by name.
        notes: What was passed over in folders.
        runtime: What runs the network, where.

    Raises:
        ExportError: There is no such bundle, or a file of it cannot be used.
        DataError: A path does not exist, or there is no image.
        UsageError: `top` or `threshold` is out of range, or not for the network's task.
        ExecutorError: The device is not there.
    """

    def __init__(
        self,
        bundle: str | Path | OpenBundle,
        paths: Paths,
        *,
        runtime: RuntimeName = "torch",
        top: int | None = None,
        threshold: float | None = None,
        batch_size: int | None = None,
        device: str = "auto",
    ) -> None:
        opened = bundle if isinstance(bundle, OpenBundle) else open_bundle(bundle)
        self.preprocessing = opened.required_preprocessing()
        self.top = _top(self.preprocessing, top)
        threshold = _threshold(self.preprocessing, threshold)
        self._batch_size = batch_size_for(batch_size, self.preprocessing.reading.resolution)
        self.files, self.notes = find_images(paths)
        self._read = _reader(self.preprocessing, self.files, self.top, threshold)
        self._run = make_runtime(opened, runtime, device)

    @property
    def runtime(self) -> str:
        """What runs the network, where."""
        return self._run.name

    def __iter__(self) -> Iterator[Predicted]:
        """Yields batch after batch.

        Raises:
            ExecutorError: The memory does not suffice for a batch.
        """
        part = Files(root="", paths=self.files, labels=np.zeros(len(self.files), np.int64))
        for outputs in run_over(self._run, part, self.preprocessing, batch_size=self._batch_size):
            yield Predicted(images=tuple(self._read(outputs)), unreadable=outputs.unreadable)


def _top(preprocessing: Preprocessing, top: int | None) -> int:
    """How many names each image gets."""
    count = len(preprocessing.classes)
    if top is None:
        return 1 if preprocessing.task == CLASSIFICATION else count
    if preprocessing.task == REGRESSION:
        raise UsageError(
            f"top chooses the likeliest classes or labels, but the network predicts numbers "
            f"({few(preprocessing.classes)}): leave it out",
            field="top",
        )
    return min(whole("top", top, least=1), count)


def _threshold(preprocessing: Preprocessing, threshold: float | None) -> float:
    if threshold is None:
        return THRESHOLD
    if preprocessing.task != MULTILABEL:
        raise UsageError(
            f"threshold is for labels, of which an image may have several, but the network is for "
            f"{preprocessing.task}: leave it out",
            field="threshold",
        )
    return real("threshold", threshold, least=0, most=1)


def _reader(preprocessing: Preprocessing, files: Sequence[str], top: int, threshold: float) -> Read:
    names = preprocessing.classes
    if preprocessing.task == CLASSIFICATION:
        return class_reader(files, names, top)
    if preprocessing.task == MULTILABEL:
        return label_reader(files, names, top, threshold)
    return number_reader(files, names)


def predict(
    bundle: str | Path | OpenBundle,
    paths: Paths,
    *,
    runtime: RuntimeName = "torch",
    top: int | None = None,
    threshold: float | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    progress: Say = say_nothing,
) -> Predictions:
    """Predicts the classes, labels or numbers of image files, which are read as in the network's training.

    Files that cannot be read are named in the result, and are no error.

    Args:
        bundle: A bundle, or the folder of a training or study that has one.
        paths: Image files, and folders with images at any depth; one alone, or a list.
        runtime: `torch`, or `onnx` for the bundle's `model.onnx` in ONNX Runtime.
        top: Classes or labels of each image, the likeliest first; by default one class, or all labels.
        threshold: Probability from which on a label counts as predicted; by default 0.5. For labels only.
        batch_size: Images a forward pass; by default up to 256, fewer where they are large.
        device: `auto` (a GPU where there is one), `cpu` or `cuda`.
        progress: Receives how many images were done.

    Raises:
        ExportError: There is no such bundle, or a file of it cannot be used.
        DataError: A path does not exist, or there is no image.
        UsageError: `top` or `threshold` is out of range, or not for the network's task.
        ExecutorError: The device is not there, or its memory does not suffice.
    """
    predictor = Predictor(
        bundle,
        paths,
        runtime=runtime,
        top=top,
        threshold=threshold,
        batch_size=batch_size,
        device=device,
    )
    images: list[AnyPrediction] = []
    unreadable: list[Unreadable] = []
    for batch in predictor:
        images += batch.images
        unreadable += batch.unreadable
        progress(f"predicted {len(images):,} of {len(predictor.files):,} images")
    return Predictions(
        images=tuple(images),
        unreadable=tuple(unreadable),
        runtime=predictor.runtime,
        notes=predictor.notes,
    )


def find_images(paths: Paths) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Lists image files, each once: those named, whatever they are, and the images below folders.

    Returns:
        The files, and notes on what was passed over.

    Raises:
        DataError: A path does not exist, or there is no image.
    """
    given = [Path(one).expanduser() for one in ([paths] if isinstance(paths, str | Path) else paths)]
    missing = [str(path) for path in given if not path.exists()]
    if missing:
        raise DataError(
            f"{few(missing)} {'does' if len(missing) == 1 else 'do'} not exist: check the path", field="paths"
        )
    files: dict[str, None] = {}
    notes: list[str] = []
    for path in given:
        if path.is_dir():
            found, said = _below(path)
            files |= dict.fromkeys(found)
            notes += said
        else:
            files[str(path)] = None
    if not files:
        where = few([str(path) for path in given]) or "no path"
        raise DataError(
            f"there must be an image, but {where} has none that Pillow opens: give image files or folders of "
            f"images{''.join(f'; {note}' for note in notes)}",
            field="paths",
        )
    return tuple(files), tuple(notes)


def _below(folder: Path) -> tuple[list[str], list[str]]:
    """The images below a folder, and what is passed over there."""
    tree = list_tree(folder)
    kinds = find_kinds(tree)
    notes = []
    where = printable(str(folder))
    if kinds.undecodable:
        named = few(sorted(kinds.undecodable))
        notes.append(f"{count(sorted(kinds.undecodable), 'image')} in {where} have no decoder here: {named}")
    if kinds.others:
        notes.append(f"passed over {count(sorted(kinds.others), 'file')} in {where} without an image")
    if tree.skipped:
        named = few([f"{one.path} ({one.reason})" for one in tree.skipped])
        notes.append(f"skipped {count(tree.skipped, 'path')} in {where}: {named}")
    return [str(folder / path) for path in tree.below("") if kinds.is_image(path)], notes
