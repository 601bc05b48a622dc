"""Writes docs/licences.md: the licence of every package that mnas needs to run, as its metadata state it.

    python benchmarks/licences.py

The packages are those of `dependencies` in pyproject.toml and what these need in turn, as installed here.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"

KINDS = {
    "proprietary": r"nvidia|proprietary",
    "copyleft": r"\b[AL]?GPL",
    "weak copyleft": r"\bMPL|Mozilla",
    "permissive": r"\bMIT\b|\bBSD|Apache|\bPSF|Python Software Foundation|\b0BSD|Zlib|\bISC\b",
}
"""The kind of a licence by words in its text; the first that occurs counts, the most restrictive first."""

STATED = {"cuda-toolkit": "NVIDIA proprietary"}
"""Where the metadata state none: it only names the other packages of NVIDIA that it needs."""

HEAD = """\
# Licences of the dependencies

mnas is under the Apache License 2.0. These are the {count} packages that `pip install mnas` installs on Linux
with Python {python}, with the licence that their metadata state. **Direct** ones are in `dependencies` of
`pyproject.toml`. `python benchmarks/licences.py` makes the page; a test compares it with what is installed.

- {permissive} are permissive (Apache, BSD, MIT, PSF and the like): keep their notices if you pass them on.
- {weak} under the Mozilla Public License: {weak_names}. Using them asks nothing. If you pass on a changed
  file of theirs, its source must be public.
- {proprietary} are NVIDIA's CUDA libraries, under NVIDIA's own terms, which limit passing them on. Only the
  CUDA builds of torch need them; its builds for CPUs do not.
- None is under the GPL, LGPL or AGPL. Binary wheels contain further libraries that metadata do not list: in
  those of numpy and scipy the GCC runtime (GPL with the runtime exception). See the licence files in them.

The wheel of mnas holds no file of any of them. The repository has one file of others:
`docs/assets/iframe-worker.js` (MIT), which lets the search of the site work from the disk.

| package | version | direct | licence | kind |
|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """An installed package, and its licence."""

    name: str
    version: str
    is_direct: bool
    licence: str

    @property
    def kind(self) -> str:
        """The first of `KINDS` whose words occur."""
        for kind, words in KINDS.items():
            if re.search(words, self.licence, re.I):
                return kind
        raise ValueError(
            f"the licence {self.licence!r} of {self.name} is not known: read it, and add it to KINDS"
        )


def direct() -> list[Requirement]:
    """What pyproject.toml depends on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in project["dependencies"]]


def packages() -> list[Package]:
    """All that is needed, directly and in turn, by name."""
    named = {canonicalize_name(one.name) for one in direct()}
    found: dict[str, Distribution] = {}
    waiting, seen = direct(), set()
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        if (name, frozenset(asked.extras)) in seen:
            continue
        seen.add((name, frozenset(asked.extras)))
        found[name] = distribution(name)
        waiting += needed_by(found[name], asked.extras)
    return [
        Package(
            name=name,
            version=found[name].version,
            is_direct=name in named,
            licence=licence(name, found[name]),
        )
        for name in sorted(found)
    ]


def needed_by(one: Distribution, extras: set[str]) -> Iterator[Requirement]:
    """What a package needs here, with the extras that are asked for."""
    for text in one.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def licence(name: str, one: Distribution) -> str:
    """What the metadata state: the expression, a short text, or the classifiers."""
    if expression := one.metadata.get("License-Expression"):
        return str(expression)
    text = str(one.metadata.get("License") or "").strip()
    classified = [
        line.split("::")[-1].strip()
        for line in one.metadata.get_all("Classifier") or ()
        if line.startswith("License ::")
    ]
    if classified and (len(text) > 40 or text in ("", "UNKNOWN", "Dual License")):
        return " or ".join(classified)
    return text.splitlines()[0] if text else STATED.get(name, "not stated")


def page() -> str:
    """The page."""
    rows = packages()
    kinds = [row.kind for row in rows]
    weak = [row.name for row in rows if row.kind == "weak copyleft"]
    if "copyleft" in kinds:
        names = ", ".join(row.name for row in rows if row.kind == "copyleft")
        raise ValueError(f"no dependency may be under a copyleft licence, but got {names}: replace it")
    head = HEAD.format(
        count=len(rows),
        python=".".join(map(str, sys.version_info[:2])),
        permissive=kinds.count("permissive"),
        weak=f"{len(weak)} {'is' if len(weak) == 1 else 'are'}",
        weak_names=", ".join(weak),
        proprietary=kinds.count("proprietary"),
    )
    return head + "".join(
        f"| {row.name} | {row.version} | {'yes' if row.is_direct else ''} | {row.licence} | {row.kind} |\n"
        for row in rows
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
