"""`nas show`: a study on one page."""

from __future__ import annotations

from argparse import Namespace

from nas.report.activity import Activity
from nas.report.printing import emit, make_console
from nas.report.show import open_with_space, study_report


def run(arguments: Namespace) -> int:
    """Prints the study."""
    with Activity(make_console(to_stderr=True), f"reading {arguments.folder}"):
        study = open_with_space(arguments.folder)
        report = study_report(study, top=arguments.top, costs=arguments.pareto)
    emit(report, as_json=arguments.json)
    return 0
