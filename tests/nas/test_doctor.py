import json
import tomllib
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path

import pytest
import torch

from nas.doctor.diagnosis import (
    REQUIREMENTS,
    Finding,
    RayStart,
    check_disk,
    check_folder,
    check_gpus,
    check_memory,
    check_package,
    check_shared_memory,
    diagnose,
    examine,
)
from nas.machine import free_memory, usable_cores

EXABYTE = 1 << 60


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finding, ...]:
    return diagnose(out=tmp_path_factory.mktemp("out") / "not" / "yet", device="cpu", quick=True)


def named(findings: tuple[Finding, ...], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


def test_machine_that_runs_the_tests_has_no_failure(findings: tuple[Finding, ...]) -> None:
    assert [finding for finding in findings if finding.status == "fail"] == []


def test_every_check_has_one_finding(findings: tuple[Finding, ...]) -> None:
    names = [finding.name for finding in findings]
    assert len(set(names)) == len(names)
    assert set(names) == {"python", *REQUIREMENTS} | {
        "processor",
        "memory",
        "gpu",
        "bfloat16",
        "channels_last",
        "folder",
        "disk",
        "shared memory",
        "training",
        "export",
    }


def test_finding_has_a_remedy_just_when_something_is_wrong(findings: tuple[Finding, ...]) -> None:
    assert all(finding.detail for finding in findings)
    assert all(bool(finding.remedy) == (finding.status != "ok") for finding in findings)


def test_findings_are_written_as_json(findings: tuple[Finding, ...]) -> None:
    read = json.loads(json.dumps([asdict(finding) for finding in findings]))
    assert [Finding(**values) for values in read] == list(findings)


def test_training_takes_two_steps_and_export_goes_round(findings: tuple[Finding, ...]) -> None:
    assert named(findings, "training").detail.startswith("2 steps on cpu")
    assert "equal to the bit" in named(findings, "export").detail


def test_versions_asked_for_are_those_of_the_distribution() -> None:
    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())["project"]
    asked = dict(requirement.split(">=") for requirement in project["dependencies"])
    assert {name: least.partition(".post")[0] for name, least in asked.items()} == REQUIREMENTS


def test_missing_or_old_package_fails_with_the_command_that_mends_it() -> None:
    missing = check_package("no-such-library-anywhere", "1.2")
    assert (missing.status, missing.detail) == ("fail", "not installed")
    assert missing.remedy == "python -m pip install 'no-such-library-anywhere>=1.2'"
    old = check_package("numpy", "99.1")
    assert old.status == "fail"
    assert "99.1 or newer is needed" in old.detail


@pytest.mark.parametrize("least", ["9", "9.9", "10.0.0"])
def test_versions_compare_as_numbers_not_as_words(least: str) -> None:
    assert check_package("pillow", least).status == "ok"


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


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_device_that_is_not_there_is_a_finding_and_not_an_exception() -> None:
    before_export = takewhile(lambda finding: finding.name != "export", examine(device="cuda", quick=True))
    failed = [finding for finding in before_export if finding.status == "fail"]
    assert [finding.name for finding in failed] == ["bfloat16", "channels_last", "training"]
    assert all(finding.detail.startswith("device 'cuda'") for finding in failed)


@pytest.mark.gpu
def test_gpus_are_listed_with_their_memory() -> None:
    finding = check_gpus()
    assert finding.status == "ok"
    assert "GiB free of" in finding.detail


def test_machine_facts_are_possible() -> None:
    free, total = free_memory()
    assert 0 < free <= total
    assert usable_cores() >= 1


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


def test_broken_ray_fails_with_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ray.py").write_text("raise RuntimeError('no raylet here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    start = RayStart()
    finding = start.finding()
    start.stop()
    assert finding.status == "fail"
    assert "no raylet here" in finding.detail
    assert "--executor inline" in finding.remedy
