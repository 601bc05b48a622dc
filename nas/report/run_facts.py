"""What a service is told of a study beside its steps: key, settings, versions, winner."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nas.reading import parse_json
from nas.study.study import Study
from nas.values import digest

VERSIONS = ("torch", "torchvision", "timm", "ray", "numpy")
"""Packages whose versions are told beside ours."""

PRIVATE = ("recipe", "wandb", "mlflow", "mlflow_experiment")
"""Settings that are not told: the recipe is told by its fields, and services need not know each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What is told of a study before its first step.

    Attributes:
        key: 16 hex digits that the study keeps for good: of its identity and the time it was begun.
        name: Name of its folder.
        folder: Its folder.
        config: Space, objective, seed, settings, recipe and versions, as nested JSON values.
    """

    key: str
    name: str
    folder: Path
    config: Mapping[str, Any]

    @classmethod
    def of(cls, study: Study) -> RunFacts:
        """The facts of a study."""
        summary, provenance = study.summary(), study.provenance
        settings = {name: value for name, value in study.settings.items() if name not in PRIVATE}
        recipe = parse_json(provenance.recipe_json or "{}")
        return cls(
            key=digest(json.dumps(asdict(study.identity), sort_keys=True), summary.created_at)[:16],
            name=study.folder.absolute().name,
            folder=study.folder,
            config={
                "space": summary.space_name,
                "objective": summary.objective,
                "controller": summary.controller,
                "seed": summary.seed,
                "data": provenance.data_text,
                "begun": summary.created_at,
                "evaluator": study.identity.evaluator,
                "recipe": recipe,
                "settings": {name: value for name, value in settings.items() if value not in (None, [], ())},
                "versions": {"mnas": summary.package_version, **_versions()},
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """What is told of a study after the last step of a run.

    Attributes:
        ending: Why the run ended, as in `SearchEnd`.
        winner: Numbers of the trial to go with, named as `winner/reward`; empty where none completed.
        architecture: Its network as JSON; empty where none completed.
    """

    ending: str
    winner: Mapping[str, float]
    architecture: str

    @classmethod
    def of(cls, study: Study, ending: str) -> RunEnd:
        """What came of a study."""
        if not study.completed:
            return cls(ending=ending, winner={}, architecture="")
        best = study.best
        numbers = {
            "number": best.number,
            "reward": best.reward,
            best.quality_metric: best.mean_quality,
            "trainings": max(1, len(best.values)),
            "macs": best.macs,
            "params": best.params,
            "fidelity": best.fidelity,
        }
        winner = {f"winner/{name}": float(value) for name, value in numbers.items() if value is not None}
        return cls(ending=ending, winner=winner, architecture=best.network_json)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested values as pairs of a name such as `recipe/epochs` and a text."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
