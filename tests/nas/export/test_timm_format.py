import importlib.util
import json
import math
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from timm.layers import DropPath
from timm.models import create_model
from torch import nn

import nas
from nas.cli.main import main
from nas.errors import ExportError
from nas.export.timm_format import export_timm, timm_arguments
from nas.trial import Evaluation, Metric
from search_spaces import (
    BasicBlock,
    Conv,
    DepthwiseSeparable,
    FusedMBConv,
    Head,
    Identity,
    MBConv,
    Network,
    SqueezeExcite,
    Stage,
    build,
    cost,
    efficientnet,
    mnasnet,
)
from search_spaces.layers import ResidualBlock
from search_spaces.notation import parse

V3 = SqueezeExcite(width_of="expanded", divisor=8, activation="relu", gate="hard_sigmoid")

PUBLISHED = {
    "mnasnet-a1": parse(
        (
            "r1_k3_s11_e1_i32_o16_noskip",
            "r2_k3_s22_e6_i16_o24",
            "r3_k5_s22_e3_i24_o40_se0.25",
            "r4_k3_s22_e6_i40_o80",
            "r2_k3_s11_e6_i80_o112_se0.25",
            "r3_k5_s22_e6_i112_o160_se0.25",
            "r1_k3_s11_e6_i160_o320",
        ),
        activation="relu",
    ),
    "mnasnet-b1": parse(
        (
            "r1_k3_s11_e1_i32_o16_noskip",
            "r3_k3_s22_e3_i16_o24",
            "r3_k5_s22_e3_i24_o40",
            "r3_k5_s22_e6_i40_o80",
            "r2_k3_s11_e6_i80_o96",
            "r4_k5_s22_e6_i96_o192",
            "r1_k3_s11_e6_i192_o320_noskip",
        ),
        activation="relu",
    ),
    "mnasnet-small": parse(
        (
            "r1_k3_s11_e1_i16_o8",
            "r1_k3_s22_e3_i8_o16",
            "r2_k3_s22_e6_i16_o16",
            "r4_k5_s22_e6_i16_o32_se0.25",
            "r3_k3_s11_e6_i32_o32_se0.25",
            "r3_k5_s22_e6_i32_o88_se0.25",
            "r1_k3_s11_e6_i88_o144",
        ),
        stem=8,
        head=Head(dropout=0.0),
        activation="relu",
    ),
    "efficientnet-b0": parse(
        (
            "r1_k3_s11_e1_i32_o16_se0.25",
            "r2_k3_s22_e6_i16_o24_se0.25",
            "r2_k5_s22_e6_i24_o40_se0.25",
            "r3_k3_s22_e6_i40_o80_se0.25",
            "r3_k5_s11_e6_i80_o112_se0.25",
            "r4_k5_s22_e6_i112_o192_se0.25",
            "r1_k3_s11_e6_i192_o320_se0.25",
        ),
        drop_path_rate=0.2,
        padding="same",
    ),
    "efficientnetv2-b0": parse(
        (
            "r1_k3_s1_e1_i32_o16_c1",
            "r2_k3_s2_e4_i16_o32_c1",
            "r2_k3_s2_e4_i32_o48_c1",
            "r3_k3_s2_e4_i48_o96_se0.25",
            "r5_k3_s1_e6_i96_o112_se0.25",
            "r8_k3_s2_e6_i112_o192_se0.25",
        ),
        drop_path_rate=0.2,
    ),
    "efficientnetv2-s": parse(
        (
            "r2_k3_s1_e1_i24_o24_c1",
            "r4_k3_s2_e4_i24_o48_c1",
            "r4_k3_s2_e4_i48_o64_c1",
            "r6_k3_s2_e4_i64_o128_se0.25",
            "r9_k3_s1_e6_i128_o160_se0.25",
            "r15_k3_s2_e6_i160_o256_se0.25",
        ),
        stem=24,
        resolution=384,
        drop_path_rate=0.2,
    ),
    "mobilenetv3-large": parse(
        [
            ["ds_r1_k3_s1_e1_c16_nre"],
            ["ir_r1_k3_s2_e4_c24_nre", "ir_r1_k3_s1_e3_c24_nre"],
            ["ir_r3_k5_s2_e3_c40_se0.25_nre"],
            ["ir_r1_k3_s2_e6_c80", "ir_r1_k3_s1_e2.5_c80", "ir_r2_k3_s1_e2.3_c80"],
            ["ir_r2_k3_s1_e6_c112_se0.25"],
            ["ir_r3_k5_s2_e6_c160_se0.25"],
        ],
        stem=16,
        head=Head(channels=960, hidden=1280),
        activation="hard_swish",
        drop_path_rate=0.2,
        squeeze_excite=V3,
    ),
    "mobilenetv3-small": parse(
        [
            ["ds_r1_k3_s2_e1_c16_se0.25_nre"],
            ["ir_r1_k3_s2_e4.5_c24_nre", "ir_r1_k3_s1_e3.67_c24_nre"],
            ["ir_r1_k5_s2_e4_c40_se0.25", "ir_r2_k5_s1_e6_c40_se0.25"],
            ["ir_r2_k5_s1_e3_c48_se0.25"],
            ["ir_r3_k5_s2_e6_c96_se0.25"],
        ],
        stem=16,
        head=Head(channels=576, hidden=1024),
        activation="hard_swish",
        squeeze_excite=V3,
    ),
}

