"""`tacit.compile`: a function that is run as it is written, recorded, and from then on replayed where that is the same.

Two recordings in a row that do the same make a tape; a call that begins as they did replays it. Whatever is not as it
was, in what the function reads or is given, has it run as it is written, which is always right.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import update_wrapper
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks
from torch.utils._python_dispatch import _get_current_dispatch_mode

from tacit.errors import NotReplayed, TacitError, Unsteady
from tacit.protocols.protocol import Protocol
from tacit.protocols.replays import Form, Replays
from tacit.protocols.values import Value
from tacit.replay.program import world_of
from tacit.replay.recorder import Recorder
from tacit.replay.results import Before, Results, there
from tacit.replay.tape import Tape
from tacit.replay.world import PLAIN, World
from tacit.session.ledger import where
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
_alone = threading.Lock()
"""Held while a step is recorded: what a recording replaces is the whole process's."""


def compile(
    function: Callable[..., Any] | None = None, *, strict: bool = False, fullgraph: bool = False
) -> Compiled | Callable[[Callable[..., Any]], Compiled]:
    """Return a function that does the same, but is recorded and then replayed in a fraction of the time for small ones.

    See docs/compile.md for what can be replayed; all else runs as it is written, and a warning says why.

    Args:
        function: a step of training, or a prediction, of secrets of fixed shapes.
        strict: whether to raise `NotReplayed` in the place of that warning.
        fullgraph: the same, as `torch.compile` calls it.
    """
    strict = strict or fullgraph
    if function is None:
        return lambda function: Compiled(function, strict=strict)
    if not callable(function):
        raise TypeError(f"tacit.compile takes a function, not {type(function).__name__}")
    return function if isinstance(function, Compiled) else Compiled(function, strict=strict)


class Call(NamedTuple):
    """One call, as it begins."""

    protocol: Protocol
    replays: Replays
    arguments: list[SecretTensor]
    states: list[SecretTensor]
    sums: list[SecretTensor]
    """Gradients that it may add to."""
    before: Before
    tensors: list[Tensor]
    """What its inputs are made of."""
    key: Hashable
    """All by which calls differ that have no tape in common; None where this call has none."""
    why: str
    """Why it has none."""
    shape: Hashable
    """Its arguments but for what is in secrets."""
    world: World


class Entry(NamedTuple):
    """A tape, with what it began and ended with."""

    tape: Tape
    results: Results
    turns: int


