"""What is open: every secret is opened under a mask at most once, whatever is done with it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import add
from typing import NamedTuple

import torch
from torch import Tensor

from tacit.net.transport import Parcel
from tacit.protocols.additive import selection
from tacit.protocols.additive.binned import OpenBins
from tacit.protocols.additive.content import Shares, bit_mask, opened, simple_mask
from tacit.protocols.additive.masks import BitMask, Mask, MaskValue, Premask
from tacit.protocols.additive.parts import OpenedParts, draw_mask
from tacit.protocols.additive.scheme import PRODUCER
from tacit.protocols.additive.source.base import Source
from tacit.protocols.binned import Binned
from tacit.protocols.number import Number
from tacit.protocols.remembered import Owned, owned
from tacit.protocols.values import Bits, Value
from tacit.ring import kernels
from tacit.ring.memory import space, xor, xor_into
from tacit.ring.ring import RING
from tacit.session.session import Session

__all__ = ["Masking", "Opening"]

Combine = Callable[[Tensor, Tensor], Tensor]

LARGE_BYTES = 1 << 16
"""A party's bytes in a round from which on tensors travel one by one. Fewer: more frames, of 21 bytes and some 20 µs
each; more: larger tensors are copied together at one end and apart at the other."""


class Opening(NamedTuple):
    """Something to open: a tensor for each hosted party, their shape and bytes, and how shares combine."""

    tensors: Sequence[Tensor]
    shape: torch.Size
    size: int
    combine: Combine
    sender: int | None = None
    """The only party that sends, where it alone knows what is opened; `tensors` is then empty elsewhere."""

    @property
    def dtype(self) -> torch.dtype:
        """Numbers are added up, planes of bits are XORed."""
        return RING.dtype if self.combine is add else torch.uint8


class Pending(NamedTuple):
    """A mask on its way: what has to be opened for it, and what makes it from the opened value."""

    opening: Opening
    finish: Callable[[Tensor | None], Mask | BitMask]


class Masking:
    """Opens secrets under fresh masks, those that are not open yet and belong together in one round."""

    def __init__(self, session: Session, source: Source) -> None:
        self._session = session
        self._source = source

    def open_together(self, *shares: Value) -> None:
        """Give every share a simple mask. What a share was moved from is opened in its place, if it is no larger."""
        self._mask_beside(shares, [])

    def _mask_beside(self, shares: Sequence[Value], others: Sequence[Opening]) -> list[Tensor | None]:
        """The same, and what else is opened in that round."""
        roots: list[Value] = []
        for share in shares:
            if not is_open(share):
                root = _root(share)
                if not any(root is other for other in roots):
                    roots.append(root)
        if not roots and not others:
            return []
        pending = [self._begin(root) for root in roots]
        values = self.open([*(p.opening for p in pending), *others])
        for root, p, value in zip(roots, pending, values, strict=False):
            opened(root.facts).mask = p.finish(value)
        for share in shares:
            is_open(share)  # from now on it is, whatever becomes of what it was moved from
        return values[len(roots) :]

    def _begin(self, share: Value) -> Pending:
        """Draw a mask for one secret."""
        if isinstance(share, Bits):
            return self._begin_bits(share)
        lineage = share.facts.lineage
        if lineage is not None and lineage.move is not None:
            whole = lineage.parent
            if whole.storage.lasting and whole.facts is lineage.facts:
                return self._begin_part(share, whole, lineage.move)
        premask = shares_of(share).keep_premask()
        if premask is not None:
            return self._begin_premasked(share, premask)
        known = owned(share.facts)
        holder = None if known is None else known.party
        secret = MaskValue(draw_mask(self._source, share.shape, holder), holder)
        tensors = self._masked(shares_of(share).true_shares(), known, secret.parts)
        return Pending(
            Opening(tensors, share.shape, 8 * share.numel, add, holder), lambda opened: Mask.simple(opened, secret)
        )

    def _begin_premasked(self, share: Value, premask: Premask) -> Pending:
        """Open shares under the mask that is in them, or that and another draw, if it would not be fresh."""
        tensors = shares_of(share).held if self._session.party_indices else []
        if not premask.fresh:
            t = self._source.random_ring(share.shape)
            tensors = [x - own for x, own in zip(tensors, t.parts, strict=True)]
            premask = premask.renewed(t, share.shape)
        premask.spend()
        opening = Opening(tensors, share.shape, 8 * share.numel, add)
        return Pending(opening, lambda opened: Mask.simple(opened, premask.secret))

    def open_bins(self, tables: Sequence[Binned], w: Number) -> Mask:
        """Open w [rows, m] under a mask of which the producer keeps the parts, and tables that are not open yet.

        One round, if anything is left to open. Another mask that w may have does not count, and stays.
        """
        indices = self._session.party_indices
        closed = [table for table in tables if table.scheme is None]
        for table in closed:
            table.scheme = OpenBins(self._source, table, indices)
        openings = []
        root, mask = _root(w), simple_mask(w.facts)
        if mask is None or mask.secret.shares is None:
            root = root if mask is None else w
            secret = MaskValue(self._source.parted_ring(root.shape))
            tensors = self._masked(shares_of(root).true_shares(), None, secret.parts)
            openings.append(Opening(tensors, root.shape, 8 * root.numel, add))
        for table in closed:
            shape = torch.Size((table.rows, table.edges))
            sent = [table.scheme.masked()] if table.owner in indices else []
            openings.append(Opening(sent, shape, 8 * shape.numel(), add, table.owner))
        values = self.open(openings) if openings else []
        for table, value in zip(closed, values[len(values) - len(closed) :], strict=True):
            table.scheme.take(value, indices)
        if len(values) == len(closed):
            assert mask is not None
            return mask
        fresh = Mask.simple(values[0], secret)
        if mask is not None:
            return fresh
        opened(root.facts).mask = fresh
        found = simple_mask(w.facts)
        assert found is not None
        return found

    def _masked(self, tensors: Sequence[Tensor], known: Owned | None, masks: Sequence[Tensor]) -> list[Tensor]:
        """What is opened of x under a mask a: every party's share of x - a, or its owner's x - a."""
        if known is None:
            return [t - a for t, a in zip(tensors, masks, strict=False)]
        if known.value is None:
            return []
        return [known.value - masks[self._session.party_indices.index(known.party)]]

    def _begin_bits(self, share: Bits) -> Pending:
        plane, mask = selection.draw_bit_mask(self._source, share.shape)
        packed = [kernels.on(t).pack_bits(t) for i, t in share.protocol.indexed(shares_of(share).held) if i >= 0]
        tensors = [xor_into(t, p) for t, p in zip(packed, plane.parts, strict=True)]

        def finish(opened: Tensor | None) -> BitMask:
            if opened is not None:
                mask.opened = kernels.on(opened).unpack_bits(opened, share.numel).view(share.shape)
            return mask

        return Pending(Opening(tensors, torch.Size(((share.numel + 7) // 8,)), (share.numel + 7) // 8, xor), finish)

    def _begin_part(self, share: Value, whole: Value, move: Callable[[Tensor], Tensor]) -> Pending:
        """Open those elements of a part of lasting data that no part before it has opened."""
        known = owned(whole.facts)
        holder = None if known is None else known.party
        kept = opened(whole.facts)
        if kept.parts is None:
            hosted = len(self._session.party_indices)
            kept.parts = OpenedParts(whole.shape, hosted, holder, producer=self._session.hosts(PRODUCER))
        books = kept.parts
        places = books.places(move)
        closed = books.closed(places)
        masks = books.draw(self._source, closed)
        if known is not None and known.value is not None:
            known = Owned(known.party, known.value.reshape(-1)[closed.at])
        held = shares_of(whole).true_shares()
        tensors = self._masked([t.reshape(-1)[closed.at] for t in held] if masks else [], known, masks)

        def finish(opened: Tensor | None) -> Mask:
            books.store(closed, opened)
            return books.mask(places)

        return Pending(Opening(tensors, closed.shape, 8 * closed.shape.numel(), add, holder), finish)

    def open(self, openings: Sequence[Opening]) -> list[Tensor | None]:
        """One round: send our shares of everything, receive everybody else's, combine. None where no party is hosted.

        Only for values that are masked by fresh randomness of full width; results leave by `Protocol.reveal`.
        """
        parties = range(len(self._session.parties))
        sizes = [sum(o.size for o in openings if o.sender in (None, party)) for party in parties]
        if not any(sizes):
            return [o.tensors[0] if o.tensors else self._nothing(o) for o in openings]
        peers = len(parties) - 1
        self._session.meter.round({self._session.parties[p]: peers * sizes[p] for p in parties})
        indices = self._session.party_indices
        if not indices:
            self._session.check_open()
            return [None] * len(openings)
        if max(sizes) >= LARGE_BYTES:
            return self._open_apart(openings)
        if len(openings) == 1 and openings[0].sender is None:
            sent = [t.contiguous() for t in openings[0].tensors]
            return [fold(openings[0].combine, self._session.gather(sent)[indices[0]])]
        rows = self._session.gather([self._payload(openings, k) for k in range(len(indices))], sizes)[indices[0]]
        return self._combined(openings, rows)

    def _open_apart(self, openings: Sequence[Opening]) -> list[Tensor | None]:
        """A round of large tensors: each leaves from where it is, and is added up where it arrives."""
        session = self._session
        session.check_open()
        names, indices = session.parties, session.party_indices
        sends, arrivals = [], []
        rows: list[list[Tensor]] = []
        for place, here in enumerate(indices):
            for opening in openings:
                row: list[Tensor] = []
                for other, peer in enumerate(names):
                    if other != here and opening.sender in (None, other):
                        row.append(space(opening.shape, opening.dtype))
                        arrivals.append(Parcel(peer, names[here], row[-1]))
                if opening.sender in (None, here):
                    mine = opening.tensors[place if opening.sender is None else 0].contiguous()
                    row.append(mine)
                    sends += [Parcel(names[here], peer, mine) for peer in names if peer != names[here]]
                rows.append(row)
        session.transport.exchange(sends, arrivals)
        return [_gathered(o.combine, row) for o, row in zip(openings, rows[: len(openings)], strict=True)]

    def _nothing(self, opening: Opening) -> Tensor | None:
        """An opened value of no elements, at a party that has no share of it."""
        return torch.empty(opening.shape, dtype=RING.dtype) if self._session.party_indices else None

    def _payload(self, openings: Sequence[Opening], place: int) -> Tensor:
        """All that one hosted party sends in a round, as bytes."""
        index = self._session.party_indices[place]
        pieces = [o.tensors[place if o.sender is None else 0] for o in openings if o.sender in (None, index)]
        flat = [t.contiguous().view(-1).view(torch.uint8) for t in pieces]
        return torch.cat(flat) if flat else torch.empty(0, dtype=torch.uint8)

    def _combined(self, openings: Sequence[Opening], rows: Sequence[Tensor]) -> list[Tensor | None]:
        """The opened values, from the bytes of all parties."""
        at = [0] * len(rows)
        result: list[Tensor | None] = []
        for opening in openings:
            pieces = []
            for party, row in enumerate(rows):
                if opening.sender in (None, party):
                    pieces.append(_typed(row[at[party] : at[party] + opening.size], opening))
                    at[party] += opening.size
            result.append(fold(opening.combine, pieces))
        return result

    def open_bits(self, tensors: Sequence[Tensor], size: int, *beside: Value) -> Tensor | None:
        """Open bytes of masked bits, so many for each party, and mask shares in the same round."""
        opening = Opening(tensors, tensors[0].shape if tensors else torch.Size((size,)), size, xor)
        return self._mask_beside(beside, [opening])[0]


def shares_of(value: Value) -> Shares:
    """The content of a value of this scheme."""
    content = value.content
    assert isinstance(content, Shares)
    return content


def _root(value: Value) -> Value:
    """What a value was moved from, as long as that is no larger."""
    while (origin := value.origin()) is not None:
        value = origin.parent
    return value


def is_open(value: Value) -> bool:
    """Whether its simple mask is known, if only from what it was moved from."""
    return (bit_mask if isinstance(value, Bits) else simple_mask)(value.facts) is not None


def fold(combine: Combine, rows: Sequence[Tensor]) -> Tensor:
    """Combine the shares of all parties."""
    total = rows[0]
    for row in rows[1:]:
        total = combine(total, row)
    return total


def _gathered(combine: Combine, row: Sequence[Tensor]) -> Tensor:
    """Combine what arrived, in place, with what is here, which stands last and stays."""
    total = row[0]
    for other in row[1:]:
        if combine is add:
            total += other
        else:
            total ^= other
    return total


def _typed(piece: Tensor, opening: Opening) -> Tensor:
    """Bytes out of the middle of a message, as what they are."""
    if piece.storage_offset() % 8:
        piece = piece.clone()
    return piece.view(opening.dtype).view(opening.shape)
