"""Secrets whose masks are known in several terms, beyond what one opening leaves: sums, selections, truncations.

    x  =  E + a + Σ Q_k s_k        E and Q_k public among the parties, a and s_k the producer's

follows from what x was made of, without opening x; so a small matrix product takes x as it is, see `matmul`, where a
simple mask would be one more round. Only of few elements is it kept track of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tacit.protocols.additive import kernels, product
from tacit.protocols.additive.content import Opened, opened, simple_mask
from tacit.protocols.additive.masks import BitMask, Form, Mask, MaskValue, Scaled, Term
from tacit.protocols.additive.source.base import Dealt, Source
from tacit.protocols.content import TensorOp
from tacit.protocols.number import Number
from tacit.protocols.remembered import Facts, Lineage
from tacit.protocols.values import Multiple, same
from tacit.ring import kernels as ring_kernels
from tacit.ring.ring import RING

__all__ = ["FEW", "Joined", "Spread", "Summed", "bits", "kept", "matmul", "note_sum", "pays", "selection", "spread"]

FEW = 4096
"""Elements of what is kept track of. More: larger products might take it, up to what a round is worth."""

MOST = 10
"""Terms with a factor. More: longer sums, each of whose terms a product has dealt for itself."""

DEEPEST = 8
"""Sums of sums. More: more is known of long ones; fewer: less is kept of what they were made of."""

LESS = 100_000
"""By so many bytes less than a round is worth are those that are dealt for one content before it is opened, for they
have to be computed, too. More: less to compute for roles that share a machine, where rounds are cheap; fewer: fewer
rounds there."""


class Extent(NamedTuple):
    """How much is spread: whether there is an a, and the secrets that have a factor, each with its words."""

    whole: bool
    terms: frozenset[tuple[object, float]] = frozenset()
    depth: int = 0
    """How many sums and writes it was made by, one of the other."""

    @property
    def fits(self) -> bool:
        """Whether so much is kept track of."""
        return len(self.terms) <= MOST and self.depth <= DEEPEST

    @property
    def words(self) -> float:
        """Of all secrets that have a factor."""
        return sum(words for _, words in self.terms)

    def plus(self, other: Extent) -> Extent:
        """That of a sum. A secret that is in both counts once."""
        return Extent(self.whole or other.whole, self.terms | other.terms, 1 + max(self.depth, other.depth))


SIMPLE = Extent(True)


def _secret(zeros: int = 0) -> tuple[object, float]:
    """A secret of its own with so many low bits that are zero."""
    return object(), RING.bytes_above(zeros) / RING.bytes


class Spread:
    """E, a (None for zero), and the terms with a factor; at the producer factors are None."""

    __slots__ = ("opened", "terms", "whole")

    def __init__(self, public: Tensor | None, whole: Dealt | None, terms: Sequence[Term] = ()) -> None:
        self.opened = public
        self.whole = whole
        self.terms = terms

    @classmethod
    def of_form(cls, source: Source, form: Form) -> Spread:
        """What an opening or a truncation leaves, whose first term has no factor."""
        mask = form.written()
        mask.deal(source)
        first, *rest = mask.terms
        return cls(mask.opened, _shared(first.secret), rest)

    def moved(self, op: TensorOp) -> Spread:
        """That of op(x), for an op that only moves, repeats or drops elements."""
        terms = [Term(None if q is None else op(q), s.map(op), zeros) for q, s, zeros in self.terms]
        whole = None if self.whole is None else self.whole.map(op)
        return Spread(None if self.opened is None else op(self.opened), whole, terms)

    def times(self, k: int) -> Spread:
        """That of x k."""
        terms = [Term(None if q is None else q * k, s, zeros) for q, s, zeros in self.terms]
        whole = None if self.whole is None else self.whole.map(lambda t: t * k)
        return Spread(None if self.opened is None else self.opened * k, whole, terms)

    def plus(self, other: Spread) -> Spread:
        """That of a sum. A secret that is in both has one term."""
        terms = list(self.terms)
        for q, s, zeros in other.terms:
            at = next((k for k, term in enumerate(terms) if term.secret.parts is s.parts), None)
            if at is None:
                terms.append(Term(q, s, zeros))
            elif q is not None:
                mine = terms[at].factor
                assert mine is not None
                terms[at] = terms[at]._replace(factor=mine + q)
        wholes = [v for v in (self.whole, other.whole) if v is not None]
        whole = _sum(*wholes) if len(wholes) == 2 else wholes[0] if wholes else None
        known = self.opened is not None and other.opened is not None
        return Spread(self.opened + other.opened if known else None, whole, terms)  # type: ignore[operator]

    def shares(self, place: int) -> Tensor | None:
        """A hosted party's share of a + Σ Q_k s_k; None for zero."""
        total = None if self.whole is None else self.whole.parts[place]
        for q, s, _ in self.terms:
            assert q is not None
            part = q * s.parts[place]
            total = part if total is None else total + part
        return total

    def __repr__(self) -> str:
        return "Spread(<hidden>)"


