"""Convolutions and transposed convolutions: each secret is opened once, for the output and for both gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tacit.aten.arithmetic import combine, finish
from tacit.aten.matrix import product
from tacit.ring.convolution import Convolve, InputGradient, WeightGradient
from tacit.ring.geometry import Geometry
from tacit.tensor import SecretTensor
from tacit.tensor.operands import result_dtype
from tacit.tensor.registry import implements

aten = torch.ops.aten
Operand = Any


@implements(aten.convolution.default)
def convolution(
    func: Any,
    x: Operand,
    w: Operand,
    bias: Operand,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> SecretTensor:
    """The convolution of x with w, plus the bias, before any truncation. One round, in which x and w are opened."""
    g = Geometry.of(w.shape[2:], stride, padding, dilation, groups)
    op = InputGradient(g, g.inputs(x.shape[2:], output_padding)) if transposed else Convolve(g)
    dtype = result_dtype(x, w)
    result = finish(product(x, w, op), dtype, x, w, bias)
    if bias is None:
        return result
    return finish(combine(result, bias.reshape(-1, *[1] * (x.dim() - 2))), dtype, result)


@implements(aten.convolution_backward.default)
def convolution_backward(
    func: Any,
    grad: Operand,
    x: Operand,
    w: Operand,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Both gradients of the product, and the sum over all places for the bias. One round, in which grad is opened."""
    g = Geometry.of(w.shape[2:], stride, padding, dilation, groups)
    size = tuple(x.shape[2:])
    to_input = Convolve(g, size) if transposed else InputGradient(g, size)
    to_weight = WeightGradient(g, swapped=transposed)

    def gradient(other: Operand, op: Any) -> Tensor:
        result = product(grad, other, op)
        dtype = result_dtype(grad, other)
        return result.to(dtype) if isinstance(result, Tensor) else finish(result, dtype, grad, other)

    needs_input, needs_weight, needs_bias = output_mask
    return (
        gradient(w, to_input) if needs_input else None,
        gradient(x, to_weight) if needs_weight else None,
        grad.sum([0, *range(2, grad.dim())]) if needs_bias else None,
    )
