"""What a step leaves behind: results, gradients, and parameters that it wrote to.

All of it stands alone: it shares neither memory nor masks with anything, and nothing is known of it but its shares. So
it is what a replay can make again, and it is so at every call, replayed or not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from weakref import ref

import torch
from torch import Tensor

from tacit.errors import NotReplayed, Unsteady
from tacit.protocols.protocol import Protocol
from tacit.protocols.replays import Left, Replays
from tacit.protocols.scale import Scale
from tacit.protocols.values import Value
from tacit.replay.world import PLAIN
from tacit.tensor import SecretTensor

__all__ = ["Before", "Results"]


class Made(NamedTuple):
    """A secret that a step makes."""

    left: Left
    dtype: torch.dtype


class Written(NamedTuple):
    """A secret that a step writes to."""

    secret: SecretTensor
    value: Value
    left: Left
    writes: int


class Added(NamedTuple):
    """A gradient that a step adds to, wherever it is at a call."""

    place: int
    left: Left
    writes: int


class Before:
    """How the secrets were that a step was given or reads."""

    def __init__(
        self,
        replays: Replays,
        arguments: Sequence[SecretTensor],
        states: Sequence[SecretTensor],
        averages: Sequence[SecretTensor],
        sums: Sequence[SecretTensor] = (),
    ) -> None:
        self._replays, self._arguments, self._sums = replays, arguments, sums
        self._states = [*states, *sums]
        self._averages = {id(x) for x in (*averages, *sums)}
        self._values = [there(x) for x in (*arguments, *self._states)]
        self._first_sum = len(self._values) - len(sums)
        self._versions = [v.storage.version for v in self._values]
        self._scales = [v.scale for v in self._values]
        self._gradients = [x.grad for x in self._states]
        self._clean = [replays.is_clean(v) for v in self._values]
        self._pins: list[list[Any]] = []
        self._trained: set[int] = set()
        """Places of what it has opened and made gradients of, and has not written to."""

    def pin(self) -> None:
        """Note what is known of them, for a recording."""
        self._pins = [self._replays.pins(v) for v in self._values]

    def let_go(self) -> None:
        """Keep no gradients any more: it is replayed, and a gradient that nobody else keeps is not copied."""
        self._gradients = []

    @property
    def pinned(self) -> list[Tensor]:
        """What is known of secrets that a step reads, and does not write to."""
        states = self._pins[len(self._arguments) : self._first_sum]
        return [x for pins in states for x in pins if isinstance(x, Tensor)]

    def leave(self, result: Any) -> Any:
        """Have all that a step leaves stand alone, at every call: the results, as they are returned then.

        Raises:
            NotReplayed: before anything is changed, if that would not be what the step as it is written leaves.
        """
        replays = self._replays
        for x, value in zip((*self._arguments, *self._states), self._values, strict=True):
            if x._share is not value:
                raise NotReplayed("it gives a secret another content (`x.data = …`)")
        taken = {id(v.storage) for v in self._values}
        found: list[SecretTensor] = []
        _mapped(result, found.append)
        gradients = [(x, x.grad) for x, g in zip(self._states, self._gradients, strict=True) if x.grad is not g]
        for y in {id(y): y for y in found}.values():
            if type(y) is not SecretTensor or y.requires_grad:
                raise NotReplayed("gradients go through what it returns: return `.detach()` of it")
            if id(y.share.storage) in taken:
                raise NotReplayed("it returns what it was given or reads, or a part of one, or two parts of one secret")
            taken.add(id(y.share.storage))
        for _, grad in gradients:
            if grad is None:
                continue
            if type(grad) is not SecretTensor or grad.requires_grad:
                raise NotReplayed("gradients go through the gradients that it leaves")
            if id(grad.share.storage) in taken:
                raise NotReplayed("it returns a gradient")
        for value in self._values:
            replays.renew(value)
        trained = {id(x) for x, grad in gradients if grad is not None} | self._added_to()
        for k, (value, version) in enumerate(zip(self._values, self._versions, strict=True)):
            if value.storage.version != version:
                if k >= len(self._arguments) and id(self._states[k - len(self._arguments)]) in self._averages:
                    replays.forget(value)  # what it lies in end to end with others is none of the next step's
                else:
                    replays.alone(value)
            elif k >= len(self._arguments) and self._clean[k] and id(self._states[k - len(self._arguments)]) in trained:
                replays.forget(value)  # an optimizer writes to it next, outside of the step
                self._trained.add(k)
        for value in self._values[self._first_sum :]:
            replays.forget(value)
        for x, grad in gradients:
            if isinstance(grad, SecretTensor):
                x.grad = SecretTensor(replays.apart(grad.share), grad.dtype)
        copies: dict[int, SecretTensor] = {}

        def copied(y: SecretTensor) -> SecretTensor:
            if id(y) not in copies:
                copies[id(y)] = SecretTensor(replays.apart(y.share), y.dtype)
            return copies[id(y)]

        return _mapped(result, copied)

    def _added_to(self) -> set[int]:
        """Parameters to whose gradients it has added in place."""
        first = self._first_sum
        rows = zip(self._sums, self._values[first:], self._versions[first:], strict=True)
        added = {id(g) for g, value, version in rows if value.storage.version != version}
        return {id(x) for x, g in zip(self._states, self._gradients, strict=True) if id(g) in added}

    def after(self, result: Any) -> tuple[Results, list[Tensor]]:
        """What a step has left, and the tensors that it is made of."""
        replays, count = self._replays, len(self._arguments)
        out = Results(replays, self._values[0].protocol)
        for k, (x, value) in enumerate(zip((*self._arguments, *self._states), self._values, strict=True)):
            written = value.storage.version - self._versions[k]
            if k >= self._first_sum:
                if written:
                    out.added.append(Added(k - self._first_sum, replays.left(value), written))
                continue
            if k not in self._trained and (k < count or not written):
                if written:
                    raise NotReplayed("it writes to an argument")
                if not same(replays.pins(value), self._pins[k]):
                    raise Unsteady("it opens an argument that was closed before, or more is known of what it reads")
                if k >= count:
                    out.pinned.append((x, value, self._pins[k]))
                continue
            if not (self._clean[k] and replays.is_clean(value)) or value.scale != self._scales[k]:
                raise Unsteady("a parameter is finer, or more is known of it, than before")
            out.written.append(Written(x, value, replays.left(value), written))
        for x, before in zip(self._states, self._gradients, strict=True):
            if x.grad is not before:
                out.gradients.append((x, None if x.grad is None else _made(replays, x.grad)))
        made: dict[int, Made] = {}
        out.result = _mapped(result, lambda y: made.setdefault(id(y), _made(replays, y)))
        return out, [t for left in out.lefts() for t in left.tensors]


class Results:
    """What to make after a replay."""

    def __init__(self, replays: Replays, protocol: Protocol) -> None:
        self._replays, self._protocol = replays, protocol
        self.written: list[Written] = []
        self.added: list[Added] = []
        self.pinned: list[tuple[SecretTensor, Value, list[Any]]] = []
        self.gradients: list[tuple[SecretTensor, Made | None]] = []
        self.result: Any = None
        self._waiting: list[tuple[SecretTensor, ref[SecretTensor]]] = []
        """Gradients of the last replay, which are copied from the tape once somebody asks for them."""

    def lefts(self) -> list[Left]:
        """All that is made."""
        out = [*(w.left for w in self.written), *(a.left for a in self.added)]
        out += [m.left for _, m in self.gradients if m is not None]
        _mapped(self.result, lambda m: out.append(m.left))
        return out

    @property
    def digest(self) -> str:
        """Of what it is that is made."""
        rows = [(left.kind.__name__, left.scale, left.masked, *(t.shape for t in left.held)) for left in self.lefts()]
        writes = [w.writes for w in self.written], [(a.place, a.writes) for a in self.added]
        return (
            f"{writes} {[g is None for _, g in self.gradients]} {rows} {_mapped(self.result, lambda m: str(m.dtype))}"
        )

    def settle(self, at: Callable[[Tensor], Tensor]) -> None:
        """Take tensors from where a tape has them."""
        self.written = [w._replace(left=w.left.at(at)) for w in self.written]
        self.added = [a._replace(left=a.left.at(at)) for a in self.added]
        self.gradients = [(x, None if m is None else m._replace(left=m.left.at(at))) for x, m in self.gradients]
        moved: dict[int, Made] = {}
        self.result = _mapped(self.result, lambda m: moved.setdefault(id(m), m._replace(left=m.left.at(at))))

    def fits(self) -> bool:
        """Whether what a step reads, and knows of, is where it was and as it was."""
        for x, value, pins in self.pinned:
            if x._share is not value or not same(self._replays.pins(value), pins):
                return False
        for x, value, left, _ in self.written:
            now = self._replays.shares(value)
            if x._share is not value or value.scale != left.scale or not self._replays.is_clean(value):
                return False
            if not all(t is u or t.is_meta for t, u in zip(now, left.held, strict=True)):
                return False
        return True

    def begin(self) -> None:
        """Before the tape's memory is used again: whoever has kept a gradient is given it."""
        for x, _ in self._waiting:
            x.grad = None
        for _, kept in self._waiting:
            gradient = kept()
            if gradient is not None:
                gradient.share  # noqa: B018 - it is copied
        self._waiting = []

    def made(self, sums: Sequence[SecretTensor]) -> Any:
        """Say what was written, give parameters their gradients, and return the results, in memory of their own."""
        for place, left, writes in self.added:
            value = there(sums[place])
            for t, u in zip(self._replays.shares(value), left.held, strict=True):
                t.copy_(u)
            value.storage.scale = left.scale  # finer than that of zeros, say
            self._wrote(sums[place], value, left, writes)
        for x, value, left, writes in self.written:
            self._wrote(x, value, left, writes)
        for x, made in self.gradients:
            x.grad = None if made is None else self._gradient(x, made)
        copies: dict[int, SecretTensor] = {}

        def copied(m: Made) -> SecretTensor:
            if id(m) not in copies:
                copies[id(m)] = SecretTensor(self._value(m), m.dtype)
            return copies[id(m)]

        return _mapped(self.result, copied)

    def _wrote(self, x: SecretTensor, value: Value, left: Left, writes: int) -> None:
        value.storage.version += writes
        self._replays.miss(value, left._replace(mask=None if left.mask is None else left.mask.clone()))
        if writes:
            torch.autograd.graph.increment_version(x)

    def _value(self, made: Made) -> Value:
        return self._replays.made(made.left.at(torch.clone))

    def _gradient(self, x: SecretTensor, made: Made) -> SecretTensor:
        shape = made.left.held[0].shape
        out = SecretTensor(lambda: self._value(made), made.dtype, protocol=self._protocol, shape=shape)
        self._waiting.append((x, ref(out)))
        return out


def same(now: list[Any], before: list[Any]) -> bool:
    """Whether what is known is what was known."""
    if len(now) != len(before):
        return False
    return all(
        x is y or (type(x) in _BY_VALUE and type(x) is type(y) and x == y) for x, y in zip(now, before, strict=True)
    )


_BY_VALUE = frozenset({int, bool, float, str, Scale, range})


def there(x: SecretTensor) -> Value:
    """The value of a secret that is there."""
    share = x._share
    if not isinstance(share, Value):
        raise Unsteady("a secret that waits to be computed is read")
    return share


def _made(replays: Replays, x: Tensor) -> Made:
    assert isinstance(x, SecretTensor)
    return Made(replays.left(there(x)), x.dtype)


def _mapped(x: Any, change: Callable[[Any], Any]) -> Any:
    """The same lists, tuples and dictionaries of other secrets."""
    if isinstance(x, (SecretTensor, Made)):
        return change(x)
    if type(x) in (list, tuple):
        return type(x)([_mapped(y, change) for y in x])
    if type(x) is dict:
        return {k: _mapped(y, change) for k, y in x.items()}
    if type(x) in PLAIN:
        return x
    raise NotReplayed(f"it returns a {type(x).__name__}: return secrets, numbers and strings")
