"""What papers and their code print of the networks' sizes, as printed, to be set beside our own counts.

A figure is here only where the source itself was read.
"""

from __future__ import annotations

from typing import NamedTuple


class Printed(NamedTuple):
    """A network's size as printed.

    Attributes:
        params: Parameters; None where they are not printed.
        macs: Multiply-adds, which the papers call FLOPs.
        source: Where it is printed.
    """

    params: float | None
    macs: float
    source: str


_EFFICIENTNET = "Tan & Le, ICML 2019, Table 2"
_SCALED = "Tan & Le, ICML 2019, Table 3"
_V2 = "README of the EfficientNetV2 code"
_MNASNET = "Tan et al., CVPR 2019"
_MNASNET_CODE = "README of the MnasNet code"

PRINTED: dict[str, Printed] = {
    "mnasnet_a1": Printed(3.9e6, 312e6, f"{_MNASNET}, section 6.1"),
    "mnasnet_b1": Printed(4.4e6, 315e6, f"{_MNASNET}, Table 2"),
    "mnasnet_small": Printed(2.0e6, 68e6, f"{_MNASNET}, Table 4"),
    "mnasnet_a1_035": Printed(1.7e6, 63e6, _MNASNET_CODE),
    "mnasnet_a1_050": Printed(2.1e6, 105e6, _MNASNET_CODE),
    "mnasnet_a1_075": Printed(2.9e6, 227e6, _MNASNET_CODE),
    "mnasnet_a1_140": Printed(6.1e6, 592e6, _MNASNET_CODE),
    "efficientnet_b0": Printed(5.3e6, 0.39e9, _EFFICIENTNET),
    "efficientnet_b1": Printed(7.8e6, 0.70e9, _EFFICIENTNET),
    "efficientnet_b2": Printed(9.2e6, 1.0e9, _EFFICIENTNET),
    "efficientnet_b3": Printed(12e6, 1.8e9, _EFFICIENTNET),
    "efficientnet_b4": Printed(19e6, 4.2e9, _EFFICIENTNET),
    "efficientnet_b5": Printed(30e6, 9.9e9, _EFFICIENTNET),
    "efficientnet_b6": Printed(43e6, 19e9, _EFFICIENTNET),
    "efficientnet_b7": Printed(66e6, 37e9, _EFFICIENTNET),
    "efficientnet_v2_b0": Printed(7.1e6, 0.72e9, _V2),
    "efficientnet_v2_b1": Printed(8.1e6, 1.2e9, _V2),
    "efficientnet_v2_b2": Printed(10.1e6, 1.7e9, _V2),
    "efficientnet_v2_b3": Printed(14.4e6, 3.0e9, _V2),
    "efficientnet_v2_s": Printed(21.5e6, 8.4e9, _V2),
    "efficientnet_v2_m": Printed(54.1e6, 24.7e9, _V2),
    "efficientnet_v2_l": Printed(119.5e6, 56.3e9, _V2),
    "mobilenet_v1": Printed(None, 0.6e9, _SCALED),
    "mobilenet_v2": Printed(None, 0.3e9, _SCALED),
    "mobilenet_v2_035": Printed(1.66e6, 59e6, f"{_MNASNET}, Table 4"),
    "resnet50": Printed(26e6, 4.1e9, _EFFICIENTNET),
    "resnet152": Printed(60e6, 11e9, _EFFICIENTNET),
}
"""By the names of `search_spaces.references`."""
