"""Looks at the encoded images of a data set, decides how all are read, and decodes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from nas.data.decoding import Encoded, Probe, decode_all, probe_all, skipped_warning, unreadable_warning
from nas.data.images import Labels, Pixels, Reading, Wanted, choose_names
from nas.data.survey import Survey, survey_images
from nas.errors import DataError
from nas.trial import Say


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedPart:
    """The encoded images of one part of a data set.

    Attributes:
        sources: A file or bytes for each image.
        names: Their names, for messages.
        labels: int64 of shape (count,).
    """

    sources: Sequence[Encoded]
    names: Sequence[str]
    labels: Labels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoded:
    """What became of encoded images.

    Attributes:
        survey: How they are read.
        kept: Indices of those that can be read, by part.
        pixels: Those decoded, by part; empty where they would take too much memory.
        unreadable: Names of those that cannot be read, by part.
        warnings: What users should look at.
    """

    survey: Survey
    kept: Mapping[str, npt.NDArray[np.int64]]
    pixels: Mapping[str, Pixels]
    unreadable: Mapping[str, tuple[str, ...]]
    warnings: tuple[str, ...]


def decode_parts(
    parts: Mapping[str, EncodedPart],
    *,
    how: Wanted | Reading,
    progress: Say,
    resident_bytes: int | None = None,
) -> Decoded:
    """Looks at all images, decides how they are read, and decodes them.

    Args:
        parts: The images.
        how: What is wanted; or all of it, where a network exists that was trained on images read like this.
        progress: Receives how many images were read.
        resident_bytes: Images that take more bytes when decoded are not; None decodes them in any case.

    Raises:
        DataError: No image can be read; or a network is to be trained on them, and too many cannot be read,
            or their values cannot be scaled.
    """
    kept: dict[str, npt.NDArray[np.int64]] = {}
    probes: list[Probe] = []
    names: list[str] = []
    lost: dict[str, list[str]] = {part: [] for part in parts}
    for part, images in parts.items():
        found = probe_all(images.sources, progress=progress)
        kept[part] = np.array([i for i, one in enumerate(found) if one is not None], dtype=np.int64)
        probes += [one for one in found if one is not None]
        for name, one in zip(images.names, found, strict=True):
            (lost[part] if one is None else names).append(name)
    total = sum(len(images.names) for images in parts.values())
    if not probes:
        raise DataError(f"none of {total} images can be read: replace them", field="data")
    warn = skipped_warning if isinstance(how, Reading) else unreadable_warning
    warn([*chain(*lost.values())], total)  # refuses before the decoding, which may take long
    survey = survey_images(probes, names, how)
    pixels = {}
    if resident_bytes is None or len(probes) * survey.reading.image_bytes <= resident_bytes:
        for part, images in parts.items():
            sources = [images.sources[i] for i in kept[part].tolist()]
            decoded, readable = decode_all(sources, survey.reading, progress=progress)
            lost[part] += [images.names[i] for i in np.delete(kept[part], readable).tolist()]
            kept[part] = kept[part][readable]
            pixels[part] = Pixels(
                images=decoded,
                labels=images.labels[kept[part]],
                names=choose_names(images.names, kept[part]),
            )
    return Decoded(
        survey=survey,
        kept=kept,
        pixels=pixels,
        unreadable={part: tuple(every) for part, every in lost.items()},
        warnings=survey.warnings + warn([*chain(*lost.values())], total),
    )
