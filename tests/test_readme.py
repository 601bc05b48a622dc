"""The commands, options, links and examples of the README and the docs work."""

import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nas.cli.main import COMMANDS, main
from nas.protocols import Evaluator, Executor, Probe, Reporter

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EVALUATION = (ROOT / "docs" / "evaluation.md").read_text()
PAGES = (ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").rglob("*.md")))


def blocks(language, page=README):
    return re.findall(rf"```{language}\n(.*?)```", page, re.S)


def run_example(name, folder, *arguments):
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_python_examples_are_the_example_files():
    names = ("own_space.py", "published_networks.py")
    for shown, name in zip(blocks("python"), names, strict=True):
        text = (ROOT / "examples" / name).read_text()
        assert text.split('"""\n', 1)[1].strip() == shown.strip()


def test_published_networks_print_what_the_readme_shows(tmp_path):
    assert run_example("published_networks.py", tmp_path) == blocks("text")[1]


@pytest.mark.parametrize("page", [README, EVALUATION], ids=["README", "evaluation"])
def test_every_nas_command_in_a_page_is_one_the_parser_knows(capsys, tmp_path, monkeypatch, page):
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"`(nas [^`]+)`", page)
    commands += [
        line for block in blocks("sh", page) for line in block.splitlines() if line.startswith("nas ")
    ]
    assert len(commands) >= 6
    for command in commands:
        words = [word for word in shlex.split(command, comments=True)[1:] if word != "..."]
        with pytest.raises(SystemExit) as ending:
            main([*words, "--help"])
        assert ending.value.code == 0, command
        offered = capsys.readouterr().out
        for option in (word for word in words if word.startswith("--")):
            assert option in offered, f"{option} in: {command}"


@pytest.mark.parametrize("page", [README, EVALUATION], ids=["README", "evaluation"])
def test_every_option_in_a_page_exists(capsys, page):
    offered = ""
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        offered += capsys.readouterr().out
    mentioned = set(re.findall(r"`(--[a-z-]+)", page))
    assert mentioned
    assert not {option for option in mentioned if option not in offered}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_in_a_page_leads_to_a_file_and_a_heading(page):
    for file, heading in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text()):
        target = page.parent / file if file else page
        assert target.exists(), file
        assert not heading or heading in anchors(target), f"{file}#{heading}"


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_source_file_in_a_page_exists(page):
    shown = re.findall(
        r"\b((?:nas|controllers|search_spaces|benchmarks|tests|examples)/[\w/]+\.py)", page.read_text()
    )
    assert [path for path in shown if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_name_of_nas_in_a_page_exists(page):
    for name in re.findall(r"`(nas(?:\.\w+)+)", page.read_text()):
        assert found(name), name


def found(name):
    """Whether a dotted name is a module or an attribute of one."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.parametrize(
    ("row", "protocol"),
    [("evaluator", Evaluator), ("latency probe", Probe), ("executor", Executor), ("reporter", Reporter)],
)
def test_the_readme_lists_every_member_of_a_protocol(row, protocol):
    (cell,) = re.findall(rf"^\| {row} \| ([^|]*) \|", README, re.M)
    members = {name for name in vars(protocol) if not name.startswith("_")}
    assert members <= set(re.findall(r"`(\w+)[`(]", cell))


def test_the_make_targets_in_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([a-z]+)\b", README):
        assert target == "and" or re.search(rf"^{target}:", makefile, re.M), target


@pytest.mark.slow
def test_the_readme_example_searches_builds_and_exports_as_it_prints(tmp_path, monkeypatch, capsys):
    """Its two trials run in this process."""
    text, count = re.subn(r"trials=8\b", "trials=2, executor='inline'", blocks("python")[0])
    assert count == 1
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "README.md", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"2 trials; best: 0\.\d{3} with [\d,]+ macs", printed[0])
    assert printed[1:] == blocks("text")[0].splitlines()[1:]
