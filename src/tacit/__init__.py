"""Tacit: ordinary PyTorch programs on data that no single machine may see."""

from tacit.api import current_session, is_role, reveal, role, session, share
from tacit.check import check
from tacit.checkpoint import load, save
from tacit.data import batches, read_csv
from tacit.errors import TacitError
from tacit.profile import profile
from tacit.serve import Client, open_dataset
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
