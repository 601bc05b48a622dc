"""A study's trials as rows of plain values, one a trial, for tables of other programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass

from nas.metrics import KNOWN_METRICS, REGISTRY, metric_info
from nas.study.study_trial import StudyTrial
from search_spaces import SearchSpace
from search_spaces.choices import has_choice

Value = str | int | float | bool | None

DECISION = "decision/"
"""Begins the name of a decision, so that it is not taken for a metric's."""


def trial_rows(
    trials: Sequence[StudyTrial], space: SearchSpace | None, nodes: Mapping[int, str]
) -> list[dict[str, Value]]:
    """One row for each trial; every row has the same names in the same order.

    Args:
        trials: The trials.
        space: Their space; None names decisions by their place and gives tokens in place of options.
        nodes: Where each trial ran last, by its number.
    """
    units = {metric.name: metric.unit for trial in trials for metric in trial.metrics}
    names = [name for name in REGISTRY if name in units and name not in KNOWN_METRICS]
    names += sorted(set(units) - set(REGISTRY))
    columns = {name: _with_unit(name, units[name]) for name in names}
    predicted = [name for name in KNOWN_METRICS if name in units or name in ("macs", "params", "activations")]
    decisions = _Decisions(space, len(trials[0].tokens) if trials else 0)
    return [
        {
            "trial": trial.number,
            "status": trial.status.value,
            "reward": trial.reward,
            **{column: trial.metric(name) for name, column in columns.items()},
            **{name: trial.costs.get(name) for name in predicted},
            "fidelity": trial.fidelity,
            **decisions.of(trial.tokens),
            "seed": trial.seed,
            "worker_seconds": trial.seconds,
            "worker": nodes.get(trial.number, ""),
            "attempts": trial.attempts,
            "cause": "" if trial.cause is None else trial.cause.value,
            "message": trial.message,
            "origin": trial.origin,
            "replicate": trial.replicate,
            "copied_from": trial.copied_from,
            "continues": trial.continues,
            "has_weights": trial.weights_file is not None,
            "proposed_at": trial.proposed_at,
            "finished_at": trial.finished_at,
            "digest": trial.digest,
        }
        for trial in trials
    ]


class _Decisions:
    """The options of a candidate by the names of its decisions, which differ."""

    def __init__(self, space: SearchSpace | None, count: int) -> None:
        self._space = space
        named = [str(place) for place in range(count)]
        self._options: list[tuple[Value, ...]] | None = None
        if space is not None:
            named = [decision.name for decision in space.decisions]
            self._options = [_plain(decision.options) for decision in space.decisions]
        self._names = [f"{DECISION}{name}" for name in named]

    def of(self, tokens: Sequence[int]) -> dict[str, Value]:
        """The option of each decision; None where the decision is not active."""
        if self._space is None or self._options is None:
            return dict(zip(self._names, tokens, strict=True))
        parts = zip(self._names, self._options, tokens, self._space.active(tokens), strict=True)
        return {name: options[token] if is_active else None for name, options, token, is_active in parts}


def _plain(options: Sequence[object]) -> tuple[Value, ...]:
    """Numbers and texts as they are, where all options are; else words that differ."""
    if all(isinstance(option, str | int | float) for option in options):
        return tuple(option for option in options if isinstance(option, str | int | float))
    return option_words(options)


def option_words(options: Sequence[object]) -> tuple[str, ...]:
    """Options in words, each different: an op by its name and by what sets it apart from its like."""
    like = Counter(type(option) for option in options)
    words = [
        _op_words(option, [other for other in options if type(other) is type(option)])
        if like[type(option)] > 1 or is_dataclass(option)
        else str(option)
        for option in options
    ]
    count = Counter(words)
    return tuple(word if count[word] == 1 else f"{word} #{index}" for index, word in enumerate(words))


def _op_words(option: object, alike: Sequence[object]) -> str:
    if not is_dataclass(option) or isinstance(option, type):
        return str(option)
    apart = [
        f"{field.name}={getattr(option, field.name)}"
        for field in fields(option)
        if not has_choice(getattr(option, field.name))
        and any(getattr(other, field.name) != getattr(option, field.name) for other in alike)
    ]
    return " ".join([type(option).__name__, *apart])


def _with_unit(name: str, unit: str) -> str:
    """The name of a metric, with the unit that a user gave it where nothing says it yet."""
    is_said = unit == metric_info(name).unit.name or unit in ("", "fraction", "count", "number")
    return name if is_said else f"{name} [{unit}]"
