"""`TrainOptions`: how a full training is run, apart from what is trained on what."""

from __future__ import annotations

from dataclasses import dataclass

from nas.errors import UsageError
from nas.options import option
from nas.values import make_plain, real, whole

MACHINES, RUN = "machines", "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """How a full training is run; none of it changes what is learned, but for rounding.

    Attributes:
        device: `auto` (a GPU where there is one), `cpu` or `cuda`.
        workers: Processes that train one network together, each with a share of every batch; more than one
            needs Ray Train.
        cpus_per_worker: CPU cores of each of several workers.
        address: A running Ray cluster for them: `auto`, or host:port; None starts Ray on this machine.
        sync_batch_norm: Whether batch norms see the whole batch of all GPUs, not each its share.
        is_compiled: Whether the network is compiled first.
        checkpoint_minutes: Time between two checkpoints.
        checkpoint_steps: Steps between two; None goes by time alone.
        evaluate_every: Epochs between two evaluations on the search split.
        has_onnx: Whether the bundle gets an ONNX file.

    Raises:
        UsageError: A number is out of range.
    """

    device: str = option("auto", "auto, cpu or cuda", group=MACHINES, metavar="NAME")
    workers: int = option(
        1, "processes that train one network together, one for each GPU", group=MACHINES, metavar="N"
    )
    cpus_per_worker: float = option(1.0, "CPU cores of each of several", group=MACHINES, metavar="N")
    address: str | None = option(
        None, "join a running Ray cluster: auto, or host:port", group=MACHINES, metavar="ADDRESS"
    )
    sync_batch_norm: bool = option(False, "have batch norms see the whole batch of all GPUs", group=MACHINES)
    is_compiled: bool = option(
        False, "compile the network first with torch.compile", group=MACHINES, flag="--compile"
    )
    checkpoint_minutes: float = option(5.0, "minutes between two checkpoints", group=RUN, metavar="M")
    checkpoint_steps: int | None = option(
        None, "steps between two checkpoints", group=RUN, metavar="N", default_text="by time alone"
    )
    evaluate_every: float = option(1.0, "epochs between two evaluations", group=RUN, metavar="E")
    has_onnx: bool = option(True, "write no ONNX file", group=RUN, flag="--no-onnx")

    def __post_init__(self) -> None:
        make_plain(self)
        whole("workers", self.workers, least=1)
        real("cpus_per_worker", self.cpus_per_worker, above=0)
        real("checkpoint_minutes", self.checkpoint_minutes, above=0)
        real("evaluate_every", self.evaluate_every, above=0)
        if self.checkpoint_steps is not None:
            whole("checkpoint_steps", self.checkpoint_steps, least=1)
        if self.sync_batch_norm and self.workers == 1:
            raise UsageError(
                "`sync_batch_norm` needs several workers, but workers=1: leave it out",
                field="sync_batch_norm",
            )
