"""Clients that are no computing parties: they submit data sets to the parties, and ask them for predictions."""

from tacit.serve.client import Client, Receipt
from tacit.serve.dataset import SecretDataset, open_dataset
from tacit.serve.door import Doors
from tacit.serve.service import Service

__all__ = ["Client", "Doors", "Receipt", "SecretDataset", "Service", "open_dataset"]
