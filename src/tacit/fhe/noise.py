"""How much noise an answer carries, and how much of it hides the model: the security arithmetic of `tacit.fhe`.

The client encrypts symmetrically: c0 + c1 s = (q/t) m + rho + e (mod q), |rho| <= 1/2, e centred binomial with
|e_i| <= 21. The server answers, for secret integer polynomials W_g (one for each group of inputs),

    c' = sum_g W_g c_g + u pk + (f, e2) + (q/t) b

with pk an encryption of zero, u uniform ternary, e2 centred binomial, f uniform in [-2^F, 2^F). Without u, c1' / c1
would be W itself: the client knows c1. Without f, c0' + c1' s would show e * W, linear equations in W: the client
knows e.

*Why both together suffice.* Decrypting gives (q/t) <W, m> + delta + f, where

    delta = sum_g W_g * (rho_g + e_g) + u * e_pk + e2 * s.

f hides delta up to a statistical distance of |delta| / 2^(F+1) for each coefficient sent. Once f has made the
decryption independent of u and e2, c1' = (...) + u a + e2 is a ring-LWE sample under the fresh secret u:
pseudorandom, to the holder of s too. So the answer can be simulated from <W, m> alone (circuit privacy by noise
flooding, [Gen09] section 21.1; the ring-LWE half is the public-key re-randomisation of [LPR13]). `a` is expanded from
a seed, so that a client cannot choose it. Coefficients of c0' that nobody needs are not sent, and so hide nothing and
leak nothing.

*How large delta is.* To hide it, its size on average is what counts: the distance between the joint distributions of
(key, query, answer) is the mean of the distances for given key and query, so with Var e_i = 10.5 and E|delta| <=
sqrt(E delta^2)

    SD <= k D / 2^(F+1) for k coefficients,    D = sqrt(10.5 |W|_2^2 + 14 n) + |W|_1,row / 2.

(14 n: two products of a uniform ternary with an error polynomial, each n * 2/3 * 10.5.) To decrypt, its largest value
counts: e_i is a sum of 42 independent terms of +-1/2, so sum_i W_i e_i is sub-Gaussian with parameter sqrt(10.5)
|W|_2 (Hoeffding) and exceeds `TAIL` times that with probability below 2 exp(-TAIL^2/2):

    |delta| <= B = TAIL sqrt(10.5) |W|_2 + |W|_1,row / 2 + 42 n + 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

TAIL = 12.0
"""Standard deviations of e * W that an answer survives: exceeded with probability below 2^-102 for a coefficient.
Larger would cost room that is better used for flooding, smaller would make decryption failures conceivable."""

TARGET_STATISTICAL_BITS = 40
"""Flooding that every answer must reach: an answer is within 2^-40 of one that is independent of the model, the usual
statistical parameter. It adds over answers: after 2^20 of them to one client, 2^-20. More would shrink the plaintext
modulus bit for bit; less (SEAL's default 72-bit modulus leaves about 20) would let the client average its way to the
model."""

ERROR_BOUND = 21
ERROR_VARIANCE = 10.5


@dataclass(frozen=True)
class FormBounds:
    """What is public about the size of a family of linear forms."""

    row_l1: float
    """Largest sum of the |coefficients| of one form, taken in (-t/2, t/2]."""
    product_l2: float
    """Largest Euclidean norm of all coefficients that go into one answer ciphertext."""
    product_l1: float = math.inf
    """Largest sum of their absolute values; only programs whose inputs are spread need say it."""


@dataclass(frozen=True)
class NoisePlan:
    """The flooding and the rounding of an answer, and what they achieve."""

    flood_bits: int
    trim_bits: int
    statistical_bits: int


def spread_noise(n: int, data_bits: tuple[int, ...], special_bits: int, pieces: int) -> float:
    """Return what no coefficient of a spread ciphertext's noise exceeds, but with probability 2^-100.

    Level l makes c + sigma(c) and c - sigma(c) of c, so its noise at most doubles, and the key switch in sigma adds

        sum_i d_i e_i / P + tau s,    |d_i| < q_i the digits of sigma(c)'s second part, e_i the errors of the key,
                                      |tau| <= 1/2 the rounding of the division by the special prime P.

    Given the digits, each of these sums is sub-Gaussian: sqrt(10.5 n) q_i / P, and sqrt(n) / 2. After log2(pieces)
    levels what was |rho| + |e| <= 21.5, and each level's K, have become at most pieces (21.5 + K).
    """
    digits = math.sqrt(ERROR_VARIANCE * n * sum(4.0**bits for bits in data_bits)) / 2.0 ** (special_bits - 1)
    switch = TAIL * (digits + math.sqrt(n) / 2) + 1
    return pieces * (ERROR_BOUND + 0.5 + switch)


def largest(n: int, row_l1: float, product_l2: float, spread: float = 0.0) -> float:
    """Return B: the noise of an answer before flooding that decryption allows for. With inputs that were spread,
    `spread` is |W|_1 of a product times the largest noise of an input, whatever the signs."""
    if spread:
        return spread + 2 * ERROR_BOUND * n + 1
    return TAIL * math.sqrt(ERROR_VARIANCE) * product_l2 + row_l1 / 2 + 2 * ERROR_BOUND * n + 1


def statistical_bits(
    n: int, flood_bits: int, row_l1: float, product_l2: float, coefficients: int, spread: float = 0.0
) -> int:
    """Return -log2 of the statistical distance between an answer and one that is independent of the model."""
    mean = math.sqrt(ERROR_VARIANCE * product_l2**2 + 14 * n) + row_l1 / 2
    if spread:  # the noise of spread inputs has common parts, so no average is taken over their signs
        mean = math.sqrt(14 * n) + spread
    return math.floor(flood_bits + 1 - math.log2(mean) - math.log2(coefficients))


def plan(
    n: int,
    data_primes: tuple[int, ...],
    t: int,
    coefficients: int,
    row_l1: float,
    product_l2: float,
    spread: float = 0.0,
) -> NoisePlan | None:
    """Return the strongest flooding that still decrypts, or None if it misses `TARGET_STATISTICAL_BITS`.

    A quarter of q/t goes to f + delta (so 2^F + B <= q / 4t, which the switch to the first prime q1 keeps), a quarter
    of q1/t to the rounding by that switch and to the low bits of the answer that are not sent:

        (1 + |s|_1) (1/2 + 2^(trim-1)) <= q1 / 4t,   |s|_1 <= n.

    Bounds, not estimates: an answer that was computed honestly always decrypts.
    """
    b = largest(n, row_l1, product_l2, spread)
    room = math.prod(data_primes) // (4 * t)
    flood_bits = (room - math.ceil(b)).bit_length() - 1 if room > b else -1
    slack = data_primes[0] / (4 * t) / (1 + n) - 0.5
    trim_bits = math.floor(math.log2(slack)) + 1 if slack >= 1 else 0
    if slack <= 0 or flood_bits < 1:
        return None
    statistical = statistical_bits(n, flood_bits, row_l1, product_l2, coefficients, spread)
    if statistical < TARGET_STATISTICAL_BITS:
        return None
    return NoisePlan(flood_bits, trim_bits, statistical)
