"""Weights to start from: found by what a user calls them, with what is known of their network and images."""

from __future__ import annotations

import re
import zipfile
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO, TypeGuard

import torch
from safetensors.torch import load_file
from torch import Tensor

from nas.data.images import ImageData
from nas.data.tree import printable
from nas.errors import NasError, TrainingError
from nas.export.opened import OpenBundle, open_bundle
from nas.export.preprocessing import Preprocessing
from nas.export.weights import read_weights
from nas.folders import ARCHITECTURE, RUN
from nas.published_weights import (
    OR_FILE,
    PACKAGES,
    TIMM,
    Normalisation,
    PublishedFile,
    is_of_timm,
    of_package,
    of_timm,
    timm_network,
)
from nas.reading import check_archive, ordinary
from nas.study.study import Study
from nas.study.study_folder import has_study
from nas.study.study_trial import StudyTrial
from nas.study.with_space import open_with_space
from nas.training.initial_weights import InitialWeights, for_channels
from nas.values import few
from search_spaces import Network, SpaceError, build, load_weights

Weights = Mapping[str, Tensor]

ENTRIES = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")
"""Entries of a checkpoint that are its weights, the first that is there: averaged ones before others, as timm
reads them."""

MOST_DEEP = 2
"""How deep in the entries of a checkpoint a state dict is looked for."""

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundWeights:
    """Weights with what is known of them.

    Attributes:
        name: What to call them.
        tensors: The tensors by the names that they came with.
        network: The network that they were trained in; None where that is not known.
        preprocessing: What images went through, with the classes; None where that is not known.
        normalisation: How images were normalised; None where that is not known.
        notes: What there is to say of them.
    """

    name: str
    tensors: Weights
    network: Network | None = None
    preprocessing: Preprocessing | None = None
    normalisation: Normalisation | None = None
    notes: tuple[str, ...] = ()


def find_weights(given: Weights | str | Path, *, download: bool = False) -> FoundWeights:
    """Finds weights.

    Args:
        given: A state dict; or where one is: a bundle, a training, a study, a file (`.safetensors`, or `.pt`
            and `.pth`, read without running anything in it) of a state dict or a checkpoint; or `timm:NAME`;
            or a published name whose weights are in a package.
        download: Whether weights by timm's name may be downloaded.

    Raises:
        NasError: There are none, or they cannot be read.
    """
    if isinstance(given, Mapping):
        return FoundWeights(name="the given weights", tensors=dict(given))
    text, path = str(given), Path(given).expanduser()
    if text.startswith(TIMM):
        return _of_published(of_timm(text.removeprefix(TIMM), download=download))
    if path.is_dir():
        return _of_folder(path)
    if path.exists() or path.suffix in SUFFIXES:
        tensors, note = _read_file(path)
        return FoundWeights(name=str(path), tensors=tensors, notes=(note,) if note else ())
    return _of_published(of_package(text))


def initial_weights(
    given: str | Path, data: ImageData, *, download: bool = False
) -> tuple[InitialWeights, ImageData]:
    """Finds weights for candidates of a search to start from, and normalises the images as for them.

    Args:
        given: What `find_weights` takes, if it says of which network the weights are: a bundle, a training, a
            study, `timm:NAME`, or a network whose weights a package has.
        data: The images.
        download: Whether weights by timm's name may be downloaded.

    Returns:
        The weights, and the images with their mean and deviation.

    Raises:
        NasError: There are none, they cannot be read, or their network is not known; `field` is "init".
    """
    name = str(given).removeprefix(TIMM)
    try:
        if name != str(given) and is_of_timm(name) and timm_network(name) is None:
            raise _of_no_network(str(given))  # before it is downloaded
        found = find_weights(given, download=download)
    except NasError as error:
        raise type(error)(str(error).replace(OR_FILE, ""), field="init") from error
    if found.network is None:
        raise _of_no_network(found.name)
    tensors = _by_our_names(found, found.network)
    first = next((name for name, tensor in tensors.items() if tensor.ndim == 4), None)
    if first is not None:
        tensors[first] = for_channels(tensors[first], data.channels)
    classes = None if found.preprocessing is None else found.preprocessing.classes
    whose = found.notes or (f"the weights are those of {found.name}",)
    weights = InitialWeights(
        name=found.name,
        tensors=tensors,
        has_classifier=classes == data.classes,
        notes=(*whose, "candidates start from these weights where their layers match"),
    )
    if found.normalisation is None:
        return weights, data
    normalisation = found.normalisation.for_channels(data.channels)
    note = f"images are normalised as for these weights, by {normalisation.origin}"
    return (
        replace(weights, notes=(*weights.notes, note)),
        replace(data, mean=normalisation.mean, std=normalisation.std),
    )


