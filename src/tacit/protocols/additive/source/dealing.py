"""How the crypto-producer gives the parties shares of values that only it knows.

Each party shares a key stream with the producer. Random values cost no bytes at all: every party's share is the next
piece of its stream, and the producer, who knows all streams, adds them up. A *chosen* value costs one correction: all
parties but one take their shares from their streams, and the remaining one is sent the value less those shares. The
party that is sent the correction changes with every dealing, so the traffic spreads evenly.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import combinations, groupby
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from tacit.net.transport import Parcel
from tacit.protocols.additive.scheme import PRODUCER
from tacit.protocols.additive.source.base import Dealt, Redrawn, Turn
from tacit.ring import kernels
from tacit.ring.memory import space
from tacit.ring.prg import Stream
from tacit.ring.ring import RING
from tacit.session.session import Session

__all__ = ["Dealing", "Delivery", "Links", "packed", "unpacked", "wire_bytes"]

KEY_BYTES = 16
"""Of a stream."""


PAIR_BYTES = 32
"""Of the key of a pair of parties, from which those of its streams are derived: as long as what a handshake makes."""

Shape = Sequence[int]
Run = tuple[int, int]
"""Neighbouring words of one width in bytes, and how many they are."""


class Delivery(ABC):
    """How what the producer makes gets to the parties: the keys of their streams, and the corrections."""

    online: bool
    """Whether the producer sends while the parties compute."""

    @abstractmethod
    def party_stream(self, index: int) -> Stream:
        """A hosted party's own end of its stream."""

    @abstractmethod
    def producer_stream(self, index: int) -> Stream:
        """The producer's end of a party's stream."""

    @abstractmethod
    def send(self, index: int, name: str, frame: Tensor) -> None:
        """Hand over a correction for a party. The name is that of the correlation, for errors and stores."""

    @abstractmethod
    def take(self, index: int, name: str, size: int) -> Tensor:
        """The next correction of a hosted party, of so many bytes, in memory that is the caller's."""


class Links(Delivery):
    """The producer is a role of the session, and streams through its transport."""

    online = True

    def __init__(self, session: Session) -> None:
        self._session = session

    @override
    def party_stream(self, index: int) -> Stream:
        return self._session.stream(self._session.parties[index], PRODUCER, "deal")

    @override
    def producer_stream(self, index: int) -> Stream:
        return self._session.stream(PRODUCER, self._session.parties[index], "deal")

    @override
    def send(self, index: int, name: str, frame: Tensor) -> None:
        session = self._session
        session.transport.send(Parcel(PRODUCER, session.parties[index], frame))

    @override
    def take(self, index: int, name: str, size: int) -> Tensor:
        session = self._session
        return session.transport.take(PRODUCER, session.parties[index], size)


