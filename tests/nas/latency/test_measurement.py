"""Records of latency: what they hold, how they are judged, stored and read; the probe of a search."""

import json
import math
import pickle
import statistics
from dataclasses import replace

import pytest
import torch
from torch import nn

from nas.errors import LatencyError
from nas.latency.allocator import keep_freed_memory
from nas.latency.devices import DeviceSettings
from nas.latency.environment import (
    CpuTicks,
    busy,
    cpu_name,
    describe_environment,
    judge_share,
    read_ticks,
    share_of_others,
)
from nas.latency.measurement import (
    LatencyMeasurement,
    add_measurements,
    flags_of,
    measure_networks,
    read_measurements,
)
from nas.latency.probe import LatencyProbe, measure_latency
from nas.latency.session import Timing
from nas.trial import Cause, InfeasibleError
from search_spaces import efficientnet

SHAPE = (3, 8, 8)
QUIET = judge_share(0.0, "CPU")
CPU = DeviceSettings(device="cpu")


def tiny(width=0.25):
    return efficientnet(resolution=16, num_classes=3, width=width).reference


@pytest.fixture(scope="module")
def measured():
    _, measurements = measure_networks({"a": tiny(), "b": tiny(0.5)}, CPU, busyness=QUIET, rounds=3)
    return measurements


def timing(samples, *, is_settled=True):
    return Timing(name="a", samples_ms=samples, normalised_ms=samples, calls=3, is_settled=is_settled)


def test_a_measurement_holds_the_network_the_settings_and_every_sample(measured):
    first, second = measured
    assert (first.name, second.name) == ("a", "b")
    assert first.digest == tiny().digest != second.digest
    assert first.n == len(first.normalised_ms) == 3
    assert first.q1_ms <= first.median_ms <= first.q3_ms
    assert first.settings == CPU
    assert first.environment.torch == torch.__version__
    assert first.session.names == ("a", "b")
    assert first.taken_at.endswith("+00:00")


def test_measurements_come_back_from_a_file_as_they_were(measured, tmp_path):
    path = tmp_path / "new" / "latency.json"
    assert add_measurements(path, measured) == 2
    assert read_measurements(path) == measured
    assert [file.name for file in path.parent.iterdir()] == ["latency.json"]


def test_a_single_network_has_no_order_and_still_comes_back(measured, tmp_path):
    alone = replace(measured[0], session=replace(measured[0].session, repeat_tau=math.nan))
    path = tmp_path / "latency.json"
    add_measurements(path, [alone])
    (found,) = read_measurements(path)
    assert math.isnan(found.session.repeat_tau)
    assert "NaN" not in path.read_text()
    assert found.samples_ms == alone.samples_ms


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
    ("change", "words"),
    [
        (lambda data: data.update(version=2), "version 2 .* reads up to 1: install a newer"),
        (lambda data: data.update(format="other"), "must hold measured latencies"),
        (lambda data: data.update(measurements={}), "must hold a list"),
        (lambda data: data["measurements"][0].pop("samples_ms"), "damaged: .*KeyError 'samples_ms'"),
        (damage(normalised_ms=[]), "damaged: `normalised_ms` must hold finite times"),
        (damage(samples_ms=[1.0, -2.0]), "damaged: `samples_ms` must hold finite times"),
        (damage(session=7), "damaged: .*AttributeError"),
        (damage(settings={"device": "tpu"}), "damaged: .*but got 'tpu'"),
    ],
)
def test_a_damaged_newer_or_foreign_file_is_named_and_never_overwritten(measured, tmp_path, change, words):
    path = tmp_path / "latency.json"
    add_measurements(path, measured)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    before = path.read_bytes()
    for act in (lambda: read_measurements(path), lambda: add_measurements(path, measured)):
        with pytest.raises(LatencyError, match=words) as caught:
            act()
        assert str(path) in str(caught.value)
    assert path.read_bytes() == before


def test_a_file_that_was_cut_off_is_named_with_its_line(measured, tmp_path):
    path = tmp_path / "latency.json"
    add_measurements(path, measured)
    path.write_text(path.read_text()[:200])
    with pytest.raises(LatencyError, match="damaged at line"):
        read_measurements(path)


def test_a_place_that_cannot_be_written_is_a_mistake_in_words(measured, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LatencyError, match="choose another --out"):
        add_measurements(tmp_path / "file" / "latency.json", measured)