TIMM_MODELS = {
    "mnasnet-a1": "semnasnet_100",
    "mnasnet-b1": "mnasnet_100",
    "mnasnet-small": "mnasnet_small",
    "efficientnet-b0": "tf_efficientnet_b0",
    "efficientnetv2-b0": "tf_efficientnetv2_b0",
    "efficientnetv2-s": "tf_efficientnetv2_s",
    "mobilenetv3-large": "mobilenetv3_large_100",
    "mobilenetv3-small": "mobilenetv3_small_100",
}


def sampled(make, seed):
    space = make(width=0.5, num_classes=20)
    network = space.decode(space.sample(np.random.default_rng(seed)))
    return replace(network, resolution=64, drop_path_rate=0.1)


def holds_gated_convolution(network):
    """Whether it has what timm has no word for: a plain convolution with squeeze-and-excitation."""
    return any(isinstance(stage.op, Conv) and stage.op.se_ratio for stage in network.stages)


EFFICIENTNETS = {f"efficientnet {seed}": sampled(efficientnet, seed) for seed in range(12)}
MNASNETS = {f"mnasnet {seed}": sampled(mnasnet, seed) for seed in range(24)}
SAMPLED = {
    **EFFICIENTNETS,
    **{name: network for name, network in MNASNETS.items() if not holds_gated_convolution(network)},
}


def network_of(*stages, **fields):
    values = {
        "stem": Stage(op=Conv(), channels=16, stride=2),
        "head": Head(channels=32),
        "num_classes": 5,
        "resolution": 32,
        "drop_path_rate": 0.1,
    }
    return Network(stages=stages, **{**values, **fields})


def stage(op, channels=16, **fields):
    return Stage(op=op, channels=channels, **fields)


