"""What a secret holds, read where all shares are in one process: nothing is dealt, opened or remembered for it."""

from __future__ import annotations

import torch
from torch import Tensor

from tacit.protocols.number import Number
from tacit.protocols.values import Bits, Value
from tacit.tensor import SecretTensor

__all__ = ["content", "contradicted", "unit"]


def content(x: SecretTensor) -> Tensor:
    """The value as float64, int64 or bool; of public values, the values themselves, which are not rounded.

    Wherever shares and the public value that is remembered with them differ, the shares count.
    """
    share = x._share
    assert isinstance(share, Value)
    ring = share.content.assembled()
    if isinstance(share, Bits):
        return ring.to(torch.bool)
    assert isinstance(share, Number)
    value = _number(ring, share.frac_bits, x.dtype)
    exact = _remembered(share, x.dtype)
    return value if exact is None else torch.where(_agree(exact, value, share), exact, value)


def contradicted(x: SecretTensor) -> bool:
    """Whether the public value that is remembered with the shares is not what they hold."""
    share = x._share
    exact = _remembered(share, x.dtype) if isinstance(share, Number) else None
    if exact is None:
        return False
    assert isinstance(share, Number)
    return not bool(_agree(exact, _number(share.content.assembled(), share.frac_bits, x.dtype), share).all())


def _remembered(share: Value, dtype: torch.dtype) -> Tensor | None:
    known = share.facts.public
    return None if known is None or not dtype.is_floating_point else known.to(torch.float64).expand(share.shape)


def _agree(exact: Tensor, value: Tensor, share: Number) -> Tensor:
    """Equal to the last bit, or both of what masks scores out, see `functions.linear.masking`."""
    masked = (exact.abs() > 2.0**30) & (exact.sign() == value.sign())
    return masked | ((exact - value).abs() <= unit(share))


def unit(share: Number) -> float:
    """The distance of two numbers, at the scale of a share or the session's, whichever is coarser."""
    return 2.0 ** -min(share.frac_bits, share.protocol.frac_bits)


def _number(ring: Tensor, frac_bits: int, dtype: torch.dtype) -> Tensor:
    if dtype.is_floating_point:
        return ring.to(torch.float64) * 2.0**-frac_bits
    return ring >> frac_bits if frac_bits else ring
