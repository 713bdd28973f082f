"""One-round activation functions, as operators of PyTorch's own kind: on secrets a protocol, on numbers plain floats.

`torch.ops.tacit.polynomial` and `torch.ops.tacit.fourier_sigmoid`, which the modules of `tacit.nn` call.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tacit.aten.pointwise import apply
from tacit.functions.powers import derivative
from tacit.functions.powers import polynomial as secret_polynomial
from tacit.functions.sigmoid import ONE_ROUND_SIGMOID, one_round_sigmoid
from tacit.tensor import SecretTensor
from tacit.tensor.registry import implements

__all__ = ["fourier_sigmoid", "polynomial"]

BEYOND = (
    "a polynomial was given an argument outside of its window, [-{0}, {0}): on secrets its result would be wrong, and "
    "nobody would notice. Clip gradients (torch.nn.utils.clip_grad_norm_), lower the learning rate, or widen the window"
)


@torch.library.custom_op("tacit::polynomial", mutates_args=())
def polynomial(x: Tensor, coefficients: Sequence[float], window: int) -> Tensor:
    """Σ_k c_k x^k; on secrets, for x in [-window, window), and plain tensors that leave it give a warning."""
    if bool(((x < -window) | (x >= window)).any()):
        warnings.warn(BEYOND.format(window), stacklevel=2)
    total = torch.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total.mul_(x).add_(c)
    return total


@torch.library.custom_op("tacit::fourier_sigmoid", mutates_args=())
def fourier_sigmoid(x: Tensor) -> Tensor:
    """The series that stands for sigmoid(x) on secrets."""
    turn = 2 * math.pi / ONE_ROUND_SIGMOID.period
    total = torch.full_like(x, ONE_ROUND_SIGMOID.constant)
    for k, p in enumerate(ONE_ROUND_SIGMOID.sine, 1):
        total.add_((x * (k * turn)).sin_(), alpha=p)
    return total


def _keep_argument(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.coefficients, ctx.window = inputs
    ctx.save_for_backward(x)


def _slope_of_polynomial(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    """grad p'(x): on secrets the powers are there already."""
    (x,) = ctx.saved_tensors
    return grad * polynomial(x, derivative(ctx.coefficients), ctx.window), None, None


def _keep_result(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(output)


def _slope_of_sigmoid(ctx: Any, grad: Tensor) -> Tensor:
    """grad y (1 - y)."""
    (y,) = ctx.saved_tensors
    return torch.ops.aten.sigmoid_backward(grad, y)  # type: ignore[no-any-return]


polynomial.register_autograd(_slope_of_polynomial, setup_context=_keep_argument)
fourier_sigmoid.register_autograd(_slope_of_sigmoid, setup_context=_keep_result)
polynomial.register_fake(lambda x, coefficients, window: torch.empty_like(x))
fourier_sigmoid.register_fake(lambda x: torch.empty_like(x))


@implements(torch.ops.tacit.polynomial.default)
def polynomial_of_secret(func: Any, x: SecretTensor, coefficients: Sequence[float], window: int) -> SecretTensor:
    """See `functions.powers`."""
    return apply(lambda v: polynomial(v, coefficients, window), x, lambda v: secret_polynomial(v, coefficients, window))


@implements(torch.ops.tacit.fourier_sigmoid.default)
def sigmoid_of_secret(func: Any, x: SecretTensor) -> SecretTensor:
    """See `functions.sigmoid`."""
    return apply(fourier_sigmoid, x, one_round_sigmoid)
