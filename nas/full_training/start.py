"""What a full training starts from: a network, and weights where there are some."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from torch import nn

from nas.architectures import Architecture, find_architecture
from nas.data.images import ImageData
from nas.errors import TrainingError
from nas.export.opened import open_bundle
from nas.export.preprocessing import Preprocessing
from nas.full_training.transfer import transferred
from nas.published_weights import TIMM, Normalisation, timm_network, usual_normalisation
from nas.starting_weights import (
    FoundWeights,
    Weights,
    find_weights,
    of_bundle,
    study_in,
    trial_preprocessing,
    trial_weights,
)
from nas.study.study import Study
from nas.study.study_trial import StudyTrial
from nas.training.initial_weights import is_of_classifier
from search_spaces import Network, SpaceError, build, load_weights, reference
from search_spaces.weights import like_of

RESOLUTION = 224
"""Images of this size go through all strides of a published network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A network to train.

    Attributes:
        name: What to call it.
        network: The network.
        weights: Weights that it has already, by our names; None where it has none. The classifier may lack.
        preprocessing: What images went through before them; None where that is not known.
        normalisation: How images were normalised for them; None where that is not known.
        trial: The trial that it comes from; None where it comes from none.
        published: Its published name; empty where it has none.
        notes: What there is to say of the weights.
    """

    name: str
    network: Network
    weights: Weights | None = None
    preprocessing: Preprocessing | None = None
    normalisation: Normalisation | None = None
    trial: StudyTrial | None = None
    published: str = ""
    notes: tuple[str, ...] = ()

    def fitted(self, data: ImageData, *, keeps_weights: bool, trains: str = "all") -> Start:
        """Returns it with the classes and channels of these images.

        With weights that are kept, the images are normalised as they were for the weights. Weights of other
        classes get a new classifier, and those for other channels a first convolution for these, where the
        recipe trains them (see `transferred`).

        Args:
            data: The images.
            keeps_weights: Whether training starts from the weights.
            trains: What the recipe trains.

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
            return replace(
                self, network=network, weights=None, preprocessing=None, normalisation=None, notes=()
            )
        if self.weights is None:
            raise TrainingError(
                f"the recipe starts from trained weights, but {self.name} has none: give --weights (a "
                "bundle, a training, a file, timm:NAME, or a network whose weights a package has), or a "
                "recipe that starts from scratch",
                field="weights",
            )
        classes = None if self.preprocessing is None else self.preprocessing.classes
        weights, notes = transferred(
            self.weights,
            replace(network, resolution=self.network.resolution),  # at which it can surely be built
            data,
            classes=classes,
            is_trained=trains in ("all", "classifier"),
        )
        return replace(self, network=network, weights=weights, notes=(*self.notes, *notes))

    def normalised(self, data: ImageData) -> ImageData:
        """The images with the mean and deviation that the weights were trained with."""
        if self.weights is None or self.normalisation is None:
            return data
        found = self.normalisation.for_channels(data.channels)
        return replace(data, mean=found.mean, std=found.std)


def find_start(what: Network | Architecture | Study | StudyTrial | str | Path) -> Start:
    """Finds what is to be trained: a network, a published name, an architecture, a bundle, or a study's best.

    Raises:
        NasError: There is no such network, or a file of it cannot be read.
    """
    if isinstance(what, Network):
        return Start(name=f"network {what.digest}", network=what)
    if isinstance(what, Architecture):
        return Start(name=what.name, network=what.network)
    if isinstance(what, StudyTrial):
        return of_trial(what)
    if isinstance(what, Study):
        return of_trial(what.best)
    folder = Path(what).expanduser()
    study = study_in(folder)
    if study is not None:
        return of_trial(study.best)
    if folder.is_dir():
        bundle = open_bundle(folder)
        start = Start(name=bundle.folder.resolve().name, network=bundle.network)
        return _with(start, of_bundle(bundle), bundle.network)
    found = find_architecture(str(what))
    return Start(name=found.name, network=found.network, published=found.name if found.is_published else "")


def of_trial(trial: StudyTrial) -> Start:
    """A trial of a study, with its weights where they were kept."""
    preprocessing = trial_preprocessing(trial)
    name = f"trial {trial.number}"
    return Start(
        name=name,
        network=trial.network,
        weights=trial_weights(trial),
        preprocessing=preprocessing,
        normalisation=None if preprocessing is None else Normalisation.of(preprocessing, name),
        trial=trial,
    )


def _with(start: Start, found: FoundWeights, network: Network) -> Start:
    """The start with weights of this network, by our names."""
    return replace(
        start,
        network=network,
        weights=found.tensors,
        preprocessing=found.preprocessing,
        normalisation=found.normalisation,
        notes=found.notes,
    )


