"""Owns reading a folder of images: class subfolders, or train/ and val/ (or test/) with class subfolders.

Does not own decoding or splitting.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nas.data.decoding import Probe, decode_all, probe_all, unreadable_warning
from nas.data.images import Files, Part, Pixels, digest
from nas.data.reading import Fit, Reading
from nas.data.splits import Source
from nas.data.survey import survey_images
from nas.errors import DataError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
PART_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def load_folder(folder: Path, *, resolution: int | None, resident_bytes: int, fit: Fit = "crop") -> Source:
    """Reads a folder of images.

    `train/` is learnt from. Of `val/` and `test/`, a single one is the test split; where both are there,
    `val/` is the search split. Without `train/`, the subfolders of the folder itself are the classes. Hidden
    files and those without an image's suffix are passed over. The digest is that of names and file sizes.

    Args:
        folder: The folder.
        resolution: Height and width of the images in pixels; None to infer it.
        resident_bytes: Decoded images of more bytes than this are left on disk and read as they are needed.
        fit: How an image that is not square becomes square.

    Raises:
        DataError: The folder is empty, has empty or differing classes, or too many unreadable images.
    """
    classes, listed = _list_parts(folder)
    total = sum(map(len, listed.values()))
    content = digest(*(_name_and_size(folder, path) for files in listed.values() for path in files.paths))
    files, probes, unreadable = _probe_parts(listed)
    unreadable_warning(unreadable, total)  # refuses before the decoding, which may take long
    names = [path for chosen in files.values() for path in chosen.paths]
    survey = survey_images(probes, names, resolution=resolution, fit=fit)
    content = digest(content, *survey.marks) if survey.marks else content
    notes = _passed_over(folder) + survey.notes
    parts: dict[str, Part] = dict(files)
    if len(probes) * survey.reading.image_bytes <= resident_bytes:
        for part, chosen in files.items():
            parts[part], damaged = _decode(chosen, survey.reading)
            unreadable += damaged
    else:
        notes += (f"{len(probes):,} images stay on disk and are read as they are needed",)
    warnings = survey.warnings + unreadable_warning(unreadable, total)
    _check_no_class_is_empty(folder, classes, parts)
    return Source(
        name=folder.resolve().name,
        classes=classes,
        reading=survey.reading,
        train=parts["train"],
        search=parts.get("val") if "test" in parts else None,
        test=parts.get("test", parts.get("val")),
        content_digest=content,
        notes=notes,
        warnings=warnings,
    )


def _list_parts(folder: Path) -> tuple[tuple[str, ...], dict[str, Files]]:
    """Lists the images of each part, class by class, and checks that all parts have the same classes."""
    listed = {part: _list_classes(where) for part, where in _find_parts(folder).items()}
    classes = tuple(sorted(listed["train"]))
    parts = {}
    for part, by_class in listed.items():
        if set(by_class) != set(classes):
            only = {"train": sorted(set(classes) - set(by_class)), part: sorted(set(by_class) - set(classes))}
            differing = "; ".join(
                f"only {name}/ has {', '.join(names[:5])}" for name, names in only.items() if names
            )
            raise DataError(f"the parts of {folder} must hold the same classes, but {differing}")
        parts[part] = Files(
            root=str(folder.resolve()),
            paths=tuple(str(path.relative_to(folder)) for name in classes for path in by_class[name]),
            labels=np.repeat(np.arange(len(classes)), [len(by_class[name]) for name in classes]),
        )
    _check_no_class_is_empty(folder, classes, parts)
    return classes, parts


def _find_parts(folder: Path) -> dict[str, Path]:
    subfolders = {path.name.lower(): path for path in _visible(folder) if path.is_dir()}
    found = {
        part: subfolders[name] for part, names in PART_NAMES.items() for name in names if name in subfolders
    }
    has_parts = "train" in found and any(path.is_dir() for path in _visible(found["train"]))
    return (
        found if has_parts else {"train": folder}
    )  # a folder train/ of images is a class, beside bus/ and car/


def _passed_over(folder: Path) -> tuple[str, ...]:
    """Notes the subfolders beside train/, val/ and test/ that are not looked into."""
    used = _find_parts(folder)
    if list(used.values()) == [folder]:
        return ()
    others = [path.name for path in _visible(folder) if path.is_dir() and path not in used.values()]
    return (f"passed over {', '.join(others)}, beside {', '.join(sorted(used))}",) if others else ()


def _list_classes(folder: Path) -> dict[str, list[Path]]:
    by_class = {
        path.name: sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and _is_visible(p))
        for path in _visible(folder)
        if path.is_dir()
    }
    if not by_class:
        raise DataError(
            f"{folder} must hold one subfolder of images per class, but has no subfolder: "
            f"sort the images into {folder}/<class>/"
        )
    if len(by_class) == 1:
        raise DataError(f"at least 2 classes are needed, but {folder} has only {next(iter(by_class))!r}")
    return by_class


def _probe_parts(listed: Mapping[str, Files]) -> tuple[dict[str, Files], list[Probe], list[str]]:
    """Returns the readable files of each part, their headers, and the paths of the unreadable ones."""
    files: dict[str, Files] = {}
    found: list[Probe] = []
    unreadable: list[str] = []
    for part, every in listed.items():
        probes = probe_all([Path(every.root) / path for path in every.paths])
        files[part] = every.take(np.array([i for i, p in enumerate(probes) if p is not None], dtype=np.int64))
        found += [p for p in probes if p is not None]
        unreadable += [path for path, p in zip(every.paths, probes, strict=True) if p is None]
    return files, found, unreadable


def _decode(files: Files, reading: Reading) -> tuple[Pixels, list[str]]:
    images, readable = decode_all([Path(files.root) / path for path in files.paths], reading)
    damaged = np.setdiff1d(np.arange(len(files)), readable)
    return Pixels(images=images, labels=files.labels[readable]), [files.paths[i] for i in damaged]


def _check_no_class_is_empty(folder: Path, classes: tuple[str, ...], parts: Mapping[str, Part]) -> None:
    for part, images in parts.items():
        counts = np.bincount(images.labels, minlength=len(classes))
        empty = [name for name, count in zip(classes, counts, strict=True) if count == 0]
        if empty:
            where = folder if len(parts) == 1 else folder / part
            raise DataError(
                f"each class needs images, but {', '.join(empty[:5])} in {where} has none that ends in "
                f"{', '.join(sorted(SUFFIXES))}: add images or remove the subfolder"
            )


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _is_visible(path))


def _is_visible(path: Path) -> bool:
    return not path.name.startswith((".", "__"))


def _name_and_size(folder: Path, path: str) -> str:
    return f"{path} {(folder / path).stat().st_size}"
