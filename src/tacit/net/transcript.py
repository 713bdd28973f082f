"""The running hash of what a role did, by which two roles notice that they run different programs.

Where there are three parties or more it has a second part, of what they opened: by that they notice that one of them
has told two others two things.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Sequence
from hashlib import blake2b, sha256
from os.path import basename
from types import CodeType
from typing import NamedTuple

__all__ = ["DIGEST_BYTES", "FAR_HISTORY", "Again", "Entry", "Transcript", "hashed"]

DIGEST_BYTES = 8
"""Eight bytes: roles are semi-honest, so this guards against mistakes, where a chance collision of 2^-64 is enough."""

HISTORY = 256
"""Operators kept for the error message. More would find an older divergence; the frames find it within a few."""

FAR_HISTORY = 1 << 16
"""Operators that a helper keeps: it runs far ahead of the party that notices a divergence. More would cost memory, some
100 bytes each, and a longer frame when it comes to comparing."""

Place = tuple[CodeType, int] | None
"""An instruction of the program."""


ENTRY = struct.Struct("<Q8s8sH")


class Entry(NamedTuple):
    """One operator, as a role remembers it and tells it."""

    number: int
    digest: bytes
    operator: str
    opened: bytes
    """Of all that was opened until the next operator began, or until now."""


class Again(NamedTuple):
    """An operator that is recorded again and again."""

    operator: str
    text: bytes | Callable[[], bytes]
    """`hashed` of it and its fingerprint, or what makes that for an operator whose public operands change."""
    place: Place


def hashed(operator: str, fingerprint: bytes) -> bytes:
    """What of an operator is hashed, after the digest of those before it."""
    return operator.encode() + b"\0" + fingerprint


class Transcript:
    """A hash over every operator so far: its name, its shapes and the fingerprints of its public operands."""

    __slots__ = ("_place", "count", "digest", "history", "opened", "operator")

    def __init__(self) -> None:
        self.count = 0
        self.operator = "start of the session"
        self.digest = bytes(DIGEST_BYTES)
        self.opened = bytes(32)
        """A hash of all that parties opened, one after the other; zeros where nobody asks for one."""
        self.history: deque[tuple[int, bytes, str, Place, bytes]] = deque(maxlen=HISTORY)
        self._place: Place = None

    def record(self, operator: str, fingerprint: bytes = b"", place: Place = None) -> None:
        """Add one operator. `operator` is shown to the user in errors: a name and shapes, never a value.

        So is its place in the program, which is no part of the hash; without one it is that of the operator before.
        """
        self.count += 1
        self.operator = operator
        self.digest = blake2b(self.digest + hashed(operator, fingerprint), digest_size=DIGEST_BYTES).digest()
        if place is not None:
            self._place = place
        self.history.append((self.count, self.digest, operator, self._place, self.opened[:DIGEST_BYTES]))

    def again(self, rows: Sequence[Again]) -> None:
        """Add operators as `record` does, of which it is known what is hashed."""
        opened = self.opened[:DIGEST_BYTES]
        count, digest, place, history = self.count, self.digest, self._place, self.history
        for operator, text, at in rows:
            count += 1
            digest = blake2b(digest + (text if isinstance(text, bytes) else text()), digest_size=DIGEST_BYTES).digest()
            place = at or place
            history.append((count, digest, operator, place, opened))
            self.operator = operator
        self.count, self.digest, self._place = count, digest, place

    def witness(self, opened: memoryview) -> None:
        """Add something that all parties hold alike, if nobody has told two of them two things."""
        self.opened = sha256(self.opened + sha256(opened).digest()).digest()

    def told(self) -> list[Entry]:
        """The history, oldest first, operators with their places."""
        rows = tuple(self.history)
        after = [*(row[4] for row in rows[1:]), self.opened[:DIGEST_BYTES]]
        return [
            Entry(count, digest, operator + _line(place), opened)
            for (count, digest, operator, place, _), opened in zip(rows, after, strict=False)
        ]

    def keep(self, operators: int) -> None:
        """Remember this many operators from now on."""
        self.history = deque(self.history, maxlen=operators)

    def to_bytes(self, limit: int = 1 << 24) -> bytes:
        """The history, oldest first, in a form that goes into a frame; the oldest are left out beyond the limit."""
        entries: list[bytes] = []
        size = 0
        for count, digest, operator, opened in reversed(self.told()):
            text = operator.encode()[:65535]
            size += ENTRY.size + len(text)
            if size > limit:
                break
            entries.append(ENTRY.pack(count, digest, opened, len(text)) + text)
        return b"".join(reversed(entries))

    @staticmethod
    def from_bytes(data: bytes) -> list[Entry]:
        """Read what `to_bytes` wrote; malformed input raises `ValueError`."""
        history, at = [], 0
        while at < len(data):
            if at + ENTRY.size > len(data):
                raise ValueError("truncated history")
            count, digest, opened, length = ENTRY.unpack_from(data, at)
            at += ENTRY.size
            if at + length > len(data):
                raise ValueError("truncated history")
            history.append(Entry(count, digest, data[at : at + length].decode(errors="replace"), opened))
            at += length
        return history


def _line(place: Place) -> str:
    """ " at file:line", without the folder, which is a machine's own."""
    if place is None:
        return ""
    code, instruction = place
    line = next((line for start, stop, line in code.co_lines() if start <= instruction < stop), None)
    return f" at {basename(code.co_filename)}:{line or code.co_firstlineno}"
