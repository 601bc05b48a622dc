"""A short hash over what a journal says of a trial, by which a later change of it is found."""

from __future__ import annotations

import hashlib
import sqlite3

PROPOSED = "tokens_json, digest, seed, fidelity, repeat, origin, continues"
FINISHED = f"{PROPOSED}, status, cause, reward, copied_from"


def proposed_seal(database: sqlite3.Connection, number: int) -> str:
    """The hash over what was proposed: 16 hex digits."""
    return _hash(database.execute(f"SELECT {PROPOSED} FROM trial WHERE number = ?", [number]).fetchall())


def finished_seal(database: sqlite3.Connection, number: int) -> str:
    """The hash over that, what became of it, and everything measured: 16 hex digits."""
    trial = database.execute(f"SELECT {FINISHED} FROM trial WHERE number = ?", [number]).fetchall()
    measured = database.execute(
        "SELECT metric, value, unit, environment FROM measurement WHERE trial = ? ORDER BY 1, 4", [number]
    ).fetchall()
    return _hash([*trial, *measured])


def _hash(rows: list[tuple[object, ...]]) -> str:
    return hashlib.sha256(repr([tuple(row) for row in rows]).encode("utf-8", "replace")).hexdigest()[:16]