class Summed:
    """How the spread of a content is made, once somebody asks."""

    __slots__ = ("_found", "_make", "most")

    def __init__(self, extent: Extent, make: Callable[[Source], Spread]) -> None:
        self.most = extent
        self._make: Callable[[Source], Spread] | None = make
        self._found: Spread | None = None

    def extent(self) -> Extent | None:
        """How much it will be."""
        return self.most

    def spread(self, source: Source) -> Spread:
        """The same whenever it is asked for."""
        if self._found is None:
            assert self._make is not None
            self._found, self._make = self._make(source), None
        return self._found


class Joined(NamedTuple):
    """Contents end to end, whose spread is known once all of them are open. What is open of them does not hold them."""

    rows: Sequence[Opened]

    def _masks(self) -> list[Mask]:
        return [row.mask for row in self.rows if isinstance(row.mask, Mask)]

    def extent(self) -> Extent | None:
        """One mask, then."""
        return SIMPLE if len(self._masks()) == len(self.rows) else None

    def spread(self, source: Source) -> Spread:
        """That of the simple masks, end to end."""
        masks = self._masks()
        for mask in masks:
            mask.deal(source)
        joined = Mask.combined(lambda *tensors: torch.cat([t.reshape(-1) for t in tensors]), masks)
        return Spread(joined.opened, _shared(joined.secret))


def _shared(secret: Dealt) -> Dealt:
    """A secret with every hosted party's share, which of an owner's mask is worked out."""
    if not isinstance(secret, MaskValue) or secret.given is None:
        return secret
    return Dealt([secret.part(k) for k in range(len(secret.parts))], secret.plain)


def _sum(x: Dealt, y: Dealt) -> Dealt:
    plain = None if x.plain is None or y.plain is None else x.plain + y.plain
    return Dealt([a + b for a, b in zip(x.parts, y.parts, strict=True)], plain)


def root_of(facts: Facts) -> tuple[Facts, Extent] | None:
    """Which content, of those that this one was moved from or is a multiple of, is known to be spread, and how much."""
    followed = True
    while True:
        known, lineage = facts.scheme, facts.lineage
        if known is not None:
            if known.mask is not None:
                return facts, SIMPLE
            if followed and known.form is not None:
                return facts, Extent(True, frozenset((_secret(_zeros(known.form)),)))
            if followed and known.sum is not None:
                extent = known.sum.extent()
                return None if extent is None else (facts, extent)
        if lineage is None:
            return None
        followed = followed and _followed(lineage)
        facts = lineage.facts


def _followed(lineage: Lineage) -> bool:
    return lineage.move is not None or lineage.step is same or isinstance(lineage.step, Multiple)


def _zeros(form: Form) -> int:
    return form.zeros if isinstance(form, Scaled) else form.terms[1].zeros


def spread(source: Source, facts: Facts) -> Spread:
    """The spread of a content that has one."""
    mask = simple_mask(facts)
    if mask is not None:
        return Spread.of_form(source, mask)
    known, lineage = facts.scheme, facts.lineage
    if known is not None and known.form is not None:
        return Spread.of_form(source, known.form)
    if known is not None and known.sum is not None:
        found: Spread = known.sum.spread(source)
        return found
    assert lineage is not None
    before = spread(source, lineage.facts)
    if lineage.move is not None:
        return before.moved(lineage.move)
    return before.times(lineage.step.k) if isinstance(lineage.step, Multiple) else before


def kept(facts: Facts) -> Summed | None:
    """The spread of a content, for what is made of it."""
    root = root_of(facts)
    extent = None if root is None else root[1].plus(root[1])
    return Summed(extent, lambda source: spread(source, facts)) if extent is not None and extent.fits else None


