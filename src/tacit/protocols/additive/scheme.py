"""What the additive scheme asks of its roles, and what it promises. The price of each primitive stands in `cost`."""

from __future__ import annotations

from tacit.session.roles import Helper, Scheme

__all__ = ["PRODUCER", "SCHEME"]

PRODUCER = "crypto-producer"

SCHEME = Scheme(
    name="additive",
    threat="semi-honest roles: any number of parties but one may collude, and the crypto-producer with none of them",
    helpers=(Helper(PRODUCER, "producer", "makes the correlated randomness"),),
    shares="sums",
)
