"""What compiles, traces or transforms a program, and meets secrets: eager, and the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tacit
from tacit.session import eager

pytestmark = [
    pytest.mark.usefixtures("no_other_session"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of torch.jit, which the compiler imports
]

P = torch.tensor([[0.5, -1.0, 2.0, 0.25], [1.5, 3.0, -0.5, 1.0]])


@pytest.fixture
def untold(monkeypatch):
    monkeypatch.setattr(eager, "_told", False)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))


def close(got: torch.Tensor, want: torch.Tensor) -> None:
    torch.testing.assert_close(tacit.reveal(got.detach()), want.detach(), atol=2**-10, rtol=0)


def test_a_compiled_module_runs_eagerly_and_says_so_once(untold):
    model = network()
    with tacit.session(seed=1):
        with pytest.warns(UserWarning, match="runs eagerly"):
            compiled = torch.compile(tacit.share(model))
        torch.compile(model)  # a second warning would be an error
        output = compiled(tacit.share(P))
        output.sum().backward()
        close(output, model(P))


def test_what_was_compiled_before_is_shared_and_runs_eagerly():
    model = network()
    compiled, double = torch.compile(model), torch.compile(lambda x: x * 2, fullgraph=True)
    with tacit.session(seed=1):
        close(tacit.share(compiled)(tacit.share(P)), model(P))
        close(double(tacit.share(P)), P * 2)


def test_after_the_session_compilation_comes_back():
    ran = []

    def backend(graph, example):
        ran.append(graph)
        return graph.forward

    double = torch.compile(lambda x: x * 2, backend=backend)
    with tacit.session(seed=1), tacit.session(seed=1):
        assert torch.equal(double(P), P * 2)
        assert not ran

    assert torch.equal(double(P), P * 2)
    assert len(ran) == 1


TRANSFORMS = {
    "vmap": (lambda x: torch.vmap(lambda r: (r * r).sum())(x), (P * P).sum(1)),
    "vmap of public rows": (lambda x: torch.vmap(lambda r: (x * r).sum())(P), (P @ P.t()).sum(0)),
    "grad": (lambda x: torch.func.grad(lambda a: (a * a).sum())(x), 2 * P),
    "grad of each row": (lambda x: torch.vmap(torch.func.grad(lambda a: (a * a).sum()))(x), 2 * P),
    "vjp": (lambda x: torch.func.vjp(lambda a: a * a, x)[1](x)[0], 2 * P * P),
    "jvp": (lambda x: torch.func.jvp(lambda a: a * a, (x,), (x,))[1], 2 * P * P),
    "script": (lambda x: torch.jit.script(nn.ReLU())(x), P.relu()),
    "checkpoint": (lambda x: torch.utils.checkpoint.checkpoint(torch.relu, x, use_reentrant=False), P.relu()),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_of_functions_come_to_the_same(name):
    call, want = TRANSFORMS[name]
    with tacit.session(seed=1):
        close(call(tacit.share(P)), want)
