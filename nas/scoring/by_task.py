"""Scores what a network gives for images, by its task."""

from __future__ import annotations

from collections.abc import Iterator

from nas.data.images import Part
from nas.export.preprocessing import Preprocessing
from nas.scoring.multilabel_scores import MultilabelScores, score_labels
from nas.scoring.outputs import Outputs, joined
from nas.scoring.regression_scores import RegressionScores, score_numbers
from nas.scoring.scores import Scores, score_classes
from nas.tasks import CLASSIFICATION, MULTILABEL

AnyScores = Scores | MultilabelScores | RegressionScores
"""The scores of each task."""


def score_outputs(batches: Iterator[Outputs], part: Part, preprocessing: Preprocessing) -> AnyScores:
    """Scores outputs.

    Args:
        batches: The outputs batch by batch, of at least one image.
        part: The images, with labels in the order of the network's classes, labels or columns.
        preprocessing: What the network predicts.
    """
    if preprocessing.task == CLASSIFICATION:
        return score_classes(batches, part, preprocessing.classes)
    outputs = joined([*batches])
    if preprocessing.task == MULTILABEL:
        return score_labels(outputs, part, preprocessing.classes)
    return score_numbers(outputs, part, preprocessing.classes)
