"""A secret takes the place of another one's content, and no plain tensor that of a secret."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

import tacit
from tacit import SecretTensor, TacitError
from tacit.errors import RevealError
from tacit.session.session import Session


@pytest.fixture
def session() -> Iterator[Session]:
    with tacit.session(seed=1) as opened:
        yield opened


@pytest.fixture
def x(session: Session) -> SecretTensor:
    return tacit.share(torch.tensor([1.0, 2.0, 3.0]), owner="alice")


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([5.0, 6.0, 7.0]),
        torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        torch.tensor([1.5, 2.5, 3.5], dtype=torch.float64),
        torch.arange(6.0).view(3, 2)[:, 1],
        torch.tensor(3.0),
    ],
)
@pytest.mark.parametrize("secret", [True, False])
def test_data_is_assigned_with_its_shape_and_dtype(value, secret, x):
    x.data = tacit.share(value, owner="bob") if secret else value

    assert x.shape == value.shape
    assert x.dtype == value.dtype
    assert torch.equal(tacit.reveal(x), value)
    assert torch.equal(tacit.reveal(x * tacit.share(torch.ones(()))), value)


def test_data_assigned_is_the_memory_of_the_other_as_in_pytorch(x):
    y, plain, other = tacit.share(torch.zeros(3)), torch.tensor([1.0, 2.0, 3.0]), torch.zeros(3)
    view, plain_view = x[1:], plain[1:]

    x.data, plain.data = y, other
    y.add_(1)
    other.add_(1)

    assert torch.equal(tacit.reveal(x), plain)
    assert torch.equal(tacit.reveal(view), plain_view)


def test_a_public_value_assigned_is_copied(x):
    public = torch.zeros(3)
    x.data = public

    public.fill_(9)

    assert tacit.reveal(x + 0).tolist() == [0, 0, 0]


def test_gradient_descent_by_hand(session):
    p = nn.Parameter(tacit.share(torch.ones(3), owner="alice"))
    (p * 2).sum().backward()

    p.data = p.data - 0.1 * p.grad
    p.grad.data = p.grad.data * 10
    p.data -= 0.5

    torch.testing.assert_close(tacit.reveal(p.detach()), torch.full((3,), 0.3), atol=1e-4, rtol=0)
    assert tacit.reveal(p.grad).tolist() == [20, 20, 20]
    assert p.requires_grad
    assert isinstance(p, nn.Parameter)


def test_vectors_become_parameters(session):
    m = tacit.share(nn.Linear(2, 2))

    nn.utils.vector_to_parameters(tacit.share(torch.arange(6.0)), m.parameters())

    assert tacit.reveal(nn.utils.parameters_to_vector(m.parameters()).detach()).tolist() == [0, 1, 2, 3, 4, 5]
    assert tacit.reveal(m(torch.tensor([[1.0, 1.0]])).detach()).tolist() == [[5, 10]]


def test_set_takes_another_content(x):
    x.set_(tacit.share(torch.tensor([[1.0, 2.0]]), owner="bob"))
    first = tacit.reveal(x)
    x.set_(torch.zeros(2))

    assert first.tolist() == [[1, 2]]
    assert tacit.reveal(x).tolist() == [0, 0]


def test_assignments_in_a_session_that_checks_itself():
    with tacit.session(seed=1, check=True):
        x = tacit.share(torch.ones(3), owner="alice")
        x.data = tacit.share(torch.zeros(3))
        x.data = x.data + 1
        x.add_(1)
        twice = tacit.reveal(x * 2)
        x.set_(tacit.share(torch.tensor([1.0, 2.0])))
        x.mul_(3)
        again = tacit.reveal(x)
        x.set_(torch.ones(1))

        assert twice.tolist() == [4, 4, 4]
        assert again.tolist() == [3, 6]
        assert tacit.reveal(x + 1).tolist() == [2]


def test_tensors_swap(x):
    y = nn.Parameter(tacit.share(torch.zeros(2)))
    p = nn.Parameter(x)

    torch.utils.swap_tensors(p, y)

    assert tacit.reveal(p.detach()).tolist() == [0, 0]
    assert tacit.reveal(y.detach()).tolist() == [1, 2, 3]


PLAIN: dict[str, Callable[[Any, Any], Any]] = {
    "data": lambda t, x: setattr(t, "data", x),
    "set_": lambda t, x: t.set_(x),
    "add_": lambda t, x: t.add_(x),
    "lerp_": lambda t, x: t.lerp_(x, 0.5),
    "addcmul_": lambda t, x: t.addcmul_(x, x),
    "index_put_": lambda t, x: t.index_put_((torch.tensor([0]),), x[:1]),
    "out": lambda t, x: torch.add(x, x, out=t),
    "lists": lambda t, x: torch._foreach_addcmul_([t], [x], [x]),
    "load_state_dict": lambda t, x: nn.ParameterDict({"t": t}).load_state_dict({"t": x}),
    "vector_to_parameters": lambda t, x: nn.utils.vector_to_parameters(x, [nn.Parameter(t)]),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_tensor_takes_no_secret(name, x):
    target = torch.zeros(3)

    with pytest.raises((TacitError, RuntimeError), match="zeros_like"):
        PLAIN[name](target, x)

    assert repr(target) == "tensor([0., 0., 0.])"


def test_plain_data_is_assigned_as_before():
    t, p = torch.zeros(2), nn.Parameter(torch.zeros(2))

    t.data = torch.ones(3)
    p.data += 1

    assert t.tolist() == [1, 1, 1]
    assert p.tolist() == [1, 1]
    with pytest.raises(TypeError):
        t.data = 3


def test_data_of_another_session_is_refused(x):
    with tacit.session(), pytest.raises(TacitError, match="another session"):
        x.data = tacit.share(torch.zeros(3))


@pytest.mark.filterwarnings("ignore:To copy construct")
def test_new_tensors_are_secrets_of_zeros(x):
    assert tacit.reveal(x.new(2, 2)).tolist() == [[0, 0], [0, 0]]
    assert tacit.reveal(x.new(torch.Size([2]))).tolist() == [0, 0]
    assert x.new().shape == (0,)
    assert x.new([4.0, 5.0]).tolist() == [4, 5]
    assert tacit.reveal(x.new(x)).tolist() == [1, 2, 3]
    assert tacit.reveal(x.new_tensor(x[0])) == 1  # PyTorch warns that it copies


def test_memory_is_not_shared_between_processes(x):
    with pytest.raises(RevealError, match=r"tacit\.save"):
        x.share_memory_()
    with pytest.raises(RevealError, match=r"tacit\.save"):
        tacit.share(nn.Linear(1, 1)).share_memory()


OPTIMIZERS = (
    "SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "NAdam", "Rprop", "Adamax", "RAdam", "ASGD",
)  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_that_were_not_shared_are_named(name, session):
    forgotten = nn.Linear(3, 1)
    mixed = tacit.share(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5)))
    mixed[1] = nn.Linear(4, 1)
    for model, count in ((forgotten, 2), (mixed, 2)):
        before = [p.detach().clone() for p in model.parameters()]
        optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.1)
        model(tacit.share(torch.ones(2, 3))).sum().backward()

        with pytest.raises(TacitError, match=rf"{count} of the optimizer's parameters are plain.*tacit\.share\(module"):
            optimizer.step()

        for p, old in zip(model.parameters(), before, strict=True):
            assert bool(tacit.reveal((p == old).all())) if isinstance(p, SecretTensor) else torch.equal(p, old)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_a_learning_rate_may_be_a_tensor(name, session):
    rate = torch.tensor(0.125)
    p, q = nn.Parameter(tacit.share(torch.ones(2))), nn.Parameter(torch.ones(2))
    optimizers = [getattr(torch.optim, name)([v], lr=rate) for v in (p, q)]
    for v in (p, q):
        v.grad = torch.full_like(v, 0.5)

    for optimizer in optimizers:
        optimizer.step()

    torch.testing.assert_close(tacit.reveal(p.detach()), q.detach(), atol=1e-3, rtol=0)
    assert optimizers[0].param_groups[0]["lr"] is rate
