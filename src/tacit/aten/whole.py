"""Rounding, quotients without a rest, remainders, and the bits of integers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tacit.aten.arithmetic import finish, wrapped
from tacit.errors import DataError
from tacit.functions.linear import fractional
from tacit.functions.whole import bits_of, floor, floor_quotient, floor_quotient_public, nearest, toward_zero
from tacit.protocols.number import SLACK_BITS, Number
from tacit.ring.fixed_point import VALUE_BITS
from tacit.tensor import SecretTensor
from tacit.tensor.operands import (
    arithmetic,
    as_secret,
    number,
    plain,
    protocol_of,
    public_secret,
    result_dtype,
    scalar,
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
    return secret(_as_float(q, found.dtype), found.dtype)


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


# --- bits of integers -------------------------------------------------------------------------------------------------


def both_set(x: Operand, y: Operand) -> tuple[Number | Tensor, torch.dtype]:
    """x & y of integers: Σ 2^k x_k y_k, less 2^62 for the sign.

    By public ones only the bits that are set there are found. 5 rounds, 6 for two secrets; about 60 bytes a bit.
    """
    dtype = result_dtype(x, y)
    if dtype.is_floating_point:
        raise unsupported("bits of numbers that are no integers", "write x.long() first")
    a, b = number(x), number(y)
    if isinstance(a, Tensor):
        a, b = b, a
    if isinstance(a, Tensor):
        assert isinstance(b, Tensor)
        return a.long() & b.long(), dtype
    if isinstance(b, Tensor):
        values = b.to(torch.int64)
        places = [k for k in range(VALUE_BITS) if bool(((values >> k) & 1).any())]
        places += [VALUE_BITS] if bool((values < 0).any()) else []
        if not places:
            return torch.zeros(torch.broadcast_shapes(a.shape, b.shape), dtype=torch.int64), dtype
        found = bits_of(a, places)
        terms = [
            found.move(lambda t, n=n: t[n], view=False).linear(  # type: ignore[misc]
                lambda t, k=k: t * (((values >> min(k, 63)) & 1) * _weight(k)).to(t.device)  # type: ignore[misc]
            )
            for n, k in enumerate(places)
        ]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total, dtype
    a, b = torch_broadcast(a, b)
    every = range(VALUE_BITS + 1)
    left, right = bits_of(a, every), bits_of(b, every)
    weights = torch.tensor([_weight(k) for k in every]).view(-1, *[1] * len(a.shape))
    return left.protocol.multiply(left, right).linear(lambda t: (t * weights.to(t.device)).sum(0)), dtype


def _weight(place: int) -> int:
    return -(1 << VALUE_BITS) if place == VALUE_BITS else 1 << place


def bitwise(kind: str, x: Operand, y: Operand) -> SecretTensor:
    """x & y, x | y = x + y - (x & y), x ^ y = x + y - 2 (x & y), of integers."""
    x, y = (v if isinstance(v, Tensor) else scalar(v) for v in (x, y))
    common, dtype = both_set(x, y)
    if kind == "and":
        return finish(common, dtype, x, y)
    both = finish(common, torch.int64, x, y)
    total = as_secret(x, y).long() + y.long()
    out = total - both * (1 if kind == "or" else 2)
    return finish(number(out), dtype, x, y)


@implements(
    aten.bitwise_left_shift.Tensor,
    aten.bitwise_left_shift.Tensor_Scalar,
    aten.bitwise_right_shift.Tensor,
    aten.bitwise_right_shift.Tensor_Scalar,
    aten.__lshift__.Scalar,
    aten.__lshift__.Tensor,
    aten.__rshift__.Scalar,
    aten.__rshift__.Tensor,
)
def shift(func: Any, x: Operand, places: Operand) -> Tensor:
    """x 2^k, which is local and must stay below 2^62, or floor(x / 2^k), in 5 rounds, for one public k of 0 to 62."""
    known = plain(places)
    if known is None:
        raise unsupported("a shift by secret places", "multiply by powers of two that the places choose")
    k = torch.as_tensor(known)
    if k.numel() != 1 or not isinstance(x, SecretTensor) or x.dtype.is_floating_point or x.dtype == torch.bool:
        raise unsupported("a shift by several places, or of what are no integers", "shift integers by one number")
    count = int(k)
    if not 0 <= count <= VALUE_BITS:
        raise DataError(f"a shift of secret integers is by 0 to {VALUE_BITS} places, not {count}")
    value = plain(x)
    if value is not None:
        return public_secret(x._protocol, func(value, count))
    if "left" in func.__name__ or "lshift" in func.__name__:
        return wrapped(arithmetic(x).times_integer(1 << count), x.dtype, x)
    return secret(floor(arithmetic(x), count), x.dtype)
