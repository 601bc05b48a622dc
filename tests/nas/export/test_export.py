import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save
from torch import nn

from nas.data.decoding import decode
from nas.data.images import Reading
from nas.data.loading import from_arrays
from nas.errors import ExportError
from nas.export.bundle import Bundle, Origin, Preprocessing, export_bundle
from nas.training.accuracy import Normalise
from nas.trial import Metric
from search_spaces import (
    Context,
    Conv,
    Head,
    MBConv,
    Network,
    SearchSpace,
    Stage,
    build,
    choice,
    efficientnet,
    mnasnet,
)
from search_spaces.primitives import Call, Chain, Layer, Node, Shape

PREPROCESSING = Preprocessing(
    reading=Reading(channels=3, resolution=32),
    mean=(0.49, 0.48, 0.45),
    std=(0.25, 0.24, 0.26),
    classes=tuple(f"class {number}" for number in range(10)),
)
ORIGIN = Origin(
    study="runs/a",
    trial=7,
    seed=123,
    space="mnasnet",
    data="cifar10: 10 classes, 3 x 32 x 32",
    recipe='{"epochs": 5}',
    objective="accuracy * (macs / 3e7) ** -0.07",
    metrics=(
        Metric(name="accuracy", value=0.8125, unit="fraction", environment="search split"),
        Metric(name="latency_ms", value=3.25, unit="ms", environment="cpu, batch 1 | 1 thread"),
    ),
)


