"""What the ranks of one role tell each other, and how one of them that waits finds out that another has gone.

The sums here are of ring elements and bytes, which travel among the processes of one role by the process group that the
program has made, as `torch.distributed` sends tensors: in the clear, and to whoever calls. That network is the role's
own.
"""

from __future__ import annotations

import atexit
import contextlib
import hmac
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore

from tacit.errors import AuthenticationError, NetworkError, PeerLost, PeerStalled, TacitError
from tacit.net.certificates import key_of_ranks
from tacit.session.ranks import Rank
from tacit.session.session import Session

__all__ = ["Among", "Pulse", "pulse_of"]

SLICE = timedelta(milliseconds=250)
"""Of waiting, after which a rank looks whether waiting still makes sense."""

PULSE = 0.5
"""Seconds between two signs of life of a rank. Shorter: one that was killed is named sooner; longer: the job's store
has less to do."""

MISSED = 4
"""Signs of life that a rank may miss while others look for whoever broke the connection."""

LEAVING = 10.0
"""Seconds that what a rank has sent before it ended well may be on its way. Longer: large tensors over slow links;
shorter: who waits for what never comes is told sooner."""

HELLO = struct.Struct("<16s16sII")
"""Of a rank to those of its group: a nonce, a digest of its role's name, its place and how many they are."""


class Pulse:
    """The signs of life of one rank, and what it says when it ends its session, in the store of its job."""

    def __init__(self, session: Session) -> None:
        number = session.number
        self._rank, self._role = session.rank, session.role
        self._job: tuple[Any, PrefixStore, int] | None = None
        self._note, self._begun = f"end/{number}/", f"begun/{number}/"
        self._come: set[int] = set()
        self.met: dict[str, Any] = {}
        """Process groups that are known to be of this role alone, with the store of their job."""
        self._process = os.getpid()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="tacit-pulse", daemon=True)
        self._thread.start()
        atexit.register(self.end)

    def job(self) -> tuple[Any, PrefixStore, int]:
        """The store of the job, what Tacit keeps there, and this rank: of the process group that there is now.

        A program may make it after its session has begun, or another one later.
        """
        if dist.is_initialized():
            store = dist.distributed_c10d._get_default_store()
            if self._job is None or self._job[0] is not store:
                self._job = store, PrefixStore("tacit", store), dist.get_rank()
        if self._job is None:
            raise NetworkError("there is no process group")
        return self._job

    def _beat(self) -> None:
        told = gone = None
        while not self._stop.is_set():
            with contextlib.suppress(Exception):  # there may be no process group yet
                store, kept, here = self.job()
                if store is not gone:
                    gone = store  # unless it answers
                    if store is not told:
                        kept.set(f"{self._begun}{here}", "")
                        told = store
                    kept.add(f"pulse/{here}", 1)
                    gone = None
            self._stop.wait(PULSE)

    def end(self, reason: str = "has ended its program") -> None:
        """Say that no more will come, and why."""
        if self._stop.is_set() or os.getpid() != self._process:  # a fork's end is not this rank's
            return
        self._stop.set()
        atexit.unregister(self.end)
        with contextlib.suppress(Exception):
            _, kept, here = self.job()
            kept.set(f"{self._note}{here}", reason[:1000])
        self._thread.join(PULSE)

    def name(self, index: int) -> str:
        """What a rank of this role is called."""
        return Rank(index, self._rank.count).of(self._role)

    def beats(self, others: list[int]) -> dict[int, int]:
        """How many signs of life each has given; none if the store has gone."""
        try:
            _, kept, _ = self.job()
            return {i: kept.add(f"pulse/{i}", 0) for i in others}
        except Exception:
            return {}

    def has_begun(self, index: int) -> bool:
        """Whether a rank has begun this session, and gives signs of life since then."""
        if index not in self._come:
            with contextlib.suppress(Exception):
                if self.job()[1].check([f"{self._begun}{index}"]):
                    self._come.add(index)
        return index in self._come

    def ended(self, others: list[int]) -> tuple[str, bool] | None:
        """What a rank has said that has ended its session, if one has, and whether it ended well."""
        found = None
        for i in others:
            with contextlib.suppress(Exception):
                _, kept, _ = self.job()
                if kept.check([f"{self._note}{i}"]):
                    said = kept.get(f"{self._note}{i}").decode(errors="replace")
                    well = not said.startswith("stopped")
                    if found is None or not well:
                        found = f"{self.name(i)} {said}", well
        return found


