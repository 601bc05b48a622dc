import base64
import gzip
import json
import re
import shutil
import sqlite3
from contextlib import suppress
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from nas.cli.main import main
from nas.errors import NasError, StudyError, UsageError
from nas.evaluation.comparison import Comparison, Contender, Run
from nas.evaluators import TableEvaluator
from nas.execution.inline_executor import InlineExecutor
from nas.report.page.document import MOST_BYTES, render
from nas.report.page.overview import verdict
from nas.report.page.parts import Absent, Chart, Code, Page, Picture, Section, Words
from nas.report.page.source import Source, sample
from nas.report.printing import Column, Table
from nas.rungs import Rungs
from nas.short_form import search
from nas.study.study import open_study
from nas.study_page import page_of, write_report
from nas.trial import Cause, InfeasibleError

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Elements(HTMLParser):
    """The elements of a page, and whether each is closed where it should be."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.text = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def written(study, tmp_path_factory):
    return write_report(study, tmp_path_factory.mktemp("page") / "page.html")


@pytest.fixture(scope="module")
def text(written):
    return written.path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def elements(text):
    return Elements(text)


def data_of(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


def table():
    return Table(key="t", title="t", columns=(Column(key="a", heading="a"),), rows=({"a": 1},))


def page_with(*blocks):
    section = Section(key="s", title="S", lead="Lead.", blocks=blocks)
    return render(Page(title="t", subtitle="", parts=(section,))).decode()


def without_trials(folder, copy):
    """A copy of a study as it is before its first proposal."""
    shutil.copytree(folder, copy)
    with sqlite3.connect(copy / "study.sqlite") as database:
        for name in ("measurement", "attempt", "recommendation"):
            database.execute(f"DELETE FROM {name}")
        database.execute("DELETE FROM trial")
        database.execute("UPDATE study SET ended_at = NULL, ending = NULL")
    return copy


def test_a_page_is_one_well_formed_file_below_six_megabytes(written, elements):
    assert written.size == written.path.stat().st_size < MOST_BYTES
    assert [attributes["lang"] for attributes in elements.of("html")] == ["en"]


def test_a_page_names_no_address_that_a_browser_would_ask(text, elements):
    links = [value for _, attributes in elements.found for value in attributes.values() if value]
    assert not [link for link in links if re.match(r"(?i)(https?:)?//", link)]
    assert not re.search(r"url\(|@import", text.split("<body>")[0])
    policy = elements.of("meta")[1]["content"]
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy
    assert "unsafe-eval" not in policy


def test_the_library_unpacks_to_plotly(text):
    packed = re.search(r'id="library">(.*?)</script>', text)[1]
    from plotly.offline import get_plotlyjs

    assert gzip.decompress(base64.b64decode(packed)).decode() == get_plotlyjs()


def test_what_a_study_says_is_text_and_never_an_element(text, elements):
    assert "<img src=x" not in text
    assert "</script><b>" not in text
    assert elements.of("img") == []
    assert any("<img src=x onerror=window.hacked=1>" in said for said in elements.text)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert any(said == "a <b>study & 'more'" for said in elements.text)


def test_text_from_right_to_left_is_isolated(text):
    assert re.search(r"<bdi>[^<]*שלום[^<]*</bdi>", text)


def test_a_page_has_a_place_for_each_section_and_says_what_is_not_on_it(written, elements):
    keys = [section.key for section in written.page.sections]
    known = "overview best front decisions options predicted workers failures repeat"
    assert keys == known.split()
    assert {part.key for part in written.page.absent} == {
        "rungs",
        "shared",
        "comparison",
        "trainings",
        "scores",
        "maps",
        "scaling",
        "latency",
    }
    assert [attributes["id"] for attributes in elements.of("section")] == [*keys, "absent"]
    assert [attributes["href"] for attributes in elements.of("a")] == ["#main", *(f"#{key}" for key in keys)]


def test_every_chart_has_a_text_and_its_numbers(text, written, elements):
    charts = [b for section in written.page.sections for b in section.blocks if isinstance(b, Chart)]
    assert len(charts) >= 7
    assert len({chart.key for chart in charts}) == len(charts)
    for chart in charts:
        assert re.search(r"\d", chart.alt)
        assert chart.table.rows
    shown = [a["aria-label"] for a in elements.of("div") if a.get("role") == "img"]
    assert len(shown) == len(charts) == len(data_of(text)["charts"])


def test_a_trial_opens_with_its_stages_measurements_and_command(text, study):
    trials = data_of(text)["trials"]
    assert set(trials["cards"]) == {str(trial.number) for trial in study.trials}
    best = trials["cards"][str(study.best.number)]
    stages = [trials["pool"][place][0] for place in best["lines"]]
    assert stages == ["stem", "stage1", "stage2", "head"]
    values = dict(zip(trials["labels"], best["values"], strict=True))
    assert values["multiply-adds"] == f"{study.best.macs:,}"
    failed = dict(zip(trials["labels"], trials["cards"]["3"]["values"], strict=True))
    assert "loss is nan" in failed["message"]


def test_the_first_sentence_names_the_winner_its_quality_and_its_cost(written, study):
    best = study.best
    lead = written.page.sections[0].lead
    assert f"Trial {best.number} " in lead
    assert f"{best.accuracy:.4f}" in lead
    assert "multiply-adds" in lead


def contender(role, name, *values):
    runs = tuple(Run(seed=seed, value=value) for seed, value in enumerate(values))
    return Contender(role=role, name=name, tokens=(), digest=name, macs=1_000, params=10, runs=runs)


def test_the_first_sentences_say_what_the_comparison_says_of_reference_and_random_candidates(study):
    contenders = (
        contender("winner", "trial 1", 0.80, 0.81),
        contender("reference", "small reference", 0.80, 0.81),
        contender("random", "random 1", 0.50, 0.51),
        contender("random", "random 2", 0.90, 0.91),
    )
    compared = Comparison(evaluator="", images=1_000, seeds=2, contenders=contenders)
    words = verdict(study, compared)
    assert "tested on images that the search never saw, it has 0.8050" in words
    assert "it ties with small reference (0.8050)" in words
    assert "beats 1, is behind 1 of 2 random candidates" in words
    alone = verdict(study, replace(compared, contenders=contenders[:1]))
    assert alone.endswith("it has 0.8050.")


def test_random_search_is_said_to_be_simulated(written):
    section = written.page.sections[1]
    assert "simulated random search" in section.lead
    assert "simulated, not run" in section.blocks[0].notes[0]


def test_a_study_of_random_search_is_compared_with_its_own_results_in_other_orders(space, tmp_path):
    table = TableEvaluator(lambda candidate: (candidate.job.seed % 89) / 100)
    found = search(
        space, evaluator=table, controller="random", trials=12, executor=InlineExecutor(), out=tmp_path / "s"
    )
    chart = page_of(found).sections[1].blocks[0]
    assert "this search is one itself" in chart.notes[0]
    median = next(trace for trace in chart.figure["data"] if trace.get("name") == "its median, simulated")
    assert median["y"][-1] == max(trial.reward for trial in found.completed)


def test_a_search_with_rungs_shows_who_climbed(space, tmp_path):
    table = TableEvaluator(lambda candidate: 0.9 - 0.5 * candidate.job.fidelity)
    found = search(
        space,
        evaluator=table,
        controller="random",
        trials=9,
        rungs=Rungs((0.25, 1.0), reduction_factor=2),
        executor=InlineExecutor(),
        out=tmp_path / "s",
    )
    section = next(one for one in page_of(found).sections if one.key == "rungs")
    climbing = [trace for trace in section.blocks[0].figure["data"] if len(trace["x"]) == 2]
    assert climbing
    assert all(len(trace["customdata"]) == 2 for trace in climbing)


def test_a_search_of_a_front_shows_its_hypervolume(space, tmp_path):
    found = search(
        space,
        evaluator=TableEvaluator(lambda candidate: (candidate.job.seed % 89) / 100),
        objective="max accuracy; min macs",
        trials=8,
        executor=InlineExecutor(),
        out=tmp_path / "s",
    )
    best = next(one for one in page_of(found).sections if one.key == "best")
    assert "hypervolume" in best.lead


def test_the_policy_of_tensorboard_and_of_the_journal_are_on_one_heat_map(written):
    options = next(one for one in written.page.sections if one.key == "options")
    policy = next(block for block in options.blocks if block.key == "options-policy")
    columns = policy.figure["data"][0]["z"][1]
    assert len(columns) > 2
    assert None not in columns


def test_shares_of_options_add_up_to_one(written):
    options = next(one for one in written.page.sections if one.key == "options")
    rows = options.blocks[0].figure["data"][0]["z"][1:3]
    assert [round(a + b, 2) for a, b in zip(*rows, strict=True)] == [1.0] * len(rows[0])


def test_a_study_whose_space_is_not_known_says_so(study, tmp_path):
    page = write_report(study.folder, tmp_path / "p.html").page
    reasons = {part.key: part.reason for part in page.absent}
    assert "is not known here" in reasons["options"]
    assert "needs the space" in reasons["decisions"]


def test_a_study_whose_own_space_is_gone_still_has_a_page(study, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(study.folder, folder)
    with sqlite3.connect(folder / "study.sqlite") as database:
        database.execute("""UPDATE study SET settings_json = '{"space": "/gone/space.py:own"}'""")
    page = write_report(folder, tmp_path / "p.html").page
    assert {"overview", "front", "repeat"} <= {section.key for section in page.sections}


def test_a_study_without_a_trial_has_a_page_that_says_that_it_runs(study, space, tmp_path):
    folder = without_trials(study.folder, tmp_path / "s")
    page = page_of(open_study(folder, space=space))
    assert "had not ended" in page.notes[-1]
    assert "0 of 24 (0 %) trials done" in page.notes[-1]
    assert "No trial has completed yet" in page.sections[0].lead
    assert {"best", "front", "decisions", "options", "workers"} <= {part.key for part in page.absent}
    assert render(page)


def test_a_study_in_which_every_trial_failed_shows_its_failures(space, tmp_path):
    def fails(candidate):
        raise InfeasibleError(Cause.DIVERGED, f"nan in trial {candidate.job.trial}")

    with suppress(NasError):
        search(
            space, evaluator=TableEvaluator(fails), trials=4, executor=InlineExecutor(), out=tmp_path / "s"
        )
    page = page_of(open_study(tmp_path / "s", space=space))
    failures = next(section for section in page.sections if section.key == "failures")
    assert "diverged" in failures.lead
    assert any(isinstance(block, Code) and "nan in trial" in block.text for block in failures.blocks)
    assert render(page)


def test_a_study_of_an_earlier_version_has_a_page(study, space, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(study.folder, folder)
    with sqlite3.connect(folder / "study.sqlite") as database:
        database.execute("DROP TABLE driver")
        database.execute("DROP TABLE identity_copy")
        database.execute("DROP TABLE recommendation")
        database.execute("ALTER TABLE study DROP COLUMN data_json")
        database.execute("UPDATE study SET settings_json = '{}'")
        database.execute("PRAGMA user_version = 1")
    page = page_of(open_study(folder, space=space))
    assert {"overview", "repeat"} <= {section.key for section in page.sections}


@pytest.mark.slow
def test_a_study_of_thousands_of_trials_gives_a_small_page_in_seconds_that_says_what_it_shows(
    study, space, tmp_path
):
    folder = tmp_path / "many"
    shutil.copytree(study.folder, folder)
    multiply(folder, 5_000)
    written = write_report(open_study(folder, space=space), tmp_path / "p.html")
    assert written.size < MOST_BYTES
    assert "5,000 trials, of which 1,500 are shown" in written.page.notes[0]


def multiply(folder, count):
    """Makes a study of so many trials from one of few, each as many copies as it takes."""
    with sqlite3.connect(folder / "study.sqlite") as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(trial)")]
        (own,) = database.execute("SELECT count(*) FROM trial").fetchone()
        same = [c for c in columns if c not in ("number", "feedback_rank", "weights_file", "continues")]
        names = ", ".join(same)
        for start in range(own, count, own):
            database.execute(
                f"INSERT INTO trial (number, {names}) SELECT number + {start}, {names} FROM trial "
                f"WHERE number < min({own}, {count - start})"
            )
            database.execute(
                "INSERT INTO measurement (trial, metric, value, unit, environment, attempt) SELECT trial + "
                f"{start}, metric, value, unit, environment, attempt FROM measurement "
                f"WHERE trial < min({own}, {count - start})"
            )
            database.execute(
                "INSERT INTO attempt SELECT trial + "
                f"{start}, number, status, cause, message, node, seed, fidelity, started_at, finished_at, "
                f"worker_seconds FROM attempt WHERE trial < min({own}, {count - start})"
            )


def test_a_sample_of_trials_keeps_the_winner_and_the_front_and_is_spread_over_the_search(study):
    shown = sample(study, 14)
    numbers = [trial.number for trial in shown]
    assert len(shown) == 14
    assert numbers == sorted(set(numbers))
    assert study.best.number in numbers
    assert sample(study, 100) == study.trials


def test_a_picture_that_finds_no_room_is_left_out_and_named():
    small = Picture(title="small one", content=b"x" * 10, kind="png", alt="1 small picture")
    large = Picture(title="large one", content=b"x" * MOST_BYTES, kind="png", alt="1 large picture")
    text = page_with(large, small)
    assert "large one: left out, so that the page stays small." in text
    assert text.count("<img") == 1
    assert len(text) < MOST_BYTES


def test_a_section_that_is_absent_is_listed_with_its_reason():
    page = Page(title="t", subtitle="", parts=(Absent(key="a", title="Curves", reason="no <training> yet"),))
    assert "<dt>Curves</dt><dd>no &lt;training&gt; yet.</dd>" in render(page).decode()


def test_blocks_that_follow_each_other_are_drawn_in_their_order():
    text = page_with(
        Words(lines=("first words",)), table(), Code(title="a log", text="x < 1", is_folded=True)
    )
    places = [
        text.index(word) for word in ("first words", 'id="table-1"', "<summary>a log</summary>", "x &lt; 1")
    ]
    assert places == sorted(places)


def test_the_same_study_is_read_once_for_all_sections(study):
    source = Source.of(study, most_trials=10)
    assert source.insight is not None
    assert source.shown == sample(study, 10)


def test_the_command_writes_beside_the_study_and_says_what_is_on_the_page(study, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(study.folder, folder)
    assert main(["report", str(folder), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["path"] == str(folder / "report.html")
    assert data["bytes"] == (folder / "report.html").stat().st_size
    assert "overview" in data["sections"]
    assert "rungs" in data["left_out"]
    assert main(["report", str(folder)]) == 0
    assert "not on it" in capsys.readouterr().out


def test_the_command_of_a_folder_without_a_study_says_so(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "there is no study" in capsys.readouterr().err
    with pytest.raises(StudyError):
        write_report(tmp_path)


@pytest.mark.parametrize("place", ["folder", "below a file", "no permission"])
def test_a_file_that_cannot_be_written_leaves_nothing_behind(study, tmp_path, place):
    out = tmp_path / "page.html"
    if place == "folder":
        out.mkdir()
    elif place == "below a file":
        (tmp_path / "file").write_text("")
        out = tmp_path / "file" / "page.html"
    else:
        out = "/proc/page.html"
    with pytest.raises(UsageError) as caught:
        write_report(study, out)
    assert caught.value.field == "out"
    assert not list(tmp_path.rglob("*.new"))


def test_no_other_file_than_a_page_is_ever_replaced(study):
    journal = study.folder / "study.sqlite"
    before = journal.read_bytes()
    with pytest.raises(UsageError, match=r"must end in \.html") as caught:
        write_report(study, journal)
    assert caught.value.field == "out"
    assert journal.read_bytes() == before


def test_a_page_that_is_there_is_replaced_whole(study, tmp_path):
    out = tmp_path / "page.html"
    out.write_text("old")
    write_report(study, out)
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_without_plotly_the_remedy_is_named(study, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "plotly.offline", None)
    with pytest.raises(UsageError, match=re.escape("pip install 'mnas[report]'")):
        write_report(study, tmp_path / "p.html")


def test_a_folder_that_does_not_exist_is_said_not_to(tmp_path):
    with pytest.raises(UsageError, match="nowhere does not exist") as caught:
        write_report([tmp_path / "nowhere"])
    assert caught.value.field == "folders"


def test_no_study_at_all_is_a_mistake():
    with pytest.raises(UsageError) as caught:
        write_report([])
    assert caught.value.field == "studies"
