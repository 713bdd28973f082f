"""Softmax, and the parts of it that log-softmax and its gradient use as well."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from tacit.functions.exponential import exp_nonpositive
from tacit.functions.logarithm import log
from tacit.functions.reciprocal import WORKING_BITS, inverse
from tacit.functions.step import Steps
from tacit.functions.tournament import Tournament
from tacit.protocols.share import Arithmetic

__all__ = ["Softmax"]


class Softmax(NamedTuple):
    """x - max x and exp(x - max x), each computed once, and what follows from them."""

    difference: Arithmetic
    power: Arithmetic
    dim: int

    @classmethod
    def of(cls, x: Arithmetic, dim: int) -> Softmax:
        """Find the maximum (4 rounds for each of log2 n levels), subtract it, and exponentiate (4 rounds)."""
        count = x.shape[dim]
        largest = Tournament(x.move(lambda t: t.movedim(dim, 0), view=False)).values

        def spread(t: Tensor) -> Tensor:
            t = t.unsqueeze(dim)
            return t.expand(*t.shape[:dim], count, *t.shape[dim + 1 :])

        level = x.settle(largest.frac_bits) if x.frac_bits > largest.frac_bits else x
        difference = level - largest.move(spread, view=False)
        return cls(difference, exp_nonpositive(difference), dim)

    def _total(self) -> Arithmetic:
        return self.power.sum([self.dim], keepdim=True)

    def value(self) -> Arithmetic:
        """Return exp(x - max x) / Σ exp(x - max x); the sum lies in [1, n].

        Shape: any.   Domain: differences below 2^45.   Error: <= (n + 2) 2^-f; √n 2^-f as a rule.
        Cost: 11 rounds at most.   Reveals: nothing.
        """
        total = self._total()
        octaves = max(math.ceil(math.log2(max(self.power.shape[self.dim], 1))), 0) + 1  # also for a rounded-up n
        thresholds = [1 << (total.frac_bits + j) for j in range(1, octaves)]
        scales = [2.0**-j for j in range(1, octaves + 1)]  # for a sum in [2^(j-1), 2^j)
        protocol = total.protocol
        if thresholds:
            scale = Steps(total, thresholds).function(scales, frac_bits=octaves)
            z = protocol.multiply(total, scale).settle(WORKING_BITS)
            y = protocol.multiply(inverse(z), scale).settle(WORKING_BITS)
        else:
            y = inverse(total.rescaled(total.frac_bits + 1).lifted(WORKING_BITS)).rescaled(WORKING_BITS + 1)
        return protocol.multiply(self.power, y)

    def log_value(self) -> Arithmetic:
        """Return x - max x - log Σ exp(x - max x).

        Error: <= (n + 2) 2^-f; √n 2^-f as a rule.   Cost: 11 rounds.   Reveals: nothing.
        """
        logarithm = log(self._total())
        shape = self.difference.shape
        return self.difference - logarithm.move(lambda t: t.expand(shape), view=False)
