"""Step functions of a secret, and with them range reduction: the scale that brings a secret into one octave."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch

from tacit.protocols.number import Number
from tacit.protocols.values import Bits
from tacit.ring.fixed_point import VALUE_BITS

__all__ = ["Octaves", "Steps"]


class Steps:
    """The comparisons of x with ascending thresholds, as integers; each step function of x is then local.

    Cost: 3 rounds of one comparison for each threshold, from one opening of x, and 1 round of one bit for each.
    """

    def __init__(self, x: Number, thresholds: Sequence[int]) -> None:
        self.bits = Bits.stack(x.protocol.less(x, thresholds))
        """[x < t], along a first dimension."""

    def function(self, values: Sequence[float], frac_bits: int) -> Number:
        """The value v_i where t_i <= x < t_{i+1}:  v_m + Σ_i [x < t_i] (v_{i-1} - v_i), for t_1 … t_m and v_0 … v_m."""
        ring = [round(v * 2**frac_bits) for v in values]
        out = self._weighted(self.bits.arithmetic(), ring).plus(torch.tensor(ring[-1]))
        out.declare(frac_bits=frac_bits)
        return out

    def times(self, x: Number, values: Sequence[float], frac_bits: int) -> Number:
        """x times a step function, by a selection with each bit, in the round in which they are opened.

        Producer: 8 bytes for each threshold and element.
        """
        ring = [round(v * 2**frac_bits) for v in values]
        exact = x.rescaled(min(x.frac_bits, x.protocol.frac_bits))  # a selection would truncate what has more
        spread = exact.move(lambda t: t.expand(self.bits.shape), view=False)
        (chosen,) = x.protocol.select([(self.bits, spread)])
        out = self._weighted(chosen, ring).rescaled(0).added(exact.times_integer(ring[-1]).rescaled(0))
        return out.rescaled(x.frac_bits + frac_bits)

    def _weighted(self, terms: Number, ring: Sequence[int]) -> Number:
        """Σ_i terms_i (v_{i-1} - v_i)."""
        jumps = torch.tensor([a - b for a, b in pairwise(ring)]).view(-1, *[1] * (len(terms.shape) - 1))
        return terms.linear(lambda t: (t * jumps.to(t.device)).sum(0))


class Octaves:
    """Range reduction: the even e with 2^(e-2) <= |x| < 2^e, so that x 2^-e lies in [1/4, 1), for any x that fits.

    Two octaves at a time: one at a time would need twice as many comparisons, and the series that follow only two or
    three terms fewer. What lies below all octaves, zero above all, has a place of its own; a caller who knows that
    least <= |x| <= most has fewer octaves, and whatever is outside of them counts to the nearest.

    Cost: as `Steps`; unsigned one comparison for each e, signed two. None at all if there is only one e.
    """

    def __init__(self, x: Number, *, signed: bool = False, least: float = 0.0, most: float = math.inf) -> None:
        f = x.frac_bits
        bounded = least >= 2.0 ** (-f)
        low = 2 * math.floor(math.log2(least) / 2) + 2 if bounded else 2 - f + f % 2
        high = 2 * math.floor(math.log2(most) / 2) + 2 if most < 2.0 ** (VALUE_BITS - f) else VALUE_BITS
        self.exponents = range(low, max(min(high, (VALUE_BITS - f) // 2 * 2), low) + 1, 2)
        """All e, ascending."""
        self._x, self._signed, self._bounded = x, signed, bounded
        edges = [1 << (f + e) for e in self.exponents[:-1]]
        if not bounded:
            edges.insert(0, 1 << (f + low - 2))
        centre = [0] if signed and bounded else []
        below = [1 - t for t in reversed(edges)] if signed else []
        thresholds = below + centre + edges
        self._steps = Steps(x, thresholds) if thresholds else None

    def function(self, value: Callable[[int], float], frac_bits: int, zero: float = 0.0) -> Number:
        """value(e), with the sign of x if it is signed, and `zero` below all octaves."""
        if self._steps is None:
            ring = torch.full(self._x.shape, round(value(self.exponents[0]) * 2**frac_bits), dtype=torch.int64)
            return self._x.protocol.public(ring, frac_bits)
        return self._steps.function(self._values(value, zero), frac_bits)

    def _values(self, value: Callable[[int], float], zero: float) -> list[float]:
        """One for each place between the thresholds."""
        above = [value(e) for e in self.exponents]
        below = [-v for v in reversed(above)] if self._signed else []
        return [*below, *([] if self._bounded else [zero]), *above]

    def scale(self) -> Number:
        """2^-e, with the sign of x if it is signed, and zero below all octaves."""
        return self.function(lambda e: 2.0**-e, max(self.exponents[-1], 0))

    def selected(self) -> Number:
        """What `scaled` gives, a round earlier, by a selection with each bit: for few elements, see `Steps.times`."""
        x = self._x
        if self._steps is None:
            return x.rescaled(x.frac_bits + self.exponents[0])
        return self._steps.times(x, self._values(lambda e: 2.0**-e, 0.0), max(self.exponents[-1], 0))

    def scaled(self, scale: Number) -> Number:
        """|x| 2^-e, in [1/4, 1), and zero below all octaves. No product where there is one octave only."""
        x = self._x
        return x.rescaled(x.frac_bits + self.exponents[0]) if self._steps is None else x.protocol.multiply(x, scale)