def note_sum(out: Facts, x: Facts, y: Facts, sign: int) -> None:
    """Note how out = x ± y is spread, if x and y are, and not both by one mask: such a sum is opened once."""
    left = root_of(x)
    right = None if left is None else root_of(y)
    if left is None or right is None:
        return
    extent = left[1].plus(right[1])
    if not extent.terms or not extent.fits:
        return

    def make(source: Source) -> Spread:
        found = spread(source, y)
        return spread(source, x).plus(found if sign > 0 else found.times(-1))

    opened(out).sum = Summed(extent, make)


def selection(bit: BitMask, form: Form, rows: Sequence[Sequence[Tensor]]) -> Summed:
    """How b x is spread, by `of_selection`."""
    terms = [(bit, 1.0), _secret(), _secret()]
    if isinstance(form, Scaled):
        terms += [_secret(form.zeros), _secret(form.zeros)]
    return Summed(Extent(False, frozenset(terms)), lambda source: of_selection(source, bit, form, rows))


def bits(bit: BitMask) -> Summed:
    """How b is spread, by `of_bits`."""
    return Summed(Extent(False, frozenset(((bit, 1.0),))), lambda source: of_bits(source, bit))


def of_bits(source: Source, bit: BitMask) -> Spread:
    """b = c + (1 - 2c) β."""
    return Spread(_ring(bit.opened), None, [Term(_sign(bit.opened), _beta(source, bit))])


def of_selection(source: Source, bit: BitMask, form: Form, rows: Sequence[Sequence[Tensor]]) -> Spread:
    """b x = c E + Σ c Q_k s_k + (1 - 2c) (E β + Σ Q_k β s_k), of which `rows` are shares of each β s_k."""
    mask, beta = form.written(), _beta(source, bit)
    mask.deal(source)
    c, sign, E = _ring(bit.opened), _sign(bit.opened), mask.opened  # noqa: N806 - the letters of the formula
    terms = [Term(None if sign is None or E is None else sign * E, beta)]
    for k, (q, secret, zeros) in enumerate(mask.terms):
        s = _shared(secret)
        parts = [row[k] if not zeros else kernels.on(row[k]).wrap_words(row[k]) for row in rows]
        plain = None if s.plain is None or beta.plain is None else s.plain * beta.plain
        for factor, dealt in ((c, s), (sign, Dealt(parts, plain))):
            terms.append(Term(factor if q is None or factor is None else factor * q, dealt, zeros))
    return Spread(None if c is None or E is None else c * E, None, terms)


def _ring(c: Tensor | None) -> Tensor | None:
    return None if c is None else c.to(RING.dtype)


def _sign(c: Tensor | None) -> Tensor | None:
    return None if c is None else 1 - 2 * c.to(RING.dtype)


def _beta(source: Source, bit: BitMask) -> Dealt:
    return Dealt(bit.ring(source).parts, _ring(bit.beta.plain))


# --- products ---------------------------------------------------------------------------------------------------------


def pays(x: Number, y: Number, op: object, worth: int) -> bool:
    """Whether `matmul` does without a round for fewer bytes than that is worth, all that x and y have taken counted."""
    if op is not ring_kernels.matmul or len(x.shape) != 2 or len(y.shape) != 2:
        return False
    if min(x.numel, y.numel) > FEW or x.numel * y.shape[1] > worth:  # some byte is dealt for each product of elements
        return False
    left = root_of(x.facts)
    right = None if left is None else root_of(y.facts)
    if left is None or right is None:
        return False
    (_, one), (_, other) = left, right
    if not one.terms and not other.terms:  # both are open
        return False
    words = (one.whole + one.words) * (other.whole + other.words) - one.whole * other.whole
    size = math.ceil(RING.bytes * words * x.numel * y.shape[1])
    closed = [opened(facts) for facts, extent in (left, right) if extent.terms]
    if any(known.dealt + size > worth - LESS for known in closed):
        return False
    for known in closed:
        known.dealt += size
    return True


