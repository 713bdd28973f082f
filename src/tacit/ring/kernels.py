"""The façade of the ring kernels: everything above this layer calls them by these names.

A kernel comes from `native` (C++, if the package was built with a compiler) or from `reference` (PyTorch and NumPy).
Both compute the same bits, so one role may run native and another not. `TACIT_KERNELS` set to `native` or `reference`
asks for one; `BACKEND` says which is in use.
"""

from __future__ import annotations

import logging
import os

from tacit.errors import ConfigError
from tacit.ring.reference import CHUNKS, Places, logical_shift, node_inputs, scaled_public, wrap_factor, wrap_words

__all__ = [
    "BACKEND",
    "CHUNKS",
    "Places",
    "contract",
    "decode",
    "describe",
    "encode",
    "key_stream",
    "logical_shift",
    "lookup",
    "matmul",
    "multiply_add",
    "narrow",
    "node_evaluate",
    "node_expand",
    "node_inputs",
    "pack_bits",
    "scaled_parts",
    "scaled_public",
    "scaled_share",
    "selected",
    "space",
    "subtract_words",
    "thermometer",
    "unpack_bits",
    "wave_sum",
    "wave_table",
    "widen",
    "wrap_factor",
    "wrap_words",
]


def _backend() -> str:
    asked = os.environ.get("TACIT_KERNELS", "")
    if asked not in ("", "native", "reference"):
        raise ConfigError(f"TACIT_KERNELS is {asked!r}: say native or reference, or leave it out for the best there is")
    if asked == "reference":
        return asked
    try:
        import tacit.ring.native  # noqa: F401
    except ImportError as missing:
        if asked == "native":
            raise ConfigError(
                "TACIT_KERNELS asks for the native kernels, which this installation lacks: install Tacit again with "
                "a C++20 compiler on PATH"
            ) from missing
        logging.getLogger("tacit").info(
            "the native kernels are not installed: matrix products, key streams and comparisons are slower"
        )
        return "reference"
    return "native"


BACKEND = _backend()
"""Which kernels are in use: "native" or "reference"."""


def describe() -> str:
    """Say which kernels are in use, and with which instructions of this processor."""
    if BACKEND == "reference":
        return "reference"
    from tacit.ring import native

    return f"native ({native.isa()}{', AES instructions' if native.has_aes() else ''})"


if BACKEND == "native":
    from tacit.ring.native import (
        contract,
        decode,
        encode,
        key_stream,
        lookup,
        matmul,
        multiply_add,
        narrow,
        node_evaluate,
        node_expand,
        pack_bits,
        scaled_parts,
        scaled_share,
        selected,
        space,
        subtract_words,
        thermometer,
        unpack_bits,
        wave_sum,
        wave_table,
        widen,
    )
else:
    from tacit.ring.reference import (
        contract,
        decode,
        encode,
        key_stream,
        lookup,
        matmul,
        multiply_add,
        narrow,
        node_evaluate,
        node_expand,
        pack_bits,
        scaled_parts,
        scaled_share,
        selected,
        space,
        subtract_words,
        thermometer,
        unpack_bits,
        wave_sum,
        wave_table,
        widen,
    )