def with_weights(start: Start, given: Weights | str | Path, *, download: bool = False) -> Start:
    """Returns a network with weights from elsewhere.

    A network by its published name takes the padding and the epsilon of batch norms with which the weights
    were trained, where their names or their origin say whose they are.

    Args:
        start: The network.
        given: What `find_weights` takes.
        download: Whether weights by timm's name may be downloaded.

    Raises:
        TrainingError: They cannot be read, or are those of another network.
    """
    _require_same(start, given)
    found = find_weights(given, download=download)
    network, notes = _as_trained(start, found)
    tensors, network = _loaded(start, network, found)
    found = replace(
        found,
        tensors=tensors,
        normalisation=found.normalisation or _usual(start, found),
        notes=(*found.notes, *notes),
    )
    return _with(start, found, network)


def _require_same(start: Start, given: Weights | str | Path) -> None:
    """Checks that timm's weights by name can be those of a network, before they are downloaded.

    Raises:
        TrainingError: They are those of another network.
    """
    if not isinstance(given, str) or not given.startswith(TIMM):
        return
    theirs = timm_network(given.removeprefix(TIMM))
    if theirs is not None and _layers_alone(theirs) != _layers_alone(start.network):
        raise TrainingError(
            f"the weights must be those of {start.name}, but {given} is another network: give weights of "
            "this one, or train that one",
            field="weights",
        )


def _usual(start: Start, found: FoundWeights) -> Normalisation | None:
    """How those whose names the weights have normalise the images of a published network."""
    if not start.published or found.network is not None:
        return None
    return usual_normalisation(start.published, like=like_of(found.tensors))


def _as_trained(start: Start, found: FoundWeights) -> tuple[Network, tuple[str, ...]]:
    """The network as the weights were trained in it, and what was changed for that."""
    ours, like = start.network, like_of(found.tensors)
    if start.published and like is not None:
        with suppress(SpaceError):  # TensorFlow's names of a network that it has not published
            ours = reference(start.published, like=like)
    theirs = ours if found.network is None else found.network
    if _layers_alone(theirs) != _layers_alone(ours):
        return start.network, ()  # another network, which `_loaded` refuses
    changed = [
        f"{name} {getattr(theirs, name)} in place of {getattr(start.network, name)}"
        for name in ("padding", "norm_eps")
        if getattr(theirs, name) != getattr(start.network, name)
    ]
    if not changed:
        return ours, ()
    if not start.published:
        return start.network, (f"the weights were trained with {', '.join(changed)}",)
    taken = replace(ours, padding=theirs.padding, norm_eps=theirs.norm_eps)
    return taken, (f"the network is as its weights were trained: {', '.join(changed)}",)


def _layers_alone(network: Network) -> str:
    """The identity of a network but for what weights do not depend on."""
    return replace(
        network,
        resolution=RESOLUTION,
        num_classes=1,
        in_channels=1,
        norm_eps=1e-3,
        norm_momentum=0.01,
        drop_path_rate=0.0,
        padding="symmetric",
        head=replace(network.head, dropout=0.0),
    ).digest


def _loaded(start: Start, network: Network, found: FoundWeights) -> tuple[Weights, Network]:
    """The tensors by our names, and the network with the classes and channels that they are for.

    Raises:
        TrainingError: They are those of another network.
    """
    reasons = []
    for classes, channels in product(_classes(found.tensors, network), _channels(found.tensors, network)):
        fitting = replace(network, num_classes=classes or network.num_classes, in_channels=channels)
        module = build(fitting, seed=0)
        try:
            load_weights(module, found.tensors, with_classifier=classes is not None)
        except SpaceError as error:
            reasons.append(error)
            continue
        if found.network is not None and _layers_alone(found.network) != _layers_alone(fitting):
            raise TrainingError(
                f"the weights must be those of {start.name}, but {found.name} is another network, whose "
                "layers have the same shapes: give weights of this one, or train that one",
                field="weights",
            )
        tensors = module.state_dict()
        if classes is None:
            tensors = {name: one for name, one in tensors.items() if not is_of_classifier(name)}
        return tensors, fitting
    raise TrainingError(
        f"the weights must be those of {start.name}, but: {reasons[0]}", field="weights"
    ) from reasons[0]


def _channels(tensors: Weights, network: Network) -> tuple[int, ...]:
    """The numbers of input channels that weights may be for: the network's, the usual, and those of stems."""
    stem = next(layer for layer in build(network, seed=0).modules() if isinstance(layer, nn.Conv2d))
    shape = (stem.out_channels, *stem.kernel_size)
    found = {
        one.shape[1] for one in tensors.values() if one.ndim == 4 and (one.shape[0], *one.shape[2:]) == shape
    }
    return tuple(dict.fromkeys((network.in_channels, 3, 1, *sorted(found))))


def _classes(tensors: Weights, network: Network) -> tuple[int | None, ...]:
    """The numbers of classes that weights may be for; None where they have no classifier.

    It is the number of rows of the matrix over the classifier's features, whatever its name and its place:
    files do not keep the order of their tensors.
    """
    *_, classifier = (layer for layer in build(network, seed=0).modules() if isinstance(layer, nn.Linear))
    features = classifier.in_features
    found = {len(tensor) for tensor in tensors.values() if tensor.ndim == 2 and tensor.shape[1] == features}
    if len(found) > 1:
        found.discard(features)  # of a hidden layer as wide as its input
    return tuple(found) if len(found) == 1 else (network.num_classes, None)
