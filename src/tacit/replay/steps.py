"""Calls of a recording as steps of the native module, of which a run is one call: see `ring/cpp/steps.cpp`.

Operators on integers, of few elements, wherever these lie; kernels; draws. What is none of these, or has operands that
overlap, is called as PyTorch has it, which is also what every step is compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tacit.net.transcript import Again, Transcript
from tacit.ring import _native
from tacit.ring.kernels.native import Step
from tacit.ring.ring import RING

__all__ = ["Talk", "fused", "kernel_step", "steps_of"]

MOST = 1 << 16
"""Elements up to which a step is made of an operator: one thread is done with them in some 30 µs. PyTorch's loops have
more threads, and cost 3 to 10 µs to get to."""

TYPES = {
    torch.int64: 0,
    torch.int32: 1,
    torch.int16: 2,
    torch.int8: 3,
    torch.uint8: 4,
    torch.bool: 5,
}
ADD, MULTIPLY, XOR, AND, OR, SHIFT_UP, SHIFT_DOWN, LESS, GREATER, EQUAL, UNEQUAL = range(11)  # steps.cpp
BINARY = {
    "mul": MULTIPLY,
    "xor": XOR,
    "ixor": XOR,
    "bitwise_xor": XOR,
    "and": AND,
    "iand": AND,
    "bitwise_and": AND,
    "or": OR,
    "ior": OR,
    "bitwise_or": OR,
    "lshift": SHIFT_UP,
    "ilshift": SHIFT_UP,
    "bitwise_left_shift": SHIFT_UP,
    "rshift": SHIFT_DOWN,
    "irshift": SHIFT_DOWN,
    "bitwise_right_shift": SHIFT_DOWN,
    "lt": LESS,
    "gt": GREATER,
    "eq": EQUAL,
    "ne": UNEQUAL,
}
OF_TRUTH = frozenset({XOR, AND, OR, LESS, GREATER, EQUAL, UNEQUAL})
"""What is right of truth values as of the words 0 and 1."""
BY_VALUE = frozenset({SHIFT_UP, SHIFT_DOWN, LESS, GREATER, EQUAL, UNEQUAL})
"""Where a number must be one of its tensor's type: the others are the same modulo 2^64."""


class Talk(NamedTuple):
    """A call that others hear of, or hear from: what came before it has been done, and entered, by then."""

    call: Callable[[], Any]


Entry = Step | Again | Talk | Callable[[], Any]


def fused(entries: Sequence[Entry], transcript: Transcript) -> list[Callable[[], Any]]:
    """The calls of a replay: steps in a row are one, and so is what enters the transcript between two talks."""
    out: list[Callable[[], Any]] = []
    steps: list[Step] = []
    rows: list[Again] = []

    def run() -> None:
        if steps:
            out.append(steps[0] if len(steps) == 1 else _native.Steps(tuple(steps)))
            steps.clear()

    def enter() -> None:
        if rows:
            out.append(partial(transcript.again, tuple(rows)))
            rows.clear()

    for entry in entries:
        if isinstance(entry, _native.Step):
            steps.append(entry)
        elif isinstance(entry, Again):
            rows.append(entry)
        else:
            run()
            if isinstance(entry, Talk):
                enter()
                out.append(entry.call)
            else:
                out.append(entry)
    run()
    enter()
    return out


def kernel_step(function: Any, args: Sequence[Any]) -> Step | None:
    """A kernel as a step, if it is one that returns nothing."""
    name = getattr(function, "__name__", "")
    if not _native.has_step(name):
        return None
    made: Step = _native.step(name, *args)
    return made


def steps_of(func: Any, args: Any, kwargs: Any, outs: Sequence[Tensor]) -> list[Step] | None:
    """What an operator writes to `outs`, or to an operand, as steps; None where PyTorch does it."""
    name = func._schema.name.removeprefix("aten::")
    if func._schema.is_mutable:
        outs = [kwargs.get("out", args[0] if args else None)]
    out = outs[0] if len(outs) == 1 else None
    if not isinstance(out, Tensor) or not _fits(out):
        return None
    more = {key: value for key, value in kwargs.items() if key != "out"}
    base = name.strip("_")
    try:
        if base in _SHAPED:
            return list(_SHAPED[base](out, *args, **more))
        if base in ("add", "sub"):
            return list(_added(-1 if base == "sub" else 1, out, *args, **more))
        if base in BINARY and len(args) == 2 and not more:
            return list(_binary(BINARY[base], out, *args))
    except (TypeError, RuntimeError):  # no step is made of it, or its arguments are not those that are expected here
        pass
    return None


# --- operators --------------------------------------------------------------------------------------------------------


def _fits(x: Any) -> bool:
    return x.dtype in TYPES and x.is_cpu and x.numel() <= MOST and not x.is_conj() and not x.is_neg()


def _layout(x: Tensor) -> Any:
    if not _fits(x):
        raise NotImplementedError
    storage = x.untyped_storage()
    return storage.data_ptr(), storage.nbytes(), x.storage_offset(), list(x.stride()), TYPES[x.dtype]


