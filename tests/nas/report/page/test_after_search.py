"""The sections about what comes after a search, and how a report finds what they show."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from nas.__main__ import main
from nas.errors import LatencyError, StudyError, UsageError
from nas.evaluation.comparison import Comparison, Contender, Run
from nas.report.class_maps_picture import WORDS
from nas.report.page.attached import Attached, MapPicture, Scaling, Scores, recognise
from nas.report.page.compared import half_width, verdict
from nas.report.page.confusion import chosen_classes
from nas.report.page.mapped import mapped
from nas.report.page.parts import Absent, Chart, Picture, Section
from nas.report.page.scaled import scaled
from nas.report.page.scored import scored
from nas.report.page.trained import trained
from nas.statistics import t_quantile
from nas.study_page import write_report

GOLDEN_TABLE = Path(__file__).parents[3] / "nas" / "golden" / "latency-1" / "table.json"


def section(page, key):
    return next(part for part in page.parts if part.key == key)


def charts(found):
    return {block.key: block for block in found.blocks if isinstance(block, Chart)}


def picture(path, words=None):
    said = PngInfo()
    if words:
        said.add_text("Description", words)
    Image.new("RGB", (4, 4)).save(path, pnginfo=said)
    return path


@pytest.fixture(scope="module")
def beside(left, tmp_path_factory):
    """A folder of everything."""
    folder = tmp_path_factory.mktemp("beside") / "after <b>"
    left.training(folder / "wide-seed-0", digest="aa")
    left.training(folder / "wide-seed-1", digest="aa", value=0.8)
    left.write(folder / "scores.json", left.scores())
    left.write(folder / "search.json", left.scaling())
    left.write(folder / "other.json", {"of": "another program", "trained": True, "images": 3})
    picture(folder / "maps.png", f"{WORDS}where in 2 images a network found evidence")
    picture(folder / "holiday.png")
    shutil.copy(GOLDEN_TABLE, folder / "table.json")
    return folder


@pytest.fixture(scope="module")
def written(study, beside, tmp_path_factory):
    return write_report([study, beside], tmp_path_factory.mktemp("page") / "page.html")


def test_a_page_shows_all_that_stands_in_a_folder_beside_its_study(written):
    keys = [found.key for found in written.page.sections]
    assert {"trainings", "scores", "maps", "scaling", "latency", "read"} <= set(keys)
    kinds = sorted(one.kind for one in written.found)
    assert kinds == [
        "class maps",
        "evaluation",
        "latency table",
        "scaling",
        "study",
        "training",
        "training",
    ]


def test_everything_odd_is_text_on_the_page(written):
    text = written.path.read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "&lt;img src=x onerror=window.hacked=1&gt;" in text
    assert written.size < 6_000_000


def test_each_chart_of_the_page_has_words_for_those_who_cannot_see_it_and_its_numbers(written):
    found = [block for part in written.page.sections for block in part.blocks if isinstance(block, Chart)]
    assert len(found) >= 12
    for chart in found:
        assert re.search(r"\d", chart.alt), chart.key
        assert chart.table.rows, chart.key
    assert len({chart.key for chart in found}) == len(found)


def test_a_page_can_be_of_what_came_after_a_search_alone(beside, tmp_path):
    page = write_report(beside, tmp_path / "page.html").page
    assert section(page, "scores").blocks
    assert page.title == beside.name


def test_the_command_says_what_it_recognised(study, beside, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["report", str(study.folder), str(beside), "--out", str(out), "--json"]) == 0
    read = json.loads(capsys.readouterr().out)["read"]
    assert {"path": str(study.folder), "kind": "study"} in read
    assert {"path": str(beside / "scores.json"), "kind": "evaluation"} in read
    assert not any("holiday" in one["path"] or "other" in one["path"] for one in read)


@pytest.mark.parametrize("what", ["empty folder", "missing", "other JSON", "text"])
def test_what_is_none_of_these_is_a_mistake_that_names_what_is(what, study, tmp_path):
    path = {"empty folder": tmp_path, "missing": tmp_path / "no"}.get(what, tmp_path / "file.json")
    if what in ("other JSON", "text"):
        path.write_text("{}" if what == "other JSON" else "no JSON")
    with pytest.raises((UsageError, StudyError)) as caught:
        write_report([study, path], tmp_path / "page.html")
    assert caught.value.field == "folders"
    if what != "text":
        assert "nas train" in str(caught.value)
        assert "nas evaluate --json" in str(caught.value)
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("damage", ["cut", "list", "without a network"])
def test_a_damaged_training_names_its_file(damage, left, tmp_path):
    left.training(tmp_path / "run")
    path = tmp_path / "run" / "training.json"
    path.write_text({"cut": "{", "list": "[]"}.get(damage, '{"name": "a"}'))
    with pytest.raises(UsageError, match=re.escape(str(path))) as caught:
        recognise(tmp_path / "run")
    assert caught.value.field == "folders"


def test_a_damaged_evaluation_names_its_file(left):
    broken = {**left.scores(), "confusion": [[1]]}
    with pytest.raises(UsageError, match=r"odd/scores\.json") as caught:
        scored(Attached(scores=(Scores(path=Path("odd/scores.json"), values=broken),)))
    assert caught.value.field == "folders"


def test_a_damaged_latency_table_is_a_mistake(tmp_path):
    (tmp_path / "table.json").write_text('{"format": "nas-latency-table", "version": 99}')
    with pytest.raises(LatencyError):
        recognise(tmp_path)


def test_a_picture_that_does_not_say_what_it_shows_is_passed_over_in_a_folder_and_refused_by_name(tmp_path):
    path = picture(tmp_path / "holiday.png")
    assert recognise(tmp_path) == Attached()
    with pytest.raises(UsageError, match="does not say that nas cam drew it") as caught:
        recognise(path)
    assert caught.value.field == "folders"


def test_a_file_in_a_folder_that_is_no_json_is_named_among_what_was_found(tmp_path):
    (tmp_path / "scores.json").write_text('{"bundle": "a"} trailing')
    (one,) = recognise(tmp_path).recognised
    assert one.path.name == "scores.json"
    assert one.kind.startswith("not read, as it is no JSON")


def test_a_picture_of_class_maps_is_on_the_page_with_its_own_words(written):
    (shown,) = section(written.page, "maps").blocks
    assert isinstance(shown, Picture)
    assert shown.alt.startswith("Class maps: where in 2 images")


# Trainings


def test_trainings_of_one_network_have_one_colour_and_one_name_in_the_legend(beside):
    found = charts(trained(recognise(beside)))["trainings-0-loss"]
    traces = found.figure["data"]
    assert {trace["line"]["color"] for trace in traces} == {"palette:blue"}
    assert [trace["showlegend"] for trace in traces] == [True, False]
    assert traces[0]["name"] == "wide"


def test_trainings_on_other_images_have_charts_of_their_own_and_are_not_ranked(left, tmp_path):
    left.training(tmp_path / "a", split="s")
    left.training(tmp_path / "b", split="t", value=0.5)
    found = trained(recognise(tmp_path))
    assert {"trainings-0-loss", "trainings-1-loss"} <= charts(found).keys()
    assert "do not rank" in found.lead


def test_a_training_that_is_not_finished_is_shown_as_far_as_it_is(left, tmp_path):
    left.training(tmp_path / "run", is_finished=False)
    found = recognise(tmp_path / "run")
    assert found.recognised[0].kind == "training, not finished or not tested"
    shown = trained(found)
    assert "none was tested yet" in shown.lead
    assert shown.blocks[0].rows[0]["accuracy"] is None


# Scores


def test_the_heat_map_has_the_classes_with_the_most_mistakes_of_very_many():
    confusion = np.diag(np.full(100, 5.0))
    confusion[17, 83] = 4
    chosen = chosen_classes(confusion)
    assert len(chosen) == 40
    assert {17, 83} <= set(chosen)
    assert chosen == sorted(chosen)


def test_the_worst_confusion_is_said_in_words(left):
    found = scored(Attached(scores=(Scores(path=Path("s.json"), values=left.scores()),)))
    matrix = charts(found)["scores-0-matrix"]
    assert "taken for class 1, 7 times" in matrix.alt
    assert matrix.figure["data"][0]["z"][0] == [round(10 / 17, 4), round(7 / 17, 4), 0]


def test_scores_of_labels_and_of_numbers_are_shown_too():
    base = {"bundle": "b", "split": "test", "images": 9, "data": "d"}
    label = {"label": "a", "average_precision": 0.5, "support": 3}
    labels = {**base, "task": "multilabel", "mean_average_precision": 0.5, "per_label": [label]}
    numbers = {
        **base,
        "task": "regression",
        "r2": 0.4,
        "per_column": [{"column": "x", "r2": 0.4}],
    }
    found = scored(Attached(scores=tuple(Scores(path=Path("s"), values=one) for one in (labels, numbers))))
    assert "scores-0-average-precision" in charts(found)
    assert "mean AP 0.5000" in found.lead
    assert any(getattr(block, "key", "") == "per_column" for block in found.blocks)


# Scaling


def test_the_law_is_shaded_over_all_directions(beside):
    found = charts(scaled(recognise(beside)))["scaling-0-law"]
    law, networks, ring = found.figure["data"]
    corner = next(i for i, (a, b) in enumerate(zip(law["a"], law["b"], strict=True)) if (a, b) == (1, 0))
    assert law["marker"]["color"][corner] == pytest.approx(0.4)
    assert len(networks["a"]) == 2
    assert (ring["a"], ring["b"]) == ([0.5], [0.5])


def test_a_family_is_drawn_beside_its_references_over_each_cost(beside):
    found = charts(scaled(recognise(beside)))
    for cost in ("params", "macs", "latency-ms"):
        names = [trace["name"] for trace in found[f"scaling-0-family-{cost}"].figure["data"]]
        assert names == ["the family", "references"]


def test_a_search_whose_numbers_were_not_kept_shows_its_pictures(tmp_path):
    settings = {"version": 2, "settings": {"network": "aa", "seed": "0"}}
    (tmp_path / "trainings.jsonl").write_text(json.dumps(settings) + "\n")
    picture(tmp_path / "law.png")
    found = scaled(recognise(tmp_path))
    assert any(isinstance(block, Picture) for block in found.blocks)


@pytest.mark.parametrize("make", [scaled, mapped])
def test_a_picture_that_is_gone_by_now_is_a_mistake_that_names_it(make, tmp_path):
    path = tmp_path / "law.png"
    found = Attached(
        scalings=(Scaling(path=tmp_path, values={}, pictures=(path,)),),
        maps=(MapPicture(path=path, words="Class maps"),),
    )
    with pytest.raises(UsageError, match=re.escape(str(path))) as caught:
        make(found)
    assert caught.value.field == "folders"


# The comparison


def contender(role, name, *values):
    runs = tuple(Run(seed=seed, value=value) for seed, value in enumerate(values))
    return Contender(role=role, name=name, tokens=(), digest=name, macs=10, params=5, runs=runs)


def test_the_verdict_calls_a_tie_a_tie_and_intervals_are_of_the_pooled_spread():
    comparison = Comparison(
        evaluator="e",
        images=1000,
        seeds=2,
        contenders=(
            contender("winner", "trial 3", 0.90, 0.92),
            contender("reference", "ref", 0.89, 0.91),
            contender("random", "random 1", 0.5, 0.52),
        ),
    )
    assert "it ties with ref (0.9000), and is ahead of 1 of 1 random candidates" in verdict(comparison)
    half = half_width(comparison, comparison.winner)
    assert half == pytest.approx(t_quantile(3) * np.sqrt(3 * 2e-4 / 3) / np.sqrt(2))


def test_what_is_absent_says_which_command_gives_it():
    for make in (trained, scored, scaled):
        found = make(Attached())
        assert isinstance(found, Absent)
        assert "nas " in found.reason
    assert not isinstance(trained(Attached()), Section)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_training_that_may_not_be_read_is_a_mistake(left, tmp_path):
    left.training(tmp_path / "run")
    (tmp_path / "run" / "training.json").chmod(0)
    with pytest.raises(UsageError):
        recognise(tmp_path / "run")
