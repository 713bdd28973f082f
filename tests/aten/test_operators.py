"""Every operator on secrets gives what PyTorch gives: values, dtypes, shapes, gradients, for each mix of operands."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import tacit
import tacit.nn
from tacit import SecretTensor
from tacit.tensor.registry import HANDLERS

from .rows import ACTIVATION, CREATION, IN_PLACE, LOSSES, TABLE, Draw, Row

aten = torch.ops.aten
Call = tuple[list[Any], dict[str, Any]]


def plain(x: Any) -> Any:
    """What a result is, whether it is secret or not."""
    return tacit.reveal(x.detach()) if isinstance(x, SecretTensor) else x.detach()


def draw(row: Row, random: torch.Generator) -> list[Any]:
    """The row's arguments, with tensors in the place of draws, in lists too."""
    return [_drawn(a, random) for a in row.args]


def _drawn(a: Any, random: torch.Generator) -> Any:
    if isinstance(a, Draw):
        return a(random)
    if isinstance(a, tuple | list) and any(isinstance(x, Draw) for x in a):
        return [_drawn(x, random) for x in a]
    return a


def variants(row: Row, *, first_secret: bool = False) -> Iterator[frozenset[int]]:
    """Which of the drawn arguments are public: every mix with a secret in it."""
    draws = row.draws
    may = [i for i in draws if (row.public is None or i in row.public) and not (first_secret and i == 0)]
    mixes = chain.from_iterable(combinations(may, n) for n in range(len(may) + 1))
    for mix in mixes:
        if len(mix) < len(draws) or not draws:
            yield frozenset(mix)


def share(x: Any) -> Any:
    """Secrets of tensors, in lists too; a tensor without elements to hide is still a secret."""
    if isinstance(x, Tensor):
        return tacit.share(x.detach().clone())
    return [share(v) for v in x] if isinstance(x, list) else x


def secretly(row: Row, args: list[Any], public: frozenset[int]) -> list[Any]:
    """The arguments of the secret run."""
    hidden = [share(a) if i not in public and _has_draw(row.args[i]) else a for i, a in enumerate(args)]
    return [v.detach().clone() if isinstance(v, Tensor) and not isinstance(v, SecretTensor) else v for v in hidden]


def _has_draw(a: Any) -> bool:
    return isinstance(a, Draw) or (isinstance(a, tuple | list) and any(isinstance(x, Draw) for x in a))


def agree(got: Any, want: Any, tolerance: float) -> None:
    """Same structure, shapes, dtypes and, to the tolerance, values (relative above 1)."""
    got, want = ((x,) if isinstance(x, Tensor) else tuple(x) for x in (got, want))
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        g, w = plain(g), plain(w)
        assert g.shape == w.shape
        assert g.dtype == w.dtype
        torch.testing.assert_close(g.double(), w.double(), atol=tolerance, rtol=tolerance)


def differentiable(args: list[Any], constants: Sequence[int] = ()) -> list[Tensor]:
    """Ask for gradients of the floating-point tensors among the arguments."""
    return [
        a.requires_grad_()
        for i, a in enumerate(args)
        if isinstance(a, Tensor) and a.is_floating_point() and i not in constants
    ]


def agree_on_gradients(
    call: Callable[..., Any], plains: Call, secrets: Call, tolerance: float, constants: Sequence[int] = ()
) -> None:
    """Weighted sums of the first results have the same gradients."""
    leaves = [differentiable(args, constants) for args, _ in (plains, secrets)]
    results = [call(*args, **kwargs) for args, kwargs in (plains, secrets)]
    want, got = (x if isinstance(x, Tensor) else x[0] for x in results)
    if not want.requires_grad:
        return
    weights = torch.linspace(-1, 1, want.numel()).reshape(want.shape)
    (want * weights).sum().backward()
    (got * weights).sum().backward()
    for x, s in zip(*leaves, strict=True):
        if x.grad is None:
            assert s.grad is None
        else:
            agree(s.grad, x.grad, 4 * tolerance)


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_operator_agrees_with_pytorch(row, session, random):
    for public in variants(row):
        args = draw(row, random)
        secrets = secretly(row, args, public)

        got = row.overload(*secrets, **row.kwargs)

        agree(got, row.overload(*args, **row.kwargs), row.tolerance)
        if row.grad:
            plains, hidden = (args, row.kwargs), (secrets, row.kwargs)
            agree_on_gradients(row.overload, plains, hidden, row.tolerance, row.constants)


