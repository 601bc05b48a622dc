"""Exports one of our networks for timm: its arguments as data, and a module that builds it.

It does without timm itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from nas.errors import ExportError
from nas.io import fresh_folder
from nas.version import package_version
from search_spaces import (
    Conv,
    DepthwiseSeparable,
    FusedMBConv,
    MBConv,
    Network,
    SpaceError,
    SqueezeExcite,
    build,
    cost,
    round_channels,
)
from search_spaces.notation import Coded, to_strings
from search_spaces.ops import Op, hidden_channels

DATA, SOURCE = "timm.json", "timm_model.py"
FILES = (DATA, SOURCE)
FORMAT = "nas.timm/1"

PLAIN_STRIDE = 32
"""Stride of the whole up to which both of timm's classes keep strides; MobileNetV3 then makes dilations."""

BUNDLE = "export the network as a bundle, which can hold every network"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimmArguments:
    """The arguments with which timm builds a network, by timm's names, and what the network is.

    Attributes:
        network: Digest of the network.
        resolution: Side of its images, pixels.
        params: Its parameters.
        macs: Its multiply-adds.
        model: timm's class: "EfficientNet", or "MobileNetV3" where the head has a hidden layer.
        arch_def: Block strings, each stage in a list of its own, so that timm keeps its stride.
        num_classes: Number of logits.
        in_chans: Channels of the image.
        stem_size: Channels of the stem.
        stem_kernel_size: Side of the stem's kernel.
        num_features: Channels of the last 1x1 convolution, 0 for none; MobileNetV3's are the hidden layer's.
        act_layer: Name of the activation.
        norm_eps: Added to the variance by batch normalisation.
        norm_momentum: Weight of the newest batch in running statistics.
        pad_type: "" for symmetric padding, "same" for TensorFlow's.
        drop_rate: Rate of dropout before the classifier.
        drop_path_rate: Rate of stochastic depth that timm counts from.
        output_stride: Up to which timm keeps strides as strides.
        se_from_exp: Whether `se` in the strings is a share of the expanded channels.
        se_act_layer: Name of the activation in squeeze-and-excitation; None is the block's.
        se_gate_layer: Name of its gate.
        se_divisor: What squeezed channels are rounded to a multiple of; with 1 to the nearest integer.
    """

    network: str
    resolution: int
    params: int
    macs: int
    model: str
    arch_def: tuple[tuple[str, ...], ...]
    num_classes: int
    in_chans: int
    stem_size: int
    stem_kernel_size: int
    num_features: int
    act_layer: str
    norm_eps: float
    norm_momentum: float
    pad_type: str
    drop_rate: float
    drop_path_rate: float
    output_stride: int
    se_from_exp: bool
    se_act_layer: str | None
    se_gate_layer: str
    se_divisor: int

    def to_json(self, state_dict: tuple[str, ...] = ()) -> str:
        """The arguments as JSON text.

        Args:
            state_dict: Names of our own tensors, in the order of timm's; they are added.
        """
        return json.dumps({"format": FORMAT, **asdict(self), "state_dict": state_dict}, indent=1)

    def to_source(self) -> str:
        """A Python module whose `build()` makes the network, importing timm and torch."""
        uses_squeeze = (self.se_act_layer, self.se_gate_layer, self.se_divisor) != (None, "sigmoid", 1)
        layers = ["get_act_layer", *(["make_divisible"] if self.se_divisor != 1 else [])]
        blocks = "from timm.models._efficientnet_blocks import SqueezeExcite\n" if uses_squeeze else ""
        return MODULE.format(
            model=self.model,
            home=self.model.lower(),
            network=self.network,
            images=f"(batch, {self.in_chans}, {self.resolution}, {self.resolution})",
            logits=f"(batch, {self.num_classes})",
            params=f"{self.params:,}",
            macs=f"{self.macs:,}",
            made_with=f"mnas {package_version()}",
            layers=", ".join(layers),
            blocks=blocks,
            arch_def="\n".join(f"    {json.dumps(list(stage))}," for stage in self.arch_def),
            arguments="\n".join(f"        {line}," for line in self._lines(uses_squeeze=uses_squeeze)),
        )

    def _lines(self, *, uses_squeeze: bool) -> list[str]:
        """The arguments of the call, as written; those at timm's default that timm 1.0 lacks are left out."""
        norm = f"partial(nn.BatchNorm2d, eps={self.norm_eps!r}, momentum={self.norm_momentum!r})"
        lines = [
            f"num_classes={self.num_classes}",
            f"in_chans={self.in_chans}",
            f"stem_size={self.stem_size}",
            f"num_features={self.num_features}",
            "round_chs_fn=int",
            f'act_layer=get_act_layer("{self.act_layer}")',
            f"norm_layer={norm}",
            f'pad_type="{self.pad_type}"',
            f"drop_rate={self.drop_rate!r}",
            f"drop_path_rate={self.drop_path_rate!r}",
        ]
        lines += [f"stem_kernel_size={self.stem_kernel_size}"] if self.stem_kernel_size != 3 else []
        lines += [f"output_stride={self.output_stride}"] if self.output_stride != PLAIN_STRIDE else []
        lines += [f"se_from_exp={self.se_from_exp}"] if self.model == "MobileNetV3" else []
        return [*lines, f"se_layer={self._squeeze()}"] if uses_squeeze else lines

    def _squeeze(self) -> str:
        words = [f'gate_layer="{self.se_gate_layer}"']
        words += [f'force_act_layer=get_act_layer("{self.se_act_layer}")'] if self.se_act_layer else []
        words += [f"rd_round_fn=partial(make_divisible, divisor={self.se_divisor})"] * (self.se_divisor != 1)
        return f"partial(SqueezeExcite, {', '.join(words)})"


