"""Owns the text forms of a network: JSON, and the table that people read.

Does not own exported source (`search_spaces.source`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar

from search_spaces.errors import SpaceError
from search_spaces.network import Head, Network, Stage, lower
from search_spaces.ops import BUILT_IN_OPS, Op, op_label

N = TypeVar("N", bound=Network)
FORMAT = "search_spaces.network/1"


def op_name(op_type: type[Op]) -> str:
    """The name an op has in JSON: `module:Class`."""
    return f"{op_type.__module__}:{op_type.__qualname__}"


def network_to_json(network: Network) -> str:
    """The network as JSON text with sorted structure: equal networks give equal texts."""
    return json.dumps({"format": FORMAT, **_to_data(network)}, indent=1)


def _to_data(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        data = {field.name: _to_data(getattr(value, field.name)) for field in fields(value)}
        own = isinstance(value, Network | Stage | Head)
        return data if own else {"op": op_name(type(value)), **data}  # type: ignore[arg-type]
    if isinstance(value, tuple):
        return [_to_data(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise SpaceError(f"a field must be a number, a word, a tuple or an op to be written, but got {value!r}")


def network_from_json(cls: type[N], text: str, op_types: tuple[type[Op], ...]) -> N:
    """Reads what `network_to_json` wrote.

    Raises:
        SpaceError: It is no JSON, has missing or unknown fields, an unknown op, or breaks a law.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise SpaceError(f"an architecture must be JSON, but {error}") from None
    if not isinstance(data, dict) or data.pop("format", None) != FORMAT:
        raise SpaceError(f'an architecture must be a JSON object with "format": "{FORMAT}"')
    ops = {op_name(op_type): op_type for op_type in (*BUILT_IN_OPS, *op_types)}
    values = _fields_of(cls, data, "network")
    stages = values.get("stages")
    if not isinstance(stages, list):
        raise SpaceError(f"`stages` must be a list, but got {stages!r}")
    values["stem"] = _stage(values["stem"], ops, "stem")
    values["stages"] = tuple(_stage(stage, ops, f"stage{n}") for n, stage in enumerate(stages, start=1))
    values["head"] = Head(**_fields_of(Head, values["head"], "head"))
    return cls(**values)


def _stage(data: object, ops: Mapping[str, type[Op]], place: str) -> Stage:
    values = _fields_of(Stage, data, place)
    values["op"] = _op(values["op"], ops, place)
    return Stage(**values)


def _op(data: object, ops: Mapping[str, type[Op]], place: str) -> Any:
    if not isinstance(data, dict) or "op" not in data:
        raise SpaceError(f'an op must be an object with a field "op", but got {data!r} in {place}')
    data = dict(data)
    name = data.pop("op")
    if name not in ops:
        raise SpaceError(
            f"op {name!r} in {place} is not known here: it is none of {', '.join(ops)}; "
            "give the class in `op_types`, or the file of the user's own space"
        )
    values = _fields_of(ops[name], data, place)
    return ops[name](**{key: _op_value(value, ops, place) for key, value in values.items()})


def _op_value(value: object, ops: Mapping[str, type[Op]], place: str) -> object:
    if isinstance(value, list):
        return tuple(_op_value(item, ops, place) for item in value)
    return _op(value, ops, place) if isinstance(value, dict) else value


def _fields_of(cls: type[Any], data: object, place: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise SpaceError(f"{place} must be an object, but got {data!r}")
    known = [field.name for field in fields(cls)]
    if set(data) != set(known):
        unknown, missing = sorted(set(data) - set(known)), sorted(set(known) - set(data))
        raise SpaceError(f"{place} must have just the fields {known}: unknown {unknown}, missing {missing}")
    return dict(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a network's table.

    Attributes:
        stage: Its name in the module.
        operator: The op, as the papers write it.
        resolution: Side of the stage's *input*, pixels, as in EfficientNet's Table 1.
        channels: Output channels.
        layers: Number of blocks.
        macs: Multiply-adds of the stage.
        params: Parameters of the stage.
    """

    stage: str
    operator: str
    resolution: int
    channels: int
    layers: int
    macs: int
    params: int


def describe(network: Network) -> tuple[Row, ...]:
    """The network stage by stage, in the manner of EfficientNet's Table 1 (Tan & Le, ICML 2019)."""
    head = f"Conv1x1 to {network.head.channels}, Pool, FC" if network.head.channels else "Pool, FC"
    words: Iterable[tuple[str, int, int]] = [
        *((op_label(stage.op), stage.channels, stage.repeats) for _, stage in network.named_stages()),
        (head, network.num_classes, 1),
    ]
    return tuple(
        Row(
            stage=part.name,
            operator=operator,
            resolution=part.in_shape.height,
            channels=channels,
            layers=layers,
            macs=part.cost.macs,
            params=part.cost.params,
        )
        for part, (operator, channels, layers) in zip(lower(network), words, strict=True)
    )
