"""What bits choose: b x for shared bits and numbers, and bits as integers.

    (b₀ ^ b₁) (x₀ + x₁)  =  b₀ x₀ + b₁ x₁ + b₁ (1 - 2 b₀) x₀ + b₀ (1 - 2 b₁) x₁

The last two terms are a bit of one party times a number of the other: see `ole`. Where a factor is one party's alone,
some of them fall away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from tacit.protocols.two_party import ole
from tacit.ring.ring import RING

if TYPE_CHECKING:
    from tacit.protocols.two_party.transfers import Transfers
    from tacit.session.session import Session

__all__ = ["Choice", "selected", "to_ring"]


class Choice(NamedTuple):
    """Contiguous shares of bits and of numbers, and who is alone with them, if anybody is."""

    bits: Sequence[Tensor]
    bits_of: int | None
    numbers: Sequence[Tensor]
    numbers_of: int | None

    @property
    def crossed(self) -> list[int]:
        """The parties whose numbers the other's bits have to choose."""
        return [s for s in (0, 1) if self.numbers_of in (None, s) and self.bits_of in (None, 1 - s)]


def selected(session: Session, transfers: Transfers, choices: Sequence[Choice]) -> list[list[Tensor]]:
    """Shares of b x for each choice. One hop for all, of 8 bytes and a bit in each direction that is needed."""
    here = session.party_indices
    jobs, places = [], []
    own = []
    for k, choice in enumerate(choices):
        shape = choice.numbers[0].shape
        flat = {i: (b.reshape(-1), x.reshape(-1)) for i, b, x in zip(here, choice.bits, choice.numbers, strict=True)}
        own.append({i: b * x for i, (b, x) in flat.items()})
        for sender in choice.crossed:
            bits = flat[1 - sender][0] if 1 - sender in flat else None
            values = None
            if sender in flat:
                b, x = flat[sender]
                values = x if choice.bits_of == 1 - sender else (1 - 2 * b.to(RING.dtype)) * x
            jobs.append(ole.Job(sender, shape.numel(), bits, values))
            places.append(k)
    for k, shares in zip(places, ole.numbers(session, transfers, jobs) if jobs else [], strict=True):
        for i, share in zip(here, shares, strict=True):
            own[k][i] += share
    return [[mine[i].view(c.numbers[0].shape) for i in here] for c, mine in zip(choices, own, strict=True)]


def to_ring(session: Session, transfers: Transfers, parts: Sequence[Tensor]) -> list[Tensor]:
    """Shares of b = b₀ + b₁ - 2 b₀ b₁ as an integer. One hop, of 8 bytes and a bit."""
    flat = dict(zip(session.party_indices, (b.contiguous().view(-1) for b in parts), strict=True))
    product = ole.BitProduct(flat.get(0), flat.get(1), parts[0].numel(), -2)
    (both,) = ole.bit_products(session, transfers, [product])
    return [(b + p).view(part.shape) for b, p, part in zip(flat.values(), both, parts, strict=True)]