SE = MBConv(expand_ratio=4, se_ratio=0.25)
UNUSUAL = {
    "separable with activation": network_of(
        stage(DepthwiseSeparable(is_linear=False, skip="none", se_ratio=0.5), repeats=2)
    ),
    "convolutions with and without skip": network_of(
        stage(Conv(skip="identity", activation="relu"), repeats=2),
        stage(Conv(kernel_size=1)),
        stage(FusedMBConv(expand_ratio=1, skip="none")),
        stage(FusedMBConv(expand_ratio=1), repeats=2),
    ),
    "skip left out": network_of(stage(SE, repeats=2), stage(MBConv(skip="none"), repeats=2)),
    "fused squeeze": network_of(stage(FusedMBConv(se_ratio=0.25), 24, repeats=2, stride=2)),
    "large kernels": network_of(
        stage(MBConv(kernel_size=7)), stem=Stage(op=Conv(kernel_size=5), channels=8, stride=2), padding="same"
    ),
    "output stride of 128": network_of(*(stage(SE, stride=2) for _ in range(6)), resolution=256),
    "absent stages": network_of(
        stage(SE, 24, repeats=0, stride=2), stage(SE), stage(SE, 10, repeats=0), stage(SE, 24, stride=2)
    ),
    "no head": network_of(stage(SE), head=Head(channels=0, dropout=0.0)),
    "own norm": network_of(stage(SE), norm_eps=1e-5, norm_momentum=0.1, in_channels=1),
    "squeeze of MobileNetV3 without its head": network_of(
        stage(MBConv(expand_ratio=1, se_ratio=0.5)),
        squeeze_excite=SqueezeExcite(gate="hard_sigmoid", activation="gelu", divisor=8, width_of="expanded"),
    ),
    "head of MobileNetV3 without its squeeze": network_of(
        stage(SE, repeats=2), stage(MBConv(expand_ratio=3), 24), head=Head(channels=40, hidden=48)
    ),
    "channels that are no multiples of 8": network_of(
        stage(MBConv(expand_ratio=2), 12, repeats=2),
        stage(FusedMBConv(expand_ratio=1), 13),
        stem=Stage(op=Conv(), channels=20, stride=2),
        head=Head(channels=30),
    ),
    "hidden layer alone": network_of(stage(SE), head=Head(channels=0, hidden=48), squeeze_excite=V3),
    **{
        f"all in {kind}": network_of(stage(SE), activation=kind, head=Head(channels=24, hidden=16))
        for kind in ("relu", "relu6", "swish", "hard_swish", "gelu", "sigmoid", "hard_sigmoid")
    },
}
BUILDABLE = {**PUBLISHED, **SAMPLED, **UNUSUAL}


