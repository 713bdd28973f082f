"""One linear layer on ciphertexts: the client has its inputs and outputs, the server its weights.

Each row x (a token) has a scale of its own, s = max(|x|, k) / L, where L is the largest integer and k the constant that
carries the bias (0 without one):

    z = round([x, k] / s),    V_o = round([W_o, b_o / k] / c_o),    W x + b ~ s c_o (V z)_o.

V z is exact. With e = [x, k] - s z, |e| <= s/2, and |[W_o, b_o / k] - c_o V_o| <= c_o / 2, the error of output o is

    |error_o| <= s/2 |[W_o, b_o / k]|_1 + c_o / 2 s |z|_1.

The gradient of x is W' g: another linear map, from the other side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from tacit.errors import DataError, FheError, MessageError
from tacit.fhe.client import Client
from tacit.fhe.compile.assemble import Circuit, Compiled, assemble, finest
from tacit.fhe.encode import Float, Quantizer
from tacit.fhe.estimator import MODES, Mode
from tacit.fhe.layout import Int
from tacit.fhe.program import LinearProgram, Program
from tacit.fhe.read import PlainReader, RegressionHead

USUAL_BITS = 8
"""Bits whose ciphertexts are paid for; as many more are taken as fit into these."""


@dataclass(frozen=True)
class Facts:
    """What a client is told of one linear map: its sizes, k, and the largest |[W_o, b_o / k]|_1."""

    inputs: int
    outputs: int
    constant: float
    reach: float

    def __post_init__(self) -> None:
        """Refuse what no layer has: these come from a file, or from a service."""
        whole = all(
            isinstance(n, int) and not isinstance(n, bool) and 0 < n < 1 << 24 for n in (self.inputs, self.outputs)
        )
        real = all(isinstance(v, (int, float)) and math.isfinite(v) and v >= 0 for v in (self.constant, self.reach))
        if not whole or not real:
            raise MessageError("the layers of this hybrid model are damaged")

    @property
    def length(self) -> int:
        """Encrypted integers for each row."""
        return self.inputs + (self.constant > 0)


@dataclass(frozen=True)
class LinearMap:
    """A linear map that is asked in ciphertexts, or (where the program is at hand) in clear integers."""

    facts: Facts
    client: Client
    program: Program | None = None
    limit: int = field(init=False)
    scale: Float = field(init=False)

    def __post_init__(self) -> None:
        """Take the quantisation from the client's half, and check that it is one of integers as they are."""
        spec, facts = self.client.spec, self.facts
        encoder, head = spec.encoder, spec.head
        if not isinstance(encoder, Quantizer) or not isinstance(head, RegressionHead):
            raise MessageError("the parts of this hybrid model do not belong together")
        fine = (
            encoder.before is None
            and encoder.length == facts.length == len(encoder.center)
            and not encoder.center.any()
            and bool((encoder.step == 1).all())
            and spec.front.steps is None
            and isinstance(spec.reader, PlainReader)
            and head.scale.shape == (facts.outputs,)
            and bool((np.isfinite(head.scale) & (head.scale > 0)).all())
            and spec.parameters.layout.outputs == facts.outputs
        )
        if not fine:
            raise MessageError("the parts of this hybrid model do not belong together")
        object.__setattr__(self, "limit", encoder.limit)
        object.__setattr__(self, "scale", head.scale)

    def quantised(self, x: Float) -> tuple[Int, Float]:
        """Return the integers of rows and the scale of each row."""
        if not np.isfinite(x).all():
            raise DataError("an activation (or a gradient) is not finite: it cannot be encrypted")
        k = self.facts.constant
        s = np.maximum(np.abs(x).max(axis=1, initial=0.0), k) / self.limit
        s = np.where(s > 0, s, 1.0)
        wide = np.concatenate([x, np.full((len(x), self.facts.length - self.facts.inputs), k)], axis=1)
        z = np.clip(np.rint(wide / s[:, None]), -self.limit, self.limit).astype(np.int64)
        return z, s

    def __call__(self, x: Float, fhe: Mode) -> Float:
        """Return the map of rows."""
        z, s = self.quantised(x)
        if not len(z):
            return np.zeros((0, self.facts.outputs))
        if fhe == "execute":
            values = self.client.values_of(z)
        elif self.program is not None:
            values = self.program.simulate(z)
        else:
            raise FheError("only whoever has the model can simulate it: a client asks with fhe='execute'")
        out: Float = values * self.scale * s[:, None]
        return out

    def error_bound(self, x: Float) -> Float:
        """Return the largest error of each output of rows, but for floating point."""
        z, s = self.quantised(x)
        size = np.abs(z).sum(axis=1)
        bound: Float = s[:, None] / 2 * (self.facts.reach + self.scale * size[:, None])
        return bound


