"""Additive shares among any number of computing parties, with correlated randomness from a crypto-producer.

Each primitive is one opening of what is not open yet, and local work; the correlations are in files beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from operator import add
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from tacit.errors import TacitError
from tacit.protocols import leaving, network
from tacit.protocols.additive import (
    comparison,
    conjunction,
    exponential,
    harmonics,
    io,
    kernels,
    one_hot,
    parity,
    powers,
    product,
    selection,
    shuffle,
    spread,
    truncation,
)
from tacit.protocols.additive.content import (
    META,
    Shares,
    Unsettled,
    bit_mask,
    is_given,
    masked_form,
    opened,
    simple_mask,
)
from tacit.protocols.additive.cost import COSTS, PRICES
from tacit.protocols.additive.given import LARGE, Given
from tacit.protocols.additive.kernels.digits import Digits
from tacit.protocols.additive.masks import BitMask, Form, Mask, MaskValue, Premask
from tacit.protocols.additive.opening import Masking, Opening, shares_of
from tacit.protocols.additive.recorded import Recorded
from tacit.protocols.additive.scheme import SCHEME
from tacit.protocols.additive.source.base import Dealt
from tacit.protocols.additive.source.produced import Produced
from tacit.protocols.additive.source.stored import delivery
from tacit.protocols.binned import Binned
from tacit.protocols.followed import Followed
from tacit.protocols.number import SETTLED, Number
from tacit.protocols.protocol import Protocol
from tacit.protocols.remembered import Owned, Remembered, Storage
from tacit.protocols.replays import Replays
from tacit.protocols.scale import WHOLE, Scale
from tacit.protocols.series import CHOSEN_BITS, FULL, Exponents, Harmonics, Polynomial, common_window
from tacit.protocols.values import Bits, Value
from tacit.ring.ring import RING
from tacit.ring.shapes import broadcast
from tacit.ring.short import shortened
from tacit.session.session import Session

__all__ = ["Additive"]

POWERS: Remembered[powers.Powers] = Remembered("masked powers, by window")
PACKED: Remembered[parity.Packed] = Remembered("lowest bits, 64 to a word")
LESS: Remembered[Bits] = Remembered("compared, by threshold")
ARITHMETIC: Remembered[Number] = Remembered("bits as integers")

BOUND = 1 << RING.value_bits
"""What a truncation asks of its operand's magnitude."""


