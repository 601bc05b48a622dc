"""What a full training starts from: a network, and weights where there are some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from nas.architectures import find_architecture
from nas.data.images import ImageData
from nas.errors import TrainingError
from nas.export.bundle import ARCHITECTURE
from nas.export.opened import RUN, OpenBundle, open_bundle
from nas.export.preprocessing import Preprocessing
from nas.report.show import open_with_space
from nas.study.study import Study
from nas.study.study_folder import has_study
from nas.study.study_trial import StudyTrial
from search_spaces import Network, SpaceError, build, load_weights

Weights = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A network to train.

    Attributes:
        name: What to call it.
        network: The network.
        weights: Weights that it has already; None where it has none.
        preprocessing: What images went through before them; None where that is not known.
        trial: The trial that it comes from; None where it comes from none.
    """

    name: str
    network: Network
    weights: Weights | None = None
    preprocessing: Preprocessing | None = None
    trial: StudyTrial | None = None

    def fitted(self, data: ImageData, *, keeps_weights: bool) -> Start:
        """Returns it with the classes and channels of these images.

        With weights that are kept, the images are normalised as they were for the weights.

        Raises:
            TrainingError: The weights that training starts from are for others.
        """
        network = replace(
            self.network,
            num_classes=data.num_classes,
            in_channels=data.channels,
            resolution=data.resolution,
        )
        if not keeps_weights:
            return replace(self, network=network, weights=None, preprocessing=None)
        if self.weights is None:
            raise TrainingError(
                f"the recipe starts from trained weights, but {self.name} has none: give --weights (a "
                "bundle, a training, or a .safetensors file), or a recipe that starts from scratch",
                field="weights",
            )
        self._check_kept(data)
        return replace(self, network=network)

    def _check_kept(self, data: ImageData) -> None:
        for field, has, needs in (
            ("num_classes", self.network.num_classes, data.num_classes),
            ("in_channels", self.network.in_channels, data.channels),
        ):
            if has != needs:
                raise TrainingError(
                    f"the weights to start from must be for {field}={needs}, as {data.name} needs, but "
                    f"are for {field}={has}: give the images that they were trained on, or a recipe that "
                    "starts from scratch",
                    field="weights",
                )
        known = None if self.preprocessing is None else self.preprocessing.classes
        if known is not None and known != data.classes:
            raise TrainingError(
                f"the classes of {data.name} must be those of the weights, in their order, but are "
                f"{', '.join(data.classes[:5])}, ... and not {', '.join(known[:5])}, ...: give images of the "
                "same classes",
                field="weights",
            )

    def normalised(self, data: ImageData) -> ImageData:
        """The images with the mean and deviation that the weights were trained with."""
        if self.weights is None or self.preprocessing is None:
            return data
        return replace(data, mean=self.preprocessing.mean, std=self.preprocessing.std)


def find_start(what: Network | Study | StudyTrial | str | Path) -> Start:
    """Finds what is to be trained: a network, a published name, an architecture, a bundle, or a study's best.

    Raises:
        NasError: There is no such network, or a file of it cannot be read.
    """
    if isinstance(what, Network):
        return Start(name=f"network {what.digest}", network=what)
    if isinstance(what, StudyTrial):
        return of_trial(what)
    if isinstance(what, Study):
        return of_trial(what.best)
    folder = Path(what).expanduser()
    study = study_in(folder)
    if study is not None:
        return of_trial(study.best)
    if folder.is_dir():
        return of_bundle(open_bundle(folder))
    found = find_architecture(str(what))
    return Start(name=found.name, network=found.network)


def study_in(folder: Path) -> Study | None:
    """The study in a folder; None where there is none, but a training, a bundle, or something else.

    Raises:
        StudyError: There is one that cannot be read.
    """
    is_other = (folder / RUN).is_file() or (folder / ARCHITECTURE).is_file()
    is_study = folder.is_dir() and not is_other and has_study(folder)
    return open_with_space(str(folder)) if is_study else None


def of_trial(trial: StudyTrial) -> Start:
    """A trial of a study, with its weights where they were kept."""
    from nas.export.weights import read_weights

    text = trial.provenance.preprocessing_json
    has_weights = trial.weights_file is not None and trial.weights_file.is_file()
    return Start(
        name=f"trial {trial.number}",
        network=trial.network,
        weights=read_weights(trial.weights()) if has_weights else None,
        preprocessing=Preprocessing.from_json(text) if text else None,
        trial=trial,
    )


def of_bundle(bundle: OpenBundle) -> Start:
    """The network of a bundle, with its weights."""
    return Start(
        name=bundle.folder.resolve().name,
        network=bundle.network,
        weights=bundle.weights(),
        preprocessing=bundle.preprocessing,
    )


def with_weights(start: Start, given: Weights | str | Path) -> Start:
    """Returns a network with weights from elsewhere.

    Args:
        start: The network.
        given: A state dict of ours, timm's or torchvision's layout; or where one is: a bundle, a training, a
            study, or a file (`.safetensors`, or `.pt` and `.pth`, read without running anything in it).

    Raises:
        TrainingError: They cannot be read, or are those of another network.
    """
    preprocessing = None
    if isinstance(given, Mapping):
        tensors = dict(given)
    elif Path(given).expanduser().is_dir():
        found = find_start(Path(given))
        if found.weights is None:
            raise TrainingError(f"{given} holds no weights: they were not kept", field="weights")
        tensors, preprocessing = dict(found.weights), found.preprocessing
    else:
        tensors = _read_file(Path(given).expanduser())
    network = replace(start.network, num_classes=_classes(tensors, start.network))
    module = build(network, seed=0)
    try:
        load_weights(module, tensors)
    except SpaceError as error:
        raise TrainingError(
            f"the weights must be those of {start.name}, but: {error}", field="weights"
        ) from error
    return replace(start, network=network, weights=module.state_dict(), preprocessing=preprocessing)


def _classes(tensors: Weights, network: Network) -> int:
    """The number of classes that weights are for; the network's own where that cannot be known.

    It is the number of rows of the matrix over the classifier's features, whatever its name and its place:
    files do not keep the order of their tensors.
    """
    *_, classifier = (layer for layer in build(network, seed=0).modules() if isinstance(layer, nn.Linear))
    features = classifier.in_features
    found = {len(tensor) for tensor in tensors.values() if tensor.ndim == 2 and tensor.shape[1] == features}
    if len(found) > 1:
        found.discard(features)  # of a hidden layer as wide as its input
    return found.pop() if len(found) == 1 else network.num_classes


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError, ImportError) as error:
        raise TrainingError(f"{path} cannot be read: {error}", field="weights") from error
    except Exception as error:  # torch raises an UnpicklingError of its own for files it does not trust
        reason = (str(error).splitlines() or ["it is damaged"])[0]
        raise TrainingError(f"{path} must hold a state dict, but: {reason}", field="weights") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise TrainingError(f"{path} must hold a state dict: tensors by name", field="weights")
    return found
