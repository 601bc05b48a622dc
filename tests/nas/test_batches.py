import multiprocessing

import numpy as np
import pytest
import torch
from PIL import Image

from nas.data.loading import from_arrays, load_data
from nas.errors import DataError
from nas.training.batches import (
    ResidentBatches,
    StreamedBatches,
    draw_moves,
    epoch,
    move,
    sensible_loaders,
)

CPU = torch.device("cpu")


@pytest.fixture
def noise_folder(tmp_path):
    """Two classes of 20 images of noise, 12 pixels a side."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(20):
            Image.fromarray(rng.integers(0, 256, (12, 12), dtype=np.uint8)).save(
                tmp_path / name / f"{number}.png"
            )
    return tmp_path


def noise(count=400):
    images = np.random.default_rng(0).integers(0, 256, (count, 12, 12), dtype=np.uint8)
    return from_arrays(images, np.arange(count) % 4, mirrors=False)


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
    data = noise()
    batches = ResidentBatches(data, CPU)
    seen = [
        image.numpy().tobytes()
        for images, _ in epoch(batches, 50, "none", 0, np.random.default_rng(0))
        for image in images
    ]
    assert len(seen) == len(set(seen)) == 250
    assert set(seen) <= {image.tobytes() for image in data.train.images}


@pytest.mark.parametrize("loaders", [0, 2])
def test_batches_from_files_are_those_from_memory(noise_folder, loaders):
    resident = ResidentBatches(load_data(noise_folder), CPU)
    streamed = StreamedBatches(load_data(noise_folder, resident_bytes=1), CPU, loaders=loaders)
    pairs = [
        (
            epoch(resident, 8, augment, 2, np.random.default_rng(3)),
            epoch(streamed, 8, augment, 2, np.random.default_rng(3)),
        )
        for augment in ("none", "crop_flip")
    ]
    pairs += [(resident.scan(split, 3), streamed.scan(split, 3)) for split in ("search", "test")]
    for ours, theirs in pairs:
        for (images, labels), (other_images, other_labels) in zip(ours, theirs, strict=True):
            assert torch.equal(images, other_images)
            assert torch.equal(labels, other_labels)


def test_an_epoch_left_early_does_not_reach_into_the_next_pass(noise_folder):
    data = load_data(noise_folder, resident_bytes=1)
    streamed = StreamedBatches(data, CPU, loaders=1)
    expected = list(StreamedBatches(data, CPU, loaders=0).scan("search", 3))
    next(epoch(streamed, 4, "none", 0, np.random.default_rng(0)))
    found = list(streamed.scan("search", 3))
    assert len(found) == len(expected)
    for (images, labels), (other_images, other_labels) in zip(found, expected, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


def test_the_same_processes_decode_every_pass(noise_folder):
    streamed = StreamedBatches(load_data(noise_folder, resident_bytes=1), CPU, loaders=1)

    def decoding():
        list(streamed.scan("search", 3))
        return {process.pid for process in multiprocessing.active_children()}

    assert decoding() == decoding() != set()


def test_two_passes_at_once_over_files_are_refused(noise_folder):
    streamed = StreamedBatches(load_data(noise_folder, resident_bytes=1), CPU)
    first = streamed.scan("search", 2)
    next(first)
    next(streamed.scan("search", 2))
    with pytest.raises(RuntimeError, match="one pass at a time"):
        next(first)


def test_a_draw_has_one_shape_throughout_an_epoch(noise_folder):
    files = load_data(noise_folder, resident_bytes=1)
    for batches in (ResidentBatches(load_data(noise_folder), CPU), StreamedBatches(files, CPU)):
        for augment, parts in (("none", 0), ("crop", 1)):
            draws = list(batches.draws(7, augment, 1, np.random.default_rng(0)))
            assert len({tuple(tensor.shape for tensor in draw) for draw in draws}) == 1
            assert len(draws) == len(files.train) // 7
            assert len(draws[0]) - parts in (1, 2)


def test_cores_of_a_cpu_are_for_training_and_beside_a_gpu_some_decode():
    assert sensible_loaders(CPU) == 0
    assert 1 <= sensible_loaders(torch.device("cuda")) <= 16


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
def test_batches_copied_ahead_to_a_gpu_are_those_of_the_files(noise_folder):
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    data = load_data(noise_folder, resident_bytes=1)
    on_cpu = epoch(StreamedBatches(data, CPU), 4, "crop_flip", 2, np.random.default_rng(3))
    on_gpu = epoch(StreamedBatches(data, torch.device("cuda")), 4, "crop_flip", 2, np.random.default_rng(3))
    for (images, labels), (other_images, other_labels) in zip(on_cpu, on_gpu, strict=True):
        assert torch.equal(images, other_images.cpu())
        assert torch.equal(labels, other_labels.cpu())
