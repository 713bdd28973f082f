"""Rounding, quotients without a rest, remainders, casts, and the bits of integers: exactly what PyTorch gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import tacit
from tacit.errors import DataError, UnsupportedOperator
from tacit.session.session import Session

aten = torch.ops.aten
COVERS = {
    *(getattr(aten, name).default for name in ("floor", "ceil", "trunc", "round", "frac")),
    *(getattr(aten, f"{name}_").default for name in ("floor", "ceil", "trunc", "round", "frac")),
    aten.round.decimals,
    aten.round_.decimals,
    aten.floor_divide.default,
    aten.floor_divide.Scalar,
    aten.div.Tensor_mode,
    aten.div.Scalar_mode,
    aten.div_.Tensor_mode,
    aten.div_.Scalar_mode,
    aten.remainder.Scalar_Tensor,
    *(
        getattr(getattr(aten, name), kind)
        for name in ("remainder", "fmod", "remainder_", "fmod_")
        for kind in ("Scalar", "Tensor")
    ),
    *(
        getattr(getattr(aten, f"bitwise_{name}"), kind)
        for name in ("and", "or", "xor")
        for kind in ("Scalar", "Scalar_Tensor")
    ),
    *(getattr(aten, f"bitwise_{name}_").Scalar for name in ("and", "or", "xor")),
    *(
        getattr(getattr(aten, f"bitwise_{side}_shift{end}"), kind)
        for side in ("left", "right")
        for kind in ("Tensor", "Tensor_Scalar")
        for end in ("", "_")
    ),
    *(
        getattr(getattr(aten, f"__{name}shift__"), kind)
        for name in ("l", "r", "il", "ir")
        for kind in ("Scalar", "Tensor")
    ),
    aten.floor_divide_.Scalar,
    aten.floor_divide_.Tensor,
}
REAL = torch.tensor([-2.5, -2.0, -1.5, -0.75, -0.5, -(2.0**-16), 0.0, 2.0**-16, 0.5, 1.0, 1.5, 2.5, 3.5, 7.0])
WHOLE = torch.tensor([-12, -7, -5, -1, 0, 1, 3, 4, 8, 13, 100, -100])
BITS = torch.tensor([-12, -7, 0, 5, 2**40 + 3, 1 - 2**62, 2**62 - 1])
OTHER = torch.tensor([3, 5, -7, 2, -1, 13, 6, 12, -5, 4, -9, 7])

ROUNDED: dict[str, Callable[[Tensor], Tensor]] = {
    **{name: getattr(torch, name) for name in ("floor", "ceil", "trunc", "round", "frac", "signbit")},
    "decimals": lambda t: t.round(decimals=1),
    "long": lambda t: t.long(),
    "int": lambda t: t.int(),
    "bool": lambda t: t.bool(),
    "product": lambda t: (t * t).floor(),
    "// 1": lambda t: t // 1,
    "// -1.5": lambda t: t // -1.5,
    "% 1": lambda t: t % 1,
    "% 0.75": lambda t: t % 0.75,
    "% -2": lambda t: t % -2,
    "fmod": lambda t: t.fmod(0.75),
    "trunc / 3": lambda t: torch.div(t, 3, rounding_mode="trunc"),
}
DIVIDED: dict[str, Callable[[Tensor], Tensor]] = {
    **{f"// {d}": lambda t, d=d: t // d for d in (2, 3, -4, -7, 1, 1000)},
    **{f"% {d}": lambda t, d=d: t % d for d in (2, 3, -4, -7)},
    **{f"fmod {d}": lambda t, d=d: t.fmod(d) for d in (4, -7)},
    **{f"trunc {d}": lambda t, d=d: torch.div(t, d, rounding_mode="trunc") for d in (4, -7)},
    "float": lambda t: t // 2.5,
    "tensor": lambda t: t // OTHER,
    "below": lambda t: 100 // (t * 2 + 1),
    "rest below": lambda t: 100 % (t * 2 + 1),
    "bool": lambda t: t.bool(),
    "round": lambda t: t.round(),
}
OF_BITS: dict[str, Callable[[Tensor], Tensor]] = {
    "& 1": lambda t: t & 1,
    "& -4": lambda t: t & -4,
    "& 0": lambda t: t & 0,
    "| 6": lambda t: t | 6,
    "^ -1": lambda t: t ^ -1,
    "6 &": lambda t: 6 & t,
    "~": lambda t: ~t,
    ">> 1": lambda t: t >> 1,
    ">> 0": lambda t: t >> 0,
    "<<": lambda t: (t >> 8) << 3,
    "with bools": lambda t: t & torch.tensor(True),
}


def exact(got: Tensor, want: Tensor, tolerance: float = 0.0) -> None:
    found = tacit.reveal(got)
    assert (found.shape, found.dtype) == (want.shape, want.dtype)
    torch.testing.assert_close(found, want, atol=tolerance, rtol=0)


@pytest.mark.parametrize("owner", [None, "alice"])
def test_numbers_are_rounded_as_pytorch_rounds(owner: str | None, session: Session, random: torch.Generator) -> None:
    x = torch.cat([REAL, (torch.randn(20, generator=random) * 30 * 2**8).round() / 2**8])
    for name, f in ROUNDED.items():
        exact(f(tacit.share(x, owner=owner)), f(x), 2**-12 if name == "decimals" else 0.0)


def test_quotients_and_rests_have_pytorchs_signs(session: Session) -> None:
    for f in DIVIDED.values():
        exact(f(tacit.share(WHOLE)), f(WHOLE))
    for f in (torch.floor_divide, torch.remainder, torch.fmod, lambda a, b: torch.div(a, b, rounding_mode="trunc")):
        exact(f(tacit.share(WHOLE, owner="alice"), tacit.share(OTHER, owner="bob")), f(WHOLE, OTHER))
        exact(f(tacit.share(WHOLE / 4), tacit.share(OTHER / 8)), f(WHOLE / 4, OTHER / 8))
    big = torch.tensor([2**61 + 5, -(2**61) - 5])
    exact(tacit.share(big) // 10**15, big // 10**15)
    for f in (lambda t: t // 0, lambda t: t % 0, lambda t: t.float() // 0.0, lambda t: t.fmod(0)):
        with pytest.raises(ZeroDivisionError):
            f(tacit.share(WHOLE))


def test_rests_and_roundings_have_pytorchs_gradients(session: Session) -> None:
    for f in (lambda t: t % 0.75, torch.floor, torch.frac, lambda t: t.fmod(2)):
        p, s = REAL.clone().requires_grad_(), tacit.share(REAL).requires_grad_()
        f(p).sum().backward()
        f(s).sum().backward()
        exact(s.grad, p.grad)


def test_bits_of_integers_are_those_of_twos_complement(session: Session) -> None:
    for f in OF_BITS.values():
        exact(f(tacit.share(BITS)), f(BITS))
    x, y = WHOLE, OTHER
    for f in (lambda a, b: a & b, lambda a, b: a | b, lambda a, b: a ^ b):
        exact(f(tacit.share(x, owner="alice"), tacit.share(y, owner="bob")), f(x, y))
        exact(f(tacit.share(x > 0), tacit.share(y)), f(x > 0, y))
    with pytest.raises(UnsupportedOperator, match="secret places"):
        tacit.share(x) << tacit.share(y)
    with pytest.raises(DataError, match="0 to 62"):
        tacit.share(x) >> 63


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_small_integers_wrap_where_pytorchs_do(dtype: torch.dtype, session: Session) -> None:
    info = torch.iinfo(dtype)
    x = torch.tensor([info.min, info.min + 1, 0, 1, info.max // 2 + 1, info.max], dtype=dtype)
    y = x.flip(0)
    s, t = tacit.share(x, owner="alice"), tacit.share(y)
    for f in (
        lambda a, b: (a + b).float(),
        lambda a, b: (a - b) > 1,
        lambda a, b: (-a).long(),
        lambda a, b: (a + b) // 3,
        lambda a, b: (a + a).sum(),
        lambda a, b: (2 * a - 1).amax(),
        lambda a, b: ~a,
        lambda a, b: a & b,
    ):
        exact(f(s, t), f(x, y))
    if dtype != torch.int32:
        exact((s * t).float(), (x * y).float())
    for other in (torch.uint8, torch.int8, torch.int32, torch.int64):
        exact(s.to(other), x.to(other))
    exact(tacit.share(torch.tensor([300, -1])).to(dtype), torch.tensor([300, -1]).to(dtype))


def test_numbers_of_zero_and_one_are_conditions(session: Session) -> None:
    c = torch.tensor([1, 0, 1])
    x = tacit.share(torch.ones(3))
    for condition in (tacit.share(c), tacit.share(c.float()), tacit.share(c.to(torch.uint8))):
        exact(condition.bool(), c.bool())
        exact(condition.to(torch.bool), c.bool())
        exact(torch.where(condition.bool(), x, 0.0), c.float())
        exact(torch.logical_and(condition, x), c.bool())
        exact(~condition.bool(), ~c.bool())


def test_an_owner_s_numbers_become_classes_without_a_round(session: Session) -> None:
    y = tacit.share(torch.tensor([[0.0], [2.0], [1.0]]), owner="bob")
    before = session.meter.cost

    labels = y.squeeze(1).long()
    rows = F.one_hot(labels, 3)

    assert session.meter.cost == before or (session.meter.cost - before).rounds == 0
    exact(rows, F.one_hot(torch.tensor([0, 2, 1]), 3))


def test_a_secret_grid_samples_as_floors_and_positions_go(session: Session, random: torch.Generator) -> None:
    x, grid = torch.randn(1, 2, 3, 4, generator=random), torch.rand(1, 2, 2, 2, generator=random) * 2.4 - 1.2

    got = F.grid_sample(tacit.share(x), tacit.share(grid), align_corners=False)

    torch.testing.assert_close(tacit.reveal(got), F.grid_sample(x, grid, align_corners=False), atol=0.001, rtol=0)


def test_fractions_of_whole_numbers_have_the_default_dtype_of_the_moment(session: Session) -> None:
    x = tacit.share(torch.tensor([1, 2]))
    before = [f.dtype for f in (x * 0.5, x / 2, x + 0.5, x.sigmoid())]

    torch.set_default_dtype(torch.float64)
    try:
        after = [f.dtype for f in (x * 0.5, x / 2, x + 0.5, x.sigmoid())]
    finally:
        torch.set_default_dtype(torch.float32)

    assert before == [torch.float32] * 4
    assert after == [torch.float64] * 4
