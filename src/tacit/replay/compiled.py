"""`tacit.compile`: a function that is run as it is written, recorded, and from then on replayed where that is the same.

Two recordings in a row that do the same make a tape; a call that begins as they did replays it. Whatever is not as it
was, in what the function reads or is given, has it run as it is written, which is always right.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Hashable, Sequence
from functools import update_wrapper
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from tacit.errors import NotReplayed, Unsteady
from tacit.protocols.protocol import Protocol
from tacit.protocols.replays import Replays
from tacit.protocols.values import Value
from tacit.replay.recorder import Recorder
from tacit.replay.results import Results
from tacit.replay.tape import Tape
from tacit.replay.watched import PLAIN, Watched
from tacit.tensor import SecretTensor

__all__ = ["Compiled", "compile"]

RECORDINGS = 12
"""Recordings of one function that may come to nothing before it is no longer tried. More: for functions of more forms
of arguments; fewer: less time for those that never come to a tape. One takes three times as long as a plain run."""

TAPES = 8
"""Forms of arguments, and of turns of the producer, that have tapes at a time. Each has memory of its own."""

MOST_BYTES = 1 << 28
"""Of parameters and what else a function reads, up to which a recording is tried: it copies them twice."""

_recording = threading.local()


def compile(function: Callable[..., Any]) -> Compiled:
    """Return a function that does the same, but is recorded and then replayed with a fifth of the time for small ones.

    See docs/compile.md for what can be replayed; all else runs as it is written, and a warning says why.

    Args:
        function: a step of training, or a prediction, of secrets of fixed shapes.
    """
    if not callable(function):
        raise TypeError(f"tacit.compile takes a function, not {type(function).__name__}")
    return function if isinstance(function, Compiled) else Compiled(function)


class Call(NamedTuple):
    """One call, as it begins."""

    protocol: Protocol
    replays: Replays
    arguments: list[SecretTensor]
    states: list[SecretTensor]
    tensors: list[Tensor]
    """What its inputs are made of."""
    key: Hashable
    """All by which calls differ that have no tape in common."""


class Entry(NamedTuple):
    """A tape, with what it began and ended with."""

    tape: Tape
    results: Results
    turns: int


class Compiled:
    """A function that is replayed where it can be."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        """As it is written."""
        self.replayed = 0
        """How often it was replayed."""
        self.why_not = ""
        """Why it is not, for good."""
        self._watched: Watched | None = None
        self._entries: dict[Hashable, Entry] = {}
        self._seen: dict[Hashable, str] = {}
        """The digest of the last recording of each key."""
        self._attempts = 0
        self._told: set[str] = set()
        update_wrapper(self, function, updated=())

    def __repr__(self) -> str:
        return f"<tacit.compile of {getattr(self.function, '__name__', 'a function')}, replayed {self.replayed} times>"

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        """As a method, it runs as it is written: make `self.step = tacit.compile(self.step)` of it instead."""
        return self if owner is None else self.function.__get__(owner, kind)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Replay it, or run it."""
        if self.why_not or getattr(_recording, "on", False) or _get_current_dispatch_mode() is not None:
            return self.function(*args, **kwargs)
        try:
            call = self._began(args, kwargs)
        except NotReplayed as why:
            self._tell(str(why), for_good=not isinstance(why, Unsteady))
            return self.function(*args, **kwargs)
        if call is None:
            return self.function(*args, **kwargs)
        entry = self._entries.get(call.key)
        if entry is not None:
            if entry.results.fits(call.states):
                return self._replay(entry, call)
            del self._entries[call.key]
        return self._record(call, args, kwargs)

    # --- how a call begins --------------------------------------------------------------------------------------------

    def _began(self, args: Any, kwargs: Any) -> Call | None:
        """What is known of a call; None if it has nothing to do with secrets."""
        if self._watched is None or (changed := self._watched.changed()):
            if self._watched is not None:
                if self._entries:
                    self._tell(f"{changed} has changed, which it reads, so it is recorded again", for_good=False)
                self._entries.clear()
                self._seen.clear()
                self._failed("what it reads changes again and again")
            self._watched = Watched(self.function)
        arguments: list[SecretTensor] = []
        shape = _shape((args, kwargs), arguments)
        states = self._watched.secrets
        first = next(iter((*arguments, *states)), None)
        if first is None:
            return None
        protocol = first._protocol
        protocol.session.check_open()
        if any(x._protocol is not protocol for x in (*arguments, *states)):
            raise NotReplayed("it reads secrets of two sessions")
        replays = _replays(protocol)
        form = replays.form()
        key = [id(protocol), shape, replays.turn % len(protocol.session.parties), *_environment()]
        held: set[int] = set()
        for x in states:
            value = _value(x)
            held.add(id(value.storage))
            key.append(_state(form, value, x))
        for x in arguments:
            if x.requires_grad:
                raise Unsteady("an argument requires gradients, which are for whoever has it")
            value = _value(x)
            if id(value.storage) in held:
                raise Unsteady("an argument is what it reads anyway, or a part of it")
            key.append((x._kind, form.input(value)))
        pairs = [(x, y) for k, x in enumerate(arguments) for y in arguments[:k]]
        if any(x is not y and _value(x).storage is _value(y).storage for x, y in pairs):
            raise Unsteady("two of its arguments are parts of one secret")
        return Call(protocol, replays, arguments, states, form.tensors, tuple(key))

    # --- recording ----------------------------------------------------------------------------------------------------

    def _record(self, call: Call, args: Any, kwargs: Any) -> Any:
        session, replays = call.protocol.session, call.replays
        shares = _unique([t for x in call.states for t in replays.shares(_value(x)) if not t.is_meta])
        if sum(t.untyped_storage().nbytes() for t in shares) > MOST_BYTES:
            self._tell(f"it reads more than {MOST_BYTES >> 20} MiB of secrets", for_good=True)
            return self.function(*args, **kwargs)
        began = [t.clone() for t in shares]
        secret = replays.memory()
        before = Results.before(replays, call.arguments, call.states)
        requests, turn = session._requests, replays.turn
        randomness = torch.get_rng_state()
        recorder = Recorder(session, replays.kernels, call.tensors, shares)
        for x in (*call.arguments, *call.states):
            recorder.learn(x)
        _recording.on = True
        try:
            with recorder.everything():
                result = self.function(*args, **kwargs)
        finally:
            _recording.on = False
        try:
            if recorder.why or session.closed:
                raise NotReplayed(recorder.why or "it ends its session")
            if session._requests != requests:
                raise NotReplayed("it reveals or shares something")
            if not torch.equal(torch.get_rng_state(), randomness):
                raise NotReplayed("it draws public random numbers")
            assert self._watched is not None
            if changed := self._watched.changed():
                raise Unsteady(f"it changes {changed}, which it reads")
            results, needed = before.after(result)
            tape = Tape(session, recorder, call.tensors, shares, needed, secret, before.pinned)
            tape.tried(call.tensors, list(zip(shares, began, strict=True)), needed)
            results.settle(tape.at)
            digest = f"{tape.digest} {results.digest}"
            if self._seen.get(call.key) == digest:
                tape.settle()
                if len(self._entries) >= TAPES:
                    self._entries.pop(next(iter(self._entries)))
                self._entries[call.key] = Entry(tape, results, replays.turn - turn)
                self._attempts = 0
            else:
                self._seen[call.key] = digest
                self._failed("it does not do the same each time")
        except Unsteady as why:
            self._failed(str(why))
        except NotReplayed as why:
            self._tell(str(why), for_good=True)
        except Exception as error:  # what runs as it is written is right, whatever a recording trips over
            self._tell(f"its recording failed by {type(error).__name__}", for_good=True)
        return result

    def _failed(self, why: str) -> None:
        """Count a recording that was not followed by a replay."""
        self._attempts += 1
        if self._attempts > RECORDINGS:
            self._tell(f"{why} ({RECORDINGS} recordings in a row have not come to a replay)", for_good=True)

    def _tell(self, why: str, *, for_good: bool) -> None:
        if for_good:
            self.why_not = why
            self._entries.clear()
        if why not in self._told:
            self._told.add(why)
            name = getattr(self.function, "__name__", "a function")
            end = "; it runs as it is written from now on" if for_good else ""
            warnings.warn(f"tacit.compile: {name} is not replayed: {why}{end}", stacklevel=4)

    # --- replaying ----------------------------------------------------------------------------------------------------

    def _replay(self, entry: Entry, call: Call) -> Any:
        session = call.protocol.session
        try:
            with torch.no_grad():
                entry.tape.take_in(call.tensors)
                entry.tape.run()
                call.replays.pass_turns(entry.turns)
                out = entry.results.made()
        except BaseException:
            session.fall_out_of_step()  # as a primitive that breaks off
            raise
        self.replayed += 1
        self._attempts = 0
        return out


