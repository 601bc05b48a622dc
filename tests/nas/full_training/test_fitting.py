import math
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from dataclasses import asdict, dataclass, field, fields, replace

import numpy as np
import pytest
import torch
from PIL import Image

from nas.data.loading import from_arrays, load_data
from nas.errors import DataError, ExecutorError, TrainingError
from nas.full_training import fitting
from nas.full_training.checkpoint import CHECKPOINT, read_checkpoint
from nas.full_training.fitting import Fitting, fit, with_share
from nas.full_training.measuring import measure_search
from nas.full_training.options import TrainOptions
from nas.full_training.ranks import OneRank, TorchRanks
from nas.full_training.recipes import RECIPES
from nas.full_training.work import Fit
from nas.tasks import TASKS
from nas.training.accuracy import evaluate_accuracy
from nas.training.batches import make_batches
from nas.training.step import GraphedStep
from search_spaces import Conv, Head, MBConv, Network, Stage, build

CPU = OneRank(device=torch.device("cpu"))
NETWORK = Network(
    stem=Stage(op=Conv(kernel_size=3), channels=8, stride=2),
    stages=(Stage(op=MBConv(kernel_size=3, expand_ratio=2, se_ratio=0.25), channels=8),),
    head=Head(channels=16),
    resolution=8,
    num_classes=3,
)
IDENTITY = {"network": "small", "seed": "0"}
SMALL = RECIPES["small"].changed(epochs=3, batch_size=8, ema_decay=0.9)
STRONG = RECIPES["modern"].changed(
    epochs=3, batch_size=8, auto_augment="rand-m9-mstd0.5-inc1", ema_every=2, train_size=1.0
)


