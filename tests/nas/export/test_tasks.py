"""A bundle's own `predict.py` gives classes, labels or numbers, as the network it came from."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nas.data.decoding import decode
from nas.data.images import Reading
from nas.errors import ExportError
from nas.export import bundle as bundle_module
from nas.export.bundle import Preprocessing, export_bundle, predict_source
from search_spaces import Conv, Head, MBConv, Network, Stage, build

NAMES = ("red", "a\tb", "blue")
READING = Reading(channels=3, resolution=8)
NETWORK = Network(
    stem=Stage(op=Conv(), channels=8),
    stages=(Stage(op=MBConv(expand_ratio=2), channels=8),),
    head=Head(channels=16),
    resolution=8,
    num_classes=3,
    in_channels=3,
)
TARGETS = {"target_mean": (1.0, 20.0, -300.0), "target_std": (0.5, 3.0, 100.0)}


def preprocessing_of(task):
    levels = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)}
    targets = TARGETS if task == "regression" else {}
    return Preprocessing(reading=READING, classes=NAMES, task=task, **levels, **targets)


def export(folder, task):
    weights = build(NETWORK, seed=1).state_dict()
    return export_bundle(
        folder, network=NETWORK, weights=weights, preprocessing=preprocessing_of(task), overwrite=True
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("tasks")
    return {task: export(place / task, task).folder for task in ("multilabel", "regression")}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"broken")
    return folder


def run(folder, *words):
    command = [sys.executable, "-I", folder / "predict.py", *words]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False)


def logits_of(path):
    """By hand, one image at a time."""
    facts = preprocessing_of("multilabel")
    mean, std = (np.reshape(values, (-1, 1, 1)) for values in (facts.mean, facts.std))
    pixels = ((decode(path, READING) / 255 - mean) / std).astype(np.float32)
    with torch.inference_mode():
        return build(NETWORK, seed=1).eval()(torch.from_numpy(pixels)[None])[0].double().numpy()


@pytest.mark.parametrize("option", [(), ("--onnx",)])
def test_labels_have_the_sigmoid_of_their_logits_and_numbers_their_own_unit(folders, images, option):
    labels = run(folders["multilabel"], images, "--json", *option)
    numbers = run(folders["regression"], images, "--json", *option)
    for done in (labels, numbers):
        assert done.returncode == 0, done.stderr
        assert "broken.png cannot be read" in done.stderr
        assert "predict.py: 1 of " in done.stderr
    for one, other in zip(json.loads(labels.stdout), json.loads(numbers.stdout), strict=True):
        assert one["file"] == other["file"]
        if "error" in one:
            assert "error" in other
            continue
        logits = logits_of(Path(one["file"]))
        expected = 1 / (1 + np.exp(-logits))
        assert [one["probabilities"][name] for name in NAMES] == pytest.approx(expected, abs=1e-5)
        assert set(one["labels"]) == {
            name for name, share in zip(NAMES, expected, strict=True) if share >= 0.5
        }
        assert [*one["probabilities"].values()] == sorted(one["probabilities"].values(), reverse=True)
        expected = logits * np.array(TARGETS["target_std"]) + np.array(TARGETS["target_mean"])
        assert [other["values"][name] for name in NAMES] == pytest.approx(expected, rel=1e-4)


def test_lines_mark_labels_from_the_threshold_on_and_name_numbers(folders, images):
    path = images / "0.png"
    cells = run(folders["multilabel"], path).stdout.rstrip("\n").split("\t")
    assert len(cells) == 7
    for share in cells[2::2]:
        assert share.endswith("*") == (float(share.rstrip("*")) >= 0.5)
    cells = run(folders["multilabel"], path, "--top", "1", "--threshold", "0.99").stdout.split("\t")
    assert len(cells) == 3
    assert "*" not in cells[2]
    cells = run(folders["regression"], path).stdout.rstrip("\n").split("\t")
    assert cells[1::2] == ["red", "a\\tb", "blue"]
    assert all(np.isfinite(float(cell)) for cell in cells[2::2])


@pytest.mark.parametrize(
    ("task", "words", "message"),
    [
        ("multilabel", ("--threshold", "1.5"), "`0 <= --threshold <= 1` must hold"),
        ("multilabel", ("--top", "4"), "`1 <= --top <= 3` must hold for 3 labels"),
        ("regression", ("--top", "1"), "unrecognized arguments: --top"),
        ("regression", ("--threshold", "0.5"), "unrecognized arguments: --threshold"),
    ],
)
def test_options_of_another_task_are_mistakes(folders, task, words, message):
    done = run(folders[task], "a.png", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_logits_far_from_zero_are_labels_for_sure_without_a_warning(folders):
    program = (
        "import sys, numpy as np, warnings; warnings.simplefilter('error')\n"
        f"sys.path.insert(0, {str(folders['multilabel'])!r})\n"
        "import predict\n"
        "print(predict.interpret(np.array([[-1e4, 0, 1e4]], np.float32)).tolist())"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert json.loads(done.stdout) == [[0.0, 0.5, 1.0]]


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_card_source_and_onnx_file_say_the_task(folders, images, task, tmp_path):
    card = (folders[task] / "card.md").read_text(encoding="utf-8")
    assert {"multilabel": "A multi-label classifier", "regression": "predicts numbers from images"}[
        task
    ] in card
    source = (folders[task] / "model.py").read_text(encoding="utf-8")
    assert f"Its task is {task}" in source
    import onnxruntime

    session = onnxruntime.InferenceSession(folders[task] / "model.onnx", providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map["preprocessing"]
    assert Preprocessing.from_json(facts) == preprocessing_of(task)
    program = card.partition("```python\n")[2].partition("```")[0].replace("image.png", str(images / "0.png"))
    setup = f"import sys; sys.path.insert(0, {str(folders[task])!r})\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", setup + program],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.stderr == ""
    assert set(eval(done.stdout, {"__builtins__": {}})) == set(NAMES)


@pytest.mark.parametrize(
    ("task", "right", "wrong"),
    [
        ("multilabel", "np.where(logits >= 0, 1, small)", "np.where(logits >= 0, small, 1)"),
        ("regression", '* np.array(facts["target_std"]) +', "+"),
    ],
)
def test_a_predict_py_that_misreads_outputs_is_not_exported(tmp_path, monkeypatch, task, right, wrong):
    text = predict_source()
    assert right in text
    monkeypatch.setattr(bundle_module, "predict_source", lambda: text.replace(right, wrong))
    with pytest.raises(ExportError, match=r"predict\.py"):
        export(tmp_path / "bundle", task)
    assert not [*Path(tmp_path).iterdir()]
