from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers import PPO, ControllerError, Outcome, Proposal, Reinforce
from controllers.running_mean import RunningMean

ALGORITHMS = [Reinforce, PPO]


def run(controller, reward, trials=60):
    tokens = []
    for _ in range(trials):
        (proposal,) = controller.propose()
        controller.feedback([(proposal, reward(proposal.tokens))])
        tokens.append(proposal.tokens)
    return tokens


def logits(controller):
    return controller.state_dict()["search"]["policy"]["arrays"][0]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@settings(max_examples=15, deadline=None)
@given(exponent=st.integers(-20, 20), seed=st.integers(0, 100))
def test_the_scale_of_rewards_does_not_matter(algorithm, exponent, seed):
    plain = run(algorithm([3] * 8, seed=seed), lambda tokens: float(sum(tokens)))
    scaled = run(algorithm([3] * 8, seed=seed), lambda tokens: math.ldexp(sum(tokens), exponent))
    assert scaled == plain


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_offset_of_rewards_does_not_matter(algorithm):
    plain, shifted = algorithm([3] * 8), algorithm([3] * 8)
    run(plain, lambda tokens: float(sum(tokens)))
    run(shifted, lambda tokens: 100.0 + sum(tokens))
    np.testing.assert_allclose(logits(shifted), logits(plain), atol=1e-6)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_equal_rewards_teach_nothing(algorithm):
    controller = algorithm([3] * 8, entropy_coef=0.0)
    run(controller, lambda _: 0.7, 20)
    np.testing.assert_array_equal(logits(controller), 0)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_policy_moves_when_a_batch_is_full_and_not_before(algorithm):
    controller = algorithm([3] * 8, batch=4)
    proposals = controller.propose(4)
    results = [(p, float(number)) for number, p in enumerate(proposals)]
    controller.feedback(results[:3])
    np.testing.assert_array_equal(logits(controller), 0)
    assert controller.diagnostics() == {}
    controller.feedback(results[3:])
    assert np.abs(logits(controller)).max() > 0
    assert controller.diagnostics()["baseline"] == 1.5


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_many_results_at_once_teach_what_they_teach_one_by_one(algorithm):
    at_once, one_by_one = algorithm([3] * 8, batch=3), algorithm([3] * 8, batch=3)
    proposals = at_once.propose(10)
    results = [(p, float(sum(p.tokens))) for p in proposals]
    assert one_by_one.propose(10) == proposals
    at_once.feedback(results)
    for result in results:
        one_by_one.feedback([result])
    assert at_once.propose(3) == one_by_one.propose(3)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_infeasible_candidate_counts_as_the_worst_reward_so_far(algorithm):
    told, untold = algorithm([3] * 8, batch=4), algorithm([3] * 8, batch=4)
    for controller, failure in ((told, 0.25), (untold, Outcome(reward=99.0, status="infeasible"))):
        proposals = controller.propose(4)
        controller.feedback(list(zip(proposals, [failure, 0.5, 0.25, 0.75], strict=True)))
    np.testing.assert_array_equal(logits(untold), logits(told))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_infeasible_candidates_wait_for_the_first_reward(algorithm):
    controller = algorithm([3] * 8, batch=2)
    controller.feedback([(p, Outcome(status="infeasible")) for p in controller.propose(5)])
    np.testing.assert_array_equal(logits(controller), 0)
    controller.feedback([(controller.propose()[0], 0.5)])
    assert len(controller.state_dict()["search"]["log_prob"]) == 0
    controller.feedback([(p, reward) for p, reward in zip(controller.propose(2), (0.1, 0.9), strict=True)])
    assert controller.diagnostics()["baseline"] == pytest.approx(0.5)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_candidate_without_log_probability_gets_the_one_of_the_policy_of_today(algorithm):
    controller = algorithm([2, 2])
    controller.feedback([(Proposal(tokens=(0, 1)), 0.5)])
    assert controller.state_dict()["search"]["log_prob"].tolist() == pytest.approx([2 * math.log(0.5)])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_proposal_carries_its_log_probability_at_the_time_it_was_drawn(algorithm):
    controller = algorithm([3] * 8)
    (first,) = controller.propose()
    assert first.log_prob == pytest.approx(8 * math.log(1 / 3))
    run(controller, lambda tokens: float(sum(tokens)))
    (later,) = controller.propose()
    by_hand = sum(math.log(p[t]) for p, t in zip(controller.probabilities(), later.tokens, strict=True))
    assert later.log_prob == pytest.approx(by_hand)


