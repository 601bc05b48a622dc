"""What networks reach in shared weights against what they reach when they are trained by themselves."""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean

from nas.evaluation.agreement import Agreement, agreement_of
from nas.report.agreement_report import agreement_words, marginal_table
from nas.report.page.charting import metric_axis, metric_column, titled, trial_points
from nas.report.page.parts import Absent, Block, Chart, Section
from nas.report.page.source import Source
from nas.report.printing import TRIAL, Table
from nas.report.winner_report import COMPARED

KEY, TITLE = "shared", "Shared weights and trainings"


def shared_weights(source: Source) -> Section | Absent:
    """The networks of a study in shared weights that were also trained in full."""
    study = source.study
    if not study.has_completed or not study.best.has_shared_weights:
        return Absent(key=KEY, title=TITLE, reason="every candidate was trained by itself")
    metric, alone = study.best.quality_metric, defaultdict(list)
    same = (metric, study.identity.data, study.identity.split)
    for one in source.beside.trainings:
        if (one.metric, one.images, one.split) == same and one.search_value is not None:
            alone[one.digest].append(one.search_value)
    found = agreement_of(study, {digest: fmean(values) for digest, values in alone.items()})
    if found is None:
        words = f"nas train {study.folder} --top {len(study.top(COMPARED))} --out DIR"
        return Absent(
            key=KEY,
            title=TITLE,
            reason=f"fewer than two of its networks were trained in full: {words} trains some, and nas "
            "report given both folders compares them",
        )
    blocks: list[Block] = [_chart(source, found)]
    blocks += [marginal_table(found.marginals)] if found.marginals else []
    return Section(key=KEY, title=TITLE, lead=agreement_words(found), blocks=tuple(blocks))


def _chart(source: Source, found: Agreement) -> Chart:
    metric = found.metric
    trials = source.study.trials_at(one.trial for one in found.pairs)
    shared, alone = [one.shared for one in found.pairs], [one.alone for one in found.pairs]
    points = trial_points(trials, shared, alone, name="networks", metrics=(metric, "macs", "params"))
    return Chart(
        key=KEY,
        title=f"{titled(metric)} in shared weights, and after training by itself",
        figure={
            "data": [points],
            "layout": {
                "xaxis": metric_axis(metric, shared, where=", shared weights"),
                "yaxis": metric_axis(metric, alone, where=", trained"),
                "showlegend": False,
            },
        },
        alt=agreement_words(found),
        table=Table(
            key="agreement",
            title="Networks by both, on the search split",
            columns=(
                TRIAL,
                metric_column(metric, key="shared", where=" (shared weights)"),
                metric_column(metric, key="alone", where=" (trained)"),
            ),
            rows=tuple({"trial": one.trial, "shared": one.shared, "alone": one.alone} for one in found.pairs),
        ),
    )
