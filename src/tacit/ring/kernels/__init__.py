"""The façade of the ring's kernels: `on(x)` has those for the device of x, as methods.

    kernels.on(x).pack_bits(x)

A kernel is a method of `Reference`, in PyTorch, which every device has; `Native` overrides it in C++ for tensors in the
memory of this machine, if the package was built with a compiler. Both compute the same bits, so one role may run native
and another not. `TACIT_KERNELS` set to `native` or `reference` asks for one; `BACKEND` says which is in use.

To add a kernel, write the method of `Reference`; to make it fast, a method of `Native` of the same signature and a file
or a function under `cpp/`, which says itself what it adds to the module. Nothing else lists it. Kernels that only one
scheme needs lie in its folder, see `tacit.protocols.additive.kernels`.
"""

from __future__ import annotations

from torch import Tensor

from tacit.ring.kernels.devices import BACKEND, Kernels, by_device
from tacit.ring.kernels.reference import Places, Reference
from tacit.ring.short import SHORT, widened

__all__ = ["BACKEND", "Kernels", "Places", "Reference", "at", "by_device", "describe", "matmul", "on"]


def _native() -> Reference:
    from tacit.ring.kernels.native import Native

    return Native()


KERNELS = by_device(Reference(), _native)
on, at = KERNELS.on, KERNELS.at


def matmul(x: Tensor, y: Tensor) -> Tensor:
    """Matrix product in the ring, with torch.matmul's shapes and broadcasting: the one kernel that is passed around.

    One of the operands may be what `shortened` has made.
    """
    if x.dtype is not SHORT and y.dtype is not SHORT:
        return on(x).matmul(x, y)
    if x.dim() == 2 and y.dim() == 2:
        return on(y).matmul_short(y.t(), x.t()).t() if x.dtype is SHORT else on(x).matmul_short(x, y)
    return on(x).matmul(widened(x), widened(y))


def describe() -> str:
    """Say which kernels are in use, and with which instructions of this processor."""
    if BACKEND == "reference":
        return "reference"
    from tacit.ring.kernels import native

    return f"native ({native.isa()}{', AES instructions' if native.has_aes() else ''})"
