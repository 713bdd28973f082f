"""The façade of the inner loops of oblivious functions: `at_hand()` has the best ones that this process has.

As in `tacit.ring.kernels`: `Reference` is in NumPy and the AES of `cryptography`, `Native` in C++. Both compute the
same bits, but that tables filled by one and the other may differ where no key decides.
"""

from __future__ import annotations

from tacit.protocols.two_party.oblivious.kernels.reference import CHOICES, DENSE, Reference
from tacit.ring.kernels import by_device

__all__ = ["CHOICES", "DENSE", "Reference", "at_hand"]


def _native() -> Reference:
    from tacit.protocols.two_party.oblivious.kernels.native import Native

    return Native()


_KERNELS = by_device(Reference(), _native)


def at_hand() -> Reference:
    """The kernels for the memory of this machine."""
    return _KERNELS.at("cpu")
