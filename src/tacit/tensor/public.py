"""Contents that are public by construction: what has no secret counterpart is computed on them in the clear.

Weights that PyTorch draws into a shared module are such contents: `orthogonal_` takes them apart, and `trunc_normal_`
asks whether any of them lies outside. The results enter the transcript, for other libraries round differently.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from tacit.tensor import SecretTensor
from tacit.tensor.dispatch import fingerprint
from tacit.tensor.operands import public_secret, write
from tacit.tensor.registry import Handler, implements, last_resort

__all__ = ["publicly", "publicly_first"]


@last_resort
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


def publicly_first(*overloads: Any) -> Callable[[Handler], Handler]:
    """Register a function for ATen overloads as `implements` does, for operands one of which is truly secret."""

    def register(handler: Handler) -> Handler:
        @wraps(handler)
        def answered(func: Any, *args: Any, **kwargs: Any) -> Any:
            found = publicly(func, args, kwargs)
            return handler(func, *args, **kwargs) if found is None else found

        implements(*overloads)(answered)
        return handler

    return register
