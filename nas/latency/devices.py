"""The settings under which latency is measured: device, batch, threads, precision, memory layout.

Importing it loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from nas.errors import LatencyError

DeviceKind = Literal["cpu", "cuda", "cuda-graph", "onnx-cpu", "onnx-cuda"]
LatencyPrecision = Literal["float32", "bfloat16"]

DEVICES: tuple[str, ...] = get_args(DeviceKind)
PRECISIONS: tuple[str, ...] = get_args(LatencyPrecision)

MOST_THREADS = 1024
"""No processor has more; a slip of the finger must not start tens of thousands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSettings:
    """Under which conditions a forward pass is timed.

    Attributes:
        device: `cpu` and `cuda` run torch, `cuda-graph` replays a captured graph, `onnx-cpu` and `onnx-cuda`
            run ONNX Runtime. A GPU is the first that CUDA_VISIBLE_DEVICES shows.
        batch: Images a pass.
        threads: Threads of the CPU inside one operator.
        precision: Of weights and images; `bfloat16` converts the whole module.
        channels_last: Whether images lie in memory with their channels last.

    Raises:
        LatencyError: A value does not fit, or two of them do not fit together.
    """

    device: DeviceKind
    batch: int = 1
    threads: int = 1
    precision: LatencyPrecision = "float32"
    channels_last: bool = False

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise LatencyError(f"`device in {DEVICES}` must hold, but got {self.device!r}", field="device")
        if self.precision not in PRECISIONS:
            raise LatencyError(
                f"`precision in {PRECISIONS}` must hold, but got {self.precision!r}", field="precision"
            )
        for name, count in (("batch", self.batch), ("threads", self.threads)):
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise LatencyError(f"`{name} >= 1` must hold, but got {name}={count!r}", field=name)
        if self.threads > MOST_THREADS:
            raise LatencyError(
                f"`threads <= {MOST_THREADS}` must hold, as all of them are started, but got "
                f"threads={self.threads}: give as many as the device has cores",
                field="threads",
            )
        if self.is_onnx and self.precision != "float32":
            raise LatencyError(
                f"precision {self.precision!r} is not offered on {self.device}: ONNX Runtime lacks such "
                "convolutions on a CPU; measure in float32, or on cpu, cuda or cuda-graph",
                field="precision",
            )
        if self.is_onnx and self.channels_last:
            raise LatencyError(
                f"channels last is not offered on {self.device}: an ONNX file states images with channels "
                "first, and ONNX Runtime chooses its own layout inside; leave it out",
                field="channels_last",
            )

    @property
    def is_onnx(self) -> bool:
        """Whether ONNX Runtime runs the network."""
        return self.device.startswith("onnx-")

    @property
    def is_cuda(self) -> bool:
        """Whether a GPU runs the network."""
        return "cuda" in self.device

    @property
    def text(self) -> str:
        """The settings in words: `cpu, batch 1, threads 1, float32`."""
        layout = ", channels last" if self.channels_last else ""
        return f"{self.device}, batch {self.batch}, threads {self.threads}, {self.precision}{layout}"
