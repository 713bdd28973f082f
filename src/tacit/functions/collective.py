"""Sums, copies and exchanges among the ranks of a role: each party does them on its shares, with its own ranks alone.

All of them are linear, or move elements: the sum of the shares that the ranks of a party hold is that party's share of
the sum. So no word goes to another role. The crypto-producer, whose ranks hold no shares, deals what the shares are
short of and agrees with its ranks on what is done, as the others do.

Before each, the ranks of a role tell each other whose they are, what they are about to do, and the scale of what they
bring: ranks that have diverged stop there, and what is finer at one than at another is brought to one scale. Before the
first one of a group, each shows that it is of this role: see `Among.meet`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from hashlib import blake2b
from typing import Any, TypeVar

import torch
from torch import Tensor

from tacit.errors import DivergenceError
from tacit.protocols.number import Number
from tacit.protocols.protocol import Protocol
from tacit.protocols.scale import PRECISE_BITS, Scale
from tacit.protocols.values import Bits, Value
from tacit.ring.ring import RING
from tacit.session.among import Among

__all__ = ["Collective"]

ValueT = TypeVar("ValueT", bound=Value)

WORDS = 160

TOLD = struct.Struct(f"<16s4?4xdqqq{WORDS}s")
"""A digest of the role and what is done; of the scale whether it is precise, wide, positive, bounded, what stands for
infinity, fractional bits, headroom and the coarsest truncation; and who does what, in words."""

NEVER = 1 << 32
"""Stands there for no truncation."""


class Collective:
    """One operation of all ranks of a group. All of them make one at the same point of the program.

    `what` says in words what is done, with whatever the ranks have to agree on.
    """

    def __init__(self, protocol: Protocol, group: Any, what: str) -> None:
        self._protocol, self._session = protocol, protocol.session
        self._session.check_open()
        self._among = Among(protocol.session, group)
        self._what = what
        places = ", ".join(map(str, self._among.ranks))
        self._session.transcript.record(f"{what} among the ranks {places}")

    def __len__(self) -> int:
        return len(self._among)

    @property
    def here(self) -> int:
        """The place of this rank among them."""
        return self._among.here

    # --- operations ---------------------------------------------------------------------------------------------------

    def sum(self, x: Number) -> Number:
        """The sum over all ranks, at all of them; its range grows as that of any sum.

        Error: none.   Cost: no rounds; 8 bytes an element from the producer where x is a product.   Reveals: nothing.
        """
        with self._in_step():
            x, scales = self._alike(x.summable(len(self)))
            parts = [self._among.sum(t.reshape(-1).clone()).view(x.shape) for t in self._parts(x)]
            return self._number(parts, x.shape, _total(scales))

    def sum_of_rows(self, rows: Number) -> Number:
        """The sum over all ranks of the row of this rank's place, of rows [ranks, …]. As `sum`."""
        with self._in_step():
            rows, scales = self._alike(rows.summable(len(self)))
            shape = rows.shape[1:]
            parts = [self._among.exchange(t.reshape(len(self), -1).contiguous()) for t in self._parts(rows)]
            return self._number([t.sum(0).view(shape) for t in parts], shape, _total(scales))

    def exchange(self, rows: ValueT) -> ValueT:
        """Row i goes to rank i: what all have for this one, [ranks, …]. As `sum`."""
        with self._in_step():
            rows, scales = self._alike(rows)
            parts = [self._among.exchange(t.reshape(len(self), -1).contiguous()) for t in self._parts(rows)]
            scale = Scale.end_to_end(scales, rows.scale.frac_bits)
            return self._like(rows, [t.view(rows.shape) for t in parts], rows.shape, scale)

    def gather(self, x: ValueT) -> ValueT:
        """What all ranks have, [ranks, …]. As `sum`."""
        with self._in_step():
            x, scales = self._alike(x)
            shape = torch.Size((len(self), *x.shape))
            parts = [self._among.gather(t.reshape(-1).contiguous()).view(shape) for t in self._parts(x)]
            return self._like(x, parts, shape, Scale.end_to_end(scales, x.scale.frac_bits))

    def broadcast(self, x: ValueT, source: int) -> ValueT:
        """What the rank at the place `source` has; only its shape counts at the others. As `sum`."""
        with self._in_step():
            scale = self._tell(x.scale)[source]
            if self.here == source:
                held = [t.reshape(-1).clone() for t in self._parts(x)]
            else:
                dtype = torch.uint8 if isinstance(x, Bits) else RING.dtype
                held = [torch.empty(x.numel, dtype=dtype) for _ in self._session.party_indices]
            parts = [self._among.broadcast(t, source).view(x.shape) for t in held]
            return x if self.here == source else self._like(x, parts, x.shape, scale)

    def tell(self, message: bytes) -> list[bytes]:
        """What each rank has to say, public, at all of them; no rank is past this before all have come to it.

        Error: none.   Cost: no rounds, no bytes between roles.   Reveals: nothing.
        """
        with self._in_step():
            self._tell(Scale())
            sizes = [int(n) for n in self._among.gather(torch.tensor([len(message)]))]
            padded = bytearray(message.ljust(max(1, *sizes), b"\0"))
            rows = self._among.gather(torch.frombuffer(padded, dtype=torch.uint8))
            return [row.numpy().tobytes()[:size] for row, size in zip(rows, sizes, strict=True)]

    # --- agreeing -----------------------------------------------------------------------------------------------------

    def _tell(self, scale: Scale) -> list[Scale]:
        """Tell the ranks what is done here, and return the scale of each one's operand."""
        self._among.meet()
        role = self._session.role
        mine = f"{self._among.name(self.here)} does {self._what}"
        digest = blake2b(f"{role}\0{self._what}".encode(), digest_size=16).digest()
        flags = scale.precise, scale.wide, scale.positive, scale.bounded
        rounded = NEVER if scale.rounded is None else scale.rounded
        told = TOLD.pack(digest, *flags, scale.far, scale.frac_bits, scale.headroom, rounded, mine.encode()[:WORDS])
        rows = self._among.gather(torch.frombuffer(bytearray(told), dtype=torch.int64))
        scales = []
        for row in rows:
            theirs, precise, wide, positive, bounded, far, frac_bits, headroom, rounded, said = TOLD.unpack(
                row.numpy().tobytes()
            )
            if theirs != digest:
                other = said.rstrip(b"\0").decode(errors="replace")
                raise DivergenceError(f"two ranks do different things: {mine}, and {other}")
            truncated = None if rounded == NEVER else rounded
            scales.append(Scale(frac_bits, headroom, precise, wide, far, positive, bounded, truncated))
        return scales

    def _alike(self, x: ValueT) -> tuple[ValueT, list[Scale]]:
        """The operand at a scale that all ranks have, and their scales there.

        With one program on data of one kind they have it already.
        """
        scales = self._tell(x.scale)
        bits = [scale.frac_bits for scale in scales]
        if not isinstance(x, Number) or len(set(bits)) == 1:
            return x, scales
        finest = max(self._protocol.product_bits - 4, 2 * self._protocol.frac_bits, PRECISE_BITS)
        target = max(min(b, finest) for b in bits)
        settled = x.settle(target) if x.frac_bits > target else x
        return settled.lifted(target), [scale.lifted(target) for scale in scales]  # type: ignore[return-value]

    @contextmanager
    def _in_step(self) -> Iterator[None]:
        """Ranks that have begun something and not ended it do not fit together any more."""
        try:
            yield
        except BaseException:
            self._session.fall_out_of_step()
            raise

    # --- shares -------------------------------------------------------------------------------------------------------

    def _parts(self, x: Value) -> list[Tensor]:
        """The shares of the parties hosted here: none at a helper, which deals what they are short of."""
        held = x.content.parts()
        return held if self._session.party_indices else []

    def _like(self, x: ValueT, parts: Sequence[Tensor], shape: torch.Size, scale: Scale) -> ValueT:
        if isinstance(x, Bits):
            return self._protocol.adopt_bits(parts, shape, name=self._what)  # type: ignore[return-value]
        return self._number(parts, shape, scale)  # type: ignore[return-value]

    def _number(self, parts: Sequence[Tensor], shape: torch.Size, scale: Scale) -> Number:
        out = self._protocol.adopt(parts, shape, scale.frac_bits, headroom=scale.headroom, name=self._what)
        return out.declare(**scale._asdict())


def _total(scales: Sequence[Scale]) -> Scale:
    """Of the sum of numbers of these scales, which have one number of fractional bits."""
    return reduce(lambda total, scale: total.plus(scale), scales)
