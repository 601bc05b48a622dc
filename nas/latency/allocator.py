"""Keeping freed memory in the process while latency is measured, so that times do not hang on the heap."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of `mallopt`'s parameters in glibc's malloc.h."""

NEVER = 2**31 - 1
MOST_ON_HEAP = 2**30


@cache
def keep_freed_memory() -> bool:
    """Tells the C library to keep freed memory instead of giving it back; says whether it did.

    By its defaults glibc returns large buffers to the system and takes them again, page by page, whenever the
    end of its heap happens to be free. Which block of a network pays for that depends on what ran before it,
    so blocks measured alone do not add up to networks. Processes that serve a network usually run on an
    allocator that keeps memory. It holds until the process ends, and does nothing where there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(TRIM_THRESHOLD, NEVER)) and bool(mallopt(MMAP_THRESHOLD, MOST_ON_HEAP))
