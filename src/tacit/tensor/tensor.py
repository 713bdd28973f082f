"""The secret tensor: a `torch.Tensor` whose values are shared among the parties.

PyTorch supplies the API, autograd, `torch.nn`, `torch.optim` and `DataLoader`. Below autograd every program is a
sequence of ATen operators; `SecretTensor.__torch_dispatch__` looks each up in `HANDLERS`, which the modules of
`tacit.aten` fill.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from functools import cache, lru_cache
from hashlib import blake2b
from typing import Any, NoReturn, Self

import torch
from torch import Tensor

from tacit.errors import DataError, RevealError, TacitError, UnsupportedOperator
from tacit.protocols.protocol import Protocol
from tacit.protocols.values import Value
from tacit.session.ledger import source_line, where
from tacit.session.session import Session
from tacit.tensor.compositions import in_terms_of_others, otherwise
from tacit.tensor.libraries import advice, answer
from tacit.tensor.refusals import public_name
from tacit.tensor.registry import HANDLERS
from tacit.tensor.signatures import KNOWN, Signature, ask, asked, compare, leaves

__all__ = ["Deferred", "SecretTensor", "ask_once", "fingerprint", "no_place_for_a_secret"]

Deferred = Callable[[], Value]
"""A share that is computed when somebody needs it: the value of a loss that is only differentiated costs nothing."""


AS_SHARES = "tacit.save(x, folder), which keeps a file of shares for each role, or "


class SecretTensor(Tensor):
    """A tensor nobody sees, with a shape, a dtype and PyTorch's operators. Values come out by `tacit.reveal` only."""

    _share: Value | Deferred
    _protocol: Protocol
    _expected: Any = None
    """In a session that checks itself: what a deferred share will have to hold."""
    _kind: tuple[Any, ...]
    """Shape, strides and dtype, which PyTorch takes five times as long to say: what a signature has of it."""

    @staticmethod
    def __new__(
        cls,
        share: Value | Deferred,
        dtype: torch.dtype,
        *,
        protocol: Protocol | None = None,
        shape: torch.Size | None = None,
    ) -> Self:
        """Wrap a share; a deferred one names its protocol and shape."""
        if isinstance(share, Value):
            tensor = share.content.like
            size, strides = tensor.shape, tensor.stride()
            self = Tensor._make_wrapper_subclass(
                cls, size, strides=strides, storage_offset=share.content.offset, dtype=dtype
            )
            self._protocol = share.protocol
            self._kind = size, strides, dtype
        else:
            assert protocol is not None
            assert shape is not None
            self = Tensor._make_wrapper_subclass(cls, shape, dtype=dtype)
            self._protocol = protocol
            self._kind = shape, self.stride(), dtype
        self._share = share
        return self

    @property
    def share(self) -> Value:
        """What this role holds of the secret."""
        if not isinstance(self._share, Value):
            self._share = self._share()
        return self._share

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        handler = HANDLERS.get(func)
        if handler is None:
            return _instead(func, args, kwargs)
        session, signature, public = _describe(func, args, kwargs)
        session.check_open()
        session.transcript.record(signature.line, public, where())
        if signature.public is None:
            args, kwargs = _owned(func, args, kwargs)
        if session.watcher is not None:
            result = session.watcher.call(func, args, kwargs, handler)
        else:
            result = handler(func, *args, **kwargs)
        if signature.answer is not None:
            compare(func, signature, result)
        return result

    def __rtruediv__(self, other: Any) -> Tensor:
        """other / x: PyTorch would multiply by 1 / x, of which little is left where x is large."""
        if isinstance(other, bool | int | float):
            other = torch.tensor(other, dtype=torch.float64 if isinstance(other, float) else None)
        return torch.div(other, self)

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
            f"write {instead}tacit.reveal(x, to=…) where its value may be known{advice()}"
        )

    def __float__(self) -> float:
        self._refuse("float(x)")

    def __int__(self) -> int:
        self._refuse("int(x)")

    def __index__(self) -> int:
        self._refuse("using a secret as an index or a size")

    def __bool__(self) -> bool:
        known = answer(sys._getframe(1))
        if known is not None:
            return known
        if isinstance(self._share, Value) and self._share.facts.public is not None and self.numel() == 1:
            return bool(self._share.facts.public)  # such as isnan of a secret
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
        """Refuse: each process is a role, and has shares of its own."""
        self._refuse("x.share_memory_()", AS_SHARES)

    def data_ptr(self) -> int:
        """Refuse."""
        self._refuse("x.data_ptr()")

    def storage(self) -> Any:
        """Refuse: what safetensors reads."""
        self._refuse("x.storage() (safetensors reads it)", AS_SHARES)

    @property
    def data(self) -> Tensor:
        """The same secret, unknown to autograd. Assigned to, x stands for the content of another secret, whose memory
        it has from then on, or for a copy of a public value."""
        return DATA.__get__(self)  # type: ignore[no-any-return]

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, SecretTensor):
            value = self.detach().new_zeros(value.shape, dtype=value.dtype).copy_(value.detach())
        assert isinstance(value, SecretTensor)
        if value._protocol is not self._protocol:
            raise TacitError(f"x.data = a secret of another session ({source_line()}): share both in the same one")
        DATA.__set__(self, value)  # sizes, strides and dtype
        self._share, self._kind = value._share, value._kind

    def new(self, *args: Any, **kwargs: Any) -> Tensor:  # type: ignore[override]
        """A tensor of this dtype: of zeros, of a shape, or with the values of a list or a tensor."""
        if len(args) == 1 and not isinstance(args[0], (int, torch.Size)):
            return self.new_tensor(args[0]) if not isinstance(args[0], Tensor) else args[0].detach().to(self.dtype)
        return self.new_zeros(args[0] if args and isinstance(args[0], torch.Size) else args or 0)

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


