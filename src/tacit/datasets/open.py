"""Data sets that clients have submitted, as secret tensors of a session."""

from __future__ import annotations

import json
import secrets
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import Dataset

from tacit.api import active_protocol
from tacit.data.batches import batches
from tacit.datasets.store import SHARE, Store, StoredSubmission, write_share
from tacit.errors import DataError
from tacit.outside.schema import Field, Schema
from tacit.products import Serving
from tacit.protocols.protocol import Protocol
from tacit.session.announced import fitting, said_by, whole
from tacit.session.session import Session
from tacit.tensor import SecretTensor

__all__ = ["SecretDataset", "open_dataset"]

ID_BYTES = DIGEST_BYTES = 16


class SecretDataset(Dataset[Any]):
    """The tensors of a data set, all with the same rows: by name, as batches, or through a `DataLoader`.

    `data["x"]` is a secret tensor over a file that is mapped into memory, so rows are read from disk when they are
    used; see `open_dataset`.
    """

    def __init__(self, name: str, tensors: dict[str, SecretTensor]) -> None:
        self.name = name
        self._tensors = tensors

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tensors, in the order in which batches hold them."""
        return tuple(self._tensors)

    def __getitem__(self, key: str | int | slice | Sequence[int] | Tensor) -> SecretTensor | tuple[Tensor, ...]:
        """A tensor by its name, or one or several rows of all tensors."""
        if isinstance(key, str):
            if key not in self._tensors:
                raise DataError(f"data set {self.name} has no tensor {key!r}; it has {', '.join(self._tensors)}")
            return self._tensors[key]
        return tuple(tensor[key] for tensor in self._tensors.values())

    def __len__(self) -> int:
        return len(next(iter(self._tensors.values())))

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {tuple(tensor.shape)}" for name, tensor in self._tensors.items())
        return f"SecretDataset({self.name!r}, {shapes})"

    def batches(
        self, size: int, epochs: int = 1, *, shuffle: bool = True, progress: bool = True, drop_last: bool = False
    ) -> Iterator[tuple[Tensor, ...]]:
        """`tacit.batches` of all tensors."""
        return batches(
            *self._tensors.values(), size=size, epochs=epochs, shuffle=shuffle, progress=progress, drop_last=drop_last
        )


def open_dataset(name: str, folder: str | Path | None = None, *, remember: bool = True) -> SecretDataset:
    """Open a data set that clients have submitted to the parties of this session.

    The parties tell each other which submissions they hold, and all of them take those that every party has, in the
    order in which the first party received them; were some of them of other tensors than the first, a warning says so.
    Submissions are joined, and seeds expanded, in a file that has no name on the disk and is gone with the session:
    where a submission was withdrawn, nothing is left of it.

    Args:
        name: its name.
        folder: where this role keeps its shares, one folder a role; at first what the config says.
        remember: whether every row is opened (under its mask) once, however many epochs use it, which takes 25 bytes
            of memory an element. Without it only a batch at a time is in memory, and each epoch opens all rows anew,
            8 bytes an element: for data sets that are larger than memory.

    Reveals: to all roles, identities, sizes and names of the submissions' tensors.

    Raises:
        DataError: if there is no submission that all parties hold.
    """
    protocol = active_protocol()
    session = protocol.session
    root = Path(folder if folder is not None else session.config.of(Serving).data)
    stores = [Store(root / session.parties[index]) for index in session.party_indices]
    held = [store.submissions(name) for store in stores]
    agreed, rows, fields = _agree(session, name, held)
    schema = Schema(sum(rows), fields)
    session.transcript.record(f"tacit.open_dataset({name}: {len(agreed)} submissions)", b"".join(agreed))
    shares = [_load(store, name, _chosen(entries, agreed), schema) for store, entries in zip(stores, held, strict=True)]
    tensors = {field.name: _secret(protocol, field, schema.rows, shares, remember) for field in fields}
    return SecretDataset(name, tensors)


def _agree(
    session: Session, name: str, held: Sequence[Sequence[StoredSubmission]]
) -> tuple[list[bytes], list[int], tuple[Field, ...]]:
    """The submissions that count: those of the first party's list that all parties hold and that fit together."""
    lists = [_announced(session, place, held) for place in range(len(session.parties))]
    first = 0 in session.party_indices
    said = session.announce(session.parties[0], _described(held[0]) if first else None)
    told, known = said_by(session.parties[0], said, f"data set {name}", lambda x: _told(x, lists[0]))
    common = set(lists[0]).intersection(*lists[1:])
    fits = [(mark, rows, kind) for mark, rows, kind in told if mark in common]
    if not fits:
        counts = ", ".join(f"{len(marks)} at {party}" for party, marks in zip(session.parties, lists, strict=True))
        raise DataError(f"data set {name} has no submission that all parties hold ({counts})")
    chosen = fits[0][2]
    fields, frac_bits = known[chosen]
    others = sum(kind != chosen for _, _, kind in fits)
    if others:
        warnings.warn(
            f"data set {name}: {others} of {len(fits)} submissions have other tensors than the first, and are left out",
            stacklevel=3,
        )
    if frac_bits != session.config.frac_bits:
        raise DataError(
            f"data set {name} was submitted with {frac_bits} fractional bits, but this session has "
            f"{session.config.frac_bits}"
        )
    marks = [mark for mark, _, kind in fits if kind == chosen]
    rows = [rows for _, rows, kind in fits if kind == chosen]
    for field in fields:
        fitting(session.parties[0], (sum(rows), *field.shape))
    return marks, rows, fields


