"""The sections about what comes after a search: what stands in folders beside the study, and a list of them."""

from __future__ import annotations

from collections.abc import Callable

from nas.report.page.attached import Attached
from nas.report.page.latencies import latencies
from nas.report.page.mapped import mapped
from nas.report.page.parts import Absent, Section
from nas.report.page.scaled import scaled
from nas.report.page.scored import scored
from nas.report.page.trained import trained
from nas.report.printing import Column, Table

MAKERS: tuple[Callable[[Attached], Section | Absent], ...] = (trained, scored, mapped, scaled, latencies)
"""The sections in order. Each says itself that it has nothing to show."""


def after_search(found: Attached) -> tuple[Section | Absent, ...]:
    """All of them."""
    return tuple(make(found) for make in MAKERS)


def recognised(found: Attached) -> Table:
    """What was found where."""
    rows = tuple({"kind": one.kind, "path": str(one.path)} for one in found.recognised)
    columns = (Column(key="kind", heading="what"), Column(key="path", heading="where"))
    return Table(key="recognised", title="What this page was made of", columns=columns, rows=rows)
