"""The latency probe of a search."""

import math
import pickle
from dataclasses import replace

import pytest
import torch

from nas.errors import LatencyError
from nas.latency.probe import LatencyProbe
from nas.trial import Cause, InfeasibleError
from search_spaces import efficientnet


def tiny(width=0.25):
    return efficientnet(resolution=16, num_classes=3, width=width).reference


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
    with pytest.raises(LatencyError) as error:
        LatencyProbe(**wrong)
    assert [error.value.field] == [*wrong]


@pytest.mark.gpu
def test_a_probe_on_a_gpu_gives_the_peak_of_its_memory_too():
    probe = LatencyProbe(device="cuda", batch=8, runs=6)
    latency, memory = probe.measure(tiny())
    assert latency.value > 0
    assert memory.name == "inference_memory_bytes"
    assert memory.value >= 8 * 3 * 16 * 16 * 4
