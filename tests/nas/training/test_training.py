from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nas.data.loading import from_arrays
from nas.errors import DataError, RecipeError
from nas.training.accuracy import evaluate_accuracy, gather
from nas.training.losses import chance_loss
from nas.training.optimizers import make_optimizer
from nas.training.recipe import Recipe
from nas.training.step import StepReport
from nas.training.training import (
    check_loss,
    is_out_of_memory,
    set_batch_norm_momentum,
    settle_augmentation,
    train,
)
from nas.trial import Cause, InfeasibleError

SHORT = Recipe(epochs=3, warmup_epochs=1, batch_size=32, learning_rate=0.1, precision="float32")


def bars(count=400, side=12, classes=4, seed=0):
    """Images whose class is the place of a bright bar in noise: learnt in seconds."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 100, (count, side, side), dtype=np.uint8)
    labels = np.arange(count) % classes
    for image, label in zip(images, labels, strict=True):
        image[label * 3 : label * 3 + 2] += 120
    return from_arrays(images, labels, name="bars", mirrors=False)


def network(seed=0, classes=4, channels=1):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = OrderedDict(
            conv=nn.Conv2d(channels, 16, 3, stride=2, padding=1, bias=False),
            norm=nn.BatchNorm2d(16, momentum=0.01),
            act=nn.ReLU(),
            depthwise=nn.Conv2d(16, 16, 3, stride=2, padding=1, groups=16, bias=False),
            norm2=nn.BatchNorm2d(16, momentum=0.01),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(0.1),
            classifier=nn.Linear(16 * 9, classes),
        )
        return nn.Sequential(layers)


def test_training_learns_what_can_be_learnt():
    module = network()
    result = train(module, bars(), SHORT, seed=0, device="cpu")
    assert result.metrics["accuracy"] > 0.9
    assert result.split == "search"
    assert result.steps == 24
    assert result.loss < 1.2
    assert result.train_seconds > 0
    assert result.images_per_second == pytest.approx(24 * 32 / result.train_seconds)
    assert not module.training


def test_equal_seeds_give_equal_weights_bit_for_bit_and_other_seeds_do_not():
    def weights(seed):
        module = network(seed)
        train(module, bars(), SHORT, seed=seed, device="cpu")
        return module.state_dict()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv.weight"], other["conv.weight"])


def test_dropout_draws_from_the_seed_and_not_from_the_global_generator():
    losses = set()
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        losses.add(train(network(), bars(), SHORT, seed=0, device="cpu").loss)
    assert len(losses) == 1


def test_the_seed_of_the_training_alone_changes_the_outcome():
    losses = {train(network(), bars(), SHORT, seed=seed, device="cpu").loss for seed in (1, 2)}
    assert len(losses) == 2


def test_training_leaves_the_global_generator_where_it_was():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(network(), bars(), SHORT, seed=0, device="cpu")
    assert torch.equal(torch.rand(3), expected)


def test_accuracy_is_measured_on_the_split_that_is_named():
    data = bars()
    wrong = from_arrays(
        data.train.images,
        data.train.labels,
        test_images=data.test.images,
        test_labels=(data.test.labels + 1) % 4,
    )
    result = train(network(), wrong, SHORT, seed=0, device="cpu")
    on_test = train(network(), wrong, SHORT, seed=0, device="cpu", split="test")
    assert result.metrics["accuracy"] > 0.9
    assert on_test.metrics["accuracy"] < 0.1
    assert on_test.split == "test"


def test_accuracy_counts_every_image_of_a_split_that_no_batch_divides():
    class Constant(nn.Module):
        def forward(self, images):
            return torch.eye(4)[torch.zeros(len(images), dtype=torch.long)]

    data = bars()
    share = (data.search.labels == 0).mean()
    for batch_size in (1, 7, 1_000):
        assert evaluate_accuracy(Constant(), data, "search", device="cpu", batch_size=batch_size) == share


def test_images_arrive_normalised():
    seen = []

    class Spy(nn.Module):
        def forward(self, images):
            seen.append(images)
            return torch.zeros(len(images), 4)

    data = bars()
    evaluate_accuracy(Spy(), data, "train", device="cpu")
    images = torch.cat(seen)
    assert images.mean().item() == pytest.approx(0, abs=1e-3)
    assert images.std().item() == pytest.approx(1, abs=1e-3)


def test_a_diverging_training_makes_the_candidate_infeasible():
    with pytest.raises(InfeasibleError, match="loss must stay finite") as error:
        train(
            network(),
            bars(),
            Recipe(epochs=2, warmup_epochs=0, batch_size=32, learning_rate=1e20),
            seed=0,
            device="cpu",
        )
    assert error.value.cause is Cause.DIVERGED


class Stubborn(nn.Module):
    """Is sure of the first class, whatever it is taught."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.passes = 0

    def forward(self, images):
        self.passes += self.training
        return torch.tensor([5.0, 0.0, 0.0, 0.0]).repeat(len(images), 1) + 0 * self.weight


