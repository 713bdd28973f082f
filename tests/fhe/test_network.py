"""Small networks from PyTorch: read as the polynomials that they are, and refused where they are none."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from tacit.errors import DataError, FheError
from tacit.fhe import Client, Server, from_torch
from tacit.fhe.network import Network


class Apply(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def square(x: torch.Tensor) -> torch.Tensor:
    return x * x


class Convolution(nn.Module):
    """One convolution, normalised, squared, and one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(144, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(x)) ** 2
        return self.out(x.view(x.size(0), -1))


class Residual(nn.Module):
    """A learnt polynomial of degree two, skipped around."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.randn(5))
        self.first, self.last = nn.Linear(5, 5), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x)
        h = self.a * torch.square(h) - self.b * h + 1.0
        return self.last(h / 2 + x - functional.dropout(x, 0.5, self.training) * 0.25)


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor, Convolution]:
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images.reshape(-1, 1, 8, 8) / 16, dtype=torch.float32), torch.tensor(labels)
    torch.manual_seed(20)
    net = Convolution()
    adam = torch.optim.Adam(net.parameters(), 0.02)
    for rows in torch.arange(1200).repeat(4).split(60):
        adam.zero_grad()
        functional.cross_entropy(net(x[rows]), y[rows]).backward()
        adam.step()
    return x, y, net.eval()


@pytest.fixture(scope="module")
def network(digits: Any) -> Network:
    x, y, net = digits
    return from_torch(net, x[:1200], y[:1200], classes=range(10))


def test_a_convolution_of_digits_is_as_good_on_ciphertexts(network: Network, digits: Any) -> None:
    x, y, net = digits
    held, labels = x[1200:], y[1200:].numpy()

    simulated, clear = network.predict(held, fhe="simulate"), net(held).argmax(1).numpy()

    assert network.accuracy is not None
    assert abs(network.accuracy.clear - network.accuracy.encrypted) <= 0.01
    assert (network.predict(held) == clear).all()
    assert (simulated == clear).mean() > 0.98
    assert (simulated == labels).mean() > (clear == labels).mean() - 0.02
    assert (network.predict(held[:6], fhe="execute") == simulated[:6]).all()


def test_the_integers_are_equal_and_the_noise_leaves_room(network: Network, digits: Any) -> None:
    rows = digits[0][:6].reshape(6, -1).numpy()

    executed, simulated = (network._values(rows, mode)[0] for mode in ("execute", "simulate"))
    report = network.fhe_report()

    assert (executed == simulated).all()
    assert report.statistical_bits >= 40
    assert report.noise_budget_bits >= 1
    assert "which products" in report.client_learns


def test_client_and_server_go_apart(network: Network, digits: Any, tmp_path: Any) -> None:
    network.save_server(tmp_path / "server")
    network.save_client(tmp_path / "client")
    rows = digits[0][:3].reshape(3, -1).numpy()

    with Client(tmp_path / "client", server=Server(tmp_path / "server")) as client:
        there = client.predict(rows)

    assert (there == network.predict(rows, fhe="simulate")).all()
    assert (copy.deepcopy(network).predict(rows, fhe="simulate") == there).all()


class Gate(nn.Module):
    """A product of two linear layers, and a mean over what is left."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 6), nn.Linear(4, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.left(x) * self.right(x)).reshape(-1, 3, 2).mean(dim=1)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, (5,)),
    "two squares": (
        lambda: nn.Sequential(nn.Linear(3, 2), Apply(square), nn.Linear(2, 2), Apply(square), nn.Linear(2, 2)),
        (3,),
    ),
    "cube": (lambda: nn.Sequential(nn.Linear(2, 3), Apply(lambda x: x**3 - x), nn.Linear(3, 1)), (2,)),
    "product of two layers": (Gate, (4,)),
    "padded, strided, grouped": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2),
            Apply(square),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4, 2),
        ),
        (2, 4, 4),
    ),
    "sequence": (
        lambda: nn.Sequential(nn.Conv1d(1, 2, 3, padding="same", padding_mode="circular"), Apply(square)),
        (1, 6),
    ),
    "linear": (lambda: nn.Linear(4, 3, bias=False), (4,)),
    "constant": (lambda: nn.Sequential(nn.Linear(4, 2), Apply(lambda x: x * 0 + 1)), (4,)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:encrypted and clear predictions")
def test_networks_are_the_polynomials_that_they_are_read_as(name: str, rng: np.random.Generator, seed: int) -> None:
    make, shape = CASES[name]
    torch.manual_seed(seed)
    module = make()
    x = rng.normal(size=(40, *shape))
    x.reshape(40, -1)[:, 0] = 0.25  # a column that says nothing

    network = from_torch(module, x, n_bits=9)

    with torch.no_grad():
        clear = copy.deepcopy(module).double().eval()(torch.from_numpy(x)).reshape(40, -1).numpy()
    simulated = network.predict(x, fhe="simulate")
    assert np.abs(network.predict(x) - clear).max() <= 1e-9 * np.abs(clear).max()
    assert np.abs(simulated - clear).max() <= 0.1 * np.abs(clear).max()
    assert (network.predict(x[:2], fhe="execute") == simulated[:2]).all()


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (
            nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), nn.Softmax(1)),
            r"ReLU \(1\), Softmax \(3\).*squares",
        ),
        (Apply(functional.relu), "relu"),
        (Apply(lambda x: x.max(dim=1).values), "max"),
        (Apply(lambda x: 1 / x), "division"),
        (Apply(lambda x: x**0.5), "a power"),
        (Apply(lambda x: x - x.mean(dim=0)), "mixes the rows"),
        (Apply(lambda x: x[:, :2]), "indexing"),
        (Apply(lambda x: x if x.sum() > 0 else -x), "branches"),
        (Apply(lambda x: x.reshape(-1, 3)), "mixes the rows"),
        (nn.Linear(5, 2), "does not take rows of this shape"),
        (nn.BatchNorm1d(4, track_running_stats=False), "normalises by the batch"),
        (nn.Sequential(*[Apply(square)] * 5), "more than 16 columns"),
        (Apply(lambda x: torch.ones(2, 2)), "does not return one tensor"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_polynomial_is_refused_by_name(module: nn.Module, says: str, rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match=says):
        from_torch(module, rng.normal(size=(8, 4)))


def test_a_hook_that_changes_outputs_is_noticed(rng: np.random.Generator) -> None:
    module = nn.Linear(4, 2)
    module.register_forward_hook(lambda module, x, y: torch.sigmoid(y))

    with pytest.raises(DataError, match="other outputs than the polynomial"):
        from_torch(nn.Sequential(Apply(square), module), rng.normal(size=(8, 4)))


def test_too_many_products_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match="sends at most"):
        from_torch(nn.Sequential(nn.Linear(300, 2), Apply(square)), rng.normal(size=(8, 300)))


