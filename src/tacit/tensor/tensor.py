"""The secret tensor: a `torch.Tensor` whose values are shared among the parties.

PyTorch supplies the API, autograd, `torch.nn`, `torch.optim` and `DataLoader`. Below autograd every program is a
sequence of ATen operators, for each of which PyTorch calls `dispatch`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, NoReturn, Self

import torch
from torch import Tensor

from tacit.errors import RevealError, TacitError
from tacit.protocols.protocol import Protocol
from tacit.protocols.values import Value
from tacit.session.changes import while_open
from tacit.session.ledger import source_line
from tacit.tensor.dispatch import dispatch
from tacit.tensor.libraries import advice, answer
from tacit.tensor.refusals import no_place_for_a_secret

__all__ = ["Deferred", "SecretTensor"]

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

    __torch_dispatch__ = classmethod(dispatch)  # type: ignore[assignment]

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


GUARDED = property(DATA.__get__, _assign_data)


@while_open
def _guarded() -> Iterator[None]:
    """PyTorch asks the tensor that is assigned to, and never the one assigned; what it makes of a secret ends the
    process when it is read. Secrets outlive their session, so this stays from the first one on."""
    Tensor.data = GUARDED  # type: ignore[assignment]
    yield
