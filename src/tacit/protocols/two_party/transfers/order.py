"""Orders: transfers that are wanted for one use, and what either end has of them when they are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor

from tacit.protocols.two_party.transfers.kernels import BATCH
from tacit.protocols.two_party.transfers.ways import Raw
from tacit.ring.memory import space

__all__ = [
    "Choice",
    "Digits",
    "Field",
    "Kind",
    "Layout",
    "Order",
    "Pair",
    "Planes",
    "Tables",
    "Words",
    "of_bits",
    "of_digits",
    "of_words",
]


class Pair(NamedTuple):
    """What a sender has: both messages of each transfer."""

    zero: Tensor
    one: Tensor


class Choice(NamedTuple):
    """What a receiver has: which message it got, and that message."""

    choice: Tensor
    pad: Tensor


class Tables(NamedTuple):
    """What a sender of 1-of-16 transfers has: 16 messages of two bits in a word, message j in bits 2 j and 2 j + 1."""

    pads: Tensor


Words: TypeAlias = Pair | Choice
Planes: TypeAlias = Pair | Choice
Digits: TypeAlias = Tables | Choice

E = TypeVar("E")
Use: TypeAlias = Callable[[E, Raw, int, int], None]
"""Called with an entry, transfers of its end, their first item, and the number of its hash key."""


class Field(NamedTuple):
    """A tensor of an entry."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Its bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class Layout(NamedTuple):
    """What the two ends of an order have, which follows from what it is called and from its count."""

    name: str
    sender: type[Pair] | type[Tables]
    sent: Sequence[Field]
    got: Sequence[Field]

    def fields(self, *, sends: bool) -> Sequence[Field]:
        """The tensors of an end."""
        return self.sent if sends else self.got

    def entry(self, tensors: Sequence[Tensor], *, sends: bool) -> Any:
        """An end's entry, of its tensors."""
        return self.sender(*tensors) if sends else Choice(*tensors)

    @property
    def size(self) -> int:
        """The bytes of the end that has more of them, which both ends know."""
        return max(sum(field.size for field in fields) for fields in (self.sent, self.got))


@lru_cache(1024)
def of_words(count: int) -> Layout:
    """Messages of 64 bits."""
    words = Field((count,), torch.int64)
    return Layout("words", Pair, (words, words), (Field((count,), torch.uint8), words))


@lru_cache(1024)
def of_bits(count: int, width: int) -> Layout:
    """Messages of some bits, as planes."""
    size = (count + 7) // 8
    planes = Field((width, size), torch.uint8)
    return Layout(f"messages of {width} bits", Pair, (planes, planes), (Field((size,), torch.uint8), planes))


@lru_cache(1024)
def of_digits(count: int, tables: int) -> Layout:
    """One of 16 messages of two bits, for tables side by side."""
    pads, pad = Field((tables, count), torch.int32), Field((tables, count), torch.uint8)
    return Layout(f"digits for {tables} tables", Tables, (pads,), (Field((count,), torch.uint8), pad))


Kind: TypeAlias = tuple[str, int, int]
"""What orders have in common of which the entries of one would do for another: its name, sender and count."""


class Order(Generic[E]):
    """Transfers that are wanted for one use. `entries`, one for each party hosted here, are there once it is made."""

    def __init__(self, sender: int, count: int, layout: Layout, use: Use[E], each: int = 1, keys: int = 1) -> None:
        self.sender, self.count, self.layout = sender, count, layout
        self.each, self.keys = each, keys
        """Transfers of an item, and keys of the hash for a batch of items."""
        self.entries: list[E] = []
        self.first = 0
        """The first item that is not filled."""
        self.start: int | None = None
        self.filled = False
        """Whether its entries were there before it was asked for."""
        self._use = use

    def again(self) -> Order[E]:
        """The same order, of which nothing is made."""
        return Order(self.sender, self.count, self.layout, self._use, self.each, self.keys)

    @property
    def kind(self) -> Kind:
        """What it has in common with orders of which the entries would do for it."""
        return self.layout.name, self.sender, self.count

    @property
    def done(self) -> bool:
        """Whether all is filled."""
        return self.filled or (self.first >= self.count and (self.count > 0 or self.start is not None))

    @property
    def rest(self) -> int:
        """Transfers that it still takes."""
        return 0 if self.filled else self.each * (self.count - self.first)

    def begin(self, parties: Sequence[int]) -> None:
        """Have memory for the entries of these parties."""
        if self.entries:
            return
        _, sender, sent, got = self.layout
        for party in parties:
            made = sender(*[space(*f) for f in sent]) if party == self.sender else Choice(*[space(*f) for f in got])
            self.entries.append(made)  # type: ignore[arg-type]

    def fill(self, entries: Sequence[E]) -> None:
        """Have entries that were made before."""
        self.entries[:] = entries
        self.filled = True

    def use_at(self, first: int, start: int) -> Callable[[int, int, Raw], None]:
        """How to use transfers that are for the items from `first` on."""

        def use(place: int, at: int, raw: Raw) -> None:
            item = first + at // self.each
            self._use(self.entries[place], raw, item, start + item // BATCH * self.keys)

        return use
