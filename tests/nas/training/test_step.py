import copy

import numpy as np
import pytest
import torch
from torch import nn

from nas.data.loading import from_arrays
from nas.training.batches import ResidentBatches
from nas.training.optimizers import make_optimizer, set_learning_rate
from nas.training.recipe import Recipe
from nas.training.step import (
    LEAST_STEPS_TO_GRAPH,
    WARMUP_STEPS,
    EagerStep,
    GraphedStep,
    StepReport,
    why_not_graphed,
)
from nas.training.training import prepare_step, train

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
RECIPE = Recipe(epochs=4, warmup_epochs=1, batch_size=16, learning_rate=0.05, precision="float32")
STEPS = 12


class Replayed:
    """Stands for a CUDA graph: what is replayed is the very call that was recorded, on the same memory."""

    def __init__(self):
        self.recorded = self.replays = 0

    def run(self, work):
        work()

    def record(self, work):
        self.recorded += 1

        def replay():
            self.replays += 1
            work()

        return replay


class Unrecordable(Replayed):
    def record(self, _):
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors might ...")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return from_arrays(rng.integers(0, 256, (120, 8, 8), dtype=np.uint8), np.arange(120) % 4)


@pytest.fixture
def module():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.SiLU(), nn.Flatten(), nn.Linear(72, 4)
        )


def take_steps(module, data, make, *, recipe=RECIPE, augment="crop"):
    """Takes twelve steps, at another rate each; returns the step object and the sum of the losses."""
    batches = ResidentBatches(data, CPU)
    optimizer = make_optimizer(module, recipe)
    eager = prepare_step(module, optimizer, data, recipe, CPU, batches)
    take = make(eager._work)
    draws = [*batches.draws(6, augment, 1, np.random.default_rng(0))][:STEPS]
    assert len(draws) == STEPS
    for number, draw in enumerate(draws):
        take(draw, 0.05 * (1 - number / STEPS))
    return take, take.take_loss()


@pytest.mark.parametrize("augment", ["none", "crop"])
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_replayed_steps_give_the_weights_and_losses_of_eager_ones(module, data, optimizer, augment):
    recipe = Recipe(batch_size=16, optimizer=optimizer, precision="float32")
    other = copy.deepcopy(module)
    recorder = Replayed()
    _, eager = take_steps(
        module, data, lambda work: EagerStep(work, StepReport()), recipe=recipe, augment=augment
    )
    step, replayed = take_steps(
        other, data, lambda work: GraphedStep(work, recorder), recipe=recipe, augment=augment
    )
    assert replayed == eager
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    assert (recorder.recorded, recorder.replays) == (1, STEPS - WARMUP_STEPS)
    assert step.report == StepReport(kind="graphed")


def test_steps_that_cannot_be_recorded_go_on_eagerly_and_say_why(module, data):
    other = copy.deepcopy(module)
    _, eager = take_steps(module, data, lambda work: EagerStep(work, StepReport()))
    step, unrecorded = take_steps(other, data, lambda work: GraphedStep(work, Unrecordable()))
    assert unrecorded == eager
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))
    assert step.report.kind == "eager"
    assert step.report.reason == "capture failed: operation not permitted when stream is capturing"


def test_a_batch_of_another_shape_does_not_slip_into_a_recorded_step(module, data):
    step, _ = take_steps(module, data, lambda work: GraphedStep(work, Replayed()))
    draw = torch.zeros(1, dtype=torch.int64), torch.zeros((1, 3), dtype=torch.int64)
    with pytest.raises(ValueError, match="leave partial batches out"):
        step(draw, 0.1)


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_a_rate_held_in_a_tensor_gives_the_weights_of_a_plain_number(optimizer):
    def weights(rate):
        generator = torch.Generator().manual_seed(0)
        parameter = nn.Parameter(torch.randn((40, 30), generator=generator))
        module = nn.Module()
        module.weight = parameter
        made = make_optimizer(module, Recipe(optimizer=optimizer))
        if rate is not None:
            for group in made.param_groups:
                group["lr"] = rate
        for number in range(20):
            parameter.grad = torch.randn((40, 30), generator=generator)
            set_learning_rate(made, 0.1 * (1 - number / 20) ** 1.3)
            made.step()
        assert rate is None or made.param_groups[0]["lr"] is rate
        return parameter.detach()

    assert torch.equal(weights(None), weights(torch.tensor(0.0)))


def test_the_loss_is_summed_since_it_was_last_taken(module, data):
    step, loss = take_steps(module, data, lambda work: EagerStep(work, StepReport()))
    assert loss > 0
    assert step.take_loss() == 0


def test_steps_are_recorded_only_where_that_pays():
    assert why_not_graphed(steps=LEAST_STEPS_TO_GRAPH, device=CUDA, stepping="auto") == ""
    assert why_not_graphed(steps=LEAST_STEPS_TO_GRAPH, device=CUDA, stepping="compiled") == ""
    fewer = why_not_graphed(steps=LEAST_STEPS_TO_GRAPH - 1, device=CUDA, stepping="auto")
    assert fewer == "199 steps are fewer than the 200 that win back the time of a capture"
    assert "asked for" in why_not_graphed(steps=10**6, device=CUDA, stepping="eager")
    assert "cpu" in why_not_graphed(steps=10**6, device=CPU, stepping="auto")


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(module, data):
    other = copy.deepcopy(module)
    eager = train(module, data, RECIPE, seed=0, device="cpu")
    compiled = train(other, data, RECIPE, seed=0, device="cpu", stepping="compiled")
    assert compiled.step.kind == "compiled"
    assert compiled.loss == pytest.approx(eager.loss, rel=1e-3)
    assert [*other.state_dict()] == [*module.state_dict()]
