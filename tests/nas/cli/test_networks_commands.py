"""`nas describe` and `nas scale`: networks by name, by file and by folder."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas.cli.main import main
from nas.errors import UsageError
from nas.evaluators import TableEvaluator
from nas.short_form import search
from nas.units import parse_bases, parse_phis
from search_spaces import Network, cost, describe, memory, reference, scale, small


def complaint(capsys, *words):
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    return said.err


def answer(capsys, *words):
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_describe_says_what_the_library_counts(capsys):
    data = answer(capsys, "describe", "efficientnet_b0", "--layers", "--batch-size", "8")
    network = reference("efficientnet_b0")
    assert (data["params"], data["macs"]) == (5_288_548, cost(network).macs)
    assert data["inference_bytes"] == memory(network).inference_bytes
    assert data["training_bytes"] == memory(network).training_bytes(8)
    assert [row["macs"] for row in data["stages"]] == [row.macs for row in describe(network)]
    assert sum(row["macs"] for row in data["layers"]) == data["macs"]
    assert data["strings_mnasnet"][1] == {"string": "r2_k3_s22_e6_i16_o24_se0.25"}
    assert data["strings_timm"][1] == {"string": "ir_r2_k3_s2_e6_c24_se0.25"}


def test_describe_is_drawn_for_users(capsys):
    assert main(["describe", "mobilenet_v3_small", "--num-classes", "10", "--resolution", "96"]) == 0
    text = capsys.readouterr().out
    assert "3 x 96 x 96, 10 classes" in text
    assert "MBConv4.5, k3x3, relu" in text


def test_describe_counts_the_costs_again_by_fvcore(capsys):
    data = answer(capsys, "describe", "mobilenet_v3_small", "--resolution", "64", "--check")
    network = replace(reference("mobilenet_v3_small"), resolution=64)
    assert data["is_cost_equal"]
    assert data["check"] == [
        {"quantity": "macs", "ours": cost(network).macs, "fvcore": cost(network).macs, "difference": 0},
        {"quantity": "params", "ours": data["params"], "fvcore": data["params"], "difference": 0},
    ]


GOLDEN = Path(__file__).parents[1] / "golden" / "version-3"
WRONG_OP = """
from dataclasses import dataclass

from search_spaces import Conv, Head, Network, SearchSpace, Stage, choice
from search_spaces.primitives import Call, Chain, Layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    def at(self, shape):
        call = Call("Conv2d", (shape.channels, shape.channels, 1))
        return Layer(out=shape, call=call, params=72)


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeConv:
    number: int = 1

    def check(self):
        pass

    def layers(self, context):
        return Chain(tuple((f"free{index}", Free()) for index in range(self.number)))


def space(resolution=8, num_classes=2, in_channels=1):
    stage = Stage(op=FreeConv(number=choice(1, 2)), channels=8)
    stem = Stage(op=Conv(), channels=8)
    return SearchSpace(
        Network(
            stem=stem,
            stages=(stage,),
            head=Head(),
            resolution=resolution,
            num_classes=num_classes,
            in_channels=in_channels,
        )
    )
