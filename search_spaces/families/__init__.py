"""The built-in spaces' names: each function makes one family's space."""

from __future__ import annotations

from search_spaces.families.efficientnet import efficientnet, small
from search_spaces.families.efficientnet_v2 import efficientnet_v2
from search_spaces.families.mnasnet import mnasnet
from search_spaces.families.mobilenet_v3 import mobilenet_v3
from search_spaces.families.nas_bench_macro import nas_bench_macro
from search_spaces.families.resnet import resnet

__all__ = [
    "efficientnet",
    "efficientnet_v2",
    "mnasnet",
    "mobilenet_v3",
    "nas_bench_macro",
    "resnet",
    "small",
]
