"""From sums over blocks to networks: few terms, none negative, judged on networks that were left out."""

import math
from dataclasses import replace

import numpy as np
import pytest

from nas.errors import LatencyError
from nas.latency.table.prediction import (
    LEAST_NETWORKS,
    Check,
    CheckedNetwork,
    Correction,
    fit_correction,
    fit_relative,
    predict_left_out,
)


def features(count, seed=0):
    """Networks of 10 to 20 blocks whose features do not move together."""
    rng = np.random.default_rng(seed)
    sums = rng.uniform(5, 40, count)
    return np.stack(
        [
            np.ones(count),
            sums,
            rng.integers(10, 20, count).astype(float),
            rng.uniform(1, 8, count),
            rng.uniform(2, 12, count),
        ],
        axis=1,
    )


def checked(predicted, measured, halves=None):
    return Check(
        networks=tuple(
            CheckedNetwork(digest=str(place), macs=1, latency_ms=one, halves_ms=half, predicted_ms=guess)
            for place, (guess, one, half) in enumerate(
                zip(predicted, measured, halves or [None] * len(measured), strict=True)
            )
        )
    )


@pytest.mark.parametrize("seed", range(20))
def test_a_fit_meets_the_conditions_of_an_optimum_of_relative_errors(seed):
    rng = np.random.default_rng(seed)
    columns, target = rng.normal(size=(12, 4)) * (1.0, 1e6, 1e-6, 1.0), rng.uniform(1, 9, size=12)
    found = fit_relative(columns, target)
    scaled = columns / target[:, None]
    gradient = scaled.T @ (scaled @ found - 1) / np.abs(scaled).max(axis=0)
    assert (found >= 0).all()
    assert np.abs(gradient[found > 0]).max(initial=0) < 1e-9
    assert (gradient[found == 0] > -1e-9).all()


@pytest.mark.parametrize(
    "truth",
    [
        (0.0, 1.3, 0.0, 0.0, 0.0),
        (2.5, 1.1, 0.0, 0.0, 0.0),
        (0.0, 0.9, 0.3, 0.0, 0.0),
        (1.0, 1.0, 0.0, 0.4, 0.0),
        (0.0, 1.0, 0.0, 0.2, 0.6),
    ],
)
def test_the_terms_that_made_the_latencies_are_found(truth):
    columns = features(24)
    found = fit_correction(columns, columns @ np.array(truth))
    np.testing.assert_allclose(found.coefficients, truth, atol=1e-8)
    assert found.networks == 24


def test_no_term_is_negative_even_where_that_would_fit_better():
    columns = features(24)
    measured = columns @ np.array([0.0, 2.0, 0.0, -0.5, 0.0])
    assert (fit_correction(columns, measured).coefficients >= 0).all()


def test_the_plain_sum_is_the_prediction_for_too_few_networks():
    columns = features(LEAST_NETWORKS - 1)
    found = fit_correction(columns, 3 * columns[:, 1])
    assert found == Correction()
    assert (columns @ found.coefficients).tolist() == columns[:, 1].tolist()


def test_a_network_does_not_change_its_own_prediction():
    columns = features(16)
    rng = np.random.default_rng(3)
    measured = columns @ np.array([1.0, 1.1, 0.0, 0.3, 0.0]) * rng.lognormal(0, 0.05, 16)
    before = predict_left_out(columns, measured)
    spoilt = measured.copy()
    spoilt[5] *= 4
    after = predict_left_out(columns, spoilt)
    assert after[5] == before[5]
    assert not np.allclose(np.delete(after, 5), np.delete(before, 5))


def test_errors_on_networks_left_out_exceed_those_on_fitted_ones():
    columns = features(10)
    measured = columns[:, 1] * np.random.default_rng(0).lognormal(0, 0.2, 10)
    fitted = columns @ fit_correction(columns, measured).coefficients
    left_out = predict_left_out(columns, measured)
    assert np.abs(left_out / measured - 1).mean() > np.abs(fitted / measured - 1).mean()


def test_a_check_states_error_order_and_what_two_halves_differ_by():
    check = checked([11.0, 18.0, 33.0], [10.0, 20.0, 30.0], [(9.9, 10.1), (20.0, 20.0), (33.0, 27.0)])
    assert check.mape == pytest.approx(0.1)
    assert check.tau == pytest.approx(1)
    assert check.repeat_tau == pytest.approx(1)
    assert check.repeat_error == pytest.approx((0.02 + 0.0 + 0.2) / 3)
    assert check.text == (
        "MAPE 10.0 %, Kendall tau 1.00 on 3 networks left out of the fit in turn; "
        "two halves of the session differ by 7.3 %"
    )


def test_a_check_without_halves_states_no_repeat_error():
    check = checked([11.0, 18.0], [10.0, 20.0])
    assert (check.repeat_error, check.repeat_tau) == (None, None)
    assert check.text.endswith("left out of the fit in turn")


def test_the_advice_goes_by_the_order_of_enough_networks():
    measured = [float(value) for value in range(10, 22)]
    rng = np.random.default_rng(0)
    good, poor = checked(measured, measured), checked(rng.permutation(measured).tolist(), measured)
    swapped = [measured[place ^ 1] for place in range(12)]
    assert good.is_good_to_rank
    assert good.advice.startswith("good enough to rank by")
    assert not poor.is_good_to_rank
    assert poor.advice.startswith("not good enough to rank by: ")
    assert checked(swapped, measured).advice.startswith("good for a coarse order only")
    assert "too few" in checked(measured[:7], measured[:7]).advice
    assert not checked(measured[:7], measured[:7]).is_good_to_rank


def test_the_advice_blames_a_session_that_does_not_repeat_its_own_order():
    measured = [float(value) for value in range(10, 22)]
    halves = [(one, measured[-1 - place]) for place, one in enumerate(measured)]
    rng = np.random.default_rng(0)
    assert (
        "but neither is the session" in checked(rng.permutation(measured).tolist(), measured, halves).advice
    )


def test_a_single_network_has_no_order():
    assert checked([1.0], [1.0]).tau is None


def test_a_check_of_no_network_is_refused():
    with pytest.raises(LatencyError) as error:
        Check(networks=())
    assert error.value.field == "networks"


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_a_coefficient_that_is_no_number_from_0_on_is_refused(value):
    with pytest.raises(LatencyError) as error:
        replace(Correction(), per_ms=value)
    assert error.value.field == "per_ms"


def test_the_formula_leaves_out_terms_that_are_0():
    assert Correction().text == "1 x the sum of its blocks"
    assert Correction(per_network_ms=0.5, per_weight_ms=0.25).text == (
        "1 x the sum of its blocks + 0.5 ms + 0.25 ms a million parameters"
    )
