"""One forward pass on a device, ready to be timed: `prepare_pass` returns it, a call runs it to its end."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nas.errors import ExportError, LatencyError
from nas.latency.allocator import keep_freed_memory
from nas.latency.devices import DeviceSettings as DeviceSettings
from search_spaces import Network, build

CAPTURE_WARMUP = 3
CUDA_PROVIDER, CPU_PROVIDER = "CUDAExecutionProvider", "CPUExecutionProvider"

Shape = tuple[int, int, int]


class Pass(Protocol):
    """One forward pass: called with nothing, it returns when the device has done all of it."""

    def __call__(self) -> object:
        """Runs it once."""
        ...


class _PinnedPass:
    """A pass on a fixed number of threads of torch; the number is put back where it was another."""

    def __init__(self, run: Callable[[], object], threads: int) -> None:
        self._run = run
        self._threads = threads

    def __call__(self) -> None:
        before = torch.get_num_threads()
        if before == self._threads:
            self._run()
            return
        torch.set_num_threads(self._threads)
        try:
            self._run()
        finally:
            torch.set_num_threads(before)


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
        prepared = _PinnedPass(run, settings.threads)
        prepared()
    except LatencyError:
        raise
    except torch.OutOfMemoryError as error:
        raise LatencyError(
            f"a forward pass of batch {settings.batch} does not fit the memory of {settings.device}: measure "
            "with a smaller batch"
        ) from error
    except (RuntimeError, ExportError) as error:
        raise LatencyError(_failure(error, shape, settings)) from error
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
            "the latency of a module needs the input_shape=(channels, height, width) of an image"
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
                f"{', '.join(providers)}: install onnxruntime-gpu, or measure on onnx-cpu"
            )
    elif settings.is_cuda and not torch.cuda.is_available():
        raise LatencyError(
            f"device {settings.device!r} was asked for, but torch {torch.__version__} sees no GPU: measure "
            "on cpu, or install torch for the driver of this machine"
        )


def _torch_run(module: nn.Module, images: Tensor, settings: DeviceSettings) -> Callable[[], object]:
    if not settings.is_cuda:
        keep_freed_memory()
    where = torch.device("cuda" if settings.is_cuda else "cpu")
    dtype = getattr(torch, settings.precision)
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    module = module.to(device=where, dtype=dtype).to(memory_format=layout)
    images = images.to(device=where, dtype=dtype, memory_format=layout)
    if settings.device == "cuda-graph":
        return _captured(module, images)

    def run() -> None:
        with torch.inference_mode():
            module(images)
        if settings.is_cuda:
            torch.cuda.synchronize()

    return run


def _captured(module: nn.Module, images: Tensor) -> Callable[[], object]:
    """Captures one pass as a CUDA graph, after passes on a side stream that settle its libraries' choices."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode():
        with torch.cuda.stream(side):
            for _ in range(CAPTURE_WARMUP):
                module(images)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = module(images)
    # The graph reads and writes fixed addresses: what it was captured with must live as long as it does.
    kept = (module, images, logits)

    def run() -> object:
        graph.replay()
        torch.cuda.synchronize()
        return kept

    return run


def _onnx_run(
    module: nn.Module, shape: Shape, images: Tensor, settings: DeviceSettings
) -> Callable[[], object]:
    """Writes the module as a bundle does, and binds its input to a session on the device once."""
    from nas.onnx_file import INPUT, OUTPUT, write_onnx

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
            f"devices onnx-cpu and onnx-cuda need ONNX Runtime, which cannot be imported ({error}): install "
            "onnxruntime or onnxruntime-gpu"
        ) from error
    return onnxruntime


class _ReferenceNetwork(nn.Module):
    """A small network of the kinds of layer that are measured: dense, depthwise and 1x1 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 24, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(24)]
        for _ in range(3):
            layers += [
                nn.Conv2d(24, 96, 1, bias=False),
                nn.BatchNorm2d(96),
                nn.SiLU(),
                nn.Conv2d(96, 96, 3, padding=1, groups=96, bias=False),
                nn.BatchNorm2d(96),
                nn.SiLU(),
                nn.Conv2d(96, 24, 1, bias=False),
                nn.BatchNorm2d(24),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)
        return features.mean((2, 3))


REFERENCE_RESOLUTION = 48


def prepare_reference(settings: DeviceSettings) -> Pass:
    """Prepares the fixed workload that a device's clock is read by: three small MBConv layers at batch 1.

    It runs as the settings say in all but the batch: the batch would only make it slow, and a slow clock is
    read less often.

    Raises:
        LatencyError: The device is not there.
    """
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(0)
    try:
        module = _ReferenceNetwork()
    finally:
        torch.random.set_rng_state(generator_state)
    alone = DeviceSettings(
        device=settings.device,
        threads=settings.threads,
        precision=settings.precision,
        channels_last=settings.channels_last,
    )
    side = REFERENCE_RESOLUTION
    return prepare_pass(module, alone, input_shape=(3, side, side))
