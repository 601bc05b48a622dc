"""`nas.evaluate`: scores a bundle's network on images whose labels are known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from nas.data.images import Carving, ImageData
from nas.data.labelled import Labelled, WholeOrSplit, load_labelled
from nas.data.tree import few
from nas.errors import DataError
from nas.export.opened import OpenBundle, open_bundle
from nas.export.preprocessing import Preprocessing
from nas.scoring.by_task import AnyScores, score_outputs
from nas.scoring.class_names import match_names
from nas.scoring.origin import judge_origin
from nas.scoring.outputs import Outputs, Unreadable, batch_size_for, run_over
from nas.scoring.readings import note_reading
from nas.scoring.runtimes import RuntimeName, make_runtime
from nas.tasks import CLASSIFICATION, MULTILABEL, REGRESSION, TaskName
from nas.trial import Say, say_nothing

LABELS: dict[TaskName, str] = {
    CLASSIFICATION: "one class each",
    MULTILABEL: "0 or 1 for each label, in a CSV or a pack",
    REGRESSION: "numbers, in a CSV or a pack",
}
"""What images need for each task."""


def evaluate(
    bundle: str | Path | OpenBundle,
    *,
    data: str | Path | ImageData,
    split: WholeOrSplit = "test",
    runtime: RuntimeName = "torch",
    device: str = "auto",
    batch_size: int | None = None,
    data_root: str | Path | None = None,
    download: bool = False,
    seed: int | None = None,
    search_fraction: float | None = None,
    test_fraction: float | None = None,
    progress: Say = say_nothing,
) -> AnyScores:
    """Scores a bundle's network on one split of labelled images.

    The images are read as in the network's training, whatever these images alone would suggest, and split as
    then, as far as the bundle says. A reading of the test split is written into the bundle's card.

    Args:
        bundle: A bundle, or the folder of a training or study that has one.
        data: A folder of images, a `.npz` pack, a CSV of file names and labels, the name of a data set, or
            loaded data; with labels for the network's task.
        split: `test`, `search`, `train`, or `all` images.
        runtime: `torch`, or `onnx` for the bundle's `model.onnx` in ONNX Runtime.
        device: `auto` (a GPU where there is one), `cpu` or `cuda`.
        batch_size: Images a forward pass; by default up to 256, fewer where they are large.
        data_root: Folder with torchvision's files, for data sets by name.
        download: Whether a data set by name may be downloaded.
        seed: Seed of a split that is carved; by default that of the training, or 0 where it is not known.
        search_fraction: Share of the training images in a search split that is carved; likewise.
        test_fraction: Share of all images in a test split that is carved; likewise.
        progress: Receives what is going on.

    Returns:
        `Scores` for classes, `MultilabelScores` for labels, `RegressionScores` for numbers.

    Raises:
        ExportError: There is no such bundle, or a file of it cannot be used.
        DataError: There are no such images, none of the split can be read, their labels are not for the
            network's task, or they have a class, label or column that the network does not know, or lack one.
        ExecutorError: The device is not there, or its memory does not suffice.
    """
    opened = bundle if isinstance(bundle, OpenBundle) else open_bundle(bundle)
    preprocessing = opened.required_preprocessing()
    run = make_runtime(opened, runtime, device)
    size = batch_size_for(batch_size, preprocessing.reading.resolution)
    carving = _carving(preprocessing, seed, search_fraction, test_fraction)
    labelled = _load(data, split, preprocessing, carving, data_root, download, progress)
    matched = match_names(labelled, preprocessing.classes)
    batches = run_over(run, matched.part, preprocessing, batch_size=size)
    scores = score_outputs(_watched(batches, labelled, progress), matched.part, preprocessing)
    lost = tuple(Unreadable(name=name, reason="no image that can be read") for name in labelled.unreadable)
    origin = judge_origin(labelled, preprocessing.trained_on)
    scores = replace(
        scores,
        data=labelled.name,
        split=split,
        bundle=str(opened.folder),
        runtime=run.name,
        unreadable=lost + scores.unreadable,
        notes=labelled.notes + origin.notes + matched.notes,
        warnings=labelled.warnings + _lost(scores) + origin.warnings + scores.doubts(),
    )
    failed = note_reading(opened, scores) if split == "test" else ()
    return replace(scores, warnings=scores.warnings + failed)


def _load(
    data: str | Path | ImageData,
    split: WholeOrSplit,
    preprocessing: Preprocessing,
    carving: Carving,
    root: str | Path | None,
    download: bool,
    progress: Say,
) -> Labelled:
    """The images as the network's training read them, with labels for its task."""
    try:
        return load_labelled(
            data,
            split,
            preprocessing.reading,
            carving=carving,
            task=preprocessing.task,
            root=root,
            download=download,
            progress=progress,
        )
    except DataError as error:
        if error.field != "task":
            raise
        where = data.name if isinstance(data, ImageData) else data
        raise DataError(
            f"the network is for {preprocessing.task}, but the labels of {where} are not: give images with "
            f"{LABELS[preprocessing.task]}, or the bundle of a network for these labels",
            field="data",
        ) from error


def _watched(batches: Iterator[Outputs], labelled: Labelled, progress: Say) -> Iterator[Outputs]:
    """Passes batches on with progress; it is an error where no image can be read."""
    read = 0
    lost: tuple[Unreadable, ...] = ()
    for batch in batches:
        read += len(batch)
        lost += batch.unreadable
        progress(f"predicted {read:,} of {len(labelled.part):,} images")
        yield batch
    if not read:
        raise DataError(
            f"none of the {len(labelled.part):,} images of the {labelled.split} split of {labelled.name} can "
            f"be read: {few([one.name for one in lost])}; is the folder complete?",
            field="data",
        )


def _carving(
    preprocessing: Preprocessing,
    seed: int | None,
    search_fraction: float | None,
    test_fraction: float | None,
) -> Carving:
    """Seed and fractions that were given; else those of the training, where they are known."""
    known = preprocessing.trained_on
    base = known.carving if known is not None and known.carving is not None else Carving()
    return Carving(
        seed=base.seed if seed is None else seed,
        search_fraction=base.search_fraction if search_fraction is None else search_fraction,
        test_fraction=base.test_fraction if test_fraction is None else test_fraction,
    )


def _lost(scores: AnyScores) -> tuple[str, ...]:
    """Warns of images that could not be decoded when their turn came."""
    if not scores.unreadable:
        return ()
    total = scores.images + len(scores.unreadable)
    names = few([one.name for one in scores.unreadable])
    return (f"{len(scores.unreadable):,} of {total:,} images cannot be read, and do not count: {names}",)
