"""The commands, options, names, links and Python of every page work: README's and the site's.

A fenced `sh` command is read by the real parser. Python is run, page by page, in the folder that the tutorial
leaves, and so are the commands of the pages in `RUN`, with the fewer trials and epochs of `REDUCED`. A page
may say in a comment that begins with `first` what its Python takes as given.
"""

import ast
import io
import os
import pkgutil
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from contextlib import chdir, redirect_stdout
from functools import cache
from pathlib import Path

import pytest

import controllers
import nas
import search_spaces
from nas.cli.main import COMMANDS, main, make_parser
from nas.full_training.recipes import RECIPES
from nas.protocols import Evaluator, Executor, Probe, Reporter
from nas.spaces import is_built_in

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
TUTORIAL = DOCS / "start" / "tutorial.md"
RUN = (TUTORIAL,)
"""Pages whose commands are run, not only read."""

REDUCED = {
    "--trials": "--trials 2 --epochs 1",
    "--epochs": "--epochs 1",
    "--workers": "--executor inline",
    "--compare-random": "--compare-random 0",
    "--compare-seeds": "--compare-seeds 1",
}
SMALLER = {
    "< 200": "< 12",
    "randoms=2, seeds=2": "randoms=0, seeds=1",
    "epochs=30": "epochs=0.2",
    "trials=200": "trials=2",
}
"""What the tests write in place of a page's numbers."""

FENCE = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.S | re.M)
FIRST = re.compile(r"^<!-- first\n(.*?)^-->$", re.S | re.M)
FOREIGN = {"cd", "export", "git", "jupyter", "mlflow", "ray", "sqlite3", "tensorboard", "wandb"}
"""Programs of others, of which a page shows no more than it needs."""


def blocks(page, *languages):
    return [body for language, _, body in FENCE.findall(page.read_text()) if language in languages]


def commands(page):
    """The fenced commands of a page, as words without the variables before them."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    for line in lines:
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words:
            yield words[: words.index(">")] if ">" in words else words


def named(pages):
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(ROOT)))


@cache
def parsers():
    return make_parser()


@named(PAGES)
def test_every_command_in_a_page_is_accepted(page):
    for words in commands(page):
        program = Path(words[0]).name
        assert program in CHECKS or program in FOREIGN, (
            f"{program} in {page.name}: say in this file how it is checked"
        )
        if program in CHECKS:
            CHECKS[program](words[1:])
        for word in words:
            check_own_file(word, page)


def check_nas(words):
    if words == ["--help"]:
        return
    elided = "..." in words
    given = [word for word in words if word != "..."] + ["--out", "runs/a"] * elided
    arguments, unknown = parsers()[0].parse_known_args(given)
    assert not unknown, f"{unknown} in: nas {shlex.join(words)}"
    space = getattr(arguments, "space", None)
    assert space is None or ".py:" in space or is_built_in(space), space
    recipe = getattr(arguments, "recipe", None)
    assert not isinstance(recipe, str) or recipe in RECIPES or recipe.endswith(".toml"), recipe


def check_own_file(word, page):
    """A name in a file of Python is there, in the repository or on the page; others are the reader's own."""
    path, _, name = word.partition(":")
    shown = {title: body for _, title, body in FENCE.findall(page.read_text())}
    if name and path.endswith(".py") and (path in shown or not Path(path).name.startswith("my_")):
        text = shown[path] if path in shown else (ROOT / path).read_text()
        assert re.search(rf"\b{name}\b", text), word


def check_python(words):
    """A script is in the repository with its options, or is one that a page or an export writes."""
    script = words[0]
    if script == "-m":
        script = f"{words[1].replace('.', '/')}.py" if words[1].startswith("benchmarks") else ""
    if not script or Path(script).name in ("predict.py", "make_photos.py"):
        return
    text = (ROOT / script).read_text()
    for option in (word for word in words if word.startswith("--")):
        assert f'"{option}"' in text, f"{option} of {script}"


def check_pip(words):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for found in re.findall(r"mnas\[([\w,]+)\]|\.\[([\w,]+)\]", " ".join(words)):
        assert set("".join(found).split(",")) <= set(extras), found


def check_make(words):
    makefile = (ROOT / "Makefile").read_text()
    for target in words:
        assert "=" in target or re.search(rf"^{target}:", makefile, re.M), target


CHECKS = {"nas": check_nas, "python": check_python, "pip": check_pip, "make": check_make}


@named(PAGES)
def test_every_command_and_option_in_a_sentence_exists(page):
    text = FENCE.sub("", page.read_text())
    for command in re.findall(r"`(nas [^`]+)`", text):
        words = [word for word in shlex.split(command) if word != "..."]
        if words[1].isupper() or words[1].startswith("-"):
            continue
        assert words[1] in COMMANDS, command
        known = parsers()[1][words[1]]._option_string_actions
        assert {word for word in words if word.startswith("--") and word != "--help"} <= set(known), command
    assert {
        option for option in re.findall(r"`(--[a-z][a-z-]*[a-z])(?=[` =])", text) if not offers(option)
    } == set()


@cache
def offers(option):
    """Whether a command, a benchmark or an exported program has an option."""
    texts = (*(ROOT / "benchmarks").glob("*.py"), ROOT / "nas" / "export" / "bundle_predict.py")
    of_commands = any(option in parser._option_string_actions for parser in parsers()[1].values())
    return of_commands or any(f'"{option}"' in path.read_text() for path in texts)


