"""`python -m nas` and the installed command `nas`."""

from __future__ import annotations

import sys

from nas.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
