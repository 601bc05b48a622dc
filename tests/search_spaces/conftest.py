from dataclasses import dataclass

import pytest

from search_spaces import Context, Conv, Head, Network, SpaceError, Stage
from search_spaces.primitives import Call, Chain, Layer, Shape


def make_network(*stages, **fields):
    """A small network around the given stages."""
    values = {
        "stem": Stage(op=Conv(), channels=8, stride=2),
        "stages": stages,
        "head": Head(channels=32),
        "resolution": 16,
        "num_classes": 4,
    }
    return Network(**{**values, **fields})


@dataclass(frozen=True, slots=True, kw_only=True)
class Shuffle:
    """A user's own leaf: channel shuffle, from a module class of the user's own."""

    groups: int

    def at(self, shape: Shape) -> Layer:
        from shuffle_module import ChannelShuffle

        return Layer(out=shape, call=Call(ChannelShuffle, (self.groups,)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffleOp:
    """A user's own op: grouped convolution and channel shuffle."""

    groups: int = 2

    def check(self) -> None:
        if self.groups not in (1, 2, 4):
            raise SpaceError(f"`groups in (1, 2, 4)` must hold, but got groups={self.groups}")

    def layers(self, context: Context) -> Chain:
        unit = context.convolution(context.out_channels, 3, stride=context.stride, groups=self.groups)
        return Chain((*unit.layers, ("shuffle", Shuffle(groups=self.groups))))


@pytest.fixture
def shuffle_op(tmp_path, monkeypatch):
    """The user's op, with its module class in a file that can be imported."""
    (tmp_path / "shuffle_module.py").write_text(
        "import torch\nfrom torch import nn\n\n\n"
        "class ChannelShuffle(nn.Module):\n"
        '    """Interleaves the groups of channels."""\n\n'
        "    def __init__(self, groups):\n"
        "        super().__init__()\n"
        "        self.groups = groups\n\n"
        "    def forward(self, x):\n"
        "        return torch.nn.functional.channel_shuffle(x, self.groups)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return ShuffleOp
