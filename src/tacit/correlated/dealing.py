"""How the crypto-producer gives the parties shares of values that only it knows.

Each party shares a key stream with the producer. Random values cost no bytes at all: every party's share is the next
piece of its stream, and the producer, who knows all streams, adds them up. A *chosen* value costs one correction: all
parties but one take their shares from their streams, and the remaining one is sent the value less those shares. The
party that is sent the correction changes with every dealing, so the traffic spreads evenly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import sub, xor

import torch
from torch import Tensor

from tacit.net.transport import Parcel
from tacit.session.session import Session

__all__ = ["Dealing", "Dealt"]

Shape = Sequence[int]
Combine = Callable[[Tensor, Tensor], Tensor]


class Dealt:
    """Shares of a value that the producer knows: one part for each party hosted here, and the value at the producer."""

    __slots__ = ("parts", "plain")

    def __init__(self, parts: list[Tensor], plain: Tensor | None) -> None:
        self.parts = parts
        self.plain = plain

    def map(self, op: Callable[[Tensor], Tensor]) -> Dealt:
        """Apply a linear operation to the value."""
        return Dealt([op(part) for part in self.parts], None if self.plain is None else op(self.plain))

    def __repr__(self) -> str:
        return f"Dealt(<{len(self.parts)} parts hidden>)"


class Dealing:
    """Both ends of dealing: the producer's and the parties', whichever of them live in this process."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._turn = 0
        parties, producer = session.parties, session.producer
        self._hosted = [(i, parties[i]) for i in session.party_indices]
        self._ends = {i: session.stream(role, producer, "deal") for i, role in self._hosted}
        self._at_producer = (
            [session.stream(producer, role, "deal") for role in parties] if session.hosts_producer else []
        )

    def random_ring(self, shape: Shape) -> Dealt:
        """A uniform ring tensor that nobody but the producer knows. No bytes."""
        return self._random(lambda stream: stream.ring(shape), torch.add)

    def private_ring(self, shape: Shape, holder: int) -> Dealt:
        """A uniform ring tensor that one party and the producer know; the other parties' shares are zero. No bytes."""
        zero = torch.zeros((), dtype=torch.int64).expand(tuple(shape))
        parts = [self._ends[i].ring(shape) if i == holder else zero for i, _ in self._hosted]
        return Dealt(parts, self._at_producer[holder].ring(shape) if self._at_producer else None)

    def random_bits(self, shape: Shape) -> Dealt:
        """Uniform bytes of shared bits (XOR) that nobody but the producer knows. No bytes on the wire."""
        return self._random(lambda stream: stream.bytes(math.prod(shape)).view(tuple(shape)), torch.bitwise_xor)

    def ring(self, shapes: Sequence[Shape], make: Callable[[], Sequence[Tensor]]) -> list[Dealt]:
        """Deal ring tensors made at the producer by `make`, in one frame. 8 bytes an element."""
        return self._deal(shapes, make, torch.int64, sub)

    def bits(self, shapes: Sequence[Shape], make: Callable[[], Sequence[Tensor]]) -> list[Dealt]:
        """Deal bytes of bits (XOR shares) made at the producer by `make`, in one frame. 1 byte an element."""
        return self._deal(shapes, make, torch.uint8, xor)

    def _random(self, draw: Callable[..., Tensor], combine: Combine) -> Dealt:
        parts = [draw(self._ends[i]) for i, _ in self._hosted]
        plain = None
        if self._at_producer:
            plain = draw(self._at_producer[0])
            for stream in self._at_producer[1:]:
                plain = combine(plain, draw(stream))
        return Dealt(parts, plain)

    def _deal(
        self, shapes: Sequence[Shape], make: Callable[[], Sequence[Tensor]], dtype: torch.dtype, without: Combine
    ) -> list[Dealt]:
        session = self._session
        session.check_open()
        sizes = [math.prod(shape) for shape in shapes]
        total = sum(sizes)
        width = torch.empty(0, dtype=dtype).element_size()
        corrected = self._turn % len(session.parties)
        self._turn += 1
        session.meter.dealt(total * width)

        plain: Sequence[Tensor | None] = [None] * len(shapes)
        if self._at_producer:
            plain = make()
            correction = torch.cat([v.reshape(-1) for v in plain])
            for i, stream in enumerate(self._at_producer):
                if i != corrected:
                    correction = without(correction, stream.bytes(total * width).view(dtype))
            if total:
                session.transport.send(Parcel(session.producer, session.parties[corrected], correction))

        flats = []
        for i, role in self._hosted:
            if i != corrected:
                flats.append(self._ends[i].bytes(total * width).view(dtype))
                continue
            flat = torch.empty(total, dtype=dtype)
            if total:
                session.transport.receive(Parcel(session.producer, role, flat))
            flats.append(flat)
        split = [torch.split(flat, sizes) for flat in flats]
        return [
            Dealt([pieces[k].view(tuple(shape)) for pieces in split], plain[k])
            for k, shape in enumerate(map(tuple, shapes))
        ]
