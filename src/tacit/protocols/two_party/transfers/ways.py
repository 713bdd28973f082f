"""Transfers as they are made, in both directions: a stock of them for each, extended by batches that grow.

A way is a direction, named by its sender. Each end that is hosted here has the leaves of its trees, and blocks of 128
bits that nothing has used yet, which are handed out once and in order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from tacit.net.transport import Parcel
from tacit.protocols.two_party.transfers import base, leaves
from tacit.protocols.two_party.transfers.kernels import CHUNK, QUICK, Form, Trees, at_hand
from tacit.ring.memory import space
from tacit.session.session import Session

__all__ = ["GROUP", "LARGEST", "NO_DELTA", "PREPARED", "Fresh", "Raw", "Ways"]

SMALLEST, LARGEST = 1 << 13, 1 << 20
"""Transfers of the first batch, and of the largest; each is twice the one before. Larger: fewer exchanges, each taking
the time of a message; smaller: less that is never used, and less memory (18 bytes each at either end)."""

PREPARED = 1 << 22
"""Transfers of each way that are made before they are asked for, at most: 90 MB at the receiver, 80 at the sender."""

GROUP = 1 << 18
"""Transfers that are made at once for one use. More: fewer messages, of 1 MB; fewer: whoever sends them waits less for
the first ones."""

BLOCK = 128
"""Transfers for which a block of each key stream is used."""

NO_DELTA = bytes(16)


class Raw(NamedTuple):
    """Transfers at one end, for one use: q and Δ at the sender, t and the choices at the receiver."""

    blocks: Tensor
    """int64 [n, 2]."""
    delta: bytes
    choice: Tensor | None
    """uint8 [n], 0 or 1; None at the sender."""


class Fresh(NamedTuple):
    """Transfers that are wanted for one use at once."""

    sender: int
    size: int
    piece: int
    """How many are made and used at a time: a divisor of `size`."""
    use: Callable[[int, int, Raw], None]
    """Gets the place of an entry of `take`, the place of the first transfer, and transfers in memory used again."""


class _End:
    """One party's end of a way."""

    def __init__(self, party: int, delta: bytes, trees: Trees, *, sends: bool) -> None:
        self.party, self.delta, self.trees, self.sends = party, delta, trees, sends
        self._blocks = torch.empty((0, 2), dtype=torch.int64)
        self._choice = torch.empty(0, dtype=torch.uint8)

    def room(self, count: int) -> tuple[Tensor, Tensor]:
        """Memory for what is left and so many more transfers behind; the choices' is empty at the sender."""
        left = self._blocks.shape[0]
        blocks = space((left + count, 2), torch.int64)
        choice = space((0 if self.sends else left + count,), torch.uint8)
        blocks[:left] = self._blocks
        choice[:left] = self._choice
        return blocks, choice

    def keep(self, blocks: Tensor, choice: Tensor) -> None:
        """Have what was left, and more, from now on."""
        self._blocks, self._choice = blocks, choice

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

    def next_blocks(self, count: int) -> int:
        """Where the key streams' blocks for so many transfers begin, which are used once, whatever comes of them."""
        block, self.block = self.block, self.block + count // BLOCK
        return block

    def more(self, count: int) -> int:
        """How many transfers to make so that `count` are there: a batch, if that is enough."""
        lacking = (count - self.left + CHUNK - 1) // CHUNK * CHUNK
        if lacking <= 0:
            return 0
        size, self.batch = max(lacking, self.batch), min(2 * self.batch, LARGEST)
        return size


