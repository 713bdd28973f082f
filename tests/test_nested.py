"""Modules of every kind, and structures of secrets, go in and come out with each tensor in its place."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import tacit
from tacit import SecretTensor
from tacit.errors import DataError, RevealError
from tacit.session.config import Config
from tacit.session.session import Session
from tacit.tensor.nested import shared_module

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture
def session() -> Iterator[Session]:
    with tacit.session(seed=1) as opened:
        yield opened


def close(got: Any, want: Tensor, error: float = 1e-3) -> None:
    got = tacit.reveal(got.detach()) if isinstance(got, SecretTensor) else got.detach()
    torch.testing.assert_close(got, want.detach(), atol=error, rtol=0)


# --- modules ----------------------------------------------------------------------------------------------------------


def scripted(module: nn.Module) -> nn.Module:
    return torch.jit.script(module)  # type: ignore[no-any-return]


def rows(*sizes: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(sizes)))


class Tied(nn.Module):
    """Two layers of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))  # type: ignore[no-any-return]


def pruned_twice() -> nn.Module:
    layer = prune.random_unstructured(nn.Linear(4, 3), "weight", 0.3)
    return prune.l1_unstructured(layer, "weight", 0.3)  # type: ignore[no-any-return]


MODULES: dict[str, Callable[[], nn.Module]] = {
    "scripted, equal shapes": lambda: scripted(rows(4, 4, 4, 4, 4)),
    "scripted, unequal shapes": lambda: scripted(rows(4, 3, 5, 2)),
    "scripted, tied": lambda: scripted(Tied()),
    "tied": Tied,
    "pruned": lambda: prune.l1_unstructured(nn.Linear(4, 3), "weight", 0.5),
    "pruned twice": pruned_twice,
    "pruned structures": lambda: prune.ln_structured(nn.Linear(4, 3), "weight", 0.5, n=2, dim=0),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(4, 3)),
    "old weight norm": lambda: nn.utils.weight_norm(nn.Linear(4, 3)),
    "old weight norm in a list": lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 3)), nn.ReLU()),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(4, 3)),
    "old spectral norm": lambda: nn.utils.spectral_norm(nn.Linear(4, 3)),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_shared_trained_and_revealed(name, session):
    torch.manual_seed(0)
    plain, x = MODULES[name](), torch.randn(2, 4)
    plain(x)  # what is computed from parameters has been computed
    plain.eval()

    shared = tacit.share(plain)
    models, results = (plain, shared), []
    for model, given in zip(models, (x, tacit.share(x)), strict=True):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for _ in range(2):
            optimizer.zero_grad()
            model(given).square().sum().backward()
            optimizer.step()
        results.append(model(given))
    back = tacit.reveal(shared)

    assert not any(isinstance(t, SecretTensor) for t in (*plain.parameters(), *plain.buffers()))
    assert all(isinstance(p, SecretTensor) for p in shared.parameters())
    close(results[1], results[0])
    close(back(x), results[0])
    assert not any(isinstance(t, SecretTensor) for t in (*back.parameters(), *back.buffers(), back(x)))
    assert [p.shape for p in back.parameters()] == [p.shape for p in plain.parameters()]
    assert all(p.requires_grad for p in back.parameters())


@pytest.mark.parametrize("script", [False, True])
def test_tied_parameters_stay_tied(script, session):
    plain = scripted(Tied()) if script else Tied()

    shared = tacit.share(plain)
    back = tacit.reveal(shared)

    for model in (shared, back):
        assert model.a.weight is model.b.weight
        assert len(list(model.parameters())) == 3
    assert sum(entry.name.endswith("weight") for entry in session.ledger.entries) == 1


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, nn.utils.weight_norm, parametrizations.spectral_norm])
@pytest.mark.parametrize("make", [lambda: nn.Linear(4, 3), lambda: nn.Conv1d(4, 3, 2)])
def test_norms_of_weights_that_are_secret_already(norm, make, session):
    torch.manual_seed(0)
    plain, x = make(), torch.randn(2, 4) if isinstance(make(), nn.Linear) else torch.randn(2, 4, 5)
    shared, results = tacit.share(plain), []
    for model, given in ((plain, x), (shared, tacit.share(x))):
        torch.manual_seed(1)
        normed = norm(model)
        result = normed(given)
        result.square().sum().backward()
        results.append([result, *(p.grad for p in normed.parameters())])

    for got, want in zip(results[1], results[0], strict=True):
        close(got, want, 2e-2 if norm is parametrizations.spectral_norm else 2e-3)


