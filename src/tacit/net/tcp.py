"""One role here, an encrypted TCP connection to each of the others."""

from __future__ import annotations

import atexit
import os
import struct
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from hashlib import blake2b

import torch

from tacit.errors import LinkDown, NetworkError, TacitError
from tacit.net.courier import Courier
from tacit.net.framing import LIMITS, SEQUENCE_MASK, Kind, pack_header
from tacit.net.link import SMALL_BYTES, Link, Promised
from tacit.net.names import plain
from tacit.net.parting import PARTING, Cause, farewell, hang_up
from tacit.net.transcript import DIGEST_BYTES, Transcript
from tacit.net.transport import Parcel, Transport
from tacit.net.verdict import Verdict
from tacit.net.waiting import Waiting
from tacit.ring.memory import space

__all__ = ["SPIN", "SPIN_ALONE", "Tcp"]

SPIN = 50e-6
"""Seconds to look again and again before sleeping, where roles outnumber cores. Most answers come sooner than a
sleeping process wakes up: a small product takes 0.33 ms in place of 0.43. Longer burns a core that a peer needs. Giving
way between two looks gains nothing, and where other programs are busy it gives them a whole turn of the scheduler."""

SPIN_ALONE = 500e-6
"""The same where a core is left for this role: it saves the 20 to 50 µs of waking up in every round of a local network,
and costs little where a round takes tens of milliseconds."""

ALIVE = struct.Struct("<BQQ8s")
"""Whether the sender waits for the receiver's next frame; frames it has received; its operator's number and digest."""


_OPEN: weakref.WeakSet[Tcp] = weakref.WeakSet()


def _abort_all() -> None:
    """Abort, at the end of the interpreter, what nobody has closed."""
    for transport in tuple(_OPEN):
        transport.abort("its program ended in the middle of a session")


def _abandon_all() -> None:
    """In a forked child: let go of the parent's connections, so that they end when the parent does."""
    for transport in tuple(_OPEN):
        transport.abandon()


atexit.register(_abort_all)
if sys.platform != "win32":
    os.register_at_fork(after_in_child=_abandon_all)


