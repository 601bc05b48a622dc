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
from nas.inline_executor import InlineExecutor
from nas.objective import AbsoluteTerm, Constraint, CostTerm, Objective
from nas.reporting import Reporter
from nas.search import search
from nas.study import Study, StudySummary, open_study
from nas.study_trial import StudyTrial
from nas.table import TableEvaluator
from nas.trial import Candidate, Cause, Evaluation, Evaluator, Executor, InfeasibleError, Metric, Status

if TYPE_CHECKING:
    from nas.data import from_arrays, load_data
    from nas.proxy import ProxyEvaluator
    from nas.ray_executor import RayExecutor
    from nas.recipe import Recipe

_LAZY = {
    "ProxyEvaluator": "nas.proxy",
    "RayExecutor": "nas.ray_executor",
    "Recipe": "nas.recipe",
    "from_arrays": "nas.data",
    "load_data": "nas.data",
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