class Recording:
    """One call that is recorded."""

    def __init__(self, call: Call) -> None:
        call.before.pin()
        session, replays = call.protocol.session, call.replays
        self._call = call
        self._shares = _unique([t for x in call.states for t in replays.shares(there(x)) if not t.is_meta])
        self._began = [t.clone() for t in self._shares]
        added = {id(t) for x in call.sums for t in replays.shares(there(x))}
        self._inputs = [t.clone() if id(t) in added else t for t in call.tensors]
        self._secret = replays.memory()
        self._requests, self._turn = session._requests, replays.turn
        self._randomness = torch.get_rng_state()
        self._recorder = Recorder(session, replays.kernels, call.tensors, self._shares, call.world.counters)
        self._refused: NotReplayed | None = None
        for x in (*call.arguments, *call.states, *call.sums):
            self._recorder.learn(x)

    def run(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run it, and return what it leaves, which stands alone then."""
        call = self._call
        _recording.on = True
        try:
            with self._recorder.everything():
                result = function(*args, **kwargs)
                try:
                    return result if call.protocol.session.closed else call.before.leave(result)
                except NotReplayed as why:
                    self._refused = why
                    return result
        finally:
            _recording.on = False

    def check(self) -> None:
        """Raise if it has done what no replay does."""
        if self._refused is not None:
            raise self._refused
        if self._recorder.disturbed:
            raise Unsteady("another thread worked meanwhile")
        if self._recorder.why:
            raise NotReplayed(self._recorder.why)
        if self._call.protocol.session._requests != self._requests:
            raise NotReplayed("it reveals or shares something")
        if not torch.equal(torch.get_rng_state(), self._randomness):
            raise NotReplayed("it draws public random numbers")

    def entry(self, result: Any) -> Entry:
        """A tape of it, which has been tried."""
        call = self._call
        results, needed = call.before.after(result)
        tape = Tape(
            call.protocol.session,
            self._recorder,
            call.tensors,
            self._shares,
            needed,
            self._secret,
            call.before.pinned,
        )
        tape.tried(self._inputs, list(zip(self._shares, self._began, strict=True)), needed)
        results.settle(tape.at)
        return Entry(tape, results, call.replays.turn - self._turn)


class Compiled:
    """A function that is replayed where it can be."""

    def __init__(self, function: Callable[..., Any], *, strict: bool = False) -> None:
        self._function = function
        self.replayed = 0
        """How often it was replayed."""
        self.why_not = ""
        """Why it is not, for good."""
        self.strict = strict
        self._replays = True
        """Whether to record and replay; without it, calls differ in nothing but their time."""
        self._world: World | None = None
        self._protocol: Protocol | None = None
        self._entries: dict[Hashable, Entry] = {}
        self._seen: dict[Hashable, tuple[str, list[float], list[bool]]] = {}
        """The digest of the last recording of each key, the numbers that it followed, and which of them have varied."""
        self._attempts = 0
        self._told: set[str] = set()
        update_wrapper(self, function, updated=())

    @property
    def function(self) -> Callable[..., Any]:
        """As it is written."""
        return self._function

    def __repr__(self) -> str:
        return f"<tacit.compile of {self._name}, replayed {self.replayed} times>"

    @property
    def _name(self) -> str:
        return str(getattr(self.function, "__name__", "a function"))

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        """As a method, it runs as it is written: make a function that calls it."""
        return self if owner is None else self.function.__get__(owner, kind)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Replay it, or run it."""
        if getattr(_recording, "on", False) or _get_current_dispatch_mode() is not None:
            return self.function(*args, **kwargs)
        try:
            call = None if self.why_not else self._began(args, kwargs)
        except NotReplayed as why:
            self._tell(str(why), for_good=not isinstance(why, Unsteady))
            call = None
        if call is None:
            self._say("as it is written", _protocol_of((args, kwargs)) or self._protocol)
            return self.function(*args, **kwargs)
        entry = self._entries.get(call.key)
        if entry is not None:
            values = entry.tape.numbers.values() if entry.results.fits() else None
            if values is not None:
                return self._replay(entry, call, values, args, kwargs)
            del self._entries[call.key]
            self._failed("what it begins with, or a number that it computes by, is another again and again")
            if self.why_not:
                return self._run(call, args, kwargs)[0]
        return self._record(call, args, kwargs) if self._replays else self._run(call, args, kwargs)[0]

    def _say(self, how: str, protocol: Protocol | None, tape: str = "") -> None:
        """Put into the transcript how this call is run: roles that differ in it stop at the next frame, which says so.

        They deal and open at the same points then, and what they make of it is the same.
        """
        if protocol is not None and not protocol.session.closed:
            protocol.session.transcript.record(f"tacit.compile({self._name}: {how})", tape.encode(), where())

    # --- how a call begins --------------------------------------------------------------------------------------------

    def _began(self, args: Any, kwargs: Any) -> Call | None:
        """What is known of a call; None if it has nothing to do with secrets. What comes in stands alone now."""
        if self._world is None or (changed := self._world.changed()):
            if self._world is not None:
                if self._entries:
                    self._tell(f"{changed} has changed, which it reads, so it is recorded again", for_good=False)
                self._entries.clear()
                self._seen.clear()
                self._failed("what it reads changes again and again")
            self._world = None
            self._world = world_of(self.function)
        arguments: list[SecretTensor] = []
        shape = _shape((args, kwargs), arguments)
        states, sums = self._world.secrets, self._world.sums()
        first = next(iter((*arguments, *states)), None)
        if first is None:
            return None
        protocol = first._protocol
        protocol.session.check_open()
        if any(x._protocol is not protocol for x in (*arguments, *states, *sums)):
            raise NotReplayed("it reads secrets of two sessions")
        if protocol is not self._protocol:
            self._entries.clear()
            self._seen.clear()
            self._protocol = protocol
        replays = _replays(protocol)
        for x in arguments:
            if x.requires_grad:
                raise Unsteady("an argument requires gradients, which are for whoever has it")
        values = [there(x) for x in (*arguments, *states)]
        for value in values:
            replays.renew(value)
        for value in values[: len(arguments)]:
            replays.whole(value)
        for x, value in zip(states, values[len(arguments) :], strict=True):
            if id(x) in self._world.averages:
                replays.forget(value)
            else:
                replays.alone(value)
        for x in sums:
            replays.forget(x.share)
        before = Before(replays, arguments, states, list(self._world.averages.values()), sums)
        form = replays.form()
        key: Hashable = None
        reason = ""
        try:
            key = (shape, self._world.counted(), *self._key(replays, form, arguments, states, sums))
        except Unsteady as why:
            reason = str(why)
        return Call(protocol, replays, arguments, states, sums, before, form.tensors, key, reason, shape, self._world)

    def _key(
        self,
        replays: Replays,
        form: Form,
        arguments: list[SecretTensor],
        states: list[SecretTensor],
        sums: list[SecretTensor],
    ) -> Iterator[Hashable]:
        yield from (replays.turn % len(self._protocol.session.parties), _environment())  # type: ignore[union-attr]
        held = {id(there(x).storage) for x in states}
        for x in sums:
            if id(there(x).storage) in held:
                raise Unsteady("a gradient that it adds to is a part of something else that it reads")
            held.add(id(there(x).storage))
        for x in states:
            yield _state(form, there(x), x)
        for x in sums:
            yield x._kind, form.sum(there(x))
        for k, x in enumerate(arguments):
            value = there(x)
            if id(value.storage) in held:
                raise Unsteady("an argument is what it reads anyway, or a part of it")
            if any(there(y).storage is value.storage for y in arguments[:k]):
                raise Unsteady("two of its arguments are parts of one secret")
            yield x._kind, form.input(value)

    # --- running it ---------------------------------------------------------------------------------------------------

    def _run(self, call: Call, args: Any, kwargs: Any) -> tuple[Any, NotReplayed | None]:
        """Run it as it is written, and return what it leaves, which stands alone, or why it cannot."""
        self._say("not replayed", call.protocol)
        result = self.function(*args, **kwargs)
        if call.protocol.session.closed:
            return result, NotReplayed("it ends its session")
        try:
            return call.before.leave(result), None
        except NotReplayed as why:
            return result, why

    def _record(self, call: Call, args: Any, kwargs: Any) -> Any:
        """Run it, and record it if this role can. All roles then say how it went."""
        session = call.protocol.session
        if 8 * sum(x.numel() for x in call.states) > MOST_BYTES:
            self._tell(f"it reads more than {MOST_BYTES >> 20} MiB of secrets", for_good=True)
            return self._run(call, args, kwargs)[0]
        why: NotReplayed = Unsteady(call.why)
        recording: Recording | None = None
        if call.key is not None:
            try:
                recording = Recording(call) if _alone.acquire(blocking=False) else None
                why = Unsteady("another thread records a step")
            except Unsteady as error:
                _alone.release()
                why = error
            except BaseException:
                _alone.release()
                raise
        if recording is None:
            result, refused = self._run(call, args, kwargs)
            if not session.closed:
                self._vote(call, None, refused or why)
            return result
        self._say("not replayed", call.protocol)
        try:
            result = recording.run(self.function, args, kwargs)
        finally:
            _alone.release()
        if session.closed:
            self._tell("it ends its session", for_good=True)
            return result
        found: Entry | None = None
        try:
            recording.check()
            again: list[SecretTensor] = []
            if _shape((args, kwargs), again) != call.shape or list(map(id, again)) != list(map(id, call.arguments)):
                raise NotReplayed("it changes a list or dictionary that it was given")
            assert self._world is not None
            if changed := self._world.changed():
                raise Unsteady(f"it changes {changed}, which it reads")
            found = recording.entry(result)
            why = Unsteady("it does not do the same each time")
        except NotReplayed as error:
            why = error
        except Exception as error:  # what runs as it is written is right, whatever a recording trips over
            why = NotReplayed(f"its recording failed by {type(error).__name__}")
        self._vote(call, found, why)
        return result

    def _vote(self, call: Call, found: Entry | None, why_not: NotReplayed) -> None:
        """Keep a tape if every role has one that is the same as its last, and they are of the same operators.

        Each role says in a few bytes how its recording went, so all of them go on in the same way.
        """
        session = call.protocol.session
        digest = "" if found is None else f"{found.tape.digest} {found.results.digest}"
        before, raws, varied = self._seen.get(call.key, ("", [], []))
        again = found is not None and before == digest
        if found is not None:
            numbers = found.tape.numbers
            varied = numbers.compare(raws, varied) if again else []
            self._seen[call.key] = digest, numbers.raws, varied
        word = b"again " if again else b"once " if found is not None else _KINDS[isinstance(why_not, Unsteady)]
        mine = word + (b"" if found is None else found.tape.public)
        votes = {
            role: session.announce(role, mine if session.hosts(role) else None) for role in session.transport.roles
        }
        never = [role for role, vote in votes.items() if vote == _KINDS[False]]
        if never:
            mine_too = any(session.hosts(role) for role in never)
            self._tell(str(why_not) if mine_too else f"{', '.join(never)} cannot replay it", for_good=True)
        elif found is not None and again and set(votes.values()) == {mine}:
            found.tape.settle()
            if len(self._entries) >= TAPES:
                self._entries.pop(next(iter(self._entries)))
            self._entries[call.key] = found
        else:
            self._failed(str(why_not))

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
            if self.strict and not self._entries:
                raise NotReplayed(f"tacit.compile: {self._name} is not replayed: {why}")
            end = "; it runs as it is written from now on" if for_good else ""
            warnings.warn(f"tacit.compile: {self._name} is not replayed: {why}{end}", stacklevel=4)

    # --- replaying ----------------------------------------------------------------------------------------------------

    def _replay(self, entry: Entry, call: Call, values: Sequence[int], args: Any, kwargs: Any) -> Any:
        session = call.protocol.session
        try:
            with torch.no_grad():
                entry.tape.take_in(call.tensors)
                entry.tape.first()
        except TacitError:  # an owner refuses its labels, say, and nothing has been done yet
            if session.embedded:
                return self._run(call, args, kwargs)[0]  # where it is refused again
            session.fall_out_of_step()  # the others go on without it, until they are told
            raise
        call.before.let_go()
        entry.results.begin()
        self._say("replayed", call.protocol, entry.tape.public.hex())
        try:
            with torch.no_grad():
                entry.tape.begin(values)
                entry.tape.run()
                call.replays.pass_turns(entry.turns)
                entry.tape.numbers.count()
                call.world.note_called()
                out = entry.results.made(call.sums)
        except BaseException:
            session.fall_out_of_step()  # as a primitive that breaks off
            raise
        self.replayed += 1
        self._attempts = 0
        return out


_KINDS = {False: b"never", True: b"not this time"}


def _protocol_of(x: Any) -> Protocol | None:
    """The protocol of a secret among arguments."""
    if isinstance(x, SecretTensor):
        return x._protocol
    if type(x) is dict:
        x = list(x.values())
    return next((p for y in x if (p := _protocol_of(y))), None) if type(x) in (list, tuple) else None


def _state(form: Any, value: Value, x: SecretTensor) -> Hashable:
    """What is in the key of a secret that a function reads: its form, or that more is known of it."""
    try:
        known = form.state(value)
    except Unsteady:
        known = "pinned"
    return id(value), known, x.grad is None, x._kind


def _shape(x: Any, secrets: list[SecretTensor]) -> Hashable:
    """Arguments but for what is in secrets, which are collected; each object once."""
    if type(x) is SecretTensor:
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


def _environment() -> Hashable:
    """What PyTorch decides by that is nobody's."""
    found = torch.nn.modules.module
    hooks = (
        *(found._global_forward_hooks, found._global_forward_pre_hooks, found._global_backward_hooks),
        *(found._global_backward_pre_hooks, _global_optimizer_pre_hooks, _global_optimizer_post_hooks),
    )
    if any(getattr(hook, "__module__", "").partition(".")[0] != "tacit" for row in hooks for hook in row.values()):
        raise Unsteady("hooks of all modules or optimizers are set")
    if torch._C._len_torch_function_stack() or torch.is_anomaly_enabled():
        raise Unsteady("PyTorch is watched by a mode of functions, or for anomalies")
    if torch._C._autograd._top_saved_tensors_default_hooks(True) is not None:
        raise Unsteady("hooks of saved tensors are set")
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch.is_autocast_enabled("cpu"),
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
