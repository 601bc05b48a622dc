"""Opens an export bundle: its network, its weights, and what an image goes through before them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from nas.errors import ExportError
from nas.export.bundle import CARD, ONNX, PREPROCESSING, WEIGHTS
from nas.export.preprocessing import Preprocessing
from nas.export.weights import read_weights, trained
from nas.folders import ARCHITECTURE, RUN, holds_supernet
from nas.reading import read_bytes, read_text
from nas.values import few
from search_spaces import Network, SpaceError

RUN_BUNDLE = "bundle"
"""The folder of the bundle in the folder of a full training."""

STUDY_BUNDLES = "export"
"""The folder of the bundles in the folder of a study."""

FIELD = "bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBundle:
    """A bundle that was found and read, but for its weights.

    Attributes:
        folder: Where it is.
        network: The architecture.
        preprocessing: What its images go through; None where the bundle does not say.
        facts: What the file of the weights says about them, in words by name; `network` is the digest.
    """

    folder: Path
    network: Network
    preprocessing: Preprocessing | None
    facts: Mapping[str, str]

    @property
    def onnx(self) -> Path | None:
        """The ONNX file; None where the bundle has none."""
        path = self.folder / ONNX
        return path if path.is_file() else None

    @property
    def card(self) -> Path:
        """The card, whether it is there or not."""
        return self.folder / CARD

    def weights(self) -> dict[str, Tensor]:
        """Reads the weights as a state dict, on the CPU.

        Raises:
            ExportError: The file cannot be read, or bytes of it are missing.
        """
        path = self.folder / WEIGHTS
        try:
            content = read_bytes(path)
        except OSError as error:
            raise _unreadable(path, error) from error
        try:
            return read_weights(content)
        except ExportError as error:
            raise ExportError(f"{path}: {error}; copy or export the bundle again", field=FIELD) from error

    def module(self) -> nn.Module:
        """Builds the network with these weights: evaluation mode, float32, on the CPU.

        Raises:
            ExportError: The weights cannot be read, or are those of another network.
        """
        weights = self.weights()
        try:
            return trained(self.network, weights)
        except (ExportError, SpaceError) as error:
            raise ExportError(f"{self.folder}: {error}", field=FIELD) from error

    def required_preprocessing(self) -> Preprocessing:
        """What its images go through.

        Raises:
            ExportError: The bundle does not say.
        """
        if self.preprocessing is None:
            raise ExportError(
                f"reading images needs {PREPROCESSING}, which {self.folder} lacks: export again with "
                "preprocessing=Preprocessing.of(data), the data that the network was trained on",
                field=FIELD,
            )
        return self.preprocessing


def open_bundle(folder: Path | str) -> OpenBundle:
    """Opens a bundle: its own folder, that of a full training with one, or that of a study with one.

    The weights are read only when they are asked for.

    Raises:
        ExportError: There is no bundle, there are several, or a file of it cannot be used.
    """
    place = _find(Path(folder).expanduser())
    _check_links(place)
    network = _read_network(place / ARCHITECTURE)
    facts = _read_facts(place / WEIGHTS)
    if facts.get("network", network.digest) != network.digest:
        raise ExportError(
            f"the weights of {place} must be those of its network {network.digest}, but are of "
            f"{facts['network']}: files of two bundles were mixed; export it again",
            field=FIELD,
        )
    return OpenBundle(
        folder=place,
        network=network,
        preprocessing=_read_preprocessing(place / PREPROCESSING, network),
        facts=facts,
    )


def _find(folder: Path) -> Path:
    """The folder of the bundle that is meant."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise ExportError(
            f"a bundle is a folder, but {folder} {what}: give the folder that nas export or nas train wrote",
            field=FIELD,
        )
    for place in (folder, folder / RUN_BUNDLE):
        if _is_bundle(place):
            return place
    exported = sorted(path for path in (folder / STUDY_BUNDLES).glob("*") if _is_bundle(path))
    if len(exported) == 1:
        return exported[0]
    if exported:
        names = few([str(path) for path in exported])
        raise ExportError(f"{folder} holds several bundles: give one of {names}", field=FIELD)
    raise ExportError(f"{folder} {_why_none(folder)}", field=FIELD)


def _check_links(folder: Path) -> None:
    """Checks that no file of a bundle is a link to one elsewhere, whose content would become the bundle's."""
    inside = folder.resolve()
    for path in sorted(folder.iterdir()):
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise ExportError(
                f"the files of a bundle must lie in its folder, but {path} is a link to {path.resolve()}: "
                "put the file in its place",
                field=FIELD,
            )


def _is_bundle(folder: Path) -> bool:
    return (folder / ARCHITECTURE).is_file() and (folder / WEIGHTS).is_file()


def _why_none(folder: Path) -> str:
    """What a folder lacks, and how a bundle is made."""
    if (folder / "study.sqlite").is_file():
        return f"is a study without an exported bundle: export its winner first with nas export {folder}"
    if holds_supernet(folder):
        return (
            "is a supernet, whose weights are not those of one network: search in it with nas search "
            f"--supernet {folder} --out DIR, and train the best with nas train DIR"
        )
    if (folder / RUN).is_file():
        return (
            "is a training whose network was not exported: with its data, recipe and seed, "
            f"nas train {folder / ARCHITECTURE} --out {folder} trains it to the end and does that"
        )
    for present, missing in ((ARCHITECTURE, WEIGHTS), (WEIGHTS, ARCHITECTURE)):
        if (folder / present).is_file():
            return f"holds {present}, but not {missing}: a bundle has both; export it again"
    return (
        f"is no bundle: it must hold {ARCHITECTURE} and {WEIGHTS}; give the folder that nas export or "
        "nas train wrote"
    )


def _read_network(path: Path) -> Network:
    try:
        return Network.from_json(read_text(path))
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    except SpaceError as error:
        raise ExportError(f"{path} must be an architecture, but: {error}", field=FIELD) from error


def _read_facts(path: Path) -> dict[str, str]:
    """The metadata of the weights; the header says how long the file must be."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error


def _read_preprocessing(path: Path, network: Network) -> Preprocessing | None:
    if not path.is_file():
        return None
    try:
        preprocessing = Preprocessing.from_json(read_text(path))
        preprocessing.check_fits(network)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    except ExportError as error:
        raise ExportError(f"{path}: {error}", field=FIELD) from error
    return preprocessing


def _unreadable(path: Path, error: Exception) -> ExportError:
    return ExportError(f"{path} cannot be read ({error}): copy or export the bundle again", field=FIELD)
