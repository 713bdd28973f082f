"""Elementwise products in slots: exact, and modulo primes of 44 bits, of which one to three hold a result.

A polynomial modulo a slot prime t is N values, and a product of two of them the products of the values. So

    Σ_k left_k right_k  mod t        left of one party, encrypted, right of the other

is what an answer is an encryption of, and both parties have shares of it modulo t, and for T = Π t modulo T.

*From modulo T to the ring*: s0 + s1 = v + T w for |v| < T / 4. With T / 4 added to s1, and to v, w is whether one of
them is over T / 2, for v is not: one product of bits, and v = s0 + s1 - T / 4 - T (1 - [s0 < T / 2] [s1 < T / 2]).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from tacit.protocols.two_party.lattice import kernels
from tacit.protocols.two_party.lattice.cipher import Ciphers
from tacit.protocols.two_party.lattice.hops import Hop
from tacit.protocols.two_party.lattice.parameters import DEGREE, SLOTS, slot_primes
from tacit.ring.memory import space
from tacit.ring.ring import RING
from tacit.session.session import Session

__all__ = ["Rows", "modular", "primes_for", "ring_parts"]

BLOCKS = 16
"""Blocks of N elements encrypted or answered at a time. More: fewer calls; fewer: less memory, 400 kB a ciphertext."""

Rows = tuple[Tensor | None, Tensor | None]
"""What each party multiplies, [terms, n] signed integers; None where it is not hosted."""

Shares = dict[int, Tensor]
"""Memory for what hosted parties get."""


class _Part:
    """Some blocks in one slot prime, of which one party encrypts its rows."""

    def __init__(self, owner: int, blocks: range, prime: int, terms: int) -> None:
        self.owner, self.blocks, self.prime, self.terms = owner, blocks, prime, terms
        self._arrival: Tensor | None = None
        self._answer: Tensor | None = None

    def upload(self, ciphers: Ciphers, hop: Hop, rows: Rows) -> None:
        own = rows[self.owner]
        data = None if own is None else ciphers.encrypted_rows(self.owner, own.unbind(), self.blocks, self.prime)
        self._arrival = hop.move(self.owner, ciphers.size(SLOTS, len(self.blocks) * self.terms), data)

    def answer(self, ciphers: Ciphers, hop: Hop, rows: Rows, shares: Shares) -> None:
        """Send answers, and have the evaluator's shares, [blocks N]."""
        data, own = None, rows[1 - self.owner]
        if own is not None:
            assert self._arrival is not None
            given = self._arrival, own.unbind(), self.blocks, self.prime
            data = ciphers.answered_rows(self.owner, *given, shares[1 - self.owner])
        self._arrival = None
        self._answer = hop.move(1 - self.owner, len(self.blocks) * SLOTS.answer_bytes, data)

    def finish(self, ciphers: Ciphers, shares: Shares) -> None:
        """Have the owner's shares modulo the prime, [blocks N]."""
        if self._answer is not None:
            answers = self._answer.view(-1, SLOTS.answer_bytes)
            ciphers.finished_rows(self.owner, answers, self.prime, shares[self.owner])
        self._answer = None


def modular(
    session: Session, ciphers: Ciphers, rows: Rows, count: int, terms: int, primes: Sequence[int]
) -> list[Tensor]:
    """For each hosted party, its shares of `count` sums modulo each prime, [primes, count] or longer.

    Half of the blocks go each way. Of few elements, terms lie side by side in the slots of one ciphertext, and their
    shares are added up at the end.
    """
    beside = max(min(terms, DEGREE // max(count, 1)), 1)
    terms, rows, wanted = -(-terms // beside), _beside(rows, beside), count
    count *= beside
    blocks = -(-count // DEGREE)
    half = -(-blocks // 2)
    runs = [(0, range(at, min(at + BLOCKS, half))) for at in range(0, half, BLOCKS)]
    runs += [(1, range(at, min(at + BLOCKS, blocks))) for at in range(half, blocks, BLOCKS)]
    shares = {index: space((len(primes), blocks * DEGREE), torch.int64) for index in session.party_indices}
    parts = []
    for k, prime in enumerate(primes):
        for owner, run in runs:
            at = slice(run.start * DEGREE, run.stop * DEGREE)
            parts.append((_Part(owner, run, prime, terms), {index: share[k, at] for index, share in shares.items()}))
    ciphers.begin()
    upload, answer = Hop(session), Hop(session)
    for part, _ in parts:
        part.upload(ciphers, upload, rows)
    upload.done()
    for part, into in parts:
        part.answer(ciphers, answer, rows, into)
    answer.done()
    for part, into in parts:
        part.finish(ciphers, into)
    if beside == 1:
        return list(shares.values())
    moduli = torch.tensor(primes).view(-1, 1)
    return [s[:, :count].reshape(len(primes), beside, wanted).sum(1) % moduli for s in shares.values()]


def _beside(rows: Rows, beside: int) -> Rows:
    """[terms, n] -> [terms / beside, beside n], with terms of zeros at the end."""
    out = []
    for row in rows:
        if row is not None and beside > 1:
            more = -len(row) % beside
            row = pad(row, (0, 0, 0, more)).reshape(-1, beside * row.shape[1])
        out.append(row)
    return out[0], out[1]


def ring_parts(index: int, shares: Tensor, count: int, primes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """A party's part of v + T / 4, less T w, in the ring, and its bit: that its share is below T / 2."""
    share, upper = kernels.combine(primes, shares, shift=index == 1, count=count)
    modulus = math.prod(primes)
    if index == 0:
        share -= RING.signed(modulus // 4 + modulus)
    return share, upper.bitwise_xor_(1)


def primes_for(terms: int, left_bits: int, right_bits: int) -> tuple[int, ...]:
    """The slot primes that hold a sum of so many products of signed integers of so many bits."""
    return slot_primes(terms << (left_bits + right_bits - 2))
