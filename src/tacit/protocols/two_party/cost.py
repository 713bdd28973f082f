"""What each primitive of the two-party scheme costs online. What transfers are made of comes on top, and is made ahead.

Bits an element that a party sends, on average of both; either sends as much where elements are split, see `ole.SPLIT`.
Products on ciphertexts are declared for as many elements as fill them.
"""

from __future__ import annotations

from collections.abc import Mapping

from tacit.protocols.protocol import DeclaredCost, Prices

__all__ = ["COSTS", "PRICES"]


def _cost(rounds: int, online_bits: float, note: str = "") -> DeclaredCost:
    return DeclaredCost(rounds, lambda n: online_bits, note=note)


COSTS: Mapping[str, DeclaredCost] = {
    "multiply": _cost(3, 608.5234375, "on ciphertexts; of few elements 1 round, on transfers"),
    "truncate": _cost(1, 8.5, "16 bits one way"),
    "multiply and truncate": _cost(4, 617.0234375),
    "scale": _cost(1, 32.5),
    "harmonics": _cost(3, 416.515625, "of one term, off by 2^-20: a term takes twice 18 bytes for each prime"),
    "polynomials": _cost(3, 3008.515625, "of degree 9: 20 terms, in two primes; of few elements 1 round, on transfers"),
    "less": _cost(6, 332, "4 bits and 64 for each of 16 digits, and 6 for each of 15 nodes, one of them 4"),
    "select": _cost(1, 65),
    "relu": _cost(7, 397),
    "conjunction": _cost(1, 2),
    "all_of": _cost(4, 16, "of nine bits: eight conjunctions"),
    "to_arithmetic": _cost(1, 32.5),
    "hot": _cost(7, 5052, "of 16 places: 15 comparisons, and the bits as integers"),
}

PRICES = Prices(compared=300, again=300, chosen=34, few=16, again_factor=154, carried=False)
"""A comparison takes 83 bytes online and some 230 of transfers, six hops of little; so sorting compares fewer pairs."""
