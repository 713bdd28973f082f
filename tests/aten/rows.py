"""The table of operators: for each ATen overload that Tacit implements, calls that two runs must agree on.

A row is an overload and its arguments; arguments that are `Draw`s become fresh random tensors, and each of them is
public in one variant and secret in another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor

aten = torch.ops.aten


@dataclass(frozen=True)
class Draw:
    """A random tensor: a shape and how it is drawn. Values are multiples of 2^-8, so fixed point holds them exactly."""

    shape: tuple[int, ...]
    how: Callable[[tuple[int, ...], Generator], Tensor]

    def __call__(self, random: Generator) -> Tensor:
        return self.how(self.shape, random)


def _grid(x: Tensor) -> Tensor:
    return (x * 256).round() / 256


def real(*shape: int) -> Draw:
    return Draw(shape, lambda s, g: _grid(torch.randn(s, generator=g)))


def wide(*shape: int) -> Draw:
    return Draw(shape, lambda s, g: _grid(4 * torch.randn(s, generator=g)))


def positive(*shape: int) -> Draw:
    return Draw(shape, lambda s, g: _grid(torch.rand(s, generator=g) * 4 + 0.25))


def unit(*shape: int) -> Draw:
    return Draw(shape, lambda s, g: _grid(torch.rand(s, generator=g) * 0.9 + 0.05))


def whole(*shape: int) -> Draw:
    return Draw(shape, lambda s, g: torch.randint(-5, 6, s, generator=g))


def natural(*shape: int) -> Draw:
    return Draw(shape, lambda s, g: torch.randint(1, 9, s, generator=g))


def bits(*shape: int) -> Draw:
    return Draw(shape, lambda s, g: torch.rand(s, generator=g) < 0.5)


def place(below: int, *shape: int) -> Draw:
    return Draw(shape, lambda s, g: torch.randint(0, below, s, generator=g))


def across(*shape: int) -> Draw:
    """A transposed tensor: not contiguous."""
    return Draw(shape, lambda s, g: _grid(torch.randn(s[::-1], generator=g)).permute(*range(len(s))[::-1]))


@dataclass(frozen=True)
class Row:
    """One call."""

    overload: Any
    args: Sequence[Any]
    kwargs: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 2**-12
    grad: bool = True
    constants: Sequence[int] = ()
    """Arguments that PyTorch does not differentiate by."""
    public: Sequence[int] | None = None
    """The arguments that may be public, by position; None stands for any."""

    @property
    def draws(self) -> list[int]:
        return [i for i, a in enumerate(self.args) if isinstance(a, Draw)]

    def __str__(self) -> str:
        shapes = ["x".join(map(str, a.shape)) or "0d" for a in self.args if isinstance(a, Draw)]
        return f"{self.overload}-{','.join(shapes)}"


def row(overload: Any, *args: Any, **kwargs: Any) -> Row:
    options = {k: kwargs.pop(k) for k in ("tolerance", "grad", "public", "constants") if k in kwargs}
    return Row(overload, args, kwargs, **options)


A = (3, 4)
X = real(*A)
SHAPES: list[tuple[int, ...]] = [(), (0,), (0, 3), (1,), (5,), A, (2, 3, 4)]

UNARY = {  # elementwise: how x is drawn, and the tolerance
    aten.neg.default: (real, 2**-12),
    aten.abs.default: (real, 2**-12),
    aten.square.default: (real, 2**-12),
    aten.relu.default: (wide, 2**-12),
    aten.sigmoid.default: (wide, 2**-11),
    aten.tanh.default: (wide, 2**-10),
    aten.softplus.default: (wide, 2**-11),
    aten.reciprocal.default: (positive, 2**-7),
    aten.sqrt.default: (positive, 2**-10),
    aten.rsqrt.default: (positive, 2**-8),
    aten.log.default: (positive, 2**-9),
    aten.logit.default: (unit, 2**-7),
    aten.sign.default: (real, 2**-12),
    aten.clone.default: (real, 2**-12),
    aten.detach.default: (real, 2**-12),
    aten.leaky_relu.default: (wide, 2**-12),
    aten.hardtanh.default: (wide, 2**-12),
}

BINARY = (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.maximum.default, aten.minimum.default)
COMPARISONS = ("lt", "gt", "le", "ge", "eq", "ne")

ELEMENTWISE = [
    *(row(op, how(*s), tolerance=t, grad=op is not aten.logit.default)
      for op, (how, t) in UNARY.items() for s in SHAPES),
    *(row(op, across(4, 3), tolerance=t) for op, (how, t) in UNARY.items() if how in (real, wide)),
    *(row(op, real(*s), real(*s)) for op in BINARY for s in SHAPES),
    *(row(op, *pair) for op in BINARY for pair in [
        (real(3, 1), real(4)), (real(2, 3, 4), real(3, 1)), (real(), real(3)), (real(4), real()), (real(0, 3), real(3)),
        (across(3, 4), real(3, 4)), (across(2, 3, 4), across(2, 3, 4)),
    ]),
    *(row(getattr(aten, k).Tensor, real(*s), real(*s)) for k in COMPARISONS for s in SHAPES),
    *(row(getattr(aten, k).Tensor, *pair) for k in COMPARISONS for pair in [
        (real(3, 1), real(4)), (whole(3, 4), whole(3, 4)), (whole(30), real(30)), (bits(8), bits(8)),
        (real(4), whole(1)),
    ]),
    *(row(getattr(aten, k).Scalar, x(8), v) for k in COMPARISONS for x in (real, whole)
      for v in (0, 0.5, -0.25, 1, 1e30, -float("inf"), float("nan"))),
]  # fmt: skip

ARITHMETIC = [
    row(aten.add.Tensor, real(*A), 1.5),
    row(aten.add.Tensor, real(*A), real(*A), alpha=-0.5),
    row(aten.add.Tensor, whole(*A), 2, alpha=3),
    row(aten.add.Tensor, whole(*A), 0.5),
    row(aten.add.Tensor, whole(*A), real(4)),
    row(aten.add.Tensor, whole(*A), bits(*A)),
    row(aten.add.Tensor, bits(*A), bits(*A)),
    row(aten.add.Scalar, real(*A), 1.5),
    row(aten.sub.Scalar, real(*A), 1.5),
    row(aten.sub.Tensor, whole(*A), whole(*A), alpha=2),
    row(aten.rsub.Scalar, real(*A), 2),
    row(aten.rsub.Tensor, real(*A), real(4)),
    row(aten.mul.Tensor, real(*A), 0.3, tolerance=2**-11),
    row(aten.mul.Tensor, real(*A), 1),
    row(aten.mul.Tensor, real(), torch.ones(3)),
    row(aten.mul.Tensor, real(*A), -0.125),
    row(aten.mul.Tensor, real(*A), 1e-7),
    row(aten.mul.Tensor, wide(*A), 30000.0, tolerance=2**-1),
    row(aten.mul.Tensor, whole(*A), whole(*A)),
    row(aten.mul.Tensor, whole(*A), real(4)),
    row(aten.mul.Tensor, bits(*A), real(*A)),
    row(aten.mul.Tensor, real(4), bits(3, 4)),
    row(aten.mul.Tensor, bits(*A), whole(*A)),
    row(aten.mul.Tensor, bits(*A), bits(*A)),
    row(aten.mul.Scalar, real(*A), -2.5),
    row(aten.div.Tensor, real(*A), 3.0),
    row(aten.div.Tensor, real(*A), positive(*A), tolerance=2**-7),
    row(aten.div.Tensor, real(3, 1), positive(4), tolerance=2**-7),
    row(aten.div.Tensor, 2.0, positive(4), tolerance=2**-7),
    row(aten.div.Tensor, whole(6), natural(6), tolerance=2**-10),
    row(aten.div.Tensor, whole(6), 4),
    row(aten.div.Scalar, real(*A), 8),
    row(aten.reciprocal.default, natural(6), tolerance=2**-10),
    row(aten.square.default, whole(*A)),
    *(row(aten.pow.Tensor_Scalar, positive(*A), n, tolerance=t) for n, t in
      ((0, 0), (1, 2**-12), (2, 2**-10), (3, 2**-7), (5, 1.0), (-1, 2**-6), (-2, 2**-4), (0.5, 2**-9), (-0.5, 2**-7))),
    row(aten.pow.Tensor_Scalar, whole(6), 3),
    row(aten.addcmul.default, real(*A), real(*A), real(4), value=0.5),
    row(aten.addcdiv.default, real(*A), real(*A), positive(*A), value=-0.1, tolerance=2**-8),
    row(aten.lerp.Scalar, real(*A), real(*A), 0.3, tolerance=2**-11),
]  # fmt: skip

MATRIX = [
    row(aten.mm.default, real(3, 4), real(4, 2), tolerance=2**-11),
    row(aten.mm.default, across(3, 4), across(4, 2), tolerance=2**-11),
    row(aten.mm.default, real(0, 4), real(4, 2)),
    row(aten.mm.default, real(3, 0), real(0, 2)),
    row(aten.mm.default, whole(3, 4), whole(4, 2)),
    row(aten.bmm.default, real(2, 3, 4), real(2, 4, 5), tolerance=2**-11),
    row(aten.mv.default, real(3, 4), real(4), tolerance=2**-11),
    row(aten.dot.default, real(4), real(4), tolerance=2**-11),
    row(aten.vdot.default, real(4), real(4), tolerance=2**-11),
    row(aten.matmul.default, real(2, 3, 4), real(4, 5), tolerance=2**-11),
    row(aten.matmul.default, real(4), real(4, 5), tolerance=2**-11),
    row(aten.addmm.default, real(2), real(3, 4), real(4, 2), tolerance=2**-11),
    row(aten.addmm.default, real(3, 2), real(3, 4), real(4, 2), beta=0.5, alpha=2, tolerance=2**-10),
    row(aten.addmm.default, real(3, 2), real(3, 4), real(4, 2), beta=0, tolerance=2**-11),
    row(aten.baddbmm.default, real(2, 3, 5), real(2, 3, 4), real(2, 4, 5), tolerance=2**-11),
    row(aten.addmv.default, real(3), real(3, 4), real(4), tolerance=2**-11),
    row(aten.ger.default, real(3), real(4), tolerance=2**-11),
    row(aten.outer.default, real(3), real(4), tolerance=2**-11),
]

VIEWS = [
    row(aten.view.default, real(*A), (4, 3)),
    row(aten.view.default, real(0, 3), (3, 0)),
    row(aten._unsafe_view.default, real(*A), (12,)),
    row(aten.t.default, real(*A)),
    row(aten.transpose.int, real(2, 3, 4), 0, -1),
    row(aten.permute.default, real(2, 3, 4), (2, 0, 1)),
    row(aten.unsqueeze.default, real(*A), 1),
    row(aten.squeeze.default, real(1, 4, 1)),
    row(aten.squeeze.dim, real(1, 4, 1), 0),
    row(aten.squeeze.dims, real(1, 4, 1), (0, 2)),
    row(aten.expand.default, real(1, 4), (3, 4)),
    row(aten.select.int, real(*A), 0, -1),
    row(aten.slice.Tensor, real(*A), 1, 1, 4, 2),
    row(aten.slice.Tensor, real(*A), 0, 2, 2),
    row(aten.diagonal.default, real(*A), 1),
    row(aten.unfold.default, real(5), 0, 3, 1),
    row(aten.as_strided.default, real(*A), (2, 2), (4, 1), 3),
    row(aten.alias.default, real(*A)),
    row(aten.unbind.int, real(*A), 1),
    row(aten.split.Tensor, real(5, 2), 2),
    row(aten.split_with_sizes.default, real(5, 2), [1, 4]),
]

STRUCTURE = [
    *VIEWS,
    row(aten.repeat.default, real(*A), (2, 1, 2)),
    row(aten.flip.default, real(*A), (0, 1)),
    row(aten.roll.default, real(*A), [1], [0]),
    row(aten.tril.default, real(*A), -1),
    row(aten.triu.default, real(*A), 1),
    row(aten.constant_pad_nd.default, real(*A), (1, 2, 0, 1), 0.0),
    row(aten.diag_embed.default, real(3)),
    row(aten.index_select.default, real(*A), 1, torch.tensor([3, 0, 3])),
    row(aten.index.Tensor, real(*A), [torch.tensor([0, 2, 0])]),
    row(aten.index.Tensor, real(*A), [None, torch.tensor([3, -1])]),
    row(aten.index.Tensor, real(*A), [torch.tensor([True, False, True])]),
    row(aten.index.Tensor, real(*A), [torch.eye(3, 4) > 0]),
    row(aten.index.Tensor, real(*A), [torch.tensor([0, 1]), torch.tensor([3, 3])]),
    row(aten.index_put.default, real(*A), [torch.tensor([2, 0])], real(2, 4)),
    row(aten.index_put.default, real(*A), [torch.tensor([2, 2])], real(4), True),
    row(aten.index_put.default, real(*A), [torch.eye(3, 4) > 0], real()),
    row(aten.index_put.default, whole(*A), [torch.tensor([1])], whole(4)),
    row(aten.index_put.default, bits(*A), [torch.tensor([1])], bits(4)),
    row(aten.index_put.default, real(*A), [bits(3, 4)], real(), grad=False),
    row(aten.index_add.default, real(*A), 0, torch.tensor([2, 2]), real(2, 4), alpha=0.5),
    row(aten.scatter.src, real(*A), 1, torch.tensor([[1], [0], [3]]), real(3, 1)),
    row(aten.scatter_add.default, real(*A), 0, torch.tensor([[1, 0, 1, 2]]), real(1, 4)),
    row(aten.scatter.value, real(*A), 1, torch.tensor([[1], [0], [3]]), 0.5),
    row(aten.scatter.value, real(*A), 1, place(4, 3, 1), 0.5, public=(0,)),
    row(aten.gather.default, real(*A), 1, torch.tensor([[1, 1], [0, 2], [3, 3]])),
    row(aten.gather.default, real(*A), 1, place(4, 3, 1)),
    row(aten.gather.default, real(1, 3), 0, place(1, 1, 3)),
    row(aten.scatter.src, real(*A), 1, place(4, 3, 1), real(3, 1), public=(0, 3)),
    row(aten.scatter_add.default, real(*A), 0, place(3, 1, 4), real(1, 4), public=(0, 3)),
    row(aten.cat.default, (real(3, 4), real(2, 4)), 0),
    row(aten.cat.default, (whole(3, 4), real(3, 1)), -1),
    row(aten.cat.default, (bits(3), bits(0)), 0),
    row(aten.stack.default, (real(3), real(3), real(3)), 1),
    row(aten._to_copy.default, real(*A), dtype=torch.float64),
    row(aten._to_copy.default, whole(*A), dtype=torch.float32, grad=False),
    row(aten._to_copy.default, bits(*A), dtype=torch.float32, grad=False),
    row(aten._to_copy.default, bits(*A), dtype=torch.int64),
    row(aten.select_backward.default, real(4), (3, 4), 0, 2, grad=False),
    row(aten.slice_backward.default, real(3, 2), (3, 4), 1, 0, 4, 2, grad=False),
    row(aten.diagonal_backward.default, real(3), (3, 4), 0, 0, 1, grad=False),
    row(aten.unfold_backward.default, real(3, 3), (5,), 0, 3, 1, grad=False),
]

REDUCTIONS = [
    row(aten.sum.default, real(*A)),
    row(aten.sum.default, real()),
    row(aten.sum.default, real(0, 3)),
    row(aten.sum.default, bits(9)),
    row(aten.sum.default, whole(9)),
    row(aten.sum.dim_IntList, real(2, 3, 4), (0, -1), True),
    row(aten.sum.dim_IntList, bits(3, 4), (1,)),
    row(aten.mean.default, real(*A)),
    row(aten.mean.dim, real(2, 3, 4), (1,)),
    row(aten.cumsum.default, real(*A), 1),
    row(aten.linalg_vector_norm.default, real(*A), tolerance=2**-9),
    row(aten.linalg_vector_norm.default, real(*A), 1, (1,)),
    row(aten.linalg_vector_norm.default, real(*A), float("inf"), grad=False),
    *(row(op, real(7)) for op in (aten.max.default, aten.min.default)),
    *(row(op, real(2, 5, 3), 1) for op in (aten.max.dim, aten.min.dim)),
    *(row(op, real(4, 1), -1, True) for op in (aten.max.dim, aten.min.dim)),
    *(row(op, whole(1, 6), 0) for op in (aten.max.dim, aten.min.dim)),
    *(row(op, real(2, 5, 3), dims) for op in (aten.amax.default, aten.amin.default) for dims in ((1,), (0, 2), ())),
    *(row(op, real(3, 6), dim) for op in (aten.argmax.default, aten.argmin.default) for dim in (0, 1, None)),
    *(row(op, bits(3, 4)) for op in (aten.all.default, aten.any.default)),
    *(row(op, bits(3, n), 1) for op in (aten.all.dim, aten.any.dim) for n in (1, 2, 5)),
    *(row(op, x, grad=False) for op in (aten.all.default, aten.any.default) for x in (place(3, 3), real(2, 2))),
    *(row(op, x, 1) for op in (aten.all.dim, aten.any.dim) for x in (place(2, 4, 2), bits(3, 0))),
]

LOGIC = [
    *(row(op, bits(*A), bits(*A)) for op in (
        aten.logical_and.default, aten.logical_or.default, aten.logical_xor.default,
        aten.bitwise_and.Tensor, aten.bitwise_or.Tensor, aten.bitwise_xor.Tensor)),
    *(row(op, place(2, *A), y, grad=False)
      for op in (aten.logical_and.default, aten.logical_or.default, aten.logical_xor.default)
      for y in (place(3, 4), bits(*A), real(*A))),
    *(row(aten.logical_not.default, x, grad=False) for x in (place(2, *A), real(*A))),
    row(aten.logical_xor.default, bits(3, 1), bits(4)),
    row(aten.bitwise_and.Tensor, bits(3, 1), bits(4)),
    row(aten.logical_not.default, bits(*A)),
    row(aten.bitwise_not.default, bits(*A)),
    row(aten.isnan.default, real(*A)),
    row(aten.isinf.default, real(*A)),
    row(aten.sgn.default, real(*A), grad=False),
    row(aten.where.self, bits(*A), real(*A), real(*A)),
    row(aten.where.self, bits(3, 1), real(4), real()),
    row(aten.where.self, bits(*A), whole(*A), whole(4)),
    row(aten.where.self, bits(*A), bits(*A), bits(*A)),
    row(aten.where.ScalarOther, bits(*A), real(*A), 0.5),
    row(aten.where.ScalarSelf, bits(*A), 0.5, real(*A)),
    row(aten.where.Scalar, bits(*A), 0.5, -1.0),
    row(aten.masked_fill.Scalar, real(*A), bits(*A), 2.0),
    row(aten.masked_fill.Tensor, real(*A), bits(4), real()),
]  # fmt: skip

ACTIVATION = [
    row(aten.clamp.default, real(*A), -0.5, 0.25),
    row(aten.clamp.default, real(*A), None, 0.25),
    row(aten.clamp.default, whole(*A), -2, 3),
    row(aten.clamp.default, whole(*A), 0.5, 3),
    row(aten.clamp_min.default, real(*A), 0.1),
    row(aten.clamp_max.default, real(*A), 0.1),
    row(aten.hardtanh.default, wide(*A), 0.0, 6.0),
    row(aten.hardtanh_backward.default, real(*A), wide(*A), -1.0, 1.0, grad=False),
    row(aten.relu.default, whole(*A)),
    row(aten.threshold_backward.default, real(*A), real(*A), 0, grad=False),
    row(aten.threshold_backward.default, real(*A), real(*A), 0.25, grad=False),
    row(aten.leaky_relu.default, wide(*A), 0.2),
    row(aten.leaky_relu_backward.default, real(*A), real(*A), 0.2, False, grad=False),
    row(aten.sigmoid.default, whole(*A), tolerance=2**-12),
    row(aten.sigmoid_backward.default, real(*A), unit(*A), grad=False),
    row(aten.tanh_backward.default, real(*A), unit(*A), grad=False),
    row(aten.softplus.default, wide(*A), 2, tolerance=2**-11),
    row(aten.softplus_backward.default, real(*A), wide(*A), 1, 20, grad=False, tolerance=2**-11),
    row(aten.softplus_backward.default, real(*A), wide(*A), 2, 20, grad=False, tolerance=2**-11),
    row(aten.logit.default, unit(*A), 0.2, tolerance=2**-7, grad=False),
]

SMOOTH = [
    row(aten.exp.default, real(*A), tolerance=2**-9),
    row(aten.exp2.default, real(*A), tolerance=2**-9),
    row(aten.expm1.default, real(*A), tolerance=2**-9),
    row(aten.log1p.default, positive(*A), tolerance=2**-10),
    row(aten.log2.default, positive(*A), tolerance=2**-9),
    row(aten.log10.default, positive(*A), tolerance=2**-9),
    row(aten.sin.default, wide(*A), tolerance=2**-10),
    row(aten.cos.default, wide(*A), tolerance=2**-10),
    row(aten.erf.default, wide(*A), tolerance=2**-9),
    row(aten.erfc.default, wide(*A), tolerance=2**-9),
    row(aten.silu.default, wide(*A), tolerance=2**-9),
    row(aten.silu_backward.default, real(*A), wide(*A), tolerance=2**-9, grad=False),
    *(row(aten.gelu.default, real(*A), approximate=how, tolerance=2**-8) for how in ("none", "tanh")),
    *(row(aten.gelu_backward.default, real(*A), real(*A), approximate=how, tolerance=2**-8, grad=False)
      for how in ("none", "tanh")),
    row(aten.elu.default, real(*A), tolerance=2**-9),
    row(aten.pow.Scalar, 1.5, real(*A), tolerance=2**-9),
    row(aten._softmax.default, real(*A), 1, False, tolerance=2**-9),
    row(aten._softmax_backward_data.default, real(*A), unit(*A), 1, torch.float32, tolerance=2**-9, grad=False),
    row(aten._log_softmax.default, real(*A), 0, False, tolerance=2**-9),
    row(aten.logsumexp.default, real(*A), [0], tolerance=2**-9),
]  # fmt: skip

CREATION = [
    *(row(getattr(aten, f"{name}_like").default, X) for name in ("zeros", "ones")),
    row(aten.zeros_like.default, bits(3)),
    row(aten.ones_like.default, X, dtype=torch.int64),
    row(aten.full_like.default, X, 2.5),
    *(row(getattr(aten, f"new_{name}").default, X, (2, 5)) for name in ("zeros", "ones")),
    row(aten.new_full.default, X, (2, 5), -1.5),
]

LOSSES = [
    *(row(aten.mse_loss.default, real(*A), real(*A), r, tolerance=2**-10) for r in (0, 1, 2)),
    *(row(aten.mse_loss_backward.default, real(), real(*A), real(*A), r, grad=False) for r in (1, 2)),
    *(row(aten.binary_cross_entropy_with_logits.default, wide(*A), unit(*A), w, p, r, tolerance=2**-7, constants=(2, 3))
      for r in (0, 1, 2)
      for w, p in ((None, None), (positive(4), None), (None, positive(4)), (positive(*A), positive(4)))),
    *(row(aten.binary_cross_entropy.default, unit(*A), unit(*A), w, r, tolerance=2**-4, constants=(2,))
      for r in (0, 1, 2) for w in (None, positive(4))),
    row(aten.binary_cross_entropy_backward.default, real(), unit(*A), unit(*A), None, 1, grad=False, tolerance=2**-6),
]  # fmt: skip

IN_PLACE = [
    *(row(getattr(aten, f"{name}_").Tensor, X, real(4)) for name in ("add", "sub", "mul")),
    *(row(getattr(aten, f"{name}_").Scalar, X, 1.5) for name in ("add", "sub", "mul", "div")),
    row(aten.div_.Tensor, X, positive(4), tolerance=2**-7),
    row(aten.add_.Tensor, whole(*A), whole(4), alpha=2),
    *(row(getattr(aten, f"{k}_").Scalar, X, 0.25, grad=False) for k in COMPARISONS),
    *(row(getattr(aten, f"{k}_").Tensor, X, real(4), grad=False) for k in COMPARISONS),
    *(row(getattr(aten, f"{name}_").default, bits(*A), bits(*A))
      for name in ("logical_and", "logical_or", "logical_xor")),
    row(aten.logical_or_.default, X, place(2, *A), grad=False),
    *(row(getattr(aten, f"{name}_").Tensor, bits(*A), bits(*A))
      for name in ("bitwise_and", "bitwise_or", "bitwise_xor")),
    *(row(getattr(aten, f"{name}_").default, bits(*A)) for name in ("logical_not", "bitwise_not")),
    *(row(getattr(aten, f"{name}_").default, X) for name in ("abs", "neg", "relu", "square", "sign", "zero")),
    *(row(getattr(aten, f"{name}_").default, X, tolerance=2**-10) for name in ("sigmoid", "tanh")),
    row(aten.sgn_.default, X, grad=False),
    row(aten.tril_.default, X),
    row(aten.triu_.default, X),
    row(aten.leaky_relu_.default, X, 0.2),
    row(aten.logit_.default, unit(*A), tolerance=2**-7, grad=False),
    *(row(getattr(aten, f"{name}_").default, positive(*A), tolerance=2**-7)
      for name in ("sqrt", "rsqrt", "log", "reciprocal")),
    row(aten.pow_.Scalar, positive(*A), 2, tolerance=2**-8),
    row(aten.clamp_.default, X, -0.5, 0.5),
    row(aten.clamp_min_.default, X, 0.1),
    row(aten.clamp_max_.default, X, 0.1),
    row(aten.hardtanh_.default, X),
    row(aten.addcmul_.default, X, real(*A), real(4), value=0.5),
    row(aten.addcdiv_.default, X, real(*A), positive(4), value=0.5, tolerance=2**-8),
    row(aten.lerp_.Scalar, X, real(*A), 0.3, tolerance=2**-11),
    row(aten.addmm_.default, real(3, 2), real(3, 4), real(4, 2), tolerance=2**-11),
    row(aten.addmv_.default, real(3), real(3, 4), real(4), tolerance=2**-11),
    row(aten.baddbmm_.default, real(2, 3, 5), real(2, 3, 4), real(2, 4, 5), tolerance=2**-11),
    row(aten.cumsum_.default, X, 1),
    row(aten.copy_.default, X, real(4)),
    row(aten.copy_.default, X, whole(*A)),
    row(aten.copy_.default, whole(*A), whole(4)),
    row(aten.copy_.default, bits(*A), bits(4)),
    row(aten.fill_.Scalar, X, 2.5),
    row(aten.fill_.Tensor, X, real()),
    row(aten.masked_fill_.Scalar, X, bits(*A), 2.0),
    row(aten.masked_fill_.Tensor, X, bits(4), real()),
    row(aten.index_put_.default, X, [torch.tensor([2, 0])], real(2, 4)),
    row(aten.index_add_.default, X, 0, torch.tensor([2, 0]), real(2, 4)),
    row(aten.scatter_.value, X, 1, torch.tensor([[1], [0], [3]]), 0.5),
    row(aten.elu_.default, X, tolerance=2**-9),
    *(row(getattr(aten, f"{name}_").default, X, tolerance=2**-9)
      for name in ("exp", "exp2", "expm1", "sin", "cos", "erf", "erfc", "silu", "gelu")),
    *(row(getattr(aten, f"{name}_").default, positive(*A), tolerance=2**-7) for name in ("log1p", "log2", "log10")),
    row(aten.scatter_.src, X, 1, torch.tensor([[1], [0], [3]]), real(3, 1)),
    row(aten.scatter_add_.default, X, 0, torch.tensor([[1, 0, 1, 2]]), real(1, 4)),
    row(aten.t_.default, X),
    row(aten.transpose_.default, X, 0, 1),
    row(aten.unsqueeze_.default, X, 1),
    row(aten.squeeze_.default, real(1, 4, 1)),
    row(aten.squeeze_.dim, real(1, 4, 1), 0),
    row(aten.squeeze_.dims, real(1, 4, 1), (0, 2)),
    row(aten.as_strided_.default, X, (2, 2), (4, 1), 3, grad=False),
    row(aten.detach_.default, X, grad=False),
]  # fmt: skip

TABLE = [*ELEMENTWISE, *ARITHMETIC, *MATRIX, *STRUCTURE, *REDUCTIONS, *LOGIC, *ACTIVATION, *LOSSES, *SMOOTH, *CREATION]
