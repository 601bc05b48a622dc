"""Short hashes over what a journal says, by which a later change of it is found; a copy of the identity."""

from __future__ import annotations

import hashlib
import json
import sqlite3

from nas.study.identity import Identity

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


def identity_json(database: sqlite3.Connection) -> str:
    """What makes the study what it is, as its row says."""
    names = Identity.__slots__
    row = database.execute(f"SELECT {', '.join(names)} FROM study").fetchone()
    return json.dumps(dict(zip(names, row, strict=True)))


def keep_identity(database: sqlite3.Connection, *, verb: str = "INSERT OR IGNORE") -> None:
    """Writes the identity a second time, onto another page of the file, with a hash over it."""
    text = identity_json(database)
    database.execute(f"{verb} INTO identity_copy VALUES (1, ?, ?)", [text, text_seal(text)])


def text_seal(text: str) -> str:
    """The hash over a text: 16 hex digits."""
    return _hash([(text,)])


def _hash(rows: list[tuple[object, ...]]) -> str:
    return hashlib.sha256(repr([tuple(row) for row in rows]).encode("utf-8", "replace")).hexdigest()[:16]
