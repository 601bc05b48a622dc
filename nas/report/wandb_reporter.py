"""Follows a search in Weights & Biases."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nas.errors import UsageError
from nas.events import SearchEnd, SearchStart, TrialReport
from nas.report.run_facts import RunEnd, RunFacts
from nas.report.run_log import Number, Picture, Words
from nas.report.sending import CLOSING_SECONDS, Sending, Timed, imported, within
from nas.study.study import Study
from nas.trial import Progress

NAME = "wandb"

LOGIN_SECONDS = 20.0
"""How long the login is waited for before a search."""


class WandbReporter:
    """Sends a search to Weights & Biases as one run, which a resume continues; a `nas.Reporter`.

    It needs `pip install 'mnas[wandb]'` and `wandb login`, or `WANDB_MODE=offline`, which only writes files
    into `wandb/` in the study's folder. W&B's own variables (`WANDB_BASE_URL`, `WANDB_DIR`, ...) hold. No
    search waits for its server, and none ends because of it.

    Args:
        project: The project there; one that is missing is made.
        entity: The user or team that the project is of; None is the user's default.

    Raises:
        UsageError: The project is no name.
    """

    def __init__(self, project: str, *, entity: str | None = None) -> None:
        if not isinstance(project, str) or not project.strip() or "/" in project:
            raise UsageError(
                f"`project` must be the name of a W&B project, but got {project!r}: give one "
                "such as 'flowers'",
                field="wandb",
            )
        self._sending = Sending(NAME, _Wandb(project, entity))

    def check_ready(self) -> None:
        """Checks that wandb is there and logged in; asks nothing.

        Raises:
            UsageError: It is not.
        """
        wandb = _wandb()
        if wandb.setup().settings.mode in ("offline", "dryrun", "disabled"):
            return
        try:
            with redirect_stderr(io.StringIO()):  # it says who is logged in
                is_in = within(LOGIN_SECONDS, lambda: wandb.login(prompt=False, verify=True), name=NAME)
        except Exception as error:
            raise UsageError(
                f"W&B does not accept the login, or cannot be reached: {error}; log in again with `wandb "
                "login --relogin`, or set WANDB_MODE=offline and send the run later with `wandb sync`",
                field="wandb",
            ) from error
        if not is_in:
            raise UsageError(
                "reporting to W&B needs a login, and there is none: run `wandb login`, set WANDB_API_KEY, or "
                "set WANDB_MODE=offline and send the run later with `wandb sync`",
                field="wandb",
            )

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
            NasError: W&B did not answer in time.
            Exception: It failed.
        """
        self._sending.add(study, files, numbers)


def _wandb() -> Any:
    return imported(NAME, "W&B")


class _Wandb:
    """Writes to a run of W&B, whose own process sends it; a `Service`."""

    def __init__(self, project: str, entity: str | None) -> None:
        self._project = project
        self._entity = entity
        self._key = ""
        self._run: Any = None

    def open(self, facts: RunFacts) -> None:
        """Begins the run, or goes on with that of this study."""
        wandb = _wandb()
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_code=True,
            reinit="create_new",
            finish_timeout=0.9 * CLOSING_SECONDS,
            finish_timeout_raises=True,
        )
        self._key = facts.key
        self._run = wandb.init(
            project=self._project,
            entity=self._entity,
            id=facts.key,
            name=facts.name,
            resume="allow",
            dir=None if os.environ.get("WANDB_DIR") else str(facts.folder),
            config=dict(facts.config),
            allow_val_change=True,
            settings=settings,
        )

    def send(self, steps: Sequence[Timed]) -> None:
        """Gives steps to the run."""
        for timed in steps:
            self._run.log(self._values(timed), step=timed.step.number)

    def _values(self, timed: Timed) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for entry in timed.step.entries:
            if isinstance(entry, Number):
                values[entry.name] = entry.value
            elif isinstance(entry, Picture):
                values[entry.name] = _image(entry.png)
            elif isinstance(entry, Words):
                self._run.summary[entry.name] = entry.markdown
        return values

    def end(self, end: RunEnd) -> None:
        """Gives the winner to the run, and ends it."""
        for name, value in end.winner.items():
            self._run.summary[name] = value
        self._run.summary["study/ending"] = end.ending
        if end.architecture:
            with TemporaryDirectory() as folder:
                file = Path(folder) / "architecture.json"
                file.write_text(end.architecture, encoding="utf-8")
                self._log_files("architecture", [file])
        self._run.finish(exit_code=int(end.ending == "failed"))

    def add(self, files: Sequence[Path], numbers: Mapping[str, float]) -> None:
        """Gives files and numbers to the run, and ends it."""
        for name, value in numbers.items():
            self._run.summary[name] = value
        self._log_files("result", files)
        self._run.finish()

    def _log_files(self, kind: str, files: Sequence[Path]) -> None:
        artifact = _wandb().Artifact(f"{kind}-{self._key}", type=kind)
        for file in files:
            artifact.add_file(str(file), policy="mutable", skip_cache=True)
        self._run.log_artifact(artifact)


def _image(png: bytes) -> Any:
    from PIL import Image

    return _wandb().Image(Image.open(io.BytesIO(png)))
