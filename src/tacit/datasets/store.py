"""The shares that one server keeps: a folder a data set, a folder a submission in it.

::

    DATA/ROLE/lesions/dataset.json                      fields and fractional bits, fixed by the first submission
    DATA/ROLE/lesions/<id>/manifest.json                rows, fields, size, provider, time
    DATA/ROLE/lesions/<id>/share.safetensors            this server's share
    DATA/ROLE/.staging/<id>/…                           the same, until the provider commits

A submission is written and synchronised in staging, and enters its data set by one renaming of its folder, so it is
there as a whole or not at all. What is in staging is gone after a restart.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError, safe_open

from tacit import private_files
from tacit.errors import DataError, Refused
from tacit.outside.schema import NAME, Field, Schema, bytes_of, checked_identity

__all__ = ["Limits", "Staged", "Store", "StoredSubmission", "write_share"]

FORMAT = "tacit-dataset-1"
STAGING = ".staging"
SHARE, MANIFEST, DATASET = "share.safetensors", "manifest.json", "dataset.json"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a server takes in."""

    submission_bytes: int = 1 << 32
    """Of one share: 8 bytes an element."""
    spare_bytes: int = 1 << 28
    """Space that stays free on the disk; what would leave less is refused."""


@dataclass(frozen=True, slots=True)
class StoredSubmission:
    """A submission that is in a data set at this server."""

    id: str
    schema: Schema
    frac_bits: int
    provider: str
    received: str
    folder: Path

    @property
    def digest(self) -> bytes:
        """16 bytes that tell apart what servers could hold differently: identity, schema and scale."""
        text = json.dumps([self.id, self.schema.literal(), self.frac_bits])
        return blake2b(text.encode(), digest_size=16).digest()


