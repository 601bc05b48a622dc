"""Finds the network that a user names: a published one, a file, or a study's winner."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from nas.errors import SpaceArgumentError
from nas.reading import read_text
from search_spaces import Network, SpaceError, reference, reference_names

CAN_BE = (
    "a published name such as efficientnet_b0, mobilenet_v2 or resnet50, a file architecture.json, or the "
    "folder of a study, a bundle or a training"
)
"""What names a network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A network that was found.

    Attributes:
        name: What to call it, fit for the name of a folder.
        network: The network.
        is_published: Whether the name is that of a published network.
    """

    name: str
    network: Network
    is_published: bool = False


def find_architecture(text: str) -> Architecture:
    """Finds a network by a published name, the path of its JSON, or the folder of a bundle or study.

    Raises:
        SpaceArgumentError: There is no such network; names the nearest published ones.
        SpaceError: The file is no architecture.
        StudyError: The folder's study cannot be read.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        return _in_folder(path)
    if path.is_file() or path.suffix == ".json":
        return Architecture(name=path.stem, network=_read(path))
    try:
        return Architecture(name=text, network=reference(text), is_published=True)
    except SpaceError:
        near = get_close_matches(text.lower(), reference_names(), n=3)
        remedy = f"did you mean {' or '.join(near)}?" if near else f"give {CAN_BE}"
        raise SpaceArgumentError(
            f"{text!r} is no file, no folder, and no published network: {remedy}", field="architecture"
        ) from None


def _read(path: Path) -> Network:
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise SpaceArgumentError(f"{path} cannot be read: {error}") from error
    try:
        return Network.from_json(text)
    except SpaceError as error:
        raise SpaceArgumentError(f"{path}: {error}") from error


def _in_folder(folder: Path) -> Architecture:
    """The network of an export bundle, or of a study's best trial."""
    from nas.study.with_space import open_with_space

    name = folder.resolve().name
    if (folder / "architecture.json").is_file():
        return Architecture(name=name, network=_read(folder / "architecture.json"))
    best = open_with_space(str(folder)).best
    return Architecture(name=f"{name}-trial-{best.number}", network=best.network)
