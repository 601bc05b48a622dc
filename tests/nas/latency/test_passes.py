"""One forward pass on a device: what runs, on how many threads, and what is refused."""

import builtins
from typing import ClassVar

import onnxruntime
import pytest
import torch
from torch import nn

from nas.errors import LatencyError
from nas.latency.devices import DeviceSettings
from nas.latency.passes import prepare_pass, prepare_reference
from search_spaces import Conv, Head, MBConv, Network, Stage

SHAPE = (3, 8, 8)
TINY = Network(
    stem=Stage(op=Conv(), channels=8, stride=2),
    stages=(Stage(op=MBConv(), channels=8),),
    head=Head(channels=16),
    resolution=16,
    num_classes=3,
    in_channels=1,
)


class Recorder(nn.Module):
    """Notes what it is called with; `log` is shared by copies."""

    log: ClassVar[list[tuple[object, ...]]] = []

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        self.log.append(
            (
                tuple(images.shape),
                torch.get_num_threads(),
                self.training,
                torch.is_grad_enabled(),
                images.dtype,
                self.layer.weight.dtype,
                images.is_contiguous(memory_format=torch.channels_last),
            )
        )
        return self.layer(images).sum()


class Failing(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, _images):
        raise self.error


@pytest.fixture
def recorder():
    Recorder.log.clear()
    return Recorder()


def test_a_pass_runs_in_eval_mode_without_gradients_as_the_settings_say(recorder):
    settings = DeviceSettings(device="cpu", batch=4, threads=2, precision="bfloat16", channels_last=True)
    run = prepare_pass(recorder, settings, input_shape=SHAPE)
    Recorder.log.clear()
    run()
    run()
    assert Recorder.log == [((4, 3, 8, 8), 2, False, False, torch.bfloat16, torch.bfloat16, True)] * 2


def test_the_module_and_the_number_of_threads_stay_as_they_were(recorder):
    before = torch.get_num_threads()
    settings = DeviceSettings(device="cpu", threads=before + 1, precision="bfloat16")
    prepare_pass(recorder, settings, input_shape=SHAPE)()
    assert recorder.training
    assert recorder.layer.weight.dtype == torch.float32
    assert torch.get_num_threads() == before


def test_the_number_of_threads_is_put_back_after_a_pass_that_fails():
    before = torch.get_num_threads()
    with pytest.raises(LatencyError, match="images of \\(3, 8, 8\\), but does not \\(RuntimeError: no such"):
        prepare_pass(
            Failing(RuntimeError("no such kernel")),
            DeviceSettings(device="cpu", threads=before + 1),
            input_shape=SHAPE,
        )
    assert torch.get_num_threads() == before


def test_a_model_that_does_not_fit_the_memory_gives_an_error_that_asks_for_a_smaller_batch():
    module = Failing(torch.OutOfMemoryError("too much"))
    with pytest.raises(LatencyError, match=r"batch 64 does not fit .*smaller batch") as caught:
        prepare_pass(module, DeviceSettings(device="cpu", batch=64), input_shape=SHAPE)
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


def test_a_network_runs_at_its_own_resolution_and_channels():
    seen = []
    hook = nn.modules.module.register_module_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    with hook:
        prepare_pass(TINY, DeviceSettings(device="cpu", batch=2))()
    assert seen[0] == (2, TINY.in_channels, TINY.resolution, TINY.resolution)


def test_a_network_runs_in_onnx_runtime_at_its_own_resolution_and_channels(monkeypatch):
    shapes = []

    class Watched(onnxruntime.InferenceSession):
        def __init__(self, model, options, providers):
            super().__init__(model, options, providers=providers)
            shapes.extend(one.shape for one in self.get_inputs())

    monkeypatch.setattr(onnxruntime, "InferenceSession", Watched)
    prepare_pass(TINY, DeviceSettings(device="onnx-cpu", batch=2))()
    ((_, *shape),) = shapes
    assert shape == [TINY.in_channels, TINY.resolution, TINY.resolution]


