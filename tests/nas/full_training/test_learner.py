import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from timm.data.mixup import mixup_target
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim import list_optimizers
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LinearLR, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nas.data.images import Pixels
from nas.data.loading import from_arrays
from nas.errors import RecipeError
from nas.full_training.learner import Learner, Schedule, frozen_norms, make_loss, trained_network
from nas.full_training.ranks import OneRank
from nas.full_training.recipe import FullRecipe
from nas.full_training.recipe_laws import UNSUITED
from nas.full_training.recipes import RECIPES
from nas.training.step import GraphedStep
from search_spaces import Head, build, small

CPU = torch.device("cpu")
NETWORK = small(resolution=8, num_classes=3).reference
PLAIN = FullRecipe(
    epochs=8, batch_size=6, optimizer="sgd", learning_rate=0.05, reference_batch=6, warmup_epochs=1
)


def batches(count, *, size=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(size, 3, 8, 8, generator=generator).to(memory_format=torch.channels_last),
            torch.randint(0, 3, (size,), generator=generator),
        )
        for _ in range(count)
    ]


def classes(count=3, *, images=6):
    """So many images of so many classes."""
    labels = np.arange(max(images, 4 * count)) % count
    found = from_arrays(np.zeros((len(labels), 8, 8, 3), dtype=np.uint8), labels)
    train = Pixels(images=np.zeros((images, 3, 8, 8), dtype=np.uint8), labels=np.arange(images) % count)
    return replace(found, train=train)


def make(recipe=PLAIN, network=NETWORK, *, ranks=None, images=6, **more):
    ranks = OneRank(device=CPU) if ranks is None else ranks
    return Learner(network, recipe, classes(images=images), ranks, seed=0, precision="float32", **more)


def assert_equal_tensors(found, expected):
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


# The learning rate


def rates_of(recipe, images):
    schedule = Schedule(recipe=recipe, images=images)
    rate = schedule.rates()
    return [rate(step) for step in range(schedule.steps)]


