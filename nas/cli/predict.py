"""`nas predict`: the classes, labels or numbers of image files."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from nas.report.activity import Activity
from nas.report.predictions_forms import form_of
from nas.report.predictions_report import Tally, csv_writer, predictions_report
from nas.report.printing import emit, make_console

EXIT_NOTHING_READ = 1


def run(arguments: Namespace) -> int:
    """Predicts batch by batch, writes, prints; returns 1 where no image could be read."""
    from nas.export.opened import open_bundle
    from nas.scoring.predicting import Predictor

    csv_file = None if arguments.csv is None else Path(arguments.csv).expanduser()
    with Activity(make_console(to_stderr=True), "loading the network") as activity:
        opened = open_bundle(arguments.bundle)
        predictor = Predictor(
            opened,
            arguments.paths,
            runtime=arguments.runtime,
            top=arguments.top,
            threshold=arguments.threshold,
            batch_size=arguments.batch_size,
            device=arguments.device,
        )
        form = form_of(predictor.preprocessing, predictor.top)
        tally = Tally(form, keeps_all=arguments.json)
        with csv_writer(csv_file, form) as write:
            for batch in predictor:
                write(batch.images)
                tally.add(batch.images, batch.unreadable)
                activity(f"predicted {tally.total:,} of {len(predictor.files):,} images")
    report = predictions_report(
        tally,
        predictor.preprocessing,
        bundle=str(opened.folder),
        runtime=predictor.runtime,
        notes=predictor.notes,
        csv_file=csv_file,
    )
    emit(report, as_json=arguments.json)
    return 0 if tally.total else EXIT_NOTHING_READ
