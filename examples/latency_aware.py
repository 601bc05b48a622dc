"""Measures a latency table of this machine, and searches a network that is fast on it: a minute and a half.

    python examples/latency_aware.py [--device cpu] [--trials 8] [--out runs/latency]

The table has the latency of every block of the space. It predicts the latency of each candidate before it is
trained, so that those above the limit are never trained. Nothing else should run while latency is measured.
"""

import argparse
from pathlib import Path

import numpy as np

import nas
from search_spaces import small


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda-graph, onnx-cpu or onnx-cuda")
    parser.add_argument("--rounds", type=int, default=8, help="samples of each block")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/latency"))
    options = parser.parse_args()
    space = small(resolution=28, num_classes=10, in_channels=1)

    settings = nas.DeviceSettings(device=options.device, batch=1, threads=1)
    table = nas.measure_latency_table(space, settings, check=12, rounds=options.rounds)
    table.save(options.out / "table.json")  # nas search --latency-table reads it too
    print(f"{len(table.blocks)} blocks on {table.device_name}; {table.error_text}")
    print(*(f"caution: {flag}" for flag in table.flags), sep="\n", end="\n" * bool(table.flags))

    sample = space.sample_many(np.random.default_rng(0), 1000)
    latencies = table.predict_many(space, sample)
    limit = float(np.median(latencies))
    words = f"predicted {latencies.min():.2f} to {latencies.max():.2f} ms"
    print(f"1,000 random networks: {words}; the limit is their median, {limit:.2f} ms")

    study = nas.search(
        space,
        data="mnist5k",
        recipe=nas.Recipe(epochs=options.epochs, warmup_epochs=0.5, batch_size=64),
        objective=f"accuracy, predicted_latency_ms <= {limit:.3f}",
        latency=table,
        executor="inline",
        trials=options.trials,
        out=options.out / "study",
    )
    best = study.best
    print(
        f"trial {best.number}: accuracy {best.accuracy:.3f}, predicted {table.predict(best.network):.2f} ms"
    )

    networks = {"winner": best.network, "reference": space.reference}
    passes = {name: nas.prepare_pass(network, settings) for name, network in networks.items()}
    for name, timing in nas.measure_together(passes, reference=None).timings.items():
        print(f"measured in turns: {name} {timing.median_ms:.2f} ms")


if __name__ == "__main__":
    main()