MODULE = '''\
"""Network {network}, built by timm: {params} parameters, {macs} multiply-adds.

Made with {made_with}; needs torch and timm:

    from timm_model import build, load
    model = build()                              # freshly initialised, in training mode
    model = load("bundle/weights.safetensors")   # trained, in evaluation mode
    logits = model(images)                       # {images} -> {logits}

`load` takes the weights of the bundle of the same network. Their tensors have other names there, and the same
order: timm.json has the names.
"""

import json
from functools import partial
from pathlib import Path

from timm.layers import {layers}
{blocks}from timm.models._efficientnet_builder import decode_arch_def
from timm.models.{home} import {model}
from torch import nn

ARCH_DEF = [
{arch_def}
]


def build() -> {model}:
    """Makes the network; `round_chs_fn=int` keeps the channels, which timm rounds to multiples of 8."""
    return {model}(
        decode_arch_def(ARCH_DEF),
{arguments}
    )


def load(weights: str, names: str | None = None) -> {model}:
    """Makes the network with trained weights.

    Args:
        weights: The file `weights.safetensors` of the network's bundle.
        names: The file `timm.json`; by default beside this one.
    """
    from safetensors.torch import load_file

    data = json.loads(Path(names or Path(__file__).parent / "timm.json").read_text(encoding="utf-8"))
    model, ours = build(), load_file(weights)
    if set(ours) != set(data["state_dict"]):
        raise ValueError(f"{{weights}} holds other tensors than those of network {network}")
    tensors = {{}}
    for (name, old), other in zip(model.state_dict().items(), data["state_dict"], strict=True):
        ones = (1,) * (old.ndim - ours[other].ndim)  # for a linear layer that is a 1x1 convolution here
        tensors[name] = ours[other].reshape((*ours[other].shape, *ones))
    model.load_state_dict(tensors)
    return model.eval()
'''


