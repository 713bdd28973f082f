"""The façade of the inner loops of oblivious transfers: `at_hand()` has the best ones that this process has.

As in `tacit.ring.kernels`: `Reference` is in NumPy and the AES of `cryptography`, for every machine, and what others
are tested against; `Native` is in C++, for processors with AES instructions. Both compute the same bits, so one party
may run native and the other not. Transfers are made in the memory of this machine, wherever its tensors are.
"""

from __future__ import annotations

from tacit.protocols.two_party.transfers.kernels.reference import (
    BATCH,
    CHUNK,
    QUICK,
    SHORT,
    SIDE_BY_SIDE,
    Form,
    Reference,
    Trees,
)
from tacit.ring.kernels import by_device

__all__ = ["BATCH", "CHUNK", "QUICK", "SHORT", "SIDE_BY_SIDE", "Form", "Reference", "Trees", "at_hand"]


def _native() -> Reference:
    from tacit.protocols.two_party.transfers.kernels.native import Native

    return Native()


_KERNELS = by_device(Reference(), _native)


def at_hand() -> Reference:
    """The kernels for the memory of this machine."""
    return _KERNELS.at("cpu")
