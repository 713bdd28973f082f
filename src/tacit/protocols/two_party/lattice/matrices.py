"""Products of matrices of the two parties: of one that a party encrypts and one that the other holds in clear.

A `Job` is such a product, and has two hops: ciphertexts to the evaluator, unless it keeps them from before, and answers
to their owner. Jobs of one operation share their hops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tacit.protocols.two_party.lattice import kernels
from tacit.protocols.two_party.lattice.cipher import Ciphers
from tacit.protocols.two_party.lattice.forms import Spread
from tacit.protocols.two_party.lattice.hops import Hop
from tacit.protocols.two_party.lattice.keeper import LARGEST_BYTES, Keeper
from tacit.protocols.two_party.lattice.packing import Plan, plan
from tacit.protocols.two_party.lattice.parameters import DEGREE, Parameters
from tacit.ring.memory import space
from tacit.ring.ring import RING

__all__ = ["Job", "Operand", "choose", "run"]

REUSED = 16.0
"""For how many uses a ciphertext that is kept is paid at most. More: fewer answers of a model or of data, later; fewer:
less to be sent and kept when it is used again."""

PATIENCE = 1.25
"""By how much a first use may be dearer, so that ciphertexts are there for the next one. More: models that come once
are slower; less: those that come again cost two hops twice."""

EXPANDED = 512
"""Up to how many ciphertexts of an operand are kept ready to be multiplied, 400 kB each. More of them lie as they came,
a third of that, and are expanded at each use, which takes as long as ten products."""


DEARER = 2.0
"""By how much ciphertexts that are there may be dearer than others would be. More: they may fit ill; less: questions of
several sizes take turns to have them made anew."""


class Operand(NamedTuple):
    """A matrix [rows, columns, places] that both parties have a part of: None where a party is not hosted, or its part
    is zero."""

    parts: tuple[Tensor | None, Tensor | None]
    shape: tuple[int, int]
    alone: int | None
    cipher: dict[Any, Any]
    tag: tuple[Any, ...] = ()
    """What of the value this is: its windows, one of its groups."""

    def lasts(self, other: Operand) -> bool:
        """Whether it is data or a model, as what an owner knows is; the smaller of two is a question to the larger."""
        return self.alone is not None and (other.alone is None or math.prod(self.shape) > math.prod(other.shape))

    def uses(self, other: Operand) -> float:
        """How often it may be expected to be multiplied, from now on.

        What comes a second time and lasts, comes again. What both have a part of is an intermediate result, and will
        come as often again as it has come.
        """
        seen = self.cipher.get("uses", 0)
        if self.alone is None:
            return float(min(max(seen - 1, 1), REUSED))
        return REUSED if seen > 1 and self.lasts(other) else 1.0

    @property
    def turned(self) -> Operand:
        """The transposed matrix."""
        one, other = (None if part is None else part.transpose(0, 1) for part in self.parts)
        rows, columns = self.shape
        return Operand((one, other), (columns, rows), self.alone, self.cipher, (*self.tag, "turned"))

    def kept(self, owner: int, parameters: Parameters) -> _Kept | None:
        """The ciphertexts of a party's part that the other party has."""
        kept: _Kept | None = self.cipher.get(self.key(owner, parameters))
        return kept

    def key(self, owner: int, parameters: Parameters) -> tuple[Any, ...]:
        """By which they are found."""
        return (*self.tag, self.shape, owner, parameters.name)


