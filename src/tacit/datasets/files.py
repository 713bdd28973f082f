"""Files of a provider, as tensors to submit. Nothing in them is executed."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tacit.data.table import read_table
from tacit.errors import DataError

__all__ = ["read_tensors"]

Tensors = dict[str, Tensor]


def read_tensors(path: str | Path, label: str | None = None) -> Tensors:
    """Read `.npz`, `.safetensors` (tensors by name), `.npy` (one, "x") or `.csv` (rows of columns, "x").

    `label` is a column of a CSV file, which becomes a tensor "y" of shape [rows] of its own.
    Raises `DataError` for anything else and for a damaged file.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: what can be submitted are files of {', '.join(READERS)}")
    if label is not None and path.suffix.lower() != ".csv":
        raise DataError(f"{path}: only a CSV file has a label column; here, name the tensors in the file")
    try:
        return _read_csv(path, label) if label is not None else reader(path)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except DataError:
        raise
    except UNREADABLE as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _read_npz(path: Path) -> Tensors:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):  # NumPy hands over other members as bytes
        raise DataError(f"{path}: not all that it holds are arrays")
    return {name: _tensor(array) for name, array in arrays.items()}


def _read_npy(path: Path) -> Tensors:
    return {"x": _tensor(np.load(path, allow_pickle=False))}


def _read_csv(path: Path, label: str | None = None) -> Tensors:
    table = read_table(path)
    if label is None:
        return {"x": table.values}
    features, column = table.split(label)
    return {"x": features.values, "y": column.values[:, 0]}


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape))


UNREADABLE = (
    OSError, ValueError, TypeError, KeyError, EOFError, MemoryError, OverflowError, NotImplementedError, RuntimeError,
    SyntaxError, TokenError, BadZipFile, zlib.error, SafetensorError,
)  # fmt: skip
"""What NumPy, `zipfile` and safetensors raise at files that are damaged, or made by somebody hostile."""

READERS: dict[str, Callable[[Path], Tensors]] = {
    ".npz": _read_npz,
    ".safetensors": load_file,
    ".npy": _read_npy,
    ".csv": _read_csv,
}
