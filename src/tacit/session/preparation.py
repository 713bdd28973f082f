"""How a store is written: by the crypto-producer, alone, as the program asks for one correlation after the other."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
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
    """Refuse a protocol of which nothing can be made ahead by a role alone."""
    if not config.helpers:
        raise ConfigError(
            f"the protocol {config.protocol!r} has no role whose work could be done ahead of a run and put into a "
            f"store: what its parties need beside their inputs they make together in the session, so run the program "
            f"without a store"
        )


class Preparation:
    """The files of a store while they are written, by the crypto-producer. Nothing is at `out` until all is done."""

    def __init__(self, out: Path, script: str = "") -> None:
        self.out = out
        self.identity = secrets.token_hex(16)
        self.sizes: dict[str, int] = {}
        """Of the finished files, by party."""
        self.written = 0
        """Bytes so far, of all files together."""
        self.pieces = 0
        self._script = script
        self._folder = out.with_name(f".{out.name}.{secrets.token_hex(8)}")
        self._files: list[_Written] = []
        if out.exists() or out.is_symlink():
            raise ConfigError(f"there is something at {out} already: a store is made once, so choose another name")
        if not out.parent.is_dir():
            raise ConfigError(f"there is no folder {out.parent} to make a store in")

    def agree(self, seed: int | None, config: Config) -> int:
        """Begin the files; return the seed of the program's public randomness, drawn here if it has none."""
        if self._files or self.sizes:
            raise ConfigError("this program starts a second session, and a store is for one: prepare one for each")
        seed = int.from_bytes(os.urandom(7), "little") if seed is None else seed
        with self._on_disk():
            self._folder.mkdir(mode=0o700)
            for party in config.parties:
                head = {"id": self.identity, "party": party, **terms(config), "seed": seed, "script": self._script}
                self._files.append(_Written(self._folder, party, json.dumps(head).encode()))
        return seed

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
            for file in self._files:
                self.written += file.finish(transcript)
            sync_folder(self._folder)
            self._folder.rename(self.out)
            sync_folder(self.out.parent)
        self.sizes = {file.party: file.length for file in self._files}
        self._files = []

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(f"the store {self.out} cannot be written: {error.strerror or error}") from None

    def abandon(self) -> None:
        """Leave nothing behind of a store that is not finished."""
        for file in self._files:
            file.close()
        self._files = []
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
