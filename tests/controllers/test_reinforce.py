"""REINFORCE: its update."""

from __future__ import annotations

import math

import numpy as np
import pytest

from controllers import Proposal, Reinforce


def logits(controller):
    return controller.state_dict()["policy"]["arrays"][0]


def test_the_first_update_of_reinforce_is_the_one_worked_out_by_hand():
    controller = Reinforce([2], batch=2, learning_rate=0.2, entropy_coef=0.1)
    controller.feedback([(Proposal(tokens=(0,)), 1.0), (Proposal(tokens=(1,)), 3.0)])
    # Baseline 2, advantages -1 and 1 at deviation 1; gradient (-1/2, 1/2), and Adam's first step is its sign.
    np.testing.assert_allclose(logits(controller), [[-0.2, 0.2]], rtol=1e-6)
    diagnostics = controller.diagnostics()
    assert diagnostics["baseline"] == 2
    assert diagnostics["deviation"] == 1
    assert diagnostics["entropy"] == pytest.approx(math.log(2))
    assert diagnostics["loss"] == pytest.approx(0)
    p = 1 / (1 + math.exp(-0.4))
    ratios = np.array([(1 - p) / 0.5, p / 0.5])
    assert diagnostics["approx_kl"] == pytest.approx(((ratios - 1) - np.log(ratios)).mean())


def test_the_baseline_is_the_running_mean_of_earlier_rewards():
    controller = Reinforce([3] * 8, batch=1, baseline_keep=0.5)
    for reward, baseline in ((4.0, 4.0), (1.0, 4.0), (1.0, 2.0)):
        controller.feedback([(controller.propose()[0], reward)])
        assert controller.diagnostics()["baseline"] == baseline
