"""A secret never becomes a plain value by accident, and what it cannot do it refuses in one clear sentence."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tacit
from tacit import SecretTensor, TacitError
from tacit.errors import DataError, EncodingError, RevealError, UnsupportedOperator
from tacit.session.session import Session

VALUES = [3.14159, 27.1828, -161.803]
DIGITS = ("3.14", "3141", "27.18", "2718", "161.8", "1618", "205887", "1781452", "10603921")
"""The plaintext's digits, as numbers and as ring elements with 16 fractional bits."""


@pytest.fixture
def session() -> Iterator[Session]:
    with tacit.session(seed=1) as opened:
        yield opened


@pytest.fixture
def x(session: Session) -> SecretTensor:
    return tacit.share(torch.tensor(VALUES), owner="alice")


def shows_nothing(text: str, x: SecretTensor) -> None:
    """Neither the plaintext nor a share is in the text. (A party that was sent nothing holds zeros.)"""
    shares = [str(v) for t in x.share.content.parts() for v in t.reshape(-1).tolist() if v]
    assert not any(digits in text for digits in (*DIGITS, *shares))


AS_A_NUMBER: dict[str, Callable[[Any], Any]] = {
    "float(x)": lambda x: float(x[0]),
    "int(x)": lambda x: int(x[0]),
    "complex(x)": lambda x: complex(x[0]),
    "bool(x), `if x:` or `while x:`": lambda x: 1 if x[0] > 0 else 0,
    "bool(x), `if x:` or `while x:` ": lambda x: max(x),
    "using a secret as an index or a size": lambda x: range(x[0]),
    "x.item()": lambda x: x[0].item(),
    "x.tolist()": lambda x: x.tolist(),
    "x.numpy()": lambda x: x.numpy(),
    "numpy.asarray(x)": lambda x: np.asarray(x),
    "numpy.asarray(x) ": lambda x: np.array(x),
    "pickling": lambda x: pickle.dumps(x),
    "pickling ": lambda x: torch.save(x, io.BytesIO()),
    "pickling  ": lambda x: torch.save({"state": [x]}, io.BytesIO()),
    "float(x) ": lambda x: math.sqrt(x[0]),
    "float(x)  ": lambda x: "%.3f" % x[0],  # noqa: UP031
    "x.__dlpack__()": lambda x: x.__dlpack__(),
    "float(x)   ": lambda x: torch.tensor([x[0], x[1]]),
    "x.item() ": lambda x: 3.0 in x,
}


@pytest.mark.priced
@pytest.mark.parametrize("use", AS_A_NUMBER)
def test_use_as_a_number_is_refused(use, x):
    with pytest.raises(RevealError) as caught:
        AS_A_NUMBER[use](x)

    message = str(caught.value)
    assert message.startswith(use.strip())
    assert "tacit.reveal" in message
    shows_nothing(message, x)


def test_refusal_names_the_line_of_the_user(x):
    with pytest.raises(RevealError, match=r"test_tensor\.py:\d+"):
        float(x[0])


@pytest.mark.parametrize("show", [str, repr, "{}".format, "{:.3f}".format, lambda x: str([x]), lambda x: f"{x!r}"])
def test_printing_shows_shape_and_dtype_only(show, x):
    for shown in (x, x * 2, nn.Parameter(x), x > 0):
        text = show(shown)

        assert f"SecretTensor(<hidden; see tacit.reveal>, shape=(3,), dtype={shown.dtype}" in text
        shows_nothing(text, x)
        shows_nothing(repr(shown.share), x)


def test_length_iteration_and_hash_are_those_of_tensors(x):
    parts = list(x)

    assert len(x) == 3
    assert [tuple(p.shape) for p in parts] == [()] * 3
    assert len({x, x, parts[0]}) == 2
    with pytest.raises(TypeError, match="0-d"):
        iter(parts[0])


UNSUPPORTED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "torch.nonzero": (lambda x: x.nonzero(), "shapes are public"),
    "torch.equal": (lambda x: torch.equal(x, x), "tacit.reveal"),
    "torch.allclose": (lambda x: torch.allclose(x, x), "tacit.reveal"),
    "torch.masked_select": (lambda x: x.masked_select(x > 0), "torch.where"),
    "torch.unique": (lambda x: x.unique(), "shapes are public"),
    "a secret mask": (lambda x: x[x > 0], "torch.where"),
}


@pytest.mark.priced
@pytest.mark.parametrize("what", UNSUPPORTED)
def test_what_does_not_work_names_itself_the_line_and_an_alternative(what, x):
    call, alternative = UNSUPPORTED[what]

    with pytest.raises(UnsupportedOperator) as caught:
        call(x)

    message = str(caught.value)
    assert what in message
    assert alternative in message
    assert "test_tensor.py:" in message
    shows_nothing(message, x)