def timm_arguments(network: Network) -> TimmArguments:
    """The arguments with which timm builds the same network: equal layers, and its parameters in our order.

    Raises:
        ExportError: timm has no such stem or op, or would build other numbers of channels; names the stage,
            the field and the remedy.
        SpaceError: The network cannot be lowered.
    """
    costs = cost(network)
    try:
        stages = tuple(replace(stage, op=_plain(stage.op)) for stage in network.stages)
        strings = to_strings(replace(network, stages=stages), "timm", squeeze_excite=network.squeeze_excite)
    except SpaceError as error:
        raise ExportError(f"timm cannot build this network: {error} (or {BUNDLE})") from error
    head, form = network.head, network.squeeze_excite
    is_v3 = head.hidden > 0
    output_stride = 2 * math.prod(stage.stride for stage in network.stages if stage.repeats)
    stem_kernel_size = _stem_kernel(network, is_v3=is_v3)
    _check_stages(network, is_v3=is_v3)
    if is_v3 and output_stride > PLAIN_STRIDE:
        raise _refusal(f"strides of {PLAIN_STRIDE} in all before a hidden layer", str(output_stride), "head")
    arch_def = tuple((text,) for text in strings)
    drop_path_rate = network.drop_path_rate
    if is_v3 and head.channels:
        # In MobileNetV3 this convolution is a stage, which timm counts among the blocks of stochastic depth.
        arch_def += ((f"cn_r1_k1_s1_c{head.channels}",),)
        blocks = sum(stage.repeats for stage in network.stages)
        drop_path_rate *= (blocks + 1) / blocks
    return TimmArguments(
        network=network.digest,
        resolution=network.resolution,
        params=costs.params,
        macs=costs.macs,
        model="MobileNetV3" if is_v3 else "EfficientNet",
        arch_def=arch_def,
        num_classes=network.num_classes,
        in_chans=network.in_channels,
        stem_size=network.stem.channels,
        stem_kernel_size=stem_kernel_size,
        num_features=head.hidden if is_v3 else head.channels,
        act_layer=network.activation,
        norm_eps=network.norm_eps,
        norm_momentum=network.norm_momentum,
        pad_type="same" if network.padding == "same" else "",
        drop_rate=head.dropout,
        drop_path_rate=drop_path_rate,
        output_stride=max(PLAIN_STRIDE, output_stride),
        se_from_exp=is_v3 and form.width_of == "expanded",
        se_act_layer=form.activation,
        se_gate_layer=form.gate,
        se_divisor=form.divisor,
    )


def _plain(op: Op) -> Op:
    """The same layers by the op that block strings name, whose layers have other names here."""
    if type(op) is Conv and op.skip == "identity" and not op.se_ratio:
        return FusedMBConv(kernel_size=op.kernel_size, expand_ratio=1, activation=op.activation)
    if type(op) is FusedMBConv and op.expand_ratio == 1 and op.skip == "none" and not op.se_ratio:
        return Conv(kernel_size=op.kernel_size, activation=op.activation)
    return op


def _stem_kernel(network: Network, *, is_v3: bool) -> int:
    """The side of the stem's kernel, if the stem is timm's: convolution with stride 2, norm, activation."""
    stem, op = network.stem, network.stem.op
    if type(op) is not Conv:
        raise _refusal("a stem of one Conv", f"op={op!r}", "stem")
    has_pool = op.skip == "pool" and network.in_channels == stem.channels
    rules = (
        (stem.stride == 2, "a stem with stride=2", f"stride={stem.stride}"),
        (stem.repeats == 1, "a stem with repeats=1", f"repeats={stem.repeats}"),
        (not op.se_ratio, "a stem with se_ratio=0", f"se_ratio={op.se_ratio}"),
        (not has_pool, "a stem without pooling", f"skip={op.skip!r}"),
        (
            op.activation in (None, network.activation),
            f"the network's activation, {network.activation}, in the stem",
            f"activation={op.activation!r}",
        ),
        (
            op.kernel_size == 3 or not is_v3,
            "a stem with kernel_size=3 where the head has a hidden layer",
            f"kernel_size={op.kernel_size}",
        ),
    )
    for holds, rule, got in rules:
        if not holds:
            raise _refusal(rule, got, "stem")
    return op.kernel_size


