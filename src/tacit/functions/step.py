"""Step functions of a secret, and with them range reduction: the scale that brings a secret into one octave."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.protocols.share import Arithmetic, Binary

__all__ = ["Steps"]


class Steps:
    """The comparisons of x with ascending thresholds, as integers; each step function of x is then local.

    Cost: 3 rounds of one comparison for each threshold, from one opening of x, and 1 round of one bit for each.
    """

    def __init__(self, x: Arithmetic, thresholds: Sequence[int]) -> None:
        self._bits = Binary.stack(x.protocol.less(x, thresholds)).arithmetic()
        self._count = len(thresholds)

    def function(self, values: Sequence[float], frac_bits: int) -> Arithmetic:
        """v_i where thresholds i-1 <= x < i, for one value more than thresholds.  v_m + Σ_i [x < t_i] (v_{i-1} - v_i)."""
        ring = [round(v * 2**frac_bits) for v in values]
        jumps = torch.tensor([a - b for a, b in zip(ring[:-1], ring[1:], strict=True)])
        jumps = jumps.view(-1, *[1] * (len(self._bits.shape) - 1))

        def op(t: Tensor) -> Tensor:
            return (t * jumps.to(t.device)).sum(0)

        out = self._bits.linear(op).plus(torch.tensor(ring[-1]))
        out.storage.frac_bits = frac_bits
        return out
