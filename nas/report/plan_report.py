"""What is known before anything runs: the images, a space's profile, and a search's plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nas.evaluation.space_profile import Plan, SpaceProfile
from nas.report.printing import (
    Column,
    Fact,
    Report,
    Row,
    Table,
    show_count,
    show_metric,
    show_seconds,
    show_share,
)
from nas.study.trial_rows import option_words
from nas.tasks import CLASSIFICATION
from search_spaces import Decision

if TYPE_CHECKING:
    from nas.data.images import ImageData
    from nas.training.recipe import Recipe

LONGEST_OPTIONS = 100
BAR = 40

METRIC_WORDS = {"macs": "macs", "params": "params", "inference_bytes": "inference memory"}


def data_facts(data: ImageData, recipe: Recipe | None, *, metric: str) -> tuple[Fact, ...]:
    """Notes, then the augmentation where a recipe is trained by, then warnings.

    Args:
        data: The images.
        recipe: How candidates are trained on them; None where the user's own evaluator does it.
        metric: What a search maximises: where accuracy misleads, what helps is said.
    """
    if recipe is None:
        return (*_numbered("note", data.notes), *_numbered("warning", data.warnings))
    from nas.training.mirroring import describe_augmentation, mirror_warning
    from nas.training.training import settle_augmentation

    alarm = mirror_warning(recipe, data)
    augmentation = Fact(
        key="augmentation",
        label="augmentation",
        value=settle_augmentation(recipe, data),
        text=describe_augmentation(recipe, data),
    )
    warnings = (*data.warnings, *([alarm] if alarm else []), *_remedy(data, recipe, metric))
    return (*_numbered("note", data.notes), augmentation, *_numbered("warning", warnings))


def _remedy(data: ImageData, recipe: Recipe, metric: str) -> tuple[str, ...]:
    """What to do where one class is so large that accuracy misleads; nothing where that is done."""
    from nas.data.targets import is_misleading, majority_share

    if data.task != CLASSIFICATION or not is_misleading(majority_share(data.train.labels), data.num_classes):
        return ()
    is_balanced = "balanced" in (recipe.class_weights, recipe.sampling)
    found = [
        *(["--metric balanced_accuracy searches by the mean recall of the classes"] * (metric == "accuracy")),
        *(["--class-weights balanced trains so that classes count alike"] * (not is_balanced)),
    ]
    return ("; ".join(found),) if found else ()


def _numbered(kind: str, texts: Sequence[str]) -> list[Fact]:
    return [
        Fact(key=f"{kind}_{number}", label=kind, value=text) for number, text in enumerate(texts, start=1)
    ]


def profile_report(profile: SpaceProfile, plan: Plan, *, title: str, facts: tuple[Fact, ...] = ()) -> Report:
    """The report of a profile and a plan."""
    size = Fact(key="size", label="candidates", value=profile.size, text=_size(profile))
    count = Fact(key="decision_count", label="decisions", value=len(profile.decisions))
    sample = Fact(
        key="sample",
        label="sample",
        value={"n": profile.samples, "seed": profile.seed},
        text=f"{profile.samples:,} random candidates, seed {profile.seed}",
    )
    tables = [_decisions(profile.decisions), _spreads(profile), _distribution(profile)]
    if profile.shares:
        tables.append(_shares(profile))
    notes = []
    if profile.undecided:
        notes.append(
            f"{', '.join(profile.undecided)}: must be measured, so it rejects nothing before training"
        )
    return Report(
        title=title,
        facts=(*facts, count, size, sample),
        tables=(*tables, _plan(plan)),
        notes=tuple(notes),
    )


def _size(profile: SpaceProfile) -> str:
    return f"{profile.size:,}" if profile.size < 10**6 else f"{profile.size:,} ({profile.size:.2e})"


def _decisions(decisions: tuple[Decision, ...]) -> Table:
    """Every decision; users see those with equal options and conditions in one row."""
    rows = tuple(
        {
            "decision": decision.name,
            "options": _options(decision),
            "only_if": _condition(decision, decisions),
        }
        for decision in decisions
    )
    drawn = _merged(rows)
    columns = [
        Column(key="where", heading="where"),
        Column(key="what", heading="decision"),
        Column(key="options", heading="options", show=_join),
    ]
    if any(row["only_if"] for row in drawn):
        columns.append(Column(key="only_if", heading="only if"))
    return Table(key="decisions", title="Decisions", columns=tuple(columns), rows=rows, drawn=drawn)


def _merged(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Rows that differ only in their block as one; `block2.repeats` is `repeats` of `block2`."""
    places: dict[str, list[str]] = {}
    merged: dict[str, dict[str, Any]] = {}
    for row in rows:
        where, dot, what = row["decision"].rpartition(".")
        key = repr((what, row["options"], row["only_if"]))
        places.setdefault(key, []).append(where if dot else "")
        merged.setdefault(key, {**row, "what": what})
    return tuple({**row, "where": _range(places[key])} for key, row in merged.items())


