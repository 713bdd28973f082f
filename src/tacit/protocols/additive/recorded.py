"""Secrets of this scheme as a recording has them: how they begin, and what they end as; see `replays`."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any
from weakref import ref

import torch
from torch import Tensor
from typing_extensions import override

from tacit.errors import Unsteady
from tacit.protocols import replays
from tacit.protocols.additive import kernels
from tacit.protocols.additive.content import Opened, Shares, simple_mask
from tacit.protocols.additive.given import Given
from tacit.protocols.additive.masks import BitMask, Draw, Mask, MaskValue, Premask, Scaled
from tacit.protocols.additive.source.base import Dealt
from tacit.protocols.additive.source.dealing import Dealing
from tacit.protocols.number import Number
from tacit.protocols.remembered import Facts, Lineage, Owned, Storage, owned, within
from tacit.protocols.scale import Scale
from tacit.protocols.values import Bits, Multiple, Value
from tacit.ring import kernels as ring_kernels

if TYPE_CHECKING:
    from tacit.protocols.additive.protocol import Additive

__all__ = ["Recorded"]


class Form(replays.Form):
    """The form of secrets of this scheme."""

    def __init__(self) -> None:
        self.tensors = []
        self._storages: dict[int, int] = {}
        self._places: dict[Hashable, int] = {}
        self._masks: dict[int, int] = {}
        self._kept: list[MaskValue] = []

    @override
    def input(self, value: Value) -> Hashable:
        content, facts = value.content, value.facts
        assert isinstance(content, Shares)
        _leave_sums(facts)
        if isinstance(value, Number):
            simple_mask(facts)  # which follows from what it was moved from
        known: Opened | None = facts.scheme
        mask = None if known is None else known.mask
        if facts.memo or facts.public is not None or (known is not None and (known.form or known.parts)):
            raise Unsteady("more is known of an argument than what it came in as")
        assert content.root._missing is None
        if mask is None and facts.lineage is not None:
            raise Unsteady("an argument was made of what has not been opened: `x.clone()` of a batch has no past")
        place = self._storages.setdefault(id(value.storage), len(self._storages))
        integers = isinstance(value, Number) and not value.frac_bits
        whose = owned(facts) if integers else facts.owned
        if whose is None and facts.lineage is not None:
            whose = _owner(facts.lineage)
        return (
            type(value),
            (place, value.scale, value.storage.lasting, value.whole, content.base is None, value.shadow is None),
            self._parts(content.held),
            self._simple(mask),
            (known is not None and known.given, None if whose is None else whose.party, within(facts)),
            self._parts([whose.kept if integers and whose is not None else None]),  # labels, which their owner spreads
        )

    @override
    def sum(self, value: Value) -> Hashable:
        return self.state(value), self._parts(_shares(value).held)

    @override
    def state(self, value: Value) -> Hashable:
        content, facts = value.content, value.facts
        assert isinstance(content, Shares)
        if content.base is not None or not value.whole:
            raise Unsteady("what is written to is a part of something larger")
        _leave_sums(facts)
        if known(facts):
            raise Unsteady("more is known of what is written to than after a step")
        return type(value), value.scale, value.storage.lasting, self._missing(content)

    def _missing(self, content: Shares) -> Hashable:
        """The mask that is in shares."""
        missing = content._missing
        if missing is None:
            return None
        secret = missing.secret
        self._kept.append(secret)
        place = self._masks.setdefault(id(secret), len(self._masks))
        return place, secret.dealt, self._parts([secret.plain])

    def _simple(self, mask: Mask | BitMask | None) -> Hashable:
        if mask is None:
            return None
        if isinstance(mask, BitMask):
            if mask._ring is not None:
                raise Unsteady("more is known of bits than what they came in as")
            return "bits", self._parts([mask.opened]), self._parts(mask.beta.parts), self._parts([mask.beta.plain])
        if len(mask.terms) != 1 or mask.terms[0].factor is not None:
            raise Unsteady("an argument is masked by several terms")
        return self._parts([mask.opened]), self._secret(mask.secret)

    def _secret(self, secret: MaskValue) -> Hashable:
        tables = bool(secret._tables) or bool(secret._wide_tables)
        if tables or secret.shares is not None or (secret._parent and not secret.dealt):
            raise Unsteady("more is known of a mask than what it began as")
        given = secret.given
        return (
            *(secret.holder, secret.dealt, tuple(secret._shape)),
            *(self._parts(secret.parts), self._parts([secret.plain])),
            None if given is None else (given.owner, self._parts([given.opened, given.kept])),
        )

    def _parts(self, tensors: Sequence[Tensor | None]) -> Hashable:
        out: list[Hashable] = []
        for t in tensors:
            if t is None or t.is_meta:
                out.append(None if t is None else (t.shape, t.stride()))
                continue
            place = t.data_ptr(), t.shape, t.stride(), t.dtype
            if place not in self._places:  # the zeros of all parties that do not know a mask may be the same
                self._places[place] = len(self.tensors)
                self.tensors.append(t)
            out.append((self._places[place], *place[1:]))
        return tuple(out)


def _leave_sums(facts: Facts) -> None:
    """Have a content stand apart from what it was made of by sums and selections, see `spread`. Local, everywhere."""
    found: Opened | None = facts.scheme
    if found is not None and found.sum is not None:
        found.sum = None
        if not (found.mask or found.form or found.unsettled or found.parts or found.given):
            facts.scheme = None


def _owner(lineage: Lineage) -> Owned | None:
    if lineage.move is None:
        return None
    if lineage.facts.owned is not None or lineage.facts.lineage is None:
        return lineage.facts.owned
    return _owner(lineage.facts.lineage)


def known(facts: Facts) -> bool:
    """Whether anything is known of a content."""
    return bool(facts.scheme or facts.memo or facts.lineage or facts.owned or facts.within) or facts.public is not None


def _pins(value: Value) -> list[Any]:
    """Everything that is known of a value that is not written to, to be compared one by one: by identity, or by value.

    What is known of it can only grow; where it has, another step would have come of it.
    """
    out: list[Any] = []
    _leave_sums(value.facts)
    _pin(value, out, set())
    return out


def _pin(x: Any, out: list[Any], seen: set[int]) -> None:
    if isinstance(x, (list, tuple)) and not isinstance(x, Scale):
        for y in x:
            _pin(y, out, seen)
        return
    out.append(x)
    if x is None or id(x) in seen:
        return
    kind = type(x)
    if kind in _PINNED:
        seen.add(id(x))
        for y in _PINNED[kind](x):
            _pin(y, out, seen)
    elif not isinstance(x, _FIXED):
        raise Unsteady(f"a {kind.__name__} is known of what it reads")


def _facts(x: Facts) -> list[Any]:
    return [x.owned, x.scheme, x.public, x.lineage, x.within, len(x.memo), *x.memo.values()]


class Alone(MaskValue):
    """A mask of one content: where a copy has it as well, that is given one of its own."""

    __slots__ = ("place",)
    place: ref[Shares]


def _mask_value(x: MaskValue) -> list[Any]:
    wide = x._wide_tables
    return [x.dealt, len(x._tables), *x._tables.values(), len(wide), *wide.values(), *x.parts, x.plain, x.given]


_PINNED: dict[type, Callable[[Any], list[Any]]] = {
    Number: lambda x: [x.storage, x.storage.version, x.storage.scale, x.content, x.facts],
    Bits: lambda x: [x.storage, x.storage.version, x.storage.scale, x.content, x.facts],
    Shares: lambda x: [x.base, *x.held, x._missing, x.seen],
    Facts: _facts,
    Opened: lambda x: [x.mask, x.form, x.unsettled, x.parts, x.given, x.sum],
    Mask: lambda x: [x.opened, *(y for t in x.terms for y in (t.factor, t.secret))],
    MaskValue: _mask_value,
    Alone: _mask_value,
    Dealt: lambda x: [*x.parts, x.plain],
    BitMask: lambda x: [x.opened, x._ring, x.beta],
    Scaled: lambda x: [x.z, x._written, *(t for row in x.dealt for t in row)],
    Owned: lambda x: [x.party, x.kept],
    Given: lambda x: [x.owner, x.opened, x.kept],
    Premask: lambda x: [x.secret, *(d.spent for d in sorted(x.draws, key=id))],
}


_FIXED = (int, bool, float, str, range, Scale, Storage, Tensor, FunctionType, partial, BuiltinFunctionType, Multiple)
"""What never changes, or has been compared once it is found to be the same object."""


class Recorded(replays.Replays):
    """This scheme, whose crypto-producer deals while the parties compute."""

    def __init__(self, home: Additive, dealing: Dealing) -> None:
        self._home, self._dealing = home, dealing
        modules = (
            sys.modules[type(kernels.at("cpu")).__module__],
            sys.modules[type(ring_kernels.at("cpu")).__module__],
        )
        self.kernels = list(modules)

    @property
    @override
    def turn(self) -> int:
        return self._dealing.turns

    @override
    def pass_turns(self, count: int) -> None:
        self._dealing.turns += count

    # --- in and out ------------------------------------------------------------------------------------------------

    @override
    def whole(self, value: Value) -> None:
        content = _shares(value)
        content.held  # noqa: B018 - what a large one's shares follow from is written out
        content.deal_premask()

    @override
    def alone(self, value: Value) -> None:
        """A mask that draws are left of is given up: they count as spent, for whoever else has them."""
        content = _shares(value)
        _leave_sums(value.facts)
        content.held  # noqa: B018 - as of an argument
        missing = content.root._missing
        if missing is None:
            return
        if content.base is not None or content.seen is None or content.seen[0] is not missing:
            content.deal_premask()
            return
        for draw in missing.draws:
            draw.spent = True
        secret = missing.secret
        if missing.onto or secret.dealt or type(secret) is not Alone or secret.place() is not content:
            _miss(content, _copied(secret.plain))

    @override
    def forget(self, value: Value) -> None:
        value._facts = Facts()
        self.alone(value)

    @override
    def renew(self, value: Value) -> None:
        memo = value.facts.memo
        for place in [place for place in memo if place[0].anew]:
            del memo[place]

    @override
    def apart(self, value: Value) -> Value:
        content = _shares(value)
        premask = content.keep_premask()
        held = [t.clone(memory_format=torch.contiguous_format) for t in content.held]
        out = value._of(Shares(content.home, held), value.scale)
        if premask is not None:
            for draw in premask.draws:
                draw.spent = True
            _miss(_shares(out), _copied(premask.secret.plain))
        return out

    @override
    def left(self, value: Value) -> replays.Left:
        content = _shares(value)
        missing = content._missing
        plain = None if missing is None else missing.secret.plain
        return replays.Left(type(value), value.scale, list(content.held), missing is not None, plain)

    @override
    def made(self, left: replays.Left) -> Value:
        content = Shares(self._home, left.held)
        if left.masked:
            _miss(content, left.mask)
        return left.kind(self._home, content, Storage(content.like.numel(), left.scale))

    @override
    def miss(self, value: Value, left: replays.Left) -> None:
        content = _shares(value)
        content._missing, content._whole = None, []
        if left.masked:
            _miss(content, left.mask)

    # --- what is known -----------------------------------------------------------------------------------------------

    @override
    def form(self) -> Form:
        return Form()

    @override
    def pins(self, value: Value) -> list[Any]:
        return _pins(value)

    @override
    def memory(self) -> dict[int, torch.UntypedStorage]:
        found: dict[int, torch.UntypedStorage] = {}
        others: set[type] = set()  # nearly all objects are of few kinds
        for x in gc.get_objects():
            kind = type(x)
            if kind in others:
                continue
            if kind is Shares:
                tensors = x.held
            elif issubclass(kind, Dealt):
                tensors = [*x.parts, *(x.shares or ()), x.plain]
            elif kind is Mask or kind is BitMask:
                tensors = [x.opened]
            elif kind is Scaled:
                tensors = [t for row in x.dealt for t in row]
            elif kind is Owned:
                tensors = [x.kept]
            elif kind is Given:
                tensors = [x.opened, x.kept]
            else:
                others.add(kind)
                continue
            for t in tensors:
                if t is not None and not t.is_meta and t.numel():
                    storage = t.untyped_storage()
                    found[storage.data_ptr()] = storage
        return found

    @override
    def shares(self, value: Value) -> list[Tensor]:
        return _shares(value).held

    @override
    def is_clean(self, value: Value) -> bool:
        _leave_sums(value.facts)
        return not known(value.facts)


def _copied(t: Tensor | None) -> Tensor | None:
    """In memory of its own: draws of one stream lie side by side."""
    return None if t is None else t.clone(memory_format=torch.contiguous_format)


def _shares(value: Value) -> Shares:
    assert isinstance(value.content, Shares)
    return value.content


def _miss(content: Shares, plain: Tensor | None) -> None:
    """Say of all of a storage that a mask is in its shares, of which no draw is left: it is never opened under it.

    Nobody else has this mask as an object, so nobody waits for shares of it that were dealt for another.
    """
    draw = Draw()
    draw.spent = True
    secret = Alone.withheld(plain, content.shape)
    assert isinstance(secret, Alone)
    secret.place = ref(content)
    content._miss(Premask(secret, frozenset((draw,)), onto=False), content)
