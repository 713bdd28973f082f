"""Random oblivious transfers between the two parties of a session.

Base transfers from ML-KEM-768 give the leaves of 32 trees (`base`, `leaves`), which SoftSpoken [Roy22] extends without
end (`ways`): the receiver sends 31 bits for each transfer. A transfer is hashed for one use, and gone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from tacit.errors import ConfigError, TacitError
from tacit.protocols.two_party.transfers.ahead import Ahead
from tacit.protocols.two_party.transfers.kernels import BATCH, QUICK, SIDE_BY_SIDE, Form, at_hand
from tacit.protocols.two_party.transfers.order import (
    Digits,
    Order,
    Pair,
    Planes,
    Tables,
    Words,
    of_bits,
    of_digits,
    of_words,
)
from tacit.protocols.two_party.transfers.stored import Reader, Writer
from tacit.protocols.two_party.transfers.ways import GROUP, LARGEST, NO_DELTA, Fresh, Raw, Ways
from tacit.ring.kernels import on
from tacit.ring.prg import derive_key
from tacit.session.preparation import Preparation
from tacit.session.session import Session
from tacit.session.store import Shelf

__all__ = ["Transfers"]

MOST = 1 << 34
"""Transfers, or entries of tables, in one call at most. A slip of the pen asks for more; so many words take 128 GB."""

WIDTH, LEVELS = 8, 4
"""The most bits of a message of `bits`, and the transfers that one of 16 messages takes."""


PIECE = 1 << 15
"""Transfers that are made, hashed and forgotten at a time. Longer: fewer calls; shorter: their 16 bytes each stay in a
core's second-level cache."""

E = TypeVar("E")


