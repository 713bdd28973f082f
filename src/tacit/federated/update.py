"""A client's contribution as one vector: its metrics, then how its arrays differ from those it was sent."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict

from tacit.federated import records
from tacit.federated.errors import FederatedError, ForgeryError, UpdateError
from tacit.federated.vectors import Floats

__all__ = ["WEIGHT", "Layout", "Train", "Update", "average", "contribution"]

Train = Callable[[Message, Context], Message]
"""A ClientApp's own function."""

PART = "\0"
"""Between the name of a metric that is a list and the place in it."""

SMALL = 4096
"""Whole numbers of an array that has metrics' range. Each takes 16 bytes and some microseconds at the client: larger
arrays are tables or quantised weights, which have the range of all other arrays."""

WEIGHT = "num-examples"
"""The metric that weighs a client, as in all of Flower's strategies."""


@dataclass(frozen=True)
class Layout:
    """Names and shapes of what is aggregated. They are public; all clients of a round must agree on them."""

    metrics: tuple[str, ...]
    arrays: tuple[tuple[str, tuple[int, ...]], ...]
    counters: tuple[str, ...] = ()
    """Arrays of few whole numbers, which like metrics may be large."""

    @property
    def wide(self) -> int:
        """How many coordinates are metrics or counters."""
        return len(self.metrics) + sum(math.prod(shape) for name, shape in self.arrays if name in self.counters)

    def split(self, values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return the coordinates of other arrays, and those of metrics and counters, both in their order."""
        if not self.counters:
            return values[len(self.metrics) :], values[: len(self.metrics)]
        parts = np.split(values, np.cumsum(self._lengths)[:-1])
        chosen = [True, *(name in self.counters for name, _ in self.arrays)]
        return (
            np.concatenate([values[:0], *(part for part, wide in zip(parts, chosen, strict=True) if not wide)]),
            np.concatenate([part for part, wide in zip(parts, chosen, strict=True) if wide]),
        )

    def join(self, other: npt.NDArray[Any], wide: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Undo `split`."""
        parts, at = [wide[: len(self.metrics)]], [0, len(self.metrics)]
        for name, shape in self.arrays:
            from_wide, size = name in self.counters, math.prod(shape)
            parts.append((other, wide)[from_wide][at[from_wide] : at[from_wide] + size])
            at[from_wide] += size
        return np.concatenate(parts)

    @property
    def _lengths(self) -> list[int]:
        return [len(self.metrics), *(math.prod(shape) for _, shape in self.arrays)]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of metrics and arrays, in their order; the numbers of a list have one name."""
        return (*dict.fromkeys(name.split(PART)[0] for name in self.metrics), *(name for name, _ in self.arrays))

    def counts(self, marked: npt.NDArray[np.bool_]) -> list[int]:
        """Return how many coordinates of each name are marked."""
        sizes: dict[str, int] = {}
        for name in self.metrics:
            sizes[name.split(PART)[0]] = sizes.get(name.split(PART)[0], 0) + 1
        lengths = [*sizes.values(), *(math.prod(shape) for _, shape in self.arrays)]
        return [int(part.sum()) for part in np.split(marked, np.cumsum(lengths)[:-1])]

    @property
    def count(self) -> int:
        """How many coordinates the vector has."""
        return len(self.metrics) + sum(math.prod(shape) for _, shape in self.arrays)

    def pack(self) -> str:
        """Return the layout as text."""
        return json.dumps([self.metrics, self.arrays, self.counters])

    @classmethod
    def unpack(cls, text: str) -> Self:
        """Read what `pack` wrote."""
        try:
            metrics, arrays, counters = json.loads(text)
            shapes = tuple((str(name), tuple(int(n) for n in shape)) for name, shape in arrays)
            return cls(tuple(str(name) for name in metrics), shapes, tuple(str(name) for name in counters))
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise UpdateError("the layout of an update is damaged") from None


@dataclass(frozen=True)
class Update:
    """One client's contribution, in clear: it exists at the client only."""

    layout: Layout
    examples: float
    values: Floats
    summed: bool = False
    """Whether the values are summed as they are, and not averaged by examples: those of a query."""

    @classmethod
    def of_query(cls, reply: RecordDict) -> Self:
        """Read what a ClientApp answers to a query: a MetricRecord of numbers, all of which are summed.

        An ArrayRecord in its place or beside it is for many numbers: they take 8 bytes each, not 16, and have the range
        of updates, but for few whole ones.
        """
        several = len(reply.metric_records) > 1 or len(reply.array_records) > 1
        if several or not (reply.metric_records or reply.array_records):
            raise UpdateError("the answer to a query holds a MetricRecord, an ArrayRecord or one of each, to be summed")
        flat = _flat(next(iter(reply.metric_records.values()), MetricRecord()))
        arrays = {name: array.numpy() for record in reply.array_records.values() for name, array in record.items()}
        for name, array in arrays.items():
            _real(name, array)
        shapes = tuple((name, array.shape) for name, array in arrays.items())
        whole = tuple(name for name, x in arrays.items() if not np.issubdtype(x.dtype, np.floating) and x.size <= SMALL)
        numbers = np.array(list(flat.values()), dtype=np.float64)
        values = [numbers, *(x.astype(np.float64).ravel() for x in arrays.values())]
        return cls(Layout(tuple(flat), shapes, whole), 0.0, np.concatenate(values), summed=True)

    @classmethod
    def of(cls, sent: ArrayRecord | None, reply: RecordDict, *, metrics: bool = True, weight: str = WEIGHT) -> Self:
        """Read a ClientApp's reply: one MetricRecord, and one ArrayRecord like the one that was sent."""
        if len(reply.metric_records) != 1:
            raise UpdateError("the reply holds no MetricRecord, or several: one is aggregated")
        record = next(iter(reply.metric_records.values()))
        examples = record.get(weight)
        if not isinstance(examples, int | float) or not (math.isfinite(examples) and examples >= 0):
            raise UpdateError(f"the reply's metric {weight!r}, which weighs it, must be a number from 0")
        flat = _flat(record, weight) if metrics else {}
        names, scalars = tuple(flat), np.array(list(flat.values()), dtype=np.float64)
        arrays = _one_record(reply) if sent is not None else None
        shapes, deltas = _differences(sent, arrays) if sent is not None and arrays is not None else ((), [])
        whole = [name for name, shape in shapes if sent and not _is_float(sent[name]) and math.prod(shape) <= SMALL]
        counters = tuple(whole) if metrics else ()
        return cls(Layout(names, shapes, counters), float(examples), np.concatenate([scalars, *deltas]))


def _flat(record: MetricRecord, weight: str | None = None) -> dict[str, float]:
    """Return all numbers of a record but that which weighs it, those of lists under names of their places."""
    flat: dict[str, float] = {}
    for name in sorted(record):
        value = record[name]
        if isinstance(value, list):
            flat.update({f"{name}{PART}{i}": float(x) for i, x in enumerate(value)})
        elif name != weight:
            flat[name] = float(value)
    return flat


def _is_float(array: Array) -> bool:
    return np.issubdtype(np.dtype(array.dtype), np.floating)


def _real(name: str, array: npt.NDArray[Any]) -> None:
    """Raise `UpdateError` for what is no array of real numbers: times would be summed, imaginary parts lost."""
    if array.dtype.kind not in "biuf":
        raise UpdateError(f"array {name!r} of the reply is of {array.dtype}: real numbers are summed")


def _one_record(reply: RecordDict) -> ArrayRecord:
    if len(reply.array_records) != 1:
        raise UpdateError("the reply holds no ArrayRecord, or several: one is aggregated")
    record: ArrayRecord = next(iter(reply.array_records.values()))
    return record


def _differences(sent: ArrayRecord, got: ArrayRecord) -> tuple[tuple[tuple[str, tuple[int, ...]], ...], list[Floats]]:
    if list(sent) != list(got):
        raise UpdateError(f"the reply's arrays are named {list(got)}, those that came {list(sent)}")
    shapes, deltas = [], []
    for name in sent:
        old, new = sent[name].numpy(), got[name].numpy()
        if old.shape != new.shape:
            raise UpdateError(f"array {name!r} has shape {list(new.shape)} where {list(old.shape)} came")
        _real(name, new)
        shapes.append((name, tuple(old.shape)))
        deltas.append((new.astype(np.float64) - old.astype(np.float64)).ravel())
        if not np.isfinite(deltas[-1]).all():
            raise UpdateError(f"array {name!r} of the reply holds NaN or infinity; the update is not sent")
    return tuple(shapes), deltas


def average(
    instruction: Message, layout: Layout, mean: Floats, examples: float, weight: str | None = WEIGHT
) -> Message:
    """Return a reply that one client would send whose update is the average: what a strategy then aggregates.

    Of a query, which nothing weighs, it is the sum.
    """
    metrics: MetricRecord = MetricRecord({} if weight is None else {weight: float(examples)})
    lists: dict[str, list[float]] = {}
    for name, value in zip(layout.metrics, mean, strict=False):
        whole, of_list, _ = name.partition(PART)
        if of_list:
            lists.setdefault(whole, []).append(float(value))
        else:
            metrics[name] = float(value)
    metrics.update(lists)
    content = RecordDict({"metrics": metrics})
    if layout.arrays:
        sent = None if weight is None else next(iter(instruction.content.array_records.values()))
        content["arrays"], at = ArrayRecord(), len(layout.metrics)
        for name, shape in layout.arrays:
            size = math.prod(shape)
            own = mean[at : at + size].reshape(shape)
            content.array_records["arrays"][name] = Array(own if sent is None else _moved(sent[name].numpy(), own))
            at += size
    return Message(content, reply_to=instruction)


def _moved(old: npt.NDArray[Any], mean: Floats) -> npt.NDArray[Any]:
    """Return an array that was sent, moved by the average, in its own type."""
    new = old.astype(np.float64) + mean
    exact = new if np.issubdtype(old.dtype, np.floating) else np.rint(new)
    return np.asarray(exact, dtype=old.dtype)


def contribution(
    message: Message, context: Context, train: Train, *, metrics: bool = True, weight: str = WEIGHT
) -> Update:
    """Let the ClientApp do its work on the message without Tacit's record, and read its reply."""
    del message.content[records.RECORD]
    sent = None
    if message.metadata.message_type.startswith("train"):
        if len(message.content.array_records) != 1:
            raise ForgeryError("a training message must hold one ArrayRecord, the model")
        sent = ArrayRecord(dict(next(iter(message.content.array_records.values()))))
    reply = train(message, context)
    if reply.has_error():
        raise FederatedError(f"the ClientApp failed: {reply.error.reason}")
    if message.metadata.message_type.startswith("query"):
        return Update.of_query(reply.content)
    return Update.of(sent, reply.content, metrics=metrics, weight=weight)
