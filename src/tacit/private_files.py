"""Files that only their owner may read: keys, shares, models."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InternalError, UnsupportedAlgorithm

__all__ = [
    "NO_KEY",
    "OWNER_ONLY",
    "PUBLIC",
    "create",
    "fill",
    "is_private",
    "remove",
    "replacing",
    "replacing_by_folder",
    "write",
]

NO_KEY = (OSError, ValueError, TypeError, UnsupportedAlgorithm, InternalError)
"""What `cryptography` raises where a file holds no private key: `InternalError` at keys of a wrong length."""

OWNER_ONLY = 0o600
PUBLIC = 0o644


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
        _put(partial, path, mode)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_by_folder(path: Path) -> Iterator[Path]:
    """As `replacing`, for what puts files of its own beside the one that it writes: in a folder of their own.

    What a process that was killed has left of such a folder is cleared away first.
    """
    for left in path.parent.glob(f".{escape(path.name)}.*"):
        remove(left)
    folder = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    folder.mkdir(mode=0o700)
    try:
        partial = folder / path.name
        yield partial
        _put(partial, path, OWNER_ONLY)
    finally:
        remove(folder)


def _put(partial: Path, path: Path, mode: int) -> None:
    """Write a file down to the disk with its mode, and give it its name."""
    with partial.open("rb+") as file:
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    partial.replace(path)


def remove(path: Path) -> None:
    """Remove a file or a folder, whatever is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write(path: Path, content: bytes, mode: int = OWNER_ONLY) -> None:
    """Write a whole file, as `replacing` does."""
    with replacing(path, mode) as partial:
        fill(partial, content)


def fill(path: Path, content: bytes) -> None:
    """Write the content of a file that is there, down to the disk: after that, a full disk cannot take it away."""
    path.write_bytes(content)
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def is_private(path: Path) -> bool:
    """Whether nobody but its owner may read or write a file, as far as the operating system can tell."""
    return os.name != "posix" or not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
