from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file

import nas
from nas.cli.main import main
from nas.errors import RecipeError, TrainingError
from nas.full_training.learner import Learner
from nas.full_training.ranks import OneRank
from nas.full_training.start import find_start, with_weights
from nas.full_training.trained_parts import groups_by_depth
from nas.full_training.training import FullTraining
from nas.starting_weights import find_weights
from search_spaces import build, reference, small

NETWORK = small(resolution=32, num_classes=3).reference
FAST = nas.TrainOptions(device="cpu", has_onnx=False)
LITE0 = "efficientnet_lite0"


def images(classes=2, channels=3, count=60, names=(), side=32):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    pixels = rng.integers(0, 120, (count, side, side, channels), dtype=np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        image[:, :, label % channels] += 20 + 20 * int(label)
    return nas.from_arrays(pixels, labels, classes=names) if names else nas.from_arrays(pixels, labels)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    recipe = nas.RECIPES["small"].changed(epochs=1, precision="float32")
    data = images(3, names=("red", "green", "blue"))
    out = tmp_path_factory.mktemp("trained") / "run"
    return nas.train(NETWORK, data=data, recipe=recipe, out=out, options=FAST)


def prepared(network, data, out, **given):
    (found,) = FullTraining(network=network, data=data, **given).prepare(out)
    return found


def said(training, text):
    return any(text in note for note in training.notes)


# Published weights


def test_lite0_of_the_package_computes_what_timm_does_with_the_same_weights(tmp_path):
    training = prepared(LITE0, images(), tmp_path, weights=LITE0)
    assert training.start.network.padding == "same"
    start = with_weights(find_start(LITE0), LITE0)
    ours = build(start.network, seed=0)
    ours.load_state_dict(start.weights)
    theirs = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    package = find_weights(LITE0).tensors.values()  # both register their layers in the order they run
    theirs.load_state_dict(dict(zip(theirs.state_dict(), package, strict=True)))
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, other = ours.eval()(x), theirs.eval()(x)
    assert torch.allclose(one, other, atol=1e-4)
    assert one.std() > 0.5  # logits that say something


def test_images_are_normalised_as_tensorflow_did_for_lite0(tmp_path):
    training = prepared(LITE0, images(), tmp_path, weights=LITE0)
    assert training.data.mean == (127 / 255,) * 3
    assert training.data.std == (128 / 255,) * 3
    assert said(training, "TensorFlow's code of EfficientNet-Lite")
    assert said(training, "bicubic")


def test_grey_images_are_normalised_by_the_mean_over_the_channels(tmp_path):
    training = prepared(LITE0, images(channels=1), tmp_path, weights=LITE0)
    assert training.data.mean == pytest.approx((127 / 255,))


def test_weights_without_a_recipe_are_fine_tuned(tmp_path):
    training = prepared(LITE0, images(), tmp_path, weights=LITE0)
    assert training.recipe.name == "finetune"
    assert said(training, "the recipe is finetune")


@pytest.mark.parametrize(("library", "name"), [("timm", "mobilenetv2_100"), ("torchvision", "mobilenet_v2")])
def test_a_published_network_is_as_those_trained_it_whose_names_its_weights_have(library, name, tmp_path):
    make = timm.create_model if library == "timm" else torchvision.models.get_model
    state = make(name).state_dict()
    torch.save(state, tmp_path / "w.pth")
    training = prepared("mobilenet_v2", images(), tmp_path / "r", weights=tmp_path / "w.pth")
    assert training.start.network.norm_eps == 1e-5
    assert said(training, "the network is as its weights were trained: norm_eps 1e-05 in place of 0.001")


def test_a_described_network_keeps_its_padding_and_the_difference_is_said(tmp_path):
    training = prepared(reference(LITE0), images(), tmp_path, weights=LITE0)
    assert training.start.network.padding == "symmetric"
    assert said(training, "the weights were trained with padding same in place of symmetric")


@pytest.mark.parametrize("name", ["efficientnet_lite1", "efficientnet_b0", "resnet18"])
def test_published_weights_of_another_network_are_refused(name, tmp_path):
    with pytest.raises(TrainingError, match=f"must be those of {name}") as error:
        prepared(name, images(), tmp_path, weights=LITE0)
    assert error.value.field == "weights"


def test_weights_of_the_same_shapes_and_another_activation_are_refused(tmp_path):
    swish = replace(reference(LITE0), activation="swish")
    with pytest.raises(TrainingError, match="another network, whose layers have the same shapes"):
        prepared(swish, images(), tmp_path, weights=LITE0)


# Classes and channels


@pytest.mark.parametrize("recipe", ["finetune", "linear_probe"])
def test_weights_of_other_classes_get_a_new_classifier_of_zeros(recipe, trained, tmp_path):
    training = prepared(trained.folder, images(2), tmp_path, recipe=recipe)
    before = load_file(trained.bundle / "weights.safetensors")
    after = training.start.weights
    assert after["head.classifier.weight"].shape[0] == 2
    assert not after["head.classifier.weight"].any()
    assert not after["head.classifier.bias"].any()
    assert all(torch.equal(after[name], before[name]) for name in before if "classifier" not in name)
    assert said(training, "left out for a new one, of zeros: they are for num_classes=3")


def test_as_many_classes_of_other_names_get_a_new_classifier(trained, tmp_path):
    data = images(3, names=("cat", "dog", "red"))
    training = prepared(trained.folder, data, tmp_path, recipe="finetune")
    before = load_file(trained.bundle / "weights.safetensors")["head.classifier.weight"]
    assert not torch.equal(training.start.weights["head.classifier.weight"], before)
    assert said(training, "cat, dog, red")


def test_a_classifier_whose_classes_are_not_named_is_kept_and_that_is_said(trained, tmp_path):
    weights = load_file(trained.bundle / "weights.safetensors")
    training = prepared(NETWORK, images(3), tmp_path, recipe="finetune", weights=weights)
    kept = training.start.weights["head.classifier.weight"]
    assert torch.equal(kept, weights["head.classifier.weight"])
    assert said(training, "the classifier is kept")


def test_weights_without_a_classifier_get_one(trained, tmp_path):
    weights = load_file(trained.bundle / "weights.safetensors")
    headless = {name: one for name, one in weights.items() if "classifier" not in name}
    training = prepared(NETWORK, images(3), tmp_path, recipe="finetune", weights=headless)
    assert training.start.weights["head.classifier.weight"].shape[0] == 3
    assert said(training, "they have none")


def test_the_first_layer_sums_its_weights_for_grey_images(trained, tmp_path):
    training = prepared(trained.folder, images(3, channels=1), tmp_path, recipe="finetune")
    before = load_file(trained.bundle / "weights.safetensors")["stem.block0.conv.weight"]
    assert torch.equal(training.start.weights["stem.block0.conv.weight"], before.sum(1, keepdim=True))
    assert said(training, "1 channels in place of 3")


def test_grey_weights_give_colours_what_they_gave_grey(tmp_path):
    grey = replace(NETWORK, in_channels=1)
    state = build(grey, seed=2).state_dict()
    training = prepared(NETWORK, images(3), tmp_path, recipe="finetune", weights=state)
    one, three = build(grey, seed=0), build(training.start.network, seed=0)
    one.load_state_dict(state)
    three.load_state_dict(training.start.weights)
    x = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        first = one.eval()(x)
        second = three.eval()(x.expand(2, 3, 16, 16))
    assert torch.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("data", [images(2), images(3, channels=1, names=("red", "green", "blue"))])
def test_fixres_refuses_what_it_would_not_train(data, trained, tmp_path):
    with pytest.raises(TrainingError, match="finetune") as error:
        prepared(trained.folder, data, tmp_path, recipe="fixres")
    assert error.value.field == "weights"


@pytest.mark.slow
def test_a_transfer_is_trained_tested_and_exported_and_continues(trained, tmp_path):
    data = images(2, channels=1)
    recipe = nas.RECIPES["finetune"].changed(epochs=2, freeze="stage1", layer_decay=0.7, precision="float32")
    found = nas.train(trained.folder, data=data, recipe=recipe, out=tmp_path, options=FAST)
    again = nas.train(trained.folder, data=data, recipe=recipe, out=tmp_path, options=FAST)
    assert found.accuracy == again.accuracy
    before = load_file(trained.bundle / "weights.safetensors")
    after = load_file(found.bundle / "weights.safetensors")
    frozen = [name for name in before if name.startswith(("stem.", "stage1.")) and "block0.conv" not in name]
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert not torch.equal(
        before["stage2.block0.expand.conv.weight"], after["stage2.block0.expand.conv.weight"]
    )


# Frozen stages and rates by depth


def learner(recipe, network=NETWORK):
    data = images(count=100)  # 64 of them for training
    return Learner(network, recipe, data, OneRank(device=torch.device("cpu")), seed=0, precision="float32")


def test_frozen_stages_keep_weights_and_statistics():
    recipe = nas.RECIPES["finetune"].changed(freeze="stage2", epochs=2, batch_size=8, drop_path=0.5)
    one = learner(recipe)
    before = {name: tensor.clone() for name, tensor in one.module.state_dict().items()}
    x, y = torch.randn(8, 3, 32, 32), torch.arange(8) % 3
    for step in range(3):
        one.take(step, (x, y))
    changed = {
        name for name, tensor in one.module.state_dict().items() if not torch.equal(before[name], tensor)
    }
    assert {name.partition(".")[0] for name in changed} == {
        name for name, _ in one.module.named_children() if name not in ("stem", "stage1", "stage2")
    }
    assert not one.module.stem.training
    assert one.module.head.training


@pytest.mark.parametrize("name", ["stage9", "stage", "layer1", "head", "stage2 "])
def test_an_unknown_part_to_freeze_is_refused_with_the_list(name, trained, tmp_path):
    recipe = nas.RECIPES["finetune"].changed(freeze=name)
    with pytest.raises(RecipeError, match="stem, stage1, stage2") as error:
        prepared(trained.folder, images(2), tmp_path, recipe=recipe)
    assert error.value.field == "freeze"


def test_frozen_random_weights_are_refused():
    with pytest.raises(RecipeError, match="starts from scratch") as error:
        nas.RECIPES["small"].changed(freeze="stage1")
    assert error.value.field == "freeze"


@pytest.mark.parametrize("change", [{"freeze": "stage1"}, {"layer_decay": 0.5}])
def test_a_linear_probe_has_nothing_else_to_freeze_or_slow(change):
    with pytest.raises(RecipeError, match="trains=all") as error:
        nas.RECIPES["linear_probe"].changed(**change)
    assert error.value.field in change


@pytest.mark.parametrize("value", [0, -1, 1.5, float("nan"), True, "x"])
def test_a_decay_of_the_rate_is_a_share(value):
    with pytest.raises(RecipeError) as error:
        nas.RECIPES["finetune"].changed(layer_decay=value)
    assert error.value.field == "layer_decay"


def test_each_block_has_its_share_of_the_rate_and_the_head_the_whole():
    recipe = nas.RECIPES["finetune"].changed(layer_decay=0.5)
    module = build(NETWORK, seed=0)
    scales = {
        id(parameter): group["lr_scale"]
        for group in groups_by_depth(module, recipe)
        for parameter in group["params"]
    }
    assert len(scales) == len(list(module.parameters()))
    blocks = [block for name, stage in module.named_children() if name.startswith("stage") for block in stage]
    assert scales[id(module.head.classifier.weight)] == 1.0
    assert scales[id(next(blocks[-1].parameters()))] == 0.5
    assert scales[id(next(module.stem.parameters()))] == 0.5 ** (len(blocks) + 1)


def test_rates_by_depth_are_those_of_timm():
    """timm's own grouping of its MobileNetV3 has the same shares; its head's layers are in one, as ours."""
    from timm.optim import param_groups_layer_decay

    theirs = timm.create_model("mobilenetv3_small_100")
    expected = sorted({group["lr_scale"] for group in param_groups_layer_decay(theirs, layer_decay=0.8)})
    ours = build(reference("mobilenet_v3_small"), seed=0)
    recipe = nas.RECIPES["finetune"].changed(layer_decay=0.8)
    found = sorted({group["lr_scale"] for group in groups_by_depth(ours, recipe)})
    assert found[-2:] == pytest.approx(expected[-2:])


def test_the_rate_of_a_step_is_scaled_by_depth():
    recipe = nas.RECIPES["finetune"].changed(layer_decay=0.5, epochs=2, batch_size=8)
    one = learner(recipe)
    one.take(0, (torch.randn(8, 3, 32, 32), torch.arange(8) % 3))
    rates = {group["lr"] / group["lr_scale"] for group in one.optimizer.param_groups}
    assert max(rates) == pytest.approx(min(rates)) == pytest.approx(one.rate(0))


def test_a_recipe_without_the_later_fields_keeps_its_fingerprint():
    recipe = nas.RECIPES["finetune"]
    changed = [recipe.changed(freeze="stage1"), recipe.changed(layer_decay=0.9)]
    assert len({recipe.fingerprint, *(one.fingerprint for one in changed)}) == 3
    assert nas.RECIPES["small"].fingerprint == "7ef08a6bc3a8bb7b"


# The command


def test_a_recipe_for_fresh_weights_says_what_it_may_do_to_given_ones(trained, tmp_path):
    training = prepared(trained.folder, images(3), tmp_path, recipe="small", weights=trained.folder)
    assert said(training, "finetune is for weights")


def test_the_command_says_all_that_was_decided(tmp_path, capsys):
    data = images(2, count=60)
    np.savez(tmp_path / "d.npz", train_images=data.train.images, train_labels=data.train.labels)
    words = (
        "--weights",
        LITE0,
        "--freeze",
        "stage5",
        "--layer-decay",
        "0.9",
        "--epochs",
        "1",
        "--batch-size",
        "8",
    )
    code = main(["train", LITE0, "--data", str(tmp_path / "d.npz"), "--resolution", "32", *words, "--dry-run",
                 "--out", str(tmp_path / "r")])  # fmt: skip
    printed = capsys.readouterr()
    text = " ".join((printed.err + printed.out).split())
    assert code == 0
    assert "frozen with their statistics: stem, stage1" in text
    assert "apache-2.0" in text


@pytest.mark.parametrize(
    "words",
    [
        ("--weights", "timm:nope"),
        ("--weights", "efficientnet_lite2"),
        ("--weights", "nothere.pth"),
        ("--weights", "efficientnet_lite0", "--freeze", "stage8"),
        ("--weights", "efficientnet_lite0", "--recipe", "small", "--freeze", "stage1"),
        ("--recipe", "finetune"),
    ],
)
def test_a_mistake_about_weights_is_one_line(words, tmp_path, capsys):
    data = images(2)
    np.savez(tmp_path / "d.npz", train_images=data.train.images, train_labels=data.train.labels)
    code = main(["train", LITE0, "--data", str(tmp_path / "d.npz"), *words, "--out", str(tmp_path / "r")])
    err = capsys.readouterr().err
    assert code == 2
    assert err.splitlines()[-1].startswith("nas: ")
    assert "Traceback" not in err
    assert not (tmp_path / "r").exists()


def test_safetensors_of_a_sorted_package_layout_load(tmp_path):
    state = dict(sorted(find_weights(LITE0).tensors.items()))
    save_file({name: one.contiguous() for name, one in state.items()}, tmp_path / "w.safetensors")
    training = prepared(LITE0, images(), tmp_path / "r", weights=tmp_path / "w.safetensors")
    assert training.start.network.padding == "same"
    assert training.data.mean == (127 / 255,) * 3
