"""The secret tensor: a `torch.Tensor` whose values are shared among the parties.

PyTorch supplies the API, autograd, `torch.nn`, `torch.optim` and `DataLoader`. Below autograd every program is a
sequence of ATen operators; `SecretTensor.__torch_dispatch__` looks each up in `HANDLERS`, which the modules of
`tacit.aten` fill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache, lru_cache
from hashlib import blake2b
from typing import Any, NoReturn, Self

import torch
from torch import Tensor

from tacit.compositions import HANDLERS, in_terms_of_others
from tacit.errors import DataError, RevealError, TacitError
from tacit.protocols.base import Protocol
from tacit.protocols.share import Share
from tacit.refusals import public_name, unsupported
from tacit.session.ledger import source_line, where
from tacit.session.session import Session

__all__ = ["HANDLERS", "Deferred", "SecretTensor", "fingerprint", "in_terms_of_others", "unsupported"]

Deferred = Callable[[], Share]
"""A share that is computed when somebody needs it: the value of a loss that is only differentiated costs nothing."""


AS_SHARES = "tacit.save(x, folder), which keeps a file of shares for each role, or "


class SecretTensor(Tensor):
    """A tensor nobody sees, with a shape, a dtype and PyTorch's operators. Values come out by `tacit.reveal` only."""

    _share: Share | Deferred
    _protocol: Protocol
    _expected: Any = None
    """In a session that checks itself: what a deferred share will have to hold."""

    @staticmethod
    def __new__(
        cls,
        share: Share | Deferred,
        dtype: torch.dtype,
        *,
        protocol: Protocol | None = None,
        shape: torch.Size | None = None,
    ) -> Self:
        """Wrap a share; a deferred one names its protocol and shape."""
        if isinstance(share, Share):
            tensor = share.raw[0]
            self = Tensor._make_wrapper_subclass(
                cls, tensor.shape, strides=tensor.stride(), storage_offset=tensor.storage_offset(), dtype=dtype
            )
            self._protocol = share.protocol
        else:
            assert protocol is not None
            assert shape is not None
            self = Tensor._make_wrapper_subclass(cls, shape, dtype=dtype)
            self._protocol = protocol
        self._share = share
        return self

    @property
    def share(self) -> Share:
        """What this role holds of the secret."""
        if not isinstance(self._share, Share):
            self._share = self._share()
        return self._share

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        handler = HANDLERS.get(func)
        if handler is None:
            return in_terms_of_others(func)(*args, **kwargs)
        session, operator, fingerprints, plain = _describe(func, args, kwargs)
        session.transcript.record(operator, fingerprints, where())
        if plain:
            args, kwargs = _owned(func, args, kwargs)
        if session.watcher is not None:
            return session.watcher.call(func, args, kwargs, handler)
        return handler(func, *args, **kwargs)

    # --- a secret never turns into a number by accident --------------------------------------------------------------

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        grad = ", requires_grad=True" if self.requires_grad else ""
        return f"SecretTensor(<hidden; see tacit.reveal>, shape={tuple(self.shape)}, dtype={self.dtype}{grad})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def _refuse(self, use: str, instead: str = "") -> NoReturn:
        raise RevealError(
            f"{use} would turn a secret into a plain value ({source_line()}): "
            f"write {instead}tacit.reveal(x, to=…) where its value may be known"
        )

    def __float__(self) -> float:
        self._refuse("float(x)")

    def __int__(self) -> int:
        self._refuse("int(x)")

    def __index__(self) -> int:
        self._refuse("using a secret as an index or a size")

    def __bool__(self) -> bool:
        self._refuse("bool(x), `if x:` or `while x:`")

    def __complex__(self) -> complex:
        self._refuse("complex(x)")

    def item(self) -> Any:
        """Refuse."""
        self._refuse("x.item()")

    def tolist(self) -> Any:
        """Refuse."""
        self._refuse("x.tolist()")

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse."""
        self._refuse("x.numpy()")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        self._refuse("numpy.asarray(x)")

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any:
        self._refuse("x.__dlpack__()")

    def __reduce_ex__(self, protocol: Any) -> Any:
        self._refuse("pickling (torch.save, pickle, copying between processes)", AS_SHARES)

    def share_memory_(self) -> Any:
        """Refuse."""
        self._refuse("x.share_memory_()")

    def data_ptr(self) -> int:
        """Refuse."""
        self._refuse("x.data_ptr()")

    def storage(self) -> Any:
        """Refuse: what safetensors reads."""
        self._refuse("x.storage() (safetensors reads it)", AS_SHARES)

    def __iter__(self) -> Iterator[Tensor]:
        if self.dim() == 0:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))

    def backward(self, *args: Any, **kwargs: Any) -> None:
        """Compute gradients, as `torch.Tensor.backward` does; in a session with range checks, check the loss before."""
        guard = self._protocol.session.guard
        if guard is not None:
            guard.loss(self)
        super().backward(*args, **kwargs)  # type: ignore[no-untyped-call]

    def __copy__(self) -> Tensor:
        return self.detach().requires_grad_(self.requires_grad)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copy = self.detach().clone().requires_grad_(self.requires_grad)
        copy._is_param = getattr(self, "_is_param", False)
        memo[id(self)] = copy
        if self.grad is not None:
            copy.grad = deepcopy(self.grad, memo)
        return copy

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]


# --- what each operator adds to the transcript ------------------------------------------------------------------------


def _describe(func: Any, args: Any, kwargs: Any) -> tuple[Session, str, bytes, bool]:
    """The session, the operator's name with the shapes of its tensors, a fingerprint of all that is public
    among its operands, and whether there are plain tensors among these."""
    names: list[str] = []
    public: list[bytes] = []
    found, plain = None, False
    for x in _leaves(args, kwargs):
        if isinstance(x, SecretTensor):
            names.append("secret " + _shape(x.shape))
            if found is not None and x._protocol is not found._protocol:
                raise TacitError(
                    f"{public_name(func)} of secrets of two sessions ({source_line()}): share both in the same one"
                )
            found = x
        elif isinstance(x, Tensor):
            names.append("public " + _shape(x.shape))
            public.append(fingerprint(x))
            plain = True
        elif not isinstance(x, torch.Generator):  # whose repr is an address, another one at each role
            public.append(repr(x).encode())
    if found is None:
        raise TacitError("an operator on secrets without a secret among its operands")
    session = found._protocol.session
    session.check_open()
    return session, f"{_name(func)}({', '.join(names)})", b"|".join(public), plain


def _owned(func: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The operands with copies of the plain tensors that the operator reads: a caller may overwrite his own later.

    What is public is remembered, in a content known to be public, as the positions and summands by which one secret
    came from another: later operators look there.
    """
    written = _written(func)
    args = [x if k in written else _own(x) for k, x in enumerate(args)]
    return args, {name: x if name in written else _own(x) for name, x in kwargs.items()} if kwargs else kwargs


def _own(x: Any) -> Any:
    if isinstance(x, Tensor):
        return x if isinstance(x, SecretTensor) else x.clone()
    return [_own(y) for y in x] if isinstance(x, (list, tuple)) else x


@cache
def _written(func: Any) -> frozenset[int | str]:
    """The places and names of the arguments that an operator writes to, or returns views of."""
    found = [(k, a.name) for k, a in enumerate(func._schema.arguments) if a.alias_info is not None]
    return frozenset(key for pair in found for key in pair)


@cache
def _name(func: Any) -> str:
    return str(func)


def _leaves(args: Any, kwargs: Any) -> list[Any]:
    """Operands, with those in lists: ATen nests no deeper."""
    leaves: list[Any] = []
    for x in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(x, (list, tuple)):
            leaves += x
        else:
            leaves.append(x)
    return leaves


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