def _announced(session: Session, place: int, held: Sequence[Sequence[StoredSubmission]]) -> list[bytes]:
    """What one party holds: a mark for each submission, of its identity and a digest of schema and scale."""
    message = None
    if place in session.party_indices:
        message = b"".join(map(_mark, held[session.party_indices.index(place)]))
    marks = session.announce(session.parties[place], message)
    size = ID_BYTES + DIGEST_BYTES
    return [marks[at : at + size] for at in range(0, len(marks), size)]


def _mark(each: StoredSubmission) -> bytes:
    return bytes.fromhex(each.id) + each.digest


def _described(held: Sequence[StoredSubmission]) -> bytes:
    """What the first party tells everybody: the rows of its submissions, and what they are made of, mostly one kind."""
    kinds = [(each.schema.literal()["fields"], each.frac_bits) for each in held]
    known = [kind for place, kind in enumerate(kinds) if kind not in kinds[:place]]
    rows = [each.schema.rows for each in held]
    return json.dumps({"rows": rows, "kinds": [known.index(kind) for kind in kinds], "known": known}).encode()


Submissions = list[tuple[bytes, int, int]]
Kinds = list[tuple[tuple[Field, ...], int]]


def _told(said: Any, marks: Sequence[bytes]) -> tuple[Submissions, Kinds]:
    """Check what the first party says: mark, rows and kind of each submission, and of each kind fields and scale."""
    known = [(Schema.parse({"rows": 1, "fields": fields}).fields, whole(bits, 0, 64)) for fields, bits in said["known"]]
    rows = [whole(rows, 1) for rows in said["rows"]]
    kinds = [whole(kind, 0, len(known) - 1) for kind in said["kinds"]]
    return list(zip(marks, rows, kinds, strict=True)), known


def _chosen(entries: Sequence[StoredSubmission], agreed: Sequence[bytes]) -> list[StoredSubmission]:
    by_mark = {_mark(each): each for each in entries}
    return [by_mark[mark] for mark in agreed]


def _load(store: Store, name: str, entries: Sequence[StoredSubmission], schema: Schema) -> dict[str, Tensor]:
    """One party's share of the whole data set, mapped into memory."""
    path = entries[0].folder / SHARE
    joined = len(entries) > 1 or entries[0].seeded
    if joined:
        path = store.folder / name / f".joined-{secrets.token_hex(8)}"
        write_share(path, entries, schema)
    try:
        with safe_open(path, framework="pt") as file:
            return {field.name: file.get_tensor(field.name) for field in schema.fields}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    finally:
        if joined:
            path.unlink(missing_ok=True)  # what is mapped stays until it is used no more


def _secret(
    protocol: Protocol, field: Field, rows: int, shares: Sequence[dict[str, Tensor]], remember: bool
) -> SecretTensor:
    frac_bits = protocol.frac_bits if field.torch_dtype.is_floating_point else 0
    own = [share[field.name] for share in shares]
    number = protocol.adopt(own, (rows, *field.shape), frac_bits, lasting=remember, name=f"{field.name} on the disk")
    return SecretTensor(number, field.torch_dtype)
