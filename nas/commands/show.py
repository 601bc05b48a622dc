"""Owns `nas show`: a study on one page.

Does not own what is on it (`nas.reports.show`).
"""

from __future__ import annotations

from argparse import Namespace

from nas.reports.printing import emit
from nas.reports.show import open_with_space, study_report


def run(arguments: Namespace) -> int:
    """Prints the study."""
    study = open_with_space(arguments.folder)
    emit(study_report(study, top=arguments.top, costs=arguments.pareto), as_json=arguments.json)
    return 0
