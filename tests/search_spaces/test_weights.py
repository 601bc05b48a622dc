import functools
import random
from dataclasses import replace

import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from search_spaces import Bottleneck, Conv, MBConv, SpaceError, SqueezeExcite, Stage, build, reference
from search_spaces.weights import ORDERS, load_weights

from .conftest import make_network

LAYOUTS = (
    ("efficientnet_b0", "timm", "efficientnet_b0"),
    ("tf_efficientnet_v2_b0", "timm", "tf_efficientnetv2_b0"),
    ("mnasnet_small", "timm", "mnasnet_small"),
    ("mobilenet_v1", "timm", "mobilenetv1_100"),
    ("mobilenet_v3_small", "timm", "mobilenetv3_small_100"),
    ("resnet18", "timm", "resnet18"),
    ("resnet50", "timm", "resnet50"),
    ("efficientnet_b0", "torchvision", "efficientnet_b0"),
    ("efficientnet_v2_s", "torchvision", "efficientnet_v2_s"),
    ("mnasnet_b1_050", "torchvision", "mnasnet0_5"),
    ("mobilenet_v2", "torchvision", "mobilenet_v2"),
    ("mobilenet_v3_small", "torchvision", "mobilenet_v3_small"),
)
"""One network of every layout of names: ours, the library, its name there."""


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """On tensors this small threads only wait for each other, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@functools.cache
def _theirs(library, name, num_classes):
    torch.manual_seed(0)
    if library == "timm":
        return timm.create_model(name, pretrained=False, num_classes=num_classes).state_dict()
    return torchvision.models.get_model(name, weights=None, num_classes=num_classes).state_dict()


def theirs(library, name, num_classes=1000):
    """A state dict that a test may change."""
    return {key: tensor.clone() for key, tensor in _theirs(library, name, num_classes).items()}


def ours(name, num_classes=1000):
    return build(replace(reference(name), num_classes=num_classes), seed=1)


def small(**fields):
    """A small module of ours."""
    stages = Stage(op=MBConv(se_ratio=0.25), channels=8, repeats=2), Stage(op=Conv(), channels=12, stride=2)
    return build(make_network(*stages, **fields), seed=1)


def randomised(module):
    """Its state dict, with values of which none is another's."""
    generator = torch.Generator().manual_seed(2)
    return {
        key: torch.rand(tensor.shape, generator=generator) + 0.5
        if tensor.is_floating_point()
        else torch.tensor(7)
        for key, tensor in module.state_dict().items()
    }


def refusal(module, state_dict, **options):
    """The message with which weights are refused; the module must be left as it was, bit by bit."""
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    with pytest.raises(SpaceError) as caught:
        load_weights(module, state_dict, **options)
    after = module.state_dict()
    assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())
    return str(caught.value)


def shuffled(state_dict, seed=0):
    keys = list(state_dict)
    random.Random(seed).shuffle(keys)
    return {key: state_dict[key] for key in keys}


def by_alphabet(state_dict):
    return dict(sorted(state_dict.items()))


def with_prefix(state_dict, prefix):
    return {prefix + key: tensor for key, tensor in state_dict.items()}


def test_our_own_weights_are_loaded_by_name_in_any_order_and_every_bit_of_them():
    module = small()
    wanted = randomised(module)
    names = load_weights(module, by_alphabet(wanted))
    assert names == {key: key for key in wanted}
    assert all(torch.equal(tensor, wanted[key]) for key, tensor in module.state_dict().items())


def test_weights_are_copied_into_the_parameters_that_an_optimiser_holds():
    module = small()
    held = list(module.parameters())
    load_weights(module, randomised(module))
    assert all(one is other for one, other in zip(held, module.parameters(), strict=True))
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in held)


def test_a_prefix_that_all_names_share_is_no_obstacle():
    module = small()
    wanted = randomised(module)
    for prefix in ("module.", "_orig_mod.", "module._orig_mod."):
        prefixed = by_alphabet(with_prefix(wanted, prefix))
        assert load_weights(module, prefixed) == {key: prefix + key for key in wanted}
    module, state_dict = ours("mobilenet_v2"), theirs("timm", "mobilenetv2_100")
    names = load_weights(module, state_dict)
    assert load_weights(module, by_alphabet(with_prefix(state_dict, "module."))) == {
        key: f"module.{name}" for key, name in names.items()
    }


