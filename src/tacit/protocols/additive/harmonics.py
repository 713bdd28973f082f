"""Sines and cosines of a masked secret: for x = E + a and any angle θ that is linear in x modulo the ring,

    p sin θx + q cos θx  =  sin θE [p cos θa - q sin θa]  +  cos θE [p sin θa + q cos θa]

so a Fourier series of x is local once x is open and the producer has dealt the sines and cosines of its mask. A period
that is a power of two makes θ well defined modulo 2^64, and then any multiple of that θ. The idea for one sine is
[KS23]; here it is a whole series.

What is dealt is short. Let public factors have h fractional bits and dealt ones g. The sum of all products, of h + g
bits, stays below 2^m, so it is kept modulo 2^(h + g + m + 2); and so are the dealt factors, in words of as many bits.
These stand at the top of the ring, where a product has 62 - m fractional bits, whatever h and g are, and the sum of all
is below 2^62, as a truncation asks. A term of amplitude A is then off by at most

    √2/2 (A 2^-h + 2^-g)

which is least for 2^g = 2^h / A: so few bytes will do for the small terms at the end of a series.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from torch import Tensor

from tacit.protocols.additive import kernels
from tacit.protocols.additive.kernels.waves import Term, Waves
from tacit.protocols.additive.masks import Mask
from tacit.protocols.additive.source.base import Source
from tacit.protocols.series import Harmonics
from tacit.ring.ring import RING

__all__ = ["waves"]

SMALLEST = 2.0**-40
"""The amplitude that stands for those below, zero included."""


def waves(source: Source, x: Mask, frac_bits: int, series: Harmonics, indices: Sequence[int]) -> list[Tensor]:
    """Shares of the series of x without its constant, at its scale, for period 2^frac_bits <= 2^64.

    Producer: what the terms' words have, twice 3 to 6 bytes each; see `Term.width`.
    """
    plan, shape = _plan(series, frac_bits), x.shape
    words = source.wave(x.secret, plan, shape)
    if x.opened is None:
        return []
    return [kernels.on(x.opened).wave_sum(plan, x.opened, words[k]).view(shape) for k in range(len(indices))]


@lru_cache(maxsize=256)
def _plan(series: Harmonics, frac_bits: int) -> Waves:
    return Waves(series.turns << (RING.bits - series.period_bits(frac_bits)), odd=series.odd, terms=_terms(series))


def _terms(series: Harmonics) -> list[Term]:
    """Each term in few bytes: the one that loses least gives one up, as long as all errors together stay allowed."""
    room = RING.value_bits - series.frac_bits
    terms = [_term(p, q, 8, room) for p, q in series.amplitudes]
    while terms:
        shorter = [
            (_error(s), k, s) for k, (p, q, *_, width) in enumerate(terms) if (s := _term(p, q, width - 1, room))
        ]
        error, k, term = min(shorter)
        if error + sum(map(_error, terms[:k] + terms[k + 1 :])) > series.rounding:
            break
        terms[k] = term
    return terms


def _term(p: float, q: float, width: int, room: int) -> Term:
    """A term in so many bytes, its bits divided for the least error."""
    bits = max(8 * width - 2 - room, 0)
    public = round((bits + math.log2(_amplitude(p, q))) / 2)
    public = min(max(public, 0), bits)
    return Term(p, q, public, bits - public, width)


def _error(term: Term) -> float:
    return math.sqrt(0.5) * (_amplitude(term.sine, term.cosine) * 2.0**-term.public_bits + 2.0**-term.dealt_bits)


def _amplitude(p: float, q: float) -> float:
    return max(math.hypot(p, q), SMALLEST)
