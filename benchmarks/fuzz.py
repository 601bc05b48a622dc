"""Feeds damaged and lying files to every parser, and counts what is neither read nor an error of ours.

    python benchmarks/fuzz.py --inputs 1000000 --seed 0

Each parser runs in a process with a limit of its address space. An input is a valid file with one to four
changes: bytes flipped, cut out, put in or repeated, the end cut off, numbers that lie, and in JSON values of
other types and sizes. Printed are, of each parser, the inputs, those that were read, our errors, crashes (any
other exception, or more than 20 s), the growth of the resident memory, and the first crashes, each with the
seed that repeats it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import nas
from controllers import ControllerError, state_from_json, state_to_json
from nas.errors import NasError
from search_spaces import Conv, Head, MBConv, Network, SpaceError, Stage, cost, mnasnet

OURS = (NasError, SpaceError, ControllerError)
ADDRESS_SPACE = 12 * 2**30
MOST_SECONDS = 20
NUMBERS = ("-1", "0", "1e999", "-1e999", "NaN", "1e-320", "9" * 19, "9" * 25, "9" * 5_000, "65537", "0.5")
VALUES = (
    *NUMBERS,
    "null",
    "true",
    '""',
    '"../../etc/passwd"',
    '"\\u0000\\u001b[2J"',
    '"\\ud800"',
    "[]",
    "{}",
    "[[1]]",
)
WORDS = (
    b"\0",
    b"\xff" * 8,
    b"\x7f" + b"\xff" * 7,
    b"\0" * 8,
    b"../",
    b'"',
    b"[" * 2_000,
    b"{" * 50,
    b"\x1b[2J",
    b"\r\n",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parser:
    """One parser under test.

    Attributes:
        seeds: Valid inputs.
        read: Reads an input; an error of ours is fine.
        is_json: Whether an input is JSON, whose values are changed too.
        share: Of the inputs, compared with the others: what is slow gets fewer.
    """

    seeds: tuple[bytes, ...]
    read: Callable[[bytes], object]
    is_json: bool = False
    share: float = 1.0


def mutated(content: bytes, rng: random.Random, *, is_json: bool = False) -> bytes:
    """An input with one to four changes."""
    if is_json and rng.random() < 0.6:
        content = lied(content, rng)
    for _ in range(rng.choice((0, 1, 1, 2, 3)) if is_json else rng.randint(1, 4)):
        content = changed(content, rng)
    return content


def changed(content: bytes, rng: random.Random) -> bytes:
    """One change of the bytes."""
    place = rng.randrange(len(content) + 1)
    if content and rng.random() < 0.3:
        place = min(place, rng.randrange(1, 300))  # headers lie at the beginning
    size = min(rng.choice((1, 1, 2, 4, 8, 64)), len(content) - place)
    kind = rng.randrange(6)
    if kind == 0 and size:
        flipped = bytes(byte ^ (1 << rng.randrange(8)) for byte in content[place : place + size])
        return content[:place] + flipped + content[place + size :]
    if kind == 1:
        return content[:place]
    if kind == 2:
        return content[:place] + content[place + size :]
    if kind == 3:
        return content[:place] + rng.choice(WORDS) + content[place:]
    if kind == 4:
        word = rng.choice(WORDS)
        return content[:place] + word + content[place + len(word) :]
    return content[:place] + content[max(0, place - 100) : place] * rng.choice((1, 2, 50)) + content[place:]


def lied(content: bytes, rng: random.Random) -> bytes:
    """JSON text with one value replaced, left out or doubled."""
    data = json.loads(content)
    places: list[tuple[Any, Any]] = []
    waiting = [data]
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        places += [(one, key) for key in keys]
        waiting += [one[key] for key in keys]
    if not places:
        return rng.choice(VALUES).encode()
    owner, key = rng.choice(places)
    kind = rng.randrange(8)
    if kind == 0:
        del owner[key]
    elif kind == 1 and isinstance(owner, dict):
        owner[f"{key}x"] = owner.pop(key)
    elif kind == 2:
        owner[key] = [owner[key]] * rng.choice((2, 100))
    else:
        owner[key] = "@@"
        return json.dumps(data).replace('"@@"', rng.choice(VALUES), 1).encode()
    return json.dumps(data).encode()


def tiny_network() -> Network:
    """A network of 3 stages that is built in a millisecond."""
    return Network(
        stem=Stage(op=Conv(kernel_size=3), channels=8, stride=2),
        stages=(Stage(op=MBConv(kernel_size=3, expand_ratio=2, se_ratio=0.25), channels=8, repeats=2),),
        head=Head(channels=16),
        resolution=16,
        num_classes=3,
    )


def of_file(folder: Path, name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """A parser of a file, as one of its bytes."""

    def of_bytes(content: bytes) -> object:
        path = folder / name
        path.write_bytes(content)
        return read(path)

    return of_bytes


def of_text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    """A parser of text, as one of bytes."""
    return lambda content: read(content.decode("utf-8", "replace"))


def architectures(_: Path) -> dict[str, Parser]:
    """What describes networks and spaces."""
    from search_spaces import reference

    def of_json(text: str) -> object:
        network = Network.from_json(text)
        return network.digest, cost(network).params

    seeds = tuple(each.to_json().encode() for each in (tiny_network(), reference("mobilenet_v3_large")))
    return {"architecture": Parser(seeds=seeds, read=of_text(of_json), is_json=True)}


def settings(_: Path) -> dict[str, Parser]:
    """Recipes, objectives, preprocessings, descriptions of data, states of controllers."""
    from nas import Objective, Recipe
    from nas.data.description import DataDescription
    from nas.data.images import Reading
    from nas.export.preprocessing import Preprocessing
    from nas.full_training.recipe import FullRecipe
    from nas.full_training.recipes import RECIPES

    objective = Objective.parse("accuracy * (macs / 300M)^-0.07, memory <= 2GiB")
    preprocessing = Preprocessing(
        reading=Reading(channels=3, resolution=16), mean=(0.5,) * 3, std=(0.2,) * 3, classes=("a", "b", "c")
    )
    described = DataDescription(
        name="a",
        classes=("a", "b"),
        channels=3,
        resolution=16,
        counts=((3, 4), (1, 2), (2, 2)),
        task="classification",
        images=(),
    )
    state = {"weights": np.arange(6.0).reshape(2, 3), "seed": 3, "rows": [[1, 2], [3, 4]]}
    toml = next(iter(RECIPES.values())).to_toml().encode()
    return {
        "recipe": Parser(seeds=(Recipe().to_json().encode(),), read=of_text(Recipe.from_json), is_json=True),
        "full recipe": Parser(
            seeds=(toml,), read=of_text(lambda text: FullRecipe.from_toml(text, base=RECIPES))
        ),
        "objective": Parser(
            seeds=(objective.to_json().encode(),), read=of_text(Objective.from_json), is_json=True
        ),
        "objective as text": Parser(seeds=(objective.describe().encode(),), read=of_text(Objective.parse)),
        "preprocessing": Parser(
            seeds=(preprocessing.to_json().encode(),), read=of_text(Preprocessing.from_json), is_json=True
        ),
        "data description": Parser(
            seeds=(described.to_json().encode(),), read=of_text(DataDescription.from_json), is_json=True
        ),
        "controller state": Parser(
            seeds=(state_to_json(state).encode(),), read=of_text(state_from_json), is_json=True
        ),
    }


def data_files(folder: Path) -> dict[str, Parser]:
    """Images, packs of images, tables of labels."""
    from nas.data.decoding import probe
    from nas.data.images import Reading, Wanted
    from nas.data.packs import load_pack
    from nas.data.table import read_table
    from nas.reading import read_arrays

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    plain, packed = io.BytesIO(), io.BytesIO()
    np.savez(plain, train_images=pixels, train_labels=np.arange(12) % 3, classes=np.array(["a", "b", "c"]))
    jpegs = [encoded(Image.fromarray(one), "JPEG") for one in pixels]
    np.savez_compressed(
        packed,
        train_jpeg=np.frombuffer(b"".join(jpegs), np.uint8),
        train_offset=np.cumsum([0, *map(len, jpegs)]),
        train_label=np.arange(12) % 3,
    )
    table = b"file,label\n" + b"".join(b"%d.png,%s\n" % (n, b"ab"[n % 2 : n % 2 + 1]) for n in range(12))
    quoted = b'"file";"label"\n"a, b.png";"1"\n"c.png";"2"\n'
    picture = Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8))
    kinds = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "TGA", "JPEG2000")
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    reading = Reading(channels=3, resolution=8)

    def image(content: bytes) -> object:
        from nas.data.decoding import decode

        try:
            return probe(content), decode(content, reading)
        except MemoryError:
            raise
        except Exception as error:  # its contract: Pillow raises whatever it is led to
            raise nas.errors.DataError(str(error)) from error

    seeds = (plain.getvalue(), packed.getvalue())
    return {
        "pack": Parser(
            seeds=seeds, read=of_file(folder, "pack.npz", lambda path: load_pack(path, Wanted(resolution=8)))
        ),
        "arrays": Parser(seeds=seeds, read=of_file(folder, "a.npz", as_value_errors(read_arrays))),
        "table of labels": Parser(seeds=(table, quoted), read=of_file(folder, "labels.csv", read_table)),
        "image": Parser(seeds=(*(encoded(picture, kind) for kind in kinds), postscript), read=image),
    }


def encoded(image: Image.Image, kind: str) -> bytes:
    """The bytes of an image file."""
    output = io.BytesIO()
    image.save(output, kind)
    return output.getvalue()


def as_value_errors(read: Callable[[Path], object]) -> Callable[[Path], object]:
    """A function of `nas.reading`, whose errors are OSError and ValueError by its contract."""

    def checked(path: Path) -> object:
        try:
            return read(path)
        except (OSError, ValueError) as error:
            raise NasError(str(error)) from error

    return checked


def weights(folder: Path) -> dict[str, Parser]:
    """Files of weights, bundles, checkpoints."""
    from safetensors.torch import save

    from nas.export.opened import open_bundle
    from nas.export.weights import read_weights
    from nas.full_training.checkpoint import CHECKPOINT, Checkpoint, State, read_checkpoint
    from nas.starting_weights import find_weights
    from search_spaces import build

    network = tiny_network()
    module = build(network, seed=0)
    tensors = save(module.state_dict(), metadata={"network": network.digest})
    torch_file = io.BytesIO()
    torch.save({"model": module.state_dict(), "epoch": 3}, torch_file)
    (folder / "bundle").mkdir()
    (folder / "bundle" / "weights.safetensors").write_bytes(tensors)
    (folder / "other").mkdir()
    (folder / "other" / "architecture.json").write_text(network.to_json())
    state = State(identity={"network": "x"}, step=3, notes=("a",))
    Checkpoint(state=state, tensors={"w": torch.zeros(3)}, numbers={"lr": 0.1}).write(folder)
    return {
        "weights": Parser(seeds=(tensors,), read=read_weights),
        "bundle, architecture": Parser(
            seeds=(network.to_json().encode(),),
            read=of_file(folder, "bundle/architecture.json", lambda path: open_bundle(path.parent).module()),
            is_json=True,
            share=0.2,
        ),
        "bundle, weights": Parser(
            seeds=(tensors,),
            read=of_file(folder, "other/weights.safetensors", lambda path: open_bundle(path.parent).module()),
            share=0.3,
        ),
        "file of torch.save": Parser(
            seeds=(torch_file.getvalue(),), read=of_file(folder, "weights.pt", find_weights), share=0.5
        ),
        "checkpoint": Parser(
            seeds=((folder / CHECKPOINT).read_bytes(),),
            read=of_file(folder, CHECKPOINT, lambda path: read_checkpoint(path.parent, {"network": "x"})),
        ),
    }


def studies(folder: Path) -> dict[str, Parser]:
    """Journals, comparisons, lists of trainings."""
    from nas.evaluation.comparison import load_comparison
    from nas.jobs import JobLog, Training, earlier_result

    study = folder / "study"
    nas.search(
        mnasnet(resolution=32, num_classes=10),
        evaluator=nas.TableEvaluator(lambda candidate: 0.5 + candidate.job.tokens[0] / 100, name="tokens"),
        controller="random",
        target_macs=5e6,
        trials=4,
        executor="inline",
        out=study,
    )
    import sqlite3

    with closing(sqlite3.connect(study / "study.sqlite")) as database:
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("VACUUM")
    journal = (study / "study.sqlite").read_bytes()
    alone = folder / "alone"
    alone.mkdir()
    run = {"seed": 1, "value": 0.5, "message": "", "is_lost": False}
    names = {"role": "winner", "name": "trial 1", "tokens": [0, 1], "digest": "a"}
    comparison = {
        "evaluator": "x",
        "images": 10,
        "seeds": 1,
        "metric": "accuracy",
        "direction": "max",
        "class_counts": [5, 5],
        "contenders": [{**names, "macs": 1, "params": 2, "runs": [run]}],
        "tested_weights": {"trial": 1, "digest": "x", "right": 5, "images": 10},
    }
    with JobLog(folder / "log.jsonl", {"data": "x"}) as log:
        training = Training(key="a", label="a", tokens=(1, 2), seed=3)
        log.begin(training.key)
        log.add(training.key, earlier_result(0.5, "", tokens=(1, 2)))

    def read_journal(path: Path) -> object:
        for left in path.parent.glob("study.sqlite-*"):
            left.unlink()
        found = nas.open_study(path.parent)
        return found.summary(), [trial.network for trial in found.trials]

    def read_log(path: Path) -> object:
        with JobLog(path, {"data": "x"}) as log:
            return log.results

    return {
        "journal": Parser(seeds=(journal,), read=of_file(alone, "study.sqlite", read_journal), share=0.1),
        "comparison": Parser(
            seeds=(json.dumps(comparison).encode(),),
            read=of_file(folder, "comparison.json", lambda path: load_comparison(path.parent)),
            is_json=True,
        ),
        "list of trainings": Parser(
            seeds=((folder / "log.jsonl").read_bytes(),),
            read=of_file(folder, "log.jsonl", read_log),
            share=0.2,
        ),
    }


def latencies(folder: Path) -> dict[str, Parser]:
    """Latency tables."""
    from nas.latency.table.prediction import Check, CheckedNetwork, Correction
    from nas.latency.table.table import BlockLatency, LatencyTable, SpaceFacts

    space = mnasnet(resolution=32, num_classes=10)
    block = BlockLatency(key="a", stage="stem", words="conv", in_shape=(3, 32, 32), macs=10, latency_ms=0.1)
    checked = CheckedNetwork(digest="a", macs=1, latency_ms=1.0, halves_ms=(1.0, 1.1), predicted_ms=1.0)
    table = LatencyTable(
        device_name="cpu",
        settings=None,
        environment="a machine",
        space=SpaceFacts.of(space),
        blocks=(block,),
        blocks_origin="walked",
        is_complete=True,
        correction=Correction(),
        check=Check(networks=(checked,)),
    )
    table.save(folder / "table.json")

    def read(path: Path) -> object:
        found = LatencyTable.load(path)
        return found.title, found.fingerprint, found.error_text

    return {
        "latency table": Parser(
            seeds=((folder / "table.json").read_bytes(),),
            read=of_file(folder, "table.json", read),
            is_json=True,
        )
    }


GROUPS = (architectures, settings, data_files, weights, studies, latencies)
"""Each makes its parsers in an empty folder."""


def try_one(parser: Parser, rng: random.Random) -> bool:
    """Feeds one input; says whether it was read.

    Raises:
        Exception: The parser raised what is not an error of ours.
    """
    content = mutated(rng.choice(parser.seeds), rng, is_json=parser.is_json)
    try:
        parser.read(content)
    except OURS:
        return False
    return True


def _too_slow(_: int, __: object) -> None:
    raise TimeoutError(f"an input took more than {MOST_SECONDS} s")


def run_group(group: Callable[[Path], dict[str, Parser]], inputs: int, seed: int) -> None:
    """Runs the parsers of a group; prints a line of JSON for each."""
    signal.signal(signal.SIGALRM, _too_slow)
    with tempfile.TemporaryDirectory() as folder:
        for name, parser in group(Path(folder)).items():
            for number in range(5):  # what is loaded at the first use is no growth
                try_quietly(parser, f"warm {number}")
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            limits = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, limits[1]))
            start, counts, crashes = time.perf_counter(), {"read": 0, "errors": 0, "crashes": 0}, []
            count = max(1, round(inputs * parser.share))
            for number in range(count):
                key = f"{seed}:{name}:{number}"
                signal.alarm(MOST_SECONDS)
                try:
                    counts["read" if try_one(parser, random.Random(key)) else "errors"] += 1
                except Exception as error:
                    counts["crashes"] += 1
                    last = traceback.extract_tb(error.__traceback__)[-1]
                    crashes.append(
                        f"{key}: {type(error).__name__}: {str(error)[:100]} ({last.filename}:{last.lineno})"
                    )
                finally:
                    signal.alarm(0)
            resource.setrlimit(resource.RLIMIT_AS, limits)
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            line = {"parser": name, "inputs": count, **counts, "grown_mib": round(grown, 1)}
            line |= {"seconds": round(time.perf_counter() - start, 1), "first": crashes[:5]}
            print(json.dumps(line), flush=True)


def try_quietly(parser: Parser, key: str) -> None:
    """Feeds one input whatever comes of it."""
    try:
        try_one(parser, random.Random(key))
    except Exception:
        return


def main() -> None:
    """Runs every group in a process of its own and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=20_000, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--group", choices=[group.__name__ for group in GROUPS], help="only this, as lines of JSON"
    )
    parser.add_argument("--each", type=int, help="inputs of each parser, with --group")
    arguments = parser.parse_args()
    if arguments.group:
        (group,) = (one for one in GROUPS if one.__name__ == arguments.group)
        run_group(group, arguments.each or 1_000, arguments.seed)
        return
    with tempfile.TemporaryDirectory() as folder:
        shares = sum(
            one.share
            for number, group in enumerate(GROUPS)
            for one in _made(group, Path(folder) / str(number))
        )
    each = max(1, round(arguments.inputs / shares))
    print(f"{'parser':<22} {'inputs':>9} {'read':>9} {'errors':>9} {'crashes':>8} {'MiB':>7} {'s':>7}")
    total, crashed, first = 0, 0, []
    for group in GROUPS:
        command = [
            sys.executable,
            __file__,
            "--group",
            group.__name__,
            "--each",
            str(each),
            "--seed",
            str(arguments.seed),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            for text in process.stdout:
                line = json.loads(text)
                total, crashed, first = (
                    total + line["inputs"],
                    crashed + line["crashes"],
                    first + line["first"],
                )
                print(
                    f"{line['parser']:<22} {line['inputs']:>9,} {line['read']:>9,} {line['errors']:>9,} "
                    f"{line['crashes']:>8,} {line['grown_mib']:>7} {line['seconds']:>7}",
                    flush=True,
                )
        if process.returncode:
            crashed += 1
            first.append(f"the process of {group.__name__} ended with {process.returncode}")
    print(f"{total:,} inputs, {crashed:,} crashes")
    print(*first, sep="\n")
    sys.exit(bool(crashed))


def _made(group: Callable[[Path], dict[str, Parser]], folder: Path) -> tuple[Parser, ...]:
    folder.mkdir()
    made = tuple(group(folder).values())
    shutil.rmtree(folder)
    return made


if __name__ == "__main__":
    main()
