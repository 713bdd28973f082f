"""The gate in: what an owner shares."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar, overload

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tacit.api.active import active_protocol
from tacit.aten.normalization import keep_scale
from tacit.errors import ConfigError, DataError
from tacit.functions.labels import check_within
from tacit.functions.linear import unreachable
from tacit.functions.reciprocal import WORKING_BITS
from tacit.functions.standardize import VARIANCE_BITS
from tacit.protocols.protocol import Protocol
from tacit.protocols.values import Value
from tacit.ring.fixed_point import encode
from tacit.ring.given import real_tensor
from tacit.session.announced import fitting
from tacit.session.ledger import where
from tacit.session.session import Session
from tacit.session.unknown import Unknown, refuse
from tacit.tensor import SecretTensor
from tacit.tensor.dispatch import fingerprint
from tacit.tensor.nested import labelled, shared_module

__all__ = ["adopted", "share"]

MOST_DIMENSIONS = 64
"""PyTorch's own limit."""

MOST_BITS = 32
"""Fractional bits that a tensor may ask for. More: smaller numbers; fewer: larger ones, for 32 below 2^30."""

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@overload
def share(value: ModuleT, owner: str | None = None, *, name: str | None = None) -> ModuleT: ...
@overload
def share(
    value: Any,
    owner: str | None = None,
    *,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
    name: str | None = None,
    classes: int | None = None,
    ignore_index: int | None = None,
    frac_bits: int | None = None,
) -> SecretTensor: ...


def share(
    value: Any,
    owner: str | None = None,
    *,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
    name: str | None = None,
    classes: int | None = None,
    ignore_index: int | None = None,
    frac_bits: int | None = None,
) -> Any:
    """Make a secret of a tensor, or of all the floating-point parameters and buffers of a module (a copy of it).

    With `owner`, only that party's value counts, and nobody else learns it; the others pass None, or anything of the
    same shape (for a module: one of the same architecture, whose parameters may be on the meta device). Sharing with a
    crypto-producer sends 8 bytes an element, a bit for a bool, to each other party, which saves them later; between two
    parties alone it sends nothing. Unless `shape` is given, a public message with shape and dtype goes before. Without
    `owner`, every role must pass the same public value.

    Args:
        value: a tensor, an array, nested lists of numbers, or a module.
        owner: the party that knows the value.
        shape: the shape, where every role knows it.
        dtype: the dtype; float32, int64 or bool, or with `owner` what the owner's value has.
        name: what errors and the transcript call it.
        classes: of class labels, how many classes there are: the owner checks that all are 0 to classes - 1, and what
            is computed of them may rely on it.
        ignore_index: a label that is allowed beside the classes, -100 for what a loss shall leave out.
        frac_bits: fractional bits of this tensor, by default the session's; it keeps them when it is overwritten. A
            module has four more, for its weights' rounding adds up in every sum, and 32 for running variances.

    Raises:
        EncodingError: at the owner, for NaN, infinity or numbers out of range, with their index; the session ends.
        DataError: at the owner, for a label that is none of the classes, with its index; the session ends.
    """
    protocol = active_protocol()
    protocol.session.check_open()
    if isinstance(value, nn.Module):
        if frac_bits is not None:
            raise ConfigError("a module has fractional bits of its own: tacit.share(module) takes no frac_bits")
        return _share_module(protocol, value, owner, name)
    if isinstance(value, SecretTensor):
        raise DataError("this is a secret already")
    if isinstance(value, Unknown):
        refuse(value.revealed)
    if isinstance(value, (list, tuple)) and any(isinstance(x, SecretTensor) for x in value):
        raise DataError("there are secrets among these already: join them, and shared values, with torch.stack")
    if frac_bits is not None and not (type(frac_bits) is int and protocol.frac_bits <= frac_bits <= MOST_BITS):
        raise ConfigError(
            f"a tensor has from {protocol.frac_bits} fractional bits, the session's, to {MOST_BITS}, not {frac_bits!r}"
        )
    tensor = None if value is None else real_tensor(value, name or "what is shared")
    if dtype is not None and tensor is not None:
        tensor = tensor.to(dtype)
    if classes is not None:
        return _share_labels(tensor, owner, shape, name or "a tensor of class labels", classes, ignore_index)
    if ignore_index is not None:
        raise DataError("ignore_index is for class labels: say how many classes there are, too")
    name = name or "a tensor"
    if owner is None:
        if tensor is None:
            raise DataError("tacit.share(None) needs the owner of the value: tacit.share(None, owner=…)")
        scale = (frac_bits or protocol.frac_bits) if tensor.dtype.is_floating_point else 0
        described = f"tacit.share({name}: {tuple(tensor.shape)}, frac_bits={scale})"
        protocol.session.transcript.record(described, fingerprint(tensor), where())
        shared = _public(protocol, tensor, name, scale)
        if tensor.numel() and not tensor.dtype.is_floating_point and tensor.dtype != torch.bool:
            shared.facts.within = range(int(tensor.min()), int(tensor.max()) + 1)
        return _wrap(protocol, tensor, shared)
    mine = owner in protocol.session.transport.hosted
    if mine and tensor is None:
        raise DataError(f"{owner} owns {name} and must give its value")
    if shape is None and protocol.session.preparing:
        if tensor is None:
            raise ConfigError(
                f"{owner} would tell the others the shape of {name}, and nobody is there while a run is prepared: "
                f"write tacit.share(…, owner={owner!r}, shape=…, dtype=…)"
            )
        shape, dtype = tensor.shape, dtype or tensor.dtype
    elif shape is None:
        shape, dtype = _announce_shape(protocol.session, owner, tensor)
    elif mine and tensor is not None and tuple(tensor.shape) != tuple(shape):
        raise DataError(f"{name} of {owner} has shape {tuple(tensor.shape)}, but {tuple(shape)} was promised")
    dtype = dtype or (tensor.dtype if tensor is not None else torch.get_default_dtype())
    scale = (frac_bits or protocol.frac_bits) if dtype.is_floating_point else 0
    return _wrap(protocol, tensor, _owned(protocol, tensor if mine else None, owner, shape, dtype, name, scale), dtype)


