"""A climb keeps each candidate once, with the best first."""

from __future__ import annotations

import numpy as np

from controllers import Problem
from controllers.climb import KEPT, Climb
from controllers.decisions import Decisions


def test_a_candidate_is_new_once_and_what_is_not_feasible_never():
    climb = Climb(Problem((3, 3), feasible=lambda rows: rows.sum(axis=1) > 0))
    tokens, rows = climb.new(np.array([[0, 1], [0, 0], [0, 1], [2, 2]]))
    assert tokens.tolist() == [[0, 1], [2, 2]]
    assert rows.tolist() == [0, 3]
    assert not len(climb.new(tokens)[0])


def test_a_beam_gives_each_of_the_best_once():
    climb = Climb(Problem((5,)))
    every = np.arange(5)[:, None]
    climb.add(every, np.array([0.1, 0.5, 0.3, 0.9, 0.2]))
    assert climb.beam(2).tolist() == [[3], [1]]
    assert climb.beam(3).tolist() == [[2]]
    assert climb.best(3, but=np.array([[3]])).tolist() == [[1], [2], [4]]


def test_of_many_the_best_are_kept():
    decisions = Decisions((20, 20, 20))
    tokens = decisions.enumerate(10_000)
    scores = np.random.default_rng(0).random(len(tokens))
    climb = Climb(Problem((20, 20, 20)))
    for part in np.array_split(np.arange(len(tokens)), 7):
        climb.add(tokens[part], scores[part])
    found = climb.best(KEPT, but=tokens[:0])
    np.testing.assert_array_equal(found, tokens[np.argsort(-scores)[:KEPT]])
