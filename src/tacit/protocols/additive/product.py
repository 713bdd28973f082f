"""Products of masked secrets [Bea91], whose results are masked from their beginning.

(E + a) ∘ (F + b)  =  E∘F + E∘[b] + [a]∘F + a∘b          ∘ any bilinear operation

Beaver's parties hold shares of a∘b, which the producer deals. Here each of them takes a random share of t from its key
stream instead, for which nothing is sent, and the sum of all shares is not z but

    z - a∘b + t  =  z - m        with m = a∘b - t, known to the producer alone.

t is uniform, and no party knows it; so m is a mask of z that nobody had to draw (`Premask`). What follows most
products, a truncation or a comparison, opens z under a mask, and m will do. Whatever needs z itself has [m] dealt: the
8 bytes that [a∘b] would have cost.

*Privacy.* Let party j be honest and all other parties collude. Their own parts of t tell them nothing of j's, which is
uniform; so j's share of z - m, the only message of an opening, is uniform given all that they hold, but for the sum,
z - m, that it completes: the opening shows them z - m and nothing else. And m = a∘b - t is uniform, and independent of
a and b, for t is drawn after them and used for nothing else. `Premask` keeps count of that.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.protocols.additive import kernels
from tacit.protocols.additive.masks import Draw, Form, Mask, MaskValue, Premask
from tacit.protocols.additive.source.base import Bilinear, Dealt, Source
from tacit.ring.kernels import matmul
from tacit.ring.ring import RING

__all__ = ["Product", "bilinear", "elementwise", "premasked"]

Product = tuple[list[Tensor], torch.Size, Premask]
"""Shares of z - m, their shape, and m."""


def bilinear(source: Source, x: Mask, y: Mask, op: Bilinear, indices: Sequence[int]) -> Product:
    """op(x, y), premasked, from two simple masks. Producer: no bytes.

    A party computes two operations, for party 0 joins E∘F to either of them; the producer computes one. The share of a
    mask that another party holds alone is zero, so its operation falls away: beside the owner of one operand, others
    compute one; if two parties own the operands, so do they.
    """
    x.deal(source)
    y.deal(source)
    a, b, E, F = x.secret, y.secret, x.opened, y.opened  # noqa: N806 - the letters of the formula
    products: list[Tensor | None] = []
    for k, index in enumerate(indices):
        assert E is not None
        assert F is not None
        products.append(_terms(index, k, x, y, op))
    shape = next((z.shape for z in products if z is not None), None)
    if shape is None and E is not None and F is not None:  # a third party that owns neither operand
        shape = op(E.to("meta"), F.to("meta")).shape
    return premasked(*source.bilinear_product(products, a, b, op, shape), shape)


def _terms(index: int, k: int, x: Mask, y: Mask, op: Bilinear) -> Tensor | None:
    """What one party, hosted at a place, makes of what it has: E∘[b] + [a]∘F, and E∘F at the first.

    An owner of one operand knows it as a whole, of which its mask would have to be worked out:

        E∘b + [a]∘F  =  E∘y + ([a] - E)∘F        y = F + b
    """
    a, b, E, F = x.secret, y.secret, x.opened, y.opened  # noqa: N806 - the letters of the formula
    assert E is not None
    assert F is not None
    left, right = (v.known(k, short=op is matmul) for v in (x, y))
    if index == 0 and not b.known_to(index):
        if left is None and a.known_to(index):
            left = E + a.part(k)
        return op(E if left is None else left, F)
    z: Tensor | None = None
    if right is not None and (index == 0 or a.known_to(index)):
        z = op(E, right)
        return z.add_(op(a.part(k) if index == 0 else a.part(k) - E, F)) if a.known_to(index) else z
    if right is not None:  # x is another owner's
        z = _of_difference(E, right, F, op)
    elif index == 0 or b.known_to(index):
        z = op(E, b.part(k) + F if index == 0 else b.part(k))
    if a.known_to(index):
        other = op(a.part(k), F)
        z = other if z is None else z.add_(other)
    return z


PIECE = 1 << 20
"""Elements of a mask that are worked out at a time: 8 MiB. More: fewer calls; fewer: less memory."""


def _of_difference(x: Tensor, y: Tensor, f: Tensor, op: Bilinear) -> Tensor:
    """op(x, y - f), for a matrix product piece by piece: the difference of a large model's weights is large."""
    if op is not matmul or y.dim() != 2 or y.numel() <= PIECE:
        return op(x, y - f)
    rows, columns = y.shape
    step = max(1, PIECE // min(rows, columns))
    if rows <= columns:
        return torch.cat([op(x, v - g) for v, g in zip(y.split(step, 1), f.split(step, 1), strict=True)], -1)
    pieces = zip(x.split(step, -1), y.split(step), f.split(step), strict=True)
    total: Tensor = sum(op(u, v - g) for u, v, g in pieces)  # type: ignore[assignment]
    return total


def elementwise(source: Source, x: Form, y: Form, shape: torch.Size, indices: Sequence[int]) -> Product:
    """x * y (with broadcasting), premasked, from masks of any form.

        (E + Σ Q_k s_k)(F + Σ R_l t_l)  =  E F + F Σ Q_k [s_k] + E Σ R_l [t_l] + Σ Q_k R_l s_k t_l

    The producer knows no Q but 1, so of the last sum only the first term can hide in the mask; the others are dealt.
    Producer: no bytes for simple masks. For what truncations by r and s bits have left, ceil(r / 8) + ceil(s / 8) bytes
    an element: the second terms are multiples of 2^(64-r) and 2^(64-s), and their product vanishes if r + s <= 64.
    """
    square = x is y
    left = x.written()
    right = left if square else y.written()
    left.deal(source)
    right.deal(source)
    crossed = _crossed(source, left, right, shape, square=square)
    parts, m = source.product(left.terms[0].secret, right.terms[0].secret, shape)
    for place, index in enumerate(indices):
        E, F, z = left.opened, right.opened, parts[place]  # noqa: N806 - the letters of the formula
        assert E is not None
        assert F is not None
        kernels.on(z).multiply_add(z, E, _sum(right, place, index), F, _sum(left, place, index), leader=index == 0)
        for (k, j), c in crossed:
            part = c.parts[place]
            for factor in (left.terms[k].factor, right.terms[j].factor):
                part = part if factor is None else part * factor
            z.add_(part, alpha=2 if square and j != k else 1)
    return premasked(parts, m, shape)


def _crossed(
    source: Source, x: Mask, y: Mask, shape: torch.Size, *, square: bool
) -> list[tuple[tuple[int, int], Dealt]]:
    """Deal the products of terms that no mask can hide; of a square, each of them once."""
    pairs = [
        (k, j)
        for k in range(len(x.terms))
        for j in range(k if square else 0, len(y.terms))
        if k + j and x.terms[k].zeros + y.terms[j].zeros < RING.bits
    ]
    if not pairs:
        return []
    factors = [(x.terms[k].secret, y.terms[j].secret) for k, j in pairs]
    zeros = [x.terms[k].zeros + y.terms[j].zeros for k, j in pairs]
    return list(zip(pairs, source.terms(factors, zeros, shape), strict=True))


def _sum(mask: Mask, place: int, index: int) -> Tensor | None:
    """A party's share of Σ Q_k s_k, if it may differ from zero."""
    first = mask.terms[0].secret
    if isinstance(first, MaskValue):
        return first.part(place) if first.known_to(index) else None
    return mask.sums()[place]


def premasked(parts: list[Tensor], m: Dealt, shape: torch.Size | None) -> Product:
    """What adds up to z - m, and m, a draw of its own."""
    if shape is None:
        assert m.plain is not None
        shape = m.plain.shape
    return parts, shape, Premask(MaskValue.withheld(m.plain, shape), frozenset((Draw(),)))
