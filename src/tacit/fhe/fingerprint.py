"""Whether a model is still the one that was compiled, told by its values: arrays may be edited in place."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Iterator
from functools import partial
from types import FunctionType, MethodType, ModuleType
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


def _digest(item: Any, seen: set[int] | None = None) -> str:
    """Return the hash of an item's pickle, which is never kept or read. What has none counts by identity and by its
    parts, each once: a module that holds a function has weights all the same."""
    sink, seen = _Sink(), set() if seen is None else seen
    try:
        pickle.Pickler(sink, protocol=5).dump(item)
    except (pickle.PicklingError, TypeError, AttributeError, ValueError):
        name = "" if isinstance(item, dict) else str(id(item))  # `_own` makes dicts afresh
        parts = () if id(item) in seen else _parts(item)
        seen.add(id(item))
        return f"{name}({','.join(f'{k}:{_digest(v, seen)}' for k, v in parts)})"
    return sink.hash.hexdigest()


def _parts(item: Any) -> Iterable[tuple[Any, Any]]:
    """Return what an item is made of, each part with its name: entries, attributes, what a function closes over."""
    if isinstance(item, dict):
        return item.items()
    if isinstance(item, (list, tuple)):
        return enumerate(item)
    if isinstance(item, partial):
        return enumerate((item.func, item.args, item.keywords))
    if isinstance(item, FunctionType):
        return _closed_over(item)
    if isinstance(item, MethodType):
        return enumerate((item.__self__,))
    return () if isinstance(item, (type, ModuleType)) else getattr(item, "__dict__", {}).items()


def _closed_over(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # nothing in it yet
            continue
        yield name, value