def _region(x: Tensor) -> tuple[int, int]:
    span = 1 + sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True))
    return x.data_ptr(), x.data_ptr() + span * x.itemsize


def _apart(out: Tensor, x: Tensor, *, same: bool) -> None:
    """Raise if what is written is read by another element than that which is written there."""
    if any(n > 1 and not s for n, s in zip(out.shape, out.stride(), strict=True)):
        raise NotImplementedError
    (a, b), (c, d) = _region(out), _region(x)
    if a < d and c < b:
        one = x.data_ptr() == out.data_ptr() and x.shape == out.shape and x.dtype == out.dtype
        if not (same and one and x.stride() == out.stride()):
            raise NotImplementedError


def _operand(out: Tensor, x: Any) -> Any:
    if isinstance(x, Tensor):
        if not _fits(x) or torch.broadcast_shapes(x.shape, out.shape) != out.shape:
            raise NotImplementedError
        x = x.expand(out.shape)
        if x.numel():
            _apart(out, x, same=True)
        return _layout(x)
    if type(x) is not int:
        raise NotImplementedError
    return RING.signed(x % (1 << RING.bits))


def _each(kind: int, factor: int, out: Tensor, a: Any, b: Any) -> Iterator[Step]:
    a, b = _operand(out, a), _operand(out, b)
    if out.numel():
        _apart(out, out, same=True)
        yield _native.elementwise(kind, factor, list(out.shape), _layout(out), a, b)


def _added(sign: int, out: Tensor, x: Any, y: Any, *, alpha: Any = 1) -> Iterator[Step]:
    if type(alpha) is not int or torch.bool in (out.dtype, *(t.dtype for t in (x, y) if isinstance(t, Tensor))):
        raise NotImplementedError
    return _each(ADD, sign * alpha, out, x, y)


def _binary(kind: int, out: Tensor, x: Any, y: Any) -> Iterator[Step]:
    types = [t.dtype for t in (x, y) if isinstance(t, Tensor)]
    if kind not in OF_TRUTH and torch.bool in (out.dtype, *types):
        raise NotImplementedError
    if kind in BY_VALUE:
        common = torch.result_type(x, y)
        if any(torch.promote_types(dtype, common) is not common for dtype in types):
            raise NotImplementedError  # a tensor without dimensions becomes one of the other's type
        for number in (x, y):
            if type(number) is int and not all(_holds(dtype, number) for dtype in types):
                raise NotImplementedError
    return _each(kind, 1, out, x, y)


def _holds(dtype: torch.dtype, number: int) -> bool:
    return dtype is not torch.bool and torch.iinfo(dtype).min <= number <= torch.iinfo(dtype).max


def _copied(out: Tensor, x: Any, *_: Any, **__: Any) -> Iterator[Step]:
    if not isinstance(x, Tensor):
        raise NotImplementedError
    if x.shape != out.shape and x.numel() == out.numel() and out.is_contiguous():
        out = out.view(x.shape)  # of a reshape
    return _each(ADD, 1, out, x, 0)


def _copied_to(out: Tensor, into: Tensor, x: Any, *_: Any) -> Iterator[Step]:
    return _each(ADD, 1, out, x, 0)


def _filled(out: Tensor, *_: Any, **__: Any) -> Iterator[Step]:
    return _each(ADD, 1, out, 0, 0)


def _negative(out: Tensor, x: Any) -> Iterator[Step]:
    if torch.bool in (out.dtype, x.dtype):
        raise NotImplementedError
    return _each(ADD, -1, out, 0, x)


def _inverse(out: Tensor, x: Any) -> Iterator[Step]:
    if torch.bool in (out.dtype, x.dtype):
        raise NotImplementedError
    return _each(XOR, 1, out, x, -1)


