"""A disk that gets full is said ahead, once, and again only when it is worse."""

import shutil
from collections import namedtuple

import pytest

import nas
from nas.errors import StudyError
from nas.study.disk import LEAST_BYTES, LOOK_SECONDS, RESERVE_BYTES, TRIAL_BYTES, DiskWatch

MIB = 1 << 20
USAGE = namedtuple("USAGE", "total used free")


class Disk:
    """A disk and a clock, which a minute moves at every look."""

    def __init__(self, folder):
        self.now, self.left = 0.0, 0
        self.watch = DiskWatch(folder=folder, clock=lambda: self.now, free=lambda _: self.left)

    def low(self, left, trials=0):
        self.left, self.now = left, self.now + LOOK_SECONDS
        return self.watch.low(trials)


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path)


def test_what_is_needed_grows_with_the_trials_that_are_left(disk, tmp_path):
    needed = RESERVE_BYTES + 100_000 * TRIAL_BYTES
    assert disk.low(needed, 100_000) == ""
    said = disk.low(needed - 1, 100_000)
    assert str(tmp_path) in said
    assert said.count("GiB") == 2


def test_a_file_of_weights_is_written_before_another_is_dropped(disk, tmp_path):
    (tmp_path / "weights").mkdir()
    with (tmp_path / "weights/trial-00000.safetensors").open("wb") as file:
        file.truncate(500 * MIB)
    assert disk.low(RESERVE_BYTES + 1000 * MIB) == ""
    assert "are free" in disk.low(RESERVE_BYTES + 999 * MIB)


def test_it_is_said_again_only_when_half_of_what_was_said_is_left(disk):
    said = [bool(disk.low(left * MIB)) for left in (300, 200, 199, 120, 99, 60, 49, 300, 200)]
    assert said == [False, True, False, False, True, False, True, False, False]


def test_it_is_looked_at_once_a_minute(disk):
    disk.low(300 * MIB)
    disk.left, disk.now = 1 * MIB, disk.now + LOOK_SECONDS - 1.0
    assert disk.watch.low(0) == ""
    disk.now += 1.0
    assert disk.watch.low(0) != ""


def test_a_disk_that_does_not_answer_is_nothing_to_say(tmp_path):
    watch = DiskWatch(folder=tmp_path / "gone", clock=lambda: 0.0)
    assert watch.low(10) == ""


def search(space, out):
    return nas.search(
        space,
        evaluator=nas.TableEvaluator(lambda _: 0.5, name="half"),
        controller="random",
        executor="inline",
        trials=3,
        out=out,
    )


@pytest.mark.parametrize("free", [LEAST_BYTES - 1, 0])
def test_a_search_does_not_begin_on_a_full_disk(small_space, tmp_path, monkeypatch, free):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: USAGE(MIB, MIB, free))
    with pytest.raises(StudyError, match=r"at least 16\.0 MiB of free disk.*make room") as error:
        search(small_space, tmp_path / "a")
    assert error.value.field == "out"
    assert not (tmp_path / "a").exists()


def test_a_search_on_a_disk_that_gets_full_says_so_before_it_starts_and_goes_on(
    small_space, tmp_path, monkeypatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: USAGE(1000 * MIB, 0, 100 * MIB))
    for _ in range(2):  # the second run has nothing left to do, and nothing to say
        study = search(small_space, tmp_path / "a")
    assert len(study.completed) == 3
    [(_, kind, message)] = study.events
    assert kind == "disk_low"
    assert "100 MiB are free, and this search should have 256 MiB" in message
