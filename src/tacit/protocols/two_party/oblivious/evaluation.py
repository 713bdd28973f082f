"""A pseudorandom function of which one party has the key, and the other its values at its own keys, and nothing else.

The receiver fills a table P in which each of its keys x finds the word H(x) that belongs to it, and opens P + a for a
vector b = c + a Δ. The sender makes K = b + (P + a) Δ, which is c + P Δ, and both look up, in K and in c:

    F(y)  =  K(y) + H(y) Δ  =  c(y) + (P(y) + H(y)) Δ                    F(x)  =  c(x)

For a key y that is not among the receiver's, P(y) is not H(y) (but with probability 2^-64), and F(y) is a multiple of
Δ, unknown to the receiver, beside what it knows: a hash of it is uniform. The sender sees P + a alone, and a is
uniform, by learning parity with noise. Ref: [RR22] section 4, [RS21]; words of 64 bits do where nobody cheats.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tacit.errors import TacitError
from tacit.protocols.two_party.exchange import Note, hop
from tacit.protocols.two_party.oblivious.kernels import at_hand
from tacit.protocols.two_party.oblivious.tables import KEY_BYTES, Shape, keys_of
from tacit.protocols.two_party.oblivious.vectors import Vector, Vectors, shared_key
from tacit.protocols.two_party.transfers import Transfers
from tacit.session.session import Session

__all__ = ["Evaluated", "Functions", "filled"]

ATTEMPTS = 16
"""Tables that are tried. One fails with probability below 2^-40, unless two keys are alike."""


class Evaluated(NamedTuple):
    """What a party has of a function at its keys."""

    keys: Tensor
    """int64 [n, 4]."""
    blocks: Tensor
    """F, int64 [n, 2]: nothing but hashes of it may leave."""
    hash_key: bytes

    def hashes(self, number: int, width: int = 2) -> Tensor:
        """Values that are uniform to who does not have them, int64 [n, width]; others for each 2^32 of `number`."""
        return at_hand().mixed(self.hash_key, number, self.blocks, self.keys, width)


class Functions:
    """Evaluates functions of the two parties of a session."""

    def __init__(self, session: Session, transfers: Transfers) -> None:
        self._session = session
        self._vectors = Vectors(session, transfers)

    def evaluate(self, receiver: int, count: int, digests: Mapping[int, Tensor]) -> dict[int, Evaluated]:
        """A function that is drawn here, at the digests (int64 [n, 2], no two alike) of each party of this process.

        `count` is how many the receiver has. One hop, of 8 bytes a cell.
        """
        session = self._session
        shape = Shape.of(count)
        ends = dict(zip(session.party_indices, self._vectors.make(1 - receiver, shape.cells), strict=True))
        opened, keys = None, None
        key = b""
        if receiver in ends:
            factors = ends[receiver].factors
            assert factors is not None
            table = torch.zeros((shape.cells, 1), dtype=torch.int64)
            key, keys = filled(shape, digests[receiver], None, table)
            opened = factors.bitwise_xor_(table.view(-1))
        public = None if keys is None else torch.frombuffer(bytearray(key), dtype=torch.uint8)
        notes = [
            Note(receiver, (KEY_BYTES,), torch.uint8, public),
            Note(receiver, (shape.cells,), torch.int64, opened),
        ]
        arrived = hop(session, notes)
        out: dict[int, Evaluated] = {}
        for index, end in ends.items():
            mine = keys if index == receiver else _asked(shape, end, digests[index], arrived)
            assert mine is not None
            found = shape.decode(mine, end.blocks)
            if index != receiver:
                at_hand().add_scaled(mine[:, 0].contiguous(), end.delta, found)
            out[index] = Evaluated(mine, found, shared_key(session, "hash of a function"))
        return out


def _asked(shape: Shape, end: Vector, digests: Tensor, arrived: Sequence[Tensor | None]) -> Tensor:
    """At the sender: its keys, once its vector has become K."""
    key, opened = arrived
    assert key is not None
    assert opened is not None
    at_hand().add_scaled(opened, end.delta, end.blocks)
    return keys_of(digests, bytes(key.tolist()))


def filled(shape: Shape, digests: Tensor, values: Tensor | None, table: Tensor) -> tuple[bytes, Tensor]:
    """Fill a table so that each digest finds its value, the first word of its key at first.

    Returns the key that makes keys of digests, which is drawn anew until it can be filled, and these keys.
    """
    for _ in range(ATTEMPTS):
        key = os.urandom(KEY_BYTES)
        keys = keys_of(digests, key)
        if shape.encode(keys, keys[:, :1].contiguous() if values is None else values, table):
            return key, keys
    raise TacitError(
        f"a table of {len(digests)} keys could not be filled in {ATTEMPTS} attempts: two of them are alike"
    )
