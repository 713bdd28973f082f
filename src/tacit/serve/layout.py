"""What a submission or a request consists of, and how it is cut into shares.

A *layout* is public: how many rows, and for each named tensor the dtype and the shape of one row. The content travels
as ring elements, 8 bytes each, tensor after tensor. With n servers one gets

    x - Σ PRG(seed_j)   (mod 2^64),

and each of the others gets nothing but its fresh seed of 16 bytes, from which it makes its share itself. Every share
is uniform on its own, and so are any n - 1 of them together.
"""

from __future__ import annotations

import math
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tacit.errors import DataError
from tacit.ring.fixed_point import encode
from tacit.ring.given import real_tensor
from tacit.ring.prg import Stream, derive_key

__all__ = ["NAME", "SEED_BYTES", "Cut", "Field", "Layout", "bytes_of", "cut", "encoded", "expanded", "from_bytes"]

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}", re.ASCII)
"""Of data sets and their tensors; both become names of files or keys in them."""

SEED_BYTES = 16
PURPOSE = "share of a submission"

PIECE_BYTES = 1 << 20
"""Content is made, sent and written in pieces of this size, so that memory stays small. Larger: fewer system calls."""

DTYPES = {"float32": torch.float32, "int64": torch.int64}
MOST_FIELDS = 256
MOST_DIMENSIONS = 16


class Field(NamedTuple):
    """One tensor of a data set: its name, its dtype as a secret, and the shape of a row."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def row_elements(self) -> int:
        """Elements in a row."""
        return math.prod(self.shape)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of the secret."""
        return DTYPES[self.dtype]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} of shape {('rows', *self.shape)}".replace("'", "")


@dataclass(frozen=True, slots=True)
class Layout:
    """Rows of one or several tensors. Equal layouts have equal fields in equal order."""

    rows: int
    fields: tuple[Field, ...]

    @property
    def nbytes(self) -> int:
        """Size of one share."""
        return 8 * self.rows * sum(field.row_elements for field in self.fields)

    def pieces(self) -> Iterator[tuple[int, slice]]:
        """The field and the flat elements of each piece, in the order in which they travel."""
        step = PIECE_BYTES // 8
        for place, field in enumerate(self.fields):
            count = self.rows * field.row_elements
            for start in range(0, count, step):
                yield place, slice(start, min(start + step, count))

    def literal(self) -> dict[str, Any]:
        """A form for JSON."""
        return {"rows": self.rows, "fields": [[f.name, f.dtype, list(f.shape)] for f in self.fields]}

    @staticmethod
    def parse(literal: Any) -> Layout:
        """Check what a stranger sent; raise `DataError` with the first thing that is wrong."""
        try:
            rows, fields = literal["rows"], tuple(Field(n, d, tuple(s)) for n, d, s in literal["fields"])
        except (TypeError, KeyError, ValueError):
            raise DataError("a layout needs rows and fields of a name, a dtype and a shape") from None
        if type(rows) is not int or not 1 <= rows < 1 << 40:
            raise DataError("a submission has at least one row")
        if not 1 <= len(fields) <= MOST_FIELDS:
            raise DataError(f"a submission has from 1 to {MOST_FIELDS} tensors")
        for field in fields:
            _check_field(field)
        if len({field.name for field in fields}) != len(fields):
            raise DataError("two tensors of a submission have the same name")
        return Layout(rows, fields)


def _check_field(field: Field) -> None:
    if not isinstance(field.name, str) or not NAME.fullmatch(field.name) or field.name == "__metadata__":
        raise DataError("the name of a tensor is up to 63 letters, digits, '-', '_' and '.', and not '__metadata__'")
    if not isinstance(field.dtype, str) or field.dtype not in DTYPES:
        raise DataError(f"a tensor is one of {' and '.join(DTYPES)}")
    if len(field.shape) > MOST_DIMENSIONS or any(type(n) is not int or not 1 <= n < 1 << 40 for n in field.shape):
        raise DataError(f"the shape of a row has up to {MOST_DIMENSIONS} dimensions, none of them empty")


def encoded(value: Any, frac_bits: int) -> tuple[Layout, list[Tensor]]:
    """Check a tensor, or a dict of tensors with the same number of rows, and return its layout and ring elements.

    Floating-point tensors become fixed point, integers and bools int64. A lone tensor is called "x".
    Raises `DataError`, and `EncodingError` with the index for a number that fixed point cannot hold.
    """
    tensors = {name: _tensor(name, v) for name, v in (value if isinstance(value, Mapping) else {"x": value}).items()}
    lengths = {name: len(tensor) for name, tensor in tensors.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"the tensors of a submission have different numbers of rows: {lengths}")
    fields, rings = [], []
    for name, tensor in tensors.items():
        real = tensor.dtype.is_floating_point
        fields.append([name, "float32" if real else "int64", list(tensor.shape[1:])])
        rings.append(encode(tensor, frac_bits if real else 0, name=name).contiguous().view(-1))
    return Layout.parse({"rows": next(iter(lengths.values()), 0), "fields": fields}), rings


def _tensor(name: Any, value: Any) -> Tensor:
    tensor = real_tensor(value, str(name))
    if tensor.dim() == 0:
        raise DataError(f"{name} is a scalar: a submission has rows")
    return tensor.detach().cpu()


class Cut:
    """The shares of a content: for each server a seed, or, for one of them, the pieces of what remains."""

    def __init__(self, layout: Layout, rings: Sequence[Tensor], servers: int) -> None:
        self.layout = layout
        self.explicit = secrets.randbelow(servers)
        """The server that gets its share in full: another one each time, which spreads the traffic."""
        self.seeds = [None if i == self.explicit else os.urandom(SEED_BYTES) for i in range(servers)]
        self._rings = rings

    def __repr__(self) -> str:
        return f"Cut(<hidden>, {self.layout})"

    def remainder(self) -> Iterator[Tensor]:
        """The pieces of x - Σ PRG(seed_j)."""
        streams = [expanded(seed, self.layout) for seed in self.seeds if seed is not None]
        for (place, part), *drawn in zip(self.layout.pieces(), *streams, strict=True):
            rest = self._rings[place][part]
            for piece in drawn:
                rest = rest - piece
            yield rest


def cut(value: Any, frac_bits: int, servers: int) -> Cut:
    """Encode a value and cut it into fresh shares."""
    layout, rings = encoded(value, frac_bits)
    return Cut(layout, rings, servers)


def expanded(seed: bytes, layout: Layout) -> Iterator[Tensor]:
    """The share that a seed stands for, in pieces."""
    stream = Stream(derive_key(seed, PURPOSE))
    for _, part in layout.pieces():
        yield stream.ring((part.stop - part.start,))


def from_bytes(data: bytes) -> Tensor:
    """Ring elements as they came over the wire."""
    return torch.frombuffer(bytearray(data), dtype=torch.int64)


def bytes_of(piece: Tensor) -> memoryview:
    """The memory of a piece."""
    view: memoryview = piece.contiguous().numpy().data.cast("B")
    return view
