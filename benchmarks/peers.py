"""Which networks of timm and torchvision ours are the same as, and measures that they are.

Usage: python benchmarks/peers.py [--resolution 64] [--only mobilenet]

Loads the weights of each peer, freshly initialised, into ours, and prints how far the logits are apart,
beside parameters and multiply-adds. The tests of parity use the same list and the same functions.
"""

from __future__ import annotations

import argparse
import platform
from dataclasses import replace
from typing import NamedTuple

import timm
import torch
import torchvision
from torch import nn

from search_spaces import build, cost, reference
from search_spaces.weights import load_weights


class Peer(NamedTuple):
    """A network of ours and the same one of somebody else's.

    Attributes:
        ours: Name for `reference`.
        like: Whose batch normalisation ours takes, for `reference`.
        library: "timm" or "torchvision".
        theirs: Its name there.
    """

    ours: str
    like: str
    library: str
    theirs: str


class Comparison(NamedTuple):
    """What one peer and ours have in common.

    Attributes:
        params_ours: Parameters of ours, as counted without building it.
        params_theirs: Parameters of theirs, as built.
        difference: Largest difference of logits over the largest logit, both by magnitude.
        spread: Deviation of the logits over the classes, over the largest logit; 0 would compare nothing.
        contrast: Largest difference of the logits of two images, over the largest logit; likewise.
    """

    params_ours: int
    params_theirs: int
    difference: float
    spread: float
    contrast: float


def _timm(*pairs: tuple[str, str]) -> tuple[Peer, ...]:
    return tuple(
        Peer(ours, "paper" if ours.startswith("tf_") else "timm", "timm", name) for ours, name in pairs
    )


def _torchvision(*pairs: tuple[str, str]) -> tuple[Peer, ...]:
    return tuple(Peer(ours, "torchvision", "torchvision", name) for ours, name in pairs)


B_SIZES = tuple(f"b{size}" for size in range(9))
V2_SIZES = ("s", "m", "l", "xl")
LITE_SIZES = tuple(f"lite{size}" for size in range(5))
V3_SIZES = ("large", "small")

PEERS: tuple[Peer, ...] = (
    *_timm(*((f"{tf}efficientnet_{s}",) * 2 for tf in ("", "tf_") for s in (*B_SIZES, "l2", *LITE_SIZES))),
    *_timm(
        *((f"{tf}efficientnet_v2_{s}", f"{tf}efficientnetv2_{s}") for tf in ("", "tf_") for s in V2_SIZES)
    ),
    *_timm(*((f"tf_efficientnet_v2_{s}", f"tf_efficientnetv2_{s}") for s in B_SIZES[:4])),
    *_timm(*((f"mnasnet_b1_{width}", f"mnasnet_{width}") for width in ("050", "075", "140"))),
    *_timm(*((f"mnasnet_a1_{width}", f"semnasnet_{width}") for width in ("050", "075", "140"))),
    *_timm(
        ("mnasnet_b1", "mnasnet_100"), ("mnasnet_a1", "semnasnet_100"), ("mnasnet_small", "mnasnet_small")
    ),
    *_timm(("mobilenet_v1", "mobilenetv1_100"), ("mobilenet_v2", "mobilenetv2_100")),
    *_timm(*((f"mobilenet_v2_{width}", f"mobilenetv2_{width}") for width in ("035", "050", "075", "140"))),
    *_timm(*((f"{tf}mobilenet_v3_{s}", f"{tf}mobilenetv3_{s}_100") for tf in ("", "tf_") for s in V3_SIZES)),
    *_timm(*((f"resnet{size}",) * 2 for size in (18, 34, 50, 101, 152, 200))),
    *_torchvision(*((f"efficientnet_{s}",) * 2 for s in B_SIZES[:8])),
    *_torchvision(*((f"efficientnet_v2_{s}",) * 2 for s in V2_SIZES[:3])),
    *_torchvision(("mnasnet_b1_050", "mnasnet0_5"), ("mnasnet_b1_075", "mnasnet0_75")),
    *_torchvision(("mnasnet_b1", "mnasnet1_0"), ("mnasnet_b1_130", "mnasnet1_3")),
    *_torchvision(("mobilenet_v2",) * 2, *((f"mobilenet_v3_{s}",) * 2 for s in V3_SIZES)),
    *_torchvision(*((f"resnet{size}",) * 2 for size in (18, 34, 50, 101, 152))),
)
"""Every network of `reference_names()` that timm or torchvision has."""


