"""The parsers that the fuzzer feeds, in groups that share a process, each with its valid inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fuzz_samples as samples

import nas
from controllers import state_from_json
from nas.data.decoding import decode, probe
from nas.data.description import DataDescription
from nas.data.images import Reading, Wanted
from nas.data.packs import load_pack
from nas.data.table import read_table
from nas.errors import NasError
from nas.evaluation.comparison import load_comparison
from nas.export.opened import open_bundle
from nas.export.preprocessing import Preprocessing
from nas.export.weights import read_weights
from nas.full_training.checkpoint import CHECKPOINT, read_checkpoint
from nas.full_training.recipe import FullRecipe
from nas.full_training.recipes import RECIPES
from nas.jobs import JobLog
from nas.latency.table.table import LatencyTable
from nas.reading import read_arrays
from nas.starting_weights import find_weights
from search_spaces import Network, cost


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


def of_json(content: bytes, read: Callable[[str], object]) -> Parser:
    """The parser of JSON text."""
    return Parser(seeds=(content,), read=of_text(read), is_json=True)


def architectures(_: Path) -> dict[str, Parser]:
    """What describes networks."""

    def read(text: str) -> object:
        network = Network.from_json(text)
        return network.digest, cost(network).params

    return {"architecture": Parser(seeds=samples.architectures(), read=of_text(read), is_json=True)}


def settings(_: Path) -> dict[str, Parser]:
    """Recipes, objectives, preprocessings, descriptions of data, states of controllers."""
    objective = samples.objective()
    return {
        "recipe": of_json(nas.Recipe().to_json().encode(), nas.Recipe.from_json),
        "full recipe": Parser(
            seeds=(samples.full_recipe(),),
            read=of_text(lambda text: FullRecipe.from_toml(text, base=RECIPES)),
        ),
        "objective": of_json(objective.to_json().encode(), nas.Objective.from_json),
        "objective as text": Parser(
            seeds=(objective.describe().encode(),), read=of_text(nas.Objective.parse)
        ),
        "preprocessing": of_json(samples.preprocessing(), Preprocessing.from_json),
        "data description": of_json(samples.data_description(), DataDescription.from_json),
        "controller state": of_json(samples.controller_state(), state_from_json),
    }


def data_files(folder: Path) -> dict[str, Parser]:
    """Images, packs of images, tables of labels."""
    packs = samples.packs()
    return {
        "pack": Parser(
            seeds=packs, read=of_file(folder, "pack.npz", lambda path: load_pack(path, Wanted(resolution=8)))
        ),
        "arrays": Parser(seeds=packs, read=of_file(folder, "a.npz", as_value_errors(read_arrays))),
        "table of labels": Parser(
            seeds=samples.label_tables(), read=of_file(folder, "labels.csv", read_table)
        ),
        "image": Parser(seeds=samples.images(), read=read_image),
    }


def read_image(content: bytes) -> object:
    """Decodes an image."""
    try:
        return probe(content), decode(content, Reading(channels=3, resolution=8))
    except MemoryError:
        raise
    except Exception as error:  # its contract: Pillow raises whatever it is led to
        raise nas.errors.DataError(str(error)) from error


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
    tensors = samples.weights()
    for name in ("bundle", "other"):
        (folder / name).mkdir()
    (folder / "bundle" / "weights.safetensors").write_bytes(tensors)
    (folder / "other" / "architecture.json").write_text(samples.tiny_network().to_json())
    samples.write_checkpoint(folder)

    def built(path: Path) -> object:
        return open_bundle(path.parent).module()

    return {
        "weights": Parser(seeds=(tensors,), read=read_weights),
        "bundle, architecture": Parser(
            seeds=(samples.tiny_network().to_json().encode(),),
            read=of_file(folder, "bundle/architecture.json", built),
            is_json=True,
            share=0.2,
        ),
        "bundle, weights": Parser(
            seeds=(tensors,), read=of_file(folder, "other/weights.safetensors", built), share=0.3
        ),
        "file of torch.save": Parser(
            seeds=(samples.torch_file(),), read=of_file(folder, "weights.pt", find_weights), share=0.5
        ),
        "checkpoint": Parser(
            seeds=((folder / CHECKPOINT).read_bytes(),),
            read=of_file(folder, CHECKPOINT, lambda path: read_checkpoint(path.parent, {"network": "x"})),
        ),
    }


def studies(folder: Path) -> dict[str, Parser]:
    """Journals, comparisons, lists of trainings."""
    journal = samples.write_study(folder / "study").read_bytes()
    (folder / "alone").mkdir()
    samples.write_trainings(folder / "log.jsonl")
    return {
        "journal": Parser(
            seeds=(journal,), read=of_file(folder / "alone", "study.sqlite", read_journal), share=0.1
        ),
        "comparison": Parser(
            seeds=(samples.comparison(),),
            read=of_file(folder, "comparison.json", lambda path: load_comparison(path.parent)),
            is_json=True,
        ),
        "list of trainings": Parser(
            seeds=((folder / "log.jsonl").read_bytes(),),
            read=of_file(folder, "log.jsonl", read_trainings),
            share=0.2,
        ),
    }


def read_journal(path: Path) -> object:
    """Reads all of a study but its weights."""
    for left in path.parent.glob("study.sqlite-*"):
        left.unlink()
    found = nas.open_study(path.parent)
    return found.summary(), [trial.network for trial in found.trials]


def read_trainings(path: Path) -> object:
    """Reads a list of trainings."""
    with JobLog(path, {"data": "x"}) as log:
        return log.results


def latencies(folder: Path) -> dict[str, Parser]:
    """Latency tables."""
    path = folder / "table.json"
    samples.latency_table().save(path)

    def read(path: Path) -> object:
        found = LatencyTable.load(path)
        return found.title, found.fingerprint, found.error_text

    parser = Parser(seeds=(path.read_bytes(),), read=of_file(folder, "table.json", read), is_json=True)
    return {"latency table": parser}


GROUPS = (architectures, settings, data_files, weights, studies, latencies)
"""Each makes its parsers in an empty folder."""
