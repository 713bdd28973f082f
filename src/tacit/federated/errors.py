"""What `tacit.federated` raises on purpose.

::

    TacitError
    └── FederatedError                 a round, a roster or an update that cannot be used
        ├── RosterError                an identity file or a roster that cannot be used
        ├── ForgeryError               a key, ciphertext or share that is not from whom it says
        ├── RoundError                 a message of an old round, at the wrong stage, or twice
        ├── UpdateError                an update of the wrong shape, or that is not finite
        ├── BudgetError                a client has spent its privacy budget, and takes no part
        └── ThresholdError             too few clients: nothing was unmasked

A message names clients and stages. It never holds a key, a mask or a value of an update.
"""

from __future__ import annotations

from tacit.errors import TacitError

__all__ = [
    "BudgetError",
    "FederatedError",
    "ForgeryError",
    "RosterError",
    "RoundError",
    "ThresholdError",
    "UpdateError",
]


class FederatedError(TacitError):
    """A round, a roster or an update that cannot be used."""


class RosterError(FederatedError):
    """An identity file or a roster cannot be used."""


class ForgeryError(FederatedError):
    """A key, a ciphertext or a share is not from whom it says."""


class RoundError(FederatedError):
    """A message belongs to an old round, to another stage, or came twice."""


class UpdateError(FederatedError):
    """An update has the wrong shape or is not finite."""


class BudgetError(FederatedError):
    """A client has spent its privacy budget."""


class ThresholdError(FederatedError):
    """Too few clients took part or survived; nothing was unmasked."""
