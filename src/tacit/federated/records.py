"""The records of `tacit.federated` inside Flower's messages: numbers, bytes and text, nothing that is executed."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, RecordDict
from flwr.app.typing import ConfigRecordValues

from tacit.federated.errors import ForgeryError
from tacit.federated.vectors import Ring

__all__ = ["RECORD", "get", "get_all", "get_vector", "indices", "kept", "pack_indices", "put", "put_vector"]

RECORD = "tacit"
_VECTOR = "tacit-vector"

T = TypeVar("T")


def put(content: RecordDict, **fields: ConfigRecordValues) -> RecordDict:
    """Add Tacit's record to a message's content."""
    content[RECORD] = ConfigRecord(fields)
    return content


def get(content: RecordDict, name: str, kind: type[T]) -> T:
    """Return a field of Tacit's record, of the type it must have."""
    record = content.config_records.get(RECORD)
    if record is None:
        raise ForgeryError("no message of secure aggregation: does ClientApp(mods=[…]) have SecureAggregationMod?")
    value = record.get(name)
    if name not in record:
        raise ForgeryError(
            f"a message of secure aggregation has no field {name!r}: do clients and server have the same form?"
        )
    if not isinstance(value, kind):
        raise ForgeryError(f"a message of secure aggregation has no field {name!r} of type {kind.__name__}")
    return value


def get_all(content: RecordDict, name: str, kind: type[T]) -> list[T]:
    """Return a field of Tacit's record that is a list, all of whose elements have this type."""
    values = get(content, name, list)
    if not all(isinstance(value, kind) for value in values):
        raise ForgeryError(f"the field {name!r} of a message of secure aggregation is no list of {kind.__name__}")
    return values


def kept(context: Context) -> str:
    """Return the name of the record in a node's state that holds what is kept of this run.

    Flower hands the state on to later runs of a series, which number their sessions from 1 again.
    """
    return f"{RECORD}-{context.run_id}"


def put_vector(content: RecordDict, vector: Ring) -> RecordDict:
    """Add a vector of ring elements."""
    content[_VECTOR] = ArrayRecord({"masked": Array(vector)})
    return content


def get_vector(content: RecordDict) -> Ring:
    """Return the vector of ring elements."""
    record = content.array_records.get(_VECTOR)
    if record is None or list(record) != ["masked"]:
        raise ForgeryError("a message of secure aggregation holds no vector")
    try:
        vector = record["masked"].numpy()
    except Exception:  # whatever NumPy makes of bytes that a stranger chose
        vector = None
    if not isinstance(vector, np.ndarray):
        raise ForgeryError("the vector of a message of secure aggregation is damaged")
    return vector


def pack_indices(indices: list[int]) -> bytes:
    """Return clients' indices as a bit map: n / 8 bytes for n clients."""
    marks = np.zeros(max(indices, default=-1) + 1, dtype=np.uint8)
    marks[indices] = 1
    return np.packbits(marks).tobytes()


def indices(data: bytes) -> list[int]:
    """Read a bit map."""
    return [int(i) for i in np.flatnonzero(np.unpackbits(np.frombuffer(data, dtype=np.uint8)))]
