"""A recording as a list of calls, in memory of its own: what is left of a step when all decisions have been made.

Every tensor that a recorded step has made has its place in buffers that stay, so a replay makes no tensors, takes no
views and decides nothing: it runs kernels and operators on the same addresses again, draws, sends and receives. What
lies between two messages is one call of the native module, see `steps`. Inputs are copied in; parameters are where they
are. What came out is copied from the buffers, for the next replay overwrites them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from tacit.errors import NotReplayed, Unsteady
from tacit.net.transcript import Again, hashed
from tacit.net.transport import Parcel, Transport
from tacit.protocols.followed import Ring
from tacit.replay.numbers import Number
from tacit.replay.recorder import Address, Event, Recorder, addresses, leaves
from tacit.replay.steps import Entry, Talk, fused, kernel_step, steps_of
from tacit.ring.kernels.native import KeyStream
from tacit.ring.prg import SMALL_BYTES, Stream
from tacit.session.session import Session

__all__ = ["Tape"]

aten = torch.ops.aten
Call = Callable[[], Any]

EMPTY = frozenset(
    {aten.empty.memory_format, aten.empty_like.default, aten.empty_strided.default, aten.new_empty.default}
    | {aten.new_empty_strided.default}
)
NATIVE = True
"""Whether calls become steps of the native module where they can. Without, a tape does the same, call by call."""

POISON = 0x5A
"""What buffers hold before a recording is tried: a step that reads what it has not written comes out wrong."""

OUT: dict[Any, Callable[..., Any]] = {
    aten.add.Tensor: torch.add,
    aten.sub.Tensor: torch.sub,
    aten.mul.Tensor: torch.mul,
    aten.neg.default: torch.neg,
    aten.bitwise_xor.Tensor: torch.bitwise_xor,
    aten.bitwise_xor.Scalar: torch.bitwise_xor,
    aten.bitwise_and.Tensor: torch.bitwise_and,
    aten.bitwise_and.Scalar: torch.bitwise_and,
    aten.bitwise_not.default: torch.bitwise_not,
    aten.lt.Scalar: torch.lt,
    aten.gt.Scalar: torch.gt,
    aten.mm.default: torch.mm,
    aten.bmm.default: torch.bmm,
    aten.cat.default: torch.cat,
    aten.stack.default: torch.stack,
}
"""Operators by functions that write to memory that is given, and are called faster than the operator's own name."""

IN_PLACE: dict[Any, str] = {
    aten.add_.Tensor: "add_",
    aten.sub_.Tensor: "sub_",
    aten.mul_.Tensor: "mul_",
    aten.copy_.default: "copy_",
    aten.bitwise_xor_.Tensor: "bitwise_xor_",
    aten.zero_.default: "zero_",
}


