"""Measurements of networks: what they hold, how they are judged, stored and read."""

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from nas.errors import LatencyError
from nas.latency.devices import DeviceSettings
from nas.latency.environment import judge_share
from nas.latency.measurement import (
    add_measurements,
    flags_of,
    measure_latency,
    measure_networks,
    read_measurements,
)
from nas.latency.session import Timing
from search_spaces import efficientnet

GOLDEN = Path(__file__).parents[1] / "golden" / "latency-1"
SHAPE = (3, 8, 8)
QUIET = judge_share(0.0, "CPU")
CPU = DeviceSettings(device="cpu")


def tiny(width=0.25):
    return efficientnet(resolution=16, num_classes=3, width=width).reference


@pytest.fixture(scope="module")
def measured():
    return measure_networks({"a": tiny(), "b": tiny(0.5)}, CPU, busyness=QUIET, rounds=3)


def timing(samples, *, is_settled=True):
    return Timing(name="a", samples_ms=samples, normalised_ms=samples, calls=3, is_settled=is_settled)


def test_a_measurement_holds_the_network_the_settings_and_every_sample(measured):
    first, second = measured
    assert (first.timing.name, second.timing.name) == ("a", "b")
    assert first.digest == tiny().digest != second.digest
    assert first.timing.n == len(first.timing.normalised_ms) == first.session.rounds == 3
    assert first.timing.q1_ms <= first.median_ms <= first.timing.q3_ms
    assert first.settings == CPU
    assert first.environment.torch == torch.__version__
    assert first.session == second.session
    assert first.session.taken_at.endswith("+00:00")


def test_a_busy_device_is_stored_and_flags_every_network():
    (found,) = measure_networks({"a": tiny()}, CPU, busyness=judge_share(0.2, "CPU"), rounds=2)
    assert found.session.others == 0.2
    assert found.flags[0] == "others used 20 % of the CPU before the session"


def test_measurements_come_back_from_a_file_as_they_were(measured, tmp_path):
    path = tmp_path / "new" / "latency.json"
    assert add_measurements(path, measured) == 2
    assert read_measurements(path) == measured
    assert [file.name for file in path.parent.iterdir()] == ["latency.json"]


def test_a_single_round_of_one_network_has_no_halves_and_still_comes_back(tmp_path):
    (alone,) = measure_networks({"a": tiny()}, CPU, rounds=1)
    path = tmp_path / "latency.json"
    add_measurements(path, [alone])
    assert read_measurements(path) == (alone,)
    assert (alone.session.repeat_error, alone.session.repeat_tau, alone.session.others) == (None, None, None)


def test_files_of_the_version_before_are_read_and_added_to(measured, tmp_path):
    path = tmp_path / "latency.json"
    path.write_bytes((GOLDEN / "latency-cpu.json").read_bytes())
    before = read_measurements(path)
    expected = json.loads((GOLDEN / "expected.json").read_text())["medians_ms"]
    assert [found.median_ms for found in before] == expected
    assert [found.timing.name for found in before] == ["a", "b", "a"]
    assert [found.session.rounds for found in before] == [3, 3, 1]
    assert (before[0].session.others, before[0].session.repeat_tau) == (0.2, -1.0)
    assert "others used 20 % of the CPU before the sitting" in before[0].flags
    assert add_measurements(path, measured) == 5
    assert read_measurements(path) == (*before, *measured)


def test_files_that_called_the_sitting_a_session_already_are_read_too(tmp_path):
    path = tmp_path / "latency.json"
    text = (GOLDEN / "latency-cpu.json").read_text()
    path.write_text(text.replace('"sitting":', '"session":'))
    assert read_measurements(path) == read_measurements(GOLDEN / "latency-cpu.json")


def test_earlier_measurements_stay_when_others_are_added(measured, tmp_path):
    path = tmp_path / "latency.json"
    other = replace(measured[0], settings=DeviceSettings(device="cpu", threads=2))
    add_measurements(path, measured[:1])
    assert add_measurements(path, [other, measured[1]]) == 3
    assert read_measurements(path) == (measured[0], other, measured[1])


