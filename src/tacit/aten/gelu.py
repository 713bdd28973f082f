"""GELU as models write it out, x/2 (1 + tanh(√(2/π) (x + 0.044715 x³))): where no gradient is asked for, one function.

Written out it is a power, three products and tanh, one after the other, 9 rounds and more, each of which opens a tensor
as wide as the layer; `functions.gates.tanh_gelu` is 4. So x³ waits until somebody needs it, and so does what follows as
long as it goes on like this; the last product is the function. Whatever else becomes of it has each operator computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any

import torch
from torch import Tensor

from tacit.aten.arithmetic import half_of
from tacit.aten.pointwise import apply
from tacit.functions.gates import tanh_gelu
from tacit.protocols.number import Number
from tacit.protocols.values import Value
from tacit.tensor import SecretTensor
from tacit.tensor.deferred import Once, held
from tacit.tensor.operands import plain

__all__ = ["cube"]

aten = torch.ops.aten

CUBIC, OUTER = 0.044715, math.sqrt(2 / math.pi)
NEAR = 2.0**-20
"""How far, relatively, written factors may be from these. More: shorter decimals are the same; with this the function
is off by less than 2^-20."""


class Stage(Enum):
    """How much has been written."""

    CUBE = auto()
    """c x³."""
    SUM = auto()
    """a (x + 0.044715 x³)."""
    TANH = auto()
    """tanh of that."""
    GATE = auto()
    """a (1 + that)."""


class Written(Once):
    """A part of the formula, of a content that goes by a name."""

    __slots__ = ("_factor", "_name", "_stage", "_x")

    def __init__(
        self, compute: Callable[[], Value], depth: int, x: SecretTensor, name: object, stage: Stage, factor: float
    ) -> None:
        super().__init__(compute, depth)
        self._x, self._name = x, name
        self._stage, self._factor = stage, factor

    def after(self, func: Any, operands: Sequence[Any]) -> SecretTensor | Callable[..., Once] | None:
        """The whole, or the next part."""
        if func is aten.tanh.default:
            fits = self._stage is Stage.SUM and abs(self._factor / OUTER - 1) < NEAR
            return self._next(Stage.TANH, 1.0) if fits else None
        if func not in (aten.mul.Tensor, aten.add.Tensor) or len(operands) != 2:
            return None
        (other,) = [v for v in operands if not (isinstance(v, SecretTensor) and v._share is self)] or [None]
        k = _public(other)
        if func is aten.mul.Tensor and k is not None:
            return None if self._stage is Stage.TANH else self._next(self._stage, self._factor * k)
        if func is aten.add.Tensor and k is not None:
            return self._next(Stage.GATE, 1.0) if self._stage is Stage.TANH and k == 1 else None
        if not isinstance(other, SecretTensor) or not isinstance(other._share, Value):
            return None
        share = other._share
        if func is aten.add.Tensor:
            fits = self._stage is Stage.CUBE and abs(self._factor / CUBIC - 1) < NEAR and share.facts.name is self._name
            return self._next(Stage.SUM, 1.0) if fits else None
        part = 1.0 if share.facts.name is self._name else 0.5 if half_of(share) is self._name else None
        times = 0.0 if self._stage is not Stage.GATE or part is None else 2 * part * self._factor
        if times not in (1, 2):  # the second where the half comes last
            return None
        return apply(func, self._x, lambda v: tanh_gelu(v).times_integer(int(times)))

    def _next(self, stage: Stage, factor: float) -> Callable[..., Once]:
        def part(compute: Callable[[], Value], depth: int) -> Once:
            return Written(compute, depth, self._x, self._name, stage, factor)

        return part


def cube(x: SecretTensor, compute: Callable[[SecretTensor], SecretTensor]) -> SecretTensor | None:
    """x³, which waits, and may become more; None where it is as well computed."""
    session = x._protocol.session
    if torch.is_grad_enabled() or session.watcher is not None or not isinstance(x.share, Number):
        return None
    if not x.dtype.is_floating_point or plain(x) is not None:
        return None
    now = held(x)
    waiting = Written(lambda: compute(now).share, 1, now, x.share.facts.name, Stage.CUBE, 1.0)
    return SecretTensor(waiting, x.dtype, protocol=x._protocol, shape=x.shape)


def _public(x: Any) -> float | None:
    """A single public number."""
    if isinstance(x, int | float):
        return float(x)
    if isinstance(x, Tensor) and not isinstance(x, SecretTensor) and x.dim() == 0:
        return float(x)
    return None
