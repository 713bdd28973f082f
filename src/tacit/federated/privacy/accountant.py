"""How privacy losses of rounds add up."""

from __future__ import annotations

import dp_accounting
from dp_accounting.rdp import RdpAccountant

__all__ = ["Accountant"]


class Accountant:
    """Adds up the privacy loss of all rounds: Renyi accounting by the dp-accounting library."""

    def __init__(self, delta: float) -> None:
        self.delta = delta
        self._accountant = RdpAccountant(neighboring_relation=dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)

    def spend(self, rho: float) -> float:
        """Add a round that is rho-zCDP; return the epsilon of all rounds so far, at delta."""
        self._accountant.compose(dp_accounting.ZCDpEvent(rho))
        return float(self._accountant.get_epsilon(self.delta))
