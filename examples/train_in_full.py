"""Trains a network in full on 5,000 digits, scores it, and predicts an image file: a minute on two cores."""

from pathlib import Path

import numpy as np
from PIL import Image

import nas
from search_spaces import small

OUT = Path("runs/digits")


def main():
    network = small(resolution=28, num_classes=10, in_channels=1).reference
    recipe = nas.RECIPES["small"].changed(epochs=4)
    trained = nas.train(network, data="mnist5k", recipe=recipe, out=OUT)
    low, high = trained.interval
    print(f"test accuracy {trained.accuracy:.3f}, 95 % interval {low:.3f} to {high:.3f}, n={trained.images}")

    scores = nas.evaluate(trained.bundle, data="mnist5k")
    worst = min(scores.per_class, key=lambda one: one.f1)
    print(f"worst class: {worst.name}, precision {worst.precision:.2f}, recall {worst.recall:.2f}")

    data = nas.load_data("mnist5k")
    digit = Image.fromarray(np.asarray(data.test.images[0, 0]))
    digit.save(OUT / "digit.png")
    (prediction,) = nas.predict(trained.bundle, OUT / "digit.png")
    label = data.classes[data.test.labels[0]]
    print(f"digit.png: class {prediction.label}, probability {prediction.probability:.2f}; label {label}")


if __name__ == "__main__":
    main()
