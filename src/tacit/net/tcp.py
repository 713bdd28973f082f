"""One role here, an encrypted TCP connection to each of the others."""

from __future__ import annotations

import atexit
import os
import select
import struct
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from hashlib import blake2b

import torch

from tacit.errors import LinkDown, NetworkError, TacitError
from tacit.net.courier import Courier
from tacit.net.divergence import explain, unequal
from tacit.net.framing import LIMITS, SEQUENCE_MASK, Header, Kind, pack_header
from tacit.net.link import Link, Promised
from tacit.net.names import plain
from tacit.net.parting import PARTING, Cause, farewell, hang_up, hearsay, search, write_out
from tacit.net.transcript import DIGEST_BYTES, Transcript
from tacit.net.transport import Parcel, Transport
from tacit.ring.memory import space

__all__ = ["SPIN", "SPIN_ALONE", "Tcp"]

SLICE_MS = 250
"""Milliseconds of waiting after which the program's thread looks whether waiting still makes sense."""

SPIN = 50e-6
"""Seconds to look again and again before sleeping, where roles outnumber cores. Most answers come sooner than a
sleeping process wakes up: a small product takes 0.33 ms in place of 0.43. Longer burns a core that a peer needs. Giving
way between two looks gains nothing, and where other programs are busy it gives them a whole turn of the scheduler."""

SPIN_ALONE = 500e-6
"""The same where a core is left for this role: it saves the 20 to 50 µs of waking up in every round of a local network,
and costs little where a round takes tens of milliseconds."""

