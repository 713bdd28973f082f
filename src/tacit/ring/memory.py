"""Memory that is used again: large tensors come and go with every operator, and fresh pages cost more than passes."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

__all__ = ["keep_freed", "memory_bytes"]

LARGEST = 1 << 25
"""Bytes up to which a tensor's memory is used again: 32 MiB, the most that the C library allows."""

KEPT = 1 << 30
"""Bytes of free memory that a process keeps at the end of its heap. More: larger programs run without page faults;
less: more memory for others between two operators. Training on images needs some 200 MB for an operator."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h


@cache
def keep_freed() -> bool:
    """Ask the C library, once a process, not to give freed memory back at once; return whether it will do so.

    As it comes, glibc returns what it can to the system, and asks for it again for the next tensor: a system call, and
    some 250 ns for each page of 4 KiB, which the system must fill with zeros. A tensor of 10^6 elements cost 0.5 ms so,
    as much as two passes over it. Other C libraries are left alone.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, LARGEST) and mallopt(_TRIM_THRESHOLD, KEPT))


@cache
def memory_bytes() -> int:
    """The memory of this machine, or what no machine has where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 1 << 62