def _of_no_network(name: str) -> TrainingError:
    return TrainingError(
        f"it must be known of which network the weights are, but {name} are of none that is built in: give a "
        f"bundle, a training, a study, {TIMM}NAME of a published network, or {', '.join(PACKAGES)}",
        field="init",
    )


def _by_our_names(found: FoundWeights, network: Network) -> dict[str, Tensor]:
    """The tensors by our names, in the order in which the layers run.

    Raises:
        TrainingError: They do not fit the network that they are said to be of.
    """
    module = build(network, seed=0)
    try:
        load_weights(module, found.tensors)
    except SpaceError as error:
        raise TrainingError(f"the weights of {found.name} are damaged: {error}", field="init") from error
    return dict(module.state_dict())


def study_in(folder: Path) -> Study | None:
    """The study in a folder; None where there is none, but a training, a bundle, or something else.

    Raises:
        StudyError: There is one that cannot be read.
    """
    is_other = (folder / RUN).is_file() or (folder / ARCHITECTURE).is_file()
    is_study = folder.is_dir() and not is_other and has_study(folder)
    return open_with_space(str(folder)) if is_study else None


def trial_weights(trial: StudyTrial) -> Weights | None:
    """The weights of a trial; None where they were not kept."""
    has_weights = trial.weights_file is not None and trial.weights_file.is_file()
    return read_weights(trial.weights()) if has_weights else None


def trial_preprocessing(trial: StudyTrial) -> Preprocessing | None:
    """What images went through in a trial; None where the study does not say."""
    text = trial.provenance.preprocessing_json
    return Preprocessing.from_json(text) if text else None


def of_bundle(bundle: OpenBundle) -> FoundWeights:
    """The weights of a bundle."""
    return _known(bundle.folder.resolve().name, bundle.weights(), bundle.network, bundle.preprocessing)


def _known(
    name: str, tensors: Weights, network: Network, preprocessing: Preprocessing | None
) -> FoundWeights:
    return FoundWeights(
        name=name,
        tensors=tensors,
        network=network,
        preprocessing=preprocessing,
        normalisation=None if preprocessing is None else Normalisation.of(preprocessing, name),
    )


def _of_folder(folder: Path) -> FoundWeights:
    study = study_in(folder)
    if study is None:
        return of_bundle(open_bundle(folder))
    trial = study.best
    tensors = trial_weights(trial)
    if tensors is None:
        raise TrainingError(f"{folder} holds no weights: they were not kept", field="weights")
    return _known(f"trial {trial.number}", tensors, trial.network, trial_preprocessing(trial))


def _of_published(file: PublishedFile) -> FoundWeights:
    tensors, _ = _read_file(file.path)
    known = f" ({file.license})" if file.license else ""
    return FoundWeights(
        name=file.name,
        tensors=tensors,
        network=file.network,
        normalisation=file.normalisation,
        notes=(f"the weights are {file.name}{known}",),
    )