class Ways:
    """Both directions of a session."""

    def __init__(self, session: Session, form: Form = QUICK) -> None:
        self._session, self._form = session, form
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

    def left(self, sender: int) -> int:
        """How many transfers are there that nothing has used."""
        return self._ways[sender].left

    def fresh(self, groups: Sequence[Fresh]) -> None:
        """Make transfers for one use at once, past those that are left: of both ways at once, if both are wanted.

        Each goes from where it is made to where it is hashed in the cache of a core: of 10^6 a transfer takes 3.7 ns
        so, and 5 to 7 by way of the memory. Who receives sends first, and waits for nothing.
        """
        if not self._begun:
            self._set_up()
        names, transport = self._session.parties, self._session.links
        waiting = []
        for group in groups:
            way, travelling = self._ways[group.sender], (names[1 - group.sender], names[group.sender])
            block = way.next_blocks(group.size)
            for place, end in enumerate(way.ends):
                travels = self._travelling(group.size)
                if end.sends:
                    waiting.append((group, end, place, block, Parcel(*travelling, travels)))
                else:
                    _used(end, place, block, travels, group)
                    transport.send(Parcel(*travelling, travels))
            way.used = True
            self._session.meter.ahead({travelling[0]: (self._form.trees - 1) * group.size // 8})
        for group, end, place, block, parcel in waiting:
            transport.receive(parcel)
            _used(end, place, block, parcel.tensor, group)

    def prepare(self, counts: tuple[int, int]) -> None:
        """See that so many transfers, and at most `PREPARED`, are there for each sender."""
        zero, one = (way.more(min(count, PREPARED)) for way, count in zip(self._ways, counts, strict=True))
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
        sends, receives, waiting, made = [], [], [], []
        for first, size in ((sender, count), (1 - sender, other)):
            if not size:
                continue
            way = self._ways[first]
            block = way.next_blocks(size)
            for end in way.ends:
                blocks, choice = end.room(size)
                travels = self._travelling(size)
                parcel = Parcel(names[1 - first], names[first], travels)
                if end.sends:
                    receives.append(parcel)
                    waiting.append((end, block, travels, blocks[-size:]))
                else:
                    end.trees.receive(block, blocks[-size:], choice[-size:], travels)
                    sends.append(parcel)
                made.append((end, blocks, choice))
            self._session.meter.ahead({names[1 - first]: (self._form.trees - 1) * size // 8})
        self._session.links.exchange(sends, receives)
        for end, block, travels, q in waiting:
            end.trees.send(end.delta, block, travels, q)
        for end, blocks, choice in made:
            end.keep(blocks, choice)
        self._ways[sender].left += count
        self._ways[1 - sender].left += other

    # --- the leaves ------------------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        """Base transfers in both directions: keys one way, answers and sums the other, two exchanges in all."""
        here, names, count = self._session.party_indices, self._session.parties, 128
        steps = _AT_HOME if len(here) == 2 else _APART
        deltas: dict[int, bytes] = {}
        choosers: dict[int, base.Chooser] = {}
        for party in here:
            deltas[party], choosers[party] = steps.choose(self._form, party)
        keys = self._swap({party: torch.from_numpy(choosers[party].keys) for party in here}, 2 * count * base.KEY_BYTES)
        answers, known = {}, {}
        for party in here:
            text, secrets = steps.answer(keys[party].numpy().tobytes(), names[1 - party])
            known[party], sums = leaves.grown(self._form, secrets)
            answers[party] = torch.cat(
                [
                    torch.frombuffer(bytearray(text), dtype=torch.uint8),
                    torch.frombuffer(bytearray(sums), dtype=torch.uint8),
                ]
            )
        size = 2 * count * base.ANSWER_BYTES
        for party, received in self._swap(answers, size + leaves.SUMS_BYTES).items():
            opened = steps.open(choosers[party], received[:size].numpy().tobytes())
            rest = leaves.all_but_one(self._form, deltas[party], opened, received[size:].numpy().tobytes())
            self._ways[party].ends.append(_End(party, deltas[party], at_hand().trees(self._form, rest), sends=True))
            self._ways[1 - party].ends.append(
                _End(party, NO_DELTA, at_hand().trees(self._form, known[party]), sends=False)
            )
        for way in self._ways:
            way.ends.sort(key=lambda end: end.party)

    def _swap(self, sent: dict[int, Tensor], size: int) -> dict[int, Tensor]:
        """Each party sends so many bytes to the other."""
        names = self._session.parties
        received = {party: torch.empty(size, dtype=torch.uint8) for party in sent}
        self._session.links.exchange(
            [Parcel(names[party], names[1 - party], tensor) for party, tensor in sent.items()],
            [Parcel(names[1 - party], names[party], tensor) for party, tensor in received.items()],
        )
        self._session.meter.ahead(dict.fromkeys(names, size))
        return received

    def _travelling(self, count: int) -> Tensor:
        """Memory for what the receiver of so many transfers sends."""
        return space((count // CHUNK, self._form.trees - 1, CHUNK // 8), torch.uint8)


def _used(end: _End, place: int, block: int, travels: Tensor, group: Fresh) -> None:
    """Make the transfers of one end piece by piece, and use each up before the next; on threads, if there are some."""
    size, use = group.piece, group.use
    inference = torch.is_inference_mode_enabled()  # which each thread has its own

    def some(pieces: range) -> None:
        with torch.inference_mode(inference):
            blocks, choice = space((size, 2), torch.int64), space((0 if end.sends else size,), torch.uint8)
            for at in pieces:
                part = travels[at // CHUNK : (at + size) // CHUNK]
                if end.sends:
                    end.trees.send(end.delta, block + at // BLOCK, part, blocks)
                else:
                    end.trees.receive(block + at // BLOCK, blocks, choice, part)
                use(place, at, Raw(blocks, end.delta, None if end.sends else choice))

    pieces = range(0, CHUNK * travels.shape[0], size)
    threads = min(torch.get_num_threads(), len(pieces))
    if threads <= 1:
        some(pieces)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(some, (pieces[k::threads] for k in range(threads))))


def _choosing(form: Form, party: int) -> tuple[bytes, base.Chooser]:
    delta = os.urandom(16)
    return delta, base.Chooser(leaves.choices(form, delta))


class _Steps(NamedTuple):
    """The steps of base transfers."""

    choose: Callable[[Form, int], tuple[bytes, base.Chooser]]
    answer: Callable[[bytes, str], tuple[bytes, list[tuple[bytes, bytes]]]]
    open: Callable[[base.Chooser, bytes], list[bytes]]


_APART = _Steps(_choosing, base.answer, base.Chooser.open)
_AT_HOME = _Steps(lru_cache(4)(_APART.choose), lru_cache(4)(_APART.answer), lru_cache(4)(_APART.open))
"""Where both ends are in one process, which hides nothing from itself, they remember: a program of many sessions, a
test above all, computes them once. What travels, travels as ever, and the leaves of each session are its own."""
