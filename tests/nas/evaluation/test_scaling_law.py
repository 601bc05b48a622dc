import numpy as np
import pytest

from nas.evaluation.scaling_law import fit_law
from search_spaces import DIRECTIONS, Direction, lattice

TRUTH = (0.60, 0.62, 0.61, 0.08, 0.04, 0.02)


def truth(direction):
    depth, width, resolution = direction.shares
    terms = (depth, width, resolution, depth * width, depth * resolution, width * resolution)
    return float(np.dot(TRUTH, terms))


def measured(noise=0.0, seed=0, *, repeats=1):
    rng = np.random.default_rng(seed)
    return [
        (direction, truth(direction) + noise * rng.standard_normal())
        for direction in lattice(5)
        for _ in range(repeats)
    ]


def best_of_truth(sign=1.0):
    return max(lattice(30), key=lambda one: sign * truth(one))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_law_without_noise_is_best_where_the_truth_is(sign):
    law = fit_law(measured(), sign=sign)
    assert law.best.shares == pytest.approx(best_of_truth(sign).shares)
    assert law.weights == pytest.approx(TRUTH)
    assert law.at(DIRECTIONS["fast"]).value == pytest.approx(truth(DIRECTIONS["fast"]))
    assert law.deviation < 1e-9


def test_intervals_cover_the_truth_as_often_as_they_say():
    direction, other = DIRECTIONS["efficientnet"], DIRECTIONS["fast"]
    covered, differences = [], []
    for seed in range(150):
        law = fit_law(measured(0.01, seed))
        at, apart = law.at(direction), law.difference(direction, other)
        covered.append(at.low <= truth(direction) <= at.high)
        differences.append(apart.low <= truth(direction) - truth(other) <= apart.high)
    assert 0.9 <= np.mean(covered) <= 0.99
    assert 0.9 <= np.mean(differences) <= 0.99


def test_intervals_of_the_best_shares_shrink_with_the_noise_and_hold_the_best():
    exact, noisy = fit_law(measured(0.0005)), fit_law(measured(0.02))
    for name, share in zip(("depth", "width", "resolution"), best_of_truth().shares, strict=True):
        low, high = exact.intervals[name]
        assert low - 0.04 <= share <= high + 0.04
        assert high - low < 0.4
    assert noisy.intervals["width"][1] - noisy.intervals["width"][0] > 0.5


def test_a_difference_changes_its_sign_with_the_order():
    law = fit_law(measured(0.01))
    one = law.difference(DIRECTIONS["fast"], DIRECTIONS["depth"])
    other = law.difference(DIRECTIONS["depth"], DIRECTIONS["fast"])
    assert (one.value, one.low) == pytest.approx((-other.value, -other.high))


@pytest.mark.parametrize(
    "directions",
    [
        lattice(2),
        lattice(1) * 4,
        [Direction(depth=1 - i / 9, width=i / 9, resolution=0.0) for i in range(10)],
    ],
    ids=["six trainings", "corners alone", "one edge"],
)
def test_there_is_no_law_where_the_trainings_cannot_tell_it(directions):
    assert fit_law([(one, 0.5 + one.width) for one in directions]) is None
