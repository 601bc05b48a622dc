"""The page that compares several studies."""

import math
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ttest_ind

from nas.evaluation.comparison import Comparison, Contender, Run
from nas.report.page.parts import Absent, Chart, Drawing
from nas.report.page.studies import group, name_apart
from nas.report.page.studies_differences import differences_of_studies, welch
from nas.study.study import open_study
from nas.study.study_folder import FILE_NAME
from nas.study_page import write_report


@pytest.fixture(scope="module")
def opened(searches, space):
    return tuple(open_study(folder, space=space) for folder in searches)


@pytest.fixture(scope="module")
def written(opened, tmp_path_factory):
    return write_report(opened, tmp_path_factory.mktemp("page") / "page.html")


def section(written, key):
    return next(part for part in written.page.parts if part.key == key)


def test_studies_that_differ_in_the_seed_alone_are_one_setup_and_other_objectives_are_apart(opened):
    first, second = group(name_apart(opened))
    assert [len(setup.studies) for setup in first.setups] == [2, 2]
    assert [one.name for one in second.studies] == ["other objective"]


def test_studies_that_are_equal_to_the_seed_are_not_said_to_differ_in_it(opened, tmp_path):
    again = open_study(shutil.copytree(opened[0].folder, tmp_path / "again"))
    (found,) = group(name_apart([opened[0], again]))
    assert [len(setup.studies) for setup in found.setups] == [1, 1]
    written = write_report([opened[0], again], tmp_path / "page.html")
    assert "differ in the seed" not in str(section(written, "studies").blocks)


def test_a_folder_of_studies_and_trainings_gives_all_of_them(opened, left, tmp_path):
    runs = tmp_path / "runs"
    for name, study in (("a", opened[0]), ("b", opened[1])):
        shutil.copytree(study.folder, runs / name)
    left.training(runs / "t", digest=opened[0].best.digest)
    written = write_report([runs], tmp_path / "page.html")
    assert [(one.path.name, one.kind) for one in written.found] == [
        ("a", "study"),
        ("b", "study"),
        ("t", "training"),
    ]
    assert len(section(written, "studies").blocks[0].rows) == 2
    assert written.path == tmp_path / "page.html"


def test_studies_in_folders_of_one_name_are_called_by_the_folder_above_too(opened, tmp_path):
    for place in ("a", "b"):
        shutil.copytree(opened[0].folder, tmp_path / place / "study")
    found = name_apart([open_study(tmp_path / place / "study") for place in ("a", "b")])
    assert [one.name for one in found] == ["a/study", "b/study"]


def test_what_cannot_be_compared_is_said_and_never_in_one_chart(written):
    words = str(section(written, "studies").blocks)
    assert "Not comparable: random-0 <b> and other objective differ in the objective" in words
    for key in ("best", "front"):
        charts = [block for block in section(written, key).blocks if isinstance(block, Chart)]
        for chart in charts:
            names = {row["study"] for row in chart.table.rows}
            assert names == {"other objective"} or "other objective" not in names


def test_the_median_of_seeds_lies_between_them_at_each_number_of_trials(written):
    chart = next(b for b in section(written, "best").blocks if b.key == "best-trials-a")
    low, high, median = chart.figure["data"][:3]
    assert median["x"] == list(np.arange(1.0, 13))
    assert all(a <= m <= b for a, m, b in zip(low["y"], median["y"], high["y"], strict=True))
    ends = [row["best"] for row in chart.table.rows][:2]
    assert median["y"][-1] == pytest.approx(sum(ends) / 2)


def test_hours_are_drawn_too_and_winners_stand_side_by_side(written):
    assert any(block.key == "best-hours-a" for block in section(written, "best").blocks)
    drawn = [block for block in section(written, "winners").blocks if isinstance(block, Drawing)]
    assert len(drawn) == 5


def test_two_setups_of_two_seeds_have_a_difference_with_welchs_interval(written):
    (table,) = section(written, "differences").blocks
    (row,) = table.rows
    assert row["low"] <= row["value"] <= row["high"]
    assert "2 and 2 seeds" in row["what"]


def test_welchs_interval_is_that_of_scipy_where_its_freedom_is_whole():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=5), rng.normal(size=5)
    found = ttest_ind(a, b, equal_var=False)
    half = welch(a.tolist(), b.tolist())
    interval = found.confidence_interval()
    assert half >= (interval.high - interval.low) / 2
    assert half == pytest.approx((interval.high - interval.low) / 2, rel=0.1)
    assert welch([1.0, 1.0], [1.0, 1.0]) is None


def compared(value):
    def contender(role, *values):
        runs = tuple(Run(seed=seed, value=one) for seed, one in enumerate(values))
        return Contender(role=role, name=role, tokens=(), digest=role, macs=1, params=1, runs=runs)

    return Comparison(
        evaluator="e",
        images=10,
        seeds=2,
        contenders=(contender("winner", value, value + 0.02), contender("random", 0.5, 0.52)),
    )


def test_winners_that_were_tested_alike_have_a_difference_and_others_have_none(opened, tmp_path):
    folders = [shutil.copytree(opened[place].folder, tmp_path / str(place)) for place in (0, 2)]
    first, second = compared(0.9), compared(0.7)
    first.save(folders[0])
    second.save(folders[1])
    found = differences_of_studies(group(name_apart([open_study(folder) for folder in folders])))
    (row,) = found.blocks[0].rows
    assert row["value"] == pytest.approx(0.2)
    deviation = math.sqrt(4 * 2e-4 / 4)
    assert row["high"] - row["value"] == pytest.approx(2.776445 * deviation, rel=1e-5)
    assert row["verdict"] == "larger"
    replace(second, evaluator="another").save(folders[1])
    none = differences_of_studies(group(name_apart([open_study(folder) for folder in folders])))
    assert isinstance(none, Absent)


def test_a_training_of_a_studys_network_is_called_its_own(opened, left, tmp_path):
    left.training(tmp_path / "of one", digest=opened[2].best.digest)
    left.training(tmp_path / "of none", digest="no network")
    written = write_report([*opened, tmp_path], tmp_path / "page.html")
    rows = {row["training"]: row["study"] for row in section(written, "trainings").blocks[0].rows}
    assert "evolution-0" in rows["of one"]
    assert rows["of none"] is None


def test_a_study_without_a_completed_trial_is_in_the_table_alone(opened, space, tmp_path):
    folder = shutil.copytree(opened[0].folder, tmp_path / "empty")
    with closing(sqlite3.connect(folder / FILE_NAME)) as database, database:
        database.execute("UPDATE trial SET status = 'proposed'")
    written = write_report([open_study(folder, space=space), opened[1]], tmp_path / "page.html")
    assert len(section(written, "studies").blocks[0].rows) == 2
    assert len(section(written, "winners").blocks) == 1


def test_a_study_that_is_given_twice_counts_once(opened, tmp_path):
    written = write_report([opened[0], opened[0].folder], tmp_path / "page.html")
    assert "overview" in [part.key for part in written.page.parts]