class Staged:
    """A submission on its way into a data set: write all of its share, `finish`, and then commit or discard it."""

    def __init__(self, folder: Path, manifest: dict[str, Any], schema: Schema) -> None:
        self.folder, self.manifest, self.schema = folder, manifest, schema
        folder.mkdir(parents=True, mode=0o700)
        self._file = private_files.create(folder / SHARE)
        self._left = schema.nbytes
        self._file.write(_header(schema))

    def write(self, piece: bytes | memoryview) -> None:
        """Append to the share."""
        self._left -= len(piece)
        self._file.write(piece)

    def finish(self) -> None:
        """Write everything down to the disk."""
        assert self._left == 0, "a share must be complete"
        _synchronise(self._file)
        with private_files.create(self.folder / MANIFEST) as file:
            file.write(json.dumps(self.manifest, indent=1).encode())
            _synchronise(file)
        _synchronise_folder(self.folder)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Store:
    """All data sets of one role; one process at a time writes to it."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.folder = folder
        self._limits = limits or Limits()
        self._staged: dict[str, Staged] = {}

    def clear_staging(self) -> None:
        """Forget what an earlier process had not committed."""
        shutil.rmtree(self.folder / STAGING, ignore_errors=True)

    # --- taking in -------------------------------------------------------------------------------------------------

    def stage(self, identity: str, name: str, schema: Schema, frac_bits: int, provider: str) -> Staged:
        """Begin a submission, or raise `Refused`."""
        checked_identity(identity)
        if not NAME.fullmatch(name):
            raise Refused("the name of a data set is up to 63 letters, digits, '-', '_' and '.'")
        if identity in self._staged or (self.folder / name / identity).exists():
            raise Refused(f"submission {identity} is here already")
        self._check_fields(name, schema, frac_bits)
        self._check_space(schema)
        received = datetime.now(UTC).isoformat(timespec="milliseconds")
        manifest = {
            "format": FORMAT, "id": identity, "dataset": name, "provider": provider, "received": received,
            "bytes": schema.nbytes, "frac_bits": frac_bits, **schema.literal(),
        }  # fmt: skip
        staged = Staged(self.folder / STAGING / identity, manifest, schema)
        self._staged[identity] = staged
        return staged

    def commit(self, staged: Staged) -> None:
        """Put a finished submission into its data set, or raise `Refused` if another came first with other fields."""
        manifest = staged.manifest
        folder = self.folder / manifest["dataset"]
        self._check_fields(manifest["dataset"], staged.schema, manifest["frac_bits"])
        folder.mkdir(mode=0o700, exist_ok=True)
        if not (folder / DATASET).exists():
            public = {"format": FORMAT, "frac_bits": manifest["frac_bits"], "fields": manifest["fields"]}
            private_files.write(folder / DATASET, json.dumps(public, indent=1).encode())
        staged.folder.rename(folder / manifest["id"])
        _synchronise_folder(folder)
        del self._staged[manifest["id"]]

    def discard(self, staged: Staged) -> None:
        """Forget a submission that was not committed."""
        if self._staged.pop(staged.manifest["id"], None) is not None:
            staged.discard()

    def _check_fields(self, name: str, schema: Schema, frac_bits: int) -> None:
        known = self._fields(name)
        if known is not None and known != (schema.fields, frac_bits):
            expected = "; ".join(map(str, known[0]))
            raise Refused(f"data set {name} holds {expected}; this submission is {'; '.join(map(str, schema.fields))}")

    def _check_space(self, schema: Schema) -> None:
        if schema.nbytes > self._limits.submission_bytes:
            raise Refused(
                f"a submission may have {self._limits.submission_bytes // 8} elements, not {schema.nbytes // 8}: "
                f"submit it in several parts"
            )
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        promised = sum(staged.schema.nbytes for staged in self._staged.values())
        if shutil.disk_usage(self.folder).free - promised - schema.nbytes < self._limits.spare_bytes:
            raise Refused("there is no space left for a submission of this size")

    # --- reading ---------------------------------------------------------------------------------------------------

    def datasets(self) -> list[str]:
        """The names of all data sets."""
        return sorted(path.parent.name for path in self.folder.glob(f"*/{DATASET}"))

    def submissions(self, name: str) -> list[StoredSubmission]:
        """The submissions of a data set, oldest first."""
        if not NAME.fullmatch(name):
            raise DataError(f"{name!r} is not the name of a data set")
        found = [_stored_submission(path.parent) for path in (self.folder / name).glob(f"*/{MANIFEST}")]
        return sorted(found, key=lambda each: (each.received, each.id))

    def _fields(self, name: str) -> tuple[tuple[Field, ...], int] | None:
        literal = _read(self.folder / name / DATASET)
        return None if literal is None else (Schema.parse({**literal, "rows": 1}).fields, literal["frac_bits"])


def _stored_submission(folder: Path) -> StoredSubmission:
    literal = _read(folder / MANIFEST)
    if literal is None or literal.get("format") != FORMAT:
        raise DataError(f"{folder / MANIFEST} is not the manifest of a submission")
    return StoredSubmission(
        literal["id"], Schema.parse(literal), literal["frac_bits"], literal["provider"], literal["received"], folder
    )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        literal = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    return literal if isinstance(literal, dict) else None


# --- files ------------------------------------------------------------------------------------------------------------


def write_share(path: Path, parts: Sequence[StoredSubmission], schema: Schema) -> None:
    """Write the rows of several submissions as one file, field by field; in place when it is complete."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with private_files.create(partial) as file:
            file.write(_header(schema))
            for field in schema.fields:
                for each in parts:
                    file.write(_stored(each, field))
            _synchronise(file)
        partial.replace(path)
        _synchronise_folder(path.parent)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def _stored(each: StoredSubmission, field: Field) -> memoryview:
    """A submission's share of one tensor, straight from the mapped file."""
    try:
        with safe_open(each.folder / SHARE, framework="pt") as file:
            tensor = file.get_tensor(field.name)
    except (SafetensorError, OSError) as error:
        raise DataError(f"the share of submission {each.id} cannot be read: {error}") from None
    if tuple(tensor.shape) != (each.schema.rows, *field.shape):
        raise DataError(f"the share of submission {each.id} does not have the shape that its manifest says")
    return bytes_of(tensor)


def _header(schema: Schema) -> bytes:
    """The beginning of a safetensors file that holds a share: the content follows, tensor after tensor."""
    header: dict[str, Any] = {"__metadata__": {"format": FORMAT}}
    at = 0
    for field in schema.fields:
        end = at + 8 * schema.rows * field.row_elements
        header[field.name] = {"dtype": "I64", "shape": [schema.rows, *field.shape], "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _synchronise(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()


def _synchronise_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