def test_a_network_that_learns_nothing_is_given_up_before_its_training_ends():
    module, recipe = Stubborn(), Recipe(epochs=50, batch_size=32, precision="float32")
    with pytest.raises(InfeasibleError, match=r"<= 1.02 \* 1.386 \+ 1/sqrt\(256\) = 1.477") as error:
        train(module, bars(), recipe, seed=0, device="cpu")
    assert error.value.cause is Cause.DIVERGED
    assert module.passes == 104  # the first epoch of 8 steps that ends past step 100


def test_a_training_at_a_huge_learning_rate_is_given_up():
    recipe = Recipe(epochs=50, warmup_epochs=0, batch_size=32, learning_rate=0.5, precision="float32")
    with pytest.raises(InfeasibleError, match=r"learned nothing|must stay finite") as error:
        train(network(), bars(), recipe, seed=0, device="cpu")
    assert error.value.cause is Cause.DIVERGED


@pytest.fixture(scope="module")
def many():
    """Data of which an epoch is 200 steps of 32 images; four classes."""
    return from_arrays(np.zeros((10_000, 4, 4), np.uint8), np.arange(10_000) % 4)


def judge(data, loss, *, epoch, steps=200, warmup_epochs=1.0):
    recipe = Recipe(epochs=9, warmup_epochs=warmup_epochs, batch_size=32)
    check_loss(loss, data=data, recipe=recipe, first=200 * epoch, end=200 * epoch + steps)


@pytest.mark.parametrize(("warmup_epochs", "first_judged"), [(0, 1), (0.5, 2), (1, 2), (3, 4)])
def test_the_second_whole_epoch_after_the_warmup_is_the_first_that_is_judged(
    many, warmup_epochs, first_judged
):
    above = 1.03 * np.log(4)
    for epoch in range(first_judged):
        judge(many, above, epoch=epoch, warmup_epochs=warmup_epochs)
    with pytest.raises(InfeasibleError, match="the network has learned nothing"):
        judge(many, above, epoch=first_judged, warmup_epochs=warmup_epochs)


def test_a_loss_at_chance_or_a_broken_epoch_is_no_reason_to_give_up(many):
    judge(many, 1.01 * np.log(4), epoch=5)
    judge(many, 9.0, epoch=5, steps=199)
    with pytest.raises(InfeasibleError, match="the network has learned nothing"):
        judge(many, 9.0, epoch=5)


def test_a_mean_over_few_images_may_scatter_more():
    few = from_arrays(np.zeros((40, 4, 4), np.uint8), np.arange(40) % 4)
    recipe = Recipe(epochs=60, warmup_epochs=1)
    steps = len(few.train) // recipe.batch_for(len(few.train))
    check_loss(1.15 * np.log(4), data=few, recipe=recipe, first=30 * steps, end=31 * steps)
    with pytest.raises(InfeasibleError, match="the network has learned nothing"):
        check_loss(1.3 * np.log(4), data=few, recipe=recipe, first=30 * steps, end=31 * steps)


