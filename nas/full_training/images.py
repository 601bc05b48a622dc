"""`ImageSource`: images that are still to be read, at the resolution of the network that is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nas.data.images import FIT, SEARCH_FRACTION, Carving, Fit, ImageData
from nas.data.loading import load_data
from nas.errors import DataError
from nas.export.preprocessing import Preprocessing, TrainedOn
from nas.study.study import Study
from nas.tasks import TaskName
from nas.trial import Say


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSource:
    """Where images are, and how they are read and split.

    Attributes:
        spec: A folder, a `.npz` pack, or the name of a data set.
        root: Folder with torchvision's files, for data sets by name.
        download: Whether a data set by name may be downloaded.
        task: What networks learn to predict; None is what the labels say.
        fit: How images become square; None is the default, or that of the weights that training starts from.
        carving: How splits that are not given are carved; None likewise.
    """

    spec: str | Path
    root: str | Path | None = None
    download: bool = False
    task: TaskName | None = None
    fit: Fit | None = None
    carving: Carving | None = None

    def like(self, preprocessing: Preprocessing | None) -> ImageSource:
        """Returns it with what is not said as it was for the weights of a bundle."""
        if preprocessing is None:
            return self
        trained_on = preprocessing.trained_on
        return replace(
            self,
            fit=self.fit or preprocessing.reading.fit,
            carving=self.carving or (None if trained_on is None else trained_on.carving),
        )

    def load(self, resolution: int | None, progress: Say) -> ImageData:
        """Reads and splits the images.

        Raises:
            DataError: There are no such images, or they cannot be used.
        """
        carving = self.carving or Carving()
        return load_data(
            self.spec,
            task=self.task,
            root=self.root,
            download=self.download,
            resolution=resolution,
            search_fraction=carving.search_fraction,
            test_fraction=carving.test_fraction,
            seed=carving.seed,
            fit=self.fit or FIT,
            progress=progress,
        )


def of_study(study: Study, given: ImageSource | None = None) -> ImageSource | None:
    """The images of a study, split as there, or others that are given; None where it has none."""
    settings: dict[str, Any] = study.settings
    if "data" not in settings:
        return given
    split_seed = settings.get("split_seed")
    carving = Carving(
        seed=int(settings.get("seed", 0) if split_seed is None else split_seed),
        search_fraction=float(settings.get("search_fraction", SEARCH_FRACTION)),
    )
    own = ImageSource(
        spec=settings["data"],
        root=settings.get("data_root"),
        task=settings.get("task"),
        fit=settings.get("fit"),
        carving=carving,
    )
    if given is None:
        return own
    return replace(
        given,
        root=given.root or own.root,
        task=given.task or own.task,
        fit=given.fit or own.fit,
        carving=given.carving or carving,
    )


def check_apart(data: ImageData, trained_on: TrainedOn | None) -> None:
    """Checks that weights to start from were not trained on images that are now for testing.

    Raises:
        DataError: They were: the images are the same, and the split is another.
    """
    if trained_on is None or trained_on.data != data.content_digest:
        return
    if trained_on.split != data.split_fingerprint:
        how = "" if trained_on.carving is None else f" ({trained_on.carving})"
        raise DataError(
            f"the split of {data.name} must be that of the training of the weights{how}, or the test split "
            "would hold images that they were trained on: leave --split-seed and --search-fraction out",
            field="seed",
        )


def check_splits(data: ImageData) -> None:
    """Checks that there are images to choose by and to test on.

    Raises:
        DataError: The search or the test split is empty.
    """
    for name in ("search", "test"):
        if not len(data.split(name)):
            use = "the best weights are chosen on it" if name == "search" else "the result is tested on it"
            raise DataError(
                f"the {name} split of {data.name} must hold images, since {use}, but is empty: add images, "
                "or leave it out so that it is carved from the others",
                field="data",
            )
