"""What a submission or a request consists of, and what its content is as ring elements.

A *schema* is public: how many rows, and for each named tensor the dtype and the shape of one row. The content travels
as ring elements, 8 bytes each, tensor after tensor, in the pieces of `sharing`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tacit.errors import DataError, Refused
from tacit.ring.fixed_point import encode
from tacit.ring.given import real_tensor

__all__ = ["DTYPES", "NAME", "PURPOSE", "Field", "Schema", "bytes_of", "checked_identity", "encoded", "from_bytes"]

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}", re.ASCII)
"""Of data sets and their tensors; both become names of files or keys in them."""

PURPOSE = "share of a submission"
"""What shares that clients cut for servers are for; see `sharing.cut`."""

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
class Schema:
    """Rows of one or several tensors. Equal schemas have equal fields in equal order."""

    rows: int
    fields: tuple[Field, ...]

    @property
    def nbytes(self) -> int:
        """Size of one share."""
        return 8 * sum(self.sizes)

    @property
    def sizes(self) -> list[int]:
        """Elements of each tensor."""
        return [self.rows * field.row_elements for field in self.fields]

    def literal(self) -> dict[str, Any]:
        """A form for JSON."""
        return {"rows": self.rows, "fields": [[f.name, f.dtype, list(f.shape)] for f in self.fields]}

    @staticmethod
    def parse(literal: Any) -> Schema:
        """Check what a stranger sent; raise `DataError` with the first thing that is wrong."""
        try:
            rows, fields = literal["rows"], tuple(Field(n, d, tuple(s)) for n, d, s in literal["fields"])
        except (TypeError, KeyError, ValueError):
            raise DataError("a schema needs rows and fields of a name, a dtype and a shape") from None
        if type(rows) is not int or not 1 <= rows < 1 << 40:
            raise DataError("a submission has at least one row")
        if not 1 <= len(fields) <= MOST_FIELDS:
            raise DataError(f"a submission has from 1 to {MOST_FIELDS} tensors")
        for field in fields:
            _check_field(field)
        if len({field.name for field in fields}) != len(fields):
            raise DataError("two tensors of a submission have the same name")
        return Schema(rows, fields)


def _check_field(field: Field) -> None:
    if not isinstance(field.name, str) or not NAME.fullmatch(field.name) or field.name == "__metadata__":
        raise DataError("the name of a tensor is up to 63 letters, digits, '-', '_' and '.', and not '__metadata__'")
    if not isinstance(field.dtype, str) or field.dtype not in DTYPES:
        raise DataError(f"a tensor is one of {' and '.join(DTYPES)}")
    if len(field.shape) > MOST_DIMENSIONS or any(type(n) is not int or not 1 <= n < 1 << 40 for n in field.shape):
        raise DataError(f"the shape of a row has up to {MOST_DIMENSIONS} dimensions, none of them empty")


def encoded(value: Any, frac_bits: int) -> tuple[Schema, list[Tensor]]:
    """Check a tensor, or a dict of tensors with the same number of rows, and return its schema and ring elements.

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
    return Schema.parse({"rows": next(iter(lengths.values()), 0), "fields": fields}), rings


def _tensor(name: Any, value: Any) -> Tensor:
    tensor = real_tensor(value, str(name))
    if tensor.dim() == 0:
        raise DataError(f"{name} is a scalar: a submission has rows")
    return tensor.detach().cpu()


def checked_identity(identity: Any) -> str:
    """Return what a client calls its submission or request, 32 hexadecimal digits, or raise `Refused`."""
    if not isinstance(identity, str) or not re.fullmatch("[0-9a-f]{32}", identity):
        raise Refused("an identity has 32 hexadecimal digits")
    return identity


def from_bytes(data: bytes) -> Tensor:
    """Ring elements as they came over the wire."""
    return torch.frombuffer(bytearray(data), dtype=torch.int64)


def bytes_of(piece: Tensor) -> memoryview:
    """The memory of a piece."""
    view: memoryview = piece.contiguous().numpy().data.cast("B")
    return view
