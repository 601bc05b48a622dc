"""Compares a bundle with the network and the images of training, in a process that has nothing of ours."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from torch import Tensor, nn

from nas.data.decoding import READ_ERRORS, decode
from nas.data.images import Reading
from nas.devices import pinned_threads
from nas.errors import ExportError
from nas.export import bundle_check
from nas.export.preprocessing import Preprocessing
from nas.export.probe_images import write_probe_images
from nas.values import few
from search_spaces import Network

TORCH_TOLERANCE = 1e-5
ONNX_TOLERANCE = 1e-3
"""Most that logits may differ, over the largest logit. ONNX folds norms into convolutions."""
PROBE_BATCHES = (1, 3)
CHECK_SECONDS = 600
LIBRARIES = ("torch", "safetensors", "numpy", "PIL", "onnx", "onnxruntime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What the comparison found.

    Attributes:
        is_bit_equal: Whether the logits of `model.py` equal the network's to the bit.
        torch_error: Their largest difference over the largest logit.
        onnx_error: The same in ONNX Runtime; None without ONNX.
        image_files: Image files that `predict.py` reads as training does; 0 without it.
    """

    is_bit_equal: bool
    torch_error: float
    onnx_error: float | None
    image_files: int

    def sentences(self) -> tuple[str, ...]:
        """Says it for the card."""
        batches = " and ".join(map(str, PROBE_BATCHES))
        same = (
            "equal the trained network's to the bit"
            if self.is_bit_equal
            else (f"differ from the trained network's by at most {self.torch_error:.1e} of the largest logit")
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
        if self.image_files:
            said.append(
                f"`predict.py` reads {self.image_files} image files of all modes (grey, colour, palettes, "
                "transparency, CMYK, 16 and 32 bits, floating point, EXIF turns, damaged files) as training "
                "does, pixel by pixel."
            )
        return tuple(said)


def verify(
    folder: Path, network: Network, module: nn.Module, preprocessing: Preprocessing | None
) -> Verification:
    """Loads a bundle in a new process without our packages, and compares logits and pixels.

    Args:
        folder: The bundle.
        network: Its architecture.
        module: The network with its weights, in evaluation mode, on the CPU.
        preprocessing: What its images go through; None where it has no `predict.py`.

    Raises:
        ExportError: The bundle cannot be loaded there, or reproduces something else.
    """
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        save_file(_probe(network, module), scratch / "probe.safetensors")
        files = {} if preprocessing is None else _write_files(scratch, preprocessing, module)
        found = _run(folder, scratch)
    verification = Verification(
        is_bit_equal=found["is_bit_equal"],
        torch_error=found["errors"]["torch"],
        onnx_error=found["errors"].get("onnx"),
        image_files=len(files),
    )
    _require_within("model.py", verification.torch_error, TORCH_TOLERANCE)
    _require_within("model.onnx", verification.onnx_error or 0.0, ONNX_TOLERANCE)
    _require_same_pixels(found["misread"])
    _require_within("predict.py", found["predict_error"], ONNX_TOLERANCE)
    return verification


def _run(folder: Path, scratch: Path) -> dict[str, Any]:
    """Runs the check in an isolated interpreter; returns its report."""
    report = scratch / "report.json"
    command = [sys.executable, "-I", bundle_check.__file__, *map(str, (folder, scratch)), *_library_folders()]
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=CHECK_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"the exported network must load in {CHECK_SECONDS} s, but did not") from error
    if run.returncode != 0 or not report.exists():
        lines = run.stderr.strip().splitlines() or [f"exit status {run.returncode}"]
        raise ExportError(f"the exported network cannot be loaded without this package: {lines[-1]}")
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found


def _require_within(name: str, error: float, tolerance: float) -> None:
    if not error <= tolerance:
        raise ExportError(
            f"the logits of {name} must equal the trained network's within {tolerance:g} of the largest, "
            f"but differ by {error:.3g}: a layer is exported as something else, or is random in evaluation"
        )


def _require_same_pixels(misread: Sequence[str]) -> None:
    if misread:
        raise ExportError(
            f"predict.py must read image files as training does, but reads {len(misread)} of them otherwise "
            f"({few(misread)}): the check ran with another Pillow than this process, or this is a bug"
        )


def _probe(network: Network, module: nn.Module) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (network.in_channels, network.resolution, network.resolution)
    tensors: dict[str, Tensor] = {}
    for batch in PROBE_BATCHES:
        images = torch.randn((batch, *shape), generator=generator)
        logits = _logits(module, images)
        if not logits.isfinite().all():
            raise ExportError("the logits of the network must be finite, but are not: its training diverged")
        tensors |= {f"images{batch}": images, f"logits{batch}": logits}
    return tensors


def _logits(module: nn.Module, images: Tensor) -> Tensor:
    with pinned_threads(1), torch.inference_mode():
        logits: Tensor = module(images).contiguous()
    return logits


def _write_files(
    scratch: Path, preprocessing: Preprocessing, module: nn.Module
) -> Mapping[str, npt.NDArray[np.uint8]]:
    """Writes image files, what training makes of each, and the logits of the first with what they mean."""
    (scratch / "images").mkdir()
    paths = write_probe_images(scratch / "images", preprocessing.reading)
    pixels = {path.name: _pixels(path, preprocessing.reading) for path in paths}
    save_arrays(pixels, scratch / "pixels.safetensors")
    mean, std = (np.reshape(numbers, (-1, 1, 1)) for numbers in (preprocessing.mean, preprocessing.std))
    images = ((pixels[paths[0].name] / 255 - mean) / std)[None].astype(np.float32)
    logits = _logits(module, torch.from_numpy(images))
    answers = torch.from_numpy(preprocessing.interpret(logits.numpy()))
    save_file({paths[0].name: logits, "answers": answers}, scratch / "logits.safetensors")
    return pixels


def _pixels(path: Path, reading: Reading) -> npt.NDArray[np.uint8]:
    """What training makes of a file; an empty array where it refuses it."""
    try:
        return decode(path, reading)
    except READ_ERRORS:
        return np.zeros(0, np.uint8)


def _library_folders() -> list[str]:
    """Where the libraries are: an isolated interpreter does not look in PYTHONPATH and the user's folder."""
    specs = [importlib.util.find_spec(name) for name in LIBRARIES]
    homes = [Path(spec.origin).parent.parent for spec in specs if spec is not None and spec.origin]
    return list(dict.fromkeys(map(str, homes)))
