"""Tacit: ordinary PyTorch programs on data that no single machine may see."""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tacit.api import current_session, is_role, reveal, role, session, share
    from tacit.check import check
    from tacit.checkpoint import load, save
    from tacit.data.batches import batches
    from tacit.data.read import read_csv
    from tacit.data.split import KFold, StratifiedKFold, train_test_split
    from tacit.datasets.open import open_dataset
    from tacit.errors import TacitError
    from tacit.generation import generate
    from tacit.outside.client import Client
    from tacit.profile import profile
    from tacit.records import either, join, read_table
    from tacit.replay import compile
    from tacit.resume import checkpoint
    from tacit.statistics.description import describe
    from tacit.tensor import SecretTensor

__version__ = "0.1.0"

__all__ = [
    "Client",
    "KFold",
    "SecretTensor",
    "StratifiedKFold",
    "TacitError",
    "__version__",
    "batches",
    "check",
    "checkpoint",
    "compile",
    "current_session",
    "describe",
    "either",
    "generate",
    "is_role",
    "join",
    "load",
    "open_dataset",
    "profile",
    "read_csv",
    "read_table",
    "reveal",
    "role",
    "save",
    "session",
    "share",
    "train_test_split",
]

_HOMES = {
    "tacit.api": ("current_session", "is_role", "reveal", "role", "session", "share"),
    "tacit.check": ("check",),
    "tacit.checkpoint": ("load", "save"),
    "tacit.data.batches": ("batches",),
    "tacit.data.read": ("read_csv",),
    "tacit.data.split": ("KFold", "StratifiedKFold", "train_test_split"),
    "tacit.datasets.open": ("open_dataset",),
    "tacit.errors": ("TacitError",),
    "tacit.generation": ("generate",),
    "tacit.outside.client": ("Client",),
    "tacit.profile": ("profile",),
    "tacit.replay": ("compile",),
    "tacit.resume": ("checkpoint",),
    "tacit.records": ("either", "join", "read_table"),
    "tacit.statistics.description": ("describe",),
    "tacit.tensor": ("SecretTensor",),
}
"""Where each name lives. All are imported with the first that is used: `tacit.federated` and `tacit.fhe` use none, and
need not wait for PyTorch."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        if name.startswith("__") or find_spec(f"tacit.{name}") is None:
            raise AttributeError(f"module 'tacit' has no attribute {name!r}")
        return import_module(f"tacit.{name}")
    for home, names in _HOMES.items():
        module = import_module(home)
        globals().update({each: getattr(module, each) for each in names})
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Some names are those of subpackages, too: `tacit.session` is the function, whatever was imported first."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in __all__):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