"""


@pytest.mark.slow
def test_describe_ends_with_1_where_the_winner_of_a_study_says_its_costs_wrongly(capsys, tmp_path):
    path = tmp_path / "wrong_op_space.py"
    path.write_text(WRONG_OP)
    out = str(tmp_path / "study")
    data = ("--data", str(GOLDEN / "squares.npz"), "--space", f"{path}:space", "--max-params", "15550")
    train = ("--trials", "1", "--executor", "inline", "--compare-seeds", "0")
    assert main(["search", *data, *train, "--out", out]) == 0
    capsys.readouterr()
    assert main(["describe", out, "--check", "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert not data["is_cost_equal"]
    assert data["differences"] == [{"module": "Conv2d", "layers": 1, "macs": -8 * 8 * 64, "params": 0}]
    assert main(["describe", out, "--check"]) == 1
    assert "Where they differ" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_describe_draws_a_picture(capsys, tmp_path, suffix):
    path = tmp_path / f"b0.{suffix}"
    data = answer(capsys, "describe", "efficientnet_b0", "--draw", str(path))
    assert data["picture"] == str(path)
    beginning = path.read_bytes()[:200]
    assert beginning.startswith(b"\x89PNG") or b"<?xml" in beginning


def test_a_network_is_found_by_the_file_and_by_the_folder_of_a_bundle(capsys, tmp_path):
    network = reference("mnasnet_small")
    (tmp_path / "architecture.json").write_text(network.to_json())
    for place in (tmp_path, tmp_path / "architecture.json"):
        assert answer(capsys, "describe", str(place))["params"] == cost(network).params


def test_the_winner_of_a_study_is_scaled_by_the_studys_folder(capsys, tmp_path, small_space):
    study = search(
        small_space,
        evaluator=TableEvaluator(lambda candidate: 0.5 + cost(candidate.network).macs / 1e7),
        controller="random",
        target_macs=1e6,
        trials=4,
        executor="inline",
        out=tmp_path / "study",
    )
    out = tmp_path / "scaled"
    data = answer(capsys, "scale", str(study.folder), "--width", "2", "--out", str(out))
    assert data["baseline"]["name"] == f"study-trial-{study.best.number}"
    assert data["baseline"]["macs"] == study.best.macs
    assert Network.from_json((out / "width-2.json").read_text()) == scale(study.best.network, width=2.0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("efficientnet_b9", "no file, no folder, .*did you mean .*efficientnet_b"),
        ("nothing.json", "nothing.json cannot be read"),
    ],
)
def test_a_network_that_is_not_there_is_refused(capsys, name, message):
    assert re.search(message, complaint(capsys, "describe", name))


def test_a_file_with_unknown_fields_is_refused_by_name(capsys, tmp_path):
    path = tmp_path / "mine.json"
    data = json.loads(reference("mnasnet_a1").to_json())
    data["stages"][2]["colour"] = 1
    path.write_text(json.dumps(data))
    assert "mine.json: stage3 must have just the fields" in complaint(
        capsys, "scale", str(path), "--phi", "1"
    )


def test_scale_writes_the_family_and_prints_it_beside_the_papers(capsys, tmp_path):
    out = tmp_path / "family"
    data = answer(capsys, "scale", "efficientnet_b0", "--phi", "1..3", "--out", str(out))
    b0 = reference("efficientnet_b0")
    assert data["files"] == ["phi-1.json", "phi-2.json", "phi-3.json"]
    for phi, file in enumerate(data["files"], start=1):
        written = Network.from_json((out / file).read_text())
        assert written == scale(b0, phi=phi)
        row = data["family"][phi]
        assert (row["macs"], row["params"]) == (cost(written).macs, cost(written).params)
        assert row["macs_factor"] == pytest.approx(cost(written).macs / cost(b0).macs)
        assert row["nominal_factor"] == pytest.approx(1.9203**phi, rel=1e-4)
    published = {row["name"]: row for row in data["published"]}
    assert published["efficientnet_b7"]["params"] == 66_347_960
    assert published["efficientnet_b7"]["printed_params"] == 66e6


def test_scale_of_another_network_has_no_paper_beside_it(capsys, tmp_path):
    data = answer(capsys, "scale", "mobilenet_v2", "--depth", "4", "--out", str(tmp_path))
    assert "published" not in data
    assert data["files"] == ["depth-4.json"]
    assert data["family"][1]["macs"] == pytest.approx(1.22e9, rel=0.005)


def test_scale_finds_the_largest_that_keeps_limits(capsys, tmp_path):
    command = ["scale", "efficientnet_b0", "--max-macs", "1G", "--max-memory", "60MiB", "--multiple", "32"]
    row = answer(capsys, *command, "--out", str(tmp_path))["family"][1]
    assert row["macs"] <= 1e9
    assert row["inference_bytes"] <= 60 * 2**20
    assert row["pixels"] % 32 == 0


def test_scale_in_a_direction_matches_real_macs_and_prints_what_is_left_over(capsys, tmp_path):
    data = answer(
        capsys, "scale", "efficientnet_b0", "--direction", "fast", "--phi", "1,2", "--out", str(tmp_path)
    )
    assert data["files"] == ["fast-phi-1.json", "fast-phi-2.json"]
    assert data["direction"]["shares"] == {"depth": 0.1, "width": 0.8, "resolution": 0.1}
    assert "published" not in data
    b0 = reference("efficientnet_b0")
    for phi, row in zip((1, 2), data["family"][1:], strict=True):
        written = Network.from_json((tmp_path / f"fast-phi-{phi}.json").read_text())
        assert written == scale(b0, direction="fast", phi=phi)
        assert row["macs_factor"] == pytest.approx(2**phi, rel=0.03)
        assert row["error"] == pytest.approx(row["macs_factor"] / 2**phi - 1)
    assert main(["scale", "efficientnet_b0", "--direction", "v2", "--phi", "1", "--out", str(tmp_path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "v2: shares of log-cost depth 0.279, width 0.292, resolution 0.428" in said
    assert "sides up to 480 pixels" in said
    assert "left over" in said


def test_scale_in_a_direction_takes_a_tolerance(capsys, tmp_path):
    words = ["scale", "efficientnet_b0", "--direction", "resolution", "--multiple", "32", "--phi", "0.3"]
    assert "or a larger tolerance" in complaint(capsys, *words, "--out", str(tmp_path))
    found = answer(capsys, *words, "--tolerance", "0.1", "--out", str(tmp_path))
    assert 0.03 < abs(found["family"][1]["error"]) <= 0.1


def test_scale_takes_shares_and_names_its_files_by_them(capsys, tmp_path):
    words = ["--direction", "0.2,0.5,0.3", "--phi", "-1", "--out", str(tmp_path)]
    data = answer(capsys, "scale", "mobilenet_v2", *words)
    assert data["files"] == ["0.2-0.5-0.3-phi--1.json"]
    assert data["family"][1]["macs_factor"] == pytest.approx(0.5, rel=0.03)


def test_scale_in_a_direction_finds_the_largest_that_keeps_limits(capsys, tmp_path):
    command = ["scale", "efficientnet_b0", "--direction", "width", "--max-macs", "1G", "--max-params", "9M"]
    row = answer(capsys, *command, "--out", str(tmp_path))["family"][1]
    assert row["macs"] <= 1e9
    assert 8.5e6 < row["params"] <= 9e6
    assert (row["depth"], row["resolution"], row["pixels"]) == (1.0, 1.0, 224)
    assert -0.05 < row["error"] <= 0


@pytest.fixture
def pack(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = rng.integers(0, 255, (90, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "colours.npz", train_images=images, train_labels=labels)
    return tmp_path / "colours.npz"


@pytest.fixture
def small_network(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(small(resolution=16, num_classes=3).reference.to_json())
    return path


@pytest.mark.parametrize("direction", [[], ["--direction", "width"]])
def test_scale_keeps_a_budget_of_training_memory_and_prints_every_measurement(
    capsys, tmp_path, pack, small_network, direction
):
    out = tmp_path / "family"
    words = ["scale", str(small_network), *direction, "--max-train-memory", "40MB", "--max-params", "500k"]
    words += ["--data", str(pack), "--device", "cpu", "--out", str(out), "--json"]
    assert main(words) == 0
    said = capsys.readouterr()
    data = json.loads(said.out)
    trainings = data["trainings"]
    assert len(said.err.splitlines()) == len(trainings) + 1
    (file,) = data["files"]
    written = Network.from_json((out / file).read_text())
    assert cost(written).params <= 500e3
    kept = [one for one in trainings if one["keeps"]]
    assert cost(written).macs == kept[-1]["macs"] == max(one["macs"] for one in kept)
    assert kept[-1]["train_memory_bytes"] <= 40e6
    assert all(one["train_memory_bytes"] > 40e6 for one in trainings if not one["keeps"])
    assert sorted(path.name for path in out.iterdir()) == [file]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-train-hours", "1"], "give --data"),
        (["--phi", "1", "--data", "x.npz"], "--data goes with --search, --train"),
        (["--phi", "1", "--download"], "--download goes with"),
        (["--phi", "1", "--max-train-hours", "1"], "must be given by one of"),
        (["--phi", "1", "--epochs", "3"], "--epochs goes with --search"),
        (["--phi", "1", "--tolerance", "0.1"], "--tolerance goes with --search or --direction"),
        (["--phi", "1", "--direction", "fast", "--tolerance", "0"], "0 < tolerance"),
        (["--phi", "1", "--parts", "3"], "--parts goes with --search"),
        (["--phi", "1", "--factor", "3"], "--factor goes with --search"),
        (["--phi", "1", "--train", "--data", "PACK", "--epochs", "3"], "--epochs goes with --search"),
        (["--phi", "1", "--references", "resnet18"], "--references goes with --train"),
        (["--phi", "1", "--train-recipe", "small"], "--train-recipe goes with --train"),
        (["--phi", "1", "--train"], "give --data"),
        (["--search", "--data", "PACK", "--train"], "--train trains a family: say which"),
        (["--search"], "give --data"),
        (["--search", "--data", "PACK", "--direction", "fast"], "leave one of them out"),
        (["--search", "--data", "PACK", "--depth", "2"], "a direction shares the cost"),
        (["--search", "--data", "PACK", "--factor", "1"], "a factor of the cost must be above 1, but got 1"),
        (["--search", "--data", "PACK", "--curves", "2,x"], "are no factors"),
        (["--search", "--data", "nothing.npz"], "nothing.npz"),
        (["--search", "--data", "PACK", "--latency-table", "none.json"], "none.json"),
        (["--phi", "1", "--train", "--data", "PACK", "--references", "resnet17"], "did you mean"),
        (["--phi", "1", "--train", "--data", "PACK", "--references", "resnet18@x"], "mobilenet_v2@64"),
        (["--max-train-hours", "0h", "--data", "x.npz"], "must be greater than 0"),
        (["--max-train-hours", "1h", "--data", "nothing.npz"], "nothing.npz"),
        (["--max-train-memory", "1", "--data", "PACK", "--device", "cpu"], "within the budget"),
        (["--max-train-hours", "1", "--data", "PACK", "--train-recipe", "smal"], "smal"),
        (["--max-train-hours", "1", "--data", "PACK", "--train-recipe", "finetune"], "weights"),
    ],
)
def test_training_budgets_that_make_no_sense_are_refused(
    capsys, tmp_path, pack, small_network, words, message
):
    words = [str(pack) if word == "PACK" else word for word in words]
    assert main(["scale", str(small_network), *words, "--out", str(tmp_path / "x")]) == 2
    said = capsys.readouterr().err
    assert re.search(message, said)
    assert "Traceback" not in said
    assert not (tmp_path / "x").exists()


def test_a_scaled_member_can_be_scaled_again(capsys, tmp_path):
    assert main(["scale", "mnasnet_small", "--phi", "-1", "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    again = answer(capsys, "scale", str(tmp_path / "phi--1.json"), "--width", "2", "--out", str(tmp_path))
    assert again["family"][1]["params"] > again["family"][0]["params"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "must be given by one of"),
        (["--phi", "1", "--depth", "2"], "must be given by one of"),
        (["--phi", "1..x"], "'1..x' is no phi"),
        (["--phi", "99"], "-20 <= phi <= 60"),
        (["--width", "0"], "0 < width <= 1000"),
        (["--width", "5000"], "0 < width <= 1000"),
        (["--bases", "1,2", "--phi", "1"], "'1,2' is not three bases"),
        (["--rule", "v3", "--phi", "1"], "there is no rule 'v3'"),
        (["--direction", "fats", "--phi", "1"], "did you mean fast?"),
        (["--direction", "0.5,0.5,0.5", "--phi", "1"], "three shares of at least 0 that sum to 1"),
        (["--direction", "fast"], "must be given by one of"),
        (["--direction", "fast", "--width", "2"], "a direction shares the cost itself"),
        (["--direction", "fast", "--phi", "1", "--bases", "1.2,1.1,1.1"], "a direction shares the cost"),
        (["--direction", "fast", "--phi", "99"], "-20 <= phi <= 60"),
        (["--direction", "fast", "--phi", "1", "--rule", "mnasnet"], "the rule leaves the layers alone"),
        (["--direction", "fast", "--max-params", "1k"], "no scaling of the network keeps params <= 1,000"),
        (
            ["--direction", "resolution", "--phi", "0.5", "--multiple", "128"],
            "a smaller multiple of the side",
        ),
        (["--max-params", "1k"], "no scaling of the network keeps params <= 1,000"),
        (["--direction", "resolution", "--max-params", "6M"], "parameters do not grow with the side"),
        (["--phi", "1", "--pixels", "0"], "--pixels"),
        (
            ["--phi", "1", "--train", "--data", "x.npz", "--references", "efficientnet_b0"],
            "efficientnet_b0 has the name of a network that is trained anyway",
        ),
    ],
)
def test_scaling_that_makes_no_sense_is_refused(capsys, tmp_path, words, message):
    assert message in complaint(capsys, "scale", "efficientnet_b0", *words, "--out", str(tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_a_folder_that_cannot_be_written_is_refused(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    words = ["scale", "resnet18", "--phi", "1", "--out", str(tmp_path / "file")]
    assert "choose another --out" in complaint(capsys, *words)


def test_phis_are_read_as_numbers_ranges_and_lists():
    assert parse_phis("3") == (3.0,)
    assert parse_phis("1..4") == (1.0, 2.0, 3.0, 4.0)
    assert parse_phis("0.5,1,-2") == (0.5, 1.0, -2.0)
    assert parse_phis("2,1,2.0") == (2.0, 1.0)
    for text in ("", "4..1", "nan", "1;2"):
        with pytest.raises(UsageError, match="is no phi"):
            parse_phis(text)
    assert parse_bases("1.3,1,1.1") == (1.3, 1.0, 1.1)


def test_scale_takes_the_side_of_the_unscaled_images(capsys, tmp_path):
    found = answer(
        capsys,
        "scale",
        "mobilenet_v2",
        "--pixels",
        "64",
        "--direction",
        "fast",
        "--phi",
        "1",
        "--out",
        str(tmp_path),
    )
    base, member = found["family"]
    assert base["pixels"] == 64
    assert member["macs"] == pytest.approx(2 * base["macs"], rel=0.03)
