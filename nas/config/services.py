"""Makes the reporters of a search that settings ask for beside those that are always there."""

from __future__ import annotations

from nas.config.settings import Settings
from nas.errors import UsageError
from nas.report.mlflow_reporter import EXPERIMENT, MlflowReporter
from nas.report.wandb_reporter import WandbReporter

ServiceReporter = WandbReporter | MlflowReporter


def service_reporters(settings: Settings) -> tuple[ServiceReporter, ...]:
    """The reporters to services, new ones.

    Raises:
        UsageError: An experiment of MLflow is named without MLflow.
    """
    found: list[ServiceReporter] = []
    if settings.wandb:
        entity, _, project = settings.wandb.rpartition("/")
        found.append(WandbReporter(project, entity=entity or None))
    if settings.mlflow:
        found.append(MlflowReporter(settings.mlflow, experiment=settings.mlflow_experiment or EXPERIMENT))
    elif settings.mlflow is None and settings.mlflow_experiment is not None:
        raise UsageError(
            "--mlflow-experiment is an option of MLflow: give --mlflow too", field="mlflow_experiment"
        )
    return tuple(found)
