"""Real numbers in the ring: x is held as the integer round(x 2^f), in two's complement."""

from __future__ import annotations

import math

import torch

from tacit.errors import EncodingError
from tacit.ring import kernels
from tacit.ring.ring import RING

__all__ = ["VALUE_BITS", "decode", "encode", "encode_public"]

VALUE_BITS = RING.value_bits
"""A value fits if |round(x 2^f)| < 2^62: see `Ring.value_bits`."""

PUBLIC_BITS = 16
"""Significant bits of a public factor. More: smaller rounding of public constants; fewer: larger products fit. With
16, a product with a public factor has the same range as one with a secret of 16 fractional bits."""


def encode(x: torch.Tensor, frac_bits: int, *, name: str = "tensor") -> torch.Tensor:
    """Return round(x 2^f) as ring elements, in memory of its own: whoever owns x may overwrite it.

    Domain: finite, |x| < 2^(62 - f).   Error: <= 2^(-f-1).
    Raises `EncodingError` that names the tensor and the first index out of domain. Nothing wraps silently.
    """
    if not x.dtype.is_floating_point:
        scaled = x.detach().to(RING.dtype, copy=True)
        if x.dtype is RING.dtype or frac_bits:  # smaller ones fit
            edge = 1 << (VALUE_BITS - frac_bits)
            _check((scaled < edge) & (scaled > -edge), x, frac_bits, name)
        return scaled << frac_bits if frac_bits else scaled
    encoded, fits = kernels.on(x).encode(x.detach(), float(1 << frac_bits))
    if not fits:
        _check((x.detach().to(torch.float64) * float(1 << frac_bits)).abs() < 2.0**VALUE_BITS, x, frac_bits, name)
    return encoded


def _check(fits: torch.Tensor, x: torch.Tensor, frac_bits: int, name: str) -> None:
    if bool(fits.all()):
        return
    index = tuple(int(i) for i in (~fits).nonzero()[0])
    value = x[index]
    kind = "NaN" if bool(value != value) else "infinite" if bool(value.abs() == torch.inf) else "too large"
    place = f"index {index}" if len(index) != 1 else f"index {index[0]}"
    if not x.dtype.is_floating_point and not frac_bits:
        raise EncodingError(
            f"{name} holds a number at {place} that is {kind}: secret integers are below 2^{VALUE_BITS}"
        )
    raise EncodingError(
        f"{name} holds a number at {place} that is {kind}: fixed point with {frac_bits} fractional bits holds "
        f"finite numbers below 2^{VALUE_BITS - frac_bits} in magnitude"
    )


def decode(v: torch.Tensor, frac_bits: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return v 2^-f in a floating-point dtype, or v itself in an integer dtype when f = 0."""
    if not dtype.is_floating_point and frac_bits == 0:
        return v.to(dtype)
    return kernels.on(v).decode(v, 2.0**-frac_bits, dtype)


def encode_public(x: torch.Tensor, *, name: str = "public tensor") -> tuple[torch.Tensor, int]:
    """Return a public factor as (ring elements, its own fractional bits), with as many bits as its size calls for.

    Integers keep zero fractional bits, and multiply exactly. Other tensors get `PUBLIC_BITS` significant bits for
    their largest element when that is below one (but at most 40 fractional bits), and `PUBLIC_BITS` fractional bits
    when it is not.
    """
    x = x.detach()
    if not x.dtype.is_floating_point:
        return x.to(RING.dtype), 0
    if not x.numel():
        return x.to(RING.dtype), 0
    if x.numel() == 1 and abs(value := float(x)) < 2.0**20:
        return _encode_number(value, x.shape)
    x = x.to(torch.float64)
    largest = float(x.abs().max())
    if largest < 2.0**20 and bool((x == x.round()).all()):
        return x.to(RING.dtype), 0
    frac_bits = _public_bits(largest)
    return encode(x, frac_bits, name=name), frac_bits


def _encode_number(value: float, shape: torch.Size) -> tuple[torch.Tensor, int]:
    """The same for a single number below 2^20 in magnitude: programs have many, and Python is done sooner."""
    frac_bits = 0
    if not value.is_integer():
        frac_bits = _public_bits(value)
        value = round(math.ldexp(value, frac_bits))
    return torch.tensor(int(value), dtype=RING.dtype).view(shape), frac_bits


def _public_bits(largest: float) -> int:
    """Fractional bits of public factors that are not whole, for 2^-(e + 1) <= |largest| < 2^-e."""
    return min(PUBLIC_BITS + max(0, -math.frexp(largest)[1]), 40)
