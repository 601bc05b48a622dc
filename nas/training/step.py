"""One step of training, from a drawn batch to new weights: eager, or replayed as a CUDA graph.

Nothing is claimed here of the graph's speed, which `benchmarks/train_throughput.py` measures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from nas.devices import CudaRecorder
from nas.training.moves import Draw
from nas.training.optimizers import set_learning_rate

Stepping = Literal["auto", "eager", "compiled"]
"""How steps are taken: replayed as a CUDA graph where that pays, eagerly, or with `torch.compile`."""

WARMUP_STEPS = 3
"""Eager steps on a side stream before a capture: libraries and optimiser set themselves up in them."""

FAILED = "capture failed"
"""What the reason begins with where a recording failed."""

LEAST_STEPS_TO_GRAPH = 200
"""A capture takes about a second: fewer steps than these do not win it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """How the steps of a training were taken.

    Attributes:
        kind: `eager`, `graphed` (replayed as a CUDA graph), `compiled`, or `compiled and graphed`.
        reason: Why they were not graphed; empty where they were.
    """

    kind: Literal["eager", "graphed", "compiled", "compiled and graphed"] = "eager"
    reason: str = ""

    @property
    def has_failed(self) -> bool:
        """Whether they were to be graphed, and could not be recorded."""
        return self.reason.startswith(FAILED)


class Step(Protocol):
    """One step of training; nothing in it waits for the device."""

    @property
    def report(self) -> StepReport:
        """How steps are taken now."""
        ...

    def __call__(self, draw: Draw, learning_rate: float) -> None:
        """Reads the batch, updates the weights, and adds the loss to what `take_loss` returns."""
        ...

    def take_loss(self) -> float:
        """Returns the sum of the losses since the last call; the only wait for the device."""
        ...


class StepWork:
    """What a step does, all of it on the device and of equal shapes each time: it can be recorded.

    Args:
        forward: Normalised images to logits; the module, or a compiled form of it.
        optimizer: Updates the weights; for recording, its rate is a tensor (`make_optimizer`).
        read: Draw to images and labels.
        normalise: These images to what `forward` takes.
        loss: Logits and labels to the mean loss.
        device: Where all of it happens.
        precision: What the forward pass computes in.
        update: Updates the weights after the backward pass, in what is never recorded; None has the
            optimizer do it, recorded with the rest.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        optimizer: torch.optim.Optimizer,
        *,
        read: Callable[[Draw], tuple[Tensor, Tensor]],
        normalise: Callable[[Tensor], Tensor],
        loss: Callable[[Tensor, Tensor], Tensor],
        device: torch.device,
        precision: Literal["float32", "bfloat16"],
        update: Callable[[], None] | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.device = device
        self.loss = torch.zeros((), device=device)
        self._forward = forward
        self._read = read
        self._normalise = normalise
        self._loss_of = loss
        self._precision = precision
        self._update = update

    def __call__(self, draw: Draw) -> None:
        """Does it once; gradients are let go before the backward pass, which gives them new memory."""
        images, labels = self._read(draw)
        with autocast(self.device, self._precision):
            value = self._loss_of(self._forward(self._normalise(images)).float(), labels)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(value)
        if self._update is None:
            self.optimizer.step()
        self.loss += value.detach()

    def finish(self) -> None:
        """Does what is never recorded."""
        if self._update is not None:
            self._update()

    def take_loss(self) -> float:
        """See `Step`."""
        loss = self.loss.item()
        self.loss.zero_()
        return loss


class EagerStep:
    """Launches every operation of every step; works everywhere."""

    def __init__(self, work: StepWork, report: StepReport) -> None:
        self._work = work
        self.report = report

    def __call__(self, draw: Draw, learning_rate: float) -> None:
        """See `Step`."""
        set_learning_rate(self._work.optimizer, learning_rate)
        self._work(draw)
        self._work.finish()

    def take_loss(self) -> float:
        """See `Step`."""
        return self._work.take_loss()


class Recorder(Protocol):
    """Runs work so that it can be recorded, and records it."""

    def run(self, work: Callable[[], None]) -> None:
        """Does the work, in order with all that was asked of the device before and will be after."""
        ...

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Returns what does the same work on the same memory again; the work is not done now."""
        ...