def coloured(count=72, *, side=8, seed=0):
    """Three classes, by the channel that is brightest."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.integers(0, 160, (count, side, side, 3), dtype=np.uint8)
    images[np.arange(count), :, :, labels] += 80
    return images, labels


DATA = from_arrays(*coloured())
"""Enough for 5 steps an epoch, and some to choose by."""


def of_task(task):
    """The same images, with the class, each label, or numbers of which channel is brightest."""
    images, labels = coloured()
    rows = {
        "multilabel": np.eye(3, dtype=np.int64)[labels],
        "regression": labels[:, None] * [1.0, 50.0] + 0.5,
    }
    return from_arrays(images, rows.get(task, labels), task=task)


def folder_of_images(folder):
    images, labels = coloured(side=10)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / "abc"[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def work(folder, recipe=SMALL, data=DATA, **more):
    given = {
        "network": NETWORK,
        "data": data,
        "recipe": recipe,
        "folder": folder,
        "identity": IDENTITY,
        "seed": 0,
        "precision": "float32",
        "metric": TASKS[data.task].metrics[0],
    }
    options = {name: more.pop(name) for name in (one.name for one in fields(TrainOptions)) if name in more}
    return Fit(**{**given, **more}, options=TrainOptions(**options))


def run(folder, recipe=SMALL, data=DATA, tell=lambda _: None, ranks=CPU, **more):
    return fit(work(folder, recipe, data, **more), ranks, tell)


def without_times(state):
    rows = [{**asdict(row), "images_per_second": None} for row in state.rows]
    return {**asdict(state), "rows": rows, "seconds": None}


def assert_same(found, expected):
    assert without_times(found.state) == without_times(expected.state)
    for kind in ("tensors", "best"):
        one, other = getattr(found, kind), getattr(expected, kind)
        assert one.keys() == other.keys()
        assert [name for name in other if not torch.equal(one[name], other[name])] == []


# A training from end to end


def test_a_training_learns_and_its_checkpoint_is_its_result(tmp_path):
    done = run(tmp_path, SMALL.changed(epochs=8))
    assert done.state.step == 8 * SMALL.steps_an_epoch(len(DATA.train))
    assert [row.epoch for row in done.state.rows] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert done.state.best.value > 0.8
    assert done.state.rows[-1].loss < done.state.rows[0].loss
    assert_same(read_checkpoint(tmp_path, IDENTITY), done)
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def test_the_same_command_again_takes_no_step(tmp_path):
    done = run(tmp_path)
    told = []
    assert_same(run(tmp_path, tell=told.append), done)
    assert told == []


def test_the_best_weights_have_the_accuracy_that_is_said_of_them(tmp_path):
    done = run(tmp_path, SMALL.changed(epochs=6))
    module = build(NETWORK, seed=3)
    module.load_state_dict(done.best)
    assert evaluate_accuracy(module, DATA, "search", device="cpu") == done.state.best.value
    measured = [
        (accuracy, row.step, kind)
        for row in done.state.rows
        for kind, accuracy in (("weights", row.value), ("averaged weights", row.averaged_value))
    ]
    best = done.state.best
    assert best.value == max(measured)[0]
    assert (best.value, best.step, best.kind) in measured
    assert best.epoch == best.step / SMALL.steps_an_epoch(len(DATA.train))


@pytest.mark.parametrize("recipe", [SMALL, SMALL.changed(ema_decay=0.0)])
def test_the_last_weights_are_those_measured_last(tmp_path, recipe):
    done = run(tmp_path, recipe)
    module = build(NETWORK, seed=3)
    for prefix, accuracy in (
        ("module.", done.state.rows[-1].value),
        ("ema.", done.state.rows[-1].averaged_value),
    ):
        tensors = {
            name.removeprefix(prefix): tensor
            for name, tensor in done.tensors.items()
            if name.startswith(prefix)
        }
        assert bool(tensors) == (accuracy is not None)
        if tensors:
            module.load_state_dict(tensors)
            assert evaluate_accuracy(module, DATA, "search", device="cpu") == accuracy


def test_a_fraction_of_epochs_is_trained_and_measured_at_its_end(tmp_path):
    per_epoch = SMALL.steps_an_epoch(len(DATA.train))
    done = run(tmp_path, SMALL.changed(epochs=1.4))
    assert [row.step for row in done.state.rows] == [per_epoch, round(1.4 * per_epoch)]
    assert done.state.step == round(1.4 * per_epoch)


def test_one_step_is_a_training_too(tmp_path):
    done = run(tmp_path, SMALL.changed(epochs=0.01))
    assert done.state.step == 1
    assert [row.step for row in done.state.rows] == [1]
    assert done.best


@pytest.mark.parametrize(("every", "steps"), [(0.4, [2, 4, 6, 8, 10]), (2, [10]), (0.001, [*range(1, 11)])])
def test_evaluations_are_as_often_as_asked_for(tmp_path, every, steps):
    assert SMALL.steps_an_epoch(len(DATA.train)) == 5
    done = run(tmp_path, SMALL.changed(epochs=2), evaluate_every=every)
    assert [row.step for row in done.state.rows] == steps


def test_how_often_it_is_evaluated_changes_no_weight(tmp_path):
    seldom, often = run(tmp_path / "a"), run(tmp_path / "b", evaluate_every=0.2)
    for name, tensor in seldom.tensors.items():
        if name != "loss_sum":
            assert torch.equal(often.tensors[name], tensor), name


def test_the_loss_of_a_row_is_the_mean_since_the_row_before(tmp_path):
    often = run(tmp_path / "a", evaluate_every=0.2).state.rows
    per_epoch = run(tmp_path / "b").state.rows
    assert [row.loss for row in per_epoch] == pytest.approx(
        [np.mean([row.loss for row in often[first : first + 5]]) for first in (0, 5, 10)], rel=1e-5
    )


def test_seeds_lead_to_other_weights_and_equal_ones_to_the_same(tmp_path):
    first, again, other = run(tmp_path / "a"), run(tmp_path / "b"), run(tmp_path / "c", seed=1)
    assert_same(again, first)
    assert not torch.equal(first.best["head.classifier.weight"], other.best["head.classifier.weight"])


def test_a_training_leaves_the_generators_of_others_alone(tmp_path):
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = random.random(), np.random.random(), torch.rand(())
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    run(tmp_path, STRONG)
    assert (random.random(), np.random.random(), torch.rand(())) == expected


# Told


def test_progress_says_how_far_how_fast_and_how_long_still(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "LOOK_SECONDS", 0.0)
    told = []
    done = run(tmp_path, tell=told.append)
    between = [progress for progress in told if progress.row is None]
    assert [progress.step for progress in told] == [*range(1, 16)]
    assert [progress.row for progress in told if progress.row is not None] == [*done.state.rows]
    assert all(progress.steps == 15 and progress.epochs == 3 for progress in told)
    assert all(math.isfinite(progress.loss) and progress.images_per_second > 0 for progress in told)
    assert all(progress.seconds_left > 0 for progress in between)
    assert told[-1].seconds_left == 0


def test_the_time_left_is_that_of_the_steps_left_also_in_a_second_run(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "LOOK_SECONDS", 0.0)
    stopped_at(tmp_path, 11)
    told, began = [], time.monotonic()
    run(tmp_path, tell=told.append)
    seconds = time.monotonic() - began
    assert [progress.step for progress in told] == [13, 14, 15]
    assert all(
        progress.seconds_left <= seconds / (progress.step - 12) * (15 - progress.step) for progress in told
    )
    assert all(progress.images_per_second >= 8 * (progress.step - 12) / seconds for progress in told)


def test_the_time_left_grows_with_the_images_of_later_stages(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "LOOK_SECONDS", 0.0)
    data, network = from_arrays(*coloured(side=16)), replace(NETWORK, resolution=16)
    told = []
    run(tmp_path, SMALL.changed(stages=2, first_size=0.5), data, told.append, network=network)
    half = next(progress for progress in told if progress.step == 8 and progress.row is None)
    seconds = 8 * 8 / half.images_per_second
    # 8 steps of 8 x 8 pixels are done, and 7 of 16 x 16 are left.
    assert half.seconds_left == pytest.approx(seconds * (7 * 16**2) / (8 * 8**2))


def test_seconds_are_those_of_all_runs_together(tmp_path):
    stopped_at(tmp_path, 9)
    before = read_checkpoint(tmp_path, IDENTITY).state.seconds
    began = time.monotonic()
    done = run(tmp_path)
    assert before < done.state.seconds < before + time.monotonic() - began


def test_a_reader_that_went_away_does_not_end_the_training(tmp_path):
    def tell(_):
        raise BrokenPipeError

    assert run(tmp_path, tell=tell).state.step == 15


# Stopped, killed, continued


def stopped_at(folder, step, **more):
    """Trains up to a step, at which a signal comes: it is seen after the next."""

    def tell(progress):
        if progress.step == step and progress.row is None:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        run(folder, tell=tell, **{"checkpoint_steps": 1, **more})


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("step", [1, 5, 7, 10, 14, 15])
def test_a_signal_ends_a_training_between_two_steps_and_the_next_run_goes_on(tmp_path, number, step):
    """At 5, 10 and 15 the signal comes while an evaluation is told of."""

    def tell(progress):
        if progress.step == step:
            signal.raise_signal(number)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", tell=tell, checkpoint_steps=1)
    kept = read_checkpoint(tmp_path / "a", IDENTITY)
    assert kept.state.step in (step, step + 1)
    assert_same(run(tmp_path / "a"), run(tmp_path / "b"))


class Told(OneRank):
    """A rank that was told to stop."""

    is_stopping = True


def test_a_training_that_is_told_to_stop_leaves_a_checkpoint_and_goes_on(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", ranks=Told(device=torch.device("cpu")))
    assert read_checkpoint(tmp_path / "a", IDENTITY).state.step == 1
    assert_same(run(tmp_path / "a"), run(tmp_path / "b"))


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("classification", {"sampling": "balanced"}),
        ("classification", {"class_weights": "balanced", "mixup": 0.5}),
        ("multilabel", {"mixup": 0.5, "cutmix": 1.0}),
        ("regression", {"mixup": 0.5}),
    ],
)
def test_a_training_of_any_task_goes_on_to_the_bit(tmp_path, task, changes):
    data = of_task(task)
    network, recipe = replace(NETWORK, num_classes=data.num_classes), SMALL.changed(**changes)
    stopped_at(tmp_path / "a", 7, recipe=recipe, data=data, network=network)
    again = run(tmp_path / "a", recipe, data, network=network)
    assert_same(again, run(tmp_path / "b", recipe, data, network=network))


def test_signals_have_their_old_effect_afterwards(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run(tmp_path, SMALL.changed(epochs=0.01))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_training_in_another_thread_is_the_same(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(run(tmp_path / "a")))
    thread.start()
    thread.join()
    assert_same(found[0], run(tmp_path / "b"))


@pytest.mark.parametrize("every", [1, 2, 4, 5, 7])
def test_checkpoints_are_as_often_as_asked_for_also_where_evaluations_fall_on_them(
    tmp_path, every, monkeypatch
):
    monkeypatch.setattr(fitting, "LOOK_SECONDS", 0.0)
    written, seen = [], 0.0

    def tell(_):
        nonlocal seen
        path = tmp_path / CHECKPOINT
        if path.exists() and path.stat().st_mtime_ns != seen:
            seen = path.stat().st_mtime_ns
            written.append(read_checkpoint(tmp_path, IDENTITY).state.step)

    run(tmp_path, tell=tell, checkpoint_steps=every)
    assert max(np.diff([0, *written, 15])) <= every


def killed_run(folder, recipe, data, kill_at):
    def tell(progress):
        if progress.step >= kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    run(folder, recipe, data, tell, checkpoint_steps=2)


def in_a_process(target, *arguments, seconds=None):
    """Runs it in a process that is killed after so many seconds, if it still runs; its exit code."""
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    process.join(seconds)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return process.exitcode


def kinds(tmp_path):
    files = load_data(folder_of_images(tmp_path / "images"), resolution=8, resident_bytes=0)
    assert not files.is_resident
    return {
        "small": (SMALL, DATA),
        "strong": (STRONG, DATA),
        "files": (SMALL, files),
        "progressive": (
            SMALL.changed(
                stages=2, first_size=0.99, dropout=0.4, first_dropout=0.0, mixup=0.2, first_mixup=0.0
            ),
            DATA,
        ),
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["small", "strong", "files", "progressive"])
def test_killed_at_any_step_a_training_ends_with_the_same_weights_to_the_bit(tmp_path, kind):
    recipe, data = kinds(tmp_path)[kind]
    expected = run(tmp_path / "whole", recipe, data)
    for kill_at in range(1, expected.state.step + 1):
        assert in_a_process(killed_run, tmp_path / "cut", recipe, data, kill_at) == -signal.SIGKILL
    assert_same(run(tmp_path / "cut", recipe, data), expected)
    for kill_at in (2, 7, 11):
        folder = tmp_path / str(kill_at)
        assert in_a_process(killed_run, folder, recipe, data, kill_at) == -signal.SIGKILL
        assert_same(run(folder, recipe, data), expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["small", "strong", "files"])
def test_killed_at_any_moment_a_training_ends_with_the_same_weights_to_the_bit(tmp_path, kind):
    recipe, data = kinds(tmp_path)[kind]
    began = time.monotonic()
    expected = run(tmp_path / "whole", recipe, data)
    seconds = time.monotonic() - began
    rng = random.Random(0)
    exits = []
    for _ in range(100):
        after = rng.uniform(0.05, 0.7) * seconds
        exits.append(in_a_process(killed_run, tmp_path / "cut", recipe, data, math.inf, seconds=after))
        if exits[-1] == 0:
            break
    assert -signal.SIGKILL in exits
    assert_same(run(tmp_path / "cut", recipe, data), expected)


def test_stopped_within_an_epoch_the_loss_is_still_the_mean_over_it(tmp_path):
    stopped_at(tmp_path / "a", 8)
    stopped_at(tmp_path / "a", 12)
    rows, expected = run(tmp_path / "a").state.rows, run(tmp_path / "b").state.rows
    assert [row.loss for row in rows] == [row.loss for row in expected]


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_recipe_goes_on_to_the_same_weights(tmp_path, name, precision):
    data = from_arrays(*coloured(side=16))
    given = {
        "recipe": RECIPES[name].changed(epochs=3, batch_size=8),
        "network": replace(NETWORK, resolution=16),
        "data": data,
        "precision": precision,
    }
    if given["recipe"].starts_from == "weights":
        given["weights"] = build(given["network"], seed=4).state_dict()
    stopped_at(tmp_path / "a", 3, **given)
    stopped_at(tmp_path / "a", 8, **given)
    assert_same(run(tmp_path / "a", **given), run(tmp_path / "b", **given))


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(TrainingError, match="another seed") as error:
        run(tmp_path, identity={**IDENTITY, "seed": "1"})
    assert error.value.field == "out"


# What goes wrong


def test_a_rate_that_explodes_goes_back_once_and_then_is_an_error(tmp_path):
    told = []
    with pytest.raises(TrainingError, match="although it was lowered before") as error:
        run(tmp_path, SMALL.changed(learning_rate=1e30, warmup_epochs=0), tell=told.append)
    assert error.value.field == "learning_rate"
    notes = [progress.note for progress in told if progress.note]
    assert len(notes) == 1
    assert "went back to step 0, with 0.3 times the learning rate" in notes[0]


def poison(module):
    next(module.parameters()).data.fill_(math.nan)


def poisoned_at(*steps):
    """A training whose weights turn to NaN after steps: each time they are taken, one after the other."""
    left = list(steps)

    class Poisoned(Fitting):
        def _look(self, count):
            if left and self._state.step == left[0]:
                left.pop(0)
                poison(self._learner.module)
            return super()._look(count)

    return Poisoned


@pytest.mark.parametrize("step", [1, 3, 6, 9, 14])
def test_weights_that_turn_to_nan_are_trained_again_from_the_last_checkpoint_at_a_lower_rate(tmp_path, step):
    told = []
    done = poisoned_at(step)(work(tmp_path), CPU, told.append).run()
    (note,) = done.state.notes
    back_to = 0 if step < 5 else 5
    assert f"went back to step {back_to}, with 0.3 times the learning rate" in note
    assert [progress.note for progress in told if progress.note] == [note]
    assert done.state.rate_factor == 0.3
    assert done.state.step == 15
    assert [row.step for row in done.state.rows] == [5, 10, 15]
    assert all(torch.isfinite(tensor).all() for tensor in done.best.values())
    plain = run(tmp_path / "plain").state.rows
    for row, other in zip(done.state.rows, plain, strict=True):
        factor = 0.3 if row.step > back_to else 1.0
        assert row.learning_rate == pytest.approx(factor * other.learning_rate)
    assert read_checkpoint(tmp_path, IDENTITY).state == done.state


def test_weights_that_turn_to_nan_twice_are_an_error(tmp_path):
    with pytest.raises(TrainingError, match="lowered before"):
        poisoned_at(8, 12)(work(tmp_path), CPU, lambda _: None).run()


def test_a_training_that_went_back_does_not_do_so_again_in_a_later_run(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "LOOK_SECONDS", 0.0)
    notes = []

    def tell(progress):
        if notes:
            raise ZeroDivisionError  # the run ends a step after it went back
        notes.extend([progress.note] * bool(progress.note))

    with pytest.raises(ZeroDivisionError):
        poisoned_at(8)(work(tmp_path), CPU, tell).run()
    kept = read_checkpoint(tmp_path, IDENTITY).state
    assert (kept.step, kept.rate_factor, kept.notes) == (5, 0.3, tuple(notes))
    with pytest.raises(TrainingError, match="lowered before"):
        poisoned_at(9)(work(tmp_path), CPU, lambda _: None).run()


def test_weights_that_the_last_step_turns_to_nan_are_seen(tmp_path):
    """The loss of a step is that before it changes the weights."""
    left = [15]

    class Poisoned(Fitting):
        def _train_until_evaluation(self):
            take = self._learner.take

            def taken(step, batch):
                take(step, batch)
                if left == [step + 1]:
                    left.pop()
                    poison(self._learner.module)

            self._learner.take = taken
            return super()._train_until_evaluation()

    done = Poisoned(work(tmp_path), CPU, lambda _: None).run()
    assert "weights became infinite or NaN before step 15 of 15" in done.state.notes[0]
    assert all(torch.isfinite(tensor).all() for tensor in done.tensors.values() if tensor.is_floating_point())


def test_weights_that_are_not_finite_are_never_written(tmp_path):
    run(tmp_path, SMALL.changed(epochs=0.01))
    content = (tmp_path / CHECKPOINT).read_bytes()
    fitting_again = Fitting(work(tmp_path, SMALL.changed(epochs=0.01)), CPU, lambda _: None)
    poison(fitting_again._learner.module)
    fitting_again._save()
    assert (tmp_path / CHECKPOINT).read_bytes() == content


class Unrecordable:
    """Stands for a GPU that cannot record a graph."""

    def run(self, work):
        work()

    def record(self, _):
        raise RuntimeError("operation not permitted when stream is capturing")


def test_steps_that_could_not_be_recorded_are_said_once(tmp_path):
    progresses = []
    one = Fitting(work(tmp_path), CPU, progresses.append)
    one._learner._take = GraphedStep(one._learner._work, Unrecordable())
    found = one.run()
    assert [note for note in found.state.notes if "capture failed" in note] == [*found.state.notes]
    assert [progress.note for progress in progresses if progress.note] == [*found.state.notes]
    assert len(found.state.notes) == 1
    assert not run(tmp_path / "eager").state.notes


def test_images_that_vanish_are_an_error_that_names_them(tmp_path):
    folder = folder_of_images(tmp_path / "images")
    data = load_data(folder, resolution=8, resident_bytes=0)

    def tell(progress):
        if progress.row is not None:
            shutil.rmtree(folder, ignore_errors=True)

    with pytest.raises(DataError, match="cannot be read"):
        run(tmp_path / "out", data=data, tell=tell)


def test_one_image_that_vanishes_does_not_end_the_training(tmp_path):
    folder = folder_of_images(tmp_path / "images")
    data = load_data(folder, resolution=8, resident_bytes=0)
    (folder / data.train.paths[0]).unlink()
    told = []
    done = run(tmp_path / "out", data=data, tell=told.append)
    assert done.state.step == 3 * SMALL.steps_an_epoch(len(data.train))
    (note,) = done.state.notes
    assert note.startswith(f"{data.train.paths[0]} cannot be read")
    assert [progress.note for progress in told if progress.note] == [note]


class Failing(OneRank):
    """A rank on which every step fails."""

    def __init__(self, error):
        super().__init__(device=torch.device("cpu"))
        object.__setattr__(self, "error", error)

    def wrap(self, module, *, sync_batch_norm=False):  # noqa: ARG002
        def fail(*_):
            raise self.error

        module.register_forward_pre_hook(fail)
        return module


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory: you tried"),
    ],
)
def test_too_little_memory_is_an_error_of_the_batch_size(tmp_path, error):
    with pytest.raises(TrainingError, match="a smaller batch_size") as found:
        run(tmp_path, ranks=Failing(error))
    assert found.value.field == "batch_size"


def test_a_gpu_that_fails_is_said_to_have_failed(tmp_path):
    with pytest.raises(ExecutorError, match="the same command continues") as found:
        run(tmp_path, ranks=Failing(RuntimeError("CUDA error: unspecified launch failure\nmore")))
    assert found.value.field == "device"


def test_an_error_of_the_program_stays_what_it_is(tmp_path):
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        run(tmp_path, ranks=Failing(RuntimeError("mat1 and mat2 shapes cannot be multiplied")))


# A disk that is full


def limited_run(folder, seconds, queue):
    """A training on a disk with room for no checkpoint, until step 8, as a process sees it."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
    fitting.RETRY_SECONDS = seconds
    notes = []

    def tell(progress):
        if progress.note:
            notes.append((progress.step, progress.note))
        if progress.step >= 8:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    done = run(folder, tell=tell, checkpoint_steps=1)
    queue.put((notes, done.state.step))


