"""`FullTraining`: what is trained on what, found, checked and fitted together before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nas.architectures import Architecture
from nas.data.images import ImageData
from nas.data.targets import require_task
from nas.data.tree import check_outside
from nas.errors import DataError, StudyError, UsageError
from nas.full_training.images import ImageSource, check_apart, check_splits, of_study
from nas.full_training.learner import trained_network
from nas.full_training.place import check_place
from nas.full_training.ranks import share_of_batch
from nas.full_training.recipe import FullRecipe
from nas.full_training.recipes import RECIPES, find_recipe
from nas.full_training.start import Start, find_start, of_trial, with_weights
from nas.full_training.stored import parts_of
from nas.full_training.task_laws import metric_of_task, recipe_of_task
from nas.full_training.trained_parts import frozen_names
from nas.starting_weights import Weights, study_in
from nas.study.study import Study
from nas.study.study_trial import StudyTrial
from nas.tasks import TASKS, TaskName
from nas.trial import Say, say_nothing
from nas.values import digest, seed_of, whole
from search_spaces import Network

SMALL_RESOLUTION = 64
"""Up to so many pixels the recipe `small` is the default, above it `modern`."""


def usual_recipe(resolution: int) -> str:
    """Name of the recipe for images of a side, where none is named."""
    return "small" if resolution <= SMALL_RESOLUTION else "modern"


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One network with all that its training is made of.

    Attributes:
        start: The network, fitted to the images.
        data: The images.
        recipe: How it is trained.
        metric: Name of the metric that the best weights are chosen by.
        folder: Where to.
        seed: Of everything random.
        notes: What was decided on the user's behalf.
    """

    start: Start
    data: ImageData
    recipe: FullRecipe
    metric: str
    folder: Path
    seed: int
    notes: tuple[str, ...] = ()

    @property
    def identity(self) -> dict[str, str]:
        """What makes it the same training."""
        weights = self.start.weights
        is_usual = self.metric == TASKS[self.data.task].metrics[0]
        return {
            "network": self.start.network.digest,
            "images": self.data.fingerprint,
            "split": self.data.split_fingerprint,
            "normalisation": digest(self.data.mean, self.data.std),
            "recipe": self.recipe.fingerprint,
            "seed": str(self.seed),
            "starting weights": "none" if weights is None else digest(*parts_of(weights)),
            **({} if is_usual else {"metric": self.metric}),
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FullTraining:
    """A full training as it is asked for.

    Attributes:
        network: A network, or one with a name to call it by (`Architecture`), a published name
            (`efficientnet_b0`), an `architecture.json`, a bundle, a training, or a study, whose recommended
            network is taken.
        data: The images; None takes those of the study, split as there.
        recipe: A name of `nas.RECIPES`, a TOML file, or a recipe; None is `finetune` where weights are given,
            else `small` up to 64 pixels and `modern` above.
        changes: Fields of the recipe that are to be others, as `FullRecipe.changed` takes them.
        weights: What to start from, as `find_weights` takes it, for recipes that start from weights; None is
            those of the bundle or the trial. Other recipes start from them only where they are given here.
        inherits: Gives each trial of the study weights to start from, such as its slices of a supernet; the
            default recipe is then `finetune`. None where trials have their own.
        download: Whether weights by timm's name may be downloaded.
        top: How many of a study's networks are trained.
        task: What networks learn to predict; None is what the images, or the study, say.
        metric: Metric of the task that the best epoch, weights and network are chosen by; None is that of the
            study's objective, or the task's first.
        resolution: Side of the images in pixels; None is the network's own, or that of loaded data.
        seed: Of initial weights, order and views of the images, and dropout.
    """

    network: Network | Architecture | Study | str | Path
    data: str | Path | ImageSource | ImageData | None = None
    recipe: str | Path | FullRecipe | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    weights: Weights | str | Path | None = None
    inherits: Callable[[StudyTrial], Weights] | None = None
    download: bool = False
    top: int = 1
    task: TaskName | None = None
    metric: str | None = None
    resolution: int | None = None
    seed: int = 0

    def prepare(self, out: str | Path, *, workers: int = 1, say: Say = say_nothing) -> tuple[Training, ...]:
        """Finds everything and checks that it fits together; writes nothing.

        Args:
            out: Folder to train in.
            workers: Processes that share each batch.
            say: Told what is going on.

        Returns:
            A training for each network, the first that of the study's recommended one.

        Raises:
            NasError: Something cannot be found or read, or does not fit; `field` names the argument.
        """
        top, seed = whole("top", self.top, least=1), seed_of(self.seed)
        is_given = self.weights is not None or self.inherits is not None
        named = RECIPES["finetune"] if self.recipe is None and is_given else self.recipe
        recipe = None if named is None else find_recipe(named).changed(**self.changes)
        starts_from = self.changes.get("starts_from") if recipe is None else recipe.starts_from
        say("finding the network")
        study = self._study()
        starts = self._starts(study, top)
        folder = Path(out).expanduser()
        check_place(folder, "ranking" if len(starts) > 1 else "network")
        keeps = is_given or starts_from == "weights"
        data = self._images(study, starts[0], keeps, folder, say)
        check_splits(data)
        notes = study_note(study, data, starts[0].network)
        if recipe is None:
            usual = RECIPES[usual_recipe(data.resolution)]
            recipe = usual.changed(**self.changes)
            notes = (*notes, f"the recipe is {recipe.name}, for images of {data.resolution} pixels")
        elif self.recipe is None:
            notes = (*notes, f"the recipe is {recipe.name}, which starts from the weights that are given")
        recipe, left_out = recipe_of_task(recipe, data, self.changes)
        notes += left_out
        metric = metric_of_task(self.metric, data, study)
        share_of_batch(np.arange(recipe.batch_for(len(data.train))), 0, workers)  # refuses what has no shares
        found = []
        for start in starts:
            fitted = start.fitted(data, keeps_weights=keeps, trains=recipe.trains)
            if keeps and start.preprocessing is not None:
                check_apart(data, start.preprocessing.trained_on)
            trained_network(fitted.network, recipe, len(data.train))
            found.append(
                Training(
                    start=fitted,
                    data=fitted.normalised(data),
                    recipe=recipe,
                    metric=metric,
                    folder=folder if len(starts) == 1 else folder / start.name.replace(" ", "-"),
                    seed=seed,
                    notes=(*notes, *_notes(start, fitted, data, recipe)),
                )
            )
        return tuple(found)

    def _study(self) -> Study | None:
        """The study that the network is taken from; None where it is taken from elsewhere."""
        if isinstance(self.network, Study):
            return self.network
        if isinstance(self.network, Network | Architecture):
            return None
        return study_in(Path(self.network).expanduser())

    def _starts(self, study: Study | None, top: int) -> list[Start]:
        """The networks that are trained."""
        if self.inherits is not None and (study is None or self.weights is not None):
            raise UsageError(
                "`inherits` gives weights to networks of a study, but "
                + (f"{self.network} is none" if study is None else "`weights` are given too")
                + ": leave it out",
                field="inherits",
            )
        if study is not None:
            trials = study.top(top)
            if len(trials) < top:
                raise StudyError(
                    f"`top <= {len(trials)}`, the different networks that completed in {study.folder}, must "
                    f"hold, but got top={top}: give fewer",
                    field="top",
                )
            starts = [of_trial(trial) for trial in trials]
            if self.inherits is not None:
                starts = [
                    replace(start, weights=self.inherits(trial))
                    for start, trial in zip(starts, trials, strict=True)
                ]
        else:
            if top > 1:
                raise UsageError(
                    f"`top` chooses among the networks of a study, which {self.network} is not: leave it out",
                    field="top",
                )
            assert not isinstance(self.network, Study)
            starts = [find_start(self.network)]
        if self.weights is None:
            return starts
        if top > 1:
            raise UsageError(
                f"`weights` are those of one network, but top={top}: leave one of them out", field="weights"
            )
        return [with_weights(starts[0], self.weights, download=self.download)]

    def _images(self, study: Study | None, start: Start, keeps: bool, out: Path, say: Say) -> ImageData:
        """The images, at the network's resolution or the one that is asked for."""
        if isinstance(self.data, ImageData):
            if self.resolution not in (None, self.data.resolution):
                raise DataError(
                    f"`resolution={self.data.resolution}`, that of the loaded images, must hold, but got "
                    f"resolution={self.resolution}: load them with resolution={self.resolution}",
                    field="resolution",
                )
            require_task(self.task, self.data.task, self.data.name)
            return self.data
        source = self.data if isinstance(self.data, ImageSource) else None
        if self.data is not None and source is None:
            assert isinstance(self.data, str | Path)
            source = ImageSource(spec=self.data)
        if study is not None:
            source = of_study(study, source)
        if source is None:
            raise UsageError("a full training needs images: give data, such as --data photos/", field="data")
        if self.task is not None:
            source = replace(source, task=self.task)
        check_outside(out, source.spec)
        source = source.like(start.preprocessing if keeps else None)
        return source.load(self.resolution or start.network.resolution, say)


def study_note(study: Study | None, data: ImageData, searched: Network) -> tuple[str, ...]:
    """Says where the images, at whatever size, are not those that the study was searched on."""
    if study is None or not study.identity.data:
        return ()
    then = replace(data, reading=replace(data.reading, resolution=searched.resolution))
    if study.identity.data != then.fingerprint:
        return (f"these are not the images that {study.folder} was searched on",)
    if study.identity.split != data.split_fingerprint:
        return (
            f"the split is not that of {study.folder}: images that its networks were chosen by may be among "
            "those that are trained on, or tested",
        )
    return ()


def _notes(start: Start, fitted: Start, data: ImageData, recipe: FullRecipe) -> tuple[str, ...]:
    """What was changed in the network for the images, and what follows from their number."""
    notes = []
    changes = [
        f"{name} from {getattr(start.network, name)} to {getattr(fitted.network, name)}"
        for name in ("resolution", "num_classes", "in_channels")
        if getattr(start.network, name) != getattr(fitted.network, name)
    ]
    if changes:
        notes.append(f"the network was changed for these images: {', '.join(changes)}")
    notes += _weights_notes(start, fitted, data, recipe)
    images = len(data.train)
    batch = recipe.batch_for(images)
    if recipe.batch_size is None and batch != recipe.largest_batch:
        notes.append(
            f"the batch follows the {images:,} training images: {batch} "
            "(batch_size or --batch-size gives another)"
        )
    elif batch != (recipe.batch_size or batch):
        notes.append(f"the batch is all {images:,} training images, as there are no more")
    if recipe.rate_rule != "none" and batch != recipe.reference_batch:
        root = "the root of " if recipe.rate_rule == "square_root" else ""
        notes.append(
            f"the peak of the learning rate is {recipe.peak_rate(images):.4g}: {recipe.learning_rate:g} "
            f"times {root}{batch}/{recipe.reference_batch}"
        )
    own = fitted.network.norm_momentum
    wanted = own if recipe.batch_norm_momentum is None else recipe.batch_norm_momentum
    momentum = recipe.momentum_for(images, own)
    if momentum > wanted and recipe.trains == "all":
        notes.append(
            f"batch_norm_momentum is {momentum:.3g} in place of {wanted:g}, with which "
            f"{recipe.steps(images):,} steps would keep too much of the initial statistics"
        )
    return tuple(notes)


def _weights_notes(start: Start, fitted: Start, data: ImageData, recipe: FullRecipe) -> list[str]:
    """Says which weights are not used, and how those that are were made to fit the images."""
    if fitted.weights is None:
        if start.weights is None or start.trial is not None:
            return []
        return [
            f"the weights of {start.name} are not used, since the recipe starts from scratch: finetune, or "
            "starts_from=weights, uses them"
        ]
    notes = list(fitted.notes)
    if recipe.starts_from == "scratch":
        notes.append(
            f"training starts from the weights, though the recipe {recipe.name} is for fresh ones, and its "
            "rate may undo what they know: finetune is for weights"
        )
    if recipe.freeze:
        notes.append(f"frozen with their statistics: {', '.join(frozen_names(fitted.network, recipe))}")
    return [*notes, *_normalisation_notes(fitted, data)]


def _normalisation_notes(fitted: Start, data: ImageData) -> list[str]:
    """Says how images are normalised for weights, and where these were cut otherwise."""
    if fitted.normalisation is None:
        return [
            "how images were normalised for the weights is not known: these are normalised by their own mean "
            "and deviation"
        ]
    found = fitted.normalisation.for_channels(data.channels)
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (found.mean, found.std))
    notes = [f"images are normalised by mean {mean} and deviation {std}: {found.origin}"]
    if found.resizing:
        notes.append(
            f"the weights were tested on images that were resized otherwise ({found.resizing}) than these "
            f"(bilinear, {data.reading.fit})"
        )
    return notes