def trained(network: Network, seed: int = 0) -> nn.Module:
    """A network whose norms have seen images, so that evaluation differs from initialisation."""
    module = build(network, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    shape = (16, network.in_channels, network.resolution, network.resolution)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for _ in range(3):
            module(2 * torch.randn(shape, generator=generator) + 0.5)
    return module.eval()


def export(folder: Path, network: Network, **arguments: object) -> Bundle:
    arguments = {"weights": trained(network).state_dict(), "with_onnx": False} | arguments
    return export_bundle(folder, network=network, **arguments)


def small_network(op: object = MBConv(expand_ratio=2), **fields: object) -> Network:
    fields = {"resolution": 8, "num_classes": 3, "in_channels": 1} | fields
    stages = (Stage(op=op, channels=4),)
    return Network(stem=Stage(op=Conv(), channels=4), stages=stages, head=Head(channels=8), **fields)


def run_elsewhere(folder: Path, program: str) -> str:
    """Runs a program in the folder where our packages are not on the path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def programs(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)


@pytest.fixture(scope="module")
def network() -> Network:
    space = mnasnet(resolution=32, num_classes=10, width=0.5)
    return space.decode(space.sample(np.random.default_rng(0)))


@pytest.fixture(scope="module")
def bundle(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(
        tmp_path_factory.mktemp("export") / "bundle",
        network,
        weights=save(trained(network).state_dict()),
        preprocessing=PREPROCESSING,
        origin=ORIGIN,
        with_onnx=True,
    )


def test_bundle_holds_everything_needed_to_use_the_network(bundle: Bundle) -> None:
    expected = {
        "architecture.json",
        "model.py",
        "weights.safetensors",
        "model.onnx",
        "preprocessing.json",
        "predict.py",
        "card.md",
    }
    assert {path.name for path in bundle.folder.iterdir()} == set(bundle.files) == expected
    assert bundle.size_bytes == sum(path.stat().st_size for path in bundle.folder.iterdir())


def test_the_page_of_the_bundle_lists_its_files_and_the_fields_of_the_preprocessing(bundle: Bundle) -> None:
    page = Path("docs/bundle.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([\w.]+\.\w+)` \|", page, flags=re.MULTILINE)
    assert sorted(listed) == sorted(bundle.files)
    fields = json.loads((bundle.folder / "preprocessing.json").read_text(encoding="utf-8"))
    assert all(f"`{name}`" in page for name in fields)


def test_bundle_is_the_only_thing_an_export_leaves_behind(bundle: Bundle) -> None:
    assert [path.name for path in bundle.folder.parent.iterdir()] == ["bundle"]


def test_exported_logits_equal_the_searched_ones_to_the_bit_in_a_new_process(bundle: Bundle) -> None:
    assert bundle.is_bit_equal
    assert bundle.torch_error == 0.0


def test_onnx_logits_follow_torch_for_any_batch(bundle: Bundle, network: Network) -> None:
    path = str(bundle.folder / "model.onnx")
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    module = trained(network)
    for batch in (1, 2, 7):
        images = torch.randn((batch, 3, 32, 32), generator=torch.Generator().manual_seed(batch))
        with torch.inference_mode():
            expected = module(images).numpy()
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_onnx_error_is_measured_and_small(bundle: Bundle) -> None:
    assert bundle.onnx_error is not None
    assert 0 < bundle.onnx_error < 1e-5


def test_onnx_file_names_no_folder_of_the_machine_that_made_it(bundle: Bundle) -> None:
    data = (bundle.folder / "model.onnx").read_bytes()
    assert b"site-packages" not in data
    assert str(Path.cwd()).encode() not in data


def test_onnx_file_carries_its_preprocessing(bundle: Bundle, network: Network) -> None:
    session = onnxruntime.InferenceSession(
        str(bundle.folder / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["network"] == network.digest
    assert Preprocessing.from_json(facts["preprocessing"]) == PREPROCESSING


def test_architecture_reads_back_as_the_same_network(bundle: Bundle, network: Network) -> None:
    assert Network.from_json((bundle.folder / "architecture.json").read_text()) == network


def test_weights_are_those_that_were_given(bundle: Bundle, network: Network) -> None:
    tensors = load_file(bundle.folder / "weights.safetensors")
    expected = trained(network).state_dict()
    assert set(tensors) == set(expected)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in expected.items())


def test_preprocessing_reads_back_as_it_was(bundle: Bundle) -> None:
    text = (bundle.folder / "preprocessing.json").read_text(encoding="utf-8")
    assert Preprocessing.from_json(text) == PREPROCESSING
    assert json.loads(text)["mode"] == "RGB"


def test_card_says_where_the_network_comes_from(bundle: Bundle, network: Network) -> None:
    card = (bundle.folder / "card.md").read_text(encoding="utf-8")
    for fact in (network.digest, "| trial | 7 |", "| seed | 123 |", "runs/a", "cifar10", "torch"):
        assert fact in card
    assert "| accuracy | 0.8125 | fraction | search split |" in card
    assert "| latency_ms | 3.25 | ms | cpu, batch 1 \\| 1 thread |" in card
    assert "Only a value on a test split" in card
    assert card.count("MBConv") + card.count("SepConv") + card.count("Conv, k") >= len(network.stages)


def test_programs_of_the_card_work_as_written_and_agree(
    bundle: Bundle, network: Network, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in bundle.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    Image.fromarray(pixels).save(folder / "image.png")
    data = from_arrays(np.zeros((20, 32, 32, 3), np.uint8), np.arange(20) % 2)
    data = replace(data, mean=PREPROCESSING.mean, std=PREPROCESSING.std)
    images = torch.from_numpy(decode(folder / "image.png", Reading(channels=3, resolution=32)).copy())[None]
    with torch.inference_mode():
        logits = trained(network)(Normalise(data, torch.device("cpu"))(images))
    expected = PREPROCESSING.classes[int(logits.argmax())]
    found = programs((folder / "card.md").read_text(encoding="utf-8"))
    assert len(found) == 2
    assert [run_elsewhere(folder, program) for program in found] == [expected, expected]


def test_source_imports_only_torch_and_what_comes_with_python(bundle: Bundle) -> None:
    source = (bundle.folder / "model.py").read_text(encoding="utf-8")
    roots = set(re.findall(r"^\s*(?:from|import) (\w+)", source, flags=re.MULTILINE))
    assert roots - set(sys.stdlib_module_names) == {"torch", "safetensors"}


@pytest.mark.slow
def test_grey_efficientnet_exports(tmp_path: Path) -> None:
    space = efficientnet(resolution=28, num_classes=10, in_channels=1, width=0.5)
    network = space.decode(space.sample(np.random.default_rng(1)))
    bundle = export(tmp_path / "bundle", network, with_onnx=True)
    assert bundle.is_bit_equal
    assert bundle.onnx_error is not None


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "space",
    [
        mnasnet(resolution=32, num_classes=10),
        efficientnet(resolution=28, num_classes=10, in_channels=1),
        efficientnet(resolution=224, num_classes=1000),
    ],
    ids=["mnasnet-32", "efficientnet-28-grey", "efficientnet-224"],
)
def test_sampled_networks_export(space: SearchSpace, seed: int, tmp_path: Path) -> None:
    network = space.decode(space.sample(np.random.default_rng(seed)))
    bundle = export(tmp_path / "bundle", network, with_onnx=True)
    assert bundle.is_bit_equal
    assert bundle.onnx_error is not None
    assert bundle.onnx_error < 1e-4


class ChannelScale(nn.Module):
    """A user's own layer: one trained factor a channel, noise in training."""

    def __init__(self, channels: int, noise: float = 0.1) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((channels,), 0.5))
        self.noise = noise

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        factor = self.factor.view(1, -1, 1, 1)
        if self.training:
            factor = factor + self.noise * torch.randn_like(factor)
        return x * factor