@pytest.mark.parametrize(("name", "library", "their_name"), LAYOUTS)
def test_the_order_of_the_keys_does_not_count_for_known_layouts(name, library, their_name):
    module, state_dict = ours(name), theirs(library, their_name)
    names = load_weights(module, state_dict)
    assert list(names) == list(module.state_dict())
    assert sorted(names.values()) == sorted(state_dict)
    assert load_weights(module, by_alphabet(state_dict)) == names
    assert load_weights(module, load(save(state_dict))) == names
    assert load_weights(module, shuffled(state_dict)) == names


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_order_of_the_keys_changes_what_is_loaded_where(seed):
    module, state_dict = ours("mobilenet_v3_small"), theirs("timm", "mobilenetv3_small_100")
    assert load_weights(module, shuffled(state_dict, seed)) == load_weights(module, state_dict)


def test_each_layer_is_read_from_the_one_at_its_place():
    names = load_weights(ours("efficientnet_b0"), theirs("timm", "efficientnet_b0"))
    assert names["stem.block0.norm.running_var"] == "bn1.running_var"
    assert names["stage1.block0.project.conv.weight"] == "blocks.0.0.conv_pw.weight"
    assert names["stage2.block1.body.expand.conv.weight"] == "blocks.1.1.conv_pw.weight"
    assert names["stage2.block1.body.se.body.expand.bias"] == "blocks.1.1.se.conv_expand.bias"
    assert names["head.classifier.bias"] == "classifier.bias"
    names = load_weights(ours("resnet50"), theirs("torchvision", "resnet50"))
    assert names["stage2.block0.residual.body.conv3.norm.bias"] == "layer2.0.bn3.bias"
    assert names["stage2.block0.residual.shortcut.conv.weight"] == "layer2.0.downsample.0.weight"


def test_a_network_of_ones_own_takes_weights_too():
    network = reference("resnet50", like="timm")
    stages = tuple(replace(stage, op=Bottleneck(se_ratio=1 / 16)) for stage in network.stages)
    network = replace(network, stages=stages, squeeze_excite=SqueezeExcite(width_of="expanded", divisor=8))
    names = load_weights(build(network), by_alphabet(theirs("timm", "seresnet50")))
    assert names["stage1.block0.residual.body.se.body.expand.weight"] == "layer1.0.se.fc2.weight"


def test_no_two_tables_of_siblings_contradict_each_other_where_both_hold():
    for one in ORDERS:
        assert len(set(one)) == len(one)
        for other in ORDERS:
            shared = [name for name in one if name in other]
            is_same = shared == [name for name in other if name in one]
            assert is_same or len(one) != len(other), f"{one} and {other} are equally short"


def test_names_of_no_known_layout_are_taken_in_the_order_of_registration():
    module = small()
    wanted = randomised(module)
    words = {"stem": "zeroth", "stage1": "middle", "stage2": "after", "head": "final", "conv": "weights"}
    renamed = {
        ".".join(words.get(part, part) for part in key.split(".")): tensor for key, tensor in wanted.items()
    }
    names = load_weights(module, renamed)
    assert list(names.values()) == list(renamed)
    assert "order in which they run is unknown" in refusal(module, by_alphabet(renamed))


def test_a_1x1_convolution_stands_for_a_linear_layer_and_the_reverse():
    module, state_dict = ours("mobilenet_v3_small"), theirs("timm", "mobilenetv3_small_100")
    for key, tensor in state_dict.items():
        if key.endswith(("conv_reduce.weight", "conv_expand.weight")):
            state_dict[key] = tensor.flatten(1)
    names = load_weights(module, state_dict)
    assert names["head.hidden.weight"] == "conv_head.weight"
    loaded = module.state_dict()
    assert torch.equal(loaded["head.hidden.weight"], state_dict["conv_head.weight"].flatten(1))
    key = "stage1.block0.se.body.reduce.weight"
    assert torch.equal(loaded[key], state_dict[names[key]][:, :, None, None])


def test_the_count_of_batches_may_be_absent():
    for state_dict in (randomised(small()), theirs("timm", "mobilenetv2_100")):
        module = small() if "stem.block0.conv.weight" in state_dict else ours("mobilenet_v2")
        names = load_weights(module, {key: t for key, t in state_dict.items() if "num_batches" not in key})
        assert set(module.state_dict()) - set(names) == {key for key in module.state_dict() if "num_b" in key}


