"""Searches a network for your own images, compares it, exports it, and predicts a file: about three minutes.

    python examples/own_data.py [photos/] [--trials 12] [--out runs/own-data]

`photos/` has one folder of images for each class. Without it, 1,067 handwritten digits are written as files.
"""

import argparse
from pathlib import Path

from PIL import Image

import nas
from search_spaces import cost, small


def digits(folder):
    """1,067 images in ten folders, as your own would lie there."""
    there = nas.load_data("mnist5k").train
    for number, (image, label) in enumerate(zip(there.images[::3], there.labels[::3], strict=True)):
        file = folder / f"digit-{label}" / f"{number:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(file)
    return folder


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("photos", nargs="?", type=Path)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each network in the comparison")
    parser.add_argument("--executor", default="ray", choices=("ray", "inline"))
    parser.add_argument("--out", type=Path, default=Path("runs/own-data"))
    options = parser.parse_args()
    photos = options.photos or digits(options.out / "photos")

    data = nas.load_data(photos, search_fraction=0.25)  # resolution=64 makes the images smaller
    counts = f"{len(data.train)} to train on, {len(data.search)} to choose by, {len(data.test)} to test"
    print(f"{len(data.classes)} classes of {data.resolution} x {data.resolution} pixels: {counts}")

    space = small(resolution=data.resolution, num_classes=len(data.classes), in_channels=data.channels)
    study = nas.search(
        space,
        data=data,
        recipe=nas.Recipe(epochs=8),
        target_macs=cost(space.reference).macs,  # as expensive as the network that the space is around
        trials=options.trials,
        executor=options.executor,
        workers=2 if options.executor == "ray" else 1,
        out=options.out / "study",
    )
    print(f"trial {study.best.number} is the best: {study.best.accuracy:.3f} at {study.best.macs:,} macs")

    done = nas.finalize(study, data=data, randoms=2, seeds=options.seeds)
    for one in done.comparison.contenders:
        print(f"{one.role:10}{one.name:12}{one.macs:12,} macs, test accuracy {one.mean:.3f}")

    photo = next(path for path in sorted(photos.rglob("*")) if path.is_file())
    (prediction,) = nas.predict(done.bundle, photo)
    print(f"{photo.parent.name}/{photo.name}: {prediction.label}, probability {prediction.probability:.2f}")
    print(
        f"python {done.bundle}/predict.py {photo.parent}  # needs numpy, pillow, torch and safetensors alone"
    )


if __name__ == "__main__":
    main()
