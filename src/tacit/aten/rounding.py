"""Rounding, quotients without a rest, and remainders."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tacit.errors import DataError
from tacit.functions.linear import fractional
from tacit.functions.whole import floor, floor_quotient, floor_quotient_public, nearest, toward_zero
from tacit.protocols.number import Number
from tacit.protocols.scale import SLACK_BITS
from tacit.ring.fixed_point import VALUE_BITS
from tacit.tensor import SecretTensor
from tacit.tensor.operands import (
    arithmetic,
    number,
    plain,
    protocol_of,
    public_secret,
    result_dtype,
    secret,
)
from tacit.tensor.refusals import unsupported
from tacit.tensor.registry import implements

aten = torch.ops.aten
Operand = Any


def _as_float(x: Number, dtype: torch.dtype) -> Number:
    """Whole numbers at the scale that their dtype has."""
    return x.lifted(x.protocol.frac_bits) if dtype.is_floating_point else x


# --- rounding ---------------------------------------------------------------------------------------------------------


@implements(aten.floor.default, aten.ceil.default, aten.trunc.default, aten.round.default)
def whole(func: Any, x: SecretTensor) -> SecretTensor:
    """The next integer below, above, towards zero, or the nearest, the even one of two. 5 to 9 rounds; exact."""
    known = plain(x)
    if known is not None:
        return public_secret(x._protocol, func(known))
    share = arithmetic(x)
    if not x.dtype.is_floating_point:
        return secret(share.fork(), x.dtype)
    kind = func.__name__.split(".")[0]
    rounded = {"floor": floor, "ceil": floor, "trunc": toward_zero, "round": nearest}[kind]
    out = -rounded(-share) if kind == "ceil" else rounded(share)
    return secret(_as_float(out, x.dtype), x.dtype)


@implements(aten.round.decimals)
def round_to(func: Any, x: SecretTensor, *, decimals: int) -> Tensor:
    """The nearest multiple of 10^-decimals, itself rounded to fixed point."""
    if not x.dtype.is_floating_point or decimals == 0:
        return torch.round(x)
    if decimals < 0:
        raise unsupported("x.round(decimals=…) below 0", f"write (x / {10**-decimals}).round() * {10**-decimals}")
    whole = arithmetic((x * 10**decimals).round())
    bits = whole.protocol.frac_bits
    out = whole.protocol.scale(whole.lifted(bits + SLACK_BITS), 10.0**-decimals, bits)
    if out is None:
        raise unsupported(f"x.round(decimals={decimals})", f"fixed point with {bits} fractional bits has fewer digits")
    return secret(out, x.dtype)


@implements(aten.frac.default)
def fraction(func: Any, x: SecretTensor) -> Tensor:
    """x without its whole part, with the sign of x."""
    return x - x.trunc()


# --- quotients and rests ----------------------------------------------------------------------------------------------


class _Division:
    """floor(x / y), the rest x - y floor(x / y), and the quotient towards zero with its rest."""

    def __init__(self, x: Operand, y: Operand) -> None:
        self.dtype = result_dtype(x, y)
        if self.dtype == torch.bool:
            raise DataError("bools have no quotients: write x.long() // y")
        floating = self.dtype.is_floating_point
        divisor = plain(y)
        if divisor is not None:
            divisor = torch.as_tensor(divisor)
            if bool((divisor == 0).any()):
                raise ZeroDivisionError("a secret divided by a public zero: neither integers nor fixed point hold that")
        a, b = number(x), number(y)
        protocol = protocol_of(x, y)
        a = arithmetic(public_secret(protocol, a)) if isinstance(a, Tensor) else a
        if floating:
            a = fractional(a).settle(protocol.frac_bits + SLACK_BITS)
        self._one: int | None = None
        if isinstance(b, Tensor) and b.numel() and bool((b == b.reshape(-1)[0]).all()) and b.dim() <= len(a.shape):
            step = b.reshape(-1)[0].item()
            self._one = round(step * 2**a.frac_bits) if floating else int(step)
            if not self._one or abs(self._one) >= 1 << VALUE_BITS:
                raise DataError("a divisor of a quotient without a rest is too small or too large for fixed point")
            self.floor, rest = floor_quotient_public(a, self._one)
            self.rest = rest.rescaled(a.frac_bits)
        else:
            c = arithmetic(public_secret(protocol, b)) if isinstance(b, Tensor) else b
            if floating:
                c = fractional(c).settle(protocol.frac_bits + SLACK_BITS)
            bits = max(a.frac_bits, c.frac_bits)
            a, self._divisor = torch_broadcast(a.lifted(bits), c.lifted(bits))
            self.floor, self.rest = floor_quotient(a, self._divisor)

    def towards_zero(self) -> tuple[Number, Number]:
        """A negative quotient with a rest is one more, and its rest a divisor less."""
        protocol, rest = self.floor.protocol, self.rest
        (negative,) = protocol.less(self.floor, [0])
        low, high = protocol.less(rest, [0, 1])
        step = negative & (low ^ high).invert()  # the rest is not 0
        if self._one is not None:
            part = step.arithmetic().times_integer(self._one).rescaled(rest.frac_bits)
            return self.floor + step.arithmetic(), rest - part
        (part,) = protocol.select([(step, self._divisor.rescaled(0))])
        return self.floor + step.arithmetic(), rest - part.rescaled(rest.frac_bits)


def torch_broadcast(x: Number, y: Number) -> tuple[Number, Number]:
    """Both in the shape that they have together."""
    shape = torch.broadcast_shapes(x.shape, y.shape)
    first, second = (v.move(lambda t: t.expand(shape), view=False) for v in (x, y))
    return first, second


@implements(
    aten.floor_divide.default,
    aten.floor_divide.Scalar,
    aten.div.Tensor_mode,
    aten.div.Scalar_mode,
)
def divide(func: Any, x: Operand, y: Operand, *, rounding_mode: str | None = "floor") -> Tensor:
    """x / y rounded down, or towards zero. By a public number 5 and 10 rounds; by a secret about 30 and 35. Exact."""
    if rounding_mode is None:
        out: Tensor = x / y
        return out
    if rounding_mode not in ("floor", "trunc"):
        raise RuntimeError(
            f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'"
        )
    known, other = plain(x), plain(y)
    if known is not None and other is not None:
        return public_secret(protocol_of(x, y), torch.div(known, other, rounding_mode=rounding_mode))
    found = _Division(x, y)
    q = found.floor if rounding_mode == "floor" else found.towards_zero()[0]
    return secret(_as_float(q, found.dtype).declare(rounded=None), found.dtype)


@implements(
    aten.remainder.Scalar,
    aten.remainder.Tensor,
    aten.remainder.Scalar_Tensor,
    aten.fmod.Scalar,
    aten.fmod.Tensor,
)
def rest(func: Any, x: Operand, y: Operand) -> Tensor:
    """What x / y rounded down leaves, with the sign of y (remainder); rounded towards zero, with that of x (fmod)."""
    known, other = plain(x), plain(y)
    if known is not None and other is not None:
        return public_secret(protocol_of(x, y), func(known, other))
    found = _Division(x, y)
    left = found.rest if "remainder" in func.__name__ else found.towards_zero()[1]
    return secret(left, found.dtype)