def exported(network, folder):
    """The module that was written, imported anew."""
    export_timm(folder, network)
    spec = importlib.util.spec_from_file_location(f"timm_model_{network.digest}", folder / "timm_model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def macs_of(model, network):
    """Multiply-adds of convolutions and linear layers for one image."""
    total = 0

    def count(layer, _, out):
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            total += out.numel() * layer.in_channels // layer.groups * math.prod(layer.kernel_size)
        else:
            total += out.numel() * layer.in_features

    handles = [
        layer.register_forward_hook(count)
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    device = next(model.parameters()).device
    with torch.no_grad():
        model.eval()(
            torch.zeros(1, network.in_channels, network.resolution, network.resolution, device=device)
        )
    for handle in handles:
        handle.remove()
    return total


def trained(network):
    """A network whose norms have seen images, so that evaluation differs from initialisation."""
    module = build(network, seed=0)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for name, tensor in module.named_parameters():
            if name.endswith("bias"):
                tensor.normal_(0, 0.1)
        for _ in range(2):
            module(torch.randn(4, network.in_channels, network.resolution, network.resolution))
    return module.eval()


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small networks on a busy machine are faster so."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", BUILDABLE)
def test_timm_builds_a_network_of_the_same_costs(name, tmp_path):
    network = BUILDABLE[name]
    with torch.device("meta"):
        model = exported(network, tmp_path / "timm").build()
    assert sum(parameter.numel() for parameter in model.parameters()) == cost(network).params
    assert macs_of(model, network) == cost(network).macs


def test_networks_with_gated_convolutions_are_refused_and_no_others_of_the_spaces():
    refused = [name for name, network in MNASNETS.items() if name not in SAMPLED]
    assert 0 < len(refused) < len(MNASNETS) - 8
    for name in refused:
        with pytest.raises(ExportError, match=r"se_ratio=0.25 of Conv\(.*in stage[1-7]"):
            timm_arguments(MNASNETS[name])


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_are_timms_own(name):
    with torch.device("meta"):
        model = create_model(TIMM_MODELS[name])
    arguments = timm_arguments(PUBLISHED[name])
    assert arguments.params == sum(parameter.numel() for parameter in model.parameters())
    assert type(model).__name__ == arguments.model
    assert model.pretrained_cfg["num_classes"] == arguments.num_classes


@pytest.mark.parametrize("name", [*list(SAMPLED)[::3], *UNUSUAL, "mnasnet-small", "mobilenetv3-small"])
def test_our_weights_give_the_same_logits_in_timms_model(name, tmp_path):
    network = BUILDABLE[name]
    ours = trained(network)
    save_file(ours.state_dict(), tmp_path / "weights.safetensors")
    theirs = exported(network, tmp_path / "timm").load(str(tmp_path / "weights.safetensors"))
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(
        (2, network.in_channels, network.resolution, network.resolution), generator=generator
    )
    with torch.inference_mode():
        expected, found = ours(images), theirs(images)
    assert not theirs.training
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", BUILDABLE)
def test_rates_strides_and_norms_are_carried_over(name, tmp_path):
    network = BUILDABLE[name]
    with torch.device("meta"):
        ours, theirs = build(network), exported(network, tmp_path / "timm").build()
    rates = [block.drop_rate for block in ours.modules() if isinstance(block, ResidualBlock)]
    found = [
        block.drop_path.drop_prob if isinstance(block.drop_path, DropPath) else 0.0
        for block in theirs.modules()
        if getattr(block, "has_skip", False)
    ]
    assert found == pytest.approx(rates)
    assert theirs.drop_rate == network.head.dropout
    norms = [norm for norm in theirs.modules() if isinstance(norm, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(network.norm_eps, network.norm_momentum)}
    assert all(conv.dilation == (1, 1) for conv in theirs.modules() if isinstance(conv, nn.Conv2d))


def test_the_files_say_what_the_network_is(tmp_path):
    network = PUBLISHED["mobilenetv3-large"]
    written = export_timm(tmp_path / "timm", network)
    assert sorted(path.name for path in (tmp_path / "timm").iterdir()) == sorted(written.files)
    assert written.size_bytes == sum(path.stat().st_size for path in (tmp_path / "timm").iterdir())
    data = json.loads((tmp_path / "timm" / "timm.json").read_text())
    assert data["network"] == network.digest
    assert (data["params"], data["macs"]) == (cost(network).params, cost(network).macs)
    assert data["model"] == "MobileNetV3"
    assert data["arch_def"][0] == ["ds_r1_k3_s1_c16_nre"]
    assert data["arch_def"][-1] == ["cn_r1_k1_s1_c960"]
    assert data["state_dict"] == list(build(network).state_dict())
    source = (tmp_path / "timm" / "timm_model.py").read_text()
    assert "search_spaces" not in source
    assert "import nas" not in source
    assert network.digest in source


@pytest.mark.slow
def test_exporting_does_not_need_timm(tmp_path):
    program = (
        "import sys; sys.modules['timm'] = None\n"
        "from nas.export.timm_format import export_timm\n"
        "from search_spaces import efficientnet\n"
        f"export_timm({str(tmp_path / 'timm')!r}, efficientnet().reference)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_export_is_replaced_only_when_asked_and_anything_else_never(tmp_path):
    network = UNUSUAL["no head"]
    export_timm(tmp_path / "timm", network)
    with pytest.raises(ExportError, match="already holds"):
        export_timm(tmp_path / "timm", network)
    export_timm(tmp_path / "timm", UNUSUAL["own norm"], overwrite=True)
    assert UNUSUAL["own norm"].digest in (tmp_path / "timm" / "timm.json").read_text()
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ExportError, match=r"holds thesis\.tex"):
        export_timm(tmp_path, network, overwrite=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnOp:
    """A user's op."""

    def layers(self, context):
        return context.convolution(context.out_channels, stride=context.stride)


STEM = Stage(op=Conv(), channels=16, stride=2)
V3_HEAD = Head(channels=24, hidden=16)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (network_of(stage(SE, repeats=0)), "at least one stage with blocks"),
        (network_of(stage(SE), stem=replace(STEM, stride=1)), "stride=2, but got stride=1 in stem"),
        (network_of(stage(SE), stem=replace(STEM, repeats=2)), "repeats=1, but got repeats=2 in stem"),
        (network_of(stage(SE), stem=replace(STEM, op=MBConv())), "one Conv, but got op=MBConv.* in stem"),
        (network_of(stage(SE), stem=replace(STEM, op=OwnOp())), "one Conv, but got op=OwnOp.* in stem"),
        (
            network_of(stage(SE), stem=replace(STEM, op=Conv(se_ratio=0.25))),
            "se_ratio=0, but got se_ratio=0.25 in stem",
        ),
        (
            network_of(stage(SE), stem=replace(STEM, op=Conv(activation="relu"))),
            "activation, swish, in the stem, but got activation='relu' in stem",
        ),
        (
            network_of(stage(SE), stem=replace(STEM, op=Conv(skip="pool")), in_channels=16),
            "without pooling, but got skip='pool' in stem",
        ),
        (
            network_of(stage(SE), stem=replace(STEM, op=Conv(kernel_size=5)), head=V3_HEAD),
            "kernel_size=3 where .* but got kernel_size=5 in stem",
        ),
        (
            network_of(*(stage(SE, stride=2) for _ in range(5)), resolution=64, head=V3_HEAD),
            "strides of 32 in all before a hidden layer, but got 64 in head",
        ),
        (network_of(stage(SE), stage(OwnOp())), "op=OwnOp.* in stage2"),
        (network_of(stage(SE), stage(Identity())), "op=Identity.* in stage2"),
        (network_of(stage(SE), stage(BasicBlock())), "op=BasicBlock.* in stage2"),
        (network_of(stage(MBConv(skip="pool"))), "skip='pool'.* in stage1"),
        (network_of(stage(Conv(se_ratio=0.25))), "se_ratio=0.25.* in stage1"),
        (network_of(stage(FusedMBConv(expand_ratio=1, se_ratio=0.25))), "se_ratio=0.25.* in stage1"),
        (network_of(stage(MBConv(activation="gelu"))), "activation='gelu'.* in stage1"),
        (
            network_of(stage(SE, 20), stage(MBConv(expand_ratio=3), 20)),
            "64 hidden channels where 20 arrive, but they are 60 in stage2",
        ),
        (
            network_of(stage(MBConv(expand_ratio=3), 20, repeats=2)),
            "64 hidden channels where 20 arrive, but they are 60 in stage1",
        ),
        (
            network_of(stage(MBConv(expand_ratio=1), 12), stage(FusedMBConv(expand_ratio=3), 12)),
            "40 hidden channels where 12 arrive, but they are 36 in stage2",
        ),
        (
            network_of(stage(MBConv(expand_ratio=1), 14), stage(MBConv(expand_ratio=8, se_ratio=0.25))),
            "4 squeezed channels where 14 arrive, but they are 3 in stage2",
        ),
        (
            network_of(stage(MBConv(expand_ratio=4, se_ratio=0.01))),
            "0 squeezed channels where 16 arrive, but they are 1 in stage1",
        ),
        (
            network_of(stage(SE), squeeze_excite=V3),
            "8 squeezed channels where 16 arrive, but they are 16 in stage1",
        ),
    ],
)
def test_what_timm_cannot_build_is_refused_with_its_place(network, message, tmp_path):
    with pytest.raises(ExportError, match=f"timm .*{message}.*as a bundle"):
        export_timm(tmp_path / "timm", network)
    assert list(tmp_path.iterdir()) == []


class Initialised:
    """Measures the share of positive logits of the untrained network, and gives its weights."""

    fingerprint = "initialised"

    def prepare(self):
        pass

    def evaluate(self, candidate):
        module = build(candidate.network, seed=candidate.job.seed).eval()
        with torch.no_grad():
            logits = module(torch.ones(1, 3, 8, 8))
        metrics = (Metric(name="accuracy", value=float((logits > 0).float().mean()), unit="fraction"),)
        return Evaluation(metrics=metrics, weights=lambda: save(module.state_dict()))


@pytest.fixture(scope="module")
def study(small_space, tmp_path_factory):
    return nas.search(
        small_space,
        evaluator=Initialised(),
        controller="random",
        executor="inline",
        trials=4,
        out=tmp_path_factory.mktemp("study"),
    )


def said(capsys, *words):
    capsys.readouterr()
    assert main(words) == 0
    return json.loads(capsys.readouterr().out)


def complaint(capsys, *words):
    capsys.readouterr()
    assert main(words) == 2
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text


@pytest.mark.slow
def test_the_best_trial_goes_to_timm_with_the_weights_of_its_bundle(study, capsys):
    best = study.best
    bundle = said(capsys, "export", str(study.folder), "--json")
    data = said(capsys, "export", str(study.folder), "--format", "timm", "--json")
    folder = study.folder / "export" / f"trial-{best.number}-timm"
    assert data["folder"] == str(folder)
    assert sorted(data["files"]) == sorted(path.name for path in folder.iterdir())
    assert data["network"] == best.digest
    spec = importlib.util.spec_from_file_location("timm_model_of_a_trial", folder / "timm_model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = module.load(f"{bundle['folder']}/weights.safetensors")(images)
        expected = best.build()(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_weights_of_another_network_are_refused(tmp_path):
    save_file(build(UNUSUAL["no head"]).state_dict(), tmp_path / "weights.safetensors")
    module = exported(UNUSUAL["skip left out"], tmp_path / "timm")
    with pytest.raises(ValueError, match=r"weights\.safetensors holds other tensors than those of network"):
        module.load(str(tmp_path / "weights.safetensors"))


def test_a_trial_by_number_and_a_file_are_exported_to_the_given_folder(study, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("export", str(study.folder), "--trial", "2", "--format", "timm", "--to", "here", "--json")
    assert said(capsys, *words)["network"] == study.trial(2).digest
    assert (tmp_path / "here" / "timm_model.py").is_file()
    (tmp_path / "net.json").write_text(study.trial(2).network.to_json())
    data = said(capsys, "export", "net.json", "--format", "timm", "--json")
    assert data["network"] == study.trial(2).digest
    assert (tmp_path / data["folder"] / "timm.json").read_text() == (tmp_path / "here/timm.json").read_text()


def test_the_output_says_what_was_written_and_how_to_load_it(tmp_path, capsys):
    (tmp_path / "net.json").write_text(UNUSUAL["no head"].to_json())
    words = ["export", str(tmp_path / "net.json"), "--format", "timm", "--to", str(tmp_path / "out")]
    assert main(words) == 0
    text = capsys.readouterr().out
    for word in ("Exported net for timm", "timm.json, timm_model.py", "EfficientNet", "timm_model.load"):
        assert word in text


def test_a_file_has_no_weights_and_no_trials(tmp_path, capsys):
    path = tmp_path / "net.json"
    path.write_text(UNUSUAL["no head"].to_json())
    assert "give a study's folder, or --format timm" in complaint(capsys, "export", str(path))
    text = complaint(capsys, "export", str(path), "--format", "timm", "--trial", "1")
    assert "--trial chooses a trial of a study" in text
    path.write_text("{}")
    assert str(path) in complaint(capsys, "export", str(path), "--format", "timm")
    assert "did you mean timm" in complaint(capsys, "export", str(path), "--format", "tim")


def test_a_network_that_timm_cannot_build_is_a_mistake_and_leaves_nothing(tmp_path, capsys):
    path = tmp_path / "net.json"
    path.write_text(network_of(stage(BasicBlock())).to_json())
    text = complaint(capsys, "export", str(path), "--format", "timm", "--to", str(tmp_path / "out"))
    assert "op=BasicBlock" in text
    assert "stage1" in text
    assert not (tmp_path / "out").exists()
