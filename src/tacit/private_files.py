"""Files that only their owner may read: keys, shares, models."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["OWNER_ONLY", "create", "is_private", "replacing", "write"]

OWNER_ONLY = 0o600


def create(path: Path, mode: int = OWNER_ONLY) -> BinaryIO:
    """Make a file that is not there yet, and open it for writing; a link in its place is not followed.

    Raises:
        FileExistsError: if there is something of this name.
    """
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb")


@contextmanager
def replacing(path: Path, mode: int = OWNER_ONLY) -> Iterator[Path]:
    """Give a fresh file beside `path` to be written to, and put it in its place when the block ends well.

    Whatever was at `path`, its mode and, if it was a link, where it led, no longer counts. Nobody can know the fresh
    file's name in advance. It is written down to the disk before it gets its own.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    create(partial, mode).close()
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write(path: Path, content: bytes, mode: int = OWNER_ONLY) -> None:
    """Write a whole file, as `replacing` does."""
    with replacing(path, mode) as partial:
        partial.write_bytes(content)


def is_private(path: Path) -> bool:
    """Whether nobody but its owner may read or write a file, as far as the operating system can tell."""
    return os.name != "posix" or not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