def _share_labels(
    tensor: Tensor | None,
    owner: str | None,
    shape: Sequence[int] | None,
    name: str,
    classes: int,
    ignore_index: int | None,
) -> SecretTensor:
    """Class labels as int64, checked by whoever knows them, and remembered as classes."""
    if classes < 1:
        raise DataError(f"{name}: there must be one class at least, not {classes}")
    if tensor is not None:
        labels = tensor.to(torch.int64)
        if not torch.equal(labels.to(tensor.dtype), tensor):
            raise DataError(f"{name} must hold whole numbers")
        check_within(labels, range(classes), name, ignore_index)
        tensor = labels
    out: SecretTensor = share(tensor, owner, shape=shape, dtype=torch.int64, name=name)
    if ignore_index is None or 0 <= ignore_index < classes:
        out.share.facts.within = range(classes)
    return out


def _announce_shape(opened: Session, owner: str, tensor: Tensor | None) -> tuple[tuple[int, ...], torch.dtype]:
    """The owner tells everybody shape and dtype, which are public."""
    message = None
    if owner in opened.transport.hosted:
        assert tensor is not None
        message = json.dumps([list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]).encode()
    return _announced(owner, opened.announce(owner, message))


def _announced(owner: str, message: bytes) -> tuple[tuple[int, ...], torch.dtype]:
    """Check the shape and dtype that another role's owner announced: it may be anything."""
    try:
        shape, kind = json.loads(message)
        sizes = tuple(shape)
        if not all(type(n) is int and 0 <= n < 1 << 40 for n in sizes) or len(sizes) > MOST_DIMENSIONS:
            raise ValueError
        dtype = getattr(torch, kind, None)
    except (ValueError, TypeError, RecursionError):
        raise DataError(f"{owner} announced a tensor of an impossible shape") from None
    if not isinstance(dtype, torch.dtype):
        raise DataError(f"{owner} announced a tensor of an unknown dtype")
    fitting(owner, sizes)
    return sizes, dtype