class Dealing:
    """Both ends of dealing: the producer's and the parties', whichever of them live in this process."""

    def __init__(self, session: Session, delivery: Delivery) -> None:
        self._session, self._delivery = session, delivery
        self.turns = 0
        """How many dealings there were: whose turn it is to be sent one."""
        self._hosted = session.party_indices
        self._ends = {i: delivery.party_stream(i) for i in self._hosted}
        parties = range(len(session.parties)) if session.hosts(PRODUCER) else ()
        self._at_producer = [delivery.producer_stream(i) for i in parties]

    def random_ring(self, shape: Shape) -> Dealt:
        """A uniform ring tensor that nobody but the producer knows. No bytes."""
        return self._random(lambda stream: stream.ring(shape), Stream.add_to)

    def private_ring(self, shape: Shape, holder: int) -> Dealt:
        """A uniform ring tensor that one party and the producer know; the other parties' shares are zero. No bytes."""
        zero = torch.zeros((), dtype=RING.dtype).expand(tuple(shape))
        parts = [self._ends[i].ring(shape) if i == holder else zero for i in self._hosted]
        return Dealt(parts, self._at_producer[holder].ring(shape) if self._at_producer else None)

    def taken_off(self, x: Tensor | None, shape: Shape, holder: int) -> tuple[Tensor | None, Tensor | None]:
        """x - a for the a of `private_ring`, at the party that knows both, and a at the producer. No bytes."""
        masked = None
        if x is not None and holder in self._ends:
            masked = x.clone(memory_format=torch.contiguous_format)
            self._ends[holder].subtract_from(masked)
        return masked, self._at_producer[holder].ring(shape) if self._at_producer else None

    def parted_ring(self, shape: Shape) -> Dealt:
        """As `random_ring`; the producer keeps every party's share. No bytes."""
        parts = [self._ends[i].ring(shape) for i in self._hosted]
        shares = [stream.ring(shape) for stream in self._at_producer]
        return Dealt(parts, sum(shares[1:], shares[0]) if shares else None, shares)

    def redrawn(self, holder: int, columns: int) -> Redrawn:
        """A matrix of a key of its own, the next bytes of the stream of one party. No bytes."""
        ends = [self._ends[i] for i in self._hosted if i == holder]
        ends += self._at_producer[holder : holder + 1]
        keys = [bytes(end.bytes(KEY_BYTES).numpy()) for end in ends]
        return Redrawn(keys[0] if keys else None, columns, plain=bool(self._at_producer))

    def private_bits(self, shape: Shape, holder: int) -> Dealt:
        """Uniform bytes of bits that one party and the producer know; the other parties' shares are zero. No bytes."""

        def draw(stream: Stream) -> Tensor:
            return stream.bytes(math.prod(shape)).view(tuple(shape))

        parts = [
            draw(self._ends[i]) if i == holder else torch.zeros(tuple(shape), dtype=torch.uint8) for i in self._hosted
        ]
        return Dealt(parts, draw(self._at_producer[holder]) if self._at_producer else None)

    def pair_keys(self, name: str) -> dict[tuple[int, int], bytes]:
        """A key for each two parties, that they and the producer know. 32 bytes a pair, which no meter counts.

        It is the next piece of the first one's stream, and is sent to the second.
        """
        keys: dict[tuple[int, int], bytes] = {}
        for i, j in combinations(range(len(self._session.parties)), 2):
            if self._at_producer:
                self._delivery.send(j, name, self._at_producer[i].bytes(PAIR_BYTES).clone())
            if i in self._ends:
                keys[i, j] = self._ends[i].bytes(PAIR_BYTES).numpy().tobytes()
            if j in self._ends:
                keys[j, i] = self._delivery.take(j, name, PAIR_BYTES).numpy().tobytes()
        return keys

    def add_random(
        self, parts: Sequence[Tensor | None], value: Tensor | None, shape: Shape
    ) -> tuple[list[Tensor], Tensor | None]:
        """Add a uniform t that nobody but the producer knows to shares (None is zero); `value` - t there. No bytes.

        In one pass over the memory of each, which is overwritten.
        """
        shares = []
        for i, part in zip(self._hosted, parts, strict=True):
            if part is None:
                shares.append(self._ends[i].ring(shape))
            else:
                shares.append(part.contiguous())
                self._ends[i].add_to(shares[-1])
        if value is not None:
            value = value.contiguous()
            for stream in self._at_producer:
                stream.subtract_from(value)
        return shares, value

    def random_bits(self, shape: Shape) -> Dealt:
        """Uniform bytes of shared bits (XOR) that nobody but the producer knows. No bytes on the wire."""
        return self._random(lambda stream: stream.bytes(math.prod(shape)).view(tuple(shape)), Stream.xor_into)

    def ring(
        self,
        name: str,
        shapes: Sequence[Shape],
        make: Callable[[], Sequence[Tensor]],
        widths: Sequence[int] | None = None,
    ) -> list[Dealt]:
        """Deal ring tensors made at the producer by `make`, in one frame. 8 bytes an element.

        `widths` says where fewer bytes will do: of multiples of 2^(64 - 8 w) only the top w bytes are shared and sent.
        """
        layout = _layout(tuple(shapes), None if widths is None else tuple(widths))
        made: Sequence[Tensor | None] = make() if self._at_producer else [None] * len(shapes)
        hosted = [layout.read(data) for data in self.packed(name, layout.runs, lambda frame: layout.write(made, frame))]
        return [Dealt([p[k].view(s) for p in hosted], made[k]) for k, s in enumerate(shapes)]

    def packed(self, name: str, runs: tuple[Run, ...], fill: Callable[[Tensor], None]) -> list[Tensor]:
        """Deal runs of words in one frame, which `fill` writes at the producer; each hosted party's bytes."""
        sizes, total, whole = _sizes(runs)

        def take_from(stream: Stream, frame: Tensor) -> None:
            if whole:
                stream.subtract_from(frame.view(RING.dtype))
                return
            share = stream.bytes(total)
            for (width, _), mine, its in zip(runs, _parted(frame, sizes), _parted(share, sizes), strict=True):
                kernels.on(mine).subtract_words(mine, its, width)

        return self._framed(name, total, fill, take_from)

    def words(self, name: str, shape: Shape, widths: Sequence[int], fill: Callable[..., None]) -> list[list[Tensor]]:
        """Deal integers of so many bytes, all of one shape, in one frame, which `fill` writes at the producer.

        `fill` gets a tensor for each width, of the integers that have it, and their shares add up modulo their size.
        Where no type has the width, they are the top bytes of ring elements. Returns the tensors of each hosted party.
        """
        columns = _columns(tuple(shape), tuple(widths))
        if columns is None:
            return self._wide_words(name, shape, widths, fill)
        rows = columns.read
        frames = self._framed(
            name,
            columns.total,
            lambda frame: fill(*rows(frame)),
            lambda stream, frame: stream.subtract_words_from(rows(frame)),
        )
        return [rows(frame) for frame in frames]

    def _wide_words(
        self, name: str, shape: Shape, widths: Sequence[int], fill: Callable[..., None]
    ) -> list[list[Tensor]]:
        def make() -> list[Tensor]:
            values = [torch.empty(tuple(shape), dtype=RING.dtype) for _ in widths]
            fill(*values)
            return values

        dealt = self.ring(name, [shape] * len(widths), make, widths)
        return [list(row) for row in zip(*(d.parts for d in dealt), strict=True)]

    def bits(self, name: str, shapes: Sequence[Shape], fill: Callable[..., None]) -> list[list[Tensor]]:
        """Deal bytes of bits (XOR shares), in one frame, which `fill` writes at the producer. 1 byte an element.

        `fill` gets a uint8 tensor for each shape. Returns the tensors of each hosted party.
        """
        sizes = [math.prod(shape) for shape in shapes]

        def rows(data: Tensor) -> list[Tensor]:
            return [piece.view(tuple(shape)) for piece, shape in zip(_parted(data, sizes), shapes, strict=True)]

        frames = self._framed(name, sum(sizes), lambda frame: fill(*rows(frame)), Stream.xor_into)
        return [rows(frame) for frame in frames]

    def turn(self, name: str, holder: int, shapes: Sequence[torch.Size], kinds: Sequence[torch.dtype]) -> Turn:
        """Deal an order of rows to the party that it is from the stream of, with what moves shares into it.

        The others take their masks from their streams, and the change, π(Σ a_j) - Σ b_j for each value, goes to it.
        """
        count = shapes[0][0]
        sizes = [wire_bytes(shape, kind) for shape, kind in zip(shapes, kinds, strict=True)]
        self._session.check_open()
        if self._delivery.online:
            self._session.meter.dealt(PRODUCER, sum(sizes))
        if self._at_producer:
            order = _order(self._at_producer[holder], count)
            rows = [
                [_drawn(stream, shapes, kinds) for _ in range(2)]
                for i, stream in enumerate(self._at_producer)
                if i != holder
            ]
            change = []
            for k in range(len(shapes)):
                before, after = (_total([row[end][k] for row in rows]) for end in range(2))
                change.append(before[order] ^ after if kinds[k] == torch.uint8 else before[order] - after)
            frame = torch.cat([packed(t) for t in change])
            if frame.numel():
                self._delivery.send(holder, name, frame)
        mine, moved, masks, fresh = None, list[Tensor](), {}, {}
        for i in self._hosted:
            if i != holder:
                masks[i], fresh[i] = (_drawn(self._ends[i], shapes, kinds) for _ in range(2))
                continue
            mine = _order(self._ends[i], count)
            data = self._delivery.take(i, name, sum(sizes)) if sum(sizes) else space((0,), torch.uint8)
            pieces = zip(_parted(data, sizes), shapes, kinds, strict=True)
            moved = [unpacked(piece, shape, kind) for piece, shape, kind in pieces]
        return Turn(mine, moved, masks, fresh)

    def _framed(
        self, name: str, total: int, fill: Callable[[Tensor], None], take_from: Callable[[Stream, Tensor], None]
    ) -> list[Tensor]:
        """Deal so many bytes, and return each hosted party's share of them.

        At the producer `fill` writes them, and `take_from` takes the next share of a stream off them in place.
        """
        corrected = self._next_correction(total)
        if self._at_producer and total:
            frame = space((total,), torch.uint8)
            fill(frame)
            for i, stream in enumerate(self._at_producer):
                if i != corrected:
                    take_from(stream, frame)
            self._delivery.send(corrected, name, frame)
        return [self._share(i, name, total, corrected) for i in self._hosted]

    def _next_correction(self, total: int) -> int:
        """The party whose turn it is to be sent the next dealing, of so many bytes."""
        self._session.check_open()
        corrected = self.turns % len(self._session.parties)
        self.turns += 1
        if self._delivery.online:
            self._session.meter.dealt(PRODUCER, total)
        return corrected

    def _share(self, index: int, name: str, total: int, corrected: int) -> Tensor:
        """A hosted party's share of a dealing: the next bytes of its stream, or the correction."""
        if index != corrected:
            return self._ends[index].bytes(total)
        if not total:
            return space((0,), torch.uint8)
        return self._delivery.take(index, name, total)

    def _random(self, draw: Callable[[Stream], Tensor], join: Callable[[Stream, Tensor], None]) -> Dealt:
        parts = [draw(self._ends[i]) for i in self._hosted]
        plain = None
        if self._at_producer:
            plain = draw(self._at_producer[0])
            for stream in self._at_producer[1:]:
                join(stream, plain)
        return Dealt(parts, plain)


