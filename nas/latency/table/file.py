"""The file of a latency table: JSON that other programs can read too, and its strict reading.

The file says its own format and version; latencies are milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from nas.errors import LatencyError
from nas.io import write_whole
from nas.latency.devices import DeviceSettings
from nas.latency.table.correction import Check, CheckedNetwork, Correction
from nas.latency.table.estimator import BlockEstimator
from nas.latency.table.table import BlockLatency, LatencyTable, PredictedRange, SpaceFacts, TableSession

FORMAT, VERSION = "nas-latency-table", 1
T = TypeVar("T")


def table_to_data(table: LatencyTable) -> dict[str, Any]:
    """The table as JSON values.

    Beside its fields, `check` states `mape`, `tau` and `repeat_error` for readers that are not this program.
    """
    data: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    for field in fields(table):
        value = getattr(table, field.name)
        data[field.name] = asdict(value) if hasattr(value, "__dataclass_fields__") else value
    data["blocks"] = [asdict(block) for block in table.blocks]
    if table.check is not None:
        check = table.check
        data["check"] |= {"mape": check.mape, "tau": check.tau, "repeat_error": check.repeat_error}
    return data


def table_from_data(data: object) -> LatencyTable:
    """Reads what `table_to_data` made.

    Raises:
        LatencyError: It is no table, of a newer version, or a field is missing or does not fit.
    """
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise LatencyError(f"it is no latency table: `format` must be {FORMAT!r}")
    version = data.get("version")
    if not isinstance(version, int) or version < 1:
        raise LatencyError(f"`version` must be an integer from 1 to {VERSION}, but got {version!r}")
    if version > VERSION:
        raise LatencyError(
            f"it is of version {version}, but this program reads up to {VERSION}: install a newer one, or "
            "measure the table again"
        )
    check = data.get("check")
    networks = None if check is None else {"networks": _member(check, "networks", "check")}
    blocks = _member(data, "blocks", "the table")
    if not isinstance(blocks, list | tuple) or not blocks:
        raise LatencyError("`blocks` must be a list of at least one block")
    table = LatencyTable(
        device_name=_value(str, _member(data, "device_name", "the table"), "device_name"),
        settings=_maybe(DeviceSettings, data, "settings"),
        environment=_value(str, _member(data, "environment", "the table"), "environment"),
        space=_record(SpaceFacts, _member(data, "space", "the table"), "space"),
        blocks=tuple(_record(BlockLatency, one, f"blocks[{place}]") for place, one in enumerate(blocks)),
        blocks_origin=_value(str, _member(data, "blocks_origin", "the table"), "blocks_origin"),
        is_complete=_value(bool, _member(data, "is_complete", "the table"), "is_complete"),
        correction=_record(Correction, _member(data, "correction", "the table"), "correction"),
        check=None if networks is None else _check(networks["networks"]),
        estimator=_maybe(BlockEstimator, data, "estimator"),
        session=_maybe(TableSession, data, "session"),
        range=_maybe(PredictedRange, data, "range"),
    )
    if len({block.key for block in table.blocks}) != len(table.blocks):
        raise LatencyError("a block must stand in the table once, but a key in `blocks` is repeated")
    return table


def read_table(path: Path) -> LatencyTable:
    """Reads a file.

    Raises:
        LatencyError: It cannot be read, is no table, is damaged, or is of a newer version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise LatencyError(f"the latency table {path} cannot be read: {reason}") from error
    except ValueError as error:
        raise LatencyError(
            f"the latency table {path} is no JSON ({error}): it is damaged, measure it again"
        ) from error
    try:
        return table_from_data(data)
    except LatencyError as error:
        raise LatencyError(f"the latency table {path} cannot be used: {error}") from error


def write_table(table: LatencyTable, path: Path) -> None:
    """Writes a file, whole or not at all.

    Raises:
        LatencyError: It cannot be written.
    """
    text = json.dumps(table_to_data(table), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        write_whole(path, text)
    except OSError as error:
        raise LatencyError(
            f"the latency table {path} cannot be written: {error.strerror or error}"
        ) from error


def _check(networks: object) -> Check:
    if not isinstance(networks, list | tuple) or not networks:
        raise LatencyError("`check.networks` must be a list of at least one network")
    return Check(
        networks=tuple(
            _record(CheckedNetwork, one, f"check.networks[{place}]") for place, one in enumerate(networks)
        )
    )


def _maybe(kind: Callable[..., T], data: Mapping[str, Any], name: str) -> T | None:
    value = _member(data, name, "the table")
    return None if value is None else _record(kind, value, name)


def _member(data: object, name: str, where: str) -> Any:
    if not isinstance(data, Mapping) or name not in data:
        raise LatencyError(f"{where} has no `{name}`: the file is damaged, measure the table again")
    return data[name]


def _record(kind: Callable[..., T], data: object, where: str) -> T:
    """A frozen dataclass from a JSON object that has its fields, each of its type."""
    hints = get_type_hints(kind)
    values = {
        field.name: _value(hints[field.name], _member(data, field.name, where), f"{where}.{field.name}")
        for field in fields(kind)  # type: ignore[arg-type]
    }
    return kind(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    """A JSON value as the type of a field; the types are those of the records above and no more."""
    if get_origin(hint) in (Union, UnionType):
        if value is None:
            return None
        return _value(next(kind for kind in get_args(hint) if kind is not NoneType), value, where)
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        if not isinstance(value, list | tuple):
            raise LatencyError(f"`{where}` must be a list, but got {value!r}")
        each = kinds[:1] * len(value) if kinds[-1] is Ellipsis else kinds
        if len(each) != len(value):
            raise LatencyError(f"`{where}` must have {len(each)} values, but got {len(value)}")
        return tuple(_value(kind, one, where) for kind, one in zip(each, value, strict=True))
    kinds = {float: (int, float), int: (int,), str: (str,), bool: (bool,)}.get(hint, (str,))
    if not isinstance(value, kinds) or (isinstance(value, bool) and hint is not bool):
        raise LatencyError(f"`{where}` must be {getattr(hint, '__name__', 'text')}, but got {value!r}")
    return float(value) if hint is float else value
