"""Secrets of this scheme as a recording has them: how they begin, and copies of what they end as; see `replays`."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from types import BuiltinFunctionType, CellType, FunctionType, MethodDescriptorType, WrapperDescriptorType
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from tacit.errors import NotReplayed, Unsteady
from tacit.protocols import replays
from tacit.protocols.additive import kernels
from tacit.protocols.additive.content import Opened, Shares, Unsettled, simple_mask
from tacit.protocols.additive.masks import BitMask, Draw, Mask, MaskValue, Premask, Scaled, Term
from tacit.protocols.additive.source.base import Dealt
from tacit.protocols.additive.source.dealing import Dealing
from tacit.protocols.number import Number
from tacit.protocols.protocol import Protocol
from tacit.protocols.remembered import Facts, Lineage, Owned, Remembered, Storage
from tacit.protocols.scale import Scale
from tacit.protocols.series import Harmonics, Polynomial
from tacit.protocols.values import Bits, Value
from tacit.ring import kernels as ring_kernels

__all__ = ["Recorded"]


class Form(replays.Form):
    """The form of secrets of this scheme."""

    def __init__(self) -> None:
        self.tensors = []
        self._draws: dict[Draw, int] = {}
        self._storages: dict[int, int] = {}
        self._places: dict[Hashable, int] = {}

    @override
    def input(self, value: Value) -> Hashable:
        content, facts = value.content, value.facts
        assert isinstance(content, Shares)
        if isinstance(value, Number):
            simple_mask(facts)  # which follows from what it was moved from
        known: Opened | None = facts.scheme
        mask = None if known is None else known.mask
        if facts.memo or facts.public is not None or (known is not None and (known.form or known.parts)):
            raise Unsteady("more is known of an argument than what it came in as")
        if content.root._missing is not None and (content.base is not None or mask is not None):
            raise Unsteady("an argument is a part of a result that has not been opened")
        if mask is None and facts.lineage is not None:
            raise Unsteady("an argument was made of what has not been opened: `x.clone()` of a batch has no past")
        place = self._storages.setdefault(id(value.storage), len(self._storages))
        owned = facts.owned
        if owned is None and facts.lineage is not None:
            owned = _owner(facts.lineage)
        return (
            type(value),
            (place, value.scale, value.storage.lasting, value.whole, content.base is None, value.shadow is None),
            self._parts(content.held),
            self._missing(content),
            self._simple(mask),
            (known is not None and known.given, None if owned is None else owned.party, facts.within),
        )

    @override
    def state(self, value: Value) -> Hashable:
        content, facts = value.content, value.facts
        assert isinstance(content, Shares)
        if content.base is not None or not value.whole:
            raise Unsteady("what is written to is a part of something larger")
        if known(facts):
            raise Unsteady("more is known of what is written to than after a step")
        return type(value), value.scale, value.storage.lasting, self._missing(content)

    def _missing(self, content: Shares) -> Hashable:
        """The mask that is in shares."""
        missing = content.root._missing
        if missing is None:
            return None
        if content.seen is None or content.seen[0] is not missing or content.seen[1] is not missing:
            raise Unsteady("a secret was written to after a view of it was made")
        draws = tuple(sorted((self._draws.setdefault(d, len(self._draws)), d.spent) for d in missing.draws))
        return draws, missing.onto, self._secret(missing.secret)

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
        if secret._tables is not None or secret.shares is not None or (secret._parent and not secret.dealt):
            raise Unsteady("more is known of a mask than what it began as")
        return secret.holder, secret.dealt, tuple(secret._shape), self._parts(secret.parts), self._parts([secret.plain])

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


def _facts(x: Facts) -> list[Any]:
    return [x.owned, x.scheme, x.public, x.lineage, x.within, len(x.memo), *x.memo.values()]


_PINNED: dict[type, Callable[[Any], list[Any]]] = {
    Number: lambda x: [x.storage, x.storage.version, x.storage.scale, x.content, x.facts],
    Bits: lambda x: [x.storage, x.storage.version, x.storage.scale, x.content, x.facts],
    Shares: lambda x: [x.base, *x.held, x._missing, x.seen],
    Facts: _facts,
    Opened: lambda x: [x.mask, x.form, x.unsettled, x.parts, x.given],
    Mask: lambda x: [x.opened, *(y for t in x.terms for y in (t.factor, t.secret))],
    MaskValue: lambda x: [x.dealt, x._tables, *x.parts, x.plain],
    Dealt: lambda x: [*x.parts, x.plain],
    BitMask: lambda x: [x.opened, x._ring, x.beta],
    Scaled: lambda x: [x.z, x._written, *(t for row in x.dealt for t in row)],
    Owned: lambda x: [x.party, x.value],
    Premask: lambda x: [x.secret, *(d.spent for d in sorted(x.draws, key=id))],
}


class Copies(replays.Copies):
    """Copies of objects of this scheme."""

    def __init__(self, at: Callable[[Tensor], Tensor], kept: dict[int, Any], refused: dict[int, str]) -> None:
        self._at = at
        self._made: dict[int, Any] = dict(kept)
        """By the id of what they are copies of."""
        self._refused = refused

    @override
    def of(self, x: Any) -> Any:
        found = self._made.get(id(x))
        if found is None:
            if id(x) in self._refused:
                raise NotReplayed(self._refused[id(x)])
            make = _MAKERS.get(type(x))
            if make is None and not isinstance(x, _STAYS):
                raise NotReplayed(f"what is kept of a result holds a {type(x).__name__}")
            found = x if make is None else make(self, x)
            self._made[id(x)] = found
        return found

    def blank(self, x: Any) -> Any:
        """An object of the same class, to be filled, which copies of it are from now on."""
        out = object.__new__(type(x))
        self._made[id(x)] = out
        return out

    def tensor(self, x: Tensor) -> Tensor:
        return self._at(x)

    def filled(self, x: Any) -> Any:
        """A copy of an object with slots, each of them copied."""
        out = self.blank(x)
        for kind in type(x).__mro__:
            for name in getattr(kind, "__slots__", ()):
                setattr(out, name, self.of(getattr(x, name)))
        return out

    def row(self, x: list[Any]) -> list[Any]:
        out: list[Any] = []
        self._made[id(x)] = out
        out += [self.of(y) for y in x]
        return out

    def table(self, x: dict[Any, Any]) -> dict[Any, Any]:
        return {self.of(k): self.of(v) for k, v in x.items()}

    def function(self, x: FunctionType) -> FunctionType:
        """A function that moves elements, or adds public ones: the same of what it holds, if it holds anything."""
        if not (x.__closure__ or x.__defaults__ or x.__kwdefaults__):
            return x
        cells = tuple(CellType(self.of(cell.cell_contents)) for cell in x.__closure__ or ())
        out = FunctionType(x.__code__, x.__globals__, x.__name__, self.of(x.__defaults__), cells)
        out.__kwdefaults__ = self.of(x.__kwdefaults__)
        return out


def _tuple(self: Copies, x: Any) -> Any:
    row = [self.of(y) for y in x]
    return type(x)(*row) if hasattr(x, "_fields") else tuple(row)


def _frozen(self: Copies, x: frozenset[Any]) -> frozenset[Any]:
    return frozenset(self.of(y) for y in x)


_MAKERS: dict[type, Callable[[Copies, Any], Any]] = {
    Tensor: Copies.tensor,
    FunctionType: Copies.function,
    list: Copies.row,
    dict: Copies.table,
    tuple: _tuple,
    frozenset: _frozen,
    object: lambda self, x: object(),
    **dict.fromkeys((Number, Bits, Storage, Facts, Opened, Mask, MaskValue, BitMask, Dealt), Copies.filled),
    **dict.fromkeys((Shares, Scaled, Premask, Draw), Copies.filled),
    **dict.fromkeys((Term, Unsettled, Lineage, Owned), _tuple),
    partial: lambda self, x: partial(self.of(x.func), *map(self.of, x.args), **self.table(x.keywords)),
}
"""How to copy each class."""

_STAYS = (
    *(type(None), bool, int, float, str, bytes, range, torch.Size, torch.dtype, Scale, Remembered, Protocol),
    *(BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType, Harmonics, Polynomial),
    *(torch._ops.OpOverload, torch.memory_format, torch.device, torch.layout, slice),
)
"""What is plain, and stays what it is."""


class Recorded(replays.Replays):
    """This scheme, whose crypto-producer deals while the parties compute."""

    def __init__(self, dealing: Dealing) -> None:
        self._dealing = dealing
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

    @override
    def form(self) -> Form:
        return Form()

    @override
    def pins(self, value: Value) -> list[Any]:
        return _pins(value)

    @override
    def memory(self) -> dict[int, torch.UntypedStorage]:
        found: dict[int, torch.UntypedStorage] = {}
        for x in gc.get_objects():
            kind = type(x)
            if kind is Shares:
                tensors = x.held
            elif kind is Dealt or kind is MaskValue:
                tensors = [*x.parts, *(x.shares or ()), x.plain]
            elif kind is Mask or kind is BitMask:
                tensors = [x.opened]
            elif kind is Scaled:
                tensors = [t for row in x.dealt for t in row]
            elif kind is Owned:
                tensors = [x.value]
            else:
                continue
            for t in tensors:
                if t is not None and not t.is_meta and t.numel():
                    storage = t.untyped_storage()
                    found[storage.data_ptr()] = storage
        return found

    @override
    def shares(self, value: Value) -> list[Tensor]:
        assert isinstance(value.content, Shares)
        return value.content.held

    @override
    def missing(self, value: Value) -> Any:
        assert isinstance(value.content, Shares)
        return value.content._missing

    @override
    def miss(self, value: Value, missing: Any) -> None:
        content = value.content
        assert isinstance(content, Shares)
        if missing is None:
            content._missing, content._whole = None, []
        else:
            content._miss(missing, content)

    @override
    def is_clean(self, value: Value) -> bool:
        return not known(value.facts)

    @override
    def copies(self, at: Callable[[Tensor], Tensor], kept: dict[int, Any], refused: dict[int, str]) -> Copies:
        return Copies(at, kept, refused)