def full_run(folder, queue):
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
    try:
        run(folder)
    except TrainingError as error:
        queue.put((str(error), error.field))


def answer_of(target, *arguments):
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=target, args=(*arguments, queue))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert not queue.empty()
    return queue.get()


def test_on_a_full_disk_training_goes_on_says_so_and_tries_again(tmp_path):
    notes, step = answer_of(limited_run, tmp_path / "a", 0.0)
    assert step == 15
    assert [at for at, _ in notes] == [1, 2, 3, 4, 5, 6, 7]
    assert all(
        "no checkpoint could be written (File too large): training goes on" in note for _, note in notes
    )
    assert_same(read_checkpoint(tmp_path / "a", IDENTITY), run(tmp_path / "b"))


def test_between_attempts_on_a_full_disk_is_the_time_that_is_said(tmp_path):
    notes, _ = answer_of(limited_run, tmp_path, 30.0)
    assert [at for at, _ in notes] == [1]
    assert "the next attempt is in 30 s" in notes[0][1]


def test_a_disk_that_is_full_at_the_end_is_an_error(tmp_path):
    message, where = answer_of(full_run, tmp_path)
    assert "File too large; make room" in message
    assert where == "out"


def test_a_folder_that_cannot_be_made_is_an_error_at_the_end(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError) as error:
        run(tmp_path / "file" / "out", SMALL.changed(epochs=0.01))
    assert error.value.field == "out"


