"""The blocks of a page as HTML; every text that comes from a study goes through `escaping`."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeVar

from nas.report.network_lines import StageLine
from nas.report.page.escaping import attribute, content
from nas.report.page.parts import Block, Chart, Code, Drawing, Picture, Section, Tiles, Words
from nas.report.printing import Column, Fact, Report, Row, Table, show_count, show_share

_Kind = TypeVar("_Kind")

MOST_ROWS = 400
"""Rows of one table on a page."""

SHORT = 34
"""Letters of a cell that are kept in one line."""

LAYOUT = "\n\t"
"""What logs and commands are laid out with."""

KINDS = {"png": "image/png", "svg": "image/svg+xml"}


@dataclass(slots=True, kw_only=True)
class Renderer:
    """Turns blocks into HTML, and keeps what the browser draws itself.

    Attributes:
        trials: Numbers of the trials that open when they are asked for.
        picture_bytes: What pictures may still take of the page.
        most_rows: Rows of one table.
        charts: The charts that were met.
        tables: How many tables were met.
        left_out: Titles of pictures that found no room.
    """

    trials: frozenset[int] = frozenset()
    picture_bytes: int
    most_rows: int = MOST_ROWS
    charts: list[Chart] = field(default_factory=list)
    tables: int = 0
    left_out: list[str] = field(default_factory=list)

    def section(self, section: Section) -> str:
        """A section with its heading."""
        key = attribute(section.key)
        return (
            f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">'
            f"{content(section.title)}</h2>{_paragraphs((section.lead,), 'lead')}"
            f"{''.join(self._blocks(section.blocks))}</section>"
        )

    def _blocks(self, blocks: Sequence[Block]) -> Iterator[str]:
        for is_drawing, group in groupby(blocks, key=lambda block: isinstance(block, Drawing)):
            if is_drawing:
                yield f'<div class="networks">{"".join(map(drawing, _of(Drawing, group)))}</div>'
            else:
                yield from map(self._block, group)

    def _block(self, block: Block) -> str:
        match block:
            case Report():
                return self._report(block)
            case Table():
                return self.table(block)
            case Chart():
                return self._chart(block)
            case Picture():
                return self._picture(block)
            case Tiles():
                return _facts(block.facts, "tiles")
            case Words():
                return _paragraphs(block.lines, "warning" if block.is_warning else "")
            case Code():
                return _code(block)
            case Drawing():
                return drawing(block)

    def _report(self, report: Report) -> str:
        title = f"<h3>{content(report.title)}</h3>" if report.title else ""
        tables = "".join(map(self.table, report.tables))
        return f"{title}{_facts(report.facts)}{tables}{_paragraphs(report.notes, 'note')}"

    def table(self, table: Table) -> str:
        """A table in a box of its own, which scrolls where it is wider than the page."""
        rows = table.rows if table.drawn is None else table.drawn
        if not rows or not table.columns:
            none = f"<p>{content(table.title)}: none</p>" if not table.notes else ""
            return none + _paragraphs(table.notes, "note")
        shown, left = rows[: self.most_rows], len(rows) - self.most_rows
        notes = (*table.notes, *((f"{left:,} more rows are left out.",) if left > 0 else ()))
        head = "".join(f'<th scope="col"{_side(c)}>{content(c.heading)}</th>' for c in table.columns)
        body = "".join(self._row(table.columns, row) for row in shown)
        self.tables += 1
        key = f"table-{self.tables}"
        return (
            f'<p class="caption" id="{key}">{content(table.title)}</p>'
            f'<div class="scroll" tabindex="0" role="group" aria-labelledby="{key}">'
            f'<table aria-labelledby="{key}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
            f"</div>{_paragraphs(notes, 'note')}"
        )

    def _row(self, columns: Sequence[Column], row: Row) -> str:
        cells = [self._cell(column, row.get(column.key)) for column in columns]
        mark = ' class="best"' if row.get("is_best") else ""
        return f"<tr{mark}>{''.join(cells)}</tr>"

    def _cell(self, column: Column, value: Any) -> str:
        text = "–" if value is None else content(column.show(value))  # noqa: RUF001  # a dash, not a minus
        if column.key == "trial" and value in self.trials:
            text = f'<button type="button" class="trial" data-trial="{int(value)}">{text}</button>'
        kind = "number" if column.is_number else "short" if len(text) <= SHORT else "long"
        return f'<td class="{kind}">{text}</td>'

    def _chart(self, chart: Chart) -> str:
        self.charts.append(chart)
        key = attribute(chart.key)
        return (
            f'<figure class="chart"><figcaption>{content(chart.title)}</figcaption>'
            f'<div id="chart-{key}" class="plot" role="img" aria-label="{attribute(chart.alt)}" '
            f'style="min-height:{chart.height}px"></div>'
            f"{_paragraphs(chart.notes, 'note')}<details><summary>The numbers of this chart</summary>"
            f"{_paragraphs((chart.alt,), 'note')}{self.table(chart.table)}</details></figure>"
        )

    def _picture(self, picture: Picture) -> str:
        if len(picture.content) * 4 // 3 > self.picture_bytes:
            self.left_out.append(picture.title)
            return _paragraphs((f"{picture.title}: left out, so that the page stays small.",), "note")
        self.picture_bytes -= len(picture.content) * 4 // 3
        data = base64.b64encode(picture.content).decode("ascii")
        return (
            f'<figure class="picture"><figcaption>{content(picture.title)}</figcaption>'
            f'<img src="data:{KINDS[picture.kind]};base64,{data}" alt="{attribute(picture.alt)}">'
            f"{_paragraphs(picture.notes, 'note')}</figure>"
        )


def drawing(block: Drawing) -> str:
    """A network as a table that looks like a drawing: darker boxes have a larger share of multiply-adds."""
    largest = max((line.share for line in block.lines), default=0.0) or 1.0
    rows = "".join(_line(line, line.share / largest) for line in block.lines)
    text = f" <span>{content(block.text)}</span>" if block.text else ""
    return (
        f'<table class="network"><caption>{content(block.title)}{text}</caption><thead><tr>'
        '<th scope="col">stage</th><th scope="col">operator</th><th scope="col">channels</th>'
        '<th scope="col" class="wide">pixels</th><th scope="col">multiply-adds</th>'
        f'<th scope="col" class="wide">parameters</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _line(line: StageLine, part: float) -> str:
    layers = f'<span class="layers">×{line.layers}</span>' if line.layers > 1 else ""  # noqa: RUF001
    return (
        f'<tr><th scope="row">{content(line.stage)}</th>'
        f'<td><div class="op" style="--part:{part:.3f}"><b>{content(line.operator)}</b> '
        f"<span>{content(line.details)}</span>{layers}</div></td>"
        f'<td class="number">{line.channels}</td><td class="wide number">{content(line.resolution)}</td>'
        f'<td><div class="share" style="--part:{part:.3f}"><span>{show_share(line.share)}</span></div></td>'
        f'<td class="wide number">{show_count(line.params)}</td></tr>'
    )


def _facts(facts: Iterable[Fact], kind: str = "facts") -> str:
    shown = "".join(
        f"<div><dt>{content(fact.label)}</dt><dd>{content(_text(fact))}</dd></div>"
        for fact in facts
        if fact.label
    )
    return f'<dl class="{kind}">{shown}</dl>' if shown else ""


def _text(fact: Fact) -> str:
    return fact.text if fact.text is not None else "–" if fact.value is None else str(fact.value)  # noqa: RUF001


def _code(code: Code) -> str:
    text = f'<pre tabindex="0"><code>{content(code.text, keep=LAYOUT)}</code></pre>'
    title = content(code.title)
    if code.is_folded:
        return f"<details><summary>{title}</summary>{text}</details>"
    return (
        f'<figure class="code"><figcaption>{title} <button type="button" class="copy">Copy</button>'
        f"</figcaption>{text}</figure>"
    )


def _paragraphs(lines: Iterable[str], kind: str) -> str:
    mark = f' class="{kind}"' if kind else ""
    return "".join(f"<p{mark}>{content(line)}</p>" for line in lines if line)


def _side(column: Column) -> str:
    return ' class="number"' if column.is_number else ""


def _of(kind: type[_Kind], blocks: Iterable[object]) -> Iterator[_Kind]:
    return (block for block in blocks if isinstance(block, kind))
