"""Objectives: what a search maximises or minimises, as a value and as text."""

from nas.metrics import Goal
from nas.objective.objective import KINDS, Objective
from nas.objective.terms import AbsoluteTerm, Constraint, CostTerm

__all__ = ["KINDS", "AbsoluteTerm", "Constraint", "CostTerm", "Goal", "Objective"]