# Several ranks


@dataclass
class Meeting:
    """Where ranks in threads of one process meet."""

    world: int
    calls: list = field(default_factory=list)

    def __post_init__(self):
        self.barrier = threading.Barrier(self.world, timeout=60)
        self.held = [None] * self.world

    def meet(self, rank, kind, value):
        self.held[rank] = kind, value
        self.barrier.wait()
        kinds, values = zip(*self.held, strict=True)
        assert len(set(kinds)) == 1, kinds
        self.barrier.wait()
        return values


@dataclass(frozen=True)
class ThreadRank:
    """A rank that is a thread; weights are not kept in step, as the ranks meet for decisions alone."""

    meeting: Meeting
    rank: int
    device: torch.device = CPU.device
    is_stopping: bool = False

    @property
    def world(self):
        return self.meeting.world

    @property
    def is_first(self):
        return self.rank == 0

    def wrap(self, module, *, sync_batch_norm=False):  # noqa: ARG002
        self.meeting.meet(self.rank, "wrap", None)
        return module

    def average_statistics(self, module):  # noqa: ARG002
        self.meeting.meet(self.rank, "statistics", None)

    def total(self, tensor):
        return torch.stack(self.meeting.meet(self.rank, "total", tensor.clone())).sum(0)

    def from_first(self, text):
        return self.meeting.meet(self.rank, "first", text)[0]

    def gather(self, rows):
        return torch.cat(self.meeting.meet(self.rank, "gather", rows))

    def barrier(self):
        self.meeting.meet(self.rank, "barrier", None)


