"""What runs a bundle's network: PyTorch, or ONNX Runtime; the one seam between images and logits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
import torch

from nas.devices import choose_device, release_memory
from nas.errors import ExecutorError, ExportError, UsageError
from nas.onnx_file import INPUT, OUTPUT
from nas.training.accuracy import Normalise
from nas.training.training import is_out_of_memory

if TYPE_CHECKING:
    from nas.data.images import Images
    from nas.export.opened import OpenBundle
    from nas.export.preprocessing import Preprocessing

RuntimeName = Literal["torch", "onnx"]
Logits = npt.NDArray[np.float32]

CUDA_PROVIDER, CPU_PROVIDER = "CUDAExecutionProvider", "CPUExecutionProvider"


class Runtime(Protocol):
    """A network that is ready to run."""

    @property
    def name(self) -> str:
        """The runtime and its device, for users: `torch on cpu`."""
        ...

    def __call__(self, images: Images) -> Logits:
        """Maps uint8 images (batch, channels, resolution, resolution) to logits (batch, classes).

        Raises:
            ExecutorError: The memory does not suffice for such a batch.
        """
        ...


def make_runtime(opened: OpenBundle, name: RuntimeName = "torch", device: str = "auto") -> Runtime:
    """Loads a bundle's network.

    Args:
        opened: The bundle, which says what its images go through.
        name: `torch` runs the weights, `onnx` runs `model.onnx` in ONNX Runtime.
        device: `auto` (a GPU where the runtime has one), `cpu` or `cuda`.

    Raises:
        ExportError: The weights or the ONNX file cannot be used.
        ExecutorError: The device is not there.
        UsageError: The runtime is unknown.
    """
    if name not in get_args(RuntimeName):
        raise UsageError(
            f"`runtime in {get_args(RuntimeName)}` must hold, but got runtime={name!r}: give one of these",
            field="runtime",
        )
    preprocessing = opened.required_preprocessing()
    if name == "torch":
        return TorchRuntime(opened, preprocessing, choose_device(device))
    return OnnxRuntime(opened, preprocessing, device)


class TorchRuntime:
    """PyTorch in float32, normalised as in training."""

    def __init__(self, opened: OpenBundle, preprocessing: Preprocessing, device: torch.device) -> None:
        self._device = device
        self._module = opened.module().to(device).to(memory_format=torch.channels_last)
        self._normalise = Normalise(preprocessing, device)

    @property
    def name(self) -> str:
        """See `Runtime`."""
        return f"torch on {self._device}"

    def __call__(self, images: Images) -> Logits:
        """See `Runtime`."""
        try:
            with torch.inference_mode():
                pixels = torch.from_numpy(images).to(self._device)
                logits: Logits = self._module(self._normalise(pixels)).float().cpu().numpy()
                return logits
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        release_memory(self._device)
        raise _too_large(len(images), str(self._device))


class OnnxRuntime:
    """ONNX Runtime; the images are normalised by the same code, before it."""

    def __init__(self, opened: OpenBundle, preprocessing: Preprocessing, device: str) -> None:
        self._session = _session(_onnx_file(opened), device)
        self._where = "cuda" if CUDA_PROVIDER in self._session.get_providers() else "cpu"
        self._normalise = Normalise(preprocessing, torch.device("cpu"))
        network = self._session.get_modelmeta().custom_metadata_map.get("network", opened.network.digest)
        if network != opened.network.digest:
            raise ExportError(
                f"{opened.onnx} must be of network {opened.network.digest}, but is of {network}: files of "
                "two bundles were mixed; export it again",
                field="bundle",
            )

    @property
    def name(self) -> str:
        """See `Runtime`."""
        return f"ONNX Runtime on {self._where}"

    def __call__(self, images: Images) -> Logits:
        """See `Runtime`."""
        normal = self._normalise(torch.from_numpy(images)).contiguous().numpy()
        try:
            (logits,) = self._session.run([OUTPUT], {INPUT: normal})
        except Exception as error:  # ONNX Runtime's own exceptions share no base but Exception
            raise ExecutorError(
                f"ONNX Runtime must run a batch of {len(images)}, but does not ({_first_line(error)}): give "
                "a smaller batch size",
                field="batch_size",
            ) from error
        return np.asarray(logits, dtype=np.float32)


def _onnx_file(opened: OpenBundle) -> Path:
    if opened.onnx is None:
        raise ExportError(
            f"ONNX Runtime needs model.onnx, which {opened.folder} lacks: export again with ONNX, or use "
            "torch",
            field="runtime",
        )
    return opened.onnx


def _session(path: Path, device: str) -> Any:
    import onnxruntime

    has_cuda = CUDA_PROVIDER in onnxruntime.get_available_providers()
    if device not in ("auto", "cpu") and not (has_cuda and device.startswith("cuda")):
        raise ExecutorError(
            f"`device in ('auto', 'cpu', 'cuda')` must hold, with a GPU that this ONNX Runtime can use for "
            f"cuda, but got {device!r}: use 'cpu', or install onnxruntime-gpu",
            field="device",
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    providers = [CUDA_PROVIDER, CPU_PROVIDER] if has_cuda and device != "cpu" else [CPU_PROVIDER]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # ONNX Runtime's own exceptions share no base but Exception
        raise ExportError(
            f"{path} cannot be loaded ({_first_line(error)}): copy or export the bundle again", field="bundle"
        ) from error


def _too_large(batch: int, where: str) -> ExecutorError:
    return ExecutorError(
        f"a batch of {batch} images does not fit the memory of {where}: give a smaller batch size",
        field="batch_size",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]