class Additive(Protocol):
    """Semi-honest security with a producer that colludes with no party; see `scheme` and docs/protocols.md."""

    scheme: ClassVar = SCHEME
    costs: ClassVar = COSTS
    prices = PRICES

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        made = delivery(session)
        self._source = Produced(session, made)
        self._recorded = Recorded(self, self._source.dealing) if made.online and not session.preparing else None
        self._masking = Masking(session, self._source)
        self._indices = session.party_indices
        session.compare_openings()
        for (i, j), key in self._source.pair_keys().items():  # of fresh sharings of zero, which the producer knows
            session.agreed(session.parties[i], session.parties[j], leaving.ZERO, key)

    @override
    def replays(self) -> Replays | None:
        """With a producer who computes along: what comes from a store, or goes to one, is not counted out twice."""
        return self._recorded

    # --- in and out ------------------------------------------------------------------------------------------------

    @override
    def share(self, value: Tensor | None, owner: str, shape: Sequence[int], frac_bits: int) -> Number:
        """E = x - a; the owner sends E, and is bound to x by it.   Cost: 8 bytes, to each other party."""
        index, size = io.owner_index(self.session, owner), torch.Size(shape)
        if size.numel() >= LARGE:
            return self._share_large(value if index in self._indices else None, index, size, Scale(frac_bits))
        a = MaskValue(self._source.private_ring(size, index), index)
        masked = None
        if value is not None and index in self._indices:
            masked = (value - a.parts[self._indices.index(index)]).contiguous()
        e = io.given(self.session, masked, index, size, RING.dtype)
        out = self._arithmetic(self._split(value, e, a, index), size, Scale(frac_bits))
        out.facts.owned = Owned(index, value if index in self._indices else None)
        known = opened(out.facts)
        known.mask, known.given = Mask.simple(e, a), True
        return out

    def _share_large(self, x: Tensor | None, owner: int, size: torch.Size, scale: Scale) -> Number:
        """The same, in as little memory as E and x take; see `given`."""
        masked, a = self._source.taken_off(x, size, owner)
        kept = None if x is None else shortened(x.contiguous())
        e = io.given(self.session, masked, owner, size, RING.dtype)
        content, given = Shares(self, _meta(size, RING.dtype)), None
        if e is not None:
            given = Given(e, kept, owner, self._indices)
            content = Shares.following(self, given)
        out = Number(self, content, Storage(size.numel(), scale))
        out.facts.owned = Owned(owner, kept)
        secret = MaskValue(Dealt([], a), owner) if given is None else MaskValue.of_owner(given, a, size)
        known = opened(out.facts)
        known.mask, known.given = Mask.simple(e, secret), True
        return out

    @override
    def share_bits(self, value: Tensor | None, owner: str, shape: Sequence[int]) -> Bits:
        """c = b ^ β likewise.   Cost: 1 bit, to each other party."""
        index, size = io.owner_index(self.session, owner), torch.Size(shape)
        plane, mask = selection.draw_bit_mask(self._source, size, index)
        masked = None
        if value is not None and index in self._indices:
            masked = kernels.on(value).pack_bits(value.contiguous()) ^ plane.parts[self._indices.index(index)]
        c = io.given(self.session, masked, index, torch.Size(((size.numel() + 7) // 8,)), torch.uint8)
        if c is not None:
            mask.opened = kernels.on(c).unpack_bits(c, size.numel()).view(size)
        out = self._binary(self._split(value, mask.opened, mask.beta, index), size)
        opened(out.facts).mask = mask
        return out

    def _split(self, x: Tensor | None, masked: Tensor | None, mask: Dealt, owner: int) -> list[Tensor]:
        """Shares of a masked x: what is masked at the first party, the mask at the owner, zero elsewhere."""
        parts = []
        for i, own in zip(self._indices, mask.parts, strict=True):
            whole = x if i == owner == 0 else own if i == owner else masked if i == 0 else None
            part = torch.zeros(own.shape, dtype=own.dtype) if whole is None else torch.empty(own.shape, dtype=own.dtype)
            parts.append(part if whole is None else part.copy_(whole))
        return parts

    @override
    def public(self, ring: Tensor, frac_bits: int) -> Number:
        parts = [ring.clone() if i == 0 else torch.zeros_like(ring) for i in self._indices]
        return self._arithmetic(parts, ring.shape, Scale(frac_bits))

    @override
    def public_bits(self, bits: Tensor) -> Bits:
        parts = [bits.clone() if i == 0 else torch.zeros_like(bits) for i in self._indices]
        return self._binary(parts, bits.shape)

    @override
    def reveal(self, x: Value, receivers: Sequence[str]) -> Tensor | None:
        """Each party adds a fresh sharing of zero before its share leaves, so shares say nothing beyond their sum."""
        shares = shares_of(x).read()
        value = leaving.revealed(self.session, shares, x.shape, receivers, binary=isinstance(x, Bits))
        if set(self.session.parties) <= set(receivers):
            self.session.witness(value)
        return value

    @override
    def refresh(self, x: Value) -> list[Tensor]:
        """Each party adds a fresh sharing of zero."""
        return leaving.refreshed(self.session, shares_of(x).read(), binary=isinstance(x, Bits))

    @override
    def adopt(
        self,
        shares: Sequence[Tensor],
        shape: Sequence[int],
        frac_bits: int,
        *,
        headroom: int = 0,
        precise: bool = False,
        lasting: bool = False,
        name: str = "a value",
    ) -> Number:
        self.check_adopted(shares, shape, RING.dtype, name)
        out = self._arithmetic(list(shares), torch.Size(shape), Scale(frac_bits, headroom, precise))
        out.storage.lasting = lasting
        return out

    @override
    def adopt_bits(
        self, shares: Sequence[Tensor], shape: Sequence[int], *, lasting: bool = False, name: str = "a value"
    ) -> Bits:
        self.check_adopted(shares, shape, torch.uint8, name)
        out = self._binary(list(shares), torch.Size(shape))
        out.storage.lasting = lasting
        return out

    @override
    def follow(self, out: Value, op: Callable[..., Tensor], operands: Sequence[Value]) -> None:
        """What is made of inputs, of one owner or several, is open as they are."""
        if isinstance(out, Number) and all(is_given(x.facts) for x in operands):
            masks = [simple_mask(x.facts) for x in operands]
            known = opened(out.facts)
            known.mask, known.given = Mask.combined(op, [m for m in masks if m is not None]), True

    # --- numbers ---------------------------------------------------------------------------------------------------

    @override
    def together(self, *shares: Value) -> None:
        self._masking.open_together(*shares)

    def deal_premask(self, tensors: Sequence[Tensor], premask: Premask) -> None:
        """Add shares of a premask, in place, to shares that are short of it. The producer deals them."""
        for t, a in zip(tensors, premask.secret.deal(self._source).parts, strict=False):  # the producer has none
            t += a

    @override
    @contextmanager
    def beside(self, *values: Value) -> Iterator[None]:
        waiting, self._masking.waiting = self._masking.waiting, values
        try:
            yield
        finally:
            self._masking.waiting = waiting

    @override
    def note_sum(self, out: Number, x: Number, y: Number, sign: int) -> None:
        if out.numel <= spread.FEW and x.shape == y.shape:
            spread.note_sum(out.facts, x.facts, y.facts, sign)

    @override
    def note_open(self, out: Number, x: Number, y: Number) -> None:
        left, right = simple_mask(x.facts), simple_mask(y.facts)
        if left is not None and right is not None:
            opened(out.facts).take(left.less(right, out.shape))

    @override
    def note_joined(self, out: Number, rows: Sequence[Number]) -> None:
        if out.numel <= spread.FEW and all(x.facts.lineage is None for x in rows):
            opened(out.facts).sum = spread.Joined([opened(x.facts) for x in rows])

    @override
    def note_written(self, out: Number, source: Number) -> None:
        found = spread.kept(source.facts) if out.numel <= spread.FEW and out.shape == source.shape else None
        if found is not None:
            opened(out.facts).sum = found

    @override
    def multiply(self, x: Number, y: Number) -> Number:
        self.together(*(v for v in (x, y) if masked_form(v.facts) is None))
        shape = broadcast(x.shape, y.shape)
        left = _form(x)
        right = left if x is y else _form(y)
        result = product.elementwise(self._source, left, right, shape, self._indices)
        return self._product(result, x.scale.times(y.scale, square=x is y))

    @override
    def bilinear(self, x: Number, y: Number, op: Callable[[Tensor, Tensor], Tensor]) -> Number:
        if spread.pays(x, y, op, self.prices.round):
            return self._spread_matmul(x, y)
        self.together(x, y)
        left, right = _simple(x), _simple(y)
        return self._product(product.bilinear(self._source, left, right, op, self._indices), x.scale.times(y.scale))

    def _spread_matmul(self, x: Number, y: Number) -> Number:
        left, right = (spread.spread(self._source, v.facts) for v in (x, y))
        shape, scale = torch.Size((x.shape[0], y.shape[1])), x.scale.times(y.scale)
        found = spread.matmul(self._source, left, right, self._indices, shape)
        return self._arithmetic(found, shape, scale) if isinstance(found, list) else self._product(found, scale)

    def _product(self, result: product.Product, scale: Scale) -> Number:
        parts, shape, premask = result
        content = Shares.premasked(self, parts or _meta(shape, RING.dtype), premask)
        return Number(self, content, Storage(shape.numel(), scale))

    @override
    def settle(self, x: Number, frac_bits: int | None = None) -> Number:
        target = x.settled_bits if frac_bits is None else frac_bits
        if x.frac_bits <= target:
            return x
        return SETTLED.once(x, lambda: self._settle(x, target), target)

    def _settle(self, x: Number, target: int) -> Number:
        origin = x.origin()
        if origin is not None and origin.move is not None and isinstance(origin.parent, Number):
            return self.settle(origin.parent, target).move(origin.move, view=False)
        self.together(x)
        mask, bits = _simple(x), x.frac_bits - target
        before = x.settled_before(target)
        if before is not x:  # and x is open, as what it was moved from is
            opened(before.facts).unsettled = Unsettled(mask, bits)
            return before
        form = truncation.truncated(self._source, mask, bits)
        out = self._arithmetic(form.parts(self._indices), x.shape, x.scale.truncated(target))
        known = opened(out.facts)
        known.form, known.unsettled = form, Unsettled(mask, bits)
        return out

    @override
    def scale(self, x: Number, factor: float, frac_bits: int | None = None) -> Number | None:
        target = x.settled_bits if frac_bits is None else frac_bits
        drop = x.scale.ratio(factor, target)
        if drop is None:
            return None
        self.together(x)
        if isinstance(factor, Followed):
            factor.goes(partial(_zeros, x.scale, frac_bits=target))
            m = factor.ring(partial(_multiplier, x.scale, frac_bits=target))
        else:
            m = truncation.multiplier(drop)
        form = truncation.scaled(self._source, _simple(x), m)
        out = self._arithmetic(form.parts(self._indices), x.shape, x.scale.scaled(abs(factor), target))
        opened(out.facts).form = form
        return out if factor > 0 else -out

    @override
    def settle_all(self, shares: Sequence[Number], frac_bits: int | None = None) -> list[Number]:
        targets = [x.settled_bits if frac_bits is None else frac_bits for x in shares]
        pairs = list(zip(shares, targets, strict=True))
        self.together(*(x for x, t in pairs if x.frac_bits > t and SETTLED.of(x, t) is None))
        return [self.settle(x, t) for x, t in pairs]

    @override
    def harmonics(self, x: Number, series: Harmonics) -> Number:
        series.period_bits(min(x.frac_bits, x.settled_bits))  # refused before anything is opened
        mask, frac_bits = self._opened_form(x, series.period)
        parts = harmonics.waves(self._source, mask, frac_bits, series, self._indices)
        out = self._arithmetic(parts, x.shape, Scale(series.frac_bits))
        return out.plus(torch.tensor(round(series.constant * 2**series.frac_bits))) if series.constant else out

    @override
    def polynomials(self, x: Number, polynomials: Sequence[Polynomial]) -> list[Number]:
        window, degree = common_window(polynomials), max(len(p.coefficients) - 1 for p in polynomials)
        scales = [Scale(p.frac_bits) for p in polynomials]
        known = self._powers(x, window, max(degree, 1))
        rows = [powers.evaluated(known, p, self._indices) for p in polynomials]
        return [self._arithmetic(parts, x.shape, scale) for parts, scale in zip(rows, scales, strict=True)]

    def _powers(self, x: Number, window: int, degree: int) -> powers.Powers:
        found = POWERS.of(x, window)
        if found is None or found.degree < degree:
            mask, frac_bits = self._opened_form(x, 4 * window)
            found = POWERS.keep(x, powers.powers(self._source, mask, frac_bits, window, degree), window)
        return found

    @override
    def powers_of_two(self, y: Number, window: Exponents = FULL) -> Number:
        octaves = exponential.octaves(window)
        mask, frac_bits = self._opened_form(y, octaves.period)
        parts = exponential.powers_of_two(self._source, mask, frac_bits, octaves, self._indices)
        return self._arithmetic(parts, y.shape, Scale(octaves.frac_bits))

    @override
    def chosen_powers_of_two(self, b: Bits, y: Number) -> Number:
        if not exponential.few(y.numel, self.prices.round) or b.shape != y.shape:
            return super().chosen_powers_of_two(b, y)
        with self.beside(b):
            mask, frac_bits = self._opened_form(y, exponential.CHOSEN.period)
        self.together(b)
        parts = exponential.chosen(self._source, _bits(b), mask, frac_bits, self._indices)
        return self._arithmetic(parts, y.shape, Scale(CHOSEN_BITS, positive=True))

    # --- bits ------------------------------------------------------------------------------------------------------

    @override
    def less(
        self, x: Number, thresholds: Sequence[int], *beside: Callable[[], Value], near: int = 0, most: int | None = None
    ) -> list[Bits]:
        def known(t: int) -> Bits | None:
            exact = LESS.of(x, t)
            return LESS.of(x, (t, near)) if exact is None and near else exact

        missing = [t for t in dict.fromkeys(thresholds) if known(t) is None]
        if missing:
            for t, bit in zip(missing, self._less(x, missing, beside, near, most), strict=True):
                LESS.keep(x, bit, (t, near) if near else t)
        return [bit for bit in map(known, thresholds) if bit is not None]

    def _less(
        self,
        x: Number,
        thresholds: Sequence[int],
        beside: Sequence[Callable[[], Value]],
        near: int = 0,
        most: int | None = None,
    ) -> list[Bits]:
        origin = x.origin()
        if origin is not None and origin.move is not None and isinstance(origin.parent, Number):
            found = self.less(origin.parent, thresholds, *beside, near=near, most=most)
            return [b.move(origin.move, view=False) for b in found]
        mask, frac_bits = self._opened_form(x)
        up = frac_bits - x.frac_bits
        stacked = None
        if mask.opened is not None:
            edges = [max(-BOUND, min(t << up, BOUND)) for t in thresholds]  # |x 2^up| < BOUND, for it was truncated
            stacked = _less_each(mask.opened, edges)
        shape = torch.Size((len(thresholds), *x.shape))
        turns = iter(beside)

        def open_bits(tensors: Sequence[Tensor], size: int) -> Tensor | None:
            return self._masking.open_bits(tensors, size, *(share() for share in islice(turns, 1)))

        operands = self._source, mask.secret, stacked, shape, self._indices, open_bits
        digits = Digits.telling(RING.sign_bit if most is None else min(most + up, RING.sign_bit), near << up)
        at_once = comparison.few(x.numel, len(thresholds), digits, self.prices.round)
        parts = (comparison.at_once if at_once else comparison.negative)(*operands, digits)
        return [self._binary([p[k] for p in parts], x.shape) for k in range(len(thresholds))]

    def _opened_form(self, x: Number, period: int = 1) -> tuple[Mask, int]:
        """A simple mask that tells x, modulo a period, up to one unit, and its scale.

        What was opened to truncate x will do, if the period has room at its scale.
        """
        unsettled = opened(x.facts).unsettled
        if unsettled is not None and simple_mask(x.facts) is None:
            mask, bits = unsettled
            if period << (x.frac_bits + bits) <= RING.size:
                return mask, x.frac_bits + bits
        self.together(x)
        return _simple(x), x.frac_bits

    @override
    def select(self, pairs: Sequence[tuple[Bits, Number]]) -> list[Number]:
        unmasked: list[Value] = [b for b, _ in pairs]
        unmasked += [x for _, x in pairs if x.frac_bits > x.settled_bits or masked_form(x.facts) is None]
        self.together(*unmasked)
        out = []
        for b, x in pairs:
            y = x if x.scale.precise else self.settle(x)
            form = _form(y)
            tensors = [t for i, t in self.indexed(shares_of(y).true_shares()) if i >= 0]
            bit = _bits(b)
            parts, rows = selection.selected(self._source, bit, form, tensors, y.shape)
            out.append(self._arithmetic(parts, y.shape, y.scale.chosen()))
            if y.numel <= spread.FEW and b.shape == y.shape:
                opened(out[-1].facts).sum = spread.selection(bit, form, rows)
        return out

    @override
    def conjunction(self, x: Bits, y: Bits) -> Bits:
        self.together(x, y)
        shape = broadcast(x.shape, y.shape)
        left, right = _bits(x), _bits(y)
        return self._binary(conjunction.both(self._source, left, right, shape, self._indices), shape)

    @override
    def all_of(self, bits: Sequence[Bits]) -> Bits:
        while len(bits) > 2:
            self.together(*bits)
            groups = [bits[k : k + conjunction.MOST] for k in range(0, len(bits), conjunction.MOST)]
            bits = [self._all_of(group) for group in groups]
        return bits[0] if len(bits) == 1 else self.conjunction(*bits)

    def _all_of(self, bits: Sequence[Bits]) -> Bits:
        if len(bits) <= 2:
            return bits[0] if len(bits) == 1 else self.conjunction(*bits)
        parts = conjunction.all_of(self._source, [_bits(b) for b in bits], bits[0].shape)
        return self._binary(parts, bits[0].shape)

    @override
    def to_arithmetic(self, b: Bits) -> Number:
        found = ARITHMETIC.of(b)
        if found is None:
            self.together(b)
            bit = _bits(b)
            parts = selection.to_ring(self._source, bit, self._indices)
            found = ARITHMETIC.keep(b, self._arithmetic(parts, b.shape, Scale(positive=True)))
            if b.numel <= spread.FEW:
                opened(found.facts).sum = spread.bits(bit)
        return found

    @override
    def hot(self, x: Number, count: int) -> Number:
        self.together(x)
        parts = one_hot.rows(self._source, _simple(x), count, x.shape)
        return self._arithmetic(parts, torch.Size((*x.shape, count)), Scale(positive=True))

    @override
    def odd(self, b: Bits) -> Number:
        """The bytes of shares, read as ring elements, add up to b modulo 2. Local."""
        parts = [t.to(RING.dtype) for i, t in self.indexed(shares_of(b).held) if i >= 0]
        return self._arithmetic(parts, b.shape, Scale())

    @override
    def parity_of_product(self, x: Number, odd: Number) -> Bits:
        self.together(x, odd)
        left = PACKED.once(x, lambda: parity.Packed.of(self._source, _simple(x), self._indices))
        parts = parity.matmul(self._source, left, _simple(odd), self._indices)
        return self._binary(parts, torch.Size((x.shape[0], odd.shape[1])))

    @override
    def sums_below(self, tables: Sequence[Binned], w: Number) -> list[Number]:
        mask, scale = self._masking.open_bins(tables, w), WHOLE.times(w.scale)
        return [self._product(table.scheme.sums(self._source, mask, self._indices), scale) for table in tables]

    @override
    def rows_below(self, table: Binned, odd: Number) -> Bits:
        self.together(odd)
        parts = parity.matmul(self._source, table.scheme.bits, _simple(odd), self._indices)
        return self._binary(parts, torch.Size((table.rows, odd.shape[1])))

    @override
    def parity(self, x: Number) -> Bits:
        """The lowest bits of shares add up to that of x modulo 2; those of a premask are dealt, 1 bit each."""
        content = shares_of(x)
        premask = content.keep_premask()
        parts = [(t & 1).to(torch.uint8) for i, t in self.indexed(content.held) if i >= 0]
        if premask is not None:
            planes = self._source.lowest_bits(premask.secret, x.shape)
            for t, plane in zip(parts, planes, strict=True):
                t ^= kernels.on(plane).unpack_bits(plane, t.numel()).view(t.shape)
        return self._binary(parts, x.shape)

    # --- rows --------------------------------------------------------------------------------------------------------

    @override
    def shuffled(self, values: Sequence[Value]) -> list[Value]:
        rows = [shares_of(x).true_shares() for x in values]
        for holder in range(len(self.session.parties)):
            rows = shuffle.turned(self.session, self._source, holder, rows)
        return [self._like(x, parts) for x, parts in zip(values, rows, strict=True)]

    @override
    def arranged(self, places: Number, values: Sequence[Value]) -> list[Value]:
        """Shuffle rows with their places, and open these: a uniform order, whatever the rows were."""
        shuffled = self.shuffled([places, *values])
        at, *rest = (shares_of(x).true_shares() for x in shuffled)
        (order,) = self._masking.open([Opening(at, places.shape, 8 * places.numel, add)])
        if order is None:
            return shuffled[1:]
        back = order.argsort()
        if not torch.equal(order[back], torch.arange(len(order))):
            raise TacitError("places that rows were to be arranged at are no permutation: a bug of Tacit")
        moved = [[t[back] for t in parts] for parts in rest]
        return [self._like(x, parts) for x, parts in zip(values, moved, strict=True)]

    @override
    def in_order(self, key: Number, *beside: Number) -> list[Number]:
        return network.in_order(key, *beside)

    def _like(self, x: Value, parts: list[Tensor]) -> Value:
        """A value of the same kind and scale around other shares, of which nothing is known."""
        return self._binary(parts, x.shape) if isinstance(x, Bits) else self._arithmetic(parts, x.shape, x.scale)

    # --- construction ----------------------------------------------------------------------------------------------

    def _arithmetic(self, parts: list[Tensor], shape: torch.Size, scale: Scale) -> Number:
        content = Shares(self, parts or _meta(shape, RING.dtype))
        return Number(self, content, Storage(shape.numel(), scale))

    def _binary(self, parts: list[Tensor], shape: torch.Size) -> Bits:
        return Bits(self, Shares(self, parts or _meta(shape, torch.uint8)), Storage(shape.numel()))


def _meta(shape: torch.Size, dtype: torch.dtype) -> list[Tensor]:
    """What the producer holds of a secret."""
    return [torch.empty(shape, dtype=dtype, device=META)]


def _simple(x: Number) -> Mask:
    """The simple mask of a number that is open."""
    mask = simple_mask(x.facts)
    assert mask is not None
    return mask


def _multiplier(scale: Scale, factor: float, frac_bits: int) -> int | None:
    """What `Additive.scale` multiplies by, if a truncation can."""
    drop = scale.ratio(factor, frac_bits)
    return None if drop is None else truncation.multiplier(drop)


def _zeros(scale: Scale, factor: float, frac_bits: int) -> int:
    """The zeros at the end of that, by which what is dealt of it is shorter."""
    m = _multiplier(scale, factor, frac_bits)
    return 0 if m is None else truncation.zeros_of(m)


def _bits(b: Bits) -> BitMask:
    """The mask of bits that are open."""
    mask = bit_mask(b.facts)
    assert mask is not None
    return mask


def _form(x: Number) -> Form:
    """A masked form of a number that has one."""
    form = masked_form(x.facts)
    assert form is not None
    return form


def _less_each(v: Tensor, edges: Sequence[int]) -> Tensor:
    """v - t for every t, in one pass."""
    if len(edges) == 1:
        return (v - edges[0]).unsqueeze(0)
    return v - torch.tensor(edges, dtype=RING.dtype, device=v.device).view(-1, *[1] * v.dim())
