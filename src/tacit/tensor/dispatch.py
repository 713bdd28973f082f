"""What happens when PyTorch calls for an operator on secrets: it is described, asked about once, and computed.

The class of secrets is a parameter here, for it is made with this dispatch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from tacit.errors import DataError, TacitError, UnsupportedOperator
from tacit.protocols.protocol import Protocol
from tacit.session.ledger import source_line, where
from tacit.session.session import Session
from tacit.tensor.compositions import in_terms_of_others, otherwise
from tacit.tensor.refusals import no_place_for_a_secret, public_name
from tacit.tensor.registry import HANDLERS
from tacit.tensor.signatures import KNOWN, Signature, ask, asked, compare, leaves

__all__ = ["ask_once", "dispatch", "fingerprint"]

Secret = type[Any]
"""The class of secrets."""

WITHOUT_LOOKING = torch._C.DisableTorchFunctionSubclass
"""PyTorch looks for a `__torch_function__` at every argument that is no tensor, number, list or tuple of its own: a
`torch.Size` makes a view take 1.5 µs in place of 0.8. Handlers work on plain tensors, which have none."""


def dispatch(secret: Secret, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
    """The result of an operator, of which at least one operand is secret."""
    kwargs = kwargs or {}
    handler = HANDLERS.get(func)
    if handler is None:
        return _instead(secret, func, args, kwargs)
    session, signature, public = _describe(secret, func, args, kwargs)
    session.check_open()
    session.transcript.record(signature.line, public, where())
    if signature.public is None:
        args, kwargs = _owned(secret, func, args, kwargs)
    if torch.is_inference_mode_enabled() and func.is_view:
        handler = _of_that_kind(handler, args[0])
    with WITHOUT_LOOKING():
        if session.watcher is not None:
            result = session.watcher.call(func, args, kwargs, handler)
        else:
            result = handler(func, *args, **kwargs)
    if signature.answer is not None:
        compare(func, signature, result)
    return result


def _of_that_kind(handler: Callable[..., Any], base: Tensor) -> Callable[..., Any]:
    """A handler whose views are inference tensors if what they are views of is one, and only then, as PyTorch's are."""

    def view(*args: Any, **kwargs: Any) -> Any:
        with torch.inference_mode(base.is_inference()), torch.no_grad():
            return handler(*args, **kwargs)

    return view


# --- what each operator adds to the transcript, and what PyTorch says to it -------------------------------------------


def _describe(secret: Secret, func: Any, args: Any, kwargs: Any) -> tuple[Session, Signature, bytes]:
    """The session, what is known of the signature, and a fingerprint of all that is public among the operands."""
    key: list[Any] = [func, torch.get_default_dtype(), *kwargs]
    protocol = _add(secret, key, args, None)
    if kwargs:
        protocol = _add(secret, key, kwargs.values(), protocol)
    if protocol is None:
        raise TacitError("an operator on secrets without a secret among its operands")
    signature = KNOWN.get(whole := tuple(key)) or _new(secret, whole, func, args, kwargs)
    public = signature.public
    return protocol.session, signature, _public(secret, args, kwargs) if public is None else public


def ask_once(secret: Secret, func: Any, args: Any, kwargs: Any) -> None:
    """Raise what PyTorch raises for such a call on plain tensors: for operators that do not come by the dispatch."""
    _describe(secret, func, args, kwargs)


def _add(secret: Secret, key: list[Any], operands: Iterable[Any], protocol: Protocol | None) -> Protocol | None:
    """Add operands, and those in lists, to the key of a signature; return the protocol of the secrets among them."""
    for x in operands:
        kind = type(x)
        if kind is secret:
            key.append(x._kind)
            if x._protocol is not protocol:
                if protocol is not None:
                    name = public_name(key[0])
                    raise TacitError(f"{name} of secrets of two sessions ({source_line()}): share both in the same one")
                protocol = x._protocol
        elif kind is float:
            key += (float, x if x and x == x else x.hex())  # there are two zeros, and NaN is not what it is
        elif kind in SCALARS:
            key += (kind, x)
        elif kind in SEQUENCES:
            if x and type(x[0]) in WHOLE:
                key += (kind, *map(type, x), *x)
            else:
                key += (kind, len(x))
                protocol = _add(secret, key, x, protocol)
        elif isinstance(x, Tensor):
            key += ("public", x.shape, x.stride(), x.dtype)
        elif kind not in OPAQUE:
            key += (kind, x)
    return protocol


