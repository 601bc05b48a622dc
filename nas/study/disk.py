"""Whether the disk of a study has room for what is to come."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nas.errors import StudyError
from nas.study.checkpoints import kept_weights
from nas.units import show_bytes

RESERVE_BYTES = 256 << 20
"""Room that a search should always have: the journal's own working files, logs, and whatever else writes."""

TRIAL_BYTES = 16 << 10
"""What a trial adds to journal, TensorBoard and logs: 5 KiB as measured, and some metrics more."""

LEAST_BYTES = 16 << 20
"""With less the journal would be full within minutes, so nothing begins."""

LOOK_SECONDS = 60.0
"""How often it is looked at most."""


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write to the disk of a folder."""
    return shutil.disk_usage(folder).free


def require_room(folder: Path) -> None:
    """Checks that the disk of a folder that is there has room to begin with.

    Raises:
        StudyError: It has not.
    """
    free = free_bytes(folder)
    if free < LEAST_BYTES:
        raise StudyError(
            f"a search needs at least {show_bytes(LEAST_BYTES)} of free disk, but {folder} has "
            f"{show_bytes(free)}: make room, or choose a folder on another disk",
            field="out",
        )


@dataclass(slots=True, kw_only=True)
class DiskWatch:
    """Looks now and then how full the disk of a study is, and says it ahead.

    Attributes:
        folder: The study's folder.
        clock: Seconds.
        free: Bytes that may still be written to the disk of a folder.
    """

    folder: Path
    clock: Callable[[], float]
    free: Callable[[Path], int] = field(default_factory=lambda: free_bytes)
    _looked_at: float = -math.inf
    _said: float = math.inf

    def low(self, trials: int) -> str:
        """Says that the disk has too little room for so many trials more; empty where there is enough.

        It is said once, and again only when less than half of what it said is left.
        """
        now = self.clock()
        if now - self._looked_at < LOOK_SECONDS:
            return ""
        self._looked_at = now
        free, needed = self._free(), self._needed(trials)
        if free is None or free >= needed or free >= self._said / 2:
            return ""
        self._said = free
        return (
            f"the disk of {self.folder} is getting full: {show_bytes(free)} are free, and this search should "
            f"have {show_bytes(needed)}. Make room: on a full disk the search ends with an error, and the "
            "same command continues it"
        )

    def _needed(self, trials: int) -> int:
        """The reserve, what trials write, and a file of weights that is written before another is dropped."""
        weights = [self.folder / "weights" / name for name in kept_weights(self.folder).values()]
        sizes = [path.stat().st_size for path in weights if path.is_file()]
        return RESERVE_BYTES + TRIAL_BYTES * trials + 2 * max(sizes, default=0)

    def _free(self) -> int | None:
        try:
            return self.free(self.folder)
        except OSError:  # whoever writes next says what is wrong
            return None
