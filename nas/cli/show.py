"""`nas show`: a study on one page."""

from __future__ import annotations

from argparse import Namespace

from nas.errors import UsageError
from nas.report.activity import Activity
from nas.report.csv_table import write_csv
from nas.report.printing import emit, make_console
from nas.report.show import TOP, study_report
from nas.report.streams import json_output
from nas.study.journal_file import without_collecting
from nas.study.with_space import open_to_show


def run(arguments: Namespace) -> int:
    """Prints the study.

    Raises:
        UsageError: CSV is asked for beside something that is no table of all trials.
    """
    asked = {"--json": arguments.json, "--pareto": arguments.pareto, "--top": arguments.top is not None}
    others = [name for name, is_asked in asked.items() if is_asked]
    if arguments.csv and others:
        raise UsageError(f"--csv prints every trial and nothing else: leave out {others[0]}", field="csv")
    console = make_console(to_stderr=True)
    with Activity(console, f"reading {arguments.folder}") as activity, without_collecting():
        study, without = open_to_show(arguments.folder)
        if without:
            activity.print(f"shown {without}")
        if arguments.csv:
            rows = study.rows()
            write_csv(rows, rows[0] if rows else ("trial", "status", "reward"), json_output())
            return 0
        report = study_report(study, top=arguments.top or TOP, costs=arguments.pareto)
    emit(report, as_json=arguments.json)
    return 0