def _refusal(rule: str, got: str, place: str) -> ExportError:
    return ExportError(f"timm builds only networks with {rule}, but got {got} in {place}: {BUNDLE}")


def _check_stages(network: Network, *, is_v3: bool) -> None:
    """Checks that timm's arithmetic gives the channels that ours gives."""
    arriving = network.stem.channels
    for name, stage in list(network.present_stages())[1:]:
        op = stage.op.general() if isinstance(stage.op, DepthwiseSeparable) else stage.op
        for channels in (arriving, stage.channels)[: stage.repeats]:
            for what, ours, timms in _channels(op, channels, network.squeeze_excite, is_v3=is_v3):
                if ours != timms:
                    raise ExportError(
                        f"timm would build another network: {timms} {what} channels where {channels} arrive, "
                        f"but they are {ours} in {name}; use multiples of 8 as channels, or {BUNDLE}"
                    )
        arriving = stage.channels


def _channels(op: Op, arriving: int, form: SqueezeExcite, *, is_v3: bool) -> Iterator[tuple[str, int, int]]:
    """The numbers of channels within a block that are worked out: which, ours, timm's.

    timm rounds hidden channels to multiples of 8 always, and squeezes from them, by the ratio over the
    expansion unless set to take the ratio of them.
    """
    expand = op.expand_ratio if isinstance(op, MBConv | FusedMBConv) else 1
    hidden = timms = hidden_channels(arriving, expand)
    if expand != 1:
        timms = round_channels(arriving * expand)
        yield "hidden", hidden, timms
    if isinstance(op, Coded) and op.se_ratio:
        from_expanded = form.width_of == "expanded"
        share = op.se_ratio if is_v3 and from_expanded else op.se_ratio / expand
        exact = timms * share
        squeezed = round(exact) if form.divisor == 1 else round_channels(exact, form.divisor)
        yield "squeezed", form.width(hidden if from_expanded else arriving, op.se_ratio), squeezed


@dataclass(frozen=True, slots=True, kw_only=True)
class TimmExport:
    """What was written for timm.

    Attributes:
        folder: Where it is.
        files: Names of the files in it.
        size_bytes: Their size together.
        arguments: What they say.
    """

    folder: Path
    files: tuple[str, ...]
    size_bytes: int
    arguments: TimmArguments


def export_timm(folder: Path | str, network: Network, *, overwrite: bool = False) -> TimmExport:
    """Writes `timm.json` and `timm_model.py`, with which timm builds a network.

    Args:
        folder: Where to; it must not exist, be empty, or be such an export that may be overwritten.
        network: The network; its weights stay where they are.
        overwrite: Replaces an export that is there already.

    Raises:
        ExportError: timm cannot build the network, or the folder cannot be written.
        SpaceError: The network cannot be lowered.
    """
    arguments = timm_arguments(network)
    place = Path(folder).expanduser()
    with fresh_folder(place.resolve(), FILES, is_replaced=overwrite) as fresh:
        (fresh / DATA).write_text(arguments.to_json(_tensors(network)) + "\n", encoding="utf-8")
        (fresh / SOURCE).write_text(arguments.to_source(), encoding="utf-8")
        size_bytes = sum((fresh / name).stat().st_size for name in FILES)
    return TimmExport(folder=place, files=FILES, size_bytes=size_bytes, arguments=arguments)


def _tensors(network: Network) -> tuple[str, ...]:
    """Names of the network's tensors, in the order of its layers, which is that of timm's."""
    import torch

    with torch.device("meta"):
        return tuple(build(network, seed=0).state_dict())
