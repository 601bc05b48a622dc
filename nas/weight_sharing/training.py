"""`train_supernet`: shared weights trained on images, to the end or further."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas.catalogue import Catalogue
from nas.data.images import ImageData
from nas.data.loading import load_data
from nas.data.tree import check_outside
from nas.devices import choose_device, describe_device
from nas.errors import RecipeError, SupernetError, UsageError
from nas.folders import RUN
from nas.full_training.checkpoint import Checkpoint, Row, check_identity, read_checkpoint
from nas.full_training.fitting import failures_explained
from nas.full_training.options import TrainOptions
from nas.full_training.place import check_place
from nas.full_training.plan import TrainingPlan, measure
from nas.full_training.recipe import FullRecipe
from nas.full_training.recipes import find_recipe
from nas.full_training.run import Unwatched, Watcher, locked, read_run, train_work
from nas.full_training.stored import under
from nas.full_training.task_laws import recipe_of_task
from nas.io import write_whole
from nas.objective import Objective
from nas.protocols import LatencyPredictor
from nas.reading import read_json
from nas.spaces import image_side
from nas.tasks import TASKS, check_metrics
from nas.training.precision import choose_precision
from nas.values import instance, seed_of, whole
from nas.weight_sharing.calibration import checked_images
from nas.weight_sharing.learner import MODULE, SupernetFit
from nas.weight_sharing.paths import SAMPLINGS, Sampling, Tokens, extreme_networks
from nas.weight_sharing.policy import PolicySampler, check_objective
from nas.weight_sharing.recipe import NOT_OF_SUPERNETS, NOT_OPTIONS, SUPERNET
from nas.weight_sharing.stored import (
    Measured,
    Origin,
    SupernetFacts,
    normalisation_of,
    read_facts,
    read_supernet,
    write_supernet,
)
from nas.weight_sharing.supernet import Supernet, checked_layers
from search_spaces import SearchSpace
from search_spaces.sharing import Kernels

POLICY_NAME = "policy"
"""What draws the networks in place of a sampling."""

POLICY = "policy.json"
"""The policy over time, in the folder of a supernet that was trained with one."""

DRAWS = 100
"""Networks that a policy draws at the end of its training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupernetTraining:
    """The training of a supernet as it is asked for.

    Attributes:
        space: The networks.
        data: The images, or where they are.
        origin: What space and images were asked for by, for `nas search` to find them again; None where they
            were made in Python.
        sampling: `uniform`, `fair` or `sandwich`.
        kernels: `own` or `cropped` (see `Supernet`).
        recipe: How it is trained: a recipe of `nas train`, its name or file; None is `SUPERNET`.
        changes: Fields of the recipe that are to be others.
        random_paths: Random networks a step, of the sandwich.
        calibration_images: Training images that a network's statistics are computed over; None is 2,048, or
            all where there are fewer.
        seed: Of initial weights, networks, order and views of the images.
        objective: What a policy maximises that draws the networks instead of the sampling, one a step; None
            has no policy.
        predictor: Predicts latencies for it.
    """

    space: SearchSpace
    data: ImageData | Path | str
    origin: Origin | None = None
    sampling: Sampling = "sandwich"
    kernels: Kernels = "own"
    recipe: FullRecipe | Path | str | None = None
    changes: Mapping[str, Any] | None = None
    random_paths: int = 2
    calibration_images: int | None = None
    seed: int = 0
    objective: Objective | None = None
    predictor: LatencyPredictor | None = None

    def prepare(self, out: Path | str, options: TrainOptions, watcher: Watcher) -> SupernetFit:
        """Finds everything and checks that it fits together; writes nothing.

        Raises:
            NasError: Something cannot be found or read, or does not fit; `field` names the argument.
        """
        instance("space", self.space, (SearchSpace,), "give a SearchSpace")
        if self.sampling not in SAMPLINGS:
            raise SupernetError(
                f"`sampling` must be one of {', '.join(SAMPLINGS)}, but got {self.sampling!r}",
                field="sampling",
            )
        whole("random_paths", self.random_paths, least=0)
        instance("options", options, (TrainOptions,), "give nas.TrainOptions(...)")
        for name, reason in NOT_OPTIONS.items():
            if getattr(options, name) != getattr(TrainOptions(), name):
                raise UsageError(f"`{name}` must be left out for a supernet, since {reason}", field=name)
        seed = seed_of(self.seed)
        folder = Path(out).expanduser()
        check_place(folder, "supernet")
        asked = self._recipe()
        data = self._images(folder, watcher)
        checked_images(data, self.calibration_images)
        recipe, _ = recipe_of_task(asked, data, self.changes or {})
        metric = TASKS[data.task].metrics[0] if self.objective is None else self._goal(data, options)
        checked_layers(self.space, self.kernels)
        chosen = (read_run(folder / RUN) or {}).get("precision")
        precision = recipe.precision
        if precision == "auto":
            precision = chosen or choose_precision(choose_device(options.device)).precision
        return SupernetFit(
            space=self.space,
            kernels=self.kernels,
            sampling=self.sampling,
            random_paths=self.random_paths,
            data=data,
            recipe=recipe,
            folder=folder,
            identity={
                "space": self.space.fingerprint,
                "kernels": self.kernels,
                "sampling": f"{self.sampling} {self.random_paths}"
                if self.sampling == "sandwich"
                else self.sampling,
                "images": data.fingerprint,
                "split": data.split_fingerprint,
                "normalisation": normalisation_of(data),
                "recipe": recipe.fingerprint,
                "seed": str(seed),
                **self._objective_identity(),
            },
            seed=seed,
            precision=precision,
            metric=metric,
            calibration_images=self.calibration_images,
            objective=self.objective,
            predictor=self.predictor,
            options=options,
        )

    def _goal(self, data: ImageData, options: TrainOptions) -> str:
        """The metric that the policy maximises.

        Raises:
            NasError: It cannot be measured at every step, or there is something else that hinders a policy.
        """
        assert self.objective is not None
        check_objective(self.objective)
        Catalogue(self.space, self.predictor).check_predicts(self.objective)
        check_metrics(data.task, (self.objective.goal.metric,))
        if options.workers > 1:
            raise SupernetError(
                f"`workers=1` must hold where a policy draws the networks, but got "
                f"workers={options.workers}: train a supernet first, with several, and search in it",
                field="workers",
            )
        if not data.is_resident:
            raise SupernetError(
                f"the images must fit into memory where a policy is measured at every step, but {data.name} "
                "are read from files: train a supernet first, and search in it",
                field="data",
            )
        return self.objective.goal.metric

    def _objective_identity(self) -> dict[str, str]:
        if self.objective is None:
            return {}
        predictor = {} if self.predictor is None else {"latency table": self.predictor.fingerprint}
        return {"objective": self.objective.describe(), **predictor}

    def _images(self, folder: Path, watcher: Watcher) -> ImageData:
        if isinstance(self.data, ImageData):
            data = self.data
        else:
            check_outside(folder, self.data)
            watcher.on_step("loading the images")
            data = load_data(str(self.data), resolution=image_side(self.space), progress=watcher.on_step)
        for name, has, needs in (
            ("num_classes", self.space.template.num_classes, data.num_classes),
            ("in_channels", self.space.template.in_channels, data.channels),
        ):
            if has != needs:
                raise SupernetError(
                    f"the space must have {name}={needs} to fit {data.name}, but has {name}={has}: build it "
                    f"with {name}={needs}",
                    field="space",
                )
        return data

    def _recipe(self) -> FullRecipe:
        instance("recipe", self.recipe, (FullRecipe, Path, str, type(None)), "give one of nas train")
        given = SUPERNET if self.recipe is None else self.recipe
        recipe = find_recipe(given, also=(SUPERNET,)).changed(**(self.changes or {}))
        for name, reason in NOT_OF_SUPERNETS.items():
            if getattr(recipe, name) != getattr(SUPERNET, name):
                raise RecipeError(
                    f"`{name}={getattr(SUPERNET, name)!r}` must hold for a supernet, since {reason}, but got "
                    f"{name}={getattr(recipe, name)!r} in the recipe {recipe.name}: leave it out, or "
                    "give no recipe; the built-in ones are for a single network",
                    field=name,
                )
        return recipe


