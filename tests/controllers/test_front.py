"""The controller of fronts: what it proposes, what its front is, and what it bears."""

from __future__ import annotations

import numpy as np
import pytest

from controllers import NSGA2, ControllerError, Front, Outcome, Problem, Proposal, RandomSearch
from controllers.pareto import hypervolume
from controllers.testing.learning import ChainObjective, check_learning

CARDINALITIES = (3,) * 8
FAILED = Outcome(status="infeasible")


def price(rows):
    return 1.0 + rows.sum(axis=1)


class Trade:
    """An accuracy that grows with what it costs, and a second cost that may be measured."""

    def __init__(self, seed, cardinalities=(3, 2, 3, 2) * 4):
        self.cardinalities = tuple(cardinalities)
        self._chain, self._other = (ChainObjective(cardinalities, seed=s) for s in (seed, seed + 1000))

    def accuracy(self, tokens):
        return 0.5 + 0.02 * sum(tokens) + 0.1 * self._chain(tokens)

    def macs(self, rows):
        return np.exp(0.1 * rows.sum(axis=1))

    def latency(self, tokens):
        return float(np.exp(0.05 * sum(tokens) - 0.2 * self._other(tokens)))

    def area(self, tokens, *, by=("macs",)):
        """Hypervolume of candidates by what they truly have."""
        columns = {
            "macs": np.log(self.macs(np.array(tokens))),
            "latency": np.log([self.latency(one) for one in tokens]),
        }
        points = np.column_stack([[-self.accuracy(one) for one in tokens], *(columns[name] for name in by)])
        return hypervolume(points, np.array([-0.3, *(3.5 for _ in by)]))


def run(controller, trade, trials, *, noise=0.0, seed=0, failing=0.0, collapsing=0.0, measures=False):
    """Evaluates proposals one after the other; returns those that completed."""
    rng, completed = np.random.default_rng(seed), []
    for _ in range(trials):
        (proposal,) = controller.propose()
        luck = rng.random()
        if luck < failing:
            controller.feedback([(proposal, FAILED)])
            continue
        completed.append(proposal.tokens)
        value = trade.accuracy(proposal.tokens) + noise * rng.normal()
        value = 0.01 if luck > 1 - collapsing else value
        costs = (trade.latency(proposal.tokens),) if measures else ()
        controller.feedback([(proposal, Outcome(value, accuracy=value, costs=costs))])
    return completed


def areas(make, *, trials=45, **how):
    by = ("latency",) if how.get("measures") else ("macs",)
    found = []
    for seed in range(3):
        trade = Trade(seed)
        found.append(trade.area(run(make(trade, seed), trade, trials, seed=seed, **how), by=by))
    return np.mean(found)


def by_macs(kind):
    return lambda trade, seed: kind(Problem(trade.cardinalities, costs=trade.macs), seed=seed)


def by_latency(kind):
    return lambda trade, seed: kind(Problem(trade.cardinalities, measured_costs=1), seed=seed)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({}, id="all complete"),
        pytest.param({"failing": 0.1}, id="some fail", marks=pytest.mark.slow),
        pytest.param({"collapsing": 0.1}, id="some collapse", marks=pytest.mark.slow),
    ],
)
def test_its_front_covers_more_than_that_of_evolution_and_that_more_than_random(how):
    ours, evolution = (areas(by_macs(kind), noise=0.01, **how) for kind in (Front, NSGA2))
    random = areas(by_macs(RandomSearch), noise=0.01, **how)
    assert ours - random > 1.5 * (evolution - random) > 0


@pytest.mark.slow
def test_what_is_measured_is_learnt_like_the_accuracy():
    ours, random = (areas(by_latency(kind), noise=0.01, measures=True) for kind in (Front, RandomSearch))
    evolution = areas(by_latency(NSGA2), noise=0.01, measures=True)
    assert ours - random > 1.5 * (evolution - random) > 0


@pytest.mark.slow
def test_three_objectives_of_which_two_are_measured():
    found = {}
    for kind in (Front, NSGA2):
        volumes = []
        for seed in range(3):
            trade = Trade(seed)
            problem = Problem(trade.cardinalities, costs=trade.macs, measured_costs=1)
            completed = run(kind(problem, seed=seed), trade, 45, seed=seed, measures=True)
            volumes.append(trade.area(completed, by=("macs", "latency")))
        found[kind] = np.mean(volumes)
    assert found[Front] > 1.05 * found[NSGA2]


def test_a_lucky_measurement_is_not_on_the_front():
    trade = Trade(0)
    controller = Front(Problem(trade.cardinalities, costs=trade.macs), seed=0)
    completed = run(controller, trade, 40, noise=0.01)
    poor = min(completed, key=lambda one: trade.accuracy(one) - 0.02 * sum(one))
    lucky = trade.accuracy(poor) + 0.06
    for _ in range(3):
        controller.feedback([(Proposal(poor), Outcome(trade.accuracy(poor), accuracy=trade.accuracy(poor)))])
    controller.feedback([(Proposal(poor), Outcome(lucky, accuracy=lucky))])
    assert poor not in controller.front()


def test_what_collapsed_is_not_on_the_front():
    trade = Trade(0)
    controller = Front(Problem(trade.cardinalities, costs=trade.macs), seed=0)
    run(controller, trade, 30)
    (proposal,) = controller.propose()
    controller.feedback([(proposal, Outcome(0.01, accuracy=0.01))])
    assert proposal.tokens not in controller.front()
    assert controller.recommend(100)[-1] == proposal.tokens