def test_recurrent_layers_with_old_weight_norm(session):
    layer, x = nn.utils.weight_norm(nn.LSTM(3, 4), "weight_hh_l0"), torch.randn(3, 2, 3)
    want = layer(x)[0]

    close(tacit.share(layer)(tacit.share(x))[0], want)


class Holder(nn.Module):
    """Parameters and buffers in all places."""

    def __init__(self) -> None:
        super().__init__()
        first = nn.Parameter(torch.tensor([1.0, 2.0]))
        self.several = nn.ParameterList([first, first, nn.Parameter(torch.ones(1), requires_grad=False)])
        self.named = nn.ParameterDict({"x": nn.Parameter(torch.zeros(1, dtype=torch.float64))})
        self.short = nn.Parameter(torch.ones(2, dtype=torch.float16))
        self.brain = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
        self.register_parameter("nothing", None)
        self.register_buffer("no_buffer", None)
        self.register_buffer("whole", torch.arange(3))
        self.register_buffer("bits", torch.tensor([True, False]))
        self.register_buffer("passing", torch.tensor([0.5]), persistent=False)


def test_parameters_and_buffers_in_all_places(session):
    plain = Holder()

    shared = tacit.share(plain, owner="alice")
    back = tacit.reveal(shared)

    assert shared.nothing is None
    assert shared.no_buffer is None
    assert shared.several[0] is shared.several[1]
    secret = {n for n, t in [*shared.named_parameters(), *shared.named_buffers()] if isinstance(t, SecretTensor)}
    assert secret == {"several.0", "several.2", "named.x", "short", "brain", "passing"}
    assert shared.state_dict().keys() == plain.state_dict().keys()
    assert [p.requires_grad for p in shared.parameters()] == [p.requires_grad for p in plain.parameters()]
    for got, want in zip((*back.parameters(), *back.buffers()), (*plain.parameters(), *plain.buffers()), strict=True):
        assert got.dtype == want.dtype
        assert torch.equal(got, want)


def test_a_module_that_is_shared_in_part_is_shared_in_whole(session):
    model = tacit.share(rows(3, 4, 5))
    model[1] = nn.Linear(4, 1)

    again = tacit.share(model)

    assert all(isinstance(p, SecretTensor) for p in again.parameters())
    assert torch.equal(tacit.reveal(again[0].weight.detach()), tacit.reveal(model[0].weight.detach()))
    assert again[0].weight is not model[0].weight


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.ones(2, dtype=torch.complex64))


UNSHAREABLE = {
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(3)), "net.0.weight has no shape yet: run the module once"),
    "complex": (Complex, "net.p is torch.complex64"),
    "meta": (lambda: nn.Linear(2, 2, device="meta"), "net.weight is on the meta device"),
}


@pytest.mark.parametrize("name", UNSHAREABLE)
def test_parameters_that_cannot_be_shared_are_named(name, session):
    make, message = UNSHAREABLE[name]

    with pytest.raises(DataError, match=message):
        tacit.share(make(), name="net")


def test_roles_that_do_not_know_a_module_may_have_it_on_the_meta_device():
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)).to("meta")
    given = []

    def hidden(tensor, name):
        given.append((name, tuple(tensor.shape)))
        return torch.zeros(tensor.shape)

    out = shared_module(module, "net", hidden, lambda buffer: False, known=False)

    assert given == [("net.0.weight", (3, 2)), ("net.0.bias", (3,)), ("net.1.weight", (2, 3)), ("net.1.bias", (2,))]
    assert not any(p.is_meta for p in out.parameters())
    with pytest.raises(DataError, match=r"net\.running_mean is on the meta device"):  # whether it is public shows by it
        shared_module(nn.BatchNorm1d(2).to("meta"), "net", hidden, lambda buffer: False, known=False)