def test_the_module_keeps_its_dtype():
    checkpoint = {key: tensor.half() for key, tensor in theirs("timm", "mobilenetv2_100").items()}
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        module = ours("mobilenet_v2").to(dtype)
        load_weights(module, checkpoint)
        loaded = module.state_dict()
        assert loaded["stem.block0.conv.weight"].dtype is dtype
        assert torch.equal(loaded["stem.block0.conv.weight"], checkpoint["conv_stem.weight"].to(dtype))
        assert loaded["stem.block0.norm.num_batches_tracked"].dtype is torch.int64


@pytest.mark.parametrize(
    ("name", "library", "their_name", "classifier"),
    [
        ("efficientnet_b0", "timm", "efficientnet_b0", "classifier."),
        ("resnet18", "torchvision", "resnet18", "fc."),
        ("mobilenet_v3_small", "timm", "mobilenetv3_small_100", "classifier."),
        ("mobilenet_v3_small", "torchvision", "mobilenet_v3_small", "classifier.3."),
    ],
)
def test_without_the_classifier_a_network_for_other_classes_is_loaded(name, library, their_name, classifier):
    module, state_dict = ours(name, num_classes=5), theirs(library, their_name)
    bare = {key: tensor for key, tensor in state_dict.items() if not key.startswith(classifier)}
    before = module.get_submodule("head.classifier").weight.clone()
    assert "load with_classifier=False" in refusal(module, state_dict)
    assert "load with_classifier=False" in refusal(module, bare)
    names = load_weights(module, state_dict, with_classifier=False)
    assert names == load_weights(module, bare, with_classifier=False)
    assert set(names.values()) == set(bare)
    assert torch.equal(module.get_submodule("head.classifier").weight, before)


def test_without_the_classifier_our_own_weights_for_other_classes_are_loaded():
    module = small(num_classes=7)
    wanted = randomised(small())
    bare = {key: tensor for key, tensor in wanted.items() if "classifier" not in key}
    assert "load with_classifier=False" in refusal(module, wanted)
    assert "load with_classifier=False" in refusal(module, bare)
    for state_dict in (wanted, bare):
        assert load_weights(module, state_dict, with_classifier=False) == {key: key for key in bare}


def test_without_the_classifier_everything_else_must_fit_all_the_same():
    module = ours("mobilenet_v3_small")
    state_dict = theirs("torchvision", "mobilenet_v3_small")
    bare = {key: tensor for key, tensor in state_dict.items() if not key.startswith("classifier.")}
    message = refusal(module, bare, with_classifier=False)
    assert message.startswith("`head.hidden.weight` (1024, 576) has no counterpart")
    bare = {key: tensor for key, tensor in state_dict.items() if not key.startswith("classifier.3")}
    message = refusal(module, bare | {"second.weight": torch.zeros(3)}, with_classifier=False)
    assert message.startswith("`second.weight` (3,) of the state dict has no place")
    state_dict["classifier.9.weight"] = torch.zeros(3, 1000)
    message = refusal(module, state_dict, with_classifier=False)
    assert message.startswith("`classifier.9.weight` (3, 1000) of the state dict has no place")


@pytest.mark.parametrize(
    ("name", "their_name", "said"),
    [
        (
            "efficientnet_b0",
            "efficientnet_b1",
            "in stage2: `stage2.block0.expand.conv.weight` (96, 16, 1, 1) must have the shape of its "
            "counterpart, but that is `blocks.0.1.conv_dw.weight` (16, 1, 3, 3)",
        ),
        (
            "resnet18",
            "resnet34",
            "in stage2: `stage2.block0.residual.body.conv1.conv.weight` (128, 64, 3, 3)",
        ),
        (
            "resnet50",
            "resnet18",
            "that is `layer1.0.conv1.weight` (64, 64, 3, 3) (layer 3; the network has 107",
        ),
        ("mobilenet_v2", "mobilenetv3_small_100", "in stem: `stem.block0.conv.weight` (32, 3, 3, 3)"),
        ("efficientnet_b0", "efficientnet_lite0", "`blocks.0.0.conv_pw.weight` (16, 32, 1, 1)"),
    ],
)
def test_weights_of_another_network_are_refused_with_the_first_tensor_that_does_not_fit(
    name, their_name, said
):
    assert said in refusal(ours(name), theirs("timm", their_name))


def test_our_own_weights_of_another_network_are_refused_by_name():
    shallow, deep = ours("resnet18"), ours("resnet34")
    first = "`stage1.block2.residual.body.conv1.conv.weight` (64, 64, 3, 3)"
    assert refusal(deep, shallow.state_dict()).startswith(f"{first} is missing from the state dict")
    assert refusal(shallow, deep.state_dict()).startswith(f"{first} of the state dict has no place")
    other = small(stem=Stage(op=Conv(kernel_size=5), channels=8, stride=2)).state_dict()
    assert "`stem.block0.conv.weight` (8, 3, 3, 3) must have" in refusal(small(), other)


