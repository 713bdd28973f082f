"""Step functions of a secret, and with them range reduction: the scale that brings a secret into one octave."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch

from tacit.protocols.arithmetic import Arithmetic
from tacit.protocols.share import Binary

__all__ = ["Steps", "one_hot"]


class Steps:
    """The comparisons of x with ascending thresholds, as integers; each step function of x is then local.

    Cost: 3 rounds of one comparison for each threshold, from one opening of x, and 1 round of one bit for each.
    """

    def __init__(self, x: Arithmetic, thresholds: Sequence[int]) -> None:
        self._bits = Binary.stack(x.protocol.less(x, thresholds))

    def function(self, values: Sequence[float], frac_bits: int) -> Arithmetic:
        """The value v_i where t_i <= x < t_{i+1}:  v_m + Σ_i [x < t_i] (v_{i-1} - v_i), for t_1 … t_m and v_0 … v_m."""
        ring = [round(v * 2**frac_bits) for v in values]
        out = self._weighted(self._bits.arithmetic(), ring).plus(torch.tensor(ring[-1]))
        out.storage.frac_bits = frac_bits
        return out

    def times(self, x: Arithmetic, values: Sequence[float], frac_bits: int) -> Arithmetic:
        """x times a step function, by a selection with each bit, in the round in which they are opened.

        Producer: 8 bytes for each threshold and element.
        """
        ring = [round(v * 2**frac_bits) for v in values]
        exact = x.rescaled(min(x.frac_bits, x.protocol.frac_bits))  # a selection would truncate what has more
        spread = exact.move(lambda t: t.expand(self._bits.shape), view=False)
        (chosen,) = x.protocol.select([(self._bits, spread)])
        out = self._weighted(chosen, ring).rescaled(0).added(exact.times_integer(ring[-1]).rescaled(0))
        return out.rescaled(x.frac_bits + frac_bits)

    def _weighted(self, terms: Arithmetic, ring: Sequence[int]) -> Arithmetic:
        """Σ_i terms_i (v_{i-1} - v_i)."""
        jumps = torch.tensor([a - b for a, b in pairwise(ring)]).view(-1, *[1] * (len(terms.shape) - 1))
        return terms.linear(lambda t: (t * jumps.to(t.device)).sum(0))


def one_hot(index: Arithmetic, count: int, dim: int) -> Binary:
    """Return [index = j] for j = 0 .. count - 1 along `dim`, where `index` has one element:  [i < j + 1] ^ [i < j].

    Shape: [.., 1, ..] -> [.., count, ..].   Domain: integers 0 <= index < count.
    Cost: 3 rounds, 8 bytes and 4.25 for each place but one, an index and party.   Reveals: nothing.
    """
    below = index.protocol.less(index, range(1, count))
    if not below:
        return index.protocol.public_bits(torch.ones(index.shape, dtype=torch.uint8))
    hot = [below[0], *(b ^ a for a, b in pairwise(below)), below[-1].invert()]
    return Binary.stack(hot).move(lambda t: t.movedim(0, dim).squeeze(dim + 1), view=False)