def make_peer(peer: Peer) -> nn.Module:
    """Their network, freshly initialised, in inference mode."""
    if peer.library == "timm":
        made: nn.Module = timm.create_model(peer.theirs, pretrained=False)
    else:
        made = torchvision.models.get_model(peer.theirs, weights=None)
    return made.eval()


@torch.no_grad()
def unsettle_norms(module: nn.Module, images: torch.Tensor, *, seed: int) -> None:
    """Gives batch normalisation the state of training: no scale, shift or statistic is left at identity.

    The statistics are those of the images, so that the signal arrives at the logits as it does in a trained
    network, and then each moved by itself.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.weight.uniform_(0.5, 1.5, generator=generator)
        layer.bias.normal_(0.0, 0.1, generator=generator)
        layer.momentum = 1.0
        layer.train()
    module(images)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
        mean, var = layer.running_mean, layer.running_var
        assert isinstance(mean, torch.Tensor)
        assert isinstance(var, torch.Tensor)
        mean += 0.1 * var.sqrt() * torch.empty_like(mean).normal_(generator=generator)
        var *= torch.empty_like(var).uniform_(0.5, 1.5, generator=generator)


@torch.no_grad()
def compare(peer: Peer, resolution: int = 64, *, seed: int = 0) -> Comparison:
    """Loads their weights into ours and compares the logits of both, in 32-bit floating point.

    Args:
        peer: Whom to compare.
        resolution: Side of the images, pixels.
        seed: Of their weights and of the images.

    Raises:
        SpaceError: Their weights do not fit ours.
    """
    network = replace(reference(peer.ours, like=peer.like), resolution=resolution)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        theirs = make_peer(peer)
        images = torch.randn(4, 3, resolution, resolution)
    unsettle_norms(theirs, images, seed=seed)
    module = build(network).eval()
    load_weights(module, theirs.state_dict())
    wanted, found = theirs(images[:2]), module(images[:2])
    scale = wanted.abs().max().item()
    return Comparison(
        params_ours=cost(network).params,
        params_theirs=sum(parameter.numel() for parameter in theirs.parameters()),
        difference=(found - wanted).abs().max().item() / scale,
        spread=wanted.std(dim=1).min().item() / scale,
        contrast=(wanted[0] - wanted[1]).abs().max().item() / scale,
    )


def peer_macs(peer: Peer) -> int:
    """Multiply-adds of their convolutions and linear layers on one image of our reference's resolution.

    Counted by hooks on the meta device, which holds no memory; fvcore has no part in it.
    """
    total = 0

    def count(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        places = out.shape[2:].numel() if isinstance(layer, nn.Conv2d) else 1
        total += layer.weight.numel() * places

    resolution = reference(peer.ours).resolution
    with torch.device("meta"), torch.no_grad():
        module = make_peer(peer)
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.register_forward_hook(count)
        module(torch.empty(1, 3, resolution, resolution))
    return total


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolution", type=int, default=64, help="side of the images, pixels")
    parser.add_argument("--only", default="", help="only peers whose name has this in it")
    args = parser.parse_args()
    print(
        f"torch {torch.__version__}, timm {timm.__version__}, torchvision {torchvision.__version__}, "
        f"{platform.processor() or platform.machine()}; images {args.resolution} x {args.resolution}"
    )
    print("library name params ours/theirs macs ours/theirs difference spread contrast".replace(" ", "\t"))
    for peer in PEERS:
        if args.only in peer.theirs:
            same = compare(peer, args.resolution)
            macs = cost(reference(peer.ours, like=peer.like)).macs, peer_macs(peer)
            print(
                f"{peer.library}\t{peer.theirs}\t{same.params_ours}/{same.params_theirs}\t"
                f"{macs[0]}/{macs[1]}\t{same.difference:.1e}\t{same.spread:.2f}\t{same.contrast:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