EVIDENCE = 10.0
"""Seconds to wait for the history of a role that diverged: it answers when it next uses the network."""

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

    The program's thread does all the waiting: it reads when it wants a frame, and writes while it waits. The courier
    writes what `send` has queued when the program does something else.
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
        self._role, self._here, self._timeout = role, plain(role), timeout
        self._links = {plain(peer): link for peer, link in links.items()}
        self._outbox_bytes, self._spin = outbox_bytes, spin
        self._all = tuple(links.values())
        self._waiting: tuple[Link, int] | None = None
        self._cause: Cause | None = None
        self._comparing: frozenset[str] = frozenset()
        self._open = True
        self._courier = Courier(self._all, min(timeout / 4, 2.0), self._sign_of_life)
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
                    self._settle(links[destination], 0)
        except (LinkDown, TacitError) as error:
            raise self._failed(error) from None

    def send(self, parcel: Parcel) -> None:
        """Queue one tensor for the courier; wait only while more than `outbox_bytes` wait for this peer."""
        link = self._links[parcel.destination]
        try:
            if self._courier.trouble is not None:
                raise self._last_words(self._courier.trouble)
            if link.queued > self._outbox_bytes:
                self._settle(link, self._outbox_bytes)
            link.push(Kind.DATA, _bytes_of(parcel.tensor), self._digest(link))
            self._courier.wake()
        except (LinkDown, TacitError) as error:
            raise self._failed(error) from None

    def receive(self, parcel: Parcel) -> None:
        """Fill one tensor."""
        try:
            self._receive(self._links[parcel.source], _bytes_of(parcel.tensor))
        except (LinkDown, TacitError) as error:
            raise self._failed(error) from None

    def take(self, source: str, destination: str, size: int) -> torch.Tensor:
        """Fill a new tensor."""
        tensor = space((size,), torch.uint8)
        self.receive(Parcel(source, destination, tensor))
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
            raise self._failed(error) from None

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
                raise self._failed(error) from None
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
                raise self._last_words(self._courier.trouble)
        except (LinkDown, TacitError) as error:
            raise self._failed(error) from None

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
            link.read_payload(target, self._wait)
            link.received += 1

    def _keep_promises(self, link: Link) -> None:
        """Read the announcements that come before all else on a link."""
        with link.reading:
            while link.promised:
                promised = link.promised[0]
                self._expect(link, Kind.ANNOUNCE, None, promised.digest)
                promised.message = link.take_payload(self._wait)
                link.received += 1
                link.promised.popleft()

    def _expect(self, link: Link, kind: Kind, length: int | None, digest: bytes | None = None) -> None:
        """Take the header of the next frame of the program, which must be this one.

        The digest is that of what was done until now or, of a frame that was promised, until it was promised.
        """
        while True:
            header = link.next_header(self._wait)
            if header.kind is Kind.ALIVE:
                self._judge(link, link.take_payload(self._wait))
            elif header.kind is Kind.ABORT or header.kind is Kind.DIVERGED:
                raise self._news(link, header.kind, link.take_payload(self._wait))
            elif (
                header.digest == (self._digest(link) if digest is None else digest)
                and header.kind is kind
                and header.sequence == link.received & SEQUENCE_MASK
                and (length is None or header.length == length)
            ):
                return
            else:
                raise self._diverged(link, self._mismatch(link, header, kind, length))

    def _mismatch(self, link: Link, header: Header, kind: Kind, length: int | None) -> str:
        if header.kind is not kind:
            what = {Kind.DATA: "a tensor", Kind.ANNOUNCE: "a public message", Kind.BYE: "its end of the program"}
            return f"{self._role} expects {what[kind]} from {link.peer}, which has sent {what[header.kind]}"
        if header.sequence != link.received & SEQUENCE_MASK:
            return f"{link.peer} has sent frame {header.sequence} where {self._role} expects frame {link.received}"
        if length is not None and header.length != length:
            return f"{self._role} expects {length} bytes from {link.peer}, which has sent {header.length}"
        return "they have done different operators"

    def _sign_of_life(self, link: Link) -> bytes:
        """Say where this role is, so that two roles that wait for each other notice it."""
        waiting = self._waiting
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
            raise self._diverged(link, f"{self._role} and {link.peer} wait for each other")
        if any(entry[0] == count and entry[1] != digest for entry in tuple(self.transcript.history)):
            raise self._diverged(link, "they have done different operators")

    # --- waiting ---------------------------------------------------------------------------------------------------

    def _wait(self, link: Link) -> None:
        """Return when the link may be readable; meanwhile write what is queued."""
        for other in self._all:
            if other.queued:
                self._wait_writing(link)
                return
        poll, now, stop = link.readable.poll, time.perf_counter, 0.0
        while not poll(0):
            stop = stop or now() + self._spin
            if now() > stop:
                break
        else:
            return
        if not poll(SLICE_MS):
            self._wait_long(link)

    def _wait_long(self, link: Link) -> None:
        since = time.monotonic() - SLICE_MS / 1000
        self._waiting = link, link.received
        try:
            while True:
                self._check(link, since)
                if link.readable.poll(SLICE_MS):
                    return
        finally:
            self._waiting = None

    def _wait_writing(self, link: Link) -> None:
        since = time.monotonic()
        self._waiting = link, link.received
        try:
            while any(other.queued for other in self._all):
                poll = select.poll()
                for other in self._all:
                    if other.queued:
                        poll.register(other, select.POLLOUT | (select.POLLIN if other is link else 0))
                    elif other is link:
                        poll.register(other, select.POLLIN)
                events = dict(poll.poll(SLICE_MS))
                if not events:
                    self._check(link, since)
                for other in self._all:
                    if events.get(other.fileno(), 0) & ~select.POLLIN:
                        other.flush()
                if events.get(link.fileno(), 0) & ~select.POLLOUT:
                    return
        finally:
            self._waiting = None

    def _settle(self, link: Link, limit: int) -> None:
        """Write until at most `limit` bytes are queued for this peer."""
        since = time.monotonic()
        poll = select.poll()
        poll.register(link, select.POLLOUT)
        while link.queued > limit and not link.flush():
            before = link.queued
            poll.poll(SLICE_MS)
            if link.queued >= before:
                self._check(link, since)

    def _check(self, link: Link, since: float) -> None:
        """Raise if there is bad news from anybody, or nothing at all from this peer for too long."""
        if self._courier.trouble is not None:
            raise self._last_words(self._courier.trouble)
        if time.monotonic() - max(link.heard, since) > self._timeout:
            text = f"{link.peer} ({link.address}) has given no sign of life for {self._timeout:g} s"
            raise self._blame("stalled", link.peer, f"{text}, {self._place()}")

    # --- bad news --------------------------------------------------------------------------------------------------

    def _place(self) -> str:
        return f"while {self._role} was at operator {self.transcript.count}, `{self.transcript.operator}`"

    def _blame(self, kind: str, role: str, text: str, reporter: str | None = None) -> TacitError:
        """Note why this role stops, for the abort that follows, and return the error that says so."""
        cause = Cause(kind, role, text)
        self._cause = self._cause or cause
        return cause.error(self._role, reporter)

    def _failed(self, error: LinkDown | TacitError) -> TacitError:
        """Translate: what the user sees is the first cause, as far as it can be known here."""
        if isinstance(error, LinkDown):
            return self._last_words(error.link, error.why)
        if isinstance(error, NetworkError) and self._cause is None:
            if type(error) is NetworkError:  # what was wrong with bytes that came says nothing of where we were
                error = NetworkError(f"{error}, {self._place()}")
            self._cause = Cause("network", self._role, str(error))
        return error

    def _last_words(self, link: Link, why: str = "closed its connection") -> TacitError:
        """Why a peer stops: what it says itself, perhaps behind unread frames, or others say, or else what we see."""
        found = search(link, PARTING, (Kind.ABORT, Kind.DIVERGED))
        if found is not None:
            return self._news(link, *found)
        told = hearsay([other for other in self._all if other is not link])
        if told is not None:
            return self._news(told[0], Kind.ABORT, told[1])
        return self._blame("lost", link.peer, f"{link.peer} ({link.address}) {why} {self._place()}: see its own log")

    def _news(self, link: Link, kind: Kind, payload: bytes) -> TacitError:
        """The error that an ABORT or DIVERGED frame stands for."""
        if kind is Kind.DIVERGED:
            self._testify(link)
            return self._compared(link, payload, f"{link.peer} has noticed it")
        return self._blame(*Cause.from_bytes(payload, link.peer), reporter=link.peer)

    def _diverged(self, link: Link, detail: str) -> TacitError:
        """Exchange histories with a peer that does something else, and return the error that compares them."""
        self._testify(link)
        found = search(link, min(EVIDENCE, self._timeout), (Kind.DIVERGED, Kind.ABORT))
        if found is not None and found[0] is Kind.ABORT:
            return self._news(link, *found)
        return self._compared(link, None if found is None else found[1], detail)

    def _compared(self, link: Link, payload: bytes | None, detail: str) -> TacitError:
        try:
            theirs = None if payload is None else Transcript.from_bytes(payload)
        except ValueError:
            theirs = None
        mine = self.transcript.told()
        told_apart = None if theirs is None else unequal(self._role, mine, link.peer, theirs)
        if told_apart is not None:
            return self._blame("unequal", link.peer, told_apart)
        text = explain(self._role, mine, link.peer, theirs, detail, same_script=link.same_script)
        return self._blame("diverged", link.peer, text)

    def _testify(self, link: Link) -> None:
        """Send our history."""
        link.drop_queue()
        link.push(Kind.DIVERGED, self.transcript.to_bytes(), self.transcript.digest)
        write_out([link], time.monotonic() + PARTING)

    # --- the end ---------------------------------------------------------------------------------------------------

    def abort(self, reason: str) -> None:
        """Tell every peer why, wait a moment for it to arrive, and close."""
        if not self._open:
            return
        self._end()
        farewell(self._all, self._cause or Cause("stopped", self._role, reason))

    def close(self) -> None:
        """Say bye to everybody and wait for everybody's; the bye carries the digest of the whole program."""
        if not self._open:
            return
        self._courier.closing = True
        try:
            for link in self._all:
                link.push(Kind.BYE, b"", self._digest(link))
            for link in self._all:
                self._settle(link, 0)
            for link in self._all:
                with link.reading:
                    self._keep_promises(link)
                    self._expect(link, Kind.BYE, 0)
                    link.finished = True
        except (LinkDown, TacitError) as error:
            failed = self._failed(error)
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