def _range(places: list[str]) -> str:
    """Neighbours with one stem and rising numbers as a range: `block2 to block5`."""
    groups: list[list[str]] = []
    for place in places:
        if groups and _follows(groups[-1][-1], place):
            groups[-1].append(place)
        else:
            groups.append([place])
    return ", ".join(f"{group[0]} to {group[-1]}" if len(group) > 2 else ", ".join(group) for group in groups)


def _follows(before: str, after: str) -> bool:
    stem = before.rstrip("0123456789")
    number = before[len(stem) :]
    return number != "" and after == f"{stem}{int(number) + 1}"


def _join(options: list[object]) -> str:
    text = ", ".join(map(str, options))
    return text if len(text) <= LONGEST_OPTIONS else text[: LONGEST_OPTIONS - 4] + " ..."


def _options(decision: Decision) -> list[object]:
    """Options as they are where JSON has them, and in words where it does not."""
    words = option_words(decision.options)
    return [
        option if option is None or isinstance(option, bool | int | float | str) else word
        for option, word in zip(decision.options, words, strict=True)
    ]


def _condition(decision: Decision, decisions: tuple[Decision, ...]) -> str | None:
    """When a decision is open; None where it always is, also because every option of its parent opens it."""
    for parent, tokens in decision.conditions:
        options = decisions[parent].options
        if len(tokens) == len(options) and _condition(decisions[parent], decisions) is None:
            return None
    words = []
    for parent, tokens in decision.conditions:
        names = option_words(decisions[parent].options)
        words.append(f"{decisions[parent].name} is {' or '.join(names[token] for token in tokens)}")
    return " or ".join(words) or None


def _spreads(profile: SpaceProfile) -> Table:
    columns = [Column(key="metric", heading="one image", show=lambda name: METRIC_WORDS.get(name, name))]
    columns += [
        Column(key=f"{key}_text", heading=heading, is_number=True)
        for key, heading in (
            ("minimum", "least"),
            ("percent_1", "1 %"),
            ("first_quartile", "25 %"),
            ("median", "median"),
            ("third_quartile", "75 %"),
            ("percent_99", "99 %"),
            ("maximum", "most"),
            ("reference", "reference"),
        )
    ]
    rows = [asdict(spread) for spread in profile.spreads]
    drawn = [
        row
        | {f"{key}_text": show_metric(row["metric"], value) for key, value in row.items() if _is_cost(value)}
        for row in rows
    ]
    seen = [METRIC_WORDS[spread.metric] for spread in profile.spreads if not spread.is_exact]
    return Table(
        key="costs",
        title=f"Costs of {profile.samples:,} random candidates",
        columns=tuple(columns),
        rows=tuple(rows),
        drawn=tuple(drawn),
        notes=(f"least and most are those of the whole space{_but(seen)}",),
    )