def _sum(out: Tensor, x: Tensor, dims: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Iterator[Step]:
    if dtype not in (None, torch.int64) or out.dtype is not torch.int64 or not out.numel():
        raise NotImplementedError
    over = {d % max(x.dim(), 1) for d in (dims if dims else range(x.dim()))}
    strides = iter(out.stride())
    steps = []
    for d in range(x.dim()):
        if d in over:
            steps.append(0)
            if keepdim:
                next(strides)
        else:
            steps.append(next(strides))
    _apart(out, x, same=False)
    layout = _layout(out)
    yield _native.sum(list(x.shape), (*layout[:3], steps, layout[4]), _layout(x), list(out.shape), layout)


def _product(out: Tensor, x: Tensor, y: Tensor) -> Iterator[Step]:
    if any(t.dtype is not RING.dtype for t in (out, x, y)) or x.dim() != y.dim() or x.dim() not in (2, 3):
        raise NotImplementedError
    if x.dim() == 2:
        out, x, y = out.unsqueeze(0), x.unsqueeze(0), y.unsqueeze(0)
    (batch, rows, inner), columns = x.shape, y.shape[2]
    if y.shape[:2] != (batch, inner) or out.shape != (batch, rows, columns) or not inner or not out.numel():
        raise NotImplementedError
    _apart(out, x, same=False)
    _apart(out, y, same=False)
    left, right, into = ((t.data_ptr(), *t.stride()) for t in (x, y, out))
    yield _native.step("matmul", left, right, into, batch, rows, inner, columns, torch.get_num_threads())


def _end_to_end(out: Tensor, parts: Sequence[Tensor], dim: int = 0) -> Iterator[Step]:
    at = 0
    for part in parts:
        if part.dim() == 1 and not part.numel():
            continue
        size = part.shape[dim]
        yield from _each(ADD, 1, out.narrow(dim, at, size), part, 0)
        at += size
    if at != out.shape[dim]:
        raise NotImplementedError


def _side_by_side(out: Tensor, parts: Sequence[Tensor], dim: int = 0) -> Iterator[Step]:
    for k, part in enumerate(parts):
        yield from _each(ADD, 1, out.select(dim, k), part, 0)


def _padded(out: Tensor, x: Tensor, pad: Sequence[int], *more: Any, **others: Any) -> Iterator[Step]:
    said = [*more, *others.values()]  # the mode and the value of `pad`, the value of `constant_pad_nd`
    if any(x not in ("constant", None, 0) for x in said) or any(n < 0 for n in pad):
        raise NotImplementedError
    yield from _filled(out)
    inside = out
    for k in range(len(pad) // 2):
        d = x.dim() - 1 - k
        inside = inside.narrow(d, pad[2 * k], x.shape[d])
    yield from _each(ADD, 1, inside, x, 0)


def _indexed(out: Tensor, x: Tensor, indices: Sequence[Tensor | None]) -> Iterator[Step]:
    found = [d for d, index in enumerate(indices) if index is not None]
    if len(found) != 1:
        raise NotImplementedError
    (d,) = found
    index = indices[d]
    assert index is not None
    shape = (*x.shape[:d], *index.shape, *x.shape[d + 1 :])
    if index.dtype is not torch.int64 or out.shape != shape or out.dtype != x.dtype or not out.numel():
        raise NotImplementedError
    _apart(out, x, same=False)
    _apart(out, index, same=False)
    ahead, behind = d, x.dim() - d - 1
    places = index.reshape((1,) * ahead + index.shape + (1,) * behind).expand(shape)
    start, size, offset, strides, kind = _layout(x)
    steps = [*strides[:d], *[0] * index.dim(), *strides[d + 1 :]]
    rest = x.shape[d], strides[d]
    yield _native.gather(list(shape), _layout(out), (start, size, offset, steps, kind), _layout(places), *rest)


def _gathered(out: Tensor, x: Tensor, dim: int, index: Tensor) -> Iterator[Step]:
    if index.dtype is not torch.int64 or out.shape != index.shape or out.dtype != x.dtype or not out.numel():
        raise NotImplementedError
    if x.dim() != index.dim() or not x.dim():
        raise NotImplementedError
    _apart(out, x, same=False)
    _apart(out, index, same=False)
    start, size, offset, strides, kind = _layout(x)
    d = dim % x.dim()
    step, strides[d] = strides[d], 0
    at = start, size, offset, strides, kind
    yield _native.gather(list(index.shape), _layout(out), at, _layout(index), x.shape[d], step)


def _scattered(out: Tensor, x: Tensor, dim: int, index: Tensor, source: Any) -> Iterator[Step]:
    if out is not x or not isinstance(source, Tensor) or index.dtype is not torch.int64 or source.dtype != x.dtype:
        raise NotImplementedError
    if x.dim() != index.dim() or source.dim() != x.dim() or not x.dim() or not index.numel():
        raise NotImplementedError
    if any(n > m for n, m in zip(index.shape, source.shape, strict=True)):
        raise NotImplementedError
    _apart(out, source, same=False)
    _apart(out, index, same=False)
    for k, n in enumerate(index.shape):
        source = source.narrow(k, 0, n)
    start, size, offset, strides, kind = _layout(x)
    d = dim % x.dim()
    step, strides[d] = strides[d], 0
    at = start, size, offset, strides, kind
    yield _native.scatter(list(index.shape), at, _layout(source), _layout(index), x.shape[d], step)


_SHAPED: dict[str, Callable[..., Iterator[Step]]] = {
    "clone": _copied,
    "to_copy": _copied,
    "to": _copied,
    "lift_fresh_copy": _copied,
    "contiguous": _copied,
    "reshape": _copied,
    "copy": _copied_to,
    "zero": _filled,
    "zeros": _filled,
    "zeros_like": _filled,
    "new_zeros": _filled,
    "neg": _negative,
    "bitwise_not": _inverse,
    "sum": _sum,
    "mm": _product,
    "bmm": _product,
    "matmul": _product,
    "cat": _end_to_end,
    "stack": _side_by_side,
    "pad": _padded,
    "constant_pad_nd": _padded,
    "index": _indexed,
    "gather": _gathered,
    "scatter": _scattered,
}
