import statistics
from typing import ClassVar

import pytest
import torch
from torch import nn

from nas.errors import ExecutorError
from nas.training.measurement import (
    bf16_speedup,
    choose_device,
    measure_latency,
    pinned_threads,
    prefers_bf16,
)
from search_spaces import efficientnet

SHAPE = (3, 8, 8)


class Recorder(nn.Module):
    """Notes what it is called with; `log` is shared by copies."""

    log: ClassVar[list[tuple[tuple[int, ...], int, bool, bool]]] = []

    def forward(self, images):
        self.log.append(
            (tuple(images.shape), torch.get_num_threads(), self.training, torch.is_grad_enabled())
        )
        return images.sum()


@pytest.fixture
def recorder():
    Recorder.log.clear()
    return Recorder()


def test_a_result_holds_every_sample_and_their_quartiles():
    result = measure_latency(nn.Conv2d(3, 8, 3), input_shape=SHAPE, device="cpu", runs=21)
    assert result.n == len(result.samples_ms) == 21
    assert result.median_ms == statistics.median(result.samples_ms)
    assert 0 < result.q1_ms <= result.median_ms <= result.q3_ms
    assert result.environment.startswith("cpu")
    assert result.environment.endswith("batch 1, threads 1, float32")


def test_passes_run_in_eval_mode_without_gradients_at_the_batch_and_threads_asked_for(recorder):
    measure_latency(recorder, input_shape=SHAPE, device="cpu", batch=4, threads=2, runs=3)
    assert set(recorder.log) == {((4, 3, 8, 8), 2, False, False)}
    assert len(recorder.log) >= 3 + 5


def test_the_module_and_the_number_of_threads_are_left_as_they_were(recorder):
    before = torch.get_num_threads()
    measure_latency(recorder, input_shape=SHAPE, device="cpu", threads=before + 1, runs=2)
    assert recorder.training
    assert torch.get_num_threads() == before


def test_the_number_of_threads_is_put_back_after_an_error():
    before = torch.get_num_threads()

    def fail():
        with pinned_threads(before + 1):
            assert torch.get_num_threads() == before + 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.get_num_threads() == before


def test_a_network_is_measured_at_its_own_resolution():
    network = efficientnet(resolution=8, num_classes=3, in_channels=1, width=0.25).reference
    assert measure_latency(network, device="cpu", runs=2).median_ms > 0


def test_a_single_run_is_its_own_median():
    result = measure_latency(nn.Identity(), input_shape=SHAPE, device="cpu", runs=1)
    assert result.q1_ms == result.median_ms == result.q3_ms == result.samples_ms[0]


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"threads": 0}, {"runs": 0}])
def test_a_count_below_one_is_refused(wrong):
    with pytest.raises(ValueError, match="must be at least 1"):
        measure_latency(nn.Identity(), input_shape=SHAPE, device="cpu", **wrong)


def test_a_module_without_the_shape_of_its_input_is_refused():
    with pytest.raises(ValueError, match="input_shape"):
        measure_latency(nn.Identity(), device="cpu")


def test_an_unknown_device_is_refused():
    with pytest.raises(ExecutorError, match="but got 'tpu9'"):
        choose_device("tpu9")


def test_a_gpu_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ExecutorError, match="sees no GPU"):
        choose_device("cuda")
    assert choose_device("auto") == torch.device("cpu")


def test_bfloat16_is_preferred_exactly_where_it_was_measured_to_be_much_faster():
    device = torch.device("cpu")
    assert bf16_speedup(device) > 0
    assert prefers_bf16(device) == (bf16_speedup(device) >= 1.5)
