"""Makes the evaluator and the controller that a user names by `file.py:name`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from controllers import Controller
from nas.catalogue import Catalogue
from nas.config.settings import Settings, flag_of
from nas.controller import ControllerOptions, problem_of
from nas.errors import ContractError, UsageError
from nas.objective import Objective
from nas.own_files import Own, Wanted, find_own, is_own
from nas.protocols import Evaluator
from nas.training.recipe import Recipe

if TYPE_CHECKING:
    from nas.data.images import ImageData, SplitName
    from nas.rungs import Rungs

EVALUATOR = Wanted(
    field="evaluator",
    what="evaluator",
    is_ready=lambda value: callable(getattr(value, "evaluate", None)),
    error=ContractError,
    otherwise="give a function of a candidate as nas.TableEvaluator(function)",
)
CONTROLLER = Wanted(
    field="controller",
    what="controller",
    is_ready=lambda value: callable(getattr(value, "propose", None)),
    error=ContractError,
)


def find_evaluator(settings: Settings) -> Own | None:
    """Finds the user's evaluator; None where candidates are trained by the recipe.

    Raises:
        ContractError: There is no such file or name.
        UsageError: An option of the training is given that it does not take.
    """
    if settings.evaluator is None:
        return None
    own = find_own(settings.evaluator, EVALUATOR)
    of_ours = [name for name in ("is_compiled", "proxy_check", "init") if getattr(settings, name)]
    if of_ours:
        raise UsageError(
            f"{', '.join(map(flag_of, of_ours))}: {settings.evaluator} replaces the training that this is "
            "for: leave the option out",
            field=of_ours[0],
        )
    given: list[str] = []
    if settings.recipe and Recipe.from_json(settings.recipe) != Recipe() and not own.takes("recipe"):
        given += _changed(settings.recipe)
    if settings.rungs and not own.takes("rungs"):
        given.append("rungs")
    if given:
        raise UsageError(
            f"{', '.join(map(flag_of, given))}: {settings.evaluator} replaces the training, and takes no "
            "argument `recipe` or `rungs` for it: leave the option out, or take the argument",
            field=given[0],
        )
    return own


def _changed(recipe_json: str) -> list[str]:
    """Fields of a recipe that are not at their defaults."""
    recipe, usual = Recipe.from_json(recipe_json), Recipe()
    return [name for name in Recipe.__dataclass_fields__ if getattr(recipe, name) != getattr(usual, name)]


def make_own_evaluator(
    own: Own, data: ImageData, recipe: Recipe, rungs: Rungs | None, split: SplitName
) -> Evaluator:
    """The user's evaluator for a split of the images.

    It is called with what its signature names: the images `data`, the `recipe`, the `rungs` or None, and the
    name of the `split` that it measures on.

    Raises:
        ContractError: It cannot be made of these.
    """
    return cast(Evaluator, own.make({"data": data, "recipe": recipe, "rungs": rungs, "split": split}))


def make_controller(
    settings: Settings, catalogue: Catalogue, objective: Objective, *, noise: float | None
) -> Controller | ControllerOptions:
    """The user's controller, or the options of one of ours.

    The user's is called with what its signature names: the `problem`, or else its `cardinalities` and
    `conditions`; and the `seed`.

    Raises:
        ContractError: It cannot be found or made.
    """
    if settings.controller is None or not is_own(settings.controller):
        return ControllerOptions(settings.controller, accuracy_noise=noise)
    own = find_own(settings.controller, CONTROLLER)
    problem = problem_of(catalogue, objective, noise=ControllerOptions(accuracy_noise=noise).accuracy_noise)
    parts = {"cardinalities": problem.cardinalities, "conditions": problem.conditions}
    given = {"problem": problem} if own.takes("problem") else parts
    return cast(Controller, own.make({**given, "seed": settings.seed}))
