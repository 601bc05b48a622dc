"""Searches on a Ray cluster; without one it starts Ray on this machine, and takes a minute on two cores.

    python examples/ray_cluster.py [--address auto] [--workers 2] [--gpus-per-worker 0.25]

A cluster needs the same versions of Python and mnas on each machine. The images lie on the first alone: each
node gets them once.

    ray start --head --port 6379             # on the first machine
    ray start --address FIRST:6379           # on each of the others; FIRST is the first one's address
    python examples/ray_cluster.py --address auto --workers 16 --gpus-per-worker 0.25    # on the first

A trial whose worker or machine dies is trained again on another. If the first machine dies, the same command
continues the study in `--out`. `nas search` has the same options. A phone or a board that measures latency
joins by `ray start --address FIRST:6379 --resources '{"pixel8": 1}'`; `--latency-resource pixel8` uses it.
"""

import argparse
import time

import nas
from search_spaces import cost, small


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", help="auto, host:port or ray://host:port; without it Ray starts here")
    parser.add_argument("--workers", type=int, default=2, help="trials at the same time, on all machines")
    parser.add_argument("--gpus-per-worker", type=float, default=0.0, help="0.25: four workers share a GPU")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--out", default="runs/cluster")
    options = parser.parse_args()

    cluster = nas.RayExecutor(
        options.workers,
        gpus_per_worker=options.gpus_per_worker,
        address=options.address,
        trial_timeout_seconds=3600,  # one that takes longer is infeasible
    )
    space = small(resolution=28, num_classes=10, in_channels=1)
    began = time.monotonic()
    study = nas.search(
        space,
        data="mnist5k",
        recipe=nas.Recipe(epochs=options.epochs, warmup_epochs=0.5),
        target_macs=cost(space.reference).macs,
        executor=cluster,
        trials=options.trials,
        out=options.out,
    )
    elapsed, trained = time.monotonic() - began, sum(trial.seconds for trial in study.trials)
    print(f"{len(study.completed)} trials in {elapsed:.0f} s, in which workers trained for {trained:.0f} s")
    print(f"best: trial {study.best.number}, accuracy {study.best.accuracy:.3f} at {study.best.macs:,} macs")


if __name__ == "__main__":
    main()
