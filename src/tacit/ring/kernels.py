"""The façade of the ring kernels: everything above this layer calls them by these names.

One backend today, the portable reference. A native one replaces names here, one by one, where it is built.
"""

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
