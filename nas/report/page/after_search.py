"""The sections about what comes after a search, which stands in folders beside the study."""

from __future__ import annotations

from collections.abc import Callable

from nas.report.page.attached import Attached
from nas.report.page.latencies import latencies
from nas.report.page.mapped import mapped
from nas.report.page.parts import Absent, Section
from nas.report.page.scaled import scaled
from nas.report.page.scored import scored
from nas.report.page.source import Source
from nas.report.page.trained import trained
from nas.report.printing import Column, Table

AFTER_SEARCH: tuple[Callable[[Attached], Section | Absent], ...] = (
    trained,
    scored,
    mapped,
    scaled,
    latencies,
)
"""The sections in order. Each says itself that it has nothing to show."""


def after_search(found: Attached) -> tuple[Section | Absent, ...]:
    """All of them."""
    return tuple(make(found) for make in AFTER_SEARCH)


def of_beside(make: Callable[[Attached], Section | Absent]) -> Callable[[Source], Section | Absent]:
    """Such a section as one of a study's page."""
    return lambda source: make(source.beside)


def read_files(found: Attached) -> tuple[Section, ...]:
    """What was recognised where; nothing where that is a study alone."""
    if all(one.kind == "study" for one in found.recognised):
        return ()
    lead = f"{len(found.recognised)} folders and files were read."
    return (Section(key="read", title="What this page was made of", lead=lead, blocks=(_table(found),)),)


def _table(found: Attached) -> Table:
    rows = tuple({"kind": one.kind, "path": str(one.path)} for one in found.recognised)
    columns = (Column(key="kind", heading="what"), Column(key="path", heading="where"))
    return Table(key="recognised", title="Folders and files", columns=columns, rows=rows)
