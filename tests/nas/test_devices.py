import pytest
import torch

from nas.devices import choose_device, pinned_threads
from nas.errors import ExecutorError


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
    with pytest.raises(ExecutorError, match="but got 'tpu9'") as error:
        choose_device("tpu9")
    assert error.value.field == "device"


def test_a_gpu_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ExecutorError, match="sees no GPU"):
        choose_device("cuda")
    assert choose_device("auto") == torch.device("cpu")
