"""What block strings mean as stages: MnasNet's dialect and timm's, read and written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import get_args

from search_spaces.block_strings import DIALECTS, TIMM_ACTIVATIONS, BlockString, split_all
from search_spaces.choices import has_choice
from search_spaces.context import SqueezeExcite
from search_spaces.errors import SpaceError, located, require_one_of
from search_spaces.network import IN_INPUT, Network
from search_spaces.ops import Conv, DepthwiseSeparable, FusedMBConv, MBConv, hidden_channels
from search_spaces.stages import Head, Stage

Coded = MBConv | FusedMBConv | DepthwiseSeparable | Conv
"""The ops that block strings name."""


def parse(
    block_strings: Sequence[str] | Sequence[Sequence[str]],
    stem: int | Stage = 32,
    head: int | Head = 1280,
    resolution: int = 224,
    num_classes: int = 1000,
    *,
    activation: str = "swish",
    in_channels: int = 3,
    norm_eps: float = 1e-3,
    norm_momentum: float = 0.01,
    drop_path_rate: float = 0.0,
    padding: str = "symmetric",
    squeeze_excite: SqueezeExcite = IN_INPUT,
) -> Network:
    """Reads the network that block strings describe, each string one stage.

    ====================================  ===============================  ==========================
    op                                    MnasNet's dialect                timm's
    ====================================  ===============================  ==========================
    `MBConv`                              `r2_k3_s22_e6_i16_o24_se0.25`    `ir_r2_k3_s2_e6_c24_se0.25`
    `MBConv(expand_ratio=1)`              `r1_k3_s11_e1_i32_o16_noskip`    `ds_r1_k3_s1_c16_noskip`
    `FusedMBConv`                         `r4_k3_s2_e4_i24_o48_c1`         `er_r4_k3_s2_e4_c48`
    `FusedMBConv(expand_ratio=1)`         `r2_k3_s1_e1_i24_o24_c1`         `cn_r2_k3_s1_c24_skip`
    `Conv`                                                                 `cn_r1_k1_s1_c960`
    `DepthwiseSeparable(is_linear=False)`                                  `dsa_r2_k3_s2_c128`
    ====================================  ===============================  ==========================

    `se` is a share of the block's input channels, unless `squeeze_excite` says otherwise. MnasNet's strides
    have two digits, EfficientNetV2's one; `i` must be the channels that arrive. Only the first string may
    declare others than the stem gives, as MnasNet-small's does, and only where they decide nothing but the
    skip: there is one if `i` equals `o`.

    Args:
        block_strings: Strings of one dialect; timm's may stand in lists of their own, as in its `arch_def`.
        stem: Channels of a 3x3 convolution with stride 2, or the stem itself.
        head: Channels of the last 1x1 convolution, or the head itself.
        resolution: Side of the square image, pixels.
        num_classes: Number of logits.
        activation: That of the network; MnasNet's `a0`, `a1` (relu, swish) and timm's `nre` overrule it.
        in_channels: Channels of the image.
        norm_eps: As in `Network`, like all that follow.
        norm_momentum: Likewise.
        drop_path_rate: Likewise.
        padding: Likewise.
        squeeze_excite: Likewise.

    Raises:
        SpaceError: A string is in neither dialect or in another than the first, lacks a field, has one twice,
            unknown or out of range, or means a block that no op is; names stage, string and field.

    Source: the decoders of tensorflow/tpu (`mnasnet_models.py`, `efficientnet_builder.py`), google/automl
    (`effnetv2_configs.py`) and timm (`_efficientnet_builder.py`).
    """
    first = stem if isinstance(stem, Stage) else Stage(op=Conv(), channels=stem, stride=2)
    with located("stem"):
        first.check()
    stages: list[Stage] = []
    for said in split_all(block_strings):
        if said.kind == "mnasnet":
            arriving = stages[-1].channels if stages else first.channels
            stages.append(_read_mnasnet(said, arriving, is_first=not stages))
        else:
            stages.append(_read_timm(said))
    return Network(
        stem=first,
        stages=tuple(stages),
        head=head if isinstance(head, Head) else Head(channels=head),
        resolution=resolution,
        num_classes=num_classes,
        in_channels=in_channels,
        activation=activation,
        norm_eps=norm_eps,
        norm_momentum=norm_momentum,
        drop_path_rate=drop_path_rate,
        padding=padding,
        squeeze_excite=squeeze_excite,
    )


def _read_mnasnet(said: BlockString, arriving: int, *, is_first: bool) -> Stage:
    channels, skip = said.whole("o"), said.word("skip") or "identity"
    if said.whole("i") != arriving:
        skip = _declared_skip(said, arriving, skip, is_first=is_first)
    activation = {None: None, 0: "relu", 1: "swish"}[said.switch("a")]
    op_type = FusedMBConv if said.switch("c") else MBConv
    op = op_type(
        kernel_size=said.whole("k"),
        expand_ratio=said.whole("e"),
        se_ratio=float(said.number("se", 0)),
        skip=skip,
        activation=activation,
    )
    return Stage(op=op, channels=channels, repeats=said.whole("r"), stride=said.stride())


def _declared_skip(said: BlockString, arriving: int, skip: str, *, is_first: bool) -> str:
    """The skip where a string declares other input channels than arrive.

    TensorFlow's code takes the skip by the declaration, and hidden and squeezed channels too.
    """
    rule = f"must be the {arriving} channels that arrive"
    if not is_first:
        raise said.mistake("i", f"{rule} from the stage before")
    declared, channels, keeps_size = said.whole("i"), said.whole("o"), said.stride() == 1
    rule += f" (or give stem={declared})"
    if said.whole("e") != 1 or said.number("se", 0):
        raise said.mistake("i", f"{rule} where hidden or squeezed channels are a share of it")
    if keeps_size and skip == "identity" and declared == channels:
        raise said.mistake("i", f"{rule} where it equals `o` and so declares a skip")
    if keeps_size and skip == "identity" and arriving == channels:
        if said.whole("r") != 1:
            raise said.mistake("i", f"{rule} where it would forbid the skip of one of several blocks")
        return "none"
    return skip


def _read_timm(said: BlockString) -> Stage:
    kind, expand, stride = said.kind, said.number("e", 1), said.stride()
    if said.is_later and stride != 1:
        raise said.mistake("s", "must be 1 behind another string of a list, where timm makes it 1")
    if expand != 1 and kind in ("ds", "dsa", "cn"):
        raise said.mistake("e", f"must be 1 or left out in `{kind}`, which expands nothing")
    if expand == 1 and kind in ("ir", "er"):
        other = {"ir": "`ds` has no expansion", "er": "`cn` with `skip` is one convolution"}[kind]
        raise said.mistake("e", f"must be more than 1 in `{kind}`, timm's expands even then ({other})")
    kernel, activation, skip = said.whole("k"), said.word("n"), said.word("skip")
    se = float(said.number("se", 0))
    op: Coded
    if kind == "dsa":
        op = DepthwiseSeparable(
            kernel_size=kernel, se_ratio=se, skip="none", activation=activation, is_linear=False
        )
    elif kind == "cn" and skip != "identity":
        op = Conv(kernel_size=kernel, activation=activation)
    else:
        op_type = MBConv if kind in ("ds", "ir") else FusedMBConv
        op = op_type(
            kernel_size=kernel,
            expand_ratio=expand,
            se_ratio=se,
            skip=skip or "identity",
            activation=activation,
        )
    return Stage(op=op, channels=said.whole("c"), repeats=said.whole("r"), stride=stride)


def to_strings(
    network: Network, dialect: str = "mnasnet", *, squeeze_excite: SqueezeExcite = IN_INPUT
) -> tuple[str, ...]:
    """Writes the stages of a network as block strings, one each, from which `parse` reads the same network.

    A stage without blocks has no string. `parse` is given the same stem, head, activation and so on, which
    no string says. MnasNet's strides have two digits, and one where a block is fused, as in EfficientNetV2's
    code (which knows no `noskip`). A reader of timm's own rounds hidden channels to multiples of 8, which
    widths that are such multiples do not feel.

    Args:
        network: What to write.
        dialect: "mnasnet" or "timm".
        squeeze_excite: How the reader takes `se`; the default is how MnasNet's and EfficientNet's code does.

    Raises:
        SpaceError: The dialect cannot say an op or one of its fields; names stage and field.
    """
    require_one_of("dialect", dialect, tuple(DIALECTS))
    if has_choice(network):
        raise SpaceError(
            "open choices have no block strings: decode the template with SearchSpace first", field="network"
        )
    strings: list[str] = []
    arriving = network.stem.channels
    _, *stages = network.present_stages()
    if not stages:
        raise SpaceError(
            "block strings need at least one stage with blocks, but every stage is absent: keep the network "
            "as JSON",
            field="network",
        )
    for name, stage in stages:
        writer = _Writer(network, stage, arriving, dialect, squeeze_excite)
        with located(name):
            strings.append(writer.mnasnet() if dialect == "mnasnet" else writer.timm())
        arriving = stage.channels
    return tuple(strings)


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes one stage.

    Attributes:
        network: What it is a stage of.
        stage: The stage.
        arriving: Channels of its input.
        dialect: One of `DIALECTS`.
        reader: How the reader takes `se`.
    """

    network: Network
    stage: Stage
    arriving: int
    dialect: str
    reader: SqueezeExcite

    def mnasnet(self) -> str:
        """The stage in MnasNet's dialect."""
        stage, op = self.stage, self._op()
        if not isinstance(op, MBConv | FusedMBConv):
            raise self._unsayable(f"op={op!r}", "use MBConv or FusedMBConv")
        if op.activation not in (None, self.network.activation):
            raise self._unsayable(
                f"activation={op.activation!r}", "leave it to the network, or use timm's dialect"
            )
        if op.expand_ratio != int(op.expand_ratio):
            raise self._unsayable(f"expand_ratio={op.expand_ratio}", "use a whole number, or timm's dialect")
        has_fused = any(type(other.op) is FusedMBConv for _, other in self.network.present_stages())
        fields = [
            f"r{stage.repeats}",
            f"k{op.kernel_size}",
            f"s{stage.stride}" if has_fused else f"s{stage.stride}{stage.stride}",
            f"e{int(op.expand_ratio)}",
            f"i{self.arriving}",
            f"o{stage.channels}",
            *self._se(op),
        ]
        fields += ["c1"] if isinstance(op, FusedMBConv) else []
        return "_".join([*fields, *(["noskip"] if op.skip == "none" else [])])

    def timm(self) -> str:
        """The stage in timm's dialect."""
        stage, op = self.stage, self._op()
        expand = op.expand_ratio if isinstance(op, MBConv | FusedMBConv) else 1
        match op:
            case MBConv():
                kind = "ds" if expand == 1 else "ir"
            case FusedMBConv():
                kind = "cn" if expand == 1 else "er"
            case DepthwiseSeparable():
                kind = "dsa"
            case Conv():
                kind = "cn"
        if kind == "cn" and op.se_ratio:
            raise self._unsayable(f"se_ratio={op.se_ratio} of {op!r}", "use se_ratio=0, or another op")
        fields = [kind, f"r{stage.repeats}", f"k{op.kernel_size}", f"s{stage.stride}"]
        fields += [f"e{_decimal(expand)}"] if expand != 1 else []
        fields += [f"c{stage.channels}", *self._se(op), *self._activation(op)]
        return "_".join([*fields, *self._timm_skip(op, kind)])

    def _timm_skip(self, op: Coded, kind: str) -> list[str]:
        if kind not in ("cn", "dsa"):
            return ["noskip"] if op.skip == "none" else []
        fixed = "identity" if isinstance(op, FusedMBConv) else "none"
        if op.skip != fixed and self._keeps_shape:
            other = (
                {"cn": "FusedMBConv(expand_ratio=1)", "dsa": "MBConv"}[kind] if fixed == "none" else "Conv"
            )
            raise self._unsayable(f"skip={op.skip!r} of {op!r}", f"use skip={fixed!r}, or {other}")
        return ["skip"] if fixed == "identity" else []

    def _op(self) -> Coded:
        """The op, if a dialect knows its class and its skip."""
        op = self.stage.op
        if type(op) is DepthwiseSeparable:
            op = op.general()
        if not isinstance(op, Coded) or type(op) not in get_args(Coded):
            raise self._unsayable(f"op={op!r}", "keep the network as JSON, which says every op")
        if op.skip == "pool" and (self.stage.repeats > 1 or self.arriving == self.stage.channels):
            raise self._unsayable("skip='pool'", "use 'identity' or 'none'")
        return op

    @property
    def _keeps_shape(self) -> bool:
        """Whether an identity skip can stand in any of the blocks."""
        return self.stage.repeats > 1 or (self.stage.stride == 1 and self.arriving == self.stage.channels)

    def _se(self, op: Coded) -> list[str]:
        if not op.se_ratio:
            return []
        for arriving in (self.arriving, self.stage.channels)[: self.stage.repeats]:
            meant = _squeezed(op, arriving, self.network.squeeze_excite)
            read = _squeezed(op, arriving, self.reader)
            if meant != read:
                raise self._unsayable(
                    f"se_ratio={op.se_ratio} where it squeezes {arriving} input channels to {meant}",
                    f"{read} would be read; use SqueezeExcite() in the network, or tell `squeeze_excite` how "
                    "the reader takes it",
                )
        return [f"se{_decimal(op.se_ratio)}"]

    def _activation(self, op: Coded) -> list[str]:
        if op.activation in TIMM_ACTIVATIONS:
            return [TIMM_ACTIVATIONS[op.activation]]
        if op.activation in (None, self.network.activation):
            return []
        raise self._unsayable(f"activation={op.activation!r}", f"use one of {', '.join(TIMM_ACTIVATIONS)}")

    def _unsayable(self, what: str, remedy: str) -> SpaceError:
        return SpaceError(f"{DIALECTS[self.dialect]} dialect cannot say {what}: {remedy}")


def _squeezed(op: Coded, arriving: int, form: SqueezeExcite) -> int:
    """Squeezed channels of a block."""
    expand = op.expand_ratio if isinstance(op, MBConv | FusedMBConv) else 1
    return form.width(
        arriving if form.width_of == "input" else hidden_channels(arriving, expand), op.se_ratio
    )


def _decimal(value: float) -> str:
    """The exact number without exponent."""
    return str(int(value)) if value == int(value) else format(Decimal(repr(value)), "f")
