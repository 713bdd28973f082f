"""What PyTorch says to an operator on tensors of some shapes and dtypes: asked once for each signature.

A signature is an operator with the shapes, dtypes and public arguments of a call. Before it runs on secrets for the
first time PyTorch runs it on zeros in their place, by the kernels that plain tensors on a CPU get. Meta tensors would
do for shapes and dtypes, but many checks are made by kernels only; what is too large is asked on meta tensors. What
PyTorch refuses is refused with PyTorch's own exception. What it answers is compared, in shape and dtype, with the first
result on secrets. Everybody knows what is asked, so all roles hear the same answer.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tacit.errors import ASKED, ResultMismatch
from tacit.ring.memory import zeros

__all__ = [
    "DIFFERENCES",
    "KNOWN",
    "LARGEST",
    "NOT_ASKED",
    "REMEMBERED",
    "Signature",
    "ask",
    "asked",
    "compare",
    "leaves",
]

aten = torch.ops.aten

LARGEST = 1 << 26
"""Elements of all operands of a call that is run on zeros. More: the checks that only kernels make are made for larger
calls, too; fewer: less memory. The work, once, is a few hundredths of that of the first run on secrets."""

REMEMBERED = 1 << 13
"""Signatures that are kept, a kilobyte each; of more, the older half is asked for again. A program has hundreds."""

VALUES_MATTER_NOT = ("add", "sub", "rsub", "mul", "div", "addcmul", "addcdiv", "lerp", "_foreach", "_amp_foreach")
"""Operators whose float arguments decide nothing about shapes, and are new in every step of an optimizer."""

DIFFERENCES: dict[Any, tuple[int, str]] = {
    aten._embedding_bag.default: (1, "the bag that each row is in is kept for secret rows, too"),
    aten._embedding_bag_forward_only.default: (1, "the bag that each row is in is kept for secret rows, too"),
    aten.log_sigmoid_forward.default: (1, "no buffer is kept for the backward pass"),
    aten.mkldnn_rnn_layer.default: (3, "the workspace for the backward pass is one of secrets"),
}
"""Operators whose results are those of PyTorch in shape and dtype up to this one, and why the others are not."""

NOT_ASKED: dict[Any, str] = {
    aten.as_strided.default: "it depends on the storage, about which its handler asks PyTorch",
    aten.linalg_lu_solve.default: "zeros are no pivots",
    aten.log_sigmoid_backward.default: "it takes the buffer of its forward pass",
    aten.mkldnn_rnn_layer_backward.default: "it takes the workspace of its forward pass",
}
"""Operators that PyTorch cannot say anything about, and why."""

INDEXED = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
"""Operators whose results depend, in shape, on the values of a mask, of which PyTorch would see zeros."""

HINTS: dict[Any, tuple[str, str]] = {
    aten.cat.default: ("must match except in dimension 1", "do both owners hold the same rows?"),
}
"""Words that PyTorch refuses an operator with, and what is usually wrong then."""

Answer = tuple[Any, ...]
"""Shape and dtype of each result, None where there is none."""


class Operator(NamedTuple):
    """What its schema says of an operator."""

    floats: bool
    """Whether the values of floats decide anything."""
    asked: bool
    """Whether PyTorch can say something that its handler does not hear anyway. What draws random numbers is not asked:
    that would move PyTorch's generator, and its handlers let PyTorch draw. Nor are views, which PyTorch makes of the
    shares as well; programs take one row after another. Nor what is done among processes."""
    writes: bool
    """Whether it writes to an operand."""


@cache
def _operator(func: Any) -> Operator:
    base = func._schema.name.removeprefix("aten::")
    return Operator(
        not base.startswith("_foreach") and base.rstrip("_") not in VALUES_MATTER_NOT,
        func not in NOT_ASKED
        and func.namespace == "aten"
        and torch.Tag.nondeterministic_seeded not in func.tags
        and "dropout" not in base
        and not any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns),
        func._schema.is_mutable,
    )


class Signature:
    """What is remembered of a signature."""

    __slots__ = ("answer", "line", "public")

    def __init__(self, line: str, public: bytes | None, answer: Answer | None) -> None:
        self.line = line
        """The operator with its shapes, for the transcript."""
        self.public = public
        """The public arguments, for the transcript, where all of them are part of the signature."""
        self.answer = answer
        """What the first result has to look like; None when it has been compared, or PyTorch has no opinion."""


class Bounded(dict[Any, Any]):
    """A dictionary that forgets the older half of its entries when it has too many."""

    def __setitem__(self, key: Any, value: Any) -> None:
        if len(self) >= REMEMBERED:
            for old in list(islice(self, max(1, len(self) // 2))):
                self.pop(old, None)
        super().__setitem__(key, value)


KNOWN: dict[Any, Signature] = Bounded()
"""From the key of a signature, which `tacit.tensor` makes, to what is known of it."""
ANSWERS: dict[Any, bool] = Bounded()
"""Keys without values of floats that decide nothing, of signatures that PyTorch does not refuse."""


# --- the question -----------------------------------------------------------------------------------------------------


def asked(key: Any, func: Any, args: Any, kwargs: Any, secret: type[Tensor]) -> Answer | None:
    """PyTorch's answer, as `ask` gives it; None as well if the same has been asked with other numbers."""
    if _operator(func).floats:
        return ask(func, args, kwargs, secret)
    known = tuple(None if type(x) is float else x for x in key)
    if known in ANSWERS:
        return None
    answer = ask(func, args, kwargs, secret)
    ANSWERS[known] = True
    return answer


