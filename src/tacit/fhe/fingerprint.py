"""Whether a model is still the one that was compiled, told by its values: arrays may be edited in place."""

from __future__ import annotations

import hashlib
import pickle
from typing import Any

_NOT_THE_MODEL = ("_circuit", "_compiled_state", "_tree", "steps")
"""What says nothing about the model, or changes with use: the search trees of nearest neighbours count their visits.
The steps of a pipeline are looked at one by one."""


class _Sink:
    """A file that keeps the hash of what is written to it."""

    def __init__(self) -> None:
        self.hash = hashlib.blake2b(digest_size=16)

    def write(self, data: Any) -> int:
        self.hash.update(data)
        return len(data)


def fingerprint(model: Any) -> str:
    """Return a digest of the hyper-parameters and fitted attributes of a model and of its steps."""
    return " ".join(_digest(item) for item in (_own(model), *(_own(step) for _, step in getattr(model, "steps", ()))))


def _own(model: Any) -> Any:
    fields = getattr(model, "__dict__", None)
    if fields is None:
        return model
    return {name: value for name, value in fields.items() if name not in _NOT_THE_MODEL}


def _digest(item: Any) -> str:
    """Return the hash of an item's pickle, which is never kept or read; what has none counts by identity."""
    sink = _Sink()
    try:
        pickle.Pickler(sink, protocol=5).dump(item)
    except (pickle.PicklingError, TypeError, AttributeError, ValueError):
        return ",".join(f"{k}:{_digest(v)}" for k, v in item.items()) if isinstance(item, dict) else str(id(item))
    return sink.hash.hexdigest()
