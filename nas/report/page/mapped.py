"""Class maps: where in images networks find evidence, as pictures that `nas cam` drew."""

from __future__ import annotations

from nas.errors import UsageError
from nas.reading import read_bytes
from nas.report.page.attached import Attached, MapPicture
from nas.report.page.parts import Absent, Picture, Section

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
    return Section(key=KEY, title=TITLE, lead=lead, blocks=tuple(map(_picture, shown)))


def _picture(one: MapPicture) -> Picture:
    try:
        content = read_bytes(one.path)
    except OSError as error:
        raise UsageError(
            f"{one.path} cannot be read ({error.strerror or error}): restore it, or leave it out",
            field="folders",
        ) from error
    return Picture(title=one.path.name, content=content, kind="png", alt=one.words)