def ask(func: Any, args: Any, kwargs: Any, secret: type[Tensor]) -> Answer | None:
    """PyTorch's answer for these arguments, those of type `secret` without their values; None if it has no opinion.

    Raises what PyTorch raises.
    """
    operator = _operator(func)
    if not operator.asked or (func in INDEXED and _by_secret_mask(args[0], args[1], secret)):
        return None

    def on_cpu(x: Tensor) -> Tensor:
        return _on_cpu(x, operator, secret)

    size = sum(x.numel() for x in leaves(args, kwargs) if isinstance(x, Tensor))
    try:
        answer = _question(func, args, kwargs, on_cpu) if size <= LARGEST else None
        return _question(func, args, kwargs, _on_meta) if answer is None else answer
    except Exception as error:
        refusal = _with_hint(error, func)
        setattr(refusal, ASKED, True)
        raise refusal from None


def _by_secret_mask(x: Tensor, indices: Any, secret: type[Tensor]) -> bool:
    """Whether there are secret masks among the indices. Those of other shapes than what they index are refused, in
    PyTorch's words, and so are bytes, which are masks to PyTorch and positions here."""
    found, at = False, 0
    for i in indices:
        mask = i is not None and i.dtype in (torch.bool, torch.uint8)
        if mask and isinstance(i, secret):
            found = True
            if i.dtype is torch.uint8:
                raise IndexError(
                    "a secret of dtype uint8 is a mask to PyTorch: write x[mask.bool()], or x[places.long()]"
                )
            for d, n in enumerate(i.shape):
                if at + d >= x.dim() or x.shape[at + d] != n:
                    raise IndexError(
                        f"The shape of the mask {list(i.shape)} at index {d} does not match the shape of the indexed "
                        f"tensor {list(x.shape)} at index {at + d}"
                    )
        at += i.dim() if mask else 1
    return found


def _question(func: Any, args: Any, kwargs: Any, stand_in: Callable[[Tensor], Tensor]) -> Answer | None:
    """PyTorch's answer on stand-ins; None if it is about them, and not about the call."""
    made: dict[int, Tensor] = {}

    def once(x: Tensor) -> Tensor:
        if id(x) not in made:
            made[id(x)] = stand_in(x)
        return made[id(x)]

    args = [_replaced(x, once) for x in args]
    kwargs = {k: _replaced(x, once) for k, x in kwargs.items() if not isinstance(x, torch.Generator)}
    device = next(x.device for x in made.values())
    kwargs = {k: device if isinstance(x, torch.device) else x for k, x in kwargs.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return described(func(*args, **kwargs))
    except Exception as error:
        if _about_values(error, made.values()):
            return None
        raise


def _replaced(x: Any, stand_in: Callable[[Tensor], Tensor]) -> Any:
    """An argument with other tensors. A function of its own: one that calls itself as a closure is a circle, which
    would hold stand-ins until Python looks for circles, however large they are."""
    if isinstance(x, Tensor):
        return stand_in(x)
    return [_replaced(y, stand_in) for y in x] if isinstance(x, (list, tuple)) else x


def described(result: Any) -> Answer:
    """Shape and dtype of each tensor of a result."""
    results = result if isinstance(result, (list, tuple)) else (result,)
    flat = [y for x in results for y in (x if isinstance(x, (list, tuple)) else (x,))]
    return tuple((x.shape, x.dtype) if isinstance(x, Tensor) else None for x in flat)


def _on_meta(x: Tensor) -> Tensor:
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


def _on_cpu(x: Tensor, operator: Operator, secret: type[Tensor]) -> Tensor:
    """Zeros for a secret; a public tensor itself, or a copy where it may be written to."""
    if not isinstance(x, secret):
        return x.detach().clone() if operator.writes else x.detach()
    if x.is_contiguous():
        return zeros(x.shape, x.dtype)
    extent = 1 + sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True))
    return zeros((extent,), x.dtype).as_strided(x.shape, x.stride())


def _about_values(error: Exception, made: Iterable[Tensor]) -> bool:
    """Whether PyTorch complains of values that are not those of the call, or lacks a kernel on this device."""
    if any(x.is_meta for x in made):
        return isinstance(error, NotImplementedError) or "meta" in str(error)
    if type(error).__name__ == "_LinAlgError" or "ZeroDivisionError" in str(error):
        return True
    return isinstance(error, NotImplementedError) and (
        "not implemented for '" not in str(error) or any(x.dtype in (torch.half, torch.bfloat16) for x in made)
    )


def _with_hint(error: Exception, func: Any) -> Exception:
    words, hint = HINTS.get(func, ("", ""))
    if not hint or words not in str(error):
        return error.with_traceback(None)
    return type(error)(f"{error} ({hint})")


def leaves(args: Any, kwargs: Any) -> list[Any]:
    """Operands, with those in lists: ATen nests no deeper."""
    found: list[Any] = []
    for x in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(x, (list, tuple)):
            found += x
        else:
            found.append(x)
    return found


# --- the comparison ---------------------------------------------------------------------------------------------------


def compare(func: Any, signature: Signature, result: Any) -> None:
    """Raise `ResultMismatch` if the first result of a signature is not what PyTorch makes, in shape or dtype."""
    wanted, found = signature.answer, described(result)
    if wanted is not None and func in DIFFERENCES:
        count = DIFFERENCES[func][0]
        found, wanted = found[:count], wanted[:count]
    if wanted is not None and found != wanted:
        raise ResultMismatch(
            f"{signature.line} gave {_shown(found)} where PyTorch gives {_shown(wanted)}: this is a bug of Tacit, "
            f"please report it with this line"
        )
    signature.answer = None


def _shown(answer: Answer) -> str:
    return ", ".join("nothing" if a is None else f"{a[1]} {tuple(a[0])}" for a in answer) or "nothing"
