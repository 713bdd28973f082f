"""How a store is written, as the program asks for one correlation after the other: by the crypto-producer, alone.

Two parties who have none write a file each, as they make what is in it together; or both, on one machine.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from torch import Tensor

from tacit import private_files
from tacit.errors import ConfigError, DataError
from tacit.net.transcript import Transcript
from tacit.ring.prg import Stream, derive_key
from tacit.session.config import Config
from tacit.session.store import (
    CHAIN_BYTES,
    CORRECTION,
    END,
    FIXED,
    FRESH,
    KEY_BYTES,
    MAGIC,
    PIECE,
    START,
    SUFFIX,
    VERSION,
    linked,
    sync_folder,
    terms,
)

__all__ = ["Preparation", "check_prepares"]


def check_prepares(config: Config) -> None:
    """Refuse a protocol of which nothing can be made ahead of a run."""
    if not config.helpers and not config.scheme.prepares:
        raise ConfigError(
            f"the protocol {config.protocol!r} needs nothing that could be made ahead of a run and put into a store: "
            "run the program without one"
        )


class Preparation:
    """The files of a store while they are written. Nothing is at `out` until all is done.

    They are those of all parties, or of the one that prepares for itself: then others' files may be there already.
    """

    def __init__(self, out: Path, script: str = "", party: str | None = None) -> None:
        self.out = out
        self.party = party
        self.sizes: dict[str, int] = {}
        """Of the finished files, by party."""
        self.written = 0
        """Bytes so far, of all files together."""
        self.pieces = 0
        self._script = script
        self._folder = out.with_name(f".{out.name}.{secrets.token_hex(8)}")
        self._files: dict[int, _Written] = {}
        mine = out / f"{party}{SUFFIX}" if party is not None and out.is_dir() and not out.is_symlink() else out
        if mine.exists() or mine.is_symlink():
            raise ConfigError(f"there is something at {mine} already: a store is made once, so choose another name")
        if not out.parent.is_dir():
            raise ConfigError(f"there is no folder {out.parent} to make a store in")

    def check_first(self) -> None:
        """Refuse the second session of a program."""
        if self._files or self.sizes:
            raise ConfigError("this program starts a second session, and a store is for one: prepare one for each")

    def begin(self, seed: int, config: Config, identity: str) -> None:
        """Begin the files of a run with this seed of public randomness; all files of a store have one identity."""
        self.check_first()
        with self._on_disk():
            self._folder.mkdir(mode=0o700)
            for index, party in enumerate(config.parties):
                if self.party in (None, party):
                    head = {"id": identity, "party": party, **terms(config), "seed": seed, "script": self._script}
                    self._files[index] = _Written(self._folder, party, json.dumps(head).encode())

    def stream(self, index: int) -> Stream:
        """The key stream of a party."""
        return Stream(derive_key(self._files[index].key, "deal"))

    def add(self, index: int, name: str, content: Tensor, transcript: Transcript) -> None:
        """Write the next piece of a party."""
        with self._on_disk():
            self.written += self._files[index].add(CORRECTION, name, transcript, content.numpy().data)
        self.pieces += 1

    def finish(self, transcript: Transcript) -> None:
        """Write all down to the disk and give the store its name."""
        with self._on_disk():
            for file in self._files.values():
                self.written += file.finish(transcript)
            sync_folder(self._folder)
            if self.party is not None:
                self._put_beside()
            else:
                self._folder.rename(self.out)
            sync_folder(self.out.parent)
        self.sizes = {file.party: file.length for file in self._files.values()}
        self._files = {}

    def _put_beside(self) -> None:
        """Put a party's file into the folder, where that of another party may be, and no file of its own."""
        self.out.mkdir(mode=0o700, exist_ok=True)
        for file in self._folder.iterdir():
            place = self.out / file.name
            try:
                place.hardlink_to(file)  # which overwrites nothing
            except FileExistsError:
                raise
            except OSError:  # a file system without links
                file.rename(place)
            else:
                file.unlink()
        sync_folder(self.out)
        self._folder.rmdir()

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(f"the store {self.out} cannot be written: {error.strerror or error}") from None

    def abandon(self) -> None:
        """Leave nothing behind of a store that is not finished."""
        for file in self._files.values():
            with suppress(OSError):  # of a full disk: closing writes what is left
                file.close()
        self._files = {}
        if not self.sizes:
            shutil.rmtree(self._folder, ignore_errors=True)


class _Written:
    """The file of one party."""

    def __init__(self, folder: Path, party: str, head: bytes) -> None:
        self.party = party
        self.key = os.urandom(KEY_BYTES)
        self.length = 0
        self._head = head
        self._file = private_files.create(folder / f"{party}{SUFFIX}")
        self._file.write(START.pack(MAGIC, VERSION, FRESH) + FIXED.pack(0, self.key, len(head)) + head)
        self._chain = bytes(CHAIN_BYTES)
        self._file.write(self._chain)  # of the head, which is not known before the length is
        self._chain = linked(b"", self.key, head)

    def add(self, kind: int, name: str, transcript: Transcript, data: memoryview | bytes) -> int:
        label, operator = name.encode(), transcript.operator.encode()[:65535]
        start = PIECE.pack(kind, len(data), transcript.count, transcript.digest, len(label), len(operator))
        start += label + operator
        first = linked(self._chain, start)
        self._chain = linked(first, data)
        for part in (start, first, data, self._chain):
            self._file.write(part)
        return len(start) + len(data) + 2 * CHAIN_BYTES

    def finish(self, transcript: Transcript) -> int:
        """Write the end, and then the head anew, with the length."""
        added = self.add(END, "", transcript, b"")
        self.length = self._file.tell()
        fixed = FIXED.pack(self.length, self.key, len(self._head))
        self._file.seek(START.size)
        self._file.write(fixed + self._head + linked(b"", fixed, self._head))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.close()
        return added

    def close(self) -> None:
        self._file.close()
