"""The factors of an inner product, of which each party computes its own from its share."""

from __future__ import annotations

__all__ = ["Factors"]


class Factors:
    """How finely they are rounded. Left ones are at most 1 in magnitude, right ones below 2^reach."""

    left: int
    """Fractional bits of party 0's."""
    right: int
    """Fractional bits of party 1's."""
    reach: int
    bound: int | None = None
    """How large a sum of rounded products may get; None: what the number of terms says."""

    @property
    def frac_bits(self) -> int:
        """Of the inner product."""
        return self.left + self.right

    @property
    def left_bits(self) -> int:
        """Of a left factor, with its sign."""
        return self.left + 2

    @property
    def right_bits(self) -> int:
        """Of a right factor, with its sign."""
        return self.right + self.reach + 2
