"""Overview."""

from __future__ import annotations

from nas.report.network_lines import stage_lines
from nas.report.page.parts import Absent, Drawing, Section, Tiles
from nas.report.page.source import Source
from nas.report.printing import Fact, show_count


def overview(source: Source) -> Section | Absent:
    """Overview."""
    study = source.study
    if not study.completed:
        return Absent(key="overview", title="Overview", reason="no trial has completed yet")
    best = study.best
    tiles = Tiles(
        facts=(
            Fact(key="trial", label="trial", value=best.number),
            Fact(key="macs", label="multiply-adds", value=best.macs, text=show_count(best.macs)),
        )
    )
    return Section(
        key="overview",
        title="Overview",
        lead=f"Trial {best.number}.",
        blocks=(tiles, Drawing(title=f"Trial {best.number}", lines=stage_lines(best.network))),
    )
