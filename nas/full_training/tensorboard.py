"""Writes the curves of a full training for TensorBoard."""

from __future__ import annotations

from pathlib import Path

from nas.full_training.checkpoint import Row
from nas.report.event_file import EventFile, scalar

FOLDER = "tensorboard"


class CurveLog:
    """The evaluations of one training as scalars, by step; a training that continues goes on with it.

    Args:
        folder: The training's.
        first_step: The step that comes next; what an earlier run wrote of it and of later ones is void.

    Raises:
        StudyError: The file cannot be made.
    """

    def __init__(self, folder: Path, *, first_step: int) -> None:
        self._file = EventFile(folder / FOLDER, first_step=first_step)

    def add(self, row: Row) -> None:
        """Writes one evaluation."""
        values = {
            "train/loss": row.loss,
            "train/learning_rate": row.learning_rate,
            "train/images_per_second": row.images_per_second,
            "train/image_side": float(row.side),
            f"search/{row.metric}": row.value,
            f"search/averaged_{row.metric}": row.averaged_value,
            **{f"search/{name}_{row.metric}": value for name, value in row.others},
        }
        self._file.write(
            row.step, [scalar(name, value) for name, value in values.items() if value is not None]
        )

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
