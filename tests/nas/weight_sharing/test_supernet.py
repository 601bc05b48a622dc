"""Shared weights: a network's slices are its weights, wherever it is run."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import nas
from nas.weight_sharing.paths import extreme_networks
from nas.weight_sharing.supernet import Supernet
from search_spaces import (
    BasicBlock,
    Conv,
    FusedMBConv,
    Head,
    Identity,
    MBConv,
    Network,
    SearchSpace,
    Stage,
    build,
    choice,
)
from search_spaces.primitives import Call, Chain, Layer, Shape


class Scale(nn.Module):
    """Multiplies each channel, and adds a constant that is stored."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((1, channels, 1, 1), 0.5))
        self.register_buffer("shift", torch.full((1, channels, 1, 1), 0.25))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor + self.shift


@dataclass(frozen=True)
class ScaleLeaf:
    def at(self, shape: Shape) -> Layer:
        return Layer(
            out=shape, call=Call(Scale, (shape.channels,)), params=shape.channels, buffers=shape.channels
        )


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """An op of the user's own, with a layer of the user's own."""

    times: int = 1

    def layers(self, context):
        unit = context.convolution(context.out_channels, 3, stride=context.stride)
        return Chain((("unit", unit), *((f"scale{i}", ScaleLeaf()) for i in range(self.times))))


def space_of(op, **fields):
    stage = {"channels": choice(8, 12, 16), "repeats": choice(0, 1, 2), "stride": choice(1, 2)}
    template = Network(
        stem=Stage(op=Conv(), channels=choice(4, 8), stride=2),
        stages=(Stage(op=op, **stage), Stage(op=MBConv(kernel_size=choice(3, 5)), channels=8)),
        head=Head(channels=choice(8, 16), dropout=0.2),
        resolution=16,
        num_classes=3,
        drop_path_rate=0.1,
        **fields,
    )
    return SearchSpace(template, name="test")


OPS = choice(
    MBConv(
        kernel_size=choice(3, 5),
        expand_ratio=choice(1, 3, 6),
        se_ratio=choice(0.0, 0.25),
        skip=choice("identity", "none"),
    ),
    FusedMBConv(expand_ratio=choice(1, 4)),
    BasicBlock(),
    Identity(),
    Scaled(times=choice(1, 2)),
)
IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=["own", "cropped"])
def supernet(request):
    return Supernet(space_of(OPS), kernels=request.param, seed=1)


def samples(space, count=12):
    return [tuple(row) for row in space.sample_many(np.random.default_rng(0), count).tolist()]


def test_a_networks_state_dict_computes_in_build_what_its_slices_do(supernet):
    for tokens in samples(supernet.space):
        plain = build(supernet.space.decode(tokens))
        plain.load_state_dict(supernet.materialise(tokens))
        for mode in (True, False):
            supernet.train(mode)
            plain.train(mode)
            for layer in plain.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.train()  # slices always normalise by the batch
            torch.manual_seed(0)
            shared = supernet(IMAGES, tokens)
            torch.manual_seed(0)
            torch.testing.assert_close(shared, plain(IMAGES), rtol=1e-4, atol=1e-5)


def test_slices_of_the_largest_network_are_the_whole_weights_of_a_space_of_sizes():
    op = MBConv(expand_ratio=choice(2, 4))
    template = Network(
        stem=Stage(op=Conv(), channels=8),
        stages=(Stage(op=op, channels=choice(8, 16), repeats=choice(1, 2)),),
        head=Head(channels=choice(8, 16), dropout=0.0),
        resolution=8,
        num_classes=3,
    )
    supernet = Supernet(SearchSpace(template))
    _, largest = extreme_networks(supernet.space)
    state = supernet.materialise(largest)
    count = sum(
        value.numel() for name, value in state.items() if "running" not in name and "num_b" not in name
    )
    assert count == sum(parameter.numel() for parameter in supernet.parameters())


def test_gradients_arrive_only_where_a_networks_slices_lie(supernet):
    space = supernet.space
    for tokens in samples(space, 6):
        supernet.zero_grad()
        supernet.eval()
        supernet(IMAGES, tokens).square().sum().backward()
        path = supernet.path(tokens)
        covered = {}
        for one in path.slices.values():
            name = f"layers.{one.key}.{one.name}"
            covered.setdefault(name, torch.zeros(supernet.get_parameter(name).shape, dtype=torch.bool))
            region = covered[name]
            for dimension, wanted in enumerate(one.shape):
                start = (region.shape[dimension] - wanted) // 2 if dimension > 1 else 0
                region = region.narrow(dimension, start, wanted)
            region.fill_(True)
        for name, parameter in supernet.named_parameters():
            if name not in covered:
                assert parameter.grad is None
            else:
                assert parameter.grad is not None
                assert not parameter.grad[~covered[name]].any()


def test_blocks_with_a_skip_begin_as_the_skip_alone():
    space = space_of(MBConv(skip="identity"), norm_eps=1e-3)
    supernet = Supernet(space, zero_last_norm=True)
    last = [name for name, p in supernet.named_parameters() if "norm" in name and p.ndim == 1 and not p.any()]
    assert any("stage1/block1/MBConv/project/norm.weight" in name for name in last)
    assert not any("expand" in name and name.endswith("weight") for name in last)


def test_a_pickled_supernet_has_the_same_weights(supernet):
    other = pickle.loads(pickle.dumps(supernet))
    assert other.fingerprint == supernet.fingerprint
    tokens = samples(supernet.space, 1)[0]
    torch.testing.assert_close(other.eval()(IMAGES, tokens), supernet.eval()(IMAGES, tokens))


def test_weights_too_large_for_memory_are_refused_with_the_largest_branches(monkeypatch):
    monkeypatch.setattr("nas.weight_sharing.supernet.free_memory", lambda: (10_000, 10_000))
    with pytest.raises(nas.SupernetError, match=r"Parameters by stage and op: .*stage1/") as caught:
        Supernet(space_of(OPS))
    assert caught.value.field == "space"


def test_an_unknown_form_of_kernels_is_refused():
    with pytest.raises(nas.SupernetError, match="own or cropped"):
        Supernet(space_of(MBConv()), kernels="all")


def test_a_template_in_place_of_a_space_is_refused():
    with pytest.raises(nas.NasError, match="must be SearchSpace") as caught:
        Supernet(space_of(MBConv()).template)
    assert caught.value.field == "space"


class Allocations(TorchDispatchMode):
    """Counts the numbers that memory is taken for."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.empty.memory_format and made.device.type == "cpu":
            self.numbers += made.numel()
        return made


def test_a_supernet_that_another_process_sends_takes_no_memory_beside_the_weights_it_shares(supernet):
    buffers = []
    content = pickle.dumps(supernet, protocol=5, buffer_callback=buffers.append)
    with Allocations() as taken:
        sent = pickle.loads(content, buffers=buffers)
    assert taken.numbers == 0
    for name, parameter in supernet.named_parameters():
        assert sent.get_parameter(name).data_ptr() == parameter.data_ptr()
    assert sent.fingerprint == supernet.fingerprint