def torch_rates(make_scheduler, peak, steps):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=peak)
    scheduler = make_scheduler(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_a_cosine_is_that_of_torch():
    recipe = PLAIN.changed(epochs=5, warmup_epochs=0, final_rate=0.1)
    expected = torch_rates(lambda one: CosineAnnealingLR(one, 50, eta_min=0.005), 0.05, 50)
    assert rates_of(recipe, 60) == pytest.approx(expected)


def test_a_warmup_rises_as_torch_s_linear_rate_to_the_cosine_of_the_whole_training():
    """torchvision chains the two so, but for the cosine, which timm counts from the first step."""
    recipe = PLAIN.changed(epochs=5, warmup_epochs=1)
    rising = torch_rates(lambda one: LinearLR(one, 0.1, 1.0, total_iters=9), 0.05, 9)
    falling = torch_rates(lambda one: CosineAnnealingLR(one, 50), 0.05, 51)[10:]
    assert rates_of(recipe, 60) == pytest.approx([*rising, falling[0], *falling[:-1]])


def test_a_warmup_of_a_long_training_is_that_of_torchvision():
    recipe = PLAIN.changed(epochs=200, warmup_epochs=2)

    def chained(optimizer):
        warmup, cosine = LinearLR(optimizer, 0.05, 1.0, total_iters=19), CosineAnnealingLR(optimizer, 1980)
        return SequentialLR(optimizer, [warmup, cosine], milestones=[20])

    expected = torch_rates(chained, 0.05, 2_000)
    assert rates_of(recipe, 60) == pytest.approx(expected, abs=0.05 * 0.01)


def test_steps_are_a_staircase_of_torch_s_exponential_rate():
    recipe = PLAIN.changed(epochs=12, schedule="step", warmup_epochs=0, decay_epochs=2.4, decay_rate=0.97)
    stairs = torch_rates(lambda one: ExponentialLR(one, 0.97), 0.05, 5)
    expected = [stairs[step // 24] for step in range(120)]  # 10 steps an epoch
    assert rates_of(recipe, 60) == pytest.approx(expected)


def test_the_staircase_is_counted_from_the_first_step_also_after_a_warmup():
    """As in TensorFlow's code, where the warm-up only replaces the first rates."""
    recipe = PLAIN.changed(epochs=12, schedule="step", warmup_epochs=3, decay_epochs=2, decay_rate=0.5)
    rates = rates_of(recipe, 60)
    assert rates[:30] == pytest.approx([*(0.05 * (step + 1) / 30 for step in range(29)), 0.025])
    assert rates[30:40] == pytest.approx([0.025] * 10)
    assert rates[40:60] == pytest.approx([0.0125] * 20)


def test_a_constant_rate_is_constant_after_its_warmup():
    recipe = PLAIN.changed(epochs=1_000, schedule="constant", warmup_epochs=1, decay_rate=0.5)
    rates = rates_of(recipe, 60)
    assert rates[:10] == pytest.approx([0.005 * (step + 1) for step in range(10)])
    assert set(rates[10:]) == {0.05}


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
@pytest.mark.parametrize("epochs", [0.05, 0.1, 0.15, 0.45, 1, 1.3, 2, 3.7, 10])
@pytest.mark.parametrize("warmup", [0.0, 0.01, 0.3, 0.5, 0.95])
@pytest.mark.parametrize("images", [6, 12, 60, 67])
def test_every_step_has_a_rate_up_to_the_peak_however_short_the_training(schedule, epochs, warmup, images):
    recipe = PLAIN.changed(epochs=epochs, warmup_epochs=warmup * epochs, schedule=schedule, decay_epochs=1)
    rates = rates_of(recipe, images)
    assert len(rates) == recipe.steps(images) >= 1
    assert all(0 < rate <= 0.05 * (1 + 1e-9) for rate in rates)


def test_the_last_step_of_a_cosine_is_near_its_end():
    assert rates_of(PLAIN.changed(epochs=100, final_rate=0.0), 60)[-1] < 1e-6
    assert rates_of(PLAIN.changed(epochs=100, final_rate=0.2), 60)[-1] == pytest.approx(0.01, rel=1e-4)


def test_a_rate_is_a_function_of_the_step_alone():
    rate = Schedule(recipe=PLAIN, images=60).rates()
    in_order = [rate(step) for step in range(80)]
    assert [rate(step) for step in reversed(range(80))] == in_order[::-1]


def test_a_lowered_rate_is_lowered_at_every_step():
    plain, lowered = make(), make(rate_factor=0.3)
    assert [lowered.rate(step) for step in range(8)] == pytest.approx(
        [0.3 * plain.rate(step) for step in range(8)]
    )


# The network


def test_a_recipe_leaves_what_it_does_not_name_to_the_network():
    network = replace(NETWORK, head=Head(channels=16, dropout=0.4), drop_path_rate=0.1)
    assert trained_network(network, FullRecipe(), 10**6) == network
    changed = trained_network(
        network, FullRecipe(dropout=0.0, drop_path=0.3, batch_norm_momentum=0.01), 10**6
    )
    assert (changed.head.dropout, changed.drop_path_rate, changed.norm_momentum) == (0.0, 0.3, 0.01)


def dropouts(learner):
    return [layer.p for layer in learner.module.modules() if isinstance(layer, nn.Dropout)]


@pytest.mark.parametrize(("first", "last"), [(0.0, 0.3), (0.1, 0.5), (0.4, 0.0)])
def test_dropout_grows_from_stage_to_stage(first, last):
    learner = make(PLAIN.changed(stages=2, first_dropout=first, dropout=last))
    for step, batch in enumerate(batches(8)):
        learner.take(step, batch)
        assert dropouts(learner) == [first if step < 4 else last]


def test_weights_that_are_given_are_what_training_starts_from():
    weights = build(NETWORK, seed=5).state_dict()
    assert_equal_tensors(dict(make(weights=weights).module.state_dict()), dict(weights))


# One step


def test_a_step_is_a_function_of_state_batch_and_number():
    recipe = PLAIN.changed(dropout=0.5, drop_path=0.5)
    first, second = make(recipe), make(recipe)
    for step, batch in enumerate(batches(3)):
        first.take(step, batch)
        torch.manual_seed(step)
        torch.randn(7)
        second.take(step, batch)
    assert_equal_tensors(first.tensors(), second.tensors())


def test_steps_draw_other_dropout_each_time():
    recipe = PLAIN.changed(dropout=0.5, drop_path=0.5, weight_decay=0.0)
    first, second = make(recipe), make(recipe)
    (batch,) = batches(1)
    first.take(3, batch)
    second.take(4, batch)
    assert not torch.equal(first.loss_sum, second.loss_sum)


@pytest.mark.parametrize(("optimizer", "nesterov"), [("sgd", True), ("momentum", False)])
def test_plain_steps_are_those_of_a_loop_written_with_torch(optimizer, nesterov):
    recipe = PLAIN.changed(optimizer=optimizer, dropout=0.0, drop_path=0.0, weight_decay=0.01, clip_norm=0.5)
    learner = make(recipe)
    module = build(trained_network(NETWORK, recipe, 6), seed=0).to(memory_format=torch.channels_last).train()
    decayed = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim <= 1]
    groups = [{"params": others, "weight_decay": 0.0}, {"params": decayed, "weight_decay": 0.01}]
    by_torch = torch.optim.SGD(groups, lr=0.0, momentum=0.9, nesterov=nesterov)
    total = torch.zeros(())
    for step, batch in enumerate(batches(8)):
        learner.take(step, batch)
        for group in by_torch.param_groups:
            group["lr"] = learner.rate(step)
        loss = functional.cross_entropy(module(batch[0]), batch[1], label_smoothing=0.1)
        by_torch.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 0.5)
        by_torch.step()
        total += loss.detach()
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(learner.module.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(learner.loss_sum, total)


class FixedMemory:
    """Stands for a CUDA graph: a replay writes gradients to the memory that they had when it was recorded."""

    def __init__(self, module):
        self.module = module
        self.gradients = {}

    def run(self, work):
        work()

    def record(self, work):
        def replay():
            work()
            for name, parameter in self.module.named_parameters():
                if parameter.grad is not None:
                    parameter.grad = self.gradients.setdefault(name, parameter.grad.clone()).copy_(
                        parameter.grad
                    )

        return replay


@pytest.mark.parametrize("trains", ["all", "classifier_and_last_norm"])
def test_replayed_steps_are_eager_ones_with_clipping_average_and_dropout(trains):
    recipe = PLAIN.changed(
        epochs=12,
        optimizer="rmsproptf",
        clip_norm=0.1,
        ema_decay=0.9,
        ema_every=2,
        drop_path=0.3,
        trains=trains,
    )
    eager, replayed = make(recipe), make(recipe)
    replayed._take = GraphedStep(replayed._work, FixedMemory(replayed.module))
    for step, batch in enumerate(batches(12)):
        for learner in (eager, replayed):
            learner.take(step, batch)
            if step == 7:
                learner.module.eval()  # an evaluation between two steps
    assert replayed._take.report.kind == "graphed"
    assert_equal_tensors(replayed.tensors(), eager.tensors())


def test_a_new_sum_of_losses_begins_at_zero():
    learner = make()
    learner.take(0, batches(1)[0])
    assert learner.loss_sum > 0
    learner.clear_loss()
    assert learner.loss_sum == 0


@pytest.mark.parametrize("optimizer", ["sgd", "rmsproptf", "lamb", "adamw"])
def test_norms_and_biases_have_no_weight_decay(optimizer):
    learner = make(PLAIN.changed(optimizer=optimizer, weight_decay=0.03))
    decays = {p: group["weight_decay"] for group in learner.optimizer.param_groups for p in group["params"]}
    assert len(decays) == len([*learner.module.parameters()])
    for layer in learner.module.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            is_free = isinstance(layer, nn.BatchNorm2d) or name == "bias"
            assert decays[parameter] == (0.0 if is_free else 0.03)


def test_epsilon_and_momentum_reach_the_optimiser():
    (group, *_) = make(
        PLAIN.changed(optimizer="rmsproptf", optimizer_eps=1e-3, momentum=0.7)
    ).optimizer.param_groups
    assert (group["eps"], group["momentum"]) == (1e-3, 0.7)


def test_an_optimiser_that_is_not_installed_is_refused():
    with pytest.raises(RecipeError) as error:
        make(PLAIN.changed(optimizer="bnbadam8bit"))
    assert error.value.field == "optimizer"


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize(("stepping", "kind"), [("auto", "eager"), ("compiled", "compiled")])
def test_steps_are_compiled_where_it_is_asked_for(stages, stepping, kind):
    assert make(PLAIN.changed(stages=stages), stepping=stepping)._take.report.kind == kind


# What is trained


def changes(trains):
    """Names of what changes in two steps: weights, and the statistics of norms."""
    learner = make(PLAIN.changed(trains=trains, weight_decay=0.5))
    before = {name: tensor.clone() for name, tensor in learner.module.state_dict().items()}
    for step, batch in enumerate(batches(2)):
        learner.take(step, batch)
    learner.module.eval()
    learner.take(2, batches(1)[0])
    after = learner.module.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


CLASSIFIER = {"head.classifier.weight", "head.classifier.bias"}


def last_norm():
    module = build(NETWORK, seed=0)
    *_, last = [name for name, layer in module.named_modules() if isinstance(layer, nn.BatchNorm2d)]
    return {f"{last}.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}


def test_everything_changes_where_everything_is_trained():
    assert changes("all") == set(build(NETWORK, seed=0).state_dict())


def test_the_classifier_alone_changes_where_it_alone_is_trained():
    assert changes("classifier") == CLASSIFIER


def test_the_statistics_of_the_last_norm_follow_and_all_others_stay_to_the_bit():
    assert changes("classifier_and_last_norm") == CLASSIFIER | last_norm()


@dataclass(frozen=True, kw_only=True)
class SynchronisedRanks(OneRank):
    """One rank whose norms are synchronised."""

    def wrap(self, module, *, sync_batch_norm=False):
        return nn.SyncBatchNorm.convert_sync_batchnorm(module) if sync_batch_norm else module


def test_synchronised_norms_are_frozen_too():
    recipe = PLAIN.changed(trains="classifier")
    learner = make(recipe, ranks=SynchronisedRanks(device=CPU), sync_batch_norm=True)
    learner.take(0, batches(1)[0])  # on a CPU they work only as long as they are frozen
    norms = frozen_norms(learner.module, recipe)
    assert norms
    assert all(isinstance(norm, nn.SyncBatchNorm) and not norm.training for norm in norms)


# Averaged weights


@pytest.mark.parametrize(("every", "warmup"), [(1, True), (1, False), (3, True)])
def test_averaged_weights_are_those_of_a_loop_with_tensorflow_s_warmup(every, warmup):
    learner = make(PLAIN.changed(ema_decay=0.6, ema_every=every, ema_warmup=warmup))
    averaged = {name: tensor.clone() for name, tensor in learner.module.state_dict().items()}
    updates = 0
    for step, batch in enumerate(batches(8)):
        learner.take(step, batch)
        if (step + 1) % every:
            continue
        updates += 1
        decay = min(0.6, (1 + updates) / (10 + updates)) if warmup else 0.6
        for name, tensor in learner.module.state_dict().items():
            if tensor.is_floating_point():
                averaged[name] = decay * averaged[name] + (1 - decay) * tensor
            else:
                averaged[name] = tensor.clone()
    for name, tensor in learner.candidates()["averaged weights"].state_dict().items():
        torch.testing.assert_close(tensor, averaged[name])


def test_without_a_decay_no_average_is_kept():
    assert make().ema is None
    assert set(make().candidates()) == {"weights"}


# The loss


def test_cross_entropy_is_torch_s_for_labels_and_for_mixed_targets():
    loss = make_loss(FullRecipe(label_smoothing=0.2), classes(4), CPU)
    logits, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    assert loss(logits, labels) == functional.cross_entropy(logits, labels, label_smoothing=0.2)
    targets = torch.rand(5, 4).softmax(1)  # smoothed by the mixing already
    assert loss(logits, targets) == pytest.approx(float(-(targets * logits.log_softmax(1)).sum(1).mean()))


def binary(logits, targets):
    """-[t log s(x) + (1 - t) log(1 - s(x))], averaged over images and classes."""
    terms = [
        -(math.log(1 / (1 + math.exp(-x))) if t else math.log(1 - 1 / (1 + math.exp(-x))))
        for row, wanted in zip(logits.tolist(), targets, strict=True)
        for x, t in zip(row, wanted, strict=True)
    ]
    return sum(terms) / len(terms)


def test_binary_cross_entropy_counts_every_class_of_a_mixed_image():
    loss = make_loss(FullRecipe(loss="binary_cross_entropy", label_smoothing=0.1), classes(), CPU)
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, -3.0]])
    assert float(loss(logits, torch.tensor([0, 2]))) == pytest.approx(
        binary(logits, [[1, 0, 0], [0, 0, 1]]), rel=1e-5
    )
    mixed = torch.tensor([[0.7, 0.3, 0.0], [0.85, 0.0, 0.15]])  # a share of at most 0.2 is none
    assert float(loss(logits, mixed)) == pytest.approx(binary(logits, [[1, 1, 0], [1, 0, 0]]), rel=1e-5)


