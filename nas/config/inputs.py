"""Turns parsed options into what they name: images, objective, recipe, the settings that were given."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.config.settings import Settings, make_objective
from nas.errors import SpaceArgumentError, UsageError
from nas.objective import Objective
from nas.training.recipe import Recipe
from nas.trial import Say, say_nothing

if TYPE_CHECKING:
    from nas.data.images import ImageData

RECIPE_FIELDS = tuple(field.name for field in fields(Recipe))


def objective_of(arguments: Namespace) -> Objective:
    """The objective that the options mean together.

    Raises:
        NasError: They contradict each other.
    """
    return make_objective(
        arguments.objective,
        targets={
            "macs": arguments.target_macs,
            "params": arguments.target_params,
            "latency_ms": arguments.target_latency_ms,
        },
        limits={
            "macs": arguments.max_macs,
            "params": arguments.max_params,
            "peak_memory_bytes": arguments.max_memory_bytes,
            "latency_ms": arguments.max_latency_ms,
        },
    )


def recipe_of(arguments: Namespace, base: Recipe | None = None) -> Recipe:
    """The recipe with what was given changed.

    A warm-up that was not given is shortened with the epochs, so that `--epochs 1` needs no second option.

    Raises:
        RecipeError: A value breaks its law.
    """
    given = {name: getattr(arguments, name, None) for name in RECIPE_FIELDS}
    changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    rungs = getattr(arguments, "rungs", None)
    if rungs and getattr(arguments, "fidelity", None) in (None, "epochs"):
        changed.setdefault("epochs", rungs[-1])
    recipe = base or Recipe()
    if "epochs" in changed and "warmup_epochs" not in changed:
        share = recipe.warmup_epochs / recipe.epochs
        changed["warmup_epochs"] = min(recipe.warmup_epochs, share * changed["epochs"])
    return replace(recipe, **changed)


def load_images(
    arguments: Namespace, *, resolution: int | None, seed: int = 0, progress: Say = say_nothing
) -> ImageData:
    """Loads what `--data` names.

    Raises:
        DataError: It cannot be used.
    """
    from nas.data.loading import load_data

    return load_data(
        arguments.data,
        root=arguments.data_root,
        download=arguments.download,
        resolution=resolution,
        seed=seed,
        fit=arguments.fit or "crop",
        progress=progress,
    )


def given_settings(arguments: Namespace) -> dict[str, Any]:
    """What was given on the command line, by the names of `Settings`; paths absolute, without the recipe."""
    names = {field.name for field in fields(Settings)} - {"recipe"}
    values = {name: getattr(arguments, name, None) for name in names}
    given = {name: value for name, value in values.items() if value not in (None, [])}
    if "data" in given:
        given["data"] = absolute_if_there(given["data"])
    if "data_root" in given:
        given["data_root"] = str(Path(given["data_root"]).expanduser().absolute())
    for name in ("latency_table", "proxy_check", "warm_start"):
        if name in given:
            given[name] = str(Path(given[name]).expanduser().absolute())
    if "enqueue" in given:
        given["enqueue"] = tuple(map(_read_network, given["enqueue"]))
    if "space" in given:
        file, colon, name = given["space"].rpartition(":")
        if colon:
            given["space"] = f"{Path(file).expanduser().absolute()}:{name}"
    return given


def _read_network(text: str) -> tuple[str, str]:
    """A file of `--enqueue` and what it holds, so that a resume does not need the file any more."""
    path = Path(text).expanduser()
    try:
        return str(path), path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpaceArgumentError(f"--enqueue {path} cannot be read: {error}") from error


def absolute_if_there(text: str) -> str:
    """A path that exists, or looks like one, made absolute; the name of a data set as it is."""
    path = Path(text).expanduser()
    looks_like_path = "/" in text or text.startswith((".", "~")) or text.endswith(".npz")
    return str(path.absolute()) if looks_like_path or path.exists() else text


def require_images_and_space(arguments: Namespace) -> None:
    """Checks that a new search says what to search on what.

    Raises:
        UsageError: It does not.
    """
    missing = [f"--{name}" for name in ("data", "space") if getattr(arguments, name) is None]
    if missing:
        raise UsageError(
            f"{arguments.out} holds no study yet, and a new search needs {' and '.join(missing)}: "
            "for instance --data photos/ --space mnasnet"
        )