def train_supernet(
    space: SearchSpace,
    *,
    data: ImageData | Path | str,
    out: Path | str,
    sampling: Sampling = "sandwich",
    kernels: Kernels = "own",
    recipe: FullRecipe | Path | str | None = None,
    epochs: float | None = None,
    random_paths: int = 2,
    calibration_images: int | None = None,
    seed: int = 0,
    options: TrainOptions | None = None,
    watcher: Watcher | None = None,
) -> Supernet:
    """Trains shared weights for all networks of a space, or continues; returns them in evaluation mode.

    The same call continues a training that was stopped, from its last checkpoint. On a CPU the weights are
    then those of an uninterrupted training, to the bit.

    Args:
        space: The networks; see `SupernetTraining` for this and all up to the seed.
        data: The images, or where they are.
        out: Folder to write.
        sampling: `uniform`, `fair` or `sandwich`.
        kernels: `own` or `cropped`.
        recipe: How it is trained.
        epochs: Passes over the training images; None is the recipe's.
        random_paths: Random networks a step, of the sandwich.
        calibration_images: Training images for a network's statistics.
        seed: Of everything random.
        options: Devices, workers, checkpoints.
        watcher: Receives the progress.

    Raises:
        NasError: Space, images and recipe do not fit together, or something cannot be read or written;
            `field` names the argument.
    """
    asked = SupernetTraining(
        space=space,
        data=data,
        sampling=sampling,
        kernels=kernels,
        recipe=recipe,
        changes={} if epochs is None else {"epochs": epochs},
        random_paths=random_paths,
        calibration_images=calibration_images,
        seed=seed,
    )
    run(asked, out, options=options or TrainOptions(), watcher=watcher or Unwatched())
    supernet, _ = read_supernet(out, space)
    return supernet