def wire_bytes(shape: torch.Size, kind: torch.dtype) -> int:
    """The bytes of ring elements, or of bits in planes."""
    return (shape.numel() + 7) // 8 if kind == torch.uint8 else shape.numel() * kind.itemsize


def packed(x: Tensor) -> Tensor:
    """Ring elements, or bits in bytes of their own, as the bytes that travel."""
    flat = x.contiguous().view(-1)
    return kernels.on(flat).pack_bits(flat) if x.dtype == torch.uint8 else flat.view(torch.uint8)


def unpacked(data: Tensor, shape: torch.Size, kind: torch.dtype) -> Tensor:
    """The same again, from bytes that may lie in the middle of a message."""
    if kind == torch.uint8:
        return kernels.on(data).unpack_bits(data, shape.numel()).view(shape)
    return (data.clone() if data.storage_offset() % RING.bytes else data).view(kind).view(shape)


def _order(stream: Stream, count: int) -> Tensor:
    """A uniform order of so many rows: that of random words, drawn again if two are equal."""
    while True:
        keys, order = stream.ring((count,)).sort()
        if not bool((keys[1:] == keys[:-1]).any()):
            return order


def _drawn(stream: Stream, shapes: Sequence[torch.Size], kinds: Sequence[torch.dtype]) -> list[Tensor]:
    """Uniform ring elements or bits of these shapes."""
    pairs = zip(shapes, kinds, strict=True)
    return [stream.bits(s.numel()).view(s) if kind == torch.uint8 else stream.ring(s) for s, kind in pairs]


