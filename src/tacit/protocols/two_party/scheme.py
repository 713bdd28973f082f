"""What the two-party scheme asks of its roles, and what it promises. The price of each primitive stands in `cost`."""

from __future__ import annotations

from tacit.session.roles import Scheme

__all__ = ["SCHEME"]

SCHEME = Scheme(
    name="two-party",
    threat="semi-honest roles: two parties alone, and neither learns of the other's data but what is revealed",
    most=2,
    prepares=True,
    shares="sums",
)
