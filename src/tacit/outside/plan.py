"""What a prediction service computes, as its clients know it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from tacit.errors import Refused
from tacit.outside.schema import DTYPES, Field, Schema

__all__ = ["INPUT", "OUTPUT", "Plan"]

INPUT, OUTPUT = "x", "y"


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
        """Read what a server has sent."""
        plan = Plan(tuple(map(int, literal["shape"])), str(literal["dtype"]), int(literal["batch"]))
        Schema.parse({"rows": plan.batch, "fields": [[INPUT, plan.dtype, list(plan.shape)]]})
        return plan

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of the secret input."""
        return DTYPES[self.dtype]