DATA: Any = torch._C.TensorBase.__dict__["data"]
"""PyTorch's own descriptor."""


def _assign_data(x: Tensor, value: Any) -> None:
    if isinstance(value, SecretTensor):
        raise no_place_for_a_secret("x.data = a secret would leave a plain tensor x without memory")
    DATA.__set__(x, value)


Tensor.data = property(DATA.__get__, _assign_data)  # type: ignore[assignment]
"""PyTorch asks the tensor that is assigned to, and never the one assigned; what it made of a secret ended the process
when it was read."""


# --- what each operator adds to the transcript, and what PyTorch says to it -------------------------------------------


def _describe(func: Any, args: Any, kwargs: Any) -> tuple[Session, Signature, bytes]:
    """The session, what is known of the signature, and a fingerprint of all that is public among the operands."""
    key: list[Any] = [func, *kwargs]
    protocol = _add(key, args, None)
    if kwargs:
        protocol = _add(key, kwargs.values(), protocol)
    if protocol is None:
        raise TacitError("an operator on secrets without a secret among its operands")
    signature = KNOWN.get(whole := tuple(key)) or _new(whole, func, args, kwargs)
    public = signature.public
    return protocol.session, signature, _public(args, kwargs) if public is None else public


def ask_once(func: Any, args: Any, kwargs: Any) -> None:
    """Raise what PyTorch raises for such a call on plain tensors: for operators that do not come by the dispatch."""
    _describe(func, args, kwargs)


def _add(key: list[Any], operands: Iterable[Any], protocol: Protocol | None) -> Protocol | None:
    """Add operands, and those in lists, to the key of a signature; return the protocol of the secrets among them."""
    for x in operands:
        kind = type(x)
        if kind is SecretTensor:
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
                protocol = _add(key, x, protocol)
        elif isinstance(x, Tensor):
            key += ("public", x.shape, x.stride(), x.dtype)
        elif kind is not torch.Generator:  # whose repr is an address, another one at each role
            key += (kind, x)
    return protocol


