"""Clients: they submit data sets to the computing parties, and ask them for predictions, or compute with one server.

A map of `outside/`, `datasets/` and `predictions/`, where these things live.
"""

from tacit.datasets.intake import Doors
from tacit.datasets.open import SecretDataset, open_dataset
from tacit.outside.client import Client, Receipt
from tacit.predictions.host import Host
from tacit.predictions.service import Service

__all__ = ["Client", "Doors", "Host", "Receipt", "SecretDataset", "Service", "open_dataset"]
