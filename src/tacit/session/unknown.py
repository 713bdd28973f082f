"""What a program is given for a revealed value while its run is prepared: something of the same shape without values.

All that does not depend on the values goes on: shapes, views, sums, what is printed, what one role does by itself. What
asks for a value to decide something, or to compute with secrets, is refused: the run to come may decide otherwise, and
would then need other correlations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from tacit.errors import RevealError

__all__ = ["Unknown", "UnknownNumber", "refuse", "unknown"]

SHOWN = "(unknown while preparing)"


def unknown(shape: Sequence[int], dtype: torch.dtype, name: str) -> Unknown:
    """Stand for a value of which shape and dtype are known."""
    out = torch.empty(tuple(shape), dtype=dtype, device="meta").as_subclass(Unknown)
    out.revealed = name
    return out


def refuse(name: str) -> NoReturn:
    """Say that a value is needed which is not there."""
    raise RevealError(
        f"the program depends on the value of {name!r}, which is revealed in its run and not while it is prepared: let "
        'what one role does with it stand under `if tacit.is_role("…")`, or reveal it after the run that is prepared'
    )


class Unknown(Tensor):
    """A tensor of no values, on the meta device."""

    revealed: str

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do what needs no values; a result has the name of what it comes from."""
        leaves = [
            x for arg in (*args, *(kwargs or {}).values()) for x in (arg if isinstance(arg, list | tuple) else [arg])
        ]
        name = next(x.revealed for x in leaves if isinstance(x, Unknown))
        if func in (Tensor.__repr__, Tensor.__format__):
            return SHOWN
        if func is Tensor.item:
            return UnknownNumber(name)
        if func is Tensor.tolist:
            return _nested(tuple(args[0].shape), name)
        if any(isinstance(x, Tensor) and type(x) not in (Unknown, Tensor, torch.nn.Parameter) for x in leaves):
            refuse(name)  # there is a secret among them
        try:
            out = super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]
        except (RuntimeError, NotImplementedError, TypeError):
            refuse(name)
        for x in out if isinstance(out, list | tuple) else [out]:
            if isinstance(x, Unknown):
                x.revealed = name
        return out


def _nested(shape: tuple[int, ...], name: str) -> Any:
    return [_nested(shape[1:], name) for _ in range(shape[0])] if shape else UnknownNumber(name)


class UnknownNumber:
    """A number that can be computed with and shown, and that nothing can be decided by."""

    __slots__ = ("revealed",)

    def __init__(self, revealed: str) -> None:
        self.revealed = revealed

    def __format__(self, spec: str) -> str:
        return SHOWN

    def __repr__(self) -> str:
        return SHOWN

    def _same(self, *others: object) -> UnknownNumber:
        if any(isinstance(x, Tensor) for x in others):
            refuse(self.revealed)
        return self

    def _refuse(self, *others: object) -> NoReturn:
        refuse(self.revealed)

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _same
    __neg__ = __abs__ = __pow__ = __rpow__ = __round__ = _same
    __bool__ = __int__ = __float__ = __index__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = _refuse
    __hash__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __trunc__ = __floor__ = __ceil__ = _refuse