def test_a_secret_index_is_refused(x):
    with pytest.raises(UnsupportedOperator, match=r"tacit\.reveal"):
        torch.arange(3)[x.argmax()]


def test_fused_optimizers_say_what_to_do(x):
    p = nn.Parameter(x)
    p.grad = torch.ones_like(p)

    with pytest.raises(UnsupportedOperator, match="without fused=True"):
        torch.optim.SGD([p], lr=0.1, fused=True).step()


MISFITS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "not a number": (lambda x: x + float("nan"), "NaN"),
    "plus infinity beside a mask": (lambda x: x + torch.tensor([-float("inf"), 1.0, float("inf")]), "index 2"),
    "infinite factor": (lambda x: x * torch.tensor([1.0, 2.0, float("inf")]), "index 2"),
    "a mean of nothing": (lambda x: x[:0].mean(), "no elements"),
}


@pytest.mark.parametrize("what", MISFITS)
def test_operands_that_do_not_fit_say_why(what, x):
    call, why = MISFITS[what]

    with pytest.raises(DataError, match=why) as caught:
        call(x)

    shows_nothing(str(caught.value), x)


def test_division_by_a_public_zero_is_refused(x):
    with pytest.raises(ZeroDivisionError, match="infinity"):
        x / torch.tensor([1.0, 0.0, 2.0])


def test_a_plain_tensor_is_no_place_for_a_secret(x):
    target = torch.zeros(3)

    for write in (lambda: target.add_(x), lambda: target.copy_(x), lambda: target.__setitem__(0, x[0])):
        with pytest.raises(TacitError, match="zeros_like"):
            write()

    assert not target.any()


def test_a_secret_does_not_outlive_its_session():
    with tacit.session(seed=1):
        x = tacit.share(torch.tensor(VALUES))

    for use in (lambda: x + 1, lambda: tacit.reveal(x), lambda: x[0]):
        with pytest.raises(TacitError, match="session has ended"):
            use()
    assert "hidden" in repr(x)


def test_secrets_of_two_sessions_do_not_mix(x):
    with tacit.session(seed=2, parties=("carol", "dave")):
        y = tacit.share(torch.tensor(VALUES))

        for mix in (lambda: x + y, lambda: torch.cat([x, y]), lambda: torch.where(x > 0, y, y), lambda: y.copy_(x)):
            with pytest.raises(TacitError, match="two sessions"):
                mix()


@pytest.mark.parametrize(
    ("value", "index"),
    [([1.0, float("nan")], "index 1"), ([[1.0, float("-inf")]], r"index \(0, 1\)"), (1e14, r"index \(\)")],
)
def test_a_number_that_fixed_point_cannot_hold_is_named_by_its_index(value, index, session):
    with pytest.raises(EncodingError, match=index):
        tacit.share(torch.tensor(value), name="the income")


@pytest.mark.parametrize("largest", [2.0**46 - 2**22, -(2.0**46) + 2**22])
def test_the_largest_numbers_are_held_and_compared(largest, session):
    x = tacit.share(torch.tensor([largest, 0.0]))

    assert tacit.reveal(x)[0] == largest
    assert tacit.reveal(x > 0).tolist() == [largest > 0, False]
    assert tacit.reveal(x.relu())[0] == max(largest, 0)
    assert tacit.reveal(x.amax()) == max(largest, 0)


def test_products_fill_their_range(session):
    x = torch.tensor([2.0**14 - 1, -(2.0**14) + 1])

    product = tacit.reveal(tacit.share(x) * tacit.share(x.flip(0)))

    torch.testing.assert_close(product, x * x.flip(0), rtol=1e-6, atol=0)


# --- what programs do with tensors besides operators ------------------------------------------------------------------


def test_copies_share_what_pytorch_s_copies_share(x):
    shallow, deep = copy.copy(x), copy.deepcopy(x)

    x.zero_()

    assert tacit.reveal(shallow).tolist() == [0, 0, 0]
    assert tacit.reveal(deep).tolist() == pytest.approx(VALUES, abs=1e-4)


def test_a_deep_copy_of_a_module_is_a_module_of_its_own(session):
    model = tacit.share(nn.Linear(3, 1))
    model(torch.ones(2, 3)).sum().backward()

    twin = copy.deepcopy(model)
    with torch.no_grad():
        model.weight.zero_()
        model.weight.grad.zero_()

    assert isinstance(twin.weight, nn.Parameter)
    assert twin.weight.requires_grad
    assert bool(tacit.reveal(twin.weight.abs().sum() > 0))
    torch.testing.assert_close(tacit.reveal(twin.weight.grad), torch.full((1, 3), 2.0))


