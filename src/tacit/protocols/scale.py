"""The scale of a number: its fractional bits and what is publicly known of its size, and how operations change both.

A scale is a value that never changes; an operation makes that of its result by one of the rules here. Who knows more of
a result than follows from its operands (a square root is not negative) says so with `Number.declare`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tacit.ring.ring import RING

__all__ = [
    "FAR_BITS",
    "FINEST_PRODUCT",
    "FINEST_WHOLE",
    "PARAMETER_BITS",
    "PRECISE_BITS",
    "SHORT",
    "SLACK_BITS",
    "SUM_BITS",
    "WHOLE",
    "Scale",
    "coarsest",
]

SLACK_BITS = 12
"""Fractional bits a factor may have beyond the session's. More: a mean over a batch (a scale by 2^-7) keeps its
precision into the next product; fewer: larger products fit. Such a factor is smaller by the same 12 bits, so the range
stays."""

PARAMETER_BITS = 4
"""Fractional bits that a module's parameters and buffers have beyond the session's. More: a weight's rounding, which a
sum over many inputs adds up, is less (with 4 it is no more than that of the activations, with 8 nothing gets better any
more); fewer: larger products fit, for 4 what is below 2^26 at 16 fractional bits, before it was 2^30."""

SUM_BITS = 14
"""Bits that the ring must have for multiples and short sums of a number, as much as series leave (`series.ROOM`).
More: some results are truncated before they are added up, in one round; fewer: shorter sums."""

FINEST_PRODUCT = 52
"""Fractional bits beyond which a product gets no slack, in sessions of 21 and more, and its factors are truncated, in
those of 27 and 28. More: finer factors; fewer: larger products fit, which stay below 2^10."""

FINEST_WHOLE = 20
"""Fractional bits of sessions whose products are summed as they are; in finer ones elements below 2^10 must have a sum
that fits. More: sums of squares save a round; but at 24, those beyond 2^14 would be wrong."""

SHORT = 256
"""Elements of a sum that `SUM_BITS` are enough for."""

FAR_BITS = 44
"""Fractional bits of what stands for infinity, 2^15: more would not fit."""

PRECISE_BITS = 42
"""Fractional bits of a precise number, whatever the session's. More: smaller gradients are squared rightly; a gradient
of 1e-4 squared, times Adam's 1 - β₂, is 44 units. Fewer: larger ones fit; with 42, squares and their averages may reach
2^20, which is where the domain of the square root ends as well."""


class Scale(NamedTuple):
    """What all roles know of a number: round(x 2^f) is what the ring holds of x."""

    frac_bits: int = 0
    """f."""
    headroom: int = 0
    """Of a gradient: the bits that it is smaller by than that of a sum would be, for its loss is a mean; up to
    `SLACK_BITS`. A truncation leaves that many fractional bits more, so the range stays that of a sum."""
    precise: bool = False
    """Whether it keeps `PRECISE_BITS` fractional bits, in every later write too, and what is computed from it does:
    gradients in an optimizer's hands, their averages and those of their squares, which would vanish otherwise."""
    wide: bool = False
    """Whether it has more fractional bits than the session although nothing bounds it: a root, a quotient. Sums and
    comparisons use them; a product, which would be the smaller for them, truncates it first."""
    far: float = 0.0
    """What stands for infinity in it, if anything may: attention's masks, what a maximum shall leave out. Numbers
    from half of that on mean "out of reach"; see `functions.linear`."""
    positive: bool = False
    """Whether it is at least zero by construction, but for two units: a divisor then needs half the comparisons."""
    bounded: bool = False
    """Whether it is at most 1 in magnitude by construction: as a factor it keeps all its bits."""
    rounded: int | None = None
    """The fractional bits of the coarsest truncation in it, if there was one: it is off by less than such a unit. What
    is compared with it, and is not so rounded, is equal to it where it is nearer than that; see `slack`."""

    # --- of one operand --------------------------------------------------------------------------------------------

    def linear(self) -> Scale:
        """Of a linear operation's result, whose signs and sizes nobody knows."""
        if not (self.positive or self.bounded):
            return self
        return Scale(self.frac_bits, self.headroom, self.precise, self.wide, self.far, rounded=self.rounded)

    def summed(self) -> Scale:
        """Of sums of elements."""
        return self if not self.bounded else self._replace(bounded=False)

    def shifted(self, *, up: bool) -> Scale:
        """Of a sum with public numbers, `up` if none of them is negative."""
        return self.linear()._replace(positive=True) if self.positive and up else self.linear()

    def times_integer(self, k: int) -> Scale:
        """Of a product with a public integer."""
        kept = self.linear()
        if not (self.far or self.positive):
            return kept
        return kept._replace(far=self.far * abs(k), positive=self.positive and k >= 0)

    def lifted(self, frac_bits: int) -> Scale:
        """Of the same number with more fractional bits."""
        return self._replace(frac_bits=frac_bits)

    def reread(self, frac_bits: int) -> Scale:
        """Of the same ring elements with other fractional bits, so of another number."""
        far = self.far * 2.0 ** (self.frac_bits - frac_bits)
        rounded = None if self.rounded is None else self.rounded + frac_bits - self.frac_bits
        return Scale(frac_bits, self.headroom, self.precise, self.wide, far, self.positive, rounded=rounded)

    def truncated(self, frac_bits: int) -> Scale:
        """Of the same number with fewer fractional bits, which is neither precise nor wide any more."""
        rounded = frac_bits if self.rounded is None else min(self.rounded, frac_bits)
        return Scale(frac_bits, self.headroom, False, False, self.far, self.positive, self.bounded, rounded)

    def scaled(self, factor: float, frac_bits: int) -> Scale:
        """Of a product with a public factor above zero, truncated."""
        return Scale(frac_bits, self.headroom, far=self.far * factor, positive=self.positive, rounded=frac_bits)

    def ratio(self, factor: float, frac_bits: int) -> float | None:
        """What ring elements are multiplied by for |factor| times the number at these fractional bits.

        None if a truncation cannot do that, because it is no fraction, or below any.
        """
        drop = abs(factor) * 2.0 ** (frac_bits - self.frac_bits)
        least = 2.0**-RING.value_bits
        return drop if least <= drop < 1 - least else None

    def chosen(self) -> Scale:
        """Of what a bit has chosen, or zero."""
        return self if not self.wide else self._replace(wide=False)

    # --- of several ------------------------------------------------------------------------------------------------

    def plus(self, other: Scale, *, minus: bool = False) -> Scale:
        """Of a sum of two numbers of one scale, or of their difference."""
        if self == other and not (self.positive or self.bounded):
            return self
        return Scale(
            self.frac_bits,
            min(self.headroom, other.headroom),
            self.precise or other.precise,
            self.wide or other.wide,
            max(self.far, other.far),
            self.positive and other.positive and not minus,
            rounded=coarsest(self, other),
        )

    def times(self, other: Scale, *, square: bool = False) -> Scale:
        """Of a product, untruncated."""
        headroom = 0 if self.headroom and other.headroom else self.headroom + other.headroom
        positive = square or (self.positive and other.positive)
        return Scale(self.frac_bits + other.frac_bits, headroom, positive=positive)

    @staticmethod
    def end_to_end(scales: Sequence[Scale], frac_bits: int) -> Scale:
        """Of the elements of several, lifted to these fractional bits."""
        return Scale(
            frac_bits,
            min(s.headroom for s in scales),
            all(s.precise for s in scales),
            any(s.wide for s in scales),
            max(s.far for s in scales),
            all(s.positive for s in scales),
            rounded=coarsest(*scales),
        )

    def overwritten(self, source: Scale, *, whole: bool) -> Scale:
        """Of a storage of this scale into which a source is written, all of it or a part."""
        return Scale(
            source.frac_bits,
            min(source.headroom, SLACK_BITS if whole else self.headroom),
            self.precise,
            source.wide or (not whole and self.wide),
            source.far if whole else max(self.far, source.far),
            source.positive and (whole or self.positive),
            source.bounded and (whole or self.bounded),
            source.rounded if whole else coarsest(self, source),
        )

    def slack(self, other: Scale, frac_bits: int, *, least: int) -> int:
        """How many units of so many fractional bits two numbers of these scales may differ by and count as equal.

        By none, if they are rounded alike. Else one of them may be what was found among numbers like the other, the
        largest or a median, and was truncated since: by less than a unit of `least` fractional bits or more.
        """
        unit = coarsest(self, other)
        if unit is None or (self.frac_bits, self.rounded) == (other.frac_bits, other.rounded):
            return 0
        return (1 << max(frac_bits - max(unit, least), 0)) - 1


def coarsest(*scales: Scale) -> int | None:
    """The fractional bits of the coarsest truncation in any of several."""
    return min((s.rounded for s in scales if s.rounded is not None), default=None)


WHOLE = Scale()
"""The scale of bits, and of integers of which nothing is known."""
