"""Rows of shares in another order, which one party knows: switches that it sets and the other does not see set.

A network of switches makes any order of n wires, n log n of them in stages [BD02]. The holder knows them, and its
parts A and B of the two wires of a switch; the other party, the sender of the transfers, has a and b, its own. If the
switch exchanges the wires, s = 1, what leaves it above is A + a - s (A - B + a - b). The holder takes s (A - B) off by
itself; s (a - b), a bit of one times a number of the other, is T + t by a transfer, as in `ole`:

    holder    (s ? B : A) - T,   (s ? A : B) + T                          sender    a - t,   b + t

*Privacy.* What the sender sees of s is s ^ β, β a choice of a transfer that it has never seen; the holder sees a - b
under the difference of two pads, of which it knows one. Ref: [MS13] section 4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tacit.protocols.two_party import kernels
from tacit.protocols.two_party.exchange import Note, hop
from tacit.protocols.two_party.oblivious.kernels import at_hand
from tacit.protocols.two_party.oblivious.vectors import shared_key
from tacit.protocols.two_party.transfers import Raw, Transfers
from tacit.session.session import Session

__all__ = ["Network", "Switches"]

MOST = 1 << 22
"""Words of switches that two hops do. More: fewer hops; fewer: less memory, some 100 bytes each."""


class Stage(NamedTuple):
    """Switches of one depth, before what is inside of them or behind it."""

    depth: int
    behind: bool
    switches: int


class Network(NamedTuple):
    """Switches for so many wires."""

    wires: int

    def stages(self) -> Iterator[Stage]:
        """All stages, in the order in which wires go through them."""
        sizes, before, behind = Counter({self.wires: 1}), [], []
        for depth in range((self.wires - 1).bit_length() if self.wires else 0):
            before.append(Stage(depth, False, sum(c * (n // 2) for n, c in sizes.items())))
            behind.append(Stage(depth, True, sum(c * (n // 2) for n, c in sizes.items() if n > 2)))
            halves: Counter[int] = Counter()
            for n, c in sizes.items():
                halves[n // 2] += c
                halves[n - n // 2] += c
            sizes = halves
        return (stage for stage in (*before, *reversed(behind)) if stage.switches)

    def pieces(self, most: int) -> Iterator[list[Stage]]:
        """The stages, as many together as have so many switches."""
        some: list[Stage] = []
        for stage in self.stages():
            if some and sum(s.switches for s in some) + stage.switches > most:
                yield some
                some = []
            some.append(stage)
        if some:
            yield some

    @property
    def switches(self) -> int:
        """How many there are."""
        return sum(stage.switches for stage in self.stages())


class Switches:
    """Moves rows by orders of either party."""

    def __init__(self, session: Session, transfers: Transfers) -> None:
        self._session, self._transfers = session, transfers

    def move(self, holder: int, order: Tensor | None, rows: Mapping[int, Tensor], wires: int) -> dict[int, Tensor]:
        """Shares of rows [wires, width] in an order of the holder, int64 [wires]: row i is what was row order[i].

        Cost: for each switch and word 8 bytes, and for each switch a transfer and a bit; two hops for each 2^22 words.
        """
        network = Network(wires)
        bits = None if order is None else at_hand().routed(order, network.switches)
        width = next(iter(rows.values())).shape[1]
        out, first = dict(rows), 0
        for stages in network.pieces(max(MOST // max(width, 1), 1)):
            end = first + sum(stage.switches for stage in stages)
            out = self._passed(holder, None if bits is None else bits[first:end], stages, out)
            first = end
        return out

    def _passed(
        self, holder: int, swaps: Tensor | None, stages: Sequence[Stage], rows: Mapping[int, Tensor]
    ) -> dict[int, Tensor]:
        """What leaves stages whose switches the holder has. Two hops."""
        session, sender, out = self._session, 1 - holder, dict(rows)
        count, width = sum(stage.switches for stage in stages), next(iter(rows.values())).shape[1]
        raws = dict(zip(session.party_indices, self._transfers.correlated(sender, count), strict=True))
        number = self._transfers.next_use() << 32
        opened, message = None, None
        if holder in rows:
            assert swaps is not None
            choice = raws[holder].choice
            assert choice is not None
            opened = kernels.on(swaps).pack_bits(swaps ^ choice)
        (opened,) = hop(session, [Note(holder, ((count + 7) // 8,), torch.uint8, opened)])
        if sender in rows:
            assert opened is not None
            flips = kernels.on(opened).unpack_bits(opened, count)
            message, out[sender] = self._sent(stages, raws[sender], number, flips, rows[sender])
        (message,) = hop(session, [Note(sender, (count, width), torch.int64, message)])
        if holder in rows:
            assert message is not None
            assert swaps is not None
            out[holder] = self._read(stages, raws[holder], number, swaps, message, rows[holder])
        return out

    def _pads(self, blocks: Tensor, number: int, width: int) -> Tensor:
        """Hashes of transfers: [n, width]."""
        tweaks = torch.stack([torch.arange(len(blocks)), torch.zeros(len(blocks), dtype=torch.int64)], dim=1)
        return at_hand().mixed(shared_key(self._session, "switches"), number, blocks.contiguous(), tweaks, width)

    def _sent(self, stages: Sequence[Stage], raw: Raw, number: int, flips: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """At the sender, e = v - (r₁ - r₀) for v = a - b of each switch, and what it has when all are passed."""
        delta = torch.frombuffer(bytearray(raw.delta), dtype=torch.int64)
        zero = self._pads(raw.blocks, number, x.shape[1])
        gap = self._pads(raw.blocks ^ delta, number, x.shape[1]) - zero
        d, first = flips.to(torch.int64)[:, None], 0
        message = torch.empty_like(zero)
        for stage in stages:
            end = first + stage.switches
            v = at_hand().gaps(x, stage.depth, stage.switches, behind=stage.behind)
            torch.sub(v, gap[first:end], out=message[first:end])
            t = d[first:end] * v - (1 - 2 * d[first:end]) * zero[first:end]
            x = at_hand().switched(x, stage.depth, None, t, behind=stage.behind)
            first = end
        return message, x

    def _read(
        self, stages: Sequence[Stage], raw: Raw, number: int, swaps: Tensor, message: Tensor, x: Tensor
    ) -> Tensor:
        """At the holder, (1 - 2d) (β e + r_β) is its part of s v."""
        assert raw.choice is not None
        beta = raw.choice.to(torch.int64)[:, None]
        t = beta * message + self._pads(raw.blocks, number, x.shape[1])
        t *= 1 - 2 * (swaps.to(torch.int64)[:, None] ^ beta)
        first = 0
        for stage in stages:
            end = first + stage.switches
            x = at_hand().switched(x, stage.depth, swaps[first:end], t[first:end], behind=stage.behind)
            first = end
        return x
