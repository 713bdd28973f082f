"""`DistributedDataParallel` on modules with secret parameters: the buckets that its reducer fills are secrets, too.

The reducer copies gradients into buckets that it makes with `at::empty`, and reduces each bucket by one collective.
What it makes for secret parameters is made secret here; all the rest are operators on secrets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from tacit.errors import TacitError
from tacit.protocols.protocol import Protocol
from tacit.protocols.scale import SLACK_BITS
from tacit.session.changes import replaced, while_open
from tacit.session.ledger import source_line
from tacit.tensor import SecretTensor
from tacit.tensor.operands import zeros

__all__ = ["Buckets"]

aten = torch.ops.aten


class Buckets(TorchDispatchMode):
    """While it is entered, what PyTorch makes of floating point numbers without values is secret zeros.

    Gradients are written into them part by part, and keep the bits that they have beyond the session's: zeros are zeros
    at any scale, and with any headroom.
    """

    def __init__(self, protocol: Protocol) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._protocol = protocol

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer for `empty`, and let the others be."""
        kwargs = kwargs or {}
        if func is aten.empty.memory_format:
            dtype = kwargs.get("dtype") or torch.get_default_dtype()
            if dtype.is_floating_point:
                bucket = zeros(self._protocol, args[0], dtype)
                bucket.share.declare(frac_bits=self._protocol.factor_bits, headroom=SLACK_BITS)
                return bucket
        return func(*args, **kwargs)


def _with_buckets(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of DDP that makes buckets, secret ones for a module of secrets."""

    @wraps(method)
    def making(self: DistributedDataParallel, *args: Any, **kwargs: Any) -> Any:
        protocol = _protocol_of(self)
        if protocol is None:
            return method(self, *args, **kwargs)
        with Buckets(protocol):
            return method(self, *args, **kwargs)

    return making


def _protocol_of(replica: DistributedDataParallel) -> Protocol | None:
    """That of the parameters, if they are secrets."""
    secrets = (p for p in replica.module.parameters() if isinstance(p, SecretTensor))
    return next((p._protocol for p in secrets), None)


def _with_check(method: Callable[..., Any]) -> Callable[..., Any]:
    """DDP's constructor, which sends parameters and buffers of one dtype together."""

    @wraps(method)
    def checking(self: DistributedDataParallel, module: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        held = [x for x in (*module.parameters(), *module.buffers()) if x.is_floating_point()]
        if 0 < sum(isinstance(x, SecretTensor) for x in held) < len(held):
            raise TacitError(
                f"DistributedDataParallel of a module of which only some is secret ({source_line()}): share all of it, "
                f"tacit.share(module), before it is replicated"
            )
        method(self, module, *args, **kwargs)

    return checking


CHANGED = {"__init__": _with_check, "_ddp_init_helper": _with_buckets, "_pre_forward": _with_buckets}
"""Methods in which buckets are made, anew once the order of gradients is known, and the constructor."""


@while_open
def _secret_buckets() -> Iterator[None]:
    return replaced(DistributedDataParallel, CHANGED)
