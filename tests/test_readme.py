"""README.md is short, its example works, and it leads to files that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
OTHERS = (ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_the_readme_is_read_in_one_sitting():
    assert len(README.splitlines()) <= 150


def test_the_python_example_is_the_example_file():
    (shown,) = blocks("python")
    text = (ROOT / "examples" / "own_space.py").read_text()
    assert text.split('"""\n', 1)[1].strip() == shown.strip()


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make ([a-z]+)\b", "".join(blocks("sh")), re.M)
    assert targets == ["search", "test"]
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)


@pytest.mark.parametrize("page", OTHERS, ids=lambda page: page.name)
def test_every_link_of_a_page_outside_of_the_site_leads_to_a_file(page):
    found = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [file for file in found if not (page.parent / file).exists()] == []


@pytest.mark.slow
def test_the_example_searches_builds_and_exports_as_the_readme_prints(tmp_path, monkeypatch, capsys):
    """Its two trials run in this process."""
    text, count = re.subn(r"trials=8\b", "trials=2, executor='inline'", blocks("python")[0])
    assert count == 1
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "README.md", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"2 trials; best: 0\.\d{3} with [\d,]+ macs", printed[0])
    assert printed[1:] == blocks("text")[0].splitlines()[1:]
