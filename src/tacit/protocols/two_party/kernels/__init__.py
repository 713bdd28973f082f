"""The façade of the two-party scheme's inner loops: those of the ring, and what only this scheme computes.

    kernels.on(x).receiver_share(…)

As in `tacit.ring.kernels`: a kernel is a method of `Reference`, in PyTorch, for every device, and of `Native` where it
is written in C++, too.
"""

from __future__ import annotations

from tacit.protocols.two_party.kernels.reference import Reference
from tacit.ring.kernels import by_device

__all__ = ["Reference", "at", "on"]


def _native() -> Reference:
    from tacit.protocols.two_party.kernels.native import Native

    return Native()


KERNELS = by_device(Reference(), _native)
on, at = KERNELS.on, KERNELS.at
