"""Follows a search in MLflow."""

from __future__ import annotations

import io
import logging
import os
import re
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from nas.errors import UsageError
from nas.events import SearchEnd, SearchStart, TrialReport
from nas.report.run_facts import RunEnd, RunFacts, flat
from nas.report.run_log import Number, Picture, Words
from nas.report.sending import Sending, Timed, imported, thread_name, within
from nas.study.study import Study
from nas.trial import Progress
from nas.values import bounded, digest

NAME = "mlflow"

EXPERIMENT = "mnas"
"""The experiment that runs are put into by default."""

STUDY_TAG = "mnas.study"
"""The tag by which a resume finds the run of its study."""

CONNECT_SECONDS, SERVER_SECONDS, STORE_SECONDS = 5.0, 20.0, 120.0
"""How long it may take before a search to connect to a server, to be answered, or to make a data base."""

MOST_METRICS, MOST_PARAMS = 1000, 100
MOST_KEY, MOST_VALUE = 250, 6000
"""MLflow's limits: metrics and parameters of one request; characters of a name and of a parameter's value."""

STATUSES = {"failed": "FAILED", "interrupted": "KILLED"}
"""What MLflow calls an ending; others are FINISHED."""


class MlflowReporter:
    """Sends a search to MLflow as one run, which a resume continues; a `nas.Reporter`.

    It needs `pip install 'mnas[mlflow]'`, and the full `mlflow` where the URI names a data base. MLflow's own
    variables (`MLFLOW_TRACKING_USERNAME`, ...) hold. No search waits for its server, and none ends because
    of it.

    Args:
        uri: Address of the tracking server, or a data base or folder, as MLflow takes it; None is that of
            `MLFLOW_TRACKING_URI`.
        experiment: The experiment there; one that is missing is made.
    """

    def __init__(self, uri: str | None = None, *, experiment: str = EXPERIMENT) -> None:
        self._service = _Mlflow(uri, experiment)
        self._sending = Sending(NAME, self._service)

    def check_ready(self) -> None:
        """Checks that mlflow is there and that the server answers.

        Raises:
            UsageError: It is not, or does not.
        """
        _client_type()
        where = self._service.uri or os.environ.get("MLFLOW_TRACKING_URI", "its default address")
        try:
            _reach(where)
            seconds = SERVER_SECONDS if where.startswith("http") else STORE_SECONDS
            within(seconds, self._service.find_experiment, name=NAME)
        except Exception as error:
            raise UsageError(
                f"MLflow at {where} cannot be used: {_first_line(error)}; start it with `mlflow "
                "server`, check the address, or search without it",
                field="mlflow",
            ) from error

    def on_start(self, start: SearchStart) -> None:
        """Reads what earlier runs of the study have done; sends nothing yet."""
        self._sending.begin(start)

    def on_trial(self, report: TrialReport) -> None:
        """Takes everything that is new, to be sent."""
        self._sending.trial(report)

    def on_event(self, kind: str, message: str) -> None:  # noqa: ARG002 - the journal has the message
        """Counts it; the count goes with the next trial."""
        self._sending.count(kind)

    def on_progress(self, progress: Progress) -> None:
        """Sends nothing: progress is for the terminal."""

    def on_end(self, end: SearchEnd) -> None:
        """Sends the winner, its architecture and the last figure."""
        self._sending.end(end)

    def add(self, study: Study, files: Iterable[Path], numbers: Mapping[str, float]) -> None:
        """Adds files and numbers to the run of a study, such as those of `nas.finalize`.

        Raises:
            NasError: MLflow did not answer in time.
            Exception: It failed.
        """
        self._sending.add(study, files, numbers)


def _client_type() -> Any:
    """The class of MLflow's clients, which send no telemetry and print no addresses on standard output."""
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"):
        os.environ.setdefault(name, "true")
    client = imported(NAME, "MLflow").MlflowClient
    _keep_quiet()
    return client


def _reach(where: str) -> None:
    """Raises `OSError` at once where nothing listens; MLflow itself would try for minutes."""
    address = urlsplit(where)
    if address.scheme not in ("http", "https") or not address.hostname or getproxies():
        return
    port = address.port or (443 if address.scheme == "https" else 80)
    socket.create_connection((address.hostname, port), timeout=CONNECT_SECONDS).close()


