"""Class maps: where in images networks find evidence, as pictures that `nas cam` drew."""

from __future__ import annotations

from nas.report.page.attached import Attached, picture_of
from nas.report.page.parts import Absent, Section

KEY, TITLE = "maps", "Class maps"

MOST_PICTURES = 12


def mapped(found: Attached) -> Section | Absent:
    """The pictures that were given, and those in the folders that were."""
    if not found.maps:
        return Absent(
            key=KEY,
            title=TITLE,
            reason="there is no picture of them: nas cam TRAINING IMAGE ... --out TRAINING/maps.png draws "
            "one, and nas report STUDY TRAINING shows it",
        )
    shown = found.maps[:MOST_PICTURES]
    left = len(found.maps) - len(shown)
    many = f"{len(found.maps)} pictures show" if len(found.maps) > 1 else "One picture shows"
    lead = f"{many} where networks look."
    lead += f" The first {MOST_PICTURES} are here." if left else ""
    blocks = tuple(picture_of(one.path, title=one.path.name, alt=one.words) for one in shown)
    return Section(key=KEY, title=TITLE, lead=lead, blocks=blocks)
