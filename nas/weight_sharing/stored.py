"""A trained supernet on the disk: its weights as safetensors, and what they are as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from nas.data.images import FIT, SEARCH_FRACTION, Fit, ImageData
from nas.errors import SupernetError
from nas.folders import SUPERNET, holds_supernet
from nas.io import write_whole
from nas.reading import read_bytes, read_json, require_types
from nas.tasks import TaskName
from nas.values import digest
from nas.weight_sharing.supernet import Supernet, weights_digest
from search_spaces import SearchSpace
from search_spaces.sharing import Kernels

WEIGHTS = "supernet.safetensors"
VERSION = 1

NOT_ONE = "train one with nas supernet --space S --data D --out DIR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What space and images were asked for by, so that a search finds both again; options of `nas search`.

    Attributes:
        space: The space, such as `mnasnet` or `space.py:space`.
        width: What its channels are multiplied by; None where nothing was said.
        data: Where the images are, or the name of a data set.
        data_root: Folder of data sets by name.
        task: What networks learn to predict.
        resolution: Side of the images, pixels.
        fit: How images become square.
        search_fraction: Share of the training images in the search split.
        split_seed: Seed of the split.
    """

    space: str
    width: float | None = None
    data: str
    data_root: str | None = None
    task: TaskName
    resolution: int
    fit: Fit = FIT
    search_fraction: float = SEARCH_FRACTION
    split_seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What networks of a supernet reach on the search split at the end of its training, with shared weights.

    Attributes:
        metric: Name of the metric.
        largest: That of the largest network; None where its outputs are not finite.
        smallest: That of the smallest.
        random: That of a random one.
    """

    metric: str
    largest: float | None
    smallest: float | None
    random: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SupernetFacts:
    """What a trained supernet is.

    Attributes:
        space: Fingerprint of the space.
        space_name: What the space is called.
        kernels: How kernels of different sizes share weights.
        sampling: How networks were drawn: one of the samplings, or by a policy.
        images: Fingerprint of the images.
        split: Fingerprint of their split.
        normalisation: Digest of the images' mean and deviation.
        data_name: What the images are called.
        epochs: Passes over the training images.
        steps: Steps.
        seconds: Time of the training.
        seed: Of everything random in it.
        weights: Digest of the weights.
        measured: What some of its networks reach; None where none was measured.
        origin: What space and images were asked for by; None where they were made in Python.
    """

    space: str
    space_name: str
    kernels: Kernels
    sampling: str
    images: str
    split: str
    normalisation: str
    data_name: str
    epochs: float
    steps: int
    seconds: float
    seed: int
    weights: str
    measured: Measured | None = None
    origin: Origin | None = None

    def check_space(self, space: SearchSpace) -> None:
        """Checks that it is of this space.

        Raises:
            SupernetError: It is not.
        """
        require_space(space, trained=self.space, name=self.space_name)

    def check_data(self, data: ImageData) -> None:
        """Checks that it was trained on these images, split like this.

        Raises:
            SupernetError: It was not.
        """
        pairs = {
            "images": (self.images, data.fingerprint),
            "split": (self.split, data.split_fingerprint),
            "normalisation": (self.normalisation, normalisation_of(data)),
        }
        for name, (theirs, ours) in pairs.items():
            if theirs != ours:
                raise SupernetError(
                    f"the {name} must be those that the supernet was trained on, {self.data_name} "
                    f"({theirs}), but are of {data.name} ({ours}): images that it learnt from may otherwise "
                    f"be among those that it is measured on; give the same data, resolution "
                    f"and split, or {NOT_ONE}",
                    field="data",
                )


def require_space(space: SearchSpace, *, trained: str, name: str) -> None:
    """Checks that a space is that which a supernet was trained for.

    Args:
        space: The space that is asked for.
        trained: Fingerprint of the supernet's.
        name: What the supernet's is called.

    Raises:
        SupernetError: It is another.
    """
    if space.fingerprint != trained:
        raise SupernetError(
            f"the supernet must be of the space {space.name} ({space.fingerprint}), but is of {name} "
            f"({trained}): search the space it was trained for, at its resolution and number of classes, or "
            f"{NOT_ONE}",
            field="space",
        )


def normalisation_of(data: ImageData) -> str:
    """A digest of how images are normalised."""
    return digest(data.mean, data.std)


def write_supernet(folder: Path, supernet: Supernet, facts: SupernetFacts) -> None:
    """Writes weights first, then what they are: without the latter the folder holds no supernet.

    Raises:
        SupernetError: The disk is full or may not be written to.
    """
    tensors = {name: one.detach().cpu().contiguous() for name, one in supernet.state_dict().items()}
    try:
        write_whole(folder / WEIGHTS, save(tensors))
        write_whole(folder / SUPERNET, json.dumps({"version": VERSION, **asdict(facts)}, indent=1) + "\n")
    except OSError as error:
        raise SupernetError(
            f"the supernet cannot be written to {folder} ({error.strerror or error}): make room, and repeat "
            "the command",
            field="out",
        ) from error


def read_facts(folder: Path) -> SupernetFacts:
    """Reads what a supernet is.

    Raises:
        SupernetError: There is none, it is not finished, or it is damaged.
    """
    path = folder / SUPERNET
    try:
        known: dict[str, Any] = read_json(path)
        version = known.pop("version")
        if version != VERSION:
            raise ValueError(f"it is of version {version}, and this program reads version {VERSION}")
        for name, kind in (("measured", Measured), ("origin", Origin)):
            if known.get(name) is not None:
                known[name] = kind(**known[name])
        facts = SupernetFacts(**known)
        require_types(facts)
    except FileNotFoundError as error:
        begun = holds_supernet(folder)
        what = "its training has not ended; repeat the command that began it" if begun else NOT_ONE
        raise SupernetError(f"{folder} holds no trained supernet: {what}", field="supernet") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SupernetError(
            f"{path} cannot be read ({error}): restore it, or {NOT_ONE}", field="supernet"
        ) from error
    return facts


def read_supernet(folder: Path | str, space: SearchSpace) -> tuple[Supernet, SupernetFacts]:
    """Reads a trained supernet, in evaluation mode, on the CPU.

    Args:
        folder: What `nas supernet` wrote.
        space: The space that it was trained for.

    Raises:
        SupernetError: There is none, it is of another space, half-written or damaged.
    """
    place = Path(folder).expanduser()
    facts = read_facts(place)
    facts.check_space(space)
    try:
        tensors = load(read_bytes(place / WEIGHTS))
        if weights_digest(tensors) != facts.weights:
            raise ValueError("they are not those that were written")
        supernet = Supernet.holding(space, kernels=facts.kernels, weights=tensors)
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise SupernetError(
            f"the weights in {place / WEIGHTS} cannot be read ({first_line}): they were cut short or "
            "changed; repeat the command that trained it, which writes them again",
            field="supernet",
        ) from error
    return supernet, facts
