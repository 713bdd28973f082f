"""Which object has the kernels for a device: decided once a process, asked for by a tensor."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Generic, TypeVar

from torch import Tensor

from tacit.errors import ConfigError

__all__ = ["BACKEND", "Kernels", "by_device"]


def _backend() -> str:
    asked = os.environ.get("TACIT_KERNELS", "")
    if asked not in ("", "native", "reference"):
        raise ConfigError(f"TACIT_KERNELS is {asked!r}: say native or reference, or leave it out for the best there is")
    if asked == "reference":
        return asked
    try:
        import tacit.ring._native  # noqa: F401
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
"""Which kernels tensors in the memory of this machine get: "native" or "reference"."""

K = TypeVar("K")


class Kernels(Generic[K]):
    """Kernels of one kind: an object for each type of device that has one of its own, and PyTorch's for all others."""

    def __init__(self, anywhere: K, **by_type: K) -> None:
        self._anywhere = anywhere
        self._by_type = by_type
        self._cpu = by_type.get("cpu", anywhere)

    def on(self, tensor: Tensor) -> K:
        """The kernels for the device that a tensor is on. Its other operands must be there, too."""
        return self._cpu if tensor.is_cpu else self.at(tensor.device.type)

    def at(self, device: str) -> K:
        """The kernels for a type of device, "cpu" or "cuda" say."""
        return self._by_type.get(device, self._anywhere)


def by_device(reference: K, native: Callable[[], K]) -> Kernels[K]:
    """Native kernels on the CPU, where this process has them; `native` imports what it needs only then.

    A device gets kernels of its own by one class, a subclass of `reference`'s, named here.
    """
    return Kernels(reference, cpu=native()) if BACKEND == "native" else Kernels(reference)
