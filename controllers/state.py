"""The written form of a controller's state: one JSON text, arrays inside as base64."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np

from controllers.contract import ControllerError, State

_ARRAY = "__array__"


def state_to_json(state: State) -> str:
    """Returns the state as JSON text that `state_from_json` reads back; numpy's scalars become Python's.

    Raises:
        ControllerError: The state holds something that is neither an array of numbers nor JSON.
    """
    try:
        return json.dumps(state, default=_encode, separators=(",", ":"))
    except ControllerError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise ControllerError(
            f"a controller's state must be JSON apart from its arrays, but: {error}"
        ) from error


def state_from_json(text: str) -> State:
    """Returns the state written by `state_to_json`; reading runs nothing.

    Raises:
        ControllerError: The text is no such state.
    """
    try:
        state = json.loads(text, object_hook=_decode)
    except (ValueError, TypeError, AttributeError, RecursionError, SyntaxError) as error:
        # numpy reads some types as Python expressions, hence the last
        raise ControllerError(f"the text of a controller's state cannot be read: {error}") from error
    if not isinstance(state, dict):
        raise ControllerError(f"a controller's state must be a JSON object, but got {type(state).__name__}")
    return state


def _encode(value: object) -> Any:
    if isinstance(value, np.bool_ | np.integer | np.floating):
        return value.item()
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        raise ControllerError(
            f"a controller's state must hold numpy arrays of numbers and JSON values only, but got {value!r}"
        )
    data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode("ascii")
    return {_ARRAY: [value.dtype.str, list(value.shape), data]}


def _decode(value: dict[str, Any]) -> Any:
    if value.keys() != {_ARRAY}:
        return value
    dtype, shape, data = value[_ARRAY]
    return np.frombuffer(base64.b64decode(data), dtype=np.dtype(dtype)).reshape(shape).copy()
