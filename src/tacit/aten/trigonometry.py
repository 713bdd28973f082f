"""Waves, hyperbolic functions, angles from their sines and tangents, and the inverses."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tacit.aten.pointwise import apply
from tacit.functions.waves import cosine, sine
from tacit.tensor import SecretTensor
from tacit.tensor.operands import as_secret
from tacit.tensor.registry import implements

aten = torch.ops.aten
Operand = Tensor
"""Public or secret."""

ULP = 2.0**-16
"""Beside a number of 0 this gives (0, 0) the direction of the axis, which PyTorch's atan2 gives it."""


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """The angle of the direction (a, b) in the first quadrant, a² + b² = 1, by one step from a line.

    y = (π/4) (1 + b - a) is closer than 0.036; d = b cos y - a sin y is the sine of what is missing, and y + d + d³/6
    leaves 3/40 d⁵, below 2^-27. Sine and cosine are exact, of one opening.
    """
    y = (b - a + 1) * (math.pi / 4)
    d = b * y.cos() - a * y.sin()
    return y + d + d * d * d / 6


@implements(aten.asin.default, aten.acos.default)
def arc_sine(func: Any, x: SecretTensor) -> Tensor:
    """The angle of (√(1 - x²), |x|), with the sign of x; acos x = π/2 - asin x.

    Domain: -1 <= x <= 1.   Error: <= 2^-14, within 2^-8 of the ends as that of the root of 1 - x².   31 rounds.
    """
    size = x.abs()
    angle = _angle((1 - x * x).clamp(min=0).sqrt(), size)
    signed = torch.where(x < 0, -angle, angle)
    return signed if func is aten.asin.default else math.pi / 2 - signed


@implements(aten.atan.default)
def arc_tangent(func: Any, x: SecretTensor) -> Tensor:
    """The angle of (1, |x|) / √(1 + x²), with the sign of x.

    Domain: x² in that of `functions.rsqrt`.   Error: <= 2^-14.   25 rounds.
    """
    size = x.abs()
    shrink = (x * x + 1).rsqrt()
    angle = _angle(shrink, size * shrink)
    return torch.where(x < 0, -angle, angle)


@implements(aten.atan2.default)
def direction(func: Any, y: Operand, x: Operand) -> Tensor:
    """The angle of (x, y), from -π to π, and 0 or π at the origin.

    Domain: x² + y² in that of `functions.rsqrt`.   Error: <= 2^-14 + 2^-15 / √(x² + y²).   27 rounds.
    """
    across, up = x.abs() + ULP, y.abs()
    shrink = (across * across + up * up).rsqrt()
    angle = _angle(across * shrink, up * shrink)
    turned = torch.where(x < 0, math.pi - angle, angle)
    return torch.where(y < 0, -turned, turned)


@implements(aten.asinh.default)
def inverse_sinh(func: Any, x: SecretTensor) -> Tensor:
    """± log(|x| + √(x² + 1)), with the sign of x.   Domain: x² in that of `functions.sqrt`.   Error: <= 2^-14."""
    size = x.abs()
    out = (size + (x * x + 1).sqrt()).log()
    return torch.where(x < 0, -out, out)


@implements(aten.acosh.default)
def inverse_cosh(func: Any, x: SecretTensor) -> Tensor:
    """log(x + √(x² - 1)).   Domain: x >= 1, and x² in that of `functions.sqrt`.   Error: <= 2^-14, at 1 2^-8."""
    return (x + (x * x - 1).clamp(min=0).sqrt()).log()


@implements(aten.atanh.default)
def inverse_tanh(func: Any, x: SecretTensor) -> Tensor:
    """(log(1 + x) - log(1 - x)) / 2, both from one set of rounds.   Domain: |x| <= 1 - 2^-14.   Error: <= 2^-14, and
    2^-17 / (1 - |x|)."""
    above, below = torch.stack([1 + x, 1 - x]).log().unbind(0)
    return (above - below) / 2


# --- signs ------------------------------------------------------------------------------------------------------------


@implements(aten.angle.default)
def angle(func: Any, x: SecretTensor) -> Tensor:
    """π of what is negative, else 0: secrets are real."""
    return (x < 0) * math.pi


@implements(aten.sin.default, aten.cos.default)
def wave(func: Any, x: SecretTensor) -> SecretTensor:
    """sin x, cos x; see `functions.waves`."""
    return apply(func, x, sine if func is aten.sin.default else cosine)


@implements(aten.sinh.default, aten.cosh.default)
def hyperbolic(func: Any, x: SecretTensor) -> Tensor:
    """(exp x ∓ exp -x) / 2, for |x| <= 11. 4 rounds."""
    up, down = torch.stack([x, -x]).exp().unbind(0)
    return (up - down if func is aten.sinh.default else up + down) / 2


@implements(aten.tan.default)
def tangent(func: Any, x: SecretTensor) -> Tensor:
    """sin x / cos x, both from one opening. 12 rounds."""
    return x.sin() / x.cos()


@implements(aten.hypot.default)
def hypotenuse(func: Any, x: Operand, y: Operand) -> Tensor:
    """√(x² + y²), a norm of two."""
    pair = torch.broadcast_tensors(as_secret(x, y), as_secret(y, x))
    out: Tensor = torch.stack(pair).norm(dim=0)
    return out