class _Mlflow:
    """Writes to a run of MLflow; a `Service`.

    `log_batch(synchronous=False)` is not used: it gives up a batch whose request failed, and makes the
    process wait at its end for a server that hangs.
    """

    def __init__(self, uri: str | None, experiment: str) -> None:
        self.uri = uri
        self._experiment = experiment
        self._client: Any = None
        self._run = ""

    def find_experiment(self) -> str | None:
        """The number of the experiment; None where it is missing.

        Raises:
            UsageError: It was deleted.
        """
        self._client = _client_type()(tracking_uri=self.uri)
        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            return None
        if found.lifecycle_stage != "active":
            raise UsageError(
                f"the experiment {self._experiment!r} was deleted there: restore it, or name another one",
                field="mlflow_experiment",
            )
        return str(found.experiment_id)

    def open(self, facts: RunFacts) -> None:
        """Begins the run, or goes on with that of this study."""
        experiment = self.find_experiment() or self._client.create_experiment(self._experiment)
        found = self._client.search_runs([experiment], filter_string=f"tags.`{STUDY_TAG}` = '{facts.key}'")
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
        else:
            tags = {STUDY_TAG: facts.key, "mnas.folder": str(facts.folder.absolute())}
            self._run = self._client.create_run(experiment, run_name=facts.name, tags=tags).info.run_id
        self._describe(facts, found[0].data.params if found else {})

    def _describe(self, facts: RunFacts, known: Mapping[str, str]) -> None:
        """Writes the parameters; MLflow never changes one, so what a resume changed becomes a tag."""
        from mlflow.entities import Param, RunTag

        told = {_name(name): bounded(text, MOST_VALUE) for name, text in flat(facts.config) if text}
        new = [Param(name, text) for name, text in told.items() if name not in known]
        tags = [
            RunTag(f"resumed.{name}"[:MOST_KEY], text)
            for name, text in told.items()
            if known.get(name, text) != text
        ]
        for start in range(0, len(new), MOST_PARAMS):
            self._client.log_batch(self._run, params=new[start : start + MOST_PARAMS])
        for start in range(0, len(tags), MOST_PARAMS):
            self._client.log_batch(self._run, tags=tags[start : start + MOST_PARAMS])

    def send(self, steps: Sequence[Timed]) -> None:
        """Writes steps; sent twice, they are there once."""
        from mlflow.entities import Metric

        metrics = [
            Metric(_name(entry.name), entry.value, int(1000 * timed.seconds), timed.step.number)
            for timed in steps
            for entry in timed.step.entries
            if isinstance(entry, Number)
        ]
        for start in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(self._run, metrics=metrics[start : start + MOST_METRICS])
        latest = {
            entry.name: entry
            for timed in steps
            for entry in timed.step.entries
            if isinstance(entry, Words | Picture)
        }
        for entry in latest.values():
            self._write_file(entry)

    def _write_file(self, entry: Words | Picture) -> None:
        name = _name(entry.name)
        if isinstance(entry, Words):
            self._client.log_text(self._run, entry.markdown, f"{name}.md")
            return
        from PIL import Image

        self._client.log_image(self._run, Image.open(io.BytesIO(entry.png)), f"{name}.png")

    def end(self, end: RunEnd) -> None:
        """Writes the winner, and ends the run."""
        self._write_numbers(end.winner)
        if end.architecture:
            self._client.log_text(self._run, end.architecture, "winner/architecture.json")
        self._client.set_tag(self._run, "mnas.ending", end.ending)
        self._client.set_terminated(self._run, STATUSES.get(end.ending, "FINISHED"))

    def add(self, files: Sequence[Path], numbers: Mapping[str, float]) -> None:
        """Writes files and numbers, and ends the run."""
        self._write_numbers(numbers)
        for file in files:
            self._client.log_artifact(self._run, str(file), "result")
        self._client.set_terminated(self._run)

    def _write_numbers(self, numbers: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(_name(name), value, now, 0) for name, value in numbers.items()]
        self._client.log_batch(self._run, metrics=metrics)


def _name(name: str) -> str:
    """A name as MLflow takes it: `=` becomes a space, and a long one is cut and kept apart by its digest.

    No name of ours has a space, so that names that differ stay apart.
    """
    parts = [part if part.strip(".") else f"_{part}" for part in re.sub(r"[^/\w.\- ]", " ", name).split("/")]
    whole = "/".join(parts)
    return whole if len(whole) <= MOST_KEY else f"{whole[: MOST_KEY - 17]}-{digest(whole)}"


def _first_line(error: Exception) -> str:
    return bounded((str(error).splitlines() or [type(error).__name__])[0], 300)


class _NotOurs(logging.Filter):
    """Leaves out what the threads of these reporters log: a search prints its own failures, once each."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether another thread logs it."""
        return record.threadName != thread_name(NAME)


def _keep_quiet() -> None:
    """Keeps MLflow's and urllib3's messages about our requests off the screen; those of others are shown."""
    loggers = [logging.getLogger("urllib3.connectionpool"), *logging.getLogger("mlflow").handlers]
    for one in loggers:
        if not any(isinstance(known, _NotOurs) for known in one.filters):
            one.addFilter(_NotOurs())