class Spy(nn.Module):
    """A layer that wants our package."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        import search_spaces

        return x * len(search_spaces.__all__)


class Turncoat(nn.Module):
    """A layer that computes something else where our package is not loaded."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        import sys

        return x if "search_spaces" in sys.modules else x + 1


class Branching(nn.Module):
    """A layer that no graph can hold: it branches on the values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if float(x.sum()) > 0 else x


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnLeaf:
    """A leaf around a module class that takes no arguments, or the channels."""

    layer: type[nn.Module]
    params: bool = False

    def at(self, shape: Shape) -> Layer:
        args = (shape.channels,) if self.params else ()
        return Layer(out=shape, call=Call(self.layer, args), params=shape.channels * self.params)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledConv:
    """A user's own op, with a layer of the user's own and an identity skip."""

    kernel_size: int = 3

    def layers(self, context: Context) -> Node:
        conv = context.convolution(context.out_channels, self.kernel_size, stride=context.stride)
        scaled = Chain((("conv", conv), ("scale", OwnLeaf(layer=ChannelScale, params=True))))
        return context.skip(scaled, "identity")


@dataclass(frozen=True, slots=True, kw_only=True)
class With:
    """An op of one layer of the user's own, by name: an op is data."""

    layer: str

    def layers(self, context: Context) -> Node:  # noqa: ARG002 - the protocol's argument
        return Chain((("own", OwnLeaf(layer=LAYERS[self.layer])),))


names: dict[str, type[nn.Module]] = {"Base": nn.Identity}
exec("class Typed(Base):\n    pass", names)
LAYERS = {"spy": Spy, "turncoat": Turncoat, "branching": Branching, "typed at a prompt": names["Typed"]}


@pytest.mark.slow
def test_own_op_with_own_layer_drop_path_and_dropout_exports_silently(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    template = Network(
        stem=Stage(op=Conv(), channels=8),
        stages=(Stage(op=ScaledConv(kernel_size=choice(3, 5)), channels=8, repeats=2),),
        head=Head(channels=16, dropout=0.5),
        resolution=12,
        num_classes=4,
        in_channels=2,
        drop_path_rate=0.5,
    )
    network = SearchSpace(template).decode((1,))
    bundle = export(tmp_path / "bundle", network, with_onnx=True)
    assert bundle.is_bit_equal
    assert "class ChannelScale" in (bundle.folder / "model.py").read_text()
    graph = onnx.load(bundle.folder / "model.onnx").graph
    assert not {"RandomNormalLike", "Dropout", "Bernoulli"} & {node.op_type for node in graph.node}
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_bundle_without_preprocessing_says_so_by_leaving_it_out(tmp_path: Path) -> None:
    network = small_network()
    bundle = export(tmp_path / "bundle", network)
    assert not {"preprocessing.json", "predict.py"} & set(bundle.files)
    assert bundle.image_files == 0
    (program,) = programs((bundle.folder / "card.md").read_text())
    with torch.inference_mode():
        expected = int(trained(network)(torch.zeros(1, 1, 8, 8)).argmax())
    assert run_elsewhere(bundle.folder, program) == str(expected)


def test_half_precision_weights_are_exported_as_what_they_are_in_the_network(tmp_path: Path) -> None:
    network = small_network()
    weights = {
        name: tensor.bfloat16() if tensor.is_floating_point() else tensor
        for name, tensor in trained(network).state_dict().items()
    }
    bundle = export(tmp_path / "bundle", network, weights=weights)
    assert load_file(bundle.folder / "weights.safetensors")["head.classifier.weight"].dtype is torch.float32


def test_layer_that_needs_our_package_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="must import nothing of ours, but imports search_spaces"):
        export(tmp_path / "bundle", small_network(With(layer="spy")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_mismatch_is_an_error_and_keeps_the_bundle_that_was_there(tmp_path: Path) -> None:
    export(tmp_path / "bundle", small_network())
    before = {path.name: path.read_bytes() for path in (tmp_path / "bundle").iterdir()}
    with pytest.raises(ExportError, match=r"logits of model\.py must equal the trained network's"):
        export(tmp_path / "bundle", small_network(With(layer="turncoat")), overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "bundle").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_layer_that_onnx_cannot_hold_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"cannot be written as ONNX.*export without ONNX"):
        export(tmp_path / "bundle", small_network(With(layer="branching")), with_onnx=True)
    assert list(tmp_path.iterdir()) == []


def test_module_class_without_a_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"define it in a \.py file"):
        export(tmp_path / "bundle", small_network(With(layer="typed at a prompt")))


