"""The native kernels: what `reference` computes, in C++ under `native/`, for tensors in the memory of this machine.

The C++ side sees addresses and steps, so what a tensor is gets checked here, and nowhere else.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tacit.ring import _native, reference

__all__ = ["isa", "matmul", "use_isa"]

SMALL = 1 << 13
"""Up to this many products, PyTorch's loops are done before the checks here are: a call takes 6 µs, against 2."""

isa, use_isa = _native.isa, _native.use_isa
"""The instruction set in use, "avx512", "avx2" or "portable"; and how to choose another, or the "best"."""


def matmul(x: Tensor, y: Tensor) -> Tensor:
    """Matrix product modulo 2^64, with torch.matmul's shapes and broadcasting."""
    if not (_is_ring(x) and _is_ring(y) and x.dim() and y.dim()):
        return reference.matmul(x, y)
    left = x.unsqueeze(0) if x.dim() == 1 else x
    right = y.unsqueeze(1) if y.dim() == 1 else y
    (rows, inner), columns = left.shape[-2:], right.shape[-1]
    if inner != right.shape[-2]:
        return reference.matmul(x, y)  # whose error says what is wrong
    if left.dim() == 2 and right.dim() == 2:
        if rows * inner * columns <= SMALL:
            return reference.matmul(x, y)
        z = torch.empty(rows, columns, dtype=torch.int64)
        _fill(z, left.unsqueeze(0), right.unsqueeze(0))
    elif right.dim() == 2:
        z = torch.empty(*left.shape[:-1], columns, dtype=torch.int64)
        _fill(z, left.flatten(0, -2).unsqueeze(0), right.unsqueeze(0))
    else:
        batch = torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        z = torch.empty(*batch, rows, columns, dtype=torch.int64)
        _fill(z, *(t.expand(*batch, *t.shape[-2:]).reshape(batch.numel(), *t.shape[-2:]) for t in (left, right)))
    if x.dim() == 1:
        z = z.squeeze(-2)
    return z.squeeze(-1) if y.dim() == 1 else z


def _fill(z: Tensor, x: Tensor, y: Tensor) -> None:
    """Write the products of [batch, rows, inner] and [batch, inner, columns] to a contiguous z."""
    (batch, rows, inner), columns = x.shape, y.shape[2]
    if not inner or not z.numel():
        z.zero_()
        return
    places = x.data_ptr(), x.stride(), y.data_ptr(), y.stride(), z.data_ptr(), (rows * columns, columns, 1)
    _native.matmul(*places, batch, rows, inner, columns, torch.get_num_threads())


def _is_ring(t: Tensor) -> bool:
    return t.dtype is torch.int64 and t.device.type == "cpu"
