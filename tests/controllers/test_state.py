from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from controllers import ControllerError, Reinforce, state_from_json, state_to_json

arrays = npst.arrays(
    st.sampled_from([np.float64, np.float32, np.int64, np.uint64, np.uint8, np.bool_]),
    npst.array_shapes(min_dims=0, min_side=0, max_dims=3),
)

names = st.text(st.sampled_from('aZ_0 "\\\n\u20ac\U0001f600\x00'))


@given(arrays)
def test_an_array_comes_back_bit_for_bit(array):
    back = state_from_json(state_to_json({"a": [array]}))["a"][0]
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())


@given(st.dictionaries(names, st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)))
def test_json_values_come_back_equal(state):
    assert state_from_json(state_to_json(state)) == state


def test_a_loaded_array_can_be_written_to():
    loaded = state_from_json(state_to_json({"a": np.zeros(2)}))["a"]
    loaded += 1
    assert loaded.tolist() == [1.0, 1.0]


def test_the_text_is_plain_json():
    assert isinstance(json.loads(state_to_json(Reinforce([2, 3]).state_dict())), dict)


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array(["a"]), np.array([None])])
def test_what_is_neither_array_nor_json_is_refused(value):
    with pytest.raises(ControllerError, match="numpy arrays of numbers and JSON values only"):
        state_to_json({"a": value})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        '{"a":{"__array__":["<f8",[2],"AA=="]}}',
        '{"a":{"__array__":["f8,(",[2],"AA=="]}}',
        '{"a":{"__array__":3}}',
    ],
)
def test_a_damaged_text_is_refused(text):
    with pytest.raises(ControllerError, match=r"cannot be read|must be a JSON object"):
        state_from_json(text)


def test_infinite_and_missing_numbers_survive():
    back = state_from_json(state_to_json({"a": math.inf, "b": math.nan}))
    assert back["a"] == math.inf
    assert math.isnan(back["b"])
