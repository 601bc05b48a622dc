"""What policy-gradient algorithms share."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers import PPO, ControllerError, Outcome, Problem, Proposal, Reinforce
from controllers.policy_gradient import LONG, PolicyGradient, RankAdvantages, RunningMean
from controllers.results import Results
from controllers.testing.learning import check_learning
from controllers.testing.tools import CONDITIONAL

ALGORITHMS = [Reinforce, PPO]


def run(controller, reward, trials=60):
    tokens = []
    for _ in range(trials):
        (proposal,) = controller.propose()
        controller.feedback([(proposal, reward(proposal.tokens))])
        tokens.append(proposal.tokens)
    return tokens


def logits(controller):
    """Of the independent policy."""
    return controller.state_dict()["policy"]["arrays"][0]


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
    assert len(controller.state_dict()["log_prob"]) == 0
    controller.feedback([(p, reward) for p, reward in zip(controller.propose(2), (0.1, 0.9), strict=True)])
    assert controller.diagnostics()["baseline"] == pytest.approx(0.5)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_candidate_without_log_probability_gets_the_one_of_the_policy_of_today(algorithm):
    controller = algorithm([2, 2])
    controller.feedback([(Proposal(tokens=(0, 1)), 0.5)])
    assert controller.state_dict()["log_prob"].tolist() == pytest.approx([2 * math.log(0.5)])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_proposal_carries_its_log_probability_at_the_time_it_was_drawn(algorithm):
    controller = algorithm([3] * 8)
    (first,) = controller.propose()
    assert first.log_prob == pytest.approx(8 * math.log(1 / 3))
    run(controller, lambda tokens: float(sum(tokens)))
    (later,) = controller.propose()
    by_hand = sum(math.log(p[t]) for p, t in zip(controller.probabilities(), later.tokens, strict=True))
    assert later.log_prob == pytest.approx(by_hand)


def test_diagnostics_carry_the_names_of_cleanrl():
    assert {"entropy", "baseline", "loss", "approx_kl"} <= run_diagnostics(Reinforce)
    assert {"entropy", "baseline", "loss", "approx_kl", "clip_fraction"} <= run_diagnostics(PPO)


def run_diagnostics(algorithm):
    controller = algorithm([3] * 8)
    run(controller, lambda tokens: float(sum(tokens)), 10)
    return set(controller.diagnostics())


def test_a_running_mean_is_not_biased_by_its_start():
    mean = RunningMean(0.9)
    assert mean.value is None
    assert [mean.add(3.0) for _ in range(3)] == pytest.approx([3.0, 3.0, 3.0])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    ("field", "value"),
    [("batch", 0), ("baseline_keep", 1.0), ("policy", "transformer"), ("learning_rate", -1.0)],
)
def test_settings_out_of_range_are_refused_by_field(algorithm, field, value):
    with pytest.raises(ControllerError) as error:
        algorithm([2, 2], **{field: value})
    assert error.value.field == field


def long(algorithm, *space, evaluations=LONG, **settings):
    """A controller of a search that is planned to be a long one."""
    return algorithm(Problem(*(space or ([3] * 8,)), evaluations=evaluations), **settings)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_search_planned_for_few_evaluations_is_set_as_one_of_which_nothing_is_known(algorithm):
    plain, planned = algorithm([3] * 8), long(algorithm, evaluations=LONG - 1)
    assert run(planned, lambda t: float(sum(t))) == run(plain, lambda t: float(sum(t)))
    assert run(long(algorithm), lambda t: float(sum(t))) != run(algorithm([3] * 8), lambda t: float(sum(t)))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_in_a_long_search_only_the_order_of_rewards_counts(algorithm):
    def cliff(tokens):
        return float(sum(tokens)) if sum(tokens) > 6 else -1e9 + sum(tokens)

    assert run(long(algorithm), cliff) == run(long(algorithm), lambda tokens: float(sum(tokens)))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_equal_rewards_teach_nothing_in_a_long_search(algorithm):
    controller = long(algorithm, entropy_coef=0.0)
    run(controller, lambda _: 0.7, 40)
    np.testing.assert_array_equal(logits(controller), 0)


def test_an_advantage_is_the_standardised_logarithm_of_the_share_above():
    advantages = RankAdvantages()
    found = advantages.of(np.array([5.0, 1.0, 9.0, 1.0]), 3)
    scores = -np.log([1 - 5 / 8, 1 - 2 / 8, 1 - 7 / 8, 1 - 2 / 8])  # equal rewards share their ranks
    np.testing.assert_allclose(found, ((scores - scores.mean()) / scores.std())[1:])
    assert (advantages.baseline, advantages.deviation) == (4.0, pytest.approx(math.sqrt(11)))


def test_the_entropy_bonus_of_a_long_search_falls_to_nothing_and_stays_there():
    problem = Problem([3] * 8, evaluations=LONG)
    gradient = PolicyGradient(
        problem,
        policy="independent",
        seed=0,
        learning_rate=None,
        batch=250,
        baseline_keep=0.9,
        entropy_coef=None,
    )
    results = Results(problem.decisions)
    rng = np.random.default_rng(0)
    told = results.take([(Proposal(tuple(t)), float(sum(t))) for t in rng.integers(0, 3, (1250, 8)).tolist()])
    found = [batch.entropy_coef for batch in gradient.batches(told, results)]
    np.testing.assert_allclose(found, [0.3, 0.2, 0.1, 0.0, 0.0], atol=1e-12)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_in_a_long_search_many_results_at_once_teach_what_they_teach_one_by_one(algorithm):
    at_once, one_by_one = long(algorithm), long(algorithm)
    for _ in range(6):  # more than the latest 256
        proposals = at_once.propose(64)
        assert one_by_one.propose(64) == proposals
        results = [(p, float(sum(p.tokens))) for p in proposals]
        at_once.feedback(results)
        for result in results:
            one_by_one.feedback([result])
    np.testing.assert_array_equal(logits(one_by_one), logits(at_once))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_batch_of_proposals_is_new_and_carries_log_probabilities_of_active_decisions_only(algorithm):
    cardinalities, conditions = CONDITIONAL
    controller = long(algorithm, cardinalities, conditions)
    seen = set()
    for _ in range(2):
        proposals = controller.propose(32)
        assert len({p.tokens for p in proposals} | seen) == len(seen) + 32
        seen |= {p.tokens for p in proposals}
        active = Problem(cardinalities, conditions).decisions.active(np.array([p.tokens for p in proposals]))
        assert not active.all()
        for proposal, is_active in zip(proposals, active, strict=True):
            by_hand = sum(
                math.log(p[token])
                for p, token, counts in zip(
                    controller.probabilities(), proposal.tokens, is_active, strict=True
                )
                if counts
            )
            assert proposal.log_prob == pytest.approx(by_hand)
        controller.feedback([(p, float(sum(p.tokens))) for p in proposals])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("begun", "now"), [(None, LONG), (LONG, None), (LONG, 20 * LONG)])
def test_a_search_goes_on_as_it_was_begun_whatever_is_planned_now(algorithm, begun, now):
    controller, resumed = long(algorithm, evaluations=begun), long(algorithm, evaluations=now)
    run(controller, lambda tokens: float(sum(tokens)), 30)
    resumed.load_state_dict(controller.state_dict())
    again = run(resumed, lambda tokens: float(sum(tokens)), 30)
    assert again == run(controller, lambda tokens: float(sum(tokens)), 30)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_long_search_leaves_random_search_out_of_sight(algorithm):
    def make(cardinalities, conditions, seed):
        return algorithm(Problem(cardinalities, conditions, evaluations=LONG), seed=seed)

    check_learning(make, margin=0.75, evaluations=LONG, seeds=range(3))
