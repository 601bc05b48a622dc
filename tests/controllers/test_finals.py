from dataclasses import replace

import numpy as np
import pytest

from controllers import CONTROLLERS, ControllerError, Outcome, Problem, Proposal
from controllers.decisions import Decisions
from controllers.finals import Beliefs, gains, next_final, noise_of, observed_beliefs
from controllers.results import Results


def beliefs(means, deviations, noise, correlation=0.0):
    deviations = np.array(deviations, dtype=float)
    alike = np.full((len(means), len(means)), correlation) + (1 - correlation) * np.eye(len(means))
    return Beliefs(
        candidates=tuple((row,) for row in range(len(means))),
        means=np.array(means, dtype=float),
        covariance=alike * np.outer(deviations, deviations),
        noise=np.full(len(means), float(noise)),
    )


def results_of(*rewards):
    """Results of one decision: a list of rewards for each option."""
    results = Results(Decisions([len(rewards)]))
    for option, found in enumerate(rewards):
        results.take([(Proposal((option,)), reward) for reward in found])
    return results


def count_finals(known, total=200):
    """From how many trials before the end on candidates are measured again."""
    return sum(next_final(known, left=left, total=total) is not None for left in range(1, total + 1))


def test_the_more_noise_the_more_trials_measure_again_and_none_without_noise():
    found = [
        count_finals(beliefs([0.7, 0.699, 0.698], [0.01] * 3, noise)) for noise in (0, 0.005, 0.01, 0.015)
    ]
    assert found == [0, 2, 6, 14]


def test_no_more_than_a_tenth_of_all_trials_measure_again():
    uncertain = beliefs([0.7, 0.699, 0.698], [0.001] * 3, 1.0)
    assert [count_finals(uncertain, total) for total in (5, 50, 200)] == [0, 5, 20]


def test_a_best_that_stands_out_is_not_measured_again():
    assert count_finals(beliefs([0.7, 0.6, 0.5], [0.01] * 3, 0.01)) == 0
    assert count_finals(beliefs([0.7], [0.01], 0.01)) == 0
    assert count_finals(beliefs([], [], 0.01)) == 0


def test_what_may_be_better_is_measured_and_not_what_cannot_be():
    known = beliefs([0.7, 0.6, 0.695], [0.01, 0.01, 0.02], 0.01)
    assert next_final(known, left=1, total=100) == (2,)
    assert gains(known, 1)[1] == pytest.approx(0, abs=1e-12)


def test_candidates_that_are_surely_equal_are_not_worth_measuring():
    assert gains(beliefs([0.7, 0.7], [0.01, 0.01], 0.01, correlation=1.0), 1) == pytest.approx(
        [0, 0], abs=1e-12
    )


def test_the_gain_is_that_of_simulated_choices():
    known = beliefs([0.70, 0.69, 0.68], [0.01, 0.02, 0.015], 0.02, correlation=0.3)
    rng = np.random.default_rng(0)
    truths = rng.multivariate_normal(known.means, known.covariance, 200_000)
    for row in range(3):
        measured = truths[:, row] + 0.02 / np.sqrt(2) * rng.standard_normal(len(truths))
        share = known.covariance[row] / (known.covariance[row, row] + 0.02**2 / 2)
        after = known.means + np.outer(measured - known.means[row], share)
        chosen = truths[np.arange(len(truths)), after.argmax(axis=1)]
        assert gains(known, 2)[row] == pytest.approx(chosen.mean() - 0.70, abs=1.5e-4)


def test_several_workers_do_not_all_measure_the_same_candidate():
    known, chosen = beliefs([0.7, 0.699, 0.698, 0.697], [0.01] * 4, 0.01), []
    for left in range(8, 0, -1):
        chosen.append(next_final(known, left=left, total=200, under_way=chosen))
    assert {chosen.count(candidate) for candidate in known.candidates} <= {1, 2, 3}


def test_a_candidate_under_way_that_is_no_longer_among_the_best_changes_nothing():
    known = beliefs([0.7, 0.699], [0.01] * 2, 0.01)
    assert next_final(known, left=1, total=50, under_way=[(9,)]) == next_final(known, left=1, total=50)


def test_the_choice_does_not_depend_on_the_unit_of_the_rewards():
    one = beliefs([0.7, 0.699, 0.69], [0.01, 0.01, 0.02], 0.01)
    other = replace(one, means=1e6 * one.means, covariance=1e12 * one.covariance, noise=1e6 * one.noise)
    for left in range(1, 30):
        assert next_final(one, left=left, total=300) == next_final(other, left=left, total=300)


def test_repeats_measure_the_noise():
    rng = np.random.default_rng(0)
    results = results_of(*(0.5 + 0.1 * option + 0.02 * rng.standard_normal(40) for option in range(5)))
    assert noise_of(results, 0.5) == pytest.approx(0.02, rel=2.0)
    assert noise_of(results, 0.02) == pytest.approx(0.02, rel=0.1)
    assert noise_of(results_of([0.5], [0.6]), 0.02) == 0.02


def test_two_repeats_that_equal_their_first_measurement_mean_no_noise():
    assert noise_of(results_of([0.1 + 0.2, 0.1 + 0.2], [0.7, 0.7]), 0.02) == 0
    assert noise_of(results_of([0.3, 0.3], [0.7]), 0.02) > 0


def test_infeasible_candidates_say_nothing_of_the_noise():
    results = results_of([0.5, 0.5, 0.5], [0.7])
    results.take([(Proposal((1,)), Outcome(status="infeasible"))])
    assert noise_of(results, 0.02) == 0


def test_without_a_model_a_mean_of_many_measurements_counts_more():
    results = results_of([0.78, 0.82] * 4, [0.81], [0.5], [0.6], [0.7], [0.4])
    found = observed_beliefs(results, 2)
    assert dict(zip(found.candidates, found.means, strict=True))[(0,)] > 0.79
    first, second = (
        found.covariance[row, row] for row in (found.candidates.index((0,)), found.candidates.index((1,)))
    )
    assert first < second


@pytest.mark.parametrize("name", CONTROLLERS)
def test_every_controller_has_beliefs_of_what_it_recommends(name):
    controller = CONTROLLERS[name](Problem([3, 3, 3]), seed=0)
    assert controller.beliefs(4).candidates == ()
    rng = np.random.default_rng(0)
    for _ in range(20):
        (proposal,) = controller.propose()
        controller.feedback([(proposal, 0.1 * sum(proposal.tokens) + 0.01 * rng.normal())])
    found = controller.beliefs(4)
    assert list(found.candidates) == controller.recommend(4)
    assert np.linalg.eigvalsh(found.covariance).min() > -1e-12
    assert (found.noise > 0).all()
    with pytest.raises(ControllerError) as error:
        controller.beliefs(0)
    assert error.value.field == "n"


@pytest.mark.parametrize("name", ["dyna", "evolution"])
def test_measuring_a_candidate_again_makes_its_belief_surer(name):
    controller = CONTROLLERS[name](Problem([3, 3, 3]), seed=0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        (proposal,) = controller.propose()
        controller.feedback([(proposal, 0.1 * sum(proposal.tokens) + 0.05 * rng.normal())])
    before = controller.beliefs(1)
    (best,) = before.candidates
    controller.feedback([(Proposal(best), before.means[0]) for _ in range(6)])
    after = controller.beliefs(4)
    row = after.candidates.index(best)
    assert after.covariance[row, row] < before.covariance[0, 0]
