"""Changes valid inputs of parsers: bytes flipped, cut and put in, numbers that lie, values of other types."""

from __future__ import annotations

import json
import random
from typing import Any

NUMBERS = ("-1", "0", "1e999", "-1e999", "NaN", "1e-320", "9" * 19, "9" * 25, "9" * 5_000, "65537", "0.5")
VALUES = (
    *NUMBERS,
    "null",
    "true",
    '""',
    '"../../etc/passwd"',
    '"\\u0000\\u001b[2J"',
    '"\\ud800"',
    "[]",
    "{}",
    "[[1]]",
)
WORDS = (
    b"\0",
    b"\xff" * 8,
    b"\x7f" + b"\xff" * 7,
    b"\0" * 8,
    b"../",
    b'"',
    b"[" * 2_000,
    b"{" * 50,
    b"\x1b[2J",
    b"\r\n",
)


def mutated(content: bytes, rng: random.Random, *, is_json: bool = False) -> bytes:
    """An input with one to four changes."""
    if is_json and rng.random() < 0.6:
        content = lied(content, rng)
    for _ in range(rng.choice((0, 1, 1, 2, 3)) if is_json else rng.randint(1, 4)):
        content = changed(content, rng)
    return content


def changed(content: bytes, rng: random.Random) -> bytes:
    """One change of the bytes."""
    place = rng.randrange(len(content) + 1)
    if content and rng.random() < 0.3:
        place = min(place, rng.randrange(1, 300))  # headers lie at the beginning
    size = min(rng.choice((1, 1, 2, 4, 8, 64)), len(content) - place)
    kind = rng.randrange(6)
    if kind == 0 and size:
        flipped = bytes(byte ^ (1 << rng.randrange(8)) for byte in content[place : place + size])
        return content[:place] + flipped + content[place + size :]
    if kind == 1:
        return content[:place]
    if kind == 2:
        return content[:place] + content[place + size :]
    if kind == 3:
        return content[:place] + rng.choice(WORDS) + content[place:]
    if kind == 4:
        word = rng.choice(WORDS)
        return content[:place] + word + content[place + len(word) :]
    return content[:place] + content[max(0, place - 100) : place] * rng.choice((1, 2, 50)) + content[place:]


def lied(content: bytes, rng: random.Random) -> bytes:
    """JSON text with one value replaced, left out or doubled."""
    data = json.loads(content)
    places: list[tuple[Any, Any]] = []
    waiting = [data]
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        places += [(one, key) for key in keys]
        waiting += [one[key] for key in keys]
    if not places:
        return rng.choice(VALUES).encode()
    owner, key = rng.choice(places)
    kind = rng.randrange(8)
    if kind == 0:
        del owner[key]
    elif kind == 1 and isinstance(owner, dict):
        owner[f"{key}x"] = owner.pop(key)
    elif kind == 2:
        owner[key] = [owner[key]] * rng.choice((2, 100))
    else:
        owner[key] = "@@"
        return json.dumps(data).replace('"@@"', rng.choice(VALUES), 1).encode()
    return json.dumps(data).encode()
