"""Random oblivious transfers between two parties, and their correlations."""

from __future__ import annotations

from tacit.protocols.two_party.transfers.order import Choice, Digits, Order, Pair, Planes, Tables, Words
from tacit.protocols.two_party.transfers.transfers import Transfers
from tacit.protocols.two_party.transfers.ways import Raw

__all__ = ["Choice", "Digits", "Order", "Pair", "Planes", "Raw", "Tables", "Transfers", "Words"]
