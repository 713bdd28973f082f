"""Contents that are public by construction: what has no secret counterpart is computed on them in the clear.

Weights that PyTorch draws into a shared module are such contents: `orthogonal_` takes them apart, and `trunc_normal_`
asks whether any of them lies outside. The results enter the transcript, for other libraries round differently.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from tacit.tensor import SecretTensor
from tacit.tensor.above_autograd import before_autograd
from tacit.tensor.operands import public_secret, write
from tacit.tensor.registry import HANDLERS, LAST_RESORTS
from tacit.tensor.tensor import fingerprint

__all__ = ["publicly", "register_public"]

aten = torch.ops.aten

LOGIC = (
    *(getattr(aten, f"bitwise_{name}").Tensor for name in ("and", "or", "xor")),
    *(getattr(aten, f"logical_{name}").default for name in ("and", "or", "xor", "not")),
    aten.bitwise_not.default,
)


def publicly(func: Any, args: Any, kwargs: Any) -> Any:
    """The operator on public contents, its results public contents again; None if one of its secrets is truly secret.

    What it would write to is written to afterwards. Views are not for it.
    """
    found = [x for x in tree_leaves((args, kwargs)) if isinstance(x, SecretTensor)]
    if any(x.share.known_public() is None for x in found):
        return None
    names = [a.name for a in func._schema.arguments]
    given = dict(zip(names, args, strict=False)) | kwargs
    written = {a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write}
    if any(a.alias_info is not None and a.name not in written for a in func._schema.arguments):
        return None
    clear = {name: tree_map_only(SecretTensor, _content, x) for name, x in given.items()}
    results = func(*(clear[name] for name in names[: len(args)]), **{name: clear[name] for name in kwargs})
    protocol = found[0]._protocol

    def hidden(x: Tensor) -> Tensor:
        protocol.session.transcript.record(f"{func} of public contents", fingerprint(x))
        for name in written:
            if x is clear[name] and isinstance(given[name], SecretTensor):
                write(given[name], public_secret(protocol, x))
                return given[name]  # type: ignore[no-any-return]
        return public_secret(protocol, x)

    return tree_map_only(Tensor, hidden, results)


def _content(x: SecretTensor) -> Tensor:
    known = x.share.known_public()
    assert known is not None
    return known.clone()


def register_public() -> None:
    """Have the connectives of public bits give public bits, and what has no handler be computed on public contents."""
    for overload in LOGIC:
        HANDLERS[overload] = _in_the_clear_first(HANDLERS[overload])
    LAST_RESORTS.append(publicly)
    before_autograd(aten.isfinite.default, lambda x: torch.isnan(x).logical_not())  # PyTorch's definition compares


def _in_the_clear_first(handler: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(handler)
    def answered(func: Any, *args: Any, **kwargs: Any) -> Any:
        found = publicly(func, args, kwargs)
        return handler(func, *args, **kwargs) if found is None else found

    return answered
