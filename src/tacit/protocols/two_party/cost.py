"""What each primitive of the two-party scheme costs online. What transfers are made of comes on top, and is made ahead.

Bits an element that one party sends; both send the same where elements are split, see `ole.SPLIT`.
"""

from __future__ import annotations

from collections.abc import Mapping

from tacit.protocols.protocol import DeclaredCost, Prices

__all__ = ["COSTS", "PRICES"]

COSTS: Mapping[str, DeclaredCost] = {}

PRICES = Prices(compared=100, chosen=34, few=16)