def test_copies_of_shared_modules_follow_or_stay(session):
    model, x = tacit.share(rows(2, 2)), tacit.share(torch.ones(1, 2))
    first = tacit.reveal(model[0].weight.detach())
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.75))
    average.update_parameters(model)
    with torch.no_grad():
        model[0].weight.add_(1.0)
    average.update_parameters(model)
    called = torch.func.functional_call(model, dict(average.module.named_parameters()), (x,))

    close(average.module[0].weight, first + 0.25)
    close(called, tacit.reveal(average.module(x).detach()))


# --- structures -------------------------------------------------------------------------------------------------------


class Scores(NamedTuple):
    value: Any
    count: int


Free = namedtuple("Free", "a")


@dataclasses.dataclass(frozen=True)
class Answer:
    """A result as libraries give it."""

    loss: Any
    parts: Any
    note: str = "plain"


def test_structures_are_revealed_part_by_part(session):
    x = tacit.share(torch.tensor([1.0, 2.0]), owner="alice")
    public = torch.zeros(1)

    out = tacit.reveal({"a": [x, (x[0], 3)], "b": Answer(x[1], Scores(x, 2)), "c": public, 4: Free(None)}, name="all")

    assert [e.name for e in session.ledger.entries] == ["all.a.0", "all.a.1.0", "all.b.loss", "all.b.parts.value"]
    assert out["a"][0].tolist() == [1, 2]
    assert out["a"][1] == (1, 3)
    assert out["b"] == Answer(2, out["b"].parts)
    assert out["b"].parts.value.tolist() == [1, 2]
    assert out["b"].parts.count == 2
    assert out["c"] is public
    assert out[4] == Free(None)


def test_a_state_dict_is_revealed_as_one(session):
    model = tacit.share(nn.BatchNorm1d(3))

    state = tacit.reveal(model.state_dict())

    assert isinstance(state, OrderedDict)
    nn.BatchNorm1d(3).load_state_dict(state)
    assert [e.name for e in session.ledger.entries] == ["weight", "bias", "running_mean", "running_var"]


def test_results_of_functions_are_revealed(session):
    x = tacit.share(torch.tensor([[1.0, 5.0, 2.0]]), owner="alice")

    best = tacit.reveal(x.max(1))
    output, (h, c) = tacit.reveal(tacit.share(nn.LSTM(3, 2))(x))
    packed = tacit.reveal(nn.utils.rnn.pack_padded_sequence(x[..., None], [3], batch_first=True))

    assert (best[0].tolist(), best[1].tolist()) == ([5], [1])
    close(output[-1:], h)
    assert c.shape == h.shape
    assert packed.data.flatten().tolist() == [1, 5, 2]


NOT_SECRET = {
    "plain": (torch.ones(1), "not a plain Tensor"),
    "nothing": ({}, "a dict without one"),
    "text": ("abc", "a str without one"),
    "numbers": ([1, 2.5], "a list without one"),
}


@pytest.mark.parametrize("name", NOT_SECRET)
def test_what_holds_no_secret_is_not_revealed(name, session):
    value, message = NOT_SECRET[name]

    with pytest.raises(RevealError, match=message):
        tacit.reveal(value)


def test_iterators_and_sets_are_refused(session):
    model = tacit.share(nn.Linear(1, 1))

    for value in (model.parameters(), set(model.parameters()), {"a": iter([1])}):
        with pytest.raises(RevealError, match="lists, tuples, dicts and dataclasses"):
            tacit.reveal(value)


def test_a_policy_that_forbids_a_part_lets_nothing_out():
    config = Config.embedded(reveal=[{"name": "out.a", "to": "all"}])
    with tacit.api.embedded(config) as session:
        x = tacit.share(torch.ones(2), owner="alice")

        with pytest.raises(RevealError, match=r"out\.b"):
            tacit.reveal({"a": x, "b": x}, name="out")

        assert not session.ledger.entries
        assert tacit.reveal({"a": x}, name="out")["a"].tolist() == [1, 1]
