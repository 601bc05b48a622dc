"""Predicts what images show, with the network in this folder, from the command line and from Python.

Needs numpy, pillow, and either torch with safetensors or onnxruntime.
"""

from __future__ import annotations

import argparse
import errno
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nas.data.decoder import decode_image

FOLDER = Path(__file__).resolve().parent
BATCH_SIZE = 32
THRESHOLD = 0.5
CLASSIFICATION, MULTILABEL, REGRESSION = "classification", "multilabel", "regression"


def beside(name: str) -> Path:
    """The file of this name in the folder of this program."""
    path = FOLDER / name
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return path


@cache
def preprocessing() -> dict[str, Any]:
    """What `preprocessing.json` says: how images are read, the task, and the names of the outputs."""
    facts: dict[str, Any] = json.loads(beside("preprocessing.json").read_text(encoding="utf-8"))
    return {"task": CLASSIFICATION} | facts


def load(path: str | Path) -> Any:
    """Reads an image file as it was read in training: uint8 of shape (channels, resolution, resolution)."""
    facts = preprocessing()
    names = ("channels", "resolution", "fit", "bits", "float_white", "background")
    return decode_image(path, **{name: facts[name] for name in names})


def normalise(pixels: Any) -> Any:
    """Maps uint8 (batch, channels, resolution, resolution) to the network's input: float32, same shape."""
    facts = preprocessing()
    mean, std = (np.array(facts[name], np.float32).reshape(-1, 1, 1) for name in ("mean", "std"))
    return (pixels.astype(np.float32) / 255 - mean) / std


def predict(
    paths: Sequence[str | Path], *, batch_size: int = BATCH_SIZE, onnx: bool = False
) -> Iterator[tuple[str | Path, Any]]:
    """Yields each file with what is predicted; batch by batch, so that many files need little memory.

    Args:
        paths: Image files.
        batch_size: So many images are computed at a time.
        onnx: Runs `model.onnx` in ONNX Runtime, in place of `model.py` in PyTorch.

    Yields:
        The path, and float64 of shape (outputs,), see `interpret`; or the exception for which the file cannot
        be read.
    """
    network = open_network(onnx)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), batch_size):
            batch = paths[start : start + batch_size]
            pixels = list(pool.map(_load_or_error, batch))
            readable = [one for one in pixels if not isinstance(one, Exception)]
            found = iter(interpret(network(normalise(np.stack(readable)))) if readable else ())
            for path, one in zip(batch, pixels, strict=True):
                yield path, one if isinstance(one, Exception) else next(found)


def _load_or_error(path: str | Path) -> Any:
    try:
        return load(path)
    except Exception as error:  # Pillow raises whatever a damaged file leads it to
        return error


def open_network(onnx: bool) -> Callable[[Any], Any]:
    """Returns the network, as a function from normalised images to logits of shape (batch, outputs)."""
    if onnx:
        file, providers = beside("model.onnx"), ["CPUExecutionProvider"]
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file), providers=providers)
        return lambda images: session.run(["logits"], {"images": images})[0]
    file, _ = beside("model.py"), beside("weights.safetensors")
    import torch

    spec = importlib.util.spec_from_file_location(f"{__name__}.model", file)
    assert spec is not None
    assert spec.loader is not None
    source = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(source)
    model = source.load()

    def logits(images: Any) -> Any:
        with torch.inference_mode():
            return model(torch.from_numpy(images)).numpy()

    return logits


def interpret(logits: Any) -> Any:
    """Maps logits of shape (batch, outputs) to what they stand for: float64 of the same shape.

    Returns:
        By the task of the network: the probabilities of the classes, which sum to 1; the probability of each
        label; or numbers in the unit of the labels that it was trained on.
    """
    facts = preprocessing()
    logits = logits.astype(np.float64)
    if facts["task"] == REGRESSION:
        return logits * np.array(facts["target_std"]) + np.array(facts["target_mean"])
    if facts["task"] == MULTILABEL:
        small = np.exp(-np.abs(logits))  # never overflows
        return np.where(logits >= 0, 1, small) / (1 + small)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def list_folder(folder: Path) -> tuple[list[Path], list[Path], list[str]]:
    """Lists what is in a folder and below it, without names that begin with a dot.

    Returns:
        The images, the other files, and a sentence for each folder that cannot be read.
    """
    images: list[Path] = []
    others: list[Path] = []
    problems: list[str] = []

    def on_error(error: OSError) -> None:
        problems.append(f"{printable(error.filename)} cannot be read: {reason_of(error)}")

    for place, folders, files in os.walk(folder, onerror=on_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in files if not name.startswith(".")):
            path = Path(place, name)
            (images if is_image(path) else others).append(path)
    return images, others, problems


def is_image(path: Path) -> bool:
    """Whether a file has a suffix of an image, or the content of one."""
    has_suffix = Image.registered_extensions().get(path.suffix.lower()) in Image.OPEN
    if not path.is_file():
        return has_suffix and not path.exists()  # a link that leads nowhere, but no pipe
    if has_suffix:
        return True
    try:
        with Image.open(path):
            return True
    except Exception:
        return False


def reason_of(error: Exception) -> str:
    """Why something failed, in one line."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(said.splitlines()[0])


def printable(text: str) -> str:
    """Escapes what would break a line or change the terminal, and what no encoding has."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def say(text: str) -> None:
    """Writes a line to standard error."""
    sys.stderr.write(f"predict.py: {text}\n")