class Tape:
    """What a step does, to be done again."""

    def __init__(
        self,
        session: Session,
        recorder: Recorder,
        inputs: Sequence[Tensor],
        states: Sequence[Tensor],
        results: Sequence[Tensor],
        secret: Mapping[int, torch.UntypedStorage],
        pinned: Sequence[Tensor],
    ) -> None:
        self._session, self._recorder = session, recorder
        self._secret = secret
        """Memory of secrets that were there before: no constant may lie in it, but what is pinned."""
        self._pinned = [_region(t) for t in pinned if not t.is_meta]
        self._text: list[str] = []
        self._names: dict[int, str] = {}
        self._buffers: dict[int, torch.UntypedStorage] = {}
        self._placed: dict[Any, Tensor] = {}
        """By what they are in the recording; they stay as long as the tape, since steps have their addresses only."""
        self._states = {recorder.see(t) for t in states}
        self._regions = [_region(t) for t in inputs]
        for k, (start, stop) in enumerate(self._regions):
            if any(start < other[1] and other[0] < stop for other in self._regions[:k]):
                raise NotReplayed("two of its arguments share memory")
        self.inputs = [self._slot(k, t) for k, t in enumerate(inputs)]
        """Where arguments are copied to."""
        live = {recorder.see(t) for t in (*states, *results) if not t.is_meta}
        kept = _needed(recorder, live)
        self._entries: list[Entry] = []
        self._dry: list[Call] = []
        self._checks: list[tuple[Tensor, Tensor]] = []
        self._online: list[list[Any]] = []
        """Rounds and bytes between parties, in the order in which the meter counts them."""
        self._dealt: dict[str, int] = {}
        self._ahead = _by_arguments_alone(recorder, self._of_an_input)
        """Which events come before anything is drawn or sent: what parties compute of their data, and may refuse."""
        self._first: list[Call] = []
        self.numbers = numbers = recorder.numbers
        self._elements = {id(x): k for k, x in enumerate(numbers.elements)}
        self._given: list[list[tuple[Any, int]]] = [[] for _ in self._elements]
        """For each ring element that is made of a number, the kernels that are given it."""
        for k, (event, needed) in enumerate(zip(recorder.events, kept, strict=True)):
            before = len(self._entries)
            self._add(event, needed=needed)
            if k in self._ahead:
                self._first += self._entries[before:]  # type: ignore[arg-type]
                del self._entries[before:]
        for count, *counts in self._online:
            self._entries.append(Talk(partial(count, *counts)))
        self._entries += [Talk(partial(session.meter.dealt, *row)) for row in self._dealt.items()]
        self.calls = fused(self._entries, session.transcript)
        """A replay."""
        for t in results:
            self.at(t)
        self._filled = [self.at(x) if isinstance(x, Tensor) else None for x in numbers.elements]
        """For each, the tensor that holds it, if there is one."""
        for place, x in zip(self._filled, numbers.elements, strict=True):
            if place is not None:
                place.copy_(x)
        self.digest = blake2b("\n".join(self._text).encode(), digest_size=16).hexdigest()
        """Of all that it does, with the constants in it: two recordings of one step have the same."""
        said = [repr(event.given[:2]) for event in recorder.events if event.kind == "record"]
        self.public = blake2b("\n".join(said).encode(), digest_size=16).digest()
        """Of its operators, which are the same at every role."""

    # --- places -------------------------------------------------------------------------------------------------------

    def at(self, t: Tensor) -> Tensor:
        """The tensor of the tape for one of the recording."""
        if t.is_meta:
            return t
        key = self._recorder.see(t)
        place = key, t.data_ptr(), t.shape, t.stride(), t.dtype
        found = self._placed.get(place)
        if found is None:
            found = self._placed[place] = self._place(t, key)
        return found

    def _place(self, t: Tensor, key: int) -> Tensor:
        start, stop = _region(t)
        if t.numel():
            for k, (first, last) in enumerate(self._regions):
                if first <= start and stop <= last:
                    return _view(self.inputs[k].untyped_storage(), start - first, t)
        if key in self._states:
            return t
        if t.numel() and any(a <= start and stop <= b for a, b in self._pinned):
            return t  # beside which the draws of an argument may lie
        storage = self._recorder.storages[key]
        if key not in self._recorder.moving:
            if storage.data_ptr() in self._secret and t.numel():
                raise NotReplayed(
                    "it reads a secret that is neither an argument nor among what it reads, or what was kept of one"
                )
            return t
        begin, end = storage.data_ptr(), storage.data_ptr() + storage.nbytes()
        if any(begin < last and first < end for first, last in self._regions):
            raise Unsteady("it reads memory beside that of its arguments, of which they are parts")
        if key not in self._buffers:
            buffer = torch.full((max(storage.nbytes(), 1),), POISON, dtype=torch.uint8)
            self._buffers[key] = buffer.untyped_storage()
        return _view(self._buffers[key], int(t.storage_offset()) * t.itemsize, t)

    def _slot(self, k: int, t: Tensor) -> Tensor:
        start, stop = self._regions[k]
        return _view(torch.full((max(stop - start, 1),), POISON, dtype=torch.uint8).untyped_storage(), 0, t)

    def _named(self, x: Any) -> str:
        """What stands for an operand in the text: for a constant, what it holds."""
        if isinstance(x, Address):
            return "&" + self._named(x.tensor)
        if isinstance(x, Number):
            return "a number"
        if isinstance(x, Ring):
            return f"number {self._elements[id(x)]}"
        if isinstance(x, Tensor):
            if x.is_meta:
                return f"meta{tuple(x.shape)}"
            key = self._recorder.see(x)
            form = f"{tuple(x.shape)}{x.stride()}{x.dtype}"
            if key in self._states or key in self._recorder.moving or not x.numel():
                name = self._names.setdefault(key, f"m{len(self._names)}")
                return f"{name}+{x.storage_offset() if not self._of_an_input(x) else 'in'}:{form}"
            held = blake2b(x.detach().numpy().tobytes(), digest_size=16)
            return f"c{held.hexdigest()}:{form}"
        if isinstance(x, (list, tuple)):
            return f"({', '.join(map(self._named, x))})"
        if isinstance(x, dict):
            return f"{{{', '.join(f'{k}={self._named(v)}' for k, v in x.items())}}}"
        return repr(x)

    def _of_an_input(self, t: Tensor) -> bool:
        start, stop = _region(t)
        return any(first <= start and stop <= last for first, last in self._regions)

    # --- calls --------------------------------------------------------------------------------------------------------

    def _add(self, event: Event, *, needed: bool) -> None:
        kind, what, given, made = event
        if not needed and kind in ("plain", "kernel", "clear"):
            return
        text = given if kind != "record" else (given[0], given[2], *given[3])
        if kind in ("draw", "stream", "take", "exchange", "send", "receive"):
            text = _without_copies(kind, given)
        label = what if kind in ("plain", "meter") else ""
        if kind in ("kernel", "clear"):
            label = getattr(what, "__qualname__", "")
        self._text.append(f"{kind} {label} {self._named(text)} {self._named(made)}")
        getattr(self, f"_{kind}")(what, given, made, needed)

    def _both(self, *calls: Call) -> None:
        self._entries += calls
        self._dry += calls

    def _plain(self, func: Any, given: Any, made: Any, needed: bool) -> None:
        args, kwargs = self._moved(given)
        outs = [x for x in leaves(made) if isinstance(x, Tensor)]
        if not func._schema.is_mutable:
            sources = set(map(self._recorder.see, _tensors(given)))
            if func in EMPTY or all(x.is_meta or self._recorder.see(x) in sources for x in outs):
                return
        places = [] if func._schema.is_mutable else [self.at(x) for x in outs]
        steps = steps_of(func, args, kwargs, places) if NATIVE else None
        if steps is not None:
            self._both(*steps)
            return
        if func._schema.is_mutable:
            if func in IN_PLACE and type(args[0]) is Tensor:
                self._both(partial(getattr(args[0], IN_PLACE[func]), *args[1:], **kwargs))
            else:
                self._both(partial(func, *args, **kwargs))
            return
        if func in (aten.clone.default, aten._to_copy.default, aten.lift_fresh_copy.default):
            self._both(partial(places[0].copy_, args[0]))
        elif func in OUT:
            self._both(partial(OUT[func], *args, **kwargs, out=places[0]))
        elif func in (aten.sum.dim_IntList,):
            self._both(partial(torch.sum, *args, **kwargs, out=places[0]))
        elif len(places) == 1:
            self._both(partial(_computed, places[0], func, args, kwargs))
        else:
            self._both(partial(_several, places, func, args, kwargs))

    def _kernel(self, function: Any, given: Any, made: Any, needed: bool) -> None:
        args = self._moved(given)
        rings = [(k, x) for k, x in enumerate(given) if isinstance(x, Ring)]
        if len(rings) != sum(isinstance(x, Ring) for x in leaves(given)):
            raise NotReplayed("a kernel is given a number that changes beside others")
        step = kernel_step(function, args) if NATIVE else None
        if step is None and not rings:
            self._both(partial(function, *args))
            return
        call = step or _Changing(function, list(args))
        self._both(call)
        for k, x in rings:
            self._given[self._elements[id(x)]].append((call, k))

    def _draw(self, stream: Stream, given: Any, made: Tensor, needed: bool) -> None:
        count, held = given
        out = self.at(made)
        source, few = stream._source, count <= SMALL_BYTES
        if NATIVE and type(source) is KeyStream:
            taken = source.few_step(out) if few else source.step(out, torch.uint8, 0)
            self._entries.append(taken if needed else source.pass_over(count, few=few))
        elif not few:
            self._entries.append(partial(source._write, out, torch.uint8, 0))  # type: ignore[attr-defined]
        else:
            self._entries.append(partial(_drawn, out, stream.bytes, count))
        self._dry.append(partial(out.copy_, held))

    def _stream(self, source: Any, given: Any, made: Any, needed: bool) -> None:
        out, dtype, how, held = given
        place = self.at(out)
        self._entries.append(source.step(place, dtype, how) if NATIVE else partial(source._write, place, dtype, how))
        self._dry.append(partial(self.at(out).copy_, held))

    def _exchange(self, what: Any, given: Any, made: Any, needed: bool) -> None:
        sends, receives, sent, arrived = given
        to, fro = ([Parcel(a, b, self.at(t)) for a, b, t in row] for row in (sends, receives))
        self._entries.append(Talk(partial(self._transport.exchange, to, fro)))
        for parcel, held in zip(to, sent, strict=True):
            self._dry.append(partial(self._compare, parcel.tensor, held))
        for parcel, held in zip(fro, arrived, strict=True):
            self._dry.append(partial(parcel.tensor.copy_, held))

    def _send(self, what: Any, given: Any, made: Any, needed: bool) -> None:
        (source, destination, tensor), sent = given
        place = self.at(tensor)
        if self._session.embedded:
            self._entries.append(Talk(partial(self._transport.send, Parcel(source, destination, place))))
        else:
            self._entries.append(Talk(partial(_handed_over, self._transport, source, destination, place)))
        self._dry.append(partial(self._compare, place, sent))

    def _take(self, what: Any, given: Any, made: Tensor, needed: bool) -> None:
        source, destination, size, held = given
        place = self.at(made)
        if self._session.embedded:
            self._entries.append(Talk(partial(_taken, place, self._transport, source, destination, size)))
        else:
            self._entries.append(Talk(partial(self._transport.receive, Parcel(source, destination, place))))
        self._dry.append(partial(place.copy_, held))

    def _receive(self, what: Any, given: Any, made: Any, needed: bool) -> None:
        (source, destination, tensor), held = given
        place = self.at(tensor)
        self._entries.append(Talk(partial(self._transport.receive, Parcel(source, destination, place))))
        self._dry.append(partial(place.copy_, held))

    def _clear(self, compute: Callable[[Tensor], Tensor], given: Any, made: Tensor, needed: bool) -> None:
        self._both(partial(_computed, self.at(made), compute, (self.at(given[0]),), {}))

    def _meter(self, name: str, given: Any, made: Any, needed: bool) -> None:
        meter = self._session.meter
        if name == "opening":
            (count,) = given
            if not (self._online and self._online[-1][0] == meter.openings):
                self._online.append([meter.openings, 0, 0])
            self._online[-1][1] += 1
            self._online[-1][2] += count
        elif name == "given":
            owner, count, *more = given
            self._online.append([partial(meter.given, **more[0]) if more else meter.given, owner, count])
        else:
            helper, count = given
            self._dealt[helper] = self._dealt.get(helper, 0) + count

    def _record(self, what: Any, given: Any, made: Any, needed: bool) -> None:
        operator, fingerprint, place, tokens = given
        changes = any(isinstance(token, Number) for token in tokens)
        text = partial(_hashed, operator, tokens) if changes else hashed(operator, fingerprint)
        self._entries.append(Again(operator, text, place))

    def _witness(self, what: Any, given: Any, made: Any, needed: bool) -> None:
        places = [None if t is None else self.at(t) for t in given]
        self._entries.append(Talk(partial(self._session.witness, *places)))

    @property
    def _transport(self) -> Transport:
        return self._session.transport

    def _moved(self, x: Any) -> Any:
        """Operands in their places."""
        if isinstance(x, Address):
            return self.at(x.tensor).data_ptr()
        if isinstance(x, Tensor):
            return self.at(x)
        if isinstance(x, (list, tuple)):
            return type(x)(self._moved(y) for y in x)
        if isinstance(x, dict):
            return {k: self._moved(v) for k, v in x.items()}
        return x

    # --- a trial ------------------------------------------------------------------------------------------------------

    def _compare(self, mine: Tensor, held: Tensor) -> None:
        if mine.dtype != held.dtype or not torch.equal(mine, held):
            raise NotReplayed("a trial of the recording came out otherwise: this is a bug of Tacit, please report it")

    def tried(
        self,
        inputs: Sequence[Tensor],
        states: Sequence[tuple[Tensor, Tensor]],
        results: Sequence[Tensor],
    ) -> None:
        """Run it on what the recording began with, draws and arrivals as they were; raise unless all of it is the same.

        `states` are tensors and what they held before; they hold what they do now afterwards.
        """
        now = [t.clone() for t, _ in states]
        try:
            for t, before in states:
                t.copy_(before)
            self.take_in(inputs)
            for call in self._dry:
                call()
            for (t, _), held in zip(states, now, strict=True):
                self._compare(t, held)
            for t in results:
                if not t.is_meta and self._recorder.see(t) not in self._states:
                    self._compare(self.at(t), t)
        finally:
            for (t, _), held in zip(states, now, strict=True):
                t.copy_(held)

    def settle(self) -> None:
        """Forget the recording: from now on it is only replayed."""
        self._dry, self._secret, self._recorder = [], {}, None  # type: ignore[assignment]
        self.numbers.settle()
        self._text, self._names = [], {}

    def take_in(self, inputs: Sequence[Tensor]) -> None:
        """Copy arguments to their places."""
        for slot, t in zip(self.inputs, inputs, strict=True):
            _dense(slot).copy_(_dense(t))

    def begin(self, values: Sequence[int]) -> None:
        """Give everything what is made of numbers now."""
        for value, place, given in zip(values, self._filled, self._given, strict=True):
            if place is not None:
                place.fill_(value)
            for call, k in given:
                call.give(k, value)

    def first(self) -> None:
        """Do what parties compute of their own data, before anything is drawn or sent. Raises what they refuse by."""
        for call in self._first:
            call()

    def run(self) -> None:
        """Do the rest again."""
        for call in self.calls:
            call()


