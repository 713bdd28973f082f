"""What each primitive of the additive scheme costs. The conformance suite holds these numbers against the meter."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tacit.protocols.additive.scheme import PRODUCER
from tacit.protocols.protocol import DeclaredCost, Prices

__all__ = ["COSTS", "PRICES"]


def _cost(rounds: int, online_bits: Callable[[int], float], producer_bits: float, note: str = "") -> DeclaredCost:
    return DeclaredCost(rounds, online_bits, {PRODUCER: producer_bits}, note)


COSTS: Mapping[str, DeclaredCost] = {
    "multiply": _cost(
        1, lambda n: 128 * (n - 1), 0, "64 bits for each operand not opened before; the producer's follow if needed"
    ),
    "truncate": _cost(1, lambda n: 64 * (n - 1), 64 + 16),
    "multiply and truncate": _cost(2, lambda n: 192 * (n - 1), 64 + 16),
    "scale": _cost(1, lambda n: 64 * (n - 1), 128),
    "harmonics": _cost(1, lambda n: 64 * (n - 1), 2 * 48, "of one term, off by 2^-20: a term takes twice 3 to 6 bytes"),
    "polynomials": _cost(1, lambda n: 64 * (n - 1), 9 * 128, "of degree 9: 128 bits for each degree"),
    "less": _cost(
        3,
        lambda n: (64 + 28 + 6) * (n - 1),
        256 + 1 + 88 + 15,
        "the first 64 only once a secret; few elements take 2 rounds, see `comparison.few`",
    ),
    "select": _cost(1, lambda n: (64 + 1) * (n - 1), 128, "a bit, and 64 if the operand is not open"),
    "relu": _cost(4, lambda n: (64 + 28 + 6 + 1) * (n - 1), 256 + 1 + 88 + 15 + 128),
    "conjunction": _cost(1, lambda n: 2 * (n - 1), 1),
    "all_of": _cost(1, lambda n: 9 * (n - 1), 2**9, "of nine bits: a bit each, and 2^9 from the producer"),
    "to_arithmetic": _cost(1, lambda n: 1 * (n - 1), 64),
    "hot": _cost(1, lambda n: 64 * (n - 1), 16 * 64, "of 16 places: 8 bytes from the producer for each of 2^k"),
}

PRICES = Prices(compared=50, again=22, chosen=26, few=48, again_factor=26, beside=4096)
"""Comparing all pairs of 48 elements takes 8 rounds and six times the comparisons of a network, whose 21 layers take
four rounds each."""
