"""Finds the splits and the classes of a folder of images in the names and the places of its subfolders."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nas.data.tree import Kinds, Tree, count, few, is_within, join, printable
from nas.errors import DataError

# The words that name a split, the usual ones first; a name also holds words such as `images` or `set`.
PART_WORDS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training", "trn"),
    "val": (
        "val",
        "valid",
        "validation",
        "validate",
        "validating",
        "eval",
        "evaluation",
        "dev",
        "development",
    ),
    "test": ("test", "testing", "tst", "holdout", "heldout"),
}
PLAIN_WORDS = frozenset(
    {
        *(
            "image",
            "images",
            "img",
            "imgs",
            "photo",
            "photos",
            "picture",
            "pictures",
            "pics",
            "jpeg",
            "jpegs",
        ),
        *("data", "dataset", "datasets", "set", "sets", "split", "splits", "part", "parts", "folder", "dir"),
        *("files", "samples", "examples", "the", "my"),
    }
)
DEEPEST_WRAPPER = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the images of each class of each split lie.

    Attributes:
        classes: The names of the classes, ascending.
        parts: The folder that each split is read from; `train` alone where the folder holds classes only.
        images: The paths of the images, by split and class.
        notes: What was decided on the user's behalf.
        warnings: What the user should look at.
    """

    classes: tuple[str, ...]
    parts: Mapping[str, str]
    images: Mapping[str, Mapping[str, Sequence[str]]]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartName:
    """What the name of a folder says about the split in it.

    Attributes:
        part: `train`, `val` or `test`.
        rest: The words that say something else; those of one data set have the same.
        rank: Lower for the more usual name of two for the same split.
    """

    part: str
    rest: tuple[str, ...]
    rank: tuple[int, int]


def find_layout(tree: Tree, kinds: Kinds, *, least_classes: int = 2) -> Layout:
    """Finds splits and classes.

    Raises:
        DataError: There are none, or too few classes, or the folder is ambiguous.
    """
    return _Finder(tree=tree, kinds=kinds, least_classes=least_classes).find()