def pulse_of(session: Session) -> Pulse:
    """That of a session: it begins with the session of a rank, and ends with it."""
    if session.pulse is None:
        session.pulse = Pulse(session)
    pulse = session.pulse
    assert isinstance(pulse, Pulse)
    return pulse


class Among:
    """The ranks of one process group, in one collective."""

    def __init__(self, session: Session, group: Any) -> None:
        self._session, self._group = session, group
        self._pulse = pulse_of(session)
        self.ranks: list[int] = dist.get_process_group_ranks(group)
        self.here: int = group.rank()

    def __len__(self) -> int:
        return len(self.ranks)

    def name(self, place: int) -> str:
        """What the rank at a place in the group is called."""
        return self._pulse.name(self.ranks[place])

    def meet(self) -> None:
        """Make sure that all processes of the group are of this role, before any share goes to them. Once a session.

        Who is in a group is decided by an address that anybody may have been given by mistake. So each says whose it
        is, and shows that it has the role's private key: what all of them have said, authenticated with a key from it.
        Embedded sessions, and those in plaintext, have no keys, and only say it.
        """
        store, name = self._pulse.job()[0], self._group.group_name
        if len(self) == 1 or self._pulse.met.get(name) is store:
            return
        session, here = self._session, self._session.rank
        told = HELLO.pack(os.urandom(16), _digest(session.role), here.index, here.count)
        hellos = [row.numpy().tobytes() for row in self.gather(torch.frombuffer(bytearray(told), dtype=torch.uint8))]
        for place, row in zip(self.ranks, hellos, strict=True):
            _, digest, index, count = HELLO.unpack(row)
            role = next((r for r in (session.role, *session.transport.roles) if _digest(r) == digest), "a stranger")
            if role != session.role or not (session.embedded or (index, count) == (place, here.count)):
                raise AuthenticationError(
                    f"the process group of {here.of(session.role)} has {Rank(index, count).of(role)} at its place "
                    f"{place}: start the ranks of each role with a MASTER_ADDR and MASTER_PORT of their own, and with "
                    f"the RANK that they have in it"
                )
        key, said = _key(session), b"".join(hellos)
        tags = [hmac.digest(key, said + place.to_bytes(4, "little"), "sha256") for place in self.ranks]
        shown = self.gather(torch.frombuffer(bytearray(tags[self.here]), dtype=torch.uint8))
        for place, (tag, row) in enumerate(zip(tags, shown, strict=True)):
            if not hmac.compare_digest(tag, row.numpy().tobytes()):
                raise AuthenticationError(
                    f"{self.name(place)} has not the private key of {session.role}: start all ranks of a role with one "
                    f"key, in a process group that nobody else can join"
                )
        self._pulse.met[name] = store

    # --- collectives on plain tensors, of one dimension, contiguous ---------------------------------------------------

    def sum(self, t: Tensor) -> Tensor:
        """The sum over all ranks, modulo 2^64. Overwrites t."""
        self._do(lambda: dist.all_reduce(t, group=self._group, async_op=True))
        return t

    def broadcast(self, t: Tensor, source: int) -> Tensor:
        """What `source` has. Overwrites t elsewhere."""
        self._do(lambda: dist.broadcast(t, self.ranks[source], group=self._group, async_op=True))
        return t

    def gather(self, t: Tensor) -> Tensor:
        """What all ranks have, a row each."""
        rows = [torch.empty_like(t) for _ in self.ranks]
        self._do(lambda: dist.all_gather(rows, t, group=self._group, async_op=True))
        return torch.stack(rows)

    def exchange(self, rows: Tensor) -> Tensor:
        """Row i goes to rank i: what all have for this one, a row each."""
        out = torch.empty_like(rows)
        self._do(lambda: dist.all_to_all_single(out, rows, group=self._group, async_op=True))
        return out

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _do(self, begin: Callable[[], Any]) -> None:
        """Begin, and wait as long as all ranks give signs of life."""
        try:
            work = begin()
            for _ in self._patiently():
                try:
                    work.wait(SLICE)
                    return
                except RuntimeError:
                    if work.is_completed():  # by now; if not well, this says so
                        work.wait()
                        return
        except TacitError:
            raise
        except RuntimeError as error:
            raise self._lost(str(error).splitlines()[0]) from None

    def _patiently(self) -> Iterator[None]:
        """Turns of waiting. Raises if waiting makes no sense any more."""
        session, others = self._session, [r for r in self.ranks if r != self.ranks[self.here]]
        beats: dict[int, int] = {}
        heard, left = dict.fromkeys(others, time.monotonic()), float("inf")
        while True:
            yield
            session.transport.look()
            now = time.monotonic()
            told = self._pulse.ended(others)
            if told is not None:
                said, well = told
                left = min(left, now)
                if not well or now - left > LEAVING:  # until then what it sent may be on its way
                    raise PeerLost(f"{said}, and {self._place()}")
            for i, beat in self._pulse.beats(others).items():
                if beats.get(i) != beat:
                    beats[i], heard[i] = beat, now
            for i in others if told is None else ():
                self._check_lives(i, now - heard[i])

    def _check_lives(self, index: int, silent: float) -> None:
        """Raise if a rank has been silent for too long: who has not begun has the time that roles have to come."""
        config, name = self._session.config, self._pulse.name(index)
        if silent <= config.timeout:
            return
        if self._pulse.has_begun(index):
            raise PeerStalled(f"{name} has given no sign of life for {config.timeout:g} s, {self._place()}")
        if silent > config.connect_timeout:
            raise PeerStalled(
                f"{name} has not begun its session within {max(config.timeout, config.connect_timeout):g} s, "
                f"{self._place()}"
            )

    def _place(self) -> str:
        session = self._session
        at = session.transcript
        return f"while {session.rank.of(session.role)} was at operator {at.count}, `{at.operator}`"

    def _lost(self, why: str) -> TacitError:
        """Who has broken the connection between the ranks, as far as can be found out."""
        others = [r for r in self.ranks if r != self.ranks[self.here]]
        before, deadline = self._pulse.beats(others), time.monotonic() + MISSED * PULSE
        while time.monotonic() < deadline:
            told = self._pulse.ended(others)
            if told is not None:
                return PeerLost(f"{told[0]}, and {self._place()}")
            time.sleep(PULSE / 2)
        beats = self._pulse.beats(others)
        if not beats:
            return PeerLost(f"{self._pulse.name(0)} has gone, and the store of its job with it, {self._place()}")
        silent = [i for i in others if beats[i] == before.get(i)]
        gone = [self._pulse.name(i) for i in silent if self._pulse.has_begun(i)] or list(map(self._pulse.name, silent))
        if gone:
            return PeerLost(f"{' and '.join(gone)} has gone {self._place()}: see its own log")
        return NetworkError(f"the ranks of {self._session.role} have lost each other {self._place()}: {why}")


def _digest(role: str) -> bytes:
    return blake2b(role.encode(), digest_size=16).digest()


def _key(session: Session) -> bytes:
    """What the ranks of this role have in common, and nobody else has."""
    config = session.config
    return b"" if session.embedded or config.plaintext else key_of_ranks(Path(config.tls), session.role)