@named(PAGES)
def test_commands_stand_in_fences(page):
    """A command in an indented block would be read by nobody."""
    text = FENCE.sub("", page.read_text())
    assert re.findall(r"^    +(?:nas|pip|python|tensorboard) .*$", text, re.M) == []


@named(PAGES)
def test_every_link_in_a_page_leads_to_a_file_and_a_heading(page):
    text = FENCE.sub("", page.read_text())
    for file, heading in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        target = page.parent / file if file else page
        assert target.exists(), file
        assert not heading or heading in anchors(target), f"{file}#{heading}"


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@named(PAGES)
def test_every_source_file_in_a_page_exists(page):
    shown = re.findall(
        r"\b((?:nas|controllers|search_spaces|benchmarks|tests|examples)/[\w/]+\.py)", page.read_text()
    )
    assert [path for path in shown if not (ROOT / path).is_file()] == []


@named(PAGES)
def test_every_name_of_the_packages_in_a_page_exists(page):
    for name in re.findall(r"`((?:nas|search_spaces|controllers)(?:\.\w+)+)", page.read_text()):
        assert name.endswith(".py") or found(name), name


def found(name):
    """Whether a dotted name is a module or an attribute of one."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.parametrize("package", [nas, search_spaces, controllers], ids=lambda package: package.__name__)
def test_the_reference_has_every_public_name_once(package):
    page = (DOCS / "reference" / f"{package.__name__}.md").read_text()
    shown = re.findall(rf"^::: ({package.__name__}\.[\w.]+)$", page, re.M)
    assert sorted(name.rpartition(".")[2] for name in shown) == sorted(package.__all__)
    assert [name for name in shown if (ROOT / f"{name.replace('.', '/')}.py").exists()] == []  # a module


@pytest.mark.parametrize(
    ("row", "protocol"),
    [("evaluator", Evaluator), ("latency probe", Probe), ("executor", Executor), ("reporter", Reporter)],
)
def test_the_site_lists_every_member_of_a_protocol(row, protocol):
    (cell,) = re.findall(rf"^\| {row} \| ([^|]*) \|", (DOCS / "yours" / "index.md").read_text(), re.M)
    members = {name for name in vars(protocol) if not name.startswith("_")}
    assert members <= set(re.findall(r"`(\w+)[`(]", cell))


@named(PAGES)
def test_the_python_in_a_page_is_python(page):
    for block in (*FIRST.findall(page.read_text()), *blocks(page, "python")):
        ast.parse(block)


def has_something_to_run(page):
    return bool(blocks(page, "python")) or page in RUN


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """The folder of a reader who has followed the tutorial."""
    folder = tmp_path_factory.mktemp("reader")
    run_page(TUTORIAL, folder)
    return folder


@pytest.mark.slow
@pytest.mark.xdist_group("docs")
@named([page for page in PAGES if page.name != "README.md" and has_something_to_run(page)])
def test_the_examples_of_a_page_run(page, walked):
    if page == TUTORIAL:
        assert (walked / "runs" / "t" / "bundle" / "predict.py").is_file()
    else:
        run_page(page, walked)


def run_page(page, folder):
    """Runs the Python of a page, and its commands where the page is one of `RUN`, from top to bottom."""
    names = {"__name__": "page"}
    text = page.read_text()
    before = list(sys.path), set(sys.modules)
    with chdir(folder):
        sys.path.insert(0, str(folder))
        for setup in FIRST.findall(text):
            exec(compile(setup, f"{page.name}, first", "exec"), names)
        printed = None
        for block in FENCE.finditer(text):
            language, title, body = block.groups()
            for wide, narrow in SMALLER.items():
                body = body.replace(wide, narrow)
            if title:
                Path(title).write_text(body)
            elif language == "python":
                with redirect_stdout(io.StringIO()) as output:
                    exec(compile(body, str(page), "exec"), names)
                printed = block.end(), output.getvalue()
            elif language == "sh" and page in RUN:
                run_commands(body)
            elif language == "text" and printed and not text[printed[0] : block.start()].strip():
                assert shape(printed[1]) == shape(body)
    sys.path[:] = before[0]
    for module in set(sys.modules) - before[1]:
        if str(getattr(sys.modules[module], "__file__", "")).startswith(str(folder)):
            del sys.modules[module]


def shape(output):
    """What was printed, whatever its numbers and the stars of the best."""
    return re.sub(r"[\d.,]+", "#", output.replace(" *", "")).split()


def run_commands(body):
    """Runs commands one after the other, those of `nas` in this process."""
    there = Path.cwd()
    for line in body.replace("\\\n", " ").splitlines():
        words = reduced(shlex.split(line, comments=True))
        program = words[0] if words else ""
        if program == "cd":
            os.chdir(words[1])
        elif program == "nas" and "--dry-run" not in words:  # what follows checks the same
            assert main(expanded(words[1:])) == 0, line
        elif program == "python" and Path(words[1]).parent == Path():
            if words[1] == "make_photos.py":
                runpy.run_path(words[1])
            else:
                subprocess.run([sys.executable, *expanded(words[1:])], check=True, capture_output=True)
    os.chdir(there)


def reduced(words):
    """A command with fewer trials and epochs, in this process."""
    line = list(words)
    for option, instead in REDUCED.items():
        if option in line:
            at = line.index(option)
            line[at : at + 2] = instead.split()
    return line


def expanded(words):
    """Words with the files that patterns mean, as a shell gives them."""
    found = {word: sorted(map(str, Path().glob(word))) for word in words if "*" in word and " " not in word}
    return [path for word in words for path in found.get(word) or [word]]
