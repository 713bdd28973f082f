"""A file of JSON lines, each of which fixes all that stands before it, and is signed by whoever writes it.

A line is a JSON object whose last two keys are its `chain` and its `signature`. With `body` for the line without them,

    chain  =  SHA-256(PURPOSE, chain of the line before, all bytes between that line and this one, body)

and the signature, ECDSA with the key of the writer's certificate, is of the chain. So a line that is changed, moved,
left out or put in breaks the chain at that place, and whoever makes the chain anew does not have the key. What stands
between two such lines (half a line of a process that died, lines of a version without chains) is fixed with the rest.
Lines that are missing at the end do not show in the file itself: somebody else has to know of them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from tacit import private_files
from tacit.errors import ConfigError

__all__ = ["SIGNED", "Chained", "Linked", "read"]

PURPOSE = b"tacit ledger line\0"
SIGNED = b"tacit ledger signature\0"
START = bytes(32)
ENDING = re.compile(rb', "chain": "([0-9a-f]{64})", "signature": "([0-9a-f]*)"\}\Z')


@dataclass(frozen=True, slots=True)
class Linked:
    """A line as it was read."""

    number: int
    """In the file, from 1."""
    record: dict[str, Any]
    chain: bytes
    signature: bytes
    whole: bool
    """Whether its chain is what follows from the lines before it."""
    between: int
    """Lines, or pieces of some, between the one before and this one."""


class Chained:
    """Appends to such a file. Several processes may, one after the other: each line is linked to what is there."""

    def __init__(self, path: Path, key: EllipticCurvePrivateKey | None) -> None:
        self._path, self._key = path, key
        self._seen, self._last = -1, START
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"the folder of the ledger {path} cannot be made: {error.strerror}") from None

    def append(self, record: dict[str, Any], *, durably: bool = False) -> None:
        """Write a record; `durably` it is on the disk when this returns.

        Raises:
            ConfigError: if the file cannot be written.
        """
        body = json.dumps(record).encode()
        try:
            with self._locked() as descriptor:
                between = self._catch_up(descriptor)
                chain = linked(self._last, between, body)
                signature = b"" if self._key is None else self._key.sign(SIGNED + chain, ECDSA(SHA256()))
                ending = f', "chain": "{chain.hex()}", "signature": "{signature.hex()}"}}\n'.encode()
                line = body[:-1] + ending
                size = os.fstat(descriptor).st_size
                if os.write(descriptor, line) != len(line):
                    os.ftruncate(descriptor, size)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if durably:
                    os.fsync(descriptor)
                self._seen, self._last = os.fstat(descriptor).st_size, chain
        except OSError as error:
            raise ConfigError(f"the ledger {self._path} cannot be written: {error.strerror or error}") from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        import fcntl

        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, private_files.OWNER_ONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _catch_up(self, descriptor: int) -> bytes:
        """Find the chain of the last line that has one, and return what stands behind it."""
        size = os.fstat(descriptor).st_size
        if size == self._seen:
            return b""
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.write(descriptor, b"\n")  # behind half a line of a process that died
            size += 1
        reach = 1 << 16
        while True:
            start = max(0, size - reach)
            lines = _read(descriptor, start, size).split(b"\n")[:-1]
            if start:
                lines = lines[1:]  # of which the beginning may be missing
            behind: list[bytes] = []
            for line in reversed(lines):
                found = ENDING.search(line)
                if found:
                    self._last = bytes.fromhex(found[1].decode())
                    return b"".join(reversed(behind))
                behind.append(line + b"\n")
            if not start:
                self._last = START
                return b"".join(reversed(behind))
            reach *= 8


def linked(before: bytes, between: bytes, body: bytes) -> bytes:
    """The chain of a line."""
    digest = sha256(PURPOSE + before)
    digest.update(sha256(between).digest())
    digest.update(body)
    return digest.digest()


def read(data: bytes) -> Iterator[Linked]:
    """The lines of a file that have a chain. What stands behind the last of them counts as one more, without record."""
    last, between, pieces = START, b"", 0
    lines = data.split(b"\n")
    rest = lines.pop()
    number = 0
    for number, line in enumerate(lines, start=1):
        found = ENDING.search(line)
        record = None
        if found:
            body = line[: found.start()] + b"}"
            with contextlib.suppress(ValueError, RecursionError):
                record = json.loads(body)
        if not found or not isinstance(record, dict):
            between += line + b"\n"
            pieces += 1
            continue
        chain = bytes.fromhex(found[1].decode())
        whole = chain == linked(last, between, body)
        signature = bytes.fromhex(found[2].decode()) if len(found[2]) % 2 == 0 else b""
        yield Linked(number, record, chain, signature, whole, pieces)
        last, between, pieces = chain, b"", 0
    if between or rest:
        yield Linked(number + 1, {}, last, b"", True, pieces + bool(rest))


def _read(descriptor: int, start: int, end: int) -> bytes:
    pieces = []
    while start < end:
        piece = os.pread(descriptor, min(end - start, 1 << 24), start)
        if not piece:
            break
        pieces.append(piece)
        start += len(piece)
    return b"".join(pieces)