def on_ranks(world, target):
    """Calls it with each rank, in threads; what it returns or raises."""
    meeting, found = Meeting(world), [None] * world

    def one(rank):
        try:
            found[rank] = target(ThreadRank(meeting, rank))
        except Exception as error:  # told to the test
            found[rank] = error
            meeting.barrier.abort()

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def same_steps(monkeypatch):
    """Ranks look after every second step."""
    monkeypatch.setattr(fitting, "STEPS_BETWEEN_LOOKS", 2)


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_meet_at_the_same_places_whatever_their_clocks_say(tmp_path, monkeypatch, world):
    same_steps(monkeypatch)

    def one(rank):
        looks = {"checkpoint_minutes": 1e-9} if rank.rank else {"checkpoint_steps": 3}
        return run(tmp_path, SMALL.changed(dropout=0.0, drop_path=0.0), ranks=rank, **looks)

    found = on_ranks(world, one)
    assert [type(one).__name__ for one in found] == ["Checkpoint"] * world
    rows = [[replace(row, images_per_second=0) for row in one.state.rows] for one in found]
    assert all(one == rows[0] for one in rows)
    assert [row.step for row in rows[0]] == [5, 10, 15]


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("classification", "balanced_accuracy"),
        ("classification", "auroc"),
        ("multilabel", "mean_average_precision"),
        ("regression", "r2"),
        ("regression", "rmse"),
    ],
)
@pytest.mark.parametrize("world", [2, 3])
def test_a_metric_of_several_ranks_is_that_of_one_process(tmp_path, task, metric, world):
    data = of_task(task)
    network = replace(NETWORK, num_classes=data.num_classes)
    given = work(tmp_path, data=data, network=network, metric=metric)
    modules = [build(network, seed=1) for _ in range(world)]

    def measured(rank):
        share = data if rank.world == 1 else with_share(data, rank)
        return measure_search(modules[rank.rank], given, share, rank, make_batches(share, CPU.device))

    expected = measured(CPU)
    found = on_ranks(world, measured)
    assert found == [found[0]] * world
    assert found[0] == pytest.approx(expected, rel=1e-6)


