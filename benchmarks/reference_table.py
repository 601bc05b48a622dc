"""Writes docs/references.md: every reference network beside the paper's, timm's and torchvision's figures.

    python benchmarks/reference_table.py

For each peer its freshly initialised weights are loaded into ours and the logits are compared; parameters and
multiply-adds are counted on both sides. About ten minutes and 6 GB on two cores, most of it EfficientNet-L2.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterable
from pathlib import Path

import timm
import torch
import torchvision
from peers import PEERS, Comparison, Peer, compare, peer_macs

from search_spaces import cost, reference, reference_names
from search_spaces.published import PRINTED

PAGE = Path(__file__).parents[1] / "docs" / "references.md"

HEAD = """\
# Reference networks

`reference(name)` returns each of these networks as data. The table was made by

```sh
python benchmarks/reference_table.py
```

with torch {torch}, timm {timm}, torchvision {torchvision}, Python {python}, {machine}, {cores} cores.

- **params**, **macs**: our counts, without building the network, for one image of the given side and 1000
  classes. Macs are multiply-adds of convolutions and linear layers.
- **paper**: as the paper or its code prints them (`search_spaces.published` says where); `-` where no
  printed figure was read.
- **timm**, **torchvision**: counts of their modules; `=` if they equal ours to the digit, `-` if the library
  has no such network.
- **logits**: the largest difference between their logits and ours with the same weights, divided by the
  largest logit, in 32-bit floating point, on two random images of {side} pixels, with randomised
  batch normalisation; `tf_` is timm's variant with TensorFlow's padding.

| network | side | params | paper | timm | torchvision | macs | paper | timm | torchvision | \
logits: timm | `tf_` | torchvision |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
"""

FOOT = """
{count} comparisons; the largest difference is {largest:.1e}.
"""

Found = tuple[Comparison, int]


def measure(peers: Iterable[Peer], side: int) -> dict[tuple[str, str], Found]:
    """Comparison and multiply-adds of each peer, by our name and the library."""
    found = {}
    for peer in peers:
        found[peer.ours, peer.library] = (compare(peer, side), peer_macs(peer))
        print(f"{peer.library} {peer.theirs}: {found[peer.ours, peer.library][0].difference:.1e}", flush=True)
    return found


def row(name: str, found: dict[tuple[str, str], Found]) -> str:
    """One line of the table."""
    network = reference(name)
    price, printed = cost(network), PRINTED.get(name)
    timm_, tf, torchvision_ = (
        found.get(key) for key in ((name, "timm"), (f"tf_{name}", "timm"), (name, "torchvision"))
    )
    first = timm_ or tf
    cells = [
        f"`{name}`",
        str(network.resolution),
        f"{price.params:,}",
        _short(None if printed is None else printed.params),
        *(
            _same(price.params, None if one is None else one[0].params_theirs)
            for one in (first, torchvision_)
        ),
        f"{price.macs:,}",
        _short(None if printed is None else printed.macs),
        *(_same(price.macs, None if one is None else one[1]) for one in (first, torchvision_)),
        *("-" if one is None else _difference(one[0]) for one in (timm_, tf, torchvision_)),
    ]
    return f"| {' | '.join(cells)} |"


def _same(ours: int, theirs: int | None) -> str:
    return "-" if theirs is None else "=" if theirs == ours else f"{theirs:,}"


def _difference(one: Comparison) -> str:
    return f"{one.difference:.0e}" if one.difference else "0"


def _short(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1e9:g} G" if value >= 1e9 else f"{value / 1e6:g} M"


def main() -> None:
    """Compares and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=64, help="pixels of the images that are compared")
    parser.add_argument("--only", default="", help="print the rows of these names and write nothing")
    arguments = parser.parse_args()
    found = measure([peer for peer in PEERS if arguments.only in peer.ours], arguments.side)
    names = [name for name in reference_names() if not name.startswith("tf_") and arguments.only in name]
    rows = [row(name, found) for name in names]
    if arguments.only:
        print("\n".join(rows))
        return
    head = HEAD.format(
        torch=torch.__version__.split("+")[0],
        timm=timm.__version__,
        torchvision=torchvision.__version__.split("+")[0],
        python=platform.python_version(),
        machine=platform.machine(),
        cores=os.cpu_count(),
        side=arguments.side,
    )
    largest = max(one.difference for one, _ in found.values())
    PAGE.write_text(head + "\n".join(rows) + "\n" + FOOT.format(count=len(found), largest=largest))
    print(f"{PAGE}: {len(rows)} networks, {len(found)} comparisons, largest difference {largest:.1e}")


if __name__ == "__main__":
    main()
