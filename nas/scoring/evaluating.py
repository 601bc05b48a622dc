"""`nas.evaluate`: scores a bundle's network on images of known classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nas.data.images import Carving, ImageData, Part
from nas.data.labelled import Labelled, WholeOrSplit, load_labelled
from nas.data.tree import few
from nas.errors import DataError
from nas.export.opened import OpenBundle, open_bundle
from nas.export.preprocessing import Preprocessing
from nas.scoring.class_names import match_classes
from nas.scoring.origin import judge_origin
from nas.scoring.readings import note_reading
from nas.scoring.runtimes import Runtime, RuntimeName, make_runtime
from nas.scoring.scores import TOP, Scores, score
from nas.scoring.top_classes import TopClasses, Unreadable, batch_size_for, classify, joined
from nas.trial import Say, say_nothing


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
) -> Scores:
    """Scores a bundle's network on one split of labelled images.

    The images are read as in the network's training, whatever these images alone would suggest, and split as
    then, as far as the bundle says. A reading of the test split is written into the bundle's card.

    Args:
        bundle: A bundle, or the folder of a training or study that has one.
        data: A folder of images, a `.npz` pack, the name of a data set, or loaded data.
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

    Raises:
        ExportError: There is no such bundle, or a file of it cannot be used.
        DataError: There are no such images, none of the split can be read, or they have a class that the
            network does not know.
        ExecutorError: The device is not there, or its memory does not suffice.
    """
    opened = bundle if isinstance(bundle, OpenBundle) else open_bundle(bundle)
    preprocessing = opened.required_preprocessing()
    run = make_runtime(opened, runtime, device)
    size = batch_size_for(batch_size, preprocessing.reading.resolution)
    labelled = load_labelled(
        data,
        split,
        preprocessing.reading,
        carving=_carving(preprocessing, seed, search_fraction, test_fraction),
        root=data_root,
        download=download,
        progress=progress,
    )
    matched = match_classes(labelled, preprocessing.classes)
    predictions = _predict_all(run, matched.part, preprocessing, size, progress)
    lost = tuple(Unreadable(name=name, reason="no image that can be read") for name in labelled.unreadable)
    _require_read(labelled, predictions)
    scores = score(predictions, matched.part, preprocessing.classes)
    origin = judge_origin(labelled, preprocessing.trained_on)
    scores = replace(
        scores,
        data=labelled.name,
        split=split,
        bundle=str(opened.folder),
        runtime=run.name,
        unreadable=lost + predictions.unreadable,
        notes=labelled.notes + origin.notes + matched.notes,
        warnings=labelled.warnings + _lost(predictions) + origin.warnings + scores.doubts(),
    )
    failed = note_reading(opened, scores) if split == "test" else ()
    return replace(scores, warnings=scores.warnings + failed)


def _predict_all(
    run: Runtime, part: Part, preprocessing: Preprocessing, batch_size: int, progress: Say
) -> TopClasses:
    """The predictions of all images, with progress."""
    parts: list[TopClasses] = []
    top = min(TOP, len(preprocessing.classes))
    for predictions in classify(run, part, preprocessing.reading, top=top, batch_size=batch_size):
        parts.append(predictions)
        progress(f"predicted {sum(map(len, parts)):,} of {len(part):,} images")
    return joined(parts, top)


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


def _require_read(labelled: Labelled, predictions: TopClasses) -> None:
    if not len(predictions):
        names = few([one.name for one in predictions.unreadable])
        raise DataError(
            f"none of the {len(labelled.part):,} images of the {labelled.split} split of {labelled.name} can "
            f"be read: {names}; is the folder complete?",
            field="data",
        )


def _lost(predictions: TopClasses) -> tuple[str, ...]:
    """Warns of images that could not be decoded when their turn came."""
    if not predictions.unreadable:
        return ()
    total = len(predictions) + len(predictions.unreadable)
    names = few([one.name for one in predictions.unreadable])
    return (f"{len(predictions.unreadable):,} of {total:,} images cannot be read, and do not count: {names}",)
