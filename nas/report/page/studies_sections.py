"""The sections of the page that compares studies; of its own here their table, and which are comparable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nas.report.page.charting import metric_column
from nas.report.page.parts import Absent, Block, Section, Words
from nas.report.page.studies import Group, Named, Setup, cautions, differences, group, images
from nas.report.page.studies_best import best_of_studies
from nas.report.page.studies_differences import differences_of_studies
from nas.report.page.studies_fronts import fronts_of_studies, winners_of_studies
from nas.report.page.timeline import gpu_fact
from nas.report.printing import MACS, PARAMS, Column, Row, Table, show_seconds
from nas.study.attempts import span


def compare_studies(studies: Sequence[Named]) -> tuple[Section | Absent, ...]:
    """All sections about several studies."""
    groups = group(studies)
    return (
        _table(studies, groups),
        best_of_studies(groups),
        fronts_of_studies(groups),
        winners_of_studies(studies),
        differences_of_studies(groups),
    )


def _table(studies: Sequence[Named], groups: Sequence[Group]) -> Section:
    letters = {one.name: found.letter for found in groups for one in found.studies}
    table = Table(
        key="studies",
        title="Studies",
        columns=_columns(studies),
        rows=tuple(_row(one, letters[one.name]) for one in studies),
        notes=(
            "Wall time is from the first attempt to the last, with pauses between. Metrics of studies with "
            "another letter are of other images, another split, or another objective.",
        ),
    )
    if len(groups) == 1:
        lead = f"All {len(studies)} studies have equal images, split and objective, and can be compared."
    else:
        shared = [found for found in groups if len(found.studies) > 1]
        lead = (
            f"{len(studies)} studies of {len(groups)} kinds, whose images, splits or objectives differ: "
            f"only those of one letter can be compared{', and here no two can' * (not shared)}."
        )
    return Section(key="studies", title="Studies", lead=lead, blocks=(table, *_comparable(groups)))


def _columns(studies: Sequence[Named]) -> tuple[Column, ...]:
    metrics = tuple(dict.fromkeys(one.quality_metric for one in studies))
    tested = tuple(dict.fromkeys(one.comparison.metric for one in studies if one.comparison is not None))
    is_shared = any(one.study.completed and one.study.best.has_shared_weights for one in studies)
    return (
        Column(key="study", heading="study"),
        Column(key="comparable", heading="comparable"),
        Column(key="space", heading="space"),
        Column(key="controller", heading="controller"),
        Column(key="seed", heading="seed", is_number=True),
        Column(key="trials", heading="trials", show="{:,}".format, is_number=True),
        Column(key="wall_hours", heading="wall time", show=_show_hours, is_number=True),
        Column(key="worker_hours", heading="in workers", show=_show_hours, is_number=True),
        Column(key="gpu", heading="GPU-hours", is_number=True),
        Column(key="winner", heading="winner", show="trial {}".format, is_number=True),
        *(metric_column(name, where=" (search)") for name in metrics),
        *([Column(key="weights", heading="weights")] if is_shared else []),
        *(metric_column(name, key=f"test_{name}", where=" (test)") for name in tested),
        MACS,
        PARAMS,
    )


def _row(one: Named, letter: str) -> Row:
    study, summary, comparison = one.study, one.study.summary(), one.comparison
    whole, gpu = span(one.attempts), gpu_fact(study, summary.worker_hours)
    row: dict[str, object] = {
        "study": one.name,
        "comparable": letter,
        "space": summary.space_name,
        "data": study.provenance.data_text or None,
        "objective": summary.objective,
        "controller": summary.controller,
        "seed": summary.seed,
        "trials": len(study.trials),
        "wall_hours": None if whole is None else whole.total_seconds() / 3600,
        "worker_hours": summary.worker_hours,
        "gpu_hours": gpu.value,
        "gpu": f"{gpu.value:.2f} h" if gpu.value is not None else f"at most {summary.worker_hours:.2f} h",
        "folder": str(study.folder),
    }
    if study.completed:
        best = study.best
        row |= {"winner": best.number, best.quality_metric: best.mean_quality}
        row |= {"macs": best.macs, "params": best.params}
        row["weights"] = "shared" if best.has_shared_weights else "its own"
    if comparison is not None:
        row[f"test_{comparison.metric}"] = comparison.winner.mean
    return row


def _show_hours(hours: float) -> str:
    return show_seconds(3600 * hours)


def _comparable(groups: Sequence[Group]) -> Iterator[Block]:
    """Which studies can be compared, why others cannot, and what to remember of those that can."""
    lines = []
    for found in groups:
        first = found.studies[0]
        names = ", ".join(one.name for one in found.studies)
        lines.append(f"{found.letter}: {names}. Images: {images(first)}. {first.study.objective.describe()}.")
        same = [setup for setup in found.setups if len(setup.studies) > 1]
        lines += [f"{setup.name} differ in {_difference(setup)}." for setup in same]
        differing = cautions(found)
        if differing:
            lines.append(f"What differs between them beside the seed: {', '.join(differing)}.")
    yield Words(lines=tuple(lines))
    reference = groups[0].studies[0]
    reasons = [_reason(reference, other.studies[0]) for other in groups[1:]]
    if reasons:
        yield Words(lines=tuple(f"Not comparable: {reason}" for reason in reasons), is_warning=True)


def _difference(setup: Setup) -> str:
    counts = {len(one.study.trials) for one in setup.studies}
    return "the seed alone" if len(counts) == 1 else "the seed and the number of trials"


def _reason(one: Named, other: Named) -> str:
    return f"{one.name} and {other.name} differ in {' and '.join(differences(one, other))}."
