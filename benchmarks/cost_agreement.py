"""Whether exact costs are those that fvcore and the built modules have, on random networks of every space.

    python benchmarks/cost_agreement.py --networks 1000

Each network is costed by `cost`, and with all others by `space.costs`; then built and traced. Compared are
the multiply-adds with fvcore's count of convolutions and linear layers in eval mode, and the parameters with
the module's. Printed for each space are the networks, how many agree in everything, the largest differences,
and the time in seconds on one thread. The exit status is 1 where any network differs.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from importlib.metadata import version

import numpy as np
import torch

from nas.evaluation.cost_check import check_costs
from nas.machine import processor_name, usable_cores
from search_spaces import SearchSpace
from search_spaces.families import (
    efficientnet,
    efficientnet_v2,
    mnasnet,
    mobilenet_v3,
    nas_bench_macro,
    resnet,
    small,
)


def spaces() -> list[SearchSpace]:
    """Every family at 32 pixels and half its width, its forms among them, and one space at 224 pixels."""
    images = {"resolution": 32, "num_classes": 10}
    return [
        mnasnet(**images, width=0.5),
        mnasnet(**images, width=0.5, around="mnasnet_a1", pooling_skip=True),
        mnasnet(**images, width=0.5, form="vertex"),
        mnasnet(**images, width=0.5, flat=True),
        efficientnet(**images, width=0.5),
        efficientnet(resolution=224, width=0.25),
        efficientnet_v2(**images, width=0.5, around="efficientnet_v2_b0", with_width=True),
        mobilenet_v3(**images, width=0.5),
        mobilenet_v3(**images, width=0.5, around="mobilenet_v3_small"),
        resnet(**images, width=0.25),
        resnet(**images, width=0.25, around="resnet18"),
        nas_bench_macro(**images),
        small(**images),
    ]


def compare(space: SearchSpace, networks: int, seed: int) -> tuple[int, int, int]:
    """How many of so many random networks agree, and the largest differences of macs and parameters."""
    rng = np.random.default_rng(seed)
    tokens = [space.sample(rng) for _ in range(networks)]
    together = space.costs(tokens)
    agreeing, worst_macs, worst_params = 0, 0, 0
    for row, candidate in enumerate(tokens):
        network = space.decode(candidate)
        one = check_costs(network)
        macs, params = one.counted_macs, one.counted_params
        off_macs = max(abs(one.macs - macs), abs(int(together.macs[row]) - macs))
        off_params = max(abs(one.params - params), abs(int(together.params[row]) - params))
        agreeing += off_macs == off_params == 0
        worst_macs, worst_params = max(worst_macs, off_macs), max(worst_params, off_params)
    return agreeing, worst_macs, worst_params


def main() -> int:
    """Runs the comparison and prints its figures; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=1000, help="random networks of each space")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FutureWarning)
    print(f"$ python {' '.join(sys.argv)}")
    print(
        f"one thread of {processor_name()} ({usable_cores()} cores), torch {torch.__version__}, "
        f"fvcore {version('fvcore')}\n"
    )
    print(f"{'space':<28}{'pixels':>7}{'n':>7}{'equal':>7}{'macs off':>10}{'params off':>12}{'seconds':>9}")
    total, equal = 0, 0
    for space in spaces():
        start = time.perf_counter()
        agreeing, macs, params = compare(space, arguments.networks, arguments.seed)
        seconds = time.perf_counter() - start
        total, equal = total + arguments.networks, equal + agreeing
        side = space.template.resolution
        print(
            f"{space.name:<28}{side:>7}{arguments.networks:>7}{agreeing:>7}{macs:>10}{params:>12}"
            f"{seconds:>9.0f}",
            flush=True,
        )
    print(f"\n{equal} of {total} networks agree in multiply-adds and parameters")
    return 0 if equal == total else 1


if __name__ == "__main__":
    sys.exit(main())