def matmul(
    source: Source, x: Spread, y: Spread, indices: Sequence[int], shape: torch.Size
) -> product.Product | list[Tensor]:
    """Shares of the product of two matrices x [m, n] and y [n, p], premasked if both have a whole mask.

        (E + a + Σ Q_k s_k) (F + b + Σ R_l t_l)  =  E F + E T + S F + a b + Σ (Q_k s_k) b + a Σ (R_l t_l) + …

    for S = a + Σ Q_k s_k, T = b + Σ R_l t_l. a b hides in the mask; of the others the producer, who knows no Q and R,
    deals every product of two elements. Producer: 8 bytes for each, fewer for the bits that truncations leave.
    """
    crossed = _crossed(source, x, y)
    products: list[Tensor | None] = []
    for place, index in enumerate(indices):
        E, F, S, T = x.opened, y.opened, x.shares(place), y.shares(place)  # noqa: N806 - the letters of the formula
        assert E is not None
        assert F is not None
        right = T if index else F if T is None else F + T
        z = torch.zeros(shape, dtype=RING.dtype) if right is None else ring_kernels.matmul(E, right)
        if S is not None:
            z += ring_kernels.matmul(S, F)
        for factor, dealt in crossed:
            z += factor(dealt.parts[place])
        products.append(z)
    if x.whole is None or y.whole is None:
        return [z for z in products if z is not None]
    size = shape if indices else None
    return product.premasked(*source.bilinear_product(products, x.whole, y.whole, ring_kernels.matmul, size), size)


Crossed = tuple[Callable[[Tensor], Tensor], Dealt]
"""What becomes of a share of dealt products of elements, and those."""


def _crossed(source: Source, x: Spread, y: Spread) -> list[Crossed]:
    """All products of terms but the whole ones."""
    out = []
    for zeros, group in _by_zeros(x.terms):
        if y.whole is not None:
            out.append(_rows(source, group, y.whole, zeros))
    for zeros, group in _by_zeros(y.terms):
        if x.whole is not None:
            turned = [_turned(term) for term in group]
            unstack, dealt = _rows(source, turned, x.whole.map(lambda v: v.t()), zeros)
            out.append((lambda t, unstack=unstack: unstack(t).t(), dealt))  # type: ignore[misc]
    for s in x.terms:
        out += [_pair(source, s, t) for t in y.terms if s.zeros + t.zeros < RING.bits]
    return out


def _by_zeros(terms: Sequence[Term]) -> list[tuple[int, list[Term]]]:
    """Terms that have as many zeros, together."""
    groups: dict[int, list[Term]] = {}
    for term in terms:
        groups.setdefault(term.zeros, []).append(term)
    return list(groups.items())


def _turned(term: Term) -> Term:
    factor, secret, zeros = term
    return Term(None if factor is None else factor.t(), secret.map(lambda v: v.t()), zeros)


def _rows(source: Source, group: Sequence[Term], b: Dealt, zeros: int) -> Crossed:
    """Σ_k (Q_k s_k) b, from s_k[i, j] b[j, c] as [i, (k, j), c]."""
    count, some = len(group), group[0].secret
    m, n = (some.plain if some.plain is not None else some.parts[0]).shape
    p = (b.plain if b.plain is not None else b.parts[0]).shape[1]
    known = [g.secret.plain for g in group if g.secret.plain is not None]
    stacked = Dealt([], _stacked(known).unsqueeze(3) if known else None)
    (dealt,) = source.terms([(stacked, b)], [zeros], (m, count, n, p))
    factors = [g.factor for g in group if g.factor is not None]
    q = _stacked(factors).reshape(m, 1, count * n) if factors else None

    def unstacked(t: Tensor) -> Tensor:
        assert q is not None
        return ring_kernels.matmul(q, t.view(m, count * n, p)).squeeze(1)

    return unstacked, dealt


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Along a new second dimension."""
    return torch.stack(tuple(tensors), 1) if len(tensors) > 1 else tensors[0].unsqueeze(1)


def _pair(source: Source, s: Term, t: Term) -> Crossed:
    """(Q s) (R t), from s[i, j] t[j, c]."""
    left, right = s.secret.map(lambda v: v.unsqueeze(2)), t.secret.map(lambda v: v.unsqueeze(0))
    some = (left.plain, right.plain) if left.plain is not None else (left.parts[0], right.parts[0])
    shape = torch.broadcast_shapes(*(v.shape for v in some if v is not None))
    (dealt,) = source.terms([(left, right)], [s.zeros + t.zeros], shape)

    def summed(part: Tensor) -> Tensor:
        assert s.factor is not None
        assert t.factor is not None
        return (part * s.factor.unsqueeze(2) * t.factor.unsqueeze(0)).sum(1)

    return summed, dealt
