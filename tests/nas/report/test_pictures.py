"""Pictures are written for real, read back, and looked into."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from nas.errors import NasError
from nas.metrics import ACCURACY, Goal
from nas.report.pictures import Mark, SearchPicture, draw_network, draw_pareto, draw_search
from nas.study.checkpoints import Entry, front_of
from search_spaces import Context, Conv, Head, MBConv, Network, Stage, describe, efficientnet, mnasnet
from search_spaces.primitives import Node

BOTH = (ACCURACY, Goal.of("macs"), Goal.of("latency_ms"))


def entries(count: int, *, seed: int = 0, outliers: int = 0) -> tuple[Entry, ...]:
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        cost = float(rng.uniform(10e6, 60e6))
        accuracy = 0.1 if number < outliers else 0.6 + 0.2 * cost / 60e6 + float(rng.normal(0, 0.02))
        found.append(
            Entry(number=number, value=accuracy, reward=accuracy * min(1.0, 30e6 / cost), costs=(cost,))
        )
    return tuple(found)


def svg_texts(path: Path) -> list[str]:
    root = ElementTree.parse(path).getroot()
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


def ink(path: Path) -> float:
    """Share of the pixels that are not white."""
    return float(np.mean(np.asarray(Image.open(path).convert("L")) < 250))


def test_picture_of_a_search_has_its_size_and_is_not_empty(tmp_path: Path) -> None:
    path = draw_search(SearchPicture(points=entries(40)), tmp_path / "search.png")
    assert Image.open(path).size == (1650, 750)
    assert ink(path) > 0.02


def test_caption_says_how_many_trials_completed_and_failed(tmp_path: Path) -> None:
    path = draw_search(SearchPicture(points=entries(40), failed=3), tmp_path / "search.svg")
    assert "Reward of each trial (n = 40, 3 more failed)" in svg_texts(path)


def test_legend_names_winner_reference_target_and_random_search(tmp_path: Path) -> None:
    points = (*entries(20), Entry(number=20, value=0.9, reward=0.9, costs=(25e6,)))
    picture = SearchPicture(
        points=points,
        title="a search",
        targets=(30e6,),
        reference=Mark(name="MobileNetV2", value=0.55, costs=(87.5e6,)),
        random_runs=((0.5, 0.6), (0.4, 0.7), (0.5, 0.5)),
    )
    text = " ".join(svg_texts(draw_search(picture, tmp_path / "search.svg")))
    for words in ("a search", "winner, trial 20:", "90.00 %, 25.0M", "MobileNetV2:", "55.00 %, 87.5M"):
        assert words in text
    assert "target: 30.0M" in text
    assert "(median and range of 3 runs)" in text


def test_reward_is_called_accuracy_where_it_is_the_accuracy(tmp_path: Path) -> None:
    points = tuple(replace(entry, reward=entry.value) for entry in entries(5))
    texts = svg_texts(draw_search(SearchPicture(points=points), tmp_path / "search.svg"))
    assert "Accuracy of each trial (n = 5)" in texts
    assert "reward" not in texts


def test_outliers_are_counted_below_the_axis_and_flatten_nothing(tmp_path: Path) -> None:
    texts = svg_texts(draw_search(SearchPicture(points=entries(100, outliers=4)), tmp_path / "search.svg"))
    assert "below the axis (n = 4)" in texts
    assert "10" not in [text for text in texts if text.endswith(".0")]


def test_front_is_counted_in_the_legend(tmp_path: Path) -> None:
    points = tuple(
        Entry(number=number, value=accuracy, reward=accuracy, costs=(cost,))
        for number, (accuracy, cost) in enumerate([(0.5, 1e6), (0.6, 2e6), (0.4, 3e6), (0.7, 4e6)])
    )
    path = tmp_path / "pareto.svg"
    draw_pareto(SearchPicture(points=points), path)
    assert "Pareto front (n = 3)" in svg_texts(path)


def test_of_a_front_the_hypervolume_is_drawn_in_place_of_the_reward(tmp_path: Path) -> None:
    chosen = Mark(name="knee, trial 7", value=0.7, costs=(20e6,))
    picture = SearchPicture(points=entries(40), is_front=True, chosen=chosen)
    texts = svg_texts(draw_search(picture, tmp_path / "search.svg"))
    assert "Hypervolume of the front (n = 40)" in texts
    assert "knee, trial 7:" in texts
    assert "accuracy by log macs," in texts
    assert not any("Reward" in text for text in texts)
    draw_search(SearchPicture(points=(), is_front=True), tmp_path / "empty.png")


def test_winner_is_the_earliest_of_the_highest_rewards() -> None:
    points = tuple(
        Entry(number=number, value=0.5, reward=reward, costs=(1e6,))
        for number, reward in ((4, 0.3), (2, 0.8), (1, 0.8), (0, 0.1))
    )
    assert SearchPicture(points=points).winner == points[2]


def test_pareto_gives_the_bytes_of_a_png() -> None:
    picture = Image.open(io.BytesIO(draw_pareto(SearchPicture(points=entries(10)))))
    assert (picture.format, picture.size) == ("PNG", (900, 750))


def test_latency_is_drawn_with_its_unit(tmp_path: Path) -> None:
    points = tuple(replace(entry, costs=(entry.costs[0] / 1e7,)) for entry in entries(10))
    draw_pareto(
        SearchPicture(points=points, goals=(ACCURACY, BOTH[2]), targets=(3.0,)),
        tmp_path / "pareto.svg",
    )
    texts = svg_texts(tmp_path / "pareto.svg")
    assert {"latency (ms)", "target: 3.00 ms", "Accuracy against latency (n = 10)"} <= set(texts)


def with_latency(points: tuple[Entry, ...]) -> tuple[Entry, ...]:
    return tuple(replace(p, costs=(*p.costs, 1 + 5 * abs(np.sin(p.number)))) for p in points)


def test_every_cost_has_a_panel_with_its_target_and_the_front_over_all(tmp_path: Path) -> None:
    points = with_latency(entries(40))
    front = len(front_of(points, BOTH))
    picture = SearchPicture(points=points, goals=BOTH, targets=(None, 3.0))
    texts = svg_texts(draw_search(picture, tmp_path / "search.svg"))
    assert {
        "Accuracy against multiply-adds (n = 40)",
        "Accuracy against latency (n = 40)",
        "target: 3.00 ms",
    } <= set(texts)
    assert texts.count(f"Pareto front over all costs (n = {front})") == 2
    assert Image.open(draw_search(picture, tmp_path / "search.png")).size == (2475, 750)


def test_only_points_of_the_highest_fidelity_are_compared(tmp_path: Path) -> None:
    shorter = tuple(replace(p, number=p.number + 50, fidelity=0.2, reward=0.99) for p in entries(30))
    picture = SearchPicture(points=(*entries(10), *shorter))
    assert picture.winner == max(entries(10), key=lambda point: point.reward)
    texts = svg_texts(draw_search(picture, tmp_path / "search.svg"))
    assert {"Reward of each trial (n = 10)", "lower fidelity (n = 30)"} <= set(texts)
    assert "Accuracy against multiply-adds (n = 10)" in texts


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_begun_search_can_be_drawn(count: int, tmp_path: Path) -> None:
    picture = SearchPicture(points=entries(count), random_runs=((0.5,),))
    assert ink(draw_search(picture, tmp_path / "search.png")) > 0.005


def test_equal_pictures_give_equal_files(tmp_path: Path) -> None:
    for suffix in ("png", "svg"):
        one, other = (
            draw_search(SearchPicture(points=entries(30)), tmp_path / f"{name}.{suffix}") for name in "ab"
        )
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("changes", "law"),
    [
        ({"points": (Entry(number=0, value=float("nan"), reward=0.1, costs=(1.0,)),)}, "finite"),
        ({"points": (Entry(number=0, value=0.1, reward=0.1, costs=(0.0,)),)}, "cost above 0"),
        ({"targets": (0.0,)}, "`target > 0` must hold"),
        ({"targets": (1.0, 2.0)}, "one number is needed for each of macs"),
        ({"reference": Mark(name="a", value=0.5, costs=(1.0, 2.0))}, "one number is needed"),
        ({"random_runs": ((0.1,), ())}, "at least one trial"),
    ],
)
def test_numbers_that_cannot_be_drawn_are_refused(changes: dict[str, object], law: str) -> None:
    with pytest.raises(NasError, match=law):
        replace(SearchPicture(points=()), **changes)  # type: ignore[arg-type]


def test_name_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NasError, match=r"must end in \.png or \.svg, but got 'search\.jpg'"):
        draw_search(SearchPicture(points=()), tmp_path / "search.jpg")


def test_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NasError, match="cannot be written: No such file or directory"):
        draw_search(SearchPicture(points=()), tmp_path / "none" / "search.png")


def networks() -> dict[str, Network]:
    rng = np.random.default_rng(0)
    found = {}
    for family in (mnasnet, efficientnet):
        for resolution in (32, 224):
            space = family(resolution=resolution, num_classes=10)
            found[f"{space.name}{resolution}"] = space.decode(space.sample(rng))
    return found


@pytest.mark.parametrize("name", networks())
def test_network_is_drawn_with_every_stage_operator_and_number(name: str, tmp_path: Path) -> None:
    network = networks()[name]
    texts = svg_texts(draw_network(network, tmp_path / "network.svg"))
    rows = describe(network)
    for row in rows[:-1]:
        assert row.stage in texts
        assert row.operator.split(", ")[0] in texts
        assert str(row.channels) in texts
    shares = [text for text in texts if re.fullmatch(r"\d+ %", text)]
    assert len(shares) == len(rows)
    assert sum(int(share[:-2]) for share in shares) == pytest.approx(100, abs=len(rows))


@pytest.mark.parametrize("name", networks())
def test_picture_of_a_network_grows_with_its_stages(name: str, tmp_path: Path) -> None:
    network = networks()[name]
    picture = Image.open(draw_network(network, tmp_path / "network.png"))
    shorter = replace(network, stages=network.stages[:-2])
    assert picture.size[1] - Image.open(draw_network(shorter, tmp_path / "short.png")).size[1] == 150


def test_operator_is_formatted_as_papers_write_it(tmp_path: Path) -> None:
    network = Network(
        stem=Stage(op=Conv(), channels=8, stride=2),
        stages=(Stage(op=MBConv(kernel_size=5, se_ratio=0.25, skip="none"), channels=16, repeats=13),),
        head=Head(channels=64),
        resolution=32,
        num_classes=7,
    )
    texts = svg_texts(draw_network(network, tmp_path / "network.svg", title="a small network"))
    assert {"a small network", "MBConv6", "5×5, SE 0.25, no skip", "×13", "32 → 16"} <= set(texts)  # noqa: RUF001
    assert "Pool, FC to 7" in texts


@dataclass(frozen=True)
class Peculiar:
    """A user's own op with more fields than fit into a box."""

    first_long_field: int = 1
    second_long_field: int = 2
    third_long_field: int = 3

    def layers(self, context: Context) -> Node:
        return context.convolution(context.out_channels, stride=context.stride)


def test_long_name_of_an_own_op_is_cut(tmp_path: Path) -> None:
    network = Network(
        stem=Stage(op=Conv(), channels=8),
        stages=(Stage(op=Peculiar(), channels=16),),
        head=Head(channels=0),
        resolution=32,
        num_classes=7,
    )
    (name,) = [
        text for text in svg_texts(draw_network(network, tmp_path / "a.svg")) if text.startswith("Peculiar")
    ]
    assert name.endswith("…")
    assert len(name) <= 44


def test_drawing_never_imports_pyplot() -> None:
    program = (
        "import sys, nas.report.pictures\n"
        "sys.exit('matplotlib.pyplot' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
