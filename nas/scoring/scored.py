"""`Scored`: what the scores of every task say of the images and of the network."""

from __future__ import annotations

from dataclasses import dataclass

from nas.data.images import Part
from nas.scoring.outputs import Unreadable


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scored:
    """Images that were scored, and by what.

    Attributes:
        data: What users call the images; empty where nothing but arrays was scored. So are the next three.
        split: Which split of them, or `all`.
        bundle: The folder of the network.
        runtime: What ran it, where.
        classes: Names of the network's outputs, in their order: classes, labels, or columns of numbers.
        images: Number of images.
        part: The images, with labels for these outputs.
        unreadable: Images that could not be read, and do not count.
        notes: What was decided on the user's behalf.
        warnings: What the user should look at before trusting the scores.
    """

    data: str = ""
    split: str = ""
    bundle: str = ""
    runtime: str = ""
    classes: tuple[str, ...]
    images: int
    part: Part
    unreadable: tuple[Unreadable, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
