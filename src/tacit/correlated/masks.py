"""Masks: how a secret is opened without being revealed, once, and reused by every operation that follows.

A masked secret is  x = E + sum_k Q_k s_k  with E and Q_k public and s_k known to the producer alone. Opening x under a
fresh uniform mask a gives the simple form x = E + a; truncation derives from it a second form with two terms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tacit.correlated.dealing import Dealing, Dealt
from tacit.ring import kernels

__all__ = ["BitMask", "Mask", "Secret", "Term"]

TensorOp = Callable[[Tensor], Tensor]


class Secret(Dealt):
    """A mask a, with the tables that comparisons look digits up in, dealt when first asked for.

    `holder` is the party that knows a, if one does: the owner of what it masks. The other shares of a are zero.
    """

    __slots__ = ("_tables", "holder")

    def __init__(self, dealt: Dealt, holder: int | None = None) -> None:
        super().__init__(dealt.parts, dealt.plain)
        self.holder = holder
        self._tables: tuple[Dealt, Dealt] | None = None

    def known_to(self, index: int) -> bool:
        """Whether a party's share of a may differ from zero."""
        return self.holder is None or self.holder == index

    def tables(self, dealing: Dealing, count: int) -> tuple[Dealt, Dealt]:
        """Shares of the thermometer tables of a (int16 [16, n]) and of its sign (a plane). 32 1/8 bytes an element."""
        if self._tables is None:

            def make() -> list[Tensor]:
                assert self.plain is not None
                flat = self.plain.reshape(-1)
                tables = kernels.thermometer(flat).view(-1).view(torch.uint8)
                return [tables, kernels.pack_bits((flat < 0).view(torch.uint8))]

            raw, sign = dealing.bits([(2 * kernels.CHUNKS * count,), ((count + 7) // 8,)], make)
            self._tables = raw.map(lambda t: t.view(torch.int16).view(kernels.CHUNKS, -1)), sign
        return self._tables


class Term(NamedTuple):
    """One Q_k s_k of a masked secret; `factor` None stands for 1 (and at the producer, who does not need it)."""

    factor: Tensor | None
    secret: Dealt


class Mask:
    """x = E + sum of terms. `opened` is E, and None where no computing party is hosted."""

    __slots__ = ("opened", "terms")

    def __init__(self, opened: Tensor | None, terms: Sequence[Term]) -> None:
        self.opened = opened
        self.terms = terms

    @classmethod
    def simple(cls, opened: Tensor | None, secret: Secret) -> Mask:
        """x = E + a."""
        return cls(opened, (Term(None, secret),))

    @property
    def secret(self) -> Secret:
        """The mask a of the simple form."""
        secret = self.terms[0].secret
        assert isinstance(secret, Secret)
        return secret

    def parts(self, indices: Sequence[int]) -> list[Tensor]:
        """The additive shares of x that this form gives to the hosted parties; party 0 adds the public E."""
        out = []
        for k, index in enumerate(indices):
            total: Tensor | None = self.opened if index == 0 else None
            for factor, secret in self.terms:
                part = secret.parts[k] if factor is None else factor * secret.parts[k]
                total = part if total is None else total + part
            assert total is not None
            out.append(total)
        return out

    def map(self, op: TensorOp) -> Mask:
        """The masked form of op(x), for an op that only moves elements (a view, an index, an expansion)."""
        return Mask(_apply(op, self.opened), [_map_term(term, op) for term in self.terms])

    def add_public(self, c: Tensor) -> Mask:
        """The masked form of x + c; the masks, and with them their tables, stay."""
        return Mask(None if self.opened is None else self.opened + c, self.terms)

    def scale(self, k: int) -> Mask:
        """The masked form of k x, for a public integer k."""
        return self.map(lambda t: t * k)

    def __repr__(self) -> str:
        return "Mask(<hidden>)"


class BitMask:
    """A shared bit b = c ^ β with c public and β known to the producer; c and β are bytes of value 0 or 1.

    `ring` are additive shares of β, by which a selection by b becomes local work.
    """

    __slots__ = ("beta", "opened", "ring")

    def __init__(self, opened: Tensor | None, beta: Dealt, ring: Dealt) -> None:
        self.opened = opened
        self.beta = beta
        self.ring = ring

    def map(self, op: TensorOp) -> BitMask:
        """The masked form of op(b), for an op that only moves elements."""
        return BitMask(_apply(op, self.opened), self.beta.map(op), self.ring.map(op))

    def invert(self) -> BitMask:
        """The masked form of 1 - b."""
        return BitMask(_apply(lambda c: c ^ 1, self.opened), self.beta, self.ring)

    def __repr__(self) -> str:
        return "BitMask(<hidden>)"


def _apply(op: TensorOp, tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else op(tensor)


def _map_term(term: Term, op: TensorOp) -> Term:
    secret = term.secret.map(op)
    if isinstance(term.secret, Secret):
        secret = Secret(secret, term.secret.holder)
    return Term(_apply(op, term.factor), secret)