def damage(**changes):
    def change(data):
        data["measurements"][0] |= changes

    return change


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda data: data.update(version=3), ""),
        (lambda data: data.update(format="other"), ""),
        (lambda data: data.update(measurements={}), ""),
        (
            lambda data: data["measurements"][0]["timing"].pop("samples_ms"),
            "measurements[0].timing.samples_ms",
        ),
        (lambda data: data["measurements"][0]["timing"].update(normalised_ms=[]), "normalised_ms"),
        (damage(session=7), "measurements[0].session"),
        (damage(settings={"device": "tpu"}), "device"),
        (damage(flags="busy"), "measurements[0].flags"),
    ],
)
def test_a_damaged_newer_or_foreign_file_is_named_and_never_overwritten(measured, tmp_path, change, field):
    path = tmp_path / "latency.json"
    add_measurements(path, measured)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    before = path.read_bytes()
    for act in (lambda: read_measurements(path), lambda: add_measurements(path, measured)):
        with pytest.raises(LatencyError) as caught:
            act()
        assert str(path) in str(caught.value)
        assert caught.value.field == field
    assert path.read_bytes() == before


def test_a_file_that_was_cut_off_is_named_with_its_line(measured, tmp_path):
    path = tmp_path / "latency.json"
    add_measurements(path, measured)
    path.write_text(path.read_text()[:200])
    with pytest.raises(LatencyError, match=r"line \d+ column"):
        read_measurements(path)


def test_a_place_that_cannot_be_written_is_a_mistake_in_words(measured, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LatencyError) as error:
        add_measurements(tmp_path / "file" / "latency.json", measured)
    assert error.value.field == "out"


@pytest.mark.parametrize(
    ("samples", "is_settled", "words"),
    [
        ((10.0, 10.1, 10.05, 10.0, 10.1, 10.0), False, "still changing"),
        ((10.0,) * 4, True, "6 rounds are needed, but there were 4"),
        ((10.0, 11.0) * 4, True, "rounds differ by 9.5 %"),
        ((10.0, 10.0, 20.0, 20.0) * 3, True, "quartiles lie 67 % "),
    ],
)
def test_each_doubt_about_a_timing_is_named(samples, is_settled, words):
    (flag,) = flags_of(timing(samples, is_settled=is_settled))
    assert words in flag


def test_a_sound_timing_is_not_doubted():
    assert flags_of(timing((10.0, 10.1, 10.05, 10.0, 10.1, 10.0))) == ()


def test_a_measurement_with_flags_is_not_rankable(measured):
    clean = replace(measured[0], flags=())
    flagged = replace(clean, flags=("others used 20 % of the CPU",))
    assert (clean.is_rankable, clean.data["status"]) == (True, "rankable")
    assert (flagged.is_rankable, flagged.data["status"]) == (False, "doubtful")


def test_the_latency_of_a_module_holds_every_sample_and_where_it_was_measured():
    found = measure_latency(nn.Conv2d(3, 8, 3), input_shape=SHAPE, device="cpu", runs=21)
    assert found.timing.n == len(found.timing.samples_ms) == 21
    assert found.median_ms == pytest.approx(statistics.median(found.timing.normalised_ms))
    assert (found.digest, found.settings) == ("", CPU)


def test_a_network_is_measured_at_its_own_resolution_and_a_single_run_is_its_own_median():
    found = measure_latency(tiny(), device=torch.device("cpu"), runs=1)
    assert found.digest == tiny().digest
    assert found.timing.q1_ms == found.median_ms == found.timing.q3_ms > 0


@pytest.mark.parametrize("field", ["batch", "threads", "runs"])
def test_a_count_below_one_is_refused(field):
    with pytest.raises(LatencyError) as error:
        measure_latency(nn.Identity(), input_shape=SHAPE, device="cpu", **{field: 0})
    assert error.value.field == field


def test_a_module_without_the_shape_of_its_input_is_refused():
    with pytest.raises(LatencyError) as error:
        measure_latency(nn.Identity(), device="cpu")
    assert error.value.field == "input_shape"
