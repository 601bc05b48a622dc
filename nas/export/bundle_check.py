"""The program that loads a bundle where our packages cannot be imported, and compares logits and pixels.

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


def main(folder: Path, scratch: Path, libraries: list[str]) -> None:
    """Compares the bundle's logits and pixels with the expected ones; writes `report.json`.

    Args:
        folder: The bundle.
        scratch: Where `probe.safetensors` has pairs `images<batch>` and `logits<batch>`; where the bundle has
            a `predict.py`, `pixels.safetensors` has the pixels of each file in `images`, and
            `logits.safetensors` the logits of one and, as `answers`, what they stand for. The report is
            written there.
        libraries: Folders that PyTorch and the other libraries are in, where the interpreter would not look.
    """
    sys.dont_write_bytecode = True
    sys.path += [library for library in libraries if library not in sys.path]
    sys.meta_path.insert(0, Refuse())
    import torch

    torch.set_num_threads(1)
    has_onnx, has_predict = ((folder / name).exists() for name in ("model.onnx", "predict.py"))
    report = compare_logits(folder, scratch, has_onnx) | {"misread": [], "predict_error": 0.0}
    if has_predict:
        predict = load_source(folder / "predict.py")
        report["misread"] = misread(predict, scratch)
        report["predict_error"] = max(predict_error(predict, scratch, onnx) for onnx in {False, has_onnx})
    (scratch / "report.json").write_text(json.dumps(report), encoding="utf-8")


def compare_logits(folder: Path, scratch: Path, has_onnx: bool) -> dict[str, Any]:
    """Returns the largest difference over the largest logit per backend, and whether every bit is equal."""
    import torch
    from safetensors.torch import load_file

    tensors = load_file(scratch / "probe.safetensors")
    batches = [int(name.removeprefix("images")) for name in tensors if name.startswith("images")]
    model = load_source(folder / "model.py").load()
    errors: dict[str, float] = {"torch": 0.0}
    is_bit_equal = True
    session = open_onnx(folder / "model.onnx") if has_onnx else None
    for batch in batches:
        images, expected = tensors[f"images{batch}"], tensors[f"logits{batch}"]
        with torch.inference_mode():
            logits = model(images)
        is_bit_equal &= torch.equal(logits, expected)
        errors["torch"] = max(errors["torch"], error_of(logits, expected))
        if session is not None:
            (values,) = session.run(["logits"], {"images": images.numpy()})
            errors["onnx"] = max(errors.get("onnx", 0.0), error_of(torch.from_numpy(values), expected))
    return {"errors": errors, "is_bit_equal": is_bit_equal}


def misread(predict: ModuleType, scratch: Path) -> list[str]:
    """Lists the files that `predict.py` reads otherwise than training; an empty array stands for refused."""
    import numpy as np
    from safetensors.numpy import load_file

    found = []
    for name, expected in load_file(scratch / "pixels.safetensors").items():
        try:
            pixels = predict.load(scratch / "images" / name)
        except Exception:
            pixels = np.zeros(0, np.uint8)
        if pixels.dtype != np.uint8 or not np.array_equal(pixels, expected):
            found.append(name)
    return sorted(found)


def predict_error(predict: ModuleType, scratch: Path, onnx: bool) -> float:
    """Returns the largest difference of the logits of `predict.py` for a file, over the largest logit.

    Likewise of what it takes the expected logits to stand for: probabilities, or numbers.
    """
    import torch
    from safetensors.torch import load_file

    expected = load_file(scratch / "logits.safetensors")
    answers = expected.pop("answers")
    ((name, logits),) = expected.items()
    images = predict.normalise(predict.load(scratch / "images" / name)[None])
    found = torch.from_numpy(predict.open_network(onnx)(images))
    meant = torch.from_numpy(predict.interpret(logits.numpy()))
    return max(error_of(found, logits), error_of(meant, answers))


def load_source(path: Path) -> ModuleType:
    """Runs a Python file as a module of its own."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
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
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
