"""A store: what a crypto-producer has made for one run, ahead of it, in a file for each party. Written once, read once.

A file holds the key of the party's stream and, in the order of the program, the corrections that the party is sent;
see `protocols/additive/source/dealing.py`. Before each stands what it is for: the name of the correlation, its size,
and the transcript of the program so far. So a program that asks for something else is found out, and so is a damaged
file: a digest follows each part, over all that stands before it.

    magic, version, state | length, key, length of the head | head (JSON) | digest
    kind, size, operator, transcript, lengths | name, operator's text | digest | bytes | digest        for each piece
    the same with the kind `END`, at the transcript of the whole program                               once

All numbers are little-endian. The state alone is outside of the digest, for it changes: whoever begins a run sets it,
and wipes the key, before anything of the store is used.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from tacit import private_files
from tacit.errors import ConfigError, DataError, DivergenceError, TacitError
from tacit.net.framing import printable
from tacit.net.transcript import DIGEST_BYTES, Transcript
from tacit.ring.memory import space
from tacit.ring.prg import Stream, derive_key
from tacit.session.config import Config

__all__ = ["Shelf", "Store", "linked", "records_of", "sync_folder", "terms"]

MAGIC = b"tacit store\n"
VERSION = 1
FRESH, BEGUN = 0, 1
START = struct.Struct(f"<{len(MAGIC)}sHH")
FIXED = struct.Struct("<Q32sI")
"""Length of the whole file, 0 until it is finished; the secret of the party's key stream; length of the head."""
PIECE = struct.Struct(f"<BQQ{DIGEST_BYTES}sHH")
CORRECTION, END = 1, 2
CHAIN_BYTES = 16
"""Against damage and mistakes: whoever may write a party's file might as well replace it."""
KEY_BYTES = 32
HEAD_LIMIT = 1 << 20
SUFFIX = ".store"
IDENTITY = re.compile(r"[0-9a-f]{32}")


class _Piece(NamedTuple):
    """What stands before the bytes of a piece."""

    kind: int
    size: int
    at: int
    digest: bytes
    name: str
    operator: str


def records_of(config: Config, role: str) -> Path:
    """The folder in which a party notes, in files of their names, the stores that it has begun."""
    return Path(config.used_stores) / role


