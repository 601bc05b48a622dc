"""`nas latency-table`: measured here, measured elsewhere, shown."""

import json
import subprocess
import sys

import pytest
import torch

from nas.cli.main import main
from nas.latency.table.table import LatencyTable

from ..latency.table.synthetic import table_of
from ..latency.table.test_form import rows_of, write_rows

OWN_SPACE = """
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice


def tiny(resolution=8, num_classes=3):
    template = Network(
        stem=Stage(op=Conv(), channels=8, stride=2),
        stages=(Stage(op=choice(Conv(), MBConv()), channels=8),),
        head=Head(channels=16),
        resolution=resolution,
        num_classes=num_classes,
    )
    return SearchSpace(template, name="tiny")
"""


def complaint(capsys, *words):
    assert main(["latency-table", *map(str, words)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    return said.err


def answer(capsys, *words):
    assert main(["latency-table", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def own_space(tmp_path):
    path = tmp_path / "latency_own_space.py"
    path.write_text(OWN_SPACE)
    yield f"{path}:tiny"
    sys.modules.pop("latency_own_space", None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--space is needed"),
        (["--space", "small"], "--out is needed"),
        (["--space", "smal", "--out", "x.json"], "did you mean small"),
        (["--space", "small", "--from-csv", "x", "--out", "x.json"], "--from-csv needs --device-name"),
        (["--space", "small", "--device-name", "x", "--out", "x.json"], "names the device of --from-csv"),
        (["--show", "x", "--write-blocks", "y"], "--show and --write-blocks exclude each other"),
        (["--show", "none.json"], "none.json cannot be read"),
        (["--space", "small", "--device", "phone", "--out", "x.json"], "there is no device 'phone'"),
        (["--space", "small", "--most-blocks", "5", "--out", "x.json"], "--most-blocks 5: raise it"),
        (["--space", "small", "--out", "."], "--out must be a file"),
        (["--space", "small", "--resolution", "0", "--out", "x.json"], "an integer from 1 to"),
    ],
)
def test_a_mistake_is_named(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert message in complaint(capsys, *words)


def test_a_gpu_that_is_not_there_is_said_before_anything_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    said = complaint(capsys, "--space", "small", "--device", "cuda", "--out", tmp_path / "table.json")
    assert "sees no GPU" in said
    assert "distinct blocks" not in said


def test_a_table_is_shown_with_its_error_and_advice(capsys, tmp_path):
    table = table_of(check=12)
    path = tmp_path / "table.json"
    table.save(path)
    data = answer(capsys, "--show", path)
    assert data["error_text"] == table.error_text
    assert data["advice"] == table.check.advice
    assert (data["mape"], data["tau"]) == (table.check.mape, table.check.tau)
    assert (data["least_ms"], data["most_ms"]) == (table.range.least_ms, table.range.most_ms)
    assert (data["blocks_measured"], data["blocks_estimated"]) == (62, 0)
    assert len(data["blocks"]) == 62
    assert len(data["networks"]) == 12
    assert main(["latency-table", "--show", str(path)]) == 0
    drawn = capsys.readouterr().out
    for word in ("Synthetic", "MAPE", "advice", "predicted", "random order", "5 slowest of 62 blocks"):
        assert word in drawn


def test_a_form_is_written_filled_in_and_read(capsys, tmp_path, own_space):
    folder, out = tmp_path / "form", tmp_path / "table.json"
    words = ("--space", own_space, "--resolution", 8, "--num-classes", 3)
    data = answer(capsys, *words, "--write-blocks", folder, "--check", 0)
    assert data["blocks"] + data["networks"] == len(list(folder.rglob("*.onnx")))
    rows = rows_of(folder / "latencies.csv")
    times = ["" if row["stage"] == "network" else 1 + place for place, row in enumerate(rows)]
    pairs = zip(rows, times, strict=True)
    write_rows(folder / "latencies.csv", [{**row, "latency_ms": value} for row, value in pairs])
    read = (*words, "--from-csv", folder, "--device-name", "Pixel 8", "--out", out)
    data = answer(capsys, *read)
    assert data["device_name"] == "Pixel 8"
    assert "no error can be stated" in data["error_text"]
    assert "advice" not in data
    assert LatencyTable.load(out).blocks[1].latency_ms == 2.0
    assert "--num-classes as when it was written" in complaint(
        capsys, *words[:4], "--num-classes", 4, *read[6:]
    )


def test_a_busy_machine_is_refused_unless_forced(capsys, tmp_path, monkeypatch, own_space):
    from nas.latency.environment import judge_share

    monkeypatch.setattr("nas.latency.environment.busy", lambda _: judge_share(0.8, "CPU"))
    out = tmp_path / "table.json"
    words = ("--space", own_space, "--resolution", 8, "--out", out, "--rounds", 2, "--check", 2)
    assert "needs a quiet machine, but others used 80 % of the CPU" in complaint(capsys, *words)
    assert not out.exists()
    assert main(["latency-table", *map(str, words), "--force"]) == 0
    assert "others used 80 % of the CPU before the session" in LatencyTable.load(out).flags
    assert "WARNING" in capsys.readouterr().err


def test_the_command_is_known_without_loading_torch():
    code = "import sys; from nas.cli.main import parse; parse(['latency-table', '--show', 'x']); "
    code += "import nas.cli.latency_table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


TINY = """
from search_spaces import Conv, Head, MBConv, Network, SearchSpace, Stage, choice


def tiny(*, resolution, num_classes, in_channels=3):
    op = MBConv(kernel_size=choice(3, 5), expand_ratio=choice(1, 3))
    stages = tuple(Stage(op=op, channels=channels, repeats=1, stride=2) for channels in (8, 16))
    shape = {"resolution": resolution, "num_classes": num_classes, "in_channels": in_channels}
    stem, head = Stage(op=Conv(), channels=8), Head(channels=32)
    return SearchSpace(Network(stem=stem, stages=stages, head=head, **shape))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("device", "blocks"), [("cpu", 62), ("onnx-cpu", 10)])
def test_the_real_command_measures_a_space(capsys, tmp_path, device, blocks):
    out, space = tmp_path / "table.json", tmp_path / "spaces.py"
    space.write_text(TINY)
    chosen = "small" if device == "cpu" else f"{space}:tiny"
    words = ("--space", chosen, "--resolution", 16, "--device", device, "--rounds", 2, "--check", 3)
    data = answer(capsys, *words, "--out", out, "--force")
    table = LatencyTable.load(out)
    assert table.settings.device == device
    assert (data["blocks_measured"], data["blocks_estimated"]) == (blocks, 0)
    assert 0 < data["least_ms"] < data["most_ms"]
    assert table.check.n == 3
    assert table.session.rounds == 2


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda", "cuda-graph"])
def test_the_real_command_measures_a_space_on_a_gpu(capsys, tmp_path, device):
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    out = tmp_path / "table.json"
    words = ("--space", "small", "--resolution", 32, "--device", device, "--rounds", 3, "--check", 6)
    data = answer(capsys, *words, "--out", out, "--force")
    assert 0 < data["least_ms"] < data["most_ms"]
    assert LatencyTable.load(out).settings.device == device