def test_a_constant_is_exact(rng: np.random.Generator) -> None:
    x = rng.normal(size=(9, 4))
    module = nn.Linear(4, 2)

    one_row = from_torch(module, x[:1]).predict(x[:1], fhe="execute")
    constant = from_torch(nn.Sequential(module, Apply(lambda x: x * 0 + 0.3)), x).predict(x[:2], fhe="execute")

    with torch.no_grad():
        assert np.abs(one_row - module(torch.from_numpy(x[:1]).float()).numpy()).max() < 1e-5
    assert np.abs(constant - 0.3).max() < 1e-6


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["0.weight", "0.bias", "2.weight", "2.bias"])
def test_weights_that_are_no_numbers_are_refused(name: str, value: float, rng: np.random.Generator) -> None:
    module = nn.Sequential(nn.Linear(3, 2), Apply(square), nn.Linear(2, 2))
    module.get_parameter(name).data.view(-1)[0] = value

    with pytest.raises(DataError, match="missing or infinite"):
        from_torch(module, rng.normal(size=(20, 3)), classes=[0, 1])
    with pytest.raises(DataError, match="missing or infinite"):
        from_torch(module[:1] if name[0] == "0" else module[2:], rng.normal(size=(20, 3 if name[0] == "0" else 2)))


def test_wrong_rows_and_labels_are_named(network: Network, digits: Any) -> None:
    x, _, net = digits
    with pytest.raises(DataError, match="rows of shape"):
        network.predict(np.zeros((2, 8, 8)), fhe="simulate")
    with pytest.raises(DataError, match="3 classes for a network with 10 outputs"):
        from_torch(net, x[:20], classes=["a", "b", "c"])
    with pytest.raises(DataError, match="finite"):
        from_torch(net, x[:20] / 0)
    with pytest.raises(DataError, match="at least one"):
        from_torch(net, x[:0])
    with pytest.raises(DataError, match="a torch module"):
        from_torch("net", x)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="train the module"):
        network.fit(x)


def test_a_module_that_was_trained_on_must_be_compiled_again(rng: np.random.Generator) -> None:
    module = nn.Linear(3, 2)
    network = from_torch(module, rng.normal(size=(9, 3)))

    with torch.no_grad():
        module.weight += 1

    with pytest.raises(FheError, match="compile it again"):
        network.predict(np.zeros((1, 3)), fhe="simulate")


@pytest.mark.parametrize("change", ["weight", "closed over"])
def test_a_module_that_no_pickle_holds_is_noticed_all_the_same(change: str, rng: np.random.Generator) -> None:
    factor = torch.ones(2)
    module = nn.Sequential(nn.Linear(3, 2), Apply(lambda x: factor * x * x), nn.Linear(2, 1))
    network = from_torch(module, rng.normal(size=(20, 3)))
    network.predict(np.zeros((1, 3)), fhe="simulate")

    with torch.no_grad():
        (module[0].weight if change == "weight" else factor).mul_(3)

    with pytest.raises(FheError, match="compile it again"):
        network.predict(np.zeros((1, 3)), fhe="simulate")


@pytest.mark.slow
def test_a_convolution_on_images_of_28_by_28(rng: np.random.Generator) -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 5, stride=2), Apply(square), nn.Flatten(), nn.Linear(576, 10))
    x = rng.random(size=(60, 1, 28, 28))

    network = from_torch(module, x, classes=range(10))

    assert (network.predict(x[:1], fhe="execute") == network.predict(x[:1], fhe="simulate")).all()
