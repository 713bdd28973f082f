"""Correlations that a crypto-producer makes, who knows all masks and no secret.

Of each method below both ends run where both are hosted: `fill`, or `make`, writes the value at the producer, and what
is returned are the parties' shares of it. In which of its bytes a correlation travels is told here, and how, by
`Dealing`; whether it comes from a producer who computes along or from a file is up to the `Delivery`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from tacit.protocols.additive import conjunction, exponential, kernels, powers
from tacit.protocols.additive.kernels.digits import PAIR, Digits
from tacit.protocols.additive.kernels.octaves import Octaves
from tacit.protocols.additive.kernels.waves import Waves
from tacit.protocols.additive.source.base import Bilinear, Dealt, Product, Redrawn, Rows, Source, Turn
from tacit.protocols.additive.source.dealing import Dealing, Delivery
from tacit.ring.ring import RING
from tacit.session.session import Session

__all__ = ["Produced"]

Shape = Sequence[int]


class Produced(Source):
    """What the producer deals. Costs are its bytes for an element, to all parties together; without one, none."""

    def __init__(self, session: Session, delivery: Delivery) -> None:
        self.dealing = Dealing(session, delivery)

    # --- masks -----------------------------------------------------------------------------------------------------

    @override
    def random_ring(self, shape: Shape) -> Dealt:
        return self.dealing.random_ring(shape)

    @override
    def private_ring(self, shape: Shape, holder: int) -> Dealt:
        return self.dealing.private_ring(shape, holder)

    @override
    def taken_off(self, x: Tensor | None, shape: Shape, holder: int) -> tuple[Tensor | None, Tensor | None]:
        return self.dealing.taken_off(x, shape, holder)

    @override
    def parted_ring(self, shape: Shape) -> Dealt:
        return self.dealing.parted_ring(shape)

    @override
    def redrawn(self, holder: int, columns: int) -> Redrawn:
        return self.dealing.redrawn(holder, columns)

    @override
    def random_bits(self, shape: Shape) -> Dealt:
        return self.dealing.random_bits(shape)

    @override
    def private_bits(self, shape: Shape, holder: int) -> Dealt:
        return self.dealing.private_bits(shape, holder)

    @override
    def pair_keys(self) -> dict[tuple[int, int], bytes]:
        """32 bytes a pair, once, at the start of the session."""
        return self.dealing.pair_keys("key of a pair")

    @override
    def withheld(self, a: Dealt, shape: Shape) -> list[Tensor]:
        """8 bytes."""

        def fill(out: Tensor) -> None:
            out.copy_(_known(a))

        return [part for (part,) in self.dealing.words("withheld mask", shape, [RING.bytes], fill)]

    @override
    def lowest_bits(self, a: Dealt, shape: Shape) -> list[Tensor]:
        """1 bit."""

        def fill(plane: Tensor) -> None:
            plane.copy_(kernels.on(plane).pack_bits((_known(a) & 1).to(torch.uint8)))

        return [plane for (plane,) in self.dealing.bits("lowest bits", [(_plane(math.prod(shape)),)], fill)]

    @override
    def parities(self, ab: Dealt, shape: Shape) -> list[Tensor]:
        """1 bit."""

        def fill(plane: Tensor) -> None:
            plane.copy_(kernels.on(plane).pack_bits(_known(ab)))

        return [plane for (plane,) in self.dealing.bits("parities", [(_plane(math.prod(shape)),)], fill)]

    # --- products --------------------------------------------------------------------------------------------------

    @override
    def product(self, a: Dealt, b: Dealt, shape: Shape) -> Product:
        """The shares are of a fresh t, so that m = ab - t."""
        t = self._draw(shape)
        if t.plain is not None:
            kernels.on(t.plain).multiply_add(t.plain, _known(a), _known(b), _known(b), None, leader=False, minus=True)
        return t.parts, Dealt([], t.plain)

    def _draw(self, shape: Shape) -> Dealt:
        return self.dealing.random_ring(shape)

    @override
    def bilinear_product(
        self, parts: Sequence[Tensor | None], a: Dealt, b: Dealt, op: Bilinear, shape: Shape | None
    ) -> Product:
        plain = None if a.plain is None or b.plain is None else op(a.plain, b.plain)
        return self.masked_sum(parts, plain, shape or ())

    @override
    def masked_sum(self, parts: Sequence[Tensor | None], value: Tensor | None, shape: Shape) -> Product:
        shares, m = self.dealing.add_random(parts, value, shape)
        return shares, Dealt([], m)

    @override
    def terms(self, factors: Sequence[tuple[Dealt, Dealt]], zeros: Sequence[int], shape: Shape) -> list[Dealt]:
        """8 bytes for each pair, less those that are zero."""

        def make() -> list[Tensor]:
            return [_known(s) * _known(t) for s, t in factors]

        widths = [RING.bytes_above(count) for count in zeros]
        return self.dealing.ring("products of terms", [shape] * len(factors), make, widths)

    # --- truncation and selection ----------------------------------------------------------------------------------

    @override
    def truncation(self, a: Dealt, multiplier: int, zeros: int, shape: Shape) -> Rows:
        """16 bytes, less those that are zero."""

        def fill(high: Tensor, wrap: Tensor) -> None:
            kernels.on(high).scaled_parts(_known(a), multiplier, high, wrap)

        return self.dealing.words("truncation", shape, [RING.bytes, RING.bytes_above(zeros)], fill)

    @override
    def selection(self, a: Dealt, beta: Dealt, shape: torch.Size, scaled: tuple[int, int] | None = None) -> Rows:
        """8 bytes; 16 of what was truncated, less those that are zero."""
        multiplier, zeros = scaled or (0, 0)

        def fill(high: Tensor, wrap: Tensor | None = None) -> None:
            if wrap is None:
                torch.mul(_known(a), _known(beta), out=high)
            else:
                kernels.on(high).scaled_parts(_known(a), multiplier, high, wrap, _known(beta).expand(shape))

        widths = [RING.bytes] if scaled is None else [RING.bytes, RING.bytes_above(zeros)]
        return self.dealing.words("selection", shape, widths, fill)

    @override
    def arithmetic_bits(self, beta: Dealt, shape: Shape) -> list[Tensor]:
        """8 bytes."""

        def fill(out: Tensor) -> None:
            out.copy_(_known(beta))

        return [part for (part,) in self.dealing.words("arithmetic bits", shape, [RING.bytes], fill)]

    # --- comparison ------------------------------------------------------------------------------------------------

    @override
    def digits(self, a: Dealt, count: int, digits: Digits) -> tuple[Dealt, Dealt]:
        """32 1/8 bytes, or 8 a node and 1/8."""
        chunks = 4 * digits.nodes

        def fill(tables: Tensor, sign: Tensor) -> None:
            flat = _known(a).reshape(-1)
            flat = flat << digits.shift if digits.shift else flat
            kernels.on(flat).thermometer(flat, tables.view(torch.int16).view(chunks, -1))
            sign.copy_(kernels.on(flat).pack_bits((flat < 0).view(torch.uint8)))

        rows = self.dealing.bits("digits", [(2 * chunks * count,), (_plane(count),)], fill)
        tables, sign = (Dealt([row[k] for row in rows], None) for k in range(2))
        return tables.map(lambda t: t.view(torch.int16).view(chunks, -1)), sign

    @override
    def monomials(self, plane: int, digits: Digits) -> list[tuple[Dealt, Dealt]]:
        """12 7/8 bytes, 10 1/8 of three nodes and 5 5/8 of two; those of all levels in one frame."""
        levels = digits.levels
        masks = [self.dealing.random_bits((inputs, nodes, plane)) for nodes, inputs, _ in levels]

        def fill(*products: Tensor) -> None:
            for k, (m, out) in enumerate(zip(masks, products, strict=True)):
                if len(_known(m)) == PAIR:
                    torch.bitwise_and(*_known(m), out=out[0])
                else:
                    kernels.on(out).node_expand(_known(m), top=k > 0, out=out)

        shapes = [(products, nodes, plane) for nodes, _, products in levels]
        rows = self.dealing.bits("monomials", shapes, fill)
        return [(m, Dealt([row[k] for row in rows], None)) for k, m in enumerate(masks)]

    @override
    def wide_digits(self, a: Dealt, count: int, digits: Digits) -> tuple[Dealt, Dealt]:
        """256 1/8 bytes, or 64 1/8 or 48 1/8."""

        def fill(tables: Tensor, sign: Tensor) -> None:
            flat = _known(a).reshape(-1)
            flat = flat << digits.shift if digits.shift else flat
            kernels.on(flat).wide_tables(flat, tables)
            sign.copy_(kernels.on(flat).pack_bits((flat < 0).view(torch.uint8)))

        rows = self.dealing.bits("digits", [(count, *digits.wide), (_plane(count),)], fill)
        return Dealt([row[0] for row in rows], None), Dealt([row[1] for row in rows], None)

    @override
    def wide_monomials(self, count: int, digits: Digits) -> tuple[Dealt, Dealt]:
        """48 bytes, or 16."""
        masks = self.dealing.random_bits((2 * count,)).map(lambda t: t.view(torch.int16))

        def fill(products: Tensor) -> None:
            kernels.on(products).wide_expand(_known(masks), products.view(RING.dtype).view(count, -1))

        rows = self.dealing.bits("monomials", [(RING.bytes * digits.wide_products * count,)], fill)
        return masks, Dealt([row[0].view(RING.dtype).view(count, -1) for row in rows], None)

    # --- series ----------------------------------------------------------------------------------------------------

    @override
    def wave(self, a: Dealt, plan: Waves, shape: Shape) -> list[Tensor]:
        """Twice 3 to 6 bytes a term; see `Term.width`."""

        def fill(words: Tensor) -> None:
            kernels.on(words).wave_table(plan, _known(a), words)

        count = math.prod(shape)
        return self.dealing.packed("wave", tuple((size, words * count) for size, words in plan.runs), fill)

    @override
    def powers(self, a: Dealt, frac_bits: int, window: int, degree: int, shape: Shape) -> list[Tensor]:
        """16 bytes a degree."""

        def make() -> list[Tensor]:
            return [powers.of_mask(_known(a), frac_bits, window, degree)]

        return self.dealing.ring("powers", [(2, degree, *shape)], make)[0].parts

    @override
    def octaves(self, a: Dealt, frac_bits: int, table: Octaves, shape: Shape) -> list[Tensor]:
        """128 bytes of a full table, 16 of a coarse one; see `Octaves.bytes`."""

        def make() -> list[Tensor]:
            return [kernels.on(_known(a)).octave_table(table, _known(a), frac_bits)]

        return self.dealing.ring("octaves", [(table.entries, *shape)], make, [table.width])[0].parts

    @override
    def chosen_octaves(self, a: Dealt, beta: Dealt, frac_bits: int, shape: Shape) -> list[Tensor]:
        """256 bytes."""

        def make() -> list[Tensor]:
            return [exponential.of_masks(_known(a), _known(beta), frac_bits)]

        return self.dealing.ring("chosen octaves", [(2 * exponential.CHOSEN.entries, *shape)], make)[0].parts

    @override
    def places(self, a: Dealt, bits: int, count: int) -> list[Tensor]:
        """8 bytes a place."""

        def fill(rows: Tensor) -> None:
            at = _known(a).reshape(-1, 1) & (1 << bits) - 1
            rows.zero_().scatter_(1, at, 1)

        return [rows for (rows,) in self.dealing.words("places", (count, 1 << bits), [RING.bytes], fill)]

    # --- bits ------------------------------------------------------------------------------------------------------

    @override
    def conjunction(self, beta: Dealt, delta: Dealt, shape: torch.Size) -> list[Tensor]:
        """1 bit."""

        def fill(plane: Tensor) -> None:
            plane.copy_(kernels.on(plane).pack_bits((_known(beta) & _known(delta)).expand(shape)))

        return [plane for (plane,) in self.dealing.bits("conjunction", [(_plane(shape.numel()),)], fill)]

    @override
    def truth_table(self, betas: Sequence[Dealt], shape: torch.Size) -> list[Tensor]:
        """2^k bits."""

        def fill(table: Tensor) -> None:
            place = conjunction.number([1 ^ _known(beta) for beta in betas])
            table.zero_().scatter_(1, (place >> 3).view(-1, 1), (1 << (place & 7)).to(torch.uint8).view(-1, 1))

        rows = self.dealing.bits("truth table", [(shape.numel(), (1 << len(betas)) // 8)], fill)
        return [table for (table,) in rows]

    # --- orders ----------------------------------------------------------------------------------------------------

    @override
    def turn(self, holder: int, shapes: Sequence[torch.Size], kinds: Sequence[torch.dtype]) -> Turn:
        """8 bytes an element, and a bit a bit."""
        return self.dealing.turn("order", holder, shapes, kinds)


def _known(value: Dealt) -> Tensor:
    """A value at the producer."""
    assert value.plain is not None
    return value.plain


def _plane(count: int) -> int:
    """The bytes of so many bits."""
    return (count + 7) // 8
