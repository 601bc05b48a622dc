"""The export bundle: one folder with a trained network that runs where this package is not installed."""

from __future__ import annotations

import inspect
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import torch
from safetensors.torch import save
from torch import Tensor, nn

from nas.data import decoder
from nas.errors import ExportError
from nas.export import bundle_predict
from nas.export.card import Origin, write_card
from nas.export.preprocessing import Preprocessing
from nas.export.verification import verify
from nas.export.weights import trained
from nas.folders import ARCHITECTURE
from nas.io import fresh_folder
from nas.onnx_file import write_onnx
from nas.version import package_version
from search_spaces import Network, SpaceError, to_source

__all__ = ["Bundle", "Origin", "Preprocessing", "export_bundle"]

SOURCE, WEIGHTS = "model.py", "weights.safetensors"
ONNX, PREPROCESSING, PREDICT, CARD = "model.onnx", "preprocessing.json", "predict.py", "card.md"
FILES = (ARCHITECTURE, SOURCE, WEIGHTS, ONNX, PREPROCESSING, PREDICT, CARD)

SOURCE_WIDTH = 100
"""Characters of a line of words in `model.py`."""

LOAD = '''

def load(folder: str | None = None) -> Model:
    """Makes the network with its trained weights, in evaluation mode; needs the safetensors package.

    Args:
        folder: Where `weights.safetensors` is; by default beside this file.
    """
    from pathlib import Path

    from safetensors.torch import load_file

    model = Model()
    model.load_state_dict(load_file(Path(folder or Path(__file__).parent) / "weights.safetensors"))
    return model.eval()
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """An exported network that was loaded back and compared.

    Attributes:
        folder: Where it is.
        files: Names of the files in it.
        size_bytes: Their size together.
        is_bit_equal: Whether the logits of `model.py` in a new process equal the network's to the bit.
        torch_error: Their largest difference over the largest logit.
        onnx_error: The same in ONNX Runtime; None without ONNX.
        image_files: Image files of every mode that `predict.py` reads as training does; 0 without it.
    """

    folder: Path
    files: tuple[str, ...]
    size_bytes: int
    is_bit_equal: bool
    torch_error: float
    onnx_error: float | None
    image_files: int


def export_bundle(
    folder: Path | str,
    *,
    network: Network,
    weights: bytes | Mapping[str, Tensor],
    preprocessing: Preprocessing | None = None,
    origin: Origin | None = None,
    overwrite: bool = False,
    with_onnx: bool = True,
) -> Bundle:
    """Writes a trained network as a folder, and compares logits and pixels with it in a new process.

    The folder appears when all is written and checked, or not at all.

    Args:
        folder: Where to; it must not exist, be empty, or be a bundle that may be overwritten.
        network: The architecture.
        weights: Its trained weights: safetensors bytes, or a state dict.
        preprocessing: What its images go through; None leaves out `preprocessing.json` and `predict.py`.
        origin: Where it comes from, for the card.
        overwrite: Replaces a bundle that is there already.
        with_onnx: Writes `model.onnx` too.

    Raises:
        ExportError: The weights or the preprocessing do not fit the network, a layer cannot be exported, the
            folder cannot be written, or the bundle does not reproduce the network.
        SpaceError: The network cannot be built.
    """
    if preprocessing is not None:
        preprocessing.check_fits(network)
    module = trained(network, weights)
    place = Path(folder).expanduser()
    with fresh_folder(place.resolve(), FILES, is_replaced=overwrite) as fresh:
        _write_parts(fresh, network, module, preprocessing, with_onnx)
        verification = verify(fresh, network, module, preprocessing)
        card = write_card(
            network,
            origin or Origin(),
            preprocessing,
            checks=verification.sentences(),
            made_with=_made_with(),
            has_onnx=with_onnx,
        )
        (fresh / CARD).write_text(card, encoding="utf-8")
        files = tuple(name for name in FILES if (fresh / name).exists())
        size_bytes = sum((fresh / name).stat().st_size for name in files)
    return Bundle(
        folder=place,
        files=files,
        size_bytes=size_bytes,
        is_bit_equal=verification.is_bit_equal,
        torch_error=verification.torch_error,
        onnx_error=verification.onnx_error,
        image_files=verification.image_files,
    )


def _write_parts(
    folder: Path, network: Network, module: nn.Module, preprocessing: Preprocessing | None, with_onnx: bool
) -> None:
    facts = {"network": network.digest}
    if preprocessing is not None:
        facts["preprocessing"] = preprocessing.to_json()
        (folder / PREPROCESSING).write_text(facts["preprocessing"] + "\n", encoding="utf-8")
        (folder / PREDICT).write_text(predict_source(), encoding="utf-8")
    (folder / ARCHITECTURE).write_text(network.to_json() + "\n", encoding="utf-8")
    (folder / SOURCE).write_text(_source(network, preprocessing), encoding="utf-8")
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in module.state_dict().items()}
    (folder / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt", "network": network.digest}))
    if with_onnx:
        shape = (network.in_channels, network.resolution, network.resolution)
        write_onnx(module, shape, folder / ONNX, facts)


def predict_source() -> str:
    """Writes `predict.py`: the program, with the text of the decoder of training in place of its import."""
    shared, end = "from typing import Any\n", "from nas.data.decoder import decode_image\n"
    before, _, program = inspect.getsource(bundle_predict).partition(shared)
    _, _, decoding = inspect.getsource(decoder).partition(shared)
    return f"{before}{shared}{decoding}\n{program.partition(end)[2]}"


def _source(network: Network, preprocessing: Preprocessing | None) -> str:
    title = f"Network {network.digest}."
    if preprocessing is not None:
        title += "\n\n" + fill(f"Its task is {preprocessing.task}: {preprocessing.answers}.", SOURCE_WIDTH)
    try:
        return to_source(network, title=title) + LOAD
    except SpaceError as error:
        raise ExportError(f"the network cannot be written as source: {error}") from error


def _made_with() -> str:
    return (
        f"mnas {package_version()}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}"
    )
