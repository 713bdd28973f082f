"""What owners give: tensors, arrays, columns of tables and nested lists, as one tensor of real numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tacit.errors import DataError, EncodingError

__all__ = ["real_tensor"]


def real_tensor(value: Any, name: str) -> Tensor:
    """Return what a user gives as a tensor, which may share its memory.

    Series and data frames (whatever has `to_numpy`), arrays in any order of bytes and rows, arrays of objects that are
    numbers, and lists of tensors of one shape are fine.

    Raises `DataError` for what holds no real numbers, and `EncodingError` for integers that have more than 64 bits.
    """
    if isinstance(value, Tensor):
        return _checked(value, name)
    to_numpy = getattr(value, "to_numpy", None)
    if callable(to_numpy):
        value = to_numpy()
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, Tensor) for v in value):
        value = _stacked(value, name)
    if isinstance(value, (np.ndarray, np.generic)):
        value = _native(value, name)
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        kind = type(value).__name__
        raise DataError(
            f"{name} must be a tensor, an array, a data frame or nested lists of numbers of one length, not a {kind}"
        ) from None
    return _checked(tensor, name)


def _stacked(rows: list[Tensor] | tuple[Tensor, ...], name: str) -> Tensor:
    if any(row.shape != rows[0].shape for row in rows):
        shapes = ", ".join(str(tuple(row.shape)) for row in rows[:4])
        raise DataError(f"{name} is a list of tensors of several shapes ({shapes}, …): share each, or pad them")
    return torch.stack(list(rows))


def _native(array: Any, name: str) -> Any:
    """An array that PyTorch takes: of numbers, in this machine's order of bytes, with strides forward, writable."""
    array = np.asarray(array)
    if array.dtype == object:
        array = _of_objects(array, name)
    if array.dtype.kind not in "biufc":
        raise DataError(
            f"{name} holds {array.dtype}, not numbers: encode categories and times as numbers first, as "
            f"pandas.get_dummies does"
        )
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        raise DataError(f"{name} holds {array.dtype}, which no tensor does: make it float64")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array if array.flags.writeable and array.flags.c_contiguous else array.copy(order="C")


def _of_objects(array: Any, name: str) -> Any:
    """Python's numbers in an array of objects, as what they are."""
    numbers = (bool, int, float, np.bool_, np.number)
    for place, x in np.ndenumerate(array):
        if not isinstance(x, numbers):
            at = place[0] if len(place) == 1 else place
            raise DataError(f"{name} holds a {type(x).__name__} at index {at}, where a number is expected")
    try:
        return np.array(array.tolist()).reshape(array.shape)
    except OverflowError:
        return array.astype(np.float64)


def _checked(tensor: Tensor, name: str) -> Tensor:
    if tensor.is_complex():
        raise DataError(f"{name} must hold real numbers, not {tensor.dtype}: take the real and the imaginary part")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        kind = "quantized" if tensor.is_quantized else "on the meta device" if tensor.is_meta else "sparse"
        raise DataError(f"{name} must be dense and have values, but it is {kind}: write x.dequantize() or x.to_dense()")
    if tensor.dtype == torch.uint64 and bool((tensor.view(torch.int64) < 0).any()):
        raise EncodingError(f"{name} holds an unsigned integer of 2^63 or more, which a signed one of 64 bits is not")
    return tensor
