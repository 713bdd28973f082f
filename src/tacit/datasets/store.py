"""The shares that one server keeps: a folder a data set, a folder a submission in it.

::

    DATA/ROLE/lesions/dataset.json                      fields and fractional bits, and whether they are settled
    DATA/ROLE/lesions/<id>/manifest.json                rows, fields, size, provider, time
    DATA/ROLE/lesions/<id>/share.safetensors            this server's share, or
    DATA/ROLE/lesions/<id>/seed                         what it is made from, when the data set is opened
    DATA/ROLE/.staging/<id>/…                           the same, until the provider commits

A submission is written and synchronised in staging, and enters its data set by one renaming of its folder, so it is
there as a whole or not at all. What is in staging is gone after a restart.

The first submission of a data set *reserves* its fields for a while. They are *settled* for good when all servers are
known to hold a submission of them; if that does not come about in time, others may come in beside it, until one of them
is settled.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open

from tacit import private_files
from tacit.errors import DataError, Refused
from tacit.outside.schema import NAME, PURPOSE, Field, Schema, bytes_of, checked_identity
from tacit.outside.sharing import SEED_BYTES, expand, pieces

__all__ = ["SHARE", "Limits", "Staged", "Store", "StoredSubmission", "content", "write_share"]

FORMAT = "tacit-dataset-1"
STAGING = ".staging"
SHARE, SEED, MANIFEST, DATASET = "share.safetensors", "seed", "manifest.json", "dataset.json"


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
    seeded: bool

    @property
    def digest(self) -> bytes:
        """16 bytes that tell apart what servers could hold differently: identity, schema and scale."""
        return blake2b(self.description.encode(), digest_size=16).digest()

    @property
    def description(self) -> str:
        """The text of what servers could hold differently."""
        return json.dumps([self.id, self.schema.literal(), self.frac_bits])


class Staged:
    """A submission on its way into a data set: write all of its share, `finish`, and then commit or discard it."""

    def __init__(self, folder: Path, manifest: dict[str, Any], schema: Schema) -> None:
        self.folder, self.manifest, self.schema = folder, manifest, schema
        self.seeded = manifest["form"] == "seed"
        self.nbytes = SEED_BYTES if self.seeded else schema.nbytes
        """What the client sends, and the disk keeps."""
        folder.mkdir(parents=True, mode=0o700)
        self._file = private_files.create(folder / (SEED if self.seeded else SHARE))
        self._left = self.nbytes
        if not self.seeded:
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
        with contextlib.suppress(OSError):  # of a full disk: closing writes what is left
            self._file.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Store:
    """All data sets of one role; one process at a time writes to it."""

    def __init__(self, folder: Path, limits: Limits | None = None, reserved: float = 60.0) -> None:
        self.folder = folder
        self._limits, self._reserved = limits or Limits(), reserved
        self._staged: dict[str, Staged] = {}
        self._entering = Lock()
        """Data sets are changed by one thread at a time."""

    def clear_staging(self) -> None:
        """Forget what an earlier process had not committed."""
        shutil.rmtree(self.folder / STAGING, ignore_errors=True)

    # --- taking in -------------------------------------------------------------------------------------------------

    def stage(
        self, identity: str, name: str, schema: Schema, frac_bits: int, provider: str, *, seeded: bool = False
    ) -> Staged:
        """Begin a submission whose share comes as it is or as a seed, or raise `Refused`."""
        checked_identity(identity)
        if not NAME.fullmatch(name):
            raise Refused("the name of a data set is up to 63 letters, digits, '-', '_' and '.'")
        if identity in self._staged or self.holds(name, identity):
            raise Refused(f"submission {identity} is here already")
        self._check_fields(name, schema, frac_bits)
        self._check_space(schema, SEED_BYTES if seeded else schema.nbytes)
        received = datetime.now(UTC).isoformat(timespec="milliseconds")
        manifest = {
            "format": FORMAT, "id": identity, "dataset": name, "provider": provider, "received": received,
            "bytes": schema.nbytes, "frac_bits": frac_bits, "form": "seed" if seeded else "share", **schema.literal(),
        }  # fmt: skip
        staged = Staged(self.folder / STAGING / identity, manifest, schema)
        self._staged[identity] = staged
        return staged

    def commit(self, staged: Staged) -> StoredSubmission:
        """Put a finished submission into its data set, or raise `Refused` if another came first with other fields."""
        manifest = staged.manifest
        folder = self.folder / manifest["dataset"]
        with self._entering:
            self._check_fields(manifest["dataset"], staged.schema, manifest["frac_bits"])
            folder.mkdir(mode=0o700, exist_ok=True)
            if not (folder / DATASET).exists():
                self._write_fields(manifest["dataset"], staged.schema, manifest["frac_bits"], settled=False)
            staged.folder.rename(folder / manifest["id"])
            _synchronise_folder(folder)
            self._staged.pop(manifest["id"], None)
        return _stored_submission(folder / manifest["id"])

    def settle(self, name: str, submission: StoredSubmission) -> None:
        """All servers hold this submission, so its fields are those of the data set, if no others were before."""
        with self._entering:
            if not self.settled(name):
                self._write_fields(name, submission.schema, submission.frac_bits, settled=True)

    def settled(self, name: str) -> bool:
        """Whether the fields of a data set are fixed for good."""
        literal = _read(self.folder / name / DATASET)
        return literal is not None and bool(literal.get("settled", True))

    def _write_fields(self, name: str, schema: Schema, frac_bits: int, *, settled: bool) -> None:
        public: dict[str, Any] = {"format": FORMAT, "frac_bits": frac_bits, "fields": schema.literal()["fields"]}
        public |= {"settled": settled} | ({} if settled else {"since": time.time()})
        private_files.write(self.folder / name / DATASET, json.dumps(public, indent=1).encode())

    def discard(self, staged: Staged) -> None:
        """Forget a submission that was not committed."""
        with self._entering:
            if self._staged.pop(staged.manifest["id"], None) is not None:
                staged.discard()

    def _check_fields(self, name: str, schema: Schema, frac_bits: int) -> None:
        literal = _read(self.folder / name / DATASET)
        if literal is None:
            return
        fields = Schema.parse({**literal, "rows": 1}).fields
        if (fields, literal["frac_bits"]) == (schema.fields, frac_bits):
            return
        expected, given = "; ".join(map(str, fields)), "; ".join(map(str, schema.fields))
        if literal.get("settled", True):
            raise Refused(f"data set {name} holds {expected}; this submission is {given}")
        left = literal["since"] + self._reserved - time.time()
        if 0 < left <= self._reserved:
            raise Refused(
                f"data set {name} is reserved for {expected}, until all servers hold a first submission of them or "
                f"{left:.0f} s have passed; this submission is {given}",
                after=left,
            )

    def _check_space(self, schema: Schema, needed: int) -> None:
        if schema.nbytes > self._limits.submission_bytes:
            raise Refused(
                f"a submission may have {self._limits.submission_bytes // 8} elements, not {schema.nbytes // 8}: "
                f"submit it in several parts"
            )
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        promised = sum(staged.nbytes for staged in list(self._staged.values()))
        if shutil.disk_usage(self.folder).free - promised - needed < self._limits.spare_bytes:
            raise Refused("there is no space left for a submission of this size")

    # --- reading ---------------------------------------------------------------------------------------------------

    def datasets(self) -> list[str]:
        """The names of all data sets."""
        return sorted(path.parent.name for path in self.folder.glob(f"*/{DATASET}"))

    def holds(self, name: str, identity: str) -> bool:
        """Whether a submission is in a data set; the file system is the index, so what was withdrawn is not."""
        if not NAME.fullmatch(name):
            raise DataError(f"{name[:80]!r} is not the name of a data set")
        return (self.folder / name / checked_identity(identity) / MANIFEST).exists()

    def submission(self, name: str, identity: str) -> StoredSubmission:
        """One submission of a data set, or raise `Refused`."""
        if not self.holds(name, identity):
            raise Refused("there is no such submission")
        return _stored_submission(self.folder / name / identity)

    def submissions(self, name: str) -> list[StoredSubmission]:
        """The submissions of a data set, oldest first."""
        if not NAME.fullmatch(name):
            raise DataError(f"{name[:80]!r} is not the name of a data set")
        found = [_stored_submission(path.parent) for path in (self.folder / name).glob(f"*/{MANIFEST}")]
        return sorted(found, key=lambda each: (each.received, each.id))


def _stored_submission(folder: Path) -> StoredSubmission:
    literal = _read(folder / MANIFEST)
    if literal is None or literal.get("format") != FORMAT:
        raise DataError(f"{folder / MANIFEST} is not the manifest of a submission")
    try:
        identity, provider, received = (str(literal[key]) for key in ("id", "provider", "received"))
        if folder.name != checked_identity(identity) or type(literal["frac_bits"]) is not int:
            raise ValueError
    except (KeyError, ValueError, Refused):
        raise DataError(f"{folder / MANIFEST} is not the manifest of a submission") from None
    seeded = literal.get("form") == "seed"
    return StoredSubmission(identity, Schema.parse(literal), literal["frac_bits"], provider, received, folder, seeded)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        literal = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    return literal if isinstance(literal, dict) else None


# --- files ------------------------------------------------------------------------------------------------------------


def write_share(path: Path, parts: Sequence[StoredSubmission], schema: Schema) -> None:
    """Write the rows of several submissions as one file, field by field; in place when it is complete."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with private_files.create(partial) as file:
            start = file.write(_header(schema))
            ends = [start + end for end in accumulate(8 * n for n in schema.sizes)]
            heads = [start, *ends[:-1]]  # where the next rows of each field go
            for each in parts:
                for place, piece in content(each):
                    file.seek(heads[place])
                    heads[place] += file.write(piece)
            if heads != ends:
                raise DataError("the submissions do not have the rows that their manifests say")
            _synchronise(file)
        partial.replace(path)
        _synchronise_folder(path.parent)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def content(each: StoredSubmission) -> Iterator[tuple[int, memoryview]]:
    """A submission's share, in pieces, each with the place of its field."""
    if each.seeded:
        try:
            seed = (each.folder / SEED).read_bytes()
        except OSError as error:
            raise DataError(f"the seed of submission {each.id} cannot be read: {error.strerror}") from None
        shares = expand(seed, each.schema.sizes, PURPOSE)
        for (place, _), piece in zip(pieces(each.schema.sizes), shares, strict=True):
            yield place, bytes_of(piece)
    else:
        for place, field in enumerate(each.schema.fields):
            yield place, _stored(each, field)


def _stored(each: StoredSubmission, field: Field) -> memoryview:
    """A submission's share of one tensor, straight from the mapped file."""
    try:
        with safe_open(each.folder / SHARE, framework="pt") as file:
            tensor = file.get_tensor(field.name)
    except (SafetensorError, OSError) as error:
        raise DataError(f"the share of submission {each.id} cannot be read: {error}") from None
    if tuple(tensor.shape) != (each.schema.rows, *field.shape) or tensor.dtype != torch.int64:
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
