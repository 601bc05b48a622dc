"""Reads the options of a search: paths, spaces, networks and objectives as users write them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from controllers import CONTROLLERS
from nas.data.spec import looks_like_path
from nas.errors import ObjectiveError, SpaceArgumentError, UsageError
from nas.metrics import metric_name
from nas.objective import KINDS, Objective
from nas.objective.text import EXAMPLE
from nas.own_files import is_own
from nas.reading import read_text
from nas.units import hint, one_of


def absolute_path(text: str) -> str:
    """A path made absolute; it need not exist."""
    return str(Path(text).expanduser().absolute())


def folder_path(text: str) -> Path:
    """The path of a folder, which may not be there yet.

    Raises:
        UsageError: It is empty, which would mean the folder one is in.
    """
    if not text:
        raise UsageError("a folder is needed, but got '': give a path such as runs/a", field="out")
    return Path(text).expanduser()


def absolute_if_there(text: str) -> str:
    """A path that exists, or looks like one, made absolute; the name of a data set as it is."""
    path = Path(text).expanduser()
    return str(path.absolute()) if looks_like_path(text) or path.exists() else text


def absolute_own(text: str) -> str:
    """The name of something built in as it is; the file in `file.py:name` made absolute."""
    file, colon, name = text.rpartition(":")
    return f"{absolute_path(file)}:{name}" if colon else text


def read_controller(text: str) -> str:
    """Reads `--controller`: the name of one of ours, or `file.py:name` of the user's own.

    Raises:
        UsageError: It is neither.
    """
    return absolute_own(text) if is_own(text) else one_of("controller", CONTROLLERS)(text)


def read_network(text: str) -> tuple[str, str]:
    """A file of `--enqueue` and what it holds, so that a resume does not need the file any more.

    Raises:
        SpaceArgumentError: It cannot be read.
    """
    path = Path(text).expanduser()
    try:
        return str(path), read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise SpaceArgumentError(f"--enqueue {path} cannot be read: {error}", field="enqueue") from error


def read_objective(text: str) -> str:
    """Reads `--objective`: a kind as it is, or arithmetic as one line that equal objectives share.

    Raises:
        UsageError: It is neither.
    """
    if text in KINDS:
        return text
    try:
        return Objective.parse(text).describe()
    except ObjectiveError as error:
        if text.isidentifier():
            raise UsageError(
                f"there is no objective {text!r}, nor is it written out, such as 'max {text}' or "
                f"'{EXAMPLE}': {hint(text, KINDS)}"
            ) from None
        raise UsageError(str(error)) from None


def read_metric(text: str) -> str:
    """Reads the name of a metric; the user's own evaluator may measure any.

    Raises:
        UsageError: It is no name, or nearly names one of ours.
    """
    if not text.isidentifier():
        raise UsageError(f"the name of a metric is needed, such as balanced_accuracy, but got {text!r}")
    try:
        return metric_name(text)
    except ObjectiveError as error:
        raise UsageError(str(error)) from None


def read_metrics(text: str) -> tuple[str, ...]:
    """Reads names of costs with commas between them; those that are short for ours as in an objective.

    Raises:
        UsageError: There is none, or one nearly names one of ours.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isidentifier() and word != "accuracy" for word in words):
        raise UsageError(f"costs with commas between are needed, such as latency,params, but got {text!r}")
    try:
        return tuple(dict.fromkeys(metric_name(word) for word in words))
    except ObjectiveError as error:
        raise UsageError(str(error)) from None


def read_wandb(text: str) -> str:
    """Reads `--wandb`: a project of Weights & Biases, also with its entity; `none` as an empty text.

    Raises:
        UsageError: It is neither.
    """
    if text == "none":
        return ""
    entity, slash, project = text.rpartition("/")
    if not project.strip() or "/" in entity or (slash and not entity.strip()):
        raise UsageError(f"a project such as flowers or my-team/flowers is needed, but got {text!r}")
    return text


def read_mlflow(text: str) -> str:
    """Reads `--mlflow`: the address of a tracking server as MLflow takes it; `none` as an empty text.

    Raises:
        UsageError: It is empty, or holds a password, which the study would store.
    """
    if text == "none":
        return ""
    if not text.strip():
        raise UsageError("an address such as http://localhost:5000 is needed, but got ''")
    try:
        has_password = urlsplit(text).password is not None
    except ValueError as error:
        raise UsageError(f"an address such as http://localhost:5000 is needed, but got {text!r}") from error
    if has_password:
        raise UsageError(
            "the address must hold no password, as the study stores it: set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD"
        )
    return text
