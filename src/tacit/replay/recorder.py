"""Recording one run of a function, at its lowest level: kernels, operators on plain tensors, draws, frames, counts.

What runs is what runs without a recording; all that a role does with memory, key streams, links, meter and transcript
passes by here and is noted, with the memory that it was done in. See `tape` for what becomes of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import tacit.ring.memory
from tacit.net.transcript import Transcript
from tacit.net.transport import Parcel
from tacit.protocols.followed import follow
from tacit.protocols.in_the_clear import Onlooker, look_on
from tacit.replay.numbers import Numbers
from tacit.ring.prg import Stream
from tacit.session.meter import Meter
from tacit.session.session import Session
from tacit.tensor import SecretTensor

__all__ = ["Event", "Recorder"]

aten = torch.ops.aten

READS = frozenset(
    {aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default, aten.nonzero.default}
    | {aten._unique2.default, aten.unique_dim.default, aten.unique_consecutive.default, aten.masked_select.default}
    | {aten.nonzero_static.default, aten.bincount.default, aten.histc.default}
)
"""Operators whose result, or its shape, is a decision by values."""


class Event(NamedTuple):
    """Something that was done."""

    kind: str
    what: Any
    """The function, object or method."""
    given: Any
    made: Any = None


class Address(NamedTuple):
    """What a kernel was given for a tensor."""

    tensor: Tensor
    read_only: bool = False
    """Of a table of places, which no kernel writes to."""


class Recorder(TorchDispatchMode, Onlooker):
    """Notes what happens in one thread while it is entered."""

    def __init__(
        self,
        session: Session,
        kernels: Sequence[Any],
        inputs: Sequence[Tensor],
        states: Sequence[Tensor],
        counters: Sequence[Tensor] = (),
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.session = session
        self._modules = kernels
        self.events: list[Event] = []
        self.why = ""
        """Why it cannot be replayed; the first reason."""
        self.disturbed = False
        """Whether another thread was at work."""
        self.storages: dict[int, Any] = {}
        """All memory that was seen, kept so that none of it is another's later."""
        self.moving: set[int] = set()
        """Memory whose content is another each time: inputs, states, draws, and what was made of them."""
        self.known: dict[int, Any] = {}
        """Storages of secrets that are inputs, states, or were made here; and secrets that wait."""
        self._paused = self._sharing = False
        self._thread = threading.get_ident()
        self._pointers: dict[int, Tensor] = {}
        self.numbers = Numbers(counters, self.element)
        """Those that change, and are followed."""
        for t in (*inputs, *states):
            self._moves(t)

    # --- what is known of memory --------------------------------------------------------------------------------------

    def see(self, t: Tensor) -> int:
        """The name of a tensor's memory."""
        storage = t.untyped_storage()
        key: int = storage._cdata
        if key not in self.storages:
            self.storages[key] = storage
        self._pointers[t.data_ptr()] = t
        return key

    def _moves(self, t: Tensor) -> None:
        if not t.is_meta:
            self.moving.add(self.see(t))

    def is_moving(self, t: Tensor) -> bool:
        """Whether a tensor holds something else each time."""
        return not t.is_meta and self.see(t) in self.moving

    def refuse(self, why: str) -> None:
        """Say that there will be no tape; what runs goes on."""
        self.why = self.why or why

    def element(self, t: Tensor) -> Tensor:
        """A tensor of its own memory that is filled anew for each replay."""
        with self.paused():
            out = t.clone()
        self._moves(out)
        return out

    def note(self, kind: str, what: Any, given: Any, made: Any = None) -> None:
        """Add an event."""
        if not self._paused:
            if threading.get_ident() != self._thread:
                self.disturbed = True
                return
            self.events.append(Event(kind, what, given, made))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What runs inside is noted by whoever calls it."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    # --- PyTorch ------------------------------------------------------------------------------------------------------

    def _dispatched(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if SecretTensor in types:
            return self._secret(func, types, args, kwargs)
        out = func(*args, **kwargs)
        if not self._paused:
            self._plain(func, args, kwargs, out)
        return out

    __torch_dispatch__ = _dispatched
    """By another name: who looks for a place in the program stops at an operator that was called by another."""

    def _secret(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """An operator on secrets: what it does on shares is seen, and whose secrets they are is checked."""
        for x in leaves((args, kwargs)):
            if isinstance(x, SecretTensor) and not self._knows(x):
                self.refuse(
                    "it uses a secret that is neither an argument nor among what it reads: a gradient from before it, "
                    "say, which `zero_grad()` inside of it would drop"
                )
        with self:
            out = SecretTensor.__torch_dispatch__(func, types, args, kwargs)
        for x in leaves(out):
            if isinstance(x, SecretTensor):
                self.learn(x)
        return out

    def learn(self, x: SecretTensor) -> None:
        """Know a secret from now on."""
        share = x._share
        kept: Any = x if callable(share) else share.storage
        self.known[id(kept)] = kept

    def _knows(self, x: SecretTensor) -> bool:
        share = x._share
        return id(x if callable(share) else share.storage) in self.known

    def _plain(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        given = [x for x in leaves((args, kwargs)) if isinstance(x, Tensor)]
        made = [x for x in leaves(out) if isinstance(x, Tensor)]
        if all(x.is_meta for x in (*given, *made)):
            return
        found = [self.is_moving(x) for x in given]  # all of them are seen
        moving = any(found)
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.refuse(
                f"{func} draws public random numbers (dropout, a shuffle), which would be the same ones each time"
            )
        if moving and (func in READS or _by_mask(func, args, given)):
            self.refuse(f"its program decides by values that are another each time ({func})")
        if moving:
            for x in (*made, *(_written(func, args, kwargs) if func._schema.is_mutable else ())):
                self._moves(x)
        for x in made:
            if not x.is_meta:
                self.see(x)
        self.note("plain", func, (args, kwargs), out)

    # --- everything else ----------------------------------------------------------------------------------------------

    @contextmanager
    def everything(self) -> Iterator[None]:
        """Note what passes PyTorch by, too."""
        from tacit.ring.kernels import native

        session, transport = self.session, self.session.transport
        with ExitStack() as stack:

            def put(owner: Any, name: str, value: Any) -> None:
                before = vars(owner).get(name, _NONE)  # and not what it becomes when it is asked for
                stack.callback(_restore, owner, name, before)
                setattr(owner, name, value)

            put(tacit.ring.memory, "SINGLE", range(0))
            put(tacit.ring.memory, "HUGE_BYTES", 1 << 62)
            put(SecretTensor, "__new__", staticmethod(self._made(SecretTensor.__new__)))
            put(Stream, "bytes", self._bytes(Stream.bytes))
            put(native.KeyStream, "_write", self._stream_write(native.KeyStream._write))
            for name in ("exchange", "send", "take"):
                put(transport, name, getattr(self, f"_{name}")(getattr(transport, name)))
            put(transport, "receive", self._receive(transport.receive))
            for name in ("announce", "promise"):
                put(transport, name, self._refusing(getattr(transport, name), "it shares or announces something"))
            for name in ("opening", "given", "dealt"):
                put(Meter, name, self._counted(getattr(Meter, name), name))
            for name in ("round", "ahead", "worked_ahead"):
                put(Meter, name, self._refusing(getattr(Meter, name), "it shares or reveals something"))
            put(Transcript, "record", self._recorded(Transcript.record))
            put(Session, "witness", self._witnessed(Session.witness))
            put(Tensor, "data_ptr", self._pointed(Tensor.data_ptr))
            for name in ("numpy", "tolist", "__array__"):
                put(Tensor, name, self._read(getattr(Tensor, name)))
            for module in self._modules:
                put(module, "_native", _Kernels(self, module._native))
                put(module, "memory", self._memory(module.memory))
            follow(self.numbers)
            stack.callback(follow, None)
            look_on(self)
            stack.callback(look_on, None)
            stack.callback(self.numbers.ended)
            with self:
                yield
        if session.closed:
            self.refuse("it ended its session")

    def _made(self, inner: Callable[..., SecretTensor]) -> Callable[..., SecretTensor]:
        def made(*args: Any, **kwargs: Any) -> SecretTensor:
            out = inner(*args, **kwargs)
            self.learn(out)
            return out

        return made

    def _bytes(self, inner: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def drawn(stream: Stream, count: int) -> Tensor:
            with self.paused():
                out = inner(stream, count).clone()
                held = out.clone()
            self._moves(out)
            self.note("draw", stream, (count, held), out)
            return out

        return drawn

    def _stream_write(self, inner: Callable[..., None]) -> Callable[..., None]:
        def write(source: Any, out: Tensor, dtype: torch.dtype, how: int) -> None:
            with self.paused():
                inner(source, out, dtype, how)
                held = out.clone()
            self._moves(out)
            self.note("stream", source, (out, dtype, how, held))

        return write

    def _exchange(self, inner: Callable[..., None]) -> Callable[..., None]:
        def exchange(sends: Sequence[Parcel], receives: Sequence[Parcel]) -> None:
            with self.paused():
                sent = [parcel.tensor.clone() for parcel in sends]
                inner(sends, receives)
                arrived = [parcel.tensor.clone() for parcel in receives]
            for parcel in receives:
                self._moves(parcel.tensor)
            self.note("exchange", None, (list(sends), list(receives), sent, arrived))

        return exchange

    def _send(self, inner: Callable[..., None]) -> Callable[..., None]:
        def send(parcel: Parcel) -> None:
            if self._paused:  # an exchange is made of such
                inner(parcel)
                return
            with self.paused():
                sent = parcel.tensor.clone()
                inner(parcel)
            self.note("send", None, (parcel, sent))

        return send

    def _take(self, inner: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def take(source: str, destination: str, size: int) -> Tensor:
            with self.paused():
                out = inner(source, destination, size)
                held = out.clone()
            self._moves(out)
            self.note("take", None, (source, destination, size, held), out)
            return out

        return take

    def _receive(self, inner: Callable[..., None]) -> Callable[..., None]:
        def receive(parcel: Parcel) -> None:
            if self._paused:
                inner(parcel)
                return
            with self.paused():
                inner(parcel)
                held = parcel.tensor.clone()
            self._moves(parcel.tensor)
            self.note("receive", None, (parcel, held))

        return receive

    def _refusing(self, inner: Callable[..., Any], why: str) -> Callable[..., Any]:
        def refused(*args: Any, **kwargs: Any) -> Any:
            if not self._paused:
                self.refuse(why)
            return inner(*args, **kwargs)

        return refused

    def _counted(self, inner: Callable[..., None], name: str) -> Callable[..., None]:
        def counted(meter: Meter, *args: Any, **kwargs: Any) -> None:
            if name == "given" and not self._sharing:
                self.refuse("it shares or reveals something")
            inner(meter, *args, **kwargs)
            self.note("meter", name, (*args, kwargs) if kwargs else args)

        return counted

    def _recorded(self, inner: Callable[..., None]) -> Callable[..., None]:
        def record(transcript: Transcript, operator: str, fingerprint: bytes = b"", place: Any = None) -> None:
            inner(transcript, operator, fingerprint, place)
            self.note("record", None, (operator, fingerprint, place, self.numbers.tokens(fingerprint)))

        return record

    def _witnessed(self, inner: Callable[..., None]) -> Callable[..., None]:
        def witness(session: Session, *opened: Tensor | None) -> None:
            if session._compared:
                with self.paused():
                    inner(session, *opened)
                self.note("witness", None, list(opened))

        return witness

    def _read(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        def read(t: Tensor, *args: Any, **kwargs: Any) -> Any:
            if not (self._paused or isinstance(t, SecretTensor)) and self.is_moving(t):
                self.refuse("its program looks at what is another each time")
            return inner(t, *args, **kwargs)

        return read

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """While this is entered, what is shared is part of the step."""
        self._sharing = True
        try:
            yield
        finally:
            self._sharing = False

    def computed(self, compute: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
        """Note what a party computes as one event, whatever it decides by."""
        within = [cell.cell_contents for cell in getattr(compute, "__closure__", None) or ()]
        constants = [x for x in leaves(within) if isinstance(x, Tensor)]
        if any(type(x) is not Tensor or self.is_moving(x) for x in constants):
            self.refuse("a party computes by what is another each time")
        self.see(value)
        with self.paused():
            out = compute(value).clone(memory_format=torch.contiguous_format)
        self._moves(out)
        self.note("clear", compute, (value, within), out)
        return out

    def _memory(self, inner: Callable[..., tuple[int, int]]) -> Callable[..., tuple[int, int]]:
        def memory(t: Tensor, *args: Any) -> tuple[int, int]:
            self.see(t)
            return inner(t, *args)

        return memory

    def kernel(self, function: Callable[..., Any], args: Sequence[Any], out: Any) -> None:
        """Note a kernel, with the tensors that it was given the addresses of."""
        given = [self._addressed(x) for x in args]
        tensors = [x.tensor for x in addresses(given)]
        found = [self.is_moving(t) for t in tensors]
        moving = any(found)
        if moving and out is not None:
            self.refuse("its program decides by what a kernel found")
        if moving:
            for x in addresses(given):
                if not x.read_only:
                    self._moves(x.tensor)
        self.note("kernel", function, given)

    def _pointed(self, inner: Callable[[Tensor], int]) -> Callable[[Tensor], int]:
        def data_ptr(t: Tensor) -> int:
            out = inner(t)
            if out and not isinstance(t, SecretTensor):
                storage = t.untyped_storage()
                self.storages.setdefault(storage._cdata, storage)
                self._pointers.setdefault(out, t)
            return out

        return data_ptr

    def _addressed(self, x: Any, *, table: bool = False) -> Any:
        """An argument of a kernel; tuples within one are tables of places."""
        if not isinstance(x, tuple):
            if type(x) is int and x and x in self._pointers:
                self.refuse("a kernel is given an address beside others")
            return x
        if x and type(x[0]) is int and x[0]:
            t = self._pointers.get(x[0])
            if t is None:
                self.refuse("a kernel reads memory that nobody has seen")
                return x
            return (Address(t, table), *map(self._addressed, x[1:]))
        return tuple(self._addressed(y, table=True) for y in x)


class _Kernels:
    """The native module, of which each function notes that it was called."""

    def __init__(self, recorder: Recorder, inner: Any) -> None:
        self._recorder, self._inner = recorder, inner

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._inner, name)
        if isinstance(function, type):
            return function
        return partial(self._called, function)

    def _called(self, function: Callable[..., Any], *args: Any) -> Any:
        out = function(*args)
        if not self._recorder._paused:
            self._recorder.kernel(function, args, out)
        return out


def leaves(x: Any) -> Iterator[Any]:
    """What is in nested lists, tuples and dictionaries."""
    if isinstance(x, (list, tuple)):
        for y in x:
            yield from leaves(y)
    elif isinstance(x, dict):
        yield from leaves(list(x.values()))
    else:
        yield x


def addresses(x: Any) -> Iterator[Address]:
    """The addresses in nested lists and tuples."""
    if isinstance(x, Address):
        yield x
    elif isinstance(x, (list, tuple)):
        for y in x:
            yield from addresses(y)


def _by_mask(func: Any, args: Any, given: Sequence[Tensor]) -> bool:
    """Whether an operator takes as many elements as a mask has."""
    indexing = func in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
    return indexing and any(x.dtype in (torch.bool, torch.uint8) for x in leaves(args[1]) if isinstance(x, Tensor))


def _written(func: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    for k, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[k] if k < len(args) else kwargs.get(argument.name)
            yield from (x for x in leaves(value) if isinstance(x, Tensor))


_NONE = object()


def _restore(owner: Any, name: str, before: Any) -> None:
    if before is _NONE:
        delattr(owner, name)
    else:
        setattr(owner, name, before)
