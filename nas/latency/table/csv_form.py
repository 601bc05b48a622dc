"""The form for measuring with one's own tools: blocks and networks as ONNX, and tables to fill in.

A form is a folder: `form.json` says what it is of, `blocks.csv` and `networks.csv` list the models, and a
person fills in `latency_ms`.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nas.errors import LatencyError
from nas.latency.table.session import Latency, TablePlan, make_table, network_macs, plan_table
from nas.latency.table.table import LatencyTable, SpaceFacts
from search_spaces import Block, Network, SearchSpace

if TYPE_CHECKING:
    from torch import nn

FORM, BLOCKS, NETWORKS = "form.json", "blocks.csv", "networks.csv"
FORMAT, VERSION = "nas-latency-form", 1
BLOCK_COLUMNS = ("key", "stage", "text", "channels", "height", "width", "macs", "file", "latency_ms")
NETWORK_COLUMNS = ("key", "channels", "height", "width", "macs", "file", "latency_ms")
OTHER_UNITS = ("latency", "latency_s", "latency_us", "latency_ns", "ms", "us", "time_ms", "seconds")


def write_form(
    plan: TablePlan,
    folder: Path,
    *,
    most_blocks: int,
    check: int,
    on_model: Callable[[int, int], None] | None = None,
) -> int:
    """Writes the blocks and networks of a plan as ONNX, and the tables to fill in; returns how many models.

    Args:
        plan: What is to be measured.
        folder: Where; it must be new or empty.
        most_blocks: What the plan was made with.
        check: Likewise.
        on_model: Called with (models written, models) after each.

    Raises:
        LatencyError: The folder holds something, or cannot be written.
        ExportError: A block cannot be written as ONNX.
    """
    from nas.onnx_file import write_onnx
    from search_spaces.modules import build, build_part

    jobs: list[tuple[str, Callable[[], nn.Module], tuple[int, int, int]]] = []
    for block in plan.blocks:
        jobs.append((_file_of(block), partial(build_part, block.part, seed=0), block.in_shape))
    for network in plan.networks:
        image = (network.in_channels, network.resolution, network.resolution)
        jobs.append((_file_of(network), partial(build, network, seed=0), image))
    try:
        if folder.exists() and any(folder.iterdir()):
            raise LatencyError(f"a form needs a new folder, but {folder} holds something: name another one")
        for name in ("blocks", "networks"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for done, (file, make, shape) in enumerate(jobs, start=1):
            write_onnx(make().eval(), shape, folder / file, {})
            if on_model is not None:
                on_model(done, len(jobs))
        _write_rows(folder / BLOCKS, BLOCK_COLUMNS, _block_rows(plan))
        _write_rows(folder / NETWORKS, NETWORK_COLUMNS, _network_rows(plan))
        facts = {"space": asdict(SpaceFacts.of(plan.space)), "seed": plan.seed}
        facts |= {"most_blocks": most_blocks, "check": check}
        text = json.dumps({"format": FORMAT, "version": VERSION, **facts}, indent=1)
        (folder / FORM).write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise LatencyError(f"{folder} cannot be written: {error.strerror or error}") from error
    return len(jobs)


def read_form(space: SearchSpace, place: Path, *, device_name: str) -> LatencyTable:
    """Makes a table of a filled form.

    Networks may be left empty, or their file left out: then nothing corrects the sums, and no error can be
    stated.

    Args:
        space: The space that the form is of.
        place: The form's folder, or its `blocks.csv`.
        device_name: What the latencies were measured on.

    Raises:
        LatencyError: The form is of another space, or a row is missing, repeated, unknown or not filled in
            with milliseconds; the message names file and row.
    """
    folder = place.parent if place.suffix == ".csv" else place
    blocks_file = place if place.suffix == ".csv" else folder / BLOCKS
    plan = _plan_of(space, folder)
    blocks = {block.key: block.words for block in plan.blocks}
    networks = {network.digest: "a network" for network in plan.networks}
    latencies = _read_rows(blocks_file, blocks, must_have_all=True)
    notes: tuple[str, ...] = ()
    if (folder / NETWORKS).is_file():
        latencies |= _read_rows(folder / NETWORKS, networks, must_have_all=False)
    if not any(digest in latencies for digest in networks):
        notes = ("no networks were measured, so sums are not corrected",)
    table = make_table(
        plan,
        {key: Latency(latency_ms=value) for key, value in latencies.items()},
        device_name=device_name,
        environment=", ".join((f"{device_name}, measured with other tools, given as CSV", *notes)),
    )
    return replace(table, settings=None)


def _plan_of(space: SearchSpace, folder: Path) -> TablePlan:
    """The plan that the form was written from, made again."""
    path = folder / FORM
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        facts = data["space"] if data["format"] == FORMAT else None
        version, seed, most_blocks, check = (
            int(data[name]) for name in ("version", "seed", "most_blocks", "check")
        )
    except OSError as error:
        raise LatencyError(
            f"{path} cannot be read ({error.strerror or error}): keep the form's files together, in the "
            "folder that --write-blocks made"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise LatencyError(f"{path} is damaged: write the form again with --write-blocks") from error
    if version > VERSION:
        raise LatencyError(f"{path} is of version {version}, but this program reads up to {VERSION}")
    asked = SpaceFacts.of(space)
    if not isinstance(facts, Mapping) or facts.get("fingerprint") != asked.fingerprint:
        words = (
            ""
            if not isinstance(facts, Mapping)
            else f" ({facts.get('name')}, {facts.get('resolution')} pixels)"
        )
        raise LatencyError(
            f"the form in {folder} is of another space{words} than the one asked for, {asked.text}: give "
            "--space, --resolution, --width and --num-classes as when it was written"
        )
    return plan_table(space, most_blocks=most_blocks, check=check, seed=seed)


def _file_of(model: Block | Network) -> str:
    """Where a model lies in the form's folder."""
    if isinstance(model, Network):
        return f"networks/{model.digest}.onnx"
    return f"blocks/{model.key}.onnx"


