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

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tacit.correlated.dealing import Dealing, width
from tacit.correlated.masks import Draw, Mask, Premask, Secret

__all__ = ["Product", "bilinear", "elementwise"]

Bilinear = Callable[[Tensor, Tensor], Tensor]
Product = tuple[list[Tensor], torch.Size, Premask]
"""Shares of z - m, their shape, and m."""


def bilinear(dealing: Dealing, x: Mask, y: Mask, op: Bilinear, indices: Sequence[int]) -> Product:
    """op(x, y), premasked, from two simple masks. Producer: no bytes.

    A party computes two operations, for party 0 joins E∘F to E∘[b]; the producer computes one. The share of a mask that
    another party holds alone is zero, so its operation falls away: if two parties own the operands, each computes one.
    """
    x.deal(dealing)
    y.deal(dealing)
    a, b, E, F = x.secret, y.secret, x.opened, y.opened  # noqa: N806 - the letters of the formula
    products: list[Tensor | None] = []
    for k, index in enumerate(indices):
        assert E is not None
        assert F is not None
        z: Tensor | None = None
        if index == 0 and a.holder == index and not b.known_to(index):
            z = op(E + a.parts[k], F)
        else:
            if index == 0 or b.known_to(index):
                z = op(E, b.parts[k] + F if index == 0 else b.parts[k])
            if a.known_to(index):
                other = op(a.parts[k], F)
                z = other if z is None else z.add_(other)
        products.append(z)
    plain = op(a.plain, b.plain) if a.plain is not None and b.plain is not None else None
    shape = next((z.shape for z in [*products, plain] if z is not None), None)
    if shape is None:  # a third party that owns neither operand
        assert E is not None
        assert F is not None
        shape = op(E.to("meta"), F.to("meta")).shape
    return _premasked(dealing, products, plain, shape)


def elementwise(dealing: Dealing, x: Mask, y: Mask, shape: torch.Size, indices: Sequence[int]) -> Product:
    """x * y (with broadcasting), premasked, from masks of any form.

        (E + Σ Q_k s_k)(F + Σ R_l t_l)  =  E F + F Σ Q_k [s_k] + E Σ R_l [t_l] + Σ Q_k R_l s_k t_l

    The producer knows no Q but 1, so of the last sum only the first term can hide in the mask; the others are dealt.
    Producer: no bytes for simple masks. For what truncations by r and s bits have left, ceil(r / 8) + ceil(s / 8) bytes
    an element: the second terms are multiples of 2^(64-r) and 2^(64-s), and their product vanishes if r + s <= 64.
    """
    x.deal(dealing)
    y.deal(dealing)
    square = x is y
    pairs = [
        (k, j)
        for k in range(len(x.terms))
        for j in range(k if square else 0, len(y.terms))
        if k + j and x.terms[k].zeros + y.terms[j].zeros < 64
    ]

    def make() -> list[Tensor]:
        return [_plain(x, k) * _plain(y, j) for k, j in pairs]

    widths = [width(x.terms[k].zeros + y.terms[j].zeros) for k, j in pairs]
    cross = dealing.ring([shape] * len(pairs), make, widths) if pairs else []
    left, right = x.parts([1] * len(indices)), y.parts([1] * len(indices))  # [Σ Q_k s_k] and [Σ R_l t_l]
    out: list[Tensor | None] = []
    for place, index in enumerate(indices):
        E, F = x.opened, y.opened  # noqa: N806 - the letters of the formula
        assert E is not None
        assert F is not None
        z: Tensor | None = None
        if index == 0 or _held(y, index):
            z = E * (right[place] + F if index == 0 else right[place])
        if _held(x, index):
            z = F * left[place] if z is None else z.addcmul_(F, left[place])
        for (k, j), c in zip(pairs, cross, strict=True):
            part = c.parts[place]
            for factor in (x.terms[k].factor, y.terms[j].factor):
                part = part if factor is None else part * factor
            part = part * 2 if square and j != k else part
            z = part if z is None else z.add_(part)
        out.append(z)
    plain = None if x.terms[0].secret.plain is None else _plain(x, 0) * _plain(y, 0)
    return _premasked(dealing, out, plain, shape)


def _premasked(dealing: Dealing, parts: Sequence[Tensor | None], product: Tensor | None, shape: torch.Size) -> Product:
    """Add a random t to shares that lack a product of masks."""
    shares, plain = dealing.add_random(parts, product, shape)
    return shares, shape, Premask(Secret.withheld(plain, shape), frozenset((Draw(),)))


def _held(mask: Mask, index: int) -> bool:
    """Whether a party's shares of the terms may differ from zero."""
    return any(not isinstance(term.secret, Secret) or term.secret.known_to(index) for term in mask.terms)


def _plain(mask: Mask, k: int) -> Tensor:
    plain = mask.terms[k].secret.plain
    assert plain is not None
    return plain