def test_inference_mode_computes_the_same(session):
    plain = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    x = torch.randn(5, 4)
    model, secret = tacit.share(plain), tacit.share(x)

    with torch.inference_mode():
        inferred = model(secret)
    with torch.no_grad():
        silent = model(secret)

    assert not inferred.requires_grad
    assert not silent.requires_grad
    for out in (inferred, silent):
        torch.testing.assert_close(tacit.reveal(out), plain(x).detach(), atol=1e-3, rtol=0)


VIEWS = {
    "row": lambda x: x[0],
    "transpose": lambda x: x.t(),
    "parts": lambda x: x.split([1, 2], 1)[1],
    "elements": lambda x: x.unbind(1)[2],
}


@pytest.mark.parametrize("view", VIEWS)
def test_inference_mode_takes_views_of_what_was_made_outside(view, session):
    x = torch.randn(4, 3)
    secret = tacit.share(x)

    with torch.inference_mode():
        outer, inner, plain = VIEWS[view](secret), VIEWS[view](secret * 2), VIEWS[view](x)
    outer.add_(1)

    assert outer.is_inference() == plain.is_inference()
    assert inner.is_inference()
    torch.testing.assert_close(tacit.reveal(inner), plain * 2, atol=1e-4, rtol=0)
    torch.testing.assert_close(tacit.reveal(outer), plain + 1, atol=1e-4, rtol=0)
    torch.testing.assert_close(tacit.reveal(VIEWS[view](secret)), plain + 1, atol=1e-4, rtol=0)


LAYERS = {
    "convolution": lambda: nn.Conv1d(4, 2, 2),
    "gru": lambda: nn.GRU(3, 2),
    "lstm": lambda: nn.LSTM(3, 2),
    "attention": lambda: nn.TransformerEncoderLayer(3, 1, 5),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_inference_mode_runs_layers_that_take_views(kind, session):
    layer, x = LAYERS[kind]().eval(), torch.randn(5, 4, 3)
    model, secret = tacit.share(layer), tacit.share(x)

    with torch.inference_mode():
        found, plain = model(secret), layer(x)

    if isinstance(plain, tuple):
        found, plain = found[0], plain[0]
    torch.testing.assert_close(tacit.reveal(found), plain, atol=2e-3, rtol=0)


def test_hooks_see_and_change_gradients(session):
    w = nn.Parameter(tacit.share(torch.ones(3)))
    seen = []
    w.register_hook(lambda g: (seen.append(tuple(g.shape)), g * 2)[1])

    (w * torch.tensor([1.0, 2.0, 3.0])).sum().backward()

    assert seen == [(3,)]
    assert tacit.reveal(w.grad).tolist() == [2, 4, 6]


def test_gradients_accumulate_and_are_zeroed(session):
    w = nn.Parameter(tacit.share(torch.tensor([1.0, 2.0])))
    loss = (w * w).sum()

    loss.backward(retain_graph=True)
    loss.backward()
    twice = tacit.reveal(w.grad)
    optimizer = torch.optim.SGD([w], lr=1.0)
    optimizer.zero_grad(set_to_none=False)

    assert twice.tolist() == [4, 8]
    assert tacit.reveal(w.grad).tolist() == [0, 0]
    optimizer.zero_grad()
    assert w.grad is None


def test_state_dicts_move_secrets_and_public_values_into_modules(session):
    source, target = tacit.share(nn.Linear(3, 2)), tacit.share(nn.Linear(3, 2))
    public = nn.Linear(3, 2)

    target.load_state_dict(source.state_dict())
    same = tacit.reveal((target.weight == source.weight).all())
    target.load_state_dict(public.state_dict())

    assert bool(same)
    torch.testing.assert_close(tacit.reveal(target.weight.detach()), public.weight.detach(), atol=2**-16, rtol=0)


def test_weights_are_initialised_with_pytorch_s_own_randomness(session):
    model, plain = tacit.share(nn.Linear(8, 4)), nn.Linear(8, 4)

    torch.manual_seed(7)
    nn.init.xavier_uniform_(model.weight)
    torch.manual_seed(7)
    nn.init.xavier_uniform_(plain.weight)

    torch.testing.assert_close(tacit.reveal(model.weight.detach()), plain.weight.detach(), atol=2**-16, rtol=0)


def test_a_key_stream_begun_in_inference_mode_goes_on_outside():
    with tacit.session(seed=1):
        x = tacit.share(torch.tensor([2.0, -3.0]))
        with torch.inference_mode():
            negative = x < 0

        assert tacit.reveal(negative).tolist() == [False, True]
        assert tacit.reveal(x * 2 < 0).tolist() == [False, True]
