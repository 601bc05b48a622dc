"""Fits a network to images: steps, evaluations, checkpoints, and what is done when something goes wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from nas.data.images import ImageData
from nas.data.tree import few
from nas.devices import release_memory, synchronize
from nas.errors import ExecutorError, TrainingError
from nas.full_training.augmentation import generators_kept
from nas.full_training.batches import TrainingBatches
from nas.full_training.checkpoint import (
    AVERAGED,
    KINDS,
    WEIGHTS,
    Best,
    Checkpoint,
    Row,
    State,
    read_checkpoint,
)
from nas.full_training.measuring import measure_search
from nas.full_training.ranks import Ranks, share_of_split
from nas.full_training.stored import on_host
from nas.full_training.work import Learns, TrainingProgress, Work
from nas.signals import Interruption
from nas.training.training import is_out_of_memory, out_of_place

LOWER = 0.3
"""What the learning rate is multiplied by after a loss that was not finite."""

RETRY_SECONDS = 30.0
"""After a checkpoint that could not be written, the next attempt is so much later."""

LOOK_SECONDS = 1.0
"""How often progress is told, and the loss looked at, at most."""

STEPS_BETWEEN_LOOKS = 20
"""The same for several ranks, which wait for each other there."""


def fit(work: Work, ranks: Ranks, tell: Callable[[TrainingProgress], None]) -> Checkpoint:
    """Trains to the end, from the last checkpoint where there is one; the last one then has the result.

    Raises:
        TrainingError: The loss is not finite again with a lower rate, the checkpoint is not of this training,
            or memory is too small.
        ExecutorError: The GPU was lost.
        DataError: Too many images can no longer be read.
    """
    with failures_explained(work, ranks.device), generators_kept():
        return Fitting(work, ranks, tell).run()


@contextmanager
def failures_explained(work: Work, device: torch.device) -> Iterator[None]:
    """Says what is to be done where memory runs out or a GPU is lost; other errors are left as they are.

    Raises:
        TrainingError: Memory is too small.
        ExecutorError: The GPU was lost.
    """
    message = ""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        if is_out_of_memory(error):
            message = (
                f"out of memory on {device} at {work.recipe.batch_for(len(work.data.train))} images a step: "
                f"{first_line}; give a smaller batch_size, and another --out"
            )
        elif "CUDA" not in str(error):
            raise
        else:
            raise ExecutorError(
                f"the GPU failed ({first_line}): when it is there again, the same command continues from the "
                "last checkpoint",
                field="device",
            ) from error
    if message:  # here, where nothing holds the tensors of the step that failed
        release_memory(device)
        raise TrainingError(message, field="batch_size")


class Fitting:
    """One run of a training. See `fit`."""

    def __init__(self, work: Work, ranks: Ranks, tell: Callable[[TrainingProgress], None]) -> None:
        self._work = work
        self._ranks = ranks
        self._tell_all = tell
        self._data = work.data if ranks.world == 1 else with_share(work.data, ranks)
        self._batches = TrainingBatches(self._data, work.recipe, ranks, seed=work.seed)
        self._interruption = Interruption()
        self._best: Mapping[str, Tensor] = {}
        self._unreadable: set[str] = set()
        self._state = State(identity=work.identity)
        self._learner = self._resumed()
        schedule = self._learner.schedule
        self._steps, self._per_epoch = schedule.steps, schedule.steps_an_epoch
        self._batch = work.recipe.batch_for(len(work.data.train))
        self._taken, self._pixels = 0, 0.0
        self._began_at = self._saved_at = self._looked_at = self._since_at = time.monotonic()
        self._seconds_before = self._state.seconds
        self._saved_step = self._since_step = self._state.step
        self._retry_at: float | None = None

    def run(self) -> Checkpoint:
        """Trains to the end; a signal ends it between two steps, with a checkpoint."""
        with self._interruption:
            return self._run()

    def _run(self) -> Checkpoint:
        while self._state.step < self._steps:
            with out_of_place(self._learner.module):
                is_sound = self._train_until_evaluation()
            if not is_sound:
                continue  # from the last good checkpoint, with a lower rate
            synchronize(self._ranks.device)
            self._evaluate()
            is_last = self._state.step == self._steps
            is_first = len(self._state.rows) == 1 and self._retry_at is None
            if self._decided(is_last or is_first or self._is_checkpoint_due()):
                self._save(is_last=is_last)
            if self._is_interrupted():
                self._stop()
        return self._checkpoint()

    def _resumed(self) -> Learns:
        """The network from the last checkpoint, or as it begins."""
        found = read_checkpoint(self._work.folder, self._work.identity)
        if found is None:
            return self._work.learner(self._ranks, rate_factor=self._state.rate_factor)
        self._state, self._best = found.state, found.best
        learner = self._work.learner(self._ranks, rate_factor=found.state.rate_factor)
        learner.load(found.tensors, found.numbers)
        return learner

    def _next_evaluation(self) -> int:
        """The step after which the next evaluation is due."""
        every = max(1, round(self._work.options.evaluate_every * self._per_epoch))
        return min(self._steps, (self._state.step // every + 1) * every)

    def _train_until_evaluation(self) -> bool:
        """Takes steps; False where the loss was not finite and training begins again further back."""
        until, last = self._next_evaluation(), self._state.measured_step
        while self._state.step < until:
            epoch, first = divmod(self._state.step, self._per_epoch)
            for batch in self._batches.epoch(epoch, first=first):
                self._learner.take(self._state.step, batch)
                self._pixels += batch[0].shape[-1] ** 2
                self._state = replace(self._state, step=self._state.step + 1)
                self._taken += 1
                if self._state.step == until:
                    break
                if not self._look(self._state.step - last):
                    return False
        return self._is_sound(until - last, with_weights=True)

    def _look(self, steps: int) -> bool:
        """Now and then tells progress, looks at the loss, saves; False where training begins further back.

        Ranks look after the same steps, and decide together.
        """
        if self._ranks.world > 1 and self._state.step % STEPS_BETWEEN_LOOKS:
            return True
        if self._is_interrupted():
            self._stop()
        is_due = self._decided(self._is_checkpoint_due())
        if not self._decided(is_due or time.monotonic() - self._looked_at >= LOOK_SECONDS):
            return True
        self._looked_at = time.monotonic()
        if not self._is_sound(steps):
            return False
        self._tell()
        if is_due:
            self._save()
        return True

    def _is_checkpoint_due(self) -> bool:
        every, now = self._work.options.checkpoint_steps, time.monotonic()
        if self._retry_at is not None:
            return now >= self._retry_at
        is_late = now - self._saved_at >= 60 * self._work.options.checkpoint_minutes
        return is_late or (every is not None and self._state.step - self._saved_step >= every)

    def _is_interrupted(self) -> bool:
        """Whether a signal has come to any rank, or one was told to stop."""
        requested = self._interruption.requested or self._ranks.is_stopping
        return bool(self._ranks.total(torch.tensor(int(requested))).item())

    def _decided(self, wanted: bool) -> bool:
        """What the first rank wants."""
        return bool(self._ranks.from_first("yes" if wanted else ""))

    def _mean_loss(self, steps: int) -> float:
        total = self._ranks.total(self._learner.loss_sum).item()
        return float(total) / (self._ranks.world * steps)

    def _stop(self) -> None:
        """Ends the run where it is: with a checkpoint, unless the weights are not finite."""
        self._save(goes_on=False)
        raise KeyboardInterrupt

    def _is_sound(self, steps: int, *, with_weights: bool = False) -> bool:
        """Whether the loss is finite, and the weights if asked for; goes back where it is not."""
        loss = self._mean_loss(steps)
        if not np.isfinite(loss):
            self._go_back(f"the loss became {loss}")
            return False
        is_broken = with_weights and not self._learner.is_finite
        if self._ranks.total(torch.tensor(int(is_broken))).item():
            self._go_back("weights became infinite or NaN")
            return False
        return True

    def _go_back(self, what: str) -> None:
        """Goes back to the last checkpoint with a lower rate, but only once.

        Raises:
            TrainingError: It was done before.
        """
        seen = f"{what} before step {self._state.step} of {self._steps}"
        rate = self._learner.rate(self._state.step - 1)
        if self._state.rate_factor < 1:
            raise TrainingError(
                f"{seen} at a learning rate of {rate:.3g}, although it was lowered before: give a lower "
                "learning_rate, clip_norm=1 or precision=float32, and another --out",
                field="learning_rate",
            )
        self._state, self._best = State(identity=self._work.identity), {}
        self._learner = self._resumed()
        self._learner.rate_factor = LOWER
        note = f"{seen}: went back to step {self._state.step}, with {LOWER:g} times the learning rate"
        self._state = replace(self._state.noted(note), rate_factor=LOWER)
        self._since_step, self._since_at = self._state.step, time.monotonic()
        self._tell(note=note)
        self._save()  # so that no later run goes back again

    def _evaluate(self) -> None:
        """Measures on the search split, and keeps the weights if they are the best so far."""
        step, seconds = self._state.step, time.monotonic() - self._since_at
        speed = (step - self._since_step) * self._batch / max(seconds, 1e-9)
        candidates = self._learner.candidates()
        found = {name: self._measure(module) for name, module in candidates.items()}
        row = Row(
            epoch=step / self._per_epoch,
            step=step,
            learning_rate=self._learner.rate(step - 1),
            loss=self._mean_loss(step - self._state.measured_step),
            metric=self._work.metric,
            value=found[WEIGHTS],
            averaged_value=found.get(AVERAGED),
            others=tuple((name, value) for name, value in found.items() if name not in KINDS),
            images_per_second=speed,
            side=self._work.recipe.side(
                self._work.recipe.stage_at(step - 1, self._steps), self._work.data.resolution
            ),
        )
        self._learner.clear_loss()
        best = self._state.best
        for kind, value in found.items():
            if value is None or kind not in KINDS:
                continue
            new = Best(step=step, epoch=row.epoch, kind=kind, metric=row.metric, value=value)
            if best is None or new.reward >= best.reward:
                best = new
                if self._work.keeps_best:
                    self._best = on_host(candidates[kind].state_dict())
        self._state = replace(self._state, rows=(*self._state.rows, row), best=best)
        self._tell(row=row)
        self._note_failed_recording()
        self._note_unreadable()
        self._since_step, self._since_at = step, time.monotonic()

    def _measure(self, module: nn.Module) -> float | None:
        return measure_search(module, self._work, self._data, self._ranks, self._batches.splits)

    def _note_failed_recording(self) -> None:
        """Says once that steps were to be replayed as a CUDA graph, and are slower than that."""
        report = self._learner.step_report
        note = f"steps are {report.kind}, which is slower than a CUDA graph: {report.reason}"
        if report.has_failed:
            self._note(note)

    def _note_unreadable(self) -> None:
        """Says which images could not be read since the evaluation before."""
        own = "".join(f"{path}\n" for path in self._batches.unreadable).encode()
        found = self._ranks.gather(torch.tensor([*own], dtype=torch.uint8))
        paths = dict.fromkeys(bytes(found.tolist()).decode().split("\n")[:-1])
        new = [path for path in paths if path not in self._unreadable]
        self._unreadable.update(new)
        if new:
            self._note(
                f"{few(new)} cannot be read: another image of the batch is trained on in place of each, and "
                "in evaluation they are left out"
            )

    def _note(self, note: str) -> None:
        """Tells something once, and keeps it with the result."""
        if note not in self._state.notes:
            self._state = self._state.noted(note)
            self._tell(note=note)

    def _save(self, *, is_last: bool = False, goes_on: bool = True) -> None:
        """Writes a checkpoint; a disk that is full is told of, and training goes on.

        Raises:
            TrainingError: It was the last one.
        """
        # Every rank continues with the statistics and the loss that are written.
        self._learner.average_statistics()
        loss = self._learner.loss_sum
        loss.copy_(self._ranks.total(loss) / self._ranks.world)
        now = self._saved_at = time.monotonic()
        self._saved_step = self._state.step
        self._state = replace(self._state, seconds=self._seconds_before + now - self._began_at)
        if not self._ranks.is_first or not self._learner.is_finite:
            return
        try:
            self._checkpoint().write(self._work.folder)
            self._retry_at = None
        except OSError as error:
            reason = error.strerror or str(error)
            if is_last:
                raise TrainingError(
                    f"the trained weights cannot be written to {self._work.folder}: {reason}; make room, and "
                    "repeat the command: it continues from the last checkpoint",
                    field="out",
                ) from error
            self._retry_at = time.monotonic() + RETRY_SECONDS
            then = f"training goes on, and the next attempt is in {RETRY_SECONDS:g} s"
            lost = "the same command continues from the one before"
            self._tell(note=f"no checkpoint could be written ({reason}): {then if goes_on else lost}")

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(
            state=self._state,
            tensors=self._learner.tensors(),
            numbers=self._learner.numbers(),
            best=self._best,
        )

    def _tell(self, *, row: Row | None = None, note: str = "") -> None:
        if not self._ranks.is_first:
            return
        step, taken, seconds = self._state.step, self._taken, time.monotonic() - self._began_at
        since = step - self._state.measured_step
        loss = row.loss if row is not None else float("nan")
        if row is None and since:
            loss = float(self._learner.loss_sum.item()) / since
        with suppress(BrokenPipeError):
            self._tell_all(
                TrainingProgress(
                    step=step,
                    steps=self._steps,
                    epoch=step / self._per_epoch,
                    epochs=self._work.recipe.epochs,
                    learning_rate=self._learner.rate(max(0, step - 1)),
                    loss=loss,
                    images_per_second=taken * self._batch / max(seconds, 1e-9),
                    seconds_left=seconds / self._pixels * self._pixels_left() if taken else None,
                    row=row,
                    note=note,
                )
            )

    def _pixels_left(self) -> float:
        """Pixels a channel of the steps that are left, one image a step."""
        resolution = self._work.data.resolution
        return self._work.recipe.pixels(self._state.step, self._steps, self._steps, resolution)


def with_share(data: ImageData, ranks: Ranks) -> ImageData:
    """The images with this rank's share of the search split."""
    share = share_of_split(len(data.search), ranks.rank, ranks.world)
    return replace(data, search=data.search.take(np.arange(share.start, share.stop)))