def _is_cost(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _but(seen: list[str]) -> str:
    return f"; of {' and '.join(seen)} those of the sample" if seen else ""


def _distribution(profile: SpaceProfile) -> Table:
    """Multiply-adds of the sample as a histogram; a row is an interval, and says where the reference lies."""
    spread = profile.spreads[0]
    most = max(spread.counts)
    rows = []
    for low, high, count in zip(spread.edges[:-1], spread.edges[1:], spread.counts, strict=True):
        is_here = spread.reference is not None and low <= spread.reference < high
        rows.append(
            {
                "from": low,
                "to": high,
                "count": count,
                "share": count / profile.samples,
                "bar": _bar(count / most) + ("  reference" if is_here else ""),
            }
        )
    columns = (
        Column(key="from", heading="macs from", show=show_count, is_number=True),
        Column(key="to", heading="to", show=show_count, is_number=True),
        Column(key="share", heading="share", show=show_share, is_number=True),
        Column(key="bar", heading=""),
    )
    json_rows = tuple({key: value for key, value in row.items() if key != "bar"} for row in rows)
    return Table(
        key="distribution",
        title="Multiply-adds of the candidates",
        columns=columns,
        rows=json_rows,
        drawn=tuple(rows),
    )


def _bar(share: float) -> str:
    """A bar of up to 40 characters, in eighths."""
    whole, eighths = divmod(round(share * BAR * 8), 8)
    return "█" * whole + ("" if not eighths else "▏▎▍▌▋▊▉"[eighths - 1])


def _shares(profile: SpaceProfile) -> Table:
    rows = tuple(
        {
            "limit": share.limit,
            "kind": share.kind,
            "share": share.share,
            "kept": share.kept,
            "samples": share.samples,
            "low": share.interval[0],
            "high": share.interval[1],
        }
        for share in profile.shares
    )
    columns = (
        Column(key="limit", heading="limit"),
        Column(key="kind", heading="kind"),
        Column(key="share", heading="share", show=show_share, is_number=True),
        Column(key="low", heading="95 % from", show=show_share, is_number=True),
        Column(key="high", heading="to", show=show_share, is_number=True),
    )
    notes = []
    if any(share.kind == "target" for share in profile.shares):
        notes.append("a target rejects nothing: it only counts in the reward; a constraint rejects")
    if any(share.kept == 0 for share in profile.shares):
        notes.append(
            "no sampled candidate keeps a limit: see the minimum above, and consider a smaller --width"
        )
    return Table(
        key="limits",
        title="Candidates that satisfy the limits",
        columns=columns,
        rows=rows,
        notes=tuple(notes),
    )


def _plan(plan: Plan) -> Table:
    row = {
        "trials": plan.trials,
        "workers": plan.workers,
        "gpus_per_worker": plan.gpus_per_worker,
        "seconds_per_trial": plan.seconds_per_trial,
        "seconds_per_trial_origin": plan.origin,
        "seconds": plan.seconds,
        "worker_hours": plan.worker_hours,
        "gpu_hours": plan.gpu_hours,
    }
    columns = (
        Column(key="trials", heading="trials", is_number=True),
        Column(key="workers", heading="workers", is_number=True),
        Column(key="gpus_per_worker", heading="GPUs each", show=lambda v: f"{v:g}", is_number=True),
        Column(key="seconds_per_trial", heading="one trial", show=show_seconds, is_number=True),
        Column(key="seconds", heading="whole search", show=show_seconds, is_number=True),
        Column(key="worker_hours", heading="worker hours", show=lambda v: f"{v:.3g}", is_number=True),
        Column(key="gpu_hours", heading="GPU hours", show=lambda v: f"{v:.3g}", is_number=True),
    )
    return Table(
        key="plan",
        title="Plan",
        columns=columns,
        rows=(row,),
        notes=(
            f"one trial: {plan.origin}; the whole: workers always busy, start-up and comparison left out",
        ),
    )