def test_an_output_that_is_not_finite_on_one_rank_is_known_to_all(tmp_path):
    given = work(tmp_path)
    modules = [build(NETWORK, seed=1) for _ in range(2)]
    poison(modules[1])

    def measured(rank):
        share = with_share(given.data, rank)
        return measure_search(modules[rank.rank], given, share, rank, make_batches(share, CPU.device))

    assert on_ranks(2, measured) == [None, None]


def test_every_image_of_the_search_split_counts_once_on_several_ranks(tmp_path):
    data = replace(DATA, search=DATA.search.take(np.arange(7)))
    first, second = on_ranks(2, lambda rank: run(tmp_path, data=data, ranks=rank, evaluate_every=3))
    assert first.state.rows[0].value == second.state.rows[0].value
    assert (7 * first.state.rows[0].value) == pytest.approx(round(7 * first.state.rows[0].value))


def test_more_ranks_than_images_to_choose_by_are_no_error(tmp_path):
    data = replace(DATA, search=DATA.search.take(np.arange(1)))
    found = on_ranks(2, lambda rank: run(tmp_path, SMALL.changed(epochs=1), data=data, ranks=rank))
    assert [type(one).__name__ for one in found] == ["Checkpoint"] * 2


@pytest.mark.parametrize("struck", [0, 1])
def test_a_signal_to_one_rank_stops_all_of_them(tmp_path, monkeypatch, struck):
    same_steps(monkeypatch)

    class Struck(Fitting):
        def _look(self, count):
            if self._ranks.rank == struck and self._state.step == 7:
                self._interruption.requested = True
            return super()._look(count)

    def one(rank):
        try:
            return Struck(work(tmp_path), rank, lambda _: None).run()
        except KeyboardInterrupt:
            return "stopped"

    assert on_ranks(2, one) == ["stopped", "stopped"]
    assert read_checkpoint(tmp_path, IDENTITY).state.step == 8


