"""What the producer holds of a secret has the shape and strides of what parties hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tacit.protocols.additive.content import STAND_IN, pointwise, worked_out

OPS: dict[str, Callable[..., Tensor]] = {
    "sum": lambda t: t.sum(0),
    "sum, kept": lambda t: t.sum((0, 1), keepdim=True),
    "shift": lambda t: t << 3,
    "negative": torch.neg,
    "join": lambda t: torch.cat([t, t], 1),
    "places": lambda t: t[:, [2, 0, 2]],
    "repeat": lambda t: t.repeat(2, 1),
    "view": lambda t: t.t(),
    "nothing": lambda t: t,
}

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda t: t,
    "turned": lambda t: t.t().contiguous().t(),
    "a part": lambda t: t[1:, ::2],
    "expanded": lambda t: t[:1].expand(*t.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("rows", [6, STAND_IN])
def test_the_producer_finds_the_layout_that_parties_have(rows: int, op: str, layout: str) -> None:
    mine = LAYOUTS[layout](torch.randint(-9, 9, (rows, 8)))
    shadow = LAYOUTS[layout](torch.empty((rows, 8), dtype=torch.int64, device="meta"))

    (made,), (found,) = worked_out(OPS[op], [mine]), worked_out(OPS[op], [shadow])

    assert found.is_meta
    assert (found.shape, found.stride(), found.dtype) == (made.shape, made.stride(), made.dtype)
    alike = [t.untyped_storage()._cdata == x.untyped_storage()._cdata for t, x in ((made, mine), (found, shadow))]
    assert alike[0] == alike[1]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_sum_of_any_layouts(layout: str) -> None:
    x, y = LAYOUTS[layout](torch.randint(-9, 9, (6, 8))), torch.randint(-9, 9, (5, 6, 8))
    y = y[..., : x.shape[0], : x.shape[1]]
    shadows = [torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="meta") for t in (x, y)]
    shape = torch.broadcast_shapes(x.shape, y.shape)

    (made,), (found,) = pointwise(torch.add, shape, [x], [y]), pointwise(torch.add, shape, *([t] for t in shadows))

    assert torch.equal(made, x + y)
    assert (found.shape, found.stride()) == (made.shape, made.stride())
