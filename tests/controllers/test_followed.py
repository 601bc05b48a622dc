"""A process that follows results, and how a saved state goes on."""

from __future__ import annotations

import numpy as np
import pytest

from controllers.decisions import Decisions
from controllers.followed import Followed
from controllers.gaussian_process import GaussianProcess
from controllers.testing.tools import CONDITIONAL, through_json

DECISIONS = Decisions(*CONDITIONAL)


@pytest.fixture
def results():
    rng = np.random.default_rng(0)
    tokens = DECISIONS.sample(rng, 40)
    return tokens, tokens[:, 0] + rng.normal(size=40)


def follow(followed, results, n, counts=None):
    tokens, values = results
    counts = np.ones(n, dtype=np.bool_) if counts is None else counts
    followed.follow(tokens[:n], counts, values[:n], None)
    return followed


def test_a_loaded_state_continues_to_the_last_bit(results):
    one = Followed(GaussianProcess(DECISIONS))
    for n in (20, 23, 24, 31):
        follow(one, results, n)
    other = Followed(GaussianProcess(DECISIONS))
    other.load_state_dict(through_json(one.state_dict()))
    follow(other, results, 31)
    for n in (33, 40):
        follow(one, results, n)
        follow(other, results, n)
        np.testing.assert_array_equal(one.process.predict(results[0]), other.process.predict(results[0]))


def test_a_result_that_no_longer_counts_is_left_out(results):
    followed = follow(follow(Followed(GaussianProcess(DECISIONS)), results, 20), results, 25)
    counts = np.arange(26) != 7
    follow(followed, results, 26, counts)
    assert followed.rows.tolist() == np.flatnonzero(counts).tolist()
    assert followed.process.size == 25


def test_a_result_that_comes_to_count_later_is_taken_in(results):
    followed = follow(Followed(GaussianProcess(DECISIONS)), results, 20)
    follow(followed, results, 25, np.arange(25) != 22)
    follow(followed, results, 27)
    assert followed.rows.tolist() == list(range(27))
