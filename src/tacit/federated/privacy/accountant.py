"""How privacy losses of rounds add up."""

from __future__ import annotations

__all__ = ["Accountant"]


class Accountant:
    """Adds up the privacy loss of all rounds: Renyi accounting by the dp-accounting library."""

    def __init__(self, delta: float) -> None:
        import dp_accounting  # a second, which a federation without a budget need not wait for
        from dp_accounting.rdp import RdpAccountant

        self.delta, self._event = delta, dp_accounting.ZCDpEvent
        self._accountant = RdpAccountant(neighboring_relation=dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)

    def spend(self, rho: float) -> float:
        """Add a round that is rho-zCDP; return the epsilon of all rounds so far, at delta."""
        self._accountant.compose(self._event(rho))
        return float(self._accountant.get_epsilon(self.delta))
