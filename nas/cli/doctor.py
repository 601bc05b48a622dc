"""`nas doctor`: each check of this machine as a line, with the remedy where one is needed."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING

from nas.report.activity import Activity
from nas.report.printing import make_console, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from nas.doctor import Finding

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
EXIT_FAILED = 1


def run(arguments: Namespace) -> int:
    """Prints the findings as they are made; returns 1 where one of them is `fail`."""
    from nas.doctor import diagnose

    console = make_console()
    findings = []
    with Activity(
        make_console(to_stderr=True) if arguments.json else console, "checking this machine"
    ) as now:
        for finding in diagnose(out=arguments.out, with_ray=not arguments.no_ray):
            findings.append(finding)
            now(f"{len(findings)} checks are done")
            if not arguments.json:
                _draw(finding, console)
                now.heard()
    counts = {status: sum(one.status == status for one in findings) for status in STYLES}
    if arguments.json:
        write_json({"findings": [asdict(finding) for finding in findings], "counts": counts})
    else:
        console.print(", ".join(f"{count} {status}" for status, count in counts.items()))
    return EXIT_FAILED if counts["fail"] else 0


def _draw(finding: Finding, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=4)
    grid.add_column(width=20)
    grid.add_column(overflow="fold")
    words = Text(finding.detail)
    if finding.remedy:
        words.append(f"\n{finding.remedy}", style="dim")
    grid.add_row(Text(finding.status, style=STYLES[finding.status]), finding.name, words)
    console.print(grid)
