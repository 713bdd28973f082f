"""What the ranks of one role tell each other, and how one of them that waits finds out that another has gone.

The sums here are of ring elements and bytes, which travel among the processes of one role by the process group that the
program has made, as `torch.distributed` sends tensors: in the clear, and to whoever calls. That network is the role's
own.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore

from tacit.errors import NetworkError, PeerLost, PeerStalled, TacitError
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


class Pulse:
    """The signs of life of one rank, and what it says when it ends its session, in the store of its job."""

    def __init__(self, session: Session) -> None:
        number = session.number
        self._rank, self._role = session.rank, session.role
        self._store = PrefixStore("tacit", dist.distributed_c10d._get_default_store())
        self._note = f"end/{number}/"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="tacit-pulse", daemon=True)
        self._thread.start()
        atexit.register(self.end)

    def _beat(self) -> None:
        with contextlib.suppress(Exception):  # the store goes with the job
            while not self._stop.is_set():
                self._store.add(f"pulse/{self._rank.index}", 1)
                self._stop.wait(PULSE)

    def end(self, reason: str = "has ended its program") -> None:
        """Say that no more will come, and why."""
        if self._stop.is_set():
            return
        self._stop.set()
        atexit.unregister(self.end)
        with contextlib.suppress(Exception):
            self._store.set(f"{self._note}{self._rank.index}", reason[:1000])
        self._thread.join(PULSE)

    def name(self, index: int) -> str:
        """What a rank of this role is called."""
        return Rank(index, self._rank.count).of(self._role)

    def beats(self, others: list[int]) -> dict[int, int]:
        """How many signs of life each has given; none if the store has gone."""
        try:
            return {i: self._store.add(f"pulse/{i}", 0) for i in others}
        except Exception:
            return {}

    def ended(self, others: list[int]) -> str | None:
        """What a rank has said that has ended its session, if one has."""
        for i in others:
            with contextlib.suppress(Exception):
                if self._store.check([f"{self._note}{i}"]):
                    return f"{self.name(i)} {self._store.get(f'{self._note}{i}').decode(errors='replace')}"
        return None


def pulse_of(session: Session) -> Pulse:
    """That of a session: it begins with the first collective on its secrets, and ends with the session."""
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
                    if work.is_completed():
                        raise
        except TacitError:
            raise
        except RuntimeError as error:
            raise self._lost(str(error).splitlines()[0]) from None

    def _patiently(self) -> Iterator[None]:
        """Turns of waiting. Raises if waiting makes no sense any more."""
        session, others = self._session, [r for r in self.ranks if r != self.ranks[self.here]]
        beats: dict[int, int] = {}
        heard = dict.fromkeys(others, time.monotonic())
        while True:
            yield
            session.transport.look()
            told = self._pulse.ended(others)
            if told is not None:
                raise PeerLost(f"{told}, and {self._place()}")
            now = time.monotonic()
            for i, beat in self._pulse.beats(others).items():
                if beats.get(i) != beat:
                    beats[i], heard[i] = beat, now
            late = [i for i in others if now - heard[i] > session.config.timeout]
            if late:
                raise PeerStalled(
                    f"{self._pulse.name(late[0])} has given no sign of life for {session.config.timeout:g} s, "
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
                return PeerLost(f"{told}, and {self._place()}")
            time.sleep(PULSE / 2)
        beats = self._pulse.beats(others)
        if not beats:
            return PeerLost(f"{self._pulse.name(0)} has gone, and the store of its job with it, {self._place()}")
        gone = [self._pulse.name(i) for i in others if beats[i] == before.get(i)]
        if gone:
            return PeerLost(f"{' and '.join(gone)} has gone {self._place()}: see its own log")
        return NetworkError(f"the ranks of {self._session.role} have lost each other {self._place()}: {why}")
