import json
import re

import numpy as np
import pytest

from nas.cli.main import main
from nas.cli.scale import different
from nas.evaluation.scaling_search import LOG
from nas.report.page.attached import recognise
from nas.report.page.scaled import scaled
from search_spaces import Network, cost, small


@pytest.fixture
def pack(tmp_path):
    """Three classes told apart by their brightness, 24 pixels a side."""
    rng = np.random.default_rng(0)
    parts = {}
    for part, count in (("train", 150), ("test", 60)):
        labels = np.arange(count) % 3
        noise = rng.integers(0, 40, (count, 24, 24, 3))
        parts[f"{part}_images"] = (noise + 80 * labels[:, None, None, None]).astype(np.uint8)
        parts[f"{part}_labels"] = labels
    np.savez(tmp_path / "pack.npz", **parts)
    return tmp_path / "pack.npz"


@pytest.fixture
def architecture(tmp_path):
    path = tmp_path / "tiny.json"
    path.write_text(small(resolution=24, num_classes=3).reference.to_json())
    return path


SHORT = ["--epochs", "1", "--parts", "2", "--seeds", "2", "--finalists", "1", "--executor", "inline"]
SHORT += ["--tolerance", "0.15"]


def answer(capsys, *words):
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_networks_that_are_the_same_are_trained_once_by_the_first_name():
    base, other = small(resolution=24).reference, small(resolution=32).reference
    assert list(different({"tiny": base, "fast-phi-0": base, "fast-phi-1": other})) == ["tiny", "fast-phi-1"]


@pytest.mark.slow  # some thirty short trainings, and four in full
def test_a_network_is_searched_for_its_direction_scaled_trained_and_compared(
    capsys, tmp_path, pack, architecture
):
    recipe = tmp_path / "short.toml"
    recipe.write_text("epochs = 1\n")
    out = tmp_path / "scaled"
    words = ["scale", str(architecture), "--search", "--data", str(pack), "--out", str(out), *SHORT]
    words += ["--curves", "2", "--phi", "0,1", "--train", "--train-recipe", str(recipe), "--device", "cpu"]
    words += ["--references", "mobilenet_v3_small@32", "--train-seeds", "1"]
    found = answer(capsys, *words)
    base = found["baseline"]["macs"]
    assert found["native_side"] == 24
    assert found["lattice"]["metric"] == "accuracy"
    assert (found["lattice"]["cost_factor"], found["lattice"]["cost"]) == (2, "macs")
    assert found["lattice"]["epochs"] == 1
    assert sum(found["found"][name] for name in ("depth", "width", "resolution")) == pytest.approx(1)
    for one in found["members"]:
        assert abs(one["macs"] / base - 2) <= 0.3
        assert one["is_enlarged"] == (one["pixels"] > 24)
        assert len(one["values"]) + len(one["failures"]) >= 1
    assert {"efficientnet", "fast"} <= {one["name"] for one in found["finalists"]}
    assert {one["name"] for one in found["curves"]} >= {"depth", "width", "resolution", "found"}
    kept = [json.loads((out / name).read_text()) for name in ("search.json", "trained.json")]
    assert kept[0]["finalists"] == found["finalists"]
    assert kept[1]["trained"] == found["trained"]
    beside = recognise(out)
    assert [one.path.name for one in beside.scalings] == ["search.json", "trained.json"]
    assert len(beside.trainings) == 3
    assert len(scaled(beside).blocks) >= 8
    _, file = found["files"]  # the first is the network itself, and is not trained twice
    member = Network.from_json((out / file).read_text())
    assert cost(member).macs / base == pytest.approx(2, rel=0.15)
    assert [one["name"] for one in found["trained"]] == [
        "tiny",
        file.removesuffix(".json"),
        "mobilenet_v3_small@32",
    ]
    assert all(0 <= one["mean"] <= 1 and one["latency_ms"] > 0 for one in found["trained"])
    assert any("mobilenet_v3_small@32" in note for note in found["notes"])
    for name in ("law.png", "curves.png", "family.png", f"trained/{file[:-5]}-seed-0/bundle/predict.py"):
        assert (out / name).is_file()
    before = (out / LOG).read_bytes()
    again = answer(capsys, *words)
    assert (out / LOG).read_bytes() == before
    assert again["finalists"] == found["finalists"]
    assert [one["values"] for one in again["trained"]] == [one["values"] for one in found["trained"]]


@pytest.mark.slow  # a dozen short trainings
def test_a_study_gives_its_images_split_and_recipe_to_the_search_for_the_direction(capsys, tmp_path, pack):
    study = tmp_path / "study"
    words = [
        "search",
        "--data",
        str(pack),
        "--space",
        "small",
        "--trials",
        "2",
        "--epochs",
        "1",
        "--seed",
        "7",
    ]
    words += ["--compare-seeds", "0", "--executor", "inline", "--batch-size", "30", "--out", str(study)]
    assert main(words) == 0
    capsys.readouterr()
    out = tmp_path / "scaled"
    found = answer(capsys, "scale", str(study), "--search", "--out", str(out), *SHORT)
    settings = json.loads((out / LOG).read_text().splitlines()[0])["settings"]
    assert settings["seed"] == "7"
    assert "pack" in found["images"]
    own = tmp_path / "own"
    answer(capsys, "scale", str(study), "--search", "--data", str(pack), "--out", str(own), *SHORT)
    assert json.loads((own / LOG).read_text().splitlines()[0])["settings"] == settings


def test_the_text_of_a_search_names_what_is_enlarged_what_coincides_and_how_to_use_it(
    capsys, tmp_path, pack, architecture
):
    out = tmp_path / "scaled"
    words = ["scale", str(architecture), "--search", "--data", str(pack), "--out", str(out), *SHORT]
    words += ["--parts", "1", "--seeds", "1", "--epochs", "0.5"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert re.search(r"^loading the images at \d+ pixels$", text, re.M)  # no time of what has ended
    said = " ".join(text.split())
    assert "24 pixels a side (median)" in said
    assert "*: images are only enlarged to this size" in said
    assert "short trainings favour width" in said
    assert "nas scale ARCH --direction" in said
    assert "Finalists, 1 seed each" in said
    assert "by the law" not in said  # three networks have none
    assert "found against efficientnet: not known, since one training of each" in said or (
        "found against fast: not known, since one training of each" in said
    )


def test_what_a_search_found_is_printed_though_the_family_cannot_be_made(
    capsys, tmp_path, pack, architecture
):
    words = [
        "scale",
        str(architecture),
        "--search",
        "--data",
        str(pack),
        "--out",
        str(tmp_path / "s"),
        *SHORT,
    ]
    words += ["--parts", "1", "--seeds", "1", "--epochs", "0.5", "--phi", "55"]
    assert main(words) == 2
    said = capsys.readouterr()
    assert "direction found" in said.out
    assert "no network in the direction" in said.err
