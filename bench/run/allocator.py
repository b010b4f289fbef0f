"""Keeps freed memory in the process: giving large blocks back to the system and taking them anew costs page faults."""

from __future__ import annotations

import ctypes
from functools import cache

#: Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEPT_BYTES, _GROWTH_BYTES = 2**31 - 1, 2**26


@cache
def keep_freed_memory() -> bool:
    """Let glibc keep what tensors free, up to 2 GiB, and return whether it could be told to; elsewhere do nothing.

    By default every tensor above 32 MB is mapped anew, and each of its pages faults on first use. Training on images
    spent a third of its time on that.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _KEPT_BYTES), (_TOP_PAD, _GROWTH_BYTES))
    return all([mallopt(parameter, value) == 1 for parameter, value in settings])