SCALARS = frozenset({int, bool, type(None), str, torch.dtype, torch.layout, torch.device, torch.memory_format})
SEQUENCES = frozenset({list, tuple, torch.Size})
WHOLE = frozenset({int, bool})


def _new(key: Any, func: Any, args: Any, kwargs: Any) -> Signature:
    """Ask PyTorch, and remember what it answers."""
    tensors = [x for x in leaves(args, kwargs) if type(x) not in SCALARS and isinstance(x, Tensor)]
    answer = asked(key, func, args, kwargs, SecretTensor)
    shapes = [f"{'secret' if isinstance(x, SecretTensor) else 'public'} {_shape(x.shape)}" for x in tensors]
    public = _public(args, kwargs) if all(isinstance(x, SecretTensor) for x in tensors) else None
    KNOWN[key] = signature = Signature(f"{func}({', '.join(shapes)})", public, answer)
    return signature


def _public(args: Any, kwargs: Any) -> bytes:
    """All that is public among the operands."""
    found: list[bytes] = []
    for x in leaves(args, kwargs):
        kind = type(x)
        if kind in SCALARS:  # asking whether something is a tensor takes as long as all the rest
            found.append(repr(x).encode())
        elif kind is not SecretTensor and kind is not torch.Generator:
            found.append(fingerprint(x) if isinstance(x, Tensor) else repr(x).encode())
    return b"|".join(found)


def _instead(func: Any, args: Any, kwargs: Any) -> Any:
    """What PyTorch does in terms of other operators, if it does not refuse."""
    try:
        in_terms_of_others(func)
    except UnsupportedOperator:
        return otherwise(func, args, kwargs)
    key: list[Any] = [func, *kwargs]
    _add(key, (*args, *kwargs.values()), None)
    if (whole := tuple(key)) not in KNOWN:
        ask(func, args, kwargs, SecretTensor)
        KNOWN[whole] = Signature("", None, None)
    return otherwise(func, args, kwargs)


def _owned(func: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The operands with copies of the plain tensors that the operator reads: a caller may overwrite his own later.

    What is public is remembered, in a content known to be public, as the positions and summands by which one secret
    came from another: later operators look there.
    """
    written = _written(func)
    if not written:
        return [_own(x) for x in args], {name: _own(x) for name, x in kwargs.items()} if kwargs else kwargs
    for k, x in (*enumerate(args), *kwargs.items()):
        if written.get(k) and isinstance(x, Tensor) and not isinstance(x, SecretTensor) and func not in FLAGGING:
            raise no_place_for_a_secret(f"{public_name(func)} would write a secret into a plain tensor")
    args = [x if k in written else _own(x) for k, x in enumerate(args)]
    return args, {name: x if name in written else _own(x) for name, x in kwargs.items()} if kwargs else kwargs


def _own(x: Any) -> Any:
    kind = type(x)
    if kind is SecretTensor or kind in SCALARS or kind is float:
        return x
    if isinstance(x, Tensor):
        return x if isinstance(x, SecretTensor) else x.clone()
    return [_own(y) for y in x] if isinstance(x, (list, tuple)) else x


@cache
def _written(func: Any) -> dict[int | str, bool]:
    """The places and names of the arguments that an operator writes to or returns views of, and whether it writes."""
    found = [(k, a) for k, a in enumerate(func._schema.arguments) if a.alias_info is not None]
    return {key: a.alias_info.is_write for k, a in found for key in (k, a.name)}


FLAGGING = frozenset({torch.ops.aten._amp_foreach_non_finite_check_and_unscale_.default})
"""Operators that write something public beside secrets."""


def no_place_for_a_secret(what: str) -> TacitError:
    """The error for a plain tensor that a secret would be written into."""
    return TacitError(
        f"{what} ({source_line()}): make the target with torch.zeros_like(secret), or share what it belongs to, "
        f"tacit.share(module) before its optimizer is made{advice()}"
    )


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
