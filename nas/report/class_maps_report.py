"""What `nas cam` prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nas.data.tree import printable
from nas.report.printing import Column, Fact, Report, Row, Table, show_share
from nas.tasks import REGRESSION

if TYPE_CHECKING:
    from nas.scoring.class_map import ClassMap


def class_maps_report(rows: Sequence[Sequence[ClassMap]], picture: Path) -> Report:
    """Makes the report: a line for each image and network.

    Args:
        rows: One row for each image, one map in it for each network.
        picture: Where they were drawn.
    """
    every = [one for row in rows for one in row]
    return Report(
        title="",
        facts=(Fact(key="picture", label="", value=str(picture)),),
        tables=(
            Table(
                key="maps",
                title="Class maps",
                columns=(
                    Column(key="file", heading="image", show=printable),
                    Column(key="network", heading="network", show=printable),
                    Column(key="says", heading="map of", show=printable),
                    Column(key="prediction", heading="prediction", show=printable),
                    Column(key="method", heading="method"),
                    Column(key="peak", heading="peak x, y", show=_show_peak, is_number=True),
                    Column(key="top_tenth_share", heading="top tenth", show=show_share, is_number=True),
                ),
                rows=tuple(map(_row, every)),
                drawn=tuple(_row(one) | {"says": one.says + _lowered(one)} for one in every),
            ),
        ),
        notes=(*_notes(every), f"wrote {picture}"),
    )


def _row(one: ClassMap) -> dict[str, object]:
    peak = one.peak
    number: Row = {"value": one.value, "lowers": one.lowers}
    probabilities: Row = {"probability": one.probability, "mapped_probability": one.value}
    return {
        "file": one.file,
        "network": one.network,
        "task": one.task,
        "prediction": one.predicted,
        "mapped": one.mapped,
        **(number if one.task == REGRESSION else probabilities),
        "method": one.method,
        "places": list(one.places.shape),
        "peak": None if peak is None else {"x": peak[0], "y": peak[1]},
        "top_tenth_share": one.top_tenth_share,
        "image_size": {"width": one.view.size[0], "height": one.view.size[1]},
        "seen": dict(zip(("left", "top", "right", "bottom"), one.view.box, strict=True)),
    }


def _lowered(one: ClassMap) -> str:
    return " (what lowers it)" if one.lowers else ""


def _show_peak(peak: dict[str, float]) -> str:
    return f"{peak['x']:.0f}, {peak['y']:.0f}"


def _notes(every: Sequence[ClassMap]) -> list[str]:
    notes = ["peak: pixels of the upright image; top tenth: share of the map's sum, 10 % where it is flat"]
    if any(one.task == REGRESSION for one in every):
        notes.append(
            "maps of numbers: what raises a number above the mean of the training, or lowers it below that"
        )
    empty = [one for one in every if one.is_empty]
    notes += [
        f"no place of {printable(one.file)} speaks for {printable(one.mapped)} in {one.network}"
        for one in empty
    ]
    return notes
