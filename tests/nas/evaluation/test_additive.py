import numpy as np
import pytest

from nas.evaluation.additive import fit_additive, predicted_order

COUNTS = (2, 3, 4)


def every(rng, size):
    return np.stack([rng.integers(count, size=size) for count in COUNTS], axis=1)


def total(tokens):
    return 0.5 + 0.1 * tokens[:, 0] - 0.02 * tokens[:, 1] ** 2 + 0.01 * tokens[:, 2]


def test_effects_of_options_are_found_from_a_sample():
    rng = np.random.default_rng(0)
    known, others = every(rng, 40), every(rng, 100)
    predict = fit_additive(COUNTS, known, total(known), ridge=1e-6)
    assert predict(others) == pytest.approx(total(others), abs=1e-4)


def test_the_order_of_pairs_that_were_left_out_is_predicted():
    tokens = every(np.random.default_rng(1), 20)
    values = total(tokens)
    truth = np.sign(np.subtract.outer(values, values))
    order = predicted_order(COUNTS, tokens, values)
    assert (order == -order.T).all()
    assert (order * truth).sum() / np.abs(truth).sum() > 0.8


def test_values_without_meaning_are_not_ranked_in_reverse():
    """Leaving one out ranks them by what is left out: tau is then -0.35."""
    agreed = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=12)
        order = predicted_order((2, 2), rng.integers(2, size=(12, 2)), values)
        agreed.append((order * np.sign(np.subtract.outer(values, values))).sum() / (12 * 11))
    assert abs(np.mean(agreed)) < 0.1


def test_fits_take_no_more_candidates_than_were_bought_and_skip_failures():
    tokens = every(np.random.default_rng(2), 10)
    values = np.where(np.arange(10) < 2, np.nan, total(tokens))
    assert not predicted_order(COUNTS, tokens, values, most=1).any()
    assert np.abs(predicted_order(COUNTS, tokens, values, most=6)).sum() > 50
