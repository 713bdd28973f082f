"""Matches found by the crypto-producer, on blocks that say nothing to it, and rows that are picked blindly.

The owners agree on a key that the producer does not know. Each encrypts the digest of every row, and sends these blocks
of 128 bits in ascending order, which has nothing to do with the order of its table. The producer compares blocks, and
puts the matches in an order that it draws. Then either each owner is `told` which of its rows come where, and shares
just these; or nobody is, and the rows are `picked` under permutations of which each party knows one. In a chain of all
parties, the owner first, each has a uniform permutation π from its key stream with the producer, but the last one has
places ι that the producer sends, such that π_1 π_2 … ι = σ, the rows that matched. What travels is M = X − R:

    owner            M = X[π] − R                          → next
    each in between  M = M[π] + Z,     R = R[π] − Z        → next         share  W
    last             share  M[ι] + Z                       owner's share  R[ι] − Z − Σ W, from the producer

Z, W and the owner's R come from key streams with the producer. Ref: permutation correlations of [CGP20], dealt.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from torch import Tensor
from typing_extensions import override

from tacit.errors import DivergenceError
from tacit.net.transport import Parcel
from tacit.protocols.additive.protocol import Additive
from tacit.protocols.additive.scheme import PRODUCER
from tacit.protocols.matching import DIGEST_WORDS, Match, Matcher, ascending, hidden_among, partners, permutation
from tacit.protocols.number import Number
from tacit.ring.ring import RING
from tacit.session.session import Session

__all__ = ["Helped"]

KEY_BYTES = 32
COUNT_BYTES = 8
PICKED, KEY = "picked rows", "key of a join"
"""The purposes of key streams."""


class Helped(Matcher):
    """Has the crypto-producer compare."""

    def __init__(self, protocol: Additive) -> None:
        self._protocol, self.session = protocol, protocol.session

    @override
    def match(
        self,
        owners: Sequence[str],
        sizes: Sequence[int],
        digests: Mapping[str, Tensor],
        *,
        left: bool = False,
        reveal: str = "members",
        alternatives: int = 1,
    ) -> Match:
        """The producer learns how many keys each two tables, or more, have in common. 16 bytes a key, one round."""
        session = self.session
        session.check_open()
        blocks, orders = {}, {}
        for owner, key in agreed_keys(session, owners).items():
            mine = encrypted(digests[owner], key)
            orders[owner] = ascending(mine[:, :DIGEST_WORDS])
            blocks[owner] = mine[orders[owner]]
        received = _collected(session, owners, sizes, blocks, alternatives)
        table = None if received is None else partners(received, left=left)
        padded = reveal == "nothing" and not left
        if padded:
            rows = min(sizes)
            table = None if table is None else hidden_among(table, rows)
        else:
            count = None if table is None else len(table).to_bytes(COUNT_BYTES, "little")
            rows = int.from_bytes(session.announce(PRODUCER, count), "little")
            if rows > (sizes[0] if left else min(sizes)):
                raise DivergenceError(f"{PRODUCER} announced more rows in common than there are")
        return _Found(
            self._protocol, dict(zip(owners, sizes, strict=True)), orders, rows, table, left=left, padded=padded
        )


class _Found(Match):
    def __init__(
        self,
        protocol: Additive,
        sizes: dict[str, int],
        orders: dict[str, Tensor],
        rows: int,
        table: Tensor | None,
        *,
        left: bool,
        padded: bool,
    ) -> None:
        self.rows, self.common = rows, None if padded else rows
        self._protocol, self.session = protocol, protocol.session
        self._sizes, self._orders, self._table = sizes, orders, table
        self._left, self._padded = left, padded

    @override
    def told(self) -> dict[str, Tensor]:
        """4 bytes a row and owner, from the producer."""
        session, owners = self.session, list(self._sizes)
        columns = {}
        for owner in owners:
            arrived = passed(session, PRODUCER, owner, self._column(owner), 4 * self.rows)
            if arrived is not None:
                order, places = torch.cat([self._orders[owner], torch.tensor([-1])]), arrived.view(torch.int32).long()
                if bool(((places < -1) | (places >= len(order) - 1)).any()):
                    raise DivergenceError(f"{PRODUCER} names rows of {owner} that are none")
                columns[owner] = order[places]
        session.meter.dealt(PRODUCER, 4 * self.rows * len(owners))
        return columns

    @override
    def picked(self, owner: str, x: Tensor | None, width: int, frac_bits: int) -> Number:
        """As `picked_rows`."""
        nobody = self.rows if self._padded or (self._left and owner != next(iter(self._sizes))) else 0
        size = (self._sizes[owner] + nobody, width)
        if x is not None:
            x = torch.cat([x[self._orders[owner]], torch.zeros((nobody, width), dtype=x.dtype)])
        shares = picked_rows(self.session, owner, x, size, self.rows, self._column(owner))
        return self._protocol.adopt(shares, (self.rows, width), frac_bits, lasting=True, name=f"rows of {owner}")

    @override
    def weight(self, frac_bits: int) -> Number | None:
        """As `picked_rows` of a column of ones."""
        if not self._padded:
            return None
        owner, rows = next(iter(self._sizes.items()))
        ones = torch.full((rows, 1), 1 << frac_bits) if self.session.hosts(owner) else None
        return self.picked(owner, ones, 1, frac_bits)

    def _column(self, owner: str) -> Tensor | None:
        if self._table is None:
            return None
        column = self._table[:, list(self._sizes).index(owner)]
        return torch.empty(len(column), dtype=torch.int32).copy_(column)


def agreed_keys(session: Session, owners: Sequence[str]) -> dict[str, bytes]:
    """The key that the owners agree on, at those that are hosted here: the first one draws it.

    It travels under a key stream of each pair, so that it is hidden from the producer on any link.
    """
    first, *others = owners
    drawn = torch.frombuffer(bytearray(os.urandom(KEY_BYTES)), dtype=torch.uint8) if session.hosts(first) else None
    keys = {} if drawn is None else {first: bytes(drawn.tolist())}
    for other in others:
        pad = None if drawn is None else drawn ^ session.stream(first, other, KEY).bytes(KEY_BYTES)
        arrived = passed(session, first, other, pad, KEY_BYTES)
        if arrived is not None:
            key = arrived ^ session.stream(other, first, KEY).bytes(KEY_BYTES)
            keys[other] = bytes(key.tolist())
    session.meter.round({role: KEY_BYTES * len(others) * (role == first) for role in session.parties})
    return keys


def encrypted(digests: Tensor, key: bytes) -> Tensor:
    """Digests under AES-256, a block each: without the key, nobody can tell those of different rows from random."""
    cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305 - a block is for itself, and none is there twice
    data = cipher.encryptor().update(digests.contiguous().numpy().tobytes())
    return torch.frombuffer(bytearray(data), dtype=torch.int64).view(digests.shape)


def _collected(
    session: Session, owners: Sequence[str], sizes: Sequence[int], blocks: Mapping[str, Tensor], alternatives: int
) -> list[Tensor] | None:
    """The blocks of all owners, at the producer, to whom they are sent."""
    received = []
    counts = [size * alternatives * DIGEST_WORDS * RING.bytes for size in sizes]
    for owner, count in zip(owners, counts, strict=True):
        arrived = passed(session, owner, PRODUCER, blocks.get(owner), count)
        if arrived is not None:
            received.append(arrived.view(RING.dtype).view(-1, alternatives * DIGEST_WORDS))
    session.meter.round(dict.fromkeys(session.parties, 0) | dict(zip(owners, counts, strict=True)))
    return received if session.hosts(PRODUCER) else None


def picked_rows(
    session: Session, owner: str, x: Tensor | None, size: tuple[int, int], rows: int, sigma: Tensor | None
) -> list[Tensor]:
    """Shares of x[σ] of all parties hosted here: `owner` knows x, of this size, and the producer σ, a row once at most.

    -1 in σ stands for a row of zeros, of which x then has enough at its end.
    Cost: n - 1 rounds; 8 bytes an element of x from each party but the last, and from the producer 8 bytes an element
    of the result and 4 a row. Reveals: nothing.
    """
    session.check_open()
    shares: dict[str, Tensor] = {}
    chain = [owner, *(party for party in session.parties if party != owner)]
    last, whole, result = chain[-1], RING.bytes * size[0] * size[1], (rows, size[1])
    iota, correction = _dealt(session, chain, size, rows, sigma) if sigma is not None else (None, None)
    travelling = x
    for here, following in pairwise(chain):
        if session.hosts(here):
            assert travelling is not None
            stream = session.stream(here, PRODUCER, PICKED)
            moved, mask = travelling[permutation(stream, size[0])], stream.ring(size)
            travelling = moved - mask if here == owner else moved + mask
            if here != owner:
                shares[here] = stream.ring(result)
        arrived = passed(session, here, following, travelling, whole)
        travelling = None if arrived is None else arrived.view(RING.dtype).view(size)
        session.meter.round({role: whole * (role == here) for role in session.parties})
    rest = passed(session, PRODUCER, owner, correction, RING.bytes * rows * size[1])
    places = passed(session, PRODUCER, last, iota, 4 * rows)
    session.meter.dealt(PRODUCER, 4 * rows + RING.bytes * rows * size[1])
    if rest is not None:
        shares[owner] = rest.view(RING.dtype).view(result)
    if places is not None:
        assert travelling is not None
        mask, at = session.stream(last, PRODUCER, PICKED).ring(result), places.view(torch.int32).long()
        if bool(((at < 0) | (at >= size[0])).any()):
            raise DivergenceError(f"{PRODUCER} names rows of {owner} that are none")
        shares[last] = travelling[at] + mask
    return [shares[session.parties[i]] for i in session.party_indices]


def _dealt(
    session: Session, chain: Sequence[str], size: tuple[int, int], rows: int, sigma: Tensor
) -> tuple[Tensor, Tensor]:
    """At the producer: ι for the last party, and the owner's share R[ι] - Z - Σ W."""
    owner, *between, last = chain
    result = (rows, size[1])
    stream = session.stream(PRODUCER, owner, PICKED)
    place, r = permutation(stream, size[0]), stream.ring(size)
    w = torch.zeros(result, dtype=RING.dtype)
    for party in between:
        stream = session.stream(PRODUCER, party, PICKED)
        pi = permutation(stream, size[0])
        place, r = place[pi], r[pi] - stream.ring(size)
        w += stream.ring(result)
    where = torch.empty_like(place)
    where[place] = torch.arange(size[0])
    nobody = sigma < 0
    zeros = torch.arange(size[0] - int(nobody.sum()), size[0])
    iota = where[sigma.long().masked_scatter(nobody, zeros)]
    z = session.stream(PRODUCER, last, PICKED).ring(result)
    return iota.to(torch.int32), r[iota] - z - w


def passed(session: Session, source: str, destination: str, tensor: Tensor | None, count: int) -> Tensor | None:
    """Send so many bytes from one role to another; what arrived, where the destination is hosted."""
    arrived = torch.empty(count, dtype=torch.uint8) if session.hosts(destination) else None
    if count:
        sends, receives = [], []
        if session.hosts(source):
            assert tensor is not None
            sends = [Parcel(source, destination, tensor.contiguous())]
        if arrived is not None:
            receives = [Parcel(source, destination, arrived)]
        session.transport.exchange(sends, receives)
    return arrived