# Going on


def continued_is_exact(recipe, network=NETWORK):
    given = batches(6)
    whole = make(recipe, network)
    for step in range(3):
        whole.take(step, given[step])
    tensors, numbers = whole.tensors(), json.loads(json.dumps(whole.numbers()))
    for step in range(3, 6):
        whole.take(step, given[step])
    rest = make(recipe, network)
    rest.load(tensors, numbers)
    for step in range(3, 6):
        rest.take(step, given[step])
    assert_equal_tensors(rest.tensors(), whole.tensors())
    assert json.dumps(rest.numbers()) == json.dumps(whole.numbers())


NEEDS_MORE = ("bnb", "fused")
"""Optimisers of other packages, for GPUs."""


QUICK = {"sgd", "rmsprop", "rmsproptf", "lamb", "adamw", "muon"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in list_optimizers()
        if name not in UNSUITED and not name.startswith(NEEDS_MORE)
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_every_optimiser_continues_to_the_bit_from_what_a_checkpoint_holds(name):
    continued_is_exact(PLAIN.changed(optimizer=name, learning_rate=1e-3))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_continues_to_the_bit(name):
    continued_is_exact(RECIPES[name].changed(epochs=6, batch_size=6, train_size=1.0, first_size=1.0))


def test_what_is_stored_does_not_change_with_later_steps():
    learner = make(PLAIN.changed(ema_decay=0.9))
    learner.take(0, batches(1)[0])
    stored = learner.tensors()
    copies = {name: tensor.clone() for name, tensor in stored.items()}
    learner.take(1, batches(1)[0])
    assert_equal_tensors(stored, copies)


def test_weights_that_are_not_finite_are_seen():
    learner = make()
    learner.take(0, batches(1)[0])
    assert learner.is_finite
    next(learner.module.parameters()).data[0] = math.inf
    assert not learner.is_finite


# The efficientnet recipe beside TensorFlow's formulas


def test_the_efficientnet_recipe_takes_the_steps_of_tensorflow_s_formulas():
    """RMSProp with the root over epsilon too and the rate inside the momentum, and its average of weights.

    Source: tf.keras' RMSprop and tf.train.ExponentialMovingAverage, as google/automl uses them.
    """
    recipe = RECIPES["efficientnet"].changed(
        epochs=10,
        batch_size=6,
        warmup_epochs=1,
        decay_epochs=1,
        drop_path=0.0,
        dropout=0.0,
        weight_decay=0.01,
    )
    images, steps = 18, 30
    learner = make(recipe, images=images)
    module = (
        build(trained_network(NETWORK, recipe, images), seed=0).to(memory_format=torch.channels_last).train()
    )
    squares = {name: torch.ones_like(tensor) for name, tensor in module.named_parameters()}
    progresses = {name: torch.zeros_like(tensor) for name, tensor in module.named_parameters()}
    averages = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    peak = 0.016 * 6 / 256
    for step, (pixels, labels) in enumerate(batches(steps)):
        learner.take(step, (pixels.clone(), labels))
        rate = peak * (step + 1) / 3 if step + 1 < 3 else peak * 0.97 ** (max(step, 3) // 3)
        assert learner.rate(step) == pytest.approx(rate)
        module.zero_grad()
        LabelSmoothingCrossEntropy(smoothing=0.1)(module(pixels), labels).backward()
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                gradient = parameter.grad + (0.01 * parameter if parameter.ndim > 1 else 0)
                squares[name].mul_(0.9).add_(0.1 * gradient**2)
                progresses[name].mul_(0.9).add_(rate * gradient / (squares[name] + 1e-3).sqrt())
                parameter -= progresses[name]
            decay = min(0.9999, (2 + step) / (11 + step))
            for name, tensor in module.state_dict().items():
                averages[name] = tensor + decay * (averages[name] - tensor) if tensor.ndim else tensor.clone()
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(learner.module.state_dict()[name], tensor, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(
            learner.ema.module.state_dict()[name], averages[name], rtol=1e-3, atol=1e-5
        )


def test_averaged_weights_without_a_warmup_are_those_of_torch_s_averaged_model():
    """torchvision's references average by it, buffers too."""
    learner = make(PLAIN.changed(ema_decay=0.7, ema_every=2, ema_warmup=False))
    averaged = AveragedModel(learner.module, multi_avg_fn=get_ema_multi_avg_fn(0.7), use_buffers=True)
    averaged.n_averaged.fill_(1)  # the first update of torch's copies the weights
    for step, batch in enumerate(batches(8)):
        learner.take(step, batch)
        if step % 2:
            averaged.update_parameters(learner.module)
    expected = averaged.module.state_dict()
    for name, tensor in learner.ema.module.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, expected[name])


def test_cross_entropy_is_timm_s_for_labels_and_for_the_targets_of_mixup():
    loss = make_loss(FullRecipe(label_smoothing=0.1), classes(4), CPU)
    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    torch.testing.assert_close(loss(logits, labels), LabelSmoothingCrossEntropy(0.1)(logits, labels))
    targets = mixup_target(labels, 4, lam=0.3, smoothing=0.1)
    torch.testing.assert_close(loss(logits, targets), SoftTargetCrossEntropy()(logits, targets))
