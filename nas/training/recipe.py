"""`Recipe`: how every candidate is trained, as plain data."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from nas.errors import RecipeError
from nas.options import option, options_of
from nas.reading import parse_json
from nas.training.sampling import Sampling
from nas.values import digest, is_count, is_number, make_plain
from search_spaces.fingerprints import counted_fields

Optimizer = Literal["sgd", "rmsprop"]
Augmentation = Literal["auto", "none", "crop", "crop_flip"]
Precision = Literal["auto", "float32", "bfloat16"]
Statistics = Literal["auto", "running", "recomputed"]
ClassWeights = Literal["none", "balanced"]
RegressionLoss = Literal["huber", "squared"]

MOST_IMAGES, LEAST_IMAGES = 128, 4
"""Bounds of a batch that follows the data."""

STEPS_AN_EPOCH = 8
"""A batch that follows the data leaves so many steps in an epoch, as far as its bounds allow."""

MOST_INITIAL = 0.01
"""Share of the initial batch-norm statistics that may be left after a training. They have a variance of 1
and those of a short training mostly a far smaller one, so that even a few percent would outweigh them."""

FIRST_VERSION = (
    *("epochs", "batch_size", "optimizer", "learning_rate", "momentum", "weight_decay", "warmup_epochs"),
    *("label_smoothing", "batch_norm_momentum", "augmentation", "crop_padding", "precision"),
)
"""Fields of the first recipes whose fingerprints are in journals; new fields are not added here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOptions:
    """What a recipe says of the loss.

    Attributes:
        label_smoothing: Probability spread over all classes, or over both answers of each label.
        class_weights: `balanced` weights each image by `images / (classes * images of its class)`, and where
            an image has several labels each that it has by `images without it / images with it`.
        regression_loss: `huber` (squared up to one standard deviation, linear beyond) or `squared`.

    Source: scikit-learn's `compute_class_weight` for balanced weights of classes.
    """

    label_smoothing: float = 0.0
    class_weights: ClassWeights = "none"
    regression_loss: RegressionLoss = "huber"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A short training: warm-up, cosine to zero, label smoothing.

    Attributes:
        epochs: Passes over the training split; may be a fraction.
        batch_size: Images a step; None follows the data (see `batch_for`).
        optimizer: `sgd` (Nesterov) or `rmsprop` (torch's, decay 0.9, eps 1e-3).
        learning_rate: The peak, reached at the end of the warm-up.
        momentum: Of either optimizer.
        weight_decay: On weights of convolutions and linear layers, not on norms and biases.
        warmup_epochs: Epochs in which the rate rises linearly from zero.
        label_smoothing: Probability spread over all classes, or over both answers of each label; numbers have
            none.
        batch_norm_momentum: Weight of the newest batch in the running statistics. The papers' 0.01 and 0.0003
            keep most of the initial statistics through a short training: its accuracy would mean nothing.
        batch_norm_statistics: What accuracy is measured and weights are exported with: the `running` ones of
            the training; `recomputed` over training images after it; or `auto`: recomputed where so few steps
            leave more than 1 % of the initial ones.
        augmentation: `none`, `crop` (random, reflect-padded), `crop_flip`, or `auto`: flips where data allow.
        crop_padding: Most pixels an image is shifted by in either direction.
        precision: `bfloat16` (autocast), `float32`, or `auto`: bfloat16 where the device has units for it
            and a short timing finds it much faster, else float32.
        class_weights: `balanced` weights the loss so that every class counts alike (see `LossOptions`).
        sampling: `balanced` shows images of every class equally often, as many as before (see `epoch_order`).
        regression_loss: What compares numbers, in standard deviations: `huber` or `squared`.
    """

    epochs: float = option(5.0, "passes over the training images", metavar="E")
    batch_size: int | None = option(
        None, "images in a step", metavar="N", default_text=f"{MOST_IMAGES}, fewer for few images"
    )
    optimizer: Optimizer = option("sgd", "optimizer", metavar="NAME")
    learning_rate: float = option(0.1, "peak of the learning rate", metavar="LR")
    momentum: float = option(0.9, "momentum of the optimizer", metavar="M")
    weight_decay: float = option(5e-4, "weight decay, not of norms and biases", metavar="W")
    warmup_epochs: float = option(1.0, "epochs in which the learning rate rises", metavar="E")
    label_smoothing: float = option(
        0.1, "probability spread over all classes, or over both answers of a label", metavar="S"
    )
    batch_norm_momentum: float = 0.1
    batch_norm_statistics: Statistics = option(
        "auto", "running, or recomputed after the training; auto recomputes after few steps", metavar="NAME"
    )
    augmentation: Augmentation = option("auto", "augmentation of training images", metavar="NAME")
    crop_padding: int = 2
    precision: Precision = option("auto", "precision of training", metavar="NAME")
    class_weights: ClassWeights = option(
        "none", "balanced lets all classes, or both answers of a label, count alike", metavar="NAME"
    )
    sampling: Sampling = option(
        "shuffled", "balanced shows images of all classes equally often", metavar="NAME"
    )
    regression_loss: RegressionLoss = option("huber", "what compares numbers to be predicted", metavar="NAME")

    def __post_init__(self) -> None:
        make_plain(self)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "float" and isinstance(value, int) and is_number(value):
                object.__setattr__(self, field.name, float(value))  # so that 5 and 5.0 are one recipe
        for name, one in options_of(Recipe).items():
            value = getattr(self, name)
            _require(not one.choices or value in one.choices, f"{name} in {one.choices}", name, self)
            _require(one.kind is not bool or isinstance(value, bool), f"{name} in (False, True)", name, self)
        for name in ("epochs", "learning_rate"):
            _require(is_number(getattr(self, name)) and getattr(self, name) > 0, f"{name} > 0", name, self)
        for name in ("weight_decay", "warmup_epochs"):
            _require(is_number(getattr(self, name)) and getattr(self, name) >= 0, f"{name} >= 0", name, self)
        for name in ("momentum", "label_smoothing"):
            _require(
                is_number(getattr(self, name)) and 0 <= getattr(self, name) < 1,
                f"0 <= {name} < 1",
                name,
                self,
            )
        _require(
            is_number(self.batch_norm_momentum) and 0 < self.batch_norm_momentum <= 1,
            "0 < batch_norm_momentum <= 1",
            "batch_norm_momentum",
            self,
        )
        _require(
            self.batch_size is None or is_count(self.batch_size, 2),
            "batch_size >= 2 (batch norm needs two images)",
            "batch_size",
            self,
        )
        _require(
            not self.class_weights == self.sampling == "balanced",
            "class_weights=none or sampling=shuffled (balanced twice, rare classes count too much)",
            "sampling",
            self,
        )
        _require(is_count(self.crop_padding, 0), "crop_padding >= 0", "crop_padding", self)
        _require(
            self.warmup_epochs < self.epochs, f"warmup_epochs < epochs={self.epochs}", "warmup_epochs", self
        )

    @property
    def fingerprint(self) -> str:
        """Changes whenever accuracies stop being comparable; a later field counts unless at its default.

        That of `batch_norm_statistics` counts unless they are the running ones, as they always were before
        there was a choice.
        """
        counted = counted_fields(self, FIRST_VERSION)
        counted["batch_norm_statistics"] = self.batch_norm_statistics
        if self.batch_norm_statistics == "running":
            del counted["batch_norm_statistics"]
        return digest(json.dumps(counted, sort_keys=True))

    def at(self, fidelity: float) -> Recipe:
        """Returns the same training in a share of the epochs, warm-up and cosine shortened with it.

        Raises:
            RecipeError: The share is not in (0, 1].
        """
        if not (is_number(fidelity) and 0 < fidelity <= 1):
            raise RecipeError(f"`0 < fidelity <= 1` must hold, but got fidelity={fidelity!r}")
        return replace(self, epochs=self.epochs * fidelity, warmup_epochs=self.warmup_epochs * fidelity)

    def without_probes(self) -> Recipe:
        """Returns the recipe with nothing left for a worker to find out by timing: `auto` becomes float32.

        Two workers may time bfloat16 differently; a fixed schedule needs them to compute alike.
        """
        return replace(self, precision="float32") if self.precision == "auto" else self

    def batch_for(self, images: int) -> int:
        """Images a step on so many training images: as given, or following the data.

        What follows is the largest power of two that leaves 8 steps in an epoch, from 4 to 128; of fewer than
        4 images it is all. The learning rate stays: on small sets, the few steps there are gain more from
        it than small batches lose (docs/evaluation.md has the measurement).
        """
        if self.batch_size is not None:
            return self.batch_size
        return batch_that_follows(images, least=LEAST_IMAGES, most=MOST_IMAGES)

    def steps(self, images: int) -> int:
        """Number of steps on so many training images; the last, partial batch of an epoch is left out."""
        return max(1, round(self.epochs * (images // self.batch_for(images))))

    def initial_share(self, images: int) -> float:
        """Share of the initial batch-norm statistics that is left after training on so many images."""
        return float((1 - self.batch_norm_momentum) ** self.steps(images))

    def settled(self, images: int) -> Recipe:
        """Returns the recipe with everything decided that follows from the number of training images."""
        statistics = self.batch_norm_statistics
        if statistics == "auto":
            statistics = "recomputed" if self.initial_share(images) > MOST_INITIAL else "running"
        return replace(self, batch_size=self.batch_for(images), batch_norm_statistics=statistics)

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Rate of a step, counted from 0: linear up to the peak, then a cosine to zero.

        Source: Loshchilov and Hutter, ICLR 2017, eq. 5, without restarts.
        """
        warmup = self.warmup_epochs / self.epochs * steps
        if step + 1 < warmup:
            return self.learning_rate * (step + 1) / warmup
        done = (step + 1 - warmup) / max(steps - warmup, 1.0)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    @property
    def loss(self) -> LossOptions:
        """What it says of the loss."""
        return LossOptions(
            label_smoothing=self.label_smoothing,
            class_weights=self.class_weights,
            regression_loss=self.regression_loss,
        )

    def to_json(self) -> str:
        """Writes the recipe as one JSON object."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Reads what `to_json` wrote; fields left out take their defaults.

        A recipe with exactly the fields of the first version was written by it, and means the `running`
        batch-norm statistics: what was measured so stays comparable.

        Raises:
            RecipeError: The text is no JSON object, or has unknown fields or values.
        """
        try:
            values: Any = parse_json(text)
        except ValueError as error:
            raise RecipeError(f"a recipe must be a JSON object, but: {error}") from error
        known = [field.name for field in fields(cls)]
        if not isinstance(values, dict):
            raise RecipeError(f"a recipe must be a JSON object, but got {type(values).__name__}")
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise RecipeError(f"a recipe has the fields {', '.join(known)}, but got {', '.join(unknown)}")
        if set(values) == set(FIRST_VERSION):
            values = {**values, "batch_norm_statistics": "running"}
        return cls(**values)

    def as_at_first(self) -> Recipe:
        """What this recipe meant before a batch could follow the data and statistics be recomputed."""
        is_auto = self.batch_norm_statistics == "auto"
        return replace(
            self,
            batch_size=self.batch_size or MOST_IMAGES,
            batch_norm_statistics="running" if is_auto else self.batch_norm_statistics,
        )


def batch_that_follows(images: int, *, least: int, most: int) -> int:
    """Images a step that follow the number of training images.

    It is the largest power of two that leaves 8 steps in an epoch, within these bounds; fewer images than
    `least` are one batch, and batch norm needs two of them.
    """
    wanted = max(least, images // STEPS_AN_EPOCH)
    return min(most, 1 << (wanted.bit_length() - 1), max(2, images))


def is_of_first_version(text: str) -> bool:
    """Says whether a stored recipe was written before it had any field beyond those of the first version."""
    try:
        values: Any = parse_json(text)
    except ValueError:
        return False
    return isinstance(values, dict) and set(values) == set(FIRST_VERSION)


def _require(holds: bool, law: str, name: str, recipe: Recipe) -> None:
    if not holds:
        raise RecipeError(f"`{law}` must hold, but got {name}={getattr(recipe, name)!r}", field=name)