def test_too_few_and_too_many_tensors_are_refused():
    module = ours("mobilenet_v2")
    state_dict = theirs("timm", "mobilenetv2_100")
    cut = {key: tensor for key, tensor in state_dict.items() if not key.startswith(("bn2", "classifier"))}
    assert refusal(module, cut).startswith(
        "`head.norm.weight` (1280,) has no counterpart: the state dict has 103"
    )
    cut = {key: tensor for key, tensor in state_dict.items() if key != "bn2.running_var"}
    assert "`head.norm.running_var` (1280,) has no counterpart beside" in refusal(module, cut)
    more = state_dict | {"second.weight": torch.zeros(2, 1000)}
    assert refusal(module, more).startswith("`second.weight` (2, 1000) of the state dict has no place")


def test_a_bias_must_be_there_exactly_where_ours_is():
    module = ours("efficientnet_b0")
    state_dict = theirs("timm", "efficientnet_b0")
    more = state_dict | {"conv_stem.bias": torch.zeros(32)}
    assert "`conv_stem.bias` (32,) of the state dict has no place beside" in refusal(module, more)
    del state_dict["blocks.0.0.se.conv_reduce.bias"]
    assert "`stage1.block0.se.body.reduce.bias` (8,) has no counterpart" in refusal(module, state_dict)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_is_refused_even_in_the_last_tensor(value):
    module = ours("mobilenet_v2")
    state_dict = theirs("timm", "mobilenetv2_100")
    state_dict["classifier.bias"][3] = value
    assert refusal(module, state_dict).startswith("`classifier.bias` must be finite as torch.float32")
    load_weights(module, state_dict, with_classifier=False)


def test_a_value_that_the_modules_dtype_cannot_hold_is_refused():
    module = ours("mobilenet_v2").half()
    state_dict = theirs("timm", "mobilenetv2_100")
    state_dict["bn1.running_var"][0] = 1e6
    assert refusal(module, state_dict).startswith("`bn1.running_var` must be finite as torch.float16")
    state_dict = {key: tensor.float() for key, tensor in theirs("timm", "mobilenetv2_100").items()}
    state_dict["bn1.num_batches_tracked"] = torch.tensor(float("inf"))
    assert refusal(module, state_dict).endswith("leave it out, it may be absent")


def test_tensors_without_plain_values_are_refused():
    module = small()
    key = "head.classifier.weight"
    weight = randomised(module)[key]
    for tensor, said in (
        (weight.to("meta"), "is on meta"),
        (weight.to_sparse(), "torch.sparse_coo"),
        (weight.to(torch.int8), "pass weights that are not quantised"),
        (weight.to(torch.complex64), "is of torch.complex64"),
    ):
        assert said in refusal(module, randomised(module) | {key: tensor})


def test_what_is_no_state_dict_is_refused_with_what_to_pass_instead():
    module = small()
    state_dict = randomised(module)
    for given_, said in (
        ({}, "but is empty"),
        (None, "but got NoneType"),
        ("weights.pt", "but got str: pass what torch.load read"),
        (module, "pass its state_dict()"),
        ({3: state_dict}, "has the key 3"),
        (state_dict | {"stem": None}, "'stem' is of type NoneType"),
        ({"state_dict": state_dict, "epoch": 3}, "pass checkpoint['state_dict']"),
        (
            {"epoch": 3, "model": state_dict, "ema": state_dict},
            "pass checkpoint['model'] or checkpoint['ema']",
        ),
        ({"model": module}, "pass checkpoint['model']"),
    ):
        assert said in refusal(module, given_)


def test_what_cannot_hold_weights_is_refused():
    state_dict = randomised(small())
    with pytest.raises(SpaceError, match="what build"):
        load_weights(reference("resnet18"), state_dict)
    with pytest.raises(SpaceError, match="neither parameters nor buffers"):
        load_weights(torch.nn.ReLU(), state_dict)
    with pytest.raises(SpaceError, match="meta device"):
        load_weights(small().to("meta"), state_dict)
    with pytest.raises(SpaceError, match="needs a linear layer last"):
        load_weights(small().get_submodule("stem"), state_dict, with_classifier=False)
