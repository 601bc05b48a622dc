"""The export bundle: one folder with a trained network that runs where this package is not installed."""

from __future__ import annotations

import importlib.util
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save, save_file
from torch import Tensor, nn

from nas.devices import pinned_threads
from nas.errors import ExportError
from nas.export import bundle_check
from nas.export.card import Origin, write_card
from nas.export.preprocessing import Preprocessing
from nas.export.weights import trained
from nas.io import fresh_folder
from nas.onnx_file import write_onnx
from nas.version import package_version
from search_spaces import Network, SpaceError, to_source

__all__ = ["Bundle", "Origin", "Preprocessing", "export_bundle"]

ARCHITECTURE, SOURCE, WEIGHTS = "architecture.json", "model.py", "weights.safetensors"
ONNX, PREPROCESSING, CARD = "model.onnx", "preprocessing.json", "card.md"
FILES = (ARCHITECTURE, SOURCE, WEIGHTS, ONNX, PREPROCESSING, CARD)

TORCH_TOLERANCE = 1e-5
ONNX_TOLERANCE = 1e-3
"""Most that logits may differ, over the largest logit. ONNX folds norms into convolutions."""
PROBE_BATCHES = (1, 3)
CHECK_SECONDS = 600
LIBRARIES = ("torch", "safetensors", "numpy", "onnx", "onnxruntime")

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
    """

    folder: Path
    files: tuple[str, ...]
    size_bytes: int
    is_bit_equal: bool
    torch_error: float
    onnx_error: float | None


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
    """Writes a trained network as a folder, loads it back in a new process and compares the logits.

    The folder appears when all is written and checked, or not at all.

    Args:
        folder: Where to; it must not exist, be empty, or be a bundle that may be overwritten.
        network: The architecture.
        weights: Its trained weights: safetensors bytes, or a state dict.
        preprocessing: What its images go through; None leaves `preprocessing.json` out.
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
        outcome = _check(fresh, network, module)
        card = write_card(
            network,
            origin or Origin(),
            preprocessing,
            checks=outcome.sentences(),
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
        is_bit_equal=outcome.is_bit_equal,
        torch_error=outcome.torch_error,
        onnx_error=outcome.onnx_error,
    )


def _write_parts(
    folder: Path, network: Network, module: nn.Module, preprocessing: Preprocessing | None, with_onnx: bool
) -> None:
    facts = {"network": network.digest}
    if preprocessing is not None:
        facts["preprocessing"] = preprocessing.to_json()
        (folder / PREPROCESSING).write_text(facts["preprocessing"] + "\n", encoding="utf-8")
    (folder / ARCHITECTURE).write_text(network.to_json() + "\n", encoding="utf-8")
    (folder / SOURCE).write_text(_source(network), encoding="utf-8")
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in module.state_dict().items()}
    (folder / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt", "network": network.digest}))
    if with_onnx:
        shape = (network.in_channels, network.resolution, network.resolution)
        write_onnx(module, shape, folder / ONNX, facts)


def _source(network: Network) -> str:
    try:
        return to_source(network, title=f"Network {network.digest}, found by architecture search.") + LOAD
    except SpaceError as error:
        raise ExportError(f"the network cannot be written as source: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    is_bit_equal: bool
    torch_error: float
    onnx_error: float | None

    def sentences(self) -> tuple[str, ...]:
        batches = " and ".join(map(str, PROBE_BATCHES))
        same = (
            "equal the searched network's to the bit"
            if self.is_bit_equal
            else (
                f"differ from the searched network's by at most {self.torch_error:.1e} of the largest logit"
            )
        )
        said = [
            f"Loaded in a new process without the package that made it, `model.py` gives logits that {same} "
            f"(random images, batches of {batches}, CPU)."
        ]
        if self.onnx_error is not None:
            said.append(
                f"`model.onnx` passes ONNX's checker; in ONNX Runtime its logits differ by at most "
                f"{self.onnx_error:.1e} of the largest logit on the same images."
            )
        return tuple(said)


def _check(folder: Path, network: Network, module: nn.Module) -> _Checked:
    """Loads the bundle in a new process without our packages, and compares its logits with the module's."""
    with tempfile.TemporaryDirectory() as scratch:
        probe, report = Path(scratch) / "probe.safetensors", Path(scratch) / "report.json"
        save_file(_probe(network, module), probe)
        command = [
            sys.executable,
            "-I",
            bundle_check.__file__,
            *map(str, (folder, probe, report)),
            *_library_folders(),
        ]
        try:
            run = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=CHECK_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ExportError(f"the exported network must load in {CHECK_SECONDS} s, but did not") from error
        if run.returncode != 0 or not report.exists():
            lines = run.stderr.strip().splitlines() or [f"exit status {run.returncode}"]
            raise ExportError(f"the exported network cannot be loaded without this package: {lines[-1]}")
        found = json.loads(report.read_text(encoding="utf-8"))
    outcome = _Checked(
        is_bit_equal=found["is_bit_equal"],
        torch_error=found["errors"]["torch"],
        onnx_error=found["errors"].get("onnx"),
    )
    _require_within("model.py", outcome.torch_error, TORCH_TOLERANCE)
    _require_within("model.onnx", outcome.onnx_error or 0.0, ONNX_TOLERANCE)
    return outcome


def _require_within(name: str, error: float, tolerance: float) -> None:
    if not error <= tolerance:
        raise ExportError(
            f"the logits of {name} must equal the searched network's within {tolerance:g} of the largest, "
            f"but differ by {error:.3g}: a layer is exported as something else, or is random in evaluation"
        )


def _probe(network: Network, module: nn.Module) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (network.in_channels, network.resolution, network.resolution)
    tensors: dict[str, Tensor] = {}
    with pinned_threads(1), torch.inference_mode():
        for batch in PROBE_BATCHES:
            images = torch.randn((batch, *shape), generator=generator)
            logits = module(images)
            if not logits.isfinite().all():
                raise ExportError(
                    "the logits of the network must be finite, but are not: its training diverged"
                )
            tensors |= {f"images{batch}": images, f"logits{batch}": logits.contiguous()}
    return tensors


def _library_folders() -> list[str]:
    """Where the libraries are: an isolated interpreter does not look in PYTHONPATH and the user's folder."""
    specs = [importlib.util.find_spec(name) for name in LIBRARIES]
    homes = [Path(spec.origin).parent.parent for spec in specs if spec is not None and spec.origin]
    return list(dict.fromkeys(map(str, homes)))


def _made_with() -> str:
    return (
        f"mnas {package_version()}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}"
    )
