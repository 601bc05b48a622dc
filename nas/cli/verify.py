"""`nas verify`: whether a study is whole, and what a repair did."""

from __future__ import annotations

from argparse import Namespace

from nas.config.readers import folder_path
from nas.report.activity import Activity
from nas.report.printing import emit, make_console
from nas.report.verify_report import verify_report
from nas.study.verification import verify

EXIT_PROBLEMS = 1


def run(arguments: Namespace) -> int:
    """Prints what was found; returns 1 where there are problems, also where a repair has left some."""
    folder = folder_path(arguments.folder)
    with Activity(make_console(to_stderr=True), f"checking {folder}"):
        found = verify(folder, repair=arguments.repair)
    emit(verify_report(found), as_json=arguments.json)
    return 0 if found.is_sound else EXIT_PROBLEMS