def test_a_session_of_onnx_runtime_has_the_threads_asked_for_and_runs_in_order(monkeypatch):
    made = []

    class Watched(onnxruntime.InferenceSession):
        def __init__(self, model, options, providers):
            made.append((options, providers))
            super().__init__(model, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Watched)
    prepare_pass(TINY, DeviceSettings(device="onnx-cpu", threads=2))()
    ((options, providers),) = made
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    assert providers == ["CPUExecutionProvider"]


def test_a_module_that_onnx_cannot_state_is_refused_in_words():
    class Jumping(nn.Module):
        def forward(self, images):
            return images if images.sum() > 0 else -images

    with pytest.raises(LatencyError, match="cannot be written as ONNX"):
        prepare_pass(Jumping(), DeviceSettings(device="onnx-cpu"), input_shape=SHAPE)


def test_the_reference_workload_leaves_the_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    prepare_reference(DeviceSettings(device="cpu", batch=8, precision="bfloat16"))()
    assert torch.equal(torch.rand(2), expected)


def test_a_module_without_the_shape_of_its_input_is_refused():
    with pytest.raises(LatencyError) as error:
        prepare_pass(nn.Identity(), DeviceSettings(device="cpu"))
    assert error.value.field == "input_shape"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"device": "tpu"}, "device"),
        ({"precision": "int8"}, "precision"),
        ({"batch": 0}, "batch"),
        ({"threads": True}, "threads"),
        ({"threads": 10_000}, "threads"),
        ({"device": "onnx-cpu", "precision": "bfloat16"}, "precision"),
        ({"device": "onnx-cuda", "channels_last": True}, "channels_last"),
    ],
)
def test_settings_that_do_not_fit_are_refused(wrong, field):
    with pytest.raises(LatencyError) as error:
        DeviceSettings(**{"device": "cpu"} | wrong)
    assert error.value.field == field


def test_settings_say_what_they_are():
    settings = DeviceSettings(device="cuda-graph", batch=8, channels_last=True)
    assert settings.text == "cuda-graph, batch 8, threads 1, float32, channels last"
    assert (settings.is_cuda, settings.is_onnx) == (True, False)
    assert DeviceSettings(device="onnx-cuda").is_onnx


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda-graph"])
def test_a_gpu_that_torch_does_not_see_is_refused(device):
    with pytest.raises(LatencyError, match=f"'{device}' was asked for, but torch .* sees no GPU"):
        prepare_pass(TINY, DeviceSettings(device=device))


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="ONNX Runtime is one for GPUs"
)
def test_an_onnx_runtime_without_cuda_is_refused():
    with pytest.raises(LatencyError, match=r"offers only .*CPUExecutionProvider: install onnxruntime-gpu"):
        prepare_pass(TINY, DeviceSettings(device="onnx-cuda"))


def test_a_missing_onnx_runtime_is_named(monkeypatch):
    really_import = builtins.__import__

    def without_onnxruntime(name, *rest, **words):
        if name == "onnxruntime":
            raise ImportError("No module named 'onnxruntime'")
        return really_import(name, *rest, **words)

    monkeypatch.setattr(builtins, "__import__", without_onnxruntime)
    with pytest.raises(LatencyError, match="needs ONNX Runtime, which cannot be imported"):
        prepare_pass(TINY, DeviceSettings(device="onnx-cpu"))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_captured_graph_gives_what_the_module_gives(precision):
    seen = []

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 3)

        def forward(self, images):
            logits = self.layer(images)
            seen.append((images, logits))
            return logits

    settings = DeviceSettings(device="cuda-graph", batch=2, precision=precision)
    run = prepare_pass(Watched(), settings, input_shape=SHAPE)
    calls = len(seen)
    images, logits = seen[-1]  # those of the capture: the graph's own memory
    expected = seen[0][1].clone()
    logits.zero_()
    run()
    assert len(seen) == calls  # a replay runs no Python
    assert torch.allclose(logits, expected, rtol=1e-2, atol=1e-2)
    assert images.is_cuda


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda", "cuda-graph"])
def test_a_pass_on_a_gpu_returns_when_the_gpu_is_done(device):
    run = prepare_pass(TINY, DeviceSettings(device=device, batch=64))
    run()
    assert torch.cuda.current_stream().query()