def _read_file(path: Path) -> tuple[dict[str, Tensor], str]:
    """The state dict in a file, and which entry of a checkpoint it is; empty where it is no checkpoint.

    Raises:
        TrainingError: There is none.
    """
    try:
        with ordinary(path) as (file, _):
            if _is_safetensors(file.read(9), path.suffix):
                return dict(load_file(path)), ""
            found = _read_torch(file)
    except UnpicklingError as error:
        # A pickle may run any code, so torch reads tensors and plain values alone and names what else it met.
        foreign = re.search(r"Unsupported global: GLOBAL ([\w.]+)", str(error))
        if foreign is None:
            law = "but is damaged, or no file of torch.save: save module.state_dict()"
        else:
            law = (
                f"but holds an object of {foreign[1]}, such as a whole module: where you trust the file, "
                "load it with torch.load(path, weights_only=False), and save module.state_dict()"
            )
        raise TrainingError(
            f"{path} must hold a state dict, tensors by name, {law}", field="weights"
        ) from error
    except Exception as error:  # files of zip, safetensors and pickle are damaged in many ways
        text = "" if isinstance(error, LookupError) else str(error)
        reason = printable((text.splitlines() or ["it is damaged, or no file of weights"])[0])
        raise TrainingError(f"{path} cannot be read: {reason}", field="weights") from error
    return _state_dict(found, path)


def _is_safetensors(head: bytes, suffix: str) -> bool:
    """Whether a file is read as safetensors: by its first bytes, and where these say nothing by its name.

    Args:
        head: The length of the header, and the header's first character.
        suffix: Of the name.
    """
    is_of_torch = head.startswith((b"PK", b"\x80"))  # an archive of torch.save, and a pickle
    return head[8:] == b"{" or (suffix == ".safetensors" and not is_of_torch)


def _read_torch(file: BinaryIO) -> object:
    """Reads what torch.save wrote; an archive must not unpack to more than fits into memory."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            check_archive(archive)
    file.seek(0)
    # Checkpoints of timm and torchvision hold their command's arguments, which are plain values.
    # By its name torch would read `.safetensors` as such, whatever it holds.
    with torch.serialization.safe_globals([Namespace]):
        return torch.load(file, map_location="cpu", weights_only=True)


def _state_dict(found: Any, path: Path) -> tuple[dict[str, Tensor], str]:
    """The state dict, or that of a checkpoint, also in an entry of an entry."""
    there = dict(_state_dicts(found))
    known = [names for names in there if set(names) <= set(ENTRIES)]
    if known:
        names = min(known, key=lambda names: [ENTRIES.index(name) for name in names])
        note = f"of the checkpoint {path.name} the weights are its `{'.'.join(names)}`" if names else ""
        return dict(there[names]), note
    raise TrainingError(
        f"{path} must hold a state dict, tensors by name, or a checkpoint with one of {', '.join(ENTRIES)}, "
        f"but holds {_instead(found, ['.'.join(names) for names in there])}",
        field="weights",
    )


def _state_dicts(found: object, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Weights]]:
    """The state dicts in a checkpoint, each with the names of the entries that lead to it."""
    if _is_state_dict(found):
        yield names, found
    elif isinstance(found, Mapping) and len(names) < MOST_DEEP:
        for name, value in found.items():
            if isinstance(name, str):
                yield from _state_dicts(value, (*names, name))


def _instead(found: object, others: list[str]) -> str:
    """What a file holds in place of a known state dict, and the remedy."""
    if others:
        return f"tensors in {few(others)}: save that entry alone"
    if not isinstance(found, Mapping):
        return f"a {type(found).__name__}: save module.state_dict()"
    odd = [f"{name} ({type(value).__name__})" for name, value in found.items() if not _is_tensor(value)]
    if odd and len(odd) < len(found):
        return f"other things beside its tensors, {few(odd)}: leave them out"
    return f"{few([str(name) for name in found]) or 'nothing'}: save module.state_dict()"


def _is_state_dict(value: object) -> TypeGuard[Weights]:
    """Whether it maps names to tensors, at least one."""
    return isinstance(value, Mapping) and bool(value) and all(map(_is_tensor, value.values()))


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)
