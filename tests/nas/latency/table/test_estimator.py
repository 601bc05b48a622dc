"""What blocks that were not measured are estimated at."""

import numpy as np
import pytest

from nas.errors import LatencyError
from nas.latency.table.building import choose_blocks
from nas.latency.table.estimator import LEAST_BLOCKS, fit_estimator
from search_spaces import efficientnet, find_blocks, mnasnet

from .synthetic import block_truth_ms, small_space, table_of


def test_blocks_that_were_not_measured_are_estimated_with_a_stated_error():
    table = table_of(noise=0.01, most_blocks=45, check=12)
    estimated = [block for block in table.blocks if block.is_estimated]
    assert len(estimated) == 62 - 45
    by_key = {block.key: block for block in find_blocks(small_space()).blocks}
    scale = np.median([b.latency_ms / block_truth_ms(by_key[b.key]) for b in table.blocks if b.n])
    errors = [abs(b.latency_ms / scale / block_truth_ms(by_key[b.key]) - 1) for b in estimated]
    assert np.mean(errors) < 0.15
    assert table.estimator.blocks == 45
    assert 0 < table.estimator.error < 0.2
    assert np.mean(errors) < 3 * table.estimator.error
    assert "estimated from 45 measured blocks" in table.estimator.text


def test_estimates_of_the_blocks_of_a_large_space_are_close():
    blocks = find_blocks(mnasnet(resolution=64)).blocks
    chosen = choose_blocks(blocks, 300, seed=0)
    estimator = fit_estimator(chosen, [block_truth_ms(block) for block in chosen])
    rest = [block for block in blocks if block not in set(chosen)][::10]
    errors = [abs(estimator.estimate(block) / block_truth_ms(block) - 1) for block in rest]
    assert estimator.error < 0.05
    assert np.mean(errors) < 0.05


def test_an_estimate_is_not_carried_far_beyond_what_was_measured():
    blocks = find_blocks(efficientnet(resolution=64)).blocks
    few = sorted(blocks, key=block_truth_ms)[:LEAST_BLOCKS]
    times = [block_truth_ms(block) for block in few]
    estimator = fit_estimator(few, times)
    for block in blocks:
        assert min(times) / np.e**2 * 0.999 <= estimator.estimate(block) <= max(times) * np.e**2 * 1.001


def test_too_few_measured_blocks_estimate_nothing():
    blocks = find_blocks(small_space()).blocks[: LEAST_BLOCKS - 1]
    with pytest.raises(LatencyError, match=f"at least {LEAST_BLOCKS} measured blocks are needed"):
        fit_estimator(blocks, [1.0] * len(blocks))