class _Changing:
    """A kernel that is given numbers that change."""

    __slots__ = ("args", "function")

    def __init__(self, function: Callable[..., Any], args: list[Any]) -> None:
        self.function, self.args = function, args

    def __call__(self) -> None:
        self.function(*self.args)

    def give(self, k: int, value: int) -> None:
        """Have it called with another number."""
        self.args[k] = value


def _needed(recorder: Recorder, live: set[int]) -> list[bool]:
    """Which events make something that counts: a result, a state, or what is sent."""
    moving = recorder.moving
    live = set(live)
    out: list[bool] = []
    for kind, what, given, made in reversed(recorder.events):
        if kind in ("exchange", "send", "witness"):
            parcels = given[0] if kind == "exchange" else [given[0]] if kind == "send" else given
            live.update(recorder.see(t) for t in leaves(parcels) if isinstance(t, Tensor))
            out.append(True)
            continue
        if kind == "plain":
            changed = _tensors(made)
            if what._schema.is_mutable:
                changed += _tensors(given)
            used = _tensors(given)
        elif kind == "kernel":
            changed = used = [x.tensor for x in addresses(given)]
        elif kind in ("draw", "take"):
            changed, used = [made], []
        elif kind == "clear":
            changed, used = [made], [given[0]]
        elif kind == "stream":
            changed = used = [given[0]]
        else:
            out.append(True)
            continue
        needed = any((key := recorder.see(x)) in live and key in moving for x in changed)
        if needed:
            live.update(recorder.see(x) for x in used)
        out.append(needed)
    return out[::-1]


