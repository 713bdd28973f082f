"""Why a run ends: what a role can find out about it, and the error that says so, at best the same one at all roles."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tacit.errors import LinkDown, NetworkError, TacitError
from tacit.net.divergence import explain, unequal
from tacit.net.framing import SEQUENCE_MASK, Header, Kind
from tacit.net.link import Link
from tacit.net.parting import PARTING, Cause, hearsay, search, write_out
from tacit.net.transcript import Transcript

__all__ = ["Verdict"]

EVIDENCE = 10.0
"""Seconds to wait for the history of a role that diverged: it answers when it next uses the network."""


class Verdict:
    """What has gone wrong at one role. The first cause that was found stays, for the abort that tells the others."""

    def __init__(self, role: str, links: Sequence[Link], transcript: Transcript, timeout: float) -> None:
        self.cause: Cause | None = None
        self._role, self._all, self._transcript, self._timeout = role, links, transcript, timeout

    def place(self) -> str:
        """Where this role is, for messages."""
        return f"while {self._role} was at operator {self._transcript.count}, `{self._transcript.operator}`"

    def blame(self, kind: str, role: str, text: str, reporter: str | None = None) -> TacitError:
        """Note why this role stops, for the abort that follows, and return the error that says so."""
        cause = Cause(kind, role, text)
        self.cause = self.cause or cause
        return cause.error(self._role, reporter)

    def failed(self, error: LinkDown | TacitError) -> TacitError:
        """Translate: what the user sees is the first cause, as far as it can be known here."""
        if isinstance(error, LinkDown):
            return self.last_words(error.link, error.why)
        if isinstance(error, NetworkError) and self.cause is None:
            if type(error) is NetworkError:  # what was wrong with bytes that came says nothing of where we were
                error = NetworkError(f"{error}, {self.place()}")
            self.cause = Cause("network", self._role, str(error))
        return error

    def last_words(self, link: Link, why: str = "closed its connection") -> TacitError:
        """Why a peer stops: what it says itself, perhaps behind unread frames, or others say, or else what we see."""
        found = search(link, PARTING, (Kind.ABORT, Kind.DIVERGED))
        if found is not None:
            return self.news(link, *found)
        told = hearsay([other for other in self._all if other is not link])
        if told is not None:
            return self.news(told[0], Kind.ABORT, told[1])
        return self.blame("lost", link.peer, f"{link.peer} ({link.address}) {why} {self.place()}: see its own log")

    def news(self, link: Link, kind: Kind, payload: bytes) -> TacitError:
        """The error that an ABORT or DIVERGED frame stands for."""
        if kind is Kind.DIVERGED:
            self._testify(link)
            return self._compared(link, payload, f"{link.peer} has noticed it")
        return self.blame(*Cause.from_bytes(payload, link.peer), reporter=link.peer)

    def diverged(self, link: Link, detail: str) -> TacitError:
        """Exchange histories with a peer that does something else, and return the error that compares them."""
        self._testify(link)
        found = search(link, min(EVIDENCE, self._timeout), (Kind.DIVERGED, Kind.ABORT))
        if found is not None and found[0] is Kind.ABORT:
            return self.news(link, *found)
        return self._compared(link, None if found is None else found[1], detail)

    def _compared(self, link: Link, payload: bytes | None, detail: str) -> TacitError:
        try:
            theirs = None if payload is None else Transcript.from_bytes(payload)
        except ValueError:
            theirs = None
        mine = self._transcript.told()
        told_apart = None if theirs is None else unequal(self._role, mine, link.peer, theirs)
        if told_apart is not None:
            return self.blame("unequal", link.peer, told_apart)
        text = explain(self._role, mine, link.peer, theirs, detail, same_script=link.same_script)
        return self.blame("diverged", link.peer, text)

    def _testify(self, link: Link) -> None:
        """Send our history."""
        link.drop_queue()
        link.push(Kind.DIVERGED, self._transcript.to_bytes(), self._transcript.digest)
        write_out([link], time.monotonic() + PARTING)

    def mismatch(self, link: Link, header: Header, kind: Kind, length: int | None) -> str:
        """In what a frame that came differs from the one that was due."""
        if header.kind is not kind:
            what = {Kind.DATA: "a tensor", Kind.ANNOUNCE: "a public message", Kind.BYE: "its end of the program"}
            return f"{self._role} expects {what[kind]} from {link.peer}, which has sent {what[header.kind]}"
        if header.sequence != link.received & SEQUENCE_MASK:
            return f"{link.peer} has sent frame {header.sequence} where {self._role} expects frame {link.received}"
        if length is not None and header.length != length:
            return f"{self._role} expects {length} bytes from {link.peer}, which has sent {header.length}"
        return "they have done different operators"
