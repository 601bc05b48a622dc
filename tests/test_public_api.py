"""The public API is `__all__`: nothing is missing or undocumented, and a change of it is seen in review."""

import ast
import importlib
import inspect
import re
from itertools import pairwise
from pathlib import Path

import pytest

import nas

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "api_stability.md").read_text()
PACKAGES = ("nas", "search_spaces", "controllers")
MODULES = (
    *PACKAGES,
    "search_spaces.primitives",
    "search_spaces.testing",
    "controllers.testing",
    "nas.testing",
)
GOLDEN = (ROOT / "tests" / "public_api.txt").read_text().splitlines()
"""Made by `python -P tests/test_public_api.py > tests/public_api.txt`."""


def public_names():
    return [
        f"{module}.{name}" for module in MODULES for name in sorted(importlib.import_module(module).__all__)
    ]


def is_ours(value):
    return str(getattr(value, "__module__", "")).partition(".")[0] in PACKAGES


def test_the_public_names_are_those_on_record():
    assert public_names() == GOLDEN, "a change of the public API: write it into CHANGELOG.md and the list"


def test_the_page_names_every_public_module():
    assert [module for module in MODULES if f"`{module}`" not in PAGE] == []


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_exists_once(name):
    module = importlib.import_module(name)
    assert [one for one in module.__all__ if not hasattr(module, one)] == []
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_offers_nothing_that_is_not_public(name):
    module = importlib.import_module(name)
    offered = {
        one
        for one, value in vars(module).items()
        if not one.startswith("_") and not inspect.ismodule(value) and is_ours(value)
    }
    assert offered | set(getattr(module, "_LAZY", ())) <= set(module.__all__)


@pytest.mark.parametrize("full", GOLDEN)
def test_a_public_name_and_its_members_are_documented(full):
    module, _, name = full.rpartition(".")
    value = getattr(importlib.import_module(module), name)
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        assert name in documented_values(), f"{full} has no docstring below it"
        return
    assert inspect.getdoc(value), full
    if inspect.isclass(value) and is_ours(value):
        bare = [
            member
            for member, what in vars(value).items()
            if not member.startswith("_")
            and isinstance(what, property | staticmethod | classmethod | type(documented_values))
            and not inspect.getdoc(getattr(value, member))
        ]
        assert bare == [], full


def documented_values():
    """Names of constants and type aliases with a docstring below them, of all files."""
    if not _VALUES:
        for package in PACKAGES:
            for path in (ROOT / package).rglob("*.py"):
                _VALUES.update(_documented(ast.parse(path.read_text()).body))
    return _VALUES


_VALUES: set[str] = set()


def _documented(body):
    for first, second in pairwise(body):
        if isinstance(second, ast.Expr) and isinstance(second.value, ast.Constant):
            targets = first.targets if isinstance(first, ast.Assign) else [getattr(first, "target", None)]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_examples_and_pages_import_public_names_alone():
    """Tables of nas.benchmarks are for research, and the page says that they may change."""
    texts = {path: path.read_text() for path in (ROOT / "examples").glob("*.py")}
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        texts[path] = "\n".join(re.findall(r"```python[^\n]*\n(.*?)```", path.read_text(), re.S))
    found = []
    for path, text in texts.items():
        for module, names in re.findall(
            r"^from ((?:nas|search_spaces|controllers)\S*) import ([^\n(]+)", text, re.M
        ):
            if module.startswith("nas.benchmarks"):
                continue
            public = importlib.import_module(module).__all__ if module in MODULES else ()
            found += [
                f"{path.name}: {module}.{one}" for one in re.split(r", ?", names.strip()) if one not in public
            ]
    assert found == []


@pytest.mark.parametrize("name", sorted(nas._REPLACED))
def test_an_earlier_name_is_answered_with_what_replaces_it(name):
    now = nas._REPLACED[name]
    with pytest.raises(AttributeError, match=f"'{name}': it is {now} now"):
        getattr(nas, name)
    assert now.removeprefix("nas.") in nas.__all__


if __name__ == "__main__":
    print("\n".join(public_names()))
