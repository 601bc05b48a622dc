"""What a page is made of: sections, and the blocks in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nas.report.network_lines import StageLine
from nas.report.printing import Fact, Report, Table

BLUE, SKY, ORANGE, VERMILION, GREEN, INK, GREY, PALE = (
    f"palette:{name}" for name in ("blue", "sky", "orange", "vermilion", "green", "ink", "grey", "pale")
)
"""Colours of charts by name: the page gives each the shade that fits light or dark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart that plotly draws in the browser, and the same data as a table.

    A string of the figure is shown as it is: markup in it is text, and a line break stays one. A point of a
    trace whose `customdata` is a trial's number opens that trial when it is clicked. Colours are those of
    this module, or any that is seen on white and on near black.

    Attributes:
        key: Its name on the page; no other block has it.
        title: What readers see above it.
        figure: `data` and `layout` as plotly has them; fonts and backgrounds are the page's.
        alt: What it shows, in one or two sentences with numbers.
        table: The same data in numbers.
        notes: Sentences below it.
        height: Its height, pixels.
    """

    key: str
    title: str
    figure: Mapping[str, Any]
    alt: str
    table: Table
    notes: tuple[str, ...] = ()
    height: int = 380


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture that is there as a file's bytes.

    Attributes:
        title: What readers see above it.
        content: The file; it becomes a part of the page.
        kind: Its format.
        alt: What it shows, in one or two sentences with numbers.
        notes: Sentences below it.
    """

    title: str
    content: bytes
    kind: Literal["png", "svg"]
    alt: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A network, stage by stage; several in a row stand side by side where there is room.

    Attributes:
        title: What it is called.
        lines: Its stages, as `network_lines.stage_lines` gives them.
        text: Its costs and quality in a few words.
    """

    title: str
    lines: tuple[StageLine, ...]
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """A few facts in large letters.

    Attributes:
        facts: What is said; the label stands below the text.
    """

    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Sentences.

    Attributes:
        lines: One paragraph each.
        is_warning: Whether they are set apart.
    """

    lines: tuple[str, ...]
    is_warning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Text that is shown letter by letter: a command, or a log.

    Attributes:
        title: What it is.
        text: The text.
        is_folded: Whether it is shown only when it is asked for; a command is not, and has a button to copy.
    """

    title: str
    text: str
    is_folded: bool = False


Block = Report | Table | Chart | Picture | Drawing | Tiles | Words | Code
"""What a section may hold, in any order; `Report` and `Table` are those of `nas show`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a page under its own heading.

    Attributes:
        key: Its name in addresses (`#rungs`) and in JSON.
        title: Its heading.
        lead: What it says, in one sentence.
        blocks: What it shows; never empty.
    """

    key: str
    title: str
    lead: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A section that has nothing to show.

    Attributes:
        key: Its name in JSON.
        title: What its heading would be.
        reason: Why it has nothing, and what would give it something: a sentence without a full stop.
    """

    key: str
    title: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A whole page.

    Attributes:
        title: Its heading, and the name of the tab.
        subtitle: One line below the heading.
        parts: The sections in order; those that have nothing to show are listed at the end.
        notes: What a reader must know first: that the search still runs, say.
        trials: What opens when a trial is asked for, as `trial_cards` gives it.
    """

    title: str
    subtitle: str
    parts: tuple[Section | Absent, ...]
    notes: tuple[str, ...] = ()
    trials: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sections(self) -> tuple[Section, ...]:
        """The parts that have something to show."""
        return tuple(part for part in self.parts if isinstance(part, Section))

    @property
    def absent(self) -> tuple[Absent, ...]:
        """The parts that have not."""
        return tuple(part for part in self.parts if isinstance(part, Absent))
