"""Peak memory against the storages that are really alive while PyTorch runs the module."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from search_spaces import Head, MBConv, SearchSpace, Stage, build, choice, memory, mnasnet, reference

from .conftest import make_network

NAMES = (
    "efficientnet_b0",
    "tf_efficientnet_b0",
    "efficientnet_v2_b0",
    "mnasnet_a1",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "resnet18",
    "resnet50",
)


class LiveStorages(TorchDispatchMode):
    """Bytes of the tensor storages that are alive, and the most there ever were; weights left out."""

    def __init__(self, *ignored):
        super().__init__()
        self.ignored = {tensor.untyped_storage()._cdata for tensor in ignored}
        self.alive = {}
        self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.track(tensor.untyped_storage())
        return out

    def track(self, storage):
        key = storage._cdata
        if key not in self.ignored and key not in self.alive:
            self.alive[key] = storage.nbytes()
            self.peak = max(self.peak, sum(self.alive.values()))
            weakref.finalize(storage, self.alive.pop, key)


def size(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def inference_bytes(network):
    """Weights, image and the feature maps alive at the worst moment of a forward pass."""
    module = build(network, seed=0).eval()
    image = torch.zeros(1, network.in_channels, network.resolution, network.resolution)
    weights = [*module.parameters(), *module.buffers()]
    counters = [buffer for name, buffer in module.named_buffers() if name.endswith("num_batches_tracked")]
    with torch.no_grad(), LiveStorages(*weights, image) as storages:
        module(image)
    return size(weights) - size(counters) + size([image]) + storages.peak


def training_bytes(network, batch_size):
    """Weights, momentum, gradients and feature maps alive at the worst moment of a training step."""
    module = build(network, seed=0).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
    images = torch.randn(batch_size, network.in_channels, network.resolution, network.resolution)
    labels = torch.zeros(batch_size, dtype=torch.long)

    def step():
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(module(images), labels).backward()
        optimizer.step()

    step()
    optimizer.zero_grad(set_to_none=True)
    momentum = [optimizer.state[parameter]["momentum_buffer"] for parameter in module.parameters()]
    held = [*module.parameters(), *module.buffers(), *momentum, images]
    with LiveStorages(*held) as storages:
        step()
    return size(held) + storages.peak


@pytest.mark.parametrize("name", NAMES)
def test_peak_inference_memory_is_that_of_a_real_forward_pass(name):
    network = replace(reference(name), resolution=75)
    assert memory(network).inference_bytes == inference_bytes(network)


def test_peak_inference_memory_is_real_on_random_networks():
    rng = np.random.default_rng(0)
    small = mnasnet(resolution=32, num_classes=10, width=0.5)
    squeezed = SearchSpace(
        make_network(
            Stage(
                op=MBConv(
                    se_ratio=choice(0.0, 1.0),
                    skip=choice("identity", "pool", "none"),
                    activation=choice("gelu", "relu"),
                ),
                channels=choice(8, 64),
                repeats=choice(1, 2),
                stride=choice(1, 2),
            ),
            head=Head(channels=choice(0, 512), hidden=choice(0, 64)),
        )
    )
    for space in (small, squeezed):
        for _ in range(20):
            network = space.decode(space.sample(rng))
            assert memory(network).inference_bytes == inference_bytes(network), network


@pytest.mark.parametrize("name", NAMES)
def test_training_memory_is_estimated_within_a_fifth_and_rather_above(name):
    network = replace(reference(name), resolution=96)
    assert 0.97 <= memory(network).training_bytes(8) / training_bytes(network, 8) <= 1.2


def test_memory_of_a_batch_grows_by_its_feature_maps():
    held = memory(reference("efficientnet_b0"))
    assert held.inference_bytes_of(3) - held.inference_bytes == 2 * 4 * held.inference_values
    adam = held.training_bytes(1, optimizer_slots=2) - held.training_bytes(1, optimizer_slots=1)
    assert adam == 4 * 5_288_548


def test_arithmetic_intensity_is_higher_for_full_than_for_depthwise_convolutions():
    resnet, mobilenet = (
        memory(reference(name)).arithmetic_intensity for name in ("resnet50", "mobilenet_v2")
    )
    assert resnet > 3 * mobilenet
