"""Transfers as they are made, in both directions: a stock of them for each, extended by batches that grow.

A way is a direction, named by its sender. Each end that is hosted here has the leaves of its trees, and blocks of 128
bits that nothing has used yet, which are handed out once and in order.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
from torch import Tensor

from tacit.net.transport import Parcel
from tacit.protocols.two_party.transfers import base, leaves
from tacit.protocols.two_party.transfers.kernels import CHUNK, TREES, Trees, at_hand
from tacit.ring.memory import space
from tacit.session.session import Session

__all__ = ["LARGEST", "NO_DELTA", "Raw", "Ways"]

SMALLEST, LARGEST = 1 << 13, 1 << 20
"""Transfers of the first batch, and of the largest; each is twice the one before. Larger: fewer exchanges, each taking
the time of a message; smaller: less that is never used, and less memory (18 bytes each at either end)."""

NO_DELTA = bytes(16)


class Raw(NamedTuple):
    """Transfers at one end, for one use: q and Δ at the sender, t and the choices at the receiver."""

    blocks: Tensor
    """int64 [n, 2]."""
    delta: bytes
    choice: Tensor | None
    """uint8 [n], 0 or 1; None at the sender."""


class _End:
    """One party's end of a way."""

    def __init__(self, party: int, delta: bytes, trees: Trees, *, sends: bool) -> None:
        self.party, self.delta, self.trees, self.sends = party, delta, trees, sends
        self._blocks = torch.empty((0, 2), dtype=torch.int64)
        self._choice = torch.empty(0, dtype=torch.uint8)

    def room(self, count: int) -> tuple[Tensor, Tensor]:
        """Memory for so many more transfers behind those that are left; the choices' is empty at the sender."""
        left = self._blocks.shape[0]
        blocks = space((left + count, 2), torch.int64)
        choice = space((0 if self.sends else left + count,), torch.uint8)
        blocks[:left] = self._blocks
        choice[:left] = self._choice
        self._blocks, self._choice = blocks, choice
        return blocks[left:], choice[left:]

    def take(self, count: int) -> Raw:
        """The next transfers, which nobody gets again."""
        blocks, self._blocks = self._blocks[:count], self._blocks[count:]
        choice, self._choice = self._choice[:count], self._choice[count:]
        if not self._blocks.shape[0]:
            self._blocks, self._choice = self._blocks.clone(), self._choice.clone()  # of nothing: the memory is free
        return Raw(blocks, self.delta, None if self.sends else choice)


class _Way:
    """A direction: its ends here, and what both ends count alike."""

    def __init__(self) -> None:
        self.ends: list[_End] = []
        self.left = 0
        self.batch = SMALLEST
        self.block = 0
        self.used = False

    def more(self, count: int) -> int:
        """How many transfers to make so that `count` are there: a batch, if that is enough."""
        lacking = (count - self.left + CHUNK - 1) // CHUNK * CHUNK
        if lacking <= 0:
            return 0
        size, self.batch = max(lacking, self.batch), min(2 * self.batch, LARGEST)
        return size


class Ways:
    """Both directions of a session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._ways = _Way(), _Way()

    def take(self, sender: int, count: int) -> list[Raw]:
        """Transfers for one use, at most a batch of the largest: one entry for each party hosted here."""
        way, other = self._ways[sender], self._ways[1 - sender]
        lacking = way.more(count)
        if lacking:
            low = other.left < other.batch // 2 and (other.used or not self._begun)
            self._extend(sender, lacking, other.more(other.batch) if low else 0)
        way.used = True
        way.left -= count
        return [end.take(count) for end in way.ends]

    def prepare(self, counts: tuple[int, int]) -> None:
        """See that so many transfers, and at most a batch of the largest, are there for each sender."""
        zero, one = (way.more(min(count, LARGEST)) for way, count in zip(self._ways, counts, strict=True))
        if zero or one:
            self._extend(0, zero, one)

    @property
    def _begun(self) -> bool:
        return bool(self._ways[0].ends)

    def _extend(self, sender: int, count: int, other: int) -> None:
        """Make transfers in both directions, in one exchange."""
        if not self._begun:
            self._set_up()
        names = self._session.parties
        sends, receives, waiting = [], [], []
        for first, size in ((sender, count), (1 - sender, other)):
            if not size:
                continue
            way = self._ways[first]
            for end in way.ends:
                blocks, choice = end.room(size)
                travels = space((TREES - 1, size // 8), torch.uint8)
                parcel = Parcel(names[1 - first], names[first], travels)
                if end.sends:
                    receives.append(parcel)
                    waiting.append((end, way.block, travels, blocks))
                else:
                    end.trees.receive(way.block, blocks, choice, travels)
                    sends.append(parcel)
            self._session.meter.ahead({names[1 - first]: (TREES - 1) * size // 8})
            way.left += size
            way.block += size // 128
        self._session.transport.exchange(sends, receives)
        for end, block, travels, blocks in waiting:
            end.trees.send(end.delta, block, travels, blocks)

    # --- the leaves ------------------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        """Base transfers in both directions: keys one way, answers and sums the other, two exchanges in all."""
        here, names, count = self._session.party_indices, self._session.parties, TREES * 4
        deltas = {party: os.urandom(16) for party in here}
        choosers = {party: base.Chooser(leaves.choices(deltas[party])) for party in here}
        keys = self._swap({party: torch.from_numpy(choosers[party].keys) for party in here}, 2 * count * base.KEY_BYTES)
        answers, known = {}, {}
        for party in here:
            text, secrets = base.answer(keys[party].numpy(), names[1 - party])
            known[party], sums = leaves.grown(secrets)
            answers[party] = torch.cat([torch.from_numpy(text), torch.frombuffer(bytearray(sums), dtype=torch.uint8)])
        size = 2 * count * base.ANSWER_BYTES
        for party, received in self._swap(answers, size + leaves.SUMS_BYTES).items():
            opened = choosers[party].open(received[:size].numpy())
            rest = leaves.all_but_one(deltas[party], opened, received[size:].numpy().tobytes())
            self._ways[party].ends.append(_End(party, deltas[party], at_hand().trees(rest), sends=True))
            self._ways[1 - party].ends.append(_End(party, NO_DELTA, at_hand().trees(known[party]), sends=False))
        for way in self._ways:
            way.ends.sort(key=lambda end: end.party)

    def _swap(self, sent: dict[int, Tensor], size: int) -> dict[int, Tensor]:
        """Each party sends so many bytes to the other."""
        names = self._session.parties
        received = {party: torch.empty(size, dtype=torch.uint8) for party in sent}
        self._session.transport.exchange(
            [Parcel(names[party], names[1 - party], tensor) for party, tensor in sent.items()],
            [Parcel(names[1 - party], names[party], tensor) for party, tensor in received.items()],
        )
        self._session.meter.ahead(dict.fromkeys(names, size))
        return received
