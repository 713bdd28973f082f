"""Memory: freed pages that are used again, and passes over bytes that need no second thread.

Large tensors come and go with every operator, and fresh pages cost more than passes.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

__all__ = ["copy", "keep_freed", "memory_bytes", "space", "xor", "xor_into", "zeros"]

SINGLE = range(1 << 15, 1 << 22)
"""Bytes for which one thread copies or XORs. From 32 KiB on PyTorch splits a pass over bytes among its threads, and the
last of them to be given a core is waited for: with other work on the machine that takes milliseconds, for a pass of
microseconds. Up to 4 MiB, which one thread passes over in less than one millisecond, that is never worth it."""

LARGEST = 1 << 25
"""Bytes up to which a tensor's memory is used again: 32 MiB, the most that the C library allows."""

KEPT = 1 << 30
"""Bytes of free memory that a process keeps at the end of its heap. More: larger programs run without page faults;
less: more memory for others between two operators. Training on images needs some 200 MB for an operator."""

HUGE_BYTES = 1 << 22
"""From this size on, NumPy asks the system for huge pages. Smaller ones come out of memory used before, anyway."""

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


def space(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An empty tensor in the memory of this machine.

    NumPy asks for huge pages where they pay: filling fresh small ones takes three times as long.
    """
    if math.prod(shape) * dtype.itemsize < HUGE_BYTES:
        return torch.empty(shape, dtype=dtype)
    return torch.from_numpy(np.empty(shape, dtype=_NUMPY[dtype]))


def zeros(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Zeros in the memory of this machine, which large ones take when they are written to: PyTorch writes its own."""
    size = math.prod(shape) * dtype.itemsize
    if size < HUGE_BYTES:
        return torch.zeros(tuple(shape), dtype=dtype)
    return torch.from_numpy(np.zeros(size, dtype=np.uint8)).view(dtype).view(tuple(shape))


_NUMPY = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.int64: np.int64,
    torch.int32: np.int32,
    torch.int16: np.int16,
    torch.uint8: np.uint8,
}


def copy(into: Tensor, source: Tensor) -> None:
    """Copy contiguous bytes."""
    if into.nbytes in SINGLE and into.is_cpu and source.is_cpu:
        ctypes.memmove(into.data_ptr(), source.data_ptr(), into.nbytes)
    elif into.dtype is source.dtype and into.shape == source.shape:
        into.copy_(source)
    else:
        into.view(-1).view(torch.uint8).copy_(source.view(-1).view(torch.uint8))


def xor(x: Tensor, y: Tensor) -> Tensor:
    """x ^ y, of bytes."""
    if x.numel() in SINGLE and x.shape == y.shape and x.is_cpu and y.is_cpu:
        return torch.from_numpy(np.bitwise_xor(x.numpy(), y.numpy()))
    return x ^ y


def xor_into(x: Tensor, y: Tensor) -> Tensor:
    """x, which has become x ^ y, of bytes."""
    if x.numel() not in SINGLE or x.shape != y.shape or not (x.is_cpu and y.is_cpu):
        return x.bitwise_xor_(y)
    np.bitwise_xor(x.numpy(), y.numpy(), out=x.numpy())
    return x