def collect(names: Sequence[str]) -> list[Path]:
    """Finds the images of files and folders, and says what else is there."""
    found: list[Path] = []
    for name in names:
        folder = Path(name)
        if not folder.is_dir():
            found.append(folder)
            continue
        images, others, problems = list_folder(folder)
        if others:
            few = ", ".join(printable(str(path)) for path in others[:3]) + ", ..." * (len(others) > 3)
            say(f"passed over what Pillow does not take for an image, {len(others)} in all: {few}")
        if not images:
            problems.append(f"{printable(name)} holds no image")
        for problem in problems:
            say(problem)
        found += images
    return found


def best(probabilities: Any, top: int) -> list[tuple[str, float]]:
    """The most probable classes or labels, each with its probability."""
    classes = preprocessing()["classes"]
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [(classes[index], float(probabilities[index])) for index in order]


def entry(found: Any, given: argparse.Namespace) -> dict[str, Any]:
    """What is predicted for one image, as data for JSON."""
    if preprocessing()["task"] == REGRESSION:
        return {"values": dict(zip(preprocessing()["classes"], found.tolist(), strict=True))}
    ranked = best(found, given.top)
    if preprocessing()["task"] == MULTILABEL:
        labels = [name for name, probability in ranked if probability >= given.threshold]
        return {"labels": labels, "probabilities": dict(ranked)}
    return {"predictions": [{"class": name, "probability": probability} for name, probability in ranked]}


def words(found: Any, given: argparse.Namespace) -> list[str]:
    """What is predicted for one image: a name and a number in turn."""
    if preprocessing()["task"] == REGRESSION:
        numbers = zip(preprocessing()["classes"], found.tolist(), strict=True)
        return [word for name, number in numbers for word in (printable(name), f"{number:.6g}")]
    is_multilabel = preprocessing()["task"] == MULTILABEL
    found_words = []
    for name, probability in best(found, given.top):
        mark = "*" if is_multilabel and probability >= given.threshold else ""
        found_words += [printable(name), f"{probability:.4f}{mark}"]
    return found_words


LINES = {
    CLASSIFICATION: "the class and the probability",
    MULTILABEL: "each label and its probability, the likeliest first, with * from the threshold on",
    REGRESSION: "the name of each number and the number, in the unit of the labels",
}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line, which has the options of the network's task."""
    task, count = preprocessing()["task"], len(preprocessing()["classes"])
    parser = argparse.ArgumentParser(
        prog="predict.py",
        description=f"Predicts what images show: a line for each image, with its path, {LINES[task]} between "
        "tabs.",
        epilog="Exit status: 0 if at least one image was read; standard error names those that cannot be. "
        "1 if none can be read; 2 for a mistake, or a part that is missing.",
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE_OR_FOLDER", help="a folder with all below it")
    many = "classes" if task == CLASSIFICATION else "labels"
    if task != REGRESSION:
        top = 1 if task == CLASSIFICATION else count
        parser.add_argument(
            "--top", type=int, default=top, metavar="K", help=f"{many} of each image (default: {top})"
        )
    if task == MULTILABEL:
        parser.add_argument(
            "--threshold",
            type=float,
            default=THRESHOLD,
            metavar="P",
            help=f"probability from which on a label counts as predicted (default: {THRESHOLD})",
        )
    parser.add_argument("--json", action="store_true", help="print one JSON array")
    parser.add_argument("--onnx", action="store_true", help="run model.onnx in ONNX Runtime, not PyTorch")
    parser.add_argument(
        "--batch-size",
        type=int,
        default=BATCH_SIZE,
        metavar="N",
        help=f"images that are computed at a time (default: {BATCH_SIZE})",
    )
    given = parser.parse_args(arguments)
    if task != REGRESSION and not 1 <= given.top <= count:
        parser.error(f"`1 <= --top <= {count}` must hold for {count} {many}, but got {given.top}")
    if task == MULTILABEL and not 0 <= given.threshold <= 1:
        parser.error(f"`0 <= --threshold <= 1` must hold, but got {given.threshold}")
    if given.batch_size < 1:
        parser.error(f"`--batch-size >= 1` must hold, but got {given.batch_size}")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    given = parse(arguments)
    paths = collect(given.images)
    unreadable = 0
    items: list[dict[str, Any]] = []
    for path, found in predict(paths, batch_size=given.batch_size, onnx=given.onnx) if paths else ():
        if isinstance(found, Exception):
            unreadable += 1
            say(f"{printable(str(path))} cannot be read: {reason_of(found)}")
            items.append({"file": str(path), "error": reason_of(found)})
        elif given.json:
            items.append({"file": str(path), **entry(found, given)})
        else:
            sys.stdout.write("\t".join([printable(str(path)), *words(found, given)]) + "\n")
    if given.json:
        sys.stdout.write(json.dumps(items, indent=1) + "\n")
    sys.stdout.flush()
    if unreadable and len(paths) > 1:
        say(f"{unreadable} of {len(paths)} images cannot be read, {len(paths) - unreadable} are predicted")
    return 0 if len(paths) > unreadable else 1


def run() -> int:
    """Runs the program as a command: says what is missing in one line."""
    try:
        return main()
    except ModuleNotFoundError as error:
        say(f"{error.name} is not installed: install it, or run the network in the other way (see --onnx)")
        return 2
    except FileNotFoundError as error:
        say(f"{error.filename} is missing: keep predict.py beside the files it was exported with")
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(run())
