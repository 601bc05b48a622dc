"""Everything that must be known to search again as a study did."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from nas.reading import parse_json
from nas.report.page.parts import Block, Code, Section, Words
from nas.report.page.source import Source
from nas.report.page.trial_cards import place
from nas.report.printing import Column, Fact, Report, Table
from nas.study.attempts import read_attempts
from nas.study.study import Study

KEY, TITLE = "repeat", "To repeat it"


def repeat(source: Source) -> Section:
    """The command, versions, seeds, hardware and data."""
    study = source.study
    blocks: list[Block] = []
    if source.command:
        blocks.append(Code(title="The command", text=source.command))
    else:
        blocks.append(
            Words(
                lines=(
                    "The study does not say its command line: it was begun from Python, whose arguments are "
                    "not stored. What follows is what its journal knows.",
                )
            )
        )
    blocks += [Report(title="", facts=tuple(_facts(study))), _hardware(study), *_stored(study)]
    lead = (
        "Equal command, version, seed, data and machine give the same candidates in the same order only with "
        "--deterministic; without it results count as they come."
    )
    if study.identity.deterministic_workers is not None:
        lead = (
            f"The schedule was fixed (--deterministic, {study.identity.deterministic_workers} at a time): "
            "equal command, version, data and machine give an equal journal, but for times."
        )
    return Section(key=KEY, title=TITLE, lead=lead, blocks=tuple(blocks))


def _facts(study: Study) -> Iterator[Fact]:
    summary, identity = study.summary(), study.identity
    for label, value in (
        ("folder", place(study.folder)),
        ("made with", f"mnas {summary.package_version}"),
        ("begun", summary.created_at),
        ("ended", summary.ended_at),
        ("seed", summary.seed),
        ("objective", summary.objective),
        ("space", f"{summary.space_name}  (fingerprint {identity.space})"),
        ("controller", summary.controller),
        ("data", study.provenance.data_text),
        ("data fingerprint", identity.data),
        ("split fingerprint", identity.split),
        ("recipe fingerprint", identity.recipe),
        ("evaluator fingerprint", identity.evaluator),
    ):
        if value not in (None, ""):
            yield Fact(key=label.replace(" ", "_"), label=label, value=value)


def _hardware(study: Study) -> Table:
    """Where what was measured, as the measurements say it, and the machines of the workers."""
    environments = Counter(
        metric.environment for trial in study.trials for metric in trial.metrics if metric.environment
    )
    machines = Counter(one.node.partition(", process ")[0] for one in read_attempts(study.folder))
    rows = [{"what": "machine", "name": name, "count": count} for name, count in machines.most_common()]
    rows += [{"what": "measured on", "name": name, "count": n} for name, n in environments.most_common()]
    columns = (
        Column(key="what", heading=""),
        Column(key="name", heading="hardware"),
        Column(key="count", heading="times", is_number=True),
    )
    return Table(
        key="hardware", title="Machines, and what measurements say of them", columns=columns, rows=tuple(rows)
    )


def _stored(study: Study) -> Iterator[Block]:
    """What the study stores, whole."""
    texts = {
        "Training recipe": study.provenance.recipe_json,
        "Preprocessing of images": study.provenance.preprocessing_json,
        "Objective": study.identity.objective,
        "Settings": json.dumps(study.settings) if study.settings else "",
    }
    for title, text in texts.items():
        if text:
            yield Code(title=title, text=_indented(text), is_folded=True)


def _indented(text: str) -> str:
    try:
        return json.dumps(parse_json(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text