class _Chunk:
    """Ciphertexts [rows, width] of some blocks."""

    def __init__(self, data: Tensor, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._data: Tensor | None = data
        self._ready: Tensor | None = None

    def ciphertexts(self, ciphers: Ciphers, owner: int, primes: int, *, keep: bool) -> Tensor:
        if self._ready is not None:
            return self._ready
        assert self._data is not None
        ready = ciphers.received(owner, primes, self._data).view(*self.shape, 2, primes, DEGREE)
        if keep:
            self._ready, self._data = ready, None
        return ready


class _Kept(NamedTuple):
    """The mw and kw that ciphertexts are cut by, and, at the evaluator, they themselves, by bands and chunks."""

    block: tuple[int, int]
    strided: bool
    bands: list[list[_Chunk]] | None


class Job:
    """X Y for an X of one party, encrypted, and a Y of the other. `flipped` says that (X Y)ᵀ is wanted."""

    def __init__(
        self,
        owner: int,
        x: Operand,
        y: Operand,
        spread: Spread,
        plan: Plan,
        parameters: Parameters,
        *,
        flipped: bool,
        keeps: bool,
        kept: _Kept | None,
    ) -> None:
        self.owner, self.x, self.y, self.spread, self.plan, self.parameters = owner, x, y, spread, plan, parameters
        self.flipped = flipped
        self._keeps = keeps
        self._kept = kept
        self._bands: list[list[_Chunk]] = []
        self._shares: list[Tensor] = []
        self._answers: list[Tensor] = []

    @property
    def shape(self) -> tuple[int, int]:
        """Of the result."""
        rows, columns = self.x.shape[0], self.y.shape[1]
        return (columns, rows) if self.flipped else (rows, columns)

    def upload(self, ciphers: Ciphers, hop: Hop) -> None:
        """Send ciphertexts, unless the evaluator has them."""
        if self._kept is not None:
            return
        part, p = self.x.parts[self.owner], self.parameters
        for band in self.plan.bands():
            row = []
            for chunk in self.plan.chunks(band):
                shape = len(band), len(chunk)
                data = None
                if part is not None:
                    messages = self.plan.left(part, self.spread.left, band, chunk).flatten(0, 1)
                    data = ciphers.encrypted(self.owner, p, messages)
                arrival = hop.move(self.owner, ciphers.size(p, shape[0] * shape[1]), data)
                if arrival is not None:
                    row.append(_Chunk(arrival, shape))
            self._bands.append(row)

    def answer(self, ciphers: Ciphers, hop: Hop, keeper: Keeper) -> None:
        """Multiply, and send answers."""
        p, plan, evaluator = self.parameters, self.plan, 1 - self.owner
        positions = plan.positions(self.spread.wanted)
        margin = p.margin(plan.terms(self.spread.right.numel()), RING.bits, 0) if p.exact else 0
        part = self.y.parts[evaluator]
        y = None if part is None else plan.right(part)
        bands = self._kept.bands if self._kept is not None else self._bands
        for at, band in enumerate(plan.bands()):
            for span in plan.spans(band):
                data = None
                if y is not None:
                    assert bands is not None
                    sums = self._sums(ciphers, bands[at], y, band, span)
                    data, share = ciphers.answered(self.owner, p, sums, positions, 0, margin)
                    self._shares.append(share)
                arrival = hop.move(evaluator, len(band) * len(span) * p.answer_bytes, data)
                if arrival is not None:
                    self._answers.append(arrival.view(-1, p.answer_bytes))
        self._bands = []
        if self._kept is not None:
            keeper.used(self.x.cipher, self.x.key(self.owner, p))
        elif self._keeps:
            here = bands if ciphers.hosts(evaluator) else None
            kept = _Kept((plan.mw, plan.kw), plan.strided, here)
            keeper.put(self.x.cipher, self.x.key(self.owner, p), kept, _kept_bytes(plan, p))

    def share(self, ciphers: Ciphers, index: int) -> Tensor:
        """A party's share of the product."""
        shares = self._shares
        if index == self.owner:
            positions = self.plan.positions(self.spread.wanted)
            shares = [ciphers.finished(self.owner, self.parameters, one, positions, 0) for one in self._answers]
        out = self.plan.joined(shares)
        return out.transpose(0, 1) if self.flipped else out

    def _sums(self, ciphers: Ciphers, row: list[_Chunk], y: Tensor, band: range, span: range) -> Tensor:
        """The sums of products for a band and a span: [rows · columns, 2, primes, N]."""
        plan, primes = self.plan, self.parameters.primes
        a, b, _ = plan.grid
        keep = a * b <= EXPANDED and (self._keeps or self._kept is not None or len(plan.spans(band)) > 1)
        shape = (len(band), len(span)) if plan.strided else (len(span), len(band))
        sums = space((*shape, 2, primes, DEGREE), torch.int64).zero_()
        for chunk, held in zip(plan.chunks(band), row, strict=True):
            some = held.ciphertexts(ciphers, self.owner, primes, keep=keep)
            factors = y[chunk.start : chunk.stop, :, span.start : span.stop]
            if plan.strided:
                kernels.dot_strided(some, factors.squeeze(-1).contiguous(), sums)
                continue
            for column, into in enumerate(sums):
                kernels.dot(some, kernels.plain(primes, plan.filled(factors[:, :, column], self.spread.right)), into)
        return (sums if plan.strided else sums.transpose(0, 1)).reshape(-1, 2, primes, DEGREE)


def choose(x: Operand, y: Operand, spread: Spread, left: int, parameters: Parameters) -> Job:
    """The cheapest way to the product of X of party `left` and Y of the other: which of them is encrypted, and how."""
    found: list[tuple[float, Job]] = []
    for owner, one, other in ((left, x, y), (1 - left, y.turned, x.turned)):
        flipped = owner != left
        places = spread.turned if flipped else spread
        for cost, best, keeps, kept in _ways(owner, one, other, spread.area, parameters):
            job = Job(owner, one, other, places, best, parameters, flipped=flipped, keeps=keeps, kept=kept)
            found.append((cost, job))
    return min(found, key=lambda each: each[0])[1]


def _ways(
    owner: int, one: Operand, other: Operand, area: int, parameters: Parameters
) -> list[tuple[float, Plan, bool, _Kept | None]]:
    """Ways to encrypt one operand, and what they cost: by ciphertexts that are there, for now, and to be kept."""
    shape, uses = (*one.shape, other.shape[1]), one.uses(other)
    found: list[tuple[float, Plan, bool, _Kept | None]] = []

    def add(best: Plan, cost: float, *, keeps: bool) -> None:
        found.append((cost, best, keeps and _kept_bytes(best, parameters) <= LARGEST_BYTES, None))

    cost, best = plan(*shape, parameters, 1.0, None, area)
    add(best, cost, keeps=one.lasts(other))
    _, best = plan(*shape, parameters, 1 / (uses if uses > 1 else REUSED), None, area)
    if uses > 1 and _kept_bytes(best, parameters) <= LARGEST_BYTES:
        add(best, best.cost(parameters, 1 / uses), keeps=True)
    elif one.lasts(other):
        add(best, best.cost(parameters, 1.0) / PATIENCE, keeps=True)
    kept = one.kept(owner, parameters)
    if kept is not None:
        cost, best = plan(*shape, parameters, 0.0, (*kept.block, kept.strided), area)
        found = [way for way in found if cost > DEARER * way[0]]
        found.append((cost, best, False, kept))
    return found


def _kept_bytes(plan: Plan, parameters: Parameters) -> int:
    """What the ciphertexts of an operand take at the evaluator."""
    a, b, _ = plan.grid
    ready = 2 * parameters.primes * DEGREE * RING.bytes
    return a * b * (ready if a * b <= EXPANDED else parameters.upload_bytes)


def run(ciphers: Ciphers, keeper: Keeper, hops: Sequence[Hop], jobs: Sequence[Job]) -> None:
    """Both hops of some jobs."""
    ciphers.begin()
    upload, answer = hops
    for job in jobs:
        job.upload(ciphers, upload)
    upload.done()
    for job in jobs:
        job.answer(ciphers, answer, keeper)
    answer.done()
