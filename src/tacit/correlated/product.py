"""Products of masked secrets [Bea91]: the producer deals products of masks, the rest is local.

(E + a) ∘ (F + b)  =  E∘F + E∘[b] + [a]∘F + [a∘b]          ∘ any bilinear operation
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tacit.correlated.dealing import Dealing
from tacit.correlated.masks import Mask, Secret

__all__ = ["bilinear", "elementwise"]

Bilinear = Callable[[Tensor, Tensor], Tensor]


def bilinear(
    dealing: Dealing, x: Mask, y: Mask, op: Bilinear, indices: Sequence[int]
) -> tuple[list[Tensor], torch.Size]:
    """Shares of op(x, y), from two simple masks, and the shape. Producer: 8 bytes for each element of the result.

    A party computes two operations, for party 0 joins E∘F to E∘[b]; the producer computes one. The share of a mask that
    another party holds alone is zero, so its operation falls away: if two parties own the operands, each computes one.
    """
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
    if shape is None:  # a third party that owns neither operand only takes its share of [a∘b]
        assert E is not None
        assert F is not None
        shape = op(E.to("meta"), F.to("meta")).shape
    (c,) = dealing.ring([shape], lambda: [] if plain is None else [plain])
    parts = [part if z is None else z.add_(part) for z, part in zip(products, c.parts, strict=True)]
    return parts, shape


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
        z: Tensor | None = None
        if index == 0 or _held(y, index):
            z = E * (right[place] + F if index == 0 else right[place])
        if _held(x, index):
            z = F * left[place] if z is None else z + F * left[place]
        if z is None:
            z = torch.zeros(tuple(shape), dtype=torch.int64)
        for (k, j), c in zip(pairs, cross, strict=True):
            part = c.parts[place]
            for factor in (x.terms[k].factor, y.terms[j].factor):
                part = part if factor is None else part * factor
            z += part * 2 if square and j != k else part
        out.append(z)
    return out


def _held(mask: Mask, index: int) -> bool:
    """Whether a party's shares of the terms may differ from zero."""
    return any(not isinstance(secret, Secret) or secret.known_to(index) for _, secret in mask.terms)


def _plain(mask: Mask, k: int) -> Tensor:
    plain = mask.terms[k].secret.plain
    assert plain is not None
    return plain
