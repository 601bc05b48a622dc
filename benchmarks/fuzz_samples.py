"""Small valid files of every kind that is read, which the fuzzer changes."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

import nas
from controllers import state_to_json
from nas.data.description import DataDescription
from nas.data.images import Reading
from nas.export.preprocessing import Preprocessing
from nas.full_training.checkpoint import Checkpoint, State
from nas.full_training.recipes import RECIPES
from nas.jobs import JobLog, Training, earlier_result
from nas.latency.table.prediction import Check, CheckedNetwork, Correction
from nas.latency.table.table import BlockLatency, LatencyTable, SpaceFacts
from search_spaces import Conv, Head, MBConv, Network, Stage, build, mnasnet, reference

IMAGE_KINDS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "TGA", "JPEG2000")
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


def tiny_network() -> Network:
    """A network of 3 stages that is built in a millisecond."""
    return Network(
        stem=Stage(op=Conv(kernel_size=3), channels=8, stride=2),
        stages=(Stage(op=MBConv(kernel_size=3, expand_ratio=2, se_ratio=0.25), channels=8, repeats=2),),
        head=Head(channels=16),
        resolution=16,
        num_classes=3,
    )


def architectures() -> tuple[bytes, ...]:
    """A small network and a large one."""
    return tuple(each.to_json().encode() for each in (tiny_network(), reference("mobilenet_v3_large")))


def full_recipe() -> bytes:
    """A recipe of full training as TOML."""
    return next(iter(RECIPES.values())).to_toml().encode()


def objective() -> nas.Objective:
    """A product with a constraint."""
    return nas.Objective.parse("accuracy * (macs / 300M)^-0.07, memory <= 2GiB")


def preprocessing() -> bytes:
    """How a bundle reads images."""
    reading = Reading(channels=3, resolution=16)
    made = Preprocessing(reading=reading, mean=(0.5,) * 3, std=(0.2,) * 3, classes=("a", "b", "c"))
    return made.to_json().encode()


def data_description() -> bytes:
    """A description of images of two classes."""
    described = DataDescription(
        name="a",
        classes=("a", "b"),
        channels=3,
        resolution=16,
        counts=((3, 4), (1, 2), (2, 2)),
        task="classification",
        images=(),
    )
    return described.to_json().encode()


def controller_state() -> bytes:
    """Arrays and numbers, as controllers keep them."""
    state = {"weights": np.arange(6.0).reshape(2, 3), "seed": 3, "rows": [[1, 2], [3, 4]]}
    return state_to_json(state).encode()


def packs() -> tuple[bytes, bytes]:
    """Twelve images as arrays, and as JPEG files in arrays."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    plain, packed = io.BytesIO(), io.BytesIO()
    np.savez(plain, train_images=pixels, train_labels=np.arange(12) % 3, classes=np.array(["a", "b", "c"]))
    jpegs = [_encoded(Image.fromarray(one), "JPEG") for one in pixels]
    np.savez_compressed(
        packed,
        train_jpeg=np.frombuffer(b"".join(jpegs), np.uint8),
        train_offset=np.cumsum([0, *map(len, jpegs)]),
        train_label=np.arange(12) % 3,
    )
    return plain.getvalue(), packed.getvalue()


def label_tables() -> tuple[bytes, bytes]:
    """Tables of labels, one with quotes and semicolons."""
    table = b"file,label\n" + b"".join(b"%d.png,%s\n" % (n, b"ab"[n % 2 : n % 2 + 1]) for n in range(12))
    return table, b'"file";"label"\n"a, b.png";"1"\n"c.png";"2"\n'


def images() -> tuple[bytes, ...]:
    """One picture in each format, and PostScript."""
    rng = np.random.default_rng(0)
    rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)  # as in the first runs, whose seeds are known
    picture = Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8))
    return (*(_encoded(picture, kind) for kind in IMAGE_KINDS), POSTSCRIPT)


def _encoded(image: Image.Image, kind: str) -> bytes:
    output = io.BytesIO()
    image.save(output, kind)
    return output.getvalue()


def weights() -> bytes:
    """Weights of the small network as safetensors."""
    network = tiny_network()
    return bytes(save(build(network, seed=0).state_dict(), metadata={"network": network.digest}))


def torch_file() -> bytes:
    """The same as `torch.save` writes them."""
    file = io.BytesIO()
    torch.save({"model": build(tiny_network(), seed=0).state_dict(), "epoch": 3}, file)
    return file.getvalue()


def write_checkpoint(folder: Path) -> None:
    """Writes a checkpoint of full training."""
    state = State(identity={"network": "x"}, step=3, notes=("a",))
    Checkpoint(state=state, tensors={"w": torch.zeros(3)}, numbers={"lr": 0.1}).write(folder)


def write_study(folder: Path) -> Path:
    """Searches four trials, and puts the journal into one file; returns it."""
    nas.search(
        mnasnet(resolution=32, num_classes=10),
        evaluator=nas.TableEvaluator(lambda candidate: 0.5 + candidate.job.tokens[0] / 100, name="tokens"),
        controller="random",
        target_macs=5e6,
        trials=4,
        executor="inline",
        out=folder,
    )
    path = folder / "study.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("VACUUM")
    return path


def comparison() -> bytes:
    """A comparison of one contender."""
    run = {"seed": 1, "value": 0.5, "message": "", "is_lost": False}
    names = {"role": "winner", "name": "trial 1", "tokens": [0, 1], "digest": "a"}
    content = {
        "evaluator": "x",
        "images": 10,
        "seeds": 1,
        "metric": "accuracy",
        "direction": "max",
        "class_counts": [5, 5],
        "contenders": [{**names, "macs": 1, "params": 2, "runs": [run]}],
        "tested_weights": {"trial": 1, "digest": "x", "right": 5, "images": 10},
    }
    return json.dumps(content).encode()


def write_trainings(path: Path) -> None:
    """Writes a list of one training."""
    with JobLog(path, {"data": "x"}) as log:
        training = Training(key="a", label="a", tokens=(1, 2), seed=3)
        log.begin(training.key)
        log.add(training.key, earlier_result(0.5, "", tokens=(1, 2)))


def latency_table() -> LatencyTable:
    """A latency table of one block."""
    block = BlockLatency(key="a", stage="stem", words="conv", in_shape=(3, 32, 32), macs=10, latency_ms=0.1)
    checked = CheckedNetwork(digest="a", macs=1, latency_ms=1.0, halves_ms=(1.0, 1.1), predicted_ms=1.0)
    return LatencyTable(
        device_name="cpu",
        settings=None,
        environment="a machine",
        space=SpaceFacts.of(mnasnet(resolution=32, num_classes=10)),
        blocks=(block,),
        blocks_origin="walked",
        is_complete=True,
        correction=Correction(),
        check=Check(networks=(checked,)),
    )
