from collections import OrderedDict

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from nas.data.loading import from_arrays, load_data
from nas.errors import DataError
from nas.training.batches import ResidentBatches, StreamedBatches, draw_moves, move
from nas.training.recipe import Recipe
from nas.training.training import (
    evaluate_accuracy,
    is_out_of_memory,
    make_optimizer,
    set_batch_norm_momentum,
    settle_augmentation,
    train,
)
from nas.trial import Cause, InfeasibleError

CPU = torch.device("cpu")
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
    assert result.accuracy > 0.9
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
    assert result.accuracy > 0.9
    assert on_test.accuracy < 0.1
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
    assert train(module, bars(), recipe, seed=0, device="cpu").accuracy > 0.8


def test_batch_norms_follow_at_the_recipes_momentum():
    module = network()
    set_batch_norm_momentum(module, 0.25)
    assert (module.norm.momentum, module.norm2.momentum) == (0.25, 0.25)


def test_bfloat16_trains_on_a_cpu_too():
    recipe = Recipe(epochs=3, warmup_epochs=1, batch_size=32, learning_rate=0.1, precision="bfloat16")
    result = train(network(), bars(), recipe, seed=0, device="cpu")
    assert result.precision == "bfloat16"
    assert result.accuracy > 0.9


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


def test_a_move_flips_then_shifts_with_reflection_as_numpy_does():
    images = torch.arange(2 * 3 * 5 * 5, dtype=torch.uint8).view(2, 3, 5, 5)
    chosen = torch.tensor([1, 0, 1])
    moves = torch.tensor([[2, -1, 0], [0, 0, 1], [-2, 2, 1]])
    moved = move(images, chosen, moves)
    for index, (down, right, flip) in enumerate(moves.tolist()):
        image = images[chosen[index]].numpy()
        image = image[:, :, ::-1] if flip else image
        padded = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode="reflect")
        assert (moved[index].numpy() == padded[:, 2 + down : 7 + down, 2 + right : 7 + right]).all()


def test_moves_stay_in_range_and_use_all_of_it():
    moves = draw_moves(1_000, "crop_flip", 2, np.random.default_rng(0))
    assert {int(v) for v in moves[:, 0].unique()} == {-2, -1, 0, 1, 2}
    assert {int(v) for v in moves[:, 2].unique()} == {0, 1}
    assert draw_moves(1_000, "crop", 2, np.random.default_rng(0))[:, 2].sum() == 0


def test_an_epoch_shows_each_image_once_and_leaves_the_last_partial_batch_out():
    data = bars()
    batches = ResidentBatches(data, CPU)
    seen = [
        image.numpy().tobytes()
        for images, _ in batches.epoch(50, "none", 0, np.random.default_rng(0))
        for image in images
    ]
    assert len(seen) == len(set(seen)) == 250
    assert set(seen) <= {image.tobytes() for image in data.train.images}


def test_batches_from_files_are_those_from_memory(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(20):
            Image.fromarray(rng.integers(0, 256, (12, 12), dtype=np.uint8)).save(
                tmp_path / name / f"{number}.png"
            )
    resident = ResidentBatches(load_data(tmp_path), CPU)
    streamed = StreamedBatches(load_data(tmp_path, resident_bytes=1), CPU)
    pairs = [
        (
            resident.epoch(8, "crop_flip", 2, np.random.default_rng(3)),
            streamed.epoch(8, "crop_flip", 2, np.random.default_rng(3)),
        ),
        (resident.scan("search", 4), streamed.scan("search", 4)),
        (resident.scan("test", 3), streamed.scan("test", 3)),
    ]
    for ours, theirs in pairs:
        for (images, labels), (other_images, other_labels) in zip(ours, theirs, strict=True):
            assert torch.equal(images, other_images)
            assert torch.equal(labels, other_labels)


def test_a_file_that_vanished_is_named(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(10):
            Image.fromarray(np.full((12, 12), number, dtype=np.uint8)).save(tmp_path / name / f"{number}.png")
    data = load_data(tmp_path, resident_bytes=1)
    (tmp_path / data.search.paths[0]).unlink()
    with pytest.raises(DataError, match="could be read when the search began, but not now"):
        list(StreamedBatches(data, CPU).scan("search", 2))


@pytest.mark.gpu
def test_the_same_code_trains_on_a_gpu():
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    result = train(network(), bars(), SHORT, seed=0, device="cuda")
    assert result.accuracy > 0.9
    assert result.peak_memory_bytes > 0


@pytest.mark.gpu
def test_a_gpu_is_free_again_after_a_candidate_ran_out_of_its_memory():
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    with pytest.raises(InfeasibleError):
        train(Greedy(), bars(), SHORT, seed=0, device="cuda")
    assert torch.cuda.memory_allocated() == before
