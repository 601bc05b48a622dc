"""Timing in one measurement session: a fake clock drifts as a real one does, and the truth is known."""

import gc
import math
import statistics

import numpy as np
import pytest

from nas.errors import LatencyError
from nas.latency.session import Session, Timing, measure_together, order_agreement

TRUTH_MS = {f"network{index:02}": 10 * 1.04**index for index in range(12)}


def steady(_seconds):
    return 1.0


class Machine:
    """A clock whose passes take as long as the speed of the moment makes them; nothing really runs."""

    def __init__(self, speed=steady, noise=0.0, seed=0):
        self.now = 1000.0
        self.speed = speed
        self.noise = noise
        self.rng = np.random.default_rng(seed)
        self.log = []

    def clock(self):
        return self.now

    def workload(self, name, milliseconds):
        def run():
            self.log.append(name)
            factor = math.exp(self.noise * self.rng.standard_normal())
            self.now += milliseconds / 1000 * factor / self.speed(self.now - 1000.0)

        return run

    def passes(self, truth=TRUTH_MS):
        return {name: self.workload(name, milliseconds) for name, milliseconds in truth.items()}

    def measure(self, truth=TRUTH_MS, *, has_reference=True, **settings):
        reference = self.workload("reference", 2.0) if has_reference else None
        return measure_together(self.passes(truth), reference=reference, clock=self.clock, **settings)


def wandering(seconds):
    """A clock that throttles by 30 % within a session and swings by 10 % every 7 seconds."""
    return 1.0 - 0.3 * min(1.0, seconds / 20) + 0.1 * math.sin(2 * math.pi * seconds / 7)


def medians(session):
    return [timing.median_ms for timing in session.timings.values()]


def relative_spread(found, truth):
    """Spread of found / truth: 0 where all are right but for one common factor."""
    ratios = np.array(found) / np.array(truth)
    return float(ratios.max() / ratios.min() - 1)


def test_without_drift_and_noise_every_sample_is_the_truth():
    session = Machine().measure(rounds=4)
    assert medians(session) == pytest.approx(list(TRUTH_MS.values()))
    assert (session.drift, session.repeat_error, session.repeat_tau) == pytest.approx((0, 0, 1))
    assert session.reference_median_ms == pytest.approx(2)
    assert all(timing.is_settled for timing in session.timings.values())


def test_normalising_recovers_the_truth_where_timing_one_after_the_other_does_not():
    truth = list(TRUTH_MS.values())
    naive_machine = Machine(wandering)
    naive = []
    for run in naive_machine.passes().values():
        samples = []
        for _ in range(150):
            before = naive_machine.now
            run()
            samples.append(1000 * (naive_machine.now - before))
        naive.append(statistics.median(samples))
    session = Machine(wandering).measure(rounds=20)
    assert relative_spread(naive, truth) > 0.2
    assert order_agreement(naive, truth) < 0.9
    assert relative_spread(medians(session), truth) < 0.01
    assert order_agreement(medians(session), truth) == pytest.approx(1)
    assert session.drift > 0.2


def test_each_normalised_sample_is_right_not_only_their_median():
    session = Machine(wandering).measure(rounds=10)
    spread = {name: max(t.normalised_ms) / min(t.normalised_ms) for name, t in session.timings.items()}
    raw = {name: max(t.samples_ms) / min(t.samples_ms) for name, t in session.timings.items()}
    assert max(spread.values()) < 1.05
    assert min(raw.values()) > 1.15


def test_without_a_reference_samples_stay_as_they_were():
    session = Machine(wandering).measure(rounds=4, has_reference=False)
    assert all(timing.samples_ms == timing.normalised_ms for timing in session.timings.values())
    assert session.drift is session.reference_median_ms is None


def test_one_disturbed_reading_of_the_reference_does_no_harm():
    machine = Machine()
    readings = 0

    def reference():
        nonlocal readings
        readings += 1
        machine.now += 0.002 * (5 if 40 <= readings < 46 else 1)

    session = measure_together(machine.passes(), reference=reference, rounds=10, clock=machine.clock)
    assert max(session.reference_ms) > 5
    for timing in session.timings.values():
        assert timing.normalised_ms == pytest.approx(timing.samples_ms)


def test_every_round_visits_all_in_a_new_order_that_the_seed_fixes():
    def visits(seed):
        machine = Machine()
        machine.measure({"a": 20.0, "b": 20.0, "c": 20.0}, rounds=12, seed=seed, has_reference=False)
        names = machine.log[3 * 10 :: 4]  # warm-up: two chunks of 5 each; a visit: one untimed and 3 timed
        return [tuple(names[index : index + 3]) for index in range(0, len(names), 3)]

    orders = visits(0)
    assert len(orders) == 12
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(set(orders)) > 2
    assert orders == visits(0) != visits(1)


def test_a_visit_makes_at_least_three_calls_and_takes_at_least_five_milliseconds():
    session = Machine().measure({"slow": 50.0, "fast": 0.1, "tiny": 0.001}, rounds=2)
    calls = {name: timing.calls for name, timing in session.timings.items()}
    assert calls["slow"] == 3
    assert 50 <= calls["fast"] <= 51
    assert calls["tiny"] == 1000