@pytest.mark.parametrize("struck", [0, 1])
@pytest.mark.parametrize("step", [7, 10])
def test_weights_of_one_rank_that_turn_to_nan_have_all_of_them_go_back(tmp_path, monkeypatch, struck, step):
    same_steps(monkeypatch)

    class Struck(Fitting):
        def _train_until_evaluation(self):
            take = self._learner.take

            def taken(number, batch):
                take(number, batch)
                if number + 1 == step and self._ranks.rank == struck and self._state.rate_factor == 1:
                    poison(self._learner.module)

            self._learner.take = taken
            return super()._train_until_evaluation()

    found = on_ranks(2, lambda rank: Struck(work(tmp_path), rank, lambda _: None).run())
    assert [one.state.rate_factor for one in found] == [0.3, 0.3]
    assert found[0].state.notes == found[1].state.notes


def test_ranks_go_on_with_the_loss_of_all_of_them_from_a_checkpoint(tmp_path, monkeypatch):
    same_steps(monkeypatch)
    recipe = SMALL.changed(epochs=1, dropout=0.0, drop_path=0.0)

    # Threads share the generator that fresh weights are drawn from.
    weights = build(NETWORK, seed=0).state_dict()

    class Cut(Fitting):
        def _look(self, count):
            self._interruption.requested = self._state.step == 2
            return super()._look(count)

    def cut(rank):
        try:
            return Cut(work(tmp_path / "a", recipe, weights=weights), rank, lambda _: None).run()
        except KeyboardInterrupt:
            return "stopped"

    def whole(rank):
        fitted = Fitting(work(tmp_path / "b", recipe, weights=weights), rank, lambda _: None)
        for step, batch in zip(range(2), fitted._batches.epoch(0), strict=False):
            fitted._learner.take(step, batch)
        return float(fitted._learner.loss_sum)

    assert on_ranks(2, cut) == ["stopped", "stopped"]
    kept = read_checkpoint(tmp_path / "a", IDENTITY).tensors["loss_sum"]
    assert float(kept) == pytest.approx(np.mean(on_ranks(2, whole)))