def _value(x: SecretTensor) -> Value:
    """The value of a secret that is there."""
    share = x._share
    if not isinstance(share, Value):
        raise Unsteady("a secret that waits to be computed is read")
    return share


def _state(form: Any, value: Value, x: SecretTensor) -> Hashable:
    """What is in the key of a secret that a function reads: its form, or that more is known of it."""
    try:
        known = form.state(value)
    except Unsteady:
        known = "pinned"
    return id(value), known, x.grad is None, x._kind


def _shape(x: Any, secrets: list[SecretTensor]) -> Hashable:
    """Arguments but for what is in secrets, which are collected; each object once."""
    if isinstance(x, SecretTensor):
        for k, y in enumerate(secrets):
            if y is x:
                return "secret", k
        secrets.append(x)
        return "secret", len(secrets) - 1
    if type(x) in (list, tuple):
        return type(x), tuple(_shape(y, secrets) for y in x)
    if type(x) is dict:
        return dict, tuple((k, _shape(y, secrets)) for k, y in x.items())
    if type(x) in PLAIN:
        return type(x), x.hex() if type(x) is float else repr(x) if type(x) is complex else x
    raise Unsteady(f"an argument is a {type(x).__name__}: give it secrets, numbers and strings")


def _environment() -> tuple[Hashable, ...]:
    """What PyTorch decides by that is nobody's."""
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch.is_autocast_enabled("cpu"),
        torch.get_num_threads(),
        len(torch.nn.modules.module._global_forward_hooks),
        len(torch.nn.modules.module._global_forward_pre_hooks),
    )


def _replays(protocol: Protocol) -> Replays:
    session = protocol.session
    replays = protocol.replays()
    if replays is None:
        raise NotReplayed(
            "this session computes by a scheme, or from a store of prepared material, of which steps are not recorded"
        )
    if session.watcher is not None or session.guard is not None:
        raise NotReplayed("this session checks itself")
    if session.config.rank.count > 1:
        raise NotReplayed("a role of several ranks is not recorded")
    if any("native" not in module.__name__ for module in replays.kernels):
        raise NotReplayed("the native kernels are not installed, or not in use")
    return replays


def _unique(tensors: Sequence[Tensor]) -> list[Tensor]:
    return list({id(t): t for t in tensors}.values())
