"""What PyTorch refuses a secret refuses, in its words; what PyTorch answers a secret answers, in shape and dtype."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from refused import module_cases, mutants, operator_cases, outcomes, raised
from torch import Tensor, nn

import tacit
from tacit.errors import ResultMismatch, TacitError
from tacit.tensor import signatures
from tacit.tensor.registry import HANDLERS
from tacit.watch.claims import CLAIMS

aten = torch.ops.aten
CASES = 2
"""Error samples of each operator in the fast tests; the slow ones take all."""


def walk(cases: Any) -> int:
    """Hold the error samples against secrets; return how many calls were refused as they should be."""
    found = 0
    for case in cases:
        for how, error in outcomes(case):
            assert isinstance(error, (case.error, TacitError)), f"{case.name} of {how} tensors: {error!r}"
            found += 1
    return found


def test_what_pytorch_refuses_is_refused(session):
    assert walk(case for name in CLAIMS for case in islice(operator_cases(name), CASES)) > 200


def test_what_modules_refuse_is_refused(session):
    assert walk(module_cases()) > 60


@pytest.mark.slow
@pytest.mark.parametrize("name", CLAIMS)
def test_everything_that_pytorch_refuses_is_refused(name, session):
    walk(operator_cases(name))


APART = {
    "nn.functional.linear": "PyTorch adds a bias of two dimensions to a row, and refuses it for plain tensors only",
    "nn.functional.max_pool1d": "of integers, which only this kernel lacks: their maxima are right",
    "tensor_split": "at secret places, which PyTorch refuses in words about memory",
}
"""Where a changed sample is not refused, or in other words, and why."""


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", sorted(CLAIMS.keys() - APART.keys()))
def test_a_sample_that_is_changed_until_pytorch_refuses_it_is_refused(name, session):
    torch.manual_seed(0)

    walk(mutants(name, samples=3))


X, GRAY, RGB = torch.rand(2, 3), torch.rand(1, 1, 5, 5), torch.rand(1, 3, 5, 5)
INDEX = torch.tensor([[0, 1, 0, 1], [0, 1, 0, 1], [0, 1, 0, 1]])
KERNEL = torch.rand(2, 3, 3, 3)

MISUSES: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "conv1d with too few channels": (F.conv1d, (torch.rand(1, 1, 8), torch.rand(2, 3, 3))),
    "conv2d with too few channels": (F.conv2d, (torch.rand(1, 1, 8, 8), KERNEL)),
    "conv2d with too many channels": (F.conv2d, (torch.rand(1, 4, 8, 8), KERNEL)),
    "conv3d with too few channels": (F.conv3d, (torch.rand(1, 1, 4, 4, 4), torch.rand(2, 3, 3, 3, 3))),
    "conv_transpose2d with too few channels": (F.conv_transpose2d, (torch.rand(1, 1, 4, 4), KERNEL)),
    "channels last": (F.conv2d, (torch.rand(1, 8, 8, 3), KERNEL)),
    "negative padding": (lambda x, w: F.conv2d(x, w, padding=-1), (RGB, KERNEL)),
    "no stride": (lambda x, w: F.conv2d(x, w, stride=0), (RGB, KERNEL)),
    "no dilation": (lambda x, w: F.conv2d(x, w, dilation=0), (RGB, KERNEL)),
    "groups": (lambda x, w: F.conv2d(x, w, groups=2), (RGB, torch.rand(2, 1, 3, 3))),
    "a kernel larger than the image": (F.conv2d, (torch.rand(1, 3, 2, 2), KERNEL)),
    "a bias of one element": (F.conv2d, (RGB, KERNEL, torch.rand(1))),
    "padding of a pool": (lambda x: F.max_pool2d(x, 2, padding=2), (GRAY,)),
    "padding of a mean pool": (lambda x: F.avg_pool2d(x, 2, padding=2), (GRAY,)),
    "a window larger than the image": (lambda x: F.max_pool2d(x, 6), (GRAY,)),
    "softmax": (lambda x: x.softmax(2), (X,)),
    "log_softmax": (lambda x: x.log_softmax(-3), (X,)),
    "mean": (lambda x: x.mean(2), (X,)),
    "sum": (lambda x: x.sum((0, 0)), (X,)),
    "norm": (lambda x: x.norm(dim=2), (X,)),
    "amax": (lambda x: x.amax(2), (X,)),
    "amax of a dimension twice": (lambda x: x.amax((0, 0)), (X,)),
    "argmax": (lambda x: x.argmax(2), (X,)),
    "prod": (lambda x: x.prod(2), (X,)),
    "all": (lambda x: (x > 0).all(2), (X,)),
    "sort": (lambda x: x.sort(2), (X,)),
    "argsort": (lambda x: x.argsort(-3), (X,)),
    "topk": (lambda x: x.topk(1, 2), (X,)),
    "topk of more than there are": (lambda x: x.topk(4), (X,)),
    "cummax": (lambda x: x.cummax(2), (X,)),
    "cumsum": (lambda x: x.cumsum(2), (X,)),
    "var": (lambda x: x.var(2), (X,)),
    "flip": (lambda x: x.flip(2), (X,)),
    "max of nothing": (lambda x: x.max(), (torch.empty(0),)),
    "argmin of nothing": (lambda x: x.argmin(), (torch.empty(0),)),
    "amin of nothing": (lambda x: x.amin(0), (torch.empty(0, 3),)),
    "layer_norm": (lambda x: F.layer_norm(x, (2,)), (X,)),
    "group_norm": (lambda x: F.group_norm(x, 2), (RGB,)),
    "batch_norm of one value a channel": (lambda x: F.batch_norm(x, None, None, training=True), (torch.rand(1, 3),)),
    "index_select of a matrix": (lambda x, i: x.index_select(0, i), (X, INDEX)),
    "gather of more rows": (lambda x, i: x.gather(1, i), (X, INDEX)),
    "scatter of more rows": (lambda x, i: x.scatter(1, i, 1.0), (X, INDEX)),
    "scatter_add of less": (lambda x, i, y: x.scatter_add(1, i, y), (torch.rand(3, 4), INDEX, X)),
    "embedding of floats": (lambda i, w: F.embedding(i, w), (torch.rand(2), X)),
    "a target that would grow": (lambda x, y: x.add_(y), (torch.rand(3), X)),
    "a target that would become real": (lambda x: torch.zeros_like(x, dtype=torch.int64).add_(0.5), (X,)),
    "bits minus bits": (lambda x: (x > 0) - (x > 1), (X,)),
    "the mean of integers": (lambda x: torch.ones_like(x, dtype=torch.int64).mean(), (X,)),
    "rows of two owners": (lambda x, y: torch.cat([x, y], 1), (X, torch.rand(3, 1))),
    "integers by reals": (lambda x, y: x @ y, (torch.ones(3, 2, dtype=torch.int64), X)),
    "shapes of a product": (lambda x, y: x @ y, (X, X)),
    "a view of another size": (lambda x: x.view(4, 2), (X,)),
    "mse_loss": (F.mse_loss, (torch.rand(3), torch.rand(4))),
    "l1_loss": (F.l1_loss, (torch.rand(3), torch.rand(4))),
    "huber_loss": (F.huber_loss, (torch.rand(3), torch.rand(4))),
    "bce": (F.binary_cross_entropy, (torch.rand(3), torch.rand(4))),
    "bce with logits": (F.binary_cross_entropy_with_logits, (torch.rand(3), torch.rand(3, 1))),
    "cross_entropy of another batch": (F.cross_entropy, (X, torch.tensor([0, 1, 2]))),
    "cross_entropy of real labels": (F.cross_entropy, (X, torch.rand(2))),
    "nll_loss of real labels": (F.nll_loss, (X, torch.rand(2))),
    "kl_div": (lambda x, y: F.kl_div(x, y, reduction="sum"), (torch.rand(3), torch.rand(4))),
}


def secrets(tensors: tuple[Tensor, ...], secret: Callable[[int], bool]) -> list[Tensor]:
    return [tacit.share(x) if secret(k) else x.clone() for k, x in enumerate(tensors)]


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("what", MISUSES)
def test_misuse_is_refused_in_the_words_of_pytorch(what, session):
    call, tensors = MISUSES[what]
    plain = raised(lambda: call(*(x.clone() for x in tensors)))

    for secret in (lambda k: True, *((lambda k, place=place: k == place) for place in range(len(tensors)))):
        error = raised(lambda secret=secret: call(*secrets(tensors, secret)))

        assert type(error) is type(plain)
        assert str(error).startswith(str(plain))


class Call(nn.Module):
    def __init__(self, call: Callable[..., Any]) -> None:
        super().__init__()
        self.call = call

    def forward(self, *tensors: Tensor) -> Any:
        return self.call(*tensors)


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("what", list(MISUSES)[::6])
def test_a_check_refuses_it_as_well(what):
    call, tensors = MISUSES[what]
    plain = raised(lambda: call(*(x.clone() for x in tensors)))

    with pytest.raises(type(plain)):
        tacit.check(Call(call), *tensors)


def test_owners_of_other_rows_are_asked_about_them(session):
    with pytest.raises(RuntimeError, match="do both owners hold the same rows"):
        torch.cat([tacit.share(torch.ones(2, 1)), tacit.share(X.t().contiguous())], 1)


def test_pytorch_is_asked_once(session, monkeypatch):
    asked = []
    monkeypatch.setattr(signatures, "_question", lambda func, *rest: asked.append(func))
    x = tacit.share(torch.rand(7, 11))

    for number in (1.5, 2.5, 3.5):
        x.cumsum(1)
        x.mul_(number)

    assert asked.count(aten.cumsum.default) == 2  # of kernels, and of meta tensors because they had no answer
    assert asked.count(aten.mul_.Scalar) + asked.count(aten.mul_.Tensor) == 2


def test_another_dtype_or_stride_is_another_signature(session):
    x = tacit.share(torch.rand(5, 5))

    x.view(25)
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        x.t().view(25)
    with pytest.raises(RuntimeError, match="infer output dtype"):
        (x.mean(0), tacit.share(torch.ones(5, 5, dtype=torch.int64)).mean(0))


def test_signatures_are_forgotten_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(signatures, "REMEMBERED", 2)
    known = signatures.Bounded()

    for key in range(4):
        known[key] = key

    assert list(known) == [2, 3]


@pytest.mark.unchecked  # the other net would be first
@pytest.mark.parametrize("wrong", [lambda x: x[0], lambda x: x.to(torch.float64)], ids=["shape", "dtype"])
def test_a_result_that_is_not_like_that_of_pytorch_is_a_bug(wrong, session, monkeypatch):
    right = HANDLERS[aten.cumsum.default]
    monkeypatch.setitem(HANDLERS, aten.cumsum.default, lambda *args, **kwargs: wrong(right(*args, **kwargs)))

    with pytest.raises(ResultMismatch, match=r"aten\.cumsum.* bug of Tacit"):
        tacit.share(torch.rand(3, 13)).cumsum(1)


def test_asking_does_not_move_the_generator(session):
    x = tacit.share(torch.rand(3, 17))
    before = torch.get_rng_state()

    x.softmax(1).relu().sum()
    F.scaled_dot_product_attention(*[x.reshape(1, 1, 3, 17)] * 3)

    assert torch.equal(torch.get_rng_state(), before)


def test_what_pytorch_is_asked_with_is_gone_at_once() -> None:
    made: list[weakref.ref[Tensor]] = []

    def stand_in(x: Tensor) -> Tensor:
        zeros = torch.zeros_like(x)
        made.append(weakref.ref(zeros))
        return zeros

    gc.disable()
    try:
        answer = signatures._question(torch.ops.aten.stack.default, ([torch.ones(3), torch.ones(3)],), {}, stand_in)
        left = [ref() for ref in made]
    finally:
        gc.enable()

    assert answer == ((torch.Size([2, 3]), torch.float32),)
    assert left == [None, None]