@pytest.mark.slow
def test_existing_bundle_is_replaced_only_when_asked(tmp_path: Path) -> None:
    first, second = small_network(), small_network(MBConv(kernel_size=5, expand_ratio=2))
    export(tmp_path / "bundle", first)
    (tmp_path / "bundle" / "__pycache__").mkdir()
    with pytest.raises(ExportError, match="already holds a bundle"):
        export(tmp_path / "bundle", second)
    export(tmp_path / "bundle", second, overwrite=True)
    assert Network.from_json((tmp_path / "bundle" / "architecture.json").read_text()) == second
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.slow
def test_what_was_measured_of_a_bundle_stays_when_it_is_replaced(tmp_path: Path) -> None:
    export(tmp_path / "bundle", small_network())
    (tmp_path / "bundle" / "latency-cpu.json").write_text("{}")
    with pytest.raises(ExportError, match="already holds a bundle"):
        export(tmp_path / "bundle", small_network())
    export(tmp_path / "bundle", small_network(MBConv(kernel_size=5, expand_ratio=2)), overwrite=True)
    assert (tmp_path / "bundle" / "latency-cpu.json").read_text() == "{}"


@pytest.mark.slow
def test_empty_folder_and_missing_parents_are_used(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert export(tmp_path / "empty", small_network()).folder == tmp_path / "empty"
    assert export(tmp_path / "a" / "b", small_network()).folder.is_dir()


@pytest.mark.parametrize("overwrite", [False, True])
def test_folder_with_anything_else_is_never_touched(overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ExportError, match=r"holds thesis\.tex"):
        export(tmp_path, small_network(), overwrite=overwrite)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="must be a folder"):
        export(tmp_path / "file", small_network())
    with pytest.raises(ExportError, match="choose"):
        export(tmp_path / "file" / "bundle", small_network())


@contextmanager
def nearly_full_disk() -> Iterator[None]:
    """Files of this process cannot grow beyond 8 kB: writing fails as on a full disk.

    Lifted within the test, since pytest's own output may go to a file.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_disk_that_fills_up_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with nearly_full_disk(), pytest.raises(ExportError, match="a disk with free space"):
        export(tmp_path / "bundle", small_network(num_classes=2000))
    assert list(tmp_path.iterdir()) == []


def test_weights_that_do_not_fit_name_the_tensor(tmp_path: Path) -> None:
    network = small_network()
    weights = trained(network).state_dict()
    name = "head.classifier.bias"
    others = {key: value for key, value in weights.items() if key != name}
    cases = [
        (others, f"{name} is missing"),
        ({**weights, "stage9.weight": torch.zeros(1)}, r"no tensor stage9\.weight"),
        ({**weights, name: torch.zeros(5)}, rf"{name} must have shape \(3,\), but is \(5,\)"),
        ({**weights, name: torch.full((3,), float("nan"))}, f"{name} is not"),
        (b"not safetensors", "cannot be read"),
    ]
    for given, message in cases:
        with pytest.raises(ExportError, match=message):
            export(tmp_path / "bundle", network, weights=given)
    assert list(tmp_path.iterdir()) == []


def test_logits_that_overflow_are_an_error(tmp_path: Path) -> None:
    network = small_network()
    weights = {
        name: tensor * 1e38 if name.endswith("norm.weight") else tensor
        for name, tensor in trained(network).state_dict().items()
    }
    weights = {name: tensor.clamp(-3e38, 3e38) for name, tensor in weights.items()}
    with pytest.raises(ExportError, match="must be finite"):
        export(tmp_path / "bundle", network, weights=weights)


def test_preprocessing_of_other_images_is_refused(tmp_path: Path) -> None:
    network = small_network(in_channels=3)
    with pytest.raises(ExportError, match="resolution=8, but the preprocessing is for resolution=32"):
        export(tmp_path / "bundle", network, preprocessing=PREPROCESSING)
    fitting = replace(PREPROCESSING, reading=Reading(channels=3, resolution=8))
    with pytest.raises(ExportError, match="num_classes=3, but the preprocessing is for num_classes=10"):
        export(tmp_path / "bundle", network, preprocessing=fitting)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": (0.5,)}, "must have 3 values"),
        ({"std": (0.1, 0.0, 0.1)}, "std > 0"),
        ({"mean": (0.1, float("nan"), 0.1)}, "finite"),
    ],
)
def test_preprocessing_states_the_rule_it_violates(change: dict[str, object], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        replace(PREPROCESSING, **change)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"resolution": 8}'])
def test_preprocessing_that_is_none_is_an_error(text: str) -> None:
    with pytest.raises(ExportError, match="a preprocessing must be"):
        Preprocessing.from_json(text)
