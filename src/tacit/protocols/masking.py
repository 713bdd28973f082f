"""What is open: every secret is opened under a mask at most once, whatever is done with it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import add, xor
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tacit.correlated import selection
from tacit.correlated.dealing import Dealing
from tacit.correlated.masks import BitMask, Mask, Secret
from tacit.correlated.parts import OpenedParts
from tacit.protocols.share import Binary, Facts, Share
from tacit.ring import kernels
from tacit.session.session import Session

__all__ = ["Masking", "Opening", "masked_form", "simple_mask"]

Combine = Callable[[Tensor, Tensor], Tensor]


class Opening(NamedTuple):
    """Something to open: a tensor for each hosted party, its bytes, and how shares combine."""

    tensors: Sequence[Tensor]
    size: int
    combine: Combine


class Pending(NamedTuple):
    """A mask on its way: what has to be opened for it, and what makes it from the opened value."""

    opening: Opening
    finish: Callable[[Tensor | None], Mask | BitMask]


class Masking:
    """Opens secrets under fresh masks, those that are not open yet and belong together in one round."""

    def __init__(self, session: Session, dealing: Dealing) -> None:
        self._session = session
        self._dealing = dealing

    def mask(self, *shares: Share) -> None:
        """Give every share a simple mask. What a share was moved from is opened in its place, if it is no larger."""
        roots: list[Share] = []
        for share in shares:
            if simple_mask(share.facts) is None:
                root = share
                while (origin := root.origin()) is not None:
                    root = origin.parent
                if not any(root is other for other in roots):
                    roots.append(root)
        if not roots:
            return
        pending = [self._begin(root) for root in roots]
        opened = self.open([p.opening for p in pending])
        for root, p, value in zip(roots, pending, opened, strict=True):
            root.facts.mask = p.finish(value)
        for share in shares:
            simple_mask(share.facts)

    def _begin(self, share: Share) -> Pending:
        """Draw a mask for one secret."""
        if isinstance(share, Binary):
            return self._begin_bits(share)
        lineage = share.facts.lineage
        if lineage is not None and lineage.move is not None:
            whole = lineage.parent
            if whole.storage.lasting and whole.facts is lineage.facts:
                return self._begin_part(share, whole, lineage.move)
        secret = Secret(self._dealing.random_ring(share.shape))
        tensors = [t - a for t, a in zip(share.tensors, secret.parts, strict=False)]
        return Pending(Opening(tensors, 8 * share.numel, add), lambda opened: Mask.simple(opened, secret))

    def _begin_bits(self, share: Binary) -> Pending:
        plane, mask = selection.draw_bit_mask(self._dealing, share.shape)
        packed = [kernels.pack_bits(t) for i, t in share.protocol.indexed(share.tensors) if i >= 0]
        tensors = [t.bitwise_xor_(p) for t, p in zip(packed, plane.parts, strict=True)]

        def finish(opened: Tensor | None) -> BitMask:
            if opened is not None:
                mask.opened = kernels.unpack_bits(opened, share.numel).view(share.shape)
            return mask

        return Pending(Opening(tensors, (share.numel + 7) // 8, xor), finish)

    def _begin_part(self, share: Share, whole: Share, move: Callable[[Tensor], Tensor]) -> Pending:
        """Open those elements of a part of lasting data that no part before it has opened."""
        facts = whole.facts
        if facts.parts is None:
            hosted = len(self._session.party_indices)
            facts.parts = OpenedParts(whole.shape, hosted, producer=self._session.hosts_producer)
        books: OpenedParts = facts.parts
        places = books.places(move)
        closed = books.closed(places)
        masks = books.draw(self._dealing, closed)
        tensors = [t.reshape(-1)[closed] - a for t, a in zip(whole.tensors, masks, strict=False)]

        def finish(opened: Tensor | None) -> Mask:
            books.store(closed, opened)
            return books.mask(places)

        return Pending(Opening(tensors, 8 * closed.numel(), add), finish)

    def open(self, openings: Sequence[Opening]) -> list[Tensor | None]:
        """One round: send our shares of everything, receive everybody else's, combine. None where no party is hosted.

        Only for values that are masked by fresh randomness of full width; results leave by `Protocol.reveal`.
        """
        size = sum(o.size for o in openings)
        if not size:
            return [o.tensors[0] if o.tensors else None for o in openings]
        self._session.meter.opening(size)
        indices = self._session.party_indices
        if not indices:
            self._session.check_open()
            return [None] * len(openings)
        if len(openings) == 1:
            sent = [t.contiguous() for t in openings[0].tensors]
            return [fold(openings[0].combine, self._session.gather(sent)[indices[0]])]
        columns = zip(*[o.tensors for o in openings], strict=True)
        sent = [torch.cat([t.contiguous().view(-1).view(torch.uint8) for t in column]) for column in columns]
        rows = [torch.split(row, [o.size for o in openings]) for row in self._session.gather(sent)[indices[0]]]
        result: list[Tensor | None] = []
        for k, opening in enumerate(openings):
            like = opening.tensors[0]
            result.append(fold(opening.combine, [_typed(row[k], like) for row in rows]))
        return result

    def open_bits(self, tensors: Sequence[Tensor], size: int) -> Tensor | None:
        """Open bytes of masked bits, so many for each party."""
        return self.open([Opening(tensors, size, xor)])[0]


def simple_mask(facts: Facts) -> Any:
    """The mask of a content, if it is open: its own or, by its lineage, its parent's."""
    if facts.mask is None and facts.lineage is not None:
        parent = simple_mask(facts.lineage.facts)
        if parent is not None:
            facts.mask = facts.lineage.mask(parent)
    return facts.mask


def masked_form(facts: Facts) -> Mask | None:
    """A masked form of a content, if there is one: its simple mask, or what a truncation left."""
    known: Mask | None = simple_mask(facts)
    if known is not None:
        return known
    lineage = facts.lineage
    if facts.form is None and lineage is not None and lineage.move is not None:
        parent = masked_form(lineage.facts)
        if parent is not None:
            facts.form = parent.map(lineage.move)
    return facts.form


def fold(combine: Combine, rows: Sequence[Tensor]) -> Tensor:
    """Combine the shares of all parties."""
    total = rows[0]
    for row in rows[1:]:
        total = combine(total, row)
    return total


def _typed(piece: Tensor, like: Tensor) -> Tensor:
    """Bytes out of the middle of a message, as a tensor of wider elements."""
    if piece.storage_offset() % 8:
        piece = piece.clone()
    return piece.view(like.dtype).view(like.shape)
