"""Truncation and scaling of shares, with one product of two bits for the carry between them.

With x₀' = x₀ + 2^62 a number |x| < 2^62 is x + 2^62 = x₀' + x₁ - 2^64 (1 - A), where A = [x₀' < 2^63] [x₁ < 2^63]:
the sum is below 2^63, so it wraps unless both top bits are zero. For a public factor m / 2^64, a multiple of four,

    x m / 2^64  =  floor(x₀' m / 2^64) + ceil(x₁ m / 2^64) - m / 4 - m (1 - A)        off by less than a unit

and a truncation by s bits is m = 2^(64 - s). A is a bit of each party multiplied, and is needed modulo 2^s only.

What has no fraction is exact. The result is x m / 2^64 on average, whatever the shares were: before, both parties add a
common random number to one of them and take it from the other. Gradients below a unit depend on that, for a sum of many
keeps what none of them does. What one party knows it rounds so by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from tacit.protocols.two_party import kernels, ole
from tacit.ring.prg import Stream
from tacit.ring.ring import RING

if TYPE_CHECKING:
    from tacit.protocols.two_party.transfers import Transfers
    from tacit.session.session import Session

__all__ = ["Division", "by_bits", "divided", "factor", "rounded"]

OFFSET = 1 << RING.value_bits


def factor(ratio: float) -> int:
    """m for a factor below one: a multiple of four, so that m / 4 is whole."""
    return 4 * round(OFFSET * Fraction(ratio))


class Division(NamedTuple):
    """A number to be multiplied by m / 2^64: contiguous shares, m, and the bytes of which A m is a multiple."""

    parts: Sequence[Tensor]
    m: int
    width: int = RING.bytes


def by_bits(parts: Sequence[Tensor], bits: int) -> Division:
    """What truncates a number by so many bits."""
    return Division(parts, 1 << RING.bits - bits, (bits + 7) // 8)


def rounded(x: Tensor, m: int, stream: Stream) -> Tensor:
    """x m / 2^64 of a number that one party knows, off by less than two units, or one in truncations. Local.

    It is cut in two by the party's own stream, and put together again.
    """
    x, s = x.contiguous(), stream.ring(x.shape)
    first, second = x + (s + OFFSET), -s
    on = kernels.on(x)
    wrapped = (on.top_clear(first) & on.top_clear(second)).to(RING.dtype)
    constant = RING.signed(-(m >> 2) - m)
    high = on.quotient(first, m, wrapped * RING.signed(m), constant, up=False)
    return high + on.quotient(second, m, None, 0, up=True)


def divided(session: Session, transfers: Transfers, divisions: Sequence[Division]) -> list[list[Tensor]]:
    """Shares of each quotient: of a truncation the floor or that plus one, else off by less than two units.

    One hop for all, of `width` bytes and a bit an element.
    """
    here = session.party_indices
    rows, jobs = [], []
    for parts, m, width in divisions:
        flat = {}
        for index, t in zip(here, parts, strict=True):
            s = session.stream(session.parties[index], session.parties[1 - index], "rounding").ring((t.numel(),))
            flat[index] = t.reshape(-1) + (s + OFFSET) if index == 0 else t.reshape(-1) - s
        clear = {i: kernels.on(x).top_clear(x) for i, x in flat.items()}
        rows.append(flat)
        jobs.append(ole.BitProduct(clear.get(0), clear.get(1), parts[0].numel(), RING.signed(m), width))
    out = []
    for (parts, m, _), flat, wraps in zip(divisions, rows, ole.bit_products(session, transfers, jobs), strict=True):
        shares = []
        for (index, x), wrap, part in zip(flat.items(), wraps, parts, strict=True):
            constant = RING.signed(-(m >> 2) - m) if index == 0 else 0
            shares.append(kernels.on(x).quotient(x, m, wrap, constant, up=index == 1).view(part.shape))
        out.append(shares)
    return out