def _by_arguments_alone(recorder: Recorder, of_an_input: Callable[[Tensor], bool]) -> set[int]:
    """The places of events by which parties compute of their own data, and of what leads there, if all of it follows
    from arguments, moved, and is written to by nothing else."""
    events, live = recorder.events, set[int]()
    found: list[int] = []
    for k in reversed(range(len(events))):
        kind, what, given, made = events[k]
        if kind == "clear":
            found.append(k)
            live.add(recorder.see(given[0]))
        elif kind == "plain" and live and not what._schema.is_mutable and what not in EMPTY:
            if live.isdisjoint(map(recorder.see, _tensors(made))):
                continue
            found.append(k)
            live.update(map(recorder.see, _tensors(given)))
    made_here, written = set[int](), _overwritten(recorder) if found else set()
    ahead = set[int]()
    for k in reversed(found):
        kind, _, given, made = events[k]
        tensors = _tensors(given[:1] if kind == "clear" else given)
        if all(
            (key := recorder.see(x)) not in written
            and (of_an_input(x) or key in made_here or key not in recorder.moving)
            for x in tensors
        ):
            ahead.add(k)
            made_here.update(map(recorder.see, _tensors(made)))
    return ahead


def _overwritten(recorder: Recorder) -> set[int]:
    """Memory that is written to beside what operators make."""
    out = set[int]()
    for kind, what, given, _ in recorder.events:
        tensors: list[Any] = []
        if kind == "plain" and what._schema.is_mutable:
            tensors = _tensors(given)
        elif kind == "kernel":
            tensors = [x.tensor for x in addresses(given) if not x.read_only]
        elif kind == "stream":
            tensors = [given[0]]
        elif kind == "exchange":
            tensors = [parcel.tensor for parcel in given[1]]
        elif kind == "receive":
            tensors = [given[0].tensor]
        out.update(map(recorder.see, tensors))
    return out