def test_few_steps_are_never_given_up():
    recipe = Recipe(epochs=30, warmup_epochs=1, batch_size=32, learning_rate=30.0, precision="float32")
    check_loss(9.0, data=bars(), recipe=recipe, first=80, end=88)
    with pytest.raises(InfeasibleError):
        check_loss(9.0, data=bars(), recipe=recipe, first=96, end=104)


@pytest.mark.parametrize("epoch", [0, 8])
def test_a_loss_that_is_not_finite_is_never_accepted(many, epoch):
    with pytest.raises(InfeasibleError, match="must stay finite, but is nan"):
        judge(many, float("nan"), epoch=epoch, steps=1)


def test_activations_compute_in_place_again_after_a_training_and_hold_no_gradients():
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=4), nn.SiLU(inplace=True), nn.Flatten(), nn.Linear(72, 4)
    )
    train(module, bars(), SHORT, seed=0, device="cpu")
    assert module[1].inplace
    assert all(parameter.grad is None for parameter in module.parameters())


def test_a_training_says_how_its_steps_were_taken():
    step = train(network(), bars(), SHORT, seed=0, device="cpu").step
    assert (step.kind, step.reason) == ("eager", "a graph needs a CUDA device, and this is cpu")


def test_logits_that_are_not_finite_make_the_candidate_infeasible():
    module = network().eval()
    module.norm.running_var.fill_(float("nan"))
    with pytest.raises(InfeasibleError, match="logits on the search split") as error:
        evaluate_accuracy(module, bars(), "search", device="cpu")
    assert error.value.cause is Cause.DIVERGED