class Transfers:
    """Random oblivious transfers between the two parties of a session, in either direction.

    Nothing is sent before the first use. Each method gives an entry for each party hosted here, in the order of
    `session.party_indices`: at the sender what it has, at the receiver what it got, all of it uniform; the caller may
    write to it. Nothing here depends on any input, so the meter counts what is sent as prepared, with no round.
    `form` is QUICK, for fast links, or SHORT, which sends half as much and computes more.

    Ref: [Roy22] for the extension, [GKWY20] for the hash.
    """

    def __init__(self, session: Session, form: Form = QUICK) -> None:
        if len(session.parties) != 2:
            raise ConfigError(f"oblivious transfers are between two parties, not {len(session.parties)}")
        self._session = session
        self._ways = Ways(session, form)
        self._ahead = Ahead()
        supply = session.supply
        self._uses = 0
        self._reader = Reader(session, supply) if isinstance(supply, Shelf) else None
        self._writer = Writer(session, supply) if isinstance(supply, Preparation) else None
        self._keys: dict[int, bytes] = {}
        self._numbers = [0, 0]
        self._broken_off = False

    def __repr__(self) -> str:
        return f"Transfers({' and '.join(self._session.parties)}, <keys hidden>)"

    def __reduce__(self) -> str:
        raise TypeError("transfers cannot be copied or pickled: none of them must ever be used twice")

    def words(self, sender: int, count: int) -> list[Words]:
        """Messages of 64 bits: Pair of int64 [count] each; Choice of uint8 [count], 0 or 1, and int64 [count].

        Cost: a transfer each.
        """
        return self._made(self.order_words(sender, count))

    def bits(self, sender: int, count: int, width: int) -> list[Planes]:
        """Messages of 1 to 8 bits, as planes in the order of `pack_bits`; padding bits of the last byte are anything.

        Pair of uint8 [width, ceil(count / 8)] each; Choice of uint8 [ceil(count / 8)] and [width, ceil(count / 8)].
        Cost: a transfer each.
        """
        return self._made(self.order_bits(sender, count, width))

    def digits(self, sender: int, count: int, tables: int) -> list[Digits]:
        """One of 16 messages of two bits, for `tables` tables side by side under one choice.

        Tables of int32 [tables, count]; Choice of uint8 [count], 0 to 15, and uint8 [tables, count] of two bits.
        Cost: four transfers each.
        """
        return self._made(self.order_digits(sender, count, tables))

    @property
    def on_disk(self) -> bool:
        """Whether they come from a store, or go to one: none may be hashed later then, and which are taken is fixed."""
        return self._reader is not None or self._writer is not None

    def correlated(self, sender: int, count: int) -> list[Raw]:
        """Transfers as they are, for what hashes them later: q and Δ at the sender, t and the choices at the receiver.

        q = t + choice Δ. The caller hashes whatever leaves its party of them. Cost: a transfer each.
        """
        self._check(sender, count)
        if self.on_disk:
            raise ConfigError("transfers that are hashed later are not stored: make them while the program runs")
        self._broken_off = True
        pieces = [self._ways.take(sender, min(LARGEST, count - at)) for at in range(0, max(count, 1), LARGEST)]
        self._broken_off = False
        return [_whole(raws) for raws in zip(*pieces, strict=True)]

    def next_use(self) -> int:
        """A number for what hashes `correlated` transfers, alike at both ends: no two of a session have the same."""
        self._uses += 1
        return self._uses - 1

    def make(self, orders: Sequence[Order[Any]]) -> None:
        """Fill the entries of orders: what they take travels both ways at once, if they have senders of both sides.

        Orders are made by the methods below, which do nothing else, and are made once.
        """
        for order in orders:
            self._check(order.sender, order.count)
            if order.done:
                raise ValueError("an order is filled once: order anew")
        self._broken_off = True
        if self._reader is not None:
            for order in orders:
                self._reader.fill(order)
        else:
            missing = [order for order in orders if not self._ahead.fill(order)]
            if missing:
                self._make(missing)
            if self._writer is not None:
                for order in orders:
                    self._writer.put(order)
        self._broken_off = False

    def _make(self, orders: Sequence[Order[Any]]) -> None:
        start = time.perf_counter()
        queues = [deque(order for order in orders if order.sender == sender) for sender in (0, 1)]
        while any(queues):
            self._some(queues)
        self._session.meter.worked_ahead(time.perf_counter() - start)

    def work_ahead(self, steps: int, most: int | None = None) -> bool:
        """Make what was asked for since this was called the last time, so many times over, before it is asked for.

        Both parties call it at the same places of a program. With `most`, about so many transfers are made now, and
        the rest at calls to come; whether there is a rest. From a store, and for one, nothing is made.
        """
        self._check(0, 0)
        if self.on_disk:
            return False
        self._ahead.want(steps)
        start, made = time.perf_counter(), 0
        self._broken_off = True
        with torch.inference_mode(False):  # what is made outlives such a mode, and may be written to
            while any(self._ahead.pending) and (most is None or made < most):
                made += self._some(self._ahead.pending, self._ahead.keep)
        self._broken_off = False
        self._session.meter.worked_ahead(time.perf_counter() - start)
        return any(self._ahead.pending)

    def order_words(self, sender: int, count: int) -> Order[Words]:
        """What `words` makes, to be made together with others."""
        self._check(sender, count)

        def use(out: Words, raw: Raw, first: int, number: int) -> None:
            key = self._key(sender)
            if isinstance(out, Pair):
                at_hand().words(key, number, raw.blocks, NO_DELTA, out.zero, first)
                at_hand().words(key, number, raw.blocks, raw.delta, out.one, first)
            else:
                at_hand().words(key, number, raw.blocks, NO_DELTA, out.pad, first)
                choice = _chosen(raw)
                out.choice[first : first + choice.numel()] = choice

        return Order(sender, count, of_words(count), use)

    def order_bits(self, sender: int, count: int, width: int) -> Order[Planes]:
        """What `bits` makes, to be made together with others."""
        self._check(sender, count)
        if not 1 <= width <= WIDTH:
            raise ValueError(f"messages have 1 to {WIDTH} bits, not {width}: take `words` for longer ones")

        def use(out: Planes, raw: Raw, first: int, number: int) -> None:
            key = self._key(sender)
            if isinstance(out, Pair):
                at_hand().bits(key, number, raw.blocks, NO_DELTA, width, out.zero, first)
                at_hand().bits(key, number, raw.blocks, raw.delta, width, out.one, first)
            else:
                at_hand().bits(key, number, raw.blocks, NO_DELTA, width, out.pad, first)
                choice = on(out.choice).pack_bits(_chosen(raw))
                out.choice[first // 8 : first // 8 + choice.numel()] = choice

        return Order(sender, count, of_bits(count, width), use)

    def order_digits(self, sender: int, count: int, tables: int) -> Order[Digits]:
        """What `digits` makes, to be made together with others."""
        self._check(sender, count)
        if not 1 <= tables <= MOST or tables * count > MOST:
            raise ValueError(f"at most {MOST} entries are made in one call, not {count} for {tables} tables")

        def use(out: Digits, raw: Raw, first: int, number: int) -> None:
            key = self._key(sender)
            if isinstance(out, Tables):
                at_hand().tables(key, number, raw.blocks, raw.delta, tables, out.pads, first)
            else:
                at_hand().entries(key, number, raw.blocks, tables, out.pad, first)
                size = raw.blocks.shape[0] // LEVELS
                out.choice[first : first + size] = _numbers(_chosen(raw).view(LEVELS, size))

        return Order(sender, count, of_digits(count, tables), use, LEVELS, (tables + SIDE_BY_SIDE - 1) // SIDE_BY_SIDE)

    def prepare(self, zero_sends: int, one_sends: int) -> None:
        """Make transfers that will be used soon, of both directions in one exchange; a hint, which may do less.

        Over a slow link this is worth while: what many transfers take then travels both ways at once. A program with
        more to do than `ways.PREPARED` of each goes through its elements in slices.
        """
        for sender, count in enumerate((zero_sends, one_sends)):
            self._check(sender, count)
        self._broken_off = True
        self._ways.prepare((zero_sends, one_sends))
        self._broken_off = False

    def _check(self, sender: int, count: int) -> None:
        self._session.check_open()
        if self._broken_off:  # both ends may not be at the same place any more, and what they had would not fit
            raise TacitError("oblivious transfers broke off in the middle, by an error or Ctrl-C: begin a new session")
        if sender not in (0, 1):
            raise ValueError(f"the sender is party 0 or party 1, not {sender}")
        if not 0 <= count <= MOST:
            raise ValueError(f"at most {MOST} transfers are made in one call, not {count}")

    def _made(self, order: Order[E]) -> list[E]:
        self.make([order])
        return order.entries

    def _some(self, queues: Sequence[deque[Order[Any]]], done: Callable[[Order[Any]], None] | None = None) -> int:
        """Make a piece of the first order of each direction, and take it off if it is done; transfers that it took."""
        heads = [queue[0] for queue in queues if queue]
        before = 0
        for order in heads:
            order.begin(self._session.party_indices)
            before += order.rest
        large = [order for order in heads if self._large(order)]
        if large:
            self._fill_fresh(large)
        else:
            for order in heads:
                self._fill(order)
        for queue in queues:
            if queue and queue[0].done:
                order = queue.popleft()
                if done is not None:
                    done(order)
        return before - sum(order.rest for order in heads)

    def _large(self, order: Order[Any]) -> bool:
        """Whether what is left of an order is made past the stock."""
        return order.rest >= GROUP and self._ways.left(order.sender) < PIECE

    def _fill_fresh(self, orders: Sequence[Order[Any]]) -> None:
        """Make a group of transfers for each of two orders at most, of one direction each."""
        groups = []
        for order in orders:
            size = min(order.rest // PIECE * PIECE, GROUP)
            groups.append(Fresh(order.sender, size, PIECE, order.use_at(order.first, self._first_number(order))))
            order.first += size // order.each
        self._ways.fresh(groups)

    def _fill(self, order: Order[Any]) -> None:
        """Fill a piece of an order from the stock."""
        use, size = order.use_at(order.first, self._first_number(order)), min(order.rest, PIECE)
        if not size:
            return
        for place, raw in enumerate(self._ways.take(order.sender, size)):
            use(place, 0, raw)
        order.first += size // order.each

    def _first_number(self, order: Order[Any]) -> int:
        """The number of the first hash key of an order, which no other has."""
        if order.start is None:
            order.start = self._numbers[order.sender]
            self._numbers[order.sender] += (order.count + BATCH - 1) // BATCH * order.keys
        return order.start

    def _key(self, sender: int) -> bytes:
        """The key that the keys of the hash come from: both parties know it, and nobody could choose it."""
        if sender not in self._keys:
            here = self._session.party_indices[0]
            names = self._session.parties
            pair = self._session.links.pair_key(names[here], names[1 - here])
            self._keys[sender] = derive_key(pair, f"transfers from party {sender}")
        return self._keys[sender]


def _whole(raws: Sequence[Raw]) -> Raw:
    if len(raws) == 1:
        return raws[0]
    choices = [raw.choice for raw in raws if raw.choice is not None]
    return Raw(torch.cat([raw.blocks for raw in raws]), raws[0].delta, torch.cat(choices) if choices else None)


def _chosen(raw: Raw) -> Tensor:
    assert raw.choice is not None
    return raw.choice


def _numbers(bits: Tensor) -> Tensor:
    """The numbers of rows of bits, the first row lowest: uint8 [4, n] -> [n]. Eight at a time, where they come so."""
    b = bits.view(torch.int64) if bits.shape[1] % 8 == bits.storage_offset() % 8 == 0 else bits
    return (b[0] | b[1] << 1 | b[2] << 2 | b[3] << 3).view(torch.uint8)
