"""The hosts that a benchmark's processes run on: namespaces of `wan.py`, or, without them, this machine for all.

Only the standard library is used, so that the peers' environments can load this file.
"""

from __future__ import annotations

import ctypes
import os

__all__ = ["VARIABLE", "address", "device", "enter", "namespaces"]

VARIABLE = "TACIT_BENCH_HOSTS"
"""The environment variable in which `wan.py` tells its command the paths of the namespaces, with colons between."""

CLONE_NEWNET = 0x40000000


def namespaces() -> list[str]:
    """Return the path of each host's network namespace; none without an emulated network."""
    return list(filter(None, os.environ.get(VARIABLE, "").split(":")))


def address(host: int) -> str:
    """Return where a host is reached, counted from 0."""
    return f"10.77.0.{host + 1}" if namespaces() else "127.0.0.1"


def device() -> str:
    """Return the network device over which hosts reach each other."""
    return "wan" if namespaces() else "lo"


def enter(host: int) -> None:
    """Move this thread, and the threads and processes that it starts from now on, to a host."""
    if not namespaces():
        return
    descriptor = os.open(namespaces()[host], os.O_RDONLY)
    try:
        call("setns", descriptor, CLONE_NEWNET)
    finally:
        os.close(descriptor)


def call(function: str, *arguments: int) -> None:
    """Call a function of the C library (`os` has these two only since Python 3.12)."""
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{function}: {os.strerror(ctypes.get_errno())}")
