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
    ring = _sum(share)
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
    return not bool(_agree(exact, _number(_sum(share), share.frac_bits, x.dtype), share).all())


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


def _sum(share: Value) -> Tensor:
    """The shares together, with what has been left out of them: a mask that only the producer knows, see `Premask`."""
    total = share.raw[0].clone()
    for other in share.raw[1:]:
        total = total ^ other if isinstance(share, Bits) else total + other
    storage = share.storage
    if storage.premask is None:
        return total
    plain = storage.premask.secret.plain
    assert plain is not None
    mine = share._premask
    if mine is not None and mine[0] is storage.premask:
        mask = mine[1].secret.plain
        assert mask is not None
        return total + mask
    return total + _seen(plain, storage.whole[0], share.raw[0])


def _seen(mask: Tensor, whole: Tensor, view: Tensor) -> Tensor:
    """The elements of a mask of the whole that lie where those of a view do."""
    memory = torch.zeros(whole.untyped_storage().nbytes() // 8, dtype=torch.int64)
    memory.as_strided(whole.shape, whole.stride(), whole.storage_offset()).copy_(mask)
    return memory.as_strided(view.shape, view.stride(), view.storage_offset())
