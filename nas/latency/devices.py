"""The settings under which latency is measured: each field is an option of the commands that measure.

Importing it loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from nas.errors import LatencyError
from nas.options import option
from nas.values import make_plain

DeviceKind = Literal["cpu", "cuda", "cuda-graph", "onnx-cpu", "onnx-cuda"]
LatencyPrecision = Literal["float32", "bfloat16"]

DEVICES: tuple[DeviceKind, ...] = get_args(DeviceKind)
"""Devices by the name that users give, the default first.

A name with `cuda` in it is of a GPU, and one that begins with `onnx-` is of ONNX Runtime.
"""
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

    device: DeviceKind = option(DEVICES[0], "", metavar="NAME")
    batch: int = option(1, "images a forward pass", metavar="N")
    threads: int = option(1, "threads of the CPU", metavar="N")
    precision: LatencyPrecision = option("float32", "", metavar="NAME")
    channels_last: bool = option(False, "images with their channels last")

    def __post_init__(self) -> None:
        make_plain(self)
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
                f"convolutions on a CPU; measure in float32, or on {', '.join(_of_torch())}",
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
        return self.device not in _of_torch()

    @property
    def is_cuda(self) -> bool:
        """Whether a GPU runs the network."""
        return "cuda" in self.device

    @property
    def text(self) -> str:
        """The settings in words: `cpu, batch 1, threads 1, float32`."""
        layout = ", channels last" if self.channels_last else ""
        return f"{self.device}, batch {self.batch}, threads {self.threads}, {self.precision}{layout}"


def _of_torch() -> tuple[str, ...]:
    return tuple(name for name in DEVICES if not name.startswith("onnx-"))
