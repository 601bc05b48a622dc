"""`nas report`: a study on one HTML page that opens offline."""

from __future__ import annotations

from argparse import Namespace

from nas.report.activity import Activity
from nas.report.printing import Fact, Report, emit, make_console, show_bytes
from nas.study_page import Written, write_report

MOST_SHOWN = 12
"""Folders and files that are named; `--json` has all."""


def run(arguments: Namespace) -> int:
    """Writes the page, and says where."""
    folders = arguments.folders
    with Activity(make_console(to_stderr=True), f"reading {', '.join(folders)}"):
        written = write_report(folders, arguments.out)
    emit(_report(written), as_json=arguments.json)
    return 0


def _report(written: Written) -> Report:
    page = written.page
    left = len(written.found) - MOST_SHOWN
    return Report(
        title="",
        facts=(
            Fact(key="path", label="page", value=str(written.path)),
            Fact(key="bytes", label="size", value=written.size, text=show_bytes(written.size)),
            Fact(
                key="read",
                label="made of",
                value=[{"path": str(one.path), "kind": one.kind} for one in written.found],
                text="\n".join(f"{one.kind}: {one.path}" for one in written.found[:MOST_SHOWN])
                + (f"\n{left} more" if left > 0 else ""),
            ),
            Fact(
                key="sections",
                label="sections",
                value=[section.key for section in page.sections],
                text=", ".join(section.title for section in page.sections),
            ),
            Fact(
                key="left_out",
                label="not on it" if page.absent else "",
                value={part.key: part.reason for part in page.absent},
                text=", ".join(part.title for part in page.absent),
            ),
        ),
    )
