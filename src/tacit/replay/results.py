"""What a step leaves behind: results, gradients, and parameters that it wrote to.

They are found by comparing before and after a recording, and made again after each replay, as they were then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tacit.errors import NotReplayed, TacitError, Unsteady
from tacit.protocols.protocol import Protocol
from tacit.protocols.replays import Replays
from tacit.protocols.scale import Scale
from tacit.protocols.values import Value
from tacit.replay.watched import PLAIN
from tacit.tensor import SecretTensor

__all__ = ["Results"]


class Written(NamedTuple):
    """A secret that a step writes to."""

    secret: SecretTensor
    value: Value
    shares: list[Tensor]
    writes: int
    scale: Scale
    missing: Any


class Gradient(NamedTuple):
    """A gradient that a step leaves."""

    parameter: SecretTensor
    made: Made | None


class Made(NamedTuple):
    """A secret that a step makes."""

    value: Value | None
    """None for one that waits, and that nobody has read."""
    dtype: torch.dtype
    shape: torch.Size
    dense: bool
    requires_grad: bool


class Before:
    """How the secrets were that a step was given or reads."""

    def __init__(self, replays: Replays, arguments: Sequence[SecretTensor], states: Sequence[SecretTensor]) -> None:
        self._replays, self._arguments, self._states = replays, arguments, states
        self._values = [_there(x) for x in (*arguments, *states)]
        self._versions = [v.storage.version for v in self._values]
        self._scales = [v.scale for v in self._values]
        self._pins = [replays.pins(v) for v in self._values]
        self._clean = [replays.is_clean(v) for v in self._values]
        self._gradients = [x.grad for x in states]

    @property
    def pinned(self) -> list[Tensor]:
        """What is known of secrets that a step reads, and does not write to."""
        return [x for pins in self._pins[len(self._arguments) :] for x in pins if isinstance(x, Tensor)]

    def after(self, result: Any) -> tuple[Results, list[Tensor]]:
        """What a step has left, and the tensors that it is made of."""
        replays, count = self._replays, len(self._arguments)
        out = Results(replays, self._values[0].protocol)
        kept: dict[int, Any] = {}
        refused: dict[int, str] = {}
        for k, (x, value) in enumerate(zip((*self._arguments, *self._states), self._values, strict=True)):
            if x._share is not value:
                raise Unsteady("it gives a secret another content (`x.data = …`)")
            written = value.storage.version != self._versions[k]
            argument = k < count
            if argument:
                if written or not same(replays.pins(value), self._pins[k]):
                    raise NotReplayed("it writes to an argument, or opens one that was closed before")
                for thing in (value, value.storage, value.content, value.facts):
                    refused[id(thing)] = "it returns an argument, or a part of one: return `.clone()` of it"
                continue
            for thing in (value, value.storage, value.content):
                kept[id(thing)] = thing
            if not written:
                if not same(replays.pins(value), self._pins[k]):
                    raise Unsteady("what is known of a parameter grows")
                kept[id(value.facts)] = value.facts
                out.pinned.append((x, value, self._pins[k]))
                continue
            if not (self._clean[k] and replays.is_clean(value)) or value.scale != self._scales[k]:
                raise Unsteady("a parameter is finer, or more is known of it, than before")
            missing = replays.missing(value)
            writes = value.storage.version - self._versions[k]
            out.written.append(Written(x, value, list(replays.shares(value)), writes, value.scale, missing))
        for x, before in zip(self._states, self._gradients, strict=True):
            if x.grad is not before:
                out.gradients.append(Gradient(x, None if x.grad is None else _made(x.grad)))
        out.result = _structure(result)
        return out, out.hold(kept, refused)


class Results:
    """What to make after a replay."""

    def __init__(self, replays: Replays, protocol: Protocol) -> None:
        self._replays, self._protocol = replays, protocol
        self.written: list[Written] = []
        self.pinned: list[tuple[SecretTensor, Value, list[Any]]] = []
        self.gradients: list[Gradient] = []
        self.result: Any = None
        self.digest = ""
        self._kept: dict[int, Any] = {}
        self._replayed = 0

    @staticmethod
    def before(replays: Replays, arguments: Sequence[SecretTensor], states: Sequence[SecretTensor]) -> Before:
        """Begin to compare."""
        return Before(replays, arguments, states)

    def hold(self, kept: dict[int, Any], refused: dict[int, str]) -> list[Tensor]:
        """Keep what was left as it is now, whatever becomes of it, and return the tensors that it is made of."""
        tensors: list[Tensor] = []

        def at(t: Tensor) -> Tensor:
            tensors.append(t)
            return t

        self._kept = kept
        self._copy(at, refused)
        return tensors

    def settle(self, at: Callable[[Tensor], Tensor]) -> None:
        """Take tensors from where a tape has them."""
        self._copy(at, {})
        count = sum(m.value is not None for m in _all_made(self.result))
        self.digest = f"{[w.writes for w in self.written]} {[g.made for g in self.gradients if g.made is None]} {count}"

    def _copy(self, at: Callable[[Tensor], Tensor], refused: dict[int, str]) -> None:
        copies = self._replays.copies(at, self._kept, refused)
        self.written = [w._replace(missing=copies.of(w.missing)) for w in self.written]
        self.gradients = [g._replace(made=_copied(g.made, copies)) for g in self.gradients]
        self.result = _mapped(self.result, lambda m: _copied(m, copies))

    # --- replays ------------------------------------------------------------------------------------------------------

    def fits(self, states: Sequence[SecretTensor]) -> bool:
        """Whether what a step reads, and knows of, is where it was and as it was."""
        for x, value, pins in self.pinned:
            if x._share is not value or not same(self._replays.pins(value), pins):
                return False
        for x, value, shares, _, scale, _ in self.written:
            now = self._replays.shares(value)
            if x._share is not value or value.scale != scale or not self._replays.is_clean(value):
                return False
            if not all(t is u for t, u in zip(now, shares, strict=True)):
                return False
        return True

    def made(self) -> Any:
        """Say what was written, give parameters their gradients, and return the results, in memory of their own."""
        self._replayed += 1
        copies = self._replays.copies(Apart([t for w in self.written for t in w.shares]), self._kept, {})
        for x, value, _, writes, _, missing in self.written:
            value.storage.version += writes
            self._replays.miss(value, copies.of(missing))
            torch.autograd.graph.increment_version(x)
        for x, made in self.gradients:
            x.grad = None if made is None else self._gradient(made)
        return _mapped(self.result, lambda m: self._secret(m, copies))

    def _gradient(self, made: Made) -> SecretTensor:
        """A gradient, which is copied from the tape once somebody asks for it: most are dropped by the next step."""
        if not made.dense or made.value is None:
            return self._secret(made, self._replays.copies(Apart(()), self._kept, {}))
        now = self._replayed

        def share() -> Value:
            if self._replayed != now:
                raise TacitError(
                    "this gradient was left by an earlier call of a compiled step, and its memory is used again: "
                    "clone gradients that are to stay, p.grad.clone(), before the next call"
                )
            value = self._replays.copies(Apart(()), self._kept, {}).of(made.value)
            assert isinstance(value, Value)
            return value

        return SecretTensor(share, made.dtype, protocol=self._protocol, shape=made.shape)

    def _secret(self, made: Made, copies: Any) -> SecretTensor:
        if made.value is None:
            return SecretTensor(_unread, made.dtype, protocol=self._protocol, shape=made.shape)
        return SecretTensor(copies.of(made.value), made.dtype)


class Apart:
    """Copies of tensors in memory of their own; those of one memory are in one again."""

    def __init__(self, stay: Sequence[Tensor]) -> None:
        self._stay = {t.untyped_storage()._cdata for t in stay}
        self._copied: dict[int, torch.UntypedStorage] = {}

    def __call__(self, t: Tensor) -> Tensor:
        if t.is_meta:
            return t
        storage = t.untyped_storage()
        key = storage._cdata
        if key in self._stay:
            return t
        if key not in self._copied:
            self._copied[key] = storage.clone()
        return torch.empty(0, dtype=t.dtype).set_(self._copied[key], t.storage_offset(), t.shape, t.stride())


def _unread() -> Value:
    raise TacitError(
        "this loss was not computed: a replayed step leaves out a loss that it does not need the value of; run the "
        "step as it is written, step.function(…), where that is wanted"
    )


def same(now: list[Any], before: list[Any]) -> bool:
    """Whether what is known is what was known."""
    if len(now) != len(before):
        return False
    return all(
        x is y or (type(x) in _BY_VALUE and type(x) is type(y) and x == y) for x, y in zip(now, before, strict=True)
    )


_BY_VALUE = frozenset({int, bool, Scale, range})


def _there(x: SecretTensor) -> Value:
    assert isinstance(x._share, Value)
    return x._share


def _made(x: Tensor) -> Made:
    assert isinstance(x, SecretTensor)
    value = x._share if isinstance(x._share, Value) else None
    return Made(value, x.dtype, x.shape, x.is_contiguous(), x.requires_grad)


def _structure(x: Any) -> Any:
    if isinstance(x, SecretTensor):
        made = _made(x)
        if made.value is not None and x.requires_grad:
            raise NotReplayed("gradients go through what it returns: return `.detach()` of it")
        return made
    if type(x) in (list, tuple):
        return type(x)(_structure(y) for y in x)
    if type(x) is dict:
        return {k: _structure(y) for k, y in x.items()}
    if type(x) in PLAIN:
        return x
    raise NotReplayed(f"it returns a {type(x).__name__}: return secrets, numbers and strings")


def _mapped(x: Any, change: Callable[[Made], Any]) -> Any:
    if isinstance(x, Made):
        return change(x)
    if type(x) in (list, tuple):
        return type(x)(_mapped(y, change) for y in x)
    return {k: _mapped(y, change) for k, y in x.items()} if type(x) is dict else x


def _all_made(x: Any) -> list[Made]:
    found: list[Made] = []
    _mapped(x, found.append)
    return found


def _copied(made: Made | None, copies: Any) -> Made | None:
    return made if made is None or made.value is None else made._replace(value=copies.of(made.value))
