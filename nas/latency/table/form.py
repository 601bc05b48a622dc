"""The form for measuring a space on a device with other tools: models as ONNX, and a table to fill in.

A form is a folder: `form.json` says what it is of, `latencies.csv` lists the models, and a user fills in its
column `latency_ms`.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas.errors import LatencyError
from nas.latency.session import Timing
from nas.latency.stored import read_file, read_record, write_file
from nas.latency.table.building import TablePlan, make_table, plan_table
from nas.latency.table.table import LatencyTable, SpaceFacts
from nas.reading import read_text
from search_spaces import Block, Network, SearchSpace, cost

if TYPE_CHECKING:
    from torch import nn

FORM, LATENCIES = "form.json", "latencies.csv"
VERSION_1_FILES = ("blocks.csv", "networks.csv")
"""Version 1 listed blocks and networks in files of their own."""

FORMAT, VERSION = "nas-latency-form", 2
COLUMNS = ("key", "stage", "text", "channels", "height", "width", "macs", "file", "latency_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class FormFacts:
    """What a form is of: enough to make its plan again.

    Attributes:
        space: The space.
        most_blocks: Blocks in it at most.
        check: Networks in it.
        seed: Of every draw.
    """

    space: SpaceFacts
    most_blocks: int
    check: int
    seed: int

    def plan(self, space: SearchSpace) -> TablePlan:
        """What is to be measured.

        Raises:
            LatencyError: Blocks would have to be estimated from too few.
            SpaceError: No network of the space can be built.
        """
        return plan_table(space, most_blocks=self.most_blocks, check=self.check, seed=self.seed)


def write_form(
    space: SearchSpace,
    folder: Path,
    *,
    most_blocks: int,
    check: int,
    seed: int = 0,
    on_model: Callable[[int, int], None] | None = None,
) -> TablePlan:
    """Writes the blocks and networks to be measured as ONNX, and the table to fill in.

    Args:
        space: The space.
        folder: Where; it must be new or empty.
        most_blocks: Blocks that are written at most.
        check: Random networks that are written whole.
        seed: Of every draw.
        on_model: Called with (models written, models) after each.

    Returns:
        What was written.

    Raises:
        LatencyError: The folder holds something, or cannot be written.
        ExportError: A block cannot be written as ONNX.
    """
    from nas.onnx_file import write_onnx

    facts = FormFacts(space=SpaceFacts.of(space), most_blocks=most_blocks, check=check, seed=seed)
    plan = facts.plan(space)
    models: list[Block | Network] = [*plan.blocks, *plan.networks]
    try:
        if folder.exists() and any(folder.iterdir()):
            raise LatencyError(
                f"a form needs a new folder, but {folder} holds something: name another one",
                field="write_blocks",
            )
        for done, model in enumerate(models, start=1):
            path = folder / _file_of(model)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_onnx(_build(model).eval(), _in_shape(model), path, {})
            if on_model is not None:
                on_model(done, len(models))
        with (folder / LATENCIES).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(_row_of(model) for model in models)
    except OSError as error:
        raise LatencyError(
            f"{folder} cannot be written: {error.strerror or error}", field="write_blocks"
        ) from error
    write_file(folder / FORM, {"format": FORMAT, "version": VERSION, **asdict(facts)})
    return plan


def read_form(space: SearchSpace, folder: Path, *, device_name: str) -> LatencyTable:
    """Makes a table of a filled form.

    Networks may be left empty, or their rows left out: then nothing corrects the sums, and no error can be
    stated.

    Args:
        space: The space that the form is of.
        folder: The form's folder.
        device_name: What the latencies were measured on.

    Raises:
        LatencyError: The form is of another space, a block is not filled in, or a row is repeated, of no
            model of the form, or holds no milliseconds; the message names file and row.
    """
    data, version = read_file(folder / FORM, kind=FORMAT, version=VERSION)
    facts = read_record(FormFacts, data, "form")
    asked = SpaceFacts.of(space)
    if facts.space.fingerprint != asked.fingerprint:
        raise LatencyError(
            f"the form in {folder} is of another space ({facts.space.text}) than the one asked for, "
            f"{asked.text}: give --space, --resolution, --width and --num-classes as when it was written",
            field="space",
        )
    plan = facts.plan(space)
    known = {block.key for block in plan.blocks} | {network.digest for network in plan.networks}
    names = VERSION_1_FILES if version == 1 else (LATENCIES,)
    others = [folder / name for name in names[1:] if (folder / name).exists()]
    found = _read_rows([folder / names[0], *others], known)
    missing = [block for block in plan.blocks if block.key not in found]
    if missing:
        raise LatencyError(
            f"{folder / names[0]} has no latency_ms of {len(missing)} of {len(plan.blocks)} blocks, the "
            f"first {missing[0].key} ({missing[0].words}): fill in each, or write a smaller form with "
            "--most-blocks",
            field="latency_ms",
        )
    words = f"{device_name}, measured with other tools"
    if not any(network.digest in found for network in plan.networks):
        words = f"{words}, no networks were measured, so sums are not corrected"
    return make_table(plan, found, device_name=device_name, environment=words)


def _build(model: Block | Network) -> nn.Module:
    from search_spaces.modules import build, build_part

    return build(model, seed=0) if isinstance(model, Network) else build_part(model.part, seed=0)


def _in_shape(model: Block | Network) -> tuple[int, int, int]:
    """Channels, height and width of a model's input."""
    if isinstance(model, Network):
        return (model.in_channels, model.resolution, model.resolution)
    return model.in_shape


