"""Vectors b = c + a Δ over GF(2^64), as many as wanted: one party has Δ and b, the other the uniform a, and c.

64 transfers q = t + b Δ make one, a being their choices: Σ X^j q_j = Σ X^j t_j + (Σ X^j b_j) Δ. For many, codes make n
of k + t (`codes`). Noise that is zero but in one place of each block comes from a tree, of which one party, the sender,
knows all leaves v and the other all but one, w, by a transfer for each level, and from one vector (a', b', c') already
there:

    sender    D = Σ v + b'                     receiver    w_path = D + c' + Σ w,    so that v = w + (0 … a' … 0) Δ

Ref: [YWLZW20] section 4, over a larger field. What travels depends on no input, so that the meter counts it as
prepared.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tacit.net.transport import Parcel
from tacit.protocols.two_party.oblivious.codes import BETWEEN, LAST, Code
from tacit.protocols.two_party.oblivious.kernels import at_hand
from tacit.protocols.two_party.transfers import Raw, Transfers
from tacit.ring.memory import space
from tacit.ring.prg import derive_key
from tacit.session.session import Session

__all__ = ["Vector", "Vectors"]

WORD = 64
"""Transfers that make a word."""


class Vector(NamedTuple):
    """One end: b and Δ at the sender, c and a at the receiver."""

    blocks: Tensor
    """b or c, int64 [n, 2]."""
    delta: bytes
    factors: Tensor | None
    """a, int64 [n]; None at the sender."""

    def part(self, first: int, end: int | None = None) -> Vector:
        """Some of its words."""
        factors = None if self.factors is None else self.factors[first:end]
        return Vector(self.blocks[first:end], self.delta, factors)


class Vectors:
    """Makes vectors on the transfers of a session."""

    def __init__(self, session: Session, transfers: Transfers) -> None:
        self._session, self._transfers = session, transfers

    def make(self, sender: int, count: int) -> list[Vector]:
        """So many, which nobody gets again: one end for each party of this process."""
        if count <= BETWEEN.needs:
            return self._packed(sender, count)
        inner = self._coded(sender, self._packed(sender, BETWEEN.needs), BETWEEN)
        if count <= BETWEEN.size:
            return [end.part(0, count) for end in inner]
        parts: list[list[Vector]] = []
        made = 0
        while made < count:
            outer = self._coded(sender, [end.part(0, LAST.needs) for end in inner], LAST)
            taken = min(count - made, LAST.size - LAST.needs if count - made > LAST.size else LAST.size)
            parts.append([end.part(0, taken) for end in outer])
            inner = [end.part(taken) for end in outer]
            made += taken
        return [_joined(ends) for ends in zip(*parts, strict=True)]

    def _packed(self, sender: int, count: int) -> list[Vector]:
        out = []
        for raw in self._transfers.correlated(sender, WORD * count):
            blocks = at_hand().packed(raw.blocks)
            out.append(Vector(blocks, raw.delta, None if raw.choice is None else _words(raw.choice)))
        return out

    def _coded(self, sender: int, given: Sequence[Vector], code: Code) -> list[Vector]:
        """n words from k + t."""
        noise = self._noise(sender, [end.part(code.seeds, code.needs) for end in given], code)
        key = self._key(f"code of {code.seeds}")
        for end, seeds in zip(noise, given, strict=True):
            blocks, factors = seeds.blocks[: code.seeds], None if seeds.factors is None else seeds.factors[: code.seeds]
            at_hand().add_coded(key, blocks, end.blocks, factors, end.factors)
        return noise

    def _noise(self, sender: int, given: Sequence[Vector], code: Code) -> list[Vector]:
        """A word that is not zero in each block, from t words."""
        session, here = self._session, self._session.party_indices
        levels = self._transfers.correlated(sender, code.trees * code.levels)
        names = session.parties
        key = self._key("tree, left") + self._key("tree, right")
        message = space((code.trees * (4 * code.levels + 2),), torch.int64)
        ends: dict[int, Vector] = {}
        if sender in here:
            at = here.index(sender)
            ends[sender] = self._planted(key, levels[at], given[at], code, message)
            session.links.send(Parcel(names[sender], names[1 - sender], message))
        session.meter.ahead({names[sender]: message.nbytes})
        if 1 - sender in here:
            at = here.index(1 - sender)
            message = torch.empty_like(message)
            session.links.receive(Parcel(names[sender], names[1 - sender], message))
            ends[1 - sender] = self._found(key, levels[at], given[at], code, message)
        return [ends[index] for index in here]

    def _planted(self, key: bytes, raw: Raw, given: Vector, code: Code, message: Tensor) -> Vector:
        """At the sender: the leaves, and both sums of each level, each under the pad of its side."""
        roots = torch.frombuffer(bytearray(os.urandom(16 * code.trees)), dtype=torch.int64).view(-1, 2)
        leaves = space((code.size, 2), torch.int64)
        sums = at_hand().grown(key, roots, code.levels, leaves)
        delta = torch.frombuffer(bytearray(raw.delta), dtype=torch.int64)
        total = sums[:, -1, 0] ^ sums[:, -1, 1] ^ given.blocks
        sides = [self._pads(blocks) for blocks in (raw.blocks, raw.blocks ^ delta)]
        masked = sums.view(-1, 2, 2) ^ torch.stack(sides, dim=1)
        torch.cat([masked.view(-1), total.reshape(-1)], out=message)
        return Vector(leaves, given.delta, None)

    def _found(self, key: bytes, raw: Raw, given: Vector, code: Code, message: Tensor) -> Vector:
        """At the receiver: all leaves but one of each tree, at the end of the path that its choices led away from."""
        assert raw.choice is not None
        assert given.factors is not None
        sums, totals = message.split([4 * code.trees * code.levels, 2 * code.trees])
        rows = torch.arange(code.trees * code.levels)
        away = sums.view(-1, 2, 2)[rows, raw.choice.long()] ^ self._pads(raw.blocks)
        turns = (1 - raw.choice.long()).view(code.trees, code.levels)
        paths = (turns << torch.arange(code.levels - 1, -1, -1)).sum(1)
        leaves, factors = space((code.size, 2), torch.int64), torch.zeros(code.size, dtype=torch.int64)
        known = at_hand().regrown(key, paths, away, code.levels, leaves)
        ends = (torch.arange(code.trees) << code.levels) + paths
        leaves[ends] = totals.view(-1, 2) ^ given.blocks ^ known
        factors[ends] = given.factors
        return Vector(leaves, given.delta, factors)

    def _pads(self, blocks: Tensor) -> Tensor:
        """What hides the sums: a hash of each transfer."""
        tweaks = torch.stack([torch.arange(len(blocks)), torch.zeros(len(blocks), dtype=torch.int64)], dim=1)
        return at_hand().mixed(self._key("pads of trees"), 0, blocks.contiguous(), tweaks)

    def _key(self, purpose: str) -> bytes:
        """A key that both parties know, and nobody could choose."""
        return shared_key(self._session, purpose)


def shared_key(session: Session, purpose: str) -> bytes:
    """A key of the two parties that both know, and neither could choose; the same whenever it is asked for."""
    here = session.party_indices[0]
    pair = session.links.pair_key(session.parties[here], session.parties[1 - here])
    return derive_key(pair, f"oblivious {purpose}")


def _words(bits: Tensor) -> Tensor:
    """Words of 64 bits, one to a byte, the first one lowest."""
    octets = (bits.view(-1, 8).to(torch.int64) << torch.arange(8)).sum(1).to(torch.uint8)
    return octets.view(torch.int64)


def _joined(ends: Sequence[Vector]) -> Vector:
    if len(ends) == 1:
        return ends[0]
    factors = [end.factors for end in ends if end.factors is not None]
    return Vector(torch.cat([end.blocks for end in ends]), ends[0].delta, torch.cat(factors) if factors else None)