def run(
    asked: SupernetTraining, out: Path | str, *, options: TrainOptions, watcher: Watcher
) -> SupernetFacts:
    """Does what `train_supernet` says, and returns what was written.

    Raises:
        NasError: As `train_supernet`.
    """
    work = asked.prepare(out, options, watcher)
    with locked(work.folder):
        known = read_run(work.folder / RUN)
        if known is not None:
            check_identity(work.folder / RUN, known["identity"], work.identity)
        done = read_checkpoint(work.folder, work.identity)
        steps = work.recipe.steps(len(work.data.train))
        if done is None or done.state.step < steps:
            _begin(work)
            watcher.on_step("measuring a few steps")
            watcher.on_plan(plan_of(work))
            done = train_work(work, watcher, first_step=0 if done is None else done.state.step + 1)
        supernet = Supernet(work.space, kernels=work.kernels)
        supernet.load_state_dict(under(MODULE, done.tensors))
        data = work.data
        facts = SupernetFacts(
            space=work.space.fingerprint,
            space_name=work.space.name,
            kernels=work.kernels,
            sampling=work.sampling if work.objective is None else POLICY_NAME,
            images=data.fingerprint,
            split=data.split_fingerprint,
            normalisation=normalisation_of(data),
            data_name=data.name,
            epochs=work.recipe.epochs,
            steps=steps,
            seconds=done.state.seconds,
            seed=work.seed,
            weights=supernet.fingerprint,
            measured=_measured(done.state.rows),
            origin=asked.origin,
        )
        write_supernet(work.folder, supernet, facts)
        if work.objective is not None:
            _write_policy(work, done)
    return read_facts(work.folder)