def test_without_costs_it_learns_like_the_others_also_where_one_candidate_in_ten_fails():
    check_learning(
        lambda c, k, seed: Front(c, k, seed=seed), margin=0.6, evaluations=60, seeds=range(2), failing=0.1
    )


def test_the_front_is_in_the_order_of_the_first_cost_and_none_dominates_another():
    trade = Trade(1)
    controller = Front(Problem(trade.cardinalities, costs=trade.macs), seed=1)
    run(controller, trade, 40)
    front = controller.front()
    prices = trade.macs(np.array(front)).tolist()
    assert prices == sorted(prices)
    assert len(set(prices)) == len(prices) > 3
    values = [trade.accuracy(one) for one in front]
    assert np.mean(np.diff(values) > 0) > 0.9


def test_before_estimates_the_front_is_of_what_was_observed():
    controller = Front(Problem((4, 4, 4), costs=price))
    assert controller.front() == []
    cheap, costly, poor = (Proposal((0, 0, t)) for t in (0, 3, 2))
    controller.feedback(
        [
            (costly, Outcome(0.1, accuracy=0.9)),
            (cheap, Outcome(0.7, accuracy=0.6)),
            (poor, Outcome(0.8, accuracy=0.5)),
        ]
    )
    assert controller.front() == [cheap.tokens, costly.tokens]
    assert controller.recommend(3) == [poor.tokens, cheap.tokens, costly.tokens]
    controller.feedback([(cheap, FAILED)])
    assert controller.front() == [poor.tokens, costly.tokens]


def test_costs_of_zero_or_less_are_not_taken_by_their_logarithm():
    controller = Front(Problem(CARDINALITIES, costs=lambda rows: rows.sum(axis=1) - 4.0), seed=0)
    for _ in range(25):
        (proposal,) = controller.propose()
        controller.feedback([(proposal, float(sum(proposal.tokens)))])
    assert len(controller.front()) > 8


def test_all_candidates_infeasible_leaves_it_drawing():
    controller = Front(Problem(CARDINALITIES, costs=price), seed=0)
    for _ in range(25):
        (proposal,) = controller.propose()
        controller.feedback([(proposal, FAILED)])
    assert controller.front() == controller.recommend() == []
    assert controller.diagnostics() == {}


def test_what_is_not_feasible_is_not_proposed():
    trade = Trade(0)
    problem = Problem(trade.cardinalities, costs=trade.macs, feasible=lambda rows: rows.sum(axis=1) <= 12)
    controller = Front(problem, seed=0)
    assert all(sum(one) <= 12 for one in run(controller, trade, 40))
    assert all(sum(p.tokens) <= 12 for p in controller.propose(8))


def test_side_by_side_it_spreads_over_the_front():
    trade = Trade(2)
    controller = Front(Problem(trade.cardinalities, costs=trade.macs), seed=0)
    run(controller, trade, 30)
    found = [p.tokens for p in controller.propose(16)]
    assert len(set(found)) == 16
    assert np.ptp(np.log(trade.macs(np.array(found)))) > 0.5


def test_a_saved_state_with_measured_costs_continues_exactly():
    trade = Trade(0)
    problem = Problem(trade.cardinalities, costs=trade.macs, measured_costs=1)
    whole, again = Front(problem, seed=3), Front(problem, seed=9)
    run(whole, trade, 20, measures=True, failing=0.2)
    whole.propose(2)
    again.load_state_dict(whole.state_dict())
    assert run(again, trade, 5, measures=True) == run(whole, trade, 5, measures=True)
    assert again.front() == whole.front()


@pytest.mark.parametrize("costs", [(), (1.0, 2.0)])
def test_an_outcome_with_other_costs_than_the_problem_has_is_refused(costs):
    controller = Front(Problem(CARDINALITIES, measured_costs=1))
    with pytest.raises(ControllerError) as error:
        controller.feedback([(Proposal((0,) * 8), Outcome(0.5, costs=costs))])
    assert error.value.field == "costs"
    assert controller.front() == []


def test_costs_that_are_no_numbers_are_refused():
    with pytest.raises(ControllerError) as error:
        Outcome(0.5, costs=(float("nan"),))
    assert error.value.field == "costs"


@pytest.mark.parametrize("count", [-1, 1.5])
def test_a_number_of_measured_costs_that_is_no_count_is_refused(count):
    with pytest.raises(ControllerError) as error:
        Problem(CARDINALITIES, measured_costs=count)
    assert error.value.field == "measured_costs"


def test_settings_out_of_range_are_refused_by_field():
    with pytest.raises(ControllerError) as error:
        Front(CARDINALITIES, first=1)
    assert error.value.field == "first"


def test_a_state_of_other_objectives_is_refused():
    state = Front(Problem(CARDINALITIES, costs=price)).state_dict()
    for problem in (Problem(CARDINALITIES), Problem(CARDINALITIES, costs=price, measured_costs=1)):
        with pytest.raises(ControllerError):
            Front(problem).load_state_dict(state)


def test_many_results_leave_a_proposal_quick_enough_to_wait_for():
    """Only so many of them are looked at, those like the front."""
    trade, rng = Trade(0), np.random.default_rng(0)
    controller = Front(Problem(trade.cardinalities, costs=trade.macs), seed=0)
    rows = controller._decisions.sample(rng, 900)
    results = [(Proposal(tuple(row)), trade.accuracy(tuple(row))) for row in rows.tolist()]
    controller.feedback(results)
    (proposal,) = controller.propose()
    assert controller._estimates._processes[0].size == 400
    assert trade.area([*controller.front(), proposal.tokens]) >= trade.area(controller.front())
