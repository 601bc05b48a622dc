"""`nas.class_maps`: where networks look, by class activation maps of image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nas.data.decoding import READ_ERRORS
from nas.data.tree import few, printable
from nas.devices import choose_device
from nas.errors import DataError, ExportError, UsageError
from nas.export.opened import OpenBundle
from nas.mapped_networks import OpenNetwork, open_networks
from nas.scoring.activation_maps import (
    attribution,
    check_method,
    class_activation,
    grad_class_activation,
    is_linear,
    split_at_pool,
)
from nas.scoring.class_map import OF_CAPTUM, ClassMap, Method
from nas.scoring.outputs import reason_of
from nas.scoring.views import View
from nas.tasks import REGRESSION
from nas.training.accuracy import Normalise
from nas.trial import Say, say_nothing
from nas.units import hint

Networks = str | Path | OpenBundle | Sequence[str | Path | OpenBundle]
Paths = str | Path | Sequence[str | Path]


def class_maps(
    networks: Networks,
    images: Paths,
    *,
    class_name: str | None = None,
    method: Method = "auto",
    device: str = "auto",
    progress: Say = say_nothing,
) -> tuple[tuple[ClassMap, ...], ...]:
    """Maps which places of images speak for what networks say of them.

    Images are read as each network's were in training. By default the map is of the likeliest class or label,
    or of the first number. A number below the mean of the training gets the map of what lowers it.

    Args:
        networks: Bundles, folders of trainings or studies that have one, and names of networks whose weights
            an installed package has, such as `efficientnet_lite0`; one alone, or a list.
        images: Image files; one alone, or a list.
        class_name: Another class, label or column to map.
        method: `auto` is `cam`, the class activation map, where pooling and one linear layer follow the last
            map, and `grad-cam` elsewhere; others are captum's, which must be installed for them.
        device: `auto` (a GPU where there is one), `cpu` or `cuda`.
        progress: Receives how many maps were made.

    Returns:
        One row for each image, one map in it for each network.

    Raises:
        UsageError: A network has no such class or no map with places; the method is unknown, not for the
            network, or not installed.
        DataError: An image cannot be read.
        NasError: A network cannot be opened.
    """
    words = [networks] if isinstance(networks, str | Path | OpenBundle) else list(networks)
    paths = [images] if isinstance(images, str | Path) else list(images)
    for field, given in (("networks", words), ("images", paths)):
        if not given:
            raise UsageError(f"`{field}` must hold at least one, but is empty: give some", field=field)
    check_method(method)
    place = choose_device(device)
    opened = open_networks(words)
    mappers = [_Mapper(network, class_name, method, place) for network in opened]
    _check_readable(paths, opened[0])
    rows = []
    for path in paths:
        rows.append(tuple(mapper(path) for mapper in mappers))
        progress(f"mapped {len(rows):,} of {len(paths):,} images")
    return tuple(rows)


def class_map(
    network: str | Path | OpenBundle,
    image: str | Path,
    *,
    class_name: str | None = None,
    method: Method = "auto",
    device: str = "auto",
) -> ClassMap:
    """Maps which places of one image speak for what one network says of it; see `class_maps`.

    Raises:
        NasError: As for `class_maps`.
    """
    ((found,),) = class_maps([network], [image], class_name=class_name, method=method, device=device)
    return found


class _Mapper:
    """Makes the maps of one network.

    Raises:
        UsageError: It has no such class, no map with places, or the method is not for it.
    """

    def __init__(
        self, network: OpenNetwork, class_name: str | None, method: Method, device: torch.device
    ) -> None:
        self._network = network
        self._device = device
        self._output = None if class_name is None else _output(network, class_name)
        self._module = network.module.to(device).requires_grad_(False)
        self._normalise = Normalise(network.preprocessing, device)
        self._method = method
        if method not in OF_CAPTUM:
            self._features, self._tail = _parts(network)
            self._method = _chosen(method, network.name, is_linear=is_linear(self._tail))
            self._check_places()

    def __call__(self, path: str | Path) -> ClassMap:
        view = _view(path, self._network)
        preprocessing = self._network.preprocessing
        image = self._normalise(torch.from_numpy(view.pixels[None].copy()).to(self._device))
        maps, logits = self._run(image)
        if not np.isfinite(logits).all():
            raise ExportError(
                f"the logits of {self._network.name} must be finite, but for {path} are not: its weights or "
                "its preprocessing are damaged; export it again",
                field="networks",
            )
        values = preprocessing.interpret(logits)[0]
        is_number = preprocessing.task == REGRESSION
        likeliest = 0 if is_number else int(values.argmax())
        output = likeliest if self._output is None else self._output
        lowers = is_number and bool(logits[0, output] < 0)
        places = self._places(maps, image[0], output).float().cpu().numpy()
        names = preprocessing.classes
        return ClassMap(
            file=str(path),
            network=self._network.name,
            task=preprocessing.task,
            predicted=names[output if is_number else likeliest],
            probability=None if is_number else float(values[likeliest]),
            mapped=names[output],
            value=float(values[output]),
            method=self._method,
            lowers=lowers,
            places=-places if lowers and self._method != "saliency" else places,
            view=view,
        )

    def _run(self, image: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
        """The last map, where the method needs it, and the logits."""
        with torch.no_grad():
            if self._method in OF_CAPTUM:
                return image, self._module(image).float().cpu().numpy()
            maps = self._features(image)
            return maps, self._tail(maps).float().cpu().numpy()

    def _places(self, maps: torch.Tensor, image: torch.Tensor, output: int) -> torch.Tensor:
        if self._method == "cam":
            return class_activation(maps[0], self._tail, output)
        if self._method == "grad-cam":
            return grad_class_activation(maps[0], self._tail, output)
        return attribution(self._module, image, output, self._method)

    def _check_places(self) -> None:
        """Checks that the last map has places.

        Raises:
            UsageError: It is 1 x 1.
        """
        reading = self._network.preprocessing.reading
        shape = (1, reading.channels, reading.resolution, reading.resolution)
        maps, _ = self._run(torch.zeros(shape, device=self._device))
        if maps.shape[-2:] == (1, 1):
            raise UsageError(
                f"the last map of {self._network.name} must have places, but at {reading.resolution} pixels "
                f"it is 1 x 1, so that no place can be told: use a method that judges pixels "
                f"({', '.join(OF_CAPTUM)}), or a network with fewer strides or a larger resolution",
                field="networks",
            )


def _parts(network: OpenNetwork) -> tuple[nn.Sequential, nn.Sequential]:
    try:
        return split_at_pool(network.module)
    except UsageError as error:
        raise UsageError(f"{network.name}: {error}", field="networks") from error


def _chosen(method: Method, name: str, *, is_linear: bool) -> Method:
    """The method itself; for `auto` the exact one where there is one.

    Raises:
        UsageError: `cam` is asked for where more than a linear layer follows the pooling.
    """
    if method == "cam" and not is_linear:
        raise UsageError(
            f"cam needs a head of pooling and one linear layer, but that of {name} has a hidden layer: use "
            "grad-cam, or auto",
            field="method",
        )
    return ("cam" if is_linear else "grad-cam") if method == "auto" else method


def _output(network: OpenNetwork, class_name: str) -> int:
    """The index of a class, label or column.

    Raises:
        UsageError: The network has none that is called so.
    """
    names = network.preprocessing.classes
    if class_name in names:
        return names.index(class_name)
    near = hint(class_name, names) if len(names) <= MOST_LISTED else _near(class_name, names)
    raise UsageError(
        f"{network.name} has no class, label or column {printable(class_name)!r} among its {len(names):,}: "
        f"{near}",
        field="class_name",
    )


MOST_LISTED = 20
"""Classes that a message may list."""


def _near(word: str, names: Sequence[str]) -> str:
    """Names that hold the word, or look like it."""
    holding = [name for name in names if word and word.lower() in name.lower()]
    if holding:
        return f"did you mean {few(holding)}?"
    said = hint(word, names)
    return said if said.startswith("did you mean") else f"they begin with {few(names)}"


def _view(path: str | Path, network: OpenNetwork) -> View:
    try:
        return network.look(Path(path).expanduser(), network.preprocessing.reading)
    except READ_ERRORS as error:
        raise _unreadable([f"{path} ({reason_of(error)})"]) from error


def _check_readable(paths: Sequence[str | Path], network: OpenNetwork) -> None:
    """Reads every image once, before the first map is made.

    Raises:
        DataError: Some cannot be read; all of these are named.
    """
    damaged = []
    for path in paths:
        try:
            network.look(Path(path).expanduser(), network.preprocessing.reading)
        except READ_ERRORS as error:
            damaged.append(f"{path} ({reason_of(error)})")
    if damaged:
        raise _unreadable(damaged)


def _unreadable(damaged: Sequence[str]) -> DataError:
    return DataError(
        f"every file must be an image that Pillow reads, but {few(damaged)} cannot be read: leave out or "
        "replace what is damaged or no image; a network is given as the folder of its bundle",
        field="images",
    )
