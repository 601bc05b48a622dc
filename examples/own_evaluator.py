"""Searches with your own evaluator: a function replaces training. 5 seconds.

python examples/own_evaluator.py
"""

import tempfile

import nas
from search_spaces import efficientnet


def accuracy(candidate: nas.Candidate) -> float:
    """Assumes that squeeze-excite and wide kernels help; replace it by your own measurement."""
    stages = candidate.network.stages
    return 0.7 + 0.01 * sum((stage.op.se_ratio > 0) + (stage.op.kernel_size == 5) for stage in stages)


space = efficientnet()
with tempfile.TemporaryDirectory() as out:
    study = nas.search(
        space,
        evaluator=nas.TableEvaluator(accuracy, name="assumed accuracy"),
        objective=nas.Objective.hard(
            metric="macs", target=400e6, constraints=(nas.Constraint(metric="params", upper=6e6),)
        ),
        controller="ppo",
        executor="inline",
        trials=150,
        out=out,
    )
    best = study.best
    print(f"trial {best.number}: accuracy {best.accuracy:.2f}, {best.macs / 1e6:.0f} M macs")
    for trial in study.pareto_front():
        print(f"  front: {trial.accuracy:.2f} at {trial.macs / 1e6:.0f} M macs")
