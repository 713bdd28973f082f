"""Clients that are no computing parties: they submit data sets to the parties, and ask them for predictions.

A map of `outside/`, `datasets/` and `predictions/`, where these things live.
"""

from tacit.datasets.intake import Doors
from tacit.datasets.open import SecretDataset, open_dataset
from tacit.outside.client import Client, Receipt
from tacit.predictions.service import Service

__all__ = ["Client", "Doors", "Receipt", "SecretDataset", "Service", "open_dataset"]
