"""`nas measure`: what it prints and stores, and what it refuses before any time is spent."""

import json
import subprocess
import sys

import pytest
import torch

from nas.cli.main import COMMANDS, main, parse
from nas.cli.measure import device_settings
from nas.latency.devices import DeviceSettings
from nas.latency.environment import judge_share
from nas.latency.measurement import read_measurements
from search_spaces import Conv, Head, MBConv, Network, Stage, cost, efficientnet

SMALL = Network(
    stem=Stage(op=Conv(), channels=8, stride=2),
    stages=(Stage(op=MBConv(), channels=8),),
    head=Head(channels=16),
    resolution=16,
    num_classes=3,
)


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine of which others use a share that a test chooses; tests run beside each other."""
    state = {"share": 0.0}
    monkeypatch.setattr(
        "nas.latency.environment.busy", lambda settings: judge_share(state["share"], settings.device)
    )
    return state


@pytest.fixture
def networks(tmp_path):
    """Two files of networks, of which `small` is much faster."""
    paths = {"small": tmp_path / "small.json", "large": tmp_path / "large.json"}
    paths["small"].write_text(SMALL.to_json())
    paths["large"].write_text(efficientnet(resolution=32, num_classes=3, width=0.25).reference.to_json())
    return paths


def complaint(capsys, *words):
    assert main(["measure", *map(str, words)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    return said.err


def answer(capsys, *words):
    assert main(["measure", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_networks_are_ranked_in_one_session_and_stored_with_every_sample(
    capsys, networks, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    data = answer(capsys, networks["large"], networks["small"], "--runs", "8")
    first, second = data["networks"]
    assert [first["name"], second["name"]] == ["small", "large"]
    assert first["median_ms"] < second["median_ms"]
    assert data["settings"]["device"] == "cpu"
    assert data["environment"]["cores"] >= 1
    for row in (first, second):
        if row["name"] == "small":
            assert (row["macs"], row["params"]) == (cost(SMALL).macs, cost(SMALL).params)
        assert row["file"] == f"runs/latency/{row['name']}-cpu.json"
        (stored,) = read_measurements(tmp_path / row["file"])
        assert (stored.timing.name, stored.digest, stored.median_ms) == (
            row["name"],
            row["digest"],
            row["median_ms"],
        )
        assert list(stored.timing.samples_ms) == row["samples_ms"]
        assert len(row["normalised_ms"]) == row["n"] == 8
    assert any("small is faster than large" in note for note in data["notes"])


def test_the_table_is_drawn_for_users(capsys, networks, tmp_path):
    out = tmp_path / "mine.json"
    words = ["measure", str(networks["small"]), str(networks["large"]), "--runs", "6", "--out", str(out)]
    assert main(words) == 0
    text = capsys.readouterr().out
    for word in (
        "Latency on cpu, batch 1",
        "median ms",
        "halves differ",
        "drift",
        "small",
        "order is",
        "mine.json",
    ):
        assert word in text
    assert len(read_measurements(out)) == 2


def test_other_settings_are_added_to_what_a_folder_has(capsys, tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "architecture.json").write_text(SMALL.to_json())
    answer(capsys, folder, "--runs", "2")
    answer(capsys, folder, "--runs", "2", "--batch", "4", "--channels-last", "--precision", "bfloat16")
    one, other = read_measurements(folder / "latency-cpu.json")
    assert (one.timing.name, one.settings.batch, one.settings.channels_last) == ("bundle", 1, False)
    assert (other.settings.batch, other.settings.channels_last, other.settings.precision) == (
        4,
        True,
        "bfloat16",
    )
    assert "at least 6 rounds are needed, but there were 2" in one.flags


def test_onnx_runtime_is_another_device_with_a_file_of_its_own(capsys, networks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = answer(capsys, networks["small"], "--device", "onnx-cpu", "--runs", "6")
    assert data["environment"]["onnxruntime"]
    assert data["networks"][0]["file"] == "runs/latency/small-onnx-cpu.json"
    assert data["is_ranking_safe"] is None


def test_a_busy_machine_is_refused_unless_forced_and_then_flagged(capsys, networks, tmp_path, machine):
    machine["share"] = 0.6
    out = tmp_path / "latency.json"
    said = complaint(capsys, networks["small"], "--out", out)
    assert "others used 60 % of the cpu" in said
    assert "--force" in said
    assert not out.exists()
    data = answer(capsys, networks["small"], "--out", out, "--runs", "6", "--force")
    (row,) = data["networks"]
    assert row["status"] == "doubtful"
    assert data["others"] == 0.6
    assert any("others used 60 %" in flag for flag in read_measurements(out)[0].flags)


def test_a_somewhat_busy_machine_gives_a_warning_and_a_flag(capsys, networks, tmp_path, machine):
    machine["share"] = 0.2
    words = [str(networks["small"]), "--runs", "2", "--out", str(tmp_path / "x.json")]
    assert main(["measure", *words]) == 0
    said = capsys.readouterr()
    assert "WARNING: others used 20 %" in said.err
    assert "unreliable" in said.out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda-graph"])
def test_a_gpu_that_is_not_there_is_a_mistake_in_words(capsys, networks, device):
    assert "sees no GPU" in complaint(capsys, networks["small"], "--device", device)


def test_mistakes_are_refused_before_any_measurement(capsys, networks, tmp_path):
    small = networks["small"]
    assert "onnx_cpu" in complaint(capsys, small, "--device", "onnx_cpu")
    assert "not offered on onnx-cpu" in complaint(
        capsys, small, "--device", "onnx-cpu", "--precision", "bfloat16"
    )
    assert "efficientnet_b0" in complaint(capsys, "efficientnet_b00")
    assert "is a folder" in complaint(capsys, small, "--out", tmp_path)
    assert "from 1 to 2**63 - 1 is needed, but got '0'" in complaint(capsys, small, "--threads", "0")
    (tmp_path / "other.json").write_text("{}")
    assert "is another file" in complaint(capsys, small, "--out", tmp_path / "other.json")
    assert "cannot be written" in complaint(capsys, small, "--out", small / "x.json")


def test_two_networks_of_one_name_are_refused(capsys, networks, tmp_path):
    other = tmp_path / "deeper" / "small.json"
    other.parent.mkdir()
    other.write_text(networks["large"].read_text())
    assert "both called 'small'" in complaint(capsys, networks["small"], other)


def test_a_network_named_twice_is_measured_once(capsys, networks, tmp_path):
    out = tmp_path / "latency.json"
    data = answer(capsys, networks["small"], networks["small"], "--runs", "2", "--out", out)
    assert len(data["networks"]) == 1


def test_the_command_has_its_defaults():
    assert "measure" in COMMANDS
    arguments = parse(["measure", "efficientnet_b0"])
    assert device_settings(arguments) == DeviceSettings(device="cpu", batch=1, threads=1, precision="float32")
    assert arguments.runs == 30


def test_the_options_of_devices_load_no_torch():
    code = "import sys, nas.latency.devices; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
