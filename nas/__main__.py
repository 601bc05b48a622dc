"""Owns `python -m nas` and the installed command `nas`.

Does not own the commands (`nas.commands.cli`).
"""

from __future__ import annotations

import sys

from nas.commands.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
