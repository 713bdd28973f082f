"""What a prediction service computes, as its clients know it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from tacit.errors import DataError, Refused
from tacit.outside.schema import DTYPES, Field, Schema

__all__ = ["DIGEST_BYTES", "INPUT", "OUTPUT", "ROW_BYTES", "KeyPlan", "Plan"]

INPUT, OUTPUT = "x", "y"

DIGEST_BYTES = 16
"""Of the key of a person who is asked about."""
ROW_BYTES = 1 << 20
"""The largest request that has columns of people in it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a service computes each time: `batch` rows, each of this shape and dtype."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    batch: int = 8

    @property
    def field(self) -> Field:
        """The input as a tensor of a schema."""
        return Field(INPUT, self.dtype, self.shape)

    def check(self, schema: Schema) -> None:
        """Raise `Refused` for a request that does not fit."""
        if schema.fields != (self.field,):
            found = " and ".join(map(str, schema.fields))
            raise Refused(f"this service takes {self.field}; the request is {found}")
        if schema.rows > self.batch:
            raise Refused(f"this service takes up to {self.batch} rows at once, not {schema.rows}")

    def literal(self) -> dict[str, Any]:
        """A form for JSON."""
        return {"shape": list(self.shape), "dtype": self.dtype, "batch": self.batch}

    @staticmethod
    def parse(literal: dict[str, Any]) -> Plan:
        """Read what a server has sent; raise `DataError` with the first thing that is wrong."""
        try:
            plan = Plan(tuple(map(int, literal["shape"])), str(literal["dtype"]), int(literal["batch"]))
        except (TypeError, KeyError, ValueError, OverflowError):
            raise DataError("a service's plan needs a shape, a dtype and a batch") from None
        Schema.parse({"rows": plan.batch, "fields": [[INPUT, plan.dtype, list(plan.shape)]]})
        return plan

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of the secret input."""
        return DTYPES[self.dtype]


@dataclass(frozen=True, slots=True)
class KeyPlan:
    """What a service computes of people whose columns owners put in: for up to `batch` of them at once."""

    owners: tuple[tuple[str, int], ...]
    """Who has columns, and of how many columns the key of its table is made; 0 where it has none."""
    batch: int
    result: tuple[int, ...] = ()
    """The shape of one person's result."""

    def literal(self) -> dict[str, Any]:
        """A form for JSON."""
        return {"owners": dict(self.owners), "batch": self.batch, "result": list(self.result)}

    @staticmethod
    def parse(literal: dict[str, Any]) -> KeyPlan:
        """Read what a server has sent."""
        owners = tuple((str(name), int(parts)) for name, parts in literal["owners"].items())
        plan = KeyPlan(owners, int(literal["batch"]), tuple(map(int, literal["result"])))
        Schema.parse({"rows": plan.batch, "fields": [[OUTPUT, "float32", list(plan.result)]]})
        if not owners or any(parts < 0 for _, parts in owners):
            raise ValueError
        return plan

    @property
    def answer(self) -> Field:
        """What comes of one person: the result, in a row, and behind it 1 where all owners know the person, or 0."""
        return Field(OUTPUT, "float32", (math.prod(self.result) + 1,))
