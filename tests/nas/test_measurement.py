import pytest
import torch

from nas.errors import ExecutorError
from nas.training.measurement import (
    bf16_speedup,
    choose_device,
    pinned_threads,
    prefers_bf16,
)


def test_the_number_of_threads_is_put_back_after_an_error():
    before = torch.get_num_threads()

    def fail():
        with pinned_threads(before + 1):
            assert torch.get_num_threads() == before + 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.get_num_threads() == before


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
