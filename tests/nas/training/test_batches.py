import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from nas.data.loading import from_arrays, load_data
from nas.errors import DataError
from nas.training.accuracy import evaluate_accuracy
from nas.training.batches import ResidentBatches, epoch
from nas.training.moves import draw_moves, move
from nas.training.streaming import StreamedBatches, View, sensible_loaders

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


def test_ctrl_c_reaches_the_training_and_not_the_processes_that_decode_for_it(noise_folder):
    data = load_data(noise_folder, resident_bytes=1)
    streamed = StreamedBatches(data, CPU, loaders=1)
    expected = len(list(streamed.scan("search", 3)))
    (process,) = multiprocessing.active_children()
    os.kill(process.pid, signal.SIGINT)
    assert len(list(streamed.scan("search", 3))) == expected
    assert process.is_alive()


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


@pytest.fixture(params=["vanished", "emptied", "broken in the middle"])
def spoil(request):
    """Makes a file unreadable in one of several ways."""

    def spoil(path):
        data = path.read_bytes()
        if request.param == "vanished":
            path.unlink()
        else:
            path.write_bytes(b"" if request.param == "emptied" else data[:60] + b"\0" * 60 + data[120:])

    return spoil


@pytest.mark.parametrize("loaders", [0, 1])
def test_the_next_readable_image_of_its_batch_replaces_one_that_went_bad(noise_folder, spoil, loaders):
    data = load_data(noise_folder, resident_bytes=1)
    order = np.random.default_rng(3).permutation(len(data.train))[:8]
    whole = next(epoch(StreamedBatches(data, CPU, loaders=0), 8, "none", 0, np.random.default_rng(3)))
    for row, after in ((2, 3), (7, 0)):
        path = noise_folder / data.train.paths[order[row]]
        before = path.read_bytes()
        spoil(path)
        streamed = StreamedBatches(data, CPU, loaders=loaders)
        images, labels = next(epoch(streamed, 8, "none", 0, np.random.default_rng(3)))
        source = [after if each == row else each for each in range(8)]
        assert torch.equal(images, whole[0][source])
        assert torch.equal(labels, whole[1][source])
        path.write_bytes(before)


def test_an_image_that_went_bad_is_left_out_of_evaluation_and_named_once(noise_folder, spoil):
    data = load_data(noise_folder, resident_bytes=1)
    spoil(noise_folder / data.search.paths[1])
    streamed = StreamedBatches(data, CPU)
    for _ in range(3):
        labels = torch.cat([labels for _, labels in streamed.scan("search", 2)])
        assert labels.tolist() == np.delete(data.search.labels, 1).tolist()
    assert streamed.notes == (f"{data.search.paths[1]} cannot be read, and is left out",)


def test_a_batch_of_evaluation_without_readable_images_is_left_out(noise_folder, spoil):
    data = load_data(noise_folder, resident_bytes=1)
    spoil(noise_folder / data.search.paths[1])
    batches = list(StreamedBatches(data, CPU).scan("search", 1))
    assert [len(images) for images, _ in batches] == [1] * (len(data.search) - 1)


def test_more_files_that_went_bad_than_are_tolerated_are_an_error(noise_folder, spoil):
    data = load_data(noise_folder, resident_bytes=1)
    for path in data.search.paths[:2]:
        spoil(noise_folder / path)
    with pytest.raises(DataError, match=r"at most 1% .* but 2 of 40 .*restore the files"):
        list(StreamedBatches(data, CPU).scan("search", 2))


def test_of_many_files_one_in_a_hundred_may_go_bad(tmp_path, spoil):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(100):
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    data = load_data(tmp_path, resident_bytes=1)
    order = np.random.default_rng(3).permutation(len(data.train))
    for index in order[:2]:  # a whole batch
        spoil(tmp_path / data.train.paths[index])
    streamed = StreamedBatches(data, CPU)
    images, labels = next(epoch(streamed, 2, "none", 0, np.random.default_rng(3)))
    assert len(streamed.notes) == 2
    assert images.float().std() > 0
    assert labels.min() >= 0


def test_accuracy_counts_only_images_that_can_be_read(noise_folder, spoil):
    data = load_data(noise_folder, resident_bytes=1)
    spoil(noise_folder / data.search.paths[0])

    class Zero(torch.nn.Module):
        def forward(self, images):
            return torch.nn.functional.one_hot(torch.zeros(len(images), dtype=torch.int64), 2).float()

    accuracy = evaluate_accuracy(Zero(), data, "search", device="cpu", batch_size=4)
    assert accuracy == pytest.approx((data.search.labels[1:] == 0).mean())


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


def test_a_view_of_an_image_is_the_same_wherever_it_is_read(noise_folder):
    resident = load_data(noise_folder, resolution=12)
    streamed = load_data(noise_folder, resolution=12, resident_bytes=0)
    assert resident.is_resident
    assert not streamed.is_resident

    def crop(image, view):
        assert image.size == (12, 12)
        top, left = view.seed % 5, view.stage
        return torch.from_numpy(np.asarray(image)[top : top + 8, left : left + 8].copy()).float()[None]

    wanted = [[(3, View(7, 0)), (1, View(8, 0))], [(3, View(7, 1)), (3, View(7, 0))]]
    passes = []
    for data, loaders in ((resident, 0), (streamed, 0), (streamed, 2)):
        batches = StreamedBatches(data, CPU, loaders=loaders, augment=crop)
        passes.append([*batches.views(wanted)])
    for first, *others in zip(*passes, strict=True):
        for images, labels in others:
            assert torch.equal(images, first[0])
            assert torch.equal(labels, first[1])
    (first, _), (second, _) = passes[0]
    assert torch.equal(first[0], second[1])
    assert not torch.equal(second[0], second[1])
