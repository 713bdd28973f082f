"""The ring that shares live in: one object, from which every constant of its width follows."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

__all__ = ["RING", "Ring"]


@dataclass(frozen=True)
class Ring:
    """The integers modulo 2^bits. PyTorch holds them in two's complement, and all of its integer arithmetic wraps."""

    bits: int
    dtype: torch.dtype
    """Signed integers of as many bits."""

    bytes: int = field(init=False)
    size: int = field(init=False)
    """2^bits."""
    sign_bit: int = field(init=False)
    """The place of the top bit, which is the sign, and how many bits lie below it."""
    value_bits: int = field(init=False)
    """A value fits if it is below 2^(bits - 2) in magnitude: truncation adds that and must not reach 2^(bits - 1), and
    the difference of two values that fit is still a signed number, so comparisons are exact."""

    def __post_init__(self) -> None:
        if self.dtype.is_floating_point or not self.dtype.is_signed or 8 * self.dtype.itemsize != self.bits:
            raise ValueError(f"a ring of {self.bits} bits is held in signed integers of as many, not in {self.dtype}")
        for name, value in (
            ("bytes", self.bits // 8),
            ("size", 1 << self.bits),
            ("sign_bit", self.bits - 1),
            ("value_bits", self.bits - 2),
        ):
            object.__setattr__(self, name, value)

    def signed(self, v: int) -> int:
        """What the dtype holds for v modulo 2^bits."""
        return (v + (1 << self.sign_bit)) % self.size - (1 << self.sign_bit)

    def bytes_above(self, zeros: int) -> int:
        """The bytes that a share of a multiple of 2^zeros has: those that lie above the zeros, at least in part."""
        return (self.bits - zeros + 7) // 8


RING = Ring(64, torch.int64)
"""Z_2^64. More bits: products that need no truncation so soon; but no processor adds or multiplies longer integers in
vectors, and every share would be longer. Fewer: half the bytes; but 32 bits hold no product of two numbers of 16
fractional bits and their headroom."""
