"""Owns the composition: searches, studies, exports. Importing it loads neither torch nor Ray.

Does not own networks (`search_spaces`) nor who chooses them (`controllers`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from nas.candidates import Repeat
from nas.errors import (
    DataError,
    ExecutorError,
    ExportError,
    NasError,
    ObjectiveError,
    SearchStoppedError,
    SpaceArgumentError,
    StudyError,
)
from nas.execution.inline_executor import InlineExecutor
from nas.objective import AbsoluteTerm, Constraint, CostTerm, Objective
from nas.reporting import Reporter
from nas.search import search
from nas.studies.study import Study, StudySummary, open_study
from nas.studies.study_trial import StudyTrial
from nas.table import TableEvaluator
from nas.trial import Candidate, Cause, Evaluation, Evaluator, Executor, InfeasibleError, Metric, Status

if TYPE_CHECKING:
    from nas.data.loading import from_arrays, load_data
    from nas.execution.ray_executor import RayExecutor
    from nas.training.proxy import ProxyEvaluator
    from nas.training.recipe import Recipe

_LAZY = {
    "ProxyEvaluator": "nas.training.proxy",
    "RayExecutor": "nas.execution.ray_executor",
    "Recipe": "nas.training.recipe",
    "from_arrays": "nas.data.loading",
    "load_data": "nas.data.loading",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


__all__ = [
    "AbsoluteTerm",
    "Candidate",
    "Cause",
    "Constraint",
    "CostTerm",
    "DataError",
    "Evaluation",
    "Evaluator",
    "Executor",
    "ExecutorError",
    "ExportError",
    "InfeasibleError",
    "InlineExecutor",
    "Metric",
    "NasError",
    "Objective",
    "ObjectiveError",
    "ProxyEvaluator",
    "RayExecutor",
    "Recipe",
    "Repeat",
    "Reporter",
    "SearchStoppedError",
    "SpaceArgumentError",
    "Status",
    "Study",
    "StudyError",
    "StudySummary",
    "StudyTrial",
    "TableEvaluator",
    "from_arrays",
    "load_data",
    "open_study",
    "search",
]
