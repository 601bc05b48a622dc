"""The composition: searches, studies, exports. Importing it loads neither torch nor Ray."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from nas.controller import ControllerOptions
from nas.errors import (
    ContractError,
    ControllerFailedError,
    DataError,
    ExecutorError,
    ExportError,
    LatencyError,
    MetricError,
    NasError,
    ObjectiveError,
    RecipeError,
    SearchStoppedError,
    SpaceArgumentError,
    StudyError,
    SupernetError,
    TrainingError,
)
from nas.evaluators import Probed, TableEvaluator
from nas.events import SearchEnd, SearchStart, TrialReport
from nas.execution.executors import ExecutorOptions
from nas.execution.inline_executor import InlineExecutor
from nas.latency.devices import DeviceSettings
from nas.objective import AbsoluteTerm, Constraint, CostTerm, Goal, Objective
from nas.proposals import Replicate
from nas.protocols import Evaluator, Executor, LatencyPredictor, Probe, Reporter
from nas.rungs import Rungs
from nas.scheduling import Budget
from nas.search import Plan, Search
from nas.short_form import search
from nas.study.study import Study, StudySummary, open_study
from nas.study.study_trial import StudyTrial
from nas.study.verification import verify
from nas.trial import Candidate, Cause, Evaluation, InfeasibleError, Job, Metric, Progress, Result, Status

if TYPE_CHECKING:
    from nas.class_mapping import class_map, class_maps
    from nas.data.images import ImageData
    from nas.data.loading import from_arrays, load_data
    from nas.evaluation.cost_check import check_costs
    from nas.evaluation.scaled_networks import ScaledNetwork, ScalingPlan
    from nas.evaluation.scaling_law import ScalingLaw
    from nas.evaluation.scaling_search import ScalingSearch, ScalingSetting, search_coefficients
    from nas.execution.ray_executor import RayExecutor
    from nas.finalizing import Finalized, finalize
    from nas.full_training.family import Family, FamilyNetwork, train_family
    from nas.full_training.images import ImageSource
    from nas.full_training.options import TrainOptions
    from nas.full_training.recipe import FullRecipe
    from nas.full_training.recipes import RECIPES
    from nas.full_training.results import Trained
    from nas.full_training.run import train
    from nas.full_training.training import FullTraining
    from nas.latency.measurement import LatencyMeasurement, measure_latency
    from nas.latency.passes import prepare_pass
    from nas.latency.probe import LatencyProbe
    from nas.latency.session import measure_together
    from nas.latency.table.building import measure_latency_table
    from nas.latency.table.table import LatencyTable
    from nas.report.mlflow_reporter import MlflowReporter
    from nas.report.wandb_reporter import WandbReporter
    from nas.scoring.by_task import AnyScores
    from nas.scoring.class_map import ClassMap
    from nas.scoring.evaluating import evaluate
    from nas.scoring.multilabel_scores import MultilabelScores
    from nas.scoring.predicting import Predictions, predict
    from nas.scoring.predictions import (
        AnyPrediction,
        MultilabelPrediction,
        Prediction,
        RegressionPrediction,
    )
    from nas.scoring.regression_scores import RegressionScores
    from nas.scoring.scores import Scores
    from nas.starting_weights import initial_weights
    from nas.study_page import write_report
    from nas.training.proxy import ProxyEvaluator
    from nas.training.recipe import Recipe
    from nas.training.reduction import Reduction
    from nas.weight_sharing.evaluator import SharedWeights
    from nas.weight_sharing.supernet import Supernet
    from nas.weight_sharing.training import SupernetTraining, train_supernet

_LAZY = {
    "Finalized": "nas.finalizing",
    "finalize": "nas.finalizing",
    "ClassMap": "nas.scoring.class_map",
    "class_map": "nas.class_mapping",
    "class_maps": "nas.class_mapping",
    "AnyPrediction": "nas.scoring.predictions",
    "AnyScores": "nas.scoring.by_task",
    "MultilabelPrediction": "nas.scoring.predictions",
    "MultilabelScores": "nas.scoring.multilabel_scores",
    "Prediction": "nas.scoring.predictions",
    "Predictions": "nas.scoring.predicting",
    "RegressionPrediction": "nas.scoring.predictions",
    "RegressionScores": "nas.scoring.regression_scores",
    "Scores": "nas.scoring.scores",
    "evaluate": "nas.scoring.evaluating",
    "predict": "nas.scoring.predicting",
    "FullRecipe": "nas.full_training.recipe",
    "FullTraining": "nas.full_training.training",
    "ImageData": "nas.data.images",
    "ImageSource": "nas.full_training.images",
    "Family": "nas.full_training.family",
    "FamilyNetwork": "nas.full_training.family",
    "train_family": "nas.full_training.family",
    "ScaledNetwork": "nas.evaluation.scaled_networks",
    "ScalingLaw": "nas.evaluation.scaling_law",
    "ScalingPlan": "nas.evaluation.scaled_networks",
    "ScalingSearch": "nas.evaluation.scaling_search",
    "ScalingSetting": "nas.evaluation.scaling_search",
    "search_coefficients": "nas.evaluation.scaling_search",
    "RECIPES": "nas.full_training.recipes",
    "SharedWeights": "nas.weight_sharing.evaluator",
    "Supernet": "nas.weight_sharing.supernet",
    "SupernetTraining": "nas.weight_sharing.training",
    "train_supernet": "nas.weight_sharing.training",
    "TrainOptions": "nas.full_training.options",
    "Trained": "nas.full_training.results",
    "train": "nas.full_training.run",
    "LatencyMeasurement": "nas.latency.measurement",
    "LatencyProbe": "nas.latency.probe",
    "LatencyTable": "nas.latency.table.table",
    "MlflowReporter": "nas.report.mlflow_reporter",
    "WandbReporter": "nas.report.wandb_reporter",
    "ProxyEvaluator": "nas.training.proxy",
    "RayExecutor": "nas.execution.ray_executor",
    "Recipe": "nas.training.recipe",
    "Reduction": "nas.training.reduction",
    "check_costs": "nas.evaluation.cost_check",
    "initial_weights": "nas.starting_weights",
    "from_arrays": "nas.data.loading",
    "load_data": "nas.data.loading",
    "measure_latency": "nas.latency.measurement",
    "measure_latency_table": "nas.latency.table.building",
    "measure_together": "nas.latency.session",
    "prepare_pass": "nas.latency.passes",
    "write_report": "nas.study_page",
}


_REPLACED = {"Ladder": "nas.Rungs", "Repeat": "nas.Replicate"}
"""Names of earlier versions, and what is written in their place."""


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        now = f": it is {_REPLACED[name]} now" if name in _REPLACED else ""
        raise AttributeError(f"module 'nas' has no attribute {name!r}{now}")
    return getattr(import_module(_LAZY[name]), name)


__all__ = [
    "RECIPES",
    "AbsoluteTerm",
    "AnyPrediction",
    "AnyScores",
    "Budget",
    "Candidate",
    "Cause",
    "ClassMap",
    "Constraint",
    "ContractError",
    "ControllerFailedError",
    "ControllerOptions",
    "CostTerm",
    "DataError",
    "DeviceSettings",
    "Evaluation",
    "Evaluator",
    "Executor",
    "ExecutorError",
    "ExecutorOptions",
    "ExportError",
    "Family",
    "FamilyNetwork",
    "Finalized",
    "FullRecipe",
    "FullTraining",
    "Goal",
    "ImageData",
    "ImageSource",
    "InfeasibleError",
    "InlineExecutor",
    "Job",
    "LatencyError",
    "LatencyMeasurement",
    "LatencyPredictor",
    "LatencyProbe",
    "LatencyTable",
    "Metric",
    "MetricError",
    "MlflowReporter",
    "MultilabelPrediction",
    "MultilabelScores",
    "NasError",
    "Objective",
    "ObjectiveError",
    "Plan",
    "Prediction",
    "Predictions",
    "Probe",
    "Probed",
    "Progress",
    "ProxyEvaluator",
    "RayExecutor",
    "Recipe",
    "RecipeError",
    "Reduction",
    "RegressionPrediction",
    "RegressionScores",
    "Replicate",
    "Reporter",
    "Result",
    "Rungs",
    "ScaledNetwork",
    "ScalingLaw",
    "ScalingPlan",
    "ScalingSearch",
    "ScalingSetting",
    "Scores",
    "Search",
    "SearchEnd",
    "SearchStart",
    "SearchStoppedError",
    "SharedWeights",
    "SpaceArgumentError",
    "Status",
    "Study",
    "StudyError",
    "StudySummary",
    "StudyTrial",
    "Supernet",
    "SupernetError",
    "SupernetTraining",
    "TableEvaluator",
    "TrainOptions",
    "Trained",
    "TrainingError",
    "TrialReport",
    "WandbReporter",
    "check_costs",
    "class_map",
    "class_maps",
    "evaluate",
    "finalize",
    "from_arrays",
    "initial_weights",
    "load_data",
    "measure_latency",
    "measure_latency_table",
    "measure_together",
    "open_study",
    "predict",
    "prepare_pass",
    "search",
    "search_coefficients",
    "train",
    "train_family",
    "train_supernet",
    "verify",
    "write_report",
]
