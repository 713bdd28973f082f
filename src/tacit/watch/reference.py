"""PyTorch's own result of an operator on plain values, and what the rounding of its operands explains."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._decomp import decomposition_table

from tacit.tensor import SecretTensor

__all__ = ["Operand", "Reference", "flat", "leaves"]

PATTERNS = ((1, 1), (-1, -1), (1, -1), (-1, 1))
"""Signs by which the first and the second operand are moved, and all others in turn: between them lies the largest
effect that rounding has on one element. Effects on sums are drawn at random."""

PUBLIC_ROUNDING = 2.0**-17
"""Of a public factor, as a part of its largest element: 16 significant bits are kept, see `encode_public`."""


INSTEAD = {
    torch.ops.aten.log_sigmoid_backward.default: lambda grad, x, buffer: grad * torch.sigmoid(-x),
    **{f: decomposition_table[f] for f in (torch.ops.aten._fused_rms_norm_backward.default,)},
}
"""For an operator whose operands hold something else on secrets: the same of the operands that do not."""


class Operand(NamedTuple):
    """A secret among the operands."""

    tensor: SecretTensor
    value: Tensor
    """float64, int64 or bool."""
    rounding: Tensor | float
    """By how much it may have been rounded before use."""


class Reference:
    """An operator on plain values: the very call, with float64 in the place of all floats."""

    def __init__(
        self,
        func: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        operands: Sequence[Operand],
        random: tuple[torch.Generator, Tensor] | None = None,
    ) -> None:
        """`random` is the generator that the operator draws from, if it does, and its state before."""
        self._func, self._args, self._kwargs = INSTEAD.get(func, func), args, kwargs
        self._operands = {id(o.tensor): o for o in operands}
        self._random = random
        self._wide = random is None
        """Whether floats are float64: what is drawn depends on the dtype, and some operators know float32 only."""
        self._singles = any(o.tensor.dtype == torch.float32 for o in operands)
        """Whether numbers are rounded to float32, as they are beside tensors of it."""
        self._pointwise = torch.Tag.pointwise in func.tags

    def narrow(self) -> None:
        """Take float32 from now on."""
        self._wide = False

    def run(self, move: Callable[[int, Tensor, Tensor | float], Tensor] | None = None) -> tuple[Any, dict[int, Tensor]]:
        """The result, and the operands (by the secrets' ids) as the operator leaves them.

        `move` gives an operand another value: by its place among them, from its value and its rounding.
        """
        plain: dict[int, Tensor] = {}

        def one(x: Any) -> Any:
            if isinstance(x, Tensor):
                if id(x) not in plain:
                    plain[id(x)] = self._plain(x, len(plain), move)
                return plain[id(x)]
            if isinstance(x, torch.dtype) and x.is_floating_point and self._wide:
                return torch.float64
            if type(x) is float and self._singles and abs(x) < torch.finfo(torch.float32).max:
                return torch.tensor(x, dtype=torch.float32).item()
            return [one(y) for y in x] if isinstance(x, list | tuple) else x

        args = [one(x) for x in self._args]
        kwargs = {name: one(x) for name, x in self._kwargs.items()}
        with self._surroundings():
            result = self._func(*args, **kwargs)
        return result, {key: plain[key] for key in self._operands if key in plain}

    def _plain(self, x: Tensor, place: int, move: Any) -> Tensor:
        operand = self._operands.get(id(x))
        if operand is None:
            value = x.detach()
            value = value.double().clone() if self._wide and x.is_floating_point() else value.clone()
            rounding: Tensor | float = (
                PUBLIC_ROUNDING * float(value.abs().max()) if x.is_floating_point() and x.numel() else 0.0
            )
        else:
            value, rounding = operand.value.clone(), operand.rounding
            if not (x.dtype.is_floating_point and self._wide):
                value = value.to(x.dtype)
        if move is None or not value.dtype.is_floating_point:
            return value
        return move(place, value, rounding)  # type: ignore[no-any-return]

    @contextmanager
    def _surroundings(self) -> Iterator[None]:
        """Nothing of PyTorch's state is another one afterwards, its public generator least of all."""
        default = torch.get_default_dtype()
        generator, before = self._random or (torch.default_generator, None)
        now = None if before is None else generator.get_state()
        try:
            if self._wide:
                torch.set_default_dtype(torch.float64)
            if before is not None:
                generator.set_state(before)
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                yield
        finally:
            torch.set_default_dtype(default)
            if now is not None:
                generator.set_state(now)

    def spread(self, choose: Callable[[Any, dict[int, Tensor]], Tensor], generator: torch.Generator) -> list[Tensor]:
        """Some results (the part that `choose` takes of them) with operands off by twice their rounding."""
        found = []
        for signs in PATTERNS:

            def move(place: int, value: Tensor, rounding: Any, signs: Any = signs) -> Tensor:
                if self._pointwise:
                    moved: Tensor = value + 2 * signs[place % 2] * rounding
                else:
                    moved = value + 2 * rounding * (2 * torch.randint(0, 2, value.shape, generator=generator) - 1)
                return moved

            try:
                found.append(choose(*self.run(move)))
            except (RuntimeError, IndexError, ValueError):  # moved out of what PyTorch takes
                continue
        return found


def flat(x: Any) -> list[Any]:
    """The results of an operator: ATen returns a tensor, several, lists of them, or nothing."""
    if isinstance(x, list | tuple):
        return [z for y in x for z in flat(y)]
    return [x]


def leaves(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """Operands, with those in lists."""
    return flat([*args, *kwargs.values()])