def lowered(name: str, weight: Float, bias: Float | None, n_bits: int | None) -> tuple[Circuit, Facts]:
    """Return the two halves of W x + b, and what a client is told of it."""
    if not np.isfinite(weight).all() or (bias is not None and not np.isfinite(bias).all()):
        raise DataError(f"{name} has weights that are not finite")
    top, low = float(np.abs(weight).max(initial=0.0)), 0.0 if bias is None else float(np.abs(bias).max(initial=0.0))
    constant = 0.0 if low == 0 else low / top if top > 0 else 1.0
    constant = constant if math.isfinite(constant) and constant > 0 else float(low > 0)
    wide = weight if constant == 0 or bias is None else np.concatenate([weight, bias[:, None] / constant], axis=1)

    def lower(bits: int) -> Compiled:
        limit = (1 << (bits - 1)) - 1
        largest = np.abs(wide).max(axis=1)
        scale = np.where(largest > 0, largest / limit, 1.0)
        length = wide.shape[1]
        encoder = Quantizer(np.zeros(length), np.ones(length), limit)
        whole = np.rint(wide / scale[:, None]).astype(np.int64)
        program = LinearProgram(whole, np.zeros(len(wide), dtype=np.int64), encoder.limits)
        return Compiled(program, encoder, PlainReader(), RegressionHead(scale, np.zeros(1), False, False))

    parts = finest(lower, USUAL_BITS, bulk=False)[0] if n_bits is None else lower(n_bits)
    reach = float(np.abs(wide).sum(axis=1).max())
    return assemble(name, parts), Facts(weight.shape[1], weight.shape[0], constant, reach)


class EncryptedLinear(nn.Module):
    """Stands where a linear layer was, without its weights: one map for it and, if it has one, one for its gradient."""

    def __init__(self, name: str, maps: tuple[LinearMap, LinearMap | None]) -> None:
        super().__init__()
        self.name = name
        self.maps = maps
        self.fhe: Mode = "execute"
        self.clear: Kept | None = None

    def extra_repr(self) -> str:
        """Say what stands here."""
        facts = self.maps[0].facts
        return f"{self.name}, inputs={facts.inputs}, outputs={facts.outputs}, gradients={self.maps[1] is not None}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return W x + b, to within `error_bound`."""
        if self.fhe not in MODES:
            raise FheError(f"fhe must be one of {', '.join(MODES)}, not {self.fhe!r}")
        if self.fhe == "disable":
            if self.clear is None:
                raise FheError("only whoever has the model can run it in clear: a client asks with fhe='execute'")
            out: torch.Tensor = self.clear.module(x)
            return out
        through: torch.Tensor = _Through.apply(x, self)  # type: ignore[no-untyped-call]
        return through

    def error_bound(self, x: torch.Tensor) -> torch.Tensor:
        """Return the largest error of each output, but for floating point."""
        return _by_rows(self.maps[0].error_bound, x, self.maps[0].facts)


class Kept:
    """A module that is no part of the one that holds it: its weights are not the client's."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module


class _Through(torch.autograd.Function):
    """W x + b forwards, W' g backwards; the weights themselves are frozen."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: EncryptedLinear) -> torch.Tensor:
        ctx.layer, ctx.fhe = layer, layer.fhe
        return _by_rows(lambda rows: layer.maps[0](rows, layer.fhe), x, layer.maps[0].facts)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        back = ctx.layer.maps[1]
        if back is None:
            raise FheError(f"{ctx.layer.name} was served without gradients: make the Hybrid with gradients=True")
        return _by_rows(lambda rows: back(rows, ctx.fhe), gradient, back.facts), None


def _by_rows(function: Any, x: torch.Tensor, facts: Facts) -> torch.Tensor:
    """Apply a function of rows of numbers to the last dimension of a tensor."""
    if not x.is_floating_point() or x.dim() < 1 or x.shape[-1] != facts.inputs:
        raise DataError(f"expected numbers with {facts.inputs} in the last dimension, got {x.dtype} {tuple(x.shape)}")
    rows = x.detach().to("cpu", torch.float64).reshape(-1, facts.inputs).numpy()
    out = torch.from_numpy(np.ascontiguousarray(function(rows)))
    return out.reshape(*x.shape[:-1], facts.outputs).to(x.device, x.dtype)
