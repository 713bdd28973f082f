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
from tacit.protocols.additive.content import Shares, open_mask, opened, simple_mask
from tacit.protocols.additive.io import LARGE_BYTES, given
from tacit.protocols.additive.masks import BitMask, Mask, MaskValue, Premask
from tacit.protocols.additive.parts import OpenedParts
from tacit.protocols.additive.scheme import PRODUCER
from tacit.protocols.additive.source.base import Source
from tacit.protocols.binned import Binned
from tacit.protocols.number import Number
from tacit.protocols.values import Bits, Value
from tacit.ring import kernels
from tacit.ring.memory import space, xor, xor_into
from tacit.ring.ring import RING
from tacit.session.session import Session

__all__ = ["Masking", "Opening"]

Combine = Callable[[Tensor, Tensor], Tensor]


class Opening(NamedTuple):
    """Something to open: a tensor for each hosted party, their shape and bytes, and how shares combine."""

    tensors: Sequence[Tensor]
    shape: torch.Size
    size: int
    combine: Combine

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
        self.waiting: Sequence[Value] = ()
        """What the next round opens as well; see `Protocol.beside`."""

    def open_together(self, *shares: Value) -> None:
        """Give every share a simple mask. What a share was moved from is opened in its place, if it is no larger."""
        self._mask_beside(shares, [])

    def _mask_beside(self, shares: Sequence[Value], others: Sequence[Opening]) -> list[Tensor | None]:
        """The same, and what else is opened in that round."""
        roots = _closed(shares)
        if not roots and not others:
            return []
        if self.waiting:
            shares, self.waiting = (*shares, *self.waiting), ()
            roots = _closed(shares)
        pending = [self._begin(root) for root in roots]
        values = self.open([*(p.opening for p in pending), *others])
        for root, p, value in zip(roots, pending, values, strict=False):
            opened(root.facts).take(p.finish(value))
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
        secret = MaskValue(self._source.random_ring(share.shape))
        tensors = [t - a for t, a in zip(shares_of(share).true_shares(), secret.parts, strict=False)]
        opening = Opening(tensors, share.shape, 8 * share.numel, add)
        return Pending(opening, lambda opened: Mask.simple(opened, secret))

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
            tensors = [t - b for t, b in zip(shares_of(root).true_shares(), secret.parts, strict=False)]
            openings.append(Opening(tensors, root.shape, 8 * root.numel, add))
        for table in closed:
            shape = torch.Size((table.rows, table.edges))
            sent = table.scheme.masked() if table.owner in indices else None
            value = given(self._session, sent, table.owner, shape, RING.dtype, beside=bool(openings))
            table.scheme.take(value, indices)
        if not openings:
            assert mask is not None
            return mask
        (value,) = self.open(openings)
        fresh = Mask.simple(value, secret)
        if mask is not None:
            return fresh
        opened(root.facts).mask = fresh
        found = simple_mask(w.facts)
        assert found is not None
        return found

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
        kept = opened(whole.facts)
        if kept.parts is None:
            hosted = len(self._session.party_indices)
            kept.parts = OpenedParts(whole.shape, hosted, producer=self._session.hosts(PRODUCER))
        books = kept.parts
        places = books.places(move)
        closed = books.closed(places)
        masks = books.draw(self._source, closed)
        held = shares_of(whole).true_shares()
        tensors = [t.reshape(-1)[closed.at] - a for t, a in zip(held, masks, strict=False)]

        def finish(opened: Tensor | None) -> Mask:
            books.store(closed, opened)
            return books.mask(places)

        return Pending(Opening(tensors, closed.shape, 8 * closed.shape.numel(), add), finish)

    def open(self, openings: Sequence[Opening]) -> list[Tensor | None]:
        """One round: open everything, and let the parties compare what they hold; see `Session.witness`.

        Only for values that are masked by fresh randomness of full width; results leave by `Protocol.reveal`.
        """
        values = self._opened(openings)
        self._session.witness(*values)
        return values

    def _opened(self, openings: Sequence[Opening]) -> list[Tensor | None]:
        """Send our shares of everything, receive everybody else's, combine. None where no party is hosted."""
        size = sum(o.size for o in openings)
        if not size:
            return [o.tensors[0] if o.tensors else None for o in openings]
        self._session.meter.opening(size)
        indices = self._session.party_indices
        if not indices:
            self._session.check_open()
            return [None] * len(openings)
        if size >= LARGE_BYTES:
            return self._open_apart(openings)
        if len(openings) == 1:
            sent = [t.contiguous() for t in openings[0].tensors]
            return [fold(openings[0].combine, self._session.gather(sent)[indices[0]])]
        rows = self._session.gather([_payload(openings, k) for k in range(len(indices))])[indices[0]]
        return _combined(openings, rows)

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
                    if other != here:
                        row.append(space(opening.shape, opening.dtype))
                        arrivals.append(Parcel(peer, names[here], row[-1]))
                mine = opening.tensors[place].contiguous()
                row.append(mine)
                sends += [Parcel(names[here], peer, mine) for peer in names if peer != names[here]]
                rows.append(row)
        session.transport.exchange(sends, arrivals)
        return [_gathered(o.combine, row) for o, row in zip(openings, rows[: len(openings)], strict=True)]

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
    """What a value was moved from, as long as that is no larger, or is cut into parts that all are to be opened.

    So the projections of attention that one product gives take one round, whichever of them is asked for first.
    """
    while (lineage := value.facts.lineage) is not None and lineage.parent.facts is lineage.facts:
        if lineage.parent.numel > value.numel and not lineage.cut:
            break
        value = lineage.parent
    return value


def is_open(value: Value) -> bool:
    """Whether its simple mask is known, if only from what it was moved from."""
    return open_mask(value.facts) is not None


def _closed(shares: Sequence[Value]) -> list[Value]:
    """What has to be opened for all of these to be open."""
    roots: dict[int, Value] = {}
    for share in shares:
        if not is_open(share):
            root = _root(share)
            roots[id(root)] = root
    return list(roots.values())


def _payload(openings: Sequence[Opening], place: int) -> Tensor:
    """All that one hosted party sends in a round: ring elements, or bytes where bits are among them."""
    flat = [o.tensors[place].reshape(-1) for o in openings]
    return torch.cat(flat if _added(openings) else [t.view(torch.uint8) for t in flat])


def _combined(openings: Sequence[Opening], rows: Sequence[Tensor]) -> list[Tensor | None]:
    """The opened values, from the payloads of all parties."""
    if _added(openings):
        pieces = fold(add, rows).split_with_sizes([o.shape.numel() for o in openings])
        return [piece.view(o.shape) for piece, o in zip(pieces, openings, strict=True)]
    at = 0
    result: list[Tensor | None] = []
    for opening in openings:
        result.append(fold(opening.combine, [_typed(row[at : at + opening.size], opening) for row in rows]))
        at += opening.size
    return result


def _added(openings: Sequence[Opening]) -> bool:
    """Whether all of them are numbers."""
    return all(o.combine is add for o in openings)


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
