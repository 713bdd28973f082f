"""Real vectors in Z_2^64 or Z_2^32, such that the sum over all clients never wraps.

x is held as round(x 2^f), with f the largest number of fractional bits for which n values of magnitude `limit`, and
what noise is announced, stay within half the ring. What is larger than `limit` saturates, and is counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tacit.federated.errors import UpdateError
from tacit.federated.vectors import Floats, Ring

__all__ = ["Encoding", "finite"]


def finite(x: Floats, name: str) -> None:
    """Raise `UpdateError` for what is no number."""
    if not np.isfinite(x).all():
        kind = "NaN" if np.isnan(x).any() else "infinite"
        raise UpdateError(f"{name} holds a number that is {kind}; the update is not sent")


@dataclass(frozen=True)
class Encoding:
    """How vectors of at most `clients` clients, with |x| <= limit, are held in a ring of `bits` bits.

    Domain: |x| <= limit.   Error: of the sum over n clients at most n 2^(-f-1).
    """

    bits: int
    limit: float
    clients: int
    headroom: float = 0.0
    """What the sum may hold beyond the clients' values: noise."""

    def __post_init__(self) -> None:
        if self.bits not in (32, 64):
            raise ValueError(f"a ring has 32 or 64 bits, not {self.bits}")
        if not (self.limit > 0 and math.isfinite(self.limit) and self.clients > 0 and self.headroom >= 0):
            raise ValueError("the limit of values, the number of clients and the headroom must be positive and finite")
        if self.frac_bits < 1:
            raise ValueError(
                f"{self.clients} clients with values up to {self.limit:g} do not fit {self.bits} bits: "
                f"lower the limit or use 64 bits"
            )

    @property
    def frac_bits(self) -> int:
        """Fractional bits: n limit 2^f + headroom 2^f < 2^(bits - 1)."""
        return self.bits - 2 - math.ceil(math.log2(self.clients * self.limit + self.headroom))

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """The unsigned integers of this ring; their sums wrap."""
        return np.dtype(np.uint32 if self.bits == 32 else np.uint64)

    @property
    def error(self) -> float:
        """The largest error of one client's value."""
        return 2.0 ** -(self.frac_bits + 1)

    def clamp(self, x: Floats, name: str) -> tuple[Floats, int]:
        """Return x within the limit, and how many values saturated."""
        finite(x, name)
        beyond = int((np.abs(x) > self.limit).sum())
        return (np.clip(x, -self.limit, self.limit) if beyond else x), beyond

    def integers(self, x: Floats) -> npt.NDArray[np.int64]:
        """Return round(x 2^f), for x within the limit."""
        scaled = x * 2.0**self.frac_bits
        return np.rint(scaled, out=scaled).astype(np.int64)

    def ring(self, v: npt.NDArray[np.int64]) -> Ring:
        """Return integers as ring elements."""
        return v.view(np.uint64).astype(self.dtype, copy=False)

    def signed(self, v: Ring) -> npt.NDArray[np.int64]:
        """Return ring elements as the integers in two's complement."""
        return v.view(f"i{self.bits // 8}").astype(np.int64)

    def decode(self, v: Ring) -> Floats:
        """Return v 2^-f of a sum."""
        return self.signed(v).astype(np.float64) * 2.0**-self.frac_bits
