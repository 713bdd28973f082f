"""What `tacit.federated` raises on purpose, out of the tree of `tacit.errors`."""

from tacit.errors import (
    BudgetError,
    FederatedError,
    ForgeryError,
    RosterError,
    RoundError,
    RoundFailedError,
    ThresholdError,
    UpdateError,
)

__all__ = [
    "BudgetError",
    "FederatedError",
    "ForgeryError",
    "RosterError",
    "RoundError",
    "RoundFailedError",
    "ThresholdError",
    "UpdateError",
]