def _file_of(model: Block | Network) -> str:
    """Where a model lies in the form's folder."""
    if isinstance(model, Network):
        return f"networks/{model.digest}.onnx"
    return f"blocks/{model.key}.onnx"


def _row_of(model: Block | Network) -> tuple[object, ...]:
    """The values of `COLUMNS`, the latency left empty."""
    if isinstance(model, Network):
        facts, macs = (model.digest, "network", "a whole network"), cost(model).macs
    else:
        facts, macs = (model.key, model.stage, model.words), model.part.cost.macs
    return (*facts, *_in_shape(model), macs, _file_of(model), "")


def _read_rows(paths: Iterable[Path], known: set[str]) -> dict[str, Timing]:
    """Latencies by key, those that are filled in; only `known` keys may be in the files."""
    found: dict[str, Timing] = {}
    places: dict[str, str] = {}
    for path in paths:
        for number, row in _rows_of(path):
            key, where = (row.get("key") or "").strip(), f"{path}, row {number}"
            if key not in known:
                raise LatencyError(
                    f"{where}: {key!r} is no key of this form: leave the column as it was written",
                    field="key",
                )
            if key in places:
                raise LatencyError(
                    f"{where}: {key} is in {places[key]} already: leave one of the two out", field="key"
                )
            places[key] = where
            value = _milliseconds((row.get("latency_ms") or "").strip(), where)
            if value is not None:
                samples = (value,)
                found[key] = Timing(
                    name=key, samples_ms=samples, normalised_ms=samples, calls=1, is_settled=True
                )
    return found


def _rows_of(path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """The rows of a file with their numbers; the heading is row 1."""
    try:
        text = read_text(path).removeprefix("\ufeff")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        reader.fieldnames = [str(name).strip() for name in reader.fieldnames or ()]
        for name in ("key", "latency_ms"):
            if reader.fieldnames.count(name) != 1:
                raise LatencyError(
                    f"{path} must have one column {name} (latencies in milliseconds), but has "
                    f"{', '.join(reader.fieldnames) or 'none'}: leave the heading as it was written",
                    field=name,
                )
        yield from enumerate(reader, start=2)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise LatencyError(f"{path} cannot be read: {reason}", field="from_csv") from error


def _milliseconds(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        remedy = "write a decimal point" if "," in text else "write a number of milliseconds without a unit"
        raise LatencyError(
            f"{where}: latency_ms must be a number, but got {text!r}: {remedy}", field="latency_ms"
        ) from None
    if not (math.isfinite(value) and value > 0):
        raise LatencyError(f"{where}: `latency_ms > 0` must hold, but got {text}", field="latency_ms")
    return value