def _tensors(x: Any) -> list[Tensor]:
    """What is in nested lists, tuples and dictionaries and has memory."""
    return [t for t in leaves(x) if isinstance(t, Tensor) and not t.is_meta]


def _without_copies(kind: str, given: Any) -> Any:
    if kind == "exchange":
        return given[:2]
    return given[0] if kind in ("send", "receive") else given[:-1]


def _region(t: Tensor) -> tuple[int, int]:
    """The bytes that a tensor's elements lie in."""
    if not t.numel():
        return 0, 0
    span = 1 + sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True))
    return t.data_ptr(), t.data_ptr() + span * t.itemsize


def _view(storage: torch.UntypedStorage, offset: int, like: Tensor) -> Tensor:
    """A tensor of a form somewhere in memory."""
    if offset % like.itemsize:
        raise NotReplayed("a tensor begins in the middle of a word")
    out = torch.empty(0, dtype=like.dtype)
    return out.set_(storage, offset // like.itemsize, like.shape, like.stride())


def _dense(t: Tensor) -> Tensor:
    """Without the dimensions along which all elements are one."""
    if 0 in t.stride():
        for d, step in enumerate(t.stride()):
            if step == 0 and t.shape[d] > 1:
                t = t.narrow(d, 0, 1)
    return t


def _computed(out: Tensor, func: Any, args: Any, kwargs: Any) -> None:
    out.copy_(func(*args, **kwargs))


def _several(outs: Sequence[Tensor], func: Any, args: Any, kwargs: Any) -> None:
    for out, result in zip(outs, leaves(func(*args, **kwargs)), strict=True):
        out.copy_(result)


def _drawn(out: Tensor, draw: Callable[[int], Tensor], count: int) -> None:
    out.copy_(draw(count))


def _handed_over(transport: Transport, source: str, destination: str, place: Tensor) -> None:
    """Send a copy: the transport may still be at it when the next replay comes to this memory."""
    transport.send(Parcel(source, destination, place.clone()))


def _taken(place: Tensor, transport: Transport, source: str, destination: str, size: int) -> None:
    arrived = transport.take(source, destination, size)
    if arrived.data_ptr() != place.data_ptr():
        place.copy_(arrived)


def _hashed(operator: str, tokens: Sequence[bytes | Number]) -> bytes:
    return hashed(operator, b"|".join(repr(t.raw).encode() if isinstance(t, Number) else t for t in tokens))
