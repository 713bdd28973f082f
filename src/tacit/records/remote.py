"""Objects in stores such as S3: brought into a file of the owner's own, and read there.

PyArrow's file systems fetch them, so that a CSV file's dialect, a workbook or a database is found out as of any file.
An address may hold a key, so it is never shown.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tacit.errors import ConfigError, UnusableTable

__all__ = ["REMOTE", "fetched"]

REMOTE = ("s3://", "gs://", "gcs://", "abfs://", "abfss://")

PIECE = 1 << 22
"""Bytes in memory at a time."""


@contextlib.contextmanager
def fetched(address: str, folder: Path | None = None) -> Iterator[Path]:
    """The path of a copy in this folder, or where temporary files are, which is gone afterwards."""
    try:
        from pyarrow import fs
    except ImportError:
        raise ConfigError("tacit.read_table needs pyarrow here: pip install 'tacit[data]'") from None
    name = Path(urlsplit(address).path).name
    if not name or any(mark in name for mark in "*?["):
        raise UnusableTable("the address may be several files: give one")
    with tempfile.TemporaryDirectory(dir=folder) as private:
        copy = Path(private) / name
        try:
            store, path = fs.FileSystem.from_uri(address)
            with store.open_input_stream(path, compression=None) as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target, PIECE)
        except FileNotFoundError:
            raise UnusableTable("there is no such object at the address") from None
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise UnusableTable("there is no room for a copy of the object at the address") from None
            raise _unfetched(error) from None
        except (ValueError, TypeError, NotImplementedError) as error:
            raise _unfetched(error) from None
        yield copy


def _unfetched(error: Exception) -> UnusableTable:
    return UnusableTable(
        f"the object at the address cannot be fetched ({type(error).__name__}): see the address, its region "
        f"and endpoint, and the keys in the environment"
    )
