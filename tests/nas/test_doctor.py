import json
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import psutil
import pytest
from packaging.requirements import Requirement

from nas.doctor import (
    Finding,
    RayStart,
    check_disk,
    check_folder,
    check_gpus,
    check_memory,
    check_package,
    check_packages,
    check_shared_memory,
    check_system,
    diagnose,
)

EXABYTE = 1 << 60


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finding, ...]:
    return tuple(diagnose(out=tmp_path_factory.mktemp("out") / "not" / "yet", with_ray=False))


def named(findings: tuple[Finding, ...], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


def test_machine_that_runs_the_tests_has_no_failure(findings: tuple[Finding, ...]) -> None:
    assert [finding for finding in findings if finding.status == "fail"] == []


def test_every_check_has_one_finding(findings: tuple[Finding, ...]) -> None:
    names = [finding.name for finding in findings]
    checks = ("memory", "gpu", "folder", "disk", "shared memory", "training", "export")
    assert names == ["system", "packages", *checks]


def test_finding_has_a_remedy_just_when_something_is_wrong(findings: tuple[Finding, ...]) -> None:
    assert all(finding.detail for finding in findings)
    assert all(bool(finding.remedy) == (finding.status != "ok") for finding in findings)


def test_findings_are_written_as_json(findings: tuple[Finding, ...]) -> None:
    read = json.loads(json.dumps([asdict(finding) for finding in findings]))
    assert [Finding(**values) for values in read] == list(findings)


def test_training_takes_two_steps_and_export_goes_round(findings: tuple[Finding, ...]) -> None:
    assert named(findings, "training").detail.startswith("2 steps on ")
    assert "equal to the bit" in named(findings, "export").detail


@pytest.mark.parametrize(("system", "status"), [("Linux", "ok"), ("Windows", "warn"), ("Darwin", "warn")])
def test_the_system_is_named_with_what_is_supported(system: str, status: str) -> None:
    finding = check_system(system)
    assert (finding.status, finding.detail.split()[0]) == (status, system)
    assert ("Linux is supported and tested" in finding.detail) == (system != "Linux")


def test_libraries_are_those_that_the_distribution_requires(findings: tuple[Finding, ...]) -> None:
    detail = named(findings, "packages").detail
    assert f"numpy {metadata.version('numpy')}" in detail
    assert "pytest" not in detail  # of an extra


def test_a_library_that_is_missing_or_too_old_is_a_finding_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    required = ["no-such-library-anywhere>=1.2", "numpy>=99.1", "pillow>=9.9", "optuna>=99; extra == 'test'"]
    monkeypatch.setattr(metadata, "requires", lambda _: required)
    missing, old, good = check_packages()
    assert (missing.status, missing.detail) == ("fail", "not installed")
    assert missing.remedy == "python -m pip install 'no-such-library-anywhere>=1.2'"
    assert (old.name, old.status) == ("numpy", "fail")
    assert ">=99.1 is needed" in old.detail
    assert (good.name, good.status, good.detail.split()[0]) == ("packages", "ok", "pillow")


def test_a_folder_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    (finding,) = check_packages()
    assert finding.status == "warn"


@pytest.mark.parametrize("least", ["9", "9.9", "10.0.0"])
def test_versions_compare_as_numbers_not_as_words(least: str) -> None:
    assert check_package(Requirement(f"pillow>={least}")).status == "ok"


def test_little_space_warns_and_no_space_fails(tmp_path: Path) -> None:
    assert check_disk(tmp_path, least=0, roomy=0).status == "ok"
    assert check_disk(tmp_path, least=0, roomy=EXABYTE).status == "warn"
    assert check_disk(tmp_path, least=EXABYTE, roomy=EXABYTE).status == "fail"
    assert check_shared_memory(tmp_path, least_free=EXABYTE).status == "warn"
    assert check_shared_memory(tmp_path / "none").status == "ok"


def test_little_memory_warns() -> None:
    assert check_memory(least_free=0).status == "ok"
    assert check_memory(least_free=EXABYTE).status == "warn"


def test_folder_that_cannot_be_written_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finding = check_folder(tmp_path / "file" / "runs")
    assert finding.status == "fail"
    assert "--out" in finding.remedy


def test_folder_check_leaves_nothing_behind(tmp_path: Path) -> None:
    assert check_folder(tmp_path / "runs" / "a").status == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_check_that_breaks_is_a_finding_and_not_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("no such sensor")

    monkeypatch.setattr("nas.doctor.check_memory", fail)
    for finding in diagnose(with_ray=False):
        if finding.name == "memory":
            break
    assert (finding.status, finding.detail) == ("fail", "OSError: no such sensor")
    assert finding.remedy


@pytest.mark.gpu
def test_gpus_are_listed_with_their_memory() -> None:
    finding = check_gpus()
    assert finding.status == "ok"
    assert "GiB free of" in finding.detail


@pytest.mark.ray
def test_ray_starts_in_a_process_of_its_own() -> None:
    start = RayStart()
    finding = start.finding()
    start.stop()
    assert finding.status == "ok", finding.detail


def test_ray_that_does_not_come_up_in_time_fails_and_is_ended() -> None:
    start = RayStart(seconds=0.01)
    finding = start.finding()
    start.stop()
    assert finding.status == "fail"
    assert "0.01 s" in finding.detail
    assert start.process.poll() is not None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it starts a program of Linux")
def test_what_a_start_of_ray_has_started_is_ended_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "import subprocess; subprocess.run(['sleep', '60'], start_new_session=True)"
    (tmp_path / "ray.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    start = RayStart(seconds=0.01)
    children: list[psutil.Process] = []
    while not children:
        children = psutil.Process(start.process.pid).children()
    start.stop()
    psutil.wait_procs(children, timeout=10)
    assert not any(child.is_running() and child.status() != "zombie" for child in children)


def test_broken_ray_fails_with_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ray.py").write_text("raise RuntimeError('no raylet here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    start = RayStart()
    finding = start.finding()
    start.stop()
    assert finding.status == "fail"
    assert "no raylet here" in finding.detail
    assert "--executor inline" in finding.remedy