class Store:
    """A party's file: opened, which uses nothing up; begun, once ever; and then taken piece by piece."""

    def __init__(self, path: Path, config: Config, party: str) -> None:
        """Open and check a file, or the one for this party in a folder. Its pieces are checked when they are taken."""
        self.path = path / f"{party}{SUFFIX}" if path.is_dir() else path
        self.party = party
        self._file: BinaryIO = _opened(self.path)
        try:
            self._read_head(config)
        except BaseException:
            self._file.close()
            raise

    def _read_head(self, config: Config) -> None:
        start = self._file.read(START.size)
        magic, number, state = START.unpack(start) if len(start) == START.size else (b"", 0, 0)
        if magic != MAGIC:
            raise DataError(f"{self.path} is no store that `tacit prepare` has made")
        if number != VERSION:
            raise DataError(f"{self.path} is a store of version {number}, and this is Tacit {_version()}")
        if state != FRESH:
            raise self._used()
        fixed = self._file.read(FIXED.size)
        length, key, size = FIXED.unpack(fixed) if len(fixed) == FIXED.size else (0, b"", 0)
        head = self._file.read(min(size, HEAD_LIMIT))
        if os.fstat(self._file.fileno()).st_size != length:
            raise DataError(f"{self.path} is not a whole store: have it sent again")
        if self._file.read(CHAIN_BYTES) != linked(b"", fixed, head):
            raise self._damaged()
        self._key, self._length = key, length
        self._chain = linked(b"", key, head)
        try:
            known = json.loads(head)
            self.identity, self.seed = str(known["id"]), int(known["seed"])
            self.script = str(known["script"])
            mine = known["party"]
            theirs = {name: known[name] for name in terms(config)}
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            raise self._damaged() from None
        if not IDENTITY.fullmatch(self.identity) or not -(1 << 63) <= self.seed < 1 << 64:
            raise self._damaged()
        if mine != self.party:
            raise ConfigError(
                f"{self.path} is the store of {printable(str(mine)[:63])!r}, and this is {self.party}: use its own"
            )
        for name, here in terms(config).items():
            if theirs[name] != here:
                there = printable(str(theirs[name])[:80])
                raise ConfigError(
                    f"{self.path} was prepared with {_TERMS[name]} {there}, and this run has {here}: prepare another"
                )

    def agree(self, seed: int | None, config: Config) -> int:
        """The seed that the store was prepared with, which a program or a config that has one must have, too."""
        if seed is not None and seed != self.seed:
            raise ConfigError(f"{self.path} was prepared with another seed than {seed}: prepare another")
        return self.seed

    def check_unused(self, records: Path) -> None:
        """Refuse a store that this party has noted as begun."""
        if (records / self.identity).exists():
            raise self._used()

    def begin(self, records: Path) -> None:
        """Note, durably and in two places, that the store is begun; only then may anything of it be used."""
        try:
            self._note(records / self.identity)
            descriptor = self._file.fileno()
            os.pwrite(descriptor, bytes(KEY_BYTES), START.size + 8)
            os.pwrite(descriptor, START.pack(MAGIC, VERSION, BEGUN), 0)
            os.fsync(descriptor)
            sync_folder(self.path.absolute().parent)
        except OSError as error:
            raise ConfigError(
                f"it cannot be noted that {self.path} is begun, so nothing of it has been used: {error.strerror}"
            ) from None

    def _note(self, path: Path) -> None:
        _make_folder(path.parent)
        try:
            note = private_files.create(path)
        except FileExistsError:
            raise self._used() from None
        try:
            with note:
                note.write(f"{self.path.absolute()}\n".encode())
                note.flush()
                os.fsync(note.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)

    def stream(self) -> Stream:
        """The party's key stream, which is handed out once: another one would begin anew and repeat all masks."""
        key, self._key = self._key, b""
        if not key:
            raise TacitError(f"{self.path} serves one protocol of one session")
        return Stream(derive_key(key, "deal"))

    def take(self, name: str, size: int, transcript: Transcript) -> Tensor:
        """The next piece, which must be this one, in memory that is the caller's."""
        piece = self._next()
        if (piece.kind, piece.digest, piece.name, piece.size) != (CORRECTION, transcript.digest, name, size):
            raise self._diverged(piece, transcript, f"asks for {size} bytes of {name}")
        content = space((size,), torch.uint8)
        data = content.numpy().data
        if self._file.readinto(data) != size:  # type: ignore[attr-defined]
            raise self._damaged()
        self._link(data)
        return content

    def finish(self, transcript: Transcript) -> None:
        """Check that the program has ended where the prepared one did."""
        piece = self._next()
        if (piece.kind, piece.digest) != (END, transcript.digest):
            raise self._diverged(piece, transcript, "ends its program")
        self._link()
        self.abandon()

    def abandon(self) -> None:
        """Close the file."""
        self._file.close()

    def _next(self) -> _Piece:
        start = self._file.read(PIECE.size)
        if len(start) != PIECE.size:
            raise self._damaged()
        kind, size, count, digest, label, operator = PIECE.unpack(start)
        texts = self._file.read(label + operator)
        self._link(start, texts)
        name, text = texts[:label].decode(errors="replace"), texts[label:].decode(errors="replace")
        return _Piece(kind, size, count, digest, printable(name), printable(text))

    def _link(self, *parts: Any) -> None:
        self._chain = linked(self._chain, *parts)
        if self._file.read(CHAIN_BYTES) != self._chain:
            raise self._damaged()

    def _diverged(self, piece: _Piece, transcript: Transcript, wish: str) -> DivergenceError:
        there = f"{piece.size} bytes of {piece.name}" if piece.kind == CORRECTION else "the end of the program"
        return DivergenceError(
            f"the store of {self.party} was prepared for another program: {self.party} {wish} at operator "
            f"{transcript.count}, `{transcript.operator}`, and the store has {there} at operator {piece.at}, "
            f"`{piece.operator}`; prepare another"
        )

    def _damaged(self) -> DataError:
        return DataError(f"{self.path} is damaged: have it sent again if it has not been begun, or prepare another")

    def _used(self) -> ConfigError:
        return ConfigError(
            f"{self.path} has been begun, and a store serves one run, whatever became of it: prepare another"
        )