def _total(parts: Sequence[Tensor]) -> Tensor:
    """The sum of numbers, the XOR of bits."""
    total = parts[0]
    for part in parts[1:]:
        total = total ^ part if part.dtype == torch.uint8 else total + part
    return total


class _Group(NamedTuple):
    """Neighbouring values of one width, which are handled as one: their places, and the elements of each."""

    start: int
    stop: int
    counts: tuple[int, ...]


class _Layout(NamedTuple):
    """How the tops of ring elements lie in a frame: a run of words for each group of values."""

    groups: tuple[_Group, ...]
    runs: tuple[Run, ...]

    def write(self, values: Sequence[Tensor | None], frame: Tensor) -> None:
        """Write values to a frame, those of each run one after the other."""
        pieces = _parted(frame, _sizes(self.runs)[0])
        for group, (width, count), piece in zip(self.groups, self.runs, pieces, strict=True):
            flat = [t.reshape(-1) for t in values[group.start : group.stop] if t is not None]
            if width == RING.bytes and piece.storage_offset() % RING.bytes == 0:
                torch.cat(flat, out=piece.view(RING.dtype))
            else:
                joined = flat[0] if len(flat) == 1 else torch.cat(flat, out=space((count,), RING.dtype))
                kernels.on(joined).narrow(joined, width, piece)

    def read(self, frame: Tensor) -> list[Tensor]:
        """The values in a frame, in one dimension each."""
        pieces = _parted(frame, _sizes(self.runs)[0])
        wide = [_widened(piece, width) for piece, (width, _) in zip(pieces, self.runs, strict=True)]
        return [t for v, group in zip(wide, self.groups, strict=True) for t in _parted(v, group.counts)]


