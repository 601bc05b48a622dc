"""`FullRecipe`: how a network is trained in full, as plain data."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from nas.errors import RecipeError
from nas.full_training.recipe_laws import LAWS, check_augmentation, check_optimizer, check_together
from nas.options import option, options_of
from nas.training.recipe import (
    MOST_INITIAL,
    ClassWeights,
    LossOptions,
    RegressionLoss,
    batch_that_follows,
)
from nas.training.reduction import Reduction
from nas.training.sampling import Sampling
from nas.units import hint
from nas.values import digest, is_number, make_plain, plain
from search_spaces.fingerprints import counted_fields

RateRule = Literal["linear", "square_root", "none"]
Schedule = Literal["cosine", "step", "constant"]
Loss = Literal["cross_entropy", "binary_cross_entropy"]
Crop = Literal["resized", "shifted", "none"]
Flip = Literal["auto", "none", "random", "alternating"]
Trained = Literal["all", "classifier", "classifier_and_last_norm"]
Start = Literal["scratch", "weights"]
Precision = Literal["auto", "float32", "bfloat16"]

MODEL, RATE, REGULARISATION = "recipe: start and batch", "recipe: learning rate", "recipe: regularisation"
IMAGES, AVERAGE = "recipe: augmentation and sizes", "recipe: averaged weights"

LEAST_BATCH = 16
"""Least batch that follows from few images."""

FIRST_VERSION = (
    *("starts_from", "trains", "epochs", "batch_size", "largest_batch", "precision", "optimizer", "momentum"),
    *("optimizer_eps", "weight_decay", "clip_norm", "learning_rate", "reference_batch", "rate_rule"),
    *("schedule", "warmup_epochs", "decay_epochs", "decay_rate", "final_rate", "loss", "label_smoothing"),
    *("dropout", "drop_path", "batch_norm_momentum", "train_size", "crop", "least_area", "shift", "flip"),
    *("auto_augment", "random_erase", "mixup", "cutmix", "repeats", "stages", "first_size"),
    *("first_magnitude", "first_mixup", "first_dropout", "ema_decay", "ema_every", "ema_warmup"),
)
"""Fields of the first recipes whose fingerprints are in checkpoints; new fields are not added here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FullRecipe:
    """A full training: what is trained from what, at which rate, on which views of the images.

    The parts are timm's: optimisers, schedules, RandAugment, random erasing, Mixup and CutMix, the losses and
    the averaged weights. Training may have several stages of equal length: sizes, strength of RandAugment,
    mixup and dropout then grow linearly from their first values to the recipe's own.

    Attributes:
        name: What users call it.
        starts_from: Fresh weights (`scratch`), or the `weights` that are given.
        trains: All weights, the classifier alone, or the classifier with the last batch norm's statistics.
        freeze: The last part that keeps its weights and statistics, as do all before it: `stem`, or a stage
            such as `stage3`; empty freezes none.
        epochs: Passes over the training images; may be a fraction.
        batch_size: Images a step, over all GPUs together; None follows the images (see `batch_for`).
        largest_batch: The most that then follows.
        precision: `bfloat16` (autocast), `float32`, or `auto`: bfloat16 where it is much faster.
        optimizer: One of timm's names (`timm.optim.list_optimizers()`), but for those in `UNSUITED`; `sgd`
            has Nesterov's momentum there, `momentum` the classical one.
        momentum: Of optimisers that have one.
        optimizer_eps: Added to a denominator; 0 keeps the optimiser's own.
        weight_decay: Not on norms and biases.
        clip_norm: Largest norm of the gradient; 0 clips nothing.
        learning_rate: The peak at `reference_batch` images a step.
        reference_batch: See `rate_rule`.
        layer_decay: What the rate is multiplied by from each block to the one before it; the head has the
            whole rate. 1 gives all the same.
        rate_rule: How the peak follows the batch: in proportion to it, to its root, or not at all.
        schedule: After the warm-up a `cosine` to `final_rate`, `step`s, or `constant`.
        warmup_epochs: Epochs in which the rate rises linearly.
        decay_epochs: Epochs between two steps.
        decay_rate: What a step multiplies the rate by.
        final_rate: Rate at the end of a cosine, as a share of the peak.
        loss: Of classes: that of softmax, or of one sigmoid a class with every class in a mixed image a
            target of 1. Labels have one sigmoid each, and numbers `regression_loss`.
        regression_loss: What compares numbers, in standard deviations: `huber` or `squared`.
        class_weights: `balanced` weights the loss so that every class counts alike (see `LossOptions`).
        label_smoothing: Probability spread over all classes, or over both answers of each label.
        dropout: Before the classifier; None keeps the network's own.
        drop_path: Stochastic depth, growing linearly with depth up to this; None keeps the network's own.
        batch_norm_momentum: Weight of the newest batch in running statistics; None keeps the network's own.
        train_size: Side of training images, as a share of the network's resolution, in which it is measured.
        crop: A random part of any size and shape, resized (`resized`); the image shifted by up to `shift` of
            its side (`shifted`); or the image as it is evaluated (`none`).
        least_area: Smallest share of the image's area that a `resized` crop may have.
        shift: Largest shift, as a share of the side.
        flip: Mirror images at `random`, or every second epoch (`alternating`), or never (`none`); `auto` is
            random where the labels outlive a mirror.
        auto_augment: timm's notation, such as `rand-m9-mstd0.5-inc1`, or `ta_wide`; empty is none.
        random_erase: Probability with which a rectangle is erased, to the mean colour.
        mixup: Alpha of Mixup; 0 is none.
        cutmix: Alpha of CutMix; 0 is none. With both, one of them is drawn for each batch.
        sampling: `balanced` shows images of every class equally often, as many as before (see `epoch_order`).
        repeats: How many views of an image follow each other; an epoch then has as many images, fewer of them
            different.
        stages: Number of stages.
        first_size: Size in the first stage, as a share of that in the last.
        first_magnitude: Magnitude of RandAugment there; None is the recipe's own.
        first_mixup: Mixup there; None is the recipe's own.
        first_dropout: Dropout there; None is the recipe's own.
        ema_decay: Decay of the exponential moving average of the weights; 0 keeps none.
        ema_every: Steps between two updates of it.
        ema_warmup: Whether its decay is at most (1 + updates) / (10 + updates), as TensorFlow has it.

    Raises:
        RecipeError: A value is out of range; `field` names it.
    """

    name: str = "custom"
    starts_from: Start = option(
        "scratch", "begin with fresh weights, or with those given", group=MODEL, metavar="NAME"
    )
    trains: Trained = option("all", "weights that are trained", group=MODEL, metavar="NAME")
    freeze: str = option(
        "",
        "keep the weights of the stem and the stages up to this one, such as stage3",
        group=MODEL,
        metavar="STAGE",
        default_text="none",
    )
    epochs: float = option(100.0, "passes over the training images", group=MODEL, metavar="E")
    batch_size: int | None = option(
        None,
        "images a step, over all GPUs together",
        group=MODEL,
        metavar="N",
        default_text="the largest batch, fewer for few images",
    )
    largest_batch: int = option(256, "most images a step that follow the images", group=MODEL, metavar="N")
    precision: Precision = option("auto", "precision of training", group=MODEL, metavar="NAME")
    optimizer: str = option("sgd", "one of timm's optimisers", group=RATE, metavar="NAME")
    momentum: float = option(0.9, "momentum of the optimiser", group=RATE, metavar="M")
    optimizer_eps: float = option(0.0, "epsilon of the optimiser; 0 is its own", group=RATE, metavar="EPS")
    weight_decay: float = option(1e-4, "not of norms and biases", group=RATE, metavar="W")
    clip_norm: float = option(0.0, "largest norm of the gradient; 0 is no limit", group=RATE, metavar="N")
    learning_rate: float = option(0.1, "peak, at the reference batch", group=RATE, metavar="LR")
    reference_batch: int = option(256, "batch that the learning rate is for", group=RATE, metavar="N")
    layer_decay: float = option(
        1.0, "factor of the rate from each block to the one before it", group=RATE, metavar="F"
    )
    rate_rule: RateRule = option("linear", "how the rate follows the batch", group=RATE, metavar="NAME")
    schedule: Schedule = option("cosine", "learning rate after the warm-up", group=RATE, metavar="NAME")
    warmup_epochs: float = option(5.0, "epochs in which the rate rises", group=RATE, metavar="E")
    decay_epochs: float = option(2.4, "epochs between two steps", group=RATE, metavar="E")
    decay_rate: float = option(0.97, "factor of a step", group=RATE, metavar="F")
    final_rate: float = option(0.0, "end of a cosine, as a share of the peak", group=RATE, metavar="F")
    loss: Loss = option("cross_entropy", "loss of classes", group=REGULARISATION, metavar="NAME")
    regression_loss: RegressionLoss = option(
        "huber", "what compares numbers to be predicted", group=REGULARISATION, metavar="NAME"
    )
    class_weights: ClassWeights = option(
        "none",
        "balanced lets all classes, or both answers of a label, count alike",
        group=REGULARISATION,
        metavar="NAME",
    )
    label_smoothing: float = option(
        0.1,
        "spread over all classes, or over both answers of a label",
        group=REGULARISATION,
        metavar="S",
    )
    dropout: float | None = option(
        None, "before the classifier", group=REGULARISATION, metavar="P", default_text="the network's"
    )
    drop_path: float | None = option(
        None, "stochastic depth", group=REGULARISATION, metavar="P", default_text="the network's"
    )
    batch_norm_momentum: float | None = option(
        None, "weight of the newest batch", group=REGULARISATION, metavar="M", default_text="the network's"
    )
    train_size: float = option(
        1.0, "side of training images, as a share of the network's", group=IMAGES, metavar="F"
    )
    crop: Crop = option("resized", "part of an image that is trained on", group=IMAGES, metavar="NAME")
    least_area: float = option(0.08, "least share of the area in a resized crop", group=IMAGES, metavar="F")
    shift: float = option(0.0625, "largest shift, as a share of the side", group=IMAGES, metavar="F")
    flip: Flip = option("auto", "mirroring", group=IMAGES, metavar="NAME")
    auto_augment: str = option(
        "", "timm's notation, such as rand-m9-mstd0.5-inc1; or ta_wide, or none", group=IMAGES, metavar="TEXT"
    )
    random_erase: float = option(0.0, "probability of an erased rectangle", group=IMAGES, metavar="P")
    mixup: float = option(0.0, "alpha of Mixup; 0 is none", group=IMAGES, metavar="A")
    cutmix: float = option(0.0, "alpha of CutMix; 0 is none", group=IMAGES, metavar="A")
    sampling: Sampling = option(
        "shuffled", "balanced shows images of all classes equally often", group=IMAGES, metavar="NAME"
    )
    repeats: int = option(1, "views of an image that follow each other", group=IMAGES, metavar="N")
    stages: int = option(1, "stages of growing size and strength", group=IMAGES, metavar="N")
    first_size: float = option(
        1.0, "size in the first stage, as a share of the last", group=IMAGES, metavar="F"
    )
    first_magnitude: float | None = option(
        None, "RandAugment in the first stage", group=IMAGES, metavar="M", default_text="the recipe's own"
    )
    first_mixup: float | None = option(
        None, "Mixup in the first stage", group=IMAGES, metavar="A", default_text="the recipe's own"
    )
    first_dropout: float | None = option(
        None, "dropout in the first stage", group=IMAGES, metavar="P", default_text="the recipe's own"
    )
    ema_decay: float = option(0.0, "decay of the averaged weights; 0 keeps none", group=AVERAGE, metavar="D")
    ema_every: int = option(1, "steps between two updates", group=AVERAGE, metavar="N")
    ema_warmup: bool = option(True, "use the decay from the first step on", group=AVERAGE)

    def __post_init__(self) -> None:
        make_plain(self)
        for field in fields(self):
            value = getattr(self, field.name)
            is_real = str(field.type).startswith("float")
            if is_real and isinstance(value, int) and is_number(value):
                object.__setattr__(self, field.name, float(value))  # so that 5 and 5.0 are one recipe
        if self.auto_augment == "none":
            object.__setattr__(self, "auto_augment", "")
        for law, names, holds in LAWS:
            for name in names:
                self._check(f"{law.format(name)}", name, holds(getattr(self, name)))
        for name, one in options_of(FullRecipe).items():
            value = getattr(self, name)
            self._check(f"{name} in {one.choices}", name, not one.choices or value in one.choices)
        self._check(
            f"warmup_epochs < epochs={self.epochs:g}", "warmup_epochs", self.warmup_epochs < self.epochs
        )
        check_optimizer(self.optimizer)
        check_augmentation(self.auto_augment, self.first_magnitude)
        check_together(self)

    def _check(self, law: str, name: str, holds: bool) -> None:
        if not holds:
            raise RecipeError(f"`{law}` must hold, but got {name}={getattr(self, name)!r}", field=name)

    @property
    def fingerprint(self) -> str:
        """Changes with what is trained; not with the name, nor with a later field at its default."""
        counted = counted_fields(self, FIRST_VERSION)
        counted.pop("name", None)
        return digest(json.dumps(counted, sort_keys=True))

    @property
    def loss_options(self) -> LossOptions:
        """What it says of the loss."""
        return LossOptions(
            label_smoothing=self.label_smoothing,
            class_weights=self.class_weights,
            regression_loss=self.regression_loss,
        )

    def changed(self, **values: Any) -> FullRecipe:
        """Returns the recipe with fields changed.

        With other epochs, a warm-up and steps that are not given keep their share of the training.

        Raises:
            RecipeError: There is no such field, or a value is out of range.
        """
        known = [field.name for field in fields(self)]
        for name in values:
            if name not in known:
                raise RecipeError(f"a recipe has no field {name!r}: {hint(name, known)}", field=name)
        epochs = plain(values.get("epochs", self.epochs))
        if is_number(epochs) and epochs > 0:
            share = epochs / self.epochs
            for name in ("warmup_epochs", "decay_epochs"):
                values.setdefault(name, getattr(self, name) * share)
        return replace(self, **values)

    def batch_for(self, images: int) -> int:
        """Images a step on so many training images.

        What follows the images leaves 8 steps in an epoch: a batch made for a million images would leave a
        thousand of them with one. It is the largest such power of two, and at least 16 if there are so many.
        """
        if self.batch_size is not None:
            return min(self.batch_size, images)
        return min(images, batch_that_follows(images, least=LEAST_BATCH, most=self.largest_batch))

    def steps_an_epoch(self, images: int) -> int:
        """Steps of an epoch; the last, partial batch is left out."""
        return images // self.batch_for(images)

    def steps(self, images: int) -> int:
        """Steps of the training on so many images."""
        return max(1, round(self.epochs * self.steps_an_epoch(images)))

    def peak_rate(self, images: int) -> float:
        """The peak of the learning rate for the batch that so many training images allow."""
        power = {"linear": 1.0, "square_root": 0.5, "none": 0.0}[self.rate_rule]
        return self.learning_rate * math.pow(self.batch_for(images) / self.reference_batch, power)

    def stage_at(self, step: int, steps: int) -> int:
        """Number of the stage that a step of so many belongs to, both counted from 0."""
        return min(self.stages - 1, step * self.stages // steps)

    def side(self, stage: int, resolution: int) -> int:
        """Side of the training images of a stage, pixels: a multiple of 4, or the network's resolution."""
        share = self.train_size * self._grown(self.first_size, 1.0, stage)
        return resolution if share >= 1 else Reduction(resolution=share).side(resolution)

    def pixels(self, first: int, last: int, steps: int, resolution: int) -> float:
        """Pixels a channel of the images of the steps from `first` to before `last`, one image a step.

        The time of steps grows in proportion to them.
        """
        ends = [-(-stage * steps // self.stages) for stage in range(self.stages + 1)]
        return sum(
            max(0, min(last, ends[stage + 1]) - max(first, ends[stage])) * self.side(stage, resolution) ** 2
            for stage in range(self.stages)
        )

    def shift_pixels(self, side: int) -> int:
        """Largest shift of an image, pixels; at least one where there are shifts."""
        return max(1, round(self.shift * side)) if self.shift else 0

    def momentum_for(self, images: int, own: float) -> float:
        """Weight of the newest batch in batch-norm statistics, in a network with a weight of its own.

        It is raised where a short training would leave more than 1 % of the initial statistics.
        """
        wanted = own if self.batch_norm_momentum is None else self.batch_norm_momentum
        return max(wanted, 1 - math.pow(MOST_INITIAL, 1 / self.steps(images)))

    def mixup_at(self, stage: int) -> float:
        """Alpha of Mixup in a stage."""
        return self._grown(self.first_mixup, self.mixup, stage)

    def dropout_at(self, stage: int, own: float) -> float:
        """Dropout in a stage, of a network with a rate of its own."""
        return self._grown(self.first_dropout, own if self.dropout is None else self.dropout, stage)

    def augment_at(self, stage: int) -> str:
        """Notation of the augmentation in a stage; the magnitude is a whole number."""
        if self.first_magnitude is None:
            return self.auto_augment
        first, *parts = self.auto_augment.split("-")
        is_magnitude = [part[:1] == "m" and part[1:2].isdigit() for part in parts]
        last = next((float(p[1:]) for p, found in zip(parts, is_magnitude, strict=True) if found), 10.0)
        others = [part for part, found in zip(parts, is_magnitude, strict=True) if not found]
        return "-".join([first, f"m{round(self._grown(self.first_magnitude, last, stage))}", *others])

    def _grown(self, first: float | None, last: float, stage: int) -> float:
        """What grows linearly from the first stage to the last. Source: EfficientNetV2, algorithm 1."""
        if first is None or self.stages == 1:
            return last
        return first + (last - first) * stage / (self.stages - 1)

    def to_toml(self) -> str:
        """Writes every field that is not None, a line each."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        return "".join(
            f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items()
        )

    @classmethod
    def from_toml(cls, text: str, *, base: Mapping[str, FullRecipe] | None = None) -> FullRecipe:
        """Reads fields from TOML; those left out are those of the recipe that `base` names, or defaults.

        Args:
            text: The TOML.
            base: Recipes by name.

        Raises:
            RecipeError: It is no TOML, or has unknown fields or values.
        """
        try:
            values = tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # no TOML, a number of thousands of digits, or too deep
            raise RecipeError(f"a recipe must be TOML, but: {error}", field="recipe") from error
        name = values.pop("base", None)
        known = base or {}
        if name is None:
            return cls().changed(**values)
        if not isinstance(name, str) or name not in known:
            raise RecipeError(f"there is no recipe {name!r}: {hint(str(name), known)}", field="base")
        return known[name].changed(**values)