class Tcp(Transport):
    """The links of one role. `connect` in `rendezvous.py` makes them; this class moves frames and ends runs.

    The program's thread does all the waiting: it reads when it wants a frame, and writes while it waits. What is short
    it writes at once, too, in less time than it takes to wake another thread for it. The courier writes the rest of
    what `send` was given while the program does something else.
    """

    def __init__(
        self,
        role: str,
        roles: Sequence[str],
        links: dict[str, Link],
        transcript: Transcript,
        *,
        timeout: float = 60.0,
        outbox_bytes: int = 1 << 28,
        spin: float = SPIN,
    ) -> None:
        self.roles = tuple(map(plain, roles))
        self.hosted = (plain(role),)
        self.transcript = transcript
        self._role, self._here = role, plain(role)
        self._links = {plain(peer): link for peer, link in links.items()}
        self._outbox_bytes = outbox_bytes
        self._all = tuple(links.values())
        self._comparing: frozenset[str] = frozenset()
        self._open = True
        self._courier = Courier(self._all, min(timeout / 4, 2.0), self._sign_of_life)
        self._verdict = Verdict(role, self._all, transcript, timeout)
        self._waiting = Waiting(self._all, self._courier, self._verdict, spin=spin, timeout=timeout)
        self._courier.start()
        _OPEN.add(self)

    # --- moving tensors --------------------------------------------------------------------------------------------

    def exchange(self, sends: Sequence[Parcel], receives: Sequence[Parcel]) -> None:
        """Queue all that is sent, then receive; whenever something is not ready, whatever else can move moves."""
        links = self._links
        try:
            for _, destination, tensor in sends:
                link = links[destination]
                link.push(Kind.DATA, _bytes_of(tensor), self._digest(link))
            for link in self._all:
                if link.queued:
                    link.flush()
            for source, _, tensor in receives:
                self._receive(links[source], _bytes_of(tensor))
            for _, destination, _ in sends:
                if links[destination].queued:
                    self._waiting.until_written(links[destination], 0)
        except (LinkDown, TacitError) as error:
            raise self._verdict.failed(error) from None

    def send(self, parcel: Parcel) -> None:
        """Send one tensor, or queue it for the courier; wait only while `outbox_bytes` and more wait for this peer."""
        link = self._links[parcel.destination]
        try:
            if self._courier.trouble is not None:
                raise self._verdict.last_words(self._courier.trouble)
            if link.queued > self._outbox_bytes:
                self._waiting.until_written(link, self._outbox_bytes)
            link.push(Kind.DATA, _bytes_of(parcel.tensor), self._digest(link))
            if link.queued > SMALL_BYTES or not link.flush():
                self._courier.wake()
        except (LinkDown, TacitError) as error:
            raise self._verdict.failed(error) from None

    def receive(self, parcel: Parcel) -> None:
        """Fill one tensor."""
        try:
            self._receive(self._links[parcel.source], _bytes_of(parcel.tensor))
        except (LinkDown, TacitError) as error:
            raise self._verdict.failed(error) from None

    def take(self, source: str, destination: str, size: int) -> torch.Tensor:
        """Fill a new tensor."""
        tensor = space((size,), torch.uint8)
        try:
            self._receive(self._links[source], _bytes_of(tensor))
        except (LinkDown, TacitError) as error:
            raise self._verdict.failed(error) from None
        return tensor

    def announce(self, source: str, message: bytes | None) -> bytes:
        """Send the message to every peer, or receive it from its source."""
        if source != self._here:
            return self.promise(source, None)()
        try:
            if message is None:
                raise ValueError(f"{source} is this role, so the message that it announces must be given")
            if len(message) > LIMITS[Kind.ANNOUNCE]:
                raise ValueError(
                    f"an announcement of {len(message)} bytes is too long: {LIMITS[Kind.ANNOUNCE]} at most"
                )
            for link in self._all:
                link.push(Kind.ANNOUNCE, message, self._digest(link))
                link.flush()
            self._courier.wake()
            return message
        except (LinkDown, TacitError) as error:
            raise self._verdict.failed(error) from None

    def promise(self, source: str, message: bytes | None) -> Callable[[], bytes]:
        """The message is the next of its link, whenever it is read; so whoever reads anything there reads it before."""
        if source == self._here:
            said = self.announce(source, message)
            return lambda: said
        link = self._links[source]
        with link.reading:
            promised = Promised(self._digest(link))
            link.promised.append(promised)

        def claim() -> bytes:
            try:
                self._keep_promises(link)
            except (LinkDown, TacitError) as error:
                raise self._verdict.failed(error) from None
            assert promised.message is not None
            return promised.message

        return claim

    def pair_key(self, one: str, other: str) -> bytes:
        """The key that the handshake of the two roles has agreed on."""
        if self._here not in (one, other) or one == other:
            raise ValueError(f"{self._role} shares no key between {one!r} and {other!r}")
        return self._links[other if one == self._here else one].pair_key

    def look(self) -> None:
        """Raise what the next use of a link would raise."""
        try:
            if self._courier.trouble is not None:
                raise self._verdict.last_words(self._courier.trouble)
        except (LinkDown, TacitError) as error:
            raise self._verdict.failed(error) from None

    @property
    def troubled(self) -> bool:
        """Whether a peer has gone, or has said why it stops: the next use of this would raise."""
        return self._courier.trouble is not None

    @property
    def wire_bytes(self) -> dict[tuple[str, str], int]:
        """Bytes of this role's links in both directions, framing included, encryption excluded."""
        sent = {(self._here, peer): link.sent_bytes for peer, link in self._links.items()}
        return sent | {(peer, self._here): link.received_bytes for peer, link in self._links.items()}

    def compare_openings(self, parties: Sequence[str]) -> None:
        """Two digests of 8 bytes become one, keyed with the pair's key."""
        self._comparing = frozenset(self._links[role].peer for role in parties if role != self._here)

    def _digest(self, link: Link) -> bytes:
        """What the next frame on a link says of all that was before it."""
        if link.peer not in self._comparing:
            return self.transcript.digest
        both = self.transcript.digest + self.transcript.opened
        return blake2b(both, key=link.pair_key, digest_size=DIGEST_BYTES).digest()

    # --- reading frames --------------------------------------------------------------------------------------------

    def _receive(self, link: Link, target: memoryview) -> None:
        length = len(target)
        if link.promised:
            self._keep_promises(link)
        header = pack_header(Kind.DATA, link.received, length, self._digest(link))
        with link.reading:
            if not link.take(header, length):
                self._expect(link, Kind.DATA, length)
            link.read_payload(target, self._waiting.for_frame)
            link.received += 1

    def _keep_promises(self, link: Link) -> None:
        """Read the announcements that come before all else on a link."""
        with link.reading:
            while link.promised:
                promised = link.promised[0]
                self._expect(link, Kind.ANNOUNCE, None, promised.digest)
                promised.message = link.take_payload(self._waiting.for_frame)
                link.received += 1
                link.promised.popleft()

    def _expect(self, link: Link, kind: Kind, length: int | None, digest: bytes | None = None) -> None:
        """Take the header of the next frame of the program, which must be this one.

        The digest is that of what was done until now or, of a frame that was promised, until it was promised.
        """
        while True:
            header = link.next_header(self._waiting.for_frame)
            if header.kind is Kind.ALIVE:
                self._judge(link, link.take_payload(self._waiting.for_frame))
            elif header.kind is Kind.ABORT or header.kind is Kind.DIVERGED:
                raise self._verdict.news(link, header.kind, link.take_payload(self._waiting.for_frame))
            elif (
                header.digest == (self._digest(link) if digest is None else digest)
                and header.kind is kind
                and header.sequence == link.received & SEQUENCE_MASK
                and (length is None or header.length == length)
            ):
                return
            else:
                raise self._verdict.diverged(link, self._verdict.mismatch(link, header, kind, length))

    def _sign_of_life(self, link: Link) -> bytes:
        """Say where this role is, so that two roles that wait for each other notice it."""
        waiting = self._waiting.now
        mine = waiting is not None and waiting[0] is link
        count, digest = self.transcript.history[-1][:2] if self.transcript.history else (0, bytes(8))
        return ALIVE.pack(mine, waiting[1] if waiting and mine else 0, count, digest)

    def _judge(self, link: Link, payload: bytes) -> None:
        """Raise if the peer, from which we wait for a frame, has diverged or waits for a frame from us.

        Its sign of life follows all that it has sent; so if it waits for a frame that we have not sent, and we for one
        that it has not sent, neither will come.
        """
        if len(payload) != ALIVE.size:
            raise NetworkError(f"{link.peer} sent a sign of life of {len(payload)} bytes: is it another version?")
        waits, received, count, digest = ALIVE.unpack(payload)
        if waits and received == link.sent:
            raise self._verdict.diverged(link, f"{self._role} and {link.peer} wait for each other")
        if any(entry[0] == count and entry[1] != digest for entry in tuple(self.transcript.history)):
            raise self._verdict.diverged(link, "they have done different operators")

    # --- the end ---------------------------------------------------------------------------------------------------

    def abort(self, reason: str) -> None:
        """Tell every peer why, wait a moment for it to arrive, and close."""
        if not self._open:
            return
        self._end()
        farewell(self._all, self._verdict.cause or Cause("stopped", self._role, reason))

    def close(self) -> None:
        """Say bye to everybody and wait for everybody's; the bye carries the digest of the whole program."""
        if not self._open:
            return
        self._courier.closing = True
        try:
            for link in self._all:
                link.push(Kind.BYE, b"", self._digest(link))
            for link in self._all:
                self._waiting.until_written(link, 0)
            for link in self._all:
                with link.reading:
                    self._keep_promises(link)
                    self._expect(link, Kind.BYE, 0)
                    link.finished = True
        except (LinkDown, TacitError) as error:
            failed = self._verdict.failed(error)
            self.abort(str(failed))
            raise failed from None
        except BaseException:
            self.abort("interrupted by its user")
            raise
        self._end()
        hang_up(self._all, time.monotonic() + PARTING)

    def abandon(self) -> None:
        """Close this process's copies of the sockets without a word: for children that were forked off."""
        self._open = False
        _OPEN.discard(self)
        for link in self._all:
            link.close()

    def _end(self) -> None:
        self._open = False
        _OPEN.discard(self)
        self._courier.stop()


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    """The tensor's own memory, as bytes."""
    return tensor.numpy().data.cast("B") if tensor.numel() else memoryview(b"")
