"""`ImageData`: labelled images in three splits, as plain data that crosses process boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from nas.errors import DataError
from nas.tasks import CLASSIFICATION, TASKS, TaskName
from nas.values import digest, whole

Fit = Literal["crop", "pad", "stretch"]
FIT: Fit = "crop"
SEARCH_FRACTION = 0.2
"""Share of the training images that becomes the search split, where nothing else is said."""
TEST_FRACTION = 0.2
"""Share of all images that becomes the test split, where there is none and nothing else is said."""
WHITE = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a user says of how images become pixels; the rest of a `Reading` follows from the images.

    Attributes:
        resolution: Height and width in pixels; None infers it.
        fit: See `Reading`.
    """

    resolution: int | None = None
    fit: Fit = FIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How images become pixels, the same for the whole data set, so that they stay comparable.

    Attributes:
        channels: 1 (grey) or 3 (red, green, blue).
        resolution: Height and width of the result, in pixels.
        fit: How an image that is not square becomes square: its centre is cut out (`crop`), it is padded
            with black (`pad`), or it is distorted (`stretch`).
        bits: Bits that the largest value needs in images of 16 or 32 bits a pixel: they are divided by
            2^(bits - 8).
        float_white: Value that is white in images of floating point numbers: 1 or 255.
        background: Grey level behind transparent pixels; None ignores transparency, as earlier versions did.

    Raises:
        DataError: A value is out of range.
    """

    channels: int
    resolution: int
    fit: Fit = FIT
    bits: int = 16
    float_white: float = 255.0
    background: int | None = WHITE

    def __post_init__(self) -> None:
        check_fit(self.fit)
        for name, allowed in (("channels", (1, 3)), ("float_white", (1, WHITE))):
            if getattr(self, name) not in allowed:
                raise DataError(
                    f"`{name} in {allowed}` must hold, but got {name}={getattr(self, name)!r}", field=name
                )
        whole("resolution", self.resolution, least=1, error=DataError)
        whole("bits", self.bits, least=8, most=32, error=DataError)
        if self.background is not None:
            whole("background", self.background, least=0, most=WHITE, error=DataError)

    @property
    def image_bytes(self) -> int:
        """Size of one decoded image."""
        return self.channels * self.resolution**2

    @property
    def marks(self) -> tuple[str, ...]:
        """What a fingerprint says of it: nothing for the default, so that older studies can be resumed."""
        return () if self.fit == "crop" else (f"fit={self.fit}",)


if TYPE_CHECKING:
    from search_spaces import Network

SplitName = Literal["train", "search", "test"]
Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[Any]
"""int64 of shape (count,), each the index of a class; or, where an image may have several labels or numbers,
float32 of shape (count, outputs): 0 and 1, or numbers in their own unit."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pixels:
    """Decoded images, held whole.

    Attributes:
        images: uint8 of shape (count, channels, resolution, resolution).
        labels: One row for each image, see `Labels`.
        names: What each image is called: its path in a folder, its place in a pack or an array; empty where
            that is not known.
    """

    images: Images
    labels: Labels
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise DataError(
                "images must be uint8 of shape (count, channels, height, width), "
                f"but got {self.images.dtype} of shape {self.images.shape}"
            )
        if self.labels.ndim not in (1, 2) or len(self.labels) != len(self.images):
            raise DataError(
                f"there must be one label, or one row of labels, per image, but got {len(self.images)} "
                f"images and labels of shape {self.labels.shape}"
            )
        if len(self.names) not in (0, len(self.labels)):
            raise DataError(
                f"there must be one name per image, or none at all, but got {len(self.names)} names and "
                f"{len(self.labels)} images"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """What an image is called."""
        return self.names[index] if self.names else numbered("", index)

    def take(self, indices: npt.NDArray[np.int64]) -> Pixels:
        """Copies the chosen images."""
        return Pixels(
            images=self.images[indices], labels=self.labels[indices], names=choose_names(self.names, indices)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Numbered(Sequence[str]):
    """Names of images that have none of their own, such as `test image 12`: made when they are asked for.

    Attributes:
        part: The part of the data they come from.
        places: int64 of shape (count,), where each is in it.
    """

    part: str
    places: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> Any:
        """The name of one image, or those of a slice."""
        if isinstance(index, slice):
            return Numbered(self.part, self.places[index])
        return numbered(self.part, int(self.places[index]))


def numbered(part: str, place: int) -> str:
    """The name of an image that has none of its own."""
    return f"{part} image {place}".lstrip()


def choose_names(names: Sequence[str], indices: npt.NDArray[np.int64]) -> Sequence[str]:
    """The names of the chosen images; none where there are none."""
    if isinstance(names, Numbered):
        return Numbered(names.part, names.places[indices])
    return tuple(names[i] for i in indices.tolist()) if names else ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Files:
    """Images left on disk, read again each time: for data that does not fit in memory.

    Attributes:
        root: Folder the paths are relative to; every worker must see it under this name.
        paths: One path per image.
        labels: One row for each image, see `Labels`.
    """

    root: str
    paths: tuple[str, ...]
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """What an image is called: its path."""
        return self.paths[index]

    def take(self, indices: npt.NDArray[np.int64]) -> Files:
        """Lists the chosen images."""
        paths = tuple(self.paths[i] for i in indices)
        return Files(root=self.root, paths=paths, labels=self.labels[indices])


Part = Pixels | Files


def check_fit(fit: str) -> None:
    """Checks that it is known how images become square.

    Raises:
        DataError: It is not.
    """
    if fit not in get_args(Fit):
        raise DataError(
            f"`fit in {get_args(Fit)}` must hold, but got fit={fit!r}: give one of these", field="fit"
        )


def joined(parts: Sequence[Part]) -> Part:
    """Puts parts of one data set together, one after the other."""
    labels = np.concatenate([part.labels for part in parts])
    files = [part for part in parts if isinstance(part, Files)]
    if files:
        return Files(
            root=files[0].root, paths=tuple(path for part in files for path in part.paths), labels=labels
        )
    pixels = [part for part in parts if isinstance(part, Pixels)]
    return Pixels(
        images=np.concatenate([part.images for part in pixels]),
        labels=labels,
        names=tuple(part.name(index) for part in pixels for index in range(len(part))),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Carving:
    """How splits that were not given are carved from the training images.

    Attributes:
        seed: Decides which images.
        search_fraction: Share of the training images that becomes the search split.
        test_fraction: Share of all images that becomes the test split.
    """

    seed: int = 0
    search_fraction: float = SEARCH_FRACTION
    test_fraction: float = TEST_FRACTION

    def __str__(self) -> str:
        return (
            f"seed {self.seed}, search fraction {self.search_fraction:g}, test fraction "
            f"{self.test_fraction:g}"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageData:
    """Labelled images in three splits that share nothing.

    Attributes:
        name: What users call the data.
        classes: Names of what the outputs of a network stand for: classes, labels, or columns of numbers.
        reading: How image files become pixels; the size of all images.
        train: What networks learn from.
        search: What the search sees: the accuracy of a trial is measured here.
        test: Touched once, for the final comparison.
        mean: Mean of each channel of the training split, in [0, 1].
        std: Standard deviation of each channel of the training split, in (0, 1].
        mirrors: Whether a mirrored image keeps its label; not so for digits.
        content_digest: Digest of the images: of all pixels, or of names and file sizes for a folder.
        split_fingerprint: Digest of which image is in which split.
        carving: How the splits that were not given were carved; None where that is not known.
        task: What networks learn to predict.
        target_mean: Mean of each column of numbers on the training split, in its own unit; empty for other
            tasks. A network gives the number less this mean, divided by this deviation.
        target_std: Standard deviation of each, likewise.
        native_side: Median side of the images as they came, of those that `fit` keeps, pixels; None where
            that is not known.
        notes: What was decided on the user's behalf.
        warnings: What the user should look at, such as images that were skipped.
    """

    name: str
    classes: tuple[str, ...]
    reading: Reading
    train: Part
    search: Part
    test: Part
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mirrors: bool
    content_digest: str
    split_fingerprint: str
    carving: Carving | None = None
    task: TaskName = CLASSIFICATION
    target_mean: tuple[float, ...] = ()
    target_std: tuple[float, ...] = ()
    native_side: float | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """Number of outputs of a network: classes, labels, or columns of numbers."""
        return len(self.classes)

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (colour)."""
        return self.reading.channels

    @property
    def resolution(self) -> int:
        """Height and width of every image, in pixels."""
        return self.reading.resolution

    @property
    def is_resident(self) -> bool:
        """Whether all images are held in memory."""
        return all(isinstance(part, Pixels) for part in (self.train, self.search, self.test))

    @property
    def fingerprint(self) -> str:
        """Changes when the images, their size, fit, task or classes change; the split has its own."""
        task = () if self.task == CLASSIFICATION else (f"task={self.task}",)
        return digest(
            self.content_digest, self.channels, self.resolution, *self.classes, *self.reading.marks, *task
        )

    def split(self, name: SplitName) -> Part:
        """Returns one of the three splits by its name."""
        return {"train": self.train, "search": self.search, "test": self.test}[name]

    def __str__(self) -> str:
        shape = f"{self.channels} x {self.resolution} x {self.resolution}"
        counts = f"{len(self.train):,} train / {len(self.search):,} search / {len(self.test):,} test"
        outputs = TASKS[self.task].outputs
        outputs = outputs.removesuffix("s") if self.num_classes == 1 else outputs
        return f"{self.name}: {self.num_classes} {outputs}, {shape}, {counts}"


def check_fits(network: Network, data: ImageData) -> None:
    """Checks that a network fits these images and classes.

    Raises:
        DataError: Resolution, channels or number of classes differ.
    """
    wanted = (
        ("resolution", network.resolution, data.resolution),
        ("in_channels", network.in_channels, data.channels),
        ("num_classes", network.num_classes, data.num_classes),
    )
    for field, has, needs in wanted:
        if has != needs:
            raise DataError(
                f"the network must have {field}={needs} to fit {data.name}, but has {field}={has}: "
                f"build the space with {field}={needs}",
                field=field,
            )
