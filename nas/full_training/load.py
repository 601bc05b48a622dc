"""Measures what the full training of a network would take on this machine, without training it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from nas.errors import TrainingError
from nas.evaluation.training_budget import TrainingLoad
from nas.full_training.options import TrainOptions
from nas.full_training.run import Unwatched, plan
from nas.full_training.training import FullTraining
from search_spaces import Network


def training_load(asked: FullTraining, network: Network, out: Path, options: TrainOptions) -> TrainingLoad:
    """Takes a few steps of a network on the images, at its own resolution, as `nas train --dry-run` does.

    Args:
        asked: The training; its network is replaced by this one.
        network: The network.
        out: A folder that is not there yet; nothing is written.
        options: The device.

    Returns:
        The time of the whole and the memory of a step; infinite memory where it ran out.

    Raises:
        NasError: The images or the recipe cannot be used.
    """
    try:
        (found,) = plan(replace(asked, network=network), out, options=options, watcher=Unwatched())
    except TrainingError as error:
        if error.field != "batch_size":
            raise
        return TrainingLoad(seconds=math.inf, memory_bytes=math.inf)
    return TrainingLoad(
        seconds=math.inf if found.seconds is None else found.seconds,
        memory_bytes=math.inf if found.memory_bytes is None else found.memory_bytes,
        where=found.device,
    )