def test_a_sound_timing_has_no_flag_and_each_doubt_is_worded():
    sound = timing((10.0, 10.1, 10.05, 10.0, 10.1, 10.0))
    unknown = judge_share(None, "CPU")
    assert flags_of(sound, QUIET, QUIET) == flags_of(sound, unknown, unknown) == ()
    doubts = {
        "others used 20 % of the CPU before": flags_of(sound, judge_share(0.2, "CPU"), QUIET),
        "others used 40 % of the CPU during": flags_of(sound, QUIET, judge_share(0.4, "CPU")),
        "still changing": flags_of(timing(sound.samples_ms, is_settled=False), QUIET, QUIET),
        "6 rounds are needed, but there were 4": flags_of(timing((10.0,) * 4), QUIET, QUIET),
        "rounds differ by 9.5 %": flags_of(timing((10.0, 11.0) * 4), QUIET, QUIET),
        "quartiles lie 67 % ": flags_of(timing((10.0, 10.0, 20.0, 20.0) * 3), QUIET, QUIET),
    }
    for words, flags in doubts.items():
        assert len(flags) == 1
        assert words in flags[0]


def test_flags_make_a_measurement_doubtful(measured):
    clean = replace(measured[0], flags=())
    assert clean.is_rankable
    assert clean.to_data()["status"] == "rankable"
    doubtful = replace(clean, flags=("others used 20 % of the CPU",))
    assert not doubtful.is_rankable
    assert LatencyMeasurement.from_data(json.loads(json.dumps(doubtful.to_data()))) == doubtful


