"""`predict.py` of a bundle reads image files as training does, and predicts without anything of ours."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nas.data.decoding import READ_ERRORS, decode
from nas.data.images import Reading
from nas.data.loading import from_arrays
from nas.errors import ExportError
from nas.export import bundle as bundle_module
from nas.export.bundle import Preprocessing, export_bundle, predict_source
from nas.export.probe_images import write_probe_images
from nas.training.accuracy import Normalise
from search_spaces import Conv, Head, MBConv, Network, Stage, build

CLASSES = ("cat", "a\nb\t\x1b[31m", "猫 🐈", "\u202edog", 'it\'s | "quoted"')
REFUSED = {"negative.tif", "nan.tif", "endless.tif", "negative-whole.tif", "cut.png", "text.png"}

READ_ALL = """
import importlib.abc, json, sys
import numpy as np

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("nas", "search_spaces", "controllers", "torch", "onnxruntime"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
from pathlib import Path
import importlib.util
found = {}
for bundle, images in json.loads(sys.stdin.read()):
    spec = importlib.util.spec_from_file_location("predict", Path(bundle, "predict.py"))
    predict = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(predict)
    arrays = {}
    for path in sorted(Path(images).iterdir()):
        try:
            arrays[path.name] = predict.load(path)
        except Exception:
            arrays[path.name] = np.zeros(0, np.uint8)
    np.savez(Path(bundle, "read.npz"), **arrays)
"""

READINGS = [
    Reading(channels=channels, resolution=resolution, fit=fit, bits=bits, float_white=white, background=level)
    for channels in (1, 3)
    for fit in ("crop", "pad", "stretch")
    for resolution, bits, white, level in ((24, 16, 255.0, 255), (10, 12, 1.0, 0), (33, 8, 255.0, None))
]


def preprocessing_of(reading, classes=CLASSES):
    levels = (0.4, 0.5, 0.45)[: reading.channels]
    return Preprocessing(
        reading=reading, mean=levels, std=(0.2, 0.3, 0.25)[: reading.channels], classes=classes
    )


def write_reader(folder, reading):
    """What a bundle has to read images with."""
    folder.mkdir()
    (folder / "predict.py").write_text(predict_source(), encoding="utf-8")
    (folder / "preprocessing.json").write_text(preprocessing_of(reading).to_json(), encoding="utf-8")
    return folder


def isolated(*command, **options):
    """Runs Python elsewhere, without our packages, the current folder and the environment on its path."""
    options = {"capture_output": True, "text": True, "timeout": 120, "check": False} | options
    return subprocess.run([sys.executable, "-I", *map(str, command)], **options)


def read_all(cases):
    done = isolated("-c", READ_ALL, input=json.dumps([list(map(str, case)) for case in cases]))
    assert done.returncode == 0, done.stderr
    found = []
    for folder, _ in cases:
        with np.load(folder / "read.npz") as arrays:
            found.append({name: arrays[name] for name in arrays})
    return found


def test_every_kind_of_file_is_read_as_in_training_by_a_process_without_our_packages(tmp_path):
    cases = []
    for number, reading in enumerate(READINGS):
        images = tmp_path / f"images-{number}"
        images.mkdir()
        write_probe_images(images, reading)
        cases.append((write_reader(tmp_path / f"bundle-{number}", reading), images))
    for reading, (_, images), found in zip(READINGS, cases, read_all(cases), strict=True):
        refused = set()
        for path in images.iterdir():
            try:
                expected = decode(path, reading)
            except READ_ERRORS:
                refused.add(path.name)
                expected = np.zeros(0, np.uint8)
            assert found[path.name].dtype == np.uint8
            assert np.array_equal(found[path.name], expected), (path.name, reading)
        assert refused == REFUSED


def test_deep_images_are_scaled_by_hand_and_not_clipped_to_white(tmp_path):
    values = np.random.default_rng(0).integers(0, 2**16, (12, 12)).astype(np.uint16)
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(values).save(images / "16.png")
    Image.fromarray(values).save(images / "16.tif")
    Image.fromarray(values.astype(np.int32)).save(images / "32.tif")
    Image.fromarray((values / 65535).astype(np.float32)).save(images / "float.tif")
    readings = [Reading(channels=1, resolution=12, bits=bits, float_white=1.0) for bits in (16, 12, 8)]
    cases = [(write_reader(tmp_path / f"bits-{one.bits}", one), images) for one in readings]
    for reading, found in zip(readings, read_all(cases), strict=True):
        by_hand = np.minimum(values >> (reading.bits - 8), 255)
        for name in ("16.png", "16.tif", "32.tif"):
            assert (found[name][0] == by_hand).all()
        assert np.abs(found["float.tif"][0] - values / 257).max() <= 0.5001
    assert len(np.unique(by_hand)) > 1


def test_a_turned_file_is_upright_by_hand(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (16, 16), dtype=np.uint8)
    by_hand = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.T,
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].T,
        8: np.rot90(pixels),
    }
    images = tmp_path / "images"
    images.mkdir()
    for orientation in by_hand:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(images / f"{orientation}.png", exif=exif)
    (found,) = read_all([(write_reader(tmp_path / "bundle", Reading(channels=1, resolution=16)), images)])
    for orientation, expected in by_hand.items():
        assert (found[f"{orientation}.png"][0] == expected).all()


def test_predict_py_holds_the_very_text_of_the_decoder_and_imports_nothing_of_ours():
    text = predict_source()
    decoder = Path("nas/data/decoder.py").read_text(encoding="utf-8")
    assert decoder[decoder.index("from typing") :] in text
    assert "nas." not in text.replace(decoder, "")
    compile(text, "predict.py", "exec")


@pytest.fixture(scope="module")
def network():
    stages = (Stage(op=MBConv(expand_ratio=2), channels=4),)
    return Network(
        stem=Stage(op=Conv(), channels=4),
        stages=stages,
        head=Head(channels=8),
        resolution=24,
        num_classes=len(CLASSES),
        in_channels=3,
    )


@pytest.fixture(scope="module")
def module(network):
    torch.manual_seed(0)
    made = build(network, seed=0)
    for _ in range(3):
        made(2 * torch.randn(16, 3, 24, 24) + 0.5)
    return made.eval()


READING = Reading(channels=3, resolution=24)


@pytest.fixture(scope="module")
def bundle(network, module, tmp_path_factory):
    return export_bundle(
        tmp_path_factory.mktemp("predict") / "bundle",
        network=network,
        weights=module.state_dict(),
        preprocessing=preprocessing_of(READING),
    )


@pytest.fixture(scope="module")
def messy(tmp_path_factory):
    """A folder as people have them: names of all kinds, other files, hidden ones, damaged images."""
    folder = tmp_path_factory.mktemp("messy")
    write_probe_images(folder, READING)
    for name in (
        "b\na\td.png",
        "ü 猫.PNG",
        "no suffix",
        ".hidden.png",
        "sub folder/.git/c.png",
        "sub folder/d.jpg",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "RGB.png", folder / name)
    (folder / os.fsdecode(b"latin-\xe9.png")).write_bytes((folder / "RGB.png").read_bytes())
    (folder / "notes.txt").write_text("no image")
    (folder / "empty").mkdir()
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "link.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    return folder


def expected_probabilities(module, path):
    data = from_arrays(np.zeros((20, 24, 24, 3), np.uint8), np.arange(20) % 2)
    preprocessing = preprocessing_of(READING)
    for name in ("mean", "std"):
        object.__setattr__(data, name, getattr(preprocessing, name))
    images = torch.from_numpy(decode(path, READING).copy())[None]
    with torch.inference_mode():
        return torch.softmax(module(Normalise(data, torch.device("cpu"))(images)), 1)[0].numpy()


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--batch-size", "7"), ("--onnx",)])
def test_a_messy_folder_is_predicted_as_the_network_does_and_damaged_files_are_named(
    bundle, module, messy, tmp_path, options
):
    done = isolated(bundle.folder / "predict.py", messy, "--top", 5, "--json", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    items = json.loads(done.stdout)
    unreadable = {Path(one["file"]).name for one in items if "error" in one}
    assert unreadable == REFUSED | {"empty.jpg", "link.png"}
    said = done.stderr.splitlines()
    assert all(any(name in line and "cannot be read: " in line for line in said) for name in unreadable)
    assert len(said) == len(unreadable) + 2
    count = len(unreadable)
    assert said[-1].endswith(
        f": {count} of {len(items)} images cannot be read, {len(items) - count} are predicted"
    )
    assert "passed over" in said[0]
    assert "2 in all" in said[0]
    assert {"notes.txt", "pipe.png"} <= set(re.findall(r"[\w.]+", said[0]))
    predicted = [one for one in items if "error" not in one]
    assert len(predicted) == 51 - len(REFUSED) + 5
    for one in predicted:
        found = {entry["class"]: entry["probability"] for entry in one["predictions"]}
        expected = expected_probabilities(module, Path(one["file"]))
        np.testing.assert_allclose([found[name] for name in CLASSES], expected, atol=1e-5)
        assert list(found.values()) == sorted(found.values(), reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_any_name_prints_as_one_line_in_any_encoding(bundle, messy, encoding):
    # Isolated mode would ignore the encoding; safe path leaves out the folders of programs alone.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    names = ["b\na\td.png", "ü 猫.PNG", os.fsdecode(b"latin-\xe9.png"), "RGB.png"]
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            bundle.folder / "predict.py",
            *[messy / name for name in names],
            "--top",
            "5",
            "--onnx",
        ],
        env={**environment, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    lines = [line.split("\t") for line in done.stdout.decode(encoding).splitlines()]
    assert [len(line) for line in lines] == [11] * 4
    assert len({tuple(line[1:]) for line in lines}) == 1
    assert not {"\x1b", "\u202e"} & set("".join(map("".join, lines)))
    assert abs(sum(float(word) for word in lines[0][2::2]) - 1) < 1e-3


def test_python_gets_probabilities_batch_by_batch_and_errors_in_their_places(bundle, module, messy):
    program = (
        "import sys, json\n"
        f"sys.path.insert(0, {str(bundle.folder)!r})\n"
        "import predict\n"
        "found = [(path, repr(one) if isinstance(one, Exception) else one.tolist())\n"
        "         for path, one in predict.predict(sys.argv[1:], batch_size=2)]\n"
        "print(json.dumps(found))\n"
        "print('nas' in sys.modules)"
    )
    paths = [str(messy / name) for name in ("cut.png", "text.png", "tall.png", "nothing.png", "L.jpg")]
    done = isolated("-c", program, *paths)
    assert done.returncode == 0, done.stderr
    found, ours = done.stdout.splitlines()
    assert ours == "False"
    found = dict(json.loads(found))
    assert list(found) == paths
    for path in paths:
        if path.endswith(("tall.png", "L.jpg")):
            np.testing.assert_allclose(found[path], expected_probabilities(module, Path(path)), atol=1e-5)
        else:
            assert "Error" in found[path]


@pytest.mark.slow
@pytest.mark.parametrize(("option", "absent"), [((), "onnxruntime"), (("--onnx",), "torch")])
def test_one_of_the_two_libraries_is_enough_and_the_other_is_named(bundle, messy, option, absent):
    program = (
        "import sys, runpy\n"
        f"sys.modules[{absent!r}] = None\n"
        f"sys.argv = ['predict.py', {str(messy / 'RGB.png')!r}, *sys.argv[1:]]\n"
        f"runpy.run_path({str(bundle.folder / 'predict.py')!r}, run_name='__main__')"
    )
    done = isolated("-c", program, *option)
    assert (done.returncode, done.stderr) == (0, "")
    other = () if option else ("--onnx",)
    done = isolated("-c", program, *other)
    assert done.returncode == 2
    assert done.stderr.startswith(f"predict.py: {absent} is not installed")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--top", "6", "a.png"), 2, "`1 <= --top <= 5` must hold for 5 classes, but got 6"),
        (("--top", "0", "a.png"), 2, "but got 0"),
        (("--batch-size", "0", "a.png"), 2, "`--batch-size >= 1` must hold"),
        ((), 2, "IMAGE_OR_FOLDER"),
        (("nowhere.png",), 1, "nowhere.png cannot be read: No such file or directory"),
        ((".",), 1, "predict.py: . holds no image"),
    ],
)
def test_mistakes_are_one_sentence_without_a_traceback(bundle, tmp_path, arguments, status, message):
    done = isolated(bundle.folder / "predict.py", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["preprocessing.json", "model.py", "weights.safetensors", "model.onnx"])
def test_a_bundle_that_lost_a_file_says_which(bundle, messy, tmp_path, name):
    shutil.copytree(bundle.folder, tmp_path / "copy")
    (tmp_path / "copy" / name).unlink()
    option = ("--onnx",) if name == "model.onnx" else ()
    done = isolated(tmp_path / "copy" / "predict.py", messy / "RGB.png", *option)
    assert done.returncode == 2
    assert f"{tmp_path / 'copy' / name} is missing" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_a_reader_of_the_output_may_leave(bundle, messy, tmp_path):
    for number in range(2000):  # more lines than a pipe holds
        (tmp_path / f"{number}{'x' * 100}.png").symlink_to(messy / "pixel.png")
    command = f"'{sys.executable}' -I '{bundle.folder}/predict.py' --onnx '{tmp_path}' | head -1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


def test_the_check_counts_its_files_and_the_card_says_so(bundle):
    assert bundle.image_files == 51
    assert "reads 51 image files of all modes" in (bundle.folder / "card.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        (".astype(np.int64) >> (bits - 8)", ".clip(0, 255)", "I-16.png"),
        ("ImageOps.exif_transpose(opened)", "opened.copy()", "turned-2.jpg"),
        ("2 * resolution", "4 * resolution", "large"),
        ("(background, background", "(0, background", "L-transparent.png"),
        ("not ((values >= 0)", "((values >= 1e99)", "nan.tif"),
        ("pixels.astype(np.float32) / 255", "pixels.astype(np.float32)", r"logits of predict\.py"),
    ],
)
def test_a_predict_py_that_reads_otherwise_is_not_exported(
    network, module, tmp_path, monkeypatch, right, wrong, message
):
    text = predict_source()
    assert right in text
    monkeypatch.setattr(bundle_module, "predict_source", lambda: text.replace(right, wrong))
    with pytest.raises(ExportError, match=message):
        export_bundle(
            tmp_path / "bundle",
            network=network,
            weights=module.state_dict(),
            preprocessing=preprocessing_of(READING),
            with_onnx=False,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_bundle_of_an_earlier_version_is_replaced(bundle, network, module, tmp_path):
    shutil.copytree(bundle.folder, tmp_path / "old")
    (tmp_path / "old" / "predict.py").unlink()
    new = export_bundle(
        tmp_path / "old",
        network=network,
        weights=module.state_dict(),
        preprocessing=preprocessing_of(READING),
        overwrite=True,
        with_onnx=False,
    )
    assert (new.folder / "predict.py").is_file()
