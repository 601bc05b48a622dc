"""The program that loads a bundle where our packages cannot be imported, and compares its logits.

It is run by path in a fresh interpreter; imports nothing of ours.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import math
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

OURS = ("nas", "search_spaces", "controllers")


class Refuse(importlib.abc.MetaPathFinder):
    """Makes our packages unimportable, installed or not."""

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        """Raises for our packages, and leaves all others to the next finder."""
        if fullname.partition(".")[0] in OURS:
            raise ImportError(f"an exported network must import nothing of ours, but imports {fullname}")
        return None


def main(folder: Path, probe: Path, report: Path, libraries: list[str]) -> None:
    """Compares the bundle's logits with the expected ones.

    Args:
        folder: The bundle.
        probe: safetensors file with pairs `images<batch>` and `logits<batch>`.
        report: JSON file to write: per backend the largest difference over the largest logit, and whether
            every bit is equal.
        libraries: Folders that PyTorch and the other libraries are in, where the interpreter would not look.
    """
    sys.dont_write_bytecode = True
    sys.path += [library for library in libraries if library not in sys.path]
    sys.meta_path.insert(0, Refuse())
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    tensors = load_file(probe)
    batches = [int(name.removeprefix("images")) for name in tensors if name.startswith("images")]
    model = load_source(folder / "model.py").load()
    errors: dict[str, float] = {"torch": 0.0}
    is_bit_equal = True
    session = open_onnx(folder / "model.onnx") if (folder / "model.onnx").exists() else None
    for batch in batches:
        images, expected = tensors[f"images{batch}"], tensors[f"logits{batch}"]
        with torch.inference_mode():
            logits = model(images)
        is_bit_equal &= torch.equal(logits, expected)
        errors["torch"] = max(errors["torch"], error_of(logits, expected))
        if session is not None:
            (values,) = session.run(["logits"], {"images": images.numpy()})
            errors["onnx"] = max(errors.get("onnx", 0.0), error_of(torch.from_numpy(values), expected))
    report.write_text(json.dumps({"errors": errors, "is_bit_equal": is_bit_equal}), encoding="utf-8")


def load_source(path: Path) -> ModuleType:
    """Runs a Python file as a module of its own."""
    spec = importlib.util.spec_from_file_location("model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["model"] = module
    spec.loader.exec_module(module)
    return module


def open_onnx(path: Path) -> Any:
    """Checks an ONNX file, and opens it on one thread of the CPU."""
    import onnx
    import onnxruntime

    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def error_of(logits: Any, expected: Any) -> float:
    """Largest difference over the largest expected logit; infinite where shapes differ or a value is NaN."""
    if logits.shape != expected.shape:
        return float("inf")
    scale = max(expected.abs().max().item(), 1e-6)
    error = float((logits - expected).abs().max().item() / scale)
    return float("inf") if math.isnan(error) else error


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
