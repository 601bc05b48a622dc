"""`nas evaluate`: the scores of a bundle's network on images whose labels are known."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from nas.report.activity import Activity
from nas.report.printing import emit, make_console
from nas.report.scores_report import scores_report, write_predictions


def run(arguments: Namespace) -> int:
    """Scores, writes what was asked for, prints."""
    from nas.scoring.evaluating import evaluate

    picture = None if arguments.png is None else _picture_path(arguments.png)
    with Activity(make_console(to_stderr=True), "reading images") as activity:
        scores = evaluate(
            arguments.bundle,
            data=arguments.data,
            split=arguments.split,
            runtime=arguments.runtime,
            device=arguments.device,
            batch_size=arguments.batch_size,
            data_root=arguments.data_root,
            download=arguments.download,
            seed=arguments.seed,
            search_fraction=arguments.search_fraction,
            test_fraction=arguments.test_fraction,
            progress=activity,
        )
        files = []
        if arguments.csv is not None:
            files.append(write_predictions(scores, Path(arguments.csv).expanduser()))
        if picture is not None:
            from nas.report.scores_picture import draw_scores

            files.append(draw_scores(scores, picture))
    emit(scores_report(scores, top=arguments.top, files=files), as_json=arguments.json)
    return 0


def _picture_path(text: str) -> Path:
    """Where the picture goes; a name that cannot be drawn to is refused before time is spent."""
    from nas.report.figures import check_name

    path = Path(text).expanduser()
    check_name(path, field="png")
    return path
