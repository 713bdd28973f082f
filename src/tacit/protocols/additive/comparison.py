"""The sign of masked secrets: table look-ups by public digits, then two levels of a radix-4 tree.

For x = E + a the top bit is  msb(x) = msb(E) ^ msb(a) ^ carry,  where the carry out of the low 63 bits is
[u < a mod 2^63] with the public u = ~E mod 2^63. The producer deals, for each of the 16 digits of a, the table
j -> [j < digit]; the parties look their public digit up, which costs nothing, and combine the 16 pairs (less, equal) in
two rounds. The tables belong to the mask a: comparing one secret with many thresholds deals them once.

Online, a party and element: 28 bits + 6 bits, after E is open. Producer: 32 1/8 bytes a mask, 12 7/8 a comparison.

Where so little of x is in question that the top 12 or 8 digits tell it, only these are compared: `Digits`. What is
below them is left out of E and of a, so E_top + a_top is x less up to two units of what is left.

Few elements are compared by 8 digits of 8 bits, which one round combines, `at_once`. Online: 16 bits. Producer: 256 1/8
bytes a mask, 48 a comparison; 64 1/8 and 48 where 12 digits of 4 bits would tell enough, 48 1/8 and 16 for 8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tacit.protocols.additive import kernels
from tacit.protocols.additive.kernels.digits import ALL, PAIR, Digits
from tacit.protocols.additive.masks import MaskValue
from tacit.protocols.additive.source.base import Dealt, Source
from tacit.ring.memory import xor_into
from tacit.ring.ring import RING

__all__ = ["LEVELS", "at_once", "few", "negative"]

OpenBits = Callable[[Sequence[Tensor], int], "Tensor | None"]
"""One round: XOR the hosted parties' bytes, so many each, with their peers'."""

LEVELS = (False, True)
"""Of the tree: whether it is the top."""

NARROW = {4: (32, 15), 3: (24, 12), 2: (16, 7)}
"""By nodes, the bytes that digits of 4 bits take: a mask; and a comparison, with what is sent for it."""


def few(masked: int, thresholds: int, digits: Digits, worth: int) -> bool:
    """Whether a round, worth so many bytes, is worth more than those by which wider digits save it."""
    tables, products = NARROW[digits.nodes]
    more = digits.wide[0] * digits.wide[1] - tables, RING.bytes * digits.wide_products - products
    return masked * thresholds > 0 and masked * (more[0] + thresholds * more[1]) <= worth


def at_once(
    source: Source,
    secret: MaskValue,
    opened: Tensor | None,
    shape: torch.Size,
    indices: Sequence[int],
    open_bits: OpenBits,
    digits: Digits = ALL,
) -> list[Tensor]:
    """What `negative` returns, in one round."""
    count, masked = shape.numel(), shape[1:].numel()
    tables, sign = secret.wide_tables(source, masked, digits)
    masks, products = source.wide_monomials(count, digits)
    if opened is None:
        open_bits((), 2 * count)
        return []
    flat = opened.reshape(shape[0], masked)
    flat = flat << digits.shift if digits.shift else flat
    on = kernels.on(opened)
    words = [on.wide_lookup(table, ~flat, leader=i == 0) for table, i in zip(tables.parts, indices, strict=True)]
    sent = [(word ^ mask).view(torch.uint8) for word, mask in zip(words, masks.parts, strict=True)]
    found = open_bits(sent, 2 * count)
    assert found is not None
    public = found.contiguous().view(torch.int16)
    bits = [on.wide_evaluate(public, words[k], products.parts[k], leader=i == 0) for k, i in enumerate(indices)]
    return _with_signs(bits, flat, sign, shape, indices)


def negative(
    source: Source,
    secret: MaskValue,
    opened: Tensor | None,
    shape: torch.Size,
    indices: Sequence[int],
    open_bits: OpenBits,
    digits: Digits = ALL,
) -> list[Tensor]:
    """XOR shares (bytes of value 0 or 1) of [E_t + a < 0] for every t: `opened` is E, of shape [T, *shape of a]."""
    count, masked = shape.numel(), shape[1:].numel()
    plane = (count + 7) // 8
    tables, sign = secret.tables(source, masked, digits)
    levels = source.monomials(plane, digits)
    if opened is None:
        for nodes, inputs, _ in digits.levels:
            open_bits((), inputs * nodes * plane)
        return []
    flat = opened.reshape(shape[0], masked)
    flat = flat << digits.shift if digits.shift else flat
    on = kernels.on(opened)
    pairs = [on.lookup(table, ~flat, leader=i == 0) for table, i in zip(tables.parts, indices, strict=True)]
    less = [pair[0] for pair in pairs]
    equal = [pair[1] for pair in pairs]
    for top, (masks, monomials) in zip(LEVELS, levels, strict=True):
        if top and digits.nodes == PAIR:
            less = _pair(masks, monomials, less, equal, indices, open_bits)
            break
        words = [on.node_inputs(q, e, top=top) for q, e in zip(less, equal, strict=True)]
        public = open_bits([xor_into(w, m) for w, m in zip(words, masks.parts, strict=True)], words[0].numel())
        assert public is not None
        outputs = [
            on.node_evaluate(public, masks.parts[k], monomials.parts[k], less[k][3], top=top, leader=i == 0)
            for k, i in enumerate(indices)
        ]
        less = [out[0] if top else _digits_of(out[0], digits.nodes, plane) for out in outputs]
        equal = [_digits_of(out[1], digits.nodes, plane) for out in outputs if out[1] is not None]
    return _with_signs([on.unpack_bits(part, count) for part in less], flat, sign, shape, indices)


def _digits_of(planes: Tensor, nodes: int, plane: int) -> Tensor:
    """What nodes say, as the digits of the node above them: below three there is nothing, which is not less."""
    planes = planes.view(nodes, 1, plane)
    return torch.cat([torch.zeros_like(planes[:1]), planes]) if nodes == 3 else planes


def _pair(
    masks: Dealt,
    products: Dealt,
    less: Sequence[Tensor],
    equal: Sequence[Tensor],
    indices: Sequence[int],
    open_bits: OpenBits,
) -> list[Tensor]:
    """l1 + q1 l0, of two bits that are opened: q1 l0 = v u + v m0 + u m1 + m1 m0 for v = q1 + m1 and u = l0 + m0."""
    words = [torch.stack([q[1], below[0]]) for q, below in zip(equal, less, strict=True)]
    public = open_bits([xor_into(w, m) for w, m in zip(words, masks.parts, strict=True)], words[0].numel())
    assert public is not None
    v, u = public.view(words[0].shape)
    out = []
    for k, i in enumerate(indices):
        m1, m0 = masks.parts[k]
        product = products.parts[k][0] ^ (v & m0) ^ (u & m1)
        out.append((product ^ (v & u) if i == 0 else product) ^ less[k][1])
    return out


def _with_signs(
    borrows: Sequence[Tensor], flat: Tensor, sign: Dealt, shape: torch.Size, indices: Sequence[int]
) -> list[Tensor]:
    """XOR shares of [E_t + a < 0]: of the borrows of all bits but the top ones, the top bits of a, and those of E."""
    on, result = kernels.on(flat), []
    for borrow, top, i in zip(borrows, sign.parts, indices, strict=True):
        bits = borrow.view(flat.shape) ^ on.unpack_bits(top, flat.shape[1])
        result.append((bits ^ (flat < 0).view(torch.uint8) if i == 0 else bits).view(shape))
    return result
