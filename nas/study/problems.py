"""What can be wrong with a study, as values: the law, what was found and where, what a repair does."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Severity(StrEnum):
    """What a problem costs."""

    HARMLESS = "harmless"
    DOUBTFUL = "a result is doubtful"
    LOST = "lost"


class Mend(StrEnum):
    """What a repair does about a problem."""

    SALVAGE = "the rows that can be read are copied into a new file, which takes the place of this one"
    REINDEX = "the index is built again from its table"
    CHECKPOINT = "what is whole in the -wal file is taken into the main file; the rest of it is dropped"
    INTERRUPT = "the attempt counts as interrupted, and a resume runs its trial again"
    NAME_CAUSE = "the attempt gets a cause: interrupted, or error where it was infeasible"
    RENUMBER = "its attempts are numbered again in their order"
    RERUN = "the trial goes back to proposed, and a resume runs it again"
    REFILL = "its place takes another candidate of the study, whose result a resume copies"
    RECOUNT = "the controller's state is removed; a resume tells a new controller every result in order"
    RECOST = "the costs are computed again from the network"
    REWRITE = "the network and its costs are written anew from the tokens of its trial"
    FORGET_WEIGHTS = "the trial counts as one without weights; a damaged file is renamed"
    SET_ASIDE = "the file is renamed, so that no trial finds it"
    REMOVE_FILE = "the file is removed"
    CLEAN = "what is no text in it becomes the mark U+FFFD"
    DROP_ROWS = "these rows are removed"
    RESTORE_IDENTITY = "what was searched is restored from its copy in the journal"
    COPY_IDENTITY = "what was searched is copied into the journal anew"
    FORGET_RECOMMENDATION = "the recommendation is removed; a resume writes it anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A law that a study breaks.

    Attributes:
        law: What must hold, a sentence.
        where: The trial, file or table.
        found: What is there instead.
        severity: What it costs.
        mend: What a repair does about it; None where it can do nothing.
        remedy: What a user can do where a repair cannot.
        trial: Number of the trial; None where it is not about one.
        file: The file, relative to the study's folder; empty where it is not about one.
        key: What the repair goes by beside the trial, such as a digest or the name of a table.
    """

    law: str
    where: str
    found: str
    severity: Severity
    mend: Mend | None = None
    remedy: str = ""
    trial: int | None = None
    file: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found in a study, and what a repair did.

    Attributes:
        folder: The study's folder.
        problems: What is wrong now: after a repair, what is left.
        trials: How many trials there are; None where they cannot be read.
        is_running: Whether a search writes to it.
        unchecked: What could not be checked, a sentence each.
        beside: What else is in the folder.
        repaired: What a repair did, a sentence each.
        kept: The copy that a repair kept of the file as it was; None without a repair.
    """

    folder: Path
    problems: tuple[Problem, ...]
    trials: int | None
    is_running: bool
    unchecked: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    repaired: tuple[str, ...] = ()
    kept: Path | None = None

    @property
    def is_sound(self) -> bool:
        """Whether no law is broken."""
        return not self.problems
