"""Steps of the native module are what PyTorch, kernels and key streams do: bit for bit, wherever tensors lie."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tacit.replay.steps import MOST, kernel_step, steps_of
from tacit.ring import _native
from tacit.ring.kernels.native import KeyStream, memory

aten = torch.ops.aten

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
TYPES = (*INTEGERS, torch.bool)


def whole(dtype: torch.dtype, *shape: int) -> Tensor:
    """Integers of all of a type, and its ends."""
    if dtype is torch.bool:
        return torch.randint(2, shape, dtype=torch.uint8).bool()
    info = torch.iinfo(dtype)
    out = torch.randint(info.min, info.max, shape, dtype=dtype)
    ends = torch.tensor([info.min, info.max, 0, 1], dtype=dtype)
    return torch.where(torch.rand(shape) < 0.3, ends[torch.randint(4, shape)], out)


def somewhere(dtype: torch.dtype, *shape: int) -> Tensor:
    """The same in any layout: a part of something larger, transposed, with steps, or expanded."""
    kind = random.randrange(5)
    if kind == 0 or not shape:
        return whole(dtype, *shape)
    if kind == 1:
        return whole(dtype, *shape[::-1]).permute(*range(len(shape))[::-1])
    if kind == 2:
        return whole(dtype, *(n + 3 for n in shape))[tuple(slice(2, 2 + n) for n in shape)]
    if kind == 3:
        return whole(dtype, *(2 * n for n in shape))[tuple(slice(None, None, 2) for _ in shape)]
    d = random.randrange(len(shape))
    return whole(dtype, *shape[:d], 1, *shape[d + 1 :]).expand(*shape)


def sizes() -> tuple[int, ...]:
    return tuple(random.choice([1, 2, 3, 7, 300]) for _ in range(random.randint(0, 3)))


def narrowed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """What is broadcast to a shape."""
    return tuple(random.choice([n, n, 1]) for n in shape[random.randint(0, len(shape)) :])


def run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> bool:
    """Run an operator as steps, and compare; return whether there were any. What it reads stays as it was."""
    kwargs = kwargs or {}
    expected = func(*args, **kwargs)
    places = [torch.full_like(expected, 0x55 if expected.dtype is not torch.bool else 1)]
    kept = [x.clone() if isinstance(x, Tensor) else x for x in args]
    steps = steps_of(func, args, kwargs, places)
    if steps is None:
        return False

    for _ in range(2):  # again, over what it has left
        _native.Steps(tuple(steps))()

    assert places[0].dtype == expected.dtype
    assert torch.equal(places[0], expected)
    for x, before in zip(args, kept, strict=True):
        assert not isinstance(x, Tensor) or torch.equal(x, before)
    return True


BINARY = (
    *(aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.__xor__.Tensor, aten.bitwise_and.Tensor),
    *(aten.bitwise_or.Tensor, aten.__lshift__.Tensor, aten.__rshift__.Tensor, aten.lt.Tensor, aten.gt.Tensor),
    *(aten.eq.Tensor, aten.ne.Tensor),
)


@pytest.mark.parametrize("func", BINARY, ids=str)
def test_operators_on_two_tensors(func: Any) -> None:
    made = 0
    for _ in range(150):
        shape = sizes()
        x = somewhere(random.choice(TYPES), *narrowed(shape))
        y = somewhere(random.choice(TYPES), *narrowed(shape))
        if "shift" in str(func):
            y = torch.where(torch.rand(y.shape) < 0.8, y.long() % 64, y.long()).to(y.dtype)
        kwargs = {"alpha": random.choice([1, 1, 2, -3])} if func in BINARY[:2] and random.random() < 0.5 else {}
        try:
            func(x, y, **kwargs)
        except RuntimeError:  # of truth values, say
            continue
        made += run(func, (x, y), kwargs)

    assert made > 30


@pytest.mark.parametrize(
    "func",
    [
        *(aten.add.Tensor, aten.mul.Tensor, aten.__xor__.Scalar, aten.bitwise_and.Scalar, aten.__lshift__.Scalar),
        *(aten.__rshift__.Scalar, aten.lt.Scalar, aten.gt.Scalar, aten.eq.Scalar),
    ],
    ids=str,
)
def test_operators_on_a_tensor_and_a_number(func: Any) -> None:
    made = 0
    for _ in range(100):
        dtype = random.choice(INTEGERS)
        info = torch.iinfo(dtype)
        number = random.choice([0, 1, 2, -1, 5, 8, 63, info.max, info.min])
        x = somewhere(dtype, *sizes())
        try:
            func(x, number)
        except RuntimeError:
            continue
        made += run(func, (x, number))

    assert made > 40


UNARY: dict[str, Callable[[Tensor], tuple[Any, tuple[Any, ...], dict[str, Any]]]] = {
    "neg": lambda x: (aten.neg.default, (x,), {}),
    "not": lambda x: (aten.bitwise_not.default, (x,), {}),
    "clone": lambda x: (aten.clone.default, (x,), {"memory_format": torch.contiguous_format}),
    "to": lambda x: (aten._to_copy.default, (x,), {"dtype": random.choice(TYPES)}),
    "reshape": lambda x: (aten.reshape.default, (x, (-1,)), {}),
    "zeros": lambda x: (aten.zeros_like.default, (x,), {}),
}


@pytest.mark.parametrize("name", UNARY)
def test_operators_on_one_tensor(name: str) -> None:
    made = 0
    for _ in range(150):
        func, args, kwargs = UNARY[name](somewhere(random.choice(INTEGERS), *sizes()))
        made += run(func, args, kwargs)

    assert made > 80


def test_sums() -> None:
    made = 0
    for _ in range(200):
        shape = sizes()
        x = somewhere(random.choice(TYPES), *shape)
        dims = random.sample(range(len(shape)), random.randint(0, len(shape)))
        made += run(aten.sum.dim_IntList, (x, dims, random.random() < 0.5))

    assert made > 150


def test_products() -> None:
    made = 0
    for _ in range(60):
        batch, rows, inner, columns = (random.choice([1, 2, 5, 33]) for _ in range(4))
        made += run(aten.mm.default, (somewhere(torch.int64, rows, inner), somewhere(torch.int64, inner, columns)))
        x, y = somewhere(torch.int64, batch, rows, inner), somewhere(torch.int64, batch, inner, columns)
        made += run(aten.matmul.default, (x, y))

    assert made == 120


def test_moves_of_elements() -> None:
    made = 0
    for _ in range(100):
        dtype = random.choice(INTEGERS)
        shape = tuple(random.choice([1, 2, 5, 11]) for _ in range(random.randint(1, 3)))
        d = random.randrange(len(shape))
        rows = [somewhere(dtype, *shape[:d], random.choice([1, 4]), *shape[d + 1 :]) for _ in range(3)]
        x = somewhere(dtype, *shape)
        where = torch.randint(-shape[d], shape[d], random.choice([(3,), (2, 5), ()]))
        along = torch.randint(0, shape[d], [*shape[:d], 6, *shape[d + 1 :]])
        pad = [random.randrange(3) for _ in range(2 * random.randint(1, len(shape)))]
        made += run(aten.cat.default, (rows, d))
        made += run(aten.stack.default, ([x, somewhere(dtype, *shape)], random.randrange(len(shape) + 1)))
        made += run(aten.constant_pad_nd.default, (x, pad))
        made += run(aten.index.Tensor, (x, [*[None] * d, where]))
        made += run(aten.gather.default, (x, d, along))

    assert made == 500


def test_what_is_written_in_place() -> None:
    for _ in range(100):
        shape = tuple(random.choice([1, 3, 250]) for _ in range(2))
        x = whole(torch.int64, *(n + 2 for n in shape))[1:-1, 1:-1]
        y = somewhere(torch.int64, *narrowed(shape))
        func = random.choice([aten.add_.Tensor, aten.sub_.Tensor, aten.mul_.Tensor, aten.__ixor__.Tensor])
        before, around = x.clone(), x._base.clone()  # type: ignore[union-attr]
        expected = func(x.clone(), y)

        steps = steps_of(func, (x, y), {}, [])
        assert steps is not None
        for step in steps:
            step()

        assert torch.equal(x, expected)
        x.copy_(before)
        assert torch.equal(x._base, around)  # type: ignore[arg-type]


def test_an_element_that_another_is_written_from_is_none() -> None:
    x = whole(torch.int64, 10)

    assert steps_of(aten.copy_.default, (x[1:], x[:-1]), {}, []) is None
    assert steps_of(aten.add_.Tensor, (x[::2], x[:5]), {}, []) is None
    assert steps_of(aten.copy_.default, (x[:1].expand(10), whole(torch.int64, 10)), {}, []) is None
    assert steps_of(aten.mul.Tensor, (x, 0.5), {}, [torch.empty(10)]) is None
    assert steps_of(aten.lt.Scalar, (x.to(torch.uint8), -1), {}, [torch.empty(10, dtype=torch.bool)]) is None
    large = torch.zeros(MOST + 1, dtype=torch.int64)
    assert steps_of(aten.neg.default, (large,), {}, [large.clone()]) is None


def test_a_place_outside_of_a_tensor_is_refused() -> None:
    x, out, where = whole(torch.int64, 4), torch.empty(1, dtype=torch.int64), torch.tensor([3])
    (step,) = steps_of(aten.index.Tensor, (x, [where]), {}, [out]) or ()
    step()
    assert out.item() == x[3].item()

    for outside in (4, -5, 1 << 62):
        where.fill_(outside)
        with pytest.raises(ValueError, match="outside"):
            step()


def layout(x: Tensor, **changes: Any) -> tuple[Any, ...]:
    row = {"address": x.data_ptr(), "bytes": x.nbytes, "first": 0, "strides": list(x.stride()), "kind": 0, **changes}
    return tuple(row.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"first": 1},
        {"first": -1},
        {"strides": [2]},
        {"strides": [-1]},
        {"strides": [1 << 62]},
        {"strides": [1, 1]},
        {"bytes": 79},
        {"kind": 6},
        {"kind": -1},
    ],
    ids=str,
)
def test_a_tensor_that_leaves_its_storage_is_refused(changes: dict[str, Any]) -> None:
    x = torch.zeros(10, dtype=torch.int64)
    _native.elementwise(0, 1, [10], layout(x), 1, 0)()
    assert x.tolist() == [1] * 10

    for rows in [(layout(x, **changes), 1), (layout(x), layout(x, **changes))]:
        with pytest.raises(ValueError, match="a kernel was called with"):
            _native.elementwise(0, 1, [10], rows[0], rows[1], 0)


def test_draws_are_those_of_the_stream() -> None:
    key = random.randbytes(16)
    here, there = KeyStream(key), KeyStream(key)
    for _ in range(500):
        count = random.choice([0, 1, 8, 100, 1024, 8192])
        kind = random.randrange(4)
        out = torch.empty(count, dtype=torch.uint8)
        if kind == 0:
            there.few_step(out)()
            assert torch.equal(out, here.few(count))
        elif kind == 1:
            there.pass_over(count, few=True)()
            here.few(count)
        elif kind == 2:
            assert torch.equal(there.few(count), here.few(count))
        else:
            large = torch.empty(8193 + count, dtype=torch.uint8)
            there.step(large, torch.uint8, 0)()
            assert torch.equal(large, here.next(len(large)))


def test_a_kernel_is_given_another_number() -> None:
    a = whole(torch.int64, 9)
    out = torch.empty((3, 9), dtype=torch.int64)
    high, wrap, expected = out
    none = 0, 0
    step = kernel_step(_native.scaled_parts, (memory(a), 1 << 60, none, memory(high), memory(wrap), 8, 1))
    assert step is not None

    for m in (1 << 60, 12, 1 << 63, (1 << 64) - 4):
        step.give(1, m)  # type: ignore[attr-defined]
        step()
        _native.scaled_parts(memory(a), m, none, memory(expected), memory(wrap), 8, 1)
        assert torch.equal(high, expected)
    for k in (0, 5, 99):
        with pytest.raises(ValueError, match="number"):
            step.give(k, 1)  # type: ignore[attr-defined]


def test_a_kernel_that_returns_something_is_no_step() -> None:
    assert kernel_step(_native.encode, ()) is None
    with pytest.raises(ValueError, match="no kernel"):
        _native.step("nothing")
    with pytest.raises(ValueError, match="number of arguments"):
        _native.step("pack_bits", (0, 0))
