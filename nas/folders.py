"""Names of the files by which a folder is known for that of a training or a supernet."""

from __future__ import annotations

from pathlib import Path

from nas.reading import read_json

RUN = "training.json"
"""What is trained in the folder of a full training, or of a supernet."""

ARCHITECTURE = "architecture.json"
"""The network, in the folder of a full training or a bundle."""

SUPERNET = "supernet.json"
"""What a supernet is, when its training has ended."""


def holds_supernet(folder: Path) -> bool:
    """Whether a folder is that of a supernet, trained or still in training."""
    if (folder / SUPERNET).is_file():
        return True
    try:
        return "kernels" in read_json(folder / RUN)["identity"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
