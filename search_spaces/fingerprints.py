"""Says what counts in the fingerprint of a description: a field added later only where it is used."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from search_spaces.choices import Choice
from search_spaces.context import SqueezeExcite
from search_spaces.network import Network
from search_spaces.ops import Conv, DepthwiseSeparable, FusedMBConv, Identity, MBConv
from search_spaces.resnet_ops import BasicBlock, Bottleneck, ConvPool
from search_spaces.stages import Head, Stage

FIRST_VERSION: Mapping[type[Any], tuple[str, ...]] = {
    BasicBlock: ("kernel_size", "se_ratio", "activation"),
    Bottleneck: ("kernel_size", "reduction", "se_ratio", "activation"),
    Conv: ("kernel_size", "se_ratio", "skip", "activation"),
    ConvPool: ("kernel_size", "pool_stride", "activation"),
    DepthwiseSeparable: ("kernel_size", "se_ratio", "skip", "activation", "is_linear"),
    FusedMBConv: ("kernel_size", "expand_ratio", "se_ratio", "skip", "activation"),
    Head: ("channels", "dropout", "hidden"),
    Identity: (),
    MBConv: ("kernel_size", "expand_ratio", "se_ratio", "skip", "activation"),
    Network: (
        *("stem", "stages", "head", "resolution", "num_classes", "in_channels", "activation", "norm_eps"),
        *("norm_momentum", "drop_path_rate", "padding", "squeeze_excite"),
    ),
    SqueezeExcite: ("width_of", "divisor", "activation", "gate"),
    Stage: ("op", "channels", "repeats", "stride"),
}
"""Fields of our own classes when fingerprints were first written to disk; new fields are not added here."""


def counted_fields(value: Any, first_version: Collection[str] | None) -> dict[str, Any]:
    """The fields of a dataclass that count in its fingerprint, in the order of the class.

    Fields of the first version always count, so that a changed default is another description. A field that
    was added later counts only where it differs from its default: what was made before it existed keeps its
    fingerprint, and the studies made with it can be resumed.

    Args:
        value: A dataclass instance.
        first_version: Names of the fields in the first version of its class; None where all of them are.
    """
    found = {field.name: (getattr(value, field.name), field.default) for field in fields(value)}
    return {
        name: here
        for name, (here, default) in found.items()
        if first_version is None or name in first_version or default is MISSING or here != default
    }


def template_text(template: Network) -> str:
    """Writes a template with its choices as one line: equal for equal search spaces.

    A user's own op counts with all its fields.
    """
    return _text(template, {})


def _text(value: object, numbers: dict[Choice, int]) -> str:
    if isinstance(value, Choice):
        if value in numbers:
            return f"choice#{numbers[value]}"
        number = numbers[value] = len(numbers)
        return f"choice#{number}({','.join(_text(option, numbers) for option in value.options)})"
    if is_dataclass(value) and not isinstance(value, type):
        counted = counted_fields(value, FIRST_VERSION.get(type(value)))
        inner = ",".join(f"{name}={_text(item, numbers)}" for name, item in counted.items())
        return f"{type(value).__qualname__}({inner})"
    if isinstance(value, tuple):
        return f"({','.join(_text(item, numbers) for item in value)})"
    return repr(value)