SCALARS = frozenset({int, bool, type(None), str, torch.dtype, torch.layout, torch.device, torch.memory_format})
SEQUENCES = frozenset({list, tuple, torch.Size})
OPAQUE = frozenset({torch.Generator, torch.ScriptObject})
"""Operands whose repr is an address, another one at each role: handlers say what matters of them."""
WHOLE = frozenset({int, bool})


def _new(secret: Secret, key: Any, func: Any, args: Any, kwargs: Any) -> Signature:
    """Ask PyTorch, and remember what it answers."""
    tensors = [x for x in leaves(args, kwargs) if type(x) not in SCALARS and isinstance(x, Tensor)]
    answer = asked(key, func, args, kwargs, secret)
    shapes = [f"{'secret' if isinstance(x, secret) else 'public'} {_shape(x.shape)}" for x in tensors]
    public = _public(secret, args, kwargs) if all(isinstance(x, secret) for x in tensors) else None
    KNOWN[key] = signature = Signature(f"{func}({', '.join(shapes)})", public, answer)
    return signature


def _public(secret: Secret, args: Any, kwargs: Any) -> bytes:
    """All that is public among the operands."""
    found: list[bytes] = []
    for x in leaves(args, kwargs):
        kind = type(x)
        if kind in SCALARS:  # asking whether something is a tensor takes as long as all the rest
            found.append(repr(x).encode())
        elif kind is not secret and kind not in OPAQUE:
            found.append(fingerprint(x) if isinstance(x, Tensor) else repr(x).encode())
    return b"|".join(found)


def _instead(secret: Secret, func: Any, args: Any, kwargs: Any) -> Any:
    """What PyTorch does in terms of other operators, if it does not refuse."""
    try:
        in_terms_of_others(func)
    except UnsupportedOperator:
        return otherwise(func, args, kwargs)
    key: list[Any] = [func, *kwargs]
    _add(secret, key, (*args, *kwargs.values()), None)
    if (whole := tuple(key)) not in KNOWN:
        ask(func, args, kwargs, secret)
        KNOWN[whole] = Signature("", None, None)
    return otherwise(func, args, kwargs)


def _owned(secret: Secret, func: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The operands with copies of the plain tensors that the operator reads: a caller may overwrite his own later.

    What is public is remembered, in a content known to be public, as the positions and summands by which one secret
    came from another: later operators look there.
    """
    written = _written(func)
    if not written:
        return [_own(secret, x) for x in args], {
            name: _own(secret, x) for name, x in kwargs.items()
        } if kwargs else kwargs
    for k, x in (*enumerate(args), *kwargs.items()):
        if written.get(k) and isinstance(x, Tensor) and not isinstance(x, secret) and func not in FLAGGING:
            raise no_place_for_a_secret(f"{public_name(func)} would write a secret into a plain tensor")
    args = [x if k in written else _own(secret, x) for k, x in enumerate(args)]
    return args, {name: x if name in written else _own(secret, x) for name, x in kwargs.items()} if kwargs else kwargs


def _own(secret: Secret, x: Any) -> Any:
    kind = type(x)
    if kind is secret or kind in SCALARS or kind is float:
        return x
    if isinstance(x, Tensor):
        return x if isinstance(x, secret) else x.clone()
    return [_own(secret, y) for y in x] if isinstance(x, (list, tuple)) else x


@cache
def _written(func: Any) -> dict[int | str, bool]:
    """The places and names of the arguments that an operator writes to or returns views of, and whether it writes."""
    found = [(k, a) for k, a in enumerate(func._schema.arguments) if a.alias_info is not None]
    return {key: a.alias_info.is_write for k, a in found for key in (k, a.name)}


FLAGGING = frozenset({torch.ops.aten._amp_foreach_non_finite_check_and_unscale_.default})
"""Operators that write something public beside secrets."""


@lru_cache(maxsize=1024)
def _shape(shape: torch.Size) -> str:
    return "×".join(map(str, shape)) or "scalar"


def fingerprint(x: Tensor) -> bytes:
    """16 bytes that tell public tensors apart: dtype, shape and values."""
    if x.is_meta or x.layout != torch.strided:
        raise DataError(f"a public tensor must be dense and have values, not {x.layout} on {x.device}")
    flat = x.detach().cpu().contiguous().as_strided((x.numel(),), (1,))
    data = flat.view(torch.uint8) if x.numel() else torch.empty(0)
    digest = blake2b(data.numpy().data, digest_size=16)
    digest.update(f"{x.dtype}{tuple(x.shape)}".encode())
    return digest.digest()