def part_name(name: str) -> PartName | None:
    """Reads the name of a split, such as `train_images`, `TestSet` or `seg_train`; None for another."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    spaced = re.sub(r"hold[\W_]*out|held[\W_]*out", "holdout", spaced)
    words = [piece for word in re.findall(r"[^\W\d_]+", spaced) for piece in _pieces(word)]
    named = [
        (part, every.index(word)) for word in words for part, every in PART_WORDS.items() if word in every
    ]
    if len(named) != 1:
        return None
    part, index = named[0]
    others = tuple(word for word in words if word not in PART_WORDS[part])
    rest = tuple(word for word in others if word not in PLAIN_WORDS)
    return PartName(part=part, rest=rest, rank=(len(others) + sum(map(str.isdigit, name)), index))


def _pieces(word: str) -> list[str]:
    """Takes `trainset` and `imagestrain` apart."""
    for every in PART_WORDS.values():
        for known in every:
            for first, second in ((known, word[len(known) :]), (word[: -len(known)], known)):
                if first + second == word and {first, second} - {known} <= PLAIN_WORDS and second and first:
                    return [first, second]
    return [word]


@dataclass(slots=True, kw_only=True)
class _Finder:
    tree: Tree
    kinds: Kinds
    least_classes: int
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    filled: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        for folder, files in self.tree.files.items():
            if any(self.kinds.is_image(join(folder, name)) for name in files):
                while folder and folder not in self.filled:
                    self.filled.add(folder)
                    folder = folder.rpartition("/")[0]

    def find(self) -> Layout:
        root = self._unwrap("")
        parts = self._with_classes(self._find_parts(root) or {"train": root})
        if list(parts.values()) != [root]:
            self._note_parts(root, parts)
        parts = {part: self._unwrap(folder) for part, folder in parts.items()}
        found = {part: self._classes(folder) for part, folder in parts.items()}
        self._check_count(parts["train"], list(found["train"]))
        classes = tuple(sorted(found["train"]))
        self._check_classes(classes, parts, found)
        self._warn_of_loose_images(root, parts)
        return Layout(
            classes=classes,
            parts=parts,
            images={
                part: {name: by_class.get(name, ()) for name in classes} for part, by_class in found.items()
            },
            notes=tuple(self.notes),
            warnings=tuple(self.warnings),
        )

    def _unwrap(self, folder: str) -> str:
        """Goes down where a folder holds nothing but one folder that only wraps the classes or splits."""
        for _ in range(DEEPEST_WRAPPER):
            inner = self._filled(folder)
            if len(inner) != 1 or self._loose(folder):
                break
            within = join(folder, inner[0])
            is_wrapper = _is_wrapper(folder.rpartition("/")[2], inner[0]) or self._find_parts(within)
            if not self._filled(within) or not is_wrapper:
                break
            folder = within
            self.notes.append(
                f"the images are read from {printable(folder)}/, the only folder with images there"
            )
        return folder

    def _filled(self, folder: str) -> list[str]:
        """The names of the subfolders with images at any depth."""
        return [name for name in self.tree.folders[folder] if join(folder, name) in self.filled]

    def _images(self, folder: str) -> list[str]:
        return [path for path in self.tree.below(folder) if self.kinds.is_image(path)]

    def _loose(self, folder: str) -> list[str]:
        """The paths of the images that lie in a folder itself."""
        paths = [join(folder, name) for name in self.tree.files[folder]]
        return sorted(path for path in paths if self.kinds.is_image(path))

    def _find_parts(self, root: str) -> dict[str, str] | None:
        """Finds the folder of each split; None where the subfolders are classes."""
        by_rest: dict[tuple[str, ...], dict[str, list[tuple[PartName, str]]]] = {}
        for name in self.tree.folders[root]:
            what = part_name(name)
            if what is not None:
                of_part = by_rest.setdefault(what.rest, defaultdict(list))[what.part]
                of_part.append((what, join(root, name)))
        usable = []
        for rest in sorted(by_rest):  # the names that say nothing else come first
            parts = {part: _most_usual(of_part) for part, of_part in by_rest[rest].items()}
            if "train" not in parts or (rest and len(parts) == 1):
                continue
            if self.tree.folders[parts["train"]]:
                usable.append(parts)
            elif len(parts) > 1 and self._loose(parts["train"]):
                train = printable(parts["train"])
                raise DataError(
                    f"{few(list(parts.values()))} look like splits, but {train}/ has no subfolder per class: "
                    f"sort the images into {train}/<class>/, or rename the folders if they are classes"
                )
        if len(usable) > 1 and () not in by_rest:
            trains = few([parts["train"] for parts in usable])
            raise DataError(
                f"one folder must hold the train split, but {trains} are there: give a folder with one"
            )
        return usable[0] if usable else None

    def _with_classes(self, parts: Mapping[str, str]) -> dict[str, str]:
        """Leaves out val/ or test/ where the images have no class."""
        kept = {
            part: folder for part, folder in parts.items() if self.tree.folders[folder] or part == "train"
        }
        for part in sorted(parts.keys() - kept.keys()):
            if loose := self._loose(parts[part]):
                where = printable(parts[part])
                self.warnings.append(
                    f"skipped {count(loose, 'image')} in {where}/, which has no subfolder per class"
                )
        return {part: kept[part] for part in PART_WORDS if part in kept}

    def _note_parts(self, root: str, parts: Mapping[str, str]) -> None:
        names = {part: folder.rpartition("/")[2] for part, folder in parts.items()}
        if any(name.lower() not in PART_WORDS[part] for part, name in names.items()):
            read = ", ".join(f"{part} from {printable(name)}/" for part, name in names.items())
            self.notes.append(f"splits are read by the folders' names: {read}")
        others = [name for name in self.tree.folders[root] if join(root, name) not in parts.values()]
        if others:
            self.notes.append(f"passed over {few(others)}, beside {', '.join(sorted(names.values()))}")

    def _classes(self, folder: str) -> dict[str, list[str]]:
        """The images of each class in a folder."""
        where = printable(str(self.tree.root / folder))
        names = self.tree.folders[folder]
        unnamed = [
            skipped.path
            for skipped in self.tree.skipped
            if skipped.is_folder and skipped.path.rpartition("/")[0] == folder
            if skipped.path.rpartition("/")[2] not in names
        ]
        if unnamed:
            raise DataError(
                f"the names of classes must be UTF-8, but {few(unnamed)} in {where} is not: rename the folder"
            )
        if not names:
            raise DataError(
                f"{where} must hold one subfolder of images per class, but has no subfolder: "
                f"sort the images into {where}/<class>/"
            )
        self._check_one_reading(folder, self._filled(folder))
        return {name: self._images(join(folder, name)) for name in names}

    def _check_count(self, folder: str, names: Sequence[str]) -> None:
        if len(names) == 1 < self.least_classes:
            where, inner = printable(str(self.tree.root / folder)), printable(names[0])
            remedy = (
                f": give {where}/{inner} if the classes are its subfolders"
                if self._filled(join(folder, names[0]))
                else ": add a folder of images of another class"
            )
            raise DataError(f"at least 2 classes are needed, but {where} has only {inner!r}{remedy}")

    def _check_one_reading(self, folder: str, names: Sequence[str]) -> None:
        """Refuses subfolders that all hold the same subfolders: those may be the classes."""
        inner = [set(self._filled(join(folder, name))) for name in names]
        common = set.intersection(*inner) if inner else set()
        has_loose = any(self._loose(join(folder, name)) for name in names)
        if len(names) < 2 or len(common) < 2 or common not in inner or has_loose:
            return
        where, shared, above = (
            printable(str(self.tree.root / folder)),
            few(sorted(common)),
            few(sorted(names)),
        )
        raise DataError(
            f"the classes of {where} must be clear, but all of {above} hold the same subfolders {shared}. If "
            f"{shared} are the classes: rename {above} to train, val and test, or put the images of each "
            f"class together. If {above} are the classes: move the images out of {shared}"
        )

    def _check_classes(
        self,
        classes: Sequence[str],
        parts: Mapping[str, str],
        found: Mapping[str, Mapping[str, Sequence[str]]],
    ) -> None:
        for part, by_class in found.items():
            more = sorted(name for name, images in by_class.items() if images and name not in classes)
            if more:
                missing = sorted(set(classes) - {name for name, images in by_class.items() if images})
                differing = [f"only {printable(parts['train'])}/ has {few(missing)}"] if missing else []
                differing += [f"only {printable(parts[part])}/ has {few(more)}"]
                raise DataError(
                    f"the parts of {printable(str(self.tree.root))} must hold the same classes, but "
                    f"{'; '.join(differing)}: rename or remove the folders, or add images to train from"
                )

    def _warn_of_loose_images(self, root: str, parts: Mapping[str, str]) -> None:
        """Warns of images beside the folders of the classes or splits."""
        above = [root, *parts.values()]
        wrappers = {folder for folder in self.tree.folders if any(is_within(to, folder) for to in above)}
        loose = [path for folder in sorted(wrappers) for path in self._loose(folder)]
        if loose:
            self.warnings.append(
                f"skipped {count(loose, 'image')} beside the folders of the classes: {few(loose)}"
            )


def _most_usual(named: Sequence[tuple[PartName, str]]) -> str:
    """The folder with the most usual name for a split, of several."""
    ranked = sorted(named, key=lambda each: (each[0].rank, each[1]))
    if len(ranked) > 1 and ranked[0][0].rank == ranked[1][0].rank:
        what = ranked[0][0].part
        same = [folder for name, folder in ranked if name.rank == ranked[0][0].rank]
        raise DataError(
            f"one folder must hold the {what} split, but {few(same)} are there: rename all but one"
        )
    return ranked[0][1]


def _is_wrapper(outer: str, inner: str) -> bool:
    words = set(re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", inner).lower()))
    return inner == outer or part_name(inner) is not None or bool(words & PLAIN_WORDS)