def test_a_pass_is_warmed_up_until_its_time_has_settled():
    machine = Machine()
    calls = 0

    def cold():
        nonlocal calls
        calls += 1
        machine.now += 0.010 * (1 + 20 * math.exp(-calls / 6))

    session = measure_together({"cold": cold}, reference=None, rounds=6, clock=machine.clock)
    assert session.timings["cold"].median_ms == pytest.approx(10, rel=0.05)
    assert max(session.timings["cold"].samples_ms) < 11
    assert session.timings["cold"].is_settled


def test_a_pass_that_never_settles_is_named_and_does_not_go_on_for_ever():
    machine = Machine()
    calls = 0

    def growing():
        nonlocal calls
        calls += 1
        machine.now += 0.001 * 1.03**calls

    session = measure_together({"growing": growing}, reference=None, rounds=2, clock=machine.clock)
    assert not session.timings["growing"].is_settled
    assert calls < 150


def test_the_repeat_error_is_how_far_even_and_odd_rounds_differ():
    def timing(name, even, odd):
        samples = (even, odd) * 5
        return Timing(name=name, samples_ms=samples, normalised_ms=samples, calls=3, is_settled=True)

    timings = {"a": timing("a", 10.0, 11.0), "b": timing("b", 20.0, 20.0), "c": timing("c", 30.0, 15.0)}
    session = Session(timings=timings, rounds=10, reference_ms=(), seconds=1.0)
    assert timings["a"].halves_ms == (10, 11)
    assert timings["a"].repeat_error == pytest.approx(1 / 10.5)
    assert session.repeat_error == pytest.approx(1 / 10.5)
    assert session.repeat_tau == pytest.approx(1 / 3)


def test_noise_shows_in_the_repeat_error_and_the_order():
    quiet = Machine(noise=0.01).measure(rounds=20)
    loud = Machine(noise=0.4).measure(rounds=20)
    assert quiet.repeat_error < 0.01 < 0.05 < loud.repeat_error
    assert loud.repeat_tau < quiet.repeat_tau


def test_one_round_has_no_halves_to_compare():
    session = Machine().measure(rounds=1)
    assert session.repeat_error is session.repeat_tau is None


def test_networks_within_the_noise_do_not_differ_and_others_do():
    truth = {"a": 20.0, "b": 20.02, "c": 24.0}
    session = Machine(wandering, noise=0.02, seed=3).measure(truth, rounds=20)
    assert "a and b do not differ" in session.compare("a", "b").text
    apart = session.compare("c", "b")
    assert apart.is_safe
    assert apart.low < apart.ratio < apart.high < 1
    assert apart.text.startswith("b is faster than c")


def test_five_rounds_are_too_few_to_tell_anything_apart():
    few = Machine().measure({"a": 1.0, "b": 2.0}, rounds=5).compare("a", "b")
    assert (few.is_safe, few.low, few.high) == (False, 0.0, math.inf)
    assert "too few rounds for an interval" in few.text
    assert Machine().measure({"a": 1.0, "b": 2.0}, rounds=6).compare("a", "b").is_safe


@pytest.mark.parametrize(("rounds", "left_out"), [(6, 0), (9, 1), (20, 5)])
def test_the_interval_of_a_ratio_is_that_of_the_sign_test(rounds, left_out):
    session = Machine(noise=0.1).measure({"a": 20.0, "b": 21.0}, rounds=rounds)
    one, other = (session.timings[name].normalised_ms for name in "ab")
    ratios = sorted(b / a for a, b in zip(one, other, strict=True))
    found = session.compare("a", "b")
    assert (found.low, found.high) == (ratios[left_out], ratios[-1 - left_out])


def test_two_equal_networks_are_rarely_called_different():
    wrong = 0
    for seed in range(24):
        session = Machine(noise=0.05, seed=seed).measure({"a": 20.0, "b": 20.0}, rounds=20)
        wrong += session.compare("a", "b").is_safe
    assert wrong <= 4  # at 5 % each, more than 4 of 24 has a chance below 1 %


def test_progress_is_reported_after_every_round():
    told = []
    Machine().measure(rounds=3, on_round=lambda done, rounds: told.append((done, rounds)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_the_cycle_collector_rests_within_the_session_only_even_if_a_pass_fails():
    seen = []

    def fail():
        seen.append(gc.isenabled())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure_together({"fail": fail}, reference=None)
    assert seen == [False]
    assert gc.isenabled()


@pytest.mark.parametrize(("passes", "rounds", "field"), [({}, 3, "passes"), ({"a": print}, 0, "rounds")])
def test_a_session_without_a_pass_or_round_is_refused(passes, rounds, field):
    with pytest.raises(LatencyError) as error:
        measure_together(passes, reference=None, rounds=rounds)
    assert error.value.field == field


def test_orders_agree_from_minus_1_to_1_and_not_at_all_where_there_is_none():
    assert order_agreement([1, 2, 3, 4], [1, 2, 2, 3]) == pytest.approx(5 / math.sqrt(30))
    assert order_agreement([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert order_agreement([1, 1, 1], [1, 2, 3]) is None
    assert order_agreement([1], [1]) is None


@pytest.mark.parametrize("samples", [(), (1.0, -2.0), (math.nan,), (math.inf,)])
def test_samples_that_are_no_times_are_refused(samples):
    with pytest.raises(LatencyError) as error:
        Timing(name="a", samples_ms=(1.0,), normalised_ms=samples, calls=3, is_settled=True)
    assert error.value.field == "normalised_ms"
