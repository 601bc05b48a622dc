"""Searches digits in one trained supernet, then trains the best alone: some five minutes of one core.

    python examples/weight_sharing.py [--epochs 10] [--trials 60] [--out runs/shared]

All networks of the space are slices of the supernet, so a trial takes a fraction of a second. What a trial
measures are shared weights: they rank networks, and say nothing of what a network reaches by itself. So the
best are trained by themselves in the end, and only these accuracies count.
"""

import argparse
from pathlib import Path

import nas
from search_spaces import small


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--finalists", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/shared"))
    options = parser.parse_args()
    data = nas.load_data("mnist5k")
    space = small(resolution=28, num_classes=10, in_channels=1)

    supernet = nas.train_supernet(
        space, data=data, out=options.out / "net", sampling="fair", epochs=options.epochs
    )
    shared = sum(weight.numel() for weight in supernet.parameters())
    print(f"{shared:,} shared parameters for {space.size:,} networks")

    study = nas.search(
        space,
        evaluator=nas.SharedWeights(supernet, data, calibration_images=512),
        objective=nas.Objective.hard(metric="macs", target=1.5e6),
        trials=options.trials,
        out=options.out / "study",
        executor="inline",
    )
    print(f"{len(study.completed)} networks measured in the supernet")

    recipe = nas.RECIPES["small"].changed(epochs=options.epochs)
    trained = nas.train(study, data=data, recipe=recipe, top=options.finalists, out=options.out / "best")
    ranked = study.best
    print(f"best in the supernet: trial {ranked.number}, {ranked.macs:,} macs, {ranked.accuracy:.3f} there")
    print(f"best of {options.finalists} trained by themselves: test accuracy {trained.accuracy:.3f}")
    if trained.agreement is not None and trained.agreement.tau is not None:
        print(f"Kendall's tau between shared weights and trainings: {trained.agreement.tau}")


if __name__ == "__main__":
    main()
