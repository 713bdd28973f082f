"""Tacit: ordinary PyTorch programs on data that no single machine may see."""

from tacit.api import current_session, is_role, reveal, role, session, share
from tacit.check import check
from tacit.checkpoint import load, save
from tacit.data import batches, read_csv
from tacit.datasets.open import open_dataset
from tacit.errors import TacitError
from tacit.outside.client import Client
from tacit.profile import profile
from tacit.tensor import SecretTensor

__version__ = "0.1.0"

__all__ = [
    "Client",
    "SecretTensor",
    "TacitError",
    "__version__",
    "batches",
    "check",
    "current_session",
    "is_role",
    "load",
    "open_dataset",
    "profile",
    "read_csv",
    "reveal",
    "role",
    "save",
    "session",
    "share",
]