def as_rank(rank, world, store, folder, struck, queue):
    from torch import distributed

    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    fitting.STEPS_BETWEEN_LOOKS = 2

    class Struck(Fitting):
        def _look(self, count):
            if rank == struck and self._state.step == 7:
                os.kill(os.getpid(), signal.SIGTERM)
            return super()._look(count)

    try:
        done = Struck(work(folder), TorchRanks(device=CPU.device), lambda _: None).run()
        queue.put((rank, done.state.step, [row.loss for row in done.state.rows], done.state.best.value))
    except KeyboardInterrupt:
        queue.put((rank, "stopped", [], 0.0))
    distributed.destroy_process_group()


def in_two_processes(tmp_path, name, struck=None):
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    store = tmp_path / f"store-{name}-{struck}"
    processes = [
        context.Process(target=as_rank, args=(rank, 2, store, tmp_path / name, struck, queue))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return sorted(queue.get() for _ in processes)


@pytest.mark.slow
def test_two_processes_train_stop_at_a_signal_to_one_and_go_on(tmp_path):
    first, second = in_two_processes(tmp_path, "whole")
    assert first[1:] == second[1:]
    stopped = in_two_processes(tmp_path, "cut", struck=1)
    assert [one[1] for one in stopped] == ["stopped", "stopped"]
    assert read_checkpoint(tmp_path / "cut", IDENTITY).state.step == 8
    again, _ = in_two_processes(tmp_path, "cut")
    assert again[1] == 15
    assert again[2] == pytest.approx(first[2], rel=1e-4)