def _public(protocol: Protocol, tensor: Tensor, name: str, frac_bits: int) -> Value:
    if tensor.dtype == torch.bool:
        return protocol.public_bits(tensor.to(torch.uint8))
    return protocol.public(encode(tensor, frac_bits, name=name).contiguous(), frac_bits)


def _owned(
    protocol: Protocol,
    tensor: Tensor | None,
    owner: str,
    shape: Sequence[int],
    dtype: torch.dtype,
    name: str,
    frac_bits: int,
) -> Value:
    """What its owner alone passes, of a shape that every role knows."""
    described = f"tacit.share({name}: {tuple(shape)}, {dtype}, owner={owner}, frac_bits={frac_bits})"
    protocol.session.transcript.record(described, b"", where())
    if dtype == torch.bool:
        return protocol.share_bits(None if tensor is None else tensor.to(torch.uint8).contiguous(), owner, shape)
    ring = None if tensor is None else encode(tensor, frac_bits, name=f"{name} of {owner}").contiguous()
    return protocol.share(ring, owner, shape, frac_bits)


def _wrap(protocol: Protocol, tensor: Tensor | None, shared: Value, dtype: torch.dtype | None = None) -> SecretTensor:
    shared.storage.lasting = True
    out = SecretTensor(shared, dtype or (tensor.dtype if tensor is not None else torch.get_default_dtype()))
    if tensor is not None and tensor.requires_grad:
        out.requires_grad_()
    if protocol.session.watcher is not None:
        protocol.session.watcher.shared(out)
    return out


def adopted(shared: Value, dtype: torch.dtype) -> SecretTensor:
    """A secret tensor around a value that a protocol has made of what an owner gave. Local."""
    return _wrap(shared.protocol, None, shared, dtype)


def _share_module(protocol: Protocol, module: nn.Module, owner: str | None, name: str | None) -> nn.Module:
    """A copy of a module with secret parameters and buffers; see `nested`."""

    def hidden(tensor: Tensor, label: str) -> Tensor:
        shape = None if owner is None else tensor.shape
        fine = VARIANCE_BITS if label.rpartition(".")[2] == "running_var" else protocol.parameter_bits
        value = tensor if known else None
        out: Tensor = share(value, owner, shape=shape, dtype=tensor.dtype, name=label, frac_bits=fine)
        return out

    known = owner is None or owner in protocol.session.transport.hosted
    out = shared_module(module, name, hidden, lambda buffer: unreachable(buffer, protocol) is not None, known=known)
    if owner is not None:
        _share_scales(protocol, module, out, owner, name)
    return out


def _share_scales(protocol: Protocol, plain: nn.Module, shared: nn.Module, owner: str, name: str | None) -> None:
    """Share, too, what evaluation makes of running variances, 1 / √(var + ε) and that times weight: the owner knows it.

    Variances below 2^-32 count as that, as where the root is taken of shares.

    Cost: 16 bytes a channel to each other party, no round. A first prediction would take some 8 rounds a layer for it.
    """
    mine = owner in protocol.session.transport.hosted
    for place, norm in plain.named_modules():
        if not isinstance(norm, _BatchNorm) or norm.running_var is None or isinstance(norm.running_var, SecretTensor):
            continue
        part, label = shared.get_submodule(place), labelled(name, place, "running_var") or "running_var"
        if not isinstance(part.running_var, SecretTensor):  # of infinities
            continue
        var, weight = norm.running_var.detach(), norm.weight
        values: list[Tensor | None] = [None, None]
        if mine:
            inverse = (var.double() + norm.eps).clamp(min=2.0**-VARIANCE_BITS).rsqrt()
            values = [inverse, None if weight is None else weight.detach().double() * inverse]
        whose = values if weight is not None and not isinstance(weight, SecretTensor) else values[:1]
        scales = [
            adopted(_owned(protocol, value, owner, var.shape, var.dtype, f"{what} / √{label}", WORKING_BITS), var.dtype)
            for value, what in zip(whose, ("1", "weight"), strict=False)
        ]
        keep_scale(part.running_var, part.eps, part.weight, *scales)  # type: ignore[arg-type]
