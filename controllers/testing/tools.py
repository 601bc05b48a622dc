"""What the checks of the contract use: small spaces, searches through them, and comparisons."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from controllers.contract import Candidate, Conditions, Controller, Proposal, State
from controllers.state import state_from_json, state_to_json

Make: TypeAlias = Callable[[Sequence[int], Conditions | None, int], Controller]
"""Makes a fresh controller from cardinalities, conditions and a seed."""

Space: TypeAlias = tuple[tuple[int, ...], Conditions | None]

PLAIN: Space = ((3, 2, 4, 1, 3, 5), None)
CONDITIONAL: Space = (
    (3, 2, 2, 4, 3, 3),
    ((), ((0, (1, 2)),), ((1, (1,)),), ((0, (0,)), (2, (1,))), (), ((3, (1, 2)),)),
)
TINY: Space = ((2, 3), None)
TINY_CONDITIONAL: Space = ((2, 3), ((), ((0, (1,)),)))
SPACES = (PLAIN, CONDITIONAL)


def require(holds: bool, rule: str) -> None:
    """Raises an AssertionError with the rule where it does not hold."""
    if not holds:
        raise AssertionError(rule)


def refuses(call: Callable[[], object], what: str) -> None:
    """Requires that the call raises a ValueError with a message."""
    try:
        call()
    except ValueError as error:
        require(bool(str(error)), f"{what} must be refused with a message, but it is empty")
        return
    raise AssertionError(f"{what} must be refused with a ValueError, but was accepted")


def reward_of(tokens: tuple[int, ...]) -> float:
    """A reward in [0, 1) that depends on every token."""
    return math.sin(sum((d + 1.3) * (t + 0.7) ** 1.5 for d, t in enumerate(tokens))) ** 2


def search(controller: Controller, trials: int, n: int = 1, *, late: bool = False) -> Iterator[Proposal]:
    """Proposes and feeds back, all at once or each result one round later, until nothing is proposed."""
    waiting: list[Proposal] = []
    for _ in range(0, trials, n):
        proposals = controller.propose(n)
        if not proposals:
            return
        yield from proposals
        waiting += proposals
        back = waiting[: -len(proposals)] if late else waiting
        waiting = waiting[len(back) :]
        controller.feedback([(p, reward_of(p.tokens)) for p in back])


def same(
    first: Sequence[Proposal] | Iterator[Proposal], second: Sequence[Proposal] | Iterator[Proposal]
) -> bool:
    """Whether proposals are equal to the last bit; NaN equals NaN."""
    return [repr(p) for p in first] == [repr(p) for p in second]


def check_plain(value: object, path: str) -> None:
    """Requires that a state holds arrays of numbers and JSON values only; the path is for the message."""
    if isinstance(value, dict):
        for name, item in value.items():
            require(isinstance(name, str), f"names in a state must be str, but {path} holds {name!r}")
            check_plain(item, f"{path}[{name!r}]")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_plain(item, f"{path}[{index}]")
    elif isinstance(value, np.ndarray):
        require(
            value.dtype.kind in "biuf", f"arrays in a state must hold numbers, but {path} is {value.dtype}"
        )
    else:
        fits = value is None or type(value) in (bool, int, float, str)
        require(fits, f"a state must hold arrays and JSON values only, but {path} is {type(value).__name__}")


def through_json(state: State) -> State:
    """Writes a state as JSON and reads it back."""
    return state_from_json(state_to_json(state))


def through_npz(state: State) -> State:
    """Writes arrays to an npz file in memory and the rest, with their names in place, as JSON; reads both."""
    arrays: dict[str, Any] = {}

    def take(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays[f"a{len(arrays)}"] = value
            return {"npz": f"a{len(arrays) - 1}"}
        if isinstance(value, dict):
            return {name: take(item) for name, item in value.items()}
        return [take(item) for item in value] if isinstance(value, list) else value

    text = json.dumps(take(state))
    file = io.BytesIO()
    np.savez(file, **arrays)
    file.seek(0)
    with np.load(file, allow_pickle=False) as saved:
        loaded: State = json.loads(text, object_hook=lambda d: saved[d["npz"]] if d.keys() == {"npz"} else d)
    return loaded


def distance(one: Candidate, other: Candidate) -> int:
    """How many decisions two candidates take differently."""
    return sum(a != b for a, b in zip(one, other, strict=True))
