"""What is released: a wheel of the packages alone that imports without a checkout; licences and citation."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("controllers", "nas", "search_spaces")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of an sdist, and of a wheel made of it, from the files that are released."""
    source = tmp_path_factory.mktemp("source")
    unwanted = shutil.ignore_patterns("__pycache__")
    for name in (*PACKAGES, "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=unwanted)
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, source)
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", str(source)], check=True, capture_output=True
    )
    return source / "dist"


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.slow
def test_the_wheel_holds_the_packages_and_nothing_else(wheel):
    names = wheel.namelist()
    metadata = f"mnas-{PROJECT['version']}.dist-info"
    assert {name.split("/")[0] for name in names} == {*PACKAGES, metadata}
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", ".typed", ".csv", ".js", ".css", ".html")
    }
    assert {name for name in names if not name.startswith(metadata)} == expected
    assert f"{metadata}/licenses/LICENSE" in names
    text = wheel.read(f"{metadata}/METADATA").decode()
    assert "License-Expression: Apache-2.0" in text
    assert wheel.read(f"{metadata}/entry_points.txt").decode().split() == [
        "[console_scripts]",
        "nas",
        "=",
        "nas.__main__:main",
    ]


@pytest.mark.slow
def test_the_sdist_holds_what_a_wheel_is_made_of(built):
    (path,) = built.glob("*.tar.gz")
    listed = subprocess.run(["tar", "tzf", path], check=True, capture_output=True, text=True).stdout.split()
    found = {name.split("/")[1] for name in listed}
    assert {*PACKAGES, "LICENSE", "README.md", "CITATION.cff", "CHANGELOG.md", "pyproject.toml"} <= found
    assert not {"tests", "benchmarks", "docs", "examples"} & found


@pytest.fixture(scope="module")
def imported(wheel, tmp_path_factory):
    """What a process that imports every module of the unpacked wheel prints: its place, and hidden names."""
    folder = tmp_path_factory.mktemp("unpacked")
    wheel.extractall(folder)
    modules = [name[:-3].replace("/", ".") for name in wheel.namelist() if name.endswith(".py")]
    modules = [name.removesuffix(".__init__") for name in modules if not name.endswith("__main__")]
    code = (
        "import importlib, inspect, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "import nas\n"
        "print(nas.__file__)\n"
        "print([name for name in nas.__all__ if inspect.ismodule(getattr(nas, name))])\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *modules],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},  # comes before what is installed
        check=True,
        capture_output=True,
        text=True,
    )
    return folder, done.stdout.splitlines()


@pytest.mark.slow
def test_every_module_of_the_wheel_imports_where_there_is_no_checkout(imported):
    folder, (place, _) = imported
    assert place == str(folder / "nas" / "__init__.py")


@pytest.mark.slow
def test_no_public_name_is_hidden_by_a_module_of_its_name(imported):
    _, (_, hidden) = imported
    assert hidden == "[]"


@pytest.fixture
def packages(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import licences

    return {one.name: one for one in licences.packages()}


def test_the_page_of_licences_has_every_dependency_as_it_is_installed(packages):
    rows = {}
    for line in (ROOT / "docs" / "licences.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[0] not in ("package", "---"):
            rows[cells[0]] = cells[1:]
    direct = {canonicalize_name(re.match(r"[\w.-]+", text)[0]) for text in PROJECT["dependencies"]}
    assert {name for name, cells in rows.items() if cells[1] == "yes"} == direct
    assert {name: rows[name][3] for name in direct} == {name: packages[name].kind for name in direct}


def test_no_dependency_is_under_a_licence_that_users_must_not_get_unawares(packages):
    kinds = {name: one.kind for name, one in packages.items()}
    assert "copyleft" not in kinds.values()
    assert all(name.startswith(("nvidia-", "cuda-")) for name, kind in kinds.items() if kind == "proprietary")


def test_the_citation_names_the_version_and_licence_of_the_package():
    text = (ROOT / "CITATION.cff").read_text()
    for key, value in (
        ("cff-version", "1.2.0"),
        ("version", PROJECT["version"]),
        ("license", PROJECT["license"]),
    ):
        assert re.search(rf"^{key}: {re.escape(value)}$", text, re.M), key