@pytest.mark.parametrize("row", IN_PLACE, ids=str)
def test_operator_in_place_agrees_with_pytorch(row, session, random):
    for public in variants(row, first_secret=True):
        args = draw(row, random)
        secrets = secretly(row, args, public)
        before = (
            [a.clone() if isinstance(a, Tensor) else a for a in args],
            [a.clone() if isinstance(a, Tensor) else a for a in secrets],
        )

        result = row.overload(*secrets, **row.kwargs)
        row.overload(*args, **row.kwargs)

        assert result is secrets[0]
        agree(secrets[0], args[0], row.tolerance)
        if row.grad:
            agree_on_gradients(_on_copy(row.overload), (before[0], row.kwargs), (before[1], row.kwargs), row.tolerance)


def _on_copy(overload: Any) -> Callable[..., Tensor]:
    def call(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        y = x.clone()
        overload(y, *args, **kwargs)
        return y

    return call


@pytest.mark.parametrize("frac_bits", [12, 20])
@pytest.mark.parametrize("parties", [("a", "b", "c"), ("a", "b", "c", "d", "e")], ids=len)
def test_operators_agree_with_other_parties_and_scales(frac_bits, parties, random):
    with tacit.session(seed=1, parties=parties, frac_bits=frac_bits):
        for row in [*ACTIVATION, *LOSSES]:
            args = draw(row, random)
            secrets = secretly(row, args, frozenset())

            got = row.overload(*secrets, **row.kwargs)

            agree(got, row.overload(*args, **row.kwargs), row.tolerance * (20 if frac_bits == 12 else 1))


def test_log_sigmoid_agrees_with_pytorch(session, random):
    x = torch.randn(3, 4, generator=random)

    agree(F.logsigmoid(tacit.share(x)), F.logsigmoid(x), 2**-11)
    agree_on_gradients(F.logsigmoid, ([x], {}), ([tacit.share(x)], {}), 2**-11)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_cross_entropy_agrees_with_pytorch(reduction, session, random):
    for shape in ((6, 4), (2, 4, 3)):
        x = torch.randn(shape, generator=random)
        target = torch.randint(0, 4, (shape[0], *shape[2:]), generator=random)
        image = x if len(shape) == 2 else x[..., None]
        marks = target if len(shape) == 2 else target[..., None]

        def loss(x: Tensor, y: Tensor) -> Tensor:
            return F.cross_entropy(x, y, reduction=reduction)

        agree(loss(tacit.share(image), marks), loss(image, marks), 2**-7)
        agree_on_gradients(loss, ([image, marks], {}), ([tacit.share(image), marks], {}), 2**-8)


RANDOM = {
    aten.rand_like.default: (),
    aten.randn_like.default: (),
    aten.randint_like.default: (5,),
    aten.bernoulli.p: (0.3,),
    aten.bernoulli_.float: (0.3,),
    aten.uniform_.default: (-1.0, 2.0),
    aten.normal_.default: (1.0, 2.0),
    aten.random_.default: (),
    getattr(aten.random_, "from"): (3, 9),
    aten.random_.to: (9,),
}


@pytest.mark.parametrize("overload", RANDOM, ids=str)
def test_public_randomness_is_what_pytorch_draws(overload, session, seed):
    x, secret = torch.zeros(40), tacit.share(torch.zeros(40))

    torch.manual_seed(seed)
    want = overload(x, *RANDOM[overload])
    torch.manual_seed(seed)
    got = overload(secret, *RANDOM[overload])

    agree(got, want, 2**-16)


def test_dropout_draws_the_mask_that_pytorch_draws(session, seed):
    x = torch.linspace(-3, 3, 50)

    torch.manual_seed(seed)
    want = F.dropout(x, 0.3)
    torch.manual_seed(seed)
    got = F.dropout(tacit.share(x), 0.3)
    kept, mask = torch.native_dropout(tacit.share(x), 0.3, True)

    agree(got, want, 2**-12)
    agree(kept, x * mask / 0.7, 2**-12)


EMPTY = {
    aten.empty_like.default: (),
    aten.new_empty.default: ((2, 5),),
    aten.new_empty_strided.default: ((2, 5), (5, 1)),
}


@pytest.mark.parametrize("overload", EMPTY, ids=str)
def test_empty_has_the_shape_and_dtype_that_pytorch_gives(overload, session):
    x = torch.zeros(3, 4)

    got = overload(tacit.share(x), *EMPTY[overload])

    assert (got.shape, got.dtype) == (overload(x, *EMPTY[overload]).shape, x.dtype)
    assert isinstance(got, SecretTensor)


@pytest.mark.parametrize("overload", [aten.maximum.out, aten.minimum.out], ids=str)
def test_the_larger_is_written_where_it_shall_go(overload, session, random):
    x, y = torch.randn(2, 5, generator=random)
    sx, sy = tacit.share(x), tacit.share(y)

    overload(sx, sy, out=sx)

    agree(sx, overload(x, y, out=torch.empty(5)), 2**-14)


def families() -> Iterator[Any]:
    """The test modules of further families; what their own tests and rows cover, they say in `COVERS`."""
    for info in pkgutil.iter_modules([str(Path(__file__).parent)]):
        module = importlib.import_module(f"{__package__}.{info.name}")
        if hasattr(module, "COVERS"):
            yield module


def test_every_handler_is_in_the_table():
    rows = {r.overload for r in [*TABLE, *IN_PLACE, *CREATION]}
    apart = {*RANDOM, *EMPTY, aten.maximum.out, aten.minimum.out, aten.native_dropout.default}
    through_autograd = {
        aten.log_sigmoid_forward.default,
        aten.log_sigmoid_backward.default,
        aten._log_softmax_backward_data.default,
        aten.nll_loss_forward.default,
        aten.nll_loss_backward.default,
        aten.nll_loss2d_forward.default,
        aten.nll_loss2d_backward.default,
    }

    activations = {torch.ops.tacit.polynomial.default, torch.ops.tacit.fourier_sigmoid.default}  # see tests/test_nn.py
    elsewhere = {overload for module in families() for overload in module.COVERS}
    missing = set(HANDLERS) - rows - apart - activations - through_autograd - elsewhere

    assert not missing


FINE = {
    "sin": torch.sin,
    "cos": torch.cos,
    "Fourier": tacit.nn.FourierSigmoid(),
    "polynomial": tacit.nn.PolynomialSigmoid(window=8),
    "tanh": torch.tanh,
    "exp": torch.exp,
}


@pytest.mark.parametrize("name", FINE)
def test_results_that_are_not_truncated_have_room_for_sums_and_multiples(name):
    function, x = FINE[name], torch.full((5, 8000), 1.25)

    with tacit.session():
        y, want = function(tacit.share(x)), function(x)

        assert torch.allclose(tacit.reveal(y.sum()), want.sum(), rtol=1e-3)
        assert torch.allclose(tacit.reveal(1000 * y + 300), 1000 * want + 300, rtol=1e-3)
        assert torch.allclose(tacit.reveal(y.cumsum(1)), want.cumsum(1), rtol=1e-3)
        assert torch.allclose(tacit.reveal(torch.ones(2, 5) @ y), want[:2] * 5, rtol=1e-3)
