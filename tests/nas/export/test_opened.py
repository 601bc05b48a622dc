"""Bundles are opened where they are meant, and what is wrong with one is said."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nas.data.images import Reading
from nas.errors import ExportError
from nas.export.bundle import export_bundle
from nas.export.opened import OpenBundle, open_bundle
from nas.export.preprocessing import Preprocessing
from search_spaces import Conv, Head, MBConv, Network, Stage, build

PREPROCESSING = Preprocessing(
    reading=Reading(channels=1, resolution=8), mean=(0.4,), std=(0.2,), classes=("a", "b", "c")
)


def small_network(channels: int = 4) -> Network:
    return Network(
        stem=Stage(op=Conv(), channels=4),
        stages=(Stage(op=MBConv(expand_ratio=2), channels=channels),),
        head=Head(channels=8),
        resolution=8,
        num_classes=3,
        in_channels=1,
    )


def export(folder: Path, *, channels: int = 4, preprocessing: Preprocessing | None = PREPROCESSING) -> Path:
    network = small_network(channels)
    weights = build(network, seed=1).state_dict()
    export_bundle(folder, network=network, weights=weights, preprocessing=preprocessing, with_onnx=False)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("opened") / "bundle")


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def assert_refused(folder: Path, match: str) -> None:
    with pytest.raises(ExportError, match=match) as caught:
        open_bundle(folder).module()
    assert caught.value.field == "bundle"


def test_opened_bundle_gives_the_network_its_weights_and_its_preprocessing(exported: Path) -> None:
    opened = open_bundle(exported)
    expected = build(small_network(), seed=1).eval()
    assert opened.network == small_network()
    assert opened.preprocessing == PREPROCESSING
    assert opened.onnx is None
    assert opened.facts["network"] == small_network().digest
    images = torch.rand((2, 1, 8, 8))
    module = opened.module()
    assert not module.training
    with torch.inference_mode():
        assert torch.equal(module(images), expected(images))


@pytest.mark.parametrize("inside", ["bundle", "export/trial-3"])
def test_folder_of_a_training_or_study_stands_for_its_only_bundle(
    exported: Path, tmp_path: Path, inside: str
) -> None:
    shutil.copytree(exported, tmp_path / inside)
    assert open_bundle(str(tmp_path)).folder == tmp_path / inside


def test_study_with_several_bundles_is_refused_with_their_names(exported: Path, tmp_path: Path) -> None:
    for name in ("trial-3", "trial-4"):
        shutil.copytree(exported, tmp_path / "export" / name)
    assert_refused(tmp_path, "several bundles: give one of .*trial-3, .*trial-4")


def test_study_without_a_bundle_names_the_export(tmp_path: Path) -> None:
    (tmp_path / "study.sqlite").touch()
    assert_refused(tmp_path, "study without an exported bundle: .*nas export")


@pytest.mark.parametrize("name", ["nowhere", "file.txt", "."])
def test_what_is_no_bundle_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.txt").touch()
    assert_refused(tmp_path / name, "does not exist|is a file|is no bundle")


def test_weights_of_another_network_are_refused(copied: Path, tmp_path: Path) -> None:
    other = export(tmp_path / "other", channels=6)
    shutil.copy(other / "weights.safetensors", copied)
    assert_refused(copied, "files of two bundles were mixed")


def test_weights_of_another_network_are_refused_where_no_digest_says_so(copied: Path) -> None:
    save_file(build(small_network(6), seed=1).state_dict(), copied / "weights.safetensors")
    assert_refused(copied, "expand.conv.weight is missing: give them whole")


@pytest.mark.parametrize("kept", [0, 4, 60, -1])
def test_truncated_weights_are_refused(copied: Path, kept: int) -> None:
    path = copied / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert_refused(copied, "cannot be read")


@pytest.mark.parametrize("name", ["architecture.json", "preprocessing.json"])
def test_truncated_json_is_refused_with_the_name_of_the_file(copied: Path, name: str) -> None:
    path = copied / name
    path.write_text(path.read_text(encoding="utf-8")[:40], encoding="utf-8")
    assert_refused(copied, name)


def test_preprocessing_of_other_images_is_refused(copied: Path) -> None:
    path = copied / "preprocessing.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**facts, "resolution": 16}), encoding="utf-8")
    assert_refused(copied, "resolution=16")


def test_bundle_without_preprocessing_opens_but_cannot_read_images(tmp_path: Path) -> None:
    opened: OpenBundle = open_bundle(export(tmp_path / "bundle", preprocessing=None))
    assert opened.preprocessing is None
    with pytest.raises(ExportError, match=r"lacks: export again with preprocessing=Preprocessing\.of"):
        opened.required_preprocessing()


@pytest.mark.parametrize("name", ["weights.safetensors", "card.md", "latency-cpu.json"])
def test_a_link_out_of_a_bundle_is_refused(copied, tmp_path, name):
    secret = tmp_path / "secret"
    secret.write_bytes((copied / name).read_bytes() if (copied / name).exists() else b"{}")
    (copied / name).unlink(missing_ok=True)
    (copied / name).symlink_to(secret)
    with pytest.raises(ExportError, match="is a link to"):
        open_bundle(copied)


def test_a_link_within_a_bundle_is_followed(copied):
    (copied / "weights.safetensors").rename(copied / "first.safetensors")
    (copied / "weights.safetensors").symlink_to("first.safetensors")
    assert open_bundle(copied).module()


def test_an_architecture_of_far_more_parameters_than_its_weights_takes_no_memory(copied):
    (copied / "preprocessing.json").unlink()
    text = (copied / "architecture.json").read_text()
    data = json.loads(text)
    data["head"]["channels"], data["num_classes"] = 65_536, 10_000_000  # 2.6 TB of weights
    (copied / "architecture.json").write_text(json.dumps(data))
    network = Network.from_json(json.dumps(data))
    tensors = {name: tensor.clone() for name, tensor in load_file(copied / "weights.safetensors").items()}
    save_file(tensors, copied / "weights.safetensors", metadata={"network": network.digest})
    with pytest.raises(ExportError, match="parameters of the network"):
        open_bundle(copied).module()
