"""What the readers of published tables share: a file's text, and the check of its costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas.errors import BenchmarkError
from nas.reading import MOST_TEXT, read_bytes
from search_spaces import SearchSpace


def read_text(path: Path, name: str) -> str:
    """Reads a file.

    Args:
        path: The file.
        name: What the file is called where it is published, for the message.

    Raises:
        BenchmarkError: There is no such file, or it is no text.
    """
    try:
        return read_bytes(path, MOST_TEXT).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BenchmarkError(f"{path} cannot be read ({error}): give the path of {name}") from error


def check_costs(
    space: SearchSpace,
    tokens: npt.NDArray[np.int64],
    published: npt.NDArray[np.int64],
    places: Sequence[str],
) -> None:
    """Checks that a table's multiply-adds and parameters are those of its networks.

    Args:
        space: The space the tokens belong to.
        tokens: (rows, decisions).
        published: Multiply-adds and parameters (rows, 2).
        places: Where each row stands, for the message.

    Raises:
        BenchmarkError: A number differs.
    """
    costs = space.costs(tokens)
    counted = np.stack([costs.macs, costs.params], axis=1)
    differs = np.flatnonzero((counted != published).any(axis=1))
    if len(differs):
        row = int(differs[0])
        raise BenchmarkError(
            f"multiply-adds and parameters must be those of the network of {space.name}, "
            f"{counted[row, 0]} and {counted[row, 1]}, but {places[row]} has {published[row, 0]} and "
            f"{published[row, 1]} (so {len(differs)} of {len(tokens)} rows): the file is another, or damaged"
        )
