"""Scales a network, trains both in full, scores and exports the larger: two minutes on two cores.

    python examples/scale_train_export.py [STUDY] [--epochs 4] [--out runs/scaled]

With a study of digits (`nas quickstart --out runs/quickstart`) its winner is scaled; without one the
reference network of the space `small`. `nas scale --search` measures in which direction it should be scaled.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import nas
from search_spaces import cost, scale, small


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("study", nargs="?")
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/scaled"))
    options = parser.parse_args()
    baseline = small(resolution=28, num_classes=10, in_channels=1).reference
    if options.study:
        baseline = nas.open_study(options.study).best.network
    members = {
        "baseline": baseline,
        "scaled": scale(baseline, macs=2 * cost(baseline).macs),
    }  # after all rounding
    for name, network in members.items():
        print(f"{name}: {cost(network).macs:,} macs, images of {network.resolution} pixels")

    recipe = nas.RECIPES["small"].changed(epochs=options.epochs)
    family = nas.train_family(members, data="mnist5k", recipe=recipe, out=options.out)
    for one in family.networks:
        (trained,) = one.trained
        low, high = trained.interval
        print(
            f"{one.name}: test accuracy {trained.accuracy:.3f}, 95 % interval {low:.3f} to {high:.3f}", end=""
        )
        print(f", {one.timing.median_ms:.2f} ms an image")

    bundle = family.networks[-1].trained[0].bundle  # PyTorch source, weights, ONNX, predict.py
    scores = nas.evaluate(bundle, data="mnist5k")
    worst = min(scores.per_class, key=lambda one: one.f1)
    print(f"worst class: {worst.name}, recall {worst.recall:.2f}, F1 {worst.f1:.2f}")

    test = nas.load_data("mnist5k").test
    Image.fromarray(np.asarray(test.images[0, 0])).save(options.out / "digit.png")
    (prediction,) = nas.predict(bundle, options.out / "digit.png")
    answer = f"class {prediction.label}, probability {prediction.probability:.2f}"
    print(f"digit.png: {answer}; label {test.labels[0]}")
    print(f"python {bundle}/predict.py --onnx {options.out}/digit.png")


if __name__ == "__main__":
    main()
