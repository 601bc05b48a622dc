"""Writes a page as one HTML file that opens offline: no request leaves it, and its policy forbids any."""

from __future__ import annotations

import base64
import gzip
import hashlib
from functools import cache
from importlib import resources
from typing import Any

from nas.errors import UsageError
from nas.report.figures import BLUE, GREEN, GREY, INK, ORANGE, PALE, SKY, VERMILION
from nas.report.page.escaping import attribute, content, harmless_figure, script_json, visible_data
from nas.report.page.parts import Absent, Chart, Page
from nas.report.page.rendering import Renderer

MOST_BYTES = 6_000_000
"""A page is smaller: it goes through every mailbox."""

RESERVE = 150_000
"""Room that is left for what is written around the pictures."""

PALETTE = {
    "blue": (BLUE, "#4BA3DC"),
    "sky": (SKY, "#8CCBF2"),
    "orange": (ORANGE, "#F0B83C"),
    "vermilion": (VERMILION, "#F4824A"),
    "green": (GREEN, "#35C79A"),
    "ink": (INK, "#E8EBEF"),
    "grey": (GREY, "#9AA3AE"),
    "pale": (PALE, "#3A424D"),
}
"""Colours by name, on white and on near black."""


def render(page: Page) -> bytes:
    """The page as a file.

    Raises:
        UsageError: plotly, which draws the charts, is not installed.
    """
    library, trials = plotly_script(), script_json(visible_data(page.trials))
    renderer = Renderer(trials=frozenset(map(int, page.trials.get("cards", {}))), picture_bytes=0)
    body, charts = _body(page, renderer)
    room = MOST_BYTES - sum(map(len, (_packed(library), trials, body, charts))) - RESERVE
    if renderer.left_out and room > 0:  # now it is known how much room there is for pictures
        renderer = Renderer(trials=renderer.trials, picture_bytes=room)
        body, charts = _body(page, renderer)
    data = f'{{"charts":{charts},"trials":{trials}}}'
    own = _asset("page.js")
    policy = (
        f"default-src 'none'; script-src {_hash(own)} {_hash(library)}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en">',
            _head(page, policy),
            f'<body>{_top(page)}<main id="main" tabindex="-1">',
            f"{_heading(page)}{body}{_absent(page.absent)}</main>",
            _footer(),
            _asset("page.html"),
            f'<script type="application/json" id="data">{data}</script>',
            f'<script type="application/gzip" id="library">{_packed(library)}</script>',
            f"<script>{own}</script>",
            "</body></html>\n",
        )
    ).encode("utf-8", "backslashreplace")


def _body(page: Page, renderer: Renderer) -> tuple[str, str]:
    """The sections as HTML, and their charts as JSON."""
    body = "".join(renderer.section(section) for section in page.sections)
    return body, script_json([_drawn(chart) for chart in renderer.charts])


def plotly_script() -> str:
    """The library that draws the charts, as JavaScript.

    Raises:
        UsageError: It is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise UsageError(
            "the charts of a page need plotly, which is not installed: pip install 'mnas[report]'",
            field="out",
        ) from error
    script: str = get_plotlyjs()
    return script


@cache
def _packed(script: str) -> str:
    """The script as base64 of gzip, which the browser unpacks: a third of its size."""
    return base64.b64encode(gzip.compress(script.encode(), 9, mtime=0)).decode("ascii")


def _hash(script: str) -> str:
    """What the policy of the page knows a script by.

    Source: W3C Content Security Policy Level 3, 6.7.2.
    """
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _drawn(chart: Chart) -> dict[str, Any]:
    figure = harmless_figure(chart.figure)
    return {"key": chart.key, "height": chart.height, "data": figure["data"], "layout": figure["layout"]}


def _head(page: Page, policy: str) -> str:
    light, dark = ("".join(f"--{name}:{shades[i]};" for name, shades in PALETTE.items()) for i in (0, 1))
    colours = (
        f":root{{{light}}}@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}"
        f":root[data-theme=dark]{{{dark}}}"
    )
    return (
        '<head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{attribute(policy)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f"<title>{content(page.title)}</title><style>{colours}{_asset('page.css')}</style></head>"
    )


def _top(page: Page) -> str:
    links = "".join(
        f'<li><a href="#{attribute(section.key)}">{content(section.title)}</a></li>'
        for section in page.sections
    )
    return (
        '<a class="skip" href="#main">Skip to the content</a><header class="bar">'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>'
        '<button type="button" id="theme" aria-pressed="false">Dark</button></header>'
    )


def _heading(page: Page) -> str:
    notes = "".join(f'<p class="warning">{content(note)}</p>' for note in page.notes)
    return (
        f'<div class="title"><h1>{content(page.title)}</h1><p>{content(page.subtitle)}</p></div>'
        f"{notes}<noscript><p class='warning'>Charts need JavaScript; the numbers of each are in the list "
        "below it.</p></noscript>"
    )


def _absent(parts: tuple[Absent, ...]) -> str:
    if not parts:
        return ""
    items = "".join(f"<div><dt>{content(p.title)}</dt><dd>{content(p.reason)}.</dd></div>" for p in parts)
    return (
        '<section id="absent" aria-labelledby="absent-title"><h2 id="absent-title">Not on this page</h2>'
        f'<dl class="facts">{items}</dl></section>'
    )


def _footer() -> str:
    from nas.version import package_version

    return (
        f"<footer><p>Made by nas report of mnas {content(package_version())}. This file holds everything "
        "that it shows, and asks no network for anything.</p></footer>"
    )
