"""The façade of the ring kernels: everything above this layer calls them by these names.

A kernel comes from `native` (C++, if the package was built with a compiler) or from `reference` (PyTorch and NumPy).
Both compute the same bits, so one role may run native and another not. `TACIT_KERNELS` set to `native` or `reference`
asks for one; `BACKEND` says which is in use.
"""

from __future__ import annotations

import logging
import os

from tacit.errors import ConfigError
from tacit.ring.reference import (
    CHUNKS,
    logical_shift,
    lookup,
    matmul,
    node_evaluate,
    node_expand,
    node_inputs,
    pack_bits,
    thermometer,
    unpack_bits,
)

__all__ = [
    "BACKEND",
    "CHUNKS",
    "logical_shift",
    "lookup",
    "matmul",
    "node_evaluate",
    "node_expand",
    "node_inputs",
    "pack_bits",
    "thermometer",
    "unpack_bits",
]

_asked = os.environ.get("TACIT_KERNELS", "")
if _asked not in ("", "native", "reference"):
    raise ConfigError(f"TACIT_KERNELS is {_asked!r}: say native or reference, or leave it out for the best there is")

BACKEND = "reference"
"""Which kernels are in use: "native" or "reference"."""

if _asked != "reference":
    try:
        from tacit.ring.native import matmul
    except ImportError as missing:
        if _asked == "native":
            raise ConfigError(
                "TACIT_KERNELS asks for the native kernels, which this installation lacks: install Tacit again with "
                "a C++20 compiler on PATH"
            ) from missing
        logging.getLogger("tacit").info(
            "the native kernels are not installed: matrix products, convolutions and comparisons are slower"
        )
    else:
        BACKEND = "native"