class GraphedStep:
    """Takes a few eager steps, records the next one, and replays it for the rest of the training.

    The first steps are steps of the training like all others: nothing has to be undone after a warm-up.
    A recording repeats what was launched: a module whose Python code decides something else at each step
    (by Python's own random numbers, by counting calls) would have that frozen. Where recording fails, the
    later steps are eager and `report` says why.

    Args:
        work: What a step does.
        recorder: How it is recorded.
        is_compiled: Whether the forward pass is compiled, for the report.
    """

    def __init__(self, work: StepWork, recorder: Recorder, *, is_compiled: bool = False) -> None:
        self._work = work
        self._recorder = recorder
        self._is_compiled = is_compiled
        self._inputs: Draw = ()
        self._replay: Callable[[], None] | None = None
        self._warmups_left = WARMUP_STEPS
        self._failure = ""

    @property
    def report(self) -> StepReport:
        """See `Step`."""
        if self._replay is not None:
            return StepReport(kind="compiled and graphed" if self._is_compiled else "graphed")
        reason = self._failure or "no step was recorded yet"
        return StepReport(kind="compiled" if self._is_compiled else "eager", reason=reason)

    def __call__(self, draw: Draw, learning_rate: float) -> None:
        """See `Step`."""
        self._copy_in(draw)
        set_learning_rate(self._work.optimizer, learning_rate)
        if self._replay is None and not self._warmups_left and not self._failure:
            self._record()
        if self._replay is not None:
            self._replay()
        else:
            self._recorder.run(self._work_on_inputs)
            self._warmups_left = max(0, self._warmups_left - 1)
        self._work.finish()

    def take_loss(self) -> float:
        """See `Step`."""
        return self._work.take_loss()

    def _work_on_inputs(self) -> None:
        self._work(self._inputs)

    def _copy_in(self, draw: Draw) -> None:
        """Brings a draw to the memory that the recorded work reads."""
        if not self._inputs:
            self._inputs = tuple(tensor.clone() for tensor in draw)
            return
        shapes, expected = [t.shape for t in draw], [t.shape for t in self._inputs]
        if shapes != expected:
            raise ValueError(
                f"every batch of a recorded step must have the shapes {expected}, but got {shapes}: "
                "leave partial batches out"
            )
        for place, tensor in zip(self._inputs, draw, strict=True):
            place.copy_(tensor, non_blocking=True)

    def _record(self) -> None:
        try:
            self._replay = self._recorder.record(self._work_on_inputs)
        except RuntimeError as error:
            first_line = (str(error).splitlines() or [type(error).__name__])[0]
            self._failure = f"{FAILED}: {first_line[:200]}"
            # These may lie in memory of the recording that is gone.
            self._work.optimizer.zero_grad(set_to_none=True)


def make_step(
    module: nn.Module,
    make_work: Callable[[Callable[[Tensor], Tensor]], StepWork],
    *,
    steps: int,
    device: torch.device,
    stepping: Stepping = "auto",
) -> Step:
    """Chooses how the steps of a training are taken.

    Args:
        module: What is trained.
        make_work: Makes the work of a step from the forward pass, compiled or not.
        steps: How many steps there will be.
        device: Where.
        stepping: `compiled` compiles the forward pass, which takes from half a minute to minutes and pays
            in long trainings only; `auto` and `compiled` replay a CUDA graph where that pays.
    """
    is_compiled = stepping == "compiled"
    forward: Callable[[Tensor], Tensor] = torch.compile(module) if is_compiled else module
    work = make_work(forward)
    reason = why_not_graphed(steps=steps, device=device, stepping=stepping)
    if reason:
        return EagerStep(work, StepReport(kind="compiled" if is_compiled else "eager", reason=reason))
    return GraphedStep(work, CudaRecorder(device), is_compiled=is_compiled)


def why_not_graphed(*, steps: int, device: torch.device, stepping: Stepping) -> str:
    """Says why steps are not to be replayed as a CUDA graph; nothing where they are."""
    if device.type != "cuda":
        return f"a graph needs a CUDA device, and this is {device.type}"
    if stepping == "eager":
        return "eager steps were asked for"
    if steps < LEAST_STEPS_TO_GRAPH:
        return f"{steps} steps are fewer than the {LEAST_STEPS_TO_GRAPH} that win back the time of a capture"
    return ""


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Autocast to bfloat16 where that is the precision; without a cache where steps may be recorded."""
    return torch.autocast(
        device.type,
        dtype=torch.bfloat16,
        enabled=precision == "bfloat16",
        cache_enabled=device.type != "cuda",
    )