def test_the_first_update_of_reinforce_is_the_one_worked_out_by_hand():
    controller = Reinforce([2], key=str, batch=2, learning_rate=0.2, entropy_coef=0.1)
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


def test_ppo_with_one_epoch_on_fresh_proposals_is_reinforce():
    ppo, reinforce = PPO([3] * 8, epochs=1), Reinforce([3] * 8)
    assert run(ppo, lambda t: float(sum(t)), 5) == run(reinforce, lambda t: float(sum(t)), 5)
    np.testing.assert_allclose(logits(ppo), logits(reinforce), atol=1e-9)


def test_ppo_stops_pushing_a_candidate_whose_probability_has_moved_far_enough():
    few, many = (PPO([2], key=str, batch=2, epochs=e, entropy_coef=0.0, clip_coef=0.2) for e in (8, 30))
    for controller in (few, many):
        controller.feedback([(Proposal(tokens=(0,)), 0.0), (Proposal(tokens=(1,)), 1.0)])
    assert few.diagnostics()["clip_fraction"] > 0.5
    free = PPO([2], key=str, batch=2, epochs=30, entropy_coef=0.0, clip_coef=1e9)
    free.feedback([(Proposal(tokens=(0,)), 0.0), (Proposal(tokens=(1,)), 1.0)])
    assert free.diagnostics()["clip_fraction"] == 0
    # Adam's momentum coasts on for a while, but the push has ended.
    assert np.ptp(logits(many)) < 0.7 * np.ptp(logits(free))


def test_ppo_weighs_a_late_result_by_the_probability_it_was_drawn_with():
    def update(log_prob):
        controller = PPO([2, 2], batch=2, epochs=1, entropy_coef=0.0)
        good, bad = Proposal(tokens=(0, 0), log_prob=log_prob), Proposal(tokens=(1, 1))
        controller.feedback([(good, 1.0), (bad, 0.0)])
        return controller.state_dict()["search"]["policy"]["arrays"][1]

    now = 2 * math.log(0.5)
    np.testing.assert_array_equal(update(now), update(math.nan))
    # Now twice as likely as when it was drawn, a good candidate is beyond the clip and pushes no more.
    assert np.abs(update(now - math.log(2))).sum() < np.abs(update(now)).sum()


def test_diagnostics_carry_the_names_of_cleanrl():
    assert {"entropy", "baseline", "loss", "approx_kl"} <= run_diagnostics(Reinforce)
    assert {"entropy", "baseline", "loss", "approx_kl", "clip_fraction"} <= run_diagnostics(PPO)


def run_diagnostics(algorithm):
    controller = algorithm([3] * 8)
    run(controller, lambda tokens: float(sum(tokens)), 10)
    return set(controller.diagnostics())


@pytest.mark.parametrize(
    ("algorithm", "arguments", "message"),
    [
        (Reinforce, {"batch": 0}, "batch >= 1 must hold, but got batch=0"),
        (Reinforce, {"baseline_keep": 1.0}, "0 <= keep < 1 must hold"),
        (PPO, {"epochs": 0}, "epochs >= 1 must hold"),
        (PPO, {"clip_coef": 0.0}, "clip_coef > 0 must hold"),
    ],
)
def test_settings_that_break_a_law_are_refused_with_the_value(algorithm, arguments, message):
    with pytest.raises(ControllerError, match=message):
        algorithm([2, 2], **arguments)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_state_is_refused_by_a_controller_with_other_settings(algorithm):
    state = algorithm([2, 2], batch=5).state_dict()
    with pytest.raises(ControllerError, match="batch was 5 and is 6 now"):
        algorithm([2, 2], batch=6).load_state_dict(state)


def test_a_state_is_refused_by_another_algorithm():
    with pytest.raises(ControllerError, match="made alike"):
        PPO([2, 2]).load_state_dict(Reinforce([2, 2]).state_dict())


def test_a_running_mean_is_not_biased_by_its_start():
    mean = RunningMean(0.9)
    assert mean.value is None
    assert [mean.add(3.0) for _ in range(3)] == pytest.approx([3.0, 3.0, 3.0])