def _block_rows(plan: TablePlan) -> Iterable[Sequence[object]]:
    for block in plan.blocks:
        macs = block.part.cost.macs
        yield block.key, block.stage, block.words, *block.in_shape, macs, _file_of(block), ""


def _network_rows(plan: TablePlan) -> Iterable[Sequence[object]]:
    for network in plan.networks:
        image = (network.in_channels, network.resolution, network.resolution)
        yield network.digest, *image, network_macs(network), _file_of(network), ""


def _write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def _read_rows(path: Path, known: Mapping[str, str], *, must_have_all: bool) -> dict[str, float]:
    """Latencies by key.

    Args:
        path: The file.
        known: What each key that may stand there is, in words.
        must_have_all: Whether each must be there and filled in.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            _check_columns(path, reader.fieldnames or ())
            found = _collect(path, reader, known)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise LatencyError(f"{path} cannot be read: {reason}") from error
    missing = [key for key in known if key not in found] if must_have_all else []
    if missing:
        raise LatencyError(
            f"{path} lacks {len(missing)} of {len(known)} rows, the first {missing[0]} "
            f"({known[missing[0]]}): fill every row in, or write a smaller form with --most-blocks"
        )
    empty = [key for key in found if found[key] is None] if must_have_all else []
    if empty:
        raise LatencyError(
            f"{path} has no latency_ms in {len(empty)} of {len(known)} rows, the first {empty[0]} "
            f"({known[empty[0]]}): fill every row in, or write a smaller form with --most-blocks"
        )
    return {key: value for key, value in found.items() if value is not None}


def _check_columns(path: Path, columns: Iterable[str]) -> None:
    names = [str(name).strip() for name in columns]
    if names.count("latency_ms") != 1:
        other = next((name for name in names if name.lower() in OTHER_UNITS), None)
        has = f"has {other!r}" if other else f"has {', '.join(names) or 'nothing'}"
        raise LatencyError(
            f"{path} must have one column latency_ms, in milliseconds, but it {has}: convert the latencies "
            "and name the column latency_ms"
        )
    if names.count("key") != 1:
        raise LatencyError(
            f"{path} must have one column key, but it has {', '.join(names)}: leave it as written"
        )


def _collect(
    path: Path, reader: Iterable[dict[str, str]], known: Mapping[str, str]
) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    rows: dict[str, int] = {}
    for number, raw in enumerate(reader, start=2):
        row = {str(name).strip(): value for name, value in raw.items()}
        key = (row.get("key") or "").strip()
        where = f"{path}, row {number}"
        if key not in known:
            raise LatencyError(
                f"{where}: {key!r} is no key of this form: leave the column as written, and give the form of "
                "this space"
            )
        if key in rows:
            raise LatencyError(f"{where}: {key} stands in row {rows[key]} already: leave one of the two out")
        rows[key] = number
        found[key] = _milliseconds((row.get("latency_ms") or "").strip(), where)
    return found


def _milliseconds(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        remedy = "write a decimal point" if "," in text else "write a number of milliseconds without a unit"
        raise LatencyError(f"{where}: latency_ms must be a number, but got {text!r}: {remedy}") from None
    if not (math.isfinite(value) and value > 0):
        raise LatencyError(f"{where}: `latency_ms > 0` must hold, but got {text}")
    return value