def read_draws(folder: Path) -> tuple[Tokens, ...]:
    """The networks that a policy drew at the end of its training, the most probable first.

    Raises:
        SupernetError: There are none, or they cannot be read.
    """
    try:
        drawn = read_json(folder / POLICY)["draws"]
        return tuple(tuple(int(token) for token in tokens) for tokens in drawn)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SupernetError(
            f"{folder / POLICY} cannot be read ({error}): remove {folder}, and repeat the command",
            field="supernet",
        ) from error


def _write_policy(work: SupernetFit, done: Checkpoint) -> None:
    """Writes the policy over time and the networks that it draws at the end."""
    assert work.objective is not None
    steps = work.recipe.steps(len(work.data.train))
    catalogue = Catalogue(work.space, work.predictor)
    policy = PolicySampler(catalogue, work.objective, steps=steps, seed=work.seed)
    policy.load(done.numbers["policy"])
    facts = {
        "objective": work.objective.describe(),
        "decisions": [[one.name, [str(option) for option in one.options]] for one in work.space.decisions],
        "records": [asdict(record) for record in policy.records],
        "draws": policy.draws(DRAWS),
    }
    _write(work.folder / POLICY, facts)


def plan(
    asked: SupernetTraining, out: Path | str, *, options: TrainOptions, watcher: Watcher
) -> TrainingPlan:
    """What `run` would take; the watcher is told. Writes nothing.

    Raises:
        NasError: As `train_supernet`.
    """
    work = asked.prepare(out, options, watcher)
    watcher.on_step("measuring a few steps")
    found = plan_of(work)
    watcher.on_plan(found)
    return found


def _measured(rows: Sequence[Row]) -> Measured | None:
    """The last evaluation."""
    if not rows:
        return None
    last, others = rows[-1], dict(rows[-1].others)
    return Measured(
        metric=last.metric, largest=last.value, smallest=others["smallest"], random=others["random"]
    )


def plan_of(work: SupernetFit) -> TrainingPlan:
    """What the training will take; of several ranks, the time is not known before it began."""
    recipe, images = work.recipe, len(work.data.train)
    device = choose_device(work.options.device)
    measured = None
    if work.options.workers == 1:
        with failures_explained(work, device):
            measured = measure(work, device)
    _, largest = extreme_networks(work.space, seed=work.seed)
    return TrainingPlan(
        name=f"a supernet of {work.space.name}, {work.sampling if work.objective is None else POLICY_NAME}",
        network=work.space.decode(largest),
        data=work.data,
        recipe=recipe,
        metric=work.metric,
        steps=recipe.steps(images),
        steps_an_epoch=recipe.steps_an_epoch(images),
        learning_rate=recipe.peak_rate(images),
        sizes=(work.data.resolution,),
        device=describe_device(device),
        workers=work.options.workers,
        precision=work.precision,
        step_seconds=() if measured is None else measured.step_seconds,
        seconds=None if measured is None else measured.seconds,
        memory_bytes=None if measured is None else measured.memory_bytes,
        notes=("the network shown is the largest of the space",),
        keeps_best=False,
    )


def _begin(work: SupernetFit) -> None:
    """Writes down what is trained, before the first step."""
    facts = {
        "name": f"a supernet of {work.space.name}",
        "identity": dict(work.identity),
        "precision": work.precision,
        "recipe": asdict(work.recipe),
        "seed": work.seed,
    }
    _write(work.folder / RUN, facts)


def _write(path: Path, facts: Mapping[str, Any]) -> None:
    try:
        write_whole(path, json.dumps(facts, indent=1) + "\n")
    except OSError as error:
        raise SupernetError(f"{path} cannot be written: {error.strerror or error}", field="out") from error
