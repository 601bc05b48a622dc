import ast
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

import nas
from nas.reading import (
    MOST_DEPTH,
    MOST_TEXT,
    parse_json,
    read_arrays,
    read_bytes,
    read_json,
    read_text,
    require_types,
)

DEEP = "[" * 100_000


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "sparse.json"
    with path.open("wb") as file:
        file.truncate(MOST_TEXT + 1)
    with pytest.raises(OSError, match=f"at most {MOST_TEXT:,} bytes"):
        read_text(path)


def test_a_file_of_weights_must_fit_into_free_memory(tmp_path):
    path = tmp_path / "weights"
    with path.open("wb") as file:
        file.truncate(2**43)
    with pytest.raises(OSError, match="free of the memory"):
        read_bytes(path)


def test_a_pipe_is_refused_without_waiting_for_its_other_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="ordinary file"):
        read_text(tmp_path / "pipe")


def test_a_device_without_end_is_refused():
    with pytest.raises(OSError, match="ordinary file"):
        read_bytes(Path("/dev/zero"))


@pytest.mark.parametrize(
    "text", [DEEP, "{" * 5, "[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1), "9" * 5_000, "9" * 30]
)
def test_json_that_is_deep_broken_or_of_huge_numbers_is_a_value_error(text):
    with pytest.raises(ValueError):  # json's own message differs by version
        parse_json(text)


def test_json_at_the_greatest_depth_is_read(tmp_path):
    text = "[" * MOST_DEPTH + "]" * MOST_DEPTH
    (tmp_path / "deep.json").write_text(text)
    assert json.dumps(read_json(tmp_path / "deep.json")) == text


def npz(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    return file.getvalue()


def test_arrays_of_numbers_and_texts_are_read_as_they_were_written(tmp_path):
    arrays = {
        "a": np.arange(6.0).reshape(2, 3).T,
        "b": np.array(["ä", "b"]),
        "c": np.zeros((0, 3)),
        "d": np.array(1),
    }
    np.savez(tmp_path / "a.npz", **arrays)
    read = read_arrays(tmp_path / "a.npz")
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_an_array_whose_header_states_more_than_there_is_takes_no_memory(tmp_path):
    content = npy(np.zeros(4, np.uint8)).replace(b"(4,), }", b"(4000000000000,), }")
    with pytest.raises(ValueError, match="4,000,000,000,000 bytes that its header states"):
        read_arrays(npz(tmp_path / "a.npz", images=content))


def test_an_archive_that_unpacks_to_more_than_the_free_memory_is_refused(tmp_path, monkeypatch):
    path = npz(tmp_path / "a.npz", images=npy(np.zeros(2**20, np.uint8)))
    assert path.stat().st_size < 2**13
    monkeypatch.setattr("nas.reading.free_memory", lambda: (2**20, 2**30))
    with pytest.raises(ValueError, match="must fit into"):
        read_arrays(path)


def test_an_array_of_python_objects_is_not_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", names=np.array([{1}], dtype=object))
    with pytest.raises(ValueError, match="Python objects"):
        read_arrays(tmp_path / "a.npz")


def test_texts_of_no_length_do_not_stand_for_a_list_without_end(tmp_path):
    content = npy(np.zeros(4, "<U1")).replace(b"<U1", b"<U0").replace(b"(4,), }", b"(9999999999999,), }")
    with pytest.raises(ValueError, match="header states"):
        read_arrays(npz(tmp_path / "a.npz", classes=content))


def test_a_header_that_is_no_expression_is_refused(tmp_path):
    content = npy(np.zeros(4, "<U1")).replace(b"'<U1'", b"'b,('")
    with pytest.raises(ValueError, match=r"header of images\.npy"):
        read_arrays(npz(tmp_path / "a.npz", images=content))


OF_LIBRARIES = {
    *("json.load", "json.loads", "np.load", "np.fromfile", "pickle.load", "pickle.loads", "ast.literal_eval"),
    *("eval", "exec", "yaml.load", "load_file", "torch.load"),
}
OF_PATHS = {"read_text", "read_bytes"}
"""What reads without a bound, or runs what it reads."""

ALLOWED = {
    "nas/reading.py",  # the bounds
    "nas/machine.py",  # /proc and /sys
    "nas/latency/environment.py",
    "nas/training/precision.py",
    "nas/version.py",  # the program's own files
    "nas/report/page/document.py",
    "nas/benchmarks/digits.py",
    "nas/export/probe_images.py",  # what the same function has just written
    "nas/export/verification.py",
    "nas/export/bundle_check.py",
    "nas/starting_weights.py",  # torch with `weights_only`, safetensors; both behind `ordinary`
    "nas/latency/passes.py",
    "nas/export/bundle_predict.py",  # stands alone in a bundle, and reads that bundle
    "nas/export/timm_format.py",
    "nas/full_training/ray_ranks.py",  # messages between processes of one training
    "nas/testing.py",  # for tests of the user's own classes
}


def unbounded_calls(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            is_of_path = isinstance(node.func, ast.Attribute) and node.func.attr in OF_PATHS
            if name in OF_LIBRARIES or is_of_path:
                yield name


def test_what_comes_from_outside_is_read_by_the_bounded_functions_alone():
    root = Path(nas.__file__).parent.parent
    paths = {str(path.relative_to(root)): path for path in sorted((root / "nas").rglob("*.py"))}
    found = {(name, call) for name in paths.keys() - ALLOWED for call in unbounded_calls(paths[name])}
    assert found == set()


@pytest.mark.parametrize("text", [DEEP, '{"a":' * 50_000, "-" * 100_000])
def test_deep_json_is_an_error_in_a_thread_too(text):
    program = (
        "import sys, threading\nfrom nas.reading import parse_json\n"
        "def read():\n    try:\n        parse_json(sys.stdin.read())\n"
        "    except ValueError:\n        print('refused')\n"
        "thread = threading.Thread(target=read)\nthread.start()\nthread.join()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=text, capture_output=True, text=True, check=True
    )
    assert done.stdout == "refused\n"


@dataclass(frozen=True, kw_only=True)
class Inner:
    number: float


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    count: int
    kind: Literal["a", "b"]
    inner: tuple[Inner, ...]
    pair: tuple[float, float] | None
    values: Mapping[str, float]


GOOD = Outer(name="n", count=1, kind="a", inner=(Inner(number=1),), pair=None, values={"a": 1.5})


def test_fields_that_hold_what_they_are_declared_as_are_accepted():
    require_types(GOOD)
    require_types(replace(GOOD, pair=(1, 2.5), inner=()))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": 3},
        {"count": 1.5},
        {"count": True},
        {"kind": "c"},
        {"kind": ["a"]},
        {"inner": [Inner(number=1)]},
        {"inner": (Inner(number="1"),)},
        {"inner": ("x",)},
        {"pair": (1, 2, 3)},
        {"pair": (1, "2")},
        {"values": {"a": "b"}},
        {"values": {3: 1.0}},
    ],
)
def test_a_field_that_holds_something_else_is_named(changes):
    with pytest.raises(TypeError, match=f"{next(iter(changes))}|number"):
        require_types(replace(GOOD, **changes))