class Shelf:
    """The stores of the parties in this process: one in a distributed run, those of all when embedded."""

    def __init__(self, path: str | Path, config: Config, parties: Sequence[str]) -> None:
        self._stores = {}
        path = Path(path)
        if not path.exists():
            raise ConfigError(f"there is no store {path}: make one with `tacit prepare`")
        try:
            for party in parties:
                self._stores[config.parties.index(party)] = store = Store(path, config, party)
                store.check_unused(records_of(config, party))
            first, *others = self._stores.values()
            if any(store.identity != first.identity for store in others):
                raise ConfigError(f"{path} holds files of two stores: put the files of one together")
        except BaseException:
            self.abandon()
            raise
        self.identity = first.identity
        self.script = first.script

    def begin(self, config: Config) -> None:
        """Begin all of them; see `Store.begin`."""
        for store in self._stores.values():
            store.begin(records_of(config, store.party))

    def agree(self, seed: int | None, config: Config) -> int:
        """The seed that the run has."""
        seeds = [store.agree(seed, config) for store in self._stores.values()]
        return seeds[0]

    def stream(self, index: int) -> Stream:
        """The key stream of a party."""
        return self._stores[index].stream()

    def take(self, index: int, name: str, size: int, transcript: Transcript) -> Tensor:
        """The next piece of a party."""
        return self._stores[index].take(name, size, transcript)

    def finish(self, transcript: Transcript) -> None:
        """Check that all of it has been used, by the program that it is for."""
        for store in self._stores.values():
            store.finish(transcript)

    def abandon(self) -> None:
        """Close the files."""
        for store in self._stores.values():
            store.abandon()


# --- parts -----------------------------------------------------------------------------------------------------------


_TERMS = {
    "tacit": "the version of Tacit",
    "parties": "the parties",
    "protocol": "'tacit.protocol'",
    "frac_bits": "'tacit.frac_bits'",
    "round_bytes": "'tacit.round_bytes'",
    "range_check": "'tacit.range_check'",
}
"""What a run must have as the preparation had it, and its name."""


def terms(config: Config) -> dict[str, Any]:
    """What `_TERMS` names, of this config."""
    return {
        "tacit": _version(),
        "parties": list(config.parties),
        "protocol": config.protocol,
        "frac_bits": config.frac_bits,
        "round_bytes": config.round_bytes,
        "range_check": config.range_check,
    }


@cache
def _version() -> str:
    return version("tacit")


def linked(before: bytes, *parts: Any) -> bytes:
    """A digest of what stands before and of what follows it."""
    digest = blake2b(before, digest_size=CHAIN_BYTES)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _opened(path: Path) -> BinaryIO:
    """Open a party's file, for this process alone."""
    try:
        file = path.open("rb+")
    except FileNotFoundError:
        raise ConfigError(f"there is no store {path}: make one with `tacit prepare`") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be opened for reading and marking: {error.strerror}") from None
    if not private_files.is_private(path):
        file.close()
        raise ConfigError(f"{path} can be read by others on this machine: chmod 600 it, or prepare another")
    import fcntl

    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ConfigError(f"{path} is in use by another process, and a store serves one run") from None
    return file


def _make_folder(path: Path) -> None:
    """Make a folder and those above it, down to the disk."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """Write the names in a folder down to the disk."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