@lru_cache(maxsize=1024)
def _layout(shapes: tuple[Shape, ...], widths: tuple[int, ...] | None) -> _Layout:
    """Where the values of a dealing lie; without widths they are whole ring elements."""
    groups, runs = [], []
    for width, places in groupby(range(len(shapes)), key=(widths or (RING.bytes,) * len(shapes)).__getitem__):
        start, *_ = run = list(places)
        groups.append(_Group(start, start + len(run), tuple(math.prod(shapes[k]) for k in run)))
        runs.append((width, sum(groups[-1].counts)))
    return _Layout(tuple(groups), tuple(runs))


@lru_cache(maxsize=1024)
def _sizes(runs: tuple[Run, ...]) -> tuple[tuple[int, ...], int, bool]:
    """The bytes of each run of words, of all together, and whether all are ring elements."""
    sizes = tuple(width * count for width, count in runs)
    return sizes, sum(sizes), all(width == RING.bytes for width, _ in runs)


class _Columns(NamedTuple):
    """How integers of several types, all of one shape, lie in a frame."""

    sizes: tuple[int, ...]
    total: int
    dtypes: tuple[torch.dtype, ...]
    shape: tuple[int, ...]

    def read(self, frame: Tensor) -> list[Tensor]:
        """The integers of each type, where they lie."""
        shape = self.shape
        pieces = zip(_parted(frame, self.sizes), self.dtypes, strict=True)
        return [piece.view(dtype).view(shape) for piece, dtype in pieces]


@lru_cache(maxsize=1024)
def _columns(shape: tuple[int, ...], widths: tuple[int, ...]) -> _Columns | None:
    """Integers of so many bytes each; None where no type has a width."""
    if not _WORDS.keys() >= set(widths):
        return None
    sizes = tuple(width * math.prod(shape) for width in widths)
    return _Columns(sizes, sum(sizes), tuple(_WORDS[width] for width in widths), tuple(shape))


def _parted(flat: Tensor, sizes: Sequence[int]) -> Sequence[Tensor]:
    return (flat,) if len(sizes) == 1 else flat.split_with_sizes(sizes)


def _widened(words: Tensor, width: int) -> Tensor:
    """Ring elements with words at their tops and zeros below."""
    if width == RING.bytes and words.storage_offset() % RING.bytes == 0:
        return words.view(RING.dtype)
    return kernels.on(words).widen(words, width)


_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
