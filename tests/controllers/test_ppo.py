"""PPO: its update."""

from __future__ import annotations

import math

import numpy as np
import pytest

from controllers import PPO, ControllerError, Proposal, Reinforce


def run(controller, reward, trials):
    tokens = []
    for _ in range(trials):
        (proposal,) = controller.propose()
        controller.feedback([(proposal, reward(proposal.tokens))])
        tokens.append(proposal.tokens)
    return tokens


def logits(controller):
    return controller.state_dict()["policy"]["arrays"][0]


def test_ppo_with_one_epoch_on_fresh_proposals_is_reinforce():
    ppo, reinforce = PPO([3] * 8, epochs=1), Reinforce([3] * 8)
    assert run(ppo, lambda t: float(sum(t)), 5) == run(reinforce, lambda t: float(sum(t)), 5)
    np.testing.assert_allclose(logits(ppo), logits(reinforce), atol=1e-9)


def test_ppo_stops_pushing_a_candidate_whose_probability_has_moved_far_enough():
    few, many = (PPO([2], batch=2, epochs=e, entropy_coef=0.0, clip_coef=0.2) for e in (8, 30))
    for controller in (few, many):
        controller.feedback([(Proposal(tokens=(0,)), 0.0), (Proposal(tokens=(1,)), 1.0)])
    assert few.diagnostics()["clip_fraction"] > 0.5
    free = PPO([2], batch=2, epochs=30, entropy_coef=0.0, clip_coef=1e9)
    free.feedback([(Proposal(tokens=(0,)), 0.0), (Proposal(tokens=(1,)), 1.0)])
    assert free.diagnostics()["clip_fraction"] == 0
    # Adam's momentum coasts on for a while, but the push has ended.
    assert np.ptp(logits(many)) < 0.7 * np.ptp(logits(free))


def test_ppo_weighs_a_late_result_by_the_probability_it_was_drawn_with():
    def update(log_prob):
        controller = PPO([2, 2], batch=2, epochs=1, entropy_coef=0.0)
        good, bad = Proposal(tokens=(0, 0), log_prob=log_prob), Proposal(tokens=(1, 1))
        controller.feedback([(good, 1.0), (bad, 0.0)])
        return controller.state_dict()["policy"]["arrays"][1]

    now = 2 * math.log(0.5)
    np.testing.assert_array_equal(update(now), update(math.nan))
    # Now twice as likely as when it was drawn, a good candidate is beyond the clip and pushes no more.
    assert np.abs(update(now - math.log(2))).sum() < np.abs(update(now)).sum()


@pytest.mark.parametrize(("field", "value"), [("epochs", 0), ("clip_coef", 0.0), ("clip_coef", math.nan)])
def test_settings_out_of_range_are_refused_by_field(field, value):
    with pytest.raises(ControllerError) as error:
        PPO([2, 2], **{field: value})
    assert error.value.field == field
