"""One forward pass on a device, ready to be timed: `prepare_pass` returns it, a call runs it to its end."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nas.devices import CudaRecorder, pinned_threads, synchronize
from nas.errors import ExportError, LatencyError
from nas.latency.devices import DeviceSettings
from nas.machine import keep_freed_memory
from nas.onnx_file import INPUT, OUTPUT, write_onnx
from search_spaces import Conv, Head, MBConv, Network, Stage, build

CAPTURE_WARMUP = 3
CUDA_PROVIDER, CPU_PROVIDER = "CUDAExecutionProvider", "CPUExecutionProvider"

REFERENCE = Network(
    stem=Stage(op=Conv(), channels=24, stride=2),
    stages=(Stage(op=MBConv(expand_ratio=4), channels=24, repeats=3),),
    head=Head(),
    resolution=48,
    num_classes=24,
)
"""The network of the reference workload: the kinds of layer that are measured, dense, depthwise and 1x1."""

Shape = tuple[int, int, int]


class Pass(Protocol):
    """One forward pass: called with nothing, it returns when the device has done all of it."""

    def __call__(self) -> object:
        """Runs it once."""
        ...


def prepare_pass(
    model: nn.Module | Network, settings: DeviceSettings, *, input_shape: Shape | None = None
) -> Pass:
    """Puts a copy of the model on the device and returns its forward pass on fixed random images.

    It runs in eval mode without gradients. A network is built with random weights: they cost the time that
    trained ones cost. torch's number of threads is set inside each call and put back after it.

    Args:
        model: A module, which stays as it is, or a network to build.
        settings: Where, and how.
        input_shape: (channels, height, width) of one image; a network knows its own.

    Raises:
        LatencyError: The device is not there, the shape of a module's input is missing, or the model cannot
            run there.
    """
    require_device(settings)
    module, shape = _module_and_shape(model, input_shape)
    images = torch.rand((settings.batch, *shape), generator=torch.Generator().manual_seed(0))
    try:
        if settings.is_onnx:
            run = _onnx_run(module, shape, images, settings)
        else:
            run = _torch_run(module, images, settings)
        prepared = _pinned(run, settings.threads)
        prepared()
    except LatencyError:
        raise
    except torch.OutOfMemoryError as error:
        raise LatencyError(
            f"a forward pass of batch {settings.batch} does not fit the memory of {settings.device}: measure "
            "with a smaller batch",
            field="batch",
        ) from error
    except (RuntimeError, ExportError) as error:
        raise LatencyError(_failure(error, shape, settings)) from error
    return prepared


def _pinned(run: Pass, threads: int) -> Pass:
    def prepared() -> object:
        with pinned_threads(threads):
            return run()

    return prepared


def _failure(error: Exception, shape: Shape, settings: DeviceSettings) -> str:
    reason = (str(error).strip() or repr(error)).splitlines()[0]
    return (
        f"the model must run on {settings.text} with images of {shape}, but does not "
        f"({type(error).__name__}: {reason}): check its input shape, or measure on another device"
    )


def _module_and_shape(model: nn.Module | Network, input_shape: Shape | None) -> tuple[nn.Module, Shape]:
    if isinstance(model, Network):
        return build(model, seed=0).eval(), (model.in_channels, model.resolution, model.resolution)
    if input_shape is None:
        raise LatencyError(
            "the latency of a module needs the input_shape=(channels, height, width) of an image",
            field="input_shape",
        )
    return copy.deepcopy(model).cpu().eval(), input_shape


def require_device(settings: DeviceSettings) -> None:
    """Checks that what the settings name is there.

    Raises:
        LatencyError: torch sees no GPU, or ONNX Runtime is missing or cannot use it.
    """
    if settings.is_onnx:
        providers = _onnxruntime().get_available_providers()
        if settings.is_cuda and CUDA_PROVIDER not in providers:
            raise LatencyError(
                f"device {settings.device!r} was asked for, but this ONNX Runtime offers only "
                f"{', '.join(providers)}: install onnxruntime-gpu, or measure on onnx-cpu",
                field="device",
            )
    elif settings.is_cuda and not torch.cuda.is_available():
        raise LatencyError(
            f"device {settings.device!r} was asked for, but torch {torch.__version__} sees no GPU: measure "
            "on cpu, or install torch for the driver of this machine",
            field="device",
        )


def _torch_run(module: nn.Module, images: Tensor, settings: DeviceSettings) -> Pass:
    if not settings.is_cuda:
        keep_freed_memory()
    where = torch.device("cuda" if settings.is_cuda else "cpu")
    dtype = getattr(torch, settings.precision)
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    module = module.to(device=where, dtype=dtype).to(memory_format=layout)
    images = images.to(device=where, dtype=dtype, memory_format=layout)

    def forward() -> None:
        with torch.inference_mode():
            module(images)

    launch = _recorded(forward, where) if settings.device == "cuda-graph" else forward

    def run() -> object:
        launch()
        synchronize(where)
        return forward  # a graph reads and writes fixed addresses: module and images must live as long as it

    return run


def _recorded(forward: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Records a pass as a CUDA graph, after passes that settle its libraries' choices."""
    recorder = CudaRecorder(device)
    for _ in range(CAPTURE_WARMUP):
        recorder.run(forward)
    synchronize(device)
    return recorder.record(forward)


def _onnx_run(module: nn.Module, shape: Shape, images: Tensor, settings: DeviceSettings) -> Pass:
    """Writes the module as a bundle does, and binds its input to a session on the device once."""
    onnxruntime = _onnxruntime()
    with tempfile.TemporaryDirectory(prefix="nas-latency-") as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(module, shape, path, {})
        session = _session(onnxruntime, path.read_bytes(), settings)
    where = "cuda" if settings.is_cuda else "cpu"
    binding = session.io_binding()
    value = onnxruntime.OrtValue.ortvalue_from_numpy(images.numpy(), where, 0)
    binding.bind_ortvalue_input(INPUT, value)
    binding.bind_output(OUTPUT, where, 0)
    kept = (images, value)

    def run() -> object:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return kept

    return run


def _session(onnxruntime: Any, model: bytes, settings: DeviceSettings) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # Threads that spin on after a pass would slow down the passes of other sessions that follow.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    providers = [CUDA_PROVIDER, CPU_PROVIDER] if settings.is_cuda else [CPU_PROVIDER]
    try:
        session = onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # ONNX Runtime's own exceptions share no base but Exception
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise LatencyError(
            f"ONNX Runtime must load the network on {settings.device}, but: {reason}"
        ) from error
    if settings.is_cuda and CUDA_PROVIDER not in session.get_providers():
        raise LatencyError(
            "ONNX Runtime fell back to the CPU, since its CUDA libraries could not be loaded: install CUDA "
            "and cuDNN of the versions that this onnxruntime-gpu names, or measure on onnx-cpu"
        )
    return session


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise LatencyError(
            f"the device needs ONNX Runtime, which cannot be imported ({error}): install onnxruntime or "
            "onnxruntime-gpu",
            field="device",
        ) from error
    return onnxruntime


def prepare_reference(settings: DeviceSettings) -> Pass:
    """Prepares the fixed workload that a device's clock is read by: three small MBConv layers at batch 1.

    It runs as the settings say in all but the batch: the batch would only make it slow, and a slow clock is
    read less often.

    Raises:
        LatencyError: The device is not there.
    """
    return prepare_pass(REFERENCE, replace(settings, batch=1))
