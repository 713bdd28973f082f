"""Differential privacy for clients: each clips its update, and noise that nobody knows is in the sum.

With pairwise masks every client adds its part of the noise before it masks; with computing parties every party adds its
part. Discrete Gaussians are added to integers, so no floating-point artefact leaks: the sum of n of them is, for the
scales used here, indistinguishable from one discrete Gaussian of n times the variance. Ref: [KLS21] Sec. 3, [CKS20].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Privacy"]

SMALLEST_SCALE = 64.0
"""Standard deviation of one client's noise, in units of the last place, from which the sum of discrete Gaussians is
one: their divergence is below 10 n exp(-pi^2 s^2), [KLS21] Thm. 5, which is exp(-40000) here."""

TAIL = 40.0
"""Standard deviations of noise that the encoding leaves room for: beyond lies probability 2^-1100."""


@dataclass(frozen=True)
class Privacy:
    """Client-level differential privacy: what the sum tells about whether one client's update is in it, or is zero.

    `clip`: the largest Euclidean norm of a client's update. Smaller: less noise is needed; larger: less is cut off.
    `noise_multiplier`: the standard deviation of the noise in the sum over `clip`, when the fewest honest clients add
    it. Larger: smaller epsilon, larger error.
    `honest`: so many of those who add noise, the survivors or the computing parties, do so and do not tell it to the
    server. Each adds noise_multiplier * clip / sqrt(honest), so the sum has enough whoever else drops out or colludes.
    `budget`: the largest epsilon, at `delta`, that a client spends; before it spends more, it refuses to take part.
    """

    clip: float
    noise_multiplier: float
    honest: int
    delta: float = 1e-5
    budget: float = math.inf

    def __post_init__(self) -> None:
        if not (self.clip > 0 and self.noise_multiplier > 0 and self.honest >= 1 and 0 < self.delta < 1):
            raise ValueError("clip, noise_multiplier and honest must be positive, and delta between 0 and 1")
        if not self.budget > 0:
            raise ValueError("a budget must be positive: with none left nobody could take part")

    @property
    def scale(self) -> float:
        """The standard deviation of each client's own noise."""
        return self.noise_multiplier * self.clip / math.sqrt(self.honest)

    def largest_noise(self, clients: int) -> float:
        """Return the room that the sum of so many clients' noise needs."""
        return TAIL * self.scale * math.sqrt(clients)

    def clipped(self, update: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the update, scaled down to norm `clip` if it is longer."""
        norm = float(np.linalg.norm(update))
        return update * (self.clip / norm) if norm > self.clip else update

    def noise(self, count: int, frac_bits: int) -> npt.NDArray[np.int64]:
        """Return exact discrete Gaussian noise in units of 2^-frac_bits, from the operating system's randomness."""
        scale = self.scale * 2.0**frac_bits
        if scale < SMALLEST_SCALE:
            raise ValueError("the encoding is too coarse for this noise: use 64 bits or a smaller limit")
        import opendp.prelude as dp  # half a second, which clients without noise need not wait for

        dp.enable_features("contrib")
        space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64")
        return np.array(dp.m.make_gaussian(*space, scale=scale)([0] * count), dtype=np.int64)

    def rho(self, count: int, frac_bits: int) -> float:
        """Return the zero-concentrated privacy loss of one round over vectors of `count` coordinates.

        Rounding to multiples of 2^-f lengthens an update by at most sqrt(d) 2^(-f-1). Ref: [KLS21] Prop. 14.
        """
        return self.loss(self.clip + math.sqrt(count) * 2.0 ** -(frac_bits + 1))

    def loss(self, sensitivity: float) -> float:
        """Return the zero-concentrated privacy loss of one round whose sum a client moves by at most so much."""
        return sensitivity**2 / (2 * self.honest * self.scale**2)
