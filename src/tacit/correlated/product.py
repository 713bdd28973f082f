"""Products of masked secrets [Bea91]: the producer deals products of masks, the rest is local.

(E + a) ∘ (F + b)  =  E∘F + E∘[b] + [a]∘F + [a∘b]          ∘ any bilinear operation
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tacit.correlated.dealing import Dealing
from tacit.correlated.masks import Mask

__all__ = ["bilinear", "elementwise"]

Bilinear = Callable[[Tensor, Tensor], Tensor]


def bilinear(
    dealing: Dealing, x: Mask, y: Mask, op: Bilinear, indices: Sequence[int]
) -> tuple[list[Tensor], torch.Size]:
    """Shares of op(x, y), from two simple masks, and the shape. Producer: 8 bytes for each element of the result.

    A party computes two operations, for party 0 joins E∘F to E∘[b]; the producer computes one.
    """
    a, b, E, F = x.secret, y.secret, x.opened, y.opened  # noqa: N806 - the letters of the formula
    products = []
    for k, index in enumerate(indices):
        assert E is not None
        assert F is not None
        z = op(E, b.parts[k] + F if index == 0 else b.parts[k])
        z += op(a.parts[k], F)
        products.append(z)
    plain = op(a.plain, b.plain) if a.plain is not None and b.plain is not None else None
    shape = (products[0] if plain is None else plain).shape
    (c,) = dealing.ring([shape], lambda: [] if plain is None else [plain])
    for z, part in zip(products, c.parts, strict=True):
        z += part
    return products, shape


def elementwise(dealing: Dealing, x: Mask, y: Mask, shape: Sequence[int], indices: Sequence[int]) -> list[Tensor]:
    """Shares of x * y (with broadcasting), from masks of any form: each pair of terms has its product dealt.

        (E + Σ Q_k s_k)(F + Σ R_l t_l)  =  E F + F Σ Q_k [s_k] + E Σ R_l [t_l] + Σ Q_k R_l [s_k t_l]

    Producer: 8 bytes for each element and pair of terms.
    """
    square = x is y
    pairs = [(k, j) for k in range(len(x.terms)) for j in range(k if square else 0, len(y.terms))]

    def make() -> list[Tensor]:
        return [_plain(x, k) * _plain(y, j) for k, j in pairs]

    cross = dealing.ring([shape] * len(pairs), make)
    left, right = x.parts([1] * len(indices)), y.parts([1] * len(indices))  # [Σ Q_k s_k] and [Σ R_l t_l]
    out = []
    for place, index in enumerate(indices):
        E, F = x.opened, y.opened  # noqa: N806 - the letters of the formula
        assert E is not None
        assert F is not None
        z = E * (right[place] + F if index == 0 else right[place])
        z = z + F * left[place]
        for (k, j), c in zip(pairs, cross, strict=True):
            part = c.parts[place]
            for factor in (x.terms[k].factor, y.terms[j].factor):
                part = part if factor is None else part * factor
            z += part * 2 if square and j != k else part
        out.append(z)
    return out


def _plain(mask: Mask, k: int) -> Tensor:
    plain = mask.terms[k].secret.plain
    assert plain is not None
    return plain
