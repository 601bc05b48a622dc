"""How a supernet is trained where nothing else is asked for, and what of a recipe means nothing for it."""

from __future__ import annotations

from collections.abc import Mapping

from nas.full_training.recipe import FullRecipe

SUPERNET = FullRecipe(
    name="supernet",
    epochs=60,
    largest_batch=128,
    optimizer="sgd",
    learning_rate=0.1,
    reference_batch=128,
    rate_rule="square_root",
    weight_decay=4e-5,
    warmup_epochs=3,
    label_smoothing=0.1,
    crop="shifted",
    flip="auto",
)
"""Guo et al., ECCV 2020 (SGD, weight decay, smoothing), with a warm-up and a cosine to zero (BigNAS); shifts
of small images as in the recipe `small`."""

OWN = "supernet"
"""Where the shared weights of a study are that were trained for it alone, in the study's folder."""

NOT_OF_SUPERNETS: Mapping[str, str] = {
    "starts_from": "shared weights start fresh",
    "trains": "all shared weights are trained",
    "freeze": "all shared weights are trained",
    "layer_decay": "all layers have one rate",
    "stages": "networks of all sizes are trained at once",
    "ema_decay": "networks are measured with the last weights",
    "dropout": "each network keeps its own",
    "drop_path": "each network keeps its own",
    "batch_norm_momentum": "networks normalise by the batch",
    "train_size": "networks see images of their own size",
}
"""Fields of a recipe that mean nothing here, and why."""

NOT_OPTIONS: Mapping[str, str] = {
    "sync_batch_norm": "networks are measured with statistics of their own",
    "is_compiled": "each step goes through other networks",
    "has_onnx": "it has no bundle",
}
"""Options of full trainings that mean nothing here, and why."""