def test_the_processor_is_named_as_the_system_names_it(tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel\t\t: 17\nmodel name\t: Fast One 3000\n")
    assert cpu_name(info) == "Fast One 3000"
    info.write_text("processor\t: 0\nBogoMIPS\t: 108.00\n\nModel\t\t: Small Board 5\n")
    assert cpu_name(info) == "Small Board 5"
    assert cpu_name(tmp_path / "none")


def test_the_environment_names_what_ran_the_network():
    plain, onnx = (describe_environment(DeviceSettings(device=device)) for device in ("cpu", "onnx-cpu"))
    assert (plain.onnxruntime, plain.cuda) == ("", "")
    assert plain.options == "freed memory kept" * keep_freed_memory()
    assert plain.options in plain.text
    assert onnx.options == ""
    assert onnx.onnxruntime
    assert f"ONNX Runtime {onnx.onnxruntime}" in onnx.text
    assert plain.cores >= 1


def write_ticks(folder, cpu, user, system):
    (folder / "self").mkdir(exist_ok=True)
    (folder / "stat").write_text(f"cpu  {cpu}\ncpu0 1 2 3\n")
    (folder / "self" / "stat").write_text(f"7 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 {user} {system} 0 0\n")
    return read_ticks(folder)


def test_what_others_use_is_all_but_idle_and_this_process(tmp_path):
    before = write_ticks(tmp_path, "100 0 50 800 10 0 0 0 40 0", 30, 10)
    # 200 ticks later: 60 idle, 10 waiting for disks, 130 used (20 of them stolen), 50 of them here.
    after = write_ticks(tmp_path, "190 0 70 860 20 0 0 20 90 0", 70, 20)
    assert before == CpuTicks(total=960, idle=810, own=40)
    assert share_of_others(before, after) == pytest.approx((130 - 50) / 200)


def test_a_system_without_counters_of_ticks_is_unknown_not_idle(tmp_path):
    assert read_ticks(tmp_path) is None
    ticks = CpuTicks(total=10, idle=5, own=1)
    assert share_of_others(None, ticks) is share_of_others(ticks, ticks) is None
    unknown = judge_share(None, "CPU")
    assert "cannot be known" in unknown.text
    assert not unknown.is_busy


@pytest.mark.parametrize(
    ("share", "is_busy", "is_too_busy"), [(0.05, False, False), (0.2, True, False), (0.5, True, True)]
)
def test_a_busy_machine_is_flagged_and_a_very_busy_one_refused(share, is_busy, is_too_busy):
    found = judge_share(share, "CPU")
    assert (found.is_busy, found.is_too_busy) == (is_busy, is_too_busy)


def test_this_machine_can_be_asked_how_busy_it_is():
    found = busy(CPU, seconds=0.05)
    assert found.share is None or 0 <= found.share <= 1


def test_a_probe_gives_the_latency_with_where_it_was_measured():
    probe = LatencyProbe(device="cpu", batch=2, runs=6)
    probe.prepare()
    (metric,) = probe.measure(tiny())
    assert (metric.name, metric.unit) == ("latency_ms", "ms")
    assert metric.value > 0
    for words in ("cpu, batch 2, threads 1, float32", "n 8 of", "quartiles", "reference workload takes"):
        assert words in metric.environment


def test_a_probe_states_latency_at_the_speed_of_the_reference():
    """Told that the reference takes a hundred times as long, it states times a hundred times as long."""
    plain = LatencyProbe(device="cpu", runs=6)
    plain.prepare()
    reference_ms = plain._prepared[0].reference_ms
    slow = LatencyProbe(device="cpu", runs=6, reference_ms=100 * reference_ms)
    (here,), (there,) = plain.measure(tiny()), slow.measure(tiny())
    assert 20 < there.value / here.value < 500


def test_a_probe_travels_unprepared_and_its_fingerprint_changes_with_its_settings():
    probe = LatencyProbe(device="cpu", runs=6)
    probe.prepare()
    copy = pickle.loads(pickle.dumps(probe))
    assert copy == probe
    assert copy._prepared == []
    assert copy.fingerprint == probe.fingerprint
    changes = ({"device": "auto"}, {"batch": 2}, {"threads": 2}, {"runs": 7}, {"precision": "bfloat16"})
    others = [replace(probe, **change).fingerprint for change in changes]
    assert len({probe.fingerprint, *others}) == 1 + len(others)


def test_a_candidate_that_cannot_run_is_at_fault_itself(monkeypatch):
    def fail(*_ignored, **_settings):
        raise LatencyError("a forward pass does not fit") from torch.OutOfMemoryError("too much")

    probe = LatencyProbe(device="cpu")
    probe.prepare()
    monkeypatch.setattr("nas.latency.probe.prepare_pass", fail)
    with pytest.raises(InfeasibleError, match="does not fit") as caught:
        probe.measure(tiny())
    assert caught.value.cause is Cause.OUT_OF_MEMORY


@pytest.mark.parametrize(
    "wrong", [{"device": "tpu"}, {"batch": 0}, {"runs": 0}, {"reference_ms": 0.0}, {"reference_ms": math.inf}]
)
def test_a_probe_that_is_not_well_formed_is_refused(wrong):
    with pytest.raises(LatencyError, match="must hold"):
        LatencyProbe(**wrong)


@pytest.mark.gpu
def test_a_probe_on_a_gpu_gives_the_peak_of_its_memory_too():
    probe = LatencyProbe(device="cuda", batch=8, runs=6)
    latency, memory = probe.measure(tiny())
    assert latency.value > 0
    assert memory.name == "inference_memory_bytes"
    assert memory.value >= 8 * 3 * 16 * 16 * 4


def test_the_latency_of_a_module_holds_every_sample_and_their_quartiles():
    result = measure_latency(nn.Conv2d(3, 8, 3), input_shape=SHAPE, device="cpu", runs=21)
    assert result.n == len(result.samples_ms) == 21
    assert result.median_ms == pytest.approx(statistics.median(result.samples_ms))
    assert 0 < result.q1_ms <= result.median_ms <= result.q3_ms
    assert result.environment.startswith("cpu")
    assert result.environment.endswith("batch 1, threads 1, float32")


def test_a_network_is_measured_at_its_own_resolution_and_a_single_run_is_its_own_median():
    result = measure_latency(tiny(), device=torch.device("cpu"), runs=1)
    assert result.q1_ms == result.median_ms == result.q3_ms == result.samples_ms[0] > 0


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"threads": 0}, {"runs": 0}])
def test_a_count_below_one_is_refused(wrong):
    with pytest.raises(ValueError, match="must be at least 1"):
        measure_latency(nn.Identity(), input_shape=SHAPE, device="cpu", **wrong)


def test_a_module_without_the_shape_of_its_input_is_refused():
    with pytest.raises(ValueError, match="input_shape"):
        measure_latency(nn.Identity(), device="cpu")
