"""Searches EfficientNet's space for a baseline like B0, on published ImageNet accuracies: 40 s on one core.

    python examples/discover_b0.py path/to/accel_nasbench.csv

Accel-NASBench (Ahmad et al., DAC 2024) has the ImageNet accuracies of 16-epoch trainings for 4,612 networks
of the space. A fitted surrogate predicts the others, and each search sees accuracies with the noise of one
training. All searches use `nas.search`; `--executor ray` runs their trials on Ray. The space has no
reference here: a search begins with it, and it would be B0 itself.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

import nas
from nas.benchmarks import cached_surrogate, load_accel_nasbench
from search_spaces import SearchSpace, cost, reference, to_strings


def show(name, network, accuracy):
    found = cost(network)
    print(f"{name:<22}{accuracy:9.2%}{found.macs / 1e6:9.1f} M{found.params / 1e6:8.2f} M", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("csv", type=Path, help="accel_nasbench.csv")
    parser.add_argument("--trials", type=int, default=200, help="of the first search; the others take half")
    parser.add_argument("--executor", default="inline", choices=("inline", "ray"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/discover-b0"))
    options = parser.parse_args()
    benchmark = load_accel_nasbench(options.csv)
    space = SearchSpace(benchmark.space.template, name=benchmark.space.name)
    surrogate = cached_surrogate(benchmark, options.out)

    def accuracy(tokens):
        return float(surrogate(np.array([tokens]))[0])

    def measured(candidate):
        return accuracy(candidate.job.tokens)

    def search(objective, trials):
        evaluator = nas.TableEvaluator(measured, noise=benchmark.noise, name="accel-nasbench")
        how = {"executor": options.executor, "workers": 2, "seed": options.seed}
        with tempfile.TemporaryDirectory() as out:
            return nas.search(space, evaluator=evaluator, objective=objective, trials=trials, out=out, **how)

    print(f"{space.name}: {space.size:,} candidates; a training's noise is {benchmark.noise:.2%}")
    print(f"{'':<22}{'accuracy':>9}{'macs':>11}{'params':>10}")
    b0 = reference("efficientnet_b0")
    b0_accuracy = accuracy(space.encode(b0))
    show("EfficientNet-B0", b0, b0_accuracy)

    paper = nas.Objective.soft("macs", 400e6)  # accuracy * (macs / 400 M)^-0.07
    study = search(paper, options.trials)
    show("the paper's reward", study.best.network, accuracy(study.best.tokens))
    for budget in (200e6, 250e6, 300e6, 386e6):
        limit = nas.Constraint(metric="macs", upper=budget)
        best = search(nas.Objective(constraints=(limit,)), options.trials // 2).best
        show(f"at most {budget / 1e6:.0f} M macs", best.network, accuracy(best.tokens))

    goal = paper.reward(b0_accuracy, {"macs": cost(b0).macs})
    rewards = [paper.reward(accuracy(trial.tokens), {"macs": trial.macs}) for trial in study.trials]
    matched = next((number for number, reward in enumerate(rewards, start=1) if reward >= goal), "none")
    print(f"\nB0's reward is {goal:.4f}; the first trial to match it: {matched} of {options.trials}")
    print("The best by the paper's reward:", *to_strings(study.best.network))
    winner = options.out / "winner.json"
    winner.write_text(study.best.network.to_json())
    print(f"nas describe {winner} --draw {winner.with_suffix('.svg')}")


if __name__ == "__main__":
    main()