class Greedy(nn.Module):
    """Asks for far more memory than any machine has."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images):
        return images.new_empty(1 << 60) * self.weight


def test_running_out_of_memory_makes_the_candidate_infeasible():
    with pytest.raises(InfeasibleError, match="out of memory on cpu at batch size 32") as error:
        train(Greedy(), bars(), SHORT, seed=0, device="cpu")
    assert error.value.cause is Cause.OUT_OF_MEMORY
    assert error.value.__context__ is None


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_every_kind_of_memory_failure_is_known(error):
    assert is_out_of_memory(error)


def test_another_error_of_the_module_is_not_taken_for_a_lack_of_memory():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train(nn.Sequential(nn.Flatten(), nn.Linear(3, 4)), bars(), SHORT, seed=0, device="cpu")


def test_fewer_images_than_a_batch_are_refused():
    with pytest.raises(DataError, match="at least one batch of 512 images, but has 256"):
        train(network(), bars(), Recipe(batch_size=512), seed=0, device="cpu")


@pytest.mark.parametrize("count", [12, 16, 60, 180])
def test_a_small_set_is_trained_with_a_batch_that_follows_it(count):
    data = bars(count)
    result = train(network(), data, Recipe(precision="float32"), seed=0, device="cpu")
    batch = Recipe().batch_for(len(data.train))
    assert result.steps == 5 * (len(data.train) // batch)
    assert result.images_per_second == pytest.approx(result.steps * batch / result.train_seconds)


def test_training_works_on_read_only_arrays_without_a_warning(recwarn):
    data = bars()
    for part in (data.train, data.search, data.test):
        part.images.flags.writeable = False
        part.labels.flags.writeable = False
    train(network(), data, SHORT, seed=0, device="cpu", split="test")
    assert not [w for w in recwarn if "writable" in str(w.message)]


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_either_optimiser_learns_and_decays_no_norm_or_bias(optimizer):
    recipe = Recipe(epochs=3, warmup_epochs=1, batch_size=32, learning_rate=0.02, optimizer=optimizer)
    module = network()
    decayed, others = make_optimizer(module, recipe).param_groups
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert (decayed["weight_decay"], others["weight_decay"]) == (recipe.weight_decay, 0)
    assert {p.ndim for p in others["params"]} == {1}
    assert train(module, bars(), recipe, seed=0, device="cpu").metrics["accuracy"] > 0.8


def test_batch_norms_follow_at_the_recipes_momentum():
    module = network()
    set_batch_norm_momentum(module, 0.25)
    assert (module.norm.momentum, module.norm2.momentum) == (0.25, 0.25)


def test_bfloat16_trains_on_a_cpu_too():
    recipe = Recipe(epochs=3, warmup_epochs=1, batch_size=32, learning_rate=0.1, precision="bfloat16")
    result = train(network(), bars(), recipe, seed=0, device="cpu")
    assert result.precision == "bfloat16"
    assert result.metrics["accuracy"] > 0.9


def test_peak_memory_grows_with_the_batch_and_holds_the_weights_thrice():
    class Wide(nn.Sequential):
        def __init__(self):
            layers = [nn.Linear(144, 500, bias=False), nn.Linear(500, 500, bias=False)]
            super().__init__(nn.Flatten(), *layers, nn.Linear(500, 4, bias=False))

    peaks = {}
    for batch_size in (16, 64):
        recipe = Recipe(epochs=1, warmup_epochs=0, batch_size=batch_size, precision="float32")
        peaks[batch_size] = train(Wide(), bars(), recipe, seed=0, device="cpu").peak_memory_bytes
    weights = 4 * (144 * 500 + 500 * 500 + 500 * 4)
    # For the backward pass an image leaves its 144 pixels, twice 500 hidden values, and a few numbers.
    assert peaks[16] == pytest.approx(3 * weights + 16 * 4 * (144 + 1_000), rel=0.01)
    assert peaks[64] - peaks[16] == pytest.approx(48 * 4 * (144 + 1_000), rel=0.02)


def test_digits_are_not_mirrored_unless_asked():
    data = bars()
    assert settle_augmentation(Recipe(), data) == "crop"
    assert settle_augmentation(Recipe(augmentation="crop_flip"), data) == "crop_flip"
    assert settle_augmentation(Recipe(), from_arrays(data.train.images, data.train.labels)) == "crop_flip"


@pytest.mark.gpu
def test_the_same_code_trains_on_a_gpu():
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    result = train(network(), bars(), SHORT, seed=0, device="cuda")
    assert result.metrics["accuracy"] > 0.9
    assert result.peak_memory_bytes > 0


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_graphed_steps_give_the_weights_of_eager_ones_on_a_gpu(optimizer, precision):
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    recipe = Recipe(epochs=30, batch_size=32, learning_rate=0.02, optimizer=optimizer, precision=precision)
    weights, results = {}, {}
    for stepping in ("auto", "eager"):
        module = network()
        results[stepping] = train(module, bars(), recipe, seed=0, device="cuda", stepping=stepping)
        weights[stepping] = torch.cat([p.detach().flatten() for p in module.parameters()])
    assert results["auto"].step == StepReport(kind="graphed")
    assert results["eager"].step.kind == "eager"
    assert results["auto"].loss == pytest.approx(results["eager"].loss, rel=0.05)
    distance = (weights["auto"] - weights["eager"]).norm() / weights["eager"].norm()
    assert distance < (0.01 if precision == "float32" else 0.1)


@pytest.mark.gpu
def test_the_memory_of_a_graph_is_free_again_after_the_training():
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    module = network()
    result = train(module, bars(), Recipe(epochs=30, batch_size=32), seed=0, device="cuda")
    assert result.step.kind == "graphed"
    module.cpu()
    assert torch.cuda.memory_allocated() == before


@pytest.mark.gpu
def test_a_gpu_is_free_again_after_a_candidate_ran_out_of_its_memory():
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    with pytest.raises(InfeasibleError):
        train(Greedy(), bars(), SHORT, seed=0, device="cuda")
    assert torch.cuda.memory_allocated() == before


def numbers(seed=0, **changes):
    """Bars as before; what is learnt is where the bar lies, in a unit of its own."""
    rng = np.random.default_rng(seed)
    places = rng.integers(0, 9, 400)
    images = rng.integers(0, 100, (400, 12, 12), dtype=np.uint8)
    for image, place in zip(images, places, strict=True):
        image[place : place + 3] += 120
    labels = np.stack([1000 + 50.0 * places, -0.01 * places], axis=1).astype(np.float32)
    return from_arrays(images, labels, name="places", task="regression", **changes)


def test_numbers_are_learnt_in_their_own_unit():
    recipe = replace(SHORT, epochs=8)
    result = train(network(classes=2), numbers(), recipe, seed=0, device="cpu", metrics=("r2", "rmse", "mae"))
    assert result.metrics["r2"] > 0.7
    assert 0 < result.metrics["mae"] <= result.metrics["rmse"] < 50


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_labels_of_which_an_image_may_have_several_are_learnt(class_weights):
    rng = np.random.default_rng(0)
    labels = rng.random((400, 3)) < (0.5, 0.3, 0.1)
    images = rng.integers(0, 100, (400, 12, 12), dtype=np.uint8)
    for image, row in zip(images, labels, strict=True):
        for place in np.flatnonzero(row):
            image[place * 4 : place * 4 + 3] += 120
    data = from_arrays(images, labels.astype(np.int64), name="labels", task="multilabel", mirrors=False)
    recipe = replace(SHORT, epochs=6, class_weights=class_weights)
    result = train(network(classes=3), data, recipe, seed=0, device="cpu")
    assert result.metrics["mean_average_precision"] > 0.8


@pytest.mark.parametrize("change", [{"class_weights": "balanced"}, {"sampling": "balanced"}])
def test_a_rare_class_is_found_more_often_where_classes_count_alike(change):
    data = bars(count=640, classes=2)
    kept = np.flatnonzero((data.train.labels == 0) | (np.arange(len(data.train)) % 20 == 1))
    data = replace(data, train=data.train.take(kept))
    recipe = replace(SHORT, epochs=2, learning_rate=0.02)

    def recall(recipe):
        module = network(classes=2)
        train(module, data, recipe, seed=0, device="cpu", metrics=("balanced_accuracy",))
        outputs, labels = gather(
            module, data, "search", device=torch.device("cpu"), batch_size=64, precision="float32"
        )
        return float((outputs.argmax(1) == labels)[labels == 1].double().mean())

    assert recall(replace(recipe, **change)) > recall(recipe) + 0.2


@pytest.mark.parametrize(
    ("data", "change", "field"),
    [
        (numbers, {"class_weights": "balanced"}, "class_weights"),
        (numbers, {"sampling": "balanced"}, "sampling"),
        (numbers, {"label_smoothing": 0.2}, "label_smoothing"),
        (bars, {"regression_loss": "squared"}, "regression_loss"),
    ],
)
def test_a_recipe_of_another_task_is_refused(data, change, field):
    with pytest.raises(RecipeError) as error:
        train(network(), data(), replace(SHORT, **change), seed=0, device="cpu")
    assert error.value.field == field


def test_numbers_are_not_mirrored_unless_that_is_asked_for():
    data = numbers(mirrors=True)
    assert settle_augmentation(Recipe(), data) == "crop"
    assert settle_augmentation(Recipe(augmentation="crop_flip"), data) == "crop_flip"


def test_a_network_that_knows_less_than_the_mean_of_the_numbers_has_learned_nothing():
    data = numbers()
    steps = len(data.train) // 32
    chance = chance_loss(data, SHORT.loss)
    check_loss(chance, data=data, recipe=SHORT, first=30 * steps, end=31 * steps)
    with pytest.raises(InfeasibleError) as error:
        check_loss(1.2 * chance, data=data, recipe=SHORT, first=30 * steps, end=31 * steps)
    assert error.value.cause is Cause.DIVERGED
